"""A timeline as SVG: what each probe got above, what observers saw below, on one axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from haplane.reports.markup import xml
from haplane.reports.suite import drawing, words
from haplane.reports.suite.drawing import LETTER, Scale
from haplane.reports.suite.timeline import Asked, Moment, ObservedRow, ProbeRow, Seen, Silence, State, Timeline

WIDTH, MARGIN, LABELS = 960, 14, (84, 230)  # pixels; labels: as wide as they must be, within these
LINE = 17  # a line of text
PROBE, BAR = 44, 24  # the height of a row

# A request's bar: how far below the row's top, how high, how thick. Shape tells them apart without colour.
_BARS = {
    State.SERVED: (26, 8, 1.6, "served"),
    State.LATE: (22, 12, 2.4, "late"),
    State.NOT_SERVED: (17, 22, 2.4, "lost"),
    State.NO_ANSWER: (17, 22, 2.4, "lost open"),
}

# How observers' values look: by their first word. Others are neither good nor bad.
_GOOD = frozenset({"held", "master", "up", "ready", "ok", "true", "active"})
_BAD = frozenset({"fault", "down", "failed", "false", "not-ready", "unready", "inactive"})


def draw(timeline: Timeline, *, name: str, title: str) -> str:
    """name: of the picture, unique on its page."""
    labels = [row.name for row in timeline.probes] + [f"{row.what} {row.machine}" for row in timeline.observed]
    left = min(max((len(label) * LETTER + 16 for label in labels), default=0), LABELS[1])
    scale = Scale(timeline.start_s, timeline.end_s, max(left, LABELS[0]), WIDTH - MARGIN)
    placed, levels = _levels(timeline.moments, scale)
    top = levels * LINE + 6
    observed_top = top + len(timeline.probes) * PROBE + (12 if timeline.observed else 0)
    bottom = observed_top + len(timeline.observed) * BAR + 4
    # A mark's line crosses what observers saw, and what a probe got is on top of it.
    shapes = [
        *_grid(timeline, scale, top, bottom),
        *_rule(timeline, scale, observed_top - 6),
        *(
            shape
            for number, row in enumerate(timeline.observed)
            for shape in _observed(row, scale, observed_top + number * BAR)
        ),
        *(shape for moment, level in placed for shape in _moment(moment, level, scale, bottom)),
        *(shape for number, row in enumerate(timeline.probes) for shape in _probe(row, scale, top + number * PROBE)),
    ]
    return drawing.svg(name, title, description(timeline), WIDTH, bottom + 2 * LINE + 4, shapes)


def description(timeline: Timeline) -> str:
    """What the picture shows, in sentences."""
    since = "the fault" if timeline.has_fault else "the start"
    said = [f"From {words.signed(timeline.start_s)} to {words.signed(timeline.end_s)} of {since}."]
    for row in timeline.probes:
        lost, late = row.how_many(State.NOT_SERVED, State.NO_ANSWER), row.how_many(State.LATE)
        gaps = "".join(f"; {_gap(each)} from {words.signed(each.start_s)}" for each in row.silences)
        said.append(
            f"Probe {row.name}: {words.plural(len(row.asked), 'request')}, {lost} not served, {late} late{gaps}."
        )
    said += [f"{each.text} at {words.signed(each.at_s)}." for each in timeline.moments]
    for seen in timeline.observed:
        changes = ", ".join(f"{each.value or 'no'} from {words.signed(each.start_s)}" for each in _new(seen.seen))
        said.append(f"{seen.what} on {seen.machine}: {changes}.")
    return " ".join(said)


def _new(seen: Iterable[Seen]) -> list[Seen]:
    return [each for each in seen if not each.is_old]


def _gap(silence: Silence) -> str:
    return f"longest gap {words.duration(silence.length_s)}"


# -- marks and axis


def _levels(moments: Sequence[Moment], scale: Scale) -> tuple[list[tuple[Moment, int]], int]:
    """Each label in the first line where it has room, and how many lines there are."""
    taken: list[list[tuple[float, float]]] = []
    placed = []
    for moment in moments:
        start, width = _label_at(moment, scale)
        level = next(
            (
                number
                for number, others in enumerate(taken)
                if all(start + width < left or right < start for left, right in others)
            ),
            len(taken),
        )
        if level == len(taken):
            taken.append([])
        taken[level].append((start, start + width))
        placed.append((moment, level))
    return placed, len(taken)


def _label(moment: Moment) -> str:
    return f"{drawing.cut(moment.text, 260)}, {words.signed(moment.at_s)}" if moment.at_s else moment.text


def _label_at(moment: Moment, scale: Scale) -> tuple[float, float]:
    """Where the label begins, and how wide it is: right of its line where there is room."""
    width = len(_label(moment)) * LETTER + 12
    x = scale.x(moment.at_s) + 5
    return (x if x + width < WIDTH else max(x - width, 0.0)), width


def _moment(moment: Moment, level: int, scale: Scale, bottom: float) -> Iterator[str]:
    x, y = scale.x(moment.at_s), level * LINE + 4
    kind = "heal" if moment.heals else "fault"
    yield drawing.line(x, y, x, bottom, f"{kind} way")
    start, _ = _label_at(moment, scale)
    yield drawing.text(start, y + 11, _label(moment), f"{kind} label", tip=moment.text)


def _grid(timeline: Timeline, scale: Scale, top: float, bottom: float) -> Iterator[str]:
    times = drawing.steps(timeline.start_s, timeline.end_s)
    yield '<path class="grid" d="' + "".join(f"M{scale.x(t):g} {top:g}V{bottom:g}" for t in times) + '"/>'
    for t in times:
        yield drawing.text(scale.x(t), bottom + LINE - 2, f"{'−' if t < 0 else ''}{abs(t):g}", "axis", anchor="middle")
    since = "seconds from the fault" if timeline.has_fault else "seconds from the start"
    yield drawing.text(scale.right, bottom + 2 * LINE - 1, since, "axis", anchor="end")


def _rule(timeline: Timeline, scale: Scale, y: float) -> Iterator[str]:
    if timeline.observed:
        yield drawing.line(0, y, scale.right, y, "rule")


# -- probes


def _probe(row: ProbeRow, scale: Scale, top: float) -> Iterator[str]:
    label = drawing.cut(row.name, scale.left - 16)
    yield drawing.text(scale.left - 12, top + 34, label, "name", anchor="end", tip=row.name)
    for number, silence in enumerate(row.silences):
        yield from _silence(silence, scale, top, _gap(silence) if number == 0 else words.duration(silence.length_s))
    if waits := "".join(_wait(each, scale, top) for each in row.asked):
        yield f'<path class="wait" d="{waits}"/>'
    for state, (below, height, thick, kind) in _BARS.items():
        places = [scale.x(each.due_s) for each in row.asked if each.state is state]
        yield drawing.bars(places, top + below, height, thick, kind)


def _wait(asked: Asked, scale: Scale, top: float) -> str:
    """From when it was due to when its end was known, where that can be seen."""
    start, end = scale.x(asked.due_s), scale.x(asked.end_s)
    return f"M{start:g} {top + 40:g}H{end:g}" if asked.state is not State.SERVED and end - start > 3 else ""


def _silence(silence: Silence, scale: Scale, top: float, said: str) -> Iterator[str]:
    """A band over the row, a bracket, and its length above it."""
    left, right = scale.x(silence.start_s), scale.x(silence.end_s)
    yield drawing.rectangle(left, top + 15, right - left, 26, "silence", _gap(silence))
    yield f'<path class="bracket" d="M{left:g} {top + 19:g}V{top + 15:g}H{max(right, left + 1.5):g}v4"/>'
    half = len(said) * LETTER / 2
    middle = min(max((left + right) / 2, scale.left + half), scale.right - half)
    yield drawing.text(middle, top + 10, said, "gap", anchor="middle")


# -- observers


def _observed(row: ObservedRow, scale: Scale, top: float) -> Iterator[str]:
    what = drawing.cut(f"{row.what} ", scale.left - 16 - len(row.machine) * LETTER)
    yield (
        f'<text class="name quiet" x="{scale.left - 12:g}" y="{top + 15:g}" text-anchor="end">{xml(what)}'
        f'<tspan class="machine">{xml(row.machine)}</tspan>'
        f"<title>{xml(f'{row.what} on {row.machine}')}</title></text>"
    )
    for each in row.seen:
        yield from _value(each, scale, top)


def _value(seen: Seen, scale: Scale, top: float) -> Iterator[str]:
    left, right = scale.x(seen.start_s), scale.x(seen.end_s)
    old = " old" if seen.is_old else ""
    if not seen.value:
        yield drawing.line(left, top + 11, right, top + 11, f"none{old}")
        return
    when = f"from {words.signed(seen.start_s)} to {words.signed(seen.end_s)}"
    tip = f"{seen.value} {when}{', last seen before the machine was broken' if seen.is_old else ''}"
    yield drawing.rectangle(left, top + 3, right - left, 16, f"seen {_kind(seen.value)}{old}", tip)
    if not seen.is_old and len(seen.value) * LETTER + 8 < right - left:
        yield drawing.text(left + 5, top + 15, seen.value, "value")


def _kind(value: str) -> str:
    first = value.split()[0].lower() if value.split() else ""
    return "good" if first in _GOOD else "bad" if first in _BAD else "other"
