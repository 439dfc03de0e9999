"""Never a second cluster, where etcd has machines of its own: their data says more than any node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.model.clusters import etcd_apart, three_nodes

from haplane.components.base import Measured
from haplane.design.design import identity
from haplane.model.errors import HaplaneError
from haplane.observe.facts import Facts
from haplane.phases.decide import Decision, Membership, decide, membership

IDENTITY = identity(etcd_apart())
BARE = Facts(Measured(), "host", "debian 13 x86_64")
NODE = replace(BARE, membership=f"done {IDENTITY}", has_kubelet=True, authority="A")
BEGUN_INIT = replace(BARE, membership=f"begun init {IDENTITY}")
BEGUN_JOIN = replace(BARE, membership=f"begun join {IDENTITY}")
MEMBER = replace(BARE, etcd_membership=f"done {IDENTITY}", has_etcd_data=True)
STARTED = replace(BARE, etcd_membership=f"begun new {IDENTITY}", has_etcd_data=True)
JOINING = replace(BARE, etcd_membership=f"begun join {IDENTITY}", has_etcd_data=True)
LOST = replace(BARE, etcd_membership=f"done {IDENTITY}")
FOREIGN = replace(BARE, has_etcd_data=True)


def decided(nodes: list[Facts], members: list[Facts], silent: tuple[str, ...] = ()) -> Decision:
    return decide(
        {f"cp{i}": one for i, one in enumerate(nodes, 1)},
        {name: HaplaneError(f"{name} does not answer") for name in silent},
        IDENTITY,
        etcd={f"e{i}": one for i, one in enumerate(members, 1)},
        voters=len(members) + len(silent),
    )


def test_empty_machines_begin_etcd_together() -> None:
    decision = decided([BARE] * 3, [BARE] * 3)
    assert (decision.init, decision.etcd_new, decision.etcd) == ("cp1", ("e1", "e2", "e3"), ())
    assert not decision.empties_etcd


def test_a_start_that_was_cut_short_goes_on_with_all() -> None:
    decision = decided([BEGUN_INIT, BARE, BARE], [STARTED, STARTED, BARE])
    assert (decision.init, decision.etcd_new, decision.empties_etcd) == ("cp1", ("e1", "e2", "e3"), False)


def test_a_cluster_that_is_whole_is_left_as_it_is() -> None:
    decision = decided([NODE] * 3, [MEMBER] * 3)
    assert (decision.init, decision.etcd, decision.etcd_new, decision.etcd_lost) == (None, ("e1", "e2", "e3"), (), ())


def test_data_without_any_node_is_never_initialised_over() -> None:
    with pytest.raises(HaplaneError, match="no finished node is left"):
        decided([BARE] * 3, [MEMBER] * 3)


def test_data_after_a_join_without_any_node_is_never_initialised_over() -> None:
    """A join begins only after an init has ended: there was a cluster."""
    with pytest.raises(HaplaneError, match="no finished node is left"):
        decided([BEGUN_INIT, BEGUN_JOIN, BARE], [MEMBER] * 3)


def test_what_an_init_that_was_cut_short_left_in_etcd_is_taken_out() -> None:
    decision = decided([BEGUN_INIT, BARE, BARE], [MEMBER, MEMBER, STARTED])
    assert (decision.init, decision.clean, decision.empties_etcd) == ("cp1", ("cp1",), True)
    assert decision.etcd == ("e1", "e2", "e3")


def test_data_that_haplane_did_not_make_is_left_alone() -> None:
    with pytest.raises(HaplaneError, match="e2 already holds data of an etcd that haplane did not make"):
        decided([BARE] * 3, [BARE, FOREIGN, BARE])


def test_with_a_silent_machine_of_etcd_nothing_is_changed() -> None:
    with pytest.raises(HaplaneError, match="e3 did not answer, so nothing was changed"):
        decided([BARE] * 3, [BARE, BARE], silent=("e3",))


def test_a_member_whose_data_is_gone_joins_the_others_anew() -> None:
    for lost in (LOST, BARE):
        decision = decided([NODE] * 3, [MEMBER, lost, MEMBER])
        assert (decision.etcd, decision.etcd_lost, decision.etcd_new) == (("e1", "e3"), ("e2",), ())


def test_a_member_whose_join_was_cut_short_goes_on() -> None:
    decision = decided([NODE] * 3, [MEMBER, JOINING, MEMBER])
    assert (decision.etcd, decision.etcd_lost) == (("e1", "e2", "e3"), ())


@pytest.mark.parametrize("members", [[MEMBER, LOST, LOST], [BARE, BARE, BARE]])
def test_without_a_quorum_of_data_nothing_is_changed(members: list[Facts]) -> None:
    with pytest.raises(HaplaneError, match="etcd has lost its quorum") as refused:
        decided([NODE] * 3, members)
    assert "snapshot" in refused.value.hint


def test_an_etcd_of_another_cluster_is_refused() -> None:
    other = replace(MEMBER, etcd_membership=f"done {IDENTITY} and=another")
    with pytest.raises(HaplaneError, match="cannot change"):
        decided([NODE] * 3, [MEMBER, other, MEMBER])


def test_where_etcd_is_and_who_its_members_are_is_part_of_what_a_cluster_was_made_as() -> None:
    assert "etcd" not in identity(three_nodes())
    assert IDENTITY.endswith(" etcd=e1,e2,e3")
    cluster = etcd_apart()
    assert identity(replace(cluster, machines=dict(reversed(cluster.machines.items())))) == IDENTITY


def test_a_node_that_is_a_member_of_etcd_is_empty_before_kubeadm() -> None:
    assert membership(STARTED, holds_etcd=False) is Membership.EMPTY
    assert membership(FOREIGN, holds_etcd=False) is Membership.FOREIGN
    assert membership(NODE, holds_etcd=False) is Membership.MEMBER


KINDS_OF_NODES = (BARE, NODE, BEGUN_INIT, BEGUN_JOIN)
KINDS_OF_MEMBERS = (BARE, MEMBER, STARTED, JOINING, LOST, FOREIGN)


@given(
    st.lists(st.sampled_from(KINDS_OF_NODES), min_size=1, max_size=3),
    st.lists(st.sampled_from(KINDS_OF_MEMBERS), min_size=1, max_size=5),
)
def test_data_that_may_be_a_clusters_is_begun_anew_by_nobody(nodes: list[Facts], members: list[Facts]) -> None:
    machines: Mapping[str, Facts] = {f"e{i}": one for i, one in enumerate(members, 1)}
    try:
        decision = decided(nodes, members)
    except HaplaneError:
        return
    assert FOREIGN not in members
    assert {*decision.etcd, *decision.etcd_new, *decision.etcd_lost} == set(machines)
    assert not {*decision.etcd_lost} & {name for name, one in machines.items() if one.has_etcd_data}
    if decision.etcd_new:
        # All of them, and nobody has ever been a member.
        assert not decision.etcd and not decision.etcd_lost
        assert MEMBER not in members and NODE not in nodes
    else:
        assert len(decision.etcd) > len(members) // 2
    if decision.empties_etcd:
        assert NODE not in nodes and BEGUN_JOIN not in nodes and BEGUN_INIT in nodes
