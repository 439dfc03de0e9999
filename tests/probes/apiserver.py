"""An apiserver in shape: ConfigMaps that are made, applied, read, listed and watched; and what may be wrong then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from tls_server import TlsServer

FOLDER = "/api/v1/namespaces/haplane-drill/configmaps"


@dataclass(frozen=True)
class Stored:
    kind: str
    key: str
    version: int
    value: str | None

    @property
    def object(self) -> dict[str, object]:
        found = {"kind": "ConfigMap", "metadata": {"name": self.key, "resourceVersion": str(self.version)}}
        return found if self.value is None else found | {"data": {"value": self.value}}


@dataclass
class ApiServer(TlsServer):
    """Versions begin at 100. kept_from: the oldest version that a watch may be resumed from.

    Planted: stale: what a read returns instead of what is there (the history of the register is given). told: what a
    watch sends instead of each event. refused: statuses by method. grant: how a watch is answered: "gone" in an event,
    "410" as a status, "malformed", "error".
    """

    stale: Callable[[list[Stored]], Stored] | None = None
    told: Callable[[Stored], list[Stored]] = lambda event: [event]
    refused: dict[str, int] = field(default_factory=dict)
    grant: str = ""
    page: int = 250
    bookmarks: bool = False
    kept_from: int = 0
    log: list[Stored] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    sent_bodies: list[dict[str, object]] = field(default_factory=list)
    watching: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _streams: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def version(self) -> int:
        return self.log[-1].version if self.log else 100

    def end_watches(self) -> None:
        """Their connections are reset."""
        for writer in self._streams:
            writer.transport.abort()
        self._news.set()

    async def stop(self) -> None:
        await super().stop()
        self._news.set()

    async def _answer(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if FOLDER.encode() not in request:
            return await super()._answer(request, reader, writer)
        method, target = request.split()[:2]
        self.requested.append(f"{method.decode()} {target.decode()}")
        self.heads.append(request.decode())
        url = urlsplit(target.decode())
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        name = url.path.removeprefix(FOLDER).lstrip("/")
        body: dict[str, object] = {}
        if length := request.lower().partition(b"content-length:")[2].split()[:1]:
            body = json.loads(await reader.readexactly(int(length[0])))
            self.sent_bodies.append(body)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if "watch" in query:
            await self._watch(int(query["resourceVersion"]), writer)
            return False
        status, answer = self._said(method.decode(), name, query, body)
        data = json.dumps(answer).encode()
        if method == b"GET" and not name:  # longer answers come in chunks
            framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
        else:
            framed = b"Content-Length: %d\r\n\r\n%s" % (len(data), data)
        writer.write(b"HTTP/1.1 %d Said\r\n%s" % (status, framed))
        await writer.drain()
        return b"Connection: close" not in request

    def _said(
        self, method: str, name: str, query: dict[str, str], body: dict[str, object]
    ) -> tuple[int, dict[str, object]]:
        if status := self.refused.get(method):
            return status, {"kind": "Status", "code": status}
        if method == "GET":
            return self._read(name) if name else (200, self._list(query.get("continue", "")))
        metadata, data = body["metadata"], body.get("data")
        assert isinstance(metadata, dict) and (data is None or isinstance(data, dict))
        key = metadata["name"]
        is_new = all(each.key != key for each in self.log)
        self.log.append(Stored("ADDED" if is_new else "MODIFIED", key, self.version + 1, (data or {}).get("value")))
        self._news.set()
        return (201 if is_new else 200), self.log[-1].object

    def _read(self, name: str) -> tuple[int, dict[str, object]]:
        found = [each for each in self.log if each.key == name]
        if not found:
            return 404, {"kind": "Status", "reason": "NotFound", "details": {"name": name, "kind": "configmaps"}}
        return 200, (self.stale(found) if self.stale else found[-1]).object

    def _list(self, rest: str) -> dict[str, object]:
        """All pages are of the same version."""
        version, start = map(int, rest.split("-")) if rest else (self.version, 0)
        newest = list({each.key: each for each in self.log if each.version <= version}.values())
        items = [each.object for each in newest[start : start + self.page]]
        metadata = {"resourceVersion": str(version)}
        if start + self.page < len(newest):
            metadata["continue"] = f"{version}-{start + self.page}"
        return {"kind": "ConfigMapList", "metadata": metadata, "items": items}

    async def _watch(self, since: int, writer: asyncio.StreamWriter) -> None:
        gone = {"kind": "Status", "code": 410, "reason": "Expired"}
        if self.grant == "410":
            writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 2\r\n\r\n{}")
            return
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if self.grant in ("gone", "error") or since < self.kept_from:
            error = gone if self.grant != "error" else gone | {"code": 500}
            self._send(writer, {"type": "ERROR", "object": error})
            await writer.drain()
            return
        if self.grant == "malformed":
            writer.write(b"5\r\nwhat\n\r\n")
            await writer.drain()
            return
        self.watching += 1
        self._streams.add(writer)
        try:
            async for event in self._events(since, writer):
                for each in self.told(event):
                    self._send(writer, {"type": each.kind, "object": each.object})
                if self.bookmarks:
                    bookmark = {"kind": "ConfigMap", "metadata": {"resourceVersion": str(event.version)}}
                    self._send(writer, {"type": "BOOKMARK", "object": bookmark})
                await writer.drain()
        finally:
            self._streams.discard(writer)

    async def _events(self, since: int, writer: asyncio.StreamWriter) -> AsyncIterator[Stored]:
        place = next((place for place, each in enumerate(self.log) if each.version > since), len(self.log))
        while not writer.is_closing():
            while place < len(self.log):
                yield self.log[place]
                place += 1
            self._news.clear()
            await self._news.wait()

    def _send(self, writer: asyncio.StreamWriter, event: dict[str, object]) -> None:
        """In two chunks: a line may come in parts."""
        data = json.dumps(event).encode() + b"\n"
        for part in (data[:20], data[20:]):
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
