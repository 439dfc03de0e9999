"""IPv4 and IPv6: what has to reach what by which of them. `addresses` looks at the VIP.

Sources: kubernetes.io, IPv4/IPv6 dual-stack; k8s cmd/kube-apiserver/app/options (validation.go).
"""

from __future__ import annotations

from collections.abc import Iterator

from haplane.components.balancer import balancer_of
from haplane.design.design import Design
from haplane.design.hazards.finding import Finding
from haplane.design.hazards.registry import error, hazard, warning
from haplane.model.cluster import Cluster, Machine, Role


@hazard("net-families-differ")
def check_versions_fit(design: Design) -> Iterator[Finding]:
    cluster = design.cluster
    yield from _pods_and_services(cluster)
    yield from _nodes(cluster)
    yield from _clients(cluster)
    yield from _servers(cluster)


def _pods_and_services(cluster: Cluster) -> Iterator[Finding]:
    pods = [one.version for one in cluster.kubernetes.pods]
    services = [one.version for one in cluster.kubernetes.services]
    if missing := [version for version in services if version not in pods]:
        because = f"services have IPv{missing[0]} and pods have not: nobody is behind such a service"
        cure = f"add an IPv{missing[0]} network to pods, or take that of services away"
        yield error(because, cure, cluster.where("kubernetes", "services"))
    elif missing := [version for version in pods if version not in services]:
        because = f"pods have IPv{missing[0]} and services have not: nothing is served by it"
        cure = f"add an IPv{missing[0]} network to services, or take that of pods away"
        yield warning(because, cure, cluster.where("kubernetes", "pods"))


def _nodes(cluster: Cluster) -> Iterator[Finding]:
    first = cluster.kubernetes.services[0].version
    for machine in (*cluster.control_plane, *cluster.workers):
        if Role.CONTROL_PLANE in machine.roles and machine.address.version != first:
            because = (
                f"its apiserver is known by {machine.address}, and the first network of services is IPv{first}: it "
                "does not start"
            )
            cure = f"write the machine's IPv{first} address first, or the services' IPv{machine.address.version} one"
            yield _at(cluster, machine, because, cure)
            continue
        for pods in cluster.kubernetes.pods:
            if machine.address_of(pods.version) is None:
                because = f"pods have IPv{pods.version}, and the machine that runs them has {_has(machine)}"
                yield _at(cluster, machine, because, f"give it an IPv{pods.version} address")


def _clients(cluster: Cluster) -> Iterator[Finding]:
    """Nodes and clients connect to the endpoint. Who may hold the VIP is judged by its subnet."""
    vips, sharers = cluster.endpoint.vips, {one.name for one in cluster.vip_sharers}
    for machine in cluster.machines.values():
        connects = (machine.is_node or Role.CLIENT in machine.roles) and machine.name not in sharers
        if connects and not any(machine.address_of(vip.version) for vip in vips):
            because = f"it has {_has(machine)}, and the endpoint is {vips[0].ip}: it never gets there"
            cure = f"give it an IPv{vips[0].version} address, or the endpoint another VIP"
            yield _at(cluster, machine, because, cure)


def _servers(cluster: Cluster) -> Iterator[Finding]:
    """Others know a machine by its first address."""
    balancers = cluster.balancers if balancer_of(cluster) else ()
    ways = [
        (balancers, cluster.control_plane, "the apiserver"),
        (cluster.control_plane, cluster.etcd_members, "etcd"),
        (cluster.etcd_members, cluster.etcd_members, "etcd"),
    ]
    told: set[tuple[str, str, int]] = set()
    for sources, targets, what in ways:
        for source in sources:
            for target in targets:
                version, way = target.address.version, (source.name, what, target.address.version)
                if source.address_of(version) is None and way not in told:
                    told.add(way)
                    because = f"{what} on {target.name} is known by {target.address}, and here there is {_has(source)}"
                    cure = "use addresses of one IP version, and write it first everywhere"
                    yield _at(cluster, source, because, cure)


def _at(cluster: Cluster, machine: Machine, because: str, cure: str) -> Finding:
    return error(because, cure, cluster.where("machines", machine.name, "address"), machine.name)


def _has(machine: Machine) -> str:
    return f"only {machine.address}"
