"""Findings for a terminal, as JSON and as SARIF, and the catalogue of all hazards.

SARIF: the OASIS standard 2.1.0, read by code hosts and editors; sections are named below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import quote

from haplane import __version__
from haplane.design.hazards.finding import Finding, Hazard, Moment, Severity
from haplane.model.cluster import Value, Where

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

VERSION = 1
_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.ADVICE: "bold cyan"}
_MOMENTS = {
    Moment.LINT: "in the file",
    Moment.PREFLIGHT: "on machines, before a change",
    Moment.STATUS: "in a running cluster",
}


# ---- terminal ----


def show(findings: Sequence[Finding], *, console: Console | None = None) -> None:
    """Print them like a compiler: in the file's order, those that are accepted at the end, then how many there are."""
    from rich.console import Console

    console = console or Console()
    open_ones = _sorted(one for one in findings if not one.accepted)
    accepted = _sorted(one for one in findings if one.accepted)
    for one in (*open_ones, *accepted):
        # Not wrapped: a terminal does that, and what is piped stays one line per message.
        console.print(_message(one), soft_wrap=True)
    console.print(summary(findings), soft_wrap=True, highlight=False)


def summary(findings: Sequence[Finding]) -> str:
    """E.g. `2 errors, 1 warning; 1 accepted`."""
    counts = [_count(findings, severity) for severity in Severity]
    text = ", ".join(filter(None, counts)) or "no hazard found"
    accepted = sum(1 for one in findings if one.accepted)
    return f"{text}; {accepted} accepted" if accepted else text


def _count(findings: Sequence[Finding], severity: Severity) -> str:
    count = sum(1 for one in findings if one.severity is severity and not one.accepted)
    plural = "" if count == 1 or severity is Severity.ADVICE else "s"
    return f"{count} {severity}{plural}" if count else ""


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    """By place; what has none comes last, by machine."""
    return sorted(findings, key=lambda one: (one.where is None, one.where or Where(""), one.machine, one.hazard))


def _message(one: Finding) -> Text:
    from rich.text import Text

    place = f"{one.where}: " if one.where else ""
    if one.machine and not one.where:
        place = f"{one.machine}: "
    kind = f"{'accepted ' if one.accepted else ''}{one.severity}"
    style = "dim" if one.accepted else _STYLES[one.severity]
    on = f" (on {one.machine})" if one.machine and one.where else ""
    text = Text.assemble((place, "bold"), (kind, style), f"[{one.hazard}]: {one.because}{on}")
    more = (("reason", one.accepted),) if one.accepted else (("cure", one.cure),)
    for label, line in more:
        text.append(f"\n    {label}: ", "bold").append(line)
    return text


def show_catalogue(catalogue: Mapping[str, Hazard], *, console: Console | None = None) -> None:
    """Print every hazard: when it can be seen, what it is, what follows, what to do, and where that is known from."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    for hazard in catalogue.values():
        lines = Table.grid(padding=(0, 2))
        lines.add_column(style="bold", no_wrap=True)
        lines.add_column()
        for label, text in (
            ("seen", "; ".join(_MOMENTS[moment] for moment in Moment if moment in hazard.moments)),
            ("when", hazard.condition),
            ("goes wrong", hazard.goes_wrong),
            ("cure", hazard.cure),
            ("source", hazard.source),
        ):
            if text:
                lines.add_row(label, Text(text))
        console.print(Text(hazard.id, "bold cyan"))
        console.print(Padding(lines, (0, 0, 1, 4)))
    console.print(f"{len(catalogue)} hazards", highlight=False)


# ---- JSON ----


def as_json(findings: Sequence[Finding]) -> dict[str, Value]:
    """Version 1: {version, counts: {error, warning, advice, accepted}, findings}. What is not known is null."""
    counts: dict[str, Value] = {
        severity.value: sum(1 for one in findings if one.severity is severity and not one.accepted)
        for severity in Severity
    }
    counts["accepted"] = sum(1 for one in findings if one.accepted)
    return {"version": VERSION, "counts": counts, "findings": [_finding(one) for one in _sorted(findings)]}


def _finding(one: Finding) -> Value:
    where = one.where
    return {
        "hazard": one.hazard,
        "severity": one.severity.value,
        "because": one.because,
        "cure": one.cure,
        "where": None
        if where is None
        else {"file": where.file, "line": where.line, "column": where.column, "key": where.key},
        "machine": one.machine or None,
        "accepted": one.accepted or None,
    }


def catalogue_as_json(catalogue: Mapping[str, Hazard]) -> dict[str, Value]:
    """Version 1: {version, hazards: [{id, moments, condition, goes_wrong, cure, source}]}."""
    return {
        "version": VERSION,
        "hazards": [
            {
                "id": one.id,
                "moments": [moment.value for moment in Moment if moment in one.moments],
                "condition": one.condition,
                "goes_wrong": one.goes_wrong,
                "cure": one.cure,
                "source": one.source,
            }
            for one in catalogue.values()
        ],
    }


# ---- SARIF ----

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.ADVICE: "note"}


def as_sarif(
    findings: Sequence[Finding], catalogue: Mapping[str, Hazard], *, root: PurePath | None = None
) -> dict[str, Value]:
    """A log of one run. root: the folder that files are named from, usually the repository's.

    Where a file lies outside of it, or root is None and its name is absolute, it is named by a file: URI.
    """
    # A finding whose hazard the catalogue does not know still needs its rule: ruleIndex points to one (3.27.6).
    ids = [*dict.fromkeys((*catalogue, *(one.hazard for one in findings)))]
    driver: dict[str, Value] = {
        "name": "haplane",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(catalogue[each]) if each in catalogue else {"id": each} for each in ids],
    }
    run: dict[str, Value] = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(one, ids.index(one.hazard), root) for one in _sorted(findings)],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(hazard: Hazard) -> Value:
    help_text = f"{hazard.goes_wrong}\n\nCure: {hazard.cure}\n\nSource: {hazard.source}"
    return {
        "id": hazard.id,
        "shortDescription": {"text": hazard.condition},
        "fullDescription": {"text": hazard.goes_wrong},
        "help": {"text": help_text},
        "properties": {"tags": ["availability", *(moment.value for moment in Moment if moment in hazard.moments)]},
    }


def _result(one: Finding, rule: int, root: PurePath | None) -> Value:
    on = f" (on {one.machine})" if one.machine else ""
    result: dict[str, Value] = {
        "ruleId": one.hazard,
        "ruleIndex": rule,
        "level": _LEVELS[one.severity],
        "message": {"text": f"{one.because}{on}. Cure: {one.cure}"},
        "locations": _locations(one, root),
        "partialFingerprints": {"haplane/v1": _fingerprint(one)},
        # Present on all results as soon as it is on one; empty: not suppressed (3.27.23).
        "suppressions": _suppressions(one),
    }
    return result


def _suppressions(one: Finding) -> list[Value]:
    """`accept` stands in the file that is judged: inSource (3.35.2)."""
    if not one.accepted:
        return []
    return [{"kind": "inSource", "status": "accepted", "justification": one.accepted}]


def _locations(one: Finding, root: PurePath | None) -> list[Value]:
    location: dict[str, Value] = {}
    logical: list[Value] = []
    if one.where:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(one.where.file, root)},
            "region": {"startLine": one.where.line, "startColumn": one.where.column},
        }
        if one.where.key:
            logical.append({"fullyQualifiedName": one.where.key, "kind": "member"})
    if one.machine:
        logical.append({"fullyQualifiedName": one.machine, "kind": "resource"})
    if logical:
        location["logicalLocations"] = logical
    return [location] if location else []


def _uri(file: str, root: PurePath | None) -> str:
    path = PurePath(file)
    if root is not None and path.is_relative_to(root):
        path = path.relative_to(root)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _fingerprint(one: Finding) -> str:
    """The same for the same hazard at the same key, however its lines move."""
    key = one.where.key if one.where else ""
    return hashlib.sha256("\0".join((one.hazard, key, one.machine)).encode()).hexdigest()[:32]
