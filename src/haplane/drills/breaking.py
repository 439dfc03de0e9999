"""Doing it, and undoing it: each fault with a healer that is armed before, and works whatever becomes of haplane."""

from __future__ import annotations

import asyncio
import shlex
from typing import Protocol

from haplane.design.design import Design
from haplane.drills.catalogue import Drill
from haplane.drills.faults import Fault, Outside
from haplane.drills.holding import FREEZE, POWER_OFF
from haplane.model.cluster import Machine, Power
from haplane.model.errors import HaplaneError
from haplane.phases.lock import guard
from haplane.probes.history import HEAL, POWER_ON
from haplane.transport import power
from haplane.transport.ssh import Remote, Unreachable

HEALER = "haplane-heal"
SHUTDOWN = "shutdown"
# A kubelet gives its pods 90 s.
SHUT_DOWN_WITHIN_S = 120.0
# Arming keeps a machine busy: so long it may take until clients are served well again, and the fault begins.
ARMED_BEFORE_S = 10.0
# Beyond how long the fault lasts: whoever heals has had the chance by then.
GRACE_S = 30.0
ARMED_BY_ANOTHER = 75
NOT_PREPARED = 74


class Breaking(Protocol):
    """machine: its name. fault, healing: the words of the history. Each method raises HaplaneError."""

    machine: str
    fault: str
    healing: str

    async def arm(self) -> None:
        """The healer first; nothing is broken yet."""

    async def inject(self) -> None: ...

    async def heal(self) -> None:
        """Also after an inject that failed, and twice; the healer is disarmed once it is certain."""


class FromOutside:
    """Commands of this host's own; a process of its own heals anyway."""

    def __init__(self, fault: str, healing: str, begin: str, end: str, machine: Machine, *, lasts_s: float) -> None:
        self.machine, self.fault, self.healing = machine.name, fault, healing
        self._begin, self._end, self._target = begin, end, machine
        self._after_s = ARMED_BEFORE_S + power.TIMEOUT_S + lasts_s + GRACE_S
        self._healer: power.Healer | None = None

    async def arm(self) -> None:
        self._healer = power.Healer(self._end, self._target, after_s=self._after_s)

    async def inject(self) -> None:
        # What its start takes from machines of this host would be the last second before the fault.
        await power.run(self._begin, self._target, gently=True)

    async def heal(self) -> None:
        await power.run(self._end, self._target)
        if self._healer:
            self._healer.disarm()


class ShutDown(FromOutside):
    """The machine does it itself; what ends then cannot say that it was done."""

    def __init__(self, switch: Power, machine: Machine, remote: Remote, token: str, *, lasts_s: float) -> None:
        # Interrupted half-way it would go off after its power was restored.
        off_and_on = f"{switch.off}\n{switch.on}"
        super().__init__(SHUTDOWN, POWER_ON, "", off_and_on, machine, lasts_s=lasts_s)
        self._remote, self._token = remote, token

    async def inject(self) -> None:
        await self._remote.run(guard(self._token) + "systemctl poweroff --no-block", shown_as="shut the machine down")


class OnMachine:
    """A script on the machine; a transient timer there runs the one that heals."""

    healing = HEAL

    def __init__(self, drill: Drill, fault: Fault, remote: Remote, token: str, *, lasts_s: float) -> None:
        self.machine, self.fault = remote.name, drill.name
        self._fault, self._remote, self._token = fault, remote, token
        self._after_s = ARMED_BEFORE_S + lasts_s + GRACE_S

    async def arm(self) -> None:
        name = self._remote.name
        done = await self._remote.run(
            guard(self._token) + arm_script(self._fault, self._after_s), check=False, shown_as="arm the healer"
        )
        if done.code == ARMED_BY_ANOTHER:
            raise HaplaneError(
                f"a healer of an earlier drill is still armed on {name}, so nothing was broken",
                where=f"{name}: {HEALER}.timer",
                hint=f"it heals by itself; or heal now: systemctl start {HEALER}.service on {name}",
            )
        if done.code == NOT_PREPARED:
            raise HaplaneError(
                f"{self.fault} could not be prepared on {name}, so nothing was broken",
                where=name,
                why=done.stderr.strip(),
                hint="what cuts off the network needs nft there (apt-get install nftables)"
                if "nft" in done.stderr
                else "",
            )
        if done.code:
            raise HaplaneError(
                f"the healer could not be armed on {name}, so nothing was broken",
                where=f"{name}: systemd-run",
                why=done.stderr.strip(),
                hint="a drill breaks nothing that would not be mended without it",
            )

    async def inject(self) -> None:
        await self._remote.run(guard(self._token) + self._fault.inject, shown_as=f"inject {self.fault}")

    async def heal(self) -> None:
        try:
            await self._remote.run(heal_script(self._fault), shown_as=f"heal {self.fault}", timeout_s=60)
        except Unreachable:
            # The timer does it: nothing is said to be healed before its time.
            await asyncio.sleep(self._after_s)


def arm_script(fault: Fault, after_s: float) -> str:
    """Puts the healer's script there, starts its timer, and prepares the fault; undone when that fails."""
    run = f"systemd-run --quiet --collect --unit={HEALER} --on-active={after_s:.0f} --timer-property=AccuracySec=1s"
    return f"""
systemctl is-active --quiet {HEALER}.timer {HEALER}.service && exit {ARMED_BY_ANOTHER}
set -e
{run} /bin/sh -c {shlex.quote(fault.heal)}
systemctl is-active --quiet {HEALER}.timer
/bin/sh -ec {shlex.quote(fault.prepare or ":")} || {{ {heal_script(fault).strip()}
exit {NOT_PREPARED}; }}
"""


def heal_script(fault: Fault) -> str:
    """What the timer would run, and then the timer is not needed."""
    return f"(\n{fault.heal}\n)\nsystemctl stop {HEALER}.timer 2>/dev/null\ntrue\n"


async def refuse_the_hosts_own(remote: Remote, here: str) -> None:
    """No fault where the machine's namespaces are those of the host that haplane runs on. here: `namespaces()`."""
    there = (await remote.run(NAMESPACES, shown_as="read namespaces")).stdout.strip()
    boot, *spaces = there.split() or [""]
    own_boot, *own = here.split() or [""]
    shared = sorted(set(spaces) & set(own)) if boot == own_boot else []
    if shared:
        raise HaplaneError(
            f"{remote.name} is the machine that haplane runs on, or shares its namespaces; nothing was broken",
            where=remote.name,
            why=", ".join(shared),
            hint="run drills from another machine",
        )


NAMESPACES = "cat /proc/sys/kernel/random/boot_id; for n in net mnt pid; do readlink /proc/1/ns/$n; done"


def making(
    drill: Drill, design: Design, machine: Machine, remote: Remote, token: str, switch: Power | None
) -> Breaking:
    """Raises UsageError where the file does not say how something is done from outside."""
    if not isinstance(drill.make, Outside):
        return OnMachine(drill, drill.make(design, machine), remote, token, lasts_s=drill.lasts_s)
    file = design.cluster.file
    switch = power.required(switch, file)
    if drill.make is Outside.SHUT_DOWN:
        lasts_s = SHUT_DOWN_WITHIN_S + drill.lasts_s
        return ShutDown(switch, machine, remote, token, lasts_s=lasts_s)
    if drill.make is Outside.FREEZE:
        switch = power.freezing(switch, file)
        return FromOutside(FREEZE, HEAL, switch.freeze, switch.thaw, machine, lasts_s=drill.lasts_s)
    return FromOutside(POWER_OFF, POWER_ON, switch.off, switch.on, machine, lasts_s=drill.lasts_s)
