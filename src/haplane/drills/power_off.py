"""Drill: the machine that holds the VIP loses its power, under load.

What clients saw is judged, not what the cluster says of itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from haplane.design.budget import Budget, power_off_vip_holder
from haplane.design.design import Design
from haplane.drills.checkers import Verdict, availability, budget_held, recovered
from haplane.drills.history_file import HistoryFile
from haplane.model.cluster import Cluster, Machine, Power, Role
from haplane.model.errors import HaplaneError, UsageError
from haplane.model.progress import Progress
from haplane.observe import status as observe
from haplane.observe.facts import AUTHORITY
from haplane.phases.lock import locked
from haplane.probes.history import History, Mark, Relation, relate, to_line
from haplane.probes.running import Prober
from haplane.transport import power
from haplane.transport.ssh import Fleet, Remote

NAME = "power-off-vip-holder"
SENTENCE = "cut the power of the machine that holds the VIP, silently, and restore it"

RATE = 50.0
BEFORE_S = 3.0
DARK_S = 8.0
AFTER_S = 2.0
WHOLE_WITHIN_S = 120.0
FAILED_AT_MOST = 4
# Long enough for the whole drill; the healer restores the power then even if this host's haplane is gone.
HEALER_AFTER_S = power.TIMEOUT_S + DARK_S + 30
PROBER_LIMIT_S = BEFORE_S + DARK_S + WHOLE_WITHIN_S + 60
LAB_MARK = "/etc/haplane-lab"


@dataclass(frozen=True)
class Result:
    """One run. history_file holds all that verdicts were made of."""

    history: History
    history_file: Path
    budget: Budget
    verdicts: tuple[Verdict, ...]


# The verdicts about the time while the power was off.
FAILOVER = ("failover", "budget")
# Before the power returns the machine is dark and the others have settled: what a return is compared with.
SETTLED_S = 4.0


def failover(history: History) -> History:
    """From the start until the power is restored."""
    start, end = history.window
    return history.between(start, min((mark.t for mark in history.marked("power-on")), default=end))


def comeback(history: History) -> History:
    """From a while before the power is restored to the end; the return of the machine is the fault that is judged."""
    start, end = history.window
    back = min((mark.t for mark in history.marked("power-on")), default=end)
    part = history.between(max(start, back - SETTLED_S), end)
    marks = (replace(mark, what="return") if mark.what == "power-on" else mark for mark in part.of(Mark))
    return History((*(event for event in part.events if not isinstance(event, Mark)), *marks))


def judge(history: History, budget: Budget) -> tuple[Verdict, ...]:
    """Pure: the same history gets the same verdicts, also years later without a cluster."""
    lost, back = failover(history), comeback(history)
    return (
        replace(availability(lost, longest_gap_s=budget.worst_s, failed_at_most=FAILED_AT_MOST), name="failover"),
        budget_held(lost, budget.worst_s),
        replace(availability(back, longest_gap_s=budget.worst_s, failed_at_most=FAILED_AT_MOST), name="return"),
        recovered(history, WHOLE_WITHIN_S),
    )


def budget_from(history: History, cluster: Cluster) -> Budget:
    """The budget of the machine that the history says lost its power."""
    fault = history.fault
    holder = fault.machine if fault else cluster.control_plane[0].name
    return power_off_vip_holder(Design(cluster), holder, request_interval_s=1 / RATE)


async def run(
    cluster: Cluster, *, folder: Path, progress: Progress, confirm: Callable[[str], Awaitable[None]]
) -> Result:
    """Break it, measure it, heal it. confirm is asked before a machine that is no lab's is touched.

    Refuses (HaplaneError) on a cluster that is not whole. However it ends, the power is restored.
    """
    switch = power.required(cluster.power, cluster.file)
    client = _client(cluster)
    async with Fleet(cluster.machines) as fleet:
        found = await fleet.connect_all([*cluster.control_plane, client])
        remotes = {name: one for name, one in found.items() if isinstance(one, Remote)}
        for one in found.values():
            if not isinstance(one, Remote):
                raise one
        nodes = {machine.name: remotes[machine.name] for machine in cluster.control_plane}
        async with locked(nodes, command=f"haplane drill run {NAME}"):
            progress.now("drill", "looking whether the cluster is whole")
            status = await observe.read_from(cluster, nodes)
            _refuse_unless_whole(status)
            holder = cluster.machines[status.holders[0]]
            await _confirm(nodes[holder.name], confirm)
            authority = (await nodes[holder.name].run(f"cat {AUTHORITY}")).stdout
            file = HistoryFile.new(folder, NAME)
            prober = Prober(remotes[client.name], file.write)
            events: list[Event] = []
            try:
                await prober.start(cluster, authority, rate=RATE, duration_s=PROBER_LIMIT_S)
                await prober.read_clock()
                await _break_and_heal(cluster, switch, holder, events, progress)
                await prober.read_clock()
            finally:
                # However it ended: a history without its marks cannot be judged.
                await asyncio.shield(prober.stop())
                for event in events:
                    file.write(to_line(event.mark(relate(prober.trips, near=event.at))))
    history = file.close()
    budget = budget_from(history, cluster)
    progress.done("drill", f"history saved: {file.path}")
    return Result(history, file.path, budget, judge(history, budget))


@dataclass(frozen=True)
class Event:
    """What the drill did, on this host's monotonic clock; at may be wrong by error seconds."""

    at: float
    error: float
    what: str
    machine: str = ""

    def mark(self, relation: Relation) -> Mark:
        return Mark(round(self.at + relation.offset, 6), self.what, self.machine, round(relation.error + self.error, 6))


async def _break_and_heal(
    cluster: Cluster, switch: Power, holder: Machine, events: list[Event], progress: Progress
) -> None:
    progress.step("drill", f"{RATE:.0f} new connections per second, {BEFORE_S:.0f} s undisturbed")
    await asyncio.sleep(BEFORE_S)
    healer = power.Healer(switch, holder, after_s=HEALER_AFTER_S)
    try:
        progress.step("drill", f"cutting the power of {holder.name}")
        began = time.monotonic()
        await power.off(switch, holder)
        # The cut lies somewhere within the command: its middle, wrong by at most half of it.
        ended = time.monotonic()
        events.append(Event((began + ended) / 2, (ended - began) / 2, "power-off", holder.name))
        progress.step("drill", f"{holder.name} is dark for {DARK_S:.0f} s")
        await asyncio.sleep(DARK_S)
    finally:
        # Also when interrupted: no fault is left behind. The healer stays armed until the power is known to be back.
        await asyncio.shield(power.on(switch, holder))
        healer.disarm()
        events.append(Event(time.monotonic(), 0.0, "power-on", holder.name))
    progress.step("drill", f"{holder.name} is back; waiting until everything is whole")
    try:
        await observe.until_whole(
            cluster, within_s=WHOLE_WITHIN_S, on_problem=lambda problem: progress.now("drill", f"waiting: {problem}")
        )
        events.append(Event(time.monotonic(), 0.0, "whole"))
    except HaplaneError as error:
        # Not the end of the drill but its result: it is judged like any other.
        progress.done("drill", f"{error.what}: {error.why}")
    await asyncio.sleep(AFTER_S)


def _client(cluster: Cluster) -> Machine:
    clients = [machine for machine in cluster.with_role(Role.CLIENT) if Role.CONTROL_PLANE not in machine.roles]
    if not clients:
        raise UsageError(
            "there is no machine to probe from",
            where=cluster.file,
            why="the prober must not run on a machine that the fault touches or that may hold the VIP",
            hint="add one with roles: [client] (it needs Python 3.11 and nothing else)",
        )
    return clients[0]


def _refuse_unless_whole(status: observe.ClusterStatus) -> None:
    if not status.is_whole:
        raise HaplaneError(
            "a drill needs a cluster that is whole; nothing was broken",
            why="\n".join(status.problems),
            hint="haplane status, then haplane apply",
        )


async def _confirm(remote: Remote, confirm: Callable[[str], Awaitable[None]]) -> None:
    marked = await remote.run(f"test -e {LAB_MARK}", check=False)
    if marked.code:
        await confirm(f"{remote.name} is no lab machine: its power will really be cut")
