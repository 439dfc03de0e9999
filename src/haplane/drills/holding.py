"""Who held something when, from what observers saw: the VIP, or etcd's leadership. Pure.

Clocks are known with an error and a change may be seen late, so each end of a hold is an earliest and a latest time.
What a machine does while nobody watches it is not known; what it does without power, or frozen, is: nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from haplane.probes.history import POWER_ON, WHOLE, History, Mark, Observation
from haplane.probes.observer import OBSERVER, WATCHING

# Marks after which a machine does nothing: what it held, nobody holds. One that was frozen holds it again later.
POWER_OFF, FREEZE = "power-off", "freeze"
# A machine that is heard of once a second was watched until it lost its power so soon after.
HEARD_S = 3.0
# Observers are stopped one after another.
UNWATCHED_S = 0.5


@dataclass(frozen=True)
class Moment:
    """t: the best guess."""

    t: float
    earliest: float
    latest: float

    @classmethod
    def of(cls, event: Mark | Observation) -> Moment:
        return cls(event.t, event.t - event.error, event.t + event.error)

    @classmethod
    def between(cls, earlier: Moment, later: Moment) -> Moment:
        """Some time after the one and before the other."""
        earliest = min(earlier.earliest, later.latest)
        return cls((earliest + later.latest) / 2, earliest, later.latest)


NEVER = Moment(math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class Hold:
    """resumed: by a machine that had it before it was frozen, or before it was not watched for a while."""

    machine: str
    start: Moment
    end: Moment
    resumed: bool = False


@dataclass(frozen=True)
class Overlap:
    """For how long two machines held it at once: at least, most likely, at most. start: most likely."""

    machines: tuple[str, str]
    start: float
    least_s: float
    length_s: float
    most_s: float


@dataclass(frozen=True)
class Unwatched:
    """A time in which nobody looked at a machine that may have done something. end is infinite when it never ended."""

    machine: str
    start: float
    end: float


@dataclass(frozen=True)
class Holding:
    """watched: since when each machine was. holds: by start. contradictions: what cannot be, as sentences."""

    watched: dict[str, float]
    holds: tuple[Hold, ...]
    unwatched: tuple[Unwatched, ...]
    contradictions: tuple[str, ...]

    def overlaps(self, until: float) -> tuple[Overlap, ...]:
        """All that there may have been until then, the longest first."""
        pairs = itertools.combinations(self.holds, 2)
        found = [_overlap(one, other, until) for one, other in pairs if one.machine != other.machine]
        return tuple(sorted((each for each in found if each.most_s > 0), key=lambda each: -each.length_s))


def holding(history: History, what: str, is_held: Callable[[str], bool]) -> Holding:
    """Who held it, when, from the observations of this kind. is_held: of their value.

    A machine that gets its power back holds nothing until it is seen to hold.
    """
    seen = [each for each in history.of(Observation) if each.what in (what, OBSERVER)]
    machines = [_Machine(name) for name in sorted({each.machine for each in seen})]
    for machine in machines:
        marks = [mark for mark in history.marks if mark.machine == machine.name and mark.what != WHOLE]
        machine.read(marks, [each for each in seen if each.machine == machine.name], is_held)
    return Holding(
        {one.name: one.first.t for one in machines if one.first},
        tuple(sorted((hold for one in machines for hold in one.holds), key=lambda hold: hold.start.t)),
        tuple(each for one in machines for each in one.unwatched),
        tuple(each for one in machines for each in one.contradictions),
    )


class _Machine:
    """One machine, while its events are read in their order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.holds: list[Hold] = []
        self.unwatched: list[Unwatched] = []
        self.contradictions: list[str] = []
        self.first: Moment | None = None
        self._start: Moment | None = None  # of the hold that goes on
        self._resumed = False
        self._off: Moment | None = None
        self._frozen: Moment | None = None
        self._had_it = False  # when it was frozen
        self._dropped: Moment | None = None  # when a frozen one was seen to let go: it had woken up by then
        self._unseen: Moment | None = None  # since when it is not watched
        self._unsure: Moment | None = None  # since when what is seen next may be so

    def read(self, marks: list[Mark], seen: Iterable[Observation], is_held: Callable[[str], bool]) -> None:
        events: list[Mark | Observation] = [*marks, *seen]
        for event in sorted(events, key=lambda each: each.t):
            at = Moment.of(event)
            if isinstance(event, Mark):
                self._mark(event.what, at)
            elif event.what == OBSERVER:
                self._watch(at, watching=event.value == WATCHING)
            else:
                self._see(at, held=is_held(event.value))
        lost = self._unseen
        if lost and not self._off:
            self.unwatched.append(Unwatched(self.name, lost.t, math.inf))
        self._end(Moment(lost.t, lost.earliest, math.inf) if lost else NEVER)

    def _begin(self, start: Moment, *, resumed: bool = False) -> None:
        if self._start is None:
            self._start, self._resumed = start, resumed

    def _end(self, end: Moment) -> None:
        if self._start is not None:
            self.holds.append(Hold(self.name, self._start, end, self._resumed))
            self._start = None

    def _mark(self, what: str, at: Moment) -> None:
        if what in (POWER_OFF, FREEZE):
            self._stop(at, is_off=what == POWER_OFF)
        elif what == POWER_ON and self._off:
            self._off, self._unsure = None, at
            # Nobody watches it until an observer is started there again.
            self._unseen = at
        elif self._frozen:
            self._wake(at)

    def _stop(self, at: Moment, *, is_off: bool) -> None:
        if self._unseen and at.t - self._unseen.t > HEARD_S:
            self.unwatched.append(Unwatched(self.name, self._unseen.t, at.t))
            at = Moment.between(self._unseen, at)
        self._had_it = self._start is not None
        self._end(at)
        self._off, self._frozen, self._dropped = (at, None, None) if is_off else (None, at, None)

    def _wake(self, at: Moment) -> None:
        self._frozen = None
        if self._had_it and self._dropped is None:
            self._begin(at, resumed=True)
        elif self._dropped and self._dropped.latest >= at.earliest:
            self.holds.append(Hold(self.name, at, self._dropped, resumed=True))
        if self._unseen:
            self._unseen = at

    def _watch(self, at: Moment, *, watching: bool) -> None:
        if not watching:
            if not self._off:
                self._unseen = at
            return
        self.first = self.first or at
        if not self._unseen:
            return
        # One that has its power back is not blamed for booting: see `holding`.
        if not self._unsure and at.t - self._unseen.t > UNWATCHED_S:
            self.unwatched.append(Unwatched(self.name, self._unseen.t, at.t))
        self._unsure, self._unseen = self._unsure or self._unseen, None

    def _see(self, at: Moment, *, held: bool) -> None:
        self.first = self.first or at
        if asleep := self._off or self._frozen:
            if held and at.earliest > asleep.latest:
                self.contradictions.append(f"{self.name} was seen to hold it after it had been stopped")
            elif self._frozen and not held and self._had_it:
                self._dropped = at
            return
        if self._unsure:
            since, self._unsure = self._unsure, None
            moment = Moment.between(since, at)
            if self._start is not None:
                # Whether it had it all the time is not known.
                self._end(moment)
                if held:
                    self._begin(moment, resumed=True)
                return
            at = moment
        if held:
            self._begin(at)
        else:
            self._end(at)


def _overlap(one: Hold, other: Hold, until: float) -> Overlap:
    start = max(one.start.t, other.start.t)
    latest_start, earliest_start = (
        max(one.start.latest, other.start.latest),
        max(one.start.earliest, other.start.earliest),
    )
    return Overlap(
        (one.machine, other.machine),
        start,
        min(one.end.earliest, other.end.earliest, until) - latest_start,
        min(one.end.t, other.end.t, until) - start,
        min(one.end.latest, other.end.latest, until) - earliest_start,
    )
