"""Short gaps beside what a busy host looks like without a fault, wherever the suite is shown."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from tests.reports.suites import drill, suite

from haplane.reports.drill import DrillReport
from haplane.reports.suite import SuiteReport, markdown, page, read_json, render, saved, summary, write
from haplane.reports.suite.quiet import beside

SHORT, LONG = drill(0.06, 0.1, name="move-vip"), drill(0.2, name="power-off-vip-holder")
FULL = replace(suite(SHORT, LONG), quiet_gaps_s=(0.02, 0.024, 0.045, 0.02, 0.092))


def test_a_gap_that_a_host_may_make_itself_stands_beside_quiet_windows() -> None:
    found = beside(SHORT, FULL)
    assert found is not None
    assert [round(each or 0, 3) for each in (found.from_fault.median, found.from_fault.most)] == [0.1, 0.12]
    assert (found.quiet.median, found.quiet.most, found.windows) == (0.024, 0.092, 5)


def test_one_short_run_is_enough_and_a_long_gap_needs_no_comparison() -> None:
    assert beside(drill(0.3, 0.06), FULL) is not None
    assert beside(LONG, FULL) is None


def test_without_quiet_windows_or_without_runs_nothing_is_compared() -> None:
    assert beside(SHORT, suite(SHORT)) is None
    assert beside(DrillReport("a", ()), FULL) is None


def shown(report: SuiteReport) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=80, no_color=True).print(render(report))
    assert all(len(line) <= 80 for line in out.getvalue().splitlines())
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_the_terminal_table_has_both_under_the_drill() -> None:
    rows = shown(FULL)
    at = rows.index("move-vip held 301 ms 320 ms 100 ms 120 ms 4 (3–5)")
    assert rows[at + 1] == "2 s from fault 100 ms 120 ms"
    assert rows[at + 2].startswith("power-off-vip-holder held")
    said = "quiet windows: 24 ms, at most 92 ms: longest gaps of 5 windows of 2 s without a fault: median, max"
    assert said in " ".join(rows)
    assert not any("quiet" in row for row in shown(suite(SHORT, LONG)))


def test_the_wiki_text_and_the_page_have_both_under_what_was_measured() -> None:
    lines = markdown.written(FULL).splitlines()
    at = lines.index("| measured | 100 ms | 120 ms | longest gap: median, max |")
    assert lines[at + 1] == "| 2 s from fault | 100 ms | 120 ms | longest gap in the 2 s from the fault: median, max |"
    because = "longest gaps of 5 windows of 2 s without a fault: median, max"
    assert lines[at + 2] == f"| quiet windows | 24 ms | 92 ms | {because} |"
    text = page.written(FULL)
    row = f'<th scope="row">quiet windows</th><td class="number">24 ms</td><td class="number">92 ms</td><td>{because}'
    assert text.count(row) == 1
    assert text.index('id="drill-1"') < text.index(row) < text.index('id="drill-2"')


def test_the_json_has_every_window_and_the_comparison(tmp_path: Path) -> None:
    quiet = json.loads(saved.written(FULL))["quiet"]
    assert (quiet["window_s"], quiet["gaps_s"]) == (2.0, [0.02, 0.024, 0.045, 0.02, 0.092])
    (each,) = quiet["beside"]
    assert each["drill"] == "move-vip"
    assert each["quiet_s"] == {"median": 0.024, "min": 0.02, "max": 0.092}
    assert round(each["from_fault_s"]["max"], 3) == 0.12
    write(FULL, tmp_path)
    assert read_json(tmp_path / "report.json") == summary(FULL)
