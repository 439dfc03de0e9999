"""A command with the time and memory it took, and a Markdown row of several such values."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
HAPLANE = str(Path(sys.executable).parent / "haplane")


@dataclass(frozen=True)
class Ran:
    """One command that ended well: wall seconds, peak resident memory in MB, and what it wrote."""

    wall_s: float
    peak_mb: float
    stdout: str
    stderr: str


def ran(command: Sequence[str], *, codes: Sequence[int] = (0,), environment: Mapping[str, str] | None = None) -> Ran:
    """environment: added to this process's. Ends the benchmark when the exit code is not one of `codes`."""
    with tempfile.TemporaryFile() as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, env={**os.environ, **(environment or {})}
        )
        assert process.stdout is not None
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - started
        # Popen would otherwise wait for a process that is gone.
        process.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        errors = stderr.read().decode()
    if process.returncode not in codes:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{output}{errors}")
    return Ran(took, usage.ru_maxrss / 1024, output, errors)


def haplane(*arguments: str, codes: Sequence[int] = (0,)) -> Ran:
    return ran([HAPLANE, *arguments], codes=codes)


def table(heading: str) -> None:
    print(f"\n{heading}\n\n| what | median | min | max | unit | n |\n|---|---|---|---|---|---|", flush=True)


def row(what: str, values: Sequence[float], unit: str, digits: int = 2) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(
        f"| {what} | {middle:.{digits}f} | {low:.{digits}f} | {high:.{digits}f} | {unit} | {len(values)} |", flush=True
    )


def lab_memory_mb(lab: str) -> float:
    """Proportional set size of every process in the lab's machines, pods included."""
    total = 0.0
    listed = subprocess.run(
        ["podman", "ps", "--format", "{{.Pid}}", "--filter", f"label=haplane.lab={lab}"],
        capture_output=True,
        text=True,
        check=True,
    )
    roots = {int(pid) for pid in listed.stdout.split()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if _inside(process, roots):
                for line in (process / "smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) / 1024
        except OSError:
            continue
    return total


def _inside(process: Path, roots: set[int]) -> bool:
    """Is one of the machines' first processes an ancestor?"""
    pid = int(process.name)
    while pid > 1:
        if pid in roots:
            return True
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
    return False
