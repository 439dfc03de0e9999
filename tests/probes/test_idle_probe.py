"""The idle probe against a real TLS server: who is told, who still answers, and who waits in the dark."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable

import pytest
from tls_server import Authority, Line, Proxy, Running, TlsServer, probing

from haplane.probes import prober
from haplane.probes.history import History, Idle, parse
from haplane.probes.prober.schedule import idle_backoff_s

ONLY_IDLE: dict[str, object] = {"rate": 0, "persistent_rate": 0, "duration_s": 600.0, "idle_connections": 8}


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.02)


async def all_wait(server: TlsServer, running: Running) -> list[Line]:
    """Until the answers that the server gave have arrived; the lines that were written meanwhile."""
    await until(lambda: server.answered == 8)
    assert running.process.stdin is not None
    lines = []
    for _ in range(3):  # an answer travels ahead of the question for the clock, and may pass a proxy
        running.process.stdin.write(b"there?\n")
        lines.append(await running.wait_for_a_line())
        while lines[-1]["probe"] != "reading":
            lines.append(await running.wait_for_a_line())
    return lines


async def ended(running: Running, before: list[Line] | None = None) -> History:
    """All that was written, after the schedule was ended by a closed stdin."""
    assert running.process.stdin is not None
    running.process.stdin.close()
    lines = [*(before or []), *await running.lines()]
    assert running.process.returncode == 0
    history = parse(json.dumps(line) for line in lines)
    assert history.end is not None and history.end.count == len(history.of(Idle))
    return history


def kinds(history: History) -> Counter[str]:
    return Counter(each.kind for each in history.of(Idle))


def test_connections_that_are_left_alone_only_wait_and_answer_at_the_end(authority: Authority) -> None:
    async def scenario() -> tuple[History, TlsServer, int]:
        server = TlsServer(authority)
        await server.start()
        async with probing(server, **ONLY_IDLE) as running:
            lines = await all_wait(server, running)
            while lines[-1]["probe"] != "clock":  # a while in which nothing is asked
                lines.append(await running.wait_for_a_line())
            asked = server.requests
            history = await ended(running, lines)
        await server.stop()
        return history, server, asked

    history, server, asked = asyncio.run(scenario())
    assert kinds(history) == {"alive": 8}
    assert (asked, server.requests, server.connections) == (8, 16, 8)
    assert history.end is not None and all(each.told_at >= history.end.t > each.t for each in history.of(Idle))


def test_a_connection_that_is_ended_is_told_and_made_anew(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority)
        await server.start()
        async with probing(server, **ONLY_IDLE) as running:
            lines = await all_wait(server, running)
            await server.stop()
            await server.start()
            await until(lambda: server.answered == 16)
            history = await ended(running, lines)
        await server.stop()
        return history

    found = kinds(asyncio.run(scenario()))
    assert found.pop("alive") == 8
    assert sum(found.values()) == 8 and set(found) <= {"reset", "eof"}


def test_a_connection_whose_other_end_fell_silent_is_dark_at_the_end(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority)
        await server.start()
        proxy = Proxy(to=server.port)
        await proxy.start()
        async with probing(server, **ONLY_IDLE | {"port": proxy.port, "timeout_s": 1.0}) as running:
            lines = await all_wait(server, running)
            proxy.silent = True
            await server.stop()  # its end is not passed on either
            history = await ended(running, lines)
        await proxy.stop()
        return history

    assert kinds(asyncio.run(scenario())) == {"dark": 8}


def test_a_connection_that_is_reset_when_asked_at_the_end_had_waited_in_the_dark(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority)
        await server.start()
        async with probing(server, **ONLY_IDLE) as running:
            lines = await all_wait(server, running)
            server.resetting = True
            history = await ended(running, lines)
        await server.stop()
        return history

    assert kinds(asyncio.run(scenario())) == {"dark": 8}


def test_a_connection_that_never_came_to_wait_is_not_written(authority: Authority) -> None:
    async def scenario(server: TlsServer, *, refused: bool) -> History:
        await server.start()
        if refused:
            await server.stop()
        async with probing(server, **ONLY_IDLE | {"duration_s": 1.0}) as running:
            history = await ended(running)
        await server.stop()
        return history

    assert not kinds(asyncio.run(scenario(TlsServer(authority), refused=True)))
    assert not kinds(asyncio.run(scenario(TlsServer(authority, status=500), refused=False)))
    assert not kinds(asyncio.run(scenario(TlsServer(authority, cut_after=-1), refused=False)))


def test_who_is_not_let_in_comes_back_less_and_less_often() -> None:
    assert [idle_backoff_s(failed, 0.0) for failed in (0, 1, 2, 5, 6, 5000)] == [0.8, 1.6, 3.2, 25.6, 30.0, 30.0]
    assert idle_backoff_s(1, 0.5) == pytest.approx(2.4)


def test_the_number_of_idle_connections_cannot_be_negative() -> None:
    with pytest.raises(prober.ConfigError, match="idle_connections"):
        prober.Config("192.0.2.1", 1, "x", "x", idle_connections=-1)
