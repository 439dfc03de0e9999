"""Never a second cluster: every combination of what machines can hold is decided safely."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.model.clusters import balanced_by, three_nodes

from haplane.components.base import Measured
from haplane.design.design import identity
from haplane.model.cluster import BalancerProgram
from haplane.model.errors import HaplaneError
from haplane.observe.facts import Facts
from haplane.phases.decide import Membership, decide, membership

IDENTITY = "name=prod endpoint=192.0.2.100:8443"


def facts(membership: str = "", *, data: bool = False, kubelet: bool = False, authority: str | None = None) -> Facts:
    return Facts(
        Measured(),
        "host",
        "debian 13 x86_64",
        membership=membership,
        has_etcd_data=data,
        has_kubelet=kubelet,
        authority=authority,
    )


EMPTY = facts()
MEMBER = facts(f"done {IDENTITY}", data=True, kubelet=True, authority="A")
BEGUN_INIT = facts(f"begun init {IDENTITY}", data=True)
BEGUN_JOIN = facts(f"begun join {IDENTITY}", data=True)
JUST_BEGUN_JOIN = facts(f"begun join {IDENTITY}")
FOREIGN = facts(data=True, kubelet=True)
LOST_ITS_DISK = facts(f"done {IDENTITY}", kubelet=True)
KINDS = (EMPTY, MEMBER, BEGUN_INIT, BEGUN_JOIN, JUST_BEGUN_JOIN, FOREIGN, LOST_ITS_DISK)
SILENT = HaplaneError("cp3 does not answer", where="cp3: ssh", hint="is it on?")


def test_of_empty_machines_the_first_starts_and_the_others_join() -> None:
    decision = decide({"cp1": EMPTY, "cp2": EMPTY, "cp3": EMPTY}, {}, IDENTITY)
    assert (decision.init, decision.join, decision.clean) == ("cp1", ("cp2", "cp3"), ())


def test_an_empty_machine_joins_where_another_holds_cluster_data() -> None:
    decision = decide({"cp1": EMPTY, "cp2": MEMBER, "cp3": EMPTY}, {}, IDENTITY)
    assert (decision.init, decision.join, decision.members) == (None, ("cp1", "cp3"), ("cp2",))


def test_with_a_silent_machine_nothing_is_initialised() -> None:
    with pytest.raises(HaplaneError, match="cp3 did not answer, so nothing was changed"):
        decide({"cp1": EMPTY, "cp2": EMPTY}, {"cp3": SILENT}, IDENTITY)


def test_an_init_that_was_cut_short_is_undone_and_started_on_the_same_machine() -> None:
    decision = decide({"cp1": EMPTY, "cp2": BEGUN_INIT, "cp3": EMPTY}, {}, IDENTITY)
    assert (decision.init, decision.clean, decision.join) == ("cp2", ("cp2",), ("cp1", "cp3"))


def test_a_join_that_was_cut_short_is_undone_and_joined_again() -> None:
    decision = decide({"cp1": MEMBER, "cp2": BEGUN_JOIN, "cp3": MEMBER}, {}, IDENTITY)
    assert (decision.init, decision.clean, decision.join) == (None, ("cp2",), ("cp2",))


def test_data_of_a_join_without_any_finished_node_is_never_initialised_over() -> None:
    with pytest.raises(HaplaneError, match="no finished node is left"):
        decide({"cp1": EMPTY, "cp2": BEGUN_JOIN, "cp3": EMPTY}, {}, IDENTITY)


def test_a_cluster_that_haplane_did_not_make_is_left_alone() -> None:
    with pytest.raises(HaplaneError, match="haplane did not make"):
        decide({"cp1": EMPTY, "cp2": FOREIGN}, {}, IDENTITY)


def test_machines_of_two_clusters_are_refused() -> None:
    other = facts(f"done {IDENTITY}", data=True, kubelet=True, authority="B")
    with pytest.raises(HaplaneError, match="different clusters"):
        decide({"cp1": MEMBER, "cp2": other}, {}, IDENTITY)


def test_a_changed_endpoint_is_refused() -> None:
    with pytest.raises(HaplaneError, match="cannot change"):
        decide({"cp1": MEMBER}, {}, "name=prod endpoint=192.0.2.99:8443")


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5), st.booleans())
def test_a_cluster_is_started_only_where_no_data_is_and_every_machine_answered(
    kinds: list[Facts], silent: bool
) -> None:
    machines: Mapping[str, Facts] = {f"cp{i}": one for i, one in enumerate(kinds)}
    try:
        decision = decide(machines, {"cp9": SILENT} if silent else {}, IDENTITY)
    except HaplaneError:
        return
    assert not silent
    assert FOREIGN not in kinds
    if decision.init:
        assert MEMBER not in kinds
        kept = [one for name, one in machines.items() if name not in decision.clean]
        assert not any(one.has_etcd_data for one in kept)
        assert BEGUN_JOIN not in kinds
    else:
        assert MEMBER in kinds
    assert set(decision.join) | set(decision.members) | {decision.init} - {None} >= set(machines)
    for name in decision.clean:
        assert membership(machines[name]) is not Membership.MEMBER


def test_what_balances_is_part_of_what_a_cluster_was_made_as() -> None:
    """Of one made before there was a choice nothing is said: it has HAProxy."""
    assert "balancer" not in identity(three_nodes())
    assert "balancer=nginx" in identity(balanced_by(BalancerProgram.NGINX))
    made = facts(f"done {identity(three_nodes())}", data=True, kubelet=True, authority="A")
    assert decide({"cp1": made}, {}, identity(three_nodes())).members == ("cp1",)
    with pytest.raises(HaplaneError, match="cannot change") as refused:
        decide({"cp1": made}, {}, identity(balanced_by(BalancerProgram.NGINX)))
    assert "balancer=nginx" in refused.value.why
