"""Whether clients that only wait, as watches do, were told that their connection was over. Pure.

What is not told to such a client it never finds out: it has nothing to send, so that no timeout of its own runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from haplane.drills.checkers import MINIMUM_ASKED, SHOWN, Outcome, Verdict, incomplete
from haplane.probes import prober
from haplane.probes.history import HEALING, History, Idle, Mark

NAME = "nobody-waits-in-the-dark"
# After so long without a request an apiserver closes a connection itself (kubernetes#103958). Watches never are.
SERVER_CLOSES_S = 90.0
MARGIN_S = 1.0


class _Fate(Enum):
    TOLD = auto()
    LATE = auto()
    DARK = auto()
    ALIVE = auto()
    UNCLEAR = auto()


@dataclass(frozen=True)
class _Judged:
    idle: Idle
    fate: _Fate
    doubt: str = ""


def nobody_waits_in_the_dark(history: History, within_s: float) -> Verdict:
    """Held when each connection that the fault ended was told within this time, and all others still answer.

    Those that were made since are not timed; none of them may be left in the dark.

    It needs the whole history: whether a connection that was not told is alive shows only when it is asked at the end.
    """
    if within_s <= 0:
        raise ValueError("the time to be told must be above 0 s")
    fault = history.fault
    reasons, waiting = _unfit(history), _waiting(history)
    if reasons or fault is None:
        return Verdict(NAME, Outcome.UNKNOWN, "; ".join(reasons), ())
    judged = [_judge(history, each, within_s) for each in waiting]
    told, late, dark, _alive, unclear = ([each for each in judged if each.fate is fate] for fate in _Fate)
    since = [_judge(history, each, within_s) for each in _dark_since(history)]
    dark_since = [each for each in since if each.fate is _Fate.DARK]
    unclear += [each for each in since if each.fate is _Fate.UNCLEAR]
    evidence = tuple(line for each in (dark, dark_since, late, unclear) for line in _shown(fault, each))
    evidence += (_precision(fault),)
    total = len(judged)
    if late or dark or dark_since:
        parts = [f"{len(dark)} of {total} idle connections still waited in the dark at the end"] if dark else []
        parts += [f"{len(dark_since)} that were made since waited in the dark at the end"] if dark_since else []
        parts += [f"{len(late)} of {total} idle connections were told later than {within_s:.3g} s"] if late else []
        return Verdict(NAME, Outcome.VIOLATED, ", ".join(parts), evidence)
    doubts = [*_too_short(history, fault, within_s), *sorted({each.doubt for each in unclear})]
    if doubts:
        return Verdict(NAME, Outcome.UNKNOWN, "; ".join(doubts), evidence)
    return Verdict(NAME, Outcome.HELD, _held(fault, told, total, within_s), evidence)


def _held(fault: Mark, told: Sequence[_Judged], total: int, within_s: float) -> str:
    if not told:
        return f"the fault ended none of {total} idle connections, and all of them answer"
    worst_s = max(max(0.0, each.idle.told_at - fault.t) for each in told)
    sentence = f"{len(told)} of {total} idle connections told within {worst_s:.2f} s (at most {within_s:.3g} s)"
    return sentence if len(told) == total else f"{sentence}, and the others answer"


def _waiting(history: History) -> list[Idle]:
    """What certainly waited before the fault and may not have ended before it."""
    fault = history.fault
    since = fault.t - fault.error if fault else 0.0
    return sorted((each for each in history.of(Idle) if each.t < since <= each.told_at), key=lambda each: each.t)


def _dark_since(history: History) -> list[Idle]:
    """Made after the fault, and without an answer when asked at the end."""
    fault = history.fault
    since = fault.t - fault.error if fault else 0.0
    return [each for each in history.of(Idle) if each.t >= since and each.kind == prober.DARK]


def _unfit(history: History) -> list[str]:
    """Why this history allows no verdict at all."""
    header, end, fault = history.header, history.end, history.fault
    reasons = incomplete(history)
    if header is None or end is None:
        return reasons
    asked = header.config.idle_connections
    if not asked:
        return [*reasons, "the idle probe was not asked to run"]
    if fault is None:
        return [*reasons, "no fault is marked"]
    if not header.start <= fault.t <= end.t:
        reasons.append("the fault is marked at a time when the prober did not run")
    waiting = len(_waiting(history))
    if not asked * MINIMUM_ASKED <= waiting <= asked:
        reasons.append(f"{waiting} connections waited when the fault came, of {asked} that were asked for")
    return reasons


def _too_short(history: History, fault: Mark, within_s: float) -> list[str]:
    assert history.end is not None
    watched_s = history.end.t - fault.t - fault.error
    return (
        [f"watched for {watched_s:.1f} s after the fault, {within_s:.3g} s are needed"] if watched_s < within_s else []
    )


def _judge(history: History, idle: Idle, within_s: float) -> _Judged:
    """What became of one connection that waited when the fault came."""
    header, end, fault = history.header, history.end, history.fault
    assert header is not None and end is not None and fault is not None
    if idle.kind == prober.ALIVE:
        return _Judged(idle, _Fate.ALIVE)
    if idle.kind == prober.DARK:
        if _too_short(history, fault, within_s):
            return _Judged(idle, _Fate.UNCLEAR, "a connection that was not told yet does not answer")
        if history.stalled_s(end.t, idle.told_at) > header.config.timeout_s / 2:
            return _Judged(idle, _Fate.UNCLEAR, "the prober stood still while it asked at the end")
        return _Judged(idle, _Fate.DARK)
    if idle.kind.startswith("prober-"):
        return _Judged(idle, _Fate.UNCLEAR, f"the prober itself was in trouble ({idle.kind})")
    if idle.told_at - (fault.t - fault.error) <= within_s:
        return _Judged(idle, _Fate.TOLD)
    healed = _healed(history, fault, end.t)
    after_healing = idle.told_at > healed.t + healed.error
    if idle.kind == "eof" and idle.told_at - idle.t >= SERVER_CLOSES_S - MARGIN_S:
        # That the server could still close it shows as much as an answer at the end.
        doubt = (
            "" if after_healing else f"the server may have closed a connection that was idle for {SERVER_CLOSES_S:g} s"
        )
        return _Judged(idle, _Fate.UNCLEAR if doubt else _Fate.ALIVE, doubt)
    if idle.told_at >= healed.t - healed.error:
        return _Judged(
            idle, _Fate.UNCLEAR, f"a connection was told only after {healed.what}; it may have been dark before"
        )
    stalled_s = history.stalled_s(idle.told_at - prober.STALL_S, idle.told_at + prober.STALL_S)
    if idle.told_at - (fault.t + fault.error) - stalled_s <= within_s:
        return _Judged(idle, _Fate.UNCLEAR, f"a connection was told too close to {within_s:.3g} s for these clocks")
    return _Judged(idle, _Fate.LATE)


def _healed(history: History, fault: Mark, end: float) -> Mark:
    """The first healing after the fault, or the end of what was watched."""
    healing = (mark for mark in history.marks if mark.what in HEALING and mark.t > fault.t)
    return next(healing, Mark(end, "the end"))


def _shown(fault: Mark, judged: Sequence[_Judged]) -> Iterable[str]:
    """The first few; times are from the fault."""
    for each in judged[:SHOWN]:
        idle = each.idle
        fate = "no answer when asked" if idle.kind == prober.DARK else f"told ({idle.kind})"
        yield f"ready {idle.t - fault.t:+.3f} s: {fate} {idle.told_at - fault.t:+.3f} s"
    if len(judged) > SHOWN:
        yield f"and {len(judged) - SHOWN} more"


def _precision(fault: Mark) -> str:
    return f"the time of the fault is known to {fault.error:.3f} s"
