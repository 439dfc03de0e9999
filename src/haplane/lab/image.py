"""The machine image: Debian trixie with the packages of a control-plane node, made by debootstrap.

`full` carries the packages so that a lab is quick; `bare` has nothing but systemd and sshd (and what a jump host
and sudo need), as a freshly installed machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from haplane.components.base import SLICE
from haplane.model.errors import CommandFailed
from haplane.model.progress import Progress
from haplane.transport import local

RELEASE = "trixie"
DEFAULT_MIRROR = "http://deb.debian.org/debian"

BARE = (
    *("systemd", "systemd-sysv", "dbus", "iproute2", "openssh-server", "sudo", "ca-certificates", "kmod", "procps"),
    # For the disk of etcd, see ETCD_DISK.
    "e2fsprogs",
)
FULL = (
    *BARE,
    *("iptables", "nftables", "keepalived", "haproxy", "containerd", "runc", "conntrack", "socat", "ethtool"),
    *("nginx", "libnginx-mod-stream"),
    *("iputils-ping", "iputils-arping", "containernetworking-plugins", "curl", "ebtables", "psmisc", "mount", "tar"),
    # Only probes need Python, and only on the client machine; one image for all is quicker than two.
    "python3",
)
KINDS = {"full": FULL, "bare": BARE}

# Of each second, in microseconds, for what clients depend on; the machine has a little more (host.REAL_TIME_EACH_US).
REAL_TIME_US = 50_000

# etcd's data has a file system of its own, as it should have, so that a drill can fill or freeze that one alone.
# A host without loop devices has none: then it is a folder on the host's.
DISKS = "/var/lib/lab-disks"
ETCD_DISK = f"""\
[ -d {DISKS} ] || exit 0
mkdir -p /var/lib/etcd
disk={DISKS}/etcd.img
[ -e $disk ] || {{ truncate -s 2G $disk.new && mkfs.ext4 -q -F -m 0 $disk.new && mv $disk.new $disk; }}
for n in $(seq 0 63); do [ -e /dev/loop$n ] || mknod -m 0660 /dev/loop$n b 7 $n; done
mount -o loop $disk /var/lib/etcd || {{ mkdir -p {DISKS}/etcd && mount --bind {DISKS}/etcd /var/lib/etcd; }}
chmod 700 /var/lib/etcd
"""

# The machine's own name, in a file that podman does not rewrite; and no way out of the lab's network.
BOOT_UNIT = """\
[Unit]
Description=What makes this container a lab machine
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'grep -q " $(uname -n)$" /etc/hosts || echo "127.0.1.1 $(uname -n)" >> /etc/hosts'
ExecStart=-/sbin/ip route del default
ExecStart=/bin/sh /usr/local/lib/lab-etcd-disk
[Install]
WantedBy=sysinit.target
"""

# Machines of a lab share processors, and a holder of the VIP that waits 0.3 s for one has lost it. keepalived asks for
# real time itself, but where control groups have shares of it (cgroup v1) a new one has none; and where root may not
# raise limits (no CAP_SYS_RESOURCE) keepalived 2.3.3 is killed soon after a reload: for its time it sets its limit of
# real time to 0, from a variable that it has never written. So the machine gives it what it asks for.
# It takes 2 to 4 ms of each second, and more when the VIP moves.
REAL_TIME = f"""\
[Service]
CapabilityBoundingSet=~CAP_SYS_NICE
ExecStartPost=-+/bin/sh -c '\\
  share=/sys/fs/cgroup/cpu/{SLICE}/cpu.rt_runtime_us; [ ! -e $share ] || echo {REAL_TIME_US} > $share; \\
  for pid in $(pgrep --parent $MAINPID); do chrt --rr --reset-on-fork --pid 50 $pid; done'
"""

PREPARE = f"""
set -e
root=$1
rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/machine-id
: > "$root/etc/machine-id"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/*
mkdir -p "$root/etc/ssh/sshd_config.d" "$root/root/.ssh" "$root/etc/systemd/system/sysinit.target.wants"
chmod 700 "$root/root/.ssh"
printf 'HostKey /etc/ssh/ssh_host_ed25519_key\\nUseDNS no\\nMaxStartups 100\\n' > "$root/etc/ssh/sshd_config.d/lab.conf"
printf '127.0.0.1 localhost\\n::1 localhost\\n' > "$root/etc/hosts"
printf '# no name server: the lab has no route out\\n' > "$root/etc/resolv.conf"
echo 'This machine belongs to a lab: faults may be injected without asking.' > "$root/etc/haplane-lab"
mkdir -p "$root/usr/local/lib"
cat > "$root/usr/local/lib/lab-etcd-disk" <<'SCRIPT'
{ETCD_DISK}SCRIPT
cat > "$root/etc/systemd/system/lab-machine.service" <<'UNIT'
{BOOT_UNIT}UNIT
mkdir -p "$root/etc/systemd/system/keepalived.service.d"
cat > "$root/etc/systemd/system/keepalived.service.d/lab.conf" <<'UNIT'
{REAL_TIME}UNIT
ln -s ../lab-machine.service "$root/etc/systemd/system/sysinit.target.wants/lab-machine.service"
for unit in systemd-networkd-wait-online systemd-firstboot console-getty; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done
ln -sf /dev/null "$root/etc/systemd/system/getty.target"
# Each machine makes its own when it boots first: two with one identity look like one to whatever asks.
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
# Debian's packages start their daemons with a configuration that nobody asked for.
for unit in keepalived haproxy nginx containerd; do
  rm -f "$root"/etc/systemd/system/*.wants/$unit.service
done
"""


def recipe_digest(kind: str) -> str:
    return hashlib.sha256("\n".join([RELEASE, *KINDS[kind], PREPARE]).encode()).hexdigest()[:12]


def tag(kind: str) -> str:
    return f"localhost/haplane/machine-{kind}:{recipe_digest(kind)}"


async def ensure_image(kind: str, *, cache: Path, progress: Progress) -> str:
    """Make the image of this kind unless it is there, and return its tag."""
    name = tag(kind)
    code, _, _ = await local.run(["podman", "image", "exists", name], check=False)
    if code == 0:
        return name
    subject = f"machine image ({kind})"
    debs = cache / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    # Beside the cache, not in /tmp: that may be a small tmpfs or be mounted nodev, where debootstrap refuses.
    work = Path(tempfile.mkdtemp(prefix=".image-", dir=cache))
    try:
        root = work / "root"
        await _debootstrap(root, KINDS[kind], debs, progress, subject)
        progress.now(subject, "importing into podman")
        await local.run(["sh", "-c", PREPARE, "prepare", str(root)])
        script = 'tar -C "$1" -c . | podman import -q - "$2"'
        await local.run(["sh", "-c", script, "import", str(root), name])
    finally:
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
    progress.done(subject, "made")
    return name


async def _debootstrap(root: Path, packages: Sequence[str], debs: Path, progress: Progress, subject: str) -> None:
    arguments = ["debootstrap", "--variant=minbase", f"--cache-dir={debs}", f"--include={','.join(packages)}"]
    arguments += [RELEASE, str(root), host_mirror()]
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async for raw in process.stdout:
            line = raw.decode(errors="replace").strip()
            lines.append(line)
            progress.now(subject, line.removeprefix("I: ")[:60])
        code = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if code:
        log = root / "debootstrap" / "debootstrap.log"
        tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise CommandFailed(
            local.THIS_HOST,
            "debootstrap ... " + RELEASE,
            code,
            "\n".join(lines[-12:]) + "\n" + tail,
            hint="is the Debian mirror reachable? haplane uses the one in this host's apt sources",
        )


def host_mirror() -> str:
    """The Debian mirror that this host's own apt uses, so that a lab works wherever apt-get does."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for path in sources:
        text = path.read_text(errors="replace") if path.is_file() else ""
        for found in re.finditer(
            r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(https?://\S+/debian/?)(?=\s|$)", text, re.MULTILINE
        ):
            return found.group(1)
    return DEFAULT_MIRROR
