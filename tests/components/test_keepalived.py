"""keepalived: priorities that differ enough, peers that are all the others."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.model.clusters import three_nodes, view

from haplane.components import keepalived
from haplane.components.base import Measured, Timers
from haplane.model.cluster import Cluster


def config(machine: str = "cp1") -> str:
    return config_of(three_nodes(), machine)


def config_of(cluster: Cluster, machine: str = "cp1") -> str:
    design = keepalived.design(view(cluster, machine))
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


@pytest.mark.parametrize(("machine", "expected"), [("cp1", 250), ("cp2", 224), ("cp3", 198)])
def test_priorities_follow_the_files_order(machine: str, expected: int) -> None:
    assert keepalived.timing(view(three_nodes(), machine)).priority == expected


@given(st.integers(min_value=30, max_value=4000))
def test_backups_are_at_least_ten_milliseconds_of_skew_apart(advert_ms: int) -> None:
    views = [replace(view(three_nodes(), name), timers=Timers(advert_ms=advert_ms)) for name in ("cp1", "cp2", "cp3")]
    skews = [keepalived.skew_ms(keepalived.timing(one).priority, advert_ms) for one in views]
    assert all(lower - higher >= keepalived.SKEW_APART_MS - 1e-9 for higher, lower in pairwise(skews))


def test_what_the_file_says_wins_over_what_is_derived() -> None:
    text = config_of(replace(three_nodes(), keepalived={"vrrp_instance": {"advert_int": 0.5, "nopreempt": False}}))
    assert "advert_int 0.5\n" in text
    assert "nopreempt\n" not in text


def test_the_virtual_router_id_is_stable_and_differs_between_clusters() -> None:
    one, other = three_nodes(), replace(three_nodes(), name="other")
    first = keepalived.virtual_router_id(one)
    assert 1 <= first <= 255
    assert first != keepalived.virtual_router_id(other)


def test_an_id_that_a_stranger_was_heard_with_is_not_taken() -> None:
    taken = keepalived.virtual_router_id(three_nodes())
    other = keepalived.virtual_router_id(three_nodes(), frozenset({taken}))
    assert other != taken
    assert 1 <= keepalived.virtual_router_id(three_nodes(), frozenset(range(1, 256))) <= 255


# Recorded from keepalived 2.3.3, shortened.
DUMP = '[{"data":{"iname":"api","ifp_ifname":"eth0","vrid":195,"vipset":false,"state":%d,"wantstate":1},"stats":{}}]'


@pytest.mark.parametrize(("number", "state"), [(0, "INIT"), (1, "BACKUP"), (2, "MASTER"), (3, "FAULT"), (9, "")])
def test_the_state_is_read_from_the_daemons_own_dump(number: int, state: str) -> None:
    assert keepalived.parse_state(DUMP % number) == state


@pytest.mark.parametrize("dump", ["", "[", "{}", "[]", '[{"data":{"iname":"other","state":2}}]'])
def test_a_daemon_that_says_nothing_has_no_state(dump: str) -> None:
    assert keepalived.parse_state(dump) == ""


@pytest.mark.parametrize(
    ("system", "interval"), [("debian 12", "1"), ("ubuntu 24.04", "1"), ("debian 13", "0.5"), ("", "0.5")]
)
def test_an_older_keepalived_is_asked_in_whole_seconds(system: str, interval: str) -> None:
    """keepalived 2.2.7 --config-test: invalid number '0.5', exit code 5."""
    one = view(three_nodes(), "cp1")
    there = replace(one, measured=Measured(system=system))
    assert keepalived.settings(there)["vrrp_script"]["interval"].arguments == interval
    assert keepalived.timing(there).check_interval_ms == float(interval) * 1000


def test_an_older_keepalived_tests_its_configuration_where_it_has_no_parent() -> None:
    there = replace(view(three_nodes(), "cp1"), measured=Measured(system="debian 12"))
    (validated,) = [files for files in keepalived.design(there).file_sets if files.validate]
    assert validated.validate.startswith("unshare --pid --fork keepalived --config-test ")
    (validated,) = [files for files in keepalived.design(view(three_nodes(), "cp1")).file_sets if files.validate]
    assert validated.validate.startswith("keepalived --config-test ")
