"""Suites made by hand from planted histories."""

from __future__ import annotations

from tests.drills.planted import FAULT, planted

from haplane.design.budget import Budget
from haplane.design.link import Link
from haplane.drills.checkers import availability, budget_held
from haplane.probes.history import History, Mark, Observation
from haplane.reports.drill import DrillReport, Run
from haplane.reports.suite import SuiteReport

BUDGET = Budget(
    "power-off",
    (Link("detect", 0.3, 0.31, "3 adverts [of 0.1 s] | skew"), Link("announce", 0.001, 0.01, "gratuitous ARP")),
    "the holder of the VIP loses power",
)
OFF = Mark(FAULT, "power-off", "cp1", 0.001)
ON = Mark(FAULT + 8, "power-on", "cp1", 0.001)


def run(history: History) -> Run:
    return Run(
        history, (availability(history, longest_gap_s=0.35, failed_at_most=12), budget_held(history, BUDGET.worst_s))
    )


def drill(*outages_s: float, name: str = "power-off") -> DrillReport:
    """One run for each of these outages; a gap is 20 ms longer than its outage."""
    return DrillReport(name, tuple(run(planted(outage=(0.0, each))) for each in outages_s), BUDGET)


def suite(*drills: DrillReport, not_run: tuple[tuple[str, str], ...] = ()) -> SuiteReport:
    return SuiteReport("prod", "0.1.0", "2026-05-17T21:04:11+02:00", ("Linux 6.1", "2 cores"), drills, not_run)


def watched(*observations: Observation, outage: tuple[float, float] = (0.0, 0.2)) -> History:
    return planted(outage=outage, marks=[OFF, ON]).with_events(observations)
