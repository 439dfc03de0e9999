"""keepalived: priorities that differ enough, peers that are all the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.model.clusters import three_nodes, view

from haplane.components import keepalived


def config(machine: str = "cp1") -> str:
    design = keepalived.design(view(three_nodes(), machine))
    return next(file.content for file in design.files if file.path.endswith("keepalived.conf"))


def test_peers_are_all_the_others_and_never_the_machine_itself() -> None:
    text = config("cp2")
    peers = text.split("unicast_peer {")[1].split("}")[0].split()
    assert peers == ["192.0.2.11", "192.0.2.13"]
    assert "unicast_src_ip 192.0.2.12" in text


def test_the_vip_is_a_host_address() -> None:
    assert "192.0.2.100/32 dev eth0" in config()


def test_a_returning_machine_does_not_take_the_vip_back() -> None:
    text = config()
    assert "state BACKUP" in text
    assert "nopreempt" in text


@pytest.mark.parametrize(("position", "expected"), [(0, 250), (1, 224), (2, 198)])
def test_priorities_follow_the_files_order(position: int, expected: int) -> None:
    assert keepalived.priority(position) == expected


@given(st.integers(min_value=10, max_value=4000), st.integers(min_value=0, max_value=3))
def test_backups_are_at_least_ten_milliseconds_of_skew_apart(advert_ms: int, position: int) -> None:
    higher = keepalived.priority(position, advert_ms)
    lower = keepalived.priority(position + 1, advert_ms)
    apart = keepalived.skew_ms(lower, advert_ms) - keepalived.skew_ms(higher, advert_ms)
    assert apart >= keepalived.SKEW_APART_MS - 1e-9


def test_the_virtual_router_id_is_stable_and_differs_between_clusters() -> None:
    one, other = three_nodes(), replace(three_nodes(), name="other")
    first = keepalived.virtual_router_id(one)
    assert 1 <= first <= 255
    assert first != keepalived.virtual_router_id(other)


# Recorded from keepalived 2.3.3, shortened.
DUMP = '[{"data":{"iname":"api","ifp_ifname":"eth0","vrid":195,"vipset":false,"state":%d,"wantstate":1},"stats":{}}]'


@pytest.mark.parametrize(("number", "state"), [(0, "INIT"), (1, "BACKUP"), (2, "MASTER"), (3, "FAULT"), (9, "")])
def test_the_state_is_read_from_the_daemons_own_dump(number: int, state: str) -> None:
    assert keepalived.parse_state(DUMP % number) == state


@pytest.mark.parametrize("dump", ["", "[", "{}", "[]", '[{"data":{"iname":"other","state":2}}]'])
def test_a_daemon_that_says_nothing_has_no_state(dump: str) -> None:
    assert keepalived.parse_state(dump) == ""
