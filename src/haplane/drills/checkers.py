"""From a history to verdicts. Pure, so that a saved history can be judged again.

A gap is the time between consecutive completions of successful requests of one probe; the start and the end of the
window (when requests were due) count as completions. It is longer than the outage by less than two request intervals.

A request that ended before the fault cannot be its effect. What ended later is judged; what was wrong before makes the
verdict unknown, because then the fault is not what was measured. Failed and indeterminate requests count alike: a
client that got no answer in time was not served, whatever the server did.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from haplane.probes import prober
from haplane.probes.gaps import Gap, gaps
from haplane.probes.history import (
    COUNTED,
    HEAL,
    POWER_ON,
    WHOLE,
    Header,
    History,
    Idle,
    Mark,
    Reconnect,
    Request,
    RequestOutcome,
    Watching,
)

# A lost SYN is sent again after 1 s (RFC 6298 2.1); a healthy answer takes milliseconds.
LATE_AFTER_S = 0.5
# A stall of the prober shorter than this part of the limit is forgiven; a longer one widens what is known of the gap.
LAG_FRACTION = 0.25
# Fewer successes before the fault do not show that all was well.
MINIMUM_BEFORE = 20
# The prober must have asked this part of what its rate says.
MINIMUM_ASKED = 0.9
# How many requests that were not served are shown.
SHOWN = 5

_TIMEOUTS = frozenset({"timeout", "connect-timeout", "tls-timeout"})


class Outcome(StrEnum):
    HELD = "held"
    VIOLATED = "violated"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    name: str
    outcome: Outcome
    sentence: str
    evidence: tuple[str, ...] = ()


def overall(verdicts: Iterable[Verdict]) -> Outcome:
    """Violated if one is; held if all are and there is one."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if Outcome.VIOLATED in outcomes:
        return Outcome.VIOLATED
    return Outcome.HELD if outcomes == {Outcome.HELD} else Outcome.UNKNOWN


@dataclass(frozen=True)
class Latency:
    """Of successful requests, from when they were due (nearest rank); None without any."""

    count: int
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True)
class Lateness:
    """How late after they were due requests were begun: the prober's own scheduling error (nearest rank)."""

    p99_s: float
    worst_s: float


@dataclass(frozen=True)
class Outage:
    """What one probe saw in the whole window.

    gap_started is on the prober's clock. kinds: how many requests were not served, by kind. late: successes that took
    longer than LATE_AFTER_S. before, during, after: the fault, and until the cluster was whole again. stalled_s: the
    prober's own worst stall around the longest gap. begun_late: None for the persistent probe, whose requests wait for
    each other, and where the history does not say. persistent_back_s: from the fault until a request succeeded that
    was sent over the persistent connection after its first break; None when it never did or never broke.
    """

    probe: str
    longest_gap_s: float
    gap_started: float
    fault_at: float | None
    total: int
    failed: int
    indeterminate: int
    late: int
    kinds: tuple[tuple[str, int], ...]
    before: Latency
    during: Latency
    after: Latency
    stalled_s: float
    begun_late: Lateness | None
    persistent_broke: bool
    persistent_back_s: float | None

    @property
    def not_served(self) -> int:
        return self.failed + self.indeterminate


def measure(history: History, probe: str = "new") -> Outage:
    """What the probe saw, fit for a verdict or not."""
    requests = history.requests(probe)
    longest = max(gaps(history, probe), key=lambda gap: gap.length_s)
    fault = history.fault
    fault_at = math.inf if fault is None else fault.t
    whole_at = min((mark.t for mark in history.marked(WHOLE) if mark.t > fault_at), default=math.inf)
    served = [request for request in requests if request.ok]
    outcomes = Counter(request.outcome for request in requests)
    broke, back_s = _persistent(history, fault)
    return Outage(
        probe=probe,
        longest_gap_s=longest.length_s,
        gap_started=longest.start,
        fault_at=None if fault is None else fault.t,
        total=len(requests),
        failed=outcomes[RequestOutcome.FAILED],
        indeterminate=outcomes[RequestOutcome.INDETERMINATE],
        late=sum(request.latency_s > LATE_AFTER_S for request in served),
        kinds=tuple(Counter(request.kind for request in requests if not request.ok).most_common()),
        before=_latency(request for request in served if request.t < fault_at),
        during=_latency(request for request in served if fault_at <= request.t < whole_at),
        after=_latency(request for request in served if request.t >= whole_at),
        stalled_s=history.stalled_s(longest.start, longest.end),
        begun_late=_lateness(requests),
        persistent_broke=broke,
        persistent_back_s=back_s,
    )


def _latency(requests: Iterable[Request]) -> Latency:
    took = sorted(request.latency_s for request in requests)
    if not took:
        return Latency(0, None, None)
    return Latency(len(took), _rank(took, 0.50), _rank(took, 0.99))


def _lateness(requests: Iterable[Request]) -> Lateness | None:
    late = sorted(request.begun - request.t for request in requests if request.begun is not None)
    return Lateness(_rank(late, 0.99), late[-1]) if late else None


def _rank(ordered: Sequence[float], part: float) -> float:
    return ordered[math.ceil(part * len(ordered)) - 1]


def _persistent(history: History, fault: Mark | None) -> tuple[bool, float | None]:
    """Whether the persistent connection broke, and how long after the fault it worked again."""
    if fault is None:
        return False, None
    since = fault.t - fault.error
    requests = history.requests("persistent")
    breaks = [request.end for request in requests if not request.ok and request.end > since]
    breaks += [each.t for each in history.of(Reconnect) if each.cause != "start" and each.t > since]
    if not breaks:
        return False, None
    broke_at = min(breaks)
    back = [request.end for request in requests if request.ok and (request.sent_at or 0.0) >= broke_at]
    return True, (max(0.0, min(back) - fault.t) if back else None)


# -- whether a history can be judged


def _rate(header: Header, probe: str) -> float:
    config = header.config
    rates = {"new": config.rate, "persistent": config.persistent_rate, "write": config.write_rate}
    rates |= {"set": config.register_rate, "get": config.get_rate}
    rates |= {prober.service_probe(url): config.service_rate for url in config.services}
    return rates.get(probe, 0.0)


def _timeout_s(header: Header, probe: str) -> float:
    config = header.config
    return config.service_timeout_s if probe in map(prober.service_probe, config.services) else config.timeout_s


def incomplete(history: History) -> list[str]:
    """Why the history does not hold all that the prober saw."""
    if history.header is None:
        return ["the history has no header"]
    if history.end is None:
        return ["the history has no end: the prober was cut off"]
    written = sum(isinstance(event, COUNTED) for event in history.events)
    if written != history.end.count:
        what = "requests and idle connections" if history.of(Idle) else "requests"
        what = "lines" if history.of(Watching) else what
        return [f"the prober wrote {history.end.count} {what} and the history has {written}"]
    return []


def _unfit(history: History, probe: str, limit_s: float) -> list[str]:
    """Why this history allows no verdict at all."""
    header, end, fault = history.header, history.end, history.fault
    reasons = incomplete(history)
    if header is None or end is None:
        return reasons
    rate, requests = _rate(header, probe), history.requests(probe)
    if not rate:
        return [f"the {probe} probe was not asked to run"]
    expected = rate * (end.t - header.start)
    if len(requests) < expected * MINIMUM_ASKED:
        reasons.append(f"too few requests: {len(requests)}, expected {expected:.0f}")
    if own := Counter(request.kind for request in requests if request.kind.startswith("prober-")):
        reasons.append(f"the prober itself was in trouble ({_counts(own.most_common())})")
    if limit_s < 2 / rate:
        reasons.append(f"{rate:g} requests/s cannot judge {limit_s:g} s")
    if fault is None:
        return [*reasons, "no fault is marked"]
    if not header.start <= fault.t <= end.t:
        reasons.append("the fault is marked at a time when no requests were due")
    served = sum(request.ok and request.end <= fault.t - fault.error for request in requests)
    if served < MINIMUM_BEFORE:
        reasons.append(f"too few requests before the fault: {served} served, at least {MINIMUM_BEFORE} needed")
    return reasons


def _too_short(history: History, probe: str, limit_s: float) -> list[str]:
    """Why nothing can be held yet, though it may be violated already."""
    header, end, fault = history.header, history.end, history.fault
    assert header is not None and end is not None and fault is not None
    timeout_s = _timeout_s(header, probe)
    needed = max(2 * limit_s, timeout_s) if math.isfinite(limit_s) else timeout_s
    watched = end.t - fault.t - fault.error
    return [f"watched for {watched:.1f} s after the fault, {needed:.1f} s are needed"] if watched < needed else []


@dataclass(frozen=True)
class _Gaps:
    """What the gaps say about a limit. Nothing is said here about what ended before the fault but `unsteady`."""

    longest: Gap
    violated: bool
    doubts: tuple[str, ...]
    unsteady: tuple[str, ...]


def _weigh_gaps(history: History, probe: str, limit_s: float, tolerance_s: float, quiet_s: float) -> _Gaps:
    """violated: a gap is above limit + tolerance even without the prober's stalls, and above what is usual, quiet_s."""
    fault = history.fault
    assert fault is not None
    since = fault.t - fault.error
    every = gaps(history, probe)
    judged = [gap for gap in every if gap.end > since]
    longest = max(judged, key=lambda gap: gap.length_s)
    violated, doubts = False, []
    worst_lag = max((stall.lag for stall in history.stalls), default=0.0)
    for gap in judged:
        if gap is not longest and gap.length_s + worst_lag <= limit_s:
            continue
        lag = history.stalled_s(gap.start, gap.end)
        lag = lag if lag > limit_s * LAG_FRACTION else 0.0
        violated = violated or gap.length_s - lag > max(limit_s + tolerance_s, quiet_s)
        # A stall may have recorded a success late, by its length at most: the gap before it then looks shorter.
        if lag and gap.length_s + lag > limit_s:
            doubts.append(f"the prober stood still for {lag:.3f} s around a gap of {gap.length_s:.3f} s")
    if limit_s + tolerance_s < longest.length_s <= quiet_s:
        doubts.append(
            f"{longest.length_s:.3f} s is no longer than a gap without a fault in as long a time: {quiet_s:.3f} s"
        )
    elif limit_s < longest.length_s <= limit_s + tolerance_s:
        doubts.append(f"{longest.length_s:.3f} s is above {limit_s:g} s by less than the probe can tell apart")
    early = [Gap(gap.start, min(gap.end, since)) for gap in every if gap.start < since]
    unsteady = (
        f"a gap of {gap.length_s:.3f} s began {fault.t - gap.start:.1f} s before the fault"
        for gap in early
        if gap.length_s > limit_s
    )
    return _Gaps(longest, violated, tuple(doubts), tuple(unsteady))


# -- the checkers


def availability(
    history: History, *, probe: str = "new", longest_gap_s: float = math.inf, failed_at_most: int, quiet_s: float = 0.0
) -> Verdict:
    """Held when no gap is longer and no more requests were not served (failed or indeterminate) since the fault.

    longest_gap_s: infinite where nothing bounds it; then it is only told. quiet_s: no gap up to this is a violation,
    because there are such without a fault, too.
    """
    if longest_gap_s <= 0 or failed_at_most < 0:
        raise ValueError("the longest gap must be above 0 s and the failed requests at least 0")
    name = f"availability-{probe}"
    if reasons := _unfit(history, probe, longest_gap_s):
        return _unknown(name, reasons, history, probe)
    weighed = _weigh_gaps(history, probe, longest_gap_s, 0.0, quiet_s)
    fault, header = history.fault, history.header
    assert fault is not None and header is not None
    unserved = [request for request in history.requests(probe) if not request.ok]
    since = [request for request in unserved if request.end > fault.t - fault.error]
    stalled = [each for each in since if _may_be_the_probers(history, each, _timeout_s(header, probe))]
    unsteady = list(weighed.unsteady)
    if len(unserved) - len(since) > failed_at_most:
        unsteady.append(f"{len(unserved) - len(since)} requests were not served before the fault")
    if unsteady:
        return _unknown(name, unsteady, history, probe)
    at_most = f" (at most {longest_gap_s:.3g} s)" if math.isfinite(longest_gap_s) else ""
    sentence = (
        f"longest gap {weighed.longest.length_s:.3f} s{at_most}, "
        f"{len(since)} of {len(history.requests(probe))} requests not served (at most {failed_at_most})"
    )
    evidence = _evidence(history, probe, since)
    if weighed.violated or len(since) - len(stalled) > failed_at_most:
        return Verdict(name, Outcome.VIOLATED, sentence, evidence)
    doubts = [*weighed.doubts, *_too_short(history, probe, longest_gap_s)]
    if len(since) > failed_at_most:
        doubts.append(f"{len(stalled)} timeouts may be the prober's own, which stood still")
    if doubts:
        return _unknown(name, doubts, history, probe)
    return Verdict(name, Outcome.HELD, sentence, evidence)


def budget_held(history: History, budget_s: float, *, probe: str = "new", quiet_s: float = 0.0) -> Verdict:
    """Whether the measured longest gap is within what the design's timers allow.

    A gap may be longer than the outage by two request intervals; so much above the budget is unknown, not violated.
    quiet_s: as for `availability`.
    """
    if budget_s <= 0:
        raise ValueError("the budget must be above 0 s")
    name = "budget"
    if reasons := _unfit(history, probe, budget_s):
        return _unknown(name, reasons, history, probe)
    assert history.header is not None
    resolution_s = 2 / _rate(history.header, probe)
    weighed = _weigh_gaps(history, probe, budget_s, resolution_s, quiet_s)
    if weighed.unsteady:
        return _unknown(name, weighed.unsteady, history, probe)
    longest_s = weighed.longest.length_s
    evidence = _evidence(history, probe, ())
    if weighed.violated:
        sentence = f"measured {longest_s:.3f} s, the budget allows {budget_s:.3f} s: the model or the cluster is wrong"
        return Verdict(name, Outcome.VIOLATED, sentence, evidence)
    if doubts := [*weighed.doubts, *_too_short(history, probe, budget_s)]:
        return _unknown(name, doubts, history, probe)
    return Verdict(name, Outcome.HELD, f"measured {longest_s:.3f} s, the budget allows {budget_s:.3f} s", evidence)


def recovered(history: History, within_s: float) -> Verdict:
    """Held when the cluster was whole within this time after the last power-on (or heal)."""
    if within_s <= 0:
        raise ValueError("the time to recover must be above 0 s")
    name = "recovered"
    powered = [mark for mark in history.marks if mark.what in (POWER_ON, HEAL)]
    if history.header is None or history.end is None:
        return Verdict(name, Outcome.UNKNOWN, "the history is not complete")
    if not powered:
        return Verdict(name, Outcome.UNKNOWN, "no power-on or heal is marked")
    on = powered[-1]
    whole = next((mark for mark in history.marked(WHOLE) if mark.t >= on.t), None)
    if whole is None:
        watched_s = history.end.t - on.t
        outcome = Outcome.VIOLATED if watched_s - on.error > within_s else Outcome.UNKNOWN
        return Verdict(name, outcome, f"not whole {watched_s:.1f} s after {on.what} (at most {within_s:g} s)")
    took_s, error_s = whole.t - on.t, whole.error + on.error
    sentence = f"whole {took_s:.1f} s after {on.what} (at most {within_s:g} s)"
    evidence = (f"the two times are known to {error_s:.3f} s",)
    if took_s - error_s > within_s:
        return Verdict(name, Outcome.VIOLATED, sentence, evidence)
    if took_s + error_s > within_s:
        return Verdict(name, Outcome.UNKNOWN, f"{sentence}: closer than the clocks are related", evidence)
    return Verdict(name, Outcome.HELD, sentence, evidence)


def _may_be_the_probers(history: History, request: Request, timeout_s: float) -> bool:
    """Whether a timeout may come from the prober's own stall."""
    return request.kind in _TIMEOUTS and history.stalled_s(request.t, request.end) > timeout_s / 2


def _unknown(name: str, reasons: Sequence[str], history: History, probe: str) -> Verdict:
    return Verdict(name, Outcome.UNKNOWN, "; ".join(reasons), _evidence(history, probe, ()))


def _counts(counted: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counted)


def _evidence(history: History, probe: str, unserved: Sequence[Request]) -> tuple[str, ...]:
    """The numbers behind a verdict; times are from the fault."""
    outage = measure(history, probe)
    zero = history.window[0] if outage.fault_at is None else outage.fault_at
    from_s = outage.gap_started - zero
    lines = [
        f"longest gap {outage.longest_gap_s:.3f} s, from {from_s:+.3f} s to {from_s + outage.longest_gap_s:+.3f} s"
        f" {'of the start' if outage.fault_at is None else 'of the fault'}",
        f"{outage.total} requests: {outage.failed} failed, {outage.indeterminate} indeterminate"
        + (f" ({_counts(outage.kinds)})" if outage.kinds else "")
        + f", {outage.late} late (over {LATE_AFTER_S:g} s)",
        f"the prober stood still for at most {outage.stalled_s:.3f} s around the gap",
    ]
    if outage.begun_late:
        p99_s, worst_s = outage.begun_late.p99_s, outage.begun_late.worst_s
        lines.append(f"requests were begun late by at most {worst_s:.3f} s (p99 {p99_s:.3f} s)")
    for phase, latency in (("before", outage.before), ("during", outage.during), ("after", outage.after)):
        if latency.p50_s is not None and latency.p99_s is not None:
            lines.append(f"latency {phase}: p50 {latency.p50_s:.3f} s, p99 {latency.p99_s:.3f} s")
    lines += [
        f"due {request.t - zero:+.3f} s: {request.outcome} ({request.kind}) after {request.latency_s:.3f} s"
        for request in unserved[:SHOWN]
    ]
    if len(unserved) > SHOWN:
        lines.append(f"and {len(unserved) - SHOWN} more")
    return tuple(lines)
