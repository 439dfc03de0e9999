"""Phases of an etcd on machines of its own: its certificates, its start, its changes, and members whose data is gone.

Beside apiservers kubeadm does all that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from haplane.components import etcd, etcd_watch
from haplane.components.base import join_host_port
from haplane.components.etcd import Leaf
from haplane.model.errors import HaplaneError
from haplane.observe.facts import Facts
from haplane.phases.certificates import authority_script, install_script, request_script, sign_script
from haplane.phases.change import Change
from haplane.phases.context import Context, Phase
from haplane.phases.create import mark
from haplane.phases.gates import etcd_answers, node_answers
from haplane.phases.lock import guard

START = "systemctl daemon-reload\nsystemctl enable -q etcd\nsystemctl restart --no-block etcd"
# Of a learner, until it has all that the leader has.
CATCHES_UP_WITHIN_S = 120


def keeper(context: Context) -> str | None:
    """Of whose etcd machines the CA's key is; else the first one makes it. None: nobody has it or may make it anew."""
    members = context.of(context.cluster.etcd_members)
    having = [name for name in members if context.facts[name].has_etcd_authority_key]
    if having:
        return having[0]
    return None if context.decision.etcd else members[0]


def fits(facts: Facts, leaf: Leaf, authority: str) -> bool:
    """authority: sha256 of the CA's certificate."""
    found = facts.certificates.get(leaf.cert)
    return found is not None and found.authority == authority and found.names == {*leaf.names}


class CreateEtcdAuthority(Phase):
    title = "Create etcd's certificate authority"

    def machines(self, context: Context) -> Sequence[str]:
        if not context.having("etcd"):
            return ()
        name = keeper(context)
        return [name] if name and not _has_authority(context.facts[name]) else []

    async def run(self, context: Context, do: Change) -> None:
        await do.do(
            "create the CA of etcd (its key stays on the machine)",
            lambda: do.sh(authority_script(etcd.PKI), shown_as="create the CA of etcd"),
        )


def _has_authority(facts: Facts) -> bool:
    return facts.has_etcd_authority_key and bool(facts.etcd_authority)


class IssueEtcdCertificates(Phase):
    """Keys are made where they are used, and stay. What travels is public: requests and certificates.

    A node that joins gets its apiserver's from kubeadm, with the other keys that nodes share; each renews its own.
    """

    title = "Issue etcd's certificates"

    def machines(self, context: Context) -> Sequence[str]:
        return tuple(name for name in context.facts if self._missing(context, name))

    def _missing(self, context: Context, name: str) -> list[Leaf]:
        members = context.of(context.cluster.etcd_members)
        nodes = (context.decision.init, *context.decision.members)
        wanted = [
            leaf
            for leaf in etcd.leaves(context.cluster, context.cluster.machines[name])
            if (leaf.cert == etcd.CLIENT_CERT and name in nodes) or (leaf.cert != etcd.CLIENT_CERT and name in members)
        ]
        if not wanted:
            return []
        by = keeper(context)
        authority = context.facts[by].etcd_authority if by and _has_authority(context.facts[by]) else ""
        if by is None:
            # Whoever has the certificate has it from the CA whose key is gone.
            having = [context.facts[one].etcd_authority for one in members]
            authority = next(filter(None, having), "")
        # What is undone first takes the node's certificates with it.
        undone = name in context.decision.clean
        return [
            leaf
            for leaf in wanted
            if not authority
            or (leaf.cert == etcd.CLIENT_CERT and undone)
            or not fits(context.facts[name], leaf, authority)
        ]

    async def run(self, context: Context, do: Change) -> None:
        by = keeper(context)
        for leaf in self._missing(context, do.machine):
            if by is None:
                left_out = [one.name for one in context.cluster.etcd_members if one.name not in context.facts]
                raise HaplaneError(
                    f"{do.machine} needs a certificate, and the key of etcd's CA is "
                    + ("not at hand" if left_out else "gone"),
                    where=f"{do.machine}: {leaf.cert}",
                    why=f"{etcd.PKI}/ca.key is on none of {', '.join(context.of(context.cluster.etcd_members))}, and "
                    "what another CA signs the members that run would not trust",
                    hint=(
                        f"if {', '.join(left_out)} has it: run this again without leaving it out; else "
                        if left_out
                        else ""
                    )
                    + f"put {etcd.PKI}/ca.key and ca.crt back on one of them from a backup, then run this again",
                )
            sentence = f"issue {leaf.cert}, signed on {by}; its key stays on {do.machine}"
            await do.do(sentence, partial(_issue, context, do, leaf, by))


async def _issue(context: Context, do: Change, leaf: Leaf, by: str) -> None:
    request = await do.sh(request_script(leaf), shown_as=f"make a key and a request for {leaf.cert}")
    signed = await context.remotes[by].run(
        guard(context.token) + sign_script(leaf, etcd.PKI),
        shown_as=f"sign {leaf.cert} of {do.machine}",
        stdin=request.stdout.encode(),
    )
    await do.sh(install_script(leaf), shown_as=f"verify and write {leaf.cert}", stdin=signed.stdout.encode())


class StartEtcd(Phase):
    """All side by side: none is ready before most are. A member is one once all have answered."""

    title = "Start etcd"

    def __init__(self) -> None:
        self._all_answer: asyncio.Barrier | None = None

    def machines(self, context: Context) -> Sequence[str]:
        decision = context.decision
        return tuple(name for name in (*decision.etcd_new, *decision.etcd) if self._is_to_start(context, name))

    def _is_to_start(self, context: Context, name: str) -> bool:
        facts = context.facts[name]
        if name in context.decision.etcd_new:
            return True
        is_active = facts.units.get("etcd.service", ("", ""))[1] == "active"
        word = facts.etcd_membership
        return not word.startswith("begun join") and not (is_active and word.startswith("done"))

    async def run(self, context: Context, do: Change) -> None:
        design = context.design.components(do.machine)["etcd"]
        await do.files(design)
        await do.do("start etcd, and wait until all members answer", lambda: self._start(context, do))

    async def _start(self, context: Context, do: Change) -> None:
        if self._all_answer is None:
            self._all_answer = asyncio.Barrier(len(self.machines(context)))
        begin = mark("begun new", context, etcd.MEMBERSHIP) if do.machine in context.decision.etcd_new else ""
        await do.sh(f"set -e\n{begin}\n{START}", shown_as="start etcd")
        await etcd_answers(context, do.machine)
        await self._all_answer.wait()
        await _become_member(context, do)


async def _become_member(context: Context, do: Change) -> None:
    await do.sh(f"set -e\n{mark('done', context, etcd.MEMBERSHIP)}", shown_as="remember that it is a member")
    do.remember(context.design.components(do.machine)["etcd"])
    await do.confirm()


class ChangeEtcd(Phase):
    """One member after the other, the leader last; a member whose data is gone is removed and joins anew.

    The others form a quorum meanwhile, which `decide` has seen to.
    """

    title = "Change etcd"
    rolls = True

    def machines(self, context: Context) -> Sequence[str]:
        started = StartEtcd().machines(context)
        changing = (*context.decision.etcd_lost, *context.decision.etcd)
        return tuple(name for name in changing if name not in started)

    def rolls_in(self, context: Context) -> bool:
        return bool(context.decision.etcd)

    def is_gated(self, context: Context, machine: str) -> bool:
        return machine in context.decision.etcd and not self._joins(context, machine)

    def _joins(self, context: Context, name: str) -> bool:
        word = context.facts[name].etcd_membership
        return name in context.decision.etcd_lost or word.startswith("begun join")

    async def order(self, context: Context, machines: Sequence[str]) -> list[str]:
        """Those whose data is gone first: until they are back, no other may be lost. Whoever joins already is the very
        first: etcd takes one learner at a time.
        """
        begun = {name for name in machines if context.facts[name].etcd_membership.startswith("begun join")}
        machines = sorted(machines, key=lambda name: (not self._joins(context, name), name not in begun))
        if context.dry or not any(_differs(context, name) for name in machines):
            return machines
        leader = ""
        for name in machines:
            done = await context.remotes[name].run(_leads(context), check=False, shown_as="who leads etcd")
            leader = name if done.code == 0 else leader
        return sorted(machines, key=lambda name: name == leader)

    async def run(self, context: Context, do: Change) -> None:
        design = context.design.components(do.machine)["etcd"]
        if self._joins(context, do.machine):
            await do.files(design)
            await do.do(
                "join the other members of etcd anew, without what it held before", lambda: self._join(context, do)
            )
        elif do.differs(design):
            others = [one for one in context.decision.etcd if one != do.machine]
            if others:
                script = f'e="{etcd.etcdctl(context.cluster)}"\n{etcd.GIVE_UP_THE_LEAD}'
                await do.do("let another member of etcd lead, if this one does", lambda: do.sh(script))
            await do.component(design)

    async def gate(self, context: Context, machine: str) -> None:
        await etcd_answers(context, machine)

    async def _join(self, context: Context, do: Change) -> None:
        me = context.cluster.machines[do.machine]
        seed = context.remotes[next(one for one in context.decision.etcd if one != do.machine)]
        if do.machine in context.decision.etcd_lost:
            await do.sh(
                f"set -e\nsystemctl stop etcd 2>/dev/null || true\n{mark('begun join', context, etcd.MEMBERSHIP)}",
                shown_as="remember that the join began",
            )
            script = guard(context.token) + _add_member(context, me.name)
            await seed.run(script, shown_as=f"make room for {me.name} among the members of etcd", timeout_s=120)
        # Once it has a log, it does not look any more at what is said there.
        await do.sh(f"set -e\n{_JOINING}\n{START}", shown_as="start etcd, which joins the others")
        script = guard(context.token) + _promote(context, me.name)
        await seed.run(script, shown_as=f"let {me.name} vote", timeout_s=CATCHES_UP_WITHIN_S * 3)
        await etcd_answers(context, do.machine)
        # Before it counts as a member: nobody comes back to it then, and etcd would go on with the other configuration.
        await do.sh(f"rm -f {etcd.JOINING_ENVIRONMENT} {etcd.JOINING}", shown_as="forget that it joins")
        await _become_member(context, do)


def _differs(context: Context, name: str) -> bool:
    """Is it as it was when it was asked? What runs is looked at by its own turn."""
    found = context.facts[name].loaded.get("etcd", "")
    return found != str(context.design.components(name)["etcd"].loaded)


# Read by etcd instead of its own file until it has joined.
_JOINING = f"""\
sed 's/^initial-cluster-state: new$/initial-cluster-state: existing/' {etcd.CONFIG_FILE} > {etcd.JOINING}
echo CONFIG={etcd.JOINING} > {etcd.JOINING_ENVIRONMENT}"""


def _leads(context: Context) -> str:
    """Exit code 0 on the machine of the leader."""
    return f"{etcd.etcdctl(context.cluster)} endpoint status -w fields | {etcd.LEADS}"


def _others(context: Context, machine: str) -> str:
    """etcdctl that asks the members that hold data but this one."""
    members = [context.cluster.machines[name] for name in context.decision.etcd if name != machine]
    urls = ",".join(f"https://{join_host_port(one.address, etcd.CLIENT_PORT)}" for one in members)
    return etcd.etcdctl(context.cluster, endpoints=urls)


def _add_member(context: Context, machine: str) -> str:
    """The member that it was counts for quorum until it is removed; the new one only once it may vote.

    A member that was added by an earlier run and never started is as good as a new one.
    """
    url = etcd.peer_url(context.cluster.machines[machine])
    return f"""set -e
e="{_others(context, machine)}"
add() {{
  for i in $(seq 30); do
    if $e member add {machine} --peer-urls={url} --learner; then return 0; fi
    sleep 1
  done
  return 1
}}
list=$($e member list)
mine=$(printf '%s\\n' "$list" | grep -F '{url},' || true)
case $mine in
  '') add ;;
  *', unstarted,'*) ;;
  *) $e member remove "${{mine%%,*}}"; add ;;
esac
"""


def _promote(context: Context, machine: str) -> str:
    url = etcd.peer_url(context.cluster.machines[machine])
    return f"""e="{_others(context, machine)}"
for i in $(seq {CATCHES_UP_WITHIN_S}); do
  mine=$($e member list | grep -F '{url},')
  case $mine in
    *', started,'*', false') exit 0 ;;
    *', started,'*', true') said=$($e member promote "${{mine%%,*}}" 2>&1) && exit 0 ;;
    *) said="member list: $mine" ;;
  esac
  sleep 1
done
echo "$said" >&2
exit 1
"""


class EmptyEtcd(Phase):
    """kubeadm that was cut short may have left there what the next one, with another CA, would not understand.

    Only where no node was ever finished; `decide` refuses where one may have been.
    """

    title = "Undo what kubeadm left in etcd"

    def machines(self, context: Context) -> Sequence[str]:
        return context.decision.etcd[:1] if context.decision.empties_etcd else ()

    async def run(self, context: Context, do: Change) -> None:
        script = f'{etcd.etcdctl(context.cluster)} del "" --from-key > /dev/null'
        await do.do("empty etcd: no node of the cluster was ever finished", lambda: do.sh(script, shown_as=script))


class WatchEtcd(Phase):
    title = "Watch for members of etcd that fall silent"
    rolls = True

    def machines(self, context: Context) -> Sequence[str]:
        return context.having(etcd_watch.NAME)

    async def run(self, context: Context, do: Change) -> None:
        await do.component(context.design.components(do.machine)[etcd_watch.NAME])

    async def gate(self, context: Context, machine: str) -> None:
        await node_answers(context, machine)
