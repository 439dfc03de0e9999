"""Whether the cluster kept its word about what it stored. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from haplane.drills.checkers import SHOWN, Outcome, Verdict, incomplete
from haplane.probes.history import History, Request, RequestOutcome, Stored

NAME = "no-write-lost"


def no_write_lost(history: History) -> Verdict:
    """Held when every acknowledged write is stored, and nothing that never was sent.

    An indeterminate write may be stored or not. Nothing is said about how many writes were served.
    """
    writes, stored = history.requests("write"), history.of(Stored)
    if reasons := _unfit(history, writes, stored):
        return Verdict(NAME, Outcome.UNKNOWN, "; ".join(reasons))
    last = max(stored, key=lambda each: each.t)
    keys = frozenset(last.keys)
    acknowledged = [write for write in writes if write.ok]
    missing = [write for write in acknowledged if write.key not in keys]
    lost = [write for write in missing if write.end < last.t]
    unsent = [write for write in writes if write.sent_at is None and write.key in keys]
    if lost or unsent:
        told = [f"{len(lost)} of {len(acknowledged)} acknowledged writes are not stored"] if lost else []
        told += [f"{len(unsent)} stored though never sent"] if unsent else []
        evidence = [*_shown(history, lost, "not stored"), *_shown(history, unsent, "stored though never sent")]
        return Verdict(NAME, Outcome.VIOLATED, ", ".join(told), tuple(evidence))
    if missing:
        early = f"{len(missing)} acknowledged writes are missing, but were answered after what is stored was read"
        return Verdict(NAME, Outcome.UNKNOWN, early, tuple(_shown(history, missing, "missing")))
    if not acknowledged:
        return Verdict(NAME, Outcome.UNKNOWN, f"none of {len(writes)} writes was acknowledged")
    open_ended = [write for write in writes if write.outcome is RequestOutcome.INDETERMINATE]
    found = sum(write.key in keys for write in open_ended)
    sentence = f"all {len(acknowledged)} acknowledged writes are stored"
    if open_ended:
        sentence += f", and {found} of {len(open_ended)} indeterminate ones"
    return Verdict(NAME, Outcome.HELD, sentence)


def _unfit(history: History, writes: Sequence[Request], stored: Sequence[Stored]) -> list[str]:
    reasons = incomplete(history)
    if not writes:
        reasons.append("nothing was written")
    elif len({write.key for write in writes}) < len(writes):
        reasons.append("two writes have the same name")
    if not stored:
        reasons.append("what is stored was not read back")
    return reasons


def _shown(history: History, writes: Sequence[Request], what: str) -> Iterable[str]:
    """The first few; times are from the fault."""
    zero = history.fault.t if history.fault else history.window[0]
    for write in writes[:SHOWN]:
        told = "acknowledged" if write.ok else f"{write.outcome} ({write.kind})"
        yield f"{write.key}, due {write.t - zero:+.3f} s, {told} at {write.end - zero:+.3f} s: {what}"
    if len(writes) > SHOWN:
        yield f"and {len(writes) - SHOWN} more {what}"
