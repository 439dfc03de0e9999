"""Which machines a fault is for, by the parts that they play now, and which may ever play them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum

from haplane.model.cluster import Cluster, Machine, Role
from haplane.model.errors import HaplaneError
from haplane.observe.status import ClusterStatus


class Who(StrEnum):
    """The part that a machine plays; several machines may play some of them, then the first in the file's order."""

    VIP_HOLDER = "the machine that holds the VIP"
    BACKUP = "a machine that could hold the VIP and does not"
    BALANCER = "a machine that balances behind an address of somebody else's"
    NODE = "a control-plane node without the VIP"
    NODE_APART = "a control-plane node that cannot hold the VIP"
    WORKER = "a worker"
    ETCD_LEADER = "the machine of etcd's leader"
    ETCD_FOLLOWER = "a machine of etcd that does not lead"
    CONTROLLER_MANAGER = "the machine whose kube-controller-manager acts"
    SCHEDULER = "the machine whose kube-scheduler acts"
    WAITING_CONTROLLER_MANAGER = "a machine whose kube-controller-manager waits"
    WAITING_SCHEDULER = "a machine whose kube-scheduler waits"
    BUSIEST = "the machine that plays the most parts: the VIP, etcd's leader, the controllers' leases"
    HOLDER_AND_ANOTHER = "the machine that holds the VIP, and another one"
    TWO_NODES = "two control-plane nodes without the VIP"
    ETCD_AND_NODE = "the machine of etcd's leader, and a control-plane node without the VIP"
    EVERY = "all machines of the cluster"


# Of those that no machine plays alone, what each of the machines plays.
TOGETHER = {
    Who.HOLDER_AND_ANOTHER: (Who.VIP_HOLDER, Who.NODE),
    Who.TWO_NODES: (Who.NODE, Who.NODE),
    Who.ETCD_AND_NODE: (Who.ETCD_LEADER, Who.NODE),
}
# Parts that no machine plays alone.
SEVERAL = frozenset({*TOGETHER, Who.EVERY})


def serving(cluster: Cluster, role: Role | None) -> tuple[Machine, ...]:
    """Machines on which there is what this role is about, whether they have machines of its own or not; None: all."""
    if role is None:
        return cluster.managed
    if role is Role.BALANCER:
        return cluster.balancers
    return cluster.etcd_members if role is Role.ETCD else cluster.with_role(role)


def targets(status: ClusterStatus, who: Who, needs: Role | None = None) -> tuple[str, ...]:
    """The machines' names. Raises HaplaneError when nobody plays this part.

    Where there is a choice of one, a machine that does not hold the VIP, so that one fault is one fault. needs: what
    has to be on them, see `serving`.
    """
    fit = {machine.name for machine in serving(status.cluster, needs)}
    if who is Who.EVERY:
        return tuple(machine.name for machine in status.machines if machine.name in fit)
    chosen: list[str] = []
    for part in TOGETHER.get(who, (who,)):
        chosen.append(_one(status, part, [name for name in _playing(status, part) if name in fit - {*chosen}]))
    return tuple(chosen)


def _one(status: ClusterStatus, who: Who, found: list[str]) -> str:
    if not found:
        raise HaplaneError(
            f"no machine is {who}", why="\n".join(status.problems), hint="haplane status shows who is what"
        )
    by_the_vip = who in (Who.VIP_HOLDER, Who.BUSIEST)
    return min(found, key=lambda name: name in status.holders and not by_the_vip)


def parts(status: ClusterStatus, machine: str) -> frozenset[Who]:
    """All that this machine plays now, by itself."""
    return frozenset(who for who in Who if who not in SEVERAL and machine in _playing(status, who))


def examples(cluster: Cluster, who: Who, needs: Role | None = None) -> Iterator[tuple[str, ...]]:
    """Machines that may play this part, or these parts together, at some time; none where this cluster has no such."""
    fit = [machine.name for machine in serving(cluster, needs)]
    if who is Who.EVERY:
        yield from [tuple(fit)] if fit else []
        return
    first, *second = TOGETHER.get(who, (who,))
    for name in fit:
        if name not in _may_play(cluster, first):
            continue
        if not second:
            yield (name,)
            continue
        yield from ((name, other) for other in fit if other != name and other in _may_play(cluster, second[0]))


def _may_play(cluster: Cluster, who: Who) -> frozenset[str]:
    sharers, nodes = cluster.vip_sharers, cluster.control_plane
    if who is Who.VIP_HOLDER:
        found: Iterable[Machine] = sharers
    elif who is Who.BACKUP:
        found = sharers if len(sharers) > 1 else ()
    elif who is Who.NODE:
        # The only one that shares the VIP has it.
        found = [one for one in nodes if (one,) != sharers]
    elif who in (Who.BALANCER, Who.NODE_APART, Who.WORKER):
        found = _always(cluster, who)
    elif who in (Who.ETCD_LEADER, Who.ETCD_FOLLOWER):
        found = cluster.etcd_members if who is Who.ETCD_LEADER or len(cluster.etcd_members) > 1 else ()
    elif who is Who.BUSIEST:
        found = (*sharers, *cluster.etcd_members, *nodes)
    else:
        waits = who in (Who.WAITING_CONTROLLER_MANAGER, Who.WAITING_SCHEDULER)
        found = nodes if len(nodes) > 1 or not waits else ()
    return frozenset(one.name for one in found)


def _always(cluster: Cluster, who: Who) -> list[Machine]:
    """Who plays a part that never changes hands."""
    if who is Who.WORKER:
        return list(cluster.workers)
    if who is Who.BALANCER:
        return [one for one in cluster.balancers if not cluster.vip_sharers]
    return [one for one in cluster.control_plane if one not in cluster.vip_sharers]


def _playing(status: ClusterStatus, who: Who) -> Iterator[str]:
    cluster = status.cluster
    if who is Who.VIP_HOLDER:
        yield from status.holders
    elif who is Who.BACKUP:
        yield from _others([one.name for one in cluster.vip_sharers], status.holders)
    elif who is Who.NODE:
        yield from _others([one.name for one in cluster.control_plane], status.holders)
    elif who in (Who.BALANCER, Who.NODE_APART, Who.WORKER):
        yield from (one.name for one in _always(cluster, who))
    elif who is Who.ETCD_LEADER:
        yield from filter(None, [status.etcd_leader])
    elif who is Who.ETCD_FOLLOWER:
        yield from _others([member.name for member in status.members], [status.etcd_leader])
    elif who is Who.BUSIEST:
        parts = (Who.VIP_HOLDER, Who.ETCD_LEADER, Who.CONTROLLER_MANAGER, Who.SCHEDULER)
        played = Counter(name for part in parts for name in _playing(status, part))
        # Of as many parts, whoever plays the first of them.
        yield from [name for name, _ in played.most_common(1)]
    elif (lease := status.leases.get(_LEASES[who])) and lease.is_held:
        waits = who in (Who.WAITING_CONTROLLER_MANAGER, Who.WAITING_SCHEDULER)
        nodes = [one.name for one in cluster.control_plane]
        yield from _others(nodes, [lease.holder]) if waits else [lease.holder]


_LEASES = {
    Who.CONTROLLER_MANAGER: "kube-controller-manager",
    Who.WAITING_CONTROLLER_MANAGER: "kube-controller-manager",
    Who.SCHEDULER: "kube-scheduler",
    Who.WAITING_SCHEDULER: "kube-scheduler",
}


def _others(names: Iterable[str], but: Iterable[str]) -> list[str]:
    left_out = set(but)
    return [name for name in names if name not in left_out]
