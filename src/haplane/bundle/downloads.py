"""Getting things over HTTP: short waits, proxies from the environment, transfers that continue where they broke."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Protocol, TypeVar, cast

from haplane.bundle.problems import BadContent, SourceUnavailable
from haplane.model.progress import Progress

# An unreachable host must not hold up the next source; a server that is slow to go on may.
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 20.0
_ATTEMPTS = 3
_PAUSE_SECONDS = 0.5
_CHUNK_BYTES = 1 << 18
_SMALL_BYTES = 4 << 20
_SHOW_EVERY_SECONDS = 0.2

T = TypeVar("T")


class Response(Protocol):
    """The part of http.client.HTTPResponse used here."""

    status: int
    headers: http.client.HTTPMessage

    def read1(self, amount: int = -1, /) -> bytes: ...
    def close(self) -> None: ...


@dataclass
class _Transfer:
    """Shared between the thread that transfers and the task that waits for it."""

    url: str
    report: Callable[[int, int | None], None] = lambda received, total: None
    stopped: threading.Event = field(default_factory=threading.Event)
    connected: list[socket.socket] = field(default_factory=list)

    def stop(self) -> None:
        """The thread ends soon: what it is waiting for is cut off."""
        self.stopped.set()
        for each in self.connected:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def note(self, connection: http.client.HTTPConnection) -> None:
        """From here on silence is borne longer."""
        connection.sock.settimeout(_SILENCE_SECONDS)
        self.connected.append(connection.sock)


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, transfer: _Transfer) -> None:
        super().__init__()
        self.transfer = transfer

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        transfer = self.transfer

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                transfer.note(self)

        return self.do_open(Connection, request)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, transfer: _Transfer) -> None:
        super().__init__()
        self.transfer = transfer

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        transfer = self.transfer

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                transfer.note(self)

        return self.do_open(Connection, request, context=ssl.create_default_context())


class TokenWanted(SourceUnavailable):
    """HTTP 401 from a server that says where a token is given (RFC 6750 3). challenge: what follows Bearer."""

    def __init__(self, what: str, challenge: str) -> None:
        super().__init__(what)
        self.challenge = challenge


@dataclass(frozen=True)
class Fetched:
    content: bytes
    media_type: str


async def fetch(url: str, *, headers: Mapping[str, str] | None = None) -> Fetched:
    """Something small (at most 4 MiB), whole. Raises SourceUnavailable, and TokenWanted."""
    return await _in_thread(partial(_fetch, dict(headers or {})), _Transfer(url))


async def download(
    url: str,
    target: Path,
    *,
    sha256: str,
    subject: str,
    progress: Progress,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Puts a file at target, whose content has this checksum, or raises and leaves nothing there.

    An earlier transfer that broke is continued from target's .partial file. Raises SourceUnavailable, and BadContent
    when the content is not what the checksum promises.
    """
    if target.exists() and await asyncio.to_thread(_digest, target) == sha256:
        return
    loop = asyncio.get_running_loop()
    shown = 0.0

    def show(received: int, total: int | None) -> None:
        nonlocal shown
        if (now := time.monotonic()) - shown < _SHOW_EVERY_SECONDS:
            return
        shown = now
        of = f" of {total / 1e6:.0f}" if total else ""
        loop.call_soon_threadsafe(progress.now, subject, f"downloading {received / 1e6:.0f}{of} MB from {url}")

    part = target.with_name(f"{target.name}.partial")
    transfer = partial(_download, part, dict(headers or {}))
    continued = part.exists()
    got = await asyncio.to_thread(_digest, part) if continued else ""
    if got != sha256:
        await _in_thread(transfer, _Transfer(url, show))
        got = await asyncio.to_thread(_digest, part)
    if got != sha256 and continued:
        # The two halves may come from different files; only a whole transfer proves something.
        _forget(part)
        await _in_thread(transfer, _Transfer(url, show))
        got = await asyncio.to_thread(_digest, part)
    if got != sha256:
        _forget(part)
        raise wrong_checksum(url, expected=sha256, got=got)
    part.rename(target)
    _forget(part)


def wrong_checksum(url: str, *, expected: str, got: str) -> BadContent:
    return BadContent(
        "a download has the wrong checksum and was discarded",
        where=url,
        why=f"expected sha256 {expected}\ngot      sha256 {got}",
        hint="find out who altered it (the server, or a proxy on the way); no other source was tried",
    )


async def _in_thread(work: Callable[[_Transfer], T], transfer: _Transfer) -> T:
    """When the task is cancelled the thread is told to stop, and waited for: it must not write any more."""
    future = asyncio.get_running_loop().run_in_executor(None, work, transfer)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        transfer.stop()
        await asyncio.wait([future])
        future.exception()
        raise


def _open(transfer: _Transfer, headers: Mapping[str, str]) -> Response:
    request = urllib.request.Request(transfer.url, headers={"User-Agent": "haplane"})
    for name, value in headers.items():
        # A token is for this server, not for the store of blobs that it sends us to.
        (request.add_unredirected_header if name == "Authorization" else request.add_header)(name, value)
    opener = urllib.request.build_opener(_Plain(transfer), _Secure(transfer))
    return cast(Response, opener.open(request, timeout=_CONNECT_SECONDS))


def _patiently(attempt: Callable[[], T], transfer: _Transfer) -> T:
    """Up to 3 attempts. What cannot get better is not tried again: an unreachable host at the start, HTTP 4xx."""
    for number in range(1, _ATTEMPTS + 1):
        try:
            return attempt()
        except urllib.error.HTTPError as error:
            said, hopeless = f"HTTP {error.code} {error.reason}", error.code < 500 and error.code != 429
            scheme, _, challenge = (error.headers.get("WWW-Authenticate") or "").partition(" ")
            error.close()
            if error.code == HTTPStatus.UNAUTHORIZED and scheme.lower() == "bearer":
                raise TokenWanted(f"{transfer.url}: {said}", challenge) from None
        except urllib.error.URLError as error:
            said, hopeless = f"cannot be reached: {error.reason}", number == 1
        except (OSError, http.client.HTTPException) as error:
            said, hopeless = f"the transfer broke: {error or type(error).__name__}", False
        except ValueError as error:
            said, hopeless = str(error), True
        if hopeless or number == _ATTEMPTS or transfer.stopped.wait(_PAUSE_SECONDS * number):
            tries = "" if number == 1 else f" ({number} attempts)"
            raise SourceUnavailable(f"{transfer.url}: {said}{tries}")
    raise AssertionError("the last attempt returns or raises")


def _fetch(headers: Mapping[str, str], transfer: _Transfer) -> Fetched:
    def attempt() -> Fetched:
        with closing(_open(transfer, headers)) as response:
            content = bytearray()
            while chunk := response.read1(_CHUNK_BYTES):
                content += chunk
                if len(content) > _SMALL_BYTES:
                    raise ValueError(f"more than {_SMALL_BYTES} bytes where a small answer was expected")
            _check_length(len(content), response.headers.get("Content-Length"))
            return Fetched(bytes(content), response.headers.get_content_type())

    return _patiently(attempt, transfer)


def _download(part: Path, headers: Mapping[str, str], transfer: _Transfer) -> None:
    _patiently(lambda: _continue(part, headers, transfer), transfer)


def _continue(part: Path, always: Mapping[str, str], transfer: _Transfer) -> None:
    """One attempt, from where the partial file ends (RFC 9110 14.2, If-Range 13.1.5) if the server can do that."""
    have = part.stat().st_size if part.exists() else 0
    validator = _validator_file(part)
    headers = dict(always)
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator.exists():
            headers["If-Range"] = validator.read_text()
    try:
        response = _open(transfer, headers)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            # Longer than the file, or just as long: the checksum will tell, from a fresh copy.
            _forget(part)
            raise ConnectionError("the partial file does not fit, starting again") from error
        raise
    with closing(response):
        resumed = response.status == HTTPStatus.PARTIAL_CONTENT
        if resumed and not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            _forget(part)
            raise ConnectionError("the server sent another part than was asked for")
        if not resumed:
            have = 0
            _keep_validator(validator, response)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        received = have
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read1(_CHUNK_BYTES):
                file.write(chunk)
                file.flush()
                received += len(chunk)
                transfer.report(received, total)
                if transfer.stopped.is_set():
                    return
            os.fsync(file.fileno())
        _check_length(received - have, length)


def _check_length(received: int, told: str | None) -> None:
    if told is not None and received < int(told):
        raise ConnectionError(f"it ended after {received} of {told} bytes")


def _keep_validator(validator: Path, response: Response) -> None:
    """A weak ETag does not promise equal bytes, so it cannot be used to continue (RFC 9110 13.1.5)."""
    tag = response.headers.get("ETag") or ""
    if tag and not tag.startswith("W/"):
        validator.write_text(tag)
    else:
        validator.unlink(missing_ok=True)


def _validator_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
