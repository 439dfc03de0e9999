"""The drill's judgement: what happened while something was broken, and when it was mended, are judged apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.model.clusters import three_nodes

from haplane.design.design import Design
from haplane.drills import catalogue, judging
from haplane.drills.checkers import Outcome
from haplane.model.errors import HaplaneError
from haplane.probes.history import Clock, End, Event, Header, History, Mark, Observation, Request, RequestOutcome
from haplane.probes.prober import Config

CONFIG = Config(address="192.0.2.100", port=8443, server_hostname="kubernetes", ca_file="ca.crt", persistent_rate=0)
DESIGN = Design(three_nodes())
DRILL = catalogue.find("power-off-vip-holder")
BUDGET = DRILL.budget_of(DESIGN, ["cp1"])
OFF, ON, WHOLE, END_S = 5.0, 15.0, 25.0, 30.0


def history(*dark: tuple[float, float]) -> History:
    """50 requests/s for 30 s, refused between these times."""
    requests = []
    for index in range(int(END_S * 50)):
        due = index / 50
        refused = any(start <= due < end for start, end in dark)
        outcome, kind = (RequestOutcome.FAILED, "refused") if refused else (RequestOutcome.OK, "")
        requests.append(Request(due, "new", outcome, kind, due, due + 0.005))
    marks = [Mark(OFF, "power-off", "cp1"), Mark(ON, "power-on", "cp1"), Mark(WHOLE, "whole")]
    header = Header(0.0, 1, 0.0, 0.0, 0.0, CONFIG)
    clocks = [Clock(float(second), 0.001) for second in range(1, int(END_S))]
    named = judging.named(0.0, DRILL, "cp1")
    return History((header, *requests, *clocks, End(END_S, "duration", len(requests)), named, *marks))


def outcomes(judged: History) -> dict[str, Outcome]:
    return {verdict.name: verdict.outcome for verdict in judging.judge(judged, DESIGN).verdicts}


def test_nothing_lost_is_held() -> None:
    assert set(outcomes(history()).values()) == {Outcome.HELD}


def test_a_long_gap_while_the_power_was_off_is_the_failovers() -> None:
    found = outcomes(history((5.0, 5.8)))
    assert found["while-broken"] is Outcome.VIOLATED
    assert found["budget"] is Outcome.VIOLATED
    assert found["return"] is Outcome.HELD


def test_requests_lost_when_the_machine_comes_back_are_the_returns() -> None:
    found = outcomes(history((17.0, 17.2)))
    assert found["while-broken"] is Outcome.HELD
    assert found["budget"] is Outcome.HELD
    assert found["return"] is Outcome.VIOLATED


def test_a_cluster_that_is_whole_too_late_is_told() -> None:
    late = History(
        tuple(
            Mark(event.t, "nothing") if isinstance(event, Mark) and event.what == "whole" else event
            for event in history().events
        )
    )
    assert outcomes(late)["recovered"] is not Outcome.HELD


def test_the_budget_names_the_links_and_adds_up() -> None:
    assert BUDGET.worst_s == sum(link.worst_s for link in BUDGET.links)
    assert BUDGET.links[0].name == "detect"
    # RFC 9568: three adverts of 0.1 s, and the best backup's skew: (256 - 224) / 256 of one.
    assert abs(BUDGET.links[0].worst_s - 0.3125) < 1e-9
    assert all(link.typical_s <= link.worst_s for link in BUDGET.links)


def test_a_history_says_which_drill_it_is_of() -> None:
    assert judging.judge(history(), DESIGN).drill is DRILL
    nameless = History(tuple(event for event in history().events if not isinstance(event, Observation)))
    with pytest.raises(HaplaneError, match="does not say which drill"):
        judging.judge(nameless, DESIGN)


def test_a_history_of_another_cluster_is_refused() -> None:
    moved = history().with_events([])
    other = History(
        tuple(replace(event, machine="db1") if isinstance(event, Observation) else event for event in moved.events)
    )
    with pytest.raises(HaplaneError, match="another cluster"):
        judging.judge(other, DESIGN)


def test_what_no_client_asks_for_gives_requests_no_time() -> None:
    """A scheduler may be without a lease for 24 s; a request waits for none of it."""
    scheduler = judging.named(0.0, catalogue.find("scheduler-death"), "cp1")

    def as_scheduler(event: Event) -> Event:
        if isinstance(event, Observation):
            return scheduler
        if isinstance(event, Mark) and event.what in ("power-off", "power-on"):
            return replace(event, what="scheduler-death" if event.what == "power-off" else "heal")
        return event

    lost = History(tuple(map(as_scheduler, history((5.0, 5.8)).events)))
    assert outcomes(lost)["while-broken"] is Outcome.VIOLATED
