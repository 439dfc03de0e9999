"""Do the machines reach each other as the cluster needs it? Pure."""

from __future__ import annotations

from collections.abc import Iterator

from haplane.components import etcd
from haplane.components.base import join_host_port
from haplane.design.hazards.finding import Severity
from haplane.model.cluster import Address, Cluster, EndpointOwner, Machine
from haplane.model.roles import etcd_members, everyone, managed
from haplane.observe.preflight.asking import peers_of
from haplane.observe.preflight.check import NotTried, Said, Seen, Trouble, check
from haplane.observe.preflight.meeting import (
    VXLAN_PORT,
    connections,
    connects_to_endpoint,
    outer_addresses,
    wrapped_from,
    wraps_pods,
)
from haplane.observe.preflight.probe import Part, Probe

# Of 40 echoes 2: with keepalived's 3 adverts and HAProxy's checks it starts to matter.
LOSS = 0.05
# EPERM: what OUTPUT of a packet filter drops, sendto(2) says to the sender.
FORBIDDEN = "Operation not permitted"


@check(
    "ports-open",
    hazard="net-ports-closed",
    sentence="every machine reaches the ports of the others that it needs",
    cure="open the port in the firewall between the two (kubernetes.io: ports and protocols)",
    concerns=everyone,
    needs=Part.MEETING,
)
def ports_open(seen: Seen) -> Iterator[Said]:
    for one in connections(seen.cluster):
        if one.source not in seen.machines:
            continue
        state = seen.machines[one.source].meeting.connects.get((one.address, one.port), "")
        target = seen.all.get(one.target)
        if state == "open":
            continue
        unheard = target.missing.get(Part.MEETING, "") if target else "it was not reached"
        deaf = target.meeting.failed.get(f"listen {one.port}", "") if target else ""
        if unheard or deaf:
            yield NotTried(one.source, f"port {one.port} of {one.target}: nobody could listen there: {unheard or deaf}")
        elif not state:
            yield NotTried(one.source, f"port {one.port} of {one.target} was not tried")
        else:
            how = "no answer" if state == "silent" else state.lower()
            yield Trouble(one.source, f"port {one.port} of {one.target} ({one.purpose}): {how}")


@check(
    "pods-packets-arrive",
    hazard="net-ports-closed",
    sentence="packets of pods arrive from other nodes, wrapped as flannel wraps them",
    cure=f"open UDP port {VXLAN_PORT} in the firewall between all nodes; or kubernetes: {{flannel: {{backend: "
    "host-gw}}",
    concerns=wraps_pods,
    needs=Part.MEETING,
)
def pods_packets_arrive(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        for other, source, to in wrapped_from(seen.cluster, seen.cluster.machines[name]):
            deaf = probe.meeting.failed.get("datagrams", "")
            sender = seen.all.get(other.name)
            if _forbids(sender, to):
                yield Trouble(other.name, f"its own firewall forbids datagrams to UDP port {VXLAN_PORT} of {to}")
            elif why := deaf or _carried_none(sender, to):
                yield NotTried(name, f"UDP port {VXLAN_PORT}, from {other.name}: {why}")
            elif source not in probe.meeting.caught:
                yield Trouble(name, f"no datagram of {other.name} to UDP port {VXLAN_PORT} of {to} arrived")


def _forbids(probe: Probe | None, to: Address) -> bool:
    """Did nothing get off that machine for its own firewall?"""
    if probe is None or to in probe.meeting.carried:
        return False
    return probe.meeting.failed.get(f"datagram to {to}", "") == FORBIDDEN


def _carried_none(probe: Probe | None, to: Address) -> str:
    """Why nothing was sent there; empty if something was."""
    if probe is None:
        return "it was not reached"
    if Part.MEETING in probe.missing:
        return probe.missing[Part.MEETING]
    failed = probe.meeting.failed
    why = failed.get(f"datagram to {to}", "") or failed.get("datagrams", "") or "it sent none"
    return "" if to in probe.meeting.carried else why


def _by_another(cluster: Cluster, machine: Machine) -> bool:
    return cluster.endpoint.by is EndpointOwner.EXTERNAL and connects_to_endpoint(machine)


@check(
    "endpoint-answers",
    hazard="lb-external-hairpin",
    sentence="a load balancer of yours that owns the endpoint answers every machine, each time",
    cure="let it forward TCP to every balancer, without preserving client addresses; open the way to it",
    concerns=_by_another,
    needs=Part.MEETING,
)
def endpoint_answers(seen: Seen) -> Iterator[Said]:
    port = seen.cluster.endpoint.port
    exists = any(probe.host.is_node for probe in seen.all.values())
    for name, probe in seen.machines.items():
        for address in outer_addresses(seen.cluster, seen.cluster.machines[name]):
            place, found = join_host_port(address, port), probe.meeting.again.get((address, port))
            if found is None or not found.tried:
                yield NotTried(name, f"{place} was not tried")
            elif found.silent == found.tried:
                # Some drop what they have nobody for, and before the cluster is made there is nobody.
                severity = Severity.ERROR if exists else Severity.WARNING
                yield Trouble(name, f"none of {found.tried} connections to {place} was answered", severity)
            elif found.silent:
                because = f"{found.silent} of {found.tried} connections to {place} hang, the others are answered"
                yield Trouble(name, f"{because}: are they sent back to the machine that made them?")
            elif found.refused and exists:
                yield Trouble(name, f"{found.refused} of {found.tried} connections to {place} were refused")
            elif found.refused:
                yield NotTried(name, f"{place} refuses: it answers, and says that nobody is behind it yet")


@check(
    "no-loss",
    sentence="packets between machines are not lost",
    cure="look at the interface's errors (ip -s link), the cable, the switch port, an overloaded hypervisor",
    concerns=managed,
    needs=Part.ASKING,
)
def no_loss(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        for peer in peers_of(seen.cluster, seen.cluster.machines[name]):
            lost, asked = probe.asking.echo_lost.get(peer.address, (0, 0))
            if not asked or lost == asked:
                why = probe.asking.failed.get("echo", "it does not answer echo requests (ICMP)")
                yield NotTried(name, f"{peer.name}: {why}")
            elif lost / asked >= LOSS:
                yield Trouble(name, f"{lost} of {asked} echo requests to {peer.name} were lost", Severity.WARNING)


@check(
    "etcd-timers-fit",
    hazard="etcd-timing",
    sentence="etcd's timers are longer than the way between its members asks for",
    cure="leave etcd.heartbeat and etcd.election out of cluster.yaml, or lengthen them",
    concerns=etcd_members,
    needs=Part.ASKING,
)
def etcd_timers_fit(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        view = seen.view(name)
        heartbeat_ms, election_ms = etcd.heartbeat_ms(view), etcd.election_ms(view)
        for peer in seen.cluster.etcd_members:
            if peer.name == name:
                continue
            trip = probe.asking.trips.get(peer.address)
            if trip is None:
                yield NotTried(name, f"the round trip to {peer.name} could not be measured")
            elif trip.mean_ms > heartbeat_ms or 10 * trip.worst_ms > election_ms:
                yield Trouble(
                    name,
                    f"round trip to {peer.name} ({trip.how}): mean {trip.mean_ms:.2f} ms, worst {trip.worst_ms:.2f} ms;"
                    f" heartbeat {heartbeat_ms} ms, election {election_ms} ms (tenfold of the worst is needed)",
                    Severity.WARNING,
                )


@check(
    "mtu-equal",
    hazard="net-mtu",
    sentence="interfaces of the cluster's network have the same MTU",
    cure="ip link set dev INTERFACE mtu N on all, and in the network's configuration",
    concerns=managed,
)
def mtu_equal(seen: Seen) -> Iterator[Said]:
    found: dict[str, int] = {}
    for name, probe in seen.machines.items():
        link = probe.host.links.get(probe.host.interface_of(seen.cluster.machines[name].address))
        if link:
            found[name] = link.mtu
        else:
            yield NotTried(name, f"no interface has {seen.cluster.machines[name].address}")
    smallest = min(found.values(), default=0)
    for name, mtu in found.items():
        if mtu > smallest:
            others = ", ".join(other for other, one in found.items() if one == smallest)
            yield Trouble(name, f"its MTU is {mtu}; that of {others} is {smallest}")


@check(
    "full-packets-pass",
    hazard="net-mtu",
    sentence="packets of full size pass between machines uncut",
    cure="find the hop with the smaller MTU (tracepath), and raise it or lower the machines'",
    concerns=managed,
    needs=Part.ASKING,
)
def full_packets_pass(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        for peer in peers_of(seen.cluster, seen.cluster.machines[name]):
            size, passed = probe.asking.full.get(peer.address, (0, False))
            lost, asked = probe.asking.echo_lost.get(peer.address, (0, 0))
            if not size:
                why = probe.asking.failed.get("echo", "it does not answer echo requests (ICMP)")
                yield NotTried(name, f"{peer.name}: {why}")
            elif not passed and asked and lost / asked >= 0.5:
                yield NotTried(name, f"{peer.name}: {lost} of {asked} small packets were lost as well")
            elif not passed:
                yield Trouble(name, f"a packet of {size} bytes to {peer.name} does not come back; small ones do")


@check(
    "rp-filter",
    hazard="net-rp-filter",
    sentence="answers leave by the interface that the question came in by, or nobody minds",
    cure="net.ipv4.conf.all.rp_filter = 2, or a route by the same interface",
    concerns=managed,
)
def rp_filter(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        host = probe.host
        own = host.interface_of(seen.cluster.machines[name].address)
        if not own:
            yield NotTried(name, f"no interface has {seen.cluster.machines[name].address}")
            continue
        # ip-sysctl: the greater of all and the interface's own counts; 1 is strict.
        if max(host.rp_filter.get("all", 0), host.rp_filter.get(own, 0)) != 1:
            continue
        for peer, machine in ((one.address, one) for one in seen.cluster.machines.values() if one.name != name):
            if peer.version == 6:
                continue
            way = host.routes.get(peer, "")
            if not way:
                yield NotTried(name, f"there is no way to {machine.name} ({peer})")
            elif way != own:
                evidence = f"{own} drops packets of {machine.name} ({peer}): the way back to it is {way}"
                yield Trouble(name, f"{evidence}, and rp_filter is 1", Severity.WARNING)
