"""The report of a drill suite: what was computed beside what was measured, for every drill and run.

`write` makes a page, a wiki text, JUnit XML and JSON; `read_json` and `against` compare with an earlier one; `render`
is for a terminal.
"""

from haplane.reports.suite.comparison import Comparison, against, lines
from haplane.reports.suite.files import texts, write
from haplane.reports.suite.report import SuiteReport, SuiteSummary, summary
from haplane.reports.suite.saved import as_json, read_json
from haplane.reports.suite.terminal import render

__all__ = [
    "Comparison",
    "SuiteReport",
    "SuiteSummary",
    "against",
    "as_json",
    "lines",
    "read_json",
    "render",
    "summary",
    "texts",
    "write",
]
