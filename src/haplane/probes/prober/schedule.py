"""All probes on one schedule."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

from .clock import Emit, Lateness, read_clocks, us
from .config import Config
from .connection import Connection
from .http import Failed
from .kubectl import Witness
from .leases import LEASES, Leases
from .questions import (
    FAILED,
    INDETERMINATE,
    NOTHING,
    OK,
    Question,
    Told,
    asking,
    getting,
    outcome_of_answer,
    outcome_of_timeout,
    reading,
    setting,
    writing,
)
from .services import Service
from .staying import Held, Line
from .streams import any_tls_context
from .watching import Watch

VERSION = 1
START_DELAY_S = 0.2  # lets the header out and the loop warm up before the first request is due
IDLE_PACE = 50.0  # idle connections made per second at the start
WATCH_LAST_S = 1.0  # what was written last is still to be seen
IDLE_PAUSE_S = 0.5  # at least, from one attempt to make the same one to the next
# After an attempt that failed, as Kubernetes' own clients wait before they watch again (client-go's reflector.go):
# twice as long each time, and by chance up to twice that.
IDLE_BACKOFF_S, IDLE_BACKOFF_MAX_S = 0.8, 30.0


class _Whom(NamedTuple):
    """Who is asked by new connections, and how long each may take. tls: None: TCP alone."""

    address: str
    port: int
    tls: ssl.SSLContext | None
    hostname: str
    timeout_s: float


def idle_backoff_s(failed: int, chance: float) -> float:
    """How long to wait after so many failures in a row before this one. chance: from 0 to 1."""
    return min(IDLE_BACKOFF_S * 2.0 ** min(failed, 10), IDLE_BACKOFF_MAX_S) * (1 + chance)


class Prober:
    """All probes on one schedule. emit gets each line as a mapping and must not block."""

    def __init__(
        self,
        config: Config,
        tls: ssl.SSLContext,
        emit: Emit,
        token: str = "",
        services: Sequence[tuple[Service, str]] = (),
    ) -> None:
        """services: those of the config, each with its address."""
        self._config = config
        self._endpoint = _Whom(config.address, config.port, tls, config.server_hostname, config.timeout_s)
        self._services = services
        self._token = token
        self._tls = tls
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._reason = "duration"
        self._stop_at = math.inf
        self._count = 0
        self._lateness = Lateness(emit)

    def stop(self, reason: str) -> None:
        """Nothing that is due from now on will be asked."""
        if not self._stopped.is_set():
            self._reason = reason
            self._stop_at = min(self._stop_at, self._loop.time())
            self._stopped.set()

    async def run(self) -> None:
        """Ask until the end; returns when every request has its outcome."""
        now, wall, wall_error = read_clocks()
        start = now + START_DELAY_S
        self._stop_at = min(self._stop_at, start + self._config.duration_s)
        self._emit(
            {"t": us(now), "probe": "header", "version": VERSION, "start": us(start), "wall": us(wall)}
            | {"wall_error": wall_error, "config": asdict(self._config)}
        )
        config, token = self._config, self._token
        clock = asyncio.create_task(self._lateness.watch())
        watching = [
            asyncio.create_task(Watch(number, config, self._tls, token, self._emit_counted).run())
            for number in range(config.watches)
        ]
        leases = Leases(config, self._tls, self._emit, token)
        told = [asyncio.create_task(leases.watch(name)) for name in (LEASES if config.lease_rate else ())]
        await asyncio.gather(
            self._ask_anew(start, config.rate, lambda _: reading(config, token, "new")),
            self._ask_anew(start, config.write_rate, lambda number: writing(config, token, number)),
            self._ask_anew(start, config.register_rate, lambda number: setting(config, token, number)),
            self._ask_anew(start, config.get_rate, lambda _: getting(config, token)),
            self._ask_persistently(start),
            *(self._ask_service(start, service, address) for service, address in self._services),
            *(self._hold_idle(start + number / IDLE_PACE) for number in range(config.idle_connections)),
            self._look_at_leases(leases, start),
            self._watch_with_kubectl(),
            self._wait_for_the_end(),
        )
        await self._end_watching([*watching, *told])
        clock.cancel()
        self._lateness.report(self._loop.time())
        end = {"t": us(self._stop_at), "probe": "end", "reason": self._reason, "count": self._count}
        self._emit(end)

    async def _wait_for_the_end(self) -> None:
        await self._sleep_until(self._stop_at)
        self._stopped.set()

    async def _end_watching(self, watching: Sequence[asyncio.Task[None]]) -> None:
        if watching:
            await asyncio.wait(watching, timeout=WATCH_LAST_S)
        for watch in watching:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _sleep_until(self, when: float) -> None:
        """Until then, or until the schedule ends."""
        if when > self._loop.time():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(when):
                    await self._stopped.wait()

    def _due(self, start: float, rate: float) -> Iterator[float]:
        """When each request is due. The end may come earlier than it was when this began."""
        for number in range(math.ceil(self._config.duration_s * rate - 1e-9)):
            yield start + number / rate

    # -- probes that make a new connection each time

    async def _ask_service(self, start: float, service: Service, address: str) -> None:
        tls, question = any_tls_context() if service.scheme == "https" else None, asking(service)
        whom = _Whom(address, service.port, tls, service.host, self._config.service_timeout_s)
        await self._ask_anew(start, self._config.service_rate, lambda _: question, whom)

    async def _ask_anew(
        self, start: float, rate: float, question: Callable[[int], Question], whom: _Whom | None = None
    ) -> None:
        """whom: else the endpoint."""
        whom = whom or self._endpoint
        under_way: set[asyncio.Task[None]] = set()
        for number, due in enumerate(self._due(start, rate)):
            await self._sleep_until(due)
            if due >= self._stop_at:
                break
            now = self._loop.time()
            self._lateness.late(now, now - due)
            asked = question(number)
            if len(under_way) >= self._config.in_flight(rate) or now >= due + whom.timeout_s:
                self._record(asked, due, FAILED, "prober-overloaded", None, now)
                continue
            task = asyncio.create_task(self._ask_once(due, asked, whom))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        while under_way:
            await asyncio.wait(under_way)

    async def _ask_once(self, due: float, question: Question, whom: _Whom) -> None:
        begun = self._loop.time()
        connection = Connection(whom.tls, whom.hostname)
        sent_at: float | None = None
        try:
            async with asyncio.timeout_at(due + whom.timeout_s):
                await connection.open(whom.address, whom.port)
                sent_at = self._loop.time()
                if not question.data:
                    connection.abort()
                    self._record(question, due, OK, "", sent_at, sent_at, begun)
                    return
                response, end = await connection.ask(question.data)
        except TimeoutError:
            connection.abort()
            outcome, kind = outcome_of_timeout(connection.stage)
            self._record(question, due, outcome, kind, sent_at, self._loop.time(), begun)
        except Failed as failed:
            connection.abort()
            if connection.stage != "sent":  # it broke before the request could go out
                sent_at = None
            outcome = INDETERMINATE if question.changes and sent_at is not None else FAILED
            self._record(question, due, outcome, failed.kind, sent_at, self._loop.time(), begun)
        else:
            connection.leave()
            outcome, kind, told = outcome_of_answer(question, response)
            self._record(question, due, outcome, kind, sent_at, end, begun, told)

    # -- the persistent probe

    async def _ask_persistently(self, start: float) -> None:
        if not self._config.persistent_rate:
            return
        line = Line(self._config, self._tls, self._emit)
        question = reading(self._config, self._token, "persistent")
        line.dial("start")
        try:
            for due in self._due(start, self._config.persistent_rate):
                await self._sleep_until(due)
                if due >= self._stop_at:
                    return
                await self._ask_over(line, due, question)
        finally:
            line.close()

    async def _ask_over(self, line: Line, due: float, question: Question) -> None:
        sent_at: float | None = None
        connection: Connection | None = None
        now = self._loop.time()
        if now >= due + self._config.timeout_s:
            self._record(question, due, FAILED, "prober-overloaded", None, now)
            return
        try:
            async with asyncio.timeout_at(due + self._config.timeout_s):
                connection = await line.ready()
                sent_at = self._loop.time()
                response, end = await connection.ask(question.data)
        except TimeoutError:
            stage = line.stage if connection is None else connection.stage
            self._record(question, due, *outcome_of_timeout(stage), sent_at, self._loop.time())
            if connection is not None:
                line.redial("timeout")
        except Failed as failed:
            self._record(question, due, FAILED, failed.kind, sent_at, self._loop.time())
        else:
            outcome, kind, _ = outcome_of_answer(question, response)
            self._record(question, due, outcome, kind, sent_at, end)
            if not response.keep:
                line.redial("closed")

    # -- the idle probe

    async def _hold_idle(self, when: float) -> None:
        question, failed = reading(self._config, self._token, "idle"), 0
        while True:
            await self._sleep_until(when)
            if self._stopped.is_set():
                return
            when = self._loop.time() + IDLE_PAUSE_S
            held = Held(self._config, self._tls)
            ready = await held.make(question)
            if ready is None:
                when = self._loop.time() + idle_backoff_s(failed, random.random())
                failed += 1
                continue
            failed = 0
            if ready >= self._stop_at:  # too late to wait
                held.close()
                return
            at, kind = await held.wait(self._stopped) or await held.ask_at_the_end(question)
            self._emit_counted({"t": us(ready), "probe": "idle", "told_at": us(at), "kind": kind})

    # -- the lease and the kubectl probe

    async def _look_at_leases(self, leases: Leases, start: float) -> None:
        async with asyncio.TaskGroup() as looking:
            for due in self._due(start, self._config.lease_rate) if self._config.lease_rate else ():
                await self._sleep_until(due)
                if due >= self._stop_at:
                    break
                looking.create_task(leases.look(due))

    async def _watch_with_kubectl(self) -> None:
        if self._config.kubectl:
            await Witness(self._config, self._emit).watch(self._stopped)

    # -- what is written

    def _record(
        self,
        question: Question,
        due: float,
        outcome: str,
        kind: str,
        sent_at: float | None,
        end: float,
        begun: float | None = None,
        told: Told = NOTHING,
    ) -> None:
        line: dict[str, object] = {"t": us(due), "probe": question.probe, "outcome": outcome, "kind": kind}
        line |= {"sent_at": None if sent_at is None else us(max(sent_at, due)), "end": us(end)}
        if begun is not None:
            line["begun"] = us(max(begun, due))
        self._emit_counted({**line, **question.about, **told})

    def _emit_counted(self, line: Mapping[str, object]) -> None:
        self._count += 1
        self._emit(line)
