"""From a drill's history to its verdicts. Pure: the same history gets the same ones, also later and elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from haplane.design.budget import Budget, budgets, holder_acts_s, holder_dies
from haplane.design.design import Design
from haplane.design.link import LEAVE
from haplane.drills.catalogue import RATE, Drill, find
from haplane.drills.checkers import Verdict, availability, budget_held, recovered
from haplane.drills.holders import single_holder, vip_moved
from haplane.drills.holding import POWER_OFF
from haplane.drills.idle import nobody_waits_in_the_dark
from haplane.drills.kubectl import kubectl_sees_on
from haplane.drills.leases import Expected, Terms, acting, acts_again, one_controller_acts
from haplane.drills.noise import usual_s
from haplane.drills.register import reads_never_go_back, register_linearizable
from haplane.drills.watches import watch_sees_all
from haplane.drills.writes import no_write_lost
from haplane.model.errors import HaplaneError
from haplane.probes.history import CALM, HEAL, POWER_ON, History, Mark, Observation
from haplane.probes.observer import BALANCER, ETCD_LEADER, GONE, OBSERVER, VIP, VRRP
from haplane.probes.prober import LEASES

WHOLE_WITHIN_S = 120.0
# What a busy machine's own stalls look like from outside, also when nothing is broken: less is not told apart.
NOISE_S = 0.15
# What comes back costs nothing by design; this is what a busy machine's stalls may look like meanwhile.
RETURN_S = 0.5
FAILED_ON_RETURN = 2
# A client that only waits hears of it so much later than one that asks may be answered: an advert, and three rounds.
TOLD_AFTER_S = 0.7
# kubectl hears of it as such a client does, and is started again.
RESUMES_S = 1.0
# Stopped in good order it gives its lease back (ReleaseOnCancel in kube-scheduler's options.go).
GIVES_BACK = "kube-scheduler"
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


def judge(history: History, design: Design, quiet_gaps: Sequence[float] = ()) -> Judged:
    """quiet_gaps: how long gaps are on these machines without a fault (`drills.noise`), where that is known.

    Raises HaplaneError when the history does not say which drill it is of, or breaks what this design lacks.
    """
    said = history.observed(DRILL)
    if not said:
        raise HaplaneError(
            "the history does not say which drill it is of", hint="the drill may still run, or nothing was broken in it"
        )
    drill, machines = find(said[0].value), tuple(dict.fromkeys(one.machine for one in said))
    for machine in machines:
        if machine not in design.cluster.machines:
            raise HaplaneError(
                f"the history is of another cluster: {machine} is no machine of {design.cluster.name}",
                where=design.cluster.file,
            )
    budget = drill.budget_of(design, machines)
    return Judged(drill, budget, tuple(_verdicts(history, design, drill, machines, budget, quiet_gaps)))


def while_broken(history: History) -> History:
    """From when all was calm until it is mended; to the end where that came before the fault had settled."""
    _start, end = history.window
    return history.between(_calm_at(history), _mended(history, end).t if _settles(history) else end)


def _calm_at(history: History) -> float:
    """What was wrong until then is known not to be the fault's."""
    return max((mark.t for mark in history.marked(CALM)), default=history.window[0])


def _settles(history: History) -> bool:
    """Is the fault one thing, and its mending another?"""
    fault = history.fault
    return fault is None or _mended(history, math.inf).t - fault.t > 2 * SETTLED_S


def mended(history: History) -> History:
    """From a while before it is mended to the end; mending is the fault that is judged."""
    start, end = history.window
    mark = _mended(history, end)
    # Restoring power may take long, and was done at some time meanwhile.
    part = history.between(max(start, mark.t - mark.error - SETTLED_S), end)
    # What came before is of the fault: that a machine which shuts down is dark may be seen only just before.
    marks = (one for one in part.of(Mark) if one.t >= mark.t)
    marks = (replace(one, what="return") if one.what in (POWER_ON, HEAL) else one for one in marks)
    return History((*(event for event in part.events if not isinstance(event, Mark)), *marks))


def _mended(history: History, otherwise: float) -> Mark:
    """When the first fault was mended, or a mark at that time."""
    marks = (mark for mark in history.marks if mark.what in (POWER_ON, HEAL))
    return min(marks, key=lambda mark: mark.t, default=Mark(otherwise, "never"))


def _verdicts(
    history: History,
    design: Design,
    drill: Drill,
    broken_machines: Sequence[str],
    budget: Budget,
    quiet_gaps: Sequence[float],
) -> Iterator[Verdict]:
    survived, moves_vip = drill.is_survived(design, broken_machines), drill.must_move_vip(design, broken_machines)
    broken, back = while_broken(history), mended(history)
    limit_s = max(budget.worst_s if drill.requests_wait else 0.0, NOISE_S)
    if math.isfinite(limit_s):
        may_fail, quiet_s = drill.may_fail(design, limit_s), _usual_s(quiet_gaps, broken)
        found = availability(broken, longest_gap_s=limit_s, failed_at_most=may_fail, quiet_s=quiet_s)
        yield replace(found, name="while-broken")
        yield budget_held(broken, limit_s, quiet_s=quiet_s)
    if survived and _settles(history):
        # Else what comes back is the API itself, and how long that takes `recovered` says.
        quiet_s = _usual_s(quiet_gaps, back)
        found = availability(back, longest_gap_s=RETURN_S, failed_at_most=FAILED_ON_RETURN, quiet_s=quiet_s)
        yield replace(found, name="return")
    if history.requests("write"):
        yield from _writes(broken, design, drill, limit_s)
        yield no_write_lost(history)
    if history.header and history.header.config.register_rate:
        yield reads_never_go_back(history)
        yield register_linearizable(history)
    # Where the VIP moves its new holder tells them; else they wait for the checks of a lost apiserver.
    told_s = limit_s if moves_vip else max(limit_s, _sessions_end_s(design))
    told_s += _served_on_s(history) + _etcd_came_back_s(history, told_s)
    if drill.starves:
        told_s += _starved_after_s(history)
    if history.header and history.header.config.idle_connections and math.isfinite(limit_s):
        yield nobody_waits_in_the_dark(history, told_s + TOLD_AFTER_S)
    if history.header and history.header.config.kubectl and math.isfinite(limit_s):
        yield kubectl_sees_on(history, told_s + RESUMES_S)
    if history.header and history.header.config.watches:
        # Who was told asks again, of an apiserver that knows no more than its etcd, which may be without a leader.
        yield watch_sees_all(history, told_s + TOLD_AFTER_S + (_etcd_wait_s(design) or 0.0))
    if history.header and history.header.config.lease_rate:
        yield from _leases(history, design, drill, broken_machines, survived)
    # Who has an address of somebody else's is not ours to see.
    if history.observed(OBSERVER) and design.cluster.vip_sharers:
        machines = [machine.name for machine in design.cluster.vip_sharers]
        reached = as_clients_reach(history, drill)
        yield single_holder(reached, OVERLAP_ADVERTS * design.timers.advert_ms / 1000, machines=machines)
        if moves_vip is not None:
            yield vip_moved(reached, moves_vip, machines=machines)
    yield from _services(history)
    yield recovered(history, WHOLE_WITHIN_S)


def _usual_s(quiet_gaps: Sequence[float], history: History) -> float:
    """In the part that is judged: from the fault to the end."""
    start, end = history.window
    return usual_s(quiet_gaps, end - (history.fault.t if history.fault else start))


def _services(history: History) -> Iterator[Verdict]:
    """From the fault to the end. No timer of the design's bounds what a service may lose: the user says."""
    calm = history.between(_calm_at(history), math.inf)
    for probe in history.services:
        assert history.header is not None
        found = availability(calm, probe=probe, failed_at_most=history.header.config.service_failed_at_most)
        yield replace(found, name=probe)


def _leases(
    history: History, design: Design, drill: Drill, broken_machines: Sequence[str], survived: bool
) -> Iterator[Verdict]:
    yield one_controller_acts(
        history, [Terms(lease, holder_acts_s(design.cluster, lease), lease == GIVES_BACK) for lease in LEASES]
    )
    expected = []
    for lease in LEASES:
        own, within_s = drill.budget == holder_dies(lease), acts_again_within_s(design, drill, lease)
        acted = acting(history, lease)
        # Done to one that waits, it is nobody's loss.
        if (acted in broken_machines or (own and not acted)) and math.isfinite(within_s):
            expected.append(Expected(lease, within_s, lost=own or drill.darkens))
    if expected and survived:
        yield acts_again(history, expected)


def acts_again_within_s(design: Design, drill: Drill, lease: str) -> float:
    """How long after the fault this lease may have no holder that acts. With a machine etcd's leader may be lost."""
    worst_s = {one.fault: one.worst_s for one in budgets(design, request_interval_s=1 / RATE)}
    own = holder_dies(lease)
    if drill.budget == own:
        return worst_s[own]
    wait_s = _etcd_wait_s(design)
    return math.inf if wait_s is None else worst_s[own] + wait_s


def as_clients_reach(history: History, drill: Drill) -> History:
    """Who is cut off may think what it likes: nobody reaches it. What it holds counts again once it is healed."""
    fault = history.fault
    if not drill.isolates or fault is None:
        return history
    healed = _mended(history, history.window[1])
    held = [one for one in history.of(Observation) if one.machine == fault.machine and one.what.split(" ")[0] == VIP]
    events = [event for event in history.events if event not in held or not fault.t <= event.t < healed.t]
    for what in sorted({one.what for one in held}):
        then = [one for one in held if one.what == what and one.t < healed.t]
        last = max(then, key=lambda one: one.t).value if then else ""
        events.append(Observation(fault.t, fault.machine, what, "", fault.error))
        events.append(Observation(healed.t, fault.machine, what, last, healed.error))
    return History(tuple(events))


def _served_on_s(history: History) -> float:
    """A machine that shuts down serves on for a while; only what it ends has to be told."""
    if history.fault is None:
        return 0.0
    dark = [mark.t for mark in history.marked(POWER_OFF) if mark.machine == history.fault.machine]
    return max(dark, default=history.fault.t) - history.fault.t


def _etcd_came_back_s(history: History, within_s: float) -> float:
    """An apiserver whose etcd answers again in time serves on; when that ends once more, it has as long again."""
    fault = history.fault
    if fault is None:
        return 0.0
    ended_at, came_back = fault.t, False
    for one in history.between(fault.t, _mended(history, math.inf).t).observed(ETCD_LEADER):
        if one.machine == fault.machine and one.value:
            came_back = came_back or one.t - ended_at <= within_s
        elif one.machine == fault.machine and came_back:
            ended_at, came_back = one.t, False
    return ended_at - fault.t


def _starved_after_s(history: History) -> float:
    """Until the balancer there ends, or keepalived is in another state, all is as before: nobody has to be told."""
    fault = history.fault
    if fault is None:
        return 0.0
    meanwhile = history.between(fault.t, _mended(history, math.inf).t)
    ends = [*(one for one in meanwhile.observed(BALANCER) if one.value == GONE), *meanwhile.observed(VRRP)]
    return min((one.t for one in ends if one.machine == fault.machine), default=fault.t) - fault.t


def _sessions_end_s(design: Design) -> float:
    """Whoever only waits, on an apiserver that is lost, is told when its checks have failed."""
    found = {one.fault: one.worst_s for one in budgets(design, request_interval_s=1 / RATE)}
    worst_s = found.get("apiserver-hang", 0.0)
    return worst_s if math.isfinite(worst_s) else 0.0


def _etcd_wait_s(design: Design) -> float | None:
    """Whoever loses a machine or an apiserver may lose etcd's leader with it. An apiserver that is lost is left sooner
    than one that has only lost its etcd. None: nothing bounds it.
    """
    found = {one.fault: one for one in budgets(design, request_interval_s=1 / RATE)}
    election = found.get("etcd-leader-death")
    if election is None or not math.isfinite(election.worst_s):
        return None
    elected_s = sum(link.worst_s for link in election.links if link.name != LEAVE)
    if all(link.name != LEAVE for link in election.links):
        return elected_s
    return max(elected_s, *(link.worst_s for link in found["apiserver-hang"].links if link.name == LEAVE))


def _writes(broken: History, design: Design, drill: Drill, limit_s: float) -> Iterator[Verdict]:
    wait_s = _etcd_wait_s(design)
    if wait_s is None or not math.isfinite(limit_s):
        return
    rate = broken.header.config.write_rate if broken.header else 0.0
    longest_s = max(limit_s, wait_s) + (2 / rate if rate else 0.0)
    found = availability(
        broken,
        probe="write",
        longest_gap_s=longest_s,
        failed_at_most=math.ceil(rate * longest_s) + drill.may_fail(design, limit_s),
    )
    yield replace(found, name="writes")
