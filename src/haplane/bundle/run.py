"""Commands on this host: their output is watched line by line, and they never outlive the task that started them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from haplane.model.errors import CommandFailed

HOST = "this host"
_GRACE_SECONDS = 5.0
_KEPT_LINES = 400
_LONGEST_LINE_BYTES = 1 << 20


async def run(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str],
    watch: Callable[[str], None] = lambda line: None,
    hint: str = "",
) -> str:
    """What the command printed on stdout. `watch` gets each line of stderr as it comes.

    Raises CommandFailed, which carries the last lines. When the task is cancelled, the command and all that it
    started are terminated (killed after 5 s) and waited for.
    """
    words = [str(argument) for argument in arguments]
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=folder,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            limit=_LONGEST_LINE_BYTES,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(HOST, shlex.join(words), None, stderr=str(error), hint=hint) from error
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        stdout, _, code = await asyncio.gather(_read(process), _follow(process, last, watch), process.wait())
    except BaseException:
        await _end(process)
        raise
    if code != 0:
        raise CommandFailed(
            HOST, shlex.join(words), code if code > 0 else None, stdout=stdout, stderr="\n".join(last), hint=hint
        )
    return stdout


async def _read(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.read()).decode(errors="replace")


async def _follow(process: Process, last: deque[str], watch: Callable[[str], None]) -> None:
    assert process.stderr is not None
    async for raw in process.stderr:
        line = raw.decode(errors="replace").rstrip()
        last.append(line)
        watch(line)


async def _end(process: Process) -> None:
    """Ends the whole process group: `go build` has compilers and linkers below it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_until_gone(process.pid), _GRACE_SECONDS)


async def _until_gone(group: int) -> None:
    """Signals arrive later than kill(2) returns, and of a group only the first process is our child to wait for."""
    # A process that was terminated but that init has not yet collected counts too: hence the limit of the caller.
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM when only such are left
        while True:
            os.killpg(group, 0)
            await asyncio.sleep(0.01)
