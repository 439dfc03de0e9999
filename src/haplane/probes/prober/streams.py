"""The files it reads, and the streams over which it is talked to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import re
import ssl
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .clock import us
from .config import ConfigError


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Trusts this CA alone and checks the name. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot read the CA file {ca_file}: {error}") from None
    return context


def any_tls_context() -> ssl.SSLContext:
    """Checks no certificate: what is asked is whether a service goes on answering, not who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
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


FLUSH_S = 0.1
OUTPUT_LIMIT = 64 << 20  # bytes the reader of stdout may be behind before the prober gives up


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


def watch_stdin(output: Output, stop: Callable[[str], None]) -> None:
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
            stop("stdin-closed")
            return
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[:256]
        for line in lines:
            output.line({"t": us(now), "probe": "reading", "token": line.decode(errors="replace").strip()[:64]})
        output.flush()

    loop.add_reader(0, readable)
