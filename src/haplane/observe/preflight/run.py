"""Read all machines at once, part by part. The only module here that touches a machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import asyncssh

from haplane.design.design import Design
from haplane.design.hazards.finding import Severity
from haplane.model.cluster import Cluster, Machine
from haplane.model.errors import HaplaneError
from haplane.model.progress import Progress
from haplane.observe.preflight import asking, host, installed, meeting, perl, timing
from haplane.observe.preflight.probe import Asking, Clock, Disk, Host, Installed, Part, Probe, Stall
from haplane.observe.preflight.report import Report, judge
from haplane.transport.ssh import Remote

CLOCK_SAMPLES = 3
READY_WITHIN_S = 20
# Beyond what a command itself says it takes.
PATIENCE_S = 30

T = TypeVar("T")


@dataclass
class _Notes:
    """What is known of one machine so far."""

    probe: Probe = field(default_factory=Probe)

    def missing(self, part: Part, why: str) -> None:
        self.probe = replace(self.probe, missing={**self.probe.missing, part: why})


async def preflight(
    design: Design,
    remotes: Mapping[str, Remote],
    *,
    slow: bool,
    progress: Progress,
    stall_s: float = timing.STALL_S,
) -> Report:
    """Read the machines that were reached and judge them; nothing on them is changed.

    slow: also the disk's speed (at most 5 s) and stalls (stall_s seconds), and a longer ear for strangers. What fails
    on one machine is not tried there, and the report says why.
    """
    probes = await read(design, remotes, slow=slow, progress=progress, stall_s=stall_s)
    report = judge(design, probes, slow=slow)
    for name in probes:
        progress.done(name, _summary(report, name))
    return report


async def read(
    design: Design, remotes: Mapping[str, Remote], *, slow: bool, progress: Progress, stall_s: float = timing.STALL_S
) -> Mapping[str, Probe]:
    """What `judge` judges, by machine. A machine without a remote is not in it."""
    cluster = design.cluster
    machines = {name: machine for name, machine in cluster.machines.items() if name in remotes}
    notes = {name: _Notes() for name in machines}

    async def each(text: str, read_one: Callable[[Machine, Remote, _Notes], Awaitable[None]]) -> None:
        for name in machines:
            progress.step(name, text)
        await asyncio.gather(*(read_one(machine, remotes[name], notes[name]) for name, machine in machines.items()))

    async def host_of(machine: Machine, remote: Remote, note: _Notes) -> None:
        found = await _parsed(
            note, Part.HOST, remote, host.command(cluster, machine), host.parse, what="read the machine", seconds=30
        )
        note.probe = replace(note.probe, host=found or Host())

    async def installed_of(machine: Machine, remote: Remote, note: _Notes) -> None:
        script = installed.command(design, machine)
        found = await _parsed(
            note, Part.INSTALLED, remote, script, installed.parse, what="read what is installed", seconds=30
        )
        note.probe = replace(note.probe, installed=found or Installed())

    async def clock_of(machine: Machine, remote: Remote, note: _Notes) -> None:
        try:
            note.probe = replace(note.probe, clock=await _clock(remote))
        except (HaplaneError, ValueError) as error:
            note.missing(Part.CLOCK, _why(error))

    async def asking_of(machine: Machine, remote: Remote, note: _Notes) -> None:
        if not note.probe.host.interface_of(machine.address):
            note.missing(Part.ASKING, f"no interface has {machine.address}")
            return
        script = asking.command(cluster, machine, note.probe.host)
        found = await _parsed(
            note, Part.ASKING, remote, script, asking.parse, what="ask the other machines", seconds=60
        )
        note.probe = replace(note.probe, asking=found or Asking())

    async def disk_of(machine: Machine, remote: Remote, note: _Notes) -> None:
        if machine in cluster.etcd_members:
            script, seconds = timing.disk_command(), timing.DISK_S
            found = await _parsed(
                note, Part.DISK, remote, script, timing.parse_disk, what="time the disk", seconds=seconds
            )
            note.probe = replace(note.probe, disk=found or Disk())

    async def stall_of(machine: Machine, remote: Remote, note: _Notes) -> None:
        if machine in cluster.balancers:
            script = timing.stall_command(stall_s)
            found = await _parsed(
                note, Part.STALL, remote, script, timing.parse_stall, what="watch for stalls", seconds=stall_s
            )
            note.probe = replace(note.probe, stall=found or Stall())

    await each("read", host_of)
    await each("read what is installed", installed_of)
    await each("compare the clock", clock_of)
    for name in machines:
        progress.step(name, "meet the other machines")
    seconds = meeting.LISTEN_SLOW_S if slow else meeting.LISTEN_S
    await _meet(cluster, remotes, notes, seconds=seconds)
    await each("ask the other machines", asking_of)
    if slow:
        await each("time the disk", disk_of)
        await each(f"watch for stalls ({stall_s:g} s)", stall_of)
    return {name: note.probe for name, note in notes.items()}


async def _parsed(
    note: _Notes, part: Part, remote: Remote, script: str, parse: Callable[[str], T], *, what: str, seconds: float
) -> T | None:
    """What one command says; None, with a note of why, when it says nothing."""
    try:
        done = await remote.run(script, shown_as=what, timeout_s=seconds + PATIENCE_S)
        return parse(done.stdout)
    except (HaplaneError, perl.CouldNot, ValueError, IndexError) as error:
        note.missing(part, _why(error))
        return None


async def _clock(remote: Remote) -> Clock:
    """The sample with the shortest round trip says the most."""
    best: Clock | None = None
    for _ in range(CLOCK_SAMPLES):
        here, begun = time.time(), time.monotonic()
        done = await remote.run("date +%s.%N", shown_as="read the clock", timeout_s=10)
        error_s = (time.monotonic() - begun) / 2
        found = Clock(float(done.stdout) - here - error_s, error_s)
        best = found if best is None or found.error_s < best.error_s else best
    assert best is not None
    return best


async def _meet(
    cluster: Cluster, remotes: Mapping[str, Remote], notes: Mapping[str, _Notes], *, seconds: float
) -> None:
    """Each machine begins when all are ready, or when READY_WITHIN_S have passed: the rest is then missing."""
    waiting = set(notes)
    begin = asyncio.Event()

    def ready(name: str) -> None:
        waiting.discard(name)
        if not waiting:
            begin.set()

    async def one(name: str) -> None:
        try:
            note, machine = notes[name], cluster.machines[name]
            interface = note.probe.host.interface_of(machine.address)
            script = meeting.command(cluster, machine, interface=interface, seconds=seconds)
            async with asyncio.timeout(READY_WITHIN_S + seconds + PATIENCE_S):
                output = await _take_part(remotes[name], script, begin, lambda: ready(name))
            note.probe = replace(note.probe, meeting=meeting.parse(output))
        except TimeoutError:
            note.missing(Part.MEETING, "it did not end in time")
        except (HaplaneError, asyncssh.Error, OSError, perl.CouldNot, ValueError, IndexError) as error:
            note.missing(Part.MEETING, _why(error))
        finally:
            ready(name)

    async def no_longer() -> None:
        await asyncio.sleep(READY_WITHIN_S)
        begin.set()

    patience = asyncio.create_task(no_longer())
    try:
        await asyncio.gather(*(one(name) for name in notes))
    finally:
        patience.cancel()


async def _take_part(remote: Remote, script: str, begin: asyncio.Event, ready: Callable[[], None]) -> str:
    """Everything that the command says. begin: when it is told to begin."""
    process = await remote.start(script)
    try:
        output = ""
        while line := await process.stdout.readline():
            if line == "ready\n":
                ready()
                await begin.wait()
                process.stdin.write("go\n")
                process.stdin.write_eof()
            else:
                output += line
        done = await process.wait()
        if done.returncode != 0:
            raise perl.CouldNot(str(done.stderr or "").strip()[-300:] or "its command ended early")
        return output
    finally:
        process.close()


def _why(error: Exception) -> str:
    if isinstance(error, HaplaneError):
        last = error.why.strip().splitlines()[-1:]
        return ": ".join((error.what, *last))
    return str(error) or type(error).__name__


def _summary(report: Report, machine: str) -> str:
    mine = [one for one in report.findings if one.machine == machine and not one.accepted]
    counts = {severity: sum(one.severity is severity for one in mine) for severity in Severity}
    said = [
        f"{count} {severity}{'s' if count > 1 and severity is not Severity.ADVICE else ''}"
        for severity, count in counts.items()
        if count
    ]
    return ", ".join(said) or "ready"
