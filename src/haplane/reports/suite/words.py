"""Numbers as people read them: the same in the terminal, on the page and in the wiki."""

from __future__ import annotations

import math

from haplane.reports.drill import Spread

NOTHING = "–"
UNBOUND = "no bound"


def duration(seconds: float | None) -> str:
    """E.g. 220 ms, 1.25 s, 14.0 s; a dash where nothing is known."""
    if seconds is None:
        return NOTHING
    if math.isinf(seconds):
        return UNBOUND
    if abs(seconds) < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if abs(seconds) < 9.995 else f"{seconds:.1f} s"


def signed(seconds: float) -> str:
    """A difference, or a time from the fault."""
    text = duration(abs(seconds))
    return text if text == "0 ms" else f"{'−' if seconds < 0 else '+'}{text}"


def count(number: float | None) -> str:
    return NOTHING if number is None else f"{number:g}"


def counts(each: Spread) -> str:
    """The median over the runs, and the range where they differ: `10 (9–12)`."""
    if each.least == each.most:
        return count(each.median)
    return f"{count(each.median)} ({count(each.least)}–{count(each.most)})"


def plural(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
