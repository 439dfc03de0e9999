"""The same faults on machines that play another part, where they cost less, or something else. Pure.

Each is a drill of its own, with a budget of its own: what kills HAProxy where the VIP is not must cost nothing and move
nothing. Together with the others they are every fault on every part that it makes sense on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from haplane.drills.targets import Who

if TYPE_CHECKING:
    from haplane.drills.catalogue import Drill

Changes = Mapping[str, Any]

# No client's request goes there.
_UNSEEN: Changes = {"unseen": True, "failed_at_most": 0, "isolates": False}
# The apiserver there is lost, and nothing else.
_LOST: Changes = {"budget": "power-off-control-plane-node", "failed_at_most": 4}
# Of machines that only balance.
_GONE: Changes = {"budget": "power-off-balancer", "failed_at_most": 4}
# A BACKUP that hears no adverts for a while, or stands still for as long, may take the VIP as well.
_MAY_MOVE: Changes = {"moves_vip": None}
_ALIKE: Changes = {}
_WAITS: Changes = {"unseen": True}

# On any control-plane node without the VIP, whether it could hold it or not.
_ON_NODE: Changes = {"who": Who.NODE}

# Of those where the VIP is: the first that the name begins with.
_ON_BACKUP: Mapping[str, Changes] = {
    "haproxy": _UNSEEN,
    "nginx": _UNSEEN,
    "keepalived-hang": {**_UNSEEN, **_MAY_MOVE},
    "keepalived": _UNSEEN,
    "move-vip": {**_UNSEEN, "name": "keepalived-stop-backup", "sentence": "stop keepalived where the VIP is not"},
    "memory-short": {
        **_UNSEEN,
        "sentence": "leave the balancer and keepalived 32 MB where the VIP is not, and somebody beside them all of it",
    },
    "adverts-lost": {**_UNSEEN, "sentence": "lose the VRRP adverts of a machine without the VIP: it sends none"},
    "cut-from-clients": _UNSEEN,
    "apiserver-kill": _ON_NODE,
    "kubelet": _ON_NODE,
    "containerd": _ON_NODE,
    "busy": _ALIKE,
    "half-deaf": _LOST,
    "reboot": _LOST,
    "shutdown": _LOST,
    "freeze": {**_MAY_MOVE, "failed_at_most": 4},
    "cut-from-peers": _MAY_MOVE,
    "lossy": _MAY_MOVE,
    "flapping": _MAY_MOVE,
    "late": _ALIKE,
}
# Where nodes share no VIP nobody but balancers reaches them, and nothing of VRRP runs there.
_ON_NODE_APART: Mapping[str, Changes] = {
    "busy": _ALIKE,
    "half-deaf": {**_LOST, "isolates": False},
    "reboot": _LOST,
    "shutdown": _LOST,
    "freeze": {"failed_at_most": 4},
    "cut-from": _ALIKE,
    "lossy": _ALIKE,
    "flapping": _ALIKE,
    "late": _ALIKE,
}
# Whose clients a load balancer of somebody else's sends elsewhere.
_ON_BALANCER: Mapping[str, Changes] = {
    "haproxy": _ALIKE,
    "nginx": _ALIKE,
    "cut-vip-holder": {**_GONE, "isolates": False},
    "half-deaf": {**_GONE, "isolates": False},
    "reboot": _GONE,
    "shutdown": _GONE,
    "freeze": _GONE,
}
_ON_VIP_HOLDER: Mapping[str, Changes] = {"apiserver": _ALIKE}
_ON_ETCD_FOLLOWER: Mapping[str, Changes] = {
    "etcd-leader-hang": {"budget": "etcd-follower-hang"},
    "etcd-leader": {"budget": "etcd-follower-death"},
    "etcd-disk-full": {"budget": "etcd-follower-death"},
    "etcd-disk-hang": {"budget": "etcd-follower-hang"},
    "etcd-disk-slow": _ALIKE,
}

_WAITS_THERE = {"the kube-": "a kube-", "that acts": "that waits"}

# From which part to which, what is called otherwise in the sentence, and the drills that this makes.
_PARTS: tuple[tuple[Who, Who, Mapping[str, str], Mapping[str, Changes]], ...] = (
    (
        Who.VIP_HOLDER,
        Who.BACKUP,
        {
            "where the VIP is": "where the VIP is not",
            "the apiserver beside the VIP": "an apiserver that is not beside the VIP",
            "the VIP's holder": "a BACKUP",
            "the machine that holds the VIP": "a BACKUP",
        },
        _ON_BACKUP,
    ),
    (
        Who.VIP_HOLDER,
        Who.NODE_APART,
        {
            "the VIP's holder": "a control-plane node that cannot hold the VIP",
            "the machine that holds the VIP": "a control-plane node that cannot hold the VIP",
        },
        _ON_NODE_APART,
    ),
    (
        Who.VIP_HOLDER,
        Who.BALANCER,
        {
            "where the VIP is": "on a balancer behind an address of somebody else's",
            "the VIP's holder": "a balancer behind an address of somebody else's",
            "the machine that holds the VIP": "a balancer behind an address of somebody else's",
        },
        _ON_BALANCER,
    ),
    (Who.NODE, Who.VIP_HOLDER, {"an apiserver": "the apiserver beside the VIP"}, _ON_VIP_HOLDER),
    (Who.ETCD_LEADER, Who.ETCD_FOLLOWER, {"etcd's leader": "a member of etcd that does not lead"}, _ON_ETCD_FOLLOWER),
    (Who.CONTROLLER_MANAGER, Who.WAITING_CONTROLLER_MANAGER, _WAITS_THERE, {"controller-manager": _WAITS}),
    (Who.SCHEDULER, Who.WAITING_SCHEDULER, _WAITS_THERE, {"scheduler": _WAITS}),
)
_SUFFIXES = {
    Who.BACKUP: "backup",
    Who.NODE_APART: "node",
    Who.BALANCER: "balancer",
    Who.VIP_HOLDER: "vip-holder",
    Who.ETCD_FOLLOWER: "follower",
    Who.WAITING_CONTROLLER_MANAGER: "waiting",
    Who.WAITING_SCHEDULER: "waiting",
}


def elsewhere(drills: Iterable[Drill]) -> Iterator[Drill]:
    """For each of these that makes sense on another part and is not there yet."""
    drills = tuple(drills)
    for drill in drills:
        for here, there, words, which in _PARTS:
            changes = next((found for begin, found in which.items() if drill.name.startswith(begin)), None)
            if drill.who is here and changes is not None:
                made = _moved(drill, there, words, changes)
                if made.name not in {one.name for one in drills}:
                    yield made


def _moved(drill: Drill, who: Who, words: Mapping[str, str], changes: Changes) -> Drill:
    sentence = drill.sentence
    for old, new in words.items():
        sentence = sentence.replace(old, new)
    common = {"name": _name(drill.name, who), "sentence": sentence, "who": who, "moves_vip": False, "quick": False}
    return replace(drill, **{**common, **changes})


def _name(name: str, who: Who) -> str:
    if name.startswith("etcd-leader-"):
        return name.replace("leader", "follower", 1)
    return f"{name.removesuffix('-vip-holder')}-{_SUFFIXES[who]}"
