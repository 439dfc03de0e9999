"""The watch probe: what a Kubernetes client does that keeps itself informed, with all that it is told."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple
from urllib.parse import quote

from .clock import Emit, us
from .config import Config
from .connection import Connection
from .http import Failed, Stream
from .questions import FAILED, OK, bearer, json_object, outcome_of_timeout, request, version_of, within

PAUSE_S = 0.1  # between the beginnings of two attempts, so that a server in trouble is not flooded
PAGE = 250  # of a list: one page is read in a few milliseconds and holds up no other probe
EXPIRED, CLOSED, STOPPED = "expired", "closed", "stopped"
GONE = 410  # the versions that were asked for are not kept any more: only a list helps


class _Item(NamedTuple):
    key: str
    version: int


class Watch:
    """One watch, kept up until it is cancelled: listed, followed, resumed where it ended, listed again after a 410."""

    def __init__(self, number: int, config: Config, tls: ssl.SSLContext, token: str, emit: Emit) -> None:
        self._number = number
        self._config = config
        self._tls = tls
        self._token = token
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._seen: int | None = None  # the last version
        self._resumes = False

    async def run(self) -> None:
        cause = "start"
        while True:
            began = self._loop.time()
            cause = await (self._follow(cause) if self._resumes else self._list(cause))
            if cause == EXPIRED:
                self._resumes = False
            await asyncio.sleep(began + PAUSE_S - self._loop.time())

    # -- lists

    async def _list(self, cause: str) -> str:
        """What was not seen yet is written down as if it had been told. Returns the cause of what comes next."""
        began, since, kind = self._loop.time(), self._seen, ""
        version: int | None = None
        connection = Connection(self._tls, self._config.server_hostname)
        try:
            async with asyncio.timeout_at(began + self._config.timeout_s):
                await connection.open(self._config.address, self._config.port)
                version, items = await self._all_pages(connection)
        except TimeoutError:
            kind = outcome_of_timeout(connection.stage)[1]
        except Failed as failed:
            kind = failed.kind
        finally:
            connection.abort()
        line = {"t": us(began), "probe": "listing", "number": self._number, "cause": cause, "since": since}
        line |= {"outcome": FAILED if kind else OK, "kind": kind, "end": us(self._loop.time()), "version": version}
        self._emit(line)
        if version is None:
            return kind
        for item in items:
            if since is None or item.version > since:
                self._write_down("LISTED", item)
        self._seen, self._resumes = version, True
        return "listed"

    async def _all_pages(self, connection: Connection) -> tuple[int, list[_Item]]:
        """The version of the list, which is that of its first page, and all that is in it."""
        items: list[_Item] = []
        version, rest = None, ""
        while True:
            more = f"&continue={quote(rest, safe='')}" if rest else ""
            response, _ = await connection.ask(self._request(f"limit={PAGE}{more}"))
            if response.status != 200:
                raise Failed(f"http-{response.status}")
            page = json_object(response.body)
            version = version_of(page) if version is None else version
            found = page.get("items")
            if version is None or not isinstance(found, list):
                raise Failed("http-malformed")
            items += (item for each in found if (item := _item(each)) is not None)
            rest = str(within(page, "metadata", "continue") or "")
            if not rest:
                return version, items

    # -- the stream

    async def _follow(self, cause: str) -> str:
        """Take what comes until it ends; returns how it ended."""
        began, since, kind = self._loop.time(), self._seen, STOPPED
        opened: float | None = None
        stream = Stream()

        def take(data: bytes) -> None:
            nonlocal opened
            lines = stream.feed(data)
            if opened is None and stream.status is not None:
                if stream.status != 200:
                    raise Failed(EXPIRED if stream.status == GONE else f"http-{stream.status}")
                opened = self._loop.time()
                limit.reschedule(None)
            for line in lines:
                self._told(line)
            if stream.ended:
                raise Failed(CLOSED)

        connection = Connection(self._tls, self._config.server_hostname)
        try:
            async with asyncio.timeout_at(began + self._config.timeout_s) as limit:
                await connection.open(self._config.address, self._config.port)
                query = f"watch=1&resourceVersion={since}&allowWatchBookmarks=true"
                await connection.follow(self._request(query), take)
        except TimeoutError:
            kind = outcome_of_timeout(connection.stage)[1]
        except Failed as failed:
            kind = failed.kind
        finally:
            connection.abort()
            line = {"t": us(began), "probe": "watching", "number": self._number, "cause": cause, "since": since}
            line |= {"opened": None if opened is None else us(opened), "ended": us(self._loop.time()), "kind": kind}
            self._emit(line)
        return kind

    def _told(self, line: bytes) -> None:
        """One event. Raises Failed when it is the last."""
        event = json_object(line)
        kind, told = event.get("type"), event.get("object")
        if kind == "ERROR":
            code = within(told, "code")
            raise Failed(EXPIRED if code == GONE else f"error-{code}")
        item = _item(told)
        if item is None or not isinstance(kind, str) or not kind:
            raise Failed("http-malformed")
        self._write_down(kind, item)
        self._seen = item.version

    def _request(self, query: str) -> bytes:
        return request(self._config, f"GET {self._config.folder}?{query}", bearer(self._token))

    def _write_down(self, kind: str, item: _Item) -> None:
        line = {"t": us(self._loop.time()), "probe": "watch", "number": self._number, "kind": kind}
        self._emit(line | {"key": item.key, "version": item.version})


def _item(found: object) -> _Item | None:
    """A bookmark has no name."""
    version = version_of(found)
    return None if version is None else _Item(str(within(found, "metadata", "name") or ""), version)
