"""The register: what holds, what was planted so that it must not be called held, and all small histories."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import CONFIG, FAULT, START, edited

from haplane.drills.checkers import Outcome
from haplane.drills.register import clusters, contradiction, reads_never_go_back, register_linearizable
from haplane.probes.history import Clock, End, Event, Header, History, Mark, Request, RequestOutcome, Stall

HELD, VIOLATED, UNKNOWN = Outcome.HELD, Outcome.VIOLATED, Outcome.UNKNOWN
OK, FAILED, INDETERMINATE = RequestOutcome.OK, RequestOutcome.FAILED, RequestOutcome.INDETERMINATE
STOP = START + 15.0
CALM = replace(CONFIG, rate=0.0, persistent_rate=0.0, register_rate=5.0, token_file="/run/token")
TOOK = 0.02


def asked(
    *, marks: Sequence[Mark] = (Mark(FAULT, "power-off", "cp1", 0.001),), stalls: Sequence[Stall] = ()
) -> History:
    """75 writes, each of the next number and version, and 150 reads that see the write that began with them."""
    requests: list[Request] = []
    for number in range(75):
        t = round(START + number / 5, 6)
        sent, end = round(t + 0.001, 6), round(t + TOOK, 6)
        requests.append(Request(t, "set", OK, "", sent, end, t, value=number, version=100 + number))
        for later in (0.0, 0.1):
            due = round(t + later, 6)
            end = round(due + TOOK, 6)
            requests.append(Request(due, "get", OK, "", due, end, due, value=number, version=100 + number))
    clocks = [Clock(START + second, 0.001) for second in range(1, 16)]
    if stalls:
        clocks[-1] = Clock(STOP, max(stall.lag for stall in stalls), tuple(stalls))
    header = Header(START - 0.2, 1, START, 1.7e9, 1e-7, CALM)
    return History((header, *requests, *clocks, *marks, End(STOP, "duration", len(requests))))


def planted(edit: Callable[[Request], Request | None]) -> History:
    return edited(asked(), lambda event: edit(event) if isinstance(event, Request) else event)


def write(number: int, **changes: object) -> Callable[[Request], Request | None]:
    """Changes one of the writes."""

    def edit(request: Request) -> Request:
        is_it = request.probe == "set" and request.value == number
        return replace(request, **changes) if is_it else request  # type: ignore[arg-type]  # changes are any fields

    return edit


def read(due: float, **changes: object) -> Callable[[Request], Request | None]:
    """Changes the read that was due at this time, in seconds from the start."""

    def edit(request: Request) -> Request:
        is_it = request.probe == "get" and math.isclose(request.t, START + due)
        return replace(request, **changes) if is_it else request  # type: ignore[arg-type]  # changes are any fields

    return edit


def read_also(history: History, due: float, **changes: object) -> History:
    """With one more read changed."""
    edit = read(due, **changes)
    return edited(history, lambda event: edit(event) if isinstance(event, Request) else event)


def test_a_register_that_behaves_is_held() -> None:
    back, order = reads_never_go_back(asked()), register_linearizable(asked())
    assert back.outcome is HELD
    assert back.sentence == "none of 150 reads is older than one before it, nor than one of 75 writes"
    assert order.outcome is HELD
    assert order.sentence == "150 reads and 75 writes fit into one order"


def test_a_read_that_is_older_than_one_before_it_went_back() -> None:
    history = planted(read(5.1, value=24, version=124))
    back, order = reads_never_go_back(history), register_linearizable(history)
    assert back.outcome is VIOLATED
    assert back.sentence == "1 of 150 reads are older than what was known when they were sent"
    newest, stale = back.evidence[0].split("; then ")
    assert newest == "25 (version 125) read, sent +0.000 s, ended +0.020 s"
    assert stale == "24 (version 124) read, sent +0.100 s, ended +0.120 s"
    assert order.outcome is VIOLATED
    assert order.sentence == "no order explains what was read: 25 is older than 24, and newer as well"
    assert order.evidence == (
        "25 is older than 24: one ended before the other began",
        "  25 (version 125) written, sent +0.001 s, ended +0.020 s",
        "  24 (version 124) read, sent +0.100 s, ended +0.120 s",
        "24 is older than 25: one ended before the other began",
        "  24 (version 124) written, sent -0.199 s, ended -0.180 s",
        "  25 (version 125) written, sent +0.001 s, ended +0.020 s",
    )


def test_a_read_that_is_older_than_a_write_that_nobody_has_read_went_back() -> None:
    history = read_also(planted(read(5.0, value=24, version=124)), 5.1, value=24, version=124)
    back = reads_never_go_back(history)
    assert back.outcome is VIOLATED and back.evidence[0].startswith("25 (version 125) written, sent +0.001 s")
    assert register_linearizable(history).outcome is VIOLATED


def test_a_read_that_overlaps_with_the_write_may_see_either() -> None:
    history = planted(read(5.0, value=24, version=124))
    assert reads_never_go_back(history).outcome is HELD
    assert register_linearizable(history).outcome is HELD


def test_a_read_must_not_be_older_than_another_read_that_saw_an_unfinished_write() -> None:
    """The write lasts from 5.0 to 5.2 s; a read in it sees it, and a later one in it does not."""
    slow = planted(write(25, end=round(START + 5.15, 6)))
    stale = read_also(slow, 5.1, value=24, version=124)
    assert reads_never_go_back(slow).outcome is HELD and register_linearizable(slow).outcome is HELD
    assert reads_never_go_back(stale).outcome is VIOLATED and register_linearizable(stale).outcome is VIOLATED


def test_a_register_that_is_gone_went_back() -> None:
    history = planted(read(9.1, value=None, version=None))
    back, order = reads_never_go_back(history), register_linearizable(history)
    assert back.outcome is VIOLATED and "no register read, sent +4.100 s" in back.evidence[0]
    assert order.outcome is VIOLATED and "no register" in order.sentence


def test_a_register_that_is_not_there_yet_is_no_contradiction() -> None:
    history = planted(read(0.0, value=None, version=None))
    assert reads_never_go_back(history).outcome is HELD
    assert register_linearizable(history).outcome is HELD


def test_an_indeterminate_write_may_have_happened_late_or_never() -> None:
    def unknown(request: Request) -> Request:
        if request.value != 25:
            return request
        if request.probe == "set":
            return replace(request, outcome=INDETERMINATE, kind="timeout", end=request.t + 3.0, version=None)
        return replace(request, value=24, version=124)

    never = register_linearizable(planted(unknown))
    assert never.outcome is HELD and never.sentence.endswith("and 0 of 1 indeterminate writes that were read")
    late = read_also(planted(unknown), 5.7, value=25, version=128)
    assert register_linearizable(late).outcome is HELD, "after the last read of 28"
    between = read_also(late, 5.8, value=28, version=128)
    assert register_linearizable(between).outcome is VIOLATED, "28 is read before and after it"
    last = read_also(planted(unknown), 14.9, value=25, version=999)
    verdict = register_linearizable(last)
    assert verdict.outcome is HELD and "and 1 of 1 indeterminate" in verdict.sentence


def test_what_was_refused_or_never_sent_or_never_written_cannot_be_read() -> None:
    refused = register_linearizable(planted(write(25, outcome=FAILED, kind="http-409", version=None)))
    assert refused.outcome is VIOLATED
    assert refused.sentence == "2 of 150 reads returned what cannot have been there"
    assert refused.evidence[0].endswith("its write was refused (http-409)")
    unsent = register_linearizable(
        planted(write(25, outcome=FAILED, kind="connect-timeout", version=None, sent_at=None))
    )
    assert unsent.outcome is VIOLATED and "never sent" in unsent.evidence[0]
    never = register_linearizable(planted(read(5.1, value=999)))
    assert never.outcome is VIOLATED and "never written" in never.evidence[0]
    early = register_linearizable(planted(read(5.1, value=60)))
    assert early.outcome is VIOLATED and early.evidence[0].endswith("its write was sent only +7.001 s")


def test_failed_reads_say_nothing() -> None:
    history = planted(read(5.1, value=None, version=None, outcome=FAILED, kind="reset"))
    assert reads_never_go_back(history).outcome is HELD
    assert register_linearizable(history).outcome is HELD


def both(history: History) -> set[Outcome]:
    return {reads_never_go_back(history).outcome, register_linearizable(history).outcome}


def test_too_few_reads_are_unknown() -> None:
    def silent(request: Request) -> Request:
        if request.probe != "get" or request.t < FAULT:
            return request
        return replace(request, outcome=FAILED, kind="reset", value=None, version=None)

    history = planted(silent)
    assert both(history) == {UNKNOWN}
    assert "too few reads were served after the fault: 0" in reads_never_go_back(history).sentence
    assert both(planted(lambda request: request if request.probe == "set" else None)) == {UNKNOWN}
    assert both(planted(lambda request: request if request.t < FAULT or request.probe == "set" else None)) == {UNKNOWN}
    unserved = planted(
        lambda request: (
            replace(request, outcome=FAILED, kind="reset", value=0, version=None)
            if request.probe == "set"
            else replace(request, value=None, version=None)
        )
    )
    assert "two writes have the same value" in register_linearizable(unserved).sentence
    assert "no write was acknowledged" in reads_never_go_back(unserved).sentence


def test_a_prober_in_trouble_or_at_a_stand_is_unknown_and_still_sees_what_is_wrong() -> None:
    overloaded = write(30, outcome=FAILED, kind="prober-overloaded", version=None, sent_at=None)
    history = planted(lambda request: None if request.value == 30 and request.probe == "get" else overloaded(request))
    assert both(history) == {UNKNOWN}
    stalled = asked(stalls=[Stall.ending(STOP - 1.0, 2.0)])
    assert both(stalled) == {UNKNOWN}
    assert both(read_also(stalled, 5.1, value=24, version=124)) == {VIOLATED}


@pytest.mark.parametrize("left_out", [Header, End])
def test_an_incomplete_history_is_unknown(left_out: type[Event]) -> None:
    assert both(edited(asked(), lambda event: None if isinstance(event, left_out) else event)) == {UNKNOWN}
    history = asked()
    lost = history.requests("get")[3]
    assert both(History(tuple(event for event in history.events if event is not lost))) == {UNKNOWN}


def test_without_a_fault_it_is_judged_all_the_same_and_without_a_register_not() -> None:
    assert both(asked(marks=())) == {HELD}
    off = edited(asked(), lambda event: replace(event, config=CONFIG) if isinstance(event, Header) else event)
    assert both(off) == {UNKNOWN}


# -- all small histories


@st.composite
def small(draw: st.DrawFn) -> tuple[list[Request], list[Request]]:
    """Up to four writes of different values and four reads, of what was written or of nothing."""
    sets = []
    for value in range(draw(st.integers(0, 4))):
        sent = draw(st.integers(0, 12))
        outcome = draw(st.sampled_from([OK, OK, OK, INDETERMINATE, FAILED]))
        end = sent + draw(st.integers(0, 8))
        sets.append(Request(sent, "set", outcome, "" if outcome is OK else "timeout", sent, end, value=value))
    values = [None, *(each.value for each in sets if each.outcome is not FAILED)]
    reads = []
    for _ in range(draw(st.integers(0, 4))):
        sent = draw(st.integers(0, 14))
        reads.append(
            Request(sent, "get", OK, "", sent, sent + draw(st.integers(0, 8)), value=draw(st.sampled_from(values)))
        )
    return sets, reads


def some_order_explains(sets: Sequence[Request], reads: Sequence[Request]) -> bool:
    """By trying every order of the operations, with and without each write that may not have happened."""
    sure = [*reads, *(each for each in sets if each.ok)]
    open_ended = [each for each in sets if each.outcome is INDETERMINATE]
    subsets = itertools.chain.from_iterable(
        itertools.combinations(open_ended, many) for many in range(len(open_ended) + 1)
    )
    return any(_continues([*sure, *some], None) for some in subsets)


def _continues(left: list[Request], value: int | None) -> bool:
    if not left:
        return True
    first_end = min(each.end if each.ok else math.inf for each in left)
    for each in left:
        if (each.sent_at or 0.0) > first_end or (each.probe == "get" and each.value != value):
            continue
        rest = [other for other in left if other is not each]
        if _continues(rest, each.value):
            return True
    return False


@given(small())
@settings(max_examples=600)
def test_the_checker_agrees_with_trying_every_order(asked: tuple[list[Request], list[Request]]) -> None:
    sets, reads = asked
    by_value = {each.value: each for each in sets}
    too_early = any(read.value is not None and read.end < (by_value[read.value].sent_at or 0.0) for read in reads)
    found = not too_early and contradiction(clusters(sets, reads)) is None
    assert found is some_order_explains(sets, reads)
