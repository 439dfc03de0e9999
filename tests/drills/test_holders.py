"""Who held the VIP, and who led etcd: histories that hold, and what is planted so that they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haplane.drills.checkers import Outcome, Verdict
from haplane.drills.holders import Move, etcd_leader, moves, single_holder, vip_moved
from haplane.probes import observer
from haplane.probes.history import End, Event, Header, History, Mark, Observation, parse, to_lines
from haplane.probes.prober import Config

HELD, VIOLATED, UNKNOWN = Outcome.HELD, Outcome.VIOLATED, Outcome.UNKNOWN
CONFIG = Config(address="192.0.2.100", port=8443, server_hostname="kubernetes", ca_file="/tmp/ca.crt")
START, FAULT, STOP = 100.0, 105.0, 125.0
NAMES = ("cp1", "cp2", "cp3")
OFF, ON = Mark(FAULT, "power-off", "cp1", 0.02), Mark(FAULT + 8, "power-on", "cp1")


def saw(machine: str, t: float, value: str = "held", *, what: str = "vip", error: float = 0.002) -> Observation:
    return Observation(t, machine, what, value, error)


def watching(machine: str, since: float = START + 0.1, until: float = STOP - 0.1) -> tuple[Observation, Observation]:
    return (
        saw(machine, since, "watching", what="observer", error=0.001),
        saw(machine, until, "", what="observer", error=0.001),
    )


def history(*events: Event, watched: tuple[str, ...] = NAMES, holder: str = "cp1") -> History:
    """Three machines that are watched from the start to the end; one of them has the VIP at first."""
    first = [saw(name, START + 0.11, "held" if name == holder else "") for name in watched]
    around = [event for name in watched for event in watching(name)]
    header = Header(START - 0.2, 1, START, 1.7e9, 1e-7, CONFIG)
    return History((header, End(STOP, "duration", 0), *around, *first, *events))


def handed_over(apart_s: float, *events: Event, error: float = 0.002) -> History:
    """cp1 loses the VIP so long after cp2 got it (before, if negative)."""
    lost = FAULT + 1
    return history(
        Mark(FAULT, "stop-balancer", "cp1", 0.001),
        saw("cp1", lost, "", error=error),
        saw("cp2", lost - apart_s, "held", error=error),
        *events,
    )


def power_cut(*events: Event, until: float = FAULT - 0.4) -> History:
    """cp1 had the VIP and is heard of until a moment before it loses its power; cp2 takes over."""
    around = [event for name in ("cp2", "cp3") for event in watching(name)]
    first = [saw(name, START + 0.11, "held" if name == "cp1" else "") for name in NAMES]
    header = Header(START - 0.2, 1, START, 1.7e9, 1e-7, CONFIG)
    end = End(STOP, "duration", 0)
    return History((header, end, *around, *watching("cp1", until=until), *first, OFF, *events))


def single(judged: History, at_most_s: float = 0.1) -> Verdict:
    return single_holder(judged, at_most_s, machines=NAMES)


# -- one holder


def test_a_vip_that_is_handed_over_with_a_short_overlap_is_held() -> None:
    verdict = single(handed_over(0.012))
    assert verdict.outcome is HELD
    assert verdict.sentence == "one holder at any time; the longest overlap 0.012 s (at most 0.1 s)"
    assert verdict.evidence == ("cp1 and cp2 from +0.988 s for 0.012 s (at least 0.008 s, at most 0.016 s)",)


def test_a_gap_without_any_holder_is_no_overlap() -> None:
    verdict = single(handed_over(-0.3))
    assert verdict.outcome is HELD
    assert verdict.sentence == "one holder at any time; the longest overlap 0.000 s (at most 0.1 s)"


def test_two_holders_for_longer_are_violated_and_named() -> None:
    verdict = single(handed_over(0.5))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == "cp1 and cp2 were holder at once for 0.500 s (at most 0.1 s)"
    assert "cp1 and cp2 from +0.500 s for 0.500 s (at least 0.496 s, at most 0.504 s)" in verdict.evidence


def test_an_overlap_that_never_ends_is_violated() -> None:
    assert single(history(OFF, saw("cp2", FAULT + 2), saw("cp3", FAULT + 2))).outcome is VIOLATED


def test_an_overlap_of_machines_that_no_fault_touched_counts() -> None:
    judged = power_cut(saw("cp2", FAULT + 1), saw("cp3", FAULT + 3), saw("cp3", FAULT + 4, ""))
    assert single(judged).outcome is VIOLATED


@pytest.mark.parametrize(("error", "outcome"), [(0.002, HELD), (0.03, UNKNOWN), (0.2, UNKNOWN)])
def test_an_overlap_below_the_limit_is_unknown_when_the_clocks_are_not_good_enough(
    error: float, outcome: Outcome
) -> None:
    assert single(handed_over(0.08, error=error)).outcome is outcome


@pytest.mark.parametrize(("error", "outcome"), [(0.002, VIOLATED), (0.03, UNKNOWN), (0.2, UNKNOWN)])
def test_an_overlap_above_the_limit_is_unknown_when_the_clocks_are_not_good_enough(
    error: float, outcome: Outcome
) -> None:
    verdict = single(handed_over(0.12, error=error))
    assert verdict.outcome is outcome
    assert outcome is VIOLATED or "clocks are not known well enough" in verdict.sentence


@given(apart=st.floats(-0.5, 0.5), early=st.floats(-1, 1), late=st.floats(-1, 1), error=st.floats(0, 0.2))
def test_whatever_the_clocks_errors_no_wrong_verdict_is_given(
    apart: float, early: float, late: float, error: float
) -> None:
    """The truth overlaps by apart; what is seen is wrong by a part of the stated error."""
    lost = FAULT + 1
    judged = history(
        Mark(FAULT, "stop-balancer", "cp1", 0.001),
        saw("cp1", lost + early * error, "", error=error),
        saw("cp2", lost - apart + late * error, "held", error=error),
    )
    verdict = single(judged)
    assert verdict.outcome is not (VIOLATED if apart <= 0.1 - 1e-9 else HELD if apart > 0.1 + 1e-9 else None)


def test_a_machine_that_lost_its_power_holds_nothing_from_then_on() -> None:
    assert single(power_cut(saw("cp2", FAULT + 0.4))).outcome is HELD
    assert single(power_cut(saw("cp2", FAULT + 0.4), ON, *back_at(FAULT + 12))).outcome is HELD


def test_a_machine_whose_power_is_back_must_be_watched_again() -> None:
    verdict = single(power_cut(saw("cp2", FAULT + 0.4), ON))
    assert verdict.outcome is UNKNOWN and "cp1 was not watched from +8.0 s to +19.9 s" in verdict.sentence


def back_at(t: float, value: str = "") -> tuple[Observation, ...]:
    return (*watching("cp1", since=t), saw("cp1", t + 0.01, value))


def test_a_takeover_before_the_power_was_cut_is_an_overlap() -> None:
    judged = power_cut(saw("cp2", FAULT - 0.3), ON, *back_at(FAULT + 12))
    assert single(judged).outcome is VIOLATED


def test_a_takeover_within_the_error_of_the_cut_is_unknown_if_that_matters() -> None:
    judged = power_cut(saw("cp2", FAULT - 0.01), ON, *back_at(FAULT + 12))
    assert single_holder(judged, 0.1, machines=NAMES).outcome is HELD
    assert single_holder(judged, 0.02, machines=NAMES).outcome is UNKNOWN


def test_a_machine_that_comes_back_and_takes_the_vip_at_once_is_violated() -> None:
    judged = power_cut(saw("cp2", FAULT + 0.4), ON, *back_at(FAULT + 12), saw("cp1", FAULT + 13))
    assert single(judged).outcome is VIOLATED


def test_a_machine_that_comes_back_with_the_vip_had_it_since_some_time() -> None:
    judged = power_cut(saw("cp2", FAULT + 0.4), saw("cp2", FAULT + 10, ""), ON, *back_at(FAULT + 12, "held"))
    assert single(judged).outcome is UNKNOWN


def test_a_machine_that_holds_without_power_cannot_be() -> None:
    verdict = single(power_cut(saw("cp2", FAULT + 0.4), saw("cp1", FAULT + 2), ON, *back_at(FAULT + 12)))
    assert verdict.outcome is UNKNOWN and "after it had been stopped" in verdict.sentence


FROZEN, THAWED = Mark(FAULT, "freeze", "cp1", 0.005), Mark(FAULT + 4, "heal", "cp1", 0.005)


def frozen(dropped_s: float) -> History:
    """cp1 wakes up with the VIP, hears that cp2 has it, and lets go so long after."""
    return history(FROZEN, saw("cp2", FAULT + 0.4), THAWED, saw("cp1", FAULT + 4 + dropped_s, ""))


def test_a_frozen_machine_holds_nothing_until_it_wakes_up_and_lets_go() -> None:
    verdict = single(frozen(0.03))
    assert verdict.outcome is HELD
    assert verdict.sentence == "one holder at any time; the longest overlap 0.030 s (at most 0.1 s)"
    assert single(frozen(0.5)).outcome is VIOLATED
    assert single(frozen(-0.004)).outcome is HELD
    assert single(frozen(0.097)).outcome is UNKNOWN
    # Its observer was frozen with it: all that it knows is that this came true since its last look.
    since_it_looked = observer.parse(["start\t0", f"vip\t{FAULT - 0.1:.6f}\t{FAULT + 4.03:.6f}\tvip\t0"]).seen[1]
    asleep = saw("cp1", since_it_looked.t, "", error=since_it_looked.error)
    assert single(history(FROZEN, saw("cp2", FAULT + 0.4), THAWED, asleep)).outcome is HELD


def test_a_frozen_machine_that_never_lets_go_is_violated() -> None:
    assert single(history(FROZEN, saw("cp2", FAULT + 0.4), THAWED)).outcome is VIOLATED


def test_the_second_vip_is_judged_as_well() -> None:
    second = "vip 2001:db8::100"
    first = [saw(name, START + 0.11, "held" if name == "cp1" else "", what=second) for name in NAMES]
    moved = [saw("cp1", FAULT + 1, "", what=second), saw("cp2", FAULT + 0.5, what=second)]
    assert single(handed_over(0.01, *first)).outcome is HELD
    assert single(handed_over(0.01, *first, *moved)).outcome is VIOLATED


# -- what was not watched


def test_without_observations_nothing_is_known() -> None:
    assert single_holder(power_cut_unseen(), 0.1).outcome is UNKNOWN
    assert vip_moved(power_cut_unseen(), True).outcome is UNKNOWN
    assert vip_moved(power_cut_unseen(), False).outcome is UNKNOWN
    assert etcd_leader(power_cut_unseen()).outcome is UNKNOWN


def power_cut_unseen() -> History:
    return History((Header(START - 0.2, 1, START, 1.7e9, 1e-7, CONFIG), OFF, End(STOP, "duration", 0)))


def test_a_machine_that_nobody_watched_is_named() -> None:
    judged = history(Mark(FAULT, "stop-balancer", "cp1"), watched=("cp1", "cp2"))
    verdict = single(judged)
    assert verdict.outcome is UNKNOWN and "cp3 was not watched" in verdict.sentence
    assert single_holder(judged, 0.1).outcome is HELD, "without a list those that were observed count"
    not_started = saw("cp3", START, "", what="observer")
    assert single_holder(History((*judged.events, not_started)), 0.1).outcome is UNKNOWN
    assert single_holder(history(watched=("cp1",)), 0.1).outcome is UNKNOWN


def test_a_machine_that_the_fault_touched_must_have_been_watched() -> None:
    judged = history(Mark(FAULT, "power-off", "cp3"), watched=("cp1", "cp2"))
    assert single_holder(judged, 0.1).outcome is UNKNOWN


def test_observers_that_began_after_the_fault_do_not_know() -> None:
    judged = History(tuple(e for e in handed_over(0.0).events if not (isinstance(e, Observation) and e.t < FAULT)))
    late = [event for name in NAMES for event in watching(name, since=FAULT + 0.5)]
    assert single(History((*judged.events, *late))).outcome is UNKNOWN


def test_an_observer_that_was_gone_for_a_while_may_have_missed_something() -> None:
    gone = (saw("cp3", FAULT + 2, "", what="observer"), saw("cp3", FAULT + 6, "watching", what="observer"))
    verdict = single(handed_over(0.01, *gone, saw("cp3", FAULT + 6.01, "")))
    assert verdict.outcome is UNKNOWN
    assert "cp3 was not watched from +2.0 s to +6.0 s" in verdict.sentence


def test_an_observer_that_never_came_back_may_have_missed_something() -> None:
    judged = handed_over(0.01)
    until = [
        event if not (event.what == "observer" and event.machine == "cp3" and event.value == "") else
        saw("cp3", FAULT + 3, "", what="observer")
        for event in judged.of(Observation)
    ]  # fmt: skip
    others = [event for event in judged.events if not isinstance(event, Observation)]
    verdict = single(History((*others, *until)))
    assert verdict.outcome is UNKNOWN and "cp3 was not watched from +3.0 s" in verdict.sentence


def test_a_holder_that_is_no_longer_watched_is_not_accused_of_holding() -> None:
    gone = (saw("cp1", FAULT + 1, "", what="observer"), saw("cp1", FAULT + 6, "watching", what="observer"))
    judged = history(Mark(FAULT, "cut", "cp3"), *gone, saw("cp2", FAULT + 3), saw("cp1", FAULT + 6.01, ""))
    assert single(judged).outcome is UNKNOWN


def test_a_power_cut_long_after_the_machine_was_last_heard_leaves_a_doubt() -> None:
    assert single(power_cut(saw("cp2", FAULT + 0.4), ON, *back_at(FAULT + 12), until=FAULT - 4)).outcome is UNKNOWN


def test_observations_survive_the_file() -> None:
    judged = power_cut(saw("cp2", FAULT + 0.4), ON, *back_at(FAULT + 12))
    again = parse(to_lines(judged))
    assert single(again) == single(judged)
    assert vip_moved(again, True) == vip_moved(judged, True)


# -- moves


def test_a_power_cut_moves_the_vip_once() -> None:
    judged = power_cut(saw("cp2", FAULT + 0.4), ON, *back_at(FAULT + 12))
    assert moves(judged) == (Move(FAULT + 0.4, "cp1", "cp2", 0.002),)
    verdict = vip_moved(judged, True, machines=NAMES)
    assert verdict == Verdict(
        "vip-moved",
        HELD,
        "the VIP moved from cp1 to cp2 0.400 s after the fault",
        ("+0.400 s: the VIP moved from cp1 to cp2 (known to 0.002 s)",),
    )


def test_a_vip_that_moves_back_moves_needlessly() -> None:
    back = (saw("cp2", FAULT + 14, ""), saw("cp1", FAULT + 14))
    verdict = vip_moved(power_cut(saw("cp2", FAULT + 0.4), ON, *back_at(FAULT + 12), *back), True)
    assert verdict.outcome is VIOLATED and "moved 2 times, once is needed: needless" in verdict.sentence


def test_a_vip_that_stays_is_held_if_no_move_was_needed_and_else_violated() -> None:
    judged = history(Mark(FAULT, "stop-apiserver", "cp1", 0.001))
    assert vip_moved(judged, False, machines=NAMES).outcome is HELD
    assert vip_moved(judged, True, machines=NAMES).outcome is VIOLATED


def test_a_needless_move_is_told() -> None:
    verdict = vip_moved(handed_over(0.0), False, machines=NAMES)
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == "the VIP moved once, this fault needs no move: needless"
    assert verdict.evidence == ("+1.000 s: the VIP moved from cp1 to cp2 (known to 0.002 s)",)


def test_a_vip_that_leaves_and_comes_back_has_moved_needlessly() -> None:
    flapped = (saw("cp1", FAULT + 1, ""), saw("cp1", FAULT + 1.2))
    judged = history(Mark(FAULT, "stop-apiserver", "cp1"), *flapped)
    assert vip_moved(judged, False).outcome is VIOLATED
    assert "left cp1 and came back" in vip_moved(judged, False).evidence[0]


def test_a_vip_that_nobody_holds_in_the_end_is_violated() -> None:
    judged = history(Mark(FAULT, "stop-apiserver", "cp1"), saw("cp1", FAULT + 1, ""))
    for expected in (True, False):
        verdict = vip_moved(judged, expected)
        assert verdict.outcome is VIOLATED and "nobody holds the VIP any more since cp1 lost it" in verdict.sentence


def test_a_move_before_the_fault_makes_it_unknown() -> None:
    early = (saw("cp1", FAULT - 2, ""), saw("cp2", FAULT - 2))
    judged = history(Mark(FAULT, "stop-apiserver", "cp1", 0.01), *early)
    assert vip_moved(judged, False).outcome is UNKNOWN
    assert vip_moved(judged, True).outcome is not HELD


def test_a_move_at_the_moment_of_the_fault_is_unknown_when_none_was_needed() -> None:
    at_once = (saw("cp1", FAULT + 0.005, ""), saw("cp2", FAULT + 0.005))
    assert vip_moved(history(Mark(FAULT, "stop-apiserver", "cp3", 0.02), *at_once), False).outcome is UNKNOWN
    assert vip_moved(history(Mark(FAULT, "stop-balancer", "cp1", 0.02), *at_once), True).outcome is HELD


def test_waking_up_with_the_vip_is_no_move() -> None:
    judged = frozen(0.03)
    assert [(move.from_machine, move.to_machine) for move in moves(judged)] == [("cp1", "cp2")]
    assert vip_moved(judged, True, machines=NAMES).outcome is HELD


# -- etcd's leader


def led(machine: str, t: float, value: str = "1", *, error: float = 0.25) -> Observation:
    return saw(machine, t, value, what="etcd-leader", error=error)


def elected(*events: Event) -> History:
    first = [led(name, START + 0.12, "1" if name == "cp1" else "0", error=0.01) for name in NAMES]
    return history(Mark(FAULT, "stop-etcd", "cp1", 0.01), *first, *events)


def test_an_election_with_a_pause_has_one_leader() -> None:
    judged = elected(led("cp1", FAULT + 0.3, ""), led("cp3", FAULT + 1.5))
    verdict = etcd_leader(judged, machines=NAMES)
    assert verdict.outcome is HELD
    assert verdict.evidence == ("cp1 leads from -4.9 s", "cp3 leads from +1.5 s")


def test_a_change_within_one_interval_of_asking_is_not_called_an_overlap() -> None:
    judged = elected(led("cp1", FAULT + 0.6, "0"), led("cp3", FAULT + 0.5))
    assert etcd_leader(judged).outcome is HELD
    assert etcd_leader(judged, 0.0).outcome is UNKNOWN


def test_two_leaders_for_longer_than_asking_can_explain_are_violated() -> None:
    judged = elected(led("cp3", FAULT + 1), led("cp1", FAULT + 4, "0"))
    verdict = etcd_leader(judged)
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == "cp1 and cp3 were leader at once for 3.000 s (at most 1 s)"
    assert etcd_leader(elected(led("cp3", FAULT + 1), led("cp1", FAULT + 2.2, "0"))).outcome is UNKNOWN


def test_no_leader_at_all_is_unknown() -> None:
    assert etcd_leader(history(OFF)).outcome is UNKNOWN
