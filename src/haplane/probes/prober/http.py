"""As much of HTTP/1.1 as the answers of an apiserver need (RFC 9112)."""

from __future__ import annotations

from typing import NamedTuple

RESPONSE_LIMIT = 1 << 20  # bytes of one answer


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
    body: bytes = b""


def read_response(data: bytes, *, ended: bool = False) -> Response | None:
    """The answer at the beginning of data, or None while more must come (RFC 9112). ended: nothing more will come.

    Raises Failed("http-malformed") for what is not HTTP/1.
    """
    head = _read_head(data)
    if head is None:
        return None
    status, start, keep, headers = head
    if status in (204, 304):
        return Response(status, start, keep)
    if _is_chunked(headers):
        found = _read_chunks(data, start)
    elif (length := headers.get(b"content-length")) is not None:
        if not length.isdigit():
            raise Failed("http-malformed")
        stop = start + int(length)
        found = (data[start:stop], stop) if stop <= len(data) else None
    else:
        keep = False
        found = (data[start:], len(data)) if ended else None
    if found is not None:
        body, stop = found
        return Response(status, stop, keep, body)
    if len(data) > RESPONSE_LIMIT:
        raise Failed("http-malformed")
    return None


class Stream:
    """An answer that goes on for as long as it is wanted, line by line; a line has at most RESPONSE_LIMIT bytes.

    status: as soon as the head has come. ended: the server has said that nothing more comes.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.ended = False
        self._chunked = False
        self._data = b""
        self._line = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now. Raises Failed("http-malformed")."""
        self._data += data
        if self.status is None:
            head = _read_head(self._data)
            if head is None:
                return []
            self.status, self._data, self._chunked = head.status, self._data[head.length :], _is_chunked(head.headers)
        *lines, self._line = (self._line + self._take_body()).split(b"\n")
        if len(self._data) + len(self._line) > RESPONSE_LIMIT:
            raise Failed("http-malformed")
        return lines

    def _take_body(self) -> bytes:
        parts = []
        while self._data and not self.ended:
            if not self._chunked:
                part, self._data = self._data, b""
            elif (chunk := _read_chunk(self._data, 0)) is not None:
                part, stop = chunk
                self._data, self.ended = self._data[stop:], not part
            else:
                break
            parts.append(part)
        return b"".join(parts)


class _Head(NamedTuple):
    status: int
    length: int
    keep: bool
    headers: dict[bytes, bytes]


def _read_head(data: bytes) -> _Head | None:
    """Of the first answer that is not an interim one (1xx)."""
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
        start = end + 4
        if int(rest[:3]) >= 200:
            break
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise Failed("http-malformed")
        headers[name.strip().lower()] = value.strip().lower()
    keep = version == b"HTTP/1.1" and b"close" not in headers.get(b"connection", b"")
    return _Head(int(rest[:3]), start, keep, headers)


def _is_chunked(headers: dict[bytes, bytes]) -> bool:
    return b"chunked" in headers.get(b"transfer-encoding", b"")


def _read_chunks(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The whole body and where it ends; None while more must come."""
    parts = []
    while (chunk := _read_chunk(data, at)) is not None:
        part, at = chunk
        if part:
            parts.append(part)
        elif data.startswith(b"\r\n", at):
            return b"".join(parts), at + 2
        else:  # trailers, then an empty line
            stop = data.find(b"\r\n\r\n", at - 2)
            return (b"".join(parts), stop + 4) if stop >= 0 else None
    return None


def _read_chunk(data: bytes, at: int) -> tuple[bytes, int] | None:
    """One chunk and where the next begins; the last is empty. None while more must come."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return None
    try:
        size = int(data[at:line_end].partition(b";")[0].strip(), 16)
    except ValueError:
        raise Failed("http-malformed") from None
    if size < 0:
        raise Failed("http-malformed")
    start = line_end + 2
    if size == 0:
        return b"", start
    return (data[start : start + size], start + size + 2) if len(data) >= start + size + 2 else None
