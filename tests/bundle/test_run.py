"""Commands on this host: what is kept of their output, and that nothing outlives its task."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from haplane.bundle.run import run
from haplane.model.errors import CommandFailed


def shell(script: str, folder: Path, lines: list[str]) -> str:
    return asyncio.run(run(["sh", "-c", script], folder=folder, environment=os.environ, watch=lines.append))


def test_stdout_is_returned_and_stderr_is_watched_line_by_line(tmp_path: Path) -> None:
    lines: list[str] = []
    assert shell("echo one; echo two >&2; echo three >&2", tmp_path, lines) == "one\n"
    assert lines == ["two", "three"]


def test_a_failure_carries_the_command_its_exit_code_and_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as caught:
        shell("seq 1000 >&2; exit 3", tmp_path, [])
    assert caught.value.code == 3
    assert "this host: sh -c 'seq 1000" in str(caught.value)
    assert "exit code 3" in str(caught.value)
    assert str(caught.value).splitlines()[-1].strip() == "1000"


def test_a_missing_program_is_a_failed_command(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="failed on this host"):
        asyncio.run(run([tmp_path / "missing"], folder=tmp_path, environment=os.environ))


def test_a_line_longer_than_any_sensible_line_is_a_failure_that_ends_the_command(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        shell("echo $$ > pid; head -c 3000000 /dev/zero >&2; sleep 60", tmp_path, [])
    assert not is_running(int((tmp_path / "pid").read_text()))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("stubborn", ["", "trap '' TERM; "])
def test_a_cancelled_command_is_ended_with_all_that_it_started(
    stubborn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haplane.bundle.run._GRACE_SECONDS", 0.5)
    script = f"{stubborn}sleep 60 & echo $! > child; echo $$ > parent; echo started >&2; wait; sleep 60"

    async def cancel() -> None:
        started = asyncio.Event()
        command = ["sh", "-c", script]
        task = asyncio.create_task(
            run(command, folder=tmp_path, environment=os.environ, watch=lambda line: started.set())
        )
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert not is_running(int((tmp_path / "parent").read_text()))
    assert not is_running(int((tmp_path / "child").read_text()))
