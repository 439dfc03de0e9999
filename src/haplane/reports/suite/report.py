"""What a drill suite found, and what of it stands in a summary and is compared with other reports. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from haplane.drills.checkers import Outcome
from haplane.reports.drill import DrillReport, Spread, spread, spreads
from haplane.reports.suite import words


@dataclass(frozen=True)
class SuiteReport:
    """cluster: its name. haplane: the version that ran the drills. when: ISO 8601.

    environment: lines about where it was measured, e.g. the kernel. not_run: the name of a drill and why.
    quiet_gaps_s: the longest gap of each window without a fault (`drills.noise`).
    """

    cluster: str
    haplane: str
    when: str
    environment: tuple[str, ...]
    drills: tuple[DrillReport, ...]
    not_run: tuple[tuple[str, str], ...] = ()
    quiet_gaps_s: tuple[float, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Of the drills that ran; what was not run is said beside it and decides nothing."""
        return _overall(drill.outcome for drill in self.drills)


def _overall(outcomes: Iterable[Outcome]) -> Outcome:
    found = set(outcomes)
    if Outcome.VIOLATED in found:
        return Outcome.VIOLATED
    return Outcome.HELD if found == {Outcome.HELD} else Outcome.UNKNOWN


@dataclass(frozen=True)
class DrillSummary:
    """A drill in one row. typical_s, worst_s: its budget, None without one, infinite where it has no bound.

    gap_s: the longest gap. not_served: requests while the fault lasted. on_return: requests not served when the
    machine came back. Spreads are over the runs.
    """

    name: str
    outcome: Outcome
    runs: int
    typical_s: float | None
    worst_s: float | None
    gap_s: Spread
    not_served: Spread
    on_return: Spread


@dataclass(frozen=True)
class SuiteSummary:
    cluster: str
    haplane: str
    when: str
    drills: tuple[DrillSummary, ...]


def summary(report: SuiteReport) -> SuiteSummary:
    drills = tuple(drill_summary(drill) for drill in report.drills)
    return SuiteSummary(report.cluster, report.haplane, report.when, drills)


def drill_summary(drill: DrillReport) -> DrillSummary:
    measured = spreads(drill)
    return DrillSummary(
        name=drill.name,
        outcome=drill.outcome,
        runs=len(drill.runs),
        typical_s=drill.budget.typical_s if drill.budget else None,
        worst_s=drill.budget.worst_s if drill.budget else None,
        gap_s=measured["longest_gap_s"],
        not_served=spread(run.outage.not_served for run in drill.runs),
        on_return=measured["failed_on_return"],
    )


def picture_file(drill: str, run: int) -> str:
    """What the timeline of a drill's run is called as a file of the report; runs count from 1."""
    return f"{re.sub('[^A-Za-z0-9._-]+', '-', drill)}-{run}.png"


# -- the summary as a table, wherever it is shown

HEADINGS = ("drill", "outcome", "runs", "budget", "worst", "measured", "max", "not served")


def cells(row: DrillSummary) -> tuple[str, ...]:
    """One text for each of HEADINGS."""
    return (
        row.name,
        row.outcome.value,
        str(row.runs),
        words.duration(row.typical_s),
        words.duration(row.worst_s),
        words.duration(row.gap_s.median),
        words.duration(row.gap_s.most),
        not_served(row),
    )


def not_served(row: DrillSummary) -> str:
    text = words.counts(row.not_served)
    return f"{text}, on return {words.counts(row.on_return)}" if row.on_return.most else text


def in_one_line(report: SuiteReport) -> str:
    """E.g. `violated: 5 held, 1 violated, 2 not run`."""
    numbers = {
        **{outcome.value: sum(drill.outcome is outcome for drill in report.drills) for outcome in Outcome},
        "not run": len(report.not_run),
    }
    said = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
    return f"{report.outcome.value}: {said or 'no drill was run'}"
