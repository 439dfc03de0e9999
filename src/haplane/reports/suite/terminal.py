"""The suite in a terminal: the summary table, and what was not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from haplane.drills.checkers import Outcome
from haplane.reports.suite import comparison as comparing
from haplane.reports.suite.comparison import Comparison
from haplane.reports.suite.report import HEADINGS, SuiteReport, cells, in_one_line, summary

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {Outcome.HELD: "bold green", Outcome.VIOLATED: "bold red", Outcome.UNKNOWN: "bold yellow"}


def render(report: SuiteReport, compared: Comparison | None = None) -> RenderableType:
    """To be printed on a rich console."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number < 2 else "right", no_wrap=number < 2)
    for row in summary(report).drills:
        name, outcome, *numbers = cells(row)
        table.add_row(Text(name), Text(outcome, _STYLES[row.outcome]), *numbers)
    parts: list[RenderableType] = [table] if report.drills else []
    parts += [Text.assemble("not run: ", (name, "bold"), f": {why}") for name, why in report.not_run]
    if compared:
        parts += [Text(line) for line in ("", *comparing.lines(compared), "")]
    return Group(*parts, Text(in_one_line(report), _STYLES[report.outcome]))
