"""What every component answers: its packages, files, validator, and how a change of them reaches its daemon."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from haplane.model.bundle import BundleManifest
from haplane.model.cluster import Address, Cluster, Machine

# Where haplane keeps what it needs on a machine.
STATE = "/var/lib/haplane"
LIBEXEC = "/usr/local/lib/haplane"
RUN = "/run/haplane"


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
class ComponentDesign:
    """What one component means on one machine.

    load: run when what the daemon has loaded differs from the files. unit is the systemd unit that must be enabled
    and active, empty if there is none; start: run instead when it is not active. started_later: a later phase starts
    it (kubeadm the kubelet), so inactive is not a difference. restart: run instead when one of the files in
    restart_for (its drop-ins) is not what it was started with.
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

    @property
    def files(self) -> tuple[File, ...]:
        return tuple(file for files in self.file_sets for file in files.files)

    @property
    def digest(self) -> str:
        """`FILES.STARTED`: what the daemon uses, and what it was started with. Remembered on the machine once true."""
        started = _digest(file for file in self.files if file.path in self.restart_for)
        return f"{_digest(self.files, self.load.command)}.{started}"


def _digest(files: Iterable[File], *more: str) -> str:
    parts = [f"{file.path}\0{file.mode:o}\0{file.sha256}" for file in files]
    return hashlib.sha256("\n".join([*parts, *more]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Measured:
    """What was read from a machine and cannot be derived from the file.

    interface: the one that has the machine's address; open_files: the hard limit a service may have;
    memory_bytes: physical memory.
    """

    interface: str = "eth0"
    open_files: int = 524288
    memory_bytes: int = 4 << 30


@dataclass(frozen=True)
class View:
    """Everything a component may look at when it designs one machine. Pure data.

    authority: the cluster's CA certificate (PEM, public), None before it was made. bundle: None before it was made.
    """

    cluster: Cluster
    machine: Machine
    measured: Measured
    authority: str | None
    bundle: BundleManifest | None

    @property
    def position(self) -> int:
        """The machine's place among the control-plane nodes, from 0, in the file's order."""
        return [machine.name for machine in self.cluster.control_plane].index(self.machine.name)

    @property
    def peers(self) -> Mapping[str, Address]:
        """The other control-plane nodes."""
        return {
            machine.name: machine.address for machine in self.cluster.control_plane if machine.name != self.machine.name
        }

    @property
    def bundle_folder(self) -> str:
        return f"{STATE}/bundles/{self.bundle.folder_name if self.bundle else 'not-built-yet'}"


def join_host_port(address: Address, port: int) -> str:
    """1.2.3.4:6443 or [2001:db8::1]:6443."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
