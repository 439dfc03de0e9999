"""Watches that see all: what holds, and what was planted so that it must not be called held."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import CONFIG, FAULT, START, edited

from haplane.drills.checkers import Outcome, Verdict
from haplane.drills.watches import watch_sees_all
from haplane.probes.history import (
    COUNTED,
    Clock,
    End,
    Event,
    Header,
    History,
    Listing,
    Mark,
    Request,
    RequestOutcome,
    Stall,
    Watched,
    Watching,
)

HELD, VIOLATED, UNKNOWN = Outcome.HELD, Outcome.VIOLATED, Outcome.UNKNOWN
OK = RequestOutcome.OK
STOP, WITHIN_S = START + 15.0, 2.0
OFF = Mark(FAULT, "power-off", "cp1", 0.001)
CALM = replace(CONFIG, rate=0.0, persistent_rate=0.0, write_rate=10.0, register_rate=5.0, watches=2, token_file="/t")
# In each second there are ten writes and five of the register, with the next versions.
PER_SECOND = 15


def writes() -> list[Request]:
    found, version = [], 1000
    for second in range(15):
        for place in range(PER_SECOND):
            t = round(START + second + place / PER_SECOND, 6)
            version += 1
            probe = "set" if place % 3 == 2 else "write"
            request = Request(t, probe, OK, "", t, round(t + 0.01, 6), t, version=version)
            key, value = ("", version) if probe == "set" else (f"w-{version}", None)
            found.append(replace(request, key=key, value=value))
    return found


def event(number: int, write: Request, *, t: float | None = None, kind: str = "") -> Watched:
    key = write.key or "w-register"
    usual = "ADDED" if write.key or write.version == 1003 else "MODIFIED"
    return Watched(round(write.end + 0.003, 6) if t is None else t, number, kind or usual, key, write.version or 0)


def listing(number: int, t: float, version: int, *, since: int | None = None) -> Listing:
    return Listing(t, number, "start" if since is None else "expired", since, OK, "", round(t + 0.01, 6), version)


def stream(
    number: int, began: float, ended: float, since: int, kind: str = "stopped", cause: str = "listed"
) -> Watching:
    return Watching(began, number, cause, since, round(began + 0.01, 6), ended, kind)


def whole(middle: Iterable[Event], *, marks: Sequence[Mark] = (OFF,), stalls: Sequence[Stall] = ()) -> History:
    events = list(middle)
    clocks = [Clock(START + second, 0.001) for second in range(1, 16)]
    if stalls:
        clocks[-1] = Clock(STOP, max(stall.lag for stall in stalls), tuple(stalls))
    count = sum(isinstance(each, COUNTED) for each in events)
    return History((Header(START - 0.2, 1, START, 1.7e9, 1e-7, CALM), *events, *clocks, *marks, End(STOP, "x", count)))


def one_stream(number: int) -> list[Event]:
    return [listing(number, START - 0.1, 1000), stream(number, START - 0.05, STOP + 1.0, 1000)]


def calm(*, stalls: Sequence[Stall] = (), marks: Sequence[Mark] = (OFF,)) -> History:
    """Two watches that see all at once."""
    written = writes()
    told = [event(number, each) for number in (0, 1) for each in written]
    return whole([*written, *one_stream(0), *one_stream(1), *told], stalls=stalls, marks=marks)


def changed(edit: Callable[[Watched], Iterable[Watched]], *, stalls: Sequence[Stall] = ()) -> History:
    """What watch 1 is told is edited."""
    history = calm(stalls=stalls)
    events: list[Event] = []
    for each in history.events:
        events += edit(each) if isinstance(each, Watched) and each.number == 1 else [each]
    return recounted(History(tuple(events)))


def recounted(history: History) -> History:
    """Complete again, whatever was taken away or added."""
    count = sum(isinstance(each, COUNTED) for each in history.events)
    return History(tuple(replace(each, count=count) if isinstance(each, End) else each for each in history.events))


def judged(history: History, within_s: float = WITHIN_S) -> Verdict:
    return watch_sees_all(history, within_s)


def test_all_that_was_written_and_seen_once_in_order_is_held() -> None:
    verdict = judged(calm())
    assert verdict.outcome is HELD
    assert verdict.sentence == (
        "2 watches saw all 225 acknowledged writes, each once and in order; "
        "the longest silence after the fault was 0.00 s (at most 2 s)"
    )
    assert verdict.evidence[0].startswith("longest silence: watch ")


def test_an_event_that_was_dropped_is_missing() -> None:
    verdict = judged(changed(lambda each: [] if each.version == 1100 else [each]))
    assert verdict.outcome is VIOLATED
    assert verdict.sentence.startswith("of 225 writes 1 never seen; the longest silence")
    assert verdict.evidence[0] == "watch 1: w-1100, acknowledged +1.610 s, never seen, though version 1225 was"


def test_a_change_of_the_register_that_was_dropped_is_missing() -> None:
    verdict = judged(changed(lambda each: [] if each.version == 1108 else [each]))
    assert verdict.outcome is VIOLATED
    assert verdict.evidence[0].startswith("watch 1: register set to 1108, acknowledged ")


def test_an_event_that_came_twice_is_told() -> None:
    verdict = judged(changed(lambda each: [each, each] if each.version == 1100 else [each]))
    assert verdict.outcome is VIOLATED and verdict.sentence.startswith("of 225 writes 1 seen twice;")
    assert verdict.evidence[0] == "watch 1: ADDED w-1100 (version 1100) a second time"
    again = judged(changed(lambda each: [each, replace(each, version=1101)] if each.version == 1100 else [each]))
    assert again.outcome is VIOLATED and "seen twice" in again.sentence


def test_events_in_the_wrong_order_are_told() -> None:
    later: list[Watched] = []

    def swap(each: Watched) -> list[Watched]:
        if each.version == 1100:
            later.append(each)
            return []
        return [each, later.pop()] if each.version == 1101 else [each]

    verdict = judged(changed(swap))
    assert verdict.outcome is VIOLATED and verdict.sentence.startswith("of 225 writes 1 out of order;")
    assert verdict.evidence[0] == "watch 1: ADDED w-1100 (version 1100) after version 1101"


def silent(length_s: float, *, from_s: float = 1.0) -> Callable[[Watched], list[Watched]]:
    """What is told in this time comes only at its end."""

    def edit(each: Watched) -> list[Watched]:
        start, end = FAULT + from_s, FAULT + from_s + length_s
        return [replace(each, t=end) if start <= each.t < end else each]

    return edit


def test_a_silence_that_is_too_long_is_violated() -> None:
    verdict = judged(changed(silent(2.5)))
    assert verdict.outcome is VIOLATED and " seen too late; " in verdict.sentence
    assert "the longest silence after the fault was 2.49 s (at most 2 s)" in verdict.sentence
    assert judged(changed(silent(1.5))).outcome is HELD
    assert judged(changed(silent(2.5)), math.inf).outcome is HELD, "nothing was missing"


def test_a_silence_may_be_the_probers_own() -> None:
    stalls = [Stall.ending(FAULT + 3.5, 1.0)]
    assert judged(changed(silent(2.5), stalls=stalls)).outcome is UNKNOWN
    assert judged(changed(silent(3.6), stalls=stalls)).outcome is VIOLATED
    longer = changed(silent(1.6), stalls=[Stall.ending(FAULT + 2.6, 1.0)])
    assert judged(longer).outcome is UNKNOWN, "the answer may have been late"


def test_a_silence_before_the_fault_is_not_its_effect() -> None:
    assert judged(changed(silent(2.5, from_s=-4.0))).outcome is UNKNOWN
    short = judged(changed(silent(1.4, from_s=-4.0)))
    assert short.outcome is HELD and "after the fault was 0.00 s" in short.sentence


def test_a_watch_that_stays_dark_is_violated() -> None:
    verdict = judged(changed(lambda each: [each] if each.t < FAULT else []))
    assert verdict.outcome is VIOLATED and "never seen" in verdict.sentence


def test_what_was_written_shortly_before_the_end_may_still_have_come() -> None:
    verdict = judged(changed(lambda each: [each] if each.version < 1225 else []))
    assert verdict.outcome is UNKNOWN
    assert verdict.sentence == "a watch ended 1.1 s after a write that it had not seen yet"


def resumed(number: int, *, kind: str = "reset") -> list[Event]:
    """One that was told of the end 0.3 s after the fault, and asked twice more."""
    told = round(FAULT + 0.3, 6)
    seen = max(each.version or 0 for each in writes() if each.end + 0.003 < told)
    return [
        listing(number, START - 0.1, 1000),
        stream(number, START - 0.05, told, 1000, kind),
        Watching(told, number, kind, seen, None, round(told + 0.05, 6), "refused"),
        stream(number, round(told + 0.1, 6), STOP + 1.0, seen, cause="refused"),
    ]


def test_a_watch_that_was_resumed_says_so() -> None:
    written = writes()
    told = [event(number, each) for number in (0, 1) for each in written]
    verdict = judged(whole([*written, *one_stream(0), *resumed(1), *told]))
    assert verdict.outcome is HELD
    assert verdict.evidence[1] == "watch 1: ended (reset) +0.300 s, resumed from 1080 at the second attempt +0.410 s"


def relisted(*lost: int) -> History:
    """Watch 1 could not see what was written for 2 s, and found it in a list; but for what was lost."""
    written = writes()
    told, listed = round(FAULT + 0.3, 6), round(FAULT + 2.0, 6)
    since = max(each.version or 0 for each in written if each.end + 0.003 < told)
    version = max(each.version or 0 for each in written if each.end < listed)
    between = [each for each in written if since < (each.version or 0) <= version]
    register = [each for each in between if each.probe == "set"][-1:]
    found = [*(each for each in between if each.probe == "write"), *register]
    return whole(
        [
            *written,
            *one_stream(0),
            *(event(0, each) for each in written),
            listing(1, START - 0.1, 1000),
            *(event(1, each) for each in written if (each.version or 0) <= since),
            stream(1, START - 0.05, told, 1000, "reset"),
            Watching(told, 1, "reset", since, None, round(told + 0.02, 6), "expired"),
            listing(1, listed, version, since=since),
            *(event(1, each, t=round(listed + 0.01, 6), kind="LISTED") for each in found if each.version not in lost),
            stream(1, round(listed + 0.02, 6), STOP + 1.0, version),
            *(
                event(1, each, t=max(round(listed + 0.03, 6), each.end))
                for each in written
                if (each.version or 0) > version
            ),
        ]
    )


def test_what_a_watch_could_not_see_it_finds_in_a_list() -> None:
    verdict = judged(relisted())
    assert verdict.outcome is HELD
    assert any("listed again and resumed" in line for line in verdict.evidence)


def test_what_is_not_in_the_list_either_is_missing() -> None:
    lost = next(each for each in writes() if each.probe == "write" and each.t > FAULT + 1.0)
    verdict = judged(relisted(lost.version or 0))
    assert verdict.outcome is VIOLATED and lost.key in verdict.evidence[0]
    register = [each for each in writes() if each.probe == "set" and each.end < FAULT + 2.0][-1]
    verdict = judged(relisted(register.version or 0))
    assert verdict.outcome is VIOLATED and "of 225 writes 9 never seen" in verdict.sentence, "all of the register's"


def test_a_later_list_does_not_excuse_what_a_watch_was_not_told() -> None:
    def dropped(each: Event) -> Event | None:
        return None if isinstance(each, Watched) and (each.number, each.version) == (1, 1078) else each

    verdict = judged(recounted(edited(relisted(), dropped)))
    assert verdict.outcome is VIOLATED and "register set to 1078" in verdict.evidence[0]
    register = [each for each in writes() if each.probe == "set" and each.end < FAULT + 2.0][-1]
    third = [listing(1, STOP + 0.5, 1300, since=1225), Watched(STOP + 0.6, 1, "LISTED", "w-register", 1299)]
    verdict = judged(recounted(relisted(register.version or 0).with_events(third)))
    assert verdict.outcome is VIOLATED and "9 never seen" in verdict.sentence


def test_what_comes_by_watch_after_it_was_listed_came_twice() -> None:
    history = relisted()
    found = next(each for each in history.of(Watched) if each.kind == "LISTED")
    late = replace(found, kind="ADDED", version=2000, t=STOP)
    verdict = judged(recounted(history.with_events([late])))
    assert verdict.outcome is VIOLATED and "1 seen twice" in verdict.sentence


def test_what_is_older_than_the_list_must_not_be_told_after_it() -> None:
    old = Watched(START, 1, "ADDED", "kube-root-ca.crt", 900)
    events = calm().events
    verdict = judged(recounted(History((*events[:230], old, *events[230:]))))
    assert verdict.outcome is VIOLATED and "version 900) after version 1000" in verdict.evidence[0]


def test_bookmarks_are_no_events_and_must_not_go_back() -> None:
    def mark(version: int) -> Callable[[Watched], list[Watched]]:
        def edit(each: Watched) -> list[Watched]:
            bookmark = replace(each, kind="BOOKMARK", key="", version=version)
            return [each, bookmark] if each.version == 1100 else [each]

        return edit

    assert judged(changed(mark(1100))).outcome is HELD
    assert judged(changed(mark(1099))).outcome is VIOLATED
    assert judged(changed(mark(1101))).outcome is VIOLATED, "1101 must have come before"


def test_what_was_written_before_the_first_list_need_not_be_told() -> None:
    history = recounted(
        edited(
            calm(),
            lambda each: (
                replace(each, version=1010)
                if isinstance(each, Listing)
                else None
                if isinstance(each, Watched) and each.version <= 1010
                else each
            ),
        )
    )
    verdict = judged(history)
    assert verdict.outcome is HELD and "all 215 acknowledged" in verdict.sentence


def test_a_write_whose_version_is_not_known_is_still_found_by_its_name() -> None:
    def nameless(each: Event) -> Event:
        return replace(each, version=None) if isinstance(each, Request) else each

    assert judged(recounted(edited(calm(), nameless))).sentence.startswith("2 watches saw all 150 acknowledged")
    lost = changed(lambda each: [] if each.version == 1100 else [each])
    assert judged(recounted(edited(lost, nameless))).outcome is VIOLATED


def test_writes_that_were_not_acknowledged_are_nobodys_concern() -> None:
    def refuse(each: Event) -> Event | None:
        if isinstance(each, Request) and each.version == 1100:
            return replace(each, outcome=RequestOutcome.INDETERMINATE, kind="timeout", version=None)
        return each

    assert judged(recounted(edited(calm(), refuse))).outcome is HELD
    lost = changed(lambda each: [] if each.version == 1100 else [each])
    assert judged(recounted(edited(lost, refuse))).outcome is HELD


@pytest.mark.parametrize("left_out", [Header, End, Mark, Watching, Listing])
def test_an_incomplete_history_is_unknown(left_out: type[Event]) -> None:
    history = recounted(edited(calm(), lambda each: None if isinstance(each, left_out) else each))
    assert judged(history).outcome is UNKNOWN


def test_lost_lines_are_unknown() -> None:
    history = calm()
    lost = history.of(Watched)[7]
    verdict = judged(History(tuple(each for each in history.events if each is not lost)))
    assert verdict.outcome is UNKNOWN and "lines and the history has" in verdict.sentence


def test_too_little_to_judge_is_unknown() -> None:
    def only(keep: Callable[[Event], bool]) -> History:
        return recounted(edited(calm(), lambda each: each if keep(each) else None))

    one = judged(only(lambda each: not isinstance(each, Watching | Listing | Watched) or each.number == 0))
    assert one.outcome is UNKNOWN and "1 of 2 watches had begun when the fault came" in one.sentence
    few = judged(only(lambda each: not isinstance(each, Request | Watched) or each.t < FAULT))
    assert few.outcome is UNKNOWN and "too few writes after the fault: 0 acknowledged" in few.sentence
    off = edited(calm(), lambda each: replace(each, config=CONFIG) if isinstance(each, Header) else each)
    assert judged(recounted(off)).sentence == "the watch probe was not asked to run"
    trouble = edited(calm(), lambda each: replace(each, kind="prober-emfile") if isinstance(each, Watching) else each)
    assert "the prober itself was in trouble" in judged(recounted(trouble)).sentence
    assert judged(calm(marks=[replace(OFF, t=STOP - 1.5)])).outcome is UNKNOWN, "not watched for long enough"
    assert judged(calm(marks=[replace(OFF, t=STOP + 1.5)])).outcome is UNKNOWN
    with pytest.raises(ValueError):
        judged(calm(), 0.0)


@given(gone=st.sets(st.integers(1001, 1224), max_size=6), twice=st.sets(st.integers(1001, 1225), max_size=3))
@settings(max_examples=60)
def test_it_is_violated_exactly_when_something_is_missing_or_comes_twice(gone: set[int], twice: set[int]) -> None:
    def edit(each: Watched) -> list[Watched]:
        return [] if each.version in gone else [each] * (2 if each.version in twice else 1)

    assert judged(changed(edit)).outcome is (VIOLATED if gone | twice else HELD)
