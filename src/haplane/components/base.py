"""What every component answers: its packages, files, validator, and how a change of them reaches its daemon."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from haplane.components.settings import Setting, Settings
from haplane.model.bundle import BundleManifest
from haplane.model.cluster import Address, Cluster, KeyPath, Machine, Role, Sections

# Where haplane keeps what it needs on a machine.
STATE = "/var/lib/haplane"
LIBEXEC = "/usr/local/lib/haplane"
RUN = "/run/haplane"
# The balancer's health page. keepalived asks it, and a load balancer of yours in front; see `health_is_public`.
HEALTH_PORT = 8404
# The slice of what clients depend on, see `host`.
SLICE = "haplane.slice"
# In units of what clients of the API depend on. When memory ends the kernel takes what matters less: -997 is what the
# kubelet gives the apiserver and etcd. Without CAP_SYS_RESOURCE (in a container) systemd cannot set it, and goes on.
COMES_FIRST = f"Slice={SLICE}\nOOMScoreAdjust=-997"


@dataclass(frozen=True)
class File:
    path: str
    content: str
    mode: int = 0o644

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()


@dataclass(frozen=True)
class FileSet:
    """Files that are validated and swapped together.

    validate: a shell command run in the folder that holds the new files under their full paths (./etc/...);
    an exit code other than 0 leaves everything as it was. Empty: nothing to validate.
    """

    files: tuple[File, ...]
    validate: str = ""


@dataclass(frozen=True)
class Load:
    """How a daemon is made to use its files: a shell command, and the sentence that a plan prints for it."""

    command: str
    sentence: str


@dataclass(frozen=True)
class Loaded:
    """Digests of what a daemon uses, of what it was started with, and of what it shares with its peers."""

    files: str = ""
    started: str = ""
    dialect: str = ""

    def __str__(self) -> str:
        return f"{self.files}.{self.started}.{self.dialect}"

    @classmethod
    def parse(cls, text: str) -> Loaded:
        return cls(*[*text.split("."), "", "", ""][:3])


@dataclass(frozen=True)
class ComponentDesign:
    """What one component means on one machine.

    load: run when what the daemon has loaded differs from the files. unit is the systemd unit that must be enabled
    and active, empty if there is none; start: run instead when it is not active. started_later: a later phase starts
    it (kubeadm the kubelet), so inactive is not a difference. restart: run instead when one of the files in
    restart_for (its drop-ins) is not what it was started with. dialect: what it must share with its peers to be
    understood by them; a change of it cannot be rolled.
    """

    name: str
    packages: tuple[str, ...]
    file_sets: tuple[FileSet, ...]
    load: Load
    unit: str = ""
    started_later: bool = False
    start: Load | None = None
    restart: Load | None = None
    restart_for: tuple[str, ...] = ()
    dialect: str = ""

    @property
    def files(self) -> tuple[File, ...]:
        return tuple(file for files in self.file_sets for file in files.files)

    @property
    def loaded(self) -> Loaded:
        """What is remembered on the machine once the daemon uses it."""
        return Loaded(
            files=_digest(self.files, self.load.command),
            started=_digest(file for file in self.files if file.path in self.restart_for),
            dialect=_digest((), self.dialect),
        )


def _digest(files: Iterable[File], *more: str) -> str:
    parts = [f"{file.path}\0{file.mode:o}\0{file.sha256}" for file in files]
    return hashlib.sha256("\n".join([*parts, *more]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Measured:
    """What was read from a machine and cannot be derived from the file.

    interface: the one that has the machine's address; open_files: the hard limit a service may have;
    memory_bytes: physical memory. system: ID and VERSION_ID of os-release, empty if not known.
    """

    interface: str = "eth0"
    open_files: int = 524288
    memory_bytes: int = 4 << 30
    system: str = ""


@dataclass(frozen=True)
class Timers:
    """Solved for failover.target, see `haplane.design.timers`. The defaults are the calm ones.

    advert_ms: between two VRRP adverts. check_interval_ms, check_timeout_ms: of keepalived's question to the balancer.
    """

    advert_ms: int = 100
    check_interval_ms: int = 500
    check_timeout_ms: int = 400
    etcd_heartbeat_ms: int = 100
    etcd_election_ms: int = 1000


CALM = Timers()
_NODES = (Role.CONTROL_PLANE, Role.WORKER)


@dataclass(frozen=True)
class View:
    """Everything a component may look at when it designs one machine. Pure data.

    authority: the cluster's CA certificate (PEM, public), None before it was made. bundle: None before it was made.
    router_ids_of_others: VRRP's virtual router ids that strangers on the network use.
    """

    cluster: Cluster
    machine: Machine
    measured: Measured
    authority: str | None
    bundle: BundleManifest | None
    timers: Timers = CALM
    router_ids_of_others: frozenset[int] = frozenset()

    @property
    def position(self) -> int:
        """The machine's place among the nodes, from 0: control-plane nodes first, each kind in the file's order."""
        nodes = dict.fromkeys(one.name for role in _NODES for one in self.cluster.with_role(role))
        return list(nodes).index(self.machine.name)

    @property
    def authority_file(self) -> str:
        """The cluster's CA certificate as a component's file."""
        return self.authority or "(the cluster's CA certificate, made by kubeadm when the cluster is created)\n"

    @property
    def bundle_folder(self) -> str:
        return f"{STATE}/bundles/{self.bundle.folder_name if self.bundle else 'not-built-yet'}"


# Where cluster.yaml speaks of a component on one machine, and what it says there; later ones win.
Given = tuple[tuple[KeyPath, Sections], ...]


@dataclass(frozen=True)
class Room:
    """What a machine needs for as many connections as its balancer may take. connections: 0 where nothing says it."""

    connections: int
    descriptors: int
    memory_bytes: int


@dataclass(frozen=True)
class ConfigTest:
    """How a balancer judges the configuration that is on a machine.

    file: where that is; command: of the test. refusal, warning: what marks the lines that say so.
    """

    file: str
    command: str
    refusal: str
    warning: str

    def __str__(self) -> str:
        return " ".join(self.command.split()[:2])


@dataclass(frozen=True)
class Balancer:
    """A program that balances, as the rest knows it.

    name: of the component, its unit and its key in cluster.yaml; title: as people call it. health_path: of its health
    page, which answers as long as it works; knows_the_ready: with 503 while it knows of no apiserver that is ready.
    authority: where its machines have the cluster's CA certificate. settings: what it is told, given: of that by the
    file; health: the line that says where its health page is.
    """

    name: str
    title: str
    health_path: str
    knows_the_ready: bool
    authority: str
    config_test: ConfigTest
    settings: Callable[[View], Settings]
    given: Callable[[View], Given]
    room: Callable[[View], Room]
    health: Callable[[View], Mapping[str, Setting]]
    design: Callable[[View], ComponentDesign]

    @property
    def unit(self) -> str:
        return f"{self.name}.service"

    @property
    def down_file(self) -> str:
        """keepalived follows it. Its unit writes it: 0 once the balancer is ready, 1 once it has been stopped."""
        return f"{RUN}/{self.name}-down"

    @property
    def gone_file(self) -> str:
        """keepalived follows it. `balancer_watch` writes it: 0 while the process runs, 1 from the moment it ends."""
        return f"{RUN}/{self.name}-gone"


def loopbacks(cluster: Cluster) -> tuple[Address, ...]:
    """Where a machine reaches what listens on itself alone: one address for each IP version of the endpoint."""
    of_version: dict[int, Address] = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}
    return tuple(of_version[vip.version] for vip in cluster.endpoint.vips)


def health_is_public(cluster: Cluster) -> bool:
    """Is the health page for others than the machine itself? It says no more than yes or no."""
    return cluster.endpoint.is_behind_another


HEALTH_IS_PUBLIC = "a load balancer in front asks each balancer whether it may send clients there"


def join_host_port(address: Address, port: int) -> str:
    """1.2.3.4:6443 or [2001:db8::1]:6443."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
