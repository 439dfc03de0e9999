"""One check: what is asked, of which machines, from which part of what was read; and its result. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from haplane.components.base import View
from haplane.design.design import Design
from haplane.design.hazards.finding import Finding, Severity
from haplane.model.cluster import Cluster, Machine
from haplane.observe.preflight.probe import SLOW, Part, Probe


class Outcome(StrEnum):
    PASSED = "passed"
    FINDING = "finding"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Result:
    """One check on one machine. because: why it was not tried, or what was found, joined by semicolons."""

    check: str
    machine: str
    outcome: Outcome
    because: str = ""


@dataclass(frozen=True)
class Trouble:
    """What a judge has against a machine. because: the evidence. cure: where it is not the check's own."""

    machine: str
    because: str
    severity: Severity = Severity.ERROR
    cure: str = ""


@dataclass(frozen=True)
class NotTried:
    """What a judge cannot say about a machine, and why."""

    machine: str
    because: str


Said = Trouble | NotTried


@dataclass(frozen=True)
class Seen:
    """What a judge looks at. machines: those that the check concerns and whose part was read; all: everybody."""

    design: Design
    machines: Mapping[str, Probe]
    all: Mapping[str, Probe]

    @property
    def cluster(self) -> Cluster:
        return self.design.cluster

    def view(self, machine: str) -> View:
        """As designed for the system that was found, which the design may not know yet."""
        view, host = self.design.view(machine), self.all.get(machine, Probe()).host
        return replace(view, measured=replace(view.measured, system=host.system or view.measured.system))

    @property
    def unread(self) -> tuple[str, ...]:
        """Machines of the file of which nothing is known."""
        read = {name for name, probe in self.all.items() if Part.HOST not in probe.missing}
        return tuple(name for name in self.cluster.machines if name not in read)


Judge = Callable[[Seen], Iterator[Said]]
Concerns = Callable[[Cluster, Machine], bool]


@dataclass(frozen=True)
class Check:
    """name: stable. hazard: its id in the catalogue, empty if it has none. sentence: what holds when it passes."""

    name: str
    hazard: str
    sentence: str
    cure: str
    needs: Part
    concerns: Concerns
    judge: Judge

    @property
    def is_slow(self) -> bool:
        return self.needs in SLOW

    def results(self, design: Design, probes: Mapping[str, Probe], *, slow: bool) -> tuple[list[Result], list[Finding]]:
        """One result per machine that it concerns, in the file's order; slow: slow parts were asked for."""
        cluster = design.cluster
        names = [name for name, machine in cluster.machines.items() if self.concerns(cluster, machine)]
        missing = {name: why for name in names if (why := self._missing(probes.get(name), slow=slow))}
        machines = {name: probes[name] for name in names if name not in missing}
        said = list(self.judge(Seen(design, machines, probes)))
        troubles = [one for one in said if isinstance(one, Trouble)]
        results = [self._result(name, said, missing.get(name, "")) for name in names]
        return results, [self._finding(one) for one in troubles]

    def _missing(self, probe: Probe | None, *, slow: bool) -> str:
        if probe is None:
            return "the machine was not reached"
        if self.is_slow and not slow:
            return "it takes a while, and was not asked for"
        return probe.missing.get(self.needs, "")

    def _result(self, machine: str, said: list[Said], missing: str) -> Result:
        if missing:
            return Result(self.name, machine, Outcome.NOT_TRIED, missing)
        mine = [one for one in said if one.machine == machine]
        troubles = [one.because for one in mine if isinstance(one, Trouble)]
        if troubles:
            return Result(self.name, machine, Outcome.FINDING, "; ".join(troubles))
        if mine:
            return Result(self.name, machine, Outcome.NOT_TRIED, "; ".join(dict.fromkeys(one.because for one in mine)))
        return Result(self.name, machine, Outcome.PASSED)

    def _finding(self, trouble: Trouble) -> Finding:
        return Finding(
            hazard=self.hazard or self.name,
            severity=trouble.severity,
            because=trouble.because,
            cure=trouble.cure or self.cure,
            machine=trouble.machine,
        )


def check(
    name: str, *, sentence: str, cure: str, concerns: Concerns, hazard: str = "", needs: Part = Part.HOST
) -> Callable[[Judge], Check]:
    """Make a check of its judge."""

    def made(judge: Judge) -> Check:
        return Check(name, hazard, sentence, cure, needs, concerns, judge)

    return made
