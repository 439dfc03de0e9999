"""A drill, run: look, arm, probe, break, wait, heal, wait until whole; the history is saved before it is judged."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from haplane.design.cuts import survives
from haplane.design.design import Design
from haplane.drills import breaking, calm, history_file, judging, noise
from haplane.drills.breaking import Breaking
from haplane.drills.catalogue import IDLE_CONNECTIONS, RATE, Drill, for_parts
from haplane.drills.faults import Outside
from haplane.drills.history_file import HistoryFile
from haplane.drills.holding import POWER_OFF
from haplane.drills.judging import Judged
from haplane.drills.services import NO_SERVICES, Services, refuse_silent
from haplane.drills.silence import Silence
from haplane.drills.targets import parts, targets
from haplane.model.cluster import Cluster, Machine, Role
from haplane.model.errors import HaplaneError, UsageError
from haplane.model.progress import Progress
from haplane.observe import status as observe
from haplane.observe.facts import AUTHORITY
from haplane.phases.lock import locked
from haplane.probes import writing
from haplane.probes.history import CALM, POWER_ON, WHOLE, History, Mark, Relation, relate, to_line
from haplane.probes.observing import Observers
from haplane.probes.pinging import Pinger
from haplane.probes.prober.schedule import IDLE_PACE
from haplane.probes.running import Prober
from haplane.transport import local
from haplane.transport.ssh import Fleet, Remote

WRITE_RATE = 10.0
# The register is set so often, and read twice as often.
REGISTER_RATE = 5.0
# The balancer spreads them over the apiservers.
WATCHES = 3
LEASE_RATE = 2.0
# The usual idle connections are made in a second; then a while in which nothing is broken.
BEFORE_S = 3.5
# A machine that has just been set up or mended is busy for a while.
CALM_WITHIN_S = 60.0
AFTER_S = 3.0
# Until the first answers of the machine whose power is cut.
PINGED_S = 0.3
# The prober's clock is read so often: clocks drift apart.
READ_CLOCK_EVERY_S = 3.0
LAB_MARK = "/etc/haplane-lab"


@dataclass(frozen=True)
class Result:
    """One run. history_file holds all that verdicts were made of."""

    history: History
    history_file: Path
    judged: Judged


@dataclass(frozen=True)
class Asked:
    """What the user wants. folder: where histories go. confirm: asked before a machine that is no lab's is touched.

    on: the machine to break, whatever part it plays; empty: those that play the drill's. services: asked meanwhile.
    spares_holder: never the one that holds the VIP.
    """

    design: Design
    folder: Path
    confirm: Callable[[str], Awaitable[None]]
    progress: Progress
    allow_outage: bool = False
    on: str = ""
    services: Services = NO_SERVICES
    spares_holder: bool = False


class Spared(HaplaneError):
    """The drill would have been done to the VIP's holder."""


class NotWhole(HaplaneError):
    """A drill needs a cluster that is whole."""


async def run(drill: Drill, asked: Asked) -> Result:
    """Break it, measure it, heal it.

    Refuses (HaplaneError) on a cluster that is not whole (NotWhole), and what the design does not survive. However it
    ends, the fault is healed.
    """
    cluster, progress = asked.design.cluster, asked.progress
    _refuse_clients(asked)
    async with Fleet(cluster.machines) as fleet:
        nodes, client = await connect(fleet, cluster)
        async with locked(nodes, command=f"haplane drill run {drill.name}") as token:
            progress.now("drill", "looking whether the cluster is whole")
            status = await observe.read_from(cluster, nodes)
            refuse_unless_whole(status)
            drill, names = _choose(drill, status, asked)
            if asked.spares_holder and (spared := {*names} & {*status.holders}):
                raise Spared(f"{', '.join(spared)} holds the VIP, and is spared; nothing was broken")
            _refuse_outage(asked, drill, names)
            _, here, _ = await local.run(["/bin/sh", "-c", breaking.NAMESPACES], check=False)
            faults: list[Breaking] = []
            for name in names:
                await confirm_unless_lab(nodes[name], drill.sentence, asked.confirm)
                await breaking.refuse_the_hosts_own(nodes[name], here)
                machine = cluster.machines[name]
                faults.append(breaking.making(drill, asked.design, machine, nodes[name], token, cluster.power))
            acts = [lease.name for lease in status.leases.values() if lease.holder in names]
            scene = _Scene(asked, drill, faults, fleet, nodes, client, acts)
            history, path = await scene.play()
    progress.done("drill", f"history saved: {path}")
    return Result(history, path, judging.judge(history, asked.design))


async def connect(fleet: Fleet, cluster: Cluster) -> tuple[dict[str, Remote], Remote]:
    """All machines of the cluster by name, and the one to probe from. Raises HaplaneError when one does not answer."""
    client = _client(cluster)
    found = await fleet.connect_all([*cluster.managed, client])
    remotes: dict[str, Remote] = {}
    for name, one in found.items():
        if not isinstance(one, Remote):
            raise one
        remotes[name] = one
    return {machine.name: remotes[machine.name] for machine in cluster.managed}, remotes[client.name]


async def start_prober(
    prober: Prober,
    cluster: Cluster,
    node: Remote,
    *,
    duration_s: float,
    idle_connections: int = IDLE_CONNECTIONS,
    services: Services = NO_SERVICES,
) -> None:
    """All that a drill asks, on this cluster. Raises HaplaneError. node: knows the cluster's authority."""
    authority = (await node.run(f"cat {AUTHORITY}")).stdout
    await prober.start(
        cluster,
        authority,
        rate=RATE,
        duration_s=duration_s,
        write_rate=WRITE_RATE,
        idle_connections=idle_connections,
        register_rate=REGISTER_RATE,
        watches=WATCHES,
        lease_rate=LEASE_RATE,
        with_kubectl=True,
        services=services.urls,
        service_failed_at_most=services.failed_at_most,
    )


@dataclass(frozen=True)
class Event:
    """What the drill did, on this host's monotonic clock; at may be wrong by error seconds."""

    at: float
    error: float
    what: str
    machine: str = ""

    @classmethod
    def since(cls, began: float, what: str, machine: str) -> Event:
        """It came true at some time between then and now."""
        half_s = (time.monotonic() - began) / 2
        return cls(began + half_s, half_s, what, machine)

    def mark(self, relation: Relation) -> Mark:
        return Mark(round(self.at + relation.offset, 6), self.what, self.machine, round(self.error + relation.error, 6))


class _Scene:
    """One run, from the first probe to the last."""

    def __init__(
        self,
        asked: Asked,
        drill: Drill,
        faults: Sequence[Breaking],
        fleet: Fleet,
        nodes: Mapping[str, Remote],
        client: Remote,
        acts: Sequence[str],
    ) -> None:
        """acts: the leases that these machines hold."""
        self._acts = acts
        self._asked, self._drill, self._faults = asked, drill, faults
        self._cluster, self._progress = asked.design.cluster, asked.progress
        self._fleet, self._nodes, self._client = fleet, dict(nodes), client
        self._file = HistoryFile.new(asked.folder, drill.name)
        self._silence = Silence(self._progress)
        self._prober = Prober(client, self._silence.through(self._file.write))
        self._observers = Observers(self._cluster)
        self._pingers = {fault.machine: Pinger() for fault in faults if drill.darkens}
        self._events: list[Event] = []

    @property
    def _machines(self) -> list[str]:
        return [fault.machine for fault in self._faults]

    def _to_ask(self) -> list[Remote]:
        """Control-plane machines, those that nothing is done to first."""
        nodes = [self._nodes[one.name] for one in self._cluster.control_plane]
        return sorted(nodes, key=lambda remote: remote.name in self._machines)

    async def play(self) -> tuple[History, Path]:
        self._progress.step("drill", "preparing probes and observers")
        await writing.prepare(self._to_ask(), self._client, self._prober.namespace)
        meanwhile: list[asyncio.Task[None]] = []
        try:
            limit_s = self._before_s() + CALM_WITHIN_S + breaking.ARMED_BEFORE_S + breaking.SHUT_DOWN_WITHIN_S
            limit_s += self._drill.lasts_s + judging.WHOLE_WITHIN_S + 60
            await start_prober(
                self._prober,
                self._cluster,
                self._to_ask()[0],
                duration_s=limit_s,
                idle_connections=self._drill.idle_connections,
                services=self._asked.services,
            )
            if not self._prober.kubectl:
                self._progress.done("drill", f"{self._client.name} has no kubectl: nobody sees what a person would")
            await self._prober.read_clock()
            await self._observers.start(self._nodes.values())
            meanwhile += (asyncio.create_task(self._keep_reading()), asyncio.create_task(self._silence.show()))
            await self._break_and_heal()
        finally:
            # However it ended: a history without its marks cannot be judged.
            await asyncio.shield(self._conclude(meanwhile))
        return self._file.close(), self._file.path

    def _before_s(self) -> float:
        return BEFORE_S + max(0, self._drill.idle_connections - IDLE_CONNECTIONS) / IDLE_PACE

    async def _break_and_heal(self) -> None:
        names, lasts_s = ", ".join(self._machines), self._drill.lasts_s
        say = self._progress.step
        say("drill", f"{RATE:.0f} new connections per second, {self._before_s():.0f} s undisturbed")
        await asyncio.sleep(self._before_s())
        await self._until_calm(CALM_WITHIN_S)
        if self._asked.services.urls:
            refuse_silent(self._asked.services, history_file.read(self._file.path), self._client.name)
        for name, pinger in self._pingers.items():
            await pinger.start(self._client, self._cluster.machines[name].address)
        if self._pingers:
            await asyncio.sleep(PINGED_S)
        armed: list[Breaking] = []
        try:
            for fault in self._faults:
                await fault.arm()
                armed.append(fault)
            await self._until_calm(breaking.ARMED_BEFORE_S)
            self._events.append(Event(time.monotonic() - calm.SEEN_S, 0.0, CALM))
            say("drill", f"{names}: {self._drill.sentence}")
            began = time.monotonic()
            await _all(self._inject(fault) for fault in self._faults)
            say("drill", f"{names} is {'dark' if self._pingers else 'left so'} for {lasts_s:.0f} s")
            if self._drill.outside is Outside.SHUT_DOWN:
                await _all(pinger.until_silent(breaking.SHUT_DOWN_WITHIN_S) for pinger in self._pingers.values())
            await asyncio.sleep(lasts_s)
            for name, pinger in self._pingers.items():
                await pinger.stop()
                if self._drill.outside is Outside.SHUT_DOWN:
                    # Some time in all this; the pinger knows better.
                    self._events.append(Event.since(began, POWER_OFF, name))
        finally:
            # Also when interrupted: no fault is left behind. The healer stays armed until it is known to be gone.
            await asyncio.shield(_all(self._heal(fault) for fault in armed))
        say("drill", f"{names} is healed; waiting until everything is whole")
        await asyncio.gather(*(self._watch_again(fault) for fault in self._faults if fault.healing == POWER_ON))
        try:
            await observe.until_whole(
                self._cluster,
                within_s=judging.WHOLE_WITHIN_S,
                on_problem=lambda problem: self._progress.now("drill", f"waiting: {problem}"),
                connected=self._nodes,
            )
            self._events.append(Event(time.monotonic(), 0.0, WHOLE))
        except HaplaneError as error:
            # Not the end of the drill but its result: it is judged like any other.
            self._progress.done("drill", f"{error.what}: {error.why}")
        await asyncio.sleep(max(AFTER_S, self._another_acts_at() - time.monotonic()))

    async def _until_calm(self, within_s: float) -> None:
        """What clients suffer anyway would be laid at the fault's door."""
        began = time.monotonic()
        while unrest := calm.unrest(history_file.read(self._file.path)):
            if time.monotonic() - began > within_s:
                raise HaplaneError(
                    f"clients are not served well for {noise.WINDOW_S:g} s in {within_s:g} s; nothing was broken",
                    where=self._client.name,
                    why=unrest,
                    hint="end what else keeps it, the machines of the cluster or their network busy, and run it again",
                )
            self._progress.now("drill", f"waiting: {unrest}")
            await asyncio.sleep(1)

    def _another_acts_at(self) -> float:
        """With its power a machine loses its leases: until then another acts, though all may be whole before."""
        if not self._pingers:
            return 0.0
        within_s = (judging.acts_again_within_s(self._asked.design, self._drill, lease) for lease in self._acts)
        broken_at = next(event.at for event in self._events if event.what != CALM)
        return broken_at + max(filter(math.isfinite, within_s), default=0.0) + AFTER_S

    async def _inject(self, fault: Breaking) -> None:
        began = time.monotonic()
        await fault.inject()
        self._events.append(Event.since(began, fault.fault, fault.machine))

    async def _heal(self, fault: Breaking) -> None:
        began = time.monotonic()
        await fault.heal()
        self._events.append(Event.since(began, fault.healing, fault.machine))

    async def _watch_again(self, fault: Breaking) -> None:
        """The machine that was without power has nobody who observes it."""
        for _ in range(20):
            with suppress(HaplaneError):
                remote = await self._fleet.connect(self._cluster.machines[fault.machine])
                self._nodes[fault.machine] = remote
                await self._observers.restart(remote)
                return
            await asyncio.sleep(0.5)

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(READ_CLOCK_EVERY_S)
            with suppress(HaplaneError):
                await self._prober.read_clock()

    async def _conclude(self, meanwhile: Sequence[asyncio.Task[None]]) -> None:
        for task in meanwhile:
            task.cancel()
        with suppress(HaplaneError):
            await self._prober.read_clock()
        await self._observers.stop()
        for problem in self._observers.problems:
            self._progress.done("drill", problem)
        await self._prober.stop()
        trips = self._prober.trips
        if trips:
            await self._read_back()
            at = round(trips[0].sent + relate(trips, near=trips[0].sent).offset, 6)
            for name in self._machines:
                self._file.write(to_line(judging.named(at, self._drill, name)))
        for observation in self._observers.observations(trips):
            self._file.write(to_line(observation))
        for event in self._events:
            self._file.write(to_line(self._exactly(event.mark(relate(trips, near=event.at)))))
        with suppress(HaplaneError):
            await writing.remove(self._to_ask(), self._client, self._prober.namespace)

    def _exactly(self, mark: Mark) -> Mark:
        """A power cut as its witness saw it, if that is within what is known otherwise."""
        header, pinger = self._prober.header, self._pingers.get(mark.machine)
        if mark.what != POWER_OFF or header is None or pinger is None or not (seen := pinger.silent_since(header)):
            return mark
        t, error = seen
        return replace(mark, t=t, error=error) if abs(t - mark.t) <= mark.error + error else mark

    async def _read_back(self) -> None:
        began = time.monotonic()
        try:
            keys = await writing.stored(self._to_ask(), self._prober.namespace)
        except HaplaneError as error:
            self._progress.done("drill", f"{error.what}: {error.why}")
            return
        self._file.write(to_line(relate(self._prober.trips, near=began).stored(began, keys)))


async def _all(doing: Iterable[Awaitable[None]]) -> None:
    """All of them, to their end; then the first error is raised."""
    for result in await asyncio.gather(*doing, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _choose(drill: Drill, status: observe.ClusterStatus, asked: Asked) -> tuple[Drill, tuple[str, ...]]:
    """On a machine that plays another part now, the same fault is another drill, with a budget of its own."""
    if not asked.on:
        return drill, targets(status, drill.who, drill.needs)
    found = for_parts(drill, parts(status, asked.on), asked.design, asked.on)
    if found is None:
        raise HaplaneError(
            f"{drill.name} has no meaning on {asked.on} alone as it is now; nothing was broken",
            where=asked.on,
            why=f"it is for {drill.who}",
            hint="haplane status shows who is what",
        )
    if found is not drill:
        asked.progress.done("drill", f"now {asked.on} is {found.who}: this is {found.name}")
    return found, (asked.on,)


def _refuse_clients(asked: Asked) -> None:
    names = [machine.name for machine in asked.design.cluster.managed]
    if asked.on and asked.on not in names:
        raise UsageError(
            f"{asked.on} is no machine of {asked.design.cluster.name} that haplane changes",
            where=asked.design.cluster.file,
            hint=f"drills break {', '.join(names)}",
        )


def _client(cluster: Cluster) -> Machine:
    clients = [machine for machine in cluster.with_role(Role.CLIENT) if machine not in cluster.managed]
    if not clients:
        raise UsageError(
            "there is no machine to probe from",
            where=cluster.file,
            why="the prober must not run on a machine that the fault touches or that may hold the VIP",
            hint="add one with roles: [client] (it needs Python 3.11 and nothing else)",
        )
    return clients[0]


def refuse_unless_whole(status: observe.ClusterStatus) -> None:
    if not status.is_whole:
        raise NotWhole(
            "a drill needs a cluster that is whole; nothing was broken",
            why="\n".join(status.problems),
            hint="haplane status, then haplane apply",
        )


def _refuse_outage(asked: Asked, drill: Drill, machines: Sequence[str]) -> None:
    if not asked.allow_outage and not drill.is_survived(asked.design, machines):
        raise HaplaneError(
            f"this design does not survive {drill.name} on {', '.join(machines)}; nothing was broken",
            where=asked.design.cluster.file,
            why="\n".join(survives(asked.design, machines).because),
            hint="--allow-outage breaks it all the same",
        )


async def confirm_unless_lab(remote: Remote, harm: str, confirm: Callable[[str], Awaitable[None]]) -> None:
    marked = await remote.run(f"test -e {LAB_MARK}", check=False)
    if marked.code:
        await confirm(f"{remote.name} is no lab machine, and this will really be done: {harm}")
