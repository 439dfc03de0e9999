"""Measures what a user waits for, on this machine: `make bench`. Prints Markdown; nothing here passes or fails.

First what needs no machine (pure, prober, scale); then a lab is made, measured (with against_ansible, rolling and
waiting) and removed, and labs of other topologies (topologies). Needs the bundle and the machine image (both are made
if missing, and not counted).
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import against_ansible
import prober
import pure
import rolling
import scale
import topologies
import waiting
from measuring import HAPLANE, haplane, lab_memory_mb, row, table

REPEAT = 5
NAME, SUBNET = "bench", "10.81.0.0/24"


def main() -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Linux {platform.release()}, `make bench`")
    pure.main()
    prober.main()
    with tempfile.TemporaryDirectory(prefix="haplane-bench-") as folder:
        build_bundle(Path(folder) / "bundle.yaml")
        scale.main()
        file = Path(folder) / "cluster.yaml"
        try:
            lab(file)
            against_ansible.main(file)
            rolling.main(file)
            waiting.main(file)
            until_whole(file)
            drill(file)
        finally:
            subprocess.run([HAPLANE, "lab", "down", "--file", str(file)], capture_output=True, check=False)
    topologies.main()


def build_bundle(file: Path) -> None:
    """What scale and the lab use, which name the same version and sources. file: is written."""
    file.write_text(scale.cluster_text())
    haplane("bundle", "build", "--file", str(file))


def lab(file: Path) -> None:
    """Makes the lab; it is running, and as the file says, when this returns."""
    here = ("--file", str(file))
    table("A lab of three machines")
    haplane("lab", "up", "--name", NAME, "--subnet", SUBNET, *here)
    built, peaks_mb = [], []
    for _ in range(3):
        haplane("lab", "down", *here)
        up, applied = haplane("lab", "up", *here), haplane("apply", *here)
        built.append(up.wall_s + applied.wall_s)
        peaks_mb.append(applied.peak_mb)
    row("lab up + apply, from no machine to three Ready nodes", built, "s", 1)
    time.sleep(20)
    row("memory of the lab (proportional set size)", [lab_memory_mb(NAME)], "MB", 0)
    for command in ("plan", "apply", "status"):
        runs = [haplane(command, *here) for _ in range(REPEAT)]
        row(f"haplane {command}, nothing changed", [run.wall_s for run in runs], "s")
        peaks_mb += [run.peak_mb for run in runs]
    row("haplane --help", [haplane("--help").wall_s for _ in range(REPEAT)], "s")
    row("peak memory of haplane", [max(peaks_mb)], "MB", 0)


def until_whole(file: Path) -> None:
    """A drill begins only then. For a minute at most."""
    for _ in range(60):
        if subprocess.run([HAPLANE, "status", "--file", str(file)], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(1)


def drill(file: Path) -> None:
    # 1 and 4: a verdict of violated or unknown, which is a result as well.
    done = haplane(
        *("drill", "run", "power-off-vip-holder", "--repeat", str(REPEAT), "--json", "--file", str(file)),
        codes=(0, 1, 4),
    )
    report = json.loads(done.stdout)
    outages = [run["outage"] for run in report["runs"]]
    table(f"Drill power-off-vip-holder: {[run['outcome'] for run in report['runs']]}")
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
