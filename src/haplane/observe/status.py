"""Live status of a cluster: one command per machine, parsed by pure functions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from haplane.components import addons, balancer_watch, etcd, etcd_watch, haproxy, keepalived, waiting
from haplane.components.balancer import balancer_of
from haplane.components.base import join_host_port
from haplane.components.kubernetes import AS_ADMINISTRATOR, PKI
from haplane.model.bundle import Addon
from haplane.model.cluster import APISERVER_PORT, Cluster, Cni, Machine
from haplane.model.errors import HaplaneError
from haplane.transport.ssh import Fleet, Remote

LEASES = ("kube-controller-manager", "kube-scheduler")
# A lease that was not renewed for longer than its duration has no holder, whatever it says.
LEASE_FRESH_S = 15


@dataclass(frozen=True)
class EtcdMember:
    name: str
    id: str
    is_learner: bool


@dataclass(frozen=True)
class Lease:
    """Who acts. holder: the machine's name; age_s: since it was last renewed, by that machine's clock."""

    name: str
    holder: str
    age_s: float

    @property
    def is_held(self) -> bool:
        return bool(self.holder) and self.age_s <= LEASE_FRESH_S


@dataclass(frozen=True)
class AddOn:
    """What runs in the cluster for the sake of pods. machines: where pods of it are ready, as far as that is asked."""

    name: str
    ready: int
    wanted: int
    machines: frozenset[str] = frozenset()

    def problems(self, *, nodes: int) -> Iterator[str]:
        """nodes: how many there are."""
        title = "CoreDNS" if self.name == Addon.COREDNS else self.name
        if self.ready < self.wanted:
            yield f"{title}: {self.ready} of {self.wanted} ready"
        if self.ready > 1 and len(self.machines) == 1 and nodes > 1:
            yield f"{title}: all on one node ({', '.join(self.machines)})"


@dataclass(frozen=True)
class MachineStatus:
    """What one machine says; what it has no part in stays empty. unreachable: why it could not be asked. servers:
    HAProxy's view, by apiserver; nginx says nothing of them.
    """

    name: str
    unreachable: str = ""
    holds_vip: bool = False
    vrrp_state: str = ""
    servers: Mapping[str, haproxy.Server] = field(default_factory=dict)
    ready: bool = False
    ready_reason: str = ""
    etcd_id: str = ""
    etcd_leader: str = ""
    etcd_error: str = ""
    members: tuple[EtcdMember, ...] = ()
    leases: tuple[Lease, ...] = ()
    nodes: Mapping[str, bool] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    add_ons: Mapping[str, AddOn] = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterStatus:
    cluster: Cluster
    machines: tuple[MachineStatus, ...]

    @property
    def holders(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.machines if one.holds_vip)

    @property
    def members(self) -> tuple[EtcdMember, ...]:
        """As the first machine that could ask says. Names are those of machines."""
        return next((one.members for one in self.machines if one.members), ())

    @property
    def etcd_leader(self) -> str:
        """The leader's machine, when all that answer agree; else empty."""
        leaders = {one.etcd_leader for one in self.machines if one.etcd_leader}
        by_id = {one.etcd_id: one.name for one in self.machines if one.etcd_id}
        return by_id.get(leaders.pop(), "") if len(leaders) == 1 else ""

    @property
    def leases(self) -> Mapping[str, Lease]:
        found: dict[str, Lease] = {}
        for machine in self.machines:
            for lease in machine.leases:
                # Two machines may answer with different caches: the fresher word counts.
                if lease.name not in found or lease.age_s < found[lease.name].age_s:
                    found[lease.name] = lease
        return found

    @property
    def nodes(self) -> Mapping[str, bool]:
        return next((one.nodes for one in self.machines if one.nodes), {})

    @property
    def add_ons(self) -> tuple[AddOn, ...]:
        """As the first machine that could ask says; those that are missing have nothing that is ready."""
        found = next((one.add_ons for one in self.machines if one.add_ons), {})
        return tuple(found.get(name, AddOn(name, 0, 1)) for name in addons.in_order(self.cluster))

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is not whole, one sentence each."""
        cluster, found = self.cluster, list[str]()
        for one in self.machines:
            if one.unreachable:
                found.append(f"{one.name} cannot be reached: {one.unreachable}")
            else:
                found += [f"{one.name}: {problem}" for problem in self._problems_of(one)]
        if cluster.vip_sharers and len(self.holders) != 1:
            found.append(f"{len(self.holders)} machines hold the VIP, not one: {', '.join(self.holders) or 'none'}")
        members = {member.name for member in self.members if not member.is_learner}
        names = [machine.name for machine in cluster.etcd_members]
        if members != set(names):
            found.append(f"etcd's voters are {', '.join(sorted(members)) or 'unknown'}, not {', '.join(names)}")
        if not self.etcd_leader:
            found.append("etcd has no leader that all members agree on")
        found += [f"no active {name}" for name in LEASES if not (name in self.leases and self.leases[name].is_held)]
        if cluster.kubernetes.cni is not Cni.NONE:
            found += [f"node {one.name} is not Ready" for one in cluster.nodes if not self.nodes.get(one.name)]
            # With a network of somebody else's that is not there yet, they wait for it.
            found += [problem for one in self.add_ons for problem in one.problems(nodes=len(cluster.nodes))]
        return tuple(found)

    def _problems_of(self, one: MachineStatus) -> Iterator[str]:
        """What is not whole on a machine, by the parts that it has."""
        cluster, machine = self.cluster, self.cluster.machines[one.name]
        if machine in cluster.control_plane and not one.ready:
            yield f"its apiserver is not ready ({one.ready_reason or 'no answer'})"
        if machine in cluster.running_balancer and says_who_is_up(cluster):
            up = {name for name, server in one.servers.items() if server.status == "UP"}
            names = [server.name for server in cluster.control_plane]
            yield from (f"its balancer sees {name} as not up" for name in names if name not in up)
        if machine in cluster.vip_sharers:
            if one.vrrp_state not in ("MASTER", "BACKUP"):
                yield f"keepalived is {one.vrrp_state or 'not running'}"
            if one.holds_vip != (one.vrrp_state == "MASTER"):
                there = "there" if one.holds_vip else "not there"
                yield f"VRRP says {one.vrrp_state or 'nothing'}, but the VIP is {there}"
        if machine in cluster.etcd_members and one.etcd_error:
            yield f"its etcd member does not answer ({one.etcd_error})"
        yield from (f"{unit} is {state}" for unit, state in one.units.items() if state != "active")

    @property
    def is_whole(self) -> bool:
        return not self.problems


def says_who_is_up(cluster: Cluster) -> bool:
    """Whether balancers can be asked which apiservers they use."""
    balancer = balancer_of(cluster)
    return balancer is not None and balancer.knows_the_ready


def command(cluster: Cluster, machine: Machine) -> str:
    """Prints sections, each begun by a line `### NAME`. Every question is asked at once and bounded in time.

    It is asked while probes measure, and what it takes of the processors is not there for what serves: few processes.
    """
    questions = "\n".join(_questions(cluster, machine))
    files = " ".join(
        ["haproxy", "vrrp", "codes", "readyz", *map(_file_of, LEASES), "nodes", "addons", "etcd", "members"]
    )
    return f"""
PATH=$PATH:/usr/sbin:/sbin:/usr/local/bin
d=$(mktemp -d /run/haplane-status.XXXXXX) && cd "$d" || exit 1
{questions}
wait
cat add-on-* > addons 2>/dev/null
echo "### now"; date +%s.%N
echo "### vip"; ip -o addr show | awk -v a='{cluster.endpoint.vip.ip}' '{{split($4,p,"/"); if (p[1]==a) print $2}}'
echo "### units"; set -- {" ".join(_units(cluster, machine))}
systemctl is-active "$@" | while read state; do echo "$1 $state"; shift; done
for f in {files}; do [ ! -f $f ] || {{ echo; echo "### $f"; cat $f; }}; done
[ ! -f etcd ] || {{ echo; echo "### etcd-error"; head -c 300 etcd-error; }}
rm -rf "$d"
"""


def _units(cluster: Cluster, machine: Machine) -> Iterator[str]:
    balancer = balancer_of(cluster)
    if machine in cluster.nodes:
        yield from ("containerd", "kubelet")
    if machine in cluster.etcd_members and not cluster.is_stacked:
        yield "etcd"
    if machine in cluster.control_plane and not cluster.is_stacked:
        yield etcd_watch.UNIT_NAME.removesuffix(".service")
    if machine in cluster.running_balancer and balancer:
        yield balancer.name
    if machine in cluster.balancers and waiting.is_used(cluster):
        yield waiting.SERVICE.removesuffix(".service")
    if machine in cluster.vip_sharers:
        if balancer_watch.is_used(cluster):
            yield balancer_watch.UNIT_NAME.removesuffix(".service")
        yield "keepalived"


def _questions(cluster: Cluster, machine: Machine) -> Iterator[str]:
    """Shell commands that run side by side, each writing the file of its section."""
    if machine in cluster.running_balancer and says_who_is_up(cluster):
        yield f"{haproxy.STATUS_COMMAND} > haproxy 2>/dev/null &"
    if machine in cluster.vip_sharers:
        yield f"( {keepalived.STATUS_COMMAND} ) > vrrp 2>/dev/null &"
    if machine in cluster.etcd_members:
        ask = etcd.etcdctl(cluster)
        status, members = f"{ask} endpoint status -w json", f"{ask} member list -w json"
        yield f"{{ {status} > etcd 2> etcd-error; {members} > members 2>/dev/null; }} &"
    if machine not in cluster.control_plane:
        return
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    paths = {
        "readyz": "/readyz",
        "nodes": "/api/v1/nodes",
        **{_file_of(lease): f"{leases}/{lease}" for lease in LEASES},
    }
    if cluster.addons:
        paths |= {f"add-on-{index}": path for index, path in enumerate(_paths_of_add_ons(cluster))}
    local = f"https://{join_host_port(machine.address, APISERVER_PORT)}"
    asked = " ".join(f"--output {file} '{local}{path}'" for file, path in paths.items())
    # At once, over one connection.
    code = "--write-out '%{filename_effective} %{http_code}\\n'"
    yield f"{AS_ADMINISTRATOR} --parallel --max-time 3 {code} {asked} > codes 2>/dev/null &"


def _file_of(lease: str) -> str:
    return f"lease-{lease}"


def _paths_of_add_ons(cluster: Cluster) -> Iterator[str]:
    for name in addons.in_order(cluster):
        kind = "daemonsets" if name in addons.DAEMON_SETS else "deployments"
        namespace, found = {**addons.DAEMON_SETS, **addons.DEPLOYMENTS}[name]
        yield f"/apis/apps/v1/namespaces/{namespace}/{kind}/{found}"
    yield f"/api/v1/namespaces/{addons.SYSTEM}/pods?labelSelector=k8s-app%3D{addons.DNS_LABEL}"


def parse(name: str, output: str) -> MachineStatus:
    """Output of `command` -> MachineStatus. What is missing or broken stays empty: it is then a problem to show."""
    sections: dict[str, str] = {}
    for part in ("\n" + output).split("\n### ")[1:]:
        key, _, body = part.partition("\n")
        sections[key.strip()] = body.strip()
    now = float(sections.get("now") or 0)
    body, code = sections.get("readyz", ""), _pairs(sections.get("codes", "")).get("readyz", "000")
    answer = _json(sections.get("etcd", ""))
    state = answer[0] if isinstance(answer, list) and answer else None
    return MachineStatus(
        name=name,
        holds_vip=bool(sections.get("vip")),
        vrrp_state=keepalived.parse_state(sections.get("vrrp", "")),
        servers=haproxy.parse_servers(sections.get("haproxy", "")),
        ready=code == "200",
        ready_reason="" if code == "200" else (body.splitlines() or [f"HTTP {code}" if code != "000" else ""])[-1],
        etcd_id=_hex(state["Status"]["header"]["member_id"]) if state else "",
        etcd_leader=_hex(state["Status"].get("leader", 0)) if state else "",
        etcd_error="" if state or "etcd" not in sections else _last_error(sections.get("etcd-error", "")),
        members=_members(sections.get("members", "")),
        leases=tuple(
            _lease(lease, sections[_file_of(lease)], now) for lease in LEASES if sections.get(_file_of(lease))
        ),
        nodes=_nodes(sections.get("nodes", "")),
        add_ons=_add_ons(sections.get("addons", "")),
        units=_pairs(sections.get("units", "")),
    )


def _pairs(text: str) -> dict[str, str]:
    """By the first word of each line the rest."""
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)


async def read(cluster: Cluster) -> ClusterStatus:
    """Ask every machine at once. A machine that cannot be reached is shown as that."""
    async with Fleet(cluster.machines) as fleet:
        found = await fleet.connect_all(cluster.managed)
        return await read_from(cluster, found)


async def read_from(
    cluster: Cluster, remotes: Mapping[str, Remote | HaplaneError], *, at_once: int | None = None
) -> ClusterStatus:
    """As `read`, over connections that are open already. at_once: how many machines; None: all."""
    turns = asyncio.Semaphore(at_once or len(cluster.managed))

    async def one(machine: Machine) -> MachineStatus:
        remote = remotes[machine.name]
        if not isinstance(remote, Remote):
            return MachineStatus(machine.name, unreachable=remote.what)
        try:
            async with turns:
                done = await remote.run(command(cluster, machine), shown_as="read status", timeout_s=20)
        except HaplaneError as error:
            return MachineStatus(machine.name, unreachable=error.what)
        return parse(machine.name, done.stdout)

    return ClusterStatus(cluster, tuple(await asyncio.gather(*(one(machine) for machine in cluster.managed))))


async def until_whole(
    cluster: Cluster,
    *,
    within_s: float,
    on_problem: Callable[[str], None],
    connected: Mapping[str, Remote] | None = None,
) -> None:
    """Return when everything is whole; on_problem hears what is not, each time it was asked. Raises HaplaneError.

    Asked gently, because a probe may be measuring and questions take processors from what serves: one connection per
    machine (connected: those that there are), one machine after the other, as they may share processors, and the whole
    status only once every apiserver says that it is ready.
    """
    problems: tuple[str, ...] = ()
    remotes = dict(connected or {})
    try:
        async with asyncio.timeout(within_s), Fleet(cluster.machines) as fleet:
            while problems := (
                await _unready(cluster, fleet, remotes) or (await read_from(cluster, remotes, at_once=1)).problems
            ):
                on_problem(problems[0])
                await asyncio.sleep(1.5)
    except TimeoutError:
        raise HaplaneError(
            f"the cluster was not whole within {within_s:.0f} s",
            why="\n".join(problems),
            hint="haplane status shows each machine's view",
        ) from None


async def _unready(cluster: Cluster, fleet: Fleet, remotes: dict[str, Remote]) -> tuple[str, ...]:
    """Machines whose apiserver does not answer, as sentences. Adds to remotes those that can be reached again."""
    found = await fleet.connect_all(machine for machine in cluster.managed if machine.name not in remotes)
    remotes |= {name: one for name, one in found.items() if isinstance(one, Remote)}

    async def one(machine: Machine) -> str:
        if machine.name not in remotes:
            return f"{machine.name} cannot be reached"
        # Of other machines, only whether the connection lives.
        serves = machine in cluster.control_plane
        url = f"https://{join_host_port(machine.address, APISERVER_PORT)}/readyz"
        ask = f"curl --silent --fail --max-time 3 --output /dev/null --cacert {PKI}/ca.crt {url}" if serves else "true"
        try:
            done = await remotes[machine.name].run(ask, check=False, timeout_s=10)
        except HaplaneError:
            # Its connection ended with its power, perhaps silently; the next round logs in anew.
            del remotes[machine.name]
            return f"{machine.name} cannot be reached"
        return f"{machine.name}: its apiserver is not ready" if done.code else ""

    return tuple(filter(None, await asyncio.gather(*(one(machine) for machine in cluster.managed))))


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _hex(number: int) -> str:
    return f"{number:x}"


def _last_error(text: str) -> str:
    lines = text.strip().splitlines()
    if not lines:
        return "no answer"
    logged = _json(lines[-1])
    return str(logged.get("error") or logged.get("msg")) if isinstance(logged, dict) else lines[-1][:160]


def _members(text: str) -> tuple[EtcdMember, ...]:
    answer = _json(text)
    if not isinstance(answer, dict):
        return ()
    return tuple(
        EtcdMember(name=one.get("name", ""), id=_hex(one["ID"]), is_learner=bool(one.get("isLearner")))
        for one in answer.get("members", [])
    )


def _lease(name: str, text: str, now: float) -> Lease:
    from datetime import datetime

    answer = _json(text)
    spec = answer.get("spec", {}) if isinstance(answer, dict) else {}
    renewed = spec.get("renewTime")
    age = now - datetime.fromisoformat(renewed).timestamp() if renewed else float("inf")
    # holderIdentity is MACHINE_UUID.
    return Lease(name=name, holder=str(spec.get("holderIdentity") or "").rpartition("_")[0], age_s=age)


def _nodes(text: str) -> dict[str, bool]:
    answer = _json(text)
    if not isinstance(answer, dict):
        return {}
    return {node["metadata"]["name"]: _is_ready(node) for node in answer.get("items", [])}


def _is_ready(one: dict[str, Any]) -> bool:
    """A node or a pod."""
    conditions = one.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _add_ons(text: str) -> dict[str, AddOn]:
    """Answers to _paths_of_add_ons, one behind the other. What is not there answers with a Status: it is left out."""
    names = {found: name for name, found in {**addons.DAEMON_SETS, **addons.DEPLOYMENTS}.items()}
    found: dict[str, AddOn] = {}
    machines: frozenset[str] = frozenset()
    for answer in _several(text):
        metadata, status = answer.get("metadata", {}), answer.get("status", {})
        if answer.get("kind") == "PodList":
            machines = frozenset(pod["spec"].get("nodeName", "") for pod in answer.get("items", []) if _is_ready(pod))
            continue
        name = names.get((metadata.get("namespace", ""), metadata.get("name", "")))
        if name in addons.DAEMON_SETS:
            found[name] = AddOn(name, status.get("numberReady", 0), status.get("desiredNumberScheduled", 0))
        elif name:
            found[name] = AddOn(name, status.get("readyReplicas", 0), answer.get("spec", {}).get("replicas", 1))
    if Addon.COREDNS in found:
        found[Addon.COREDNS] = replace(found[Addon.COREDNS], machines=machines)
    return found


def _several(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects one behind the other; what is cut off is left out."""
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except ValueError:
            return
        if isinstance(value, dict):
            yield value
        rest = rest[end:].lstrip()
