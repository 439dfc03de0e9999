"""One haplane at a time works in a cache; the others wait, and say for whom."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from haplane.model.progress import Progress

_ASK_EVERY_SECONDS = 0.2


@asynccontextmanager
async def lock(path: Path, subject: str, progress: Progress) -> AsyncIterator[None]:
    """Holds the lock file; the kernel releases it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        said = False
        while not _taken(file.fileno()):
            if not said:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                progress.now(subject, f"waiting for another haplane (process {holder}) that is making a bundle")
                said = True
            await asyncio.sleep(_ASK_EVERY_SECONDS)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
