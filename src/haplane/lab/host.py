"""What this host must have before a lab can be made; said before anything starts."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator

from haplane.model.errors import UsageError

# Program -> Debian package. netavark is podman's network backend and fails without iptables.
PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
    "nsenter": "util-linux",
    "ip": "iproute2",
}
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
