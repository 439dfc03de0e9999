"""The lab's files: an ordinary cluster.yaml, lab.yaml beside it, and the keys."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from haplane.lab import rehearsal
from haplane.model.cluster import Machine
from haplane.model.errors import HaplaneError, UsageError
from haplane.model.file import read_cluster
from haplane.model.reading import read_document
from haplane.transport.files import HINT, replace_file

VERSION = "1.35.4"
SUBNET = "10.77.0.0/24"
SSH = {"key": "keys/id_ed25519", "known_hosts": "known_hosts"}

CLUSTER = """\
# A lab of real machines on this host. The same file, with your addresses, describes real hardware:
# nothing that designs or applies asks whether it runs in a lab.
name: {name}
kubernetes:
  version: {version}
  cni: bridge                    # pods get addresses, so that nodes become Ready without a network add-on
endpoint: {{vip: {vip}, port: 8443}}
ssh: {{key: keys/id_ed25519, known_hosts: known_hosts}}

machines:
{machines}
{accept}# How a drill cuts power or freezes a machine; for real machines: ipmitool, virsh, your cloud's command line.
power:
  off: {off}
  on: {on}
  freeze: {freeze}
  thaw: {thaw}

# What containers on a shared kernel need, and real machines do not.
"""

PREFLIGHT = """\
    nodeRegistration:
      ignorePreflightErrors:
        - SystemVerification
        - FileContent--proc-sys-net-bridge-bridge-nf-call-iptables
        - NumCPU
        - Mem
        - Swap
"""

CONTAINERS = f"""\
kubeadm:
  InitConfiguration:
{PREFLIGHT}\
  JoinConfiguration:
{PREFLIGHT}\
kubelet:
  cgroupDriver: cgroupfs
  failCgroupV1: false
  failSwapOn: false
  localStorageCapacityIsolation: false
containerd:
  restrict_oom_score_adj: true
  disable_apparmor: true
"""

# For labs of one or two control-plane machines.
ACCEPT = """\
# Too few machines to lose one; in a lab that is meant to be so.
accept:
  topo-too-few-nodes: a small lab
"""
ACCEPT_TWO = """\
  etcd-even-members: a small lab
"""

LAB = """\
# Machines of this lab as podman containers. Edit and run `haplane lab up` again: what is missing is made.
name: {name}                     # containers and network are called haplane-NAME...
subnet: {subnet}
{subnet6}image: {image:<25} # full: packages are in the image; bare: only systemd and sshd
{more}"""

# The bundle need not be sent to machines that see this host's cache.
FULL = """\
mounts:                          # folders of this host, read-only
  {bundles}: /var/lib/haplane/bundles
"""

BARE = """\
images: {client: full}           # probes need Python
"""


class LabFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    subnet: IPv4Network
    subnet6: IPv6Network | None = None
    image: str = "full"
    # Kind of image for machines that differ, by machine name.
    images: dict[str, str] = {}
    # A folder or file of this host, mounted read-only: {host path: path in the machine}.
    mounts: dict[str, str] = {}


@dataclass(frozen=True)
class LabPaths:
    """Everything of a lab lies in the folder of its cluster file."""

    cluster: Path

    @property
    def folder(self) -> Path:
        return self.cluster.parent

    @property
    def lab(self) -> Path:
        return self.folder / "lab.yaml"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def user_key(self) -> Path:
        return self.folder / "keys" / "id_ed25519"

    def host_key(self, machine: str) -> Path:
        return self.folder / "keys" / machine / "ssh_host_ed25519_key"


def write_default(
    paths: LabPaths,
    *,
    name: str = "lab",
    version: str = VERSION,
    subnet: IPv4Network,
    control_plane: int = 3,
    image: str = "full",
    cache: Path,
    like: Path | None = None,
) -> None:
    """Write cluster.yaml and lab.yaml where they are missing; files that are there are the user's.

    like: a cluster.yaml whose design the lab is to have. Raises InvalidFile when it cannot be read.
    """
    try:
        paths.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder {paths.folder} cannot be made",
            where=str(error.filename or paths.folder),
            why=error.strerror or str(error),
            hint=HINT,
        ) from None
    subnet6 = ""
    power = {action: _power_command(action, name, paths) for action in ("off", "on", "freeze", "thaw")}
    if like is not None:
        document = _read(like)
        subnet6 = f"subnet6: {rehearsal.subnet6_of(subnet)}\n" if rehearsal.needs_ipv6(document) else ""
        if not paths.cluster.exists():
            text = rehearsal.rehearsed(
                document,
                source=str(like),
                name=name,
                subnet=subnet,
                ssh=SSH,
                power={action: json.loads(command) for action, command in power.items()},
                containers=yaml.safe_load(CONTAINERS),
            )
            _write(paths.cluster, text)
    if not paths.cluster.exists():
        wanted = {f"cp{i}": rehearsal.MACHINES_FROM + i for i in range(1, control_plane + 1)}
        vip, client = rehearsal.VIPS_FROM + 1, rehearsal.CLIENT + 1
        place = rehearsal.places(wanted, {vip, client}, subnet)
        machines = "".join(f"  {name}: {{address: {subnet[at]}}}\n" for name, at in place.items())
        machines += f"  client: {{address: {subnet[client]}, roles: [client]}}   # probes run here\n"
        text = CLUSTER.format(
            name=name,
            version=version,
            vip=f"{subnet[vip]}/{subnet.prefixlen}",
            machines=machines,
            accept=(ACCEPT + ACCEPT_TWO * (control_plane == 2) + "\n") if control_plane < 3 else "",
            **power,
        )
        _write(paths.cluster, text + CONTAINERS)
    if not paths.lab.exists():
        more = BARE if image == "bare" else FULL.format(bundles=cache / "bundles")
        _write(paths.lab, LAB.format(name=name, subnet=subnet, subnet6=subnet6, image=image, more=more))


def _read(like: Path) -> dict[str, Any]:
    try:
        text = like.read_bytes().decode("utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(
            f"{like} cannot be read", where=str(like.absolute()), why=error.strerror or str(error)
        ) from None
    folder = like.absolute().parent
    read_cluster(text, file=str(like), folder=folder)
    found: dict[str, Any] = read_document(text, file=str(like)).root
    for source in (found.get("bundle") or {}).get("sources", ()):
        if isinstance(source, dict) and "directory" in source:
            # The lab's file lies in another folder.
            source["directory"] = str(like.absolute().parent / Path(str(source["directory"])).expanduser())
    return found


def _power_command(action: str, lab: str, paths: LabPaths) -> str:
    """A YAML scalar that holds a shell command in which {name} is a field, whatever the path is called."""
    file = shlex.quote(str(paths.cluster.absolute())).replace("{", "{{").replace("}", "}}")
    command = f"haplane lab power {action} {{name}} --file {file}"
    if at_once := {"freeze": "pause", "thaw": "unpause"}.get(action):
        # When it was is known as well as the command is short; haplane itself takes a second to start.
        command = f"podman {at_once} haplane-{lab}-{{name}} 2>/dev/null || {command}"
    return json.dumps(command)


def read_lab(paths: LabPaths) -> LabFile:
    """Raises UsageError when there is no lab beside the cluster file, or its file is wrong."""
    if not paths.lab.exists():
        raise UsageError(
            "there is no lab here",
            where=str(paths.lab),
            hint="make one with `haplane lab up`, or name another cluster file with --file",
        )
    try:
        content = yaml.safe_load(paths.lab.read_text())
        return LabFile.model_validate(content)
    except (yaml.YAMLError, ValidationError, ValueError) as error:
        raise UsageError("lab.yaml cannot be read", where=str(paths.lab), why=str(error)) from None


def make_keys(paths: LabPaths, lab: str, machines: Iterable[Machine]) -> None:
    """The user's key, one host key per machine, and the known_hosts that ties them together."""

    def ensure(path: Path, comment: str) -> str:
        if not path.exists():
            import asyncssh  # takes 0.2 s, which each power cut of a drill would wait for

            path.parent.mkdir(parents=True, exist_ok=True)
            key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
            _write(path, key.export_private_key().decode(), mode=0o600)
            _write(path.with_name(path.name + ".pub"), key.export_public_key().decode(), mode=0o644)
        return path.with_name(path.name + ".pub").read_text().strip()

    ensure(paths.user_key, f"haplane lab {lab}")
    lines = []
    for machine in machines:
        public = ensure(paths.host_key(machine.name), machine.name)
        host = str(machine.address) if machine.ssh.port == 22 else f"[{machine.address}]:{machine.ssh.port}"
        lines.append(f"{host} {' '.join(public.split()[:2])}\n")
    _write(paths.known_hosts, "".join(lines))


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    try:
        replace_file(path, text, mode=mode)
    except OSError as error:
        raise HaplaneError(
            f"cannot write {path}",
            where=str(path),
            why=error.strerror or str(error),
            hint=HINT,
        ) from None
