"""Beside an outage that a busy host may look like as well: what that host looked like without a fault. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from haplane.drills.judging import NOISE_S
from haplane.drills.noise import WINDOW_S, gap_from_fault
from haplane.reports.drill import DrillReport, Spread, spread
from haplane.reports.suite import words
from haplane.reports.suite.report import SuiteReport


@dataclass(frozen=True)
class Beside:
    """Longest gaps of windows that are equally long: from the fault, over the runs; and without a fault."""

    drill: str
    from_fault: Spread
    quiet: Spread
    windows: int

    @property
    def from_fault_row(self) -> tuple[str, str, str, str]:
        """For a table: what, median, max, because."""
        length = f"{WINDOW_S:g} s"
        return (
            f"{length} from fault",
            words.duration(self.from_fault.median),
            words.duration(self.from_fault.most),
            f"longest gap in the {length} from the fault: median, max",
        )

    @property
    def quiet_row(self) -> tuple[str, str, str, str]:
        """As the other."""
        return (
            "quiet windows",
            words.duration(self.quiet.median),
            words.duration(self.quiet.most),
            f"longest gaps of {words.plural(self.windows, 'window')} of {WINDOW_S:g} s without a fault: median, max",
        )

    @property
    def rows(self) -> tuple[tuple[str, str, str, str], ...]:
        return self.from_fault_row, self.quiet_row


def beside(drill: DrillReport, report: SuiteReport) -> Beside | None:
    """None where every gap was longer than a busy host explains, or nothing can be compared."""
    noise_s = max((NOISE_S, *report.quiet_gaps_s))
    if not report.quiet_gaps_s or all(run.outage.longest_gap_s >= noise_s for run in drill.runs):
        return None
    from_fault = spread(gap_from_fault(run.history) for run in drill.runs)
    if from_fault.median is None:
        return None
    return Beside(drill.name, from_fault, spread(report.quiet_gaps_s), len(report.quiet_gaps_s))
