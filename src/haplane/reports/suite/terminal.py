"""The suite in a terminal: the summary table, and what was not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from haplane.drills.checkers import Outcome
from haplane.reports.suite import comparison as comparing
from haplane.reports.suite.comparison import Comparison
from haplane.reports.suite.quiet import beside
from haplane.reports.suite.report import HEADINGS, SuiteReport, cells, drill_summary, in_one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {Outcome.HELD: "bold green", Outcome.VIOLATED: "bold red", Outcome.UNKNOWN: "bold yellow"}


def render(report: SuiteReport, compared: Comparison | None = None) -> RenderableType:
    """To be printed on a rich console."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    # 80 columns hold no more: how many runs there were is left out, and of one run its maximum.
    left_out = {"runs"} if any(len(drill.runs) > 1 for drill in report.drills) else {"runs", "max"}
    shown = [number for number, heading in enumerate(HEADINGS) if heading not in left_out]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number in shown:
        is_number = number > 1
        may_wrap = HEADINGS[number] == "not served"
        table.add_column(HEADINGS[number], justify="right" if is_number else "left", no_wrap=not may_wrap)
    compares = None
    for drill in report.drills:
        row = drill_summary(drill)
        styles = {1: _STYLES[row.outcome]}
        table.add_row(*(Text(cells(row)[number], styles.get(number, "")) for number in shown))
        if found := beside(drill, report):
            compares = found
            what, median, most, _ = found.from_fault_row
            under = {"drill": f"  {what}", "measured": median, "max": most}
            table.add_row(*(Text(under.get(HEADINGS[number], ""), "dim") for number in shown))
    parts: list[RenderableType] = [table] if report.drills else []
    if compares:
        what, median, most, because = compares.quiet_row
        parts.append(Text(f"{what}: {median}, at most {most}: {because}", "dim"))
    parts += [Text.assemble("not run: ", (name, "bold"), f": {why}") for name, why in report.not_run]
    if compared:
        parts += [Text(line) for line in ("", *comparing.lines(compared), "")]
    return Group(*parts, Text(in_one_line(report), _STYLES[report.outcome]))
