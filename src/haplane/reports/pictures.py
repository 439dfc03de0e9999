"""Timelines as PNG, for slides and chats. Needs the extra `pictures`; the page draws its own, as SVG."""

from __future__ import annotations

import importlib
import io
import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from haplane.model.errors import UsageError
from haplane.reports.drill import Run
from haplane.reports.suite import words
from haplane.reports.suite.report import SuiteReport, picture_file
from haplane.reports.suite.timeline import State, Timeline, views

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# How high a request's bar is, as a part of its row, and its colour: told apart without colour too.
_BARS = {
    State.SERVED: (0.3, "#5aa37c"),
    State.LATE: (0.5, "#b07c00"),
    State.NOT_SERVED: (0.8, "#bb2d20"),
    State.NO_ANSWER: (0.8, "#e08a80"),
}
WIDTH, ROW, AROUND, DPI = 10.0, 0.36, 1.3, 160  # inches, and dots per inch
LETTERS = 40  # of a row's name


# One takes half a second or more, and so does the start of a process that draws.
EACH_DRAWS = 4


def drawn(report: SuiteReport) -> dict[str, bytes]:
    """File name -> PNG, one for each run, on all processors. Raises UsageError without matplotlib."""
    _require_matplotlib()
    runs = {
        picture_file(drill.name, number): (run, f"{drill.name}, run {number}: {run.outcome}")
        for drill in report.drills
        for number, run in enumerate(drill.runs, start=1)
    }
    processes = min(os.cpu_count() or 1, len(runs) // EACH_DRAWS)
    if processes < 2:
        return _drawn_here(runs)
    names = list(runs)
    parts = [{name: runs[name] for name in names[number::processes]} for number in range(processes)]
    # What was started by fork would share this one's threads and locks.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        pictures = {name: png for part in pool.map(_drawn_here, parts) for name, png in part.items()}
    return {name: pictures[name] for name in names}


def _drawn_here(runs: Mapping[str, tuple[Run, str]]) -> dict[str, bytes]:
    return {name: draw(run, title=title) for name, (run, title) in runs.items()}


def _require_matplotlib() -> None:
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise UsageError(
            "pictures need matplotlib, which is not installed",
            why=str(error),
            hint="pip install 'haplane[pictures]'",
        ) from None


def draw(run: Run, *, title: str) -> bytes:
    """The time around the fault as PNG. Raises UsageError without matplotlib."""
    _require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    timeline = views(run)[0].timeline
    rows = len(timeline.probes) + len(timeline.observed)
    figure = Figure(figsize=(WIDTH, AROUND + rows * ROW), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold", pad=22, parse_math=False)
    _draw_rows(axes, timeline)
    _draw_moments(axes, timeline)
    since = "seconds from the fault" if timeline.has_fault else "seconds from the start"
    axes.set_xlabel(since, loc="right", fontsize=8)
    axes.set_xlim(timeline.start_s, timeline.end_s)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _draw_rows(axes: Axes, timeline: Timeline) -> None:
    # A URL must leave room for what was asked.
    probes = [row.name if len(row.name) <= LETTERS else f"{row.name[: LETTERS - 1]}…" for row in timeline.probes]
    names = probes + [f"{row.what}  {row.machine}" for row in timeline.observed]
    for y, row in enumerate(timeline.probes):
        for state, (height, colour) in _BARS.items():
            places = [each.due_s for each in row.asked if each.state is state]
            axes.vlines(places, y - height / 2, y + height / 2, colors=colour, linewidth=1.2)
        for silence in row.silences:
            axes.broken_barh([(silence.start_s, silence.length_s)], (y - 0.48, 0.96), facecolor="#f6d7d2", zorder=0)
            axes.annotate(
                words.duration(silence.length_s),
                (min(silence.end_s, timeline.end_s), y),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                fontweight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
    for y, observed in enumerate(timeline.observed, start=len(timeline.probes)):
        for seen in (each for each in observed.seen if each.value):
            style = ":" if seen.is_old else "-"
            axes.broken_barh(
                [(seen.start_s, seen.end_s - seen.start_s)],
                (y - 0.32, 0.64),
                facecolor="none" if seen.is_old else "#e2e5e9",
                edgecolor="#9aa3ab",
                linestyle=style,
                linewidth=0.8,
            )
            if not seen.is_old:
                start = max(seen.start_s, timeline.start_s)
                axes.text(start, y, f" {seen.value}", va="center", fontsize=7, clip_on=True, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_moments(axes: Axes, timeline: Timeline) -> None:
    for moment in timeline.moments:
        colour, style = ("#1b7f4d", "--") if moment.heals else ("#bb2d20", "-")
        axes.axvline(moment.at_s, color=colour, linestyle=style, linewidth=1.2)
        axes.annotate(
            moment.text,
            (moment.at_s, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 4),
            textcoords="offset points",
            color=colour,
            fontsize=8,
            parse_math=False,
        )
