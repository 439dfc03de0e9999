"""Whether one ConfigMap, set and read by many, behaves as one register. Pure.

All times are of one clock and one process, which notes that it sends before it sends, and an answer after it came. A
stall of the prober makes operations look longer than they were: it may hide a contradiction and never makes one up.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from haplane.drills.checkers import MINIMUM_ASKED, SHOWN, Outcome, Verdict, incomplete
from haplane.probes.history import History, Request, RequestOutcome

NEVER_BACK = "reads-never-go-back"
LINEARIZABLE = "register-linearizable"
# Fewer reads do not show much.
MINIMUM_READS = 20


def reads_never_go_back(history: History) -> Verdict:
    """Held when no read has a smaller version than what was known before it was sent.

    That is every read that had ended, and every acknowledged write. A register that is not there is older than all.
    """
    if reasons := _unfit(history):
        return Verdict(NEVER_BACK, Outcome.UNKNOWN, "; ".join(reasons))
    reads, writes = _served(history, "get"), _served(history, "set")
    known = sorted((each for each in (*reads, *writes) if each.version is not None), key=lambda each: each.end)
    back: list[tuple[Request, Request]] = []
    newest: Request | None = None
    following = iter(known)
    after = next(following, None)
    for read in sorted(reads, key=_sent):
        while after is not None and after.end < _sent(read):
            newest = after if newest is None or _version(after) > _version(newest) else newest
            after = next(following, None)
        if newest is not None and _version(read) < _version(newest):
            back.append((newest, read))
    if back:
        sentence = f"{len(back)} of {len(reads)} reads are older than what was known when they were sent"
        return Verdict(NEVER_BACK, Outcome.VIOLATED, sentence, tuple(_shown_back(history, back)))
    if doubts := _doubts(history, reads, writes):
        return Verdict(NEVER_BACK, Outcome.UNKNOWN, "; ".join(doubts))
    sentence = f"none of {len(reads)} reads is older than one before it, nor than one of {len(writes)} writes"
    return Verdict(NEVER_BACK, Outcome.HELD, sentence)


def register_linearizable(history: History) -> Verdict:
    """Held when all reads and writes fit into one order that agrees with the times at which they were under way.

    An indeterminate write took effect at any time after it was sent, or never; one that failed never did. As no value
    is written twice, each read names its write, and the question is decided in n log n (Gibbons and Korach, Testing
    Shared Memories, 1997).
    """
    sets, reads = history.requests("set"), _served(history, "get")
    reasons = _unfit(history)
    if len({each.value for each in sets}) < len(sets):
        reasons.append("two writes have the same value")
    if reasons:
        return Verdict(LINEARIZABLE, Outcome.UNKNOWN, "; ".join(reasons))
    zero = _zero(history)
    if impossible := list(_impossible(sets, reads, zero)):
        sentence = f"{len(impossible)} of {len(reads)} reads returned what cannot have been there"
        return Verdict(LINEARIZABLE, Outcome.VIOLATED, sentence, tuple(_first(impossible)))
    if found := contradiction(clusters(sets, reads)):
        one, other = found
        sentence = f"no order explains what was read: {one.name} is older than {other.name}, and newer as well"
        evidence = (*one.is_older_than(other, zero), *other.is_older_than(one, zero))
        return Verdict(LINEARIZABLE, Outcome.VIOLATED, sentence, evidence)
    writes = _served(history, "set")
    if doubts := _doubts(history, reads, writes):
        return Verdict(LINEARIZABLE, Outcome.UNKNOWN, "; ".join(doubts))
    sentence = f"{len(reads)} reads and {len(writes)} writes fit into one order"
    if open_ended := [each for each in sets if each.outcome is RequestOutcome.INDETERMINATE]:
        values = {read.value for read in reads}
        seen = sum(each.value in values for each in open_ended)
        sentence += f", and {seen} of {len(open_ended)} indeterminate writes that were read"
    return Verdict(LINEARIZABLE, Outcome.HELD, sentence)


# -- the order


@dataclass(frozen=True)
class Operation:
    """One read or write, which took effect between start and end. request: None for the beginning of time."""

    start: float
    end: float
    request: Request | None = None


@dataclass(frozen=True)
class Cluster:
    """A write and all reads of its value. In an order they follow each other, with nothing else between them.

    value: None for what was there before all writes. first: which of them ended first. last: which began last.
    """

    value: int | None
    first: Operation
    last: Operation

    @property
    def name(self) -> str:
        return "no register" if self.value is None else str(self.value)

    def precedes(self, other: Cluster) -> bool:
        """Must all of this one come before all of the other?"""
        return self.first.end < other.last.start

    def is_older_than(self, other: Cluster, zero: float) -> Iterator[str]:
        yield f"{self.name} is older than {other.name}: one ended before the other began"
        yield from (f"  {_told(each.request, zero)}" for each in (self.first, other.last))


def clusters(sets: Sequence[Request], reads: Sequence[Request]) -> list[Cluster]:
    """Each value that was read must have been written. A write that nobody read and that may never end is no bar."""
    read: Mapping[int | None, list[Operation]] = defaultdict(list)
    for each in reads:
        read[each.value].append(Operation(_sent(each), each.end, each))
    writes: dict[int | None, Operation] = {None: Operation(-math.inf, -math.inf)}
    for each in sets:
        if each.outcome is not RequestOutcome.FAILED:
            writes[each.value] = Operation(_sent(each), each.end if each.ok else math.inf, each)
    return [_cluster(value, [write, *read.get(value, [])]) for value, write in writes.items()]


def _cluster(value: int | None, members: Sequence[Operation]) -> Cluster:
    first = min(members, key=lambda each: each.end)
    return Cluster(value, first, max(members, key=lambda each: each.start))


def contradiction(found: Sequence[Cluster]) -> tuple[Cluster, Cluster] | None:
    """Two of which each must come before the other. There is no order exactly when there are two such.

    A longer circle always holds a circle of two: if A must precede B, B must precede C, and neither pair is a circle
    of its own, then A ends first before C does; so the first ends would grow around the circle and come back.
    """
    ordered = sorted(found, key=lambda each: each.first.end)
    ends = [each.first.end for each in ordered]
    latest: list[Cluster] = []  # of those up to here, the one whose last operation began last
    for each in ordered:
        latest.append(each if not latest or each.last.start > latest[-1].last.start else latest[-1])
    for place, each in enumerate(ordered):
        before = min(place, bisect_left(ends, each.last.start))
        if before and each.precedes(latest[before - 1]):
            return each, latest[before - 1]
    return None


def _impossible(sets: Sequence[Request], reads: Sequence[Request], zero: float) -> Iterator[str]:
    """Reads of a value that was never written, or not yet."""
    by_value = {each.value: each for each in sets}
    for read in reads:
        if read.value is None:
            continue
        write = by_value.get(read.value)
        if write is None:
            yield f"{_told(read, zero)}: it was never written"
        elif write.outcome is RequestOutcome.FAILED:
            how = "never sent" if write.sent_at is None else "refused"
            yield f"{_told(read, zero)}: its write was {how} ({write.kind})"
        elif read.end < _sent(write):
            yield f"{_told(read, zero)}: its write was sent only {_sent(write) - zero:+.3f} s"


# -- what can be judged


def _unfit(history: History) -> list[str]:
    """Why this history allows no verdict at all."""
    reasons = incomplete(history)
    if history.header is not None and not history.header.config.register_rate:
        reasons.append("the register was not asked to run")
    return reasons


def _doubts(history: History, reads: Sequence[Request], writes: Sequence[Request]) -> Iterable[str]:
    """Why nothing can be held, though nothing is violated."""
    header, end, fault = history.header, history.end, history.fault
    assert header is not None and end is not None
    doubts = []
    expected = header.config.get_rate * (end.t - header.start)
    if (asked := len(history.requests("get"))) < expected * MINIMUM_ASKED:
        doubts.append(f"too few reads: {asked}, expected {expected:.0f}")
    if len(reads) < MINIMUM_READS:
        doubts.append(f"too few reads were served: {len(reads)}, at least {MINIMUM_READS} needed")
    elif fault and (after := sum(_sent(each) > fault.t - fault.error for each in reads)) < MINIMUM_READS:
        doubts.append(f"too few reads were served after the fault: {after}, at least {MINIMUM_READS} needed")
    if not writes:
        doubts.append("no write was acknowledged")
    own = Counter(each.kind for each in (*history.requests("set"), *history.requests("get")))
    if trouble := [f"{count} {kind}" for kind, count in own.most_common() if kind.startswith("prober-")]:
        doubts.append(f"the prober itself was in trouble ({', '.join(trouble)})")
    worst_s = history.stalled_s(header.start, end.t)
    if worst_s > header.config.timeout_s / 2:
        doubts.append(f"the prober stood still for {worst_s:.3f} s")
    return doubts


def _served(history: History, probe: str) -> list[Request]:
    return [each for each in history.requests(probe) if each.ok]


def _sent(request: Request) -> float:
    return request.t if request.sent_at is None else request.sent_at


def _version(request: Request) -> int:
    return request.version or 0


# -- what is shown


def _zero(history: History) -> float:
    return history.fault.t if history.fault else history.window[0]


def _told(request: Request | None, zero: float) -> str:
    """Times are from the fault."""
    if request is None:
        return "at the beginning there was no register"
    what = "written" if request.probe == "set" else "read"
    value = "no register" if request.value is None else str(request.value)
    version = "" if request.version is None else f" (version {request.version})"
    how = "" if request.ok else f", {request.outcome} ({request.kind})"
    return f"{value}{version} {what}, sent {_sent(request) - zero:+.3f} s, ended {request.end - zero:+.3f} s{how}"


def _shown_back(history: History, back: Sequence[tuple[Request, Request]]) -> Iterator[str]:
    zero = _zero(history)
    yield from _first([f"{_told(newest, zero)}; then {_told(read, zero)}" for newest, read in back])


def _first(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"and {len(lines) - SHOWN} more"
