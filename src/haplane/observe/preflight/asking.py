"""What one machine finds out alone: round trips, packets of full size, who answers for the VIP."""

from __future__ import annotations

from ipaddress import ip_address

from haplane.model.cluster import Address, Cluster, Machine
from haplane.observe.preflight import perl
from haplane.observe.preflight.probe import Asking, Host, Trip

ECHOES = 40
# A second is enough for as many.
MOST_PEERS = 12


def peers_of(cluster: Cluster, machine: Machine) -> tuple[Machine, ...]:
    """Etcd members and balancers: those whose distance matters."""
    core = dict.fromkeys((*(one.name for one in cluster.etcd_members), *(one.name for one in cluster.balancers)))
    return tuple(cluster.machines[name] for name in core if name != machine.name)[:MOST_PEERS]


def command(cluster: Cluster, machine: Machine, host: Host) -> str:
    arguments: list[tuple[object, ...]] = [("interface", host.interface_of(machine.address)), ("count", ECHOES)]
    arguments += [("peer", peer.address, peer.ssh.port) for peer in peers_of(cluster, machine)]
    if machine in cluster.vip_sharers:
        # One that has the address does not hear its own answer.
        arguments += [("free", vip.ip) for vip in cluster.endpoint.vips if not host.holds(vip.ip)]
    return perl.command("ask", arguments)


def parse(output: str) -> Asking:
    """A round trip by connecting counts only where no echo came back. Raises perl.CouldNot."""
    lines = list(perl.records(output))
    trips: dict[Address, Trip] = {}
    lost: dict[Address, tuple[int, int]] = {}
    full: dict[Address, tuple[int, bool]] = {}
    answers: dict[Address, tuple[str, ...]] = {}
    for key, *values in lines:
        if key == "trip":
            peer, asked, answered = ip_address(values[0]), int(values[2]), int(values[3])
            if values[1] == "echo":
                lost[peer] = (asked - answered, asked)
            if answered:
                trips.setdefault(peer, Trip(values[1], asked, answered, float(values[4]), float(values[5])))
        elif key == "full":
            full[ip_address(values[0])] = (int(values[1]), values[2] == "yes")
        elif key == "probed":
            answers.setdefault(ip_address(values[0]), ())
        elif key == "answer":
            address = ip_address(values[0])
            answers[address] = (*answers.get(address, ()), values[1])
    return Asking(trips, lost, full, answers, perl.failures(lines))
