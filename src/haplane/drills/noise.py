"""What a busy host looks like when nothing is broken, to set beside outages that are hardly longer. Pure.

The longer one looks, the longer the longest gap: only windows of the same length compare. What a fault costs at once is
looked for in the WINDOW_S from it, and what nothing costs in as long a time without one. Every drill asks for one such
window before it breaks anything; where there are too few drills, the probes run for a while without one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from haplane.drills.catalogue import IDLE_CONNECTIONS
from haplane.drills.checkers import incomplete
from haplane.probes.gaps import gaps
from haplane.probes.history import CALM, HEALING, History
from haplane.probes.prober.schedule import IDLE_PACE

WINDOW_S = 2.0
WINDOWS = 20
# After the idle connections have been made, which keeps everybody busy.
SETTLED_S = 0.2


def still_needed(runs: int) -> int:
    """How many windows these runs will not bring."""
    return max(0, WINDOWS - runs)


def lasts_s(windows: int) -> float:
    """How long the probes run without a fault for so many."""
    return warm_up_s(IDLE_CONNECTIONS) + windows * WINDOW_S


def warm_up_s(idle_connections: int) -> float:
    """How much of a history's beginning is busier than the rest."""
    return idle_connections / IDLE_PACE + SETTLED_S


def quiet_gaps(history: History) -> tuple[float, ...]:
    """The longest gap of each window before the fault, one after the other, in seconds; without a fault, of all."""
    header = history.header
    if header is None or incomplete(history):
        return ()
    start, end = history.window
    if fault := history.fault:
        end = min(end, fault.t - fault.error)
    start += warm_up_s(header.config.idle_connections)
    start = max((start, *(mark.t for mark in history.marked(CALM))))
    count = math.floor((end - start) / WINDOW_S + 1e-4)
    return tuple(_longest(history, start + number * WINDOW_S) for number in range(max(0, count)))


def usual_s(quiet_gaps: Sequence[float], lasts_s: float) -> float:
    """The gap that one in WINDOWS stretches of this length exceeds without a fault, from windows of WINDOW_S.

    In seconds; 0 where fewer than WINDOWS were seen.
    """
    if len(quiet_gaps) < WINDOWS:
        return 0.0
    # Of each window in such a stretch, that all of them stay below it.
    part = math.pow(1 - 1 / WINDOWS, WINDOW_S / max(lasts_s, WINDOW_S))
    return sorted(quiet_gaps)[math.ceil(len(quiet_gaps) * part) - 1]


def gap_from_fault(history: History) -> float | None:
    """The longest gap of the window from the last answer before the fault; None where it was mended within it."""
    fault = history.fault
    if fault is None or incomplete(history):
        return None
    since = fault.t - fault.error
    # Not from the fault itself: that would cut the gap which it began, and no other.
    start = max((gap.start for gap in gaps(history) if gap.start <= since), default=since)
    mended = (mark.t for mark in history.marks if mark.what in HEALING and mark.t > fault.t)
    if start + WINDOW_S > min((*mended, history.window[1])):
        return None
    return _longest(history, start)


def _longest(history: History, start: float) -> float:
    return max(gap.length_s for gap in gaps(history, window=(start, start + WINDOW_S)))
