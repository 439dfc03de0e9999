"""The network of pods."""

from __future__ import annotations

from collections.abc import Iterator

from haplane.design.design import Design
from haplane.design.hazards.finding import Finding
from haplane.design.hazards.registry import error, hazard, warning
from haplane.model.cluster import Cluster, Cni, FlannelBackend


@hazard("net-pods-apart")
def check_pods_reach_each_other(design: Design) -> Iterator[Finding]:
    """Without workers there are hardly any pods, and a lab of nodes that are Ready may be all that is wanted."""
    cluster, cni = design.cluster, design.cluster.kubernetes.cni
    count = len(cluster.workers)
    workers = "there is a worker" if count == 1 else f"there are {count} workers"
    where = cluster.where("kubernetes", "cni")
    if cluster.workers and cni is Cni.BRIDGE:
        because = f"{workers}, and cni: bridge leads no further than the machine itself"
        yield error(because, "use cni: flannel", where)
    elif cluster.workers and cni is Cni.NONE:
        because = f"{workers}, and nodes stay NotReady until somebody brings a pod network"
        yield warning(because, "use cni: flannel; or accept net-pods-apart with the name of what you bring", where)
    elif cni is Cni.FLANNEL and cluster.kubernetes.flannel is FlannelBackend.HOST_GW:
        yield from _far_nodes(cluster)


def _far_nodes(cluster: Cluster) -> Iterator[Finding]:
    for vip in cluster.endpoint.vips:
        for machine in cluster.nodes:
            address = machine.address_of(vip.version)
            if address and address not in vip.network:
                because = f"{address} is not in {vip.network}: others may have no route to its pods (host-gw)"
                where = cluster.where("machines", machine.name, "address")
                yield warning(because, "use kubernetes: {flannel: {backend: vxlan}}", where, machine.name)
