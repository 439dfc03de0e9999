"""What clients notice of a rolling change of HAProxy and keepalived: `python bench/rolling.py --file lab/cluster.yaml`.

On a running lab with a client machine, to which the file was applied. The file is changed back and forth, applied each
time while new connections are opened 100 times a second, and is put back at the end.

Targets: no request that is not served, no gap of 100 ms.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from measuring import haplane, row, table

from haplane.cli.session import load_cluster, write_file
from haplane.model.cluster import KeyPath
from haplane.model.editing import Scalar, edited

REPEAT = 5
RATE = 100
# Harmless values that differ from haplane's own (1s, 0.1): both daemons have to be reloaded on each machine.
CHANGED: dict[KeyPath, Scalar] = {
    ("haproxy", "defaults", "timeout queue"): "1100ms",
    ("keepalived", "vrrp_instance", "advert_int"): 0.11,
}
LOADS = {"reload HAProxy", "reload keepalived"}


@dataclass(frozen=True)
class Roll:
    """One apply, and what clients saw of it. kinds: how many were not served, in which way."""

    wall_s: float
    requests: int
    not_served: int
    longest_gap_ms: float
    kinds: dict[str, int]


def apply(file: Path) -> Roll:
    """Ends the benchmark when not every machine was changed, or nothing was probed."""
    done = haplane("apply", "--json", "--probe-rate", str(RATE), "--file", str(file))
    return read_roll(done.stdout, done.wall_s, [machine.name for machine in load_cluster(file).control_plane])


def read_roll(text: str, wall_s: float, machines: list[str]) -> Roll:
    """text: what `haplane apply --json` printed."""
    report = json.loads(text)
    loaded = {(step["machine"], load) for step in report["steps"] for load in LOADS if load in step["sentence"]}
    if missing := {(machine, load) for machine in machines for load in LOADS} - loaded:
        sys.exit(f"this was no rolling change: missing are {sorted(missing)}")
    probe = report["probe"]
    if probe is None or probe["why_not"]:
        sys.exit(f"nothing was probed: {probe['why_not'] if probe else 'the cluster is not live'}")
    return Roll(wall_s, probe["requests"], probe["not_served"], probe["longest_gap_s"] * 1000, probe["kinds"])


def measure(file: Path) -> list[Roll]:
    """The file and the machines are as before when it ends well; the file always."""
    before = file.read_text()
    after = edited(before, CHANGED, file=str(file))
    if after == before:
        sys.exit(f"{file} has the changed values already: {CHANGED}")
    try:
        rolls = []
        for i in range(REPEAT):
            write_file(file, before if i % 2 else after)
            rolls.append(apply(file))
    finally:
        write_file(file, before)
    haplane("apply", "--file", str(file))
    return rolls


def main(file: Path) -> None:
    table(f"HAProxy and keepalived reconfigured on one machine after the other, {RATE} new connections per second")
    rolls = measure(file)
    row("haplane apply", [one.wall_s for one in rolls], "s")
    row("requests", [one.requests for one in rolls], "requests", 0)
    row("requests not served", [one.not_served for one in rolls], "requests", 0)
    row("longest gap", [one.longest_gap_ms for one in rolls], "ms", 0)
    if any(one.kinds for one in rolls):
        print(f"\nNot served: {[one.kinds for one in rolls]}")
    print("\nTargets: 0 requests, below 100 ms.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="what clients notice of a rolling change of HAProxy and keepalived")
    parser.add_argument("--file", type=Path, default=Path("cluster.yaml"))
    main(parser.parse_args().file)
