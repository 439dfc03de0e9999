"""The checks of what the file alone shows: one function per hazard, all run by `lint`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from haplane.design.design import Design
from haplane.design.hazards.catalogue import CATALOGUE
from haplane.design.hazards.finding import Finding, Moment, Severity, with_acceptance
from haplane.model.cluster import Where

Check = Callable[[Design], Iterator[Finding]]

# hazard id -> its check; in the order in which modules are read.
CHECKS: Final[dict[str, Check]] = {}


def hazard(id: str) -> Callable[[Check], Check]:
    """Registers a check; its findings get the hazard's id, so that a check need not name it again."""
    if Moment.LINT not in CATALOGUE[id].moments or id in CHECKS:
        raise ValueError(f"{id} is not looked for in the file, or twice")

    def register(check: Check) -> Check:
        def named(design: Design) -> Iterator[Finding]:
            return (replace(finding, hazard=id) for finding in check(design))

        CHECKS[id] = named
        return named

    return register


def error(because: str, cure: str, where: Where, machine: str = "") -> Finding:
    """What a check yields; `hazard` adds the id."""
    return Finding("", Severity.ERROR, because, cure, where, machine)


def warning(because: str, cure: str, where: Where, machine: str = "") -> Finding:
    return Finding("", Severity.WARNING, because, cure, where, machine)


def advice(because: str, cure: str, where: Where, machine: str = "") -> Finding:
    return Finding("", Severity.ADVICE, because, cure, where, machine)


def lint(design: Design) -> tuple[Finding, ...]:
    """Every hazard that the file shows, in the file's order; accepted ones carry the reason."""
    found = _together(finding for check in CHECKS.values() for finding in check(design))
    found += _needless_acceptance(design, {finding.hazard for finding in found})
    return tuple(sorted(with_acceptance(found, design.cluster.accept), key=_place))


def _together(findings: Iterable[Finding]) -> list[Finding]:
    """What one line of the file does to several machines is one finding, of no machine in particular."""
    by_line: dict[Finding, list[Finding]] = {}
    for finding in findings:
        by_line.setdefault(replace(finding, machine=""), []).append(finding)
    return [same[0] if len(same) == 1 else common for common, same in by_line.items()]


def _place(finding: Finding) -> tuple[int, int, str, str]:
    where = finding.where or Where("")
    return where.line, where.column, finding.hazard, finding.machine


def _needless_acceptance(design: Design, found: set[str]) -> Iterator[Finding]:
    for id in design.cluster.accept:
        where = design.cluster.where("accept", id)
        if id not in CATALOGUE:
            close = difflib.get_close_matches(id, CATALOGUE, n=1)
            cure = f"write {close[0]}" if close else "write an id that `haplane hazards` prints, or remove the line"
            because = f"there is no hazard {id}, so nothing is accepted here"
            yield Finding("accept-unknown", Severity.WARNING, because, cure, where)
        # What machines may show, too, is not known to be absent.
        elif id in CHECKS and id not in found and CATALOGUE[id].moments == {Moment.LINT}:
            because = f"the file does not have the hazard {id} that it accepts"
            yield Finding("accept-unused", Severity.ADVICE, because, "remove the line", where)
