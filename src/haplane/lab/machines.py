"""Machines as podman containers that boot systemd, on a network without a route out.

Sources: podman-run(1); the flags below were found by trying on cgroup v1 (hybrid) with runc, see `_create`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from haplane.lab import image, outer, rehearsal
from haplane.lab.files import LabFile, LabPaths
from haplane.lab.host import give_processors, raise_limits, real_time_us
from haplane.model.cluster import Cluster, Machine, Role
from haplane.model.errors import HaplaneError, UsageError
from haplane.model.progress import Progress
from haplane.transport import local

BOOT_TIMEOUT_S = 60
FREEZE_ATTEMPTS = 10


@dataclass(frozen=True)
class Seen:
    """One container as podman shows it."""

    machine: str
    state: str
    pid: int


@dataclass(frozen=True)
class Lab:
    """All that is needed to act on one lab."""

    paths: LabPaths
    file: LabFile
    cluster: Cluster

    @property
    def machines(self) -> Mapping[str, Machine]:
        """The cluster's, and the stand-in for a load balancer of yours where the design has one."""
        outside = self.stand_in
        return {**self.cluster.machines, outside.name: outside} if outside else self.cluster.machines

    @property
    def stand_in(self) -> Machine | None:
        return outer.machine(self.cluster, next(iter(self.cluster.machines.values())).ssh)

    def spare_address(self, name: str) -> IPv4Address:
        """For a machine with IPv6 alone: podman would give it one of those that others have by name."""
        endpoint, machines = self.cluster.endpoint, [*self.machines.values()]
        used = {*(vip.ip for vip in endpoint.vips), *(address for one in machines for address in one.addresses)}
        if endpoint.outside:
            used.add(endpoint.outside)
        first = int(self.file.subnet.network_address)
        taken = {int(one) - first for one in used if one in self.file.subnet}
        wanted = {
            one.name: rehearsal.ONLY_IPV6_FROM + position
            for position, one in enumerate(machines)
            if one.address_of(4) is None
        }
        return self.file.subnet[rehearsal.places(wanted, taken, self.file.subnet)[name]]

    @property
    def network(self) -> str:
        return f"haplane-{self.file.name}"

    def container(self, machine: str) -> str:
        return f"haplane-{self.file.name}-{machine}"

    def image_of(self, name: str) -> str:
        """The kind of image. Clients stay full: probes need Python, and who stands in for a load balancer HAProxy."""
        usual = "full" if self.machines[name].roles == {Role.CLIENT} else self.file.image
        return self.file.images.get(name, usual)

    def machine(self, name: str) -> Machine:
        if name not in self.machines:
            known = ", ".join(self.machines)
            raise UsageError(f"there is no machine {name} in this lab", where=str(self.paths.cluster), hint=known)
        return self.machines[name]


async def up(lab: Lab, *, cache: Path, progress: Progress) -> None:
    """Make what is missing: image, network, machines; then wait until every sshd answers."""
    raise_limits(progress)
    # Also for machines that are there already: what is above them has forgotten it if this host was restarted.
    give_processors()
    share_us = real_time_us()
    tags = await ensure_images(lab, cache=cache, progress=progress)
    await _ensure_network(lab)
    seen = {one.machine: one for one in await status(lab)}

    async def one(machine: Machine) -> None:
        progress.now(machine.name, "starting")
        if machine.name not in seen:
            await _create(lab, machine, tags[lab.image_of(machine.name)], share_us)
        elif seen[machine.name].state == "paused":
            await thaw(lab, machine.name)
        elif seen[machine.name].state != "running":
            await local.run(["podman", "start", lab.container(machine.name)])

    # podman's network set-up takes a lock of its own: side by side is still quicker than one by one.
    await asyncio.gather(*(one(machine) for machine in lab.machines.values()))
    await _ensure_host_address(lab)
    await asyncio.gather(*(_wait_for_sshd(machine, progress) for machine in lab.machines.values()))
    if stand_in := lab.stand_in:
        command = ["podman", "exec", "--interactive", lab.container(stand_in.name), "sh", "-c", outer.START]
        await local.run(command, stdin=outer.config(lab.cluster).encode())


async def ensure_images(lab: Lab, *, cache: Path, progress: Progress) -> dict[str, str]:
    """The tag of each kind of image that the lab needs, made if it is missing."""
    kinds = {lab.image_of(name) for name in lab.machines}
    if unknown := kinds - set(image.KINDS):
        raise UsageError(f"unknown image {unknown.pop()}", where=str(lab.paths.lab), hint=" or ".join(image.KINDS))
    return {kind: await image.ensure_image(kind, cache=cache, progress=progress) for kind in sorted(kinds)}


async def down(lab: Lab, *, progress: Progress) -> None:
    """Remove the lab's machines, their volumes and the network. The files stay."""
    names = [one.machine for one in await status(lab)]
    if names:
        progress.now("lab", f"removing {', '.join(names)}")
        containers = [lab.container(name) for name in names]
        await local.run(["podman", "rm", "--force", "--volumes", "--time", "0", *containers])
    await local.run(["podman", "network", "rm", "--force", lab.network], check=False)
    progress.done("lab", "down")


async def status(lab: Lab) -> tuple[Seen, ...]:
    """The containers that exist now, in the cluster file's order (others of this lab's name last)."""
    prefix = lab.container("")
    _, out, _ = await local.run(
        ["podman", "ps", "--all", "--format", "json", "--filter", f"label=haplane.lab={lab.file.name}"]
    )
    found = {}
    for entry in json.loads(out or "[]"):
        name = entry["Names"][0].removeprefix(prefix)
        found[name] = Seen(machine=name, state=entry["State"], pid=entry.get("Pid") or 0)
    order = [*lab.machines, *(name for name in found if name not in lab.machines)]
    return tuple(found[name] for name in order if name in found)


async def power_off(lab: Lab, name: str) -> None:
    """Cut the power: first the link, so that no FIN or RST of the dying machine gets out, then kill everything."""
    one = await _made(lab, name)
    if one.state not in ("running", "paused"):
        return
    # Only the way out is cut; the veths of pods stay, as they do in a machine that loses its power at once.
    await _set_link(one, "down")
    if one.state == "paused":
        # What is frozen cannot be killed.
        await local.run(["podman", "unpause", lab.container(name)])
    await local.run(["podman", "kill", "--signal", "KILL", lab.container(name)])


async def power_on(lab: Lab, name: str) -> None:
    """Start a machine that is off; of one that runs, make sure that its link is up and that it is not frozen."""
    await thaw(lab, name)
    give_processors()
    real_time_us()
    await local.run(["podman", "start", lab.container(name)], hint="haplane lab up makes machines that are missing")
    await _ensure_host_address(lab)
    for one in await status(lab):
        if one.machine == name and one.state == "running":
            # A power cut that was interrupted half-way has cut the link and killed nothing.
            await _set_link(one, "up")


async def freeze(lab: Lab, name: str) -> None:
    """Stop every process in it at once; its kernel is this host's and goes on."""
    if (await _made(lab, name)).state != "running":
        return
    pause = ["podman", "pause", lab.container(name)]
    # runc gives up, and lets all go on, while a process of a busy machine cannot be stopped (cgroup v1).
    for _ in range(FREEZE_ATTEMPTS - 1):
        code, _, err = await local.run(pause, check=False)
        if code == 0:
            return
        if "unable to freeze" not in err:
            break
    await local.run(pause, hint="nothing was frozen; try again")


async def thaw(lab: Lab, name: str) -> None:
    if (await _made(lab, name)).state == "paused":
        await local.run(["podman", "unpause", lab.container(name)])


async def _made(lab: Lab, name: str) -> Seen:
    lab.machine(name)
    one = next((one for one in await status(lab) if one.machine == name), None)
    if one is None:
        raise UsageError(f"{name} has not been made yet", hint="haplane lab up")
    return one


async def _set_link(one: Seen, state: Literal["up", "down"]) -> None:
    namespace = Path(f"/proc/{one.pid}/ns/net")
    if one.pid <= 1 or namespace.stat().st_ino == Path("/proc/self/ns/net").stat().st_ino:
        # Never touch this host's own link: a fault must stay inside the lab.
        raise HaplaneError(
            f"{one.machine} shares this host's network: nothing was done",
            hint="remove it (haplane lab down) and make it anew",
        )
    await local.run(["nsenter", f"--net={namespace}", "ip", "link", "set", "eth0", state])


def shell_command(lab: Lab, name: str) -> list[str]:
    lab.machine(name)
    return ["podman", "exec", "--interactive", "--tty", lab.container(name), "/bin/bash", "--login"]


async def _ensure_network(lab: Lab) -> None:
    code, _, _ = await local.run(["podman", "network", "exists", lab.network], check=False)
    if code == 0:
        return
    # --internal: no gateway and no NAT, so nothing in the lab can reach anything outside.
    subnets = ["--subnet", str(lab.file.subnet)]
    if lab.file.subnet6:
        subnets += ["--ipv6", "--subnet", str(lab.file.subnet6)]
    await local.run(
        ["podman", "network", "create", "--internal", "--disable-dns", *subnets, lab.network],
        hint="another network may use these addresses: change subnet, vip and addresses in lab.yaml and cluster.yaml",
    )


async def _ensure_host_address(lab: Lab) -> None:
    """Give this host an address on the lab's bridge, so that SSH reaches the machines.

    The bridge goes when the last machine stops, and its address with it.
    """
    _, out, _ = await local.run(["podman", "network", "inspect", lab.network])
    bridge = json.loads(out)[0]["network_interface"]
    subnets: list[IPv4Network | IPv6Network] = [lab.file.subnet, *([lab.file.subnet6] if lab.file.subnet6 else [])]
    for subnet in subnets:
        address = f"{next(iter(subnet.hosts()))}/{subnet.prefixlen}"
        nodad = ["nodad"] if subnet.version == 6 else []
        await local.run(["ip", "address", "replace", address, "dev", bridge, *nodad])


async def _create(lab: Lab, machine: Machine, tag: str, real_time_us: int) -> None:
    """Why these flags: crun refuses hybrid cgroups, hence runc. --systemd=always breaks kubelet there (it bind-mounts
    the host's name=systemd hierarchy over the private one, and runc inside then cannot mount /sys/fs/cgroup), hence
    --systemd=false with what systemd needs given by hand, and a private cgroup namespace. Volumes for containerd and
    disks: overlayfs cannot lie on overlayfs, and etcd's fsync should reach a real file system.
    """
    arguments = ["podman", "run", "--detach", "--name", lab.container(machine.name), "--hostname", machine.name]
    arguments += ["--label", f"haplane.lab={lab.file.name}", "--runtime", "runc", "--privileged"]
    arguments += ["--systemd=false", "--cgroupns=private", "--env", "container=podman", "--stop-signal=SIGRTMIN+3"]
    arguments += ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp"]
    arguments += ["--ulimit", "nofile=1024:20000", "--ulimit", "nproc=4096:4096", "--no-hosts", "--dns=none"]
    arguments += ["--volume", "/var/lib/containerd"]
    if {Role.CONTROL_PLANE, Role.ETCD} & set(machine.roles):
        arguments += ["--volume", image.DISKS]
    if Role.CONTROL_PLANE not in machine.roles:
        # Where clients are is another machine with processors of its own: its probes should not wait for the cluster.
        arguments += ["--cpu-shares", "8192"]
    if real_time_us and machine in lab.cluster.balancers:
        arguments += ["--cpu-rt-runtime", str(real_time_us)]
    key = lab.paths.host_key(machine.name).absolute()
    arguments += ["--volume", f"{key}:/etc/ssh/ssh_host_ed25519_key:ro"]
    public = lab.paths.user_key.with_name("id_ed25519.pub").absolute()
    home = "/root" if machine.ssh.user == "root" else f"/home/{machine.ssh.user}"
    arguments += ["--volume", f"{public}:{home}/.ssh/authorized_keys:ro"]
    for outside, inside in lab.file.mounts.items():
        Path(outside).expanduser().mkdir(parents=True, exist_ok=True)
        arguments += ["--volume", f"{Path(outside).expanduser().absolute()}:{inside}:ro"]
    addresses = ",".join(f"{'ip6' if one.version == 6 else 'ip'}={one}" for one in machine.addresses)
    if machine.address_of(4) is None:
        addresses += f",ip={lab.spare_address(machine.name)}"
    arguments += ["--network", f"{lab.network}:{addresses}", tag, "/sbin/init"]
    await local.run(arguments)


async def _wait_for_sshd(machine: Machine, progress: Progress) -> None:
    started = time.monotonic()
    while time.monotonic() - started < BOOT_TIMEOUT_S:
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(str(machine.address), machine.ssh.port)
                banner = await reader.readline()
                writer.close()
            if banner.startswith(b"SSH-"):
                progress.done(machine.name, f"up after {time.monotonic() - started:.1f} s")
                return
        except OSError:
            pass
        await asyncio.sleep(0.1)
    raise HaplaneError(
        f"{machine.name} was started, but its sshd did not answer within {BOOT_TIMEOUT_S} s",
        where=f"{machine.address} port {machine.ssh.port}",
        hint=f"haplane lab shell {machine.name}, then: systemctl --failed; journalctl -b",
    )
