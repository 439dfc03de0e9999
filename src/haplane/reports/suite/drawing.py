"""Small pieces of SVG. Colours are the page's: a shape has a class, and the page's style says what it looks like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from haplane.reports.markup import xml

LETTER = 6.7  # pixels: about the width of a letter of the page's labels


@dataclass(frozen=True)
class Scale:
    """Seconds to pixels."""

    start_s: float
    end_s: float
    left: float
    right: float

    def x(self, at_s: float) -> float:
        """Inside, also for what lies outside."""
        share = (min(max(at_s, self.start_s), self.end_s) - self.start_s) / (self.end_s - self.start_s)
        return round(self.left + share * (self.right - self.left), 1)


def steps(start_s: float, end_s: float, most: int = 9) -> tuple[float, ...]:
    """Round times between the two, at most about so many: 1, 2 or 5 times a power of ten apart."""
    rough = max((end_s - start_s) / most, 1e-6)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(start_s / step - 1e-9), math.floor(end_s / step + 1e-9)
    return tuple(round(number * step, 9) for number in range(first, last + 1))


def svg(name: str, title: str, description: str, width: float, height: float, shapes: Iterable[str]) -> str:
    """name: unique on the page. The description is for those who do not see the picture."""
    body = "".join(f"{shape}\n" for shape in shapes)
    return (
        f'<svg role="img" aria-labelledby="{name}-title {name}-desc" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}">\n<title id="{name}-title">{xml(title)}</title>\n'
        f'<desc id="{name}-desc">{xml(description)}</desc>\n{body}</svg>'
    )


def text(x: float, y: float, line: str, kind: str, *, anchor: str = "start", tip: str = "") -> str:
    """y: of the baseline. tip: shown when pointed at."""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    more = f"<title>{xml(tip)}</title>" if tip else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{where}>{xml(line)}{more}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{x1:g} {y1:g}L{x2:g} {y2:g}"/>'


def rectangle(x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> str:
    box = f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{max(width, 1.5):g}" height="{height:g}"'
    return f"{box}><title>{xml(tip)}</title></rect>" if tip else f"{box}/>"


def bars(places: Sequence[float], y: float, height: float, thick: float, kind: str) -> str:
    """One upright bar at each place; those that would touch are one. A long history then stays a small picture."""
    runs: list[tuple[float, float]] = []
    for x in sorted(places):
        if runs and x - runs[-1][1] <= thick + 1.0:
            runs[-1] = (runs[-1][0], x)
        else:
            runs.append((x, x))
    moves = "".join(
        f"M{first - thick / 2:g} {y:g}h{last - first + thick:.4g}v{height:g}h{first - last - thick:.4g}z"
        for first, last in runs
    )
    return f'<path class="{kind}" d="{moves}"/>' if moves else ""


def cut(line: str, width: float) -> str:
    """So that it is about this wide at most."""
    letters = max(int(width / LETTER), 1)
    return line if len(line) <= letters else f"{line[: letters - 1]}…"
