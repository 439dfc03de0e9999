"""The suite for a wiki: tables (GitHub's Markdown) and timelines as text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from haplane.design.budget import Budget
from haplane.reports.drill import (
    BEFORE_S,
    CELL_S,
    LATE,
    NOT_SERVED,
    PARTLY,
    SERVED,
    DrillReport,
    Run,
    cells_of,
    timeline_cells,
)
from haplane.reports.suite import comparison as comparing
from haplane.reports.suite import report as suites
from haplane.reports.suite import words
from haplane.reports.suite.comparison import Comparison
from haplane.reports.suite.quiet import Beside, beside
from haplane.reports.suite.report import SuiteReport, drill_summary, picture_file

LABELS = 10  # columns before a timeline, at least


def written(report: SuiteReport, compared: Comparison | None = None, pictures: Collection[str] = ()) -> str:
    """pictures: the files beside it that are shown."""
    lines = [
        f"# Drills of {escaped(report.cluster)}: {report.outcome}",
        "",
        f"{escaped(suites.in_one_line(report))}.",
        "",
        *(f"- {escaped(line)}" for line in (report.when, f"haplane {report.haplane}", *report.environment)),
        "",
        *_table(suites.HEADINGS, [suites.cells(row) for row in suites.summary(report).drills]),
        *(_not_run(report.not_run) if report.not_run else ()),
        *(_compared(compared) if compared else ()),
    ]
    for drill in report.drills:
        lines += ["", *_drill(drill, beside(drill, report), pictures)]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """As it is, in one line: no markup, no HTML, no cell of a table."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    return [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}", *body] if body else []


def _not_run(not_run: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield from ("", "Not run:", "")
    yield from (f"- {escaped(name)}: {escaped(why)}" for name, why in not_run)


def _compared(compared: Comparison) -> Iterator[str]:
    heading = comparing.heading(compared)
    yield from ("", f"## {heading[0].upper()}{escaped(heading[1:])}", "")
    yield from _table(comparing.HEADINGS, [comparing.cells(change) for change in compared.changes])
    notes = comparing.notes(compared)
    yield from ("", *(f"- {escaped(note)}" for note in notes)) if notes else ()


def _drill(drill: DrillReport, quiet: Beside | None, pictures: Collection[str]) -> Iterator[str]:
    yield f"## {escaped(drill.name)}: {drill.outcome}"
    if drill.budget:
        yield ""
        yield from _budget(drill.budget, drill, quiet)
    for number, run in enumerate(drill.runs, start=1):
        gap = words.duration(run.outage.longest_gap_s)
        yield from (
            "",
            f"### Run {number}: {run.outcome}, longest gap {gap}",
            "",
            "```text",
            *_timeline(run),
            "```",
            "",
        )
        if (picture := picture_file(drill.name, number)) in pictures:
            yield from (f"![Timeline of run {number}]({picture})", "")
        for verdict in run.verdicts:
            yield f"- **{verdict.outcome}** {escaped(verdict.name)}: {escaped(verdict.sentence)}"
            yield from (f"  - {escaped(line)}" for line in verdict.evidence)


def _budget(budget: Budget, drill: DrillReport, quiet: Beside | None) -> Iterator[str]:
    row = drill_summary(drill)
    said = budget.sentence or budget.fault
    yield from _table(
        ("link", "typical", "worst", "because"),
        [
            *(
                (each.name, words.duration(each.typical_s), words.duration(each.worst_s), each.because)
                for each in budget.links
            ),
            ("computed", words.duration(budget.typical_s), words.duration(budget.worst_s), said),
            ("measured", words.duration(row.gap_s.median), words.duration(row.gap_s.most), "longest gap: median, max"),
            *(quiet.rows if quiet else ()),
        ],
    )


def _timeline(run: Run) -> Iterator[str]:
    """The same as in the terminal, with a row for every probe."""
    outage = run.outage
    zero = outage.gap_started if outage.fault_at is None else outage.fault_at
    count, from_s = timeline_cells(outage), zero - BEFORE_S
    rows = {name: cells_of(requests, from_s, count) for name, requests in run.history.by_probe.items()}
    width = max([LABELS, *map(len, rows)])
    yield from (f"{_plain(name):>{width}} {row.rstrip()}" for name, row in rows.items() if row.strip())
    for mark in run.history.marks:
        cell = round((mark.t - from_s) / CELL_S)
        if 0 <= cell < count:
            yield _plain(f"{'':{width + 1 + cell}}^ {mark.what} {mark.machine}".rstrip())
    legend = f"{SERVED} served  {LATE} late  {PARTLY} partly  {NOT_SERVED} not served"
    yield f"{'':{width + 1}}each {words.duration(CELL_S)}: {legend}"


def _plain(line: str) -> str:
    """Without what would end the block of code."""
    return re.sub(r"[\r\n]", " ", line.replace("`", "'"))
