"""What a hazard is, and what it looks like where it was found. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from haplane.model.cluster import Where


class Severity(StrEnum):
    """error stops an apply; warning does not; advice is a choice worth a second look."""

    ERROR = "error"
    WARNING = "warning"
    ADVICE = "advice"


class Moment(StrEnum):
    """When a hazard can be seen: in the file alone, on machines before a change, in a running cluster."""

    LINT = "lint"
    PREFLIGHT = "preflight"
    STATUS = "status"


@dataclass(frozen=True)
class Hazard:
    """A known way in which a design or a running cluster loses availability.

    condition: when it is there. goes_wrong: the consequence. cure: what to do. source: where that is known from.
    """

    id: str
    moments: frozenset[Moment]
    condition: str
    goes_wrong: str
    cure: str
    source: str


@dataclass(frozen=True)
class Finding:
    """A hazard in one place. because: the evidence. where: in the file; machine: on one. accepted: why, if it is."""

    hazard: str
    severity: Severity
    because: str
    cure: str
    where: Where | None = None
    machine: str = ""
    accepted: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else f"{self.machine}: " if self.machine else ""
        return f"{place}{self.severity}[{self.hazard}]: {self.because}\n    cure: {self.cure}"


def with_acceptance(findings: Iterable[Finding], accept: Mapping[str, str]) -> tuple[Finding, ...]:
    """Findings whose hazard the file accepts carry its reason."""
    return tuple(replace(one, accepted=accept.get(one.hazard, "")) for one in findings)


def stops(findings: Iterable[Finding]) -> list[Finding]:
    """Those that stop an apply: errors that nobody accepted."""
    return [one for one in findings if one.severity is Severity.ERROR and not one.accepted]
