"""Planted hazards: pieces of a cluster.yaml that have one, and pieces that nearly do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from haplane.design.design import Design
from haplane.design.hazards import Severity, lint
from haplane.design.hazards.finding import Finding
from haplane.model.file import read_cluster

BASE: Mapping[str, str] = {
    "name": "name: prod\n",
    "kubernetes": "kubernetes: {version: 1.35.4}\n",
    "endpoint": "endpoint: {vip: 192.0.2.100/24}\n",
    "machines": "machines: {cp1: {address: 192.0.2.11}, cp2: {address: 192.0.2.12}, cp3: {address: 192.0.2.13}}\n",
}
MARK = "# <-"


@dataclass(frozen=True)
class Planted:
    """A hazard's own file and one that only looks like it.

    has, lacks: top-level keys of a cluster.yaml; what they leave out is BASE's. The lines in `has` that end with MARK
    are those that findings must point to. title and near_miss say in words what is different about each.
    """

    hazard: str
    severity: Severity
    title: str
    has: str
    near_miss: str
    lacks: str

    @property
    def lines(self) -> list[int]:
        """Counting from 1; the piece stands at the beginning of the file."""
        return [number for number, line in enumerate(self.has.splitlines(), start=1) if line.endswith(MARK)]


def file_with(piece: str) -> str:
    given = {line.partition(":")[0] for line in piece.splitlines() if line[:1].isalpha()}
    return piece + "".join(text for key, text in BASE.items() if key not in given)


def found_in(piece: str, hazard: str) -> list[Finding]:
    """Findings of one hazard in a file with this piece."""
    cluster = read_cluster(file_with(piece), file="cluster.yaml", folder=Path("/nowhere"))
    return [finding for finding in lint(Design(cluster)) if finding.hazard == hazard]
