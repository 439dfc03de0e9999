"""Files of this host, replaced whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# How to go on when it fails.
HINT = "may you write there, is the folder above it there, and has its disk room?"


def replace_file(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """A reader sees the old content or the new, also after a power cut. Raises OSError.

    Several processes may do so at once: the last one counts. mode: without what the umask takes away, from the first
    byte on.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Has what was written to a file, or the names in a folder, on disk when it returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
