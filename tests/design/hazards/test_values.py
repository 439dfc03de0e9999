"""How values of other programs are read: Go's durations, HAProxy's addresses."""

from __future__ import annotations

import pytest
from tests.model.clusters import three_nodes

from haplane.components.settings import Setting
from haplane.design.hazards.effective import Told, go_duration_s
from haplane.design.hazards.listening import bound


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("40s", 40), ("1m30s", 90), ("1.5h", 5400), ("250ms", 0.25), ("0", 0), ("40", None), ("s", None), ("1m x", None)],
)
def test_durations_are_read_as_go_reads_them(text: str, seconds: float | None) -> None:
    assert go_duration_s(text) == seconds


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (":8443", [(None, 8443, 8443)]),
        ("*:8443 tcp-ut 30s", [(None, 8443, 8443)]),
        ("[::]:8443 v4v6", [(None, 8443, 8443)]),
        (":::8443", [(None, 8443, 8443)]),
        ("ipv6@[2001:db8::1]:8443", [("2001:db8::1", 8443, 8443)]),
        ("192.0.2.1:80,192.0.2.2:8000-8010", [("192.0.2.1", 80, 80), ("192.0.2.2", 8000, 8010)]),
        ("/run/haproxy.sock mode 600", []),
        ("unix@/run/haproxy:1", []),
        ("${ADDRESS}:8443", []),
    ],
)
def test_a_bind_line_is_read_as_haproxy_reads_it(arguments: str, expected: list[tuple[str | None, int, int]]) -> None:
    cluster = three_nodes()
    settings = {"frontend": {"bind": Setting(arguments)}}
    line = bound(Told(cluster, cluster.machines["cp1"], "haproxy", settings), "bind", "frontend")
    assert line
    found = [(one.address and str(one.address), one.first, one.last) for one in line.listeners]
    assert found == expected
