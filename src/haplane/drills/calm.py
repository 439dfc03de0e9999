"""Whether clients are served so well that what they see from now on can be laid at a fault's door. Pure."""

from __future__ import annotations

from haplane.drills.checkers import LATE_AFTER_S
from haplane.drills.noise import WINDOW_S
from haplane.probes.history import History

# An answer that takes longer than LATE_AFTER_S; of so few nothing follows.
LATE_AT_MOST = 0.02
# So far back it looks.
SEEN_S = WINDOW_S + LATE_AFTER_S


def unrest(history: History) -> str:
    """What is not well with the `new` probe's requests of the last window; empty if nothing. history: until now."""
    header = history.header
    requests = history.requests()
    if header is None or not requests:
        return "nothing was answered yet"
    # What was due since may still be answered in time.
    until = max(request.end for request in requests) - LATE_AFTER_S
    due = header.config.rate * WINDOW_S
    last = [request for request in requests if until - WINDOW_S <= request.t < until]
    if until - WINDOW_S < header.start:
        return f"clients have been asking for less than {WINDOW_S:g} s"
    if unserved := sum(not request.ok for request in last):
        return f"{unserved} of {due:.0f} requests were not served in {WINDOW_S:g} s"
    in_time = sum(request.latency_s <= LATE_AFTER_S for request in last)
    if (late := round(due) - in_time) > LATE_AT_MOST * due:
        return f"{late} of {due:.0f} requests took longer than {LATE_AFTER_S:g} s"
    return ""
