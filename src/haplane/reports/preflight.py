"""What preflight found, for a terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from haplane.model.cluster import Value
from haplane.observe.preflight import Check, Outcome, Report, Result

VERSION = 1
_SIGNS = {Outcome.PASSED: "✓", Outcome.FINDING: "✗", Outcome.NOT_TRIED: "·"}


def lines(report: Report, checks: Iterable[Check], silent: Mapping[str, str]) -> list[str]:
    """One line per check; below it what was found or could not be tried. silent: machine -> why it did not answer."""
    by_check: dict[str, list[Result]] = {}
    for result in report.results:
        by_check.setdefault(result.check, []).append(result)
    text = []
    for check in checks:
        results = by_check.get(check.name, [])
        if not results:
            continue
        outcomes = {result.outcome for result in results}
        worst = next(outcome for outcome in (Outcome.FINDING, Outcome.NOT_TRIED, Outcome.PASSED) if outcome in outcomes)
        text.append(f"{_SIGNS[worst]} {check.name}: {check.sentence}")
        for because, machines in _same(result for result in results if result.outcome is Outcome.NOT_TRIED).items():
            text.append(f"    not tried on {machines}: {because}")
        for finding in report.findings:
            if finding.hazard == (check.hazard or check.name) and any(
                result.machine == finding.machine and result.outcome is Outcome.FINDING for result in results
            ):
                text.append(f"    {finding.machine}: {finding.severity}: {finding.because}")
                text.append(
                    f"        {'accepted: ' + finding.accepted if finding.accepted else 'cure: ' + finding.cure}"
                )
    text += [f"{name} did not answer: {why}" for name, why in silent.items()]
    counts = Counter(result.outcome for result in report.results)
    text.append(", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome))
    return text


def _same(results: Iterable[Result]) -> dict[str, str]:
    """reason -> the machines it is said of."""
    found: dict[str, list[str]] = {}
    for result in results:
        found.setdefault(result.because, []).append(result.machine)
    return {because: ", ".join(machines) for because, machines in found.items()}


def as_json(report: Report, silent: Mapping[str, str]) -> dict[str, Value]:
    """The documented shape, version 1."""
    return {
        "version": VERSION,
        "results": [asdict(result) for result in report.results],
        "findings": [
            {
                "hazard": finding.hazard,
                "severity": finding.severity.value,
                "machine": finding.machine,
                "because": finding.because,
                "cure": finding.cure,
                "accepted": finding.accepted or None,
            }
            for finding in report.findings
        ],
        "silent": dict(silent),
    }
