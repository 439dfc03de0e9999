"""From a drill's history to its verdicts. Pure: the same history gets the same ones, also later and elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from haplane.design.budget import Budget, budgets
from haplane.design.design import Design
from haplane.drills.catalogue import RATE, Drill, find
from haplane.drills.checkers import Verdict, availability, budget_held, recovered
from haplane.drills.holders import single_holder, vip_moved
from haplane.drills.idle import nobody_waits_in_the_dark
from haplane.drills.writes import no_write_lost
from haplane.model.errors import HaplaneError
from haplane.probes.history import HEAL, POWER_ON, History, Mark, Observation
from haplane.probes.observer import OBSERVER, VIP

WHOLE_WITHIN_S = 120.0
# What a busy machine's own stalls look like from outside, also when nothing is broken: less is not told apart.
NOISE_S = 0.15
# What comes back costs nothing by design; this is what a busy machine's stalls may look like meanwhile.
RETURN_S = 0.5
FAILED_ON_RETURN = 2
# A client that only waits hears of it so much later than one that asks may be answered: an advert, and three rounds.
TOLD_AFTER_S = 0.7
# Before it is mended the fault has settled: what a return is compared with.
SETTLED_S = 4.0
# Two machines may both have the VIP from the take-over until the next advert is heard.
OVERLAP_ADVERTS = 1.5

DRILL = "drill"


@dataclass(frozen=True)
class Judged:
    drill: Drill
    budget: Budget
    verdicts: tuple[Verdict, ...]


def named(t: float, drill: Drill, machine: str) -> Observation:
    """Which drill this is, in its history; one for each machine that it is done to."""
    return Observation(t, machine, DRILL, drill.name)


def judge(history: History, design: Design) -> Judged:
    """Raises HaplaneError when the history does not say which drill it is of, or breaks what this design lacks."""
    said = history.observed(DRILL)
    if not said:
        raise HaplaneError("the history does not say which drill it is of", hint="it may be of an older haplane")
    drill, machines = find(said[0].value), tuple(dict.fromkeys(one.machine for one in said))
    for machine in machines:
        if machine not in design.cluster.machines:
            raise HaplaneError(
                f"the history is of another cluster: {machine} is no machine of {design.cluster.name}",
                where=design.cluster.file,
            )
    budget = drill.budget_of(design, machines)
    survived = drill.is_survived(design, machines)
    return Judged(drill, budget, tuple(_verdicts(history, design, drill, budget, survived)))


def while_broken(history: History) -> History:
    """From the start until it is mended."""
    start, end = history.window
    return history.between(start, _mended(history, end))


def mended(history: History) -> History:
    """From a while before it is mended to the end; mending is the fault that is judged."""
    start, end = history.window
    back = _mended(history, end)
    part = history.between(max(start, back - SETTLED_S), end)
    marks = (replace(mark, what="return") if mark.what in (POWER_ON, HEAL) else mark for mark in part.of(Mark))
    return History((*(event for event in part.events if not isinstance(event, Mark)), *marks))


def _mended(history: History, otherwise: float) -> float:
    return min((mark.t for mark in history.marks if mark.what in (POWER_ON, HEAL)), default=otherwise)


def _verdicts(history: History, design: Design, drill: Drill, budget: Budget, survived: bool) -> Iterator[Verdict]:
    broken, back = while_broken(history), mended(history)
    limit_s = max(budget.worst_s if drill.requests_wait else 0.0, NOISE_S)
    if math.isfinite(limit_s):
        found = availability(broken, longest_gap_s=limit_s, failed_at_most=drill.failed_at_most)
        yield replace(found, name="while-broken")
        yield budget_held(broken, limit_s)
    if survived:
        # Else what comes back is the API itself, and how long that takes `recovered` says.
        found = availability(back, longest_gap_s=RETURN_S, failed_at_most=FAILED_ON_RETURN)
        yield replace(found, name="return")
    if history.requests("write"):
        yield from _writes(broken, design, drill, limit_s)
        yield no_write_lost(history)
    if history.header and history.header.config.idle_connections and math.isfinite(limit_s):
        # Where the VIP moves its new holder tells them; else they wait for the checks of a lost apiserver.
        told_s = limit_s if drill.moves_vip else max(limit_s, _sessions_end_s(design))
        yield nobody_waits_in_the_dark(history, told_s + TOLD_AFTER_S)
    if history.observed(OBSERVER):
        machines = [machine.name for machine in design.cluster.balancers]
        reached = _as_clients_reach(history, drill)
        yield single_holder(reached, OVERLAP_ADVERTS * design.timers.advert_ms / 1000, machines=machines)
        if drill.moves_vip is not None:
            yield vip_moved(reached, drill.moves_vip, machines=machines)
    yield recovered(history, WHOLE_WITHIN_S)


def _as_clients_reach(history: History, drill: Drill) -> History:
    """Who is cut off may think what it likes: nobody reaches it. What it holds counts again once it is healed."""
    fault = history.fault
    if not drill.isolates or fault is None:
        return history
    healed = _mended(history, history.window[1])
    held = [one for one in history.of(Observation) if one.machine == fault.machine and one.what.split(" ")[0] == VIP]
    events = [event for event in history.events if event not in held or not fault.t <= event.t < healed]
    for what in sorted({one.what for one in held}):
        then = [one for one in held if one.what == what and one.t < healed]
        last = max(then, key=lambda one: one.t).value if then else ""
        events.append(Observation(fault.t, fault.machine, what, "", fault.error))
        events.append(Observation(healed, fault.machine, what, last, fault.error))
    return History(tuple(events))


def _sessions_end_s(design: Design) -> float:
    """Whoever only waits, on an apiserver that is lost, is told when its checks have failed."""
    found = {one.fault: one.worst_s for one in budgets(design, request_interval_s=1 / RATE)}
    worst_s = found.get("apiserver-hang", 0.0)
    return worst_s if math.isfinite(worst_s) else 0.0


def _writes(broken: History, design: Design, drill: Drill, limit_s: float) -> Iterator[Verdict]:
    """Whoever loses a machine or an apiserver may lose etcd's leader with it."""
    election = {one.fault: one for one in budgets(design, request_interval_s=1 / RATE)}.get("etcd-leader-death")
    if election is None or not math.isfinite(election.worst_s) or not math.isfinite(limit_s):
        return
    rate = broken.header.config.write_rate if broken.header else 0.0
    longest_s = max(limit_s, election.worst_s) + (2 / rate if rate else 0.0)
    found = availability(
        broken,
        probe="write",
        longest_gap_s=longest_s,
        failed_at_most=math.ceil(rate * longest_s) + drill.failed_at_most,
    )
    yield replace(found, name="writes")
