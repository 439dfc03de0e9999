"""No acknowledged write may be lost: what holds, and what was planted so that it must not be called held."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from planted import CONFIG, FAULT, STOP, edited, planted

from haplane.drills.checkers import Outcome, availability, budget_held, measure
from haplane.drills.writes import no_write_lost
from haplane.probes.history import End, Event, Header, History, Request, RequestOutcome, Stored

HELD, VIOLATED, UNKNOWN = Outcome.HELD, Outcome.VIOLATED, Outcome.UNKNOWN
WRITING = replace(CONFIG, rate=0.0, persistent_rate=0.0, write_rate=50.0, token_file="/run/token")
FAILED, INDETERMINATE = RequestOutcome.FAILED, RequestOutcome.INDETERMINATE


def written(*, outcome: RequestOutcome = INDETERMINATE) -> History:
    """10 of 1250 writes had no answer in time, or were refused."""
    return planted(outcome=outcome, kind="timeout" if outcome is INDETERMINATE else "refused", config=WRITING)


def acknowledged(history: History) -> list[str]:
    return [write.key for write in history.requests("write") if write.ok]


def with_stored(history: History, keys: list[str], *, t: float = STOP + 5.0) -> History:
    return history.with_events([Stored(t, tuple(keys))])


def test_all_acknowledged_writes_that_are_stored_are_held_and_others_are_nobodys_concern() -> None:
    history = written()
    verdict = no_write_lost(with_stored(history, [*acknowledged(history), "w-250", "kube-root-ca.crt"]))
    assert verdict.outcome is HELD
    assert verdict.sentence == "all 1240 acknowledged writes are stored, and 1 of 10 indeterminate ones"


def test_one_acknowledged_write_that_is_not_stored_is_violated_and_named() -> None:
    history = written()
    verdict = no_write_lost(with_stored(history, [key for key in acknowledged(history) if key != "w-240"]))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == "1 of 1240 acknowledged writes are not stored"
    assert verdict.evidence == ("w-240, due -0.200 s, acknowledged at -0.196 s: not stored",)


def test_only_the_first_lost_writes_are_shown() -> None:
    verdict = no_write_lost(with_stored(written(), []))
    assert verdict.outcome is VIOLATED
    assert len(verdict.evidence) == 6 and verdict.evidence[-1] == "and 1235 more not stored"


def test_a_write_that_is_stored_though_it_was_never_sent_is_violated() -> None:
    history = written(outcome=FAILED)
    verdict = no_write_lost(with_stored(history, [*acknowledged(history), "w-250"]))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence == "1 stored though never sent"
    assert verdict.evidence == ("w-250, due +0.000 s, failed (refused) at +0.001 s: stored though never sent",)


def test_a_write_that_was_refused_may_be_missing() -> None:
    history = written(outcome=FAILED)
    assert no_write_lost(with_stored(history, acknowledged(history))).outcome is HELD


def test_nothing_is_known_unless_what_is_stored_was_read_back() -> None:
    verdict = no_write_lost(written())
    assert verdict.outcome is UNKNOWN and verdict.sentence == "what is stored was not read back"


def test_a_write_that_was_answered_after_the_reading_may_be_missing_from_it() -> None:
    history = written()
    early = [write.key for write in history.requests("write") if write.ok and write.end < FAULT]
    assert no_write_lost(with_stored(history, early, t=FAULT)).outcome is UNKNOWN
    assert no_write_lost(with_stored(history, early[1:], t=FAULT)).outcome is VIOLATED


def test_the_last_reading_counts() -> None:
    history = written()
    stale = with_stored(history, [], t=STOP)
    assert no_write_lost(with_stored(stale, acknowledged(history))).outcome is HELD


def test_an_incomplete_history_is_unknown() -> None:
    history = with_stored(written(), acknowledged(written()))
    for left_out in (Header, End):
        part = edited(history, lambda event, kind=left_out: None if isinstance(event, kind) else event)  # type: ignore[misc]
        assert no_write_lost(part).outcome is UNKNOWN
    lost = next(event for event in history.events if isinstance(event, Request))
    verdict = no_write_lost(History(tuple(event for event in history.events if event is not lost)))
    assert verdict.outcome is UNKNOWN and "wrote 1250 requests and the history has 1249" in verdict.sentence


def test_without_writes_or_without_an_acknowledged_one_nothing_is_known() -> None:
    assert no_write_lost(with_stored(planted(), [])).sentence == "nothing was written"
    assert no_write_lost(History(())).outcome is UNKNOWN

    def refuse(event: Event) -> Event:
        return replace(event, outcome=FAILED, kind="http-403") if isinstance(event, Request) else event

    verdict = no_write_lost(with_stored(edited(written(), refuse), []))
    assert verdict.outcome is UNKNOWN and verdict.sentence == "none of 1250 writes was acknowledged"


def test_names_that_were_used_twice_are_unknown() -> None:
    twice = edited(written(), lambda event: replace(event, key="w-1") if isinstance(event, Request) else event)
    assert no_write_lost(with_stored(twice, ["w-1"])).outcome is UNKNOWN


@given(gone=st.sets(st.integers(0, 1249)))
def test_it_is_violated_exactly_when_an_acknowledged_write_is_gone(gone: set[int]) -> None:
    history = written()
    keys = [write.key for number, write in enumerate(history.requests("write")) if number not in gone]
    lost = {f"w-{number}" for number in gone} & set(acknowledged(history))
    assert no_write_lost(with_stored(history, keys)).outcome is (VIOLATED if lost else HELD)


def test_the_other_checkers_judge_writes_too() -> None:
    history = written()
    assert measure(history, "write").indeterminate == 10
    assert availability(history, probe="write", longest_gap_s=0.35, failed_at_most=10).outcome is HELD
    assert availability(history, probe="write", longest_gap_s=0.35, failed_at_most=9).outcome is VIOLATED
    assert budget_held(history, 0.31, probe="write").outcome is HELD
    assert availability(history, longest_gap_s=0.35, failed_at_most=10).outcome is UNKNOWN, "new was not asked to run"
