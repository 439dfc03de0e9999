"""Whether one controller at a time acted, by lease, and whether one acted soon enough after a fault. Pure.

A lease was as it was read at some time between the question and the answer, on the prober's clock. No other clock
counts: the times inside a lease are of its holder's machine, and only their differences are used.

A holder is taken to do what client-go's leader election does: it acts from when the lease has its name until `acts_s`
after its last renewal. That a process which stood still acts once more before it looks, no lease can prevent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from haplane.drills.checkers import Outcome, Verdict, incomplete
from haplane.probes.history import GivenBack, History, LeaseSeen, Mark

ONE_ACTS, ACTS_AGAIN = "one-controller-acts", "acts-again"
# So long at the end, or before the fault, a lease may be unread: a reading has 3 s to be answered.
UNREAD_S = 5.0
# The times in a lease are whole microseconds, read as floats.
SAME_S = 2e-6


@dataclass(frozen=True)
class Terms:
    """What the holder of a lease may do.

    acts_s: how long after its last renewal it may act. gives_back: stopped in good order it gives the lease back, and
    the next one need not wait.
    """

    lease: str
    acts_s: float
    gives_back: bool


@dataclass(frozen=True)
class Expected:
    """Somebody has to act so soon after the fault. lost: whoever acted then does not any more."""

    lease: str
    within_s: float
    lost: bool


@dataclass
class _Found:
    violations: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)

    def verdict(self, name: str) -> Verdict:
        if self.violations:
            return Verdict(name, Outcome.VIOLATED, "; ".join(self.violations), tuple(self.evidence))
        if self.doubts:
            return Verdict(name, Outcome.UNKNOWN, "; ".join(dict.fromkeys(self.doubts)), tuple(self.evidence))
        return Verdict(name, Outcome.HELD, "; ".join(self.said), tuple(self.evidence))


def acting(history: History, lease: str) -> str:
    """The machine that held it before the fault; empty where that was not seen."""
    before = _before_the_fault(history, _read(history, lease))
    return _machine(before.holder) if before else ""


def one_controller_acts(history: History, terms: Iterable[Terms]) -> Verdict:
    """Held when no two holders of a lease can have acted at once, and the lease itself says nothing impossible."""
    found = _Found(doubts=_unfit(history))
    for each in terms:
        reads = _read(history, each.lease)
        found.doubts += _unread(history, each.lease, reads)
        for number, (earlier, later) in enumerate(itertools.pairwise(reads)):
            _weigh_record(history, earlier, later, found)
            if earlier.holder and later.holder and earlier.holder != later.holder:
                _weigh_change(history, each, reads, number, found)
        holders = (_machine(read.holder) for read in reads)
        names = [name for name, _ in itertools.groupby(holders) if name]
        found.said.append(f"{each.lease}: {', then '.join(names)}")
    return found.verdict(ONE_ACTS)


def acts_again(history: History, expected: Iterable[Expected]) -> Verdict:
    """Held when each lease was acquired, or renewed by a holder that was not lost, within its time after the fault."""
    found, fault = _Found(doubts=_unfit(history)), history.fault
    if fault is None:
        return found.verdict(ACTS_AGAIN)
    for each in expected:
        reads = _read(history, each.lease)
        before = _before_the_fault(history, reads)
        if before is None or not before.holder:
            found.doubts.append(f"{each.lease}: it was not seen who acted before the fault")
            continue
        number = _another(reads, before) if each.lost else _renewal_since(fault, reads)
        _weigh_time(fault, each, reads, number, found)
    return found.verdict(ACTS_AGAIN)


# -- what was read


def _read(history: History, lease: str) -> list[LeaseSeen]:
    """What the lease said, in an order that is certain: each was asked for when the one before was answered."""
    answered = [each for each in history.of(LeaseSeen) if each.name == lease and not each.kind]
    found: list[LeaseSeen] = []
    for each in sorted(answered, key=lambda one: one.end):
        if not found or _asked(each) >= found[-1].end:
            found.append(each)
    return found


def _asked(read: LeaseSeen) -> float:
    return read.t if read.sent_at is None else read.sent_at


def _machine(holder: str) -> str:
    """A holder calls itself MACHINE_UUID, with another UUID whenever it is started."""
    return holder.rpartition("_")[0] or holder


def _before_the_fault(history: History, reads: Sequence[LeaseSeen]) -> LeaseSeen | None:
    """The last that was certainly read before the fault, unless that is long ago."""
    fault = history.fault
    since = fault.t - fault.error if fault else 0.0
    before = [read for read in reads if since - UNREAD_S <= read.end <= since]
    return before[-1] if before else None


def _unfit(history: History) -> list[str]:
    """Why this history allows no verdict at all."""
    reasons, header, end, fault = incomplete(history), history.header, history.end, history.fault
    if header is None or end is None:
        return reasons
    if not header.config.lease_rate:
        return [*reasons, "the lease probe was not asked to run"]
    if fault is None:
        return [*reasons, "no fault is marked"]
    if not header.start <= fault.t <= end.t:
        reasons.append("the fault is marked at a time when the prober did not run")
    return reasons


def _unread(history: History, lease: str, reads: Sequence[LeaseSeen]) -> Iterator[str]:
    """Who acted is not known where nobody read it. In between it is: whoever had taken it would have been counted."""
    if not reads:
        kinds = sorted({each.kind for each in history.of(LeaseSeen) if each.name == lease})
        yield f"{lease} was never read" + (f" ({', '.join(kinds)})" if kinds else "")
        return
    if _before_the_fault(history, reads) is None:
        yield f"{lease} was not read before the fault"
    if history.end and reads[-1].end < history.end.t - UNREAD_S:
        yield f"{lease} was not read in the last {history.end.t - reads[-1].end:.1f} s"


# -- one at a time


def _weigh_record(history: History, earlier: LeaseSeen, later: LeaseSeen, found: _Found) -> None:
    """Nothing in a lease goes back, and each change of its holder is counted once."""
    lease, counted = earlier.name, later.transitions - earlier.transitions
    at = _at(history, later)
    if counted < 0:
        what = f"its count of changes went back from {earlier.transitions} to {later.transitions}"
        found.violations.append(f"{lease}: {what} {at}")
    elif later.holder == earlier.holder:
        if counted and later.holder:
            what = f"{counted} changes of its holder were counted, and it is {_machine(later.holder)} as before"
            found.violations.append(f"{lease}: {what} {at}")
        if later.renewed < earlier.renewed - SAME_S:
            what = f"its time of renewal went back by {earlier.renewed - later.renewed:.3f} s"
            found.violations.append(f"{lease}: {what} {at}")
    elif later.holder and counted == 0:
        found.violations.append(f"{lease}: it came to {_machine(later.holder)}, and no change was counted {at}")
    elif later.holder and counted > 1:
        if _next_in_turn(history, earlier, later):
            found.violations.append(f"{lease}: {counted} changes of its holder were counted at once {at}")
        else:
            found.doubts.append(f"{lease} changed hands {counted} times while nobody read it {at}")


def _next_in_turn(history: History, earlier: LeaseSeen, later: LeaseSeen) -> bool:
    """Whether no reading is missing between them."""
    rate = history.header.config.lease_rate if history.header else 0.0
    return bool(rate) and later.t - earlier.t < 1.5 / rate


def _weigh_change(history: History, terms: Terms, reads: Sequence[LeaseSeen], number: int, found: _Found) -> None:
    """From reads[number] to the next the lease came from one holder to another without being given back.

    The earlier one was silent from its last renewal until the later one had the lease. If it was silent for so long
    that it had given up, it did not renew it between the two readings either.
    """
    earlier, later = reads[number], reads[number + 1]
    same = list(itertools.takewhile(lambda one: one.holder == earlier.holder, reversed(reads[: number + 1])))
    first = [one for one in same if one.renewed >= earlier.renewed - SAME_S][-1]
    older = next((one for one in same if one.renewed < earlier.renewed - SAME_S), None)
    at_least_s = _asked(earlier) - first.end
    at_most_s = _acquired_by(earlier, later) - (_asked(older) if older else -float("inf"))
    silence = f"{at_least_s:.1f} to {at_most_s:.1f} s" if older else f"{at_least_s:.1f} s or more"
    what = f"{_machine(later.holder)} had it {silence} after {_machine(earlier.holder)} had last renewed it"
    found.evidence.append(f"{terms.lease}: {what}, which may act for {terms.acts_s:g} s {_at(history, later)}")
    if at_least_s >= terms.acts_s:
        return
    if _gave_it_back(history, earlier):
        return
    what = f"{terms.lease}: {what}, and it may act for {terms.acts_s:g} s"
    if at_most_s < terms.acts_s and not terms.gives_back:
        found.violations.append(what)
    else:
        found.doubts.append(f"{what}, unless it gave it back unseen" if at_most_s < terms.acts_s else what)


def _gave_it_back(history: History, read: LeaseSeen) -> bool:
    """Whether a watch was told so. It counts each change, so that it is known whose it was, whenever that was told."""
    told = ((each.name, each.transitions) for each in history.of(GivenBack))
    return (read.name, read.transitions) in told


def _acquired_by(earlier: LeaseSeen, later: LeaseSeen) -> float:
    """Until when the holder of `later` had acquired it at the latest: by its own clock that was before it renewed."""
    held_s = max(0.0, later.renewed - later.acquired)
    return max(later.end - held_s, _asked(earlier))


# -- somebody acts again


def _another(reads: Sequence[LeaseSeen], before: LeaseSeen) -> int | None:
    """The place of the first reading of another holder."""
    later = (number for number, read in enumerate(reads) if read.end > before.end)
    return next((number for number in later if reads[number].holder not in ("", before.holder)), None)


def _renewal_since(fault: Mark, reads: Sequence[LeaseSeen]) -> int | None:
    """The place of the first reading that shows a renewal which was certainly made after the fault."""
    since = next((read for read in reads if _asked(read) >= fault.t + fault.error), None)
    if since is None:
        return None
    known = (since.holder, since.renewed)
    later = (number for number, read in enumerate(reads) if read.end > since.end)
    return next((one for one in later if reads[one].holder and (reads[one].holder, reads[one].renewed) != known), None)


def _weigh_time(fault: Mark, expected: Expected, reads: Sequence[LeaseSeen], number: int | None, found: _Found) -> None:
    """number: the place of the first reading in which somebody acts again."""
    limit = f"at most {expected.within_s:.3g} s"
    if number is None:
        watched_s = _asked(reads[-1]) - fault.t - fault.error
        what = f"{expected.lease}: nobody acted again in the {watched_s:.1f} s that were watched ({limit})"
        (found.violations if watched_s > expected.within_s else found.doubts).append(what)
        return
    earlier, now = reads[number - 1], reads[number]
    earliest_s = max(0.0, _asked(earlier) - fault.t - fault.error)
    new = now.holder != earlier.holder
    latest_s = max(earliest_s, (_acquired_by(earlier, now) if new else now.end) - fault.t + fault.error)
    what = f"{expected.lease}: {_machine(now.holder)} {'acts' if new else 'goes on'} {latest_s:.1f} s after ({limit})"
    found.evidence.append(f"{expected.lease}: {earliest_s:.3f} to {latest_s:.3f} s after the fault")
    if earliest_s > expected.within_s:
        found.violations.append(what)
    elif latest_s > expected.within_s:
        found.doubts.append(f"{what}: closer than it was read")
    else:
        found.said.append(what)


def _at(history: History, read: LeaseSeen) -> str:
    zero = history.fault.t if history.fault else history.window[0]
    return f"({read.end - zero:+.1f} s)"
