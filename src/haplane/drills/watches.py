"""Whether clients that keep themselves informed were told of all that was written, once, in order and in time. Pure.

An event is due when its write was acknowledged. What a watch could not see, because its version was too old to be
resumed from (410), it has to find in the list that it then makes.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from haplane.drills.checkers import LAG_FRACTION, SHOWN, Outcome, Verdict, incomplete
from haplane.probes.history import History, Listing, Mark, Request, Watched, Watching

NAME = "watch-sees-all"
# Fewer writes after the fault do not show that nothing is missing.
MINIMUM_WRITES = 20


class _Kind(Enum):
    """The values are how many of them are told."""

    MISSING = "never seen"
    TWICE = "seen twice"
    DISORDER = "out of order"
    LATE = "seen too late"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class _Finding:
    kind: _Kind
    text: str


@dataclass(frozen=True)
class _Watch:
    """What one watch did and saw, in that order. first: its first list."""

    number: int
    first: Listing
    lists: tuple[Listing, ...]
    attempts: tuple[Watching, ...]
    lines: tuple[Listing | Watched, ...]

    @cached_property
    def seen(self) -> tuple[Watched, ...]:
        return tuple(each for each in self.lines if isinstance(each, Watched))

    @cached_property
    def until(self) -> float:
        return max(each.ended for each in self.attempts)

    @cached_property
    def newest(self) -> int:
        return max(line.version or 0 for line in self.lines)


@dataclass(frozen=True)
class _Sight:
    """An acknowledged write that one watch had to see, and what it saw of it, if anything."""

    number: int
    write: Request
    seen: Watched | None

    @property
    def silence_s(self) -> float:
        return self.seen.t - self.write.end if self.seen else 0.0


def watch_sees_all(history: History, within_s: float) -> Verdict:
    """Held when each watch saw each acknowledged write once, in the order of versions, at the latest within this time.

    Only what was written after a watch's first list counts. Without a limit (inf) only silence is not judged.
    """
    if within_s <= 0:
        raise ValueError("the time to be told must be above 0 s")
    fault = history.fault
    reasons = _unfit(history)
    if reasons or fault is None:
        return Verdict(NAME, Outcome.UNKNOWN, "; ".join(reasons))
    watches = _watches(history)
    findings = [finding for watch in watches for finding in _order(watch)]
    sights: list[_Sight] = []
    for watch in watches:
        of_this = _sights(history, watch)
        findings += (finding for sight in of_this for finding in _judge(history, fault, watch, sight, within_s))
        sights += of_this
    after = [sight for sight in sights if sight.seen and sight.seen.t >= fault.t - fault.error]
    longest = max(after, key=lambda sight: sight.silence_s, default=None)
    silence = _silence(longest, within_s)
    wrong = [finding for finding in findings if finding.kind is not _Kind.UNCLEAR]
    evidence = (*_first([finding.text for finding in wrong]), *_shown(watches, fault, longest))
    count = len({id(sight.write) for sight in sights})
    if wrong:
        counts = Counter(finding.kind for finding in wrong)
        told = ", ".join(f"{counts[kind]} {kind.value}" for kind in _Kind if counts[kind])
        return Verdict(NAME, Outcome.VIOLATED, f"of {count} writes {told}; {silence}", evidence)
    unclear = [finding.text for finding in findings]
    if doubts := [*_too_short(history, fault, within_s), *dict.fromkeys(unclear)]:
        return Verdict(NAME, Outcome.UNKNOWN, "; ".join(doubts[:SHOWN]), evidence)
    who = "a watch" if len(watches) == 1 else f"{len(watches)} watches"
    sentence = f"{who} saw all {count} acknowledged writes, each once and in order; {silence}"
    return Verdict(NAME, Outcome.HELD, sentence, evidence)


# -- what each watch saw


def _watches(history: History) -> list[_Watch]:
    """Those that began."""
    assert history.header is not None
    found = []
    for number in range(history.header.config.watches):
        lines = [each for each in history.events if isinstance(each, Listing | Watched) and each.number == number]
        lists = tuple(each for each in lines if isinstance(each, Listing) and each.version is not None)
        attempts = tuple(each for each in history.of(Watching) if each.number == number)
        if lists and attempts:
            found.append(_Watch(number, lists[0], lists, attempts, tuple(lines)))
    return found


def _sights(history: History, watch: _Watch) -> list[_Sight]:
    assert history.header is not None
    register = _Register(watch, history.header.config.register)
    added = {each.key: each for each in reversed(watch.seen) if each.kind in ("ADDED", "LISTED")}
    found = []
    for write in (*history.requests("write"), *history.requests("set")):
        if write.ok and _is_covered(write, watch.first):
            seen = added.get(write.key) if write.probe == "write" else register.sight_of(write.version or 0)
            found.append(_Sight(watch.number, write, seen))
    return found


def _is_covered(write: Request, first: Listing) -> bool:
    """Was it made after the list from which the watch began? Without a version, only what was sent later is sure."""
    if write.version is None:
        return write.probe == "write" and write.sent_at is not None and write.sent_at > first.end
    return first.version is not None and write.version > first.version


class _Register:
    """When one watch saw each version of the register, or a later one in a list where it could not see this one."""

    def __init__(self, watch: _Watch, key: str) -> None:
        of_register = [each for each in watch.seen if each.key == key]
        self._told = {each.version: each for each in of_register}
        self._listed = sorted((each for each in of_register if each.kind == "LISTED"), key=lambda each: each.version)
        self._gaps = [(each.since or 0, each.version or 0) for each in watch.lists[1:]]

    def sight_of(self, version: int) -> Watched | None:
        if version in self._told:
            return self._told[version]
        for since, until in self._gaps:
            if since < version <= until:
                place = bisect_left(self._listed, version, key=lambda each: each.version)
                found = self._listed[place] if place < len(self._listed) else None
                return found if found and found.version <= until else None
        return None


# -- what is wrong with it


def _order(watch: _Watch) -> Iterator[_Finding]:
    """A watch is told each version once, and none that is older than what it was told before."""
    newest = 0
    told: set[tuple[str, int]] = set()
    added: set[str] = set()
    for line in watch.lines:
        if isinstance(line, Listing):
            newest = max(newest, line.version or 0)
            continue
        what = f"watch {watch.number}: {line.kind} {line.key} (version {line.version})"
        is_event = bool(line.key) and line.kind != "LISTED"
        if is_event and ((line.key, line.version) in told or (line.kind == "ADDED" and line.key in added)):
            yield _Finding(_Kind.TWICE, f"{what} a second time")
        elif line.kind != "LISTED" and (line.version < newest or (is_event and line.version == newest)):
            yield _Finding(_Kind.DISORDER, f"{what} after version {newest}")
        if line.kind in ("ADDED", "LISTED"):
            added.add(line.key)
        told.add((line.key, line.version))
        newest = max(newest, line.version)


def _judge(history: History, fault: Mark, watch: _Watch, sight: _Sight, within_s: float) -> Iterator[_Finding]:
    if sight.seen is None:
        yield from _judge_missing(history, fault, watch, sight.write, within_s)
    elif sight.silence_s > within_s * (1 - LAG_FRACTION):
        yield from _judge_silence(history, fault, sight, sight.seen, within_s)


def _judge_missing(history: History, fault: Mark, watch: _Watch, write: Request, within_s: float) -> Iterator[_Finding]:
    what = f"watch {watch.number}: {_told(write, fault)}, never seen"
    waited_s = watch.until - write.end
    if write.version is not None and write.version < watch.newest:
        yield _Finding(_Kind.MISSING, f"{what}, though version {watch.newest} was")
    elif waited_s - history.stalled_s(write.end, watch.until) > within_s:
        yield _Finding(_Kind.MISSING, f"{what} in {waited_s:.1f} s")
    else:
        doubt = f"a watch ended {max(0.0, waited_s):.1f} s after a write that it had not seen yet"
        yield _Finding(_Kind.UNCLEAR, doubt)


def _judge_silence(history: History, fault: Mark, sight: _Sight, seen: Watched, within_s: float) -> Iterator[_Finding]:
    """A stall may have made the answer or the event look late, by its length at most."""
    silence_s = sight.silence_s
    lag_s = history.stalled_s(sight.write.end, seen.t)
    if seen.t < fault.t - fault.error:
        if silence_s > within_s:
            yield _Finding(_Kind.UNCLEAR, f"a silence of {silence_s:.2f} s was over before the fault")
    elif silence_s - lag_s > within_s:
        what = f"watch {sight.number}: {_told(sight.write, fault)}"
        yield _Finding(_Kind.LATE, f"{what}, seen {seen.t - fault.t:+.3f} s")
    elif silence_s > within_s or (lag_s > within_s * LAG_FRACTION and silence_s + lag_s > within_s):
        doubt = f"the prober stood still for {lag_s:.3f} s in a silence of {silence_s:.3f} s"
        yield _Finding(_Kind.UNCLEAR, doubt)


# -- what can be judged


def _unfit(history: History) -> list[str]:
    """Why this history allows no verdict at all."""
    header, end, fault = history.header, history.end, history.fault
    reasons = incomplete(history)
    if header is None or end is None:
        return reasons
    asked = header.config.watches
    if not asked:
        return [*reasons, "the watch probe was not asked to run"]
    if fault is None:
        return [*reasons, "no fault is marked"]
    if not header.start <= fault.t <= end.t:
        reasons.append("the fault is marked at a time when the prober did not run")
    since = fault.t - fault.error
    begun = sum(any(_opened(each) < since for each in watch.attempts) for watch in _watches(history))
    if begun < asked:
        reasons.append(f"{begun} of {asked} watches had begun when the fault came")
    after = sum(each.ok and each.end > since for each in (*history.requests("write"), *history.requests("set")))
    if after < MINIMUM_WRITES:
        reasons.append(f"too few writes after the fault: {after} acknowledged, at least {MINIMUM_WRITES} needed")
    if own := sorted({each.kind for each in history.of(Watching) if each.kind.startswith("prober-")}):
        reasons.append(f"the prober itself was in trouble ({', '.join(own)})")
    return reasons


def _too_short(history: History, fault: Mark, within_s: float) -> list[str]:
    assert history.end is not None
    watched_s = history.end.t - fault.t - fault.error
    needed = math.isfinite(within_s) and watched_s < within_s
    return [f"watched for {watched_s:.1f} s after the fault, {within_s:.3g} s are needed"] if needed else []


# -- what is shown; times are from the fault


def _silence(longest: _Sight | None, within_s: float) -> str:
    limit = f" (at most {within_s:.3g} s)" if math.isfinite(within_s) else ""
    length_s = max(0.0, longest.silence_s) if longest else 0.0
    return f"the longest silence after the fault was {length_s:.2f} s{limit}"


def _told(write: Request, fault: Mark) -> str:
    what = write.key if write.probe == "write" else f"register set to {write.value}"
    return f"{what}, acknowledged {write.end - fault.t:+.3f} s"


def _shown(watches: Sequence[_Watch], fault: Mark, longest: _Sight | None) -> Iterator[str]:
    if longest is not None and longest.seen is not None:
        told = f"watch {longest.number}: {_told(longest.write, fault)}, seen {longest.seen.t - fault.t:+.3f} s"
        yield f"longest silence: {told}"
    yield from _first([line for watch in watches for line in _reconnects(watch, fault)])


def _reconnects(watch: _Watch, fault: Mark) -> Iterator[str]:
    """How each stream ended after the fault, and how it went on."""
    name = f"watch {watch.number}"
    granted = [each for each in watch.attempts if each.opened is not None]
    for earlier, later in itertools.pairwise(granted):
        if earlier.ended < fault.t - fault.error:
            continue
        tries = sum(earlier.ended <= each.t <= later.t for each in watch.attempts)
        again = "listed again and " if any(earlier.ended <= each.t <= later.t for each in watch.lists) else ""
        how = f"{again}resumed from {later.since} at the {_ordinal(tries)} attempt"
        ended = f"ended ({earlier.kind}) {earlier.ended - fault.t:+.3f} s"
        yield f"{name}: {ended}, {how} {_opened(later) - fault.t:+.3f} s"


def _opened(attempt: Watching) -> float:
    return math.inf if attempt.opened is None else attempt.opened


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def _first(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"and {len(lines) - SHOWN} more"
