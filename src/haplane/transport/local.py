"""Run a command on this host."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from haplane.model.errors import CommandFailed, UsageError

THIS_HOST = "this host"
NICEST = 19


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    await process.wait()


async def run(
    arguments: Sequence[str],
    *,
    stdin: bytes | None = None,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 600,
    hint: str = "",
    gently: bool = False,
) -> tuple[int, str, str]:
    """Run a program and return (exit code, stdout, stderr).

    It gets a process group of its own, which is ended when this task is cancelled. gently: it leaves processors to
    whoever else wants them, such as the machines of a lab. Raises CommandFailed when check is set and the exit code is
    not 0, UsageError when there is no such program.
    """
    shown = shlex.join(arguments)
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=None if environment is None else {**os.environ, **environment},
            start_new_session=True,
        )
    except FileNotFoundError:
        raise UsageError(f"{arguments[0]} is not installed on this host", where=shown, hint=hint) from None
    if gently:
        # A session weighs as one process, however nice those in it are (sched(7), autogroup); and niceness would stay
        # with what they start. Where sessions do not count, nothing is changed.
        with suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text(str(NICEST))
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(stdin)
    except asyncio.CancelledError:
        await _end(process)
        raise
    except TimeoutError:
        await _end(process)
        raise CommandFailed(THIS_HOST, shown, None, "", f"it did not end within {timeout_s:.0f} s", hint=hint) from None
    code = process.returncode
    stdout, stderr = out.decode(errors="replace"), err.decode(errors="replace")
    if check and code != 0:
        raise CommandFailed(THIS_HOST, shown, code, stdout, stderr, hint=hint)
    return code or 0, stdout, stderr
