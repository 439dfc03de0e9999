"""From no machine to Ready, `plan`, a further worker, memory: `python bench/topologies.py NAME ...`, names of examples.

Makes a lab like each example, measures and removes it. Without names: those that have a target.

Targets: stacked-5 Ready in 150 s, external-etcd in 120 s, a worker in 25 s; plan 1.5 s; memory 10 GB.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from measuring import HAPLANE, REPOSITORY, haplane, lab_memory_mb, row, table

REPEAT = 5
NAME, SUBNET = "bench", "10.81.0.0/24"
WITH_TARGETS = ("stacked-5", "external-etcd", "workers")
# The last of the example; it joins later.
LATER = "worker2"


def measure(example: str, file: Path) -> None:
    here = ("--file", str(file))
    like = REPOSITORY / "examples" / f"{example}.yaml"
    up = haplane("lab", "up", "--like", str(like), "--name", NAME, "--subnet", SUBNET, *here)
    whole = file.read_text()
    described = yaml.safe_load(whole)
    joins = described["machines"].pop(LATER, None) is not None
    if joins:
        file.write_text(yaml.safe_dump(described, sort_keys=False))
    table(f"A lab like {example}: {len(described['machines'])} machines")
    applied = haplane("apply", *here)
    row("lab up + apply, from no machine to Ready", [up.wall_s + applied.wall_s], "s", 1)
    time.sleep(20)
    row("haplane plan, nothing changed", [haplane("plan", *here).wall_s for _ in range(REPEAT)], "s")
    if joins:
        file.write_text(whole)
        row("haplane apply, a further worker", [haplane("apply", *here).wall_s], "s", 1)
    row("memory of the lab (proportional set size)", [lab_memory_mb(NAME)], "MB", 0)


def main(examples: Sequence[str] = ()) -> None:
    for example in examples or WITH_TARGETS:
        with tempfile.TemporaryDirectory(prefix="haplane-bench-") as folder:
            file = Path(folder) / "cluster.yaml"
            try:
                measure(example, file)
            finally:
                subprocess.run([HAPLANE, "lab", "down", "--file", str(file)], capture_output=True, check=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="what the topologies of the examples take")
    parser.add_argument("examples", nargs="*")
    main(parser.parse_args().examples)
