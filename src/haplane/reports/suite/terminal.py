"""The suite in a terminal: the summary table, and what was not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from haplane.drills.checkers import Outcome
from haplane.drills.noise import WINDOW_S
from haplane.reports.suite import comparison as comparing
from haplane.reports.suite import words
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

    # How many runs there were is left out: with it, the table would not fit 80 columns.
    shown = [number for number, heading in enumerate(HEADINGS) if heading != "runs"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number in shown:
        is_number = number > 1
        table.add_column(HEADINGS[number], justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for drill in report.drills:
        row = drill_summary(drill)
        styles = {1: _STYLES[row.outcome]}
        table.add_row(*(Text(cells(row)[number], styles.get(number, "")) for number in shown))
        quiet = beside(drill, report)
        for what, median, most, _ in quiet.rows if quiet else ():
            under = {"drill": f"  {what}", "measured": median, "max": most}
            table.add_row(*(Text(under.get(HEADINGS[number], ""), "dim") for number in shown))
    parts: list[RenderableType] = [table] if report.drills else []
    if any(beside(drill, report) for drill in report.drills):
        count = words.plural(len(report.quiet_gaps_s), "window")
        parts.append(Text(f"quiet windows: the longest gaps of {count} of {WINDOW_S:g} s without a fault", "dim"))
    parts += [Text.assemble("not run: ", (name, "bold"), f": {why}") for name, why in report.not_run]
    if compared:
        parts += [Text(line) for line in ("", *comparing.lines(compared), "")]
    return Group(*parts, Text(in_one_line(report), _STYLES[report.outcome]))
