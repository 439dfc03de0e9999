"""One connection: TCP, TLS where it is wanted, and a question at a time."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable

from .http import Failed, Response, read_response

LEAVE_S = 1.0  # the server closes first, as asked with Connection: close; it gets this long

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
    """One TCP and TLS connection, asked one question at a time. Without tls it is TCP alone.

    TLS is driven by hand (ssl.MemoryBIO): asyncio's own takes 256 KiB per connection, too much for hundreds that hang,
    and tells neither a reset from an end of file during the handshake nor how far a connection came.
    stage is how far it came: connect, tls, ready, sent.
    """

    def __init__(self, tls: ssl.SSLContext | None, hostname: str, lost: Callable[[str], None] | None = None) -> None:
        self.stage = "connect"
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # No session is handed over: each connection makes a full handshake.
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname) if tls else None
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._data = b""
        self._waiter: asyncio.Future[tuple[Response | None, float]] | None = None
        self._take: Callable[[bytes], None] | None = None
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
        response, end = await self._send(request)
        assert response is not None
        self.stage = "ready"
        return response, end

    async def follow(self, request: bytes, take: Callable[[bytes], None]) -> None:
        """Ask, and hand over what comes until take or the connection ends it. Raises Failed, which take may too."""
        self._take = take
        await self._send(request)

    async def _send(self, request: bytes) -> tuple[Response | None, float]:
        if self._data:  # nobody asked for this; it must not pass for the answer
            self._break("http-malformed")
        if self.broken is not None:
            raise Failed(self.broken)
        self.stage = "sent"
        self._waiter = self._loop.create_future()
        try:
            if self._tls is None:
                assert self._transport is not None
                self._transport.write(request)
            else:
                self._tls.write(request)
                self._flush()
        except ssl.SSLError:
            self._break("tls")
        return await self._waiter

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
        if self._tls is None:
            self._data += data
            self._read()
        else:
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
                if self._tls is not None:
                    self._tls.do_handshake()
                    self._flush()
                self._waiter.set_result((None, self._loop.time()))
            while self._tls is not None:
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
            if self._take is not None:
                data, self._data = self._data, b""
                self._take(data)
                return
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
