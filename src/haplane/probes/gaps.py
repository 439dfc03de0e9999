"""Times without an answer, as clients saw them. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from haplane.probes.history import History


@dataclass(frozen=True)
class Gap:
    start: float
    end: float

    @property
    def length_s(self) -> float:
        return self.end - self.start


def gaps(history: History, probe: str = "new", *, window: tuple[float, float] | None = None) -> tuple[Gap, ...]:
    """All of them, in order; together they are the window. window: from when to when, else all of the history's."""
    start, stop = window or history.window
    done = sorted(request.end for request in history.requests(probe) if request.ok)
    points = [start, *(end for end in done if start <= end <= stop), stop]
    return tuple(Gap(earlier, later) for earlier, later in itertools.pairwise(points))
