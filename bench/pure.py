"""What lint and design cost beyond starting Python: `python bench/pure.py`. No machine is needed.

Targets: below 50 ms for 5 machines, below 2 s for 1,000.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from measuring import haplane, row, table

# Imported here, so that the work is timed without them: they are part of starting.
from haplane.cli.session import load_cluster, load_facts
from haplane.design.budget import budgets
from haplane.design.hazards import lint
from haplane.design.solved import solved
from haplane.model import file as _reader  # noqa: F401
from haplane.reports.design import as_json

REPEAT = 5
CONTROL_PLANE = 5
# What haplane lint says when it found something.
FINDING = 1


def cluster_text(machines: int) -> str:
    """The first five are control-plane machines, the others workers."""
    first = IPv4Address("10.80.0.11")
    lines = (
        f"  m{i}: {{address: {first + i}{', roles: [worker]' if i >= CONTROL_PLANE else ''}}}\n"
        for i in range(machines)
    )
    return "name: bench\nkubernetes: {version: 1.35.4}\nendpoint: {vip: 10.80.255.200/16}\nmachines:\n" + "".join(lines)


def lint_work(file: Path) -> float:
    """Seconds from the file to the findings."""
    started = time.perf_counter()
    lint(solved(load_cluster(file), load_facts(file))[0])
    return time.perf_counter() - started


def design_work(file: Path) -> float:
    """Seconds from the file to all that the report says: derived values, budgets, cut sets."""
    started = time.perf_counter()
    design, solution = solved(load_cluster(file), load_facts(file))
    as_json(design, budgets(design), because=solution.because)
    return time.perf_counter() - started


def once(work: Callable[[Path], float], file: Path) -> float:
    """In a process of its own, as a command is: no cache is warm."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, (file,))


def beyond_help(command: str, file: Path) -> float:
    """Wall seconds of the command less those of `haplane --help`, one right after the other."""
    started = haplane("--help").wall_s
    return haplane(command, "--file", str(file), codes=(0, FINDING)).wall_s - started


def main() -> None:
    table("`haplane lint` and `haplane design`, beyond starting")
    with tempfile.TemporaryDirectory(prefix="haplane-bench-") as folder:
        file = Path(folder) / "cluster.yaml"
        for machines in (CONTROL_PLANE, 1000):
            file.write_text(cluster_text(machines))
            for command, work in (("lint", lint_work), ("design", design_work)):
                what = f"haplane {command}, {machines:,} machines"
                row(f"{what}: the work alone", [once(work, file) * 1000 for _ in range(REPEAT)], "ms", 1)
                walls = [beyond_help(command, file) * 1000 for _ in range(REPEAT)]
                row(f"{what}: wall less that of --help", walls, "ms", 0)
    print("\nTargets: below 50 ms for 5 machines, below 2,000 ms for 1,000.")


if __name__ == "__main__":
    main()
