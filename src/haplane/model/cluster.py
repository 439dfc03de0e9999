"""A cluster as the user described it, with every default of the file filled in. Frozen; made by `read_cluster`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

from haplane.model.bundle import Addon

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

# What a YAML document or a component's own configuration file can hold.
Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]

# Of every apiserver on its machine.
APISERVER_PORT = 6443

# Where a value is in a file: keys, and indexes of lists. The top is ().
KeyPath = tuple[str | int, ...]

# A component's own configuration file as far as the user writes it: section -> keyword -> arguments.
# true: the keyword alone; false: without it, whatever haplane would write.
Sections = Mapping[str, Mapping[str, str | int | float | bool]]


class Role(StrEnum):
    CONTROL_PLANE = "control-plane"
    WORKER = "worker"
    ETCD = "etcd"
    BALANCER = "balancer"
    CLIENT = "client"


class Cni(StrEnum):
    """Who gives pods their addresses. none: you bring your own; nodes stay NotReady until it is there. bridge: each
    machine for itself, and pods reach those of their own machine alone. flannel: one network over all machines."""

    NONE = "none"
    BRIDGE = "bridge"
    FLANNEL = "flannel"


class FlannelBackend(StrEnum):
    """How packets of pods get to another machine. vxlan: wrapped, over any network. host-gw: routed, which needs all
    machines in one layer 2 network."""

    VXLAN = "vxlan"
    HOST_GW = "host-gw"


class Proxy(StrEnum):
    """By which of the kernel's tables kube-proxy leads services to their pods."""

    NFTABLES = "nftables"
    IPTABLES = "iptables"


class EndpointOwner(StrEnum):
    """Who moves the endpoint's address between machines. external: a load balancer of yours has it."""

    KEEPALIVED = "keepalived"
    EXTERNAL = "external"


class Cast(StrEnum):
    """How VRRP adverts reach the other machines: to each by address, or to a group of the network."""

    UNICAST = "unicast"
    MULTICAST = "multicast"


class BalancerProgram(StrEnum):
    """What balances. none: nothing; the endpoint's address leads straight to one machine's own apiserver."""

    HAPROXY = "haproxy"
    NGINX = "nginx"
    NONE = "none"


class BalancerRole(StrEnum):
    """Which machines run the balancer: the control-plane nodes themselves, or machines of its own."""

    CONTROL_PLANE = "control-plane"
    BALANCER = "balancer"


class EtcdTopology(StrEnum):
    """stacked: a member on each control-plane node. external: members on machines of their own."""

    STACKED = "stacked"
    EXTERNAL = "external"


class Loss(StrEnum):
    """What a cluster promises to survive the loss of."""

    MACHINE = "machine"
    ZONE = "zone"


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
    """addresses: one, or an IPv4 and an IPv6 address. keepalived, haproxy, nginx: win over the cluster's own."""

    name: str
    addresses: tuple[Address, ...]
    roles: frozenset[Role]
    ssh: Ssh
    interface: str | None = None
    zone: str | None = None
    keepalived: Sections = field(default_factory=dict)
    haproxy: Sections = field(default_factory=dict)
    nginx: Sections = field(default_factory=dict)

    @property
    def address(self) -> Address:
        """Where it is reached, and what its peers know it by."""
        return self.addresses[0]

    @property
    def is_node(self) -> bool:
        """Of Kubernetes: it has a kubelet."""
        return bool(self.roles & {Role.CONTROL_PLANE, Role.WORKER})

    def address_of(self, version: int) -> Address | None:
        """Its address of that IP version, if it has one."""
        return next((address for address in self.addresses if address.version == version), None)


@dataclass(frozen=True)
class Kubernetes:
    """version without the v, e.g. 1.35.4."""

    version: str
    pods: tuple[Network, ...]
    services: tuple[Network, ...]
    cni: Cni = Cni.NONE
    flannel: FlannelBackend = FlannelBackend.VXLAN
    proxy: Proxy = Proxy.NFTABLES


@dataclass(frozen=True)
class Endpoint:
    """vips carry their subnet's prefix: one, or one per IP version. port is where clients connect.

    outside: an outer address whose load balancer forwards to this endpoint.
    """

    vips: tuple[Interface, ...]
    port: int = 8443
    host: str | None = None
    by: EndpointOwner = EndpointOwner.KEEPALIVED
    outside: Address | None = None
    virtual_router_id: int | None = None
    cast: Cast = Cast.UNICAST

    @property
    def vip(self) -> Interface:
        return self.vips[0]

    @property
    def is_behind_another(self) -> bool:
        """Does a load balancer of yours send clients here, and has to know where it may?"""
        return self.by is EndpointOwner.EXTERNAL or self.outside is not None

    @property
    def name(self) -> str:
        """What clients call it: the DNS name, else the address."""
        return self.host or str(self.vip.ip)


@dataclass(frozen=True)
class Etcd:
    """None: solved from failover.target and what was measured."""

    topology: EtcdTopology = EtcdTopology.STACKED
    heartbeat_ms: int | None = None
    election_ms: int | None = None


@dataclass(frozen=True)
class Failover:
    """target_ms: the longest outage of the endpoint that is wanted when its holder dies. None: calm defaults.

    survive: what may be lost while the API still answers. tell_clients: clients whose connection died with the holder
    of the VIP are told by the new one.
    """

    target_ms: int | None = None
    survive: Loss = Loss.MACHINE
    tell_clients: bool = True


@dataclass(frozen=True)
class Power:
    """Commands run on this host that cut and restore a machine's power; {name} and {address} are replaced.

    freeze, thaw: stop everything in it, and let it go on as if no time had passed; empty where nothing can.
    """

    off: str
    on: str
    freeze: str = ""
    thaw: str = ""


@dataclass(frozen=True)
class BundleSource:
    """kind: official (url: where binaries are, registry: where images are), go-modules, or directory (path)."""

    kind: str
    url: str = ""
    registry: str = ""
    path: Path | None = None


@dataclass(frozen=True, order=True)
class Where:
    """A place in a file; line and column count from 1. key is the dotted path, e.g. machines.cp1.address."""

    file: str
    line: int = 1
    column: int = 1
    key: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Cluster:
    """accept: hazard id -> why it is accepted. places: where keys are in the file."""

    name: str
    file: str
    kubernetes: Kubernetes
    endpoint: Endpoint
    machines: Mapping[str, Machine]
    sources: tuple[BundleSource, ...]
    balancer: BalancerRole = BalancerRole.CONTROL_PLANE
    balanced_by: BalancerProgram = BalancerProgram.HAPROXY
    balancer_on_workers: bool = False
    etcd: Etcd = Etcd()
    failover: Failover = Failover()
    accept: Mapping[str, str] = field(default_factory=dict)
    power: Power | None = None
    # Passed through to the component's own configuration: kubeadm by kind (ClusterConfiguration, ...),
    # kubelet as KubeletConfiguration, containerd as its CRI plugin's section, the others by section.
    kubeadm: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    kubelet: Mapping[str, Value] = field(default_factory=dict)
    containerd: Mapping[str, Value] = field(default_factory=dict)
    keepalived: Sections = field(default_factory=dict)
    haproxy: Sections = field(default_factory=dict)
    nginx: Sections = field(default_factory=dict)
    places: Mapping[KeyPath, Where] = field(default_factory=dict)

    def with_role(self, role: Role) -> tuple[Machine, ...]:
        """Machines that have the role, in the file's order."""
        return tuple(machine for machine in self.machines.values() if role in machine.roles)

    @property
    def managed(self) -> tuple[Machine, ...]:
        """Machines on which something is installed: all but those that are only clients."""
        return tuple(machine for machine in self.machines.values() if machine.roles != {Role.CLIENT})

    @property
    def control_plane(self) -> tuple[Machine, ...]:
        return self.with_role(Role.CONTROL_PLANE)

    @property
    def workers(self) -> tuple[Machine, ...]:
        """Nodes that run no apiserver."""
        return tuple(one for one in self.with_role(Role.WORKER) if Role.CONTROL_PLANE not in one.roles)

    @property
    def nodes(self) -> tuple[Machine, ...]:
        return (*self.control_plane, *self.workers)

    @property
    def addons(self) -> frozenset[Addon]:
        """What haplane runs in the cluster. Without workers and without a pod network there is nobody to use it."""
        if self.kubernetes.cni is Cni.FLANNEL:
            return frozenset(Addon)
        return frozenset({Addon.KUBE_PROXY, Addon.COREDNS}) if self.with_role(Role.WORKER) else frozenset()

    @property
    def balancers(self) -> tuple[Machine, ...]:
        """Machines that clients reach: they run the balancer, and share the VIP unless it is somebody else's."""
        return self.with_role(Role(self.balancer))

    @property
    def running_balancer(self) -> tuple[Machine, ...]:
        """Machines on which the balancer runs: those that clients reach and, if asked for, workers for themselves."""
        own = self.workers if self.balancer_on_workers else ()
        beside = (one for one in own if Role(self.balancer) not in one.roles)
        return tuple(one for one in (*self.balancers, *beside) if self.runs_balancer(one))

    def runs_balancer(self, machine: Machine) -> bool:
        """By its roles alone."""
        if self.balanced_by is BalancerProgram.NONE:
            return False
        is_worker = Role.WORKER in machine.roles and Role.CONTROL_PLANE not in machine.roles
        return Role(self.balancer) in machine.roles or (self.balancer_on_workers and is_worker)

    @property
    def is_stacked(self) -> bool:
        """Is etcd beside the apiservers, run by kubeadm?"""
        return self.etcd.topology is EtcdTopology.STACKED

    @property
    def etcd_members(self) -> tuple[Machine, ...]:
        return self.with_role(Role.CONTROL_PLANE if self.is_stacked else Role.ETCD)

    @property
    def vip_sharers(self) -> tuple[Machine, ...]:
        """Machines that may hold the VIP; none where it is somebody else's."""
        return self.balancers if self.endpoint.by is EndpointOwner.KEEPALIVED else ()

    def where(self, *path: str | int) -> Where:
        """The place of this key, or of the nearest one around it that is in the file."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Where(self.file))
