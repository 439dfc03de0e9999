"""Nobody waits in the dark: what holds, and what was planted so that it must not be called held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import CONFIG, FAULT, START, STOP, edited

from haplane.drills.checkers import Outcome, Verdict
from haplane.drills.idle import nobody_waits_in_the_dark
from haplane.probes.history import Clock, End, Event, Header, History, Idle, Mark, Stall

HELD, VIOLATED, UNKNOWN = Outcome.HELD, Outcome.VIOLATED, Outcome.UNKNOWN
WITHIN_S, HEALED, TIMEOUT_S = 0.5, FAULT + 8.0, 3.0
OFF, ON = Mark(FAULT, "power-off", "cp1", 0.001), Mark(HEALED, "power-on", "cp1", 0.01)
CALM = replace(CONFIG, rate=0.0, persistent_rate=0.0, idle_connections=50, timeout_s=TIMEOUT_S)


def waited(
    *ends: tuple[float, str], marks: Iterable[Mark] = (OFF, ON), stalls: Iterable[Stall] = (), stop: float = STOP
) -> History:
    """50 connections that wait before the fault: each end is (seconds from the fault, kind); the others are alive.

    One that was told was made anew, and is alive.
    """
    idle = [Idle(round(START + number / 50, 6), stop + 0.01, "alive") for number in range(50)]
    for number, (after_s, kind) in enumerate(ends):
        told_at = stop + TIMEOUT_S if kind == "dark" else round(FAULT + after_s, 6)
        idle[number] = replace(idle[number], told_at=told_at, kind=kind)
        if kind != "dark":
            idle.append(Idle(round(told_at + 0.01, 6), round(max(stop, told_at) + 0.01, 6), "alive"))
    clocks = []
    for second in range(1, round(stop - START + TIMEOUT_S) + 1):
        inside = tuple(stall for stall in stalls if second - 1 < stall.end - START <= second)
        clocks.append(Clock(START + second, max((stall.lag for stall in inside), default=0.001), inside))
    events: list[Event] = [Header(START - 0.2, 1, START, 1.7e9, 1e-7, CALM), *idle, *clocks, *marks]
    return History((*events, End(stop, "duration", len(idle))))


def judged(history: History, within_s: float = WITHIN_S) -> Verdict:
    return nobody_waits_in_the_dark(history, within_s)


def test_all_that_were_told_in_time_are_held() -> None:
    verdict = judged(waited(*[(0.2, "reset")] * 49, (0.41, "eof")))
    assert verdict.outcome is HELD
    assert verdict.sentence == "50 of 50 idle connections told within 0.41 s (at most 0.5 s)"


def test_those_whom_the_fault_did_not_touch_need_not_be_told() -> None:
    verdict = judged(waited(*[(0.2, "reset")] * 17))
    assert verdict.outcome is HELD
    assert verdict.sentence == "17 of 50 idle connections told within 0.20 s (at most 0.5 s), and the others answer"
    verdict = judged(waited())
    assert verdict.outcome is HELD
    assert verdict.sentence == "the fault ended none of 50 idle connections, and all of them answer"


def test_one_that_is_dark_at_the_end_is_violated() -> None:
    verdict = judged(waited(*[(0.2, "reset")] * 49, (0.0, "dark")))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == "1 of 50 idle connections still waited in the dark at the end"
    assert verdict.evidence[0] == "ready -4.020 s: no answer when asked +23.000 s"


def test_one_that_was_made_anew_and_is_dark_at_the_end_is_violated() -> None:
    """As when the VIP goes back to a holder that woke up."""

    def leave(event: Event) -> Event:
        made_anew = isinstance(event, Idle) and event.t > FAULT
        return replace(event, told_at=STOP + TIMEOUT_S, kind="dark") if made_anew else event

    history = edited(waited(*[(0.2, "reset")] * 14), leave)
    verdict = judged(history)
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == "14 that were made since waited in the dark at the end"
    assert verdict.evidence[0] == "ready +0.210 s: no answer when asked +23.000 s"
    stood_still = Clock(STOP + 3.0, 2.0, (Stall.ending(STOP + 2.9, 2.0),))
    assert judged(history.with_events([stood_still])).outcome is UNKNOWN


def test_one_that_was_told_too_late_is_violated() -> None:
    verdict = judged(waited((0.2, "reset"), (0.52, "eof")))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == "1 of 50 idle connections were told later than 0.5 s"
    assert verdict.evidence == (
        "ready -4.980 s: told (eof) +0.520 s",
        "the time of the fault is known to 0.001 s",
    )
    assert judged(waited((0.2, "reset"), (0.52, "eof")), 0.53).outcome is HELD


def test_late_and_dark_are_both_told_and_only_the_first_shown() -> None:
    verdict = judged(waited(*[(2.0, "eof")] * 7, *[(0.0, "dark")] * 2))
    assert verdict.sentence == (
        "2 of 50 idle connections still waited in the dark at the end, "
        "7 of 50 idle connections were told later than 0.5 s"
    )
    assert "and 2 more" in verdict.evidence


def test_what_was_told_closer_to_the_limit_than_the_clocks_are_related_is_unknown() -> None:
    loose = [replace(OFF, error=0.1), ON]
    assert judged(waited((0.45, "reset"), marks=loose)).outcome is UNKNOWN
    assert judged(waited((0.55, "reset"), marks=loose)).outcome is UNKNOWN
    assert judged(waited((0.39, "reset"), marks=loose)).outcome is HELD
    assert judged(waited((0.61, "reset"), marks=loose)).outcome is VIOLATED


def test_what_the_prober_may_have_noticed_late_is_unknown() -> None:
    stalled = [Stall.ending(FAULT + 0.59, 0.2)]
    assert judged(waited((0.6, "reset"), stalls=stalled)).outcome is UNKNOWN
    assert judged(waited((0.8, "reset"), stalls=stalled)).outcome is VIOLATED, "the stall was over before"


def test_a_prober_that_stood_still_at_the_end_does_not_know_who_is_dark() -> None:
    assert judged(waited((0.0, "dark"), stalls=[Stall.ending(STOP + 2.5, 2.0)])).outcome is UNKNOWN
    assert judged(waited((0.0, "dark"), stalls=[Stall.ending(STOP + 2.5, 1.0)])).outcome is VIOLATED


def test_a_connection_that_the_prober_lost_by_itself_says_nothing() -> None:
    assert judged(waited((0.2, "prober-enobufs"))).outcome is UNKNOWN


def test_what_was_told_only_after_the_healing_may_have_been_dark_before() -> None:
    verdict = judged(waited((8.5, "reset")))
    assert verdict.outcome is UNKNOWN and "only after power-on" in verdict.sentence
    assert judged(waited((7.995, "reset"))).outcome is UNKNOWN, "the time of the healing is known to 0.01 s"
    assert judged(waited((7.9, "reset"))).outcome is VIOLATED
    assert judged(waited((8.5, "reset"), marks=[OFF])).outcome is VIOLATED, "nothing was healed"
    assert judged(waited((0.4, "reset"), marks=[OFF, replace(ON, t=FAULT + 0.2)])).outcome is HELD, "in time anyway"


def test_a_connection_that_the_server_closed_because_it_was_idle_was_not_in_the_dark() -> None:
    stop = START + 150.0
    assert judged(waited((90.0 - 5.0, "eof"), stop=stop)).outcome is HELD, "ready 5 s before the fault"
    assert judged(waited((90.0 - 5.0, "reset"), stop=stop)).outcome is UNKNOWN
    assert judged(waited((70.0, "eof"), stop=stop)).outcome is UNKNOWN
    assert judged(waited((90.0 - 5.0, "eof"), marks=[OFF], stop=stop)).outcome is UNKNOWN, "perhaps, but who knows"
    assert judged(waited((70.0, "eof"), marks=[OFF], stop=stop)).outcome is VIOLATED


def test_connections_that_ended_before_the_fault_are_not_judged_and_those_that_began_after_it_are_not_timed() -> None:
    before = judged(waited(*[(-1.0, "eof")] * 50))
    assert before.outcome is HELD and "ended none of 50" in before.sentence, "all were made anew before the fault"
    history = waited()
    anew = Idle(FAULT + 1.0, FAULT + 9.0, "eof")
    assert judged(edited(history.with_events([anew]), lambda event: event)).outcome is HELD


def test_a_connection_that_ended_while_the_fault_may_have_begun_was_told_in_time() -> None:
    assert judged(waited((-0.0005, "reset"))).sentence.startswith("1 of 50 idle connections told within 0.00 s")


def test_too_few_or_too_many_that_waited_are_unknown() -> None:
    def lose(event: Event) -> Event | None:
        return None if isinstance(event, Idle) and event.t >= START + 0.8 else event

    few = judged(edited(waited(), lose))
    assert few.outcome is UNKNOWN and few.sentence.startswith("40 connections waited when the fault came, of 50")
    twice = waited().with_events([Idle(START + 0.5, STOP + 0.01, "alive")])
    assert judged(edited(twice, lambda event: event)).outcome is UNKNOWN


def test_a_history_that_ends_before_the_time_is_over_is_unknown() -> None:
    assert judged(waited(marks=[OFF], stop=FAULT + 0.4)).outcome is UNKNOWN
    assert judged(waited((0.0, "dark"), marks=[OFF], stop=FAULT + 0.4)).outcome is UNKNOWN
    assert judged(waited((0.0, "dark"), marks=[OFF], stop=FAULT + 0.6)).outcome is VIOLATED


def test_a_part_of_a_history_does_not_tell() -> None:
    part = waited((8.5, "reset")).between(START, HEALED)
    assert judged(part).outcome is UNKNOWN


@pytest.mark.parametrize("left_out", [Header, End, Idle, Mark])
def test_an_incomplete_history_is_unknown(left_out: type[Event]) -> None:
    history = edited(waited((0.2, "reset")), lambda event: None if isinstance(event, left_out) else event)
    assert judged(history).outcome is UNKNOWN


def test_lost_lines_are_unknown() -> None:
    history = waited((0.2, "reset"))
    lost = history.of(Idle)[3]
    verdict = judged(History(tuple(event for event in history.events if event is not lost)))
    assert verdict.outcome is UNKNOWN
    assert "wrote 51 requests and idle connections and the history has 50" in verdict.sentence


def test_without_idle_connections_or_inside_no_window_nothing_is_known() -> None:
    def none_asked(event: Event) -> Event | None:
        calm = replace(CALM, idle_connections=0)
        return replace(event, config=calm) if isinstance(event, Header) else event

    assert judged(edited(waited(), none_asked)).sentence == "the idle probe was not asked to run"
    assert judged(waited(marks=[replace(OFF, t=STOP + 1.0)])).outcome is UNKNOWN
    assert judged(History(())).outcome is UNKNOWN
    with pytest.raises(ValueError):
        judged(waited(), 0.0)


@given(
    ends=st.lists(st.tuples(st.floats(0.0, 7.5), st.sampled_from(["reset", "eof", "dark"])), max_size=50),
    within_s=st.floats(0.01, 8.0),
    error_s=st.floats(0.0, 0.5),
)
def test_worse_clocks_never_make_a_verdict_surer(
    ends: list[tuple[float, str]], within_s: float, error_s: float
) -> None:
    sure = judged(waited(*ends, marks=[replace(OFF, error=0.0), ON]), within_s).outcome
    doubtful = judged(waited(*ends, marks=[replace(OFF, error=error_s), ON]), within_s).outcome
    assert doubtful in (sure, UNKNOWN)
    if sure is HELD:
        assert all(kind != "dark" and after_s <= within_s + 1e-6 for after_s, kind in ends)
