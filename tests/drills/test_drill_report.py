"""One drill's result as text and as JSON."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace

from planted import CONFIG, FAULT, planted
from rich.console import Console

from haplane.design.budget import Budget
from haplane.design.link import Link
from haplane.drills.checkers import Outcome, availability, budget_held
from haplane.probes.history import History, Mark
from haplane.reports.drill import DrillReport, Run, Spread, as_json, render, spread, timeline

BUDGET = Budget(
    "the holder of the VIP loses power",
    (Link("detect", 0.3, 0.31, "3 adverts [of 0.1 s] and the skew"), Link("announce", 0.001, 0.01, "gratuitous ARP")),
)


def run(history: History) -> Run:
    verdicts = (
        availability(history, longest_gap_s=0.35, failed_at_most=12),
        budget_held(history, BUDGET.worst_s),
    )
    return Run(history, verdicts)


def text(report: DrillReport, *, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(render(report))
    return out.getvalue()


def test_the_measurement_stands_beside_the_budget() -> None:
    shown = text(DrillReport("power-off", (run(planted(outage=(0.0, 0.2))),), BUDGET))
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert rows["power-off:"].strip() == "power-off: held"
    assert "300 ms" in rows["detect"] and "310 ms" in rows["detect"] and "3 adverts [of 0.1 s]" in rows["detect"]
    assert "301 ms" in rows["computed"] and "320 ms" in rows["computed"]
    assert "220 ms" in rows["measured"]
    assert "measured 0.220 s, the budget allows 0.320 s" in shown


def test_the_timeline_shows_the_outage_under_the_fault() -> None:
    lines = text(DrillReport("power-off", (run(planted(outage=(0.0, 0.25))),), BUDGET)).splitlines()
    new = next(line for line in lines if line.lstrip().startswith("new "))
    mark = next(line for line in lines if "^ power-off cp1" in line)
    assert new[mark.index("^") - 1 :].startswith("█××▄█")


def test_the_timeline_tells_late_partly_and_empty_cells_apart() -> None:
    history = planted(outage=(0.1, 0.15))
    assert timeline(history, "new", FAULT - 0.2, 6) == "███▄██"
    assert timeline(history, "new", FAULT - 5.2, 4) == "  ██"
    assert timeline(history, "persistent", FAULT, 3) == "█×█"


def test_a_service_has_a_row_with_its_url_below_and_its_numbers_in_json() -> None:
    url = "http://192.0.2.21:30080/health"
    history = planted(outage=(0.0, 0.2), config=replace(CONFIG, services=(url,)))
    report = DrillReport("power-off", (run(history),), BUDGET)
    lines = text(report, width=80).splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("   service ██████████××█"))
    assert lines[row + 1] == f"           {url}"
    (service,) = as_json(report)["runs"][0]["services"]
    assert (service["probe"], service["total"], service["failed"]) == (f"service {url}", 250, 2)
    assert json.dumps(service, allow_nan=False)
    assert as_json(DrillReport("power-off", (run(planted()),), BUDGET))["runs"][0]["services"] == []


def test_a_verdict_that_is_not_held_shows_its_evidence() -> None:
    shown = text(DrillReport("power-off", (run(planted(outage=(0.0, 0.9))),), BUDGET))
    assert "violated  availability-new: longest gap 0.920 s (at most 0.35 s)" in shown
    assert "due +0.000 s: failed (refused)" in shown


def test_several_runs_are_compared_by_median_min_and_max() -> None:
    runs = tuple(run(planted(outage=(0.0, length))) for length in (0.2, 0.1, 0.24))
    rows = [line.split() for line in text(DrillReport("power-off", runs, BUDGET)).splitlines()]
    assert ["3", "runs", "median", "min", "max"] in rows
    assert ["longest", "gap", "220", "ms", "120", "ms", "260", "ms"] in rows
    assert ["failed", "10", "5", "12"] in rows


def test_numbers_that_no_run_has_are_not_invented() -> None:
    assert spread([None, None]) == Spread(None, None, None)
    assert spread([3.0, None, 1.0]) == Spread(2.0, 1.0, 3.0)


def test_a_drill_without_a_fault_or_a_budget_can_be_shown() -> None:
    report = DrillReport("power-off", (run(planted(marks=[Mark(FAULT, "whole")])),))
    assert report.outcome is Outcome.UNKNOWN
    assert "no fault is marked" in text(report)
    assert as_json(report)["budget"] is None
    assert "unknown" in text(DrillReport("power-off", (run(History(())),)))


def test_the_json_is_json_with_a_version() -> None:
    report = DrillReport("power-off", (run(planted(outage=(0.0, 0.2))),) * 2, BUDGET)
    shape = json.loads(json.dumps(as_json(report), allow_nan=False))
    assert (shape["version"], shape["drill"], shape["outcome"]) == (1, "power-off", "held")
    assert shape["budget"]["links"][0] == {
        "name": "detect",
        "typical_s": 0.3,
        "worst_s": 0.31,
        "because": "3 adverts [of 0.1 s] and the skew",
        "formula": None,
        "setting": None,
    }
    assert shape["measured"]["failed"] == {"median": 10, "min": 10, "max": 10}
    assert shape["runs"][0]["outage"]["kinds"] == {"refused": 10}
    assert [verdict["outcome"] for verdict in shape["runs"][0]["verdicts"]] == ["held", "held"]


def test_importing_the_report_does_not_import_rich() -> None:
    command = [sys.executable, "-c", "import sys, haplane.reports.drill; sys.exit('rich' in sys.modules)"]
    assert subprocess.run(command, timeout=60).returncode == 0
