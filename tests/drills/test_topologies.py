"""Drills where balancers, etcd or the address are not on the control-plane nodes: who is broken, and what it costs."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from planted import planted
from tests.model.clusters import three_nodes

from haplane.design.design import Design
from haplane.drills import judging, running
from haplane.drills.catalogue import MATRIX, find, for_parts, suite
from haplane.drills.checkers import Outcome
from haplane.drills.running import Asked
from haplane.drills.targets import Who, examples, parts, targets
from haplane.model.cluster import BalancerRole, Cluster, EndpointOwner, Etcd, EtcdTopology, Machine, Role, Ssh
from haplane.model.errors import HaplaneError, UsageError
from haplane.model.progress import Silent
from haplane.observe.status import ClusterStatus, EtcdMember, Lease, MachineStatus
from haplane.probes.history import HEAL, WHOLE, History, Mark, Observation
from haplane.probes.observer import HELD, OBSERVER, WATCHING


def with_machines(cluster: Cluster, *more: str, role: Role) -> Cluster:
    made = {
        name: Machine(name, (ip_address(f"192.0.2.{50 + number + 10 * len(role)}"),), frozenset({role}), Ssh())
        for number, name in enumerate(more)
    }
    return replace(cluster, machines={**cluster.machines, **made})


def owned_outside(cluster: Cluster) -> Cluster:
    return replace(cluster, endpoint=replace(cluster.endpoint, by=EndpointOwner.EXTERNAL))


THREE = three_nodes()
PAIR = replace(with_machines(THREE, "lb1", "lb2", role=Role.BALANCER), balancer=BalancerRole.BALANCER)
ETCD = replace(with_machines(THREE, "etcd1", "etcd2", "etcd3", role=Role.ETCD), etcd=Etcd(EtcdTopology.EXTERNAL))
OUTSIDE = owned_outside(THREE)
PAIR_OUTSIDE = owned_outside(PAIR)
WORKERS = with_machines(THREE, "worker1", role=Role.WORKER)
FIVE = with_machines(THREE, "cp4", "cp5", role=Role.CONTROL_PLANE)
CLUSTERS = {
    "three": THREE,
    "pair": PAIR,
    "external etcd": ETCD,
    "outside": OUTSIDE,
    "pair outside": PAIR_OUTSIDE,
    "workers": WORKERS,
    "five": FIVE,
}


def status_of(cluster: Cluster, holder: str = "", leader: str = "cp2") -> ClusterStatus:
    """cp3 has both leases."""
    members = tuple(EtcdMember(one.name, f"id-{one.name}", False) for one in cluster.etcd_members)
    leases = (Lease("kube-scheduler", "cp3", 1.0), Lease("kube-controller-manager", "cp3", 1.0))
    return ClusterStatus(
        cluster,
        tuple(
            MachineStatus(
                one.name,
                holds_vip=one.name == holder,
                etcd_id=f"id-{one.name}" if one in cluster.etcd_members else "",
                etcd_leader=f"id-{leader}" if one in cluster.etcd_members else "",
                members=members,
                leases=leases if one in cluster.control_plane else (),
            )
            for one in cluster.managed
        ),
    )


STATUS = {
    "three": status_of(THREE, "cp1"),
    "pair": status_of(PAIR, "lb1"),
    "external etcd": status_of(ETCD, "cp1", "etcd2"),
    "outside": status_of(OUTSIDE),
    "pair outside": status_of(PAIR_OUTSIDE),
    "workers": status_of(WORKERS, "cp1"),
    "five": status_of(FIVE, "cp1"),
}


@pytest.mark.parametrize("name", CLUSTERS)
def test_whoever_is_found_was_expected_and_each_drill_that_has_meaning_finds_its_machines(name: str) -> None:
    status, design = STATUS[name], Design(CLUSTERS[name])
    for drill in MATRIX:
        if drill.has_meaning(design):
            found = targets(status, drill.who, drill.needs)
            assert found in examples(design.cluster, drill.who, drill.needs), drill.name
            assert drill.budget_of(design, found).links, drill.name
        elif drill.program is None and drill.example(design) == () and not [*examples(design.cluster, drill.who)]:
            with pytest.raises(HaplaneError):
                targets(status, drill.who, drill.needs)


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_breaks_an_apiserver_or_a_kubelet_is_done_where_one_is(name: str) -> None:
    status, design = STATUS[name], Design(CLUSTERS[name])
    nodes = {one.name for one in design.cluster.control_plane}
    for drill in MATRIX:
        if drill.has_meaning(design) and drill.name.startswith(("apiserver", "kubelet", "containerd", "flood", "swap")):
            assert {*targets(status, drill.who, drill.needs)} <= nodes, drill.name


@pytest.mark.parametrize(
    ("name", "drill", "machines"),
    [
        ("pair", "power-off-vip-holder", ("lb1",)),
        ("pair", "power-off-backup", ("lb2",)),
        ("pair", "power-off-control-plane-node", ("cp1",)),
        ("pair", "power-off-two", ("lb1", "cp1")),
        ("pair", "reload-haproxy", ("lb1", "lb2")),
        ("pair", "swap-certificate", ("cp1", "cp2", "cp3")),
        ("pair", "apiserver-death", ("cp1",)),
        ("pair", "power-off-busiest", ("cp3",)),
        ("external etcd", "power-off-etcd-leader", ("etcd2",)),
        ("external etcd", "power-off-etcd-member", ("etcd1",)),
        ("external etcd", "power-off-etcd-machine-and-node", ("etcd2", "cp2")),
        ("outside", "power-off-control-plane-node", ("cp1",)),
        ("outside", "haproxy-death-balancer", ("cp1",)),
        ("pair outside", "power-off-balancer", ("lb1",)),
        ("pair outside", "haproxy-death-balancer", ("lb1",)),
        ("workers", "power-off-worker", ("worker1",)),
        ("five", "power-off-two", ("cp1", "cp2")),
        ("five", "power-off-two-nodes", ("cp2", "cp3")),
    ],
)
def test_who_is_broken(name: str, drill: str, machines: tuple[str, ...]) -> None:
    assert find(drill).has_meaning(Design(CLUSTERS[name]))
    assert targets(STATUS[name], find(drill).who, find(drill).needs) == machines


@pytest.mark.parametrize(
    ("name", "drills"),
    [
        ("three", ["power-off-control-plane-node", "power-off-balancer", "power-off-worker", "power-off-etcd-member"]),
        ("pair", ["kubelet-death", "apiserver-death-vip-holder", "power-off-balancer"]),
        ("external etcd", ["power-off-control-plane-node"]),
        ("outside", ["power-off-vip-holder", "move-vip", "keepalived-death", "haproxy-death", "power-off-balancer"]),
        ("pair outside", ["cut-vip-holder", "power-off-backup", "power-off-two"]),
    ],
)
def test_what_is_not_there_is_not_broken(name: str, drills: list[str]) -> None:
    assert not [one for one in drills if find(one).has_meaning(Design(CLUSTERS[name]))]


@pytest.mark.parametrize("name", ["outside", "pair outside"])
def test_nothing_of_vrrp_has_meaning_where_the_address_is_somebody_elses(name: str) -> None:
    design = Design(CLUSTERS[name])
    for drill in MATRIX:
        if drill.has_meaning(design):
            assert drill.who not in (Who.VIP_HOLDER, Who.BACKUP, Who.HOLDER_AND_ANOTHER), drill.name
            assert not drill.name.startswith(("keepalived", "move-vip", "adverts")), drill.name


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_suite_breaks_what_balances_etcd_apiservers_kubelets_and_a_machine(name: str) -> None:
    names = [drill.name for drill in suite(Design(CLUSTERS[name]))]
    for begins in (
        "haproxy-death",
        "haproxy-hang",
        "etcd-leader-death",
        "apiserver-hang",
        "kubelet-death",
        "power-off",
    ):
        assert [one for one in names if one.startswith(begins)], begins
    assert len(set(names)) == len(names)
    hurried = {drill.name for drill in suite(Design(CLUSTERS[name]), quick=True)}
    assert [one for one in hurried if one.startswith("haproxy-death")]
    assert hurried < set(names)
    assert set(names) <= {drill.name for drill in suite(Design(CLUSTERS[name]), matrix=True)}


# -- budgets


def worst_s(name: str, drill: str, *machines: str) -> float:
    return find(drill).budget_of(Design(CLUSTERS[name]), machines).worst_s


def test_a_backup_of_a_pair_costs_nothing_and_its_holder_only_the_move() -> None:
    assert worst_s("pair", "power-off-backup", "lb2") == 0
    assert worst_s("pair", "shutdown-backup", "lb2") == worst_s("pair", "freeze-backup", "lb2") == 0
    assert worst_s("pair", "freeze-vip-holder", "lb1") == worst_s("pair", "power-off-vip-holder", "lb1")
    assert worst_s("pair", "power-off-vip-holder", "lb1") < worst_s("three", "power-off-vip-holder", "cp1")


def test_a_machine_of_etcd_takes_no_vip_with_it() -> None:
    design = Design(ETCD)
    budget = find("power-off-etcd-leader").budget_of(design, ["etcd2"])
    assert {link.name for link in budget.links} == {"detect", "elect", "reconnect", "ask another member"}
    assert "advert" not in " ".join(link.because for link in budget.links)
    assert find("power-off-etcd-leader").must_move_vip(design, ["etcd2"]) is False
    assert find("power-off-etcd-leader").must_move_vip(Design(THREE), ["cp2"]) is None
    for drill in MATRIX:
        if drill.who in (Who.ETCD_LEADER, Who.ETCD_FOLLOWER) and drill.has_meaning(design):
            machines = drill.example(design)
            setting = {link.setting for link in drill.budget_of(design, machines).links}
            assert "keepalived.vrrp_instance.advert_int" not in setting, drill.name
            assert drill.must_move_vip(design, machines) is False, drill.name


def test_with_a_node_lost_as_well_its_apiserver_has_to_be_avoided() -> None:
    alone = find("power-off-etcd-leader").budget_of(Design(ETCD), ["etcd2"])
    both = find("power-off-etcd-machine-and-node").budget_of(Design(ETCD), ["etcd2", "cp2"])
    assert both.worst_s == pytest.approx(alone.worst_s + 0.1)
    assert math.isfinite(both.worst_s)


def test_two_of_five_at_once_have_an_end_and_two_of_three_have_not() -> None:
    for drill, machines in (("power-off-two", ("cp1", "cp2")), ("power-off-two-nodes", ("cp2", "cp3"))):
        assert math.isfinite(worst_s("five", drill, *machines)), drill
        assert math.isinf(worst_s("three", drill, *machines)), drill
    # Two dead apiservers may be tried, one after the other.
    assert worst_s("five", "power-off-two-nodes", "cp2", "cp3") == pytest.approx(
        worst_s("five", "power-off-backup", "cp2") + 0.1
    )
    # Without a quorum no apiserver is ready: the holder lets go, and it comes back to whoever is ready first.
    assert find("power-off-two-nodes").must_move_vip(Design(FIVE), ["cp2", "cp3"]) is False
    assert find("power-off-two-nodes").must_move_vip(Design(THREE), ["cp2", "cp3"]) is None
    # The best BACKUP is gone as well: the next one waits longer.
    assert worst_s("five", "power-off-two", "cp1", "cp2") > worst_s("five", "power-off-two", "cp1", "cp5") > 0.4


def test_on_its_own_machine_the_leader_of_stacked_etcd_is_a_control_plane_node() -> None:
    design = Design(PAIR)
    for drill in ("power-off-etcd-leader", "power-off-busiest"):
        assert find(drill).budget_of(design, ["cp2"]).fault == "power-off-control-plane-node"
        assert find(drill).must_move_vip(design, ["cp2"]) is False


@pytest.mark.parametrize(
    ("name", "drill", "machine"),
    [
        ("outside", "power-off-control-plane-node", "cp1"),
        ("outside", "freeze-node", "cp1"),
        ("outside", "haproxy-hang-balancer", "cp1"),
        ("pair outside", "power-off-balancer", "lb1"),
        ("pair outside", "freeze-balancer", "lb1"),
    ],
)
def test_what_a_load_balancer_of_yours_has_to_notice_has_no_end_that_is_known(
    name: str, drill: str, machine: str
) -> None:
    assert math.isinf(worst_s(name, drill, machine))


def test_behind_balancers_of_their_own_nodes_have_an_end_whoever_has_the_address() -> None:
    for name in ("pair", "pair outside"):
        assert 0 < worst_s(name, "power-off-control-plane-node", "cp1") < 1
        assert math.isfinite(worst_s(name, "freeze-node", "cp1"))


def test_a_worker_costs_clients_nothing() -> None:
    assert worst_s("workers", "power-off-worker", "worker1") == 0


# -- chosen


async def never(why: str) -> None:
    raise AssertionError(why)


@pytest.mark.parametrize(
    ("name", "drill", "machine", "found"),
    [
        ("pair", "haproxy-death", "lb2", "haproxy-death-backup"),
        ("pair", "power-off-vip-holder", "cp1", "power-off-control-plane-node"),
        ("pair", "power-off-control-plane-node", "lb1", "power-off-vip-holder"),
        ("pair", "kubelet-death", "cp1", "kubelet-death-backup"),
        ("outside", "haproxy-death", "cp1", "haproxy-death-balancer"),
        ("outside", "half-deaf", "cp1", "half-deaf-node"),
        ("external etcd", "power-off-vip-holder", "etcd1", "power-off-etcd-member"),
        ("workers", "power-off-vip-holder", "worker1", "power-off-worker"),
    ],
)
def test_on_a_machine_of_another_kind_it_is_another_drill(name: str, drill: str, machine: str, found: str) -> None:
    asked = Asked(Design(CLUSTERS[name]), Path(), never, Silent(), on=machine)
    chosen, machines = running._choose(find(drill), STATUS[name], asked)
    assert (chosen.name, machines) == (found, (machine,))


@pytest.mark.parametrize(
    ("name", "drill", "machine"),
    [
        ("pair", "haproxy-death", "cp1"),
        ("pair", "kubelet-death", "lb1"),
        ("pair", "apiserver-death", "lb1"),
        ("external etcd", "haproxy-death", "etcd1"),
        ("outside", "keepalived-death", "cp1"),
    ],
)
def test_what_does_not_run_there_is_not_broken_there(name: str, drill: str, machine: str) -> None:
    assert for_parts(find(drill), parts(STATUS[name], machine), Design(CLUSTERS[name]), machine) is None


# -- judged

FAULT = 105.0


def history(cluster: Cluster, drill: str, *machines: str, holder: str = "", moves_to: str = "") -> History:
    """Watched all the time; the VIP moves with the fault where that is said."""
    marks = [Mark(FAULT, drill, name, 0.001) for name in machines]
    marks += [Mark(FAULT + 8, HEAL, name) for name in machines]
    names, vip = [one.name for one in cluster.managed], f"vip {cluster.endpoint.vip.ip}"
    seen = [Observation(100.0, name, OBSERVER, WATCHING) for name in names]
    seen += [Observation(100.0, name, vip, HELD if name == holder else "") for name in names]
    if moves_to:
        seen += [Observation(FAULT + 0.1, holder, vip, ""), Observation(FAULT + 0.11, moves_to, vip, HELD)]
    seen += [judging.named(100.0, find(drill), name) for name in machines]
    return planted(outage=(0.0, 0.0), marks=[*marks, Mark(FAULT + 12, WHOLE)], config=CONFIG).with_events(seen)


def outcomes(cluster: Cluster, judged: History) -> dict[str, Outcome]:
    return {verdict.name: verdict.outcome for verdict in judging.judge(judged, Design(cluster)).verdicts}


CONFIG = replace(planted().header.config, persistent_rate=0.0)  # type: ignore[union-attr]  # planted ones have one


def test_nobody_is_asked_who_holds_an_address_of_somebody_elses() -> None:
    found = outcomes(OUTSIDE, history(OUTSIDE, "apiserver-death", "cp1"))
    assert not {"single-holder", "vip-moved"} & set(found)
    assert set(found.values()) == {Outcome.HELD}


def test_a_vip_that_moves_when_a_machine_of_etcd_is_lost_is_wrong() -> None:
    stays = outcomes(ETCD, history(ETCD, "power-off-etcd-leader", "etcd2", holder="cp1"))
    moves = outcomes(ETCD, history(ETCD, "power-off-etcd-leader", "etcd2", holder="cp1", moves_to="cp2"))
    assert (stays["vip-moved"], moves["vip-moved"]) == (Outcome.HELD, Outcome.VIOLATED)


def test_a_pair_is_watched_and_nodes_that_cannot_hold_the_vip_need_not_be() -> None:
    held = history(PAIR, "power-off-vip-holder", "lb1", holder="lb1", moves_to="lb2")
    without = History(tuple(one for one in held.events if not isinstance(one, Observation) or one.machine[:2] == "lb"))
    found = outcomes(PAIR, without)
    assert (found["single-holder"], found["vip-moved"]) == (Outcome.HELD, Outcome.HELD)


def test_nobody_probes_from_a_worker_which_a_drill_may_break() -> None:
    worker = replace(WORKERS.machines["worker1"], roles=frozenset({Role.WORKER, Role.CLIENT}))
    cluster = replace(WORKERS, machines={**WORKERS.machines, "worker1": worker})
    with pytest.raises(UsageError, match="no machine to probe from"):
        asyncio.run(running.connect(None, cluster))  # type: ignore[arg-type]
