"""The design of a cluster with its timers solved: what every command starts from. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from haplane.components.base import Measured
from haplane.design.design import Design
from haplane.design.timers import Solution, solve
from haplane.model.bundle import BundleManifest
from haplane.model.cluster import Cluster
from haplane.model.facts import MachineFacts, MeasuredFacts

_NOT_ASKED = Measured()
_NOT_MEASURED = MachineFacts()


def solved(
    cluster: Cluster,
    facts: MeasuredFacts,
    *,
    bundle: BundleManifest | None = None,
    asked: Mapping[str, Measured] | None = None,
) -> tuple[Design, Solution]:
    """asked: what machines said just now, by name. It counts only where facts.yaml is silent: the same two files always
    give the same design.
    """
    solution = solve(cluster, facts)
    measured = {
        name: _measured(facts.machines.get(name, _NOT_MEASURED), (asked or {}).get(name, _NOT_ASKED))
        for name in cluster.machines
    }
    design = Design(cluster, bundle, measured=measured, timers=solution.timers, router_ids_of_others=facts.router_ids)
    return design, solution


def _measured(kept: MachineFacts, asked: Measured) -> Measured:
    return Measured(
        interface=kept.interface or asked.interface,
        open_files=kept.open_files or asked.open_files,
        memory_bytes=kept.memory_bytes or asked.memory_bytes,
        system=kept.system or asked.system,
    )
