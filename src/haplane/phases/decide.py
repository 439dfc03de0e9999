"""Who starts the cluster, who joins it, and when to refuse. Pure: facts in, decision out.

Never a second cluster: `kubeadm init` runs only when every control-plane machine answered and none holds cluster data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from haplane.model.errors import HaplaneError
from haplane.observe.facts import Facts


class Membership(StrEnum):
    """What a machine is to the cluster. begun: kubeadm started there and never finished. foreign: not haplane's."""

    EMPTY = "empty"
    BEGUN_INIT = "begun init"
    BEGUN_JOIN = "begun join"
    MEMBER = "member"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Decision:
    """init: the machine that makes the cluster, None if there is one. join: in the order of the file.
    clean: machines on which an unfinished kubeadm is undone first. members: nodes of the cluster now."""

    init: str | None
    join: tuple[str, ...]
    clean: tuple[str, ...]
    members: tuple[str, ...]


def membership(facts: Facts) -> Membership:
    word, _, _ = facts.membership.partition(" ")
    if word == "done":
        # The marker alone is not a node: its data may be gone (a new disk, say).
        return Membership.MEMBER if facts.has_etcd_data and facts.has_kubelet else Membership.BEGUN_JOIN
    if word == "begun":
        return Membership.BEGUN_INIT if facts.membership.startswith("begun init") else Membership.BEGUN_JOIN
    return Membership.FOREIGN if facts.has_etcd_data or facts.has_kubelet else Membership.EMPTY


def decide(facts: Mapping[str, Facts], silent: Mapping[str, HaplaneError], identity: str) -> Decision:
    """facts: control-plane machines that answered, in the file's order; silent: those that did not, and why.

    Raises HaplaneError when going on could make a second cluster or harm one that is there.
    """
    found = {name: membership(one) for name, one in facts.items()}
    members = tuple(name for name, kind in found.items() if kind is Membership.MEMBER)
    _refuse_foreign(found)
    _refuse_another_identity(facts, members, identity)
    if silent:
        first = next(iter(silent.values()))
        cluster = f"the cluster has {len(members)} nodes that answer" if members else "nothing was initialised"
        raise HaplaneError(
            f"{', '.join(silent)} did not answer, so nothing was changed ({cluster})",
            where=first.where,
            why=f"{first.what}: {first.why}" if first.why else first.what,
            hint=f"{first.hint}\na silent machine may hold the cluster's data: make it answer, then run this again",
        )
    if members:
        authorities = {facts[name].authority for name in members}
        if len(authorities) > 1:
            raise HaplaneError(
                "these machines belong to different clusters",
                where=", ".join(members),
                why="their CA certificates (/etc/kubernetes/pki/ca.crt) differ",
                hint="take the machines that do not belong here out of the file",
            )
        others = tuple(name for name in found if name not in members)
        return Decision(None, others, tuple(name for name in others if found[name] is not Membership.EMPTY), members)
    begun = tuple(name for name, kind in found.items() if kind is not Membership.EMPTY)
    joined = [name for name in begun if found[name] is Membership.BEGUN_JOIN and facts[name].has_etcd_data]
    if joined:
        raise HaplaneError(
            f"{', '.join(joined)} joined a cluster of which no finished node is left",
            where=", ".join(joined),
            why="the data there may be the only copy, so nothing was initialised over it",
            hint="if it is not needed: haplane reset, then haplane apply",
        )
    # The machine on which a first `init` was begun is as good as any; its leftovers are undone first.
    started = [name for name in begun if found[name] is Membership.BEGUN_INIT]
    init = started[0] if started else next(iter(found))
    return Decision(init, tuple(name for name in found if name != init), begun, ())


def _refuse_foreign(found: Mapping[str, Membership]) -> None:
    foreign = [name for name, kind in found.items() if kind is Membership.FOREIGN]
    if foreign:
        raise HaplaneError(
            f"{', '.join(foreign)} already belongs to a Kubernetes cluster that haplane did not make",
            where=", ".join(foreign),
            why="/var/lib/etcd/member or /etc/kubernetes/kubelet.conf is there",
            hint="take it out of the file; or, if its data is not needed, log in there and run `kubeadm reset`",
        )


def _refuse_another_identity(facts: Mapping[str, Facts], members: tuple[str, ...], identity: str) -> None:
    for name in members:
        made_as = facts[name].membership.partition(" ")[2]
        if made_as != identity:
            raise HaplaneError(
                "what cannot change after a cluster was made differs from the file",
                where=name,
                why=f"made as: {made_as}\nthe file: {identity}",
                hint="put the old values back; haplane cannot upgrade or rename a cluster yet. "
                "To make a new one instead, with the loss of all data: haplane reset, then haplane apply",
            )
