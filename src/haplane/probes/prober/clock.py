"""This machine's clocks, and how late the prober itself is."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping

TICK_S = 0.01  # how finely stalls of this process are seen
STALL_S = 0.02  # a longer lag is recorded with its place

Emit = Callable[[Mapping[str, object]], None]


def us(seconds: float) -> float:
    return round(seconds, 6)


def read_clocks() -> tuple[float, float, float]:
    """CLOCK_MONOTONIC, the wall clock at that moment, and the error between the two, in seconds."""
    best = (0.0, 0.0, math.inf)
    for _ in range(5):
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        if (after - before) / 2 < best[2]:
            best = ((before + after) / 2, wall, (after - before) / 2)
    return best


class Lateness:
    """Sees how late the schedule is, and writes it down once a second."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._lag = 0.0
        self._stalls: list[tuple[float, float]] = []

    async def watch(self) -> None:
        due = self._loop.time()
        report = due + 1.0
        while True:
            due += TICK_S
            await asyncio.sleep(due - self._loop.time())
            now = self._loop.time()
            self.late(now, now - due)
            if now - due > TICK_S:
                due = now
            if now >= report:
                self.report(now)
                report = max(report, now - 1.0) + 1.0

    def late(self, now: float, lag: float) -> None:
        self._lag = max(self._lag, lag)
        if lag > STALL_S:
            if self._stalls and now - self._stalls[-1][0] < TICK_S:  # the same stall, seen by another part
                end, longest = self._stalls.pop()
                now, lag = end, max(longest, lag)
            self._stalls.append((now, lag))

    def report(self, now: float) -> None:
        stalls = [[us(end), us(lag)] for end, lag in self._stalls]
        self._emit({"t": us(now), "probe": "clock", "lag": us(self._lag), "stalls": stalls})
        self._lag, self._stalls = 0.0, []
