"""The suite as one HTML page that needs nothing else: no script, no font, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import BaseLoader, Environment, StrictUndefined, Template

from haplane.drills.checkers import Verdict
from haplane.reports.drill import DrillReport, Run
from haplane.reports.suite import comparison as comparing
from haplane.reports.suite import report as suites
from haplane.reports.suite import spread_svg, timeline_svg, words
from haplane.reports.suite.comparison import Comparison
from haplane.reports.suite.quiet import Beside, beside
from haplane.reports.suite.report import DrillSummary, SuiteReport
from haplane.reports.suite.timeline import views

_ENVIRONMENT = Environment(
    loader=BaseLoader(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True)
class Picture:
    """svg: with everything in it escaped already."""

    title: str
    svg: str


@dataclass(frozen=True)
class RunSection:
    anchor: str
    number: int
    outcome: str
    gap: str
    not_served: int
    pictures: tuple[Picture, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class DrillSection:
    """budget: rows of link, typical, worst, because. quiet: rows of what, median, max, because."""

    anchor: str
    name: str
    outcome: str
    row: DrillSummary
    cells: tuple[str, ...]
    sentence: str
    affects: str
    budget: tuple[tuple[str, str, str, str], ...]
    quiet: tuple[tuple[str, str, str, str], ...]
    spread: str
    runs: tuple[RunSection, ...]


def written(report: SuiteReport, compared: Comparison | None = None) -> str:
    return _template().render(
        report=report,
        summary=suites.in_one_line(report),
        headings=suites.HEADINGS,
        drills=[
            _drill(drill, beside(drill, report), f"drill-{number}")
            for number, drill in enumerate(report.drills, start=1)
        ],
        compared=compared,
        comparing=comparing,
        words=words,
        style=_beside("page.css"),
    )


def _drill(drill: DrillReport, quiet: Beside | None, anchor: str) -> DrillSection:
    row = suites.drill_summary(drill)
    return DrillSection(
        anchor=anchor,
        name=drill.name,
        outcome=drill.outcome.value,
        row=row,
        cells=suites.cells(row),
        sentence=drill.budget.sentence if drill.budget else "",
        affects=drill.budget.affects if drill.budget else "",
        budget=tuple(_budget(drill)),
        quiet=quiet.rows if quiet else (),
        spread=spread_svg.draw(drill, name=f"{anchor}-spread"),
        runs=tuple(_run(run, number, f"{anchor}-run-{number}") for number, run in enumerate(drill.runs, start=1)),
    )


def _budget(drill: DrillReport) -> Iterator[tuple[str, str, str, str]]:
    for link in drill.budget.links if drill.budget else ():
        yield link.name, words.duration(link.typical_s), words.duration(link.worst_s), link.because


def _run(run: Run, number: int, anchor: str) -> RunSection:
    return RunSection(
        anchor=anchor,
        number=number,
        outcome=run.outcome.value,
        gap=words.duration(run.outage.longest_gap_s),
        not_served=run.outage.not_served,
        pictures=tuple(
            Picture(view.title, timeline_svg.draw(view.timeline, name=f"{anchor}-{place}", title=view.title))
            for place, view in enumerate(views(run), start=1)
        ),
        verdicts=run.verdicts,
    )


@cache
def _template() -> Template:
    return _ENVIRONMENT.from_string(_beside("page.html.j2"))


def _beside(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
