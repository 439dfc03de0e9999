"""Are there enough machines, and are they independent of each other?"""

from __future__ import annotations

from collections.abc import Iterator

from haplane.design.cuts import promise_broken
from haplane.design.design import Design
from haplane.design.hazards.finding import Finding
from haplane.design.hazards.registry import error, hazard, warning
from haplane.model.cluster import BalancerRole, Cluster, Loss, Machine


@hazard("topo-too-few-nodes")
def check_one_machine_can_be_lost(design: Design) -> Iterator[Finding]:
    """Quorum of 1 or 2 members bears no loss; of anything else two are enough."""
    cluster = design.cluster
    where = cluster.where("machines")
    nodes, members, balancers = len(cluster.control_plane), len(cluster.etcd_members), len(cluster.balancers)
    external = not cluster.is_stacked
    accept = "or accept topo-too-few-nodes with the reason that this cluster need not survive a machine"
    if external and nodes == 2:
        because = "there are 2 control-plane machines: once one is lost or being upgraded, a single apiserver is left"
        yield warning(because, "use 3", where)
    elif nodes < 3:
        loss = "the API" if external or nodes == 1 else "etcd, and with it the API"
        because = f"{_machines(nodes, 'control-plane machine')} cannot lose one: that stops {loss}"
        yield error(because, f"use 3 or 5 control-plane machines, {accept}", where)
    if external and members < 3:
        because = f"{_machines(members, 'etcd member')} cannot lose one: that stops etcd"
        yield error(because, f"use 3 or 5 etcd machines, {accept}", where)
    if cluster.balancer is BalancerRole.BALANCER and balancers < 2:
        because = "there is one balancer machine: nobody takes the endpoint over when it is lost"
        yield error(because, f"add a second balancer machine, {accept}", where)


@hazard("topo-zone-collapsed")
def check_zones_are_spread(design: Design) -> Iterator[Finding]:
    cluster = design.cluster
    if cluster.failover.survive is not Loss.ZONE:
        pair = cluster.balancers if cluster.balancer is BalancerRole.BALANCER else ()
        if len(pair) > 1 and pair[0].zone and {one.zone for one in pair} == {pair[0].zone}:
            because = f"all {len(pair)} balancers are in zone {pair[0].zone}: what takes it takes the endpoint"
            yield warning(because, "put them into two zones", cluster.where("machines", pair[0].name, "zone"))
        return
    kinds = _spread_kinds(cluster)
    unlabelled = dict.fromkeys(one.name for _, machines, _ in kinds for one in machines if one.zone is None)
    for name in unlabelled:
        because = "the loss of a zone is to be survived, and it is not known in which zone this machine is"
        yield error(because, f"write its zone, e.g. {name}: {{zone: rack-a}}", cluster.where("machines", name), name)
    if unlabelled:
        return
    for noun, machines, wanted in kinds:
        zones = sorted({str(one.zone) for one in machines})
        if len(zones) < wanted:
            because = f"{noun} are in {_list(zones)}; to survive the loss of a zone they need {wanted}"
            yield error(
                because,
                "spread them over more zones, or write survive: machine",
                cluster.where("failover", "survive"),
            )
            return
    if broken := promise_broken(design):
        yield error(broken, "spread them, or write survive: machine", cluster.where("failover", "survive"))


def _spread_kinds(cluster: Cluster) -> list[tuple[str, tuple[Machine, ...], int]]:
    """What must be spread: what it is called, where it runs, over how many zones at least."""
    kinds = [("etcd members", cluster.etcd_members, 3), ("balancers", cluster.balancers, 2)]
    return [*kinds, ("control-plane machines", cluster.control_plane, 2)]


def _machines(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"


def _list(zones: list[str]) -> str:
    return f"{_machines(len(zones), 'zone')} ({', '.join(zones)})"
