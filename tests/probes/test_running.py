"""The prober on another machine, as the drill that started it sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from tests.model.clusters import three_nodes

from haplane.probes.prober import cached_read
from haplane.probes.running import TOKEN_FILE, Prober
from haplane.transport.ssh import Completed


class Machine:
    """Runs a prober that answers when it is told to."""

    name = "client"

    def __init__(self) -> None:
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.asked: asyncio.Queue[str] = asyncio.Queue()

    async def run(self, script: str, **options: object) -> Completed:
        return Completed("", "", 0)

    async def start(self, script: str) -> Any:
        self.started = json.loads(shlex.split(script)[-1])
        return SimpleNamespace(stdout=self._lines(), stdin=SimpleNamespace(write=self.asked.put_nowait))

    async def _lines(self) -> AsyncIterator[str]:
        while True:
            yield await self.said.get()

    async def answer(self, t: float) -> None:
        token = (await self.asked.get()).strip()
        self.said.put_nowait(json.dumps({"t": t, "probe": "reading", "token": token}) + "\n")


def test_an_answer_that_nobody_waits_for_any_more_ends_nothing() -> None:
    async def scenario() -> None:
        machine, lines = Machine(), list[str]()
        prober = Prober(machine, lines.append)  # type: ignore[arg-type]  # it has all of a Remote that is used
        machine.said.put_nowait('{"t": 1.0, "probe": "end"}\n')
        await prober.start(three_nodes(), "authority", rate=50.0, duration_s=1.0)
        reading = asyncio.create_task(prober.read_clock())
        await asyncio.sleep(0)
        reading.cancel()
        await machine.answer(2.0)
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        again = asyncio.create_task(prober.read_clock())
        for number in range(5):
            await machine.answer(3.0 + number)
        await asyncio.wait_for(again, 5)
        assert [trip.read for trip in prober.trips] == [3.0, 4.0, 5.0, 6.0, 7.0]
        assert len(lines) == 7

    asyncio.run(asyncio.wait_for(scenario(), 10))


def asked_for(**what: Any) -> dict[str, object]:
    """The configuration of a prober that is started to ask this."""

    async def scenario() -> dict[str, object]:
        machine = Machine()
        prober = Prober(machine, lambda line: None)  # type: ignore[arg-type]  # as above
        machine.said.put_nowait('{"t": 1.0, "probe": "end"}\n')
        await prober.start(three_nodes(), "authority", rate=50.0, duration_s=1.0, **what)
        assert machine.started["namespace"] == prober.namespace
        return machine.started

    return asyncio.run(scenario())


def test_who_has_an_account_reads_what_clients_read_in_a_namespace_of_this_runs_own() -> None:
    first, second = (asked_for(write_rate=10.0) for _ in range(2))
    assert first["path"] == cached_read(str(first["namespace"]))
    assert first["token_file"] == TOKEN_FILE
    assert first["namespace"] != second["namespace"]


def test_who_has_none_asks_for_what_is_open_to_all() -> None:
    config = asked_for()
    assert (config["path"], config["token_file"]) == ("/livez", "")
