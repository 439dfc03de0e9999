"""haplane drill: break something on purpose, under load, and judge what clients saw."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from haplane.cli.session import DEFAULT_FILE, Terminal, load_cluster, load_facts, show_json
from haplane.cli.session import run as run_session
from haplane.model.errors import ExitCode, HaplaneError, UsageError

if TYPE_CHECKING:
    from haplane.design.design import Design
    from haplane.drills.catalogue import Drill
    from haplane.drills.checkers import Outcome, Verdict
    from haplane.drills.running import Asked
    from haplane.drills.services import Services
    from haplane.drills.suite import Played
    from haplane.probes.history import History
    from haplane.reports.drill import DrillReport, Run
    from haplane.reports.suite import SuiteReport

File = Annotated[Path, Parameter(name=["--file", "-f"])]
Json = Annotated[bool, Parameter(name="--json", negative=())]
Yes = Annotated[str, Parameter(name="--yes")]
AllowOutage = Annotated[bool, Parameter(negative=())]
Ask = Annotated[
    tuple[str, ...],
    Parameter(
        name="--ask",
        negative=(),
        help="A service of yours to ask meanwhile, 10 times a second from the client machine (repeatable): "
        "http://HOST:PORT/PATH, https://HOST:PORT/PATH (no certificate is checked) or tcp://HOST:PORT. "
        "Served is 200 to 399 within 1 s, or a connection that is made.",
    ),
]
AskFailedAtMost = Annotated[
    int, Parameter(help="How many requests of each --ask may not be served, from the fault to the end.")
]


def list_drills(*, file: File = DEFAULT_FILE, json: Json = False) -> None:
    """Show the drills: what each breaks, and the outage that the design allows."""
    from haplane.drills.catalogue import MATRIX, suite

    design = _design(file)
    usual, quick = suite(design), suite(design, quick=True)
    # On whichever machine that may play the part: the first stands for all.
    those = [(drill, machines) for drill in MATRIX if (machines := drill.example(design))]
    budgets = [(drill, drill.budget_of(design, machines)) for drill, machines in those]
    listed = [(drill, budget.typical_s, budget.worst_s) for drill, budget in budgets]
    if json:
        drills = [
            {
                "name": drill.name,
                "breaks": drill.sentence,
                "on": drill.who.value,
                "quick": drill in quick,
                "only_in_matrix": drill not in usual,
                "budget_worst_s": round(worst_s, 4) if math.isfinite(worst_s) else None,
            }
            for drill, _, worst_s in listed
        ]
        show_json({"version": 1, "drills": drills})
        return
    for drill, typical_s, worst_s in listed:
        when = " (quick suite)" if drill in quick else "" if drill in usual else " (suite --matrix)"
        print(f"{drill.name}{when}: {drill.sentence}")
        if math.isfinite(worst_s):
            print(f"  budget: {typical_s:.2f} s typically, {worst_s:.2f} s at worst")
        else:
            print("  budget: nothing of the design's ends it; what clients see is measured")
    print("\nThose that cut power need `power` in the file; all need a machine with the role client.")


def run(
    name: str,
    *,
    file: File = DEFAULT_FILE,
    on: str = "",
    repeat: int = 1,
    waiting: int | None = None,
    ask: Ask = (),
    ask_failed_at_most: AskFailedAtMost = 0,
    json: Json = False,
    yes: Yes = "",
    allow_outage: AllowOutage = False,
) -> int:
    """Run a drill: probe, break, heal, measure, judge. The history is saved beside the cluster file.

    Parameters
    ----------
    name
        A drill of `haplane drill list`.
    on
        The machine to break, whatever part it plays now. It is judged by that part: what kills HAProxy on a BACKUP must
        not move the VIP.
    repeat
        How many times, each on a cluster that is whole again.
    waiting
        How many clients only wait, as watches do, and come back when they are told: 50, or what the drill has. With
        more an outage is longer where machines are small.
    yes
        The cluster's name: do not ask before real machines are broken.
    allow_outage
        Also where the design does not survive it.
    """
    from haplane.drills.catalogue import WAITING_AT_MOST, find
    from haplane.drills.services import services

    drill, asked = find(name), services(ask, ask_failed_at_most)
    if waiting is not None:
        if not 0 <= waiting <= WAITING_AT_MOST:
            raise UsageError(
                f"--waiting must be 0 to {WAITING_AT_MOST}",
                where=f"--waiting {waiting}",
                why="they are made at 50 a second, and an apiserver ends who waits for 90 s",
                hint=f"leave it out for {drill.idle_connections}",
            )
        drill = replace(drill, idle_connections=waiting)
    if repeat < 1:
        raise UsageError("--repeat must be at least 1")
    if on and repeat > 1:
        raise UsageError("--on and --repeat exclude each other", why="after a run the machine may play another part")
    report = run_session(
        lambda terminal: repeat_drill(
            drill, file, terminal, repeat=repeat, yes=yes, allow_outage=allow_outage, on=on, services=asked
        )
    )
    show(report, json=json)
    return exit_code(report.outcome)


def check(history: tuple[Path, ...], /, *, file: File = DEFAULT_FILE, json: Json = False) -> int:
    """Judge saved histories again. No machine is needed, only the cluster file for the budget.

    Parameters
    ----------
    history
        Several of one drill become one result, as of `drill run --repeat`. Of many, as of a suite, it is known how long
        gaps are without a fault; a history without one, quiet-TIME.jsonl, adds to that.
    json
        One document for each drill.
    """
    from haplane.drills import history_file, judging
    from haplane.drills.checkers import overall
    from haplane.drills.noise import quiet_gaps
    from haplane.reports.drill import DrillReport

    design = _design(file)
    histories = {path: history_file.read(path) for path in history}
    quiet_gaps_s = [gap_s for seen in histories.values() for gap_s in quiet_gaps(seen)]
    reports: dict[str, DrillReport] = {}
    # In the others nothing was broken.
    broken = {path: seen for path, seen in histories.items() if seen.marks or not seen.end}
    for path, seen in (broken or histories).items():
        try:
            judged = judging.judge(seen, design, quiet_gaps_s)
        except HaplaneError as error:
            error.where = str(path)
            raise
        name = judged.drill.name
        before = reports[name].runs if name in reports else ()
        reports[name] = DrillReport(name, (*before, run_of(seen, judged.verdicts)), judged.budget)
    for number, report in enumerate(reports.values()):
        if number and not json:
            print()
        show(report, json=json)
    return exit_code(overall(verdict for each in reports.values() for run in each.runs for verdict in run.verdicts))


def suite(
    *,
    file: File = DEFAULT_FILE,
    quick: Annotated[bool, Parameter(negative=())] = False,
    matrix: Annotated[bool, Parameter(negative=())] = False,
    only: tuple[str, ...] = (),
    repeat: int = 1,
    out: Path | None = None,
    against: Path | None = None,
    pictures: bool = True,
    ask: Ask = (),
    ask_failed_at_most: AskFailedAtMost = 0,
    json: Json = False,
    yes: Yes = "",
    allow_outage: AllowOutage = False,
) -> int:
    """Run one drill after the other and write a report: a page, Markdown, JUnit XML and JSON.

    Parameters
    ----------
    quick
        Those that say the most, in a few minutes.
    matrix
        Every fault on every part that it makes sense on, not only where it harms most.
    only
        This drill (repeatable), instead of all.
    repeat
        How many times each.
    out
        The report's folder; default is drills/report-TIME beside the cluster file.
    against
        The report.json of an earlier suite, to compare with.
    pictures
        Each run's timeline as PNG too (needs the extra `pictures`).
    yes
        The cluster's name: do not ask before real machines are broken.
    allow_outage
        Also where the design does not survive it.
    """
    from haplane.drills import catalogue
    from haplane.drills.services import services
    from haplane.reports import suite as report_of

    if repeat < 1:
        raise UsageError("--repeat must be at least 1")
    to_ask = services(ask, ask_failed_at_most)
    if quick + matrix + bool(only) > 1:
        raise UsageError("of --quick, --matrix and --only at most one can be given")
    design = _design(file)
    wanted = [catalogue.find(name) for name in only] or catalogue.suite(design, quick=quick, matrix=matrix)
    previous = report_of.read_json(against) if against else None
    folder = out or file.parent / "drills" / f"report-{_now():%Y%m%dT%H%M%S}"

    async def work(terminal: Terminal) -> SuiteReport:
        from haplane.drills import noise
        from haplane.drills.suite import play, watch_quietly

        asked = _asked(design, file, terminal, yes=yes, allow_outage=allow_outage, services=to_ask)
        when = _now()
        # Each run brings a window of its own; a short suite takes these for some of those it needs.
        windows = noise.still_needed(repeat * len(wanted) if quick or only else 0)
        quiet = await watch_quietly(asked, windows) if windows else None
        return _report(design, when, await play(wanted, asked, repeat=repeat), quiet)

    report = run_session(work)
    compared = report_of.against(previous, report) if previous else None
    drawn = _drawn(report) if pictures else {}
    page = report_of.write(report, folder, compared, drawn)
    if json:
        show_json(report_of.as_json(report, drawn))
    else:
        from rich.console import Console

        Console(file=sys.stdout).print(report_of.render(report, compared))
        print(f"report: {page}")
    return exit_code(report.outcome)


def chaos(
    *,
    file: File = DEFAULT_FILE,
    seed: int = 1,
    minutes: float = 10.0,
    spare_holder: Annotated[bool, Parameter(negative=())] = False,
    out: Path | None = None,
    pictures: bool = True,
    ask: Ask = (),
    ask_failed_at_most: AskFailedAtMost = 0,
    yes: Yes = "",
) -> int:
    """Run drills in a random order for some minutes, each on a cluster that is whole, and write a report.

    The same seed gives the same order. Drills that nothing of the design's ends are left out.

    Parameters
    ----------
    seed
        Of the order.
    minutes
        For how long drills are begun.
    spare_holder
        Never break the machine that holds the VIP, and say how often the VIP moved needlessly.
    out
        The report's folder; default is drills/report-TIME beside the cluster file.
    pictures
        Each run's timeline as PNG too (needs the extra `pictures`).
    yes
        The cluster's name: do not ask before real machines are broken.
    """
    from rich.console import Console

    from haplane.drills import catalogue
    from haplane.drills.services import services
    from haplane.drills.suite import play_for, shuffled, stayed
    from haplane.reports import suite as report_of

    if minutes <= 0:
        raise UsageError("--minutes must be more than 0")
    to_ask = services(ask, ask_failed_at_most)
    design = _design(file)
    wanted = catalogue.ending(design, spares_holder=spare_holder)
    if not wanted:
        raise UsageError("no drill of this design has an end that is known", where=str(file))
    if spare_holder and not design.cluster.vip_sharers:
        raise UsageError("no machine of this design holds a VIP that could be spared", where=str(file))
    folder = out or file.parent / "drills" / f"report-{_now():%Y%m%dT%H%M%S}"

    async def work(terminal: Terminal) -> SuiteReport:
        asked, when = _asked(design, file, terminal, yes=yes, allow_outage=False, services=to_ask), _now()
        asked = replace(asked, spares_holder=spare_holder)
        played = await play_for(shuffled(wanted, seed), asked, within_s=60 * minutes)
        if spare_holder:
            terminal.done("chaos", stayed(played))
        return _report(design, when, played)

    report = run_session(work)
    page = report_of.write(report, folder, None, _drawn(report) if pictures else {})
    Console(file=sys.stdout).print(report_of.render(report, None))
    print(f"report: {page}")
    return exit_code(report.outcome)


def _report(design: Design, when: datetime, played: Sequence[Played], quiet: History | None = None) -> SuiteReport:
    import platform
    from importlib.metadata import version

    from haplane.drills import judging
    from haplane.drills.noise import quiet_gaps
    from haplane.reports.drill import DrillReport
    from haplane.reports.suite import SuiteReport

    histories = [*([quiet] if quiet else []), *(result.history for one in played for result in one.results)]
    quiet_gaps_s = tuple(gap_s for history in histories for gap_s in quiet_gaps(history))

    def again(history: History) -> Run:
        """Only now it is known what nothing looks like here."""
        return run_of(history, judging.judge(history, design, quiet_gaps_s).verdicts)

    reports = [
        DrillReport(
            one.drill.name, tuple(again(result.history) for result in one.results), one.results[-1].judged.budget
        )
        for one in played
        if one.results
    ]
    return SuiteReport(
        cluster=design.cluster.name,
        haplane=version("haplane"),
        when=when.isoformat(timespec="seconds"),
        environment=(
            f"Kubernetes {design.cluster.kubernetes.version}, {len(design.cluster.control_plane)} control-plane nodes",
            f"haplane on {platform.system()} {platform.release()}, {platform.machine()}",
        ),
        drills=tuple(reports),
        not_run=tuple((one.drill.name, one.why_not) for one in played if one.why_not),
        quiet_gaps_s=quiet_gaps_s,
    )


def _drawn(report: SuiteReport) -> Mapping[str, bytes]:
    """Pictures are an extra: without them the report is whole."""
    from haplane.reports import pictures

    try:
        return pictures.drawn(report)
    except UsageError as error:
        print(f"without pictures: {error.what}; {error.hint}", file=sys.stderr)
        return {}


async def repeat_drill(
    drill: Drill,
    file: Path,
    terminal: Terminal,
    *,
    repeat: int,
    yes: str,
    allow_outage: bool = False,
    on: str = "",
    services: Services | None = None,
) -> DrillReport:
    from haplane.drills import running
    from haplane.observe import status
    from haplane.reports.drill import DrillReport

    design = _design(file)
    asked = _asked(design, file, terminal, yes=yes, allow_outage=allow_outage, on=on, services=services)
    runs, name, budget = [], drill.name, None
    for number in range(repeat):
        if repeat > 1:
            terminal.say(f"run {number + 1} of {repeat}")
        if number:
            await status.until_whole(
                design.cluster, within_s=180, on_problem=lambda problem: terminal.now("drill", f"waiting: {problem}")
            )
        result = await running.run(drill, asked)
        runs.append(run_of(result.history, result.judged.verdicts))
        name, budget = result.judged.drill.name, result.judged.budget
    return DrillReport(name, tuple(runs), budget)


def _asked(
    design: Design,
    file: Path,
    terminal: Terminal,
    *,
    yes: str,
    allow_outage: bool,
    on: str = "",
    services: Services | None = None,
) -> Asked:
    from haplane.drills.running import Asked
    from haplane.drills.services import NO_SERVICES

    async def confirm(why: str) -> None:
        if yes != design.cluster.name:
            raise UsageError(why, hint=f"if that is what you want: --yes {design.cluster.name}")

    return Asked(design, file.parent / "drills", confirm, terminal, allow_outage, on, services or NO_SERVICES)


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


def _now() -> datetime:
    return datetime.now(UTC)
