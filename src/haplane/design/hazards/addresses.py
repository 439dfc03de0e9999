"""Addresses and networks: nothing twice, nothing inside of something else, and the VIP where its neighbours are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from haplane.design.design import Design
from haplane.design.hazards.finding import Finding
from haplane.design.hazards.registry import error, hazard
from haplane.model.cluster import Address, Cluster, EndpointOwner, KeyPath, Network


@hazard("host-identity")
def check_addresses_differ(design: Design) -> Iterator[Finding]:
    owners: dict[Address, str] = {}
    for machine in design.cluster.machines.values():
        for index, address in enumerate(machine.addresses):
            owner = owners.setdefault(address, machine.name)
            if owner != machine.name:
                where = design.cluster.where("machines", machine.name, "address", index)
                because = f"{address} is the address of {owner}, too"
                yield error(because, f"give {machine.name} its own address", where, machine.name)


@hazard("vip-outside-subnet")
def check_every_holder_is_in_the_subnet(design: Design) -> Iterator[Finding]:
    cluster = design.cluster
    if cluster.endpoint.by is not EndpointOwner.KEEPALIVED:
        return
    for vip in cluster.endpoint.vips:
        for machine in cluster.balancers:
            address = machine.address_of(vip.version)
            if address is None or address not in vip.network:
                has = f"only {machine.address}" if address is None else str(address)
                because = f"it may hold the VIP {vip.ip}, and has no address in {vip.network}, but {has}"
                cure = "use machines of one subnet, and write that subnet's prefix behind the VIP"
                yield error(because, cure, cluster.where("machines", machine.name, "address"), machine.name)


@hazard("vip-address-conflict")
def check_addresses_are_free(design: Design) -> Iterator[Finding]:
    cluster = design.cluster
    yield from _vips_of_machines(cluster)
    yield from _overlapping_networks(cluster)
    yield from _machines_inside(cluster)
    yield from _outside_is_elsewhere(cluster)


def _vips_of_machines(cluster: Cluster) -> Iterator[Finding]:
    endpoint = cluster.endpoint
    owners = {address: machine.name for machine in cluster.machines.values() for address in machine.addresses}
    for index, vip in enumerate(endpoint.vips):
        where = cluster.where("endpoint", "vip", index)
        # An external balancer's address is judged as the endpoint, not as something that moves.
        if vip.ip in owners and endpoint.by is EndpointOwner.KEEPALIVED:
            yield error(f"the VIP {vip.ip} is the address of {owners[vip.ip]}", "use a free address", where)
        if vip.ip == endpoint.outside:
            because = f"the outer load balancer at {endpoint.outside} would forward to itself: it is the VIP"
            cure = "write the outer load balancer's own address, or leave outside out"
            yield error(because, cure, cluster.where("endpoint", "outside"))


def _outside_is_elsewhere(cluster: Cluster) -> Iterator[Finding]:
    outside, where = cluster.endpoint.outside, cluster.where("endpoint", "outside")
    if outside is None:
        return
    cure = "write the outer load balancer's own address, or leave outside out"
    for machine in cluster.managed:
        if outside in machine.addresses:
            because = f"the outer load balancer's address {outside} is that of {machine.name}, which does not forward"
            yield error(because, cure, where)
    for path, network in _cluster_networks(cluster):
        if outside in network:
            because = f"the outer load balancer's address {outside} is inside {path[1]} {network}"
            yield error(f"{because}: nodes look for it in the cluster", cure, where)


def _overlapping_networks(cluster: Cluster) -> Iterator[Finding]:
    """Pods, services and the VIP's subnet, each with each."""
    networks: list[tuple[str, KeyPath, Network]] = [
        (f"the VIP's subnet {vip.network}", ("endpoint", "vip", index), vip.network)
        for index, vip in enumerate(cluster.endpoint.vips)
    ]
    networks += [(f"{path[1]} {network}", path, network) for path, network in _cluster_networks(cluster)]
    for (name, _, network), (other_name, path, other) in combinations(networks, 2):
        if network.version == other.version and network.overlaps(other):
            because = f"{other_name} and {name} overlap"
            yield error(because, "use networks that do not overlap", cluster.where(*path))


def _machines_inside(cluster: Cluster) -> Iterator[Finding]:
    """Machines inside pods or services, one finding for each network."""
    for path, network in _cluster_networks(cluster):
        inside = [one for one in cluster.machines.values() if any(address in network for address in one.addresses)]
        if inside:
            others = f" and {len(inside) - 1} more have" if len(inside) > 1 else " has"
            because = f"{inside[0].name}{others} an address inside {path[1]} {network}"
            cure = f"use another network for {path[1]}"
            yield error(because, cure, cluster.where("machines", inside[0].name, "address"))


def _cluster_networks(cluster: Cluster) -> list[tuple[tuple[str, str, int], Network]]:
    kinds = {"pods": cluster.kubernetes.pods, "services": cluster.kubernetes.services}
    return [(("kubernetes", kind, index), one) for kind, given in kinds.items() for index, one in enumerate(given)]


@hazard("vip-family-mix")
def check_every_family_has_a_vip(design: Design) -> Iterator[Finding]:
    cluster = design.cluster
    missing = {one.version for one in cluster.kubernetes.pods} - {one.version for one in cluster.endpoint.vips}
    if missing and len(cluster.kubernetes.pods) > 1:
        version = missing.pop()
        because = f"pods have IPv4 and IPv6, and the endpoint has no IPv{version} address"
        cure = f"add an IPv{version} VIP: vip: [{cluster.endpoint.vip}, ADDRESS/PREFIX]"
        yield error(because, cure, cluster.where("endpoint", "vip"))
