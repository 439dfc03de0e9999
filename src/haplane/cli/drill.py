"""haplane drill: break something on purpose, under load, and judge what clients saw."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from haplane.cli.session import DEFAULT_FILE, Terminal, load_cluster, load_facts, show_json
from haplane.cli.session import run as run_session
from haplane.model.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from haplane.design.design import Design
    from haplane.drills.catalogue import Drill
    from haplane.drills.checkers import Outcome, Verdict
    from haplane.probes.history import History
    from haplane.reports.drill import DrillReport, Run

File = Annotated[Path, Parameter(name=["--file", "-f"])]
Json = Annotated[bool, Parameter(name="--json", negative=())]
Yes = Annotated[str, Parameter(name="--yes")]
AllowOutage = Annotated[bool, Parameter(negative=())]


def list_drills(*, file: File = DEFAULT_FILE, json: Json = False) -> None:
    """Show the drills: what each breaks, and the outage that the design allows."""
    from haplane.drills.catalogue import DRILLS

    design = _design(file)
    # On whichever machine: the first stands for all.
    machine = design.cluster.balancers[0].name
    budgets = [(drill, drill.budget_of(design, machine)) for drill in DRILLS if drill.has_meaning(design)]
    listed = [(drill, budget.typical_s, budget.worst_s) for drill, budget in budgets]
    if json:
        drills = [
            {
                "name": drill.name,
                "breaks": drill.sentence,
                "on": drill.who.value,
                "quick": drill.quick,
                "budget_worst_s": round(worst_s, 4) if math.isfinite(worst_s) else None,
            }
            for drill, _, worst_s in listed
        ]
        show_json({"version": 1, "drills": drills})
        return
    for drill, typical_s, worst_s in listed:
        print(f"{drill.name}{' (quick suite)' if drill.quick else ''}: {drill.sentence}")
        if math.isfinite(worst_s):
            print(f"  budget: {typical_s:.2f} s typically, {worst_s:.2f} s at worst")
        else:
            print("  budget: nothing of the design's ends it; what clients see is measured")
    print("\nThose that cut power need `power` in the file; all need a machine with the role client.")


def run(
    name: str,
    *,
    file: File = DEFAULT_FILE,
    repeat: int = 1,
    json: Json = False,
    yes: Yes = "",
    allow_outage: AllowOutage = False,
) -> int:
    """Run a drill: probe, break, heal, measure, judge. The history is saved beside the cluster file.

    Parameters
    ----------
    name
        A drill of `haplane drill list`.
    repeat
        How many times, each on a cluster that is whole again.
    yes
        The cluster's name: do not ask before real machines are broken.
    allow_outage
        Also where the design does not survive it.
    """
    from haplane.drills.catalogue import find

    drill = find(name)
    if repeat < 1:
        raise UsageError("--repeat must be at least 1")
    report = run_session(
        lambda terminal: repeat_drill(drill, file, terminal, repeat=repeat, yes=yes, allow_outage=allow_outage)
    )
    show(report, json=json)
    return exit_code(report.outcome)


def check(history: Path, *, file: File = DEFAULT_FILE, json: Json = False) -> int:
    """Judge a saved history again. No machine is needed, only the cluster file for the budget."""
    from haplane.drills import history_file, judging
    from haplane.reports.drill import DrillReport

    seen = history_file.read(history)
    judged = judging.judge(seen, _design(file))
    report = DrillReport(judged.drill.name, (run_of(seen, judged.verdicts),), judged.budget)
    show(report, json=json)
    return exit_code(report.outcome)


async def repeat_drill(
    drill: Drill, file: Path, terminal: Terminal, *, repeat: int, yes: str, allow_outage: bool = False
) -> DrillReport:
    from haplane.drills import running
    from haplane.observe import status
    from haplane.reports.drill import DrillReport

    design = _design(file)

    async def confirm(why: str) -> None:
        if yes != design.cluster.name:
            raise UsageError(why, hint=f"if that is what you want: --yes {design.cluster.name}")

    asked = running.Asked(design, file.parent / "drills", confirm, terminal, allow_outage)
    runs, budget = [], None
    for number in range(repeat):
        if repeat > 1:
            terminal.say(f"run {number + 1} of {repeat}")
        if number:
            await status.until_whole(
                design.cluster, within_s=180, on_problem=lambda problem: terminal.now("drill", f"waiting: {problem}")
            )
        result = await running.run(drill, asked)
        runs.append(run_of(result.history, result.judged.verdicts))
        budget = result.judged.budget
    return DrillReport(drill.name, tuple(runs), budget)


def run_of(history: History, verdicts: tuple[Verdict, ...]) -> Run:
    from haplane.drills import judging
    from haplane.reports.drill import Run

    return Run(history, verdicts, judging.while_broken(history), judging.mended(history))


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


def _design(file: Path) -> Design:
    from haplane.design.solved import solved

    return solved(load_cluster(file), load_facts(file))[0]
