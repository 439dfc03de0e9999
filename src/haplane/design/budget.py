"""The outage that a design allows, per fault, link by link. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """One step between the fault and the next answer (detect, decide, take over, announce, reconnect)."""

    name: str
    typical_s: float
    worst_s: float
    because: str


@dataclass(frozen=True)
class Budget:
    fault: str
    links: tuple[Link, ...]

    @property
    def typical_s(self) -> float:
        return sum(link.typical_s for link in self.links)

    @property
    def worst_s(self) -> float:
        return sum(link.worst_s for link in self.links)
