"""The longest gap of each run as a dot on one axis, with the median and what the budget allows."""

from __future__ import annotations

import math
from collections.abc import Iterator

from haplane.drills.checkers import Outcome
from haplane.reports.drill import DrillReport, Run
from haplane.reports.markup import xml
from haplane.reports.suite import drawing, words
from haplane.reports.suite.drawing import LETTER, Scale
from haplane.reports.suite.report import drill_summary

WIDTH, MARGIN = 960, 14
DOT = 6  # radius

# Shape and colour say the same.
_SHAPES = {
    Outcome.HELD: '<circle class="dot held" cx="{x:g}" cy="{y:g}" r="5"/>',
    Outcome.VIOLATED: '<path class="dot violated" d="M{x:g} {y:g}m-4.5 -4.5l9 9m0 -9l-9 9"/>',
    Outcome.UNKNOWN: '<circle class="dot unknown" cx="{x:g}" cy="{y:g}" r="4.5"/>',
}


def draw(drill: DrillReport, *, name: str) -> str:
    row = drill_summary(drill)
    bounds = [each for each in (row.typical_s, row.worst_s) if each is not None and math.isfinite(each)]
    longest = max([0.01, *bounds, *(run.outage.longest_gap_s for run in drill.runs)])
    scale = Scale(0.0, longest * 1.08, MARGIN, WIDTH - MARGIN)
    stacked = _stacked(drill, scale)
    highest = max((level for _, _, level in stacked), default=0)
    base = 44 + highest * 2 * DOT  # the middle of the lowest dots
    shapes = [
        *_axis(scale, base + 14),
        *_bounds(row.typical_s, row.worst_s, scale, base + 14),
        *_median(row.gap_s.median, scale, base),
        *(_dot(run, number, x, base - level * (2 * DOT + 1)) for (number, run), x, level in stacked),
    ]
    said = ", ".join(words.duration(run.outage.longest_gap_s) for run in drill.runs)
    description = (
        f"Longest gap of {words.plural(len(drill.runs), 'run')}: {said}; median {words.duration(row.gap_s.median)}; "
        f"the budget allows {words.duration(row.worst_s)} at worst."
    )
    return drawing.svg(name, f"Longest gaps of {drill.name}", description, WIDTH, base + 36, shapes)


def _stacked(drill: DrillReport, scale: Scale) -> list[tuple[tuple[int, Run], float, int]]:
    """Each run with its number and its place; dots that would hide each other stand one above the other."""
    taken: list[float] = []  # per level, where its last dot is
    placed = []
    numbered = enumerate(drill.runs, start=1)
    for number, run in sorted(numbered, key=lambda each: each[1].outage.longest_gap_s):
        x = scale.x(run.outage.longest_gap_s)
        level = next((i for i, last in enumerate(taken) if x - last > 2 * DOT), len(taken))
        taken[level : level + 1] = [x]
        placed.append(((number, run), x, level))
    return placed


def _dot(run: Run, number: int, x: float, y: float) -> str:
    tip = f"run {number}: {words.duration(run.outage.longest_gap_s)}, {run.outcome.value}"
    return f"<g><title>{xml(tip)}</title>{_SHAPES[run.outcome].format(x=x, y=y)}</g>"


def _median(median: float | None, scale: Scale, base: float) -> Iterator[str]:
    if median is None:
        return
    x = scale.x(median)
    yield drawing.line(x, 21, x, base + 14, "median way")
    said = f"median {words.duration(median)}"
    half = len(said) * LETTER / 2
    yield drawing.text(min(max(x, MARGIN + half), scale.right - half), 15, said, "median label", anchor="middle")


def _bounds(typical_s: float | None, worst_s: float | None, scale: Scale, y: float) -> Iterator[str]:
    """The budget under the axis: a band from typical to worst."""
    if worst_s is None or math.isinf(worst_s):
        return
    start, end = scale.x(typical_s or 0.0), scale.x(worst_s)
    yield drawing.rectangle(start, y - 4, end - start, 8, "allowed", "the budget, from typical to worst")
    yield drawing.line(end, 24, end, y + 4, "worst way")
    said = f"worst {words.duration(worst_s)}"
    if end + 5 + len(said) * LETTER < scale.right:
        yield drawing.text(end + 5, 33, said, "worst label")
    else:
        yield drawing.text(end - 5, 33, said, "worst label", anchor="end")


def _axis(scale: Scale, y: float) -> Iterator[str]:
    yield drawing.line(scale.left, y, scale.right, y, "rule")
    for t in drawing.steps(scale.start_s, scale.end_s, most=8):
        yield drawing.line(scale.x(t), y, scale.x(t), y + 4, "rule")
        yield drawing.text(max(scale.x(t), scale.left + 10), y + 18, words.duration(t), "axis", anchor="middle")
