"""Windows without a fault, and the window from it: cut out of histories."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from planted import CONFIG, FAULT, START, edited, planted
from tests.model.clusters import three_nodes

from haplane.design.design import Design
from haplane.drills import judging, running
from haplane.drills.catalogue import IDLE_CONNECTIONS, find
from haplane.drills.noise import (
    WINDOW_S,
    WINDOWS,
    gap_from_fault,
    lasts_s,
    quiet_gaps,
    still_needed,
    usual_s,
    warm_up_s,
)
from haplane.model.errors import HaplaneError
from haplane.probes.gaps import gaps
from haplane.probes.history import HEAL, End, Event, History, Mark, Request

EVERY_S = 0.02
USUAL = replace(CONFIG, idle_connections=IDLE_CONNECTIONS)
WARM_UP_S = warm_up_s(IDLE_CONNECTIONS)


def without(history: History, *silences: tuple[float, float]) -> History:
    """Nobody is asked within these times, which are on the prober's clock."""

    def kept(event: Event) -> Event | None:
        silent = isinstance(event, Request) and any(start <= event.t < end for start, end in silences)
        return None if silent else event

    return edited(history, kept)


def quiet(*silences: tuple[float, float], windows: int = 5) -> History:
    return without(planted(outage=(0.0, 0.0), marks=[], stop=START + lasts_s(windows), config=USUAL), *silences)


def test_a_history_without_a_fault_is_all_windows() -> None:
    found = quiet_gaps(quiet())
    assert len(found) == 5
    assert found == pytest.approx([EVERY_S] * 5, abs=1e-5)


@pytest.mark.parametrize("windows", [1, 12, 17, 20])
def test_so_long_a_history_has_so_many_windows(windows: int) -> None:
    assert len(quiet_gaps(quiet(windows=windows))) == windows


def test_each_gap_belongs_to_its_window() -> None:
    first = START + WARM_UP_S
    found = quiet_gaps(quiet((first + 1.0, first + 1.1), (first + 2 * WINDOW_S + 1.0, first + 2 * WINDOW_S + 1.2)))
    assert [round(gap_s, 1) for gap_s in found] == [0.1, 0.0, 0.2, 0.0, 0.0]


def test_the_start_is_left_out() -> None:
    """Idle connections are being made then."""
    assert max(quiet_gaps(quiet((START + 0.1, START + WARM_UP_S - 0.1)))) == pytest.approx(EVERY_S, abs=1e-5)


def test_a_drills_history_is_quiet_until_its_fault() -> None:
    found = quiet_gaps(planted(outage=(0.0, 0.9), config=USUAL))
    assert len(found) == math.floor((FAULT - START - WARM_UP_S) / WINDOW_S) == 1
    assert found[0] == pytest.approx(EVERY_S, abs=1e-5)


def test_what_a_drill_waits_before_it_breaks_something_is_a_window() -> None:
    assert running.BEFORE_S >= WARM_UP_S + WINDOW_S


def test_more_idle_connections_take_longer_to_make() -> None:
    herd = replace(CONFIG, idle_connections=200)
    assert quiet_gaps(planted(outage=(0.0, 0.9), config=herd)) == ()
    assert warm_up_s(200) > FAULT - START - WINDOW_S


def test_a_history_that_was_cut_off_tells_nothing() -> None:
    cut = History(tuple(event for event in quiet().events if not isinstance(event, End)))
    assert quiet_gaps(cut) == ()
    assert quiet_gaps(History(())) == ()
    assert gap_from_fault(History(())) is None


def test_the_window_from_the_fault_sees_what_it_cost_at_once() -> None:
    assert gap_from_fault(planted(outage=(0.3, 0.4))) == pytest.approx(0.12, abs=1e-5)
    later = planted(outage=(WINDOW_S + 1.0, WINDOW_S + 2.0))
    assert gap_from_fault(later) == pytest.approx(EVERY_S, abs=1e-5)
    before = without(planted(outage=(0.0, 0.0)), (FAULT - 1.0, FAULT - 0.5))
    assert gap_from_fault(before) == pytest.approx(EVERY_S, abs=1e-5)


def test_a_fault_that_was_healed_sooner_has_no_such_window() -> None:
    off = Mark(FAULT, "power-off", "cp1", 0.001)
    assert gap_from_fault(planted(marks=[off, Mark(FAULT + WINDOW_S - 0.1, HEAL)])) is None
    assert gap_from_fault(planted(marks=[off], stop=FAULT + WINDOW_S - 0.1)) is None
    assert gap_from_fault(planted(marks=[])) is None


def test_runs_bring_a_window_each() -> None:
    assert [still_needed(runs) for runs in (0, 8, WINDOWS, 28)] == [20, 12, 0, 0]


def test_the_gaps_of_a_window_are_the_window() -> None:
    found = gaps(planted(), window=(FAULT - 1.0, FAULT + 1.0))
    assert sum(gap.length_s for gap in found) == pytest.approx(2.0)


def test_nobody_judges_a_quiet_history() -> None:
    with pytest.raises(HaplaneError, match="does not say which drill"):
        judging.judge(quiet(), Design(three_nodes()))


def test_the_longer_one_looks_the_longer_is_a_usual_gap() -> None:
    gaps_s = [number / 1000 for number in range(1, 101)]
    assert usual_s(gaps_s, WINDOW_S) == 0.095, "one window of 20 has a longer one"
    assert usual_s(gaps_s, 4 * WINDOW_S) == 0.099
    assert usual_s(gaps_s, 20 * WINDOW_S) == 0.1
    assert usual_s(gaps_s, 0.1) == 0.095
    assert usual_s(gaps_s[: WINDOWS - 1], WINDOW_S) == 0, "too few to say so"


def test_a_gap_that_is_there_without_a_fault_is_unknown_and_not_a_violation() -> None:
    named = judging.named(FAULT, find("power-off-backup"), "cp1")
    silent = without(planted(outage=(0.0, 0.0)), (FAULT + 1.0, FAULT + 1.3)).with_events([named])
    refused = planted(outage=(1.0, 1.3)).with_events([named])

    def found(history: History, *quiet_gaps_s: float) -> set[str]:
        verdicts = judging.judge(history, Design(three_nodes()), quiet_gaps_s).verdicts
        return {each.outcome.value for each in verdicts if each.name in ("while-broken", "budget")}

    assert found(silent) == {"violated"}
    assert found(silent, *[0.35] * (WINDOWS - 1)) == {"violated"}, "too few to say so"
    assert found(silent, *[0.35] * WINDOWS) == {"unknown"}
    assert found(silent, *[0.25] * WINDOWS) == {"violated"}
    assert found(refused, *[0.35] * WINDOWS) == {"violated", "unknown"}, "no gap explains requests that were lost"
