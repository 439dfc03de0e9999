"""A cluster as the user described it, with every default filled in. Frozen; made by `read_cluster`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

# What a YAML document or a component's own configuration file can hold.
Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]


class Role(StrEnum):
    CONTROL_PLANE = "control-plane"
    CLIENT = "client"


class Cni(StrEnum):
    """Who gives pods their addresses. none: you bring your own; nodes stay NotReady until it is there."""

    NONE = "none"
    BRIDGE = "bridge"


@dataclass(frozen=True)
class Ssh:
    """How to log in to a machine. Paths are absolute. None means what ~/.ssh and the agent say."""

    user: str = "root"
    port: int = 22
    sudo: bool = False
    jump: str | None = None
    key: Path | None = None
    known_hosts: Path | None = None


@dataclass(frozen=True)
class Machine:
    name: str
    address: Address
    roles: frozenset[Role]
    ssh: Ssh
    interface: str | None = None
    line: int = 0


@dataclass(frozen=True)
class Kubernetes:
    """version without the v, e.g. 1.35.4."""

    version: str
    pods: tuple[Network, ...]
    services: tuple[Network, ...]
    cni: Cni = Cni.NONE


@dataclass(frozen=True)
class Endpoint:
    """vip carries the subnet's prefix; port is where clients connect."""

    vip: Interface
    port: int = 8443
    host: str | None = None
    virtual_router_id: int | None = None


@dataclass(frozen=True)
class Power:
    """Commands run on this host that cut and restore a machine's power; {name} and {address} are replaced."""

    off: str
    on: str


@dataclass(frozen=True)
class BundleSource:
    """kind: official (url: where binaries are, registry: where images are), go-modules, or directory (path)."""

    kind: str
    url: str = ""
    registry: str = ""
    path: Path | None = None


@dataclass(frozen=True)
class Cluster:
    name: str
    file: str
    kubernetes: Kubernetes
    endpoint: Endpoint
    machines: Mapping[str, Machine]
    sources: tuple[BundleSource, ...]
    power: Power | None = None
    # Passed through to the component's own configuration: kubeadm by kind (ClusterConfiguration, ...),
    # kubelet as KubeletConfiguration, containerd as its CRI plugin's section.
    kubeadm: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    kubelet: Mapping[str, Value] = field(default_factory=dict)
    containerd: Mapping[str, Value] = field(default_factory=dict)

    def with_role(self, role: Role) -> tuple[Machine, ...]:
        """Machines that have the role, in the file's order."""
        return tuple(machine for machine in self.machines.values() if role in machine.roles)

    @property
    def control_plane(self) -> tuple[Machine, ...]:
        return self.with_role(Role.CONTROL_PLANE)
