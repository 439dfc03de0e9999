"""What the phases of one apply share, and the phase itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from haplane.design.design import Design
from haplane.model.cluster import Cluster, Machine
from haplane.model.progress import Progress
from haplane.observe.facts import Facts
from haplane.phases.change import Change
from haplane.phases.decide import Decision
from haplane.transport.ssh import Remote


@dataclass
class Context:
    """design changes once, when the cluster's authority is made. bundle_folder: set, and verified,
    when a machine needs files of it."""

    cluster: Cluster
    design: Design
    remotes: Mapping[str, Remote]
    facts: Mapping[str, Facts]
    decision: Decision
    bundle_folder: Path | None
    progress: Progress
    token: str
    dry: bool

    @property
    def is_live(self) -> bool:
        """Is there a cluster that clients may be using?"""
        return bool(self.decision.members)

    def having(self, component: str) -> tuple[str, ...]:
        """Machines that have the component by design, of those that answer."""
        return tuple(name for name in self.facts if component in self.design.components(name))

    def of(self, machines: Iterable[Machine]) -> tuple[str, ...]:
        """Their names, of those that answer."""
        return tuple(one.name for one in machines if one.name in self.facts)

    @property
    def every_node_answers(self) -> bool:
        return len(self.of(self.cluster.nodes)) == len(self.cluster.nodes)

    @property
    def backups_first(self) -> tuple[str, ...]:
        """Machines in the order in which a live cluster is changed: the VIP's holder last."""
        return tuple(sorted(self.facts, key=lambda name: self.facts[name].holds_vip))

    def seed(self) -> str:
        """A control-plane node that is part of the cluster, or will be the first: any healthy one will do."""
        found = (*self.decision.members, self.decision.init)[0]
        assert found is not None, "where no node is a member, one is made"
        return found


class Phase:
    """One step of an apply. rolls: on a live cluster one machine at a time, with a gate between them."""

    title: ClassVar[str]
    rolls: ClassVar[bool] = False

    def machines(self, context: Context) -> Sequence[str]:
        """Those that it is for. By itself: all that are managed."""
        return tuple(context.facts)

    def rolls_in(self, context: Context) -> bool:
        return self.rolls and context.is_live

    async def run(self, context: Context, do: Change) -> None:
        raise NotImplementedError

    def is_gated(self, context: Context, machine: str) -> bool:
        """While it rolls: a machine that is no node of the cluster yet serves nobody, and cannot answer."""
        return machine in context.decision.nodes or machine not in context.having("kubelet")

    async def order(self, context: Context, machines: Sequence[str]) -> list[str]:
        """In which they roll. In a plan nothing is asked for it."""
        return [name for name in context.backups_first if name in machines]

    async def gate(self, context: Context, machine: str) -> None:
        """Raises HaplaneError while the machine is not healthy after its change."""
