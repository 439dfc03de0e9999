"""What changed since an earlier suite: per drill, and whether the runs can tell at all. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from haplane.drills.checkers import Outcome
from haplane.probes.history import Header
from haplane.reports.drill import DrillReport, Spread
from haplane.reports.suite import words
from haplane.reports.suite.report import DrillSummary, SuiteReport, SuiteSummary, drill_summary


@dataclass(frozen=True)
class Change:
    """A drill that both reports have. resolution_s: gaps of the same outage may differ by so much."""

    before: DrillSummary
    after: DrillSummary
    resolution_s: float = 0.0

    @property
    def name(self) -> str:
        return self.after.name

    @property
    def difference_s(self) -> float | None:
        """Of the medians of the longest gaps; above 0: it became longer."""
        before, after = self.before.gap_s.median, self.after.gap_s.median
        return None if before is None or after is None else after - before

    @property
    def judgement(self) -> str:
        return _judgement(self.before.gap_s, self.after.gap_s, self.resolution_s, (self.before.runs, self.after.runs))

    @property
    def outcome_changed(self) -> bool:
        return self.before.outcome is not self.after.outcome


@dataclass(frozen=True)
class Comparison:
    """new, gone: names of drills that only one report has. is_other_cluster: the names of the clusters differ."""

    previous: SuiteSummary
    changes: tuple[Change, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    is_other_cluster: bool = False


def against(previous: SuiteSummary, report: SuiteReport) -> Comparison:
    """previous: of `read_json`, or `summary` of a report."""
    before = {drill.name: drill for drill in previous.drills}
    now = {drill.name for drill in report.drills}
    return Comparison(
        previous=previous,
        changes=tuple(
            Change(before[drill.name], drill_summary(drill), _resolution_s(drill))
            for drill in report.drills
            if drill.name in before
        ),
        new=tuple(drill.name for drill in report.drills if drill.name not in before),
        gone=tuple(name for name in before if name not in now),
        is_other_cluster=previous.cluster != report.cluster,
    )


def _resolution_s(drill: DrillReport) -> float:
    """A gap is longer than the outage by less than two request intervals."""
    headers = (header for run in drill.runs for header in run.history.of(Header))
    return max((2 / header.config.rate for header in headers if header.config.rate), default=0.0)


def _judgement(before: Spread, after: Spread, resolution_s: float, runs: tuple[int, int]) -> str:
    """By the ranges, not by the medians: a few runs say little more than where they lie."""
    if before.least is None or before.most is None or after.least is None or after.most is None:
        return "not measured in both"
    apart_s = max(after.least - before.most, before.least - after.most)
    if apart_s <= 0:
        return "within the spread of the runs"
    if apart_s < resolution_s:
        return "closer than the probe can tell apart"
    said = f"{'longer' if after.least > before.most else 'shorter'} than in any run before"
    return f"{said}, but one run shows no spread" if 1 in runs else said


# -- as text

HEADINGS = ("drill", "outcome", "longest gap, median", "difference", "not served")


def cells(change: Change) -> tuple[str, ...]:
    """One text for each of HEADINGS."""
    before, after = change.before, change.after
    return (
        change.name,
        _outcomes(before.outcome, after.outcome),
        f"{words.duration(before.gap_s.median)} → {words.duration(after.gap_s.median)}",
        _difference(change),
        f"{words.counts(before.not_served)} → {words.counts(after.not_served)}",
    )


def _outcomes(before: Outcome, after: Outcome) -> str:
    return f"{before} → {after}" if before is not after else str(after)


def _difference(change: Change) -> str:
    seconds = change.difference_s
    return f"{words.NOTHING if seconds is None else words.signed(seconds)}, {change.judgement}"


def lines(comparison: Comparison) -> list[str]:
    """For the terminal: a line about the earlier report, one per drill, then what is new or gone."""
    return [
        heading(comparison),
        *(_line(change) for change in comparison.changes),
        *notes(comparison),
    ]


def heading(comparison: Comparison) -> str:
    previous = comparison.previous
    return f"compared with the suite of {previous.when} (haplane {previous.haplane})"


def notes(comparison: Comparison) -> list[str]:
    said = [f"it was made on another cluster, {comparison.previous.cluster}"] if comparison.is_other_cluster else []
    said += [f"new: {', '.join(comparison.new)}"] if comparison.new else []
    return [*said, f"gone: {', '.join(comparison.gone)}"] if comparison.gone else said


def _line(change: Change) -> str:
    name, outcome, gap, difference, lost = cells(change)
    return f"{name}: {outcome}; longest gap {gap} ({difference}); not served {lost}"
