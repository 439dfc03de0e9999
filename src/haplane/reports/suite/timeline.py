"""What one run looked like over time, ready to be drawn: for SVG and for PNG. Pure.

All times are seconds from the fault; without a fault, from the start of the requests.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from haplane.drills.checkers import LATE_AFTER_S
from haplane.drills.holding import POWER_OFF
from haplane.drills.judging import DRILL
from haplane.probes.history import (
    NO_FAULT,
    History,
    Mark,
    Observation,
    Request,
    RequestOutcome,
    Watching,
)
from haplane.probes.observer import OBSERVER
from haplane.reports.drill import AT_LEAST_S, BEFORE_S, Run

# A whole run that is only so much longer than the time around its fault needs no second picture.
SAME_PICTURE = 1.6

# What is watched most comes first; what nobody thought of follows by name.
_ABOUT_THE_RUN = frozenset({DRILL, OBSERVER})
_ORDER = ("vip", "vrrp", "balancer", "server", "etcd-leader")


class State(StrEnum):
    """What became of a request; the values are how it is called on the page."""

    SERVED = "served"
    LATE = "late"
    NOT_SERVED = "not served"
    NO_ANSWER = "no answer in time"


@dataclass(frozen=True)
class Asked:
    """A request: when it was due, and when its outcome was known."""

    due_s: float
    end_s: float
    state: State


@dataclass(frozen=True)
class Silence:
    """The longest time without an answer."""

    start_s: float
    length_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.length_s


@dataclass(frozen=True)
class ProbeRow:
    name: str
    asked: tuple[Asked, ...]
    silences: tuple[Silence, ...]

    def how_many(self, *states: State) -> int:
        return sum(each.state in states for each in self.asked)


@dataclass(frozen=True)
class Seen:
    """A value for as long as nothing else was observed. is_old: the machine was broken since, nobody looked again."""

    start_s: float
    end_s: float
    value: str
    is_old: bool = False


@dataclass(frozen=True)
class ObservedRow:
    what: str
    machine: str
    seen: tuple[Seen, ...]


@dataclass(frozen=True)
class Moment:
    """What the drill did."""

    at_s: float
    text: str
    heals: bool


@dataclass(frozen=True)
class Timeline:
    start_s: float
    end_s: float
    has_fault: bool
    probes: tuple[ProbeRow, ...]
    observed: tuple[ObservedRow, ...]
    moments: tuple[Moment, ...]

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True)
class View:
    title: str
    timeline: Timeline


def views(run: Run) -> tuple[View, ...]:
    """Around the fault; around the return of the machine where that was felt; and all of it."""
    every = whole(run)
    if not every.has_fault:
        return (View("The whole run", every),)
    zero = _zero(run.history)
    gap_end_s = run.outage.gap_started + run.outage.longest_gap_s - zero
    around = part(every, -BEFORE_S, max(AT_LEAST_S, gap_end_s + 1.0))
    if every.length_s <= around.length_s * SAME_PICTURE:
        return (View("The whole run", every),)
    found = [View("Around the fault", around)]
    if run.returned and _was_felt(run):
        back_s = (run.returned.fault_at or run.returned.gap_started) - zero
        found.append(View("Around the return", part(every, back_s - BEFORE_S, back_s + AT_LEAST_S)))
    return (*found, View("The whole run", every))


def _was_felt(run: Run) -> bool:
    return bool(run.returned and (run.returned.not_served or run.returned.late))


def whole(run: Run) -> Timeline:
    history, zero = run.history, _zero(run.history)
    marked = [mark.t for mark in history.marks]
    start, end = min((history.window[0], *marked)), max((history.window[1], *marked))
    return Timeline(
        start_s=start - zero,
        end_s=max(end - zero, start - zero + 1e-3),
        has_fault=history.fault is not None,
        probes=tuple(_probe_row(run, name, requests, zero) for name, requests in history.by_probe.items()),
        observed=(*_observed_rows(history, zero, end), *_watch_rows(history, zero)),
        moments=tuple(_moment(mark, zero) for mark in history.marks),
    )


def part(timeline: Timeline, start_s: float, end_s: float) -> Timeline:
    """What lies in this time; rows that are empty there are left out, except those of probes."""
    start_s, end_s = max(start_s, timeline.start_s), min(end_s, timeline.end_s)
    observed = (
        replace(row, seen=tuple(each for each in row.seen if each.end_s > start_s and each.start_s < end_s))
        for row in timeline.observed
    )
    return replace(
        timeline,
        start_s=start_s,
        end_s=end_s,
        probes=tuple(
            ProbeRow(
                row.name,
                tuple(each for each in row.asked if start_s <= each.due_s < end_s),
                tuple(each for each in row.silences if each.end_s > start_s and each.start_s < end_s),
            )
            for row in timeline.probes
        ),
        observed=tuple(row for row in observed if row.seen),
        moments=tuple(each for each in timeline.moments if start_s <= each.at_s <= end_s),
    )


def _zero(history: History) -> float:
    return history.window[0] if history.fault is None else history.fault.t


def _moment(mark: Mark, zero: float) -> Moment:
    return Moment(mark.t - zero, f"{mark.what} {mark.machine}".strip(), mark.what in NO_FAULT)


# -- probes


def _probe_row(run: Run, name: str, requests: Sequence[Request], zero: float) -> ProbeRow:
    asked = tuple(Asked(each.t - zero, each.end - zero, _state(each)) for each in requests)
    return ProbeRow(name, asked, tuple(_silences(run, name, requests, zero)))


def _state(request: Request) -> State:
    if request.ok:
        return State.LATE if request.latency_s > LATE_AFTER_S else State.SERVED
    return State.NOT_SERVED if request.outcome is RequestOutcome.FAILED else State.NO_ANSWER


def _silences(run: Run, name: str, requests: Sequence[Request], zero: float) -> Iterable[Silence]:
    """Of the probe that is judged: those that were judged. Of others: the longest, if anything was not served."""
    if name == run.outage.probe:
        yield Silence(run.outage.gap_started - zero, run.outage.longest_gap_s)
        if run.returned and _was_felt(run):
            yield Silence(run.returned.gap_started - zero, run.returned.longest_gap_s)
    elif any(_state(each) is not State.SERVED for each in requests):
        start, end = run.history.window
        done = sorted(each.end for each in requests if each.ok and start <= each.end <= end)
        pairs = itertools.pairwise([start, *done, end])
        longest = max(pairs, key=lambda pair: pair[1] - pair[0])
        yield Silence(longest[0] - zero, longest[1] - longest[0])


# -- observers


def _observed_rows(history: History, zero: float, end: float) -> Iterable[ObservedRow]:
    groups: dict[tuple[str, str], list[Observation]] = {}
    for each in sorted(history.of(Observation), key=lambda one: one.t):
        if each.what not in _ABOUT_THE_RUN:
            groups.setdefault((each.what, each.machine), []).append(each)
    for what, machine in sorted(groups, key=_place):
        # A machine without power says nothing more; of any other what was said last still holds.
        broken = [mark.t for mark in history.marked(POWER_OFF) if mark.machine == machine]
        seen = _merged(_seen(groups[what, machine], broken, end))
        yield ObservedRow(
            what, machine, tuple(replace(each, start_s=each.start_s - zero, end_s=each.end_s - zero) for each in seen)
        )


def _watch_rows(history: History, zero: float) -> Iterable[ObservedRow]:
    """When each watch of the prober was open, and for how long it was not."""
    for number in sorted({each.number for each in history.of(Watching)}):
        seen: list[Seen] = []
        for each in history.of(Watching):
            if each.number != number or each.opened is None:
                continue
            if seen:
                seen.append(Seen(seen[-1].end_s, each.opened - zero, ""))
            seen.append(Seen(each.opened - zero, each.ended - zero, "open"))
        if seen:
            yield ObservedRow(f"watch {number}", "client", tuple(seen))


def _place(group: tuple[str, str]) -> tuple[int, str, str]:
    what, machine = group
    kind = what.partition(" ")[0]
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), what, machine)


def _seen(observations: Sequence[Observation], broken: Sequence[float], end: float) -> Iterable[Seen]:
    """Each until the next one, the last until the end. After the machine was broken it is only the last known."""
    ends = [*(each.t for each in observations[1:]), max(end, observations[-1].t)]
    for each, until in zip(observations, ends, strict=True):
        since = next((t for t in broken if each.t < t < until), None)
        if since is None:
            yield Seen(each.t, until, each.value)
        else:
            yield Seen(each.t, since, each.value)
            yield Seen(since, until, each.value, is_old=True)


def _merged(segments: Iterable[Seen]) -> list[Seen]:
    """An observer that says the same again and again is one bar."""
    found: list[Seen] = []
    for each in segments:
        if found and (found[-1].value, found[-1].is_old) == (each.value, each.is_old):
            found[-1] = replace(found[-1], end_s=each.end_s)
        else:
            found.append(each)
    return found
