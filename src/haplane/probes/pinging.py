"""When a machine fell silent, seen from the prober's machine: the last answer to a ping.

A command that cuts power takes its time, and says nothing of the moment. Pings 20 ms apart do.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress

import asyncssh

from haplane.model.cluster import Address
from haplane.model.errors import HaplaneError
from haplane.probes.history import Header
from haplane.transport.ssh import Remote

EVERY_S = 0.02
SILENT_S = 1.0
# A ping of iputils with -D: `[1764335213.123456] 64 bytes from 192.0.2.11: icmp_seq=1 ttl=64 time=0.1 ms`.
_ANSWER = re.compile(r"^\[(\d+\.\d+)\] \d+ bytes from ")


class Pinger:
    """Nothing here ends a drill: without a ping on that machine the moment is known less well."""

    def __init__(self) -> None:
        self._answers: list[float] = []
        self._heard = 0.0
        self._process: asyncssh.SSHClientProcess[str] | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, remote: Remote, address: Address) -> None:
        with suppress(OSError, asyncssh.Error, HaplaneError):
            self._process = await remote.start(f"exec ping -n -D -i {EVERY_S:g} {address}")
            self._reader = asyncio.create_task(self._read(self._process))

    async def until_silent(self, within_s: float) -> None:
        """Return when nothing was heard for SILENT_S, or after within_s."""
        for _ in range(round(within_s / SILENT_S)):
            if (quiet_s := time.monotonic() - self._heard) >= SILENT_S:
                return
            await asyncio.sleep(SILENT_S - quiet_s)

    async def stop(self) -> None:
        if self._process is None or self._reader is None:
            return
        with suppress(OSError, asyncssh.Error):
            self._process.terminate()
            self._process.close()
        await asyncio.wait([self._reader], timeout=1.0)
        self._reader.cancel()

    def silent_since(self, header: Header) -> tuple[float, float] | None:
        """When, on the prober's clock, and the error of that; None when it was never heard."""
        return silent_since(self._answers, header)

    async def _read(self, process: asyncssh.SSHClientProcess[str]) -> None:
        with suppress(OSError, asyncssh.Error):
            async for line in process.stdout:
                if found := answered(line):
                    self._answers.append(found)
                    self._heard = time.monotonic()


def answered(line: str) -> float | None:
    """The wall clock of one answer; None for any other line."""
    found = _ANSWER.match(line)
    return float(found[1]) if found else None


def silent_since(answers: list[float], header: Header) -> tuple[float, float] | None:
    """Between the last answer and when the next was due. answers: by the wall clock of the prober's machine."""
    if not answers:
        return None
    last = max(answers) - header.wall + header.t
    return round(last + EVERY_S / 2, 6), round(EVERY_S / 2 + header.wall_error + 0.01, 6)
