"""Timelines as PNG, with matplotlib and without."""

from __future__ import annotations

import struct
import sys

import pytest
from tests.drills.planted import FAULT, START, planted
from tests.reports.suites import drill, run, suite, watched

from haplane.cli import drill as command
from haplane.model.errors import UsageError
from haplane.probes.history import Mark, Observation
from haplane.reports import pictures

FULL = suite(drill(0.2, 0.9), drill(0.1, name="kill-haproxy"))


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height in pixels (the PNG specification, 11.2.1)."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and png.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", png[16:24])


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_the_error_says_how_to_get_it() -> None:
    with pytest.raises(UsageError) as raised:
        pictures.draw(run(planted()), title="power-off")
    assert raised.value.hint == "pip install 'haplane[pictures]'"


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_a_report_has_no_pictures_and_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command._drawn(FULL) == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("without pictures: ") and "pip install 'haplane[pictures]'" in line


def test_every_run_is_a_picture() -> None:
    pytest.importorskip("matplotlib")
    drawn = pictures.drawn(FULL)
    assert list(drawn) == ["power-off-1.png", "power-off-2.png", "kill-haproxy-1.png"]
    assert all(size_of(png)[0] == pictures.WIDTH * pictures.DPI for png in drawn.values())


def test_many_are_drawn_by_several_processes_and_look_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    many = suite(drill(*[0.1] * (2 * pictures.EACH_DRAWS)))
    drawn = pictures.drawn(many)
    assert list(drawn) == [f"power-off-{number}.png" for number in range(1, 2 * pictures.EACH_DRAWS + 1)]
    last = many.drills[0].runs[-1]
    assert drawn["power-off-8.png"] == pictures.draw(last, title=f"power-off, run 8: {last.outcome}")


def test_each_row_that_was_observed_makes_the_picture_higher() -> None:
    pytest.importorskip("matplotlib")
    seen = [Observation(START, f"cp{number}", "vip", "held $x") for number in range(3)]
    low, high = (size_of(pictures.draw(run(each), title="t")) for each in (watched(), watched(*seen)))
    assert high[1] - low[1] == pytest.approx(3 * pictures.ROW * pictures.DPI, abs=1)


def test_a_run_without_a_fault_can_be_drawn() -> None:
    pytest.importorskip("matplotlib")
    assert size_of(pictures.draw(run(planted(marks=[Mark(FAULT, "whole")])), title="$_{"))
