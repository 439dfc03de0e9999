"""An open-loop prober: asks on a fixed schedule, whatever happened to earlier requests, and writes down what it saw.

Self-contained (Python 3.11+, standard library, imports nothing of haplane): it is copied to a client machine and run
there with `python3 prober.py CONFIG_JSON`. Request i is due at start + i/rate and its latency counts from that moment,
so that a stalled server cannot slow the schedule down and hide its own outage (coordinated omission).

Its probes:
- new: each request is a new TCP and TLS connection. It ends at the latest timeout_s after it was due.
- write: the same, but each request makes a ConfigMap with a name of its own (write_prefix and the request's number).
- persistent: requests one after the other over one connection. When that breaks, or a request gets no answer in time,
  it is closed and made anew at once. A request that had to wait for the connection still counts from when it was due;
  it fails with the attempt it waited for. After a failed attempt the next request makes the next one.
- idle: connections that ask once and then only wait, as a watch does. One that the other end ends is made anew at once.
  When the schedule has ended, each that is still open is asked once more: one that does not answer would have waited
  for ever.

Writes one JSON object per line to stdout. Times are CLOCK_MONOTONIC of this machine in seconds; "t" comes first:
- header: version, start (when the first request is due), wall (the wall clock at t), wall_error, config.
- new, persistent, write: t is when the request was due; outcome, kind, sent_at (null: never sent), end.
  ok: 200 with a whole body, kind is empty. indeterminate: timed out after it was sent, kind timeout.
  failed: kind is refused, reset, eof, unreachable, tls (handshake refused by either side), tls-timeout or
  connect-timeout (nothing was sent), http-500 and so on, http-malformed; or the prober's own trouble: prober-overloaded
  (too many in flight, or begun too late), prober-emfile and so on.
  begun (new and write): when the prober began with it, later than t by its own lateness; absent when it never did.
  write has key, the name, and other outcomes. ok: 201. failed: never sent, or refused (http-4xx). All else that comes
  once it was sent is indeterminate, for it may have been stored: a reset, an end of file, http-500 and so on.
- reconnect: an attempt of the persistent probe to connect, begun at t because of cause (start, retry: the attempt
  before failed, closed: the server wished it, timeout, reset, eof ...); outcome, kind, end.
- idle: a connection that was ready to wait at t. kind is how that ended, told_at when: reset, eof and so on (the other
  end told it), alive (asked at the end, it answered) or dark (it did not, within timeout_s).
- clock: once a second, lag is how late the schedule was at worst since the line before; stalls has each [end, length]
  of more than 20 ms.
- reading: a line that came on stdin is answered at once with the clock, so that others can relate theirs to it.
- end: t is when the schedule ended (the last answers come later), reason, and count of the requests and idle lines.

Ends after duration_s, on SIGTERM, SIGINT or SIGHUP, or when stdin closes (a lost SSH connection). A stdin that cannot
close (a file, /dev/null) is not watched. Requests already due are waited for, so the end takes up to timeout_s.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import math
import os
import queue
import re
import resource
import signal
import socket
import ssl
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

VERSION = 1
START_DELAY_S = 0.2  # lets the header out and the loop warm up before the first request is due
TICK_S = 0.01  # how finely stalls of this process are seen
STALL_S = 0.02  # a longer lag is recorded with its place
FLUSH_S = 0.1
LEAVE_S = 1.0  # the server closes first, as asked with Connection: close; it gets this long
OUTPUT_LIMIT = 64 << 20  # bytes the reader of stdout may be behind before the prober gives up
RESPONSE_LIMIT = 1 << 20  # bytes of one answer
IDLE_PACE = 50.0  # idle connections made per second at the start
IDLE_PAUSE_S = 0.5  # between two attempts to make the same one, so that a server in trouble is not flooded
NAMESPACE = "haplane-drill"

OK, FAILED, INDETERMINATE = "ok", "failed", "indeterminate"
ALIVE, DARK = "alive", "dark"


class ConfigError(ValueError):
    """The configuration cannot be used; the text says why."""


@dataclass(frozen=True)
class Config:
    """What to ask, and how often. A rate of 0 leaves that probe out. Files are paths on the prober's machine.

    token_file holds the bearer token of writes and must not be readable by others; write_prefix begins the names of
    what they make, and is another one in each run.
    in_flight_limit bounds the connections of the new and of the write probe that wait at the same time; None means
    their rate * timeout_s * 2, which is never reached unless the prober itself is too slow.
    """

    address: str
    port: int
    server_hostname: str
    ca_file: str
    path: str = "/readyz"
    rate: float = 50.0
    persistent_rate: float = 10.0
    timeout_s: float = 3.0
    duration_s: float = 60.0
    in_flight_limit: int | None = None
    write_rate: float = 0.0
    write_prefix: str = "w-"
    namespace: str = NAMESPACE
    token_file: str = ""
    idle_connections: int = 0

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            raise ConfigError(f"address must be an IP address, not {self.address!r}: names are not looked up") from None
        if not 0 < self.port < 65536:
            raise ConfigError(f"port must be between 1 and 65535, not {self.port}")
        if not self.path.startswith("/") or not self.path.isascii() or not self.path.isprintable() or " " in self.path:
            raise ConfigError(f"path must begin with / and have no spaces, not {self.path!r}")
        for name in ("rate", "persistent_rate", "write_rate", "timeout_s", "duration_s"):
            number = getattr(self, name)
            least = "at least 0" if name.endswith("rate") else "more than 0"
            if not math.isfinite(number) or number < 0 or (number == 0 and not name.endswith("rate")):
                raise ConfigError(f"{name} must be {least}, not {number}")
        if self.in_flight_limit is not None and self.in_flight_limit < 1:
            raise ConfigError(f"in_flight_limit must be at least 1, not {self.in_flight_limit}")
        if self.idle_connections < 0:
            raise ConfigError(f"idle_connections must be at least 0, not {self.idle_connections}")
        for name, pattern in (
            ("namespace", "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
            ("write_prefix", "[a-z0-9][-a-z0-9]{0,62}"),
        ):
            if not re.fullmatch(pattern, getattr(self, name)):
                raise ConfigError(f"{name} cannot be (part of) a name in Kubernetes: {getattr(self, name)!r}")
        if self.write_rate and not self.token_file:
            raise ConfigError("write_rate needs a token_file")

    def in_flight(self, rate: float) -> int:
        """The bound that holds for a probe with this rate."""
        return self.in_flight_limit or max(16, math.ceil(rate * self.timeout_s * 2))

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def read_config(text: str) -> Config:
    """The Config that this JSON object describes. Raises ConfigError."""
    try:
        read = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"the configuration is not JSON: {error}") from None
    if not isinstance(read, dict):
        raise ConfigError("the configuration must be a JSON object")
    return config_from(read)


def config_from(values: Mapping[str, object]) -> Config:
    """The Config with these values. Raises ConfigError when a key or a type is wrong."""
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    kinds["int | None"] = (int, type(None))
    known = {each.name: kinds[str(each.type)] for each in fields(Config)}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"unknown key {name!r}; known: {', '.join(known)}")
        if isinstance(value, bool) or not isinstance(value, known[name]):
            raise ConfigError(f"{name} must be {' or '.join(kind.__name__ for kind in known[name])}, not {value!r}")
    missing = [name for name in ("address", "port", "server_hostname", "ca_file") if name not in values]
    if missing:
        raise ConfigError(f"missing: {', '.join(missing)}")
    return Config(**values)  # type: ignore[arg-type]  # checked above


# -- HTTP


class Failed(Exception):
    """The request or the connection came to an end without an answer; kind is one short word."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Response(NamedTuple):
    """One complete answer. length: how much of the data it took; keep: the connection may be used again."""

    status: int
    length: int
    keep: bool


def read_response(data: bytes, *, ended: bool = False) -> Response | None:
    """The answer at the beginning of data, or None while more must come (RFC 9112). ended: nothing more will come.

    Raises Failed("http-malformed") for what is not HTTP/1.
    """
    start = 0
    while True:
        end = data.find(b"\r\n\r\n", start)
        if end < 0:
            if not b"HTTP/1."[: len(data) - start] == data[start : start + 7] or len(data) > RESPONSE_LIMIT:
                raise Failed("http-malformed")
            return None
        status_line, *lines = data[start:end].split(b"\r\n")
        version, _, rest = status_line.partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or not rest[:3].isdigit() or rest[3:4].strip():
            raise Failed("http-malformed")
        status = int(rest[:3])
        start = end + 4
        if status >= 200:
            break
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise Failed("http-malformed")
        headers[name.strip().lower()] = value.strip().lower()
    keep = version == b"HTTP/1.1" and b"close" not in headers.get(b"connection", b"")
    if status in (204, 304):
        return Response(status, start, keep)
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        stop = _end_of_chunks(data, start)
    elif (length := headers.get(b"content-length")) is not None:
        if not length.isdigit():
            raise Failed("http-malformed")
        stop = start + int(length)
    else:
        keep = False
        stop = len(data) if ended else None
    if stop is None or len(data) < stop:
        if len(data) > RESPONSE_LIMIT:
            raise Failed("http-malformed")
        return None
    return Response(status, stop, keep)


def _end_of_chunks(data: bytes, at: int) -> int | None:
    while (line_end := data.find(b"\r\n", at)) >= 0:
        size_text = data[at:line_end].partition(b";")[0].strip()
        try:
            size = int(size_text, 16)
        except ValueError:
            raise Failed("http-malformed") from None
        if size < 0:
            raise Failed("http-malformed")
        if size == 0:  # trailers, then an empty line
            if data.startswith(b"\r\n", line_end + 2):
                return line_end + 4
            stop = data.find(b"\r\n\r\n", line_end)
            return stop + 4 if stop >= 0 else None
        at = line_end + 2 + size + 2
    return None


# -- connections

_OWN_TROUBLE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}


def kind_of(error: OSError) -> str:
    """One short word for what the kernel said about a connection."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return "reset"
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN):
        return "unreachable"
    if error.errno == errno.ETIMEDOUT:
        return "reset"  # the kernel gave up sending again: the connection is gone
    name = errno.errorcode.get(error.errno or 0, type(error).__name__).lower()
    return f"prober-{name}" if error.errno in _OWN_TROUBLE else name


class Connection(asyncio.Protocol):
    """One TCP and TLS connection, asked one question at a time.

    TLS is driven by hand (ssl.MemoryBIO): asyncio's own takes 256 KiB per connection, too much for hundreds that hang,
    and tells neither a reset from an end of file during the handshake nor how far a connection came.
    stage is how far it came: connect, tls, ready, sent.
    """

    def __init__(self, tls: ssl.SSLContext, hostname: str, lost: Callable[[str], None] | None = None) -> None:
        self.stage = "connect"
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # No session is handed over: each connection makes a full handshake.
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._data = b""
        self._waiter: asyncio.Future[tuple[Response | None, float]] | None = None
        self.broken: str | None = None

    async def open(self, address: str, port: int) -> None:
        """Connect and shake hands. Raises Failed; when cancelled, stage says how far it came."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            # asyncio sets TCP_NODELAY only where the protocol is named. Without it a request waits for the server to
            # acknowledge the handshake, which it may put off for 40 ms.
            sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except OSError as error:
            raise Failed(kind_of(error)) from None
        sock.setblocking(False)
        try:
            await self._loop.sock_connect(sock, (address, port))
            self.stage = "tls"
            self._waiter = self._loop.create_future()
            await self._loop.create_connection(lambda: self, sock=sock)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise Failed(kind_of(error)) from None
            raise
        await self._waiter
        self.stage = "ready"

    async def ask(self, request: bytes) -> tuple[Response, float]:
        """The answer and when it was complete. Raises Failed."""
        if self._data:  # nobody asked for this; it must not pass for the answer
            self._break("http-malformed")
        if self.broken is not None:
            raise Failed(self.broken)
        self.stage = "sent"
        self._waiter = self._loop.create_future()
        try:
            self._tls.write(request)
            self._flush()
        except ssl.SSLError:
            self._break("tls")
        response, end = await self._waiter
        assert response is not None
        self.stage = "ready"
        return response, end

    def leave(self) -> None:
        """Wait a moment for the server to close, then close."""
        if self._transport is None or self._transport.is_closing():
            return
        self._leaving = self._loop.call_later(LEAVE_S, self.abort)

    def abort(self) -> None:
        """Close at once; lost is not called."""
        self._lost = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._advance()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        self._advance()

    def eof_received(self) -> None:
        self._ended("eof")

    def connection_lost(self, error: Exception | None) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        self._ended(kind_of(error) if isinstance(error, OSError) else "eof")

    def _advance(self) -> None:
        """Let TLS eat what came and send what it wants to send."""
        try:
            if self.stage == "tls" and self._waiter is not None and not self._waiter.done():
                self._tls.do_handshake()
                self._flush()
                self._waiter.set_result((None, self._loop.time()))
            while True:
                part = self._tls.read(65536)
                if not part:  # close_notify
                    self._ended("eof")
                    break
                self._data += part
                self._read()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended("eof")
        except ssl.SSLError:
            self._break("tls")
        self._flush()

    def _flush(self) -> None:
        if self._transport is not None and (data := self._outgoing.read()):
            self._transport.write(data)

    def _read(self, *, ended: bool = False) -> None:
        if self.stage != "sent" or self._waiter is None or self._waiter.done():
            return
        try:
            response = read_response(self._data, ended=ended)
        except Failed as failed:
            self._break(failed.kind)
            return
        if response is not None:
            self._data = self._data[response.length :]
            self._waiter.set_result((response, self._loop.time()))

    def _ended(self, kind: str) -> None:
        self._read(ended=kind == "eof")
        self._break(kind)

    def _break(self, kind: str) -> None:
        if self.broken is not None:
            return
        self.broken = kind
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Failed(kind))
            self._waiter.exception()  # whoever waited may have gone; then nobody needs to be told
        self._flush()  # the TLS alert that says why
        if self._transport is not None:
            self._transport.close()
        if self._lost is not None:
            self._lost(kind)


# -- what is asked, and what came of it


class Question(NamedTuple):
    """One request. key names what it makes; a request without one may be repeated, so that its failure is a failure."""

    probe: str
    data: bytes
    key: str = ""


def reading(config: Config, probe: str) -> Question:
    connection = "close" if probe == "new" else "keep-alive"
    return Question(probe, _request(config, f"GET {config.path}", f"Connection: {connection}"))


def writing(config: Config, token: str, number: int) -> Question:
    key = f"{config.write_prefix}{number}"
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": key}}).encode()
    headers = (f"Authorization: Bearer {token}", "Content-Type: application/json", f"Content-Length: {len(body)}")
    what = f"POST /api/v1/namespaces/{config.namespace}/configmaps"
    return Question("write", _request(config, what, "Connection: close", *headers) + body, key)


def _request(config: Config, what: str, *headers: str) -> bytes:
    lines = (f"{what} HTTP/1.1", f"Host: {config.server_hostname}", "User-Agent: haplane-prober", "Accept: */*")
    return "\r\n".join((*lines, *headers, "", "")).encode()


def outcome_of_answer(question: Question, status: int) -> tuple[str, str]:
    """Outcome and kind. A write that the server could not finish (5xx) or answered otherwise may be stored."""
    if status == (201 if question.key else 200):
        return OK, ""
    refused = not question.key or 400 <= status < 500
    return FAILED if refused else INDETERMINATE, f"http-{status}"


def outcome_of_timeout(stage: str) -> tuple[str, str]:
    """Outcome and kind of a request that ran out of time when its connection had come this far."""
    if stage == "sent":
        return INDETERMINATE, "timeout"
    return FAILED, "connect-timeout" if stage == "connect" else "tls-timeout"


# -- the schedule

Emit = Callable[[Mapping[str, object]], None]


class Prober:
    """All probes on one schedule. emit gets each line as a mapping and must not block."""

    def __init__(self, config: Config, tls: ssl.SSLContext, emit: Emit, token: str = "") -> None:
        self._config = config
        self._token = token
        self._tls = tls
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._reason = "duration"
        self._stop_at = math.inf
        self._count = 0
        self._lag = 0.0
        self._stalls: list[tuple[float, float]] = []

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
            {"t": _us(now), "probe": "header", "version": VERSION, "start": _us(start), "wall": _us(wall)}
            | {"wall_error": wall_error, "config": asdict(self._config)}
        )
        clock = asyncio.create_task(self._watch_clock())
        await asyncio.gather(
            self._ask_anew(start, self._config.rate, lambda _: reading(self._config, "new")),
            self._ask_anew(start, self._config.write_rate, lambda number: writing(self._config, self._token, number)),
            self._ask_persistently(start),
            *(self._hold_idle(start + number / IDLE_PACE) for number in range(self._config.idle_connections)),
            self._wait_for_the_end(),
        )
        clock.cancel()
        self._report_clock(self._loop.time())
        end = {"t": _us(self._stop_at), "probe": "end", "reason": self._reason, "count": self._count}
        self._emit(end)

    async def _wait_for_the_end(self) -> None:
        await self._sleep_until(self._stop_at)
        self._stopped.set()

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

    # -- the new and the write probe

    async def _ask_anew(self, start: float, rate: float, question: Callable[[int], Question]) -> None:
        asking: set[asyncio.Task[None]] = set()
        for number, due in enumerate(self._due(start, rate)):
            await self._sleep_until(due)
            if due >= self._stop_at:
                break
            now = self._loop.time()
            self._late(now, now - due)
            asked = question(number)
            if len(asking) >= self._config.in_flight(rate) or now >= due + self._config.timeout_s:
                self._record(asked, due, FAILED, "prober-overloaded", None, now)
                continue
            task = asyncio.create_task(self._ask_once(due, asked))
            asking.add(task)
            task.add_done_callback(asking.discard)
        while asking:
            await asyncio.wait(asking)

    async def _ask_once(self, due: float, question: Question) -> None:
        begun = self._loop.time()
        connection = Connection(self._tls, self._config.server_hostname)
        sent_at: float | None = None
        try:
            async with asyncio.timeout_at(due + self._config.timeout_s):
                await connection.open(self._config.address, self._config.port)
                sent_at = self._loop.time()
                response, end = await connection.ask(question.data)
        except TimeoutError:
            connection.abort()
            outcome, kind = outcome_of_timeout(connection.stage)
            self._record(question, due, outcome, kind, sent_at, self._loop.time(), begun)
        except Failed as failed:
            connection.abort()
            if connection.stage != "sent":  # it broke before the request could go out
                sent_at = None
            outcome = INDETERMINATE if question.key and sent_at is not None else FAILED
            self._record(question, due, outcome, failed.kind, sent_at, self._loop.time(), begun)
        else:
            connection.leave()
            self._record(question, due, *outcome_of_answer(question, response.status), sent_at, end, begun)

    # -- the persistent probe

    async def _ask_persistently(self, start: float) -> None:
        if not self._config.persistent_rate:
            return
        line = Line(self._config, self._tls, self._emit)
        question = reading(self._config, "persistent")
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
            self._record(question, due, *outcome_of_answer(question, response.status), sent_at, end)
            if not response.keep:
                line.redial("closed")

    # -- the idle probe

    async def _hold_idle(self, when: float) -> None:
        question = reading(self._config, "idle")
        while True:
            await self._sleep_until(when)
            if self._stopped.is_set():
                return
            when = self._loop.time() + IDLE_PAUSE_S
            held = Held(self._config, self._tls)
            ready = await held.make(question)
            if ready is None:
                continue
            if ready >= self._stop_at:  # too late to wait
                held.close()
                return
            at, kind = await held.wait(self._stopped) or await held.ask_at_the_end(question)
            self._count += 1
            self._emit({"t": _us(ready), "probe": "idle", "told_at": _us(at), "kind": kind})

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
    ) -> None:
        self._count += 1
        line: dict[str, object] = {"t": _us(due), "probe": question.probe, "outcome": outcome, "kind": kind}
        line |= {"sent_at": None if sent_at is None else _us(max(sent_at, due)), "end": _us(end)}
        if begun is not None:
            line["begun"] = _us(max(begun, due))
        if question.key:
            line["key"] = question.key
        self._emit(line)

    async def _watch_clock(self) -> None:
        due = self._loop.time()
        report = due + 1.0
        while True:
            due += TICK_S
            await asyncio.sleep(due - self._loop.time())
            now = self._loop.time()
            self._late(now, now - due)
            if now - due > TICK_S:
                due = now
            if now >= report:
                self._report_clock(now)
                report = max(report, now - 1.0) + 1.0

    def _late(self, now: float, lag: float) -> None:
        self._lag = max(self._lag, lag)
        if lag > STALL_S:
            if self._stalls and now - self._stalls[-1][0] < TICK_S:  # the same stall, seen by another part
                end, longest = self._stalls.pop()
                now, lag = end, max(longest, lag)
            self._stalls.append((now, lag))

    def _report_clock(self, now: float) -> None:
        stalls = [[_us(end), _us(lag)] for end, lag in self._stalls]
        self._emit({"t": _us(now), "probe": "clock", "lag": _us(self._lag), "stalls": stalls})
        self._lag, self._stalls = 0.0, []


# -- connections that stay


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
        line = {"t": _us(began), "probe": "reconnect", "cause": cause, "outcome": outcome, "kind": kind}
        self._emit(line | {"end": _us(self._loop.time())})
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


# -- clocks, files, streams


def _us(seconds: float) -> float:
    return round(seconds, 6)


def read_clocks() -> tuple[float, float, float]:
    """CLOCK_MONOTONIC, the wall clock at that moment, and the error between the two, in seconds."""
    best = (0.0, 0.0, math.inf)
    for _ in range(5):
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        if (after - before) / 2 < best[2]:
            best = ((before + after) / 2, wall, (after - before) / 2)
    return best


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Trusts this CA alone and checks the name. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot read the CA file {ca_file}: {error}") from None
    return context


def read_token(token_file: str) -> str:
    """The bearer token in this file. Raises ConfigError, which never shows it."""
    try:
        with Path(token_file).open("rb") as file:
            mode, text = os.fstat(file.fileno()).st_mode, file.read().strip()
    except OSError as error:
        raise ConfigError(f"cannot read the token file {token_file}: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError(f"the token file {token_file} can be read by others: its mode must be 0600")
    if not re.fullmatch(rb"[A-Za-z0-9._~+/=-]+", text):  # RFC 6750 2.1; a line end would be another header
        raise ConfigError(f"the token file {token_file} holds no bearer token")
    return text.decode()


class Output:
    """Lines to a file descriptor, through a thread: a reader that is slow or gone never stalls the loop.

    lost is called (in the loop) with the reason when the reader is gone or too far behind.
    """

    def __init__(self, descriptor: int, lost: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._lines: list[str] = []
        self._chunks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._handed = 0  # written by the loop alone
        self._written = 0  # written by the thread alone
        self.failed = False
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def line(self, event: Mapping[str, object]) -> None:
        self._lines.append(json.dumps(event, separators=(",", ":")) + "\n")

    def flush(self) -> None:
        if self._lines and not self.failed:
            chunk = "".join(self._lines).encode()
            self._handed += len(chunk)
            self._chunks.put(chunk)
            if self._handed - self._written > OUTPUT_LIMIT:
                self.failed = True
                self._lost("stdout-blocked")
        self._lines.clear()

    async def flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self.flush()

    def close(self) -> bool:
        """Whether all was written."""
        self.flush()
        self._chunks.put(None)
        self._thread.join(5.0)
        return not (self.failed or self._thread.is_alive())

    def _write(self) -> None:
        try:
            while (chunk := self._chunks.get()) is not None:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
                self._written += len(chunk)
        except OSError:
            self.failed = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._lost, "stdout-closed")


def watch_stdin(prober: Prober, output: Output) -> None:
    """Answer each line with the clock; end with the input."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(0)):
        return
    loop = asyncio.get_running_loop()
    rest = b""

    def readable() -> None:
        nonlocal rest
        now = time.monotonic()
        try:
            data = os.read(0, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            loop.remove_reader(0)
            prober.stop("stdin-closed")
            return
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[:256]
        for line in lines:
            output.line({"t": _us(now), "probe": "reading", "token": line.decode(errors="replace").strip()[:64]})
        output.flush()

    loop.add_reader(0, readable)


# -- the program


async def run(config: Config, tls: ssl.SSLContext, token: str) -> int:
    """Probe with stdin and stdout; returns the exit code (1: not all could be written)."""
    loop = asyncio.get_running_loop()
    output = Output(1, lambda reason: prober.stop(reason))
    prober = Prober(config, tls, output.line, token)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, prober.stop, number.name.lower())
    watch_stdin(prober, output)
    flushing = asyncio.create_task(output.flush_for_ever())
    await prober.run()
    flushing.cancel()
    return 0 if output.close() else 1


def main(arguments: list[str]) -> int:
    try:
        if len(arguments) != 1:
            raise ConfigError("usage: prober.py CONFIG_JSON")
        config = read_config(arguments[0])
        tls = tls_context(config.ca_file)
        token = read_token(config.token_file) if config.write_rate else ""
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = config.in_flight(config.rate) + config.in_flight(config.write_rate) + config.idle_connections
    wanted = 1024 + 2 * most
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return asyncio.run(run(config, tls, token))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
