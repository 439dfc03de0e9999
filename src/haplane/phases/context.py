"""What the phases of one apply share, and the phase itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from haplane.design.design import Design
from haplane.model.cluster import Cluster
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

    @property
    def backups_first(self) -> tuple[str, ...]:
        """Machines in the order in which a live cluster is changed: the VIP's holder last."""
        return tuple(sorted(self.facts, key=lambda name: self.facts[name].holds_vip))

    def seed(self) -> str:
        """A node that is part of the cluster: any healthy one will do."""
        return self.decision.members[0] if self.decision.members else self.decision.init or next(iter(self.facts))


class Phase:
    """One step of an apply. rolls: on a live cluster one machine at a time, with a gate between them."""

    title: ClassVar[str]
    rolls: ClassVar[bool] = False

    def machines(self, context: Context) -> Sequence[str]:
        return tuple(context.facts)

    def rolls_in(self, context: Context) -> bool:
        return self.rolls and context.is_live

    async def run(self, context: Context, do: Change) -> None:
        raise NotImplementedError

    async def gate(self, context: Context, machine: str) -> None:
        """Raises HaplaneError while the machine is not healthy after its change."""
