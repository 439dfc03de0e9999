"""Each checker against histories that hold, and against near misses planted so that it must not say held."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import CONFIG, FAULT, START, STOP, TOOK, edited, planted

from haplane.drills.checkers import (
    Outcome,
    Verdict,
    availability,
    budget_held,
    gaps,
    measure,
    overall,
    recovered,
)
from haplane.probes.history import (
    Clock,
    End,
    Event,
    Header,
    History,
    Mark,
    Reconnect,
    Request,
    RequestOutcome,
    Stall,
)

HELD, VIOLATED, UNKNOWN = Outcome.HELD, Outcome.VIOLATED, Outcome.UNKNOWN
OFF = Mark(FAULT, "power-off", "cp1", 0.001)


def judged(history: History, *, longest_gap_s: float = 0.35, failed_at_most: int = 10, probe: str = "new") -> Verdict:
    return availability(history, probe=probe, longest_gap_s=longest_gap_s, failed_at_most=failed_at_most)


# -- availability


def test_a_short_outage_within_the_limits_is_held() -> None:
    verdict = judged(planted(outage=(0.0, 0.2)))
    assert verdict.outcome is HELD
    assert verdict.sentence == "longest gap 0.220 s (at most 0.35 s), 10 of 1250 requests not served (at most 10)"


def test_a_gap_longer_than_the_limit_is_violated_though_few_requests_failed() -> None:
    def lose(event: Event) -> Event | None:  # one late success after nothing at all: no request of the gap failed
        if isinstance(event, Request) and event.probe == "new" and 0 <= event.t - FAULT < 0.4:
            return replace(event, end=FAULT + 0.41)
        return event

    history = edited(planted(outage=(0.0, 0.0)), lose)
    assert measure(history).failed == 0
    assert judged(history).outcome is VIOLATED
    assert judged(history, longest_gap_s=0.43).outcome is HELD


def test_one_failed_request_more_than_allowed_is_violated() -> None:
    history = planted(outage=(0.0, 0.2))
    assert judged(history, failed_at_most=9).outcome is VIOLATED
    assert judged(history, failed_at_most=10).outcome is HELD


def test_indeterminate_requests_count_as_not_served() -> None:
    history = planted(outage=(0.0, 0.2), outcome=RequestOutcome.INDETERMINATE, kind="timeout")
    assert measure(history).indeterminate == 10
    assert judged(history, failed_at_most=10).outcome is HELD
    assert judged(history, failed_at_most=9).outcome is VIOLATED


def test_a_single_failure_long_after_the_fault_counts() -> None:
    history = planted(outage=(15.0, 15.01))
    assert judged(history, failed_at_most=0).outcome is VIOLATED


def test_an_outage_that_never_ends_is_violated() -> None:
    assert judged(planted(outage=(0.0, 100.0)), failed_at_most=10**6).outcome is VIOLATED


def test_the_persistent_probe_is_judged_on_its_own() -> None:
    def break_persistent(event: Event) -> Event:
        if isinstance(event, Request) and event.probe == "persistent" and 0 <= event.t - FAULT < 1.0:
            return replace(event, outcome=RequestOutcome.FAILED, kind="reset")
        return event

    history = edited(planted(outage=(0.0, 0.0)), break_persistent)
    assert judged(history, failed_at_most=0).outcome is HELD
    assert judged(history, probe="persistent", failed_at_most=0).outcome is VIOLATED


def test_a_history_without_an_end_is_unknown() -> None:
    history = edited(planted(), lambda event: None if isinstance(event, End) else event)
    verdict = judged(history)
    assert verdict.outcome is UNKNOWN and "no end" in verdict.sentence


def test_a_history_without_a_header_is_unknown() -> None:
    verdict = judged(edited(planted(), lambda event: None if isinstance(event, Header) else event))
    assert verdict.outcome is UNKNOWN and "no header" in verdict.sentence


def test_a_history_without_a_fault_is_unknown() -> None:
    verdict = judged(planted(marks=()))
    assert verdict.outcome is UNKNOWN and "no fault" in verdict.sentence
    assert judged(planted(marks=[Mark(FAULT, "whole")])).outcome is UNKNOWN


def test_a_fault_outside_the_window_is_unknown() -> None:
    assert judged(planted(marks=[Mark(STOP + 1, "power-off")])).outcome is UNKNOWN
    assert judged(planted(marks=[Mark(START - 1, "power-off")])).outcome is UNKNOWN


def test_missing_lines_are_unknown() -> None:
    history = planted()
    lost = next(event for event in history.events if isinstance(event, Request))
    verdict = judged(History(tuple(event for event in history.events if event is not lost)))
    assert verdict.outcome is UNKNOWN and "wrote 1500 requests and the history has 1499" in verdict.sentence


def test_too_few_requests_are_unknown() -> None:
    def every_second(event: Event) -> Event | None:
        return None if isinstance(event, Request) and round(event.t * 50) % 2 else event

    verdict = judged(edited(planted(), every_second))
    assert verdict.outcome is UNKNOWN and "too few requests: 625, expected 1250" in verdict.sentence


def test_too_few_successes_before_the_fault_are_unknown() -> None:
    verdict = judged(planted(marks=[Mark(START + 0.2, "power-off")]))
    assert verdict.outcome is UNKNOWN and "before the fault" in verdict.sentence


def test_a_probe_that_did_not_run_is_unknown() -> None:
    assert judged(planted(config=replace(CONFIG, persistent_rate=0)), probe="persistent").outcome is UNKNOWN


def test_a_probe_that_is_too_slow_for_the_limit_is_unknown() -> None:
    verdict = judged(planted(outage=(0.0, 0.0)), longest_gap_s=0.03)
    assert verdict.outcome is UNKNOWN and "cannot judge" in verdict.sentence


def test_a_history_that_stops_soon_after_the_fault_is_not_held() -> None:
    verdict = judged(planted(outage=(0.0, 0.2), stop=107.0))
    assert verdict.outcome is UNKNOWN and "after the fault" in verdict.sentence
    assert judged(planted(outage=(0.0, 0.6), stop=107.0)).outcome is VIOLATED, "it is violated already"


def test_an_overloaded_prober_is_unknown() -> None:
    verdict = judged(planted(kind="prober-overloaded"), failed_at_most=0)
    assert verdict.outcome is UNKNOWN and "10 prober-overloaded" in verdict.sentence


def test_trouble_before_the_fault_is_unknown_and_not_blamed_on_it() -> None:
    gap = judged(planted(outage=(-2.0, -1.0)), failed_at_most=100)
    assert gap.outcome is UNKNOWN and "began 2.0 s before the fault" in gap.sentence
    failed = judged(planted(outage=(-2.0, -1.9)), failed_at_most=2)
    assert failed.outcome is UNKNOWN and "5 requests were not served before the fault" in failed.sentence
    running = judged(planted(outage=(-1.0, 0.1)), failed_at_most=100)
    assert running.outcome is UNKNOWN, "the outage was there when the fault came"


def test_a_stall_that_could_not_have_hidden_a_longer_gap_does_not_matter() -> None:
    stall = Stall.ending(FAULT + 0.15, 0.12)
    assert judged(planted(outage=(0.0, 0.2), stalls=[stall])).outcome is HELD


def test_a_stall_of_the_prober_during_the_gap_is_unknown_and_says_how_much() -> None:
    stall = Stall.ending(FAULT + 0.15, 0.12)
    verdict = judged(planted(outage=(0.0, 0.25), stalls=[stall]), failed_at_most=99)
    assert verdict.outcome is UNKNOWN
    assert "stood still for 0.120 s around a gap of 0.280 s" in verdict.sentence
    assert judged(planted(outage=(0.0, 0.4), stalls=[stall]), failed_at_most=99).outcome is UNKNOWN, "0.30 s without it"


def test_a_short_stall_of_the_prober_is_forgiven() -> None:
    assert judged(planted(stalls=[Stall.ending(FAULT + 0.15, 0.05)])).outcome is HELD


def test_a_stall_elsewhere_does_not_matter_when_no_gap_could_be_too_long_with_it() -> None:
    assert judged(planted(stalls=[Stall.ending(FAULT + 10.0, 0.2)])).outcome is HELD
    assert judged(planted(stalls=[Stall.ending(FAULT + 10.0, 0.34)])).outcome is UNKNOWN


def test_a_gap_that_is_too_long_even_without_the_stall_is_violated() -> None:
    stall = Stall.ending(FAULT + 0.5, 0.3)
    assert judged(planted(outage=(0.0, 1.0), stalls=[stall]), failed_at_most=99).outcome is VIOLATED


def test_a_prober_whose_clock_lines_are_missing_is_unknown() -> None:
    history = edited(planted(), lambda event: None if isinstance(event, Clock) else event)
    assert judged(history).outcome is UNKNOWN


def test_timeouts_that_a_stall_may_have_caused_are_unknown() -> None:
    kwargs = {"outage": (5.0, 5.2), "outcome": RequestOutcome.INDETERMINATE, "kind": "timeout"}
    stalled = planted(**kwargs, stalls=[Stall.ending(FAULT + 7.5, 2.0)])  # type: ignore[arg-type]
    assert judged(stalled, longest_gap_s=5.0, failed_at_most=0).outcome is UNKNOWN
    steady = planted(**kwargs)  # type: ignore[arg-type]
    assert judged(steady, longest_gap_s=5.0, failed_at_most=0).outcome is VIOLATED


def test_the_evidence_names_what_was_not_served() -> None:
    evidence = judged(planted(outage=(0.0, 0.2)), failed_at_most=0).evidence
    assert evidence[0] == "longest gap 0.220 s, from -0.016 s to +0.204 s of the fault"
    assert evidence[1] == "1250 requests: 10 failed, 0 indeterminate (10 refused), 0 late (over 0.5 s)"
    assert "due +0.000 s: failed (refused) after 0.001 s" in evidence
    assert evidence[-1] == "and 5 more"


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(ValueError):
        judged(planted(), longest_gap_s=0.0)
    with pytest.raises(ValueError):
        judged(planted(), failed_at_most=-1)
    with pytest.raises(ValueError):
        budget_held(planted(), 0.0)
    with pytest.raises(ValueError):
        recovered(planted(), 0.0)


# -- the budget


def test_a_measurement_within_the_budget_is_held() -> None:
    verdict = budget_held(planted(outage=(0.0, 0.2)), 0.31)
    assert verdict.outcome is HELD
    assert verdict.sentence == "measured 0.220 s, the budget allows 0.310 s"


def test_a_measurement_above_the_budget_is_a_finding() -> None:
    verdict = budget_held(planted(outage=(0.0, 0.4)), 0.31)
    assert verdict.outcome is VIOLATED
    assert "the model or the cluster is wrong" in verdict.sentence


def test_a_measurement_above_the_budget_by_less_than_the_probe_can_tell_is_unknown() -> None:
    history = planted(outage=(0.0, 0.3))  # a gap of 0.32 s
    assert budget_held(history, 0.31).outcome is UNKNOWN
    assert budget_held(history, 0.27).outcome is VIOLATED
    assert budget_held(history, 0.33).outcome is HELD


@pytest.mark.parametrize("left_out", [Header, End, Mark, Clock])
def test_the_budget_is_unknown_for_an_incomplete_history(left_out: type[Event]) -> None:
    history = edited(planted(), lambda event: None if isinstance(event, left_out) else event)
    assert budget_held(history, 0.31).outcome is UNKNOWN


def test_the_budget_is_unknown_when_the_prober_stood_still_or_the_history_is_short_or_was_unsteady() -> None:
    assert budget_held(planted(stalls=[Stall.ending(FAULT + 0.1, 0.1)]), 0.31).outcome is UNKNOWN
    assert budget_held(planted(stop=107.0), 0.31).outcome is UNKNOWN
    assert budget_held(planted(outage=(-2.0, -1.0)), 0.31).outcome is UNKNOWN


# -- recovery


def healed(on: float | None, whole: float | None, *, error: float = 0.01, stop: float = STOP) -> History:
    marks = [OFF]
    marks += [] if on is None else [Mark(on, "power-on", "cp1", error)]
    marks += [] if whole is None else [Mark(whole, "whole", "", error)]
    return planted(marks=marks, stop=stop)


def test_a_cluster_that_is_whole_in_time_is_held() -> None:
    verdict = recovered(healed(110.0, 117.0), 8.0)
    assert verdict.outcome is HELD
    assert verdict.sentence == "whole 7.0 s after power-on (at most 8 s)"


def test_a_cluster_that_is_whole_too_late_is_violated() -> None:
    assert recovered(healed(110.0, 117.0), 6.9).outcome is VIOLATED


def test_a_recovery_closer_to_the_limit_than_the_clocks_are_related_is_unknown() -> None:
    assert recovered(healed(110.0, 117.0, error=0.1), 7.1).outcome is UNKNOWN
    assert recovered(healed(110.0, 117.0, error=0.1), 6.9).outcome is UNKNOWN


def test_a_cluster_that_is_never_whole_is_violated_once_the_time_is_over() -> None:
    assert recovered(healed(110.0, None), 10.0).outcome is VIOLATED
    assert recovered(healed(110.0, None), 20.0).outcome is UNKNOWN, "the history ends before the time is over"


def test_being_whole_before_the_power_came_back_is_no_recovery() -> None:
    assert recovered(healed(110.0, 101.0), 10.0).outcome is VIOLATED


def test_without_power_on_or_without_an_end_recovery_is_unknown() -> None:
    assert recovered(healed(None, 117.0), 10.0).outcome is UNKNOWN
    history = edited(healed(110.0, 112.0), lambda event: None if isinstance(event, End) else event)
    assert recovered(history, 10.0).outcome is UNKNOWN


# -- all together


def test_overall_is_held_only_when_all_are_and_there_is_one() -> None:
    verdicts = {outcome: Verdict("x", outcome, "") for outcome in Outcome}
    assert overall([]) is UNKNOWN
    assert overall([verdicts[HELD], verdicts[HELD]]) is HELD
    assert overall([verdicts[HELD], verdicts[UNKNOWN]]) is UNKNOWN
    assert overall([verdicts[UNKNOWN], verdicts[VIOLATED], verdicts[HELD]]) is VIOLATED


# -- what is measured


def test_gaps_lie_between_completions_and_include_the_ends_of_the_window() -> None:
    def keep_two(event: Event) -> Event | None:
        return None if isinstance(event, Request) and round(event.t, 3) not in (101.0, 103.0) else event

    found = gaps(edited(planted(outage=(0.0, 0.0)), keep_two))
    assert [(gap.start, gap.end) for gap in found] == [
        (START, 101.0 + TOOK),
        (101.0 + TOOK, 103.0 + TOOK),
        (103.0 + TOOK, STOP),
    ]


def test_answers_that_come_after_the_schedule_ended_do_not_shorten_the_last_gap() -> None:
    def late(event: Event) -> Event:
        return replace(event, end=STOP + 2.0) if isinstance(event, Request) and event.t >= STOP - 1.0 else event

    outage = measure(edited(planted(outage=(0.0, 0.0)), late))
    assert outage.longest_gap_s == pytest.approx(1.0 + 0.02 - TOOK)
    assert outage.late == 50


def test_latency_is_split_at_the_fault_and_where_the_cluster_was_whole_again() -> None:
    def slow(event: Event) -> Event:
        if isinstance(event, Request) and event.ok and FAULT <= event.t < 115.0:
            return replace(event, end=event.t + 0.6)
        return event

    history = planted(outage=(0.0, 0.0), marks=[OFF, Mark(111.0, "power-on", "cp1"), Mark(115.0, "whole")])
    outage = measure(edited(history, slow))
    assert (outage.before.count, outage.during.count, outage.after.count) == (250, 500, 500)
    assert outage.before.p99_s == pytest.approx(TOOK)
    assert outage.during.p50_s == pytest.approx(0.6)
    assert outage.after.p99_s == pytest.approx(TOOK)
    assert outage.late == 500


def test_the_probers_own_scheduling_error_is_how_late_requests_were_begun() -> None:
    def late(event: Event) -> Event:  # 13 of 1250 are late: one more than the p99 leaves out
        if isinstance(event, Request) and event.probe == "new" and event.t < START + 0.26:
            return replace(event, begun=event.t + (0.003 if event.t > START else 0.007))
        return event

    history = edited(planted(outage=(0.0, 0.2)), late)
    begun_late = measure(history).begun_late
    assert begun_late is not None
    assert (begun_late.p99_s, begun_late.worst_s) == (pytest.approx(0.003), pytest.approx(0.007))
    assert "requests were begun late by at most 0.007 s (p99 0.003 s)" in judged(history).evidence


def test_a_history_that_does_not_say_when_requests_were_begun_has_no_lateness() -> None:
    old = edited(planted(), lambda event: replace(event, begun=None) if isinstance(event, Request) else event)
    assert measure(old).begun_late is None
    assert judged(old).outcome is HELD


def test_the_persistent_connection_is_back_with_the_first_success_sent_after_it_broke() -> None:
    outage = measure(planted(outage=(0.0, 0.35)))
    assert outage.persistent_broke
    assert outage.persistent_back_s == pytest.approx(0.4 + TOOK)


def test_a_persistent_connection_that_broke_while_idle_is_known_from_its_reconnect() -> None:
    quiet = planted(outage=(0.0, 0.0))
    assert (measure(quiet).persistent_broke, measure(quiet).persistent_back_s) == (False, None)
    broken = quiet.with_events([Reconnect(FAULT + 0.25, "reset", RequestOutcome.OK, "", FAULT + 0.26)])
    assert measure(broken).persistent_broke
    assert measure(broken).persistent_back_s == pytest.approx(0.3 + TOOK)


def test_a_persistent_connection_that_never_works_again_has_no_time() -> None:
    outage = measure(planted(outage=(0.0, 100.0)))
    assert (outage.persistent_broke, outage.persistent_back_s) == (True, None)


def test_an_empty_history_can_be_measured_and_is_unknown() -> None:
    assert measure(History(())).total == 0
    assert judged(History(())).outcome is UNKNOWN
    assert budget_held(History(()), 1.0).outcome is UNKNOWN
    assert recovered(History(()), 1.0).outcome is UNKNOWN


# -- laws

outages = st.tuples(st.floats(-4.0, 19.0), st.floats(0.0, 3.0)).map(lambda each: (each[0], each[0] + each[1]))


@given(outage=outages, at=st.floats(START, STOP), kind=st.sampled_from(["refused", "timeout"]))
@settings(max_examples=40)
def test_one_more_failed_request_never_shrinks_what_failed(outage: tuple[float, float], at: float, kind: str) -> None:
    history = planted(outage=outage)
    more = edited(
        history.with_events([Request(at, "new", RequestOutcome.FAILED, kind, at, at + 0.1)]), lambda event: event
    )
    assert measure(more).failed == measure(history).failed + 1
    assert measure(more).longest_gap_s == measure(history).longest_gap_s


@given(outage=outages, lost=st.sets(st.integers(0, 1249)))
@settings(max_examples=40)
def test_fewer_successes_never_shrink_the_gap(outage: tuple[float, float], lost: set[int]) -> None:
    history = planted(outage=outage)
    gone = {request.t for number, request in enumerate(history.requests()) if number in lost and request.ok}
    fewer = edited(
        history,
        lambda event: (
            None if isinstance(event, Request) and event.probe == "new" and event.ok and event.t in gone else event
        ),
    )
    assert measure(fewer).longest_gap_s >= measure(history).longest_gap_s


@given(outage=outages, gap=st.floats(0.05, 3.0), wider=st.floats(0.0, 2.0), failed=st.integers(0, 150))
@settings(max_examples=60)
def test_what_is_held_is_within_the_limits_and_what_is_violated_is_not(
    outage: tuple[float, float], gap: float, wider: float, failed: int
) -> None:
    history = planted(outage=outage)
    verdict, measured = judged(history, longest_gap_s=gap, failed_at_most=failed), measure(history)
    within = measured.longest_gap_s <= gap and measured.not_served <= failed
    if verdict.outcome is HELD:
        assert within
    if verdict.outcome is VIOLATED:
        assert not within
        assert judged(history, longest_gap_s=gap / (1 + wider), failed_at_most=failed).outcome is not HELD


@given(outage=outages, stall=st.floats(0.03, 2.0), place=st.floats(0.1, 19.0))
@settings(max_examples=60)
def test_a_stall_of_the_prober_never_makes_a_verdict_surer(
    outage: tuple[float, float], stall: float, place: float
) -> None:
    steady = judged(planted(outage=outage), failed_at_most=40)
    stalled = judged(planted(outage=outage, stalls=[Stall.ending(FAULT + place, stall)]), failed_at_most=40)
    assert stalled.outcome in (steady.outcome, UNKNOWN)
