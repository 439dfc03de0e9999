"""What kubectl sees: what holds, and what was planted so that it must not be called held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from planted import CONFIG, FAULT, START, STOP, TOOK, edited, planted

from haplane.drills.checkers import Outcome, Verdict
from haplane.drills.kubectl import kubectl_sees_on
from haplane.probes.history import End, Event, Header, History, Kubectl, Mark, Request, RequestOutcome, Stall

HELD, VIOLATED, UNKNOWN = Outcome.HELD, Outcome.VIOLATED, Outcome.UNKNOWN
WITHIN_S = 1.5
WATCHING = replace(
    CONFIG, rate=0.0, persistent_rate=0.0, write_rate=10.0, token_file="token", kubectl="/usr/bin/kubectl"
)
OFF = Mark(FAULT, "power-off", "cp1", 0.001)
SEEN_S = 0.001  # before the write is acknowledged


def watched(
    *blind: tuple[float, float],
    outage: tuple[float, float] = (0.0, 0.4),
    ends: Iterable[tuple[float, int, str]] = ((0.45, 0, ""),),
    stalls: Iterable[Stall] = (),
    marks: Iterable[Mark] = (OFF,),
    stop: float = STOP,
) -> History:
    """10 writes a second, none acknowledged in the outage; all others are shown but in blind times (from the fault).

    ends: when kubectl ended, with which code and words; it is started again at once.
    """
    history = planted(outage=outage, kind="timeout", config=WATCHING, stalls=stalls, marks=marks, stop=stop)
    lines: list[Event] = [Kubectl(START - 0.1, "started")]
    for write in history.requests("write"):
        at = round(write.end - SEEN_S, 6)
        if write.ok and at > START + 0.5 and not any(since <= at - FAULT < until for since, until in blind):
            lines.append(Kubectl(at, "line", f"configmap/{write.key}"))
    for after_s, code, words in ends:
        lines += [Kubectl(FAULT + after_s, "ended", words, code), Kubectl(FAULT + after_s, "started")]
    return history.with_events(lines)


def judged(history: History, within_s: float = WITHIN_S) -> Verdict:
    return kubectl_sees_on(history, within_s)


def test_one_that_was_told_and_started_again_in_time_is_held() -> None:
    verdict = judged(watched((0.0, 0.95)))
    assert verdict.outcome is HELD
    # The first write that was acknowledged again was due 0.4 s after the fault, the first that was seen 1 s after it.
    assert verdict.sentence == "kubectl was silent for 0.60 s (at most 1.5 s), and was started again once"
    assert verdict.evidence == (
        "silent from +0.404 s to +1.003 s of the fault",
        "+0.450 s: kubectl ended with 0",
    )


def test_one_whose_watch_went_on_is_held() -> None:
    verdict = judged(watched(outage=(0.0, 0.0), ends=()))
    assert verdict.outcome is HELD
    assert verdict.sentence == "kubectl was silent for 0.00 s (at most 1.5 s), and its watch went on"


def test_one_that_stays_in_the_dark_is_violated() -> None:
    verdict = judged(watched((0.0, 45.0), ends=()))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == (
        "kubectl was silent for 19.60 s, and still at the end (at most 1.5 s), and its watch went on"
    )


def test_one_that_comes_back_too_late_is_violated() -> None:
    verdict = judged(watched((0.0, 1.95)))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == "kubectl was silent for 1.60 s (at most 1.5 s), and was started again once"


def test_a_second_silence_counts_as_the_first() -> None:
    """A machine that comes back must not cost it anything either."""
    assert judged(watched((0.0, 0.95), (9.0, 12.0))).outcome is VIOLATED


def test_nothing_need_be_seen_while_nothing_is_written() -> None:
    verdict = judged(watched(outage=(0.0, 5.0), ends=()))
    assert verdict.outcome is HELD
    assert verdict.sentence.startswith("kubectl was silent for 0.00 s")


def test_a_write_whose_event_was_lost_with_the_machine_does_not_make_an_election_kubectls() -> None:
    """The last write before the fault was acknowledged as it came and never shown; then nothing for 2 s."""
    early = Mark(FAULT - 0.998, "power-off", "cp1", 0.001)
    history = watched((-1.0, -0.95), outage=(-0.95, 1.0), ends=(), marks=[early])
    verdict = judged(history)
    assert verdict.outcome is HELD
    assert verdict.evidence[0].endswith("s of it without any acknowledged write")
    dark = judged(watched((-1.0, 5.0), outage=(-0.95, 1.0), ends=(), marks=[early]))
    assert dark.outcome is VIOLATED
    assert dark.sentence.startswith("kubectl was silent for 4."), "the rest counts"


def test_a_write_that_is_shown_after_it_was_acknowledged_makes_a_short_silence() -> None:
    def later(event: Event) -> Event:
        return replace(event, t=round(event.t + 0.02, 6)) if isinstance(event, Kubectl) else event

    verdict = judged(edited(watched(outage=(0.0, 5.0), ends=()), later))
    assert verdict.outcome is HELD
    assert verdict.sentence.startswith("kubectl was silent for 0.02 s"), "not for the 5 s without any write"


def test_only_lines_that_show_a_write_count() -> None:
    """kubectl shows an error that the watch brings as a line of its own."""
    other = [Kubectl(round(FAULT + 0.1 * number, 6), "line", "status/<unknown>") for number in range(60)]
    assert judged(watched((0.0, 5.0)).with_events(other)).outcome is VIOLATED


def test_what_the_prober_may_have_noticed_late_is_unknown() -> None:
    stalled = [Stall.ending(FAULT + 2.0, 0.5)]
    verdict = judged(watched((0.0, 1.95), stalls=stalled))
    assert verdict.outcome is UNKNOWN and "the prober stood still for 0.500 s" in verdict.sentence
    assert judged(watched((0.0, 3.0), stalls=stalled)).outcome is VIOLATED
    short = judged(watched((0.0, 1.45), stalls=[Stall.ending(FAULT + 0.5, 0.5)]))
    assert short.outcome is UNKNOWN, "a write may have been acknowledged before that was noticed"


def test_a_machine_without_kubectl_is_unknown() -> None:
    def without(event: Event) -> Event | None:
        if isinstance(event, Header):
            return replace(event, config=replace(WATCHING, kubectl=""))
        return None if isinstance(event, Kubectl) else event

    verdict = judged(edited(watched(), without))
    assert verdict.outcome is UNKNOWN
    assert verdict.sentence == "there was no kubectl on the client machine"


def test_one_that_never_saw_anything_is_unknown_with_its_words() -> None:
    refused = [(second / 2, 1, "Unauthorized") for second in range(-8, 20)]
    verdict = judged(watched((-5.0, 20.0), ends=refused))
    assert verdict.outcome is UNKNOWN
    assert verdict.sentence == "kubectl had shown 0 writes before the fault, at least 10 are needed"
    assert verdict.evidence[0] == "-4.000 s: kubectl ended with 1: Unauthorized"
    assert verdict.evidence[-1] == "and 23 more"


def test_one_that_was_blind_already_is_unknown() -> None:
    verdict = judged(watched((-2.0, 5.0)))
    assert verdict.outcome is UNKNOWN
    assert "kubectl had been silent for 2." in verdict.sentence


def test_without_writes_that_were_acknowledged_nothing_is_known() -> None:
    verdict = judged(watched(outage=(0.0, 30.0)))
    assert verdict.outcome is UNKNOWN and verdict.sentence == "no write was acknowledged after the fault"


def test_a_history_that_ends_before_the_time_is_over_is_unknown() -> None:
    assert judged(watched((0.0, 0.45), stop=FAULT + 1.0)).outcome is UNKNOWN
    assert judged(watched((0.0, 5.0), stop=FAULT + 1.0)).outcome is UNKNOWN
    assert judged(watched((0.0, 5.0), stop=FAULT + 3.0)).outcome is VIOLATED


@pytest.mark.parametrize(
    "history",
    [
        edited(watched(), lambda event: None if isinstance(event, Header) else event),
        edited(watched(), lambda event: None if isinstance(event, End) else event),
        watched(marks=()),
        watched(marks=[replace(OFF, t=STOP + 1.0)]),
    ],
)
def test_a_history_that_does_not_tell_is_unknown(history: History) -> None:
    assert judged(history).outcome is UNKNOWN


def test_a_write_that_was_not_acknowledged_need_not_be_shown() -> None:
    def unclear(event: Event) -> Event:
        written = isinstance(event, Request) and 2.0 <= event.t - FAULT < 8.0
        return replace(event, outcome=RequestOutcome.INDETERMINATE, kind="timeout") if written else event

    assert judged(edited(watched((2.0, 8.0 - TOOK)), unclear)).outcome is HELD


def test_the_limit_is_a_time() -> None:
    with pytest.raises(ValueError, match="above 0 s"):
        judged(watched(), 0.0)
