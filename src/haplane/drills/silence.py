"""How long clients have had no answer, told while a drill runs. What is judged is the saved history, not this."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable

from haplane.model.progress import Progress

CLIENTS = "clients"
# Answers come in heaps, for the prober writes ten times a second: less is no silence.
SHOWN_S = 0.3
# One that was longer stays to be read.
TOLD_S = 0.5
LOOK_EVERY_S = 0.1


class Follower:
    """Follows the `new` probe by the prober's lines. Pure: `at` and `now` are seconds on this host's clock.

    A line comes a moment after what it tells of; the one that came soonest says how the two clocks relate.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._last = math.nan  # when the last answer came, on the prober's clock
        self._behind = math.inf  # this host's clock less the prober's, at most

    def line(self, text: str, at: float) -> float | None:
        """The length of the gap that this line ended, if that was longer than TOLD_S. at: when it came."""
        known = _moments(text)
        if known is None:
            return None
        written, answered = known
        self._behind = min(self._behind, at - written)
        gap_s = 0.0 if math.isnan(self._last) else answered - self._last
        self._last = answered if math.isnan(self._last) else max(self._last, answered)
        self.longest_s = max(self.longest_s, gap_s)
        return gap_s if gap_s > TOLD_S else None

    def waiting_s(self, now: float) -> float:
        """Since the last answer; 0 before the first line."""
        return 0.0 if math.isnan(self._last) else max(0.0, now - self._behind - self._last)

    def sentence(self, now: float) -> str:
        waiting_s = self.waiting_s(now)
        longest = f"longest gap so far {max(self.longest_s, waiting_s):.2f} s"
        return f"no answer for {waiting_s:.1f} s; {longest}" if waiting_s > SHOWN_S else longest


def _moments(text: str) -> tuple[float, float] | None:
    """When a line was written, or nearly, and the answer that it tells of; the start counts as one. Else None."""
    if '"new"' not in text and '"header"' not in text:
        return None
    try:
        line = json.loads(text)
        if line["probe"] == "header":
            return float(line["t"]), float(line["start"])
        if line["probe"] == "new" and line["outcome"] == "ok":
            return float(line["end"]), float(line["end"])
    except (ValueError, KeyError, TypeError):
        # A line that was cut off; whoever reads the history says so.
        pass
    return None


class Silence:
    """Shows on the progress line what a follower sees."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._follower = Follower()

    def through(self, sink: Callable[[str], None]) -> Callable[[str], None]:
        """A sink for the prober's lines that passes each on."""

        def line(text: str) -> None:
            sink(text)
            if (gap_s := self._follower.line(text, time.monotonic())) is not None:
                self._progress.done(CLIENTS, f"{gap_s:.2f} s without an answer")

        return line

    async def show(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._progress.live(CLIENTS, self._follower.sentence(time.monotonic()))
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self._progress.live(CLIENTS, "")
