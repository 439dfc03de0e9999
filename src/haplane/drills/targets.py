"""Which machines a fault is for, by the parts that they play now. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum

from haplane.model.errors import HaplaneError
from haplane.observe.status import ClusterStatus


class Who(StrEnum):
    """The part that a machine plays; several machines may play some of them, then the first in the file's order."""

    VIP_HOLDER = "the machine that holds the VIP"
    BACKUP = "a machine that could hold the VIP and does not"
    ETCD_LEADER = "the machine of etcd's leader"
    ETCD_FOLLOWER = "a machine of etcd that does not lead"
    CONTROLLER_MANAGER = "the machine whose kube-controller-manager acts"
    SCHEDULER = "the machine whose kube-scheduler acts"
    WAITING_CONTROLLER_MANAGER = "a machine whose kube-controller-manager waits"
    WAITING_SCHEDULER = "a machine whose kube-scheduler waits"
    BUSIEST = "the machine that plays the most parts: the VIP, etcd's leader, the controllers' leases"
    HOLDER_AND_ANOTHER = "the machine that holds the VIP, and another one"
    EVERY = "all control-plane machines"


# Parts that no machine plays alone.
SEVERAL = frozenset({Who.HOLDER_AND_ANOTHER, Who.EVERY})


def targets(status: ClusterStatus, who: Who) -> tuple[str, ...]:
    """The machines' names. Raises HaplaneError when nobody plays this part.

    Where there is a choice of one, a machine that does not hold the VIP, so that one fault is one fault.
    """
    every = [machine.name for machine in status.machines]
    if who is Who.EVERY:
        return tuple(every)
    if who is Who.HOLDER_AND_ANOTHER:
        return (_one(status, Who.VIP_HOLDER), _one(status, Who.BACKUP))
    return (_one(status, who),)


def _one(status: ClusterStatus, who: Who) -> str:
    found = list(_playing(status, who))
    if not found:
        raise HaplaneError(
            f"no machine is {who}", why="\n".join(status.problems), hint="haplane status shows who is what"
        )
    by_the_vip = who in (Who.VIP_HOLDER, Who.BUSIEST)
    return min(found, key=lambda name: name in status.holders and not by_the_vip)


def parts(status: ClusterStatus, machine: str) -> frozenset[Who]:
    """All that this machine plays now, by itself."""
    return frozenset(who for who in Who if who not in SEVERAL and machine in _playing(status, who))


def _playing(status: ClusterStatus, who: Who) -> Iterator[str]:
    every = [machine.name for machine in status.machines]
    if who is Who.VIP_HOLDER:
        yield from status.holders
    elif who is Who.BACKUP:
        yield from _others(every, status.holders)
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
        yield from _others(every, [lease.holder]) if waits else [lease.holder]


_LEASES = {
    Who.CONTROLLER_MANAGER: "kube-controller-manager",
    Who.WAITING_CONTROLLER_MANAGER: "kube-controller-manager",
    Who.SCHEDULER: "kube-scheduler",
    Who.WAITING_SCHEDULER: "kube-scheduler",
}


def _others(names: Iterable[str], but: Iterable[str]) -> list[str]:
    left_out = set(but)
    return [name for name in names if name not in left_out]
