"""The suite in a terminal."""

from __future__ import annotations

import io
import math
import subprocess
import sys

import pytest
from rich.console import Console
from tests.reports.suites import drill, suite

from haplane.drills.catalogue import DRILLS
from haplane.reports.suite import SuiteReport, against, render, summary, words

NOT_RUN = (("disk-full", "no disk [of its own]"),)


def shown(report: SuiteReport, *, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(render(report, against(summary(report), report)))
    return out.getvalue()


def test_the_table_fits_80_columns_and_ends_with_the_outcome() -> None:
    text = shown(suite(drill(0.2, 0.9, name="power-off-vip-holder"), drill(0.1), not_run=NOT_RUN))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "drill outcome budget worst measured max not served" in rows
    assert "power-off-vip-holder violated 301 ms 320 ms 570 ms 920 ms 27.5 (10–45)" in rows
    assert "not run: disk-full: no disk [of its own]" in rows
    assert rows[-1] == "violated: 1 held, 1 violated, 1 not run"


def test_the_longest_names_fit_80_columns_where_each_drill_ran_once() -> None:
    longest = max((one.name for one in DRILLS), key=len)
    text = shown(suite(drill(12.0, name=longest), drill(0.1)))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "drill outcome budget worst measured served" in rows, "nothing but the last heading has two lines"
    assert any(row.startswith(f"{longest} violated") for row in rows), text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_suite_in_which_nothing_ran_is_unknown() -> None:
    assert shown(suite(not_run=NOT_RUN)).splitlines()[-1] == "unknown: 1 not run"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (math.inf, "no bound"),
        (0.0, "0 ms"),
        (0.2204, "220 ms"),
        (0.9996, "1.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (125.0, "125.0 s"),
    ],
)
def test_durations_have_three_digits_or_so(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


def test_differences_have_a_sign() -> None:
    assert [words.signed(each) for each in (0.02, -0.02, 0.0, -1e-9)] == ["+20 ms", "−20 ms", "0 ms", "0 ms"]


def test_importing_the_suite_does_not_import_rich_or_matplotlib() -> None:
    code = "import sys, haplane.reports.suite, haplane.reports.pictures as _"
    command = [sys.executable, "-c", f"{code}; sys.exit(bool({{'rich', 'matplotlib'}} & set(sys.modules)))"]
    assert subprocess.run(command, timeout=60).returncode == 0
