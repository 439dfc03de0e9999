"""What changed since an earlier suite, and what the runs cannot tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.drills.planted import planted
from tests.reports.suites import drill, run, suite

from haplane.reports.drill import DrillReport
from haplane.reports.suite import SuiteReport, against, lines, markdown, page, summary
from haplane.reports.suite.comparison import Change


def change(before: DrillReport, after: DrillReport) -> Change:
    return against(summary(suite(before)), suite(after)).changes[0]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ((0.2, 0.3), (0.22, 0.26), "within the spread of the runs"),
        ((0.2, 0.3), (0.3, 0.4), "within the spread of the runs"),
        ((0.2, 0.22), (0.24, 0.26), "closer than the probe can tell apart"),
        ((0.2, 0.22), (0.4, 0.44), "longer than in any run before"),
        ((0.4, 0.44), (0.2, 0.22), "shorter than in any run before"),
        ((0.2,), (0.2,), "within the spread of the runs"),
        ((0.2,), (0.4, 0.44), "longer than in any run before, but one run shows no spread"),
    ],
)
def test_a_difference_is_judged_by_the_ranges_of_the_runs(
    before: tuple[float, ...], after: tuple[float, ...], said: str
) -> None:
    assert change(drill(*before), drill(*after)).judgement == said


def test_medians_and_their_difference_are_shown_with_their_sign() -> None:
    assert change(drill(0.2, 0.2), drill(0.3, 0.3)).difference_s == pytest.approx(0.1)
    assert change(drill(0.3, 0.3), drill(0.2, 0.2)).difference_s == pytest.approx(-0.1)


def both() -> tuple[SuiteReport, SuiteReport]:
    before = suite(drill(0.2, 0.22), drill(0.1, name="gone"), drill(0.1, name="same"))
    after = suite(drill(0.42, 0.44), drill(0.1, name="same"), drill(0.1, name="new"))
    return replace(before, when="2026-05-10", haplane="0.0.9"), after


def test_the_lines_say_what_changed_what_is_new_and_what_is_gone() -> None:
    before, after = both()
    assert lines(against(summary(before), after)) == [
        "compared with the suite of 2026-05-10 (haplane 0.0.9)",
        "power-off: held → violated; longest gap 230 ms → 450 ms (+220 ms, longer than in any run before); "
        "not served 10.5 (10–11) → 21.5 (21–22)",
        "same: held; longest gap 120 ms → 120 ms (0 ms, within the spread of the runs); not served 5 → 5",
        "new: new",
        "gone: gone",
    ]


def test_another_cluster_is_said() -> None:
    before, after = both()
    compared = against(replace(summary(before), cluster="lab"), after)
    assert "it was made on another cluster, lab" in lines(compared)


def test_the_page_and_the_wiki_text_have_the_comparison() -> None:
    before, after = both()
    compared = against(summary(before), after)
    assert "Compared with before" not in page.written(after)
    assert "+220 ms, longer than in any run before" in page.written(after, compared)
    row = "| power-off | held → violated | 230 ms → 450 ms | +220 ms, longer than in any run before |"
    assert row in markdown.written(after, compared)


def test_without_a_drill_in_common_there_is_no_table() -> None:
    compared = against(summary(suite(drill(0.1, name="a"))), suite(drill(0.1, name="b")))
    assert lines(compared)[1:] == ["new: b", "gone: a"]
    assert "longest gap, median" not in markdown.written(suite(), compared)
    assert "longest gap, median" not in page.written(suite(), compared)


def test_the_budget_is_not_needed_to_compare() -> None:
    bare = DrillReport("power-off", (run(planted()),))
    assert change(bare, bare).judgement == "within the spread of the runs"
