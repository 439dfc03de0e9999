"""Services of the user's own, asked by the prober: real servers on loopback that serve, hang and refuse in turn."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tls_server import Authority, Line, TlsServer, make_authority, probing

from haplane.probes.history import History, Request, parse, to_lines
from haplane.probes.prober import ServiceError, service_probe, services_of
from haplane.probes.prober.questions import asking
from haplane.probes.prober.services import LOOK_UP_WITHIN_S, look_up_all
from haplane.probes.running import START_WITHIN_S

QUIET = {"rate": 0.0, "persistent_rate": 0.0}


@dataclass
class Page:
    """An HTTP server without TLS. What it does can be changed while it runs."""

    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    hangs: bool = False
    port: int = 0
    heads: list[str] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """New connections are refused, and those that hang are reset."""
        if self._server is not None:
            self._server.close()
        self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                if self.hangs:
                    await asyncio.sleep(3600)
                writer.write(self.answer)
                await writer.drain()
        finally:
            self._writers.discard(writer)
            writer.close()


@contextlib.asynccontextmanager
async def page(**settings: object) -> AsyncIterator[Page]:
    server = Page(**settings)  # type: ignore[arg-type]  # of several types
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def asked(authority: Authority, *urls: str, meanwhile: Callable[[], Awaitable[None]] | None = None) -> History:
    """What the prober saw of these in the time that `meanwhile` takes, else in a second."""
    nobody = TlsServer(authority, port=9)
    lines: list[Line]
    async with probing(nobody, **QUIET, services=urls, duration_s=600.0 if meanwhile else 1.0) as running:
        header = await running.wait_for_a_line()
        if meanwhile:
            await meanwhile()
            assert running.process.stdin is not None
            running.process.stdin.close()
        lines = [header, *await running.lines()]
        assert running.process.returncode == 0
    return parse(json.dumps(line) for line in lines)


def seen(history: History, url: str) -> set[tuple[str, str]]:
    return {(each.outcome.value, each.kind) for each in history.requests(service_probe(url))}


def test_a_page_that_serves_hangs_and_refuses_in_turn_is_seen_so(authority: Authority) -> None:
    async def scenario() -> tuple[str, tuple[Request, ...], History]:
        async with page() as server:
            url = f"http://127.0.0.1:{server.port}/health?deep=1"

            async def turns() -> None:
                await asyncio.sleep(1.2)
                server.hangs = True
                await asyncio.sleep(1.5)
                await server.stop()
                server.hangs = False
                await asyncio.sleep(1.0)
                await server.start()
                await asyncio.sleep(1.5)

            history = await asked(authority, url, meanwhile=turns)
            assert all(head.startswith("GET /health?deep=1 HTTP/1.1\r\n") for head in server.heads)
            assert all(f"Host: 127.0.0.1:{server.port}\r\n" in head for head in server.heads)
            return url, history.requests(service_probe(url)), history

    url, requests, history = asyncio.run(scenario())
    assert requests[0].ok and requests[-1].ok
    found = seen(history, url)
    assert {("ok", ""), ("indeterminate", "timeout"), ("failed", "refused")} <= found
    start = history.window[0]
    assert [each.t for each in requests] == pytest.approx([start + n / 10 for n in range(len(requests))], abs=1e-5)
    timed_out = [each for each in requests if each.kind == "timeout"]
    assert all(each.latency_s >= 1.0 for each in timed_out), "they had a second from when they were due"
    assert all(each.begun is not None for each in requests)
    assert not history.requests()
    assert parse(to_lines(history)) == history


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", ("ok", "")),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", ("ok", "")),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the connection ends", ("ok", "")),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", ("failed", "http-404")),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", ("failed", "http-503")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", ("failed", "eof")),
        (b"SSH-2.0-OpenSSH_10.0\r\n\r\n", ("failed", "http-malformed")),
    ],
)
def test_served_is_200_to_399_with_a_whole_body(authority: Authority, answer: bytes, expected: tuple[str, str]) -> None:
    async def scenario() -> tuple[str, History]:
        async with page(answer=answer) as server:
            url = f"http://127.0.0.1:{server.port}"
            return url, await asked(authority, url)

    url, history = asyncio.run(scenario())
    assert seen(history, url) == {expected}
    assert len(history.requests(service_probe(url))) == 10


def test_no_certificate_is_checked(authority: Authority, tmp_path: Path) -> None:
    async def scenario() -> tuple[str, History]:
        server = TlsServer(make_authority(tmp_path / "other", hostname="elsewhere"))
        await server.start()
        url = f"https://127.0.0.1:{server.port}/"
        history = await asked(authority, url)
        await server.stop()
        return url, history

    url, history = asyncio.run(scenario())
    assert seen(history, url) == {("ok", "")}


def test_a_tcp_port_is_served_when_it_takes_connections(authority: Authority) -> None:
    async def scenario() -> tuple[list[str], History]:
        async with page() as server, page() as gone:
            urls = [f"tcp://127.0.0.1:{server.port}", f"tcp://localhost:{gone.port}"]
            await gone.stop()
            return urls, await asked(authority, *urls)

    (there, gone), history = asyncio.run(scenario())
    assert seen(history, there) == {("ok", "")}
    assert seen(history, gone) == {("failed", "refused")}
    assert list(history.by_probe) == [service_probe(there), service_probe(gone)], "in the order given"


def test_a_name_that_is_not_found_ends_the_prober_before_anything_is_asked(authority: Authority) -> None:
    async def scenario() -> tuple[int | None, list[Line]]:
        nobody = TlsServer(authority, port=9)
        async with probing(nobody, **QUIET, services=["http://no.such.name.invalid/"]) as running:
            lines = await running.lines()
            return running.process.returncode, lines

    assert asyncio.run(scenario()) == (2, [])


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("192.0.2.1:80/", "begin with"),
        ("ftp://192.0.2.1/", "begin with"),
        ("http:/192.0.2.1/", "begin with"),
        ("", "begin with"),
        ("http://", "no host"),
        ("http://:80/", "no host"),
        ("http://[::1/", "Invalid IPv6"),
        ("http://[fe80::1%25eth0]/", "neither a name nor an address"),
        ("http://a..b^/", "neither a name nor an address"),
        ("http://192.0.2.1:0/", "port"),
        ("http://192.0.2.1:65536/", "port"),
        ("http://192.0.2.1:http/", "port"),
        ("tcp://192.0.2.1", "no port"),
        ("tcp://192.0.2.1:80/", "no path"),
        ("tcp://192.0.2.1:80?a", "no path"),
        ("http://192.0.2.1/#top", "fragment"),
        ("http://192.0.2.1/#", "fragment"),
        ("http://192.0.2.1/a b", "spaces"),
        ("http://192.0.2.1/\r\nHost:", "spaces"),
        ("http://192.0.2.1/ü", "spaces"),
        ("http://me@192.0.2.1/", "a user or a password"),
    ],
)
def test_what_cannot_be_asked_is_refused(url: str, why: str) -> None:
    with pytest.raises(ServiceError, match=why) as refused:
        services_of([url])
    assert refused.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "http://me:secret@192.0.2.1/",
        "http://me:sec ret@192.0.2.1/",
        "ftp://me:sec/ret@a",
        "me:secret@192.0.2.1",
        "http:/me:secret@192.0.2.1",
        "http:me:sec//ret@192.0.2.1",
        "http://me:sec\nret@192.0.2.1/",
    ],
)
def test_a_password_is_repeated_to_nobody(url: str) -> None:
    with pytest.raises(ServiceError) as refused:
        services_of([url])
    assert "sec" not in f"{refused.value} {refused.value.url} {refused.value.hint}"


def test_a_service_is_given_once_and_eight_are_enough() -> None:
    with pytest.raises(ServiceError, match="twice"):
        services_of(["http://192.0.2.1/", "http://192.0.2.1:80"])
    assert len(services_of([f"tcp://192.0.2.1:{port}" for port in range(1, 9)])) == 8
    with pytest.raises(ServiceError, match="at most 8"):
        services_of([f"tcp://192.0.2.1:{port}" for port in range(1, 10)])


@pytest.mark.parametrize(
    ("url", "head"),
    [
        ("http://shop.example", "GET / HTTP/1.1\r\nHost: shop.example\r\n"),
        ("HTTP://Shop.example:8080/Cart?id=1", "GET /Cart?id=1 HTTP/1.1\r\nHost: shop.example:8080\r\n"),
        ("https://[2001:db8::1]:443?x", "GET /?x HTTP/1.1\r\nHost: [2001:db8::1]\r\n"),
    ],
)
def test_a_url_is_asked_as_http_wants_it(url: str, head: str) -> None:
    (service,) = services_of([url])
    data = asking(service).data.decode()
    assert data.startswith(head) and "Connection: close\r\n" in data and data.endswith("\r\n\r\n")


def test_names_are_looked_up_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Barrier(8, timeout=5)

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.wait()
        return [(0, 0, 0, "", (f"192.0.2.{host[1]}", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    services = services_of([f"tcp://w{number}.example:80" for number in range(8)])
    assert [address for _, address in look_up_all(services)] == [f"192.0.2.{number}" for number in range(8)]


def test_a_name_server_that_is_silent_is_given_up_and_the_service_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if host == "lost.example":
            answers.wait()
        return [(0, 0, 0, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    services = services_of(["tcp://shop.example:80", "tcp://lost.example:80"])
    with pytest.raises(ServiceError, match=r"lost\.example") as refused:
        look_up_all(services, within_s=0.05)
    answers.set()
    assert refused.value.url == "tcp://lost.example:80"
    assert LOOK_UP_WITHIN_S < START_WITHIN_S
