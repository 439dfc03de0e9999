"""The suite as JSON, and back into what comparisons need.

Version 1: {kind, version, cluster, haplane, when, environment, outcome, drills, not_run, pictures, quiet}; drills are
those of `reports.drill.as_json`, not_run is [{name, why}], pictures are files beside it. quiet is {window_s, gaps_s,
beside}: the longest gap of each window without a fault, and [{drill, from_fault_s, quiet_s}] for drills with a gap that
is hardly longer. Times in seconds; what is not known, or has no bound, is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from haplane.drills.checkers import Outcome
from haplane.drills.noise import WINDOW_S
from haplane.model.cluster import Value
from haplane.model.errors import UsageError
from haplane.reports import drill as drills
from haplane.reports.drill import Spread, spread
from haplane.reports.suite.quiet import Beside, beside
from haplane.reports.suite.report import DrillSummary, SuiteReport, SuiteSummary

KIND, VERSION = "haplane-drill-suite", 1


def as_json(report: SuiteReport, pictures: Collection[str] = ()) -> dict[str, Value]:
    return {
        "kind": KIND,
        "version": VERSION,
        "cluster": report.cluster,
        "haplane": report.haplane,
        "when": report.when,
        "environment": list(report.environment),
        "outcome": report.outcome.value,
        "drills": [drills.as_json(drill) for drill in report.drills],
        "not_run": [{"name": name, "why": why} for name, why in report.not_run],
        "pictures": list(pictures),
        "quiet": {
            "window_s": WINDOW_S,
            "gaps_s": [round(gap_s, 6) for gap_s in report.quiet_gaps_s],
            "beside": [_beside_json(each) for drill in report.drills if (each := beside(drill, report))],
        },
    }


def _beside_json(each: Beside) -> Value:
    spreads = {"from_fault_s": each.from_fault, "quiet_s": each.quiet}
    return {"drill": each.drill, **{name: drills.spread_json(one) for name, one in spreads.items()}}


def written(report: SuiteReport, pictures: Collection[str] = ()) -> str:
    return json.dumps(as_json(report, pictures), indent=2, allow_nan=False) + "\n"


# -- reading; keys that are not needed here may be there


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _Spread(_Shape):
    median: float | None
    min: float | None
    max: float | None

    def known(self) -> Spread:
        return Spread(self.median, self.min, self.max)


class _Measured(_Shape):
    longest_gap_s: _Spread
    failed_on_return: _Spread


class _Budget(_Shape):
    typical_s: float | None
    worst_s: float | None


class _Outage(_Shape):
    failed: int
    indeterminate: int


class _Run(_Shape):
    outage: _Outage


class _Drill(_Shape):
    version: Literal[1]
    drill: str
    outcome: Outcome
    budget: _Budget | None
    measured: _Measured
    runs: list[_Run]


class _Kind(_Shape):
    kind: Literal["haplane-drill-suite"]
    version: int


class _Suite(_Kind):
    cluster: str
    haplane: str
    when: str
    drills: list[_Drill]


def read_json(file: Path) -> SuiteSummary:
    """Raises UsageError when the file is not there or is not such a report."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read", where=str(file), why=str(error), hint=_HINT) from None
    return parse(text, file=str(file))


def parse(text: str, *, file: str) -> SuiteSummary:
    """file: its name, for errors."""
    try:
        kind = _Kind.model_validate_json(text)
        if kind.version != VERSION:
            raise UsageError(
                f"{file} was written by another version of haplane",
                where=file,
                why=f"its format is {kind.version}, and this haplane reads {VERSION}",
            )
        suite = _Suite.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        why = f"{place}: {first['msg']}" if place else first["msg"]
        raise UsageError(f"{file} is not the report of a drill suite", where=file, why=why, hint=_HINT) from None
    return SuiteSummary(suite.cluster, suite.haplane, suite.when, tuple(_drill(drill) for drill in suite.drills))


_HINT = "haplane drill suite writes report.json into its folder"


def _drill(drill: _Drill) -> DrillSummary:
    return DrillSummary(
        name=drill.drill,
        outcome=drill.outcome,
        runs=len(drill.runs),
        typical_s=_bound(drill.budget.typical_s) if drill.budget else None,
        worst_s=_bound(drill.budget.worst_s) if drill.budget else None,
        gap_s=drill.measured.longest_gap_s.known(),
        not_served=spread(run.outage.failed + run.outage.indeterminate for run in drill.runs),
        on_return=drill.measured.failed_on_return.known(),
    )


def _bound(seconds: float | None) -> float:
    """JSON has no infinity."""
    return math.inf if seconds is None else seconds
