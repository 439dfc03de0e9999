"""Independent work side by side: the first failure cancels the rest, waits for it, and is raised as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from haplane.bundle.problems import BadContent


@asynccontextmanager
async def side_by_side() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose failure is one exception, not a group; BadContent goes before any other."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        raise min(failures.exceptions, key=lambda failure: not isinstance(failure, BadContent)) from None
