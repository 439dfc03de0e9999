"""Who starts the cluster, who joins it, and when to refuse. Pure: facts in, decision out.

Never a second cluster: `kubeadm init` runs only when every control-plane machine answered and none holds cluster data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    """init: the machine that makes the cluster, None if there is one. join: control-plane machines, in the order of
    the file; workers: the others that join. clean: machines on which an unfinished kubeadm is undone first. members:
    control-plane nodes of the cluster now; nodes: all of its nodes now.

    Of an etcd with machines of its own: etcd: those that hold its data; etcd_new: those that begin it together;
    etcd_lost: those that have to join the others anew. empties_etcd: what is in it was left by an unfinished kubeadm.
    """

    init: str | None
    join: tuple[str, ...]
    clean: tuple[str, ...]
    members: tuple[str, ...]
    workers: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    etcd: tuple[str, ...] = ()
    etcd_new: tuple[str, ...] = ()
    etcd_lost: tuple[str, ...] = ()
    empties_etcd: bool = False

    @property
    def new(self) -> tuple[str, ...]:
        """Machines that are made nodes now."""
        return ((self.init,) if self.init else ()) + self.join + self.workers


def membership(facts: Facts, *, holds_etcd: bool = True) -> Membership:
    """holds_etcd: whether kubeadm runs a member of etcd there."""
    word, _, _ = facts.membership.partition(" ")
    if word == "done":
        # The marker alone is not a node: its data may be gone (a new disk, say).
        is_there = facts.has_kubelet and (facts.has_etcd_data or not holds_etcd)
        return Membership.MEMBER if is_there else Membership.BEGUN_JOIN
    if word == "begun":
        return Membership.BEGUN_INIT if facts.membership.startswith("begun init") else Membership.BEGUN_JOIN
    # Of an etcd with machines of its own that haplane made, a machine may hold data besides.
    is_kept = facts.has_etcd_data and facts.etcd_membership and not holds_etcd
    return Membership.FOREIGN if facts.has_kubelet or (facts.has_etcd_data and not is_kept) else Membership.EMPTY


def decide(
    facts: Mapping[str, Facts],
    silent: Mapping[str, HaplaneError],
    identity: str,
    *,
    workers: Mapping[str, Facts] | None = None,
    etcd: Mapping[str, Facts] | None = None,
    voters: int = 0,
) -> Decision:
    """facts: control-plane machines that answered, in the file's order; workers: the other nodes; silent: machines
    that did not answer, and why. etcd: machines of its own, None where control-plane nodes hold etcd's data; voters:
    how many there are by design.

    Raises HaplaneError when going on could make a second cluster or harm one that is there.
    """
    found_workers = {name: membership(one, holds_etcd=False) for name, one in (workers or {}).items()}
    _refuse_foreign(found_workers)
    joined = tuple(name for name, kind in found_workers.items() if kind is Membership.MEMBER)
    _refuse_another_identity(workers or {}, joined, identity)
    decision = _control_plane(facts, silent, identity, stacked=etcd is None)
    if etcd is not None:
        decision = _etcd_apart(decision, facts, etcd, identity, voters=voters)
    # Of a cluster that is gone, say: a node of another one does not find its way into this.
    stale = joined if decision.init else ()
    return replace(
        decision,
        workers=tuple(name for name in found_workers if name in stale or name not in joined),
        clean=decision.clean
        + tuple(
            name
            for name, kind in found_workers.items()
            if name in stale or (name not in joined and kind is not Membership.EMPTY)
        ),
        nodes=decision.members + tuple(name for name in joined if name not in stale),
    )


def _etcd_apart(
    decision: Decision, facts: Mapping[str, Facts], etcd: Mapping[str, Facts], identity: str, *, voters: int
) -> Decision:
    """facts: of control-plane machines. A member is `done` only once all have answered, so one without data lost it."""
    foreign = [name for name, one in etcd.items() if one.has_etcd_data and not one.etcd_membership]
    if foreign:
        raise HaplaneError(
            f"{', '.join(foreign)} already holds data of an etcd that haplane did not make",
            where=", ".join(foreign),
            why="/var/lib/etcd/member is there",
            hint="take it out of the file; or, if its data is not needed, stop that etcd and remove that folder",
        )
    holding = tuple(name for name, one in etcd.items() if one.has_etcd_data)
    for name in holding:
        made_as = (
            etcd[name].etcd_membership.removeprefix("done ").removeprefix("begun new ").removeprefix("begun join ")
        )
        _refuse_unless_same(name, made_as, identity)
    done = [name for name in holding if etcd[name].etcd_membership.startswith("done ")]
    others = tuple(name for name in etcd if name not in holding)
    quorum = voters // 2 + 1
    if decision.members and len(holding) < quorum:
        raise HaplaneError(
            f"etcd has lost its quorum: {len(holding)} of {voters} members hold its data, and {quorum} are needed",
            where=", ".join(others),
            why=f"/var/lib/etcd/member is not there on {', '.join(others)}, and {', '.join(decision.members)} "
            f"{'is a node' if len(decision.members) == 1 else 'are nodes'} of the cluster whose data that was",
            hint="if a disk is not mounted, mount it; else the data is lost: restore it from a snapshot, or, to begin "
            "anew without it: haplane reset, then haplane apply",
        )
    if decision.init is None:
        return replace(decision, etcd=holding, etcd_lost=others)
    if not done:
        # Nobody has written to it yet: kubeadm begins only once all are done.
        return replace(decision, etcd=(), etcd_new=tuple(etcd))
    kinds = {membership(one, holds_etcd=False) for one in facts.values()}
    if Membership.BEGUN_INIT not in kinds or Membership.BEGUN_JOIN in kinds or len(holding) < quorum:
        raise HaplaneError(
            "etcd holds the data of a cluster of which no finished node is left",
            where=", ".join(done),
            why="it may be the only copy, so no other cluster was begun in it",
            hint="if it is not needed: haplane reset, then haplane apply",
        )
    return replace(decision, etcd=holding, etcd_lost=others, empties_etcd=True)


def _control_plane(
    facts: Mapping[str, Facts], silent: Mapping[str, HaplaneError], identity: str, *, stacked: bool
) -> Decision:
    found = {name: membership(one, holds_etcd=stacked) for name, one in facts.items()}
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
            hint=f"{first.hint}\nmake it answer, then run this again: it may hold the cluster's data; "
            "where that is known to be elsewhere, --skip NAME leaves it out",
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
    if joined and stacked:
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
        _refuse_unless_same(name, facts[name].membership.partition(" ")[2], identity)


def _refuse_unless_same(name: str, made_as: str, identity: str) -> None:
    if made_as != identity:
        raise HaplaneError(
            "what cannot change after a cluster was made differs from the file",
            where=name,
            why=f"made as: {made_as}\nthe file: {identity}",
            hint="put the old values back; haplane cannot upgrade or rename a cluster yet. "
            "To make a new one instead, with the loss of all data: haplane reset, then haplane apply",
        )
