"""Whether a real `kubectl get --watch-only`, run again whenever it ends, went on seeing what was written. Pure.

Each write is shown as a line. A write that was acknowledged and not shown yet begins a silence; the next line, of
whatever write, ends it. Pauses in which nothing was acknowledged do not count: an election is none of kubectl's. What
was written while kubectl was being started again is never shown, for it watches from then on.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from haplane.drills.checkers import SHOWN, Outcome, Verdict, incomplete
from haplane.probes import prober
from haplane.probes.history import History, Kubectl, Mark

NAME = "kubectl-sees-on"
KIND = "configmap/"
# Fewer lines before the fault do not show that it saw anything.
MINIMUM_BEFORE = 10
# Writes come ten times a second; while the VIP moves none is acknowledged for less than that.
PAUSE_S = 0.5


@dataclass(frozen=True)
class _Silence:
    """since: a write was acknowledged that it had not shown; until: its next line, or the end (ongoing)."""

    since: float
    until: float
    paused_s: float = 0.0
    ongoing: bool = False

    @property
    def length_s(self) -> float:
        return self.until - self.since - self.paused_s


def kubectl_sees_on(history: History, within_s: float) -> Verdict:
    """Held when after the fault no silence was longer."""
    if within_s <= 0:
        raise ValueError("the time to be silent must be above 0 s")
    fault, end = history.fault, history.end
    if (reasons := _unfit(history, within_s)) or fault is None or end is None:
        return Verdict(NAME, Outcome.UNKNOWN, "; ".join(reasons), tuple(_ends(history, fault)))
    silences = list(_silences(history, fault.t - fault.error, end.t))
    if not silences:
        return Verdict(NAME, Outcome.UNKNOWN, "no write was acknowledged after the fault", tuple(_ends(history, fault)))
    longest = max(silences, key=lambda silence: silence.length_s)
    often = sum(each.what == prober.STARTED and each.t > fault.t - fault.error for each in history.of(Kubectl))
    so_far = ", and still at the end" if longest.ongoing else ""
    sentence = f"kubectl was silent for {longest.length_s:.2f} s{so_far} (at most {within_s:.3g} s)"
    sentence += f", and was started again {_times(often)}" if often else ", and its watch went on"
    when = f"silent from {longest.since - fault.t:+.3f} s to {longest.until - fault.t:+.3f} s of the fault"
    paused = f", {longest.paused_s:.3f} s of it without any acknowledged write" if longest.paused_s else ""
    evidence = (when + paused, *_ends(history, fault))
    lags = [(each, history.stalled_s(each.since, each.until)) for each in silences]
    if any(each.length_s - lag > within_s for each, lag in lags):
        return Verdict(NAME, Outcome.VIOLATED, sentence, evidence)
    # A stall of the prober may hide when it began, or make a line look late.
    doubts = [f"the prober stood still for {lag:.3f} s" for each, lag in lags if each.length_s + lag > within_s]
    watched_s = end.t - fault.t - fault.error
    if watched_s < within_s:
        doubts.append(f"watched for {watched_s:.1f} s after the fault, {within_s:.3g} s are needed")
    if doubts:
        return Verdict(NAME, Outcome.UNKNOWN, f"{sentence}: {'; '.join(dict.fromkeys(doubts))}", evidence)
    return Verdict(NAME, Outcome.HELD, sentence, evidence)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _lines(history: History) -> list[Kubectl]:
    """Those that show a write, by time."""
    shown = (each for each in history.of(Kubectl) if each.what == prober.LINE and each.text.startswith(KIND))
    return sorted(shown, key=lambda line: line.t)


def _silences(history: History, since: float, until: float) -> Iterator[_Silence]:
    """One for each write that was acknowledged meanwhile; of length 0 where it had been shown before."""
    lines = _lines(history)
    times = [line.t for line in lines]
    shown: dict[str, float] = {}
    for line in lines:
        shown.setdefault(line.text.removeprefix(KIND), line.t)
    acknowledged = sorted(write.end for write in history.requests("write") if write.ok)
    for write in history.requests("write"):
        if not write.ok or not since < write.end <= until:
            continue
        if shown.get(write.key, math.inf) <= write.end:
            yield _Silence(write.end, write.end)
            continue
        place = bisect.bisect_left(times, write.end)
        after = times[place] if place < len(times) else math.inf
        ends = min(after, max(until, write.end))
        yield _Silence(write.end, ends, _paused_s(acknowledged, write.end, ends), after > until)


def _paused_s(acknowledged: Sequence[float], since: float, until: float) -> float:
    """For how long in all nothing was acknowledged meanwhile, of pauses that are long."""
    inside = acknowledged[bisect.bisect_left(acknowledged, since) : bisect.bisect_left(acknowledged, until)]
    lengths = (later - earlier for earlier, later in itertools.pairwise([*inside, until]))
    return sum(length for length in lengths if length > PAUSE_S)


def _unfit(history: History, within_s: float) -> list[str]:
    """Why this history allows no verdict at all."""
    header, end, fault = history.header, history.end, history.fault
    reasons = incomplete(history)
    if header is None or end is None:
        return reasons
    if not header.config.kubectl:
        return [*reasons, "there was no kubectl on the client machine"]
    if fault is None:
        return [*reasons, "no fault is marked"]
    if not header.start <= fault.t <= end.t:
        reasons.append("the fault is marked at a time when the prober did not run")
    since = fault.t - fault.error
    before = [line.t for line in _lines(history) if line.t < since]
    if len(before) < MINIMUM_BEFORE:
        reasons.append(f"kubectl had shown {len(before)} writes before the fault, at least {MINIMUM_BEFORE} are needed")
    elif since - before[-1] > within_s:
        reasons.append(f"kubectl had been silent for {since - before[-1]:.1f} s before the fault")
    return reasons


def _ends(history: History, fault: Mark | None) -> Sequence[str]:
    """How it ended, and with which words; the first few. Times are from the fault."""
    zero = history.window[0] if fault is None else fault.t
    ended = [each for each in history.of(Kubectl) if each.what == prober.ENDED]
    told = [f"{each.t - zero:+.3f} s: kubectl ended with {each.code}: {each.text}".rstrip(": ") for each in ended]
    return told if len(told) <= SHOWN else [*told[:SHOWN], f"and {len(told) - SHOWN} more"]
