"""The design of a whole cluster: what every machine should hold. The same input always gives the same design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from haplane.components import keepalived
from haplane.components.base import ComponentDesign, Measured, View
from haplane.components.registry import CONTROL_PLANE
from haplane.model.bundle import BundleManifest
from haplane.model.cluster import Cluster


@dataclass(frozen=True)
class Design:
    """measured: by machine name; what is missing is taken as the default. authority: see View."""

    cluster: Cluster
    bundle: BundleManifest | None = None
    authority: str | None = None
    measured: Mapping[str, Measured] = field(default_factory=dict)

    def view(self, machine: str) -> View:
        return View(
            cluster=self.cluster,
            machine=self.cluster.machines[machine],
            measured=self.measured.get(machine, Measured()),
            authority=self.authority,
            bundle=self.bundle,
        )

    @cached_property
    def components(self) -> Mapping[str, Mapping[str, ComponentDesign]]:
        """machine name -> component name -> what it means there."""
        return {
            machine.name: {one.name: one for one in (make(self.view(machine.name)) for make in CONTROL_PLANE)}
            for machine in self.cluster.control_plane
        }

    def packages(self, machine: str) -> tuple[str, ...]:
        """Every operating system package the machine needs, sorted."""
        return tuple(sorted({package for one in self.components[machine].values() for package in one.packages}))

    def with_authority(self, authority: str | None) -> Design:
        return replace(self, authority=authority)


def identity(cluster: Cluster) -> str:
    """What cannot change after a cluster was made, as one line that is kept on its machines."""
    kubernetes, endpoint = cluster.kubernetes, cluster.endpoint
    parts = {
        "name": cluster.name,
        "version": kubernetes.version,
        "endpoint": f"{endpoint.host or endpoint.vip.ip}:{endpoint.port}",
        # Old and new keepalived would be deaf to each other, and both hold the VIP, while one machine after the other
        # is changed.
        "router": keepalived.virtual_router_id(cluster),
        "pods": ",".join(map(str, kubernetes.pods)),
        "services": ",".join(map(str, kubernetes.services)),
    }
    return " ".join(f"{key}={value}" for key, value in parts.items())
