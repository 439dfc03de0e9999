"""Cut sets: the same as trying every subset, and fast where nobody could try them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from itertools import combinations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.model.clusters import three_nodes

from haplane.design.cuts import LISTED, Cut, Cuts, Service, minimal_cuts, promise_broken, survives
from haplane.design.design import Design
from haplane.model.cluster import (
    BalancerRole,
    Cluster,
    EndpointOwner,
    Etcd,
    EtcdTopology,
    Failover,
    Loss,
    Machine,
    Role,
    Ssh,
)
from haplane.model.errors import UsageError

CP, LB, ETCD, WORKER = Role.CONTROL_PLANE, Role.BALANCER, Role.ETCD, Role.WORKER


def design(
    machines: Mapping[str, tuple[Iterable[Role], str | None]],
    *,
    survive: Loss = Loss.MACHINE,
    by: EndpointOwner = EndpointOwner.KEEPALIVED,
) -> Design:
    """Balancers and etcd are dedicated where a machine has their role."""
    made = {
        name: Machine(name, (ip_address(0xC0000200 + place),), frozenset(roles), Ssh(), zone=zone)
        for place, (name, (roles, zone)) in enumerate(machines.items(), start=1)
    }
    roles = frozenset[Role]().union(*(one.roles for one in made.values()))
    cluster = three_nodes()
    return Design(
        replace(
            cluster,
            machines=made,
            endpoint=replace(cluster.endpoint, by=by),
            balancer=BalancerRole.BALANCER if LB in roles else BalancerRole.CONTROL_PLANE,
            etcd=Etcd(EtcdTopology.EXTERNAL if ETCD in roles else EtcdTopology.STACKED),
            failover=Failover(survive=survive),
        )
    )


def control_planes(count: int, zones: str = "") -> Design:
    """zones: one letter per machine."""
    return design({f"cp{i + 1}": ({CP}, zones[i] if zones else None) for i in range(count)})


def cuts_of(made: Design, service: Service = Service.WRITES, kind: Loss = Loss.MACHINE) -> Cuts:
    return next(one for one in minimal_cuts(made) if (one.service, one.of) == (service, kind))


def all_sets(cuts: Iterable[Cut]) -> list[frozenset[str]]:
    return [each for cut in cuts for each in cut.sets()]


# ---- against every subset ----


def works(cluster: Cluster, dead: frozenset[str], service: Service) -> bool:
    """The same question asked the plain way: who is alive, and what does a request need on its way?"""
    alive = {name for name in cluster.machines if name not in dead}
    roles = {name: cluster.machines[name].roles for name in cluster.machines}
    stacked = cluster.etcd.topology is EtcdTopology.STACKED
    members = [name for name in roles if (CP if stacked else ETCD) in roles[name]]
    has_quorum = 2 * len(alive & {*members}) > len(members)
    apiservers = [name for name in alive if CP in roles[name] and (not stacked or name in members)]
    if cluster.balancer is BalancerRole.BALANCER:
        balanced = any(LB in roles[name] for name in alive)
    else:
        balanced = cluster.endpoint.by is EndpointOwner.EXTERNAL or any(CP in roles[name] for name in alive)
    return bool(apiservers) and balanced and (has_quorum or service is Service.CACHED_READS)


def by_trying(cluster: Cluster, service: Service, kind: Loss) -> set[frozenset[str]]:
    """Every minimal cut, found among all subsets."""
    units: dict[str, set[str]] = {}
    for name, machine in cluster.machines.items():
        unit = name if kind is Loss.MACHINE else machine.zone
        if unit:
            units.setdefault(unit, set()).add(name)
    found: list[frozenset[str]] = []
    for size in range(len(units) + 1):
        for chosen in map(frozenset, combinations(units, size)):
            dead = frozenset(name for unit in chosen for name in units[unit])
            if not any(smaller <= chosen for smaller in found) and not works(cluster, dead, service):
                found.append(chosen)
    return set(found)


@st.composite
def designs(draw: st.DrawFn) -> Design:
    """1 to 9 machines that play any roles, in up to 5 zones or in none."""
    possible = draw(st.sampled_from([(CP, WORKER), (CP, LB), (CP, ETCD), (CP, LB, ETCD)]))
    names = [f"m{i}" for i in range(draw(st.integers(1, 9)))]
    roles = {name: draw(st.sets(st.sampled_from(possible), min_size=1)) for name in names}
    roles[names[0]].add(CP)
    zones = {name: draw(st.sampled_from([None, "a", "b", "c", "d", "e"])) for name in names}
    by = draw(st.sampled_from(EndpointOwner))
    return design({name: (roles[name], zones[name]) for name in names}, by=by)


@given(designs())
def test_minimal_cuts_are_those_found_by_trying_every_subset(made: Design) -> None:
    for cuts in minimal_cuts(made):
        expected = by_trying(made.cluster, cuts.service, cuts.of)
        found = all_sets(cuts.cuts)
        assert cuts.is_complete
        assert len(found) == len(set(found)) == cuts.number
        assert set(found) == expected
        assert cuts.smallest == min(map(len, expected), default=None)


@given(designs(), st.data())
def test_what_is_left_is_what_a_plain_simulation_says(made: Design, data: st.DataObject) -> None:
    cluster = made.cluster
    names = [*cluster.machines, *{one.zone for one in cluster.machines.values() if one.zone}]
    lost = data.draw(st.lists(st.sampled_from(names)))
    dead = frozenset(one.name for one in cluster.machines.values() if {one.name, one.zone} & {*lost})
    left = survives(made, lost)
    assert left.lost == tuple(name for name in cluster.machines if name in dead)
    assert left.reads == works(cluster, dead, Service.READS)
    assert left.cached_reads == works(cluster, dead, Service.CACHED_READS)
    assert left.writes == works(cluster, dead, Service.WRITES)


@given(designs(), st.data())
def test_the_spare_is_how_many_more_may_be_lost_whichever_they_are(made: Design, data: st.DataObject) -> None:
    cluster = made.cluster
    dead = frozenset(data.draw(st.lists(st.sampled_from([*cluster.machines]))))
    left = survives(made, dead)
    others = [name for name in cluster.machines if name not in dead]
    sizes = [
        size
        for size in range(len(others) + 1)
        for more in combinations(others, size)
        if not works(cluster, dead.union(more), Service.WRITES)
    ]
    assert left.spare == max(0, min(sizes) - 1)
    further = set(all_sets(left.next))
    if left.writes:
        candidates = map(frozenset, combinations(others, min(sizes)))
        assert further == {more for more in candidates if not works(cluster, dead | more, Service.WRITES)}
    else:
        assert further == set()


@given(designs())
def test_a_promise_is_broken_exactly_when_one_machine_or_a_promised_zone_is_a_cut(made: Design) -> None:
    cluster = made.cluster
    machine_alone = any(len(each) == 1 for each in by_trying(cluster, Service.WRITES, Loss.MACHINE))
    zone_alone = any(len(each) == 1 for each in by_trying(cluster, Service.WRITES, Loss.ZONE))
    assert (promise_broken(made) is not None) == machine_alone
    zones = replace(made, cluster=replace(cluster, failover=Failover(survive=Loss.ZONE)))
    assert ("alone stops writes" in (promise_broken(zones) or "")) == (machine_alone or zone_alone)


# ---- what people know ----


@pytest.mark.parametrize(("count", "size", "number"), [(1, 1, 1), (2, 1, 2), (3, 2, 3), (4, 2, 6), (5, 3, 10)])
def test_writes_stop_with_the_quorum(count: int, size: int, number: int) -> None:
    cuts = cuts_of(control_planes(count))
    assert (cuts.smallest, cuts.number, len(cuts.cuts)) == (size, number, 1)


def test_cached_reads_last_until_the_last_apiserver() -> None:
    (cut,) = cuts_of(control_planes(3), Service.CACHED_READS).cuts
    assert str(cut) == "cp1 and cp2 and cp3"
    assert cut.because == "no apiserver is left, nobody holds the VIP"


def test_default_reads_need_the_quorum_as_writes_do() -> None:
    made = control_planes(5, "aabbc")
    for kind in Loss:
        reads, writes = cuts_of(made, Service.READS, kind), cuts_of(made, Service.WRITES, kind)
        assert replace(reads, service=Service.WRITES) == writes


def test_a_dedicated_pair_of_balancers_is_a_cut_beside_the_quorum() -> None:
    pair = {"lb1": ({LB}, None), "lb2": ({LB}, None)}
    made = design({**pair, **{f"cp{i}": ({CP}, None) for i in (1, 2, 3)}})
    assert [(str(cut), cut.because) for cut in cuts_of(made).cuts] == [
        ("lb1 and lb2", "nobody holds the VIP"),
        ("any 2 of cp1, cp2, cp3", "etcd loses its quorum of 2 of 3"),
    ]


def test_two_sites_never_survive_the_larger_one() -> None:
    cuts = cuts_of(control_planes(3, "aab"), kind=Loss.ZONE)
    assert all_sets(cuts.cuts) == [{"a"}]


def test_one_machine_in_each_of_three_zones_survives_any_zone() -> None:
    cuts = cuts_of(control_planes(3, "abc"), kind=Loss.ZONE)
    assert (cuts.smallest, cuts.number) == (2, 3)


def test_zones_are_not_asked_about_where_there_are_none() -> None:
    assert {one.of for one in minimal_cuts(control_planes(3))} == {Loss.MACHINE}


def test_no_loss_of_zones_stops_what_stands_outside_of_them() -> None:
    made = design({"cp1": ({CP}, None), "cp2": ({CP}, None), "cp3": ({CP}, None), "w1": ({WORKER}, "a")})
    cuts = cuts_of(made, kind=Loss.ZONE)
    assert (cuts.smallest, cuts.number, cuts.cuts) == (None, 0, ())


def test_a_thousand_machines_are_counted_without_being_listed() -> None:
    cuts = cuts_of(control_planes(1000))
    assert (cuts.smallest, cuts.number) == (500, comb(1000, 500))
    (cut,) = cuts.cuts
    assert str(cut).startswith("any 500 of cp1, cp2, cp3, cp4, cp5, 995 more")


def test_many_kinds_of_cuts_are_counted_exactly_and_listed_in_part() -> None:
    # A zone of each size from 1 to 40: hardly two cuts are of one kind.
    machines = {f"m{size}-{i}": ({CP}, f"z{size}") for size in range(1, 41) for i in range(size)}
    cuts = cuts_of(design(machines), kind=Loss.ZONE)
    assert len(cuts.cuts) == LISTED
    assert not cuts.is_complete
    # 40 + 39 + ... + 29 = 414 of 820, and 410 break the quorum of 411.
    assert cuts.smallest == cuts.cuts[0].size == 12
    assert cuts.number == counted_by_sums([*range(40, 0, -1)], 410)


def counted_by_sums(weights: list[int], enough: int) -> int:
    """Minimal sets by their smallest member: the heavier ones stay below `enough` without it, and reach it with it.

    weights: distinct, heaviest first.
    """
    total, sums = 0, Counter({0: 1})
    for weight in weights:
        total += sum(ways for lost, ways in sums.items() if lost < enough <= lost + weight)
        sums = sums + Counter({lost + weight: ways for lost, ways in sums.items()})
    return total


# ---- what if ----


def test_a_lost_zone_takes_its_machines_with_it() -> None:
    left = survives(control_planes(3, "aab"), ["a"])
    assert left.lost == ("cp1", "cp2")
    assert (left.reads, left.cached_reads, left.writes, left.spare) == (False, True, False, 0)
    assert left.because[0] == "etcd members: 1 of 3 left, 2 needed: etcd loses its quorum of 2 of 3"
    assert any("resourceVersion=0" in sentence and "80 s" in sentence for sentence in left.because)


def test_after_one_loss_the_next_may_be_the_last() -> None:
    left = survives(control_planes(3), ["cp2"])
    assert (left.writes, left.spare) == (True, 0)
    assert all_sets(left.next) == [{"cp1"}, {"cp3"}]


def test_losing_a_worker_changes_nothing_and_says_so() -> None:
    made = design({**{f"cp{i}": ({CP}, None) for i in (1, 2, 3)}, "w1": ({WORKER}, None)})
    left = survives(made, ["w1"])
    assert (left.writes, left.spare) == (True, 1)
    assert "w1: no part of the control plane" in left.because


def test_an_unknown_name_is_answered_with_the_known_ones_and_the_closest() -> None:
    with pytest.raises(UsageError) as raised:
        survives(control_planes(3, "abc"), ["cp1", "cp22"])
    assert raised.value.what == "no machine and no zone is called 'cp22'"
    assert raised.value.why == "machines: cp1, cp2, cp3\nzones: a, b, c"
    assert raised.value.hint == "did you mean cp2?"


# ---- promises ----


def test_a_promise_that_is_kept_is_not_reported() -> None:
    assert promise_broken(control_planes(3)) is None
    assert (
        promise_broken(Design(replace(control_planes(3, "abc").cluster, failover=Failover(survive=Loss.ZONE)))) is None
    )


def test_two_control_planes_break_the_promise_of_a_machine() -> None:
    said = "losing the machine cp1 or cp2 alone stops writes: etcd loses its quorum of 2 of 2"
    assert promise_broken(control_planes(2)) == said


def test_a_zone_with_a_majority_breaks_the_promise_of_a_zone() -> None:
    made = Design(replace(control_planes(3, "aab").cluster, failover=Failover(survive=Loss.ZONE)))
    assert promise_broken(made) == "losing the zone a alone stops writes: etcd loses its quorum of 2 of 3"


def test_a_promise_of_zones_needs_to_know_them() -> None:
    made = Design(replace(control_planes(3).cluster, failover=Failover(survive=Loss.ZONE)))
    assert (promise_broken(made) or "").startswith("no zone is known of cp1, cp2, cp3")
