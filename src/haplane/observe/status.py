"""Live status of a cluster: one command per machine, parsed by pure functions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from haplane.components import haproxy, keepalived
from haplane.components.balancer import balancer_of
from haplane.components.base import join_host_port
from haplane.model.cluster import APISERVER_PORT, Cluster, Machine
from haplane.model.errors import HaplaneError
from haplane.transport.ssh import Fleet, Remote, Unreachable

LEASES = ("kube-controller-manager", "kube-scheduler")
PKI = "/etc/kubernetes/pki"
ETCD_CLIENT = f"{PKI}/etcd/healthcheck-client"
ETCD = f"etcdctl --command-timeout 3s --cacert {PKI}/etcd/ca.crt --cert {ETCD_CLIENT}.crt --key {ETCD_CLIENT}.key"
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
class MachineStatus:
    """What one machine says. unreachable: why it could not be asked. servers: HAProxy's view, by apiserver; nginx says
    nothing of them.
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


@dataclass(frozen=True)
class ClusterStatus:
    cluster: Cluster
    machines: tuple[MachineStatus, ...]

    @property
    def holders(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.machines if one.holds_vip)

    @property
    def members(self) -> tuple[EtcdMember, ...]:
        """As the first machine that could ask says."""
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
    def problems(self) -> tuple[str, ...]:
        """Everything that is not whole, one sentence each."""
        names = [machine.name for machine in self.cluster.control_plane]
        found: list[str] = []
        for one in self.machines:
            if one.unreachable:
                found.append(f"{one.name} cannot be reached: {one.unreachable}")
                continue
            if not one.ready:
                found.append(f"{one.name}: its apiserver is not ready ({one.ready_reason or 'no answer'})")
            up = {name for name, server in one.servers.items() if server.status == "UP"}
            if says_who_is_up(self.cluster):
                found += [f"{one.name}: its balancer sees {name} as not up" for name in names if name not in up]
            if one.vrrp_state not in ("MASTER", "BACKUP"):
                found.append(f"{one.name}: keepalived is {one.vrrp_state or 'not running'}")
            if one.holds_vip != (one.vrrp_state == "MASTER"):
                found.append(
                    f"{one.name}: VRRP says {one.vrrp_state or 'nothing'}, but the VIP is "
                    f"{'there' if one.holds_vip else 'not there'}"
                )
            if one.etcd_error:
                found.append(f"{one.name}: its etcd member does not answer ({one.etcd_error})")
            found += [f"{one.name}: {unit} is {state}" for unit, state in one.units.items() if state != "active"]
        if len(self.holders) != 1:
            found.append(f"{len(self.holders)} machines hold the VIP, not one: {', '.join(self.holders) or 'none'}")
        members = {member.name for member in self.members if not member.is_learner}
        if members != set(names):
            found.append(f"etcd's voters are {', '.join(sorted(members)) or 'unknown'}, not {', '.join(names)}")
        if not self.etcd_leader:
            found.append("etcd has no leader that all members agree on")
        found += [f"no active {name}" for name in LEASES if not (name in self.leases and self.leases[name].is_held)]
        if self.cluster.kubernetes.cni.value != "none":
            found += [f"node {name} is not Ready" for name in names if not self.nodes.get(name)]
        return tuple(found)

    @property
    def is_whole(self) -> bool:
        return not self.problems


def says_who_is_up(cluster: Cluster) -> bool:
    """Whether balancers can be asked which apiservers they use."""
    balancer = balancer_of(cluster)
    return balancer is not None and balancer.knows_the_ready


def command(cluster: Cluster, machine: Machine) -> str:
    """Prints sections, each begun by a line `### NAME`. Every question is asked at once and bounded in time."""
    local = f"https://{join_host_port(machine.address, APISERVER_PORT)}"
    # The kubelet's client certificate of the apiserver may read what administrators may; curl starts ten times
    # quicker than kubectl.
    client = f"{PKI}/apiserver-kubelet-client"
    ask = f"curl --silent --max-time 3 --cacert {PKI}/ca.crt --cert {client}.crt --key {client}.key"
    leases = f"{local}/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    endpoint = "https://127.0.0.1:2379"
    balancer = balancer_of(cluster)
    units = " ".join(["containerd", "kubelet", *([balancer.name] if balancer else []), "keepalived"])
    files = " ".join(["haproxy", "readyz", *(f"lease-{lease}" for lease in LEASES), "nodes", "etcd", "members"])
    return f"""
PATH=$PATH:/usr/sbin:/sbin:/usr/local/bin
d=$(mktemp -d /run/haplane-status.XXXXXX) && cd "$d" || exit 1
{haproxy.STATUS_COMMAND if says_who_is_up(cluster) else "true"} > haproxy 2>/dev/null &
( {keepalived.STATUS_COMMAND} ) > vrrp 2>/dev/null &
{ask} --write-out '\\n%{{http_code}}' {local}/readyz > readyz 2>/dev/null &
for l in {" ".join(LEASES)}; do {ask} --fail {leases}/$l > lease-$l 2>/dev/null & done
{ask} --fail {local}/api/v1/nodes > nodes 2>/dev/null &
{{ {ETCD} --endpoints {endpoint} endpoint status -w json > etcd 2> etcd-error; \
{ETCD} --endpoints {endpoint} member list -w json > members 2>/dev/null; }} &
wait
echo "### now"; date +%s.%N
echo "### vip"; ip -o addr show | awk -v a='{cluster.endpoint.vip.ip}' '{{split($4,p,"/"); if (p[1]==a) print $2}}'
echo "### vrrp"; cat vrrp
echo "### units"; for u in {units}; do echo "$u $(systemctl is-active $u)"; done
for f in {files}; do echo; echo "### $f"; cat $f; done
echo; echo "### etcd-error"; head -c 300 etcd-error
rm -rf "$d"
"""


def parse(name: str, output: str) -> MachineStatus:
    """Output of `command` -> MachineStatus. What is missing or broken stays empty: it is then a problem to show."""
    sections: dict[str, str] = {}
    for part in ("\n" + output).split("\n### ")[1:]:
        key, _, body = part.partition("\n")
        sections[key.strip()] = body.strip()
    now = float(sections.get("now") or 0)
    body, _, code = sections.get("readyz", "").rpartition("\n")
    etcd = _json(sections.get("etcd", ""))
    state = etcd[0] if isinstance(etcd, list) and etcd else None
    return MachineStatus(
        name=name,
        holds_vip=bool(sections.get("vip")),
        vrrp_state=keepalived.parse_state(sections.get("vrrp", "")),
        servers=haproxy.parse_servers(sections.get("haproxy", "")),
        ready=code == "200",
        ready_reason=""
        if code == "200"
        else (body.strip().splitlines() or [f"HTTP {code}" if code != "000" else ""])[-1],
        etcd_id=_hex(state["Status"]["header"]["member_id"]) if state else "",
        etcd_leader=_hex(state["Status"].get("leader", 0)) if state else "",
        etcd_error="" if state else _last_error(sections.get("etcd-error", "")),
        members=_members(sections.get("members", "")),
        leases=tuple(
            _lease(lease, sections.get(f"lease-{lease}", ""), now) for lease in LEASES if sections.get(f"lease-{lease}")
        ),
        nodes=_nodes(sections.get("nodes", "")),
        units=dict(line.split(" ", 1) for line in sections.get("units", "").splitlines() if " " in line),
    )


async def read(cluster: Cluster) -> ClusterStatus:
    """Ask every control-plane machine at once. A machine that cannot be reached is shown as that."""
    async with Fleet(cluster.machines) as fleet:
        found = await fleet.connect_all(cluster.control_plane)
        return await read_from(cluster, found)


async def read_from(cluster: Cluster, remotes: Mapping[str, Remote | HaplaneError]) -> ClusterStatus:
    """As `read`, over connections that are open already."""

    async def one(machine: Machine) -> MachineStatus:
        remote = remotes[machine.name]
        if not isinstance(remote, Remote):
            return MachineStatus(machine.name, unreachable=remote.what)
        try:
            done = await remote.run(command(cluster, machine), shown_as="read status", timeout_s=20)
        except HaplaneError as error:
            return MachineStatus(machine.name, unreachable=error.what)
        return parse(machine.name, done.stdout)

    return ClusterStatus(cluster, tuple(await asyncio.gather(*(one(machine) for machine in cluster.control_plane))))


async def until_whole(cluster: Cluster, *, within_s: float, on_problem: Callable[[str], None]) -> None:
    """Return when everything is whole; on_problem hears what is not, each time it was asked. Raises HaplaneError.

    Asked gently, because a probe may be measuring and questions take processors from what serves: one connection per
    machine, and the whole status only once every apiserver says that it is ready.
    """
    problems: tuple[str, ...] = ()
    remotes: dict[str, Remote] = {}
    try:
        async with asyncio.timeout(within_s), Fleet(cluster.machines) as fleet:
            while problems := await _unready(cluster, fleet, remotes) or (await read_from(cluster, remotes)).problems:
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
    found = await fleet.connect_all(machine for machine in cluster.control_plane if machine.name not in remotes)
    remotes |= {name: one for name, one in found.items() if isinstance(one, Remote)}

    async def one(machine: Machine) -> str:
        if machine.name not in remotes:
            return f"{machine.name} cannot be reached"
        url = f"https://{join_host_port(machine.address, APISERVER_PORT)}/readyz"
        ask = f"curl --silent --fail --max-time 3 --output /dev/null --cacert {PKI}/ca.crt {url}"
        try:
            done = await remotes[machine.name].run(ask, check=False, timeout_s=10)
        except Unreachable:
            # Its connection ended with its power; the next round logs in anew.
            del remotes[machine.name]
            return f"{machine.name} cannot be reached"
        return f"{machine.name}: its apiserver is not ready" if done.code else ""

    return tuple(filter(None, await asyncio.gather(*(one(machine) for machine in cluster.control_plane))))


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
    return {
        node["metadata"]["name"]: any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in node.get("status", {}).get("conditions", [])
        )
        for node in answer.get("items", [])
    }
