"""Phase that takes out of the cluster what haplane applied there and the file asks for no more.

What that is, the manifests say that were applied last: they stay on control-plane machines until it is gone. Pods that
have an address of the pods' network would lose it, their services or their names at once: while there are any, it is
refused. Pods in a machine's own network are not looked at: who asks for services or names there is not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from haplane.components import addons
from haplane.components.addons import MANIFESTS_FILE
from haplane.components.kubernetes import KUBECONFIG
from haplane.model.errors import HaplaneError
from haplane.observe.facts import LOADED
from haplane.phases.change import Change
from haplane.phases.context import Context, Phase

DELETED_WITHIN_S = 120
# How many pods a refusal names.
NAMED = 3
MARKER = f"{LOADED}/addons"

# The last line: who wrote that file in the meantime is somebody else.
TAKE_LINKS = f"""\
{addons.TAKE_FLANNELS_LINKS}
rm -rf /run/flannel /var/lib/cni/flannel /var/lib/cni/networks/haplane
file=/etc/cni/net.d/10-haplane.conflist
if grep -q '"type": "flannel"' $file 2>/dev/null; then rm -f $file; fi
"""
RESTART_COREDNS = (
    f"kubectl {KUBECONFIG} --namespace {addons.SYSTEM} delete pods --wait=false -l k8s-app={addons.DNS_LABEL}"
)


@dataclass(frozen=True)
class Object:
    """One object of the cluster, as its manifest names it. namespace: empty where its kind has none.

    version: of its group; the same object may be asked for in several.
    """

    group: str
    kind: str
    namespace: str
    name: str
    version: str = field(compare=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


def objects(text: str) -> tuple[Object, ...]:
    """Of a file of manifests, in its order. Raises ValueError when it is none."""
    try:
        found = [one for one in yaml.safe_load_all(text) if one]
        return tuple(_object(one["apiVersion"], one["kind"], one["metadata"]) for one in found)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None


def _object(api_version: str, kind: str, metadata: Mapping[str, str]) -> Object:
    group, _, version = api_version.rpartition("/")
    return Object(group, kind, metadata.get("namespace", ""), metadata["name"], version)


def gone(before: str, after: str) -> tuple[Object, ...]:
    """Objects that the manifests have no more, users first. Namespaces stay: what else is in them is not haplane's."""
    left = set(objects(after))
    return tuple(one for one in reversed(objects(before)) if one not in left and one.kind != "Namespace")


def workloads(of: Iterable[Object]) -> dict[str, Object]:
    """Name of the add-on -> its DaemonSet or Deployment, of those that are among these objects."""
    names = {place: name for name, place in {**addons.DAEMON_SETS, **addons.DEPLOYMENTS}.items()}
    found = {names.get((one.namespace, one.name)): one for one in of if one.kind in ("DaemonSet", "Deployment")}
    return {name: found[name] for name in (addons.FLANNEL, addons.KUBE_PROXY, addons.COREDNS) if name in found}


PODS = (
    f"kubectl {KUBECONFIG} get pods --all-namespaces --no-headers -o custom-columns="
    "NAMESPACE:.metadata.namespace,NAME:.metadata.name,HOST:.spec.hostNetwork,PHASE:.status.phase,"
    "APP:.metadata.labels.k8s-app"
)


def using_the_network(said: str) -> tuple[str, ...]:
    """Output of PODS -> NAMESPACE/NAME of pods that have an address of the pods' network, but for haplane's own."""
    rows = [line.split() for line in said.splitlines()]
    return tuple(
        f"{namespace}/{name}"
        for namespace, name, on_host, phase, app in (row for row in rows if len(row) == 5)
        if on_host != "true"
        and phase not in ("Succeeded", "Failed")
        and (namespace, app) != (addons.SYSTEM, addons.DNS_LABEL)
    )


@dataclass(frozen=True)
class _Going:
    """objects: those to delete; names: of the add-ons that go. leftovers: what they leave on each node goes, too."""

    objects: tuple[Object, ...] = ()
    names: tuple[str, ...] = ()
    leftovers: bool = False

    def leaves(self, name: str) -> bool:
        return self.leftovers and name in self.names


class RemoveAddOns(Phase):
    """One machine looks, and deletes; then what they leave in the kernel goes on all nodes, and at last the manifests.

    A death in between makes the next apply begin anew: deleting what is gone is nothing.
    """

    title = "Take away add-ons that the file does not ask for any more"

    def __init__(self) -> None:
        self._looked: asyncio.Future[_Going] | None = None
        self._deleted = asyncio.Event()
        self._nodes_left = 0
        self._nothing_left = asyncio.Event()

    def machines(self, context: Context) -> Sequence[str]:
        return context.of(context.cluster.nodes) if _keeping(context) else ()

    async def run(self, context: Context, do: Change) -> None:
        if self._looked is None:
            self._looked = asyncio.get_running_loop().create_future()
            self._nodes_left = len(self.machines(context))
        keeping = _keeping(context)
        if do.machine == keeping[0]:
            going = await _look(context, do)
            self._looked.set_result(going)
            if going.objects:
                named = ", ".join(going.names) or ", ".join(one.name for one in going.objects)
                unused = ", as no pod has an address of the pods' network" if going.names and going.leftovers else ""
                await do.do(f"delete {named} from the cluster{unused}", lambda: _delete(context, do, going))
            self._deleted.set()
        going = await self._looked
        if going.leaves(addons.FLANNEL):
            shown_as = "ip link delete cni0, flannel.1"
            await do.do("take away flannel's links and routes", lambda: self._take(do, TAKE_LINKS, shown_as))
        if going.leaves(addons.KUBE_PROXY):
            shown_as = "nft delete table kube-proxy"
            await do.do("take away kube-proxy's rules", lambda: self._take(do, addons.TAKE_PROXYS_RULES, shown_as))
        self._nodes_left -= 1
        if not self._nodes_left:
            self._nothing_left.set()
        if do.machine == keeping[0] and going.leaves(addons.FLANNEL) and addons.COREDNS in context.cluster.addons:
            await do.do("start coredns anew, in whatever network there is then", lambda: self._restart(do))
        if do.machine in keeping and "addons" not in context.design.components(do.machine):
            await do.do(f"remove {MANIFESTS_FILE}", lambda: self._forget(do))

    async def _take(self, do: Change, script: str, shown_as: str) -> None:
        await self._deleted.wait()
        await do.sh(script, shown_as=shown_as)

    async def _restart(self, do: Change) -> None:
        await self._nothing_left.wait()
        await do.sh(RESTART_COREDNS, shown_as=RESTART_COREDNS)

    async def _forget(self, do: Change) -> None:
        await self._deleted.wait()
        await self._nothing_left.wait()
        await do.sh(f"rm -f {MANIFESTS_FILE}\nrm -f {MARKER}", shown_as=f"rm {MANIFESTS_FILE} {MARKER}")


def _keeping(context: Context) -> tuple[str, ...]:
    """Nodes of the cluster whose manifests are not those of the design, the seed first."""
    if not context.is_live:
        return ()
    seed = context.seed()
    found = [name for name in context.decision.members if name in context.facts and _is_behind(context, name)]
    return tuple(sorted(found, key=lambda name: name != seed))


def _is_behind(context: Context, name: str) -> bool:
    facts, design = context.facts[name], context.design.components(name).get("addons")
    if "addons" not in facts.loaded:
        return False
    return design is None or any(
        file.path in facts.files and facts.files[file.path].sha256 != file.sha256 for file in design.files
    )


async def _look(context: Context, do: Change) -> _Going:
    """Reads only. Raises HaplaneError where pods use what would go."""
    design = context.design.components(do.machine).get("addons")
    before = (await do.remote.run(f"cat {MANIFESTS_FILE}", check=False, shown_as=f"read {MANIFESTS_FILE}")).stdout
    after = "".join(file.content for file in design.files) if design else ""
    try:
        going = gone(before, after)
    except ValueError as error:
        if design:
            # Somebody broke it; it is written anew.
            return _Going()
        raise HaplaneError(
            "what haplane applied to the cluster cannot be read any more, so it cannot be deleted",
            where=f"{do.machine}: {MANIFESTS_FILE}",
            why=str(error),
            hint=f"delete it yourself, then: rm -f {MANIFESTS_FILE} {MARKER} on all control-plane machines",
        ) from None
    if not going:
        return _Going()
    programs = workloads(going)
    if not programs:
        return _Going(going)
    users = using_the_network((await do.remote.run(PODS, shown_as=PODS)).stdout)
    if users:
        there = {name: one for name, one in programs.items() if await _is_there(do, one)}
        if there:
            raise _refusal(context, there, users)
    return _Going(going, tuple(programs), leftovers=not users)


async def _is_there(do: Change, one: Object) -> bool:
    ask = f"kubectl {KUBECONFIG} --namespace {one.namespace} get --ignore-not-found -o name {one.kind}/{one.name}"
    return bool((await do.remote.run(ask, shown_as=ask)).stdout.strip())


def _refusal(context: Context, there: dict[str, Object], users: Sequence[str]) -> HaplaneError:
    names = ", ".join(there)
    cluster = context.cluster
    more = f" and {len(users) - NAMED} more" if len(users) > NAMED else ""
    keepers = ", ".join(one.name for one in cluster.control_plane)
    what = {addons.FLANNEL: "their network", addons.KUBE_PROXY: "services", addons.COREDNS: "names"}
    return HaplaneError(
        f"{names} {'is' if len(there) == 1 else 'are'} not in the file any more, and there are pods with an address of "
        "the pods' network: nothing was changed",
        where=str(cluster.where("kubernetes", "cni")),
        why=f"{', '.join(users[:NAMED])}{more} would lose {', '.join(what[name] for name in there)}",
        hint="put it back (kubernetes.cni: flannel; kube-proxy and coredns are there for workers, too); "
        "or delete these pods and what makes them, then run this again; "
        f"or keep {names} as your own, of which haplane knows nothing any more: on {keepers}: "
        f"rm -f {MANIFESTS_FILE} {MARKER}",
    )


async def _delete(context: Context, do: Change, going: _Going) -> None:
    manifests = [
        {
            "apiVersion": one.api_version,
            "kind": one.kind,
            "metadata": {"name": one.name, **({"namespace": one.namespace} if one.namespace else {})},
        }
        for one in going.objects
    ]
    text = yaml.safe_dump_all(manifests)
    # Foreground: it waits for the pods, too, whose links go next. Those of a dead node never end, so that then only the
    # others are waited for.
    waits = context.every_node_answers
    how = f"--cascade=foreground --wait --timeout={DELETED_WITHIN_S}s" if waits else "--cascade=background --wait=false"
    command = f"kubectl {KUBECONFIG} delete --ignore-not-found {how} -f -"
    await do.sh(command, shown_as=command, stdin=text.encode(), timeout_s=DELETED_WITHIN_S + 30)
    if not waits and (script := _wait_for_pods(context, going)):
        await do.sh(script, shown_as="wait until their pods have ended", timeout_s=DELETED_WITHIN_S + 30)


def _wait_for_pods(context: Context, going: _Going) -> str:
    """Until there are none of these add-ons on nodes that answer. Empty: there is nothing to wait for."""
    silent = ",".join(f"spec.nodeName!={one.name}" for one in context.cluster.nodes if one.name not in context.facts)
    labels = {addons.FLANNEL: addons.FLANNEL, addons.KUBE_PROXY: addons.KUBE_PROXY, addons.COREDNS: addons.DNS_LABEL}
    of = ",".join(labels[name] for name in going.names)
    ask = f"kubectl {KUBECONFIG} get pods --all-namespaces -o name -l 'k8s-app in ({of})' --field-selector {silent}"
    # A minute is twice what they are given to end. Whoever is still there then is somebody else's of the same label.
    return (
        of
        and f"""for i in $(seq 120); do
  pods=$({ask}) || exit 1
  if [ -z "$pods" ]; then exit 0; fi
  sleep 1
done
"""
    )
