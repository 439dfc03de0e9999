"""One drill's result for a terminal and as JSON: the measurement beside the budget, a timeline, the verdicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from haplane.design.budget import Budget
from haplane.drills.checkers import LATE_AFTER_S, Outage, Outcome, Verdict, measure, overall
from haplane.model.cluster import Value
from haplane.probes.history import History, Request
from haplane.reports.budget import budget_as_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

VERSION = 1
CELL_S = 0.1
BEFORE_S = 1.0  # what the timeline shows before the fault
AT_LEAST_S = 3.0  # and at least after it
CELLS = 66  # and at most in all, so that a line fits 80 columns

# What became of the requests that were due in one cell.
SERVED, LATE, PARTLY, NOT_SERVED, NONE_DUE = "█", "▓", "▄", "×", " "
_STYLES = {SERVED: "green", LATE: "yellow", PARTLY: "yellow", NOT_SERVED: "red"}
_OUTCOME_STYLES = {Outcome.HELD: "bold green", Outcome.VIOLATED: "bold red", Outcome.UNKNOWN: "bold yellow"}


@dataclass(frozen=True)
class Run:
    """One time that the drill was run.

    outage: what the new probe saw while the fault lasted (in `failover`, a part of the history). returned: what it
    saw when the machine came back, None where nothing does.
    """

    history: History
    verdicts: tuple[Verdict, ...]
    failover: History | None = None
    comeback: History | None = None

    @cached_property
    def outage(self) -> Outage:
        return measure(self.failover or self.history)

    @cached_property
    def returned(self) -> Outage | None:
        return measure(self.comeback) if self.comeback else None

    @property
    def outcome(self) -> Outcome:
        return overall(self.verdicts)


@dataclass(frozen=True)
class DrillReport:
    """All runs of one drill (at least one); budget is None where the design has none for this fault."""

    name: str
    runs: tuple[Run, ...]
    budget: Budget | None = None

    @property
    def outcome(self) -> Outcome:
        return overall(verdict for run in self.runs for verdict in run.verdicts)


@dataclass(frozen=True)
class Spread:
    """One number over all runs; None when no run has it."""

    median: float | None
    least: float | None
    most: float | None


def spread(numbers: Iterable[float | None]) -> Spread:
    known = [number for number in numbers if number is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else Spread(None, None, None)


def spreads(report: DrillReport) -> dict[str, Spread]:
    """What is compared between runs, in the order shown."""
    outages = [run.outage for run in report.runs]
    return {
        "longest_gap_s": spread(outage.longest_gap_s for outage in outages),
        "failed": spread(outage.failed for outage in outages),
        "indeterminate": spread(outage.indeterminate for outage in outages),
        "late": spread(outage.late for outage in outages),
        "failed_on_return": spread(run.returned.not_served if run.returned else None for run in report.runs),
        "p99_during_s": spread(outage.during.p99_s for outage in outages),
        "persistent_back_s": spread(outage.persistent_back_s for outage in outages),
    }


def timeline(history: History, probe: str, from_s: float, cells: int) -> str:
    """One character per CELL_S, by when requests were due; from_s is on the prober's clock."""
    return cells_of(history.requests(probe), from_s, cells)


def cells_of(requests: Iterable[Request], from_s: float, cells: int) -> str:
    """The timeline of these requests."""
    rows: list[list[str]] = [[] for _ in range(cells)]
    for request in requests:
        cell = _cell_of(request.t, from_s)
        if 0 <= cell < cells:
            late = LATE if request.latency_s > LATE_AFTER_S else SERVED
            rows[cell].append(late if request.ok else NOT_SERVED)
    return "".join(_cell(row) for row in rows)


def _cell_of(t: float, from_s: float) -> int:
    return math.floor((t - from_s) / CELL_S + 1e-6)  # times are rounded to 1e-6


def _cell(results: Sequence[str]) -> str:
    if not results:
        return NONE_DUE
    if NOT_SERVED in results:
        return NOT_SERVED if set(results) == {NOT_SERVED} else PARTLY
    return LATE if LATE in results else SERVED


def timeline_cells(outage: Outage) -> int:
    """Enough to show the outage and how it ended."""
    fault = outage.gap_started if outage.fault_at is None else outage.fault_at
    after_s = max(AT_LEAST_S, outage.gap_started + outage.longest_gap_s - fault + 1.0)
    return min(CELLS, round((BEFORE_S + after_s) / CELL_S))


# -- JSON


def as_json(report: DrillReport) -> dict[str, Value]:
    """The documented shape, version 1. Times in seconds; what is not known is null."""
    return {
        "version": VERSION,
        "drill": report.name,
        "outcome": report.outcome.value,
        "budget": None if report.budget is None else budget_as_json(report.budget),
        "measured": {name: spread_json(each) for name, each in spreads(report).items()},
        "runs": [_run_json(run) for run in report.runs],
    }


def spread_json(each: Spread) -> Value:
    return {"median": each.median, "min": each.least, "max": each.most}


def _outage_json(outage: Outage) -> Value:
    values: dict[str, Value] = asdict(outage)
    values["kinds"] = dict(outage.kinds)
    return values


def _run_json(run: Run) -> Value:
    return {
        "outcome": run.outcome.value,
        "outage": _outage_json(run.outage),
        "return": _outage_json(run.returned) if run.returned else None,
        "services": [_outage_json(measure(run.history, probe)) for probe in run.history.services],
        "verdicts": [
            {
                "name": verdict.name,
                "outcome": verdict.outcome.value,
                "sentence": verdict.sentence,
                "evidence": list(verdict.evidence),
            }
            for verdict in run.verdicts
        ],
    }


# -- terminal


def render(report: DrillReport) -> RenderableType:
    """The whole result, to be printed on a rich console."""
    from rich.console import Group
    from rich.text import Text

    title = Text.assemble((report.name, "bold"), ": ", (report.outcome.value, _OUTCOME_STYLES[report.outcome]))
    parts: list[RenderableType] = [title]
    if report.budget is not None:
        parts += [Text(), _budget_table(report.budget, spreads(report)["longest_gap_s"])]
    for number, run in enumerate(report.runs, start=1):
        parts.append(Text())
        if len(report.runs) > 1:
            parts.append(Text.assemble((f"run {number}: ", "bold"), run.outcome.value))
        parts += [_timeline_text(run), *_verdict_lines(run.verdicts)]
    if len(report.runs) > 1:
        parts += [Text(), _spread_table(report)]
    return Group(*parts)


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if math.isfinite(seconds) else "no end"


def _budget_table(budget: Budget, measured: Spread) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_footer=False, pad_edge=False)
    table.add_column("budget")
    table.add_column("typical", justify="right")
    table.add_column("worst", justify="right")
    table.add_column("because")
    for link in budget.links:
        table.add_row(Text(link.name), _ms(link.typical_s), _ms(link.worst_s), Text(link.because))
    table.add_section()
    table.add_row(
        "computed", _ms(budget.typical_s), _ms(budget.worst_s), Text(budget.sentence or budget.fault), style="bold"
    )
    table.add_row("measured", _ms(measured.median), _ms(measured.most), "longest gap: median, worst", style="bold")
    return table


def _timeline_text(run: Run) -> Text:
    """A row for each probe that ran, and the marks below."""
    from rich.text import Text

    outage = run.outage
    zero = outage.gap_started if outage.fault_at is None else outage.fault_at
    cells = timeline_cells(outage)
    text = Text()
    for probe in run.history.by_probe:
        row = timeline(run.history, probe, zero - BEFORE_S, cells)
        if row.strip():
            # A URL is too long to stand beside its row.
            name, _, url = probe.partition(" ")
            text.append(f"{name:>10} ")
            for character in row:
                text.append(character, _STYLES.get(character, ""))
            text.append(f"\n{'':>11}{url}\n" if url else "\n")
    marks = [(_cell_of(mark.t, zero - BEFORE_S), mark) for mark in run.history.marks]
    shown = [(cell, mark) for cell, mark in marks if 0 <= cell < cells]
    for cell, mark in shown:
        what = f"{mark.what} {mark.machine}".strip()
        text.append(" " * (11 + cell) + f"^ {what}\n", "bold")
    text.append(f"{'':>11}each {_ms(CELL_S)}: {SERVED} served  {LATE} late  {PARTLY} partly  {NOT_SERVED} not served")
    return text


def _verdict_lines(verdicts: Sequence[Verdict]) -> list[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    lines: list[RenderableType] = []
    for verdict in verdicts:
        style = _OUTCOME_STYLES[verdict.outcome]
        lines.append(Text.assemble((f"{verdict.outcome.value:<8}", style), f"  {verdict.name}: {verdict.sentence}"))
        if verdict.outcome is not Outcome.HELD:
            lines += [Padding(Text(each, style="dim"), (0, 0, 0, 10)) for each in verdict.evidence]
    return lines


def _spread_table(report: DrillReport) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"{len(report.runs)} runs")
    for heading in ("median", "min", "max"):
        table.add_column(heading, justify="right")
    for name, each in spreads(report).items():
        numbers = (each.median, each.least, each.most)
        if name.endswith("_s"):
            table.add_row(name.removesuffix("_s").replace("_", " "), *(_ms(number) for number in numbers))
        else:
            table.add_row(name, *("-" if number is None else f"{number:g}" for number in numbers))
    return table
