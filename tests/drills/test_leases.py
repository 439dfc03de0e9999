"""One controller acts, and acts again: what holds, and what was planted so that it must not be called held."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import CONFIG, FAULT, START, edited

from haplane.drills.checkers import Outcome, Verdict
from haplane.drills.leases import Expected, Terms, acting, acts_again, one_controller_acts
from haplane.probes.history import Clock, End, Event, GivenBack, Header, History, LeaseSeen, Mark

HELD, VIOLATED, UNKNOWN = Outcome.HELD, Outcome.VIOLATED, Outcome.UNKNOWN
MANAGER, SCHEDULER = "kube-controller-manager", "kube-scheduler"
ACTS_S, WITHIN_S = 12.0, 23.8
TERMS = (Terms(MANAGER, ACTS_S, gives_back=False), Terms(SCHEDULER, ACTS_S, gives_back=True))
STOP, TOOK = FAULT + 35.0, 0.004
LOOKING = replace(CONFIG, rate=0.0, persistent_rate=0.0, lease_rate=2.0, token_file="token")
DEATH = Mark(FAULT, "controller-manager-death", "cp1", 0.01)
# The machines' clocks are hours apart: they must not matter.
CLOCKS = {"cp1": 1.7e9, "cp2": 1.7e9 + 7200.0, "cp3": 1.7e9 - 7200.0, "": 0.0}


class Term:
    """From when to when a holder renews, seconds from the fault, every 2 s; with no holder it was given back."""

    def __init__(self, holder: str, since: float, until: float = 1000.0, step: int = 1) -> None:
        self.holder, self.since, self.until, self.step = holder, since, until, step

    def renewed(self, at: float) -> float:
        return self.since + 2.0 * int((min(at, self.until) - self.since) / 2.0)


BEFORE = Term("cp1_a", -100.0)
DIED = Term("cp1_a", -100.5, 0.0)  # its last renewal was 0.5 s before the fault
SINCE = Term("cp2_b", 16.2)


def terms_of(lease: str, *terms: Term) -> list[LeaseSeen]:
    """What the prober reads twice a second, each in TOOK seconds."""
    found = []
    for number in range(round((STOP - START) * 2)):
        t = round(START + number / 2, 6)
        now = t + TOOK / 2 - FAULT
        held = [term for term in terms if term.since <= now]
        term = held[-1]
        clock = CLOCKS[term.holder.rpartition("_")[0]]
        transitions = 4 + sum(each.step for each in held)
        acquired, renewed = clock + term.since, clock + term.renewed(now)
        times = (t, round(t + TOOK, 6), term.holder, acquired, renewed)
        found.append(LeaseSeen(t, lease, "", *times, 15.0 if term.holder else 1.0, transitions))
    return found


def read(
    *manager: Term, scheduler: Iterable[Term] = (Term("cp3_s", -50.0),), marks: Iterable[Mark] = (DEATH,)
) -> History:
    reads = [*terms_of(MANAGER, *(manager or (DIED, SINCE))), *terms_of(SCHEDULER, *scheduler)]
    clocks = [Clock(START + second, 0.001) for second in range(1, round(STOP - START) + 1)]
    events: list[Event] = [Header(START - 0.2, 1, START, 1.7e9, 1e-7, LOOKING), *reads, *clocks, *marks]
    return History((*events, End(STOP, "duration", 0)))


def lost(history: History, since: float, until: float, kind: str = "timeout") -> History:
    """Nothing was read between these times from the fault."""

    def lose(event: Event) -> Event:
        if isinstance(event, LeaseSeen) and since <= event.t - FAULT < until:
            return LeaseSeen(event.t, event.name, kind, event.sent_at, event.t + 3.0)
        return event

    return edited(history, lose)


def of_manager(change: Callable[[LeaseSeen], LeaseSeen], since: float) -> Callable[[Event], Event]:
    def edit(event: Event) -> Event:
        planted = isinstance(event, LeaseSeen) and event.name == MANAGER and event.t - FAULT >= since
        return change(event) if planted and isinstance(event, LeaseSeen) else event

    return edit


def judged(history: History) -> Verdict:
    return one_controller_acts(history, TERMS)


def again(history: History, *, within_s: float = WITHIN_S, is_lost: bool = True) -> Verdict:
    return acts_again(history, [Expected(MANAGER, within_s, is_lost)])


# -- one at a time


def test_one_that_took_over_when_the_other_had_given_up_is_held() -> None:
    verdict = judged(read())
    assert verdict.outcome is HELD
    assert verdict.sentence == f"{MANAGER}: cp1, then cp2; {SCHEDULER}: cp3"
    assert verdict.evidence == (
        f"{MANAGER}: cp2 had it 16.5 to 17.5 s after cp1 had last renewed it, which may act for 12 s (+16.5 s)",
    )


def test_one_that_acts_all_the_time_is_held() -> None:
    assert judged(read(BEFORE)).outcome is HELD


def test_one_that_took_over_while_the_other_might_act_is_violated() -> None:
    verdict = judged(read(DIED, Term("cp2_b", 9.0)))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == (
        f"{MANAGER}: cp2 had it 9.0 to 10.0 s after cp1 had last renewed it, and it may act for 12 s"
    )


def test_two_that_renew_in_turn_are_violated() -> None:
    turns = [Term(f"cp{1 + number % 2}_x", number * 3.0) for number in range(10)]
    assert judged(read(BEFORE, *turns)).outcome is VIOLATED


def test_the_same_machine_started_again_is_another_holder() -> None:
    assert judged(read(DIED, Term("cp1_b", 3.0))).outcome is VIOLATED
    held = judged(read(DIED, Term("cp1_b", 16.2)))
    assert held.outcome is HELD and f"{MANAGER}: cp1;" in held.sentence


def test_what_is_closer_than_it_was_read_is_unknown() -> None:
    # Silent for 12 s, give or take a reading on either side.
    assert judged(read(DIED, Term("cp2_b", 11.4))).outcome is UNKNOWN
    assert judged(read(DIED, Term("cp2_b", 11.9))).outcome is UNKNOWN
    assert judged(read(DIED, Term("cp2_b", 10.4))).outcome is VIOLATED
    assert judged(read(DIED, Term("cp2_b", 12.9))).outcome is HELD


def test_a_lease_that_was_given_back_may_be_taken_at_once() -> None:
    given_back = Term("", 5.0, step=0)
    assert judged(read(scheduler=(BEFORE, given_back, Term("cp2_b", 6.2)))).outcome is HELD
    assert judged(read(BEFORE, given_back, Term("cp2_b", 6.2))).outcome is HELD


def test_a_lease_that_may_have_been_given_back_between_two_readings_is_unknown() -> None:
    verdict = judged(read(scheduler=(BEFORE, Term("cp2_b", 6.2))))
    assert verdict.outcome is UNKNOWN and "unless it gave it back unseen" in verdict.sentence
    assert judged(read(BEFORE, Term("cp2_b", 6.2))).outcome is VIOLATED, "this one never gives it back"


def test_a_lease_that_a_watch_saw_given_back_may_be_taken_at_once() -> None:
    history = read(scheduler=(BEFORE, Term("cp2_b", 6.2)))
    told = GivenBack(FAULT + 9.0, SCHEDULER, 5)
    assert judged(history.with_events([told])).outcome is HELD, "however late it was told"
    another, later = replace(told, name=MANAGER), replace(told, transitions=6)
    assert judged(history.with_events([another, later])).outcome is UNKNOWN
    twice = read(scheduler=(BEFORE, Term("cp2_b", 6.2), Term("cp3_c", 9.2)))
    assert judged(twice.with_events([told])).outcome is UNKNOWN, "cp2 was not seen to give it back"


def test_a_change_that_nobody_read_is_unknown_and_what_stayed_is_not() -> None:
    assert judged(lost(read(), 4.0, 18.0)).outcome is UNKNOWN, "cp1 may have renewed it meanwhile"
    assert judged(lost(read(), 0.0, 3.0)).outcome is HELD, "cp1 was seen silent long enough afterwards"
    assert judged(lost(read(), 14.0, 18.0)).outcome is HELD, "cp1 had given up by then"
    assert judged(lost(read(BEFORE), 4.0, 18.0)).outcome is HELD, "another holder would have been counted"


def test_a_change_whose_time_was_not_read_may_be_known_by_the_new_holders_own_clock() -> None:
    early = lost(read(DIED, Term("cp2_b", 5.0)), 4.0, 20.0)
    assert judged(early).outcome is VIOLATED


def test_each_change_is_counted_once() -> None:
    uncounted = judged(read(DIED, Term("cp2_b", 16.2, step=0)))
    assert uncounted.outcome is VIOLATED and "no change was counted" in uncounted.sentence
    twice = judged(read(DIED, Term("cp2_b", 16.2, step=2)))
    assert twice.outcome is VIOLATED and "2 changes of its holder were counted at once" in twice.sentence
    missed = judged(lost(read(DIED, Term("cp2_b", 16.2, step=2)), 14.0, 18.0))
    assert missed.outcome is UNKNOWN and "changed hands 2 times while nobody read it" in missed.sentence
    same = judged(edited(read(BEFORE), of_manager(lambda seen: replace(seen, transitions=seen.transitions + 2), 7.0)))
    assert same.outcome is VIOLATED and "it is cp1 as before" in same.sentence


def test_nothing_goes_back() -> None:
    count = of_manager(lambda seen: replace(seen, transitions=seen.transitions - 1), 7.0)
    verdict = judged(edited(read(BEFORE), count))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == f"{MANAGER}: its count of changes went back from 5 to 4 (+7.0 s)"
    older = of_manager(lambda seen: replace(seen, renewed=seen.renewed - 10.0), 7.0)
    verdict = judged(edited(read(BEFORE), older))
    assert verdict.outcome is VIOLATED and "its time of renewal went back by 10.000 s" in verdict.sentence


def test_an_answer_that_came_late_is_not_taken_for_one_that_went_back() -> None:
    """It was asked for before a later one was answered: what it says may be older."""

    def late(event: Event) -> Event:
        held_up = isinstance(event, LeaseSeen) and event.name == MANAGER and event.t == FAULT + 16.0
        return replace(event, end=event.t + 2.9) if held_up and isinstance(event, LeaseSeen) else event

    history = edited(read(), late)
    assert sum(isinstance(event, LeaseSeen) and event.end - event.t > 2 for event in history.events) == 1
    assert judged(history).outcome is HELD


def test_a_lease_that_was_not_read_before_the_fault_or_at_the_end_is_unknown() -> None:
    for since, until in ((-5.0, 0.0), (28.0, 36.0), (-6.0, 40.0)):
        assert judged(lost(read(), since, until)).outcome is UNKNOWN
    never = judged(lost(read(), -6.0, 40.0, "http-403"))
    assert f"{MANAGER} was never read (http-403)" in never.sentence


def test_what_was_violated_stays_so_though_something_else_is_not_known() -> None:
    assert judged(lost(read(DIED, Term("cp2_b", 9.0)), 28.0, 36.0)).outcome is VIOLATED


@pytest.mark.parametrize(
    "history",
    [
        History(tuple(event for event in read().events if not isinstance(event, Header))),
        History(tuple(event for event in read().events if not isinstance(event, End))),
        read(marks=()),
        read(marks=[replace(DEATH, t=STOP + 1.0)]),
        edited(read(), lambda event: replace(event, config=CONFIG) if isinstance(event, Header) else event),
    ],
)
def test_a_history_that_does_not_tell_is_unknown(history: History) -> None:
    assert judged(history).outcome is UNKNOWN
    assert again(history).outcome is UNKNOWN


@given(took_over=st.floats(1.0, 30.0), renews_until=st.floats(-1.0, 20.0))
def test_who_might_act_beside_another_is_never_held(took_over: float, renews_until: float) -> None:
    """Whatever the times: held only if the earlier one was silent for as long as it may act, violated only if not."""
    until = min(renews_until, took_over)
    died = Term("cp1_a", -100.5, until)
    silent_s = took_over - died.renewed(took_over)
    outcome = judged(read(died, Term("cp2_b", took_over))).outcome
    assert outcome is not (HELD if silent_s < ACTS_S else VIOLATED)


# -- again


def test_another_that_acts_within_the_budget_is_held() -> None:
    verdict = again(read())
    assert verdict.outcome is HELD
    assert verdict.sentence == f"{MANAGER}: cp2 acts 16.5 s after (at most 23.8 s)"
    assert verdict.evidence == (f"{MANAGER}: 15.990 to 16.514 s after the fault",)


def test_another_that_acts_too_late_is_violated() -> None:
    verdict = again(read(DIED, Term("cp2_b", 25.0)))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence.startswith(f"{MANAGER}: cp2 acts 25.")


def test_nobody_who_acts_is_violated_once_that_was_watched_for_long_enough() -> None:
    verdict = again(read(DIED))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == f"{MANAGER}: nobody acted again in the 34.5 s that were watched (at most 23.8 s)"
    assert again(read(DIED), within_s=40.0).outcome is UNKNOWN
    given_back = again(read(DIED, Term("", 2.0, step=0)))
    assert given_back.outcome is VIOLATED, "to have no holder is nobody"


def test_a_time_that_is_closer_to_the_budget_than_it_was_read_is_unknown() -> None:
    assert again(read(DIED, Term("cp2_b", 23.7))).outcome is UNKNOWN
    assert again(read(DIED, Term("cp2_b", 23.4))).outcome is HELD
    assert again(read(DIED, Term("cp2_b", 24.1))).outcome is VIOLATED


def test_when_the_new_one_acquired_it_is_known_by_its_own_clock_though_nobody_read_it() -> None:
    verdict = again(lost(read(DIED, Term("cp2_b", 16.2)), 15.0, 25.0))
    assert verdict.outcome is HELD
    assert verdict.evidence == (f"{MANAGER}: 14.490 to 17.014 s after the fault",)


def test_one_that_was_lost_and_is_said_to_renew_still_is_not_another() -> None:
    assert again(read(BEFORE)).outcome is VIOLATED


def test_one_that_was_not_lost_may_go_on() -> None:
    verdict = again(read(BEFORE), is_lost=False)
    assert verdict.outcome is HELD
    assert verdict.sentence == f"{MANAGER}: cp1 goes on 2.0 s after (at most 23.8 s)"
    assert again(read(), is_lost=False).sentence == f"{MANAGER}: cp2 acts 16.5 s after (at most 23.8 s)"
    assert again(read(DIED), is_lost=False).outcome is VIOLATED
    slow = again(read(DIED, Term("cp2_b", 25.0)), is_lost=False)
    assert slow.outcome is VIOLATED


def test_a_renewal_that_may_have_been_made_before_the_fault_is_none_after_it() -> None:
    last = Term("cp1_a", -100.2, 0.0)  # read for the first time when the fault had come
    assert again(read(last), is_lost=False).outcome is VIOLATED


def test_who_acted_before_the_fault_must_be_known() -> None:
    assert again(lost(read(), -5.0, 0.0)).outcome is UNKNOWN
    assert again(read(Term("", -50.0, step=0), SINCE)).outcome is UNKNOWN


def test_who_acted_is_a_machine() -> None:
    assert (acting(read(), MANAGER), acting(read(), SCHEDULER)) == ("cp1", "cp3")
    assert acting(lost(read(), -5.0, 0.0), MANAGER) == ""
