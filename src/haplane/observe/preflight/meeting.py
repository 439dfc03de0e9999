"""All machines at once: do VRRP packets, connections and packets of pods arrive, and who else speaks VRRP here?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from haplane.components import waiting
from haplane.components.balancer import balancer_of
from haplane.components.etcd import CLIENT_PORT, PEER_PORT
from haplane.model.bundle import Addon
from haplane.model.cluster import (
    APISERVER_PORT,
    Address,
    Cast,
    Cluster,
    EndpointOwner,
    FlannelBackend,
    Machine,
    Role,
)
from haplane.observe.preflight import perl
from haplane.observe.preflight.probe import Answers, Meeting, Packet

KUBELET_PORT = 10250
# HAProxy's peers: who is connected through which balancer.
PEERS_PORT = waiting.PEERS_PORT
GROUPS = {4: "224.0.0.18", 6: "ff02::12"}  # RFC 9568, 5.1.1.2 and 5.1.2.2
# One that may send a machine to itself does so about once in as many times as there are balancers.
TIMES = 20
LISTEN_S = 3
LISTEN_SLOW_S = 10
# UDP, of flannel's backend (flannel, Documentation/backends.md): the kernel's own number for VXLAN.
VXLAN_PORT = 8472
# So many others each node sends packets of pods to; in a larger cluster not everybody to everybody.
MOST_NODES = 12


@dataclass(frozen=True)
class Connection:
    """One that the cluster needs."""

    source: str
    target: str
    address: Address
    port: int
    purpose: str


def connections(cluster: Cluster) -> Iterator[Connection]:
    """Which machine must reach which port of which (kubernetes.io, ports and protocols). Each once."""
    everyone = tuple(cluster.machines.values())
    nodes = tuple(one for one in everyone if one.is_node)
    balancers = cluster.vip_sharers
    # Who shares the VIP asks whether it answers, too, after a change.
    clients = tuple(one for one in everyone if connects_to_endpoint(one) or one in balancers)
    etcd, control_plane = cluster.etcd_members, cluster.control_plane
    groups = [
        (clients, balancers, cluster.endpoint.port, "clients of the endpoint"),
        (cluster.running_balancer, control_plane, APISERVER_PORT, "the balancer to the apiserver"),
        (control_plane, etcd, CLIENT_PORT, "the apiserver to etcd"),
        (etcd, etcd, PEER_PORT, "etcd to etcd"),
        (control_plane, nodes, KUBELET_PORT, "the apiserver to the kubelet"),
    ]
    if waiting.is_used(cluster):
        groups.append((balancers, balancers, PEERS_PORT, "balancer to balancer"))
    seen = set()
    for sources, targets, port, purpose in groups:
        for source in sources:
            for target in targets:
                if source.name != target.name and (source.name, target.name, port) not in seen:
                    seen.add((source.name, target.name, port))
                    yield Connection(source.name, target.name, target.address, port, purpose)


def wraps_pods(cluster: Cluster, machine: Machine) -> bool:
    """Does it send packets of pods to other nodes in datagrams?"""
    is_wrapped = Addon.FLANNEL in cluster.addons and cluster.kubernetes.flannel is FlannelBackend.VXLAN
    return is_wrapped and machine.is_node


def wrapped_from(cluster: Cluster, machine: Machine) -> tuple[tuple[Machine, Address, Address], ...]:
    """Nodes whose datagrams are to arrive at this one, with the address they come from and the one they go to."""
    return tuple((one, source, to) for one, source, to in _ways(cluster, machine, step=-1))


def wrapped_to(cluster: Cluster, machine: Machine) -> tuple[Address, ...]:
    """Addresses of nodes to which this one sends datagrams."""
    return tuple(address for _, address, _ in _ways(cluster, machine, step=1))


def _ways(cluster: Cluster, machine: Machine, *, step: int) -> Iterator[tuple[Machine, Address, Address]]:
    """To those that follow it among the nodes, in a ring, or (-1) from those before it: other, its address, its own."""
    if not wraps_pods(cluster, machine):
        return
    nodes = cluster.nodes
    at = [one.name for one in nodes].index(machine.name)
    for distance in range(1, min(MOST_NODES, len(nodes) - 1) + 1):
        other = nodes[(at + step * distance) % len(nodes)]
        for version in dict.fromkeys(network.version for network in cluster.kubernetes.pods):
            theirs, own = other.address_of(version), machine.address_of(version)
            if theirs and own:
                yield other, theirs, own


def connects_to_endpoint(machine: Machine) -> bool:
    """What is a balancer or a member of etcd alone does not."""
    return machine.is_node or Role.CLIENT in machine.roles


def behind_another(cluster: Cluster) -> tuple[Machine, ...]:
    """Machines to which a load balancer of yours that owns the endpoint sends clients."""
    return cluster.balancers if cluster.endpoint.by is EndpointOwner.EXTERNAL else ()


def outer_addresses(cluster: Cluster, machine: Machine) -> tuple[Address, ...]:
    """Where a machine finds that load balancer, by the IP versions that it has."""
    if cluster.endpoint.by is not EndpointOwner.EXTERNAL or not connects_to_endpoint(machine):
        return ()
    return tuple(vip.ip for vip in cluster.endpoint.vips if machine.address_of(vip.version))


def command(cluster: Cluster, machine: Machine, *, interface: str, seconds: float) -> str:
    """Says `ready`, and begins when it reads a line. interface: the one that has the machine's address."""
    arguments: list[tuple[object, ...]] = [("interface", interface), ("seconds", seconds)]
    if machine in cluster.vip_sharers:
        for version in sorted({vip.version for vip in cluster.endpoint.vips}):
            arguments += _vrrp(cluster, machine, version)
    wanted = tuple(connections(cluster))
    mine = dict.fromkeys((one.address, one.port) for one in wanted if one.target == machine.name)
    if machine in behind_another(cluster):
        # What it sends here has to be answered, also before there is a balancer.
        port = cluster.endpoint.port if balancer_of(cluster) else APISERVER_PORT
        mine |= dict.fromkeys((address, port) for address in machine.addresses)
    arguments += [("listen", *place) for place in mine]
    arguments += [("again", address, cluster.endpoint.port, TIMES) for address in outer_addresses(cluster, machine)]
    arguments += [("datagrams", address, VXLAN_PORT) for address in machine.addresses if wraps_pods(cluster, machine)]
    arguments += [("datagram", address, VXLAN_PORT) for address in wrapped_to(cluster, machine)]
    arguments += [("connect", one.address, one.port) for one in wanted if one.source == machine.name]
    return perl.command("meet", arguments)


def _vrrp(cluster: Cluster, machine: Machine, version: int) -> Iterator[tuple[object, ...]]:
    own = machine.address_of(version)
    if own is None:
        return
    yield "self", own
    peers = (one.address_of(version) for one in cluster.balancers if one.name != machine.name)
    yield from (("peer", peer) for peer in peers if peer)
    if cluster.endpoint.cast is Cast.MULTICAST:
        yield "group", GROUPS[version]


def parse(output: str) -> Meeting:
    """Raises perl.CouldNot."""
    lines = list(perl.records(output))
    rows = [(fields[0], fields[1:]) for fields in lines]
    return Meeting(
        listened_s=next((float(values[0]) for key, values in rows if key == "listened"), 0.0),
        heard=tuple(
            Packet(ip_address(values[0].partition("%")[0]), int(values[1]), values[2])
            for key, values in rows
            if key == "heard"
        ),
        sent=frozenset(ip_address(values[0]) for key, values in rows if key == "sent"),
        connects={(ip_address(values[0]), int(values[1])): values[2] for key, values in rows if key == "connect"},
        caught=frozenset(ip_address(values[0]) for key, values in rows if key == "caught"),
        carried=frozenset(ip_address(values[0]) for key, values in rows if key == "carried"),
        again={
            (ip_address(values[0]), int(values[1])): Answers(*map(int, values[2:5]))
            for key, values in rows
            if key == "again"
        },
        failed={
            **perl.failures(lines),
            **{f"send to {values[0]}": values[1] for key, values in rows if key == "refused"},
        },
    )
