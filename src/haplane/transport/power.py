"""The commands of `power` in the cluster file, which do things to a machine from outside; and the healer of that."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from haplane.model.cluster import Machine, Power
from haplane.model.errors import UsageError
from haplane.transport import local

# A management controller may take its time.
TIMEOUT_S = 120.0


def required(power: Power | None, file: str) -> Power:
    """Raises UsageError when the file does not say how power is cut."""
    if power is None:
        raise UsageError(
            "the cluster file does not say how a machine's power is cut and restored",
            where=file,
            hint="add, for example:\n"
            "power:\n  off: ipmitool -H {name}-bmc chassis power off\n  on: ipmitool -H {name}-bmc chassis power on",
        )
    return power


def freezing(power: Power, file: str) -> Power:
    """Raises UsageError when the file does not say how a machine is frozen."""
    if not power.freeze:
        raise UsageError(
            "the cluster file does not say how a machine is frozen and thawed",
            where=file,
            hint="add to power, for example:\n  freeze: virsh suspend {name}\n  thaw: virsh resume {name}",
        )
    return power


async def run(command: str, machine: Machine, *, gently: bool = False) -> None:
    """One of the commands of `power`; gently as in `local.run`. Raises HaplaneError."""
    await local.run(
        ["/bin/sh", "-c", _filled(command, machine)],
        environment={"PATH": _path()},
        hint="this is the command of `power` in the cluster file",
        timeout_s=TIMEOUT_S,
        gently=gently,
    )


def _filled(command: str, machine: Machine) -> str:
    return command.format(name=shlex.quote(machine.name), address=shlex.quote(str(machine.address)))


def _path() -> str:
    # The haplane that runs is the one whose `haplane lab power` is meant, also from a virtual environment.
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"


class Healer:
    """A process of its own that runs the command that heals after a while, whatever becomes of this one.

    Arm it before the fault. Raises UsageError when it cannot be started: then there must be no fault.
    """

    def __init__(self, command: str, machine: Machine, *, after_s: float) -> None:
        command = f"sleep {after_s:.0f}\n{_filled(command, machine)}"
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PATH": _path()},
                start_new_session=True,
            )
        except OSError as error:
            raise UsageError("the healer could not be started, so nothing was broken", why=str(error)) from None

    def disarm(self) -> None:
        """The fault is healed: the healer is not needed."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()
