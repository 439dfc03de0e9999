"""Measures what a user waits for, on this machine: `make bench`. Prints Markdown; nothing here passes or fails.

It makes a lab of its own, and removes it. Needs the bundle and the machine image (both are made if missing, and not
counted).
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

HAPLANE = str(Path(sys.executable).parent / "haplane")
REPEAT = 5
NAME, SUBNET = "bench", "10.81.0.0/24"


def timed(arguments: Sequence[str]) -> tuple[float, int]:
    """Wall seconds and peak resident memory in kB of one haplane command."""
    started = time.monotonic()
    process = subprocess.Popen([HAPLANE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    took = time.monotonic() - started
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"haplane {' '.join(arguments)} failed:\n{output}")
    return took, usage.ru_maxrss


def row(what: str, values: Sequence[float], unit: str, digits: int = 2) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(
        f"| {what} | {middle:.{digits}f} | {low:.{digits}f} | {high:.{digits}f} | {unit} | {len(values)} |", flush=True
    )


def lab_memory_mb() -> float:
    """Proportional set size of every process in the lab's machines, pods included."""
    total = 0.0
    listed = subprocess.run(
        ["podman", "ps", "--format", "{{.Pid}}", "--filter", f"label=haplane.lab={NAME}"],
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


def main() -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Linux {platform.release()}, `make bench`\n")
    print("| what | median | min | max | unit | n |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="haplane-bench-") as folder:
        file = str(Path(folder) / "cluster.yaml")
        here = ["--file", file]
        try:
            timed(["lab", "up", "--name", NAME, "--subnet", SUBNET, *here])
            timed(["bundle", "build", *here])
            built, peak = [], 0
            for _ in range(3):
                timed(["lab", "down", *here])
                up, _ = timed(["lab", "up", *here])
                applied, memory = timed(["apply", *here])
                built.append(up + applied)
                peak = max(peak, memory)
            row("lab up + apply, from no machine to three Ready nodes", built, "s", 1)
            time.sleep(20)
            row("memory of the lab (proportional set size)", [lab_memory_mb()], "MB", 0)
            for command in (["plan"], ["apply"], ["status"]):
                runs = [timed([*command, *here]) for _ in range(REPEAT)]
                row(f"haplane {command[0]}, nothing changed", [took for took, _ in runs], "s")
                peak = max(peak, *(memory for _, memory in runs))
            row("haplane --help", [timed(["--help"])[0] for _ in range(REPEAT)], "s")
            drill(here)
            row("peak memory of haplane", [peak / 1024], "MB", 0)
        finally:
            subprocess.run([HAPLANE, "lab", "down", *here], capture_output=True, check=False)


def drill(here: Sequence[str]) -> None:
    done = subprocess.run(
        [HAPLANE, "drill", "run", "power-off-vip-holder", "--repeat", str(REPEAT), "--json", *here],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1, 4):
        sys.exit(f"the drill failed:\n{done.stderr}")
    report = json.loads(done.stdout)
    outages = [run["outage"] for run in report["runs"]]
    print(f"\nDrill power-off-vip-holder: {[run['outcome'] for run in report['runs']]}\n")
    print("| what | median | min | max | unit | n |\n|---|---|---|---|---|---|")
    row("longest gap of new connections", [one["longest_gap_s"] for one in outages], "s", 3)
    row("failed requests at 50/s", [one["failed"] + one["indeterminate"] for one in outages], "requests", 0)
    back = [run["return"] for run in report["runs"]]
    row(
        "failed requests while the machine returns",
        [one["failed"] + one["indeterminate"] for one in back],
        "requests",
        0,
    )
    row("longest gap while the machine returns", [one["longest_gap_s"] for one in back], "s", 3)
    row("requests in all", [one["total"] for one in outages], "requests", 0)
    row("budget, worst case", [report["budget"]["worst_s"]], "s", 3)


if __name__ == "__main__":
    main()
