"""Whether one machine alone held the VIP, whether it moved as it should, and whether etcd had one leader. Pure.

Each checker takes the whole history of a drill, with what observers saw from before the fault until after it. Every
time has an error; what is closer to a limit than the errors is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from haplane.components.etcd import DEFAULT_ELECTION_MS
from haplane.drills.checkers import Outcome, Verdict
from haplane.drills.holding import UNWATCHED_S, Holding, Overlap, holding
from haplane.probes.history import History, Observation
from haplane.probes.observer import ETCD_LEADER, HELD, OBSERVER, VIP, WATCHING

# How many overlaps are shown.
SHOWN = 5


@dataclass(frozen=True)
class Move:
    """The VIP was on one machine and then came to another; t may be wrong by error seconds.

    From and to the same: it had left, and came back. address: empty for the first VIP.
    """

    t: float
    from_machine: str
    to_machine: str
    error: float = 0.0
    address: str = ""

    def __str__(self) -> str:
        what = f"the VIP {self.address}".rstrip()
        if self.from_machine == self.to_machine:
            return f"{what} left {self.from_machine} and came back"
        return f"{what} moved from {self.from_machine} to {self.to_machine}"


def moves(history: History) -> tuple[Move, ...]:
    """By time; the first holder is none."""
    found: list[Move] = []
    for what in _vips(history):
        address = what.removeprefix(VIP).strip()
        holder = ""
        for hold in _held(history, what).holds:
            if hold.resumed:
                continue
            if holder:
                error = max(hold.start.t - hold.start.earliest, hold.start.latest - hold.start.t)
                found.append(Move(hold.start.t, holder, hold.machine, round(error, 6), address))
            holder = hold.machine
    return tuple(sorted(found, key=lambda move: move.t))


def single_holder(history: History, overlap_at_most_s: float, *, machines: Collection[str] = ()) -> Verdict:
    """Held when no two machines had a VIP at once for longer.

    machines: those that may hold it, hence all have to be watched; those that were observed at all if none are named.
    A machine without power, or frozen, holds nothing: from its mark on, at the latest when the mark's error is over.
    """
    if overlap_at_most_s < 0:
        raise ValueError("two machines cannot hold the VIP at once for less than 0 s")
    overlaps: list[Overlap] = []
    doubts: list[str] = []
    for what in _vips(history):
        held = _held(history, what)
        overlaps += held.overlaps(_until(history))
        doubts += _doubts(history, held, machines)
    if not _vips(history):
        doubts.append("nobody watched who held the VIP")
    elif not any(_held(history, what).holds for what in _vips(history)):
        doubts.append("no machine was seen to hold the VIP")
    return _judged("single-holder", "holder", history, overlaps, doubts, overlap_at_most_s)


def vip_moved(history: History, expected: bool, *, machines: Collection[str] = ()) -> Verdict:
    """Held when the VIP moved once since the fault, if that is expected, and else not at all.

    Every other move is needless: each one costs clients a moment.
    """
    name, fault = "vip-moved", history.fault
    if fault is None:
        return Verdict(name, Outcome.UNKNOWN, "no fault is marked")
    doubts = [] if _vips(history) else ["nobody watched who held the VIP"]
    for what in _vips(history):
        doubts += _doubts(history, _held(history, what), machines)
    begins, sure = fault.t - fault.error, fault.t + fault.error
    found = moves(history)
    evidence = tuple(f"{move.t - fault.t:+.3f} s: {move} (known to {move.error:.3f} s)" for move in found)
    if any(move.t + move.error < begins for move in found):
        doubts.append("the VIP moved before the fault")
    elif any(move.t - move.error < sure for move in found):
        # A fault that takes the VIP away does so after it began; one that came first was not its effect.
        early = [move for move in found if move.t - move.error < sure]
        doubts += [] if expected else [f"{move} so close to the fault that it may have been before" for move in early]
    since = [move for move in found if move.t + move.error >= begins]
    certain = [move for move in since if move.t - move.error > sure]
    most = {address: sum(move.address == address for move in since) for address in {move.address for move in since}}
    needless = max(most.values(), default=0) > 1 if expected else bool(certain)
    abandoned = [each for what in _vips(history) for each in _abandoned(history, what)]
    if needless:
        needed = "once is needed" if expected else "this fault needs no move"
        times = max(most.values(), default=0)
        return Verdict(name, Outcome.VIOLATED, f"the VIP moved {_times(times)}, {needed}: needless", evidence)
    if abandoned:
        return Verdict(name, Outcome.VIOLATED, "; ".join(abandoned), evidence)
    if doubts:
        return Verdict(name, Outcome.UNKNOWN, "; ".join(dict.fromkeys(doubts)), evidence)
    if expected and len(most) < len(_vips(history)):
        return Verdict(name, Outcome.VIOLATED, "the VIP did not move, though its holder could not keep it", evidence)
    if expected:
        return Verdict(name, Outcome.HELD, f"{since[0]} {since[0].t - fault.t:.3f} s after the fault", evidence)
    return Verdict(name, Outcome.HELD, "the VIP stayed where it was", evidence)


def etcd_leader(
    history: History, overlap_at_most_s: float = DEFAULT_ELECTION_MS / 1000, *, machines: Collection[str] = ()
) -> Verdict:
    """Held when no two members thought for longer at once that they lead.

    One that was cut off believes it for an election timeout, and does no harm because nobody follows it. Members are
    asked twice a second: an overlap that may be longer than the limit, and may not, is unknown.
    """
    led = holding(history, ETCD_LEADER, lambda value: value == "1")
    doubts = _doubts(history, led, machines)
    if not led.holds:
        doubts.append("no member was seen to lead")
    verdict = _judged("etcd-leader", "leader", history, led.overlaps(_until(history)), doubts, overlap_at_most_s)
    zero = _zero(history)
    terms = tuple(f"{hold.machine} leads from {hold.start.t - zero:+.1f} s" for hold in led.holds[: 2 * SHOWN])
    return replace(verdict, evidence=(*verdict.evidence, *terms))


def _judged(
    name: str,
    role: str,
    history: History,
    overlaps: Collection[Overlap],
    doubts: Collection[str],
    at_most_s: float,
) -> Verdict:
    zero = _zero(history)
    longest = max((each.length_s for each in overlaps), default=0.0)
    ordered = sorted(overlaps, key=lambda each: -each.most_s)
    evidence = [
        f"{each.machines[0]} and {each.machines[1]} from {each.start - zero:+.3f} s for {max(each.length_s, 0):.3f} s "
        f"(at least {max(each.least_s, 0):.3f} s, at most {each.most_s:.3f} s)"
        for each in ordered[:SHOWN]
    ]
    if len(ordered) > SHOWN:
        evidence.append(f"and {len(ordered) - SHOWN} more")
    limit = f"(at most {at_most_s:.3g} s)"
    violated = [each for each in overlaps if each.least_s > at_most_s]
    if violated:
        worst = max(violated, key=lambda each: each.length_s)
        sentence = f"{worst.machines[0]} and {worst.machines[1]} were {role} at once for {worst.length_s:.3f} s {limit}"
        return Verdict(name, Outcome.VIOLATED, sentence, tuple(evidence))
    unclear = [each for each in overlaps if each.most_s > at_most_s]
    if unclear:
        worst = max(unclear, key=lambda each: each.most_s)
        doubts = [
            f"{worst.machines[0]} and {worst.machines[1]} may both have been {role} for {worst.most_s:.3f} s {limit}, "
            "and may not: the clocks are not known well enough",
            *doubts,
        ]
    if doubts:
        return Verdict(name, Outcome.UNKNOWN, "; ".join(dict.fromkeys(doubts)), tuple(evidence))
    sentence = f"one {role} at any time; the longest overlap {max(longest, 0):.3f} s {limit}"
    return Verdict(name, Outcome.HELD, sentence, tuple(evidence))


def _abandoned(history: History, what: str) -> list[str]:
    """That nobody holds a VIP at the end, though somebody did."""
    holds = _held(history, what).holds
    if not holds or max(hold.end.latest for hold in holds) >= _until(history):
        return []
    last = max(holds, key=lambda hold: hold.end.t)
    return [f"nobody holds the VIP any more since {last.machine} lost it, at {last.end.t - _zero(history):+.3f} s"]


def _vips(history: History) -> tuple[str, ...]:
    return tuple(sorted({each.what for each in history.of(Observation) if each.what.split(" ")[0] == VIP}))


def _held(history: History, what: str) -> Holding:
    return holding(history, what, lambda value: value == HELD)


def _zero(history: History) -> float:
    return history.window[0] if history.fault is None else history.fault.t


def _until(history: History) -> float:
    """Until when there is something to judge: the end of the window, or the end of all observers."""
    last: dict[str, tuple[float, bool]] = {}
    for each in history.observed(OBSERVER):
        last[each.machine] = (each.t, each.value == WATCHING)
    ended = math.inf if any(goes_on for _, goes_on in last.values()) else max((t for t, _ in last.values()), default=0)
    return min(history.window[1], ended) if last else history.window[1]


def _doubts(history: History, held: Holding, machines: Collection[str]) -> list[str]:
    """Why it is not known what each machine had since the fault."""
    fault = history.fault
    zero, since, until = _zero(history), history.window[0] if fault is None else fault.t - fault.error, _until(history)
    observed = {each.machine for each in history.of(Observation)}
    involved = {mark.machine for mark in history.marks if mark.machine}
    needed = sorted({*machines} or observed | involved)
    doubts = [f"{name} was not watched" for name in needed if name not in held.watched]
    if not machines and len(held.watched) < 2:
        doubts.append(f"only {len(held.watched)} machine was watched")
    doubts += [f"{name} was watched from {t - zero:+.1f} s only" for name, t in held.watched.items() if t > since]
    for each in held.unwatched:
        if each.end > since and each.start < until - UNWATCHED_S:
            to = min(each.end, until) - zero
            doubts.append(f"{each.machine} was not watched from {each.start - zero:+.1f} s to {to:+.1f} s")
    return [*doubts, *held.contradictions]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
