"""What every command does around its work: read the file, show progress, turn errors into text and exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from haplane.model.errors import ExitCode, HaplaneError, UsageError
from haplane.transport.files import HINT, replace_file

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from haplane.model.cluster import Cluster
    from haplane.model.facts import MeasuredFacts

T = TypeVar("T")
DEFAULT_FILE = Path("cluster.yaml")
# Plain output is for logs: what changes many times a second is said now and then.
PLAIN_EVERY_S = 5.0


class Terminal:
    """Progress as a person sees it: one live line per subject, or plain lines when output is not a terminal."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        self._since: dict[str, float] = {}
        self._live: Live | None = None
        self._plain_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._table, console=Console(stderr=True), refresh_per_second=8, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def step(self, subject: str, text: str) -> None:
        self._now[subject] = text
        self._since[subject] = time.monotonic()
        if not self._live:
            self.say(f"{subject}: {text}")

    def now(self, subject: str, text: str) -> None:
        if self._live or time.monotonic() - self._plain_at.get(subject, 0) < PLAIN_EVERY_S:
            self._now[subject] = text
            self._since.setdefault(subject, time.monotonic())
            return
        self._plain_at[subject] = time.monotonic()
        self.step(subject, text)

    def live(self, subject: str, text: str) -> None:
        if self._live and text:
            self._now[subject] = text
        else:
            self._now.pop(subject, None)

    def done(self, subject: str, text: str) -> None:
        self._now.pop(subject, None)
        took = time.monotonic() - self._since.pop(subject, time.monotonic())
        self.say(f"{subject}: {text}" + (f" ({took:.0f} s)" if took >= 2 else ""))

    def say(self, text: str) -> None:
        """One line that stays."""
        if self._live:
            from rich.text import Text

            self._live.console.print(Text(text))
        else:
            print(text, file=sys.stderr, flush=True)

    def begun(self) -> str:
        """What is under way, for somebody who interrupts it."""
        return "\n".join(f"{subject}: {text}" for subject, text in self._now.items())

    def _table(self) -> Table:
        from rich.table import Table

        table = Table.grid(padding=(0, 1))
        for subject, text in self._now.items():
            since = self._since.get(subject)
            took = "" if since is None else f"[dim]{time.monotonic() - since:.0f} s[/dim]"
            table.add_row(f"[bold]{subject}[/bold]", text.replace("[", r"\["), took)
        return table


def cache_folder() -> Path:
    from platformdirs import user_cache_path

    folder = user_cache_path("haplane")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError("the cache folder cannot be made", where=str(folder), why=str(error)) from None
    return folder


def load_cluster(file: Path) -> Cluster:
    """Raises InvalidFile, or UsageError when there is no such file."""
    from haplane.model.file import read_cluster

    try:
        text = file.read_bytes().decode("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise UsageError(
            f"there is no {file}",
            where=str(file.absolute()),
            hint="name one with --file, or make a lab with its file: haplane lab up",
        ) from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read", where=str(file.absolute()), why=str(error)) from None
    return read_cluster(text, file=str(file), folder=file.absolute().parent)


def load_facts(file: Path) -> MeasuredFacts:
    """What preflight measured: facts.yaml beside the cluster file. Nothing, if there is none."""
    from haplane.model.facts import NOTHING_MEASURED, read_facts

    facts = facts_file(file)
    try:
        return read_facts(facts.read_bytes().decode("utf-8", errors="surrogateescape"), file=str(facts))
    except FileNotFoundError:
        return NOTHING_MEASURED
    except OSError as error:
        raise UsageError(f"{facts} cannot be read", where=str(facts.absolute()), why=str(error)) from None


def facts_file(file: Path) -> Path:
    return file.with_name("facts.yaml")


def run(work: Callable[[Terminal], Coroutine[Any, Any, T]]) -> T:
    """Run async work with progress; Ctrl-C and SIGTERM cancel it and say what was begun."""
    import asyncio  # only commands that go to machines pay for it

    with Terminal() as terminal:
        try:
            return asyncio.run(_interruptible(work(terminal)))
        except ExceptionGroup as group:
            # Of several that failed side by side, the first that a user can do something about.
            raise _first(group) from group
        except (KeyboardInterrupt, asyncio.CancelledError):
            begun = terminal.begun()
            raise Interrupted(begun) from None


def _first(group: ExceptionGroup[Exception]) -> Exception:
    known, _ = group.split(HaplaneError)
    chosen: Exception = known or group
    while isinstance(chosen, ExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    task = asyncio.current_task()
    assert task is not None
    # SIGTERM as Ctrl-C: faults must be healed and locks released in both.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


class Interrupted(HaplaneError):
    exit_code = ExitCode.INTERRUPTED

    def __init__(self, begun: str) -> None:
        super().__init__(
            "interrupted",
            why=f"under way was\n{begun}" if begun else "",
            hint="running the same command again completes it",
        )


def write_file(file: Path, text: str) -> None:
    """Replaces the file whole or not at all. Raises UsageError."""
    try:
        replace_file(file, text)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written",
            where=str(file.absolute()),
            why=error.strerror or str(error),
            hint=HINT,
        ) from None


def show_json(value: object) -> None:
    print(json.dumps(value, indent=2, default=str))


def fail(error: HaplaneError) -> int:
    """Print an error for people; returns the exit code."""
    text = str(error)
    head, _, rest = text.partition("\n")
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    print(f"\033[1;31merror:\033[0m {head}" if colour else f"error: {head}", file=sys.stderr)
    if rest:
        print("\n".join(f"  {line}" for line in rest.splitlines()), file=sys.stderr)
    return int(error.exit_code)
