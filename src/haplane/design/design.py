"""The design of a whole cluster: what every machine should hold. The same input always gives the same design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from haplane.components.base import CALM, ComponentDesign, Measured, Timers, View
from haplane.components.registry import components_of
from haplane.model.bundle import BundleManifest
from haplane.model.cluster import BalancerProgram, Cluster


@dataclass(frozen=True)
class Design:
    """measured: by machine name; what is missing is taken as the default. The rest: see View."""

    cluster: Cluster
    bundle: BundleManifest | None = None
    authority: str | None = None
    measured: Mapping[str, Measured] = field(default_factory=dict)
    timers: Timers = CALM
    router_ids_of_others: frozenset[int] = frozenset()
    # Made when asked for: most commands look at few of a thousand machines.
    _made: dict[str, Mapping[str, ComponentDesign]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def view(self, machine: str) -> View:
        return View(
            cluster=self.cluster,
            machine=self.cluster.machines[machine],
            measured=self.measured.get(machine, Measured()),
            authority=self.authority,
            bundle=self.bundle,
            timers=self.timers,
            router_ids_of_others=self.router_ids_of_others,
        )

    def components(self, machine: str) -> Mapping[str, ComponentDesign]:
        """component name -> what it means there, in the order in which they are brought up."""
        if machine not in self._made:
            self._made[machine] = components_of(self.view(machine))
        return self._made[machine]

    def packages(self, machine: str) -> tuple[str, ...]:
        """Every operating system package the machine needs, sorted."""
        return tuple(sorted({package for one in self.components(machine).values() for package in one.packages}))

    def with_authority(self, authority: str | None) -> Design:
        return replace(self, authority=authority)


def identity(cluster: Cluster) -> str:
    """What cannot change after a cluster was made, as one line that is kept on its machines."""
    kubernetes, endpoint = cluster.kubernetes, cluster.endpoint
    parts = {
        "name": cluster.name,
        "version": kubernetes.version,
        "endpoint": f"{endpoint.name}:{endpoint.port}",
        "vips": ",".join(str(vip.ip) for vip in endpoint.vips),
        "pods": ",".join(map(str, kubernetes.pods)),
        "services": ",".join(map(str, kubernetes.services)),
    }
    # What balances cannot change yet: both would want one port, and keepalived follows one of them. Unsaid, HAProxy.
    if cluster.balanced_by is not BalancerProgram.HAPROXY:
        parts["balancer"] = cluster.balanced_by
    # Who votes is in the members' data, in whatever order. Unsaid, they are beside the apiservers.
    if not cluster.is_stacked:
        parts["etcd"] = ",".join(sorted(one.name for one in cluster.etcd_members))
    return " ".join(f"{key}={value}" for key, value in parts.items())
