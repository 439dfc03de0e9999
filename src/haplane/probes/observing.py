"""Observers on the cluster's machines: started, asked for their clocks, stopped.

Nothing that goes wrong here ends a drill. What was not watched is told in `problems`, and checkers see it in the
observations. An observer whose machine dies says nothing more; once the machine is back it can be started again.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

import asyncssh

from haplane.model.cluster import Cluster
from haplane.model.errors import HaplaneError
from haplane.probes import observer
from haplane.probes.history import Observation, RoundTrip
from haplane.transport.ssh import Remote

START_S = 15.0
STOP_S = 3.0
READINGS = 5
ANSWER_S = 2.0
# Two clocks may drift apart by 0.5 ms per second; and who is silent for longer is no longer heard.
READ_EVERY_S = 1.0

_LOST = (OSError, asyncssh.Error, HaplaneError, TimeoutError)


class Watch:
    """One run of the observer on one machine, from its start until its stream ends."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.began = time.monotonic()
        self.lines: list[str] = []
        self.trips: list[RoundTrip] = []
        self.problem = ""
        self._process: asyncssh.SSHClientProcess[str] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._asked: dict[str, tuple[float, asyncio.Future[None]]] = {}
        self._ready = asyncio.Event()

    async def start(self, remote: Remote, command: str) -> None:
        """Returns when it watches, or cannot: then `problem` says why."""
        try:
            async with asyncio.timeout(START_S):
                self._process = await remote.start(command)
                self._reader = asyncio.create_task(self._read(self._process))
                await self._ready.wait()
                if self._reader.done() and not self.lines:
                    self.problem = str(await self._process.stderr.read()).strip() or "it ended at once"
        except _LOST as error:
            self.problem = str(error) or f"it did not start within {START_S:.0f} s"
            return
        await self.read_clock()

    async def read_clock(self) -> None:
        """Some readings, one after another; none from a machine that does not answer."""
        for _ in range(READINGS):
            answer = self._ask()
            if answer is None:
                return
            try:
                async with asyncio.timeout(ANSWER_S):
                    await answer
            except TimeoutError:
                return

    async def keep_reading(self) -> None:
        while True:
            await asyncio.sleep(READ_EVERY_S)
            if self._ask() is None:
                return

    async def stop(self) -> None:
        if self._process is None or self._reader is None:
            return
        with suppress(*_LOST):
            self._process.stdin.write_eof()
            # Not awaited itself: it may have been cancelled by an earlier stop, and that must not spread.
            await asyncio.wait([self._reader], timeout=STOP_S)
        with suppress(*_LOST):
            self._process.close()
        self._reader.cancel()

    def sight(self) -> observer.Sight:
        return observer.parse(self.lines, self.trips)

    def _ask(self) -> asyncio.Future[None] | None:
        """Write a question; nothing when the stream has ended."""
        if self._process is None or self._reader is None or self._reader.done():
            return None
        token = secrets.token_hex(4)
        answer = asyncio.get_running_loop().create_future()
        self._asked[token] = (time.monotonic(), answer)
        try:
            self._process.stdin.write(token + "\n")
        except _LOST:
            return None
        return answer

    async def _read(self, process: asyncssh.SSHClientProcess[str]) -> None:
        try:
            async for line in process.stdout:
                received = time.monotonic()
                kind, _, rest = line.rstrip("\n").partition("\t")
                if not line.endswith("\n"):
                    break
                if kind == "reading":
                    self._note_reading(rest, received)
                elif kind == "ready":
                    self._ready.set()
                else:
                    self.lines.append(line)
        except _LOST:
            pass
        finally:
            self._ready.set()

    def _note_reading(self, rest: str, received: float) -> None:
        t, _, token = rest.partition("\t")
        if token in self._asked:
            sent, answer = self._asked.pop(token)
            with suppress(ValueError):
                self.trips.append(RoundTrip(sent, float(t), received))
            if not answer.done():
                answer.set_result(None)


class Observers:
    """One on each of these machines. No method raises for what happens to a machine."""

    def __init__(self, cluster: Cluster) -> None:
        self._command = observer.command(cluster)
        self._watches: list[Watch] = []
        self._keeping: list[asyncio.Task[None]] = []

    async def start(self, remotes: Iterable[Remote]) -> None:
        await asyncio.gather(*(self._start(remote) for remote in remotes))

    async def restart(self, remote: Remote) -> None:
        """The machine is back: remote is a new login to it. What was seen before stays."""
        for watch in self._watches:
            if watch.machine == remote.name:
                await watch.stop()
        await self._start(remote)

    async def read_clocks(self) -> None:
        """Relate their clocks to this host's now; they are also read every READ_EVERY_S."""
        await asyncio.gather(*(watch.read_clock() for watch in self._watches))

    async def stop(self) -> None:
        for task in self._keeping:
            task.cancel()
        # How long each was watching is known by its last answer.
        await self.read_clocks()
        await asyncio.gather(*(watch.stop() for watch in self._watches))

    def observations(self, prober_trips: Sequence[RoundTrip]) -> tuple[Observation, ...]:
        """All that was seen, on the prober's clock. prober_trips: readings of it; without any there is nothing."""
        if not prober_trips:
            return ()
        found: list[Observation] = []
        for watch in self._watches:
            sight = watch.sight()
            if sight.seen and watch.trips:
                found += observer.observations(watch.machine, sight.seen, watch.trips, prober_trips)
            else:
                found.append(observer.not_watched(watch.machine, watch.began, prober_trips))
        return tuple(sorted(found, key=lambda each: each.t))

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be watched, as sentences."""
        found: list[str] = []
        for watch in self._watches:
            problems = (watch.problem,) if watch.problem else watch.sight().problems
            found += [f"{watch.machine} is not fully observed: {problem}" for problem in problems]
        return tuple(found)

    async def _start(self, remote: Remote) -> None:
        watch = Watch(remote.name)
        self._watches.append(watch)
        await watch.start(remote, self._command)
        self._keeping.append(asyncio.create_task(watch.keep_reading()))
