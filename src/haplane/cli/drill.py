"""haplane drill: break something on purpose, under load, and judge what clients saw."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from haplane.cli.session import DEFAULT_FILE, Terminal, load_cluster, show_json
from haplane.cli.session import run as run_session
from haplane.model.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from haplane.drills.checkers import Outcome, Verdict
    from haplane.model.cluster import Cluster
    from haplane.probes.history import History
    from haplane.reports.drill import DrillReport, Run

File = Annotated[Path, Parameter(name=["--file", "-f"])]
Json = Annotated[bool, Parameter(name="--json", negative=())]
Yes = Annotated[str, Parameter(name="--yes")]


def list_drills(*, file: File = DEFAULT_FILE, json: Json = False) -> None:
    """Show the drills: what each breaks, and the outage that the design allows."""
    from haplane.design.budget import power_off_vip_holder
    from haplane.design.design import Design
    from haplane.drills import power_off

    cluster = load_cluster(file)
    holder = cluster.control_plane[0].name
    budget = power_off_vip_holder(Design(cluster), holder, request_interval_s=1 / power_off.RATE)
    if json:
        drill = {"name": power_off.NAME, "breaks": power_off.SENTENCE, "budget_worst_s": round(budget.worst_s, 4)}
        show_json({"version": 1, "drills": [drill]})
        return
    print(f"{power_off.NAME}: {power_off.SENTENCE}")
    print(f"  budget: {budget.typical_s:.2f} s typically, {budget.worst_s:.2f} s at worst")


def run(name: str, *, file: File = DEFAULT_FILE, repeat: int = 1, json: Json = False, yes: Yes = "") -> int:
    """Run a drill: probe, break, heal, measure, judge. The history is saved beside the cluster file.

    Parameters
    ----------
    name
        A drill of `haplane drill list`.
    repeat
        How many times, each on a cluster that is whole again.
    yes
        The cluster's name: do not ask before real machines lose their power.
    """
    from haplane.drills import power_off

    if name != power_off.NAME:
        raise UsageError(f"there is no drill {name}", hint=f"there is {power_off.NAME}")
    if repeat < 1:
        raise UsageError("--repeat must be at least 1")
    cluster = load_cluster(file)
    report = run_session(lambda terminal: repeat_drill(cluster, file, terminal, repeat=repeat, yes=yes))
    show(report, json=json)
    return exit_code(report.outcome)


def check(history: Path, *, file: File = DEFAULT_FILE, json: Json = False) -> int:
    """Judge a saved history again. No machine is needed, only the cluster file for the budget."""
    from haplane.drills import history_file, power_off
    from haplane.reports.drill import DrillReport

    cluster = load_cluster(file)
    seen = history_file.read(history)
    budget = power_off.budget_from(seen, cluster)
    report = DrillReport(power_off.NAME, (run_of(seen, power_off.judge(seen, budget)),), budget)
    show(report, json=json)
    return exit_code(report.outcome)


async def repeat_drill(cluster: Cluster, file: Path, terminal: Terminal, *, repeat: int, yes: str) -> DrillReport:
    from haplane.drills import power_off
    from haplane.reports.drill import DrillReport

    async def confirm(why: str) -> None:
        if yes == cluster.name:
            return
        raise UsageError(why, hint=f"if that is what you want: --yes {cluster.name}")

    runs = []
    for number in range(repeat):
        if repeat > 1:
            terminal.say(f"run {number + 1} of {repeat}")
        result = await power_off.run(cluster, folder=file.parent / "drills", progress=terminal, confirm=confirm)
        runs.append(run_of(result.history, result.verdicts))
    return DrillReport(power_off.NAME, tuple(runs), result.budget)


def run_of(history: History, verdicts: tuple[Verdict, ...]) -> Run:
    from haplane.drills import power_off
    from haplane.reports.drill import Run

    return Run(history, verdicts, power_off.failover(history), power_off.comeback(history))


def show(report: DrillReport, *, json: bool) -> None:
    if json:
        from haplane.reports.drill import as_json

        show_json(as_json(report))
        return
    from rich.console import Console

    from haplane.reports.drill import render

    Console(file=sys.stdout).print(render(report))


def exit_code(outcome: Outcome) -> int:
    return {"held": ExitCode.DONE, "violated": ExitCode.FINDING, "unknown": ExitCode.UNKNOWN}[outcome.value]
