"""What this host must have before a lab can be made; said before anything starts."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from haplane.model.errors import HaplaneError, UsageError
from haplane.model.progress import Progress

# Program -> Debian package. netavark is podman's network backend and fails without iptables.
PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
    "nsenter": "util-linux",
    "ip": "iproute2",
}
# As kind asks of its hosts, and some more: a lab's machines run more daemons.
INOTIFY = {"max_user_instances": 1024, "max_user_watches": 524_288}
# Of podman's containers together, where each control group has a share of real time (cgroup v1); microseconds a second.
REAL_TIME = Path("/sys/fs/cgroup/cpu/libpod_parent/cpu.rt_runtime_us")
REAL_TIME_US, REAL_TIME_EACH_US = 900_000, 60_000
# Of podman's containers together beside the host's own processes, each of which has 1024 (cgroup v1).
SHARES = Path("/sys/fs/cgroup/cpu/libpod_parent/cpu.shares")
SHARES_OF_MACHINES = 2048
NETAVARK = ("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark")


def check_host() -> None:
    """Raises UsageError naming everything that is missing and the command that mends it."""
    problems = list(_missing())
    if problems:
        raise UsageError(
            "this host cannot run a lab yet",
            where="this host",
            why="\n".join(what for what, _ in problems),
            hint="\n".join(dict.fromkeys(cure for _, cure in problems)),
        )


def raise_limits(progress: Progress, *, files: Path = Path("/proc/sys/fs/inotify")) -> None:
    """All machines of all labs share this host's inotify instances, and Linux gives root 128 of them.

    With eight machines they ran out: a kubelet ended with "inotify_init: too many open files" in the middle of a join.
    Raises HaplaneError when the host does not let them be raised.
    """
    for name, wanted in INOTIFY.items():
        file = files / name
        allowed = int(file.read_text())
        if allowed >= wanted:
            continue
        progress.step("lab", f"raising fs.inotify.{name} of this host from {allowed} to {wanted}, until it restarts")
        try:
            file.write_text(str(wanted))
        except OSError as error:
            raise HaplaneError(
                f"this host allows {allowed} of fs.inotify.{name}, and a lab needs more",
                where=str(file),
                why=str(error),
                hint=f"on the host itself: sysctl -w fs.inotify.{name}={wanted}",
            ) from None


def give_processors(file: Path = SHARES) -> None:
    """Machines are not outweighed by what else this host does.

    With cgroup v1 all of them together weigh as much as one of its processes. Much more would hold up what the host
    does for them, such as restoring power. Where nothing can be changed, or need not be (cgroup v2), a lab is made all
    the same.
    """
    _raise(file, SHARES_OF_MACHINES)


def real_time_us(file: Path = REAL_TIME) -> int:
    """What a machine with keepalived has to be given so that it runs in real time there, as where it is no container.

    0: nothing has to be given (cgroup v2), or nothing can be.
    """
    return REAL_TIME_EACH_US if _raise(file, REAL_TIME_US) else 0


def _raise(file: Path, wanted: int) -> bool:
    """Whether podman's containers together have so much now; not where there are no such control groups (cgroup v2)."""
    if not (file.parent.parent / file.name).exists():
        return False
    try:
        file.parent.mkdir(exist_ok=True)
        if int(file.read_text()) < wanted:
            file.write_text(str(wanted))
    except (OSError, ValueError):
        return False
    return True


def _missing() -> Iterator[tuple[str, str]]:
    if platform.system() != "Linux":
        yield f"the lab needs Linux; this is {platform.system()}", "run it in a Linux virtual machine"
        return
    if os.geteuid() != 0:
        yield "not root: machines that boot systemd and own a network need it", "run the same command with sudo"
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program, path=_path()) is None]
    if not any(os.access(path, os.X_OK) for path in NETAVARK):
        packages.append("netavark")
    if packages:
        yield (
            f"missing programs: {', '.join(packages)}",
            f"apt-get install --no-install-recommends {' '.join(packages)}",
        )


def _path() -> str:
    # A user's PATH on Debian often lacks sbin, where iptables and debootstrap are.
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
