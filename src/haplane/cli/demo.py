"""haplane demo: lab, apply, status, first drill."""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from haplane.cli import cluster as cluster_commands
from haplane.cli import drill as drill_commands
from haplane.cli.session import Terminal, cache_folder, load_cluster, load_facts, run
from haplane.drills.catalogue import find as find_drill
from haplane.drills.checkers import Outcome
from haplane.lab import files, machines
from haplane.lab.host import check_host
from haplane.model.cluster import Cluster
from haplane.model.errors import ExitCode

File = Annotated[Path, Parameter(name=["--file", "-f"])]


def demo(*, file: File = Path("lab/cluster.yaml"), repeat: int = 1) -> int:
    """Build an HA control plane of real machines on this host, and cut the power of the one that holds the VIP.

    Parameters
    ----------
    file
        The lab's cluster file; made with everything beside it unless it is there.
    repeat
        How often the drill is run.
    """
    from haplane.bundle import check_sources, find, obtain
    from haplane.observe import status as observe
    from haplane.reports import status as status_report

    check_host()
    cache = cache_folder()
    files.write_default(files.LabPaths(file), subnet=IPv4Network(files.SUBNET), cache=cache)
    cluster = load_cluster(file)
    version, sources, addons = cluster.kubernetes.version, cluster.sources, cluster.addons

    async def build(terminal: Terminal) -> None:
        if find(version, cache=cache, sources=sources, addons=addons) is None:
            await check_sources(version, sources, addons=addons)
        # Both take minutes the first time, one of the processor and one of the network.
        async with asyncio.TaskGroup() as group:
            group.create_task(obtain(version, sources, cache=cache, progress=terminal, addons=addons))
            group.create_task(machines.ensure_images(_lab(file, cluster), cache=cache, progress=terminal))
        started = time.monotonic()
        await machines.up(_lab(file, cluster), cache=cache, progress=terminal)
        await cluster_commands.apply_cluster(cluster, load_facts(file), terminal)
        await observe.until_whole(
            cluster, within_s=120, on_problem=lambda problem: terminal.now("cluster", f"waiting: {problem}")
        )
        terminal.say(f"from no machine to {len(cluster.control_plane)} Ready nodes: {time.monotonic() - started:.0f} s")

    run(build)
    print()
    status_report.show(run(lambda _: observe.read(cluster)))
    drill = find_drill("power-off-vip-holder")
    print(f"\nNow the drill: {drill.sentence}.\n")
    report = run(lambda terminal: drill_commands.repeat_drill(drill, file, terminal, repeat=repeat, yes=""))
    drill_commands.show(report, json=False)
    print(
        f"\nThe lab is still there. Look around:\n"
        f"  haplane status -f {file}\n"
        f"  haplane kubeconfig -f {file}\n"
        f"  haplane lab shell cp1 -f {file}\n"
        f"and remove it with:\n"
        f"  haplane lab down -f {file}"
    )
    if report.outcome is Outcome.HELD:
        return ExitCode.DONE
    print(
        "\nAll machines of this lab share the processors of this host: one that boots slows the others down.\n"
        f"More runs tell more: haplane drill run {drill.name} --repeat 5 -f {file}"
    )
    # What the demo shows is the failover; how calm the return is depends on this host.
    shown = ("while-broken", "budget")
    lost = [verdict.outcome for run in report.runs for verdict in run.verdicts if verdict.name in shown]
    return ExitCode.FINDING if Outcome.VIOLATED in lost else ExitCode.DONE


def _lab(file: Path, cluster: Cluster) -> machines.Lab:
    paths = files.LabPaths(file)
    lab = machines.Lab(paths, files.read_lab(paths), cluster)
    files.make_keys(paths, cluster.name, lab.machines.values())
    return lab
