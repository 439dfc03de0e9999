"""What was read from machines, before anybody judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from haplane.model.cluster import Address, Interface


class Part(StrEnum):
    """What is read with one command, and so is there or missing together."""

    HOST = "host"
    INSTALLED = "installed"
    CLOCK = "clock"
    MEETING = "meeting"
    ASKING = "asking"
    DISK = "disk"
    STALL = "stall"


# Read only when somebody has the time.
SLOW = frozenset({Part.DISK, Part.STALL})


@dataclass(frozen=True)
class Link:
    mac: str
    mtu: int


@dataclass(frozen=True)
class Listener:
    """address as ss shows it (*, 0.0.0.0, [::], 127.0.0.1%lo); program: empty when nobody can be seen behind it."""

    address: str
    port: int
    program: str


@dataclass(frozen=True)
class Module:
    """A kernel module. state: loaded, loadable, missing (why: what modprobe said), unknown (there is no modprobe)."""

    state: str
    why: str = ""


@dataclass(frozen=True)
class Host:
    """One machine as it stands.

    system: ID and VERSION_ID of os-release. container, hypervisor: as systemd-detect-virt calls them, empty if none.
    listeners: None when nobody could say. open_files, memory_bytes: None when they were not told.
    nonlocal_bind: IP version -> whether the sysctl ip_nonlocal_bind allows it; a version without it is missing.
    routes: peer -> the interface of the way to it. synchronised: None when nobody could say. units: of those
    that run, name -> as systemctl is-enabled says. certificates: path -> PEM. resolved: of the endpoint's name.
    """

    hostname: str = ""
    system: str = ""
    architecture: str = ""
    init: str = ""
    open_files: int | None = None
    memory_bytes: int | None = None
    container: str = ""
    hypervisor: str = ""
    vendor: str = ""
    machine_id: str = ""
    product_uuid: str = ""
    addresses: tuple[tuple[str, Interface], ...] = ()
    links: Mapping[str, Link] = field(default_factory=dict)
    listeners: tuple[Listener, ...] | None = None
    swaps: tuple[str, ...] = ()
    modules: Mapping[str, Module] = field(default_factory=dict)
    forwards: bool = False
    forwarding_settable: bool = False
    containerd_systemd: bool | None = None
    kubelet_driver: str = ""
    rp_filter: Mapping[str, int] = field(default_factory=dict)
    nonlocal_bind: Mapping[int, bool] = field(default_factory=dict)
    routes: Mapping[Address, str] = field(default_factory=dict)
    gateways: tuple[str, ...] = ()
    name_servers: tuple[str, ...] = ()
    synchronised: bool | None = None
    conntrack: tuple[int, int] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    packages: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    unattended: bool = False
    reboots_at: str = ""
    certificates: Mapping[str, str] = field(default_factory=dict)
    membership: str = ""
    etcd_membership: str = ""
    resolved: tuple[Address, ...] = ()
    now: datetime | None = None

    def interface_of(self, address: Address) -> str:
        """The interface that has the address; empty if none."""
        return next((name for name, one in self.addresses if one.ip == address), "")

    def holds(self, address: Address) -> bool:
        return bool(self.interface_of(address))

    @property
    def is_member(self) -> bool:
        """It is a node of a cluster, or one of its etcd on machines of its own."""
        return self.is_node or self.etcd_membership.startswith("done ")

    @property
    def is_node(self) -> bool:
        """A cluster was made: it has an API. Its etcd alone is there before."""
        return self.membership.startswith("done ")


@dataclass(frozen=True)
class Access:
    """Who may do what with a file or folder: permissions as in st_mode, and the owners' numbers."""

    mode: int
    owner: int
    group: int

    @property
    def is_roots_alone(self) -> bool:
        """Nobody else can change it. keepalived asks the same of scripts (utils.c): sticky folders are fine."""
        by_others = self.mode & 0o002 or (self.group and self.mode & 0o020)
        return not self.owner and (not by_others or bool(self.mode & 0o1000))


@dataclass(frozen=True)
class Checked:
    """What a program said of its own configuration. What may be a password is left out."""

    code: int
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encryption:
    """The apiserver's encryption configuration. path: empty if it has none; sha256: empty if it cannot be read."""

    path: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Installed:
    """What a cluster needs and is there already, and which rules of the machine are in its way.

    programs: keepalived and the balancer. keepalived_version: None where it is not installed or does not say.
    keepalived_file: its text, empty if there is none; it may hold a password. access: path -> of scripts that it names,
    and of the folders above them. accounts: users and groups that it names -> whether they exist. unit: property of
    keepalived.service -> value. tests: program -> what it says of its configuration. digests: path -> sha256.
    encryption: None where there is no apiserver. readyz: the HTTP status for somebody without credentials, empty if
    nobody was asked, 000 if nobody answered; readyz_administrator: the same for an administrator, just before. rules:
    nft, iptables or ip6tables -> the ruleset. selinux: Enforcing, Permissive, Disabled, empty where there is none;
    haproxy_connects: its boolean, None if there is none. denied: log lines of the last day about balancers and
    keepalived, None if nobody could look. late_heartbeat_ms: as MachineFacts has it, None where etcd has no log.
    """

    programs: frozenset[str] = frozenset()
    keepalived_version: tuple[int, ...] | None = None
    keepalived_file: str = field(default="", repr=False)
    access: Mapping[str, Access] = field(default_factory=dict)
    accounts: Mapping[str, bool] = field(default_factory=dict)
    unit: Mapping[str, str] = field(default_factory=dict)
    tests: Mapping[str, Checked] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    encryption: Encryption | None = None
    readyz: str = ""
    readyz_administrator: str = ""
    rules: Mapping[str, str] = field(default_factory=dict)
    selinux: str = ""
    haproxy_connects: bool | None = None
    apparmor: bool = False
    denied: tuple[str, ...] | None = None
    late_heartbeat_ms: float | None = None


@dataclass(frozen=True)
class Clock:
    """offset_s: the machine's clock minus this host's. error_s: half the round trip in which it was read."""

    offset_s: float = 0.0
    error_s: float = 0.0


@dataclass(frozen=True)
class Packet:
    """A VRRP packet that was heard. cast: u or m for preflight's own (sent by address, or to the group), else -."""

    source: Address
    router_id: int
    cast: str


@dataclass(frozen=True)
class Answers:
    """What became of several connections to one place. silent: neither made nor refused."""

    made: int
    refused: int
    silent: int

    @property
    def tried(self) -> int:
        return self.made + self.refused + self.silent


@dataclass(frozen=True)
class Meeting:
    """What a machine heard and reached while all others did the same.

    connects: (address, port) -> open, silent, or what connect(2) said. sent: addresses that packets went to.
    caught: addresses that datagrams of VXLAN's port came from; carried: those that such went to. failed: what could
    not be tried -> why.
    """

    listened_s: float = 0.0
    heard: tuple[Packet, ...] = ()
    sent: frozenset[Address] = frozenset()
    connects: Mapping[tuple[Address, int], str] = field(default_factory=dict)
    again: Mapping[tuple[Address, int], Answers] = field(default_factory=dict)
    caught: frozenset[Address] = frozenset()
    carried: frozenset[Address] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trip:
    """Round trips to one machine. how: echo (ICMP) or connect (TCP, to sshd)."""

    how: str
    asked: int
    answered: int
    mean_ms: float
    worst_ms: float


@dataclass(frozen=True)
class Asking:
    """trips: best measure per peer. full: peer -> (packet size, whether it passed uncut).

    answers: address -> MAC addresses that answer for it; an address that was not asked about is missing.
    """

    trips: Mapping[Address, Trip] = field(default_factory=dict)
    echo_lost: Mapping[Address, tuple[int, int]] = field(default_factory=dict)
    full: Mapping[Address, tuple[int, bool]] = field(default_factory=dict)
    answers: Mapping[Address, tuple[str, ...]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Disk:
    """Small writes with fdatasync in this folder."""

    folder: str = ""
    samples: int = 0
    p99_ms: float = 0.0
    worst_ms: float = 0.0


@dataclass(frozen=True)
class Stall:
    """The longest overshoot of a sleep of 10 ms within so many seconds."""

    longest_ms: float = 0.0
    watched_s: float = 0.0


@dataclass(frozen=True)
class Probe:
    """All that is known of one machine. missing: what could not be read -> why; the part itself is then empty."""

    host: Host = Host()
    installed: Installed = Installed()
    clock: Clock = Clock()
    meeting: Meeting = Meeting()
    asking: Asking = Asking()
    disk: Disk = Disk()
    stall: Stall = Stall()
    missing: Mapping[Part, str] = field(default_factory=dict)
