"""The design of a cluster with its timers solved: what every command starts from. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from haplane.components.base import Measured
from haplane.design.design import Design
from haplane.design.timers import Solution, solve
from haplane.model.bundle import BundleManifest
from haplane.model.cluster import Cluster
from haplane.model.facts import MeasuredFacts


def solved(
    cluster: Cluster,
    facts: MeasuredFacts,
    *,
    bundle: BundleManifest | None = None,
    measured: Mapping[str, Measured] | None = None,
) -> tuple[Design, Solution]:
    """measured: what machines said just now, by name; without it, what facts.yaml says of them."""
    solution = solve(cluster, facts)
    if measured is None:
        measured = {name: Measured(interface=one.interface) for name, one in facts.machines.items() if one.interface}
    return Design(cluster, bundle, measured=measured, timers=solution.timers), solution
