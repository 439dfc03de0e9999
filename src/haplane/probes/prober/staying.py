"""Connections that stay: the one of the persistent probe, and those of the idle probe."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from .clock import Emit, us
from .config import Config
from .connection import Connection
from .http import Failed
from .questions import FAILED, OK, Question, outcome_of_timeout

ALIVE, DARK = "alive", "dark"


class Line:
    """The connection of the persistent probe: there is one, or one is being made, or the last attempt failed."""

    def __init__(self, config: Config, tls: ssl.SSLContext, emit: Emit) -> None:
        self._config = config
        self._tls = tls
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._dialling: asyncio.Task[str] | None = None
        self._closed = False

    @property
    def stage(self) -> str:
        """How far the connection came."""
        return "connect" if self._connection is None else self._connection.stage

    async def ready(self) -> Connection:
        """The connection, once it is made. Raises Failed with the attempt that was waited for."""
        while True:
            if self._dialling is None:
                if self._connection is not None and self._connection.broken is None:
                    return self._connection
                self.dial("retry")
            assert self._dialling is not None
            if kind := await asyncio.shield(self._dialling):
                raise Failed(kind)

    def dial(self, cause: str) -> None:
        """Begin to connect, unless that is under way."""
        if self._dialling is None and not self._closed:
            self._dialling = asyncio.create_task(self._dial(cause))

    def redial(self, cause: str) -> None:
        """Give this connection up and begin the next."""
        if self._connection is not None:
            self._connection.abort()
        self.dial(cause)

    def close(self) -> None:
        self._closed = True
        if self._dialling is not None:
            self._dialling.cancel()
        if self._connection is not None:
            self._connection.abort()

    async def _dial(self, cause: str) -> str:
        """The kind of the failure, or nothing."""
        began = self._loop.time()
        connection = self._connection = Connection(self._tls, self._config.server_hostname, self.dial)
        kind = ""
        try:
            async with asyncio.timeout_at(began + self._config.timeout_s):
                await connection.open(self._config.address, self._config.port)
        except TimeoutError:
            kind = outcome_of_timeout(connection.stage)[1]
        except Failed as failed:
            kind = failed.kind
        finally:
            if connection.stage != "ready":
                connection.abort()
            self._dialling = None
        outcome = FAILED if kind else OK
        line = {"t": us(began), "probe": "reconnect", "cause": cause, "outcome": outcome, "kind": kind}
        self._emit(line | {"end": us(self._loop.time())})
        return kind


class Held:
    """One connection of the idle probe."""

    def __init__(self, config: Config, tls: ssl.SSLContext) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Future[tuple[float, str]] = self._loop.create_future()
        self._connection = Connection(tls, config.server_hostname, self._lost)

    async def make(self, question: Question) -> float | None:
        """When it had its answer and was ready to wait; None when it did not come so far."""
        try:
            async with asyncio.timeout(self._config.timeout_s):
                await self._connection.open(self._config.address, self._config.port)
                response, ready = await self._connection.ask(question.data)
        except (TimeoutError, Failed):
            self.close()
            return None
        if response.status == 200 and response.keep:
            return ready
        self.close()
        return None

    async def wait(self, stopped: asyncio.Event) -> tuple[float, str] | None:
        """When and how the other end ended it; None when it is still open when all has to stop."""
        stopping = asyncio.create_task(stopped.wait())
        either: tuple[asyncio.Future[Any], ...] = (self._told, stopping)
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        return self._told.result() if self._told.done() else None

    async def ask_at_the_end(self, question: Question) -> tuple[float, str]:
        """When it was known whether it is alive or dark, and which."""
        try:
            async with asyncio.timeout(self._config.timeout_s):
                _, at = await self._connection.ask(question.data)
            return at, ALIVE
        except (TimeoutError, Failed):
            return self._loop.time(), DARK
        finally:
            self.close()

    def close(self) -> None:
        self._connection.abort()

    def _lost(self, kind: str) -> None:
        self._told.set_result((self._loop.time(), kind))
