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
