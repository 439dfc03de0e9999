"""The suite as JUnit XML, which CI systems show: a test case for each verdict of each run.

One root element `testsuite` with all that either of the two schemas in use asks for: that of Ant's JUnit task, and that
of Jenkins' xUnit plugin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree

from haplane.drills.checkers import Outcome
from haplane.reports.drill import Run
from haplane.reports.markup import legal
from haplane.reports.suite.report import SuiteReport, in_one_line

# What was not held did not pass: violated is a finding, unknown says that the drill could not tell.
_ELEMENTS = {Outcome.VIOLATED: "failure", Outcome.UNKNOWN: "error"}
SKIPPED = "skipped"


@dataclass(frozen=True)
class _Case:
    """element: what it did not pass by, None if it did."""

    drill: str
    name: str
    time_s: float
    element: str | None = None
    sentence: str = ""
    evidence: tuple[str, ...] = ()


def written(report: SuiteReport) -> str:
    cases = [*_cases(report), *(_Case(name, "not run", 0.0, SKIPPED, why) for name, why in report.not_run)]
    counted = Counter(case.element for case in cases)
    suite = _element(
        None,
        "testsuite",
        name=f"haplane drills of {report.cluster}",
        timestamp=_timestamp(report.when),
        hostname=report.cluster,
        tests=str(len(cases)),
        failures=str(counted["failure"]),
        errors=str(counted["error"]),
        skipped=str(counted[SKIPPED]),
        time=f"{sum(case.time_s for case in cases):.3f}",
    )
    properties = _element(suite, "properties")
    _element(properties, "property", name="haplane", value=report.haplane)
    for number, line in enumerate(report.environment, start=1):
        _element(properties, "property", name=f"environment.{number}", value=line)
    for case in cases:
        _add(suite, case)
    _element(suite, "system-out").text = legal(in_one_line(report))
    _element(suite, "system-err")
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=False) + "\n"


def _cases(report: SuiteReport) -> Iterator[_Case]:
    for drill in report.drills:
        for number, run in enumerate(drill.runs, start=1):
            yield from _run_cases(drill.name, f"run {number}", run)


def _run_cases(drill: str, name: str, run: Run) -> Iterator[_Case]:
    """The time of the run is that of its first verdict, so that the sum is right."""
    start, end = run.history.window
    if not run.verdicts:
        yield _Case(drill, f"{name}: no verdict", end - start, "error", "nothing judged this run")
    for place, verdict in enumerate(run.verdicts):
        yield _Case(
            drill,
            f"{name}: {verdict.name}",
            end - start if place == 0 else 0.0,
            _ELEMENTS.get(verdict.outcome),
            verdict.sentence,
            verdict.evidence,
        )


def _add(suite: ElementTree.Element, case: _Case) -> None:
    made = _element(suite, "testcase", classname=f"drills.{case.drill}", name=case.name, time=f"{case.time_s:.3f}")
    if case.element == SKIPPED:
        _element(made, SKIPPED, message=case.sentence)
    elif case.element:
        outcome = {element: outcome for outcome, element in _ELEMENTS.items()}[case.element]
        said = _element(made, case.element, message=case.sentence, type=outcome.value)
        said.text = legal("\n".join((case.sentence, *case.evidence)))


def _element(parent: ElementTree.Element | None, tag: str, /, **values: str) -> ElementTree.Element:
    attributes = {key: legal(value) for key, value in values.items()}
    if parent is None:
        return ElementTree.Element(tag, attributes)
    return ElementTree.SubElement(parent, tag, attributes)


def _timestamp(when: str) -> str:
    """The schema's: UTC in whole seconds, without a zone."""
    try:
        moment = datetime.fromisoformat(when)
    except ValueError:
        return when
    utc = moment.astimezone(UTC) if moment.tzinfo else moment
    return utc.replace(tzinfo=None, microsecond=0).isoformat()
