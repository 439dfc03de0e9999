"""Before something is broken clients are served well, or the fault is not what is measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.drills.planted import CONFIG, FAULT, START, edited, planted

from haplane.drills import running
from haplane.drills.calm import SEEN_S, unrest
from haplane.drills.catalogue import IDLE_CONNECTIONS
from haplane.drills.checkers import availability
from haplane.drills.judging import while_broken
from haplane.drills.noise import SETTLED_S, quiet_gaps, warm_up_s
from haplane.probes.history import CALM, Event, History, Mark, Request

FAULT_MARK = Mark(FAULT, "power-off", "cp1", 0.001)


def so_far(outage: tuple[float, float] = (0.0, 0.0)) -> History:
    """What the prober has written when a fault might come."""
    return planted(outage=outage, stop=FAULT, marks=())


def slow(history: History, part: float) -> History:
    """This part of the requests takes a second."""
    each = round(1 / part)

    def edit(event: Event) -> Event | None:
        if not isinstance(event, Request) or event.probe != "new" or round(event.t * CONFIG.rate) % each:
            return event
        return replace(event, end=event.t + 1.0) if event.t < FAULT - 1.0 else None

    return edited(history, edit)


def test_who_is_served_well_is_calm() -> None:
    assert unrest(so_far()) == ""


@pytest.mark.parametrize("outage", [(-SEEN_S + 0.2, -SEEN_S + 0.3), (-1.0, -0.9)])
def test_who_was_not_served_just_now_is_not(outage: tuple[float, float]) -> None:
    assert unrest(so_far(outage)) == "5 of 100 requests were not served in 2 s"


def test_what_was_earlier_is_forgotten() -> None:
    assert unrest(so_far((-4.0, -3.0))) == ""


def test_who_is_served_slowly_is_not_calm() -> None:
    assert unrest(slow(so_far(), 0.1)) == "10 of 100 requests took longer than 0.5 s"
    assert unrest(slow(so_far(), 0.01)) == ""


def test_who_was_not_answered_yet_is_served_slowly() -> None:
    def edit(event: Event) -> Event | None:
        return None if isinstance(event, Request) and FAULT - 1.0 <= event.t < FAULT - 0.7 else event

    assert unrest(edited(so_far(), edit)) == "15 of 100 requests took longer than 0.5 s"


def test_whoever_has_not_asked_for_a_while_knows_nothing() -> None:
    assert unrest(History(())) == "nothing was answered yet"
    assert unrest(planted(outage=(0, 0), stop=START + 1, marks=())) == "clients have been asking for less than 2 s"


def test_a_usual_drill_has_asked_long_enough() -> None:
    assert warm_up_s(IDLE_CONNECTIONS) + SEEN_S <= running.BEFORE_S + SETTLED_S


def test_what_was_wrong_before_it_was_calm_is_not_laid_at_the_faults_door() -> None:
    troubled = planted(outage=(-4.0, -3.0), marks=(FAULT_MARK,))
    verdict = availability(while_broken(troubled), longest_gap_s=1.0, failed_at_most=1)
    assert "not served before the fault" in verdict.sentence
    calm = troubled.with_events([Mark(FAULT - 2.5, CALM, "", 0.01)])
    verdict = availability(while_broken(calm), longest_gap_s=1.0, failed_at_most=1)
    assert verdict.outcome == "held"
    assert calm.fault == FAULT_MARK


def test_windows_to_compare_with_begin_when_it_is_calm() -> None:
    troubled = planted(outage=(0.0, 0.0), marks=(FAULT_MARK,))
    assert len(quiet_gaps(troubled)) == 2
    assert len(quiet_gaps(troubled.with_events([Mark(FAULT - 2.5, CALM)]))) == 1
