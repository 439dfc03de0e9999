"""A run over time, before it is drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.drills.planted import FAULT, START, STOP, edited, planted
from tests.reports.suites import run, watched

from haplane.probes.history import Event, History, Mark, Observation, Request, RequestOutcome, Watching
from haplane.reports.drill import Run
from haplane.reports.suite.timeline import Seen, State, part, views, whole


def test_times_are_from_the_fault() -> None:
    shown = whole(run(watched()))
    assert (shown.start_s, shown.end_s) == (START - FAULT, STOP - FAULT)
    assert [(each.at_s, each.text, each.heals) for each in shown.moments] == [
        (0.0, "power-off cp1", False),
        (8.0, "power-on cp1", True),
    ]


def test_every_probe_that_asked_has_a_row() -> None:
    others = [Request(FAULT + n, "dns", RequestOutcome.OK, "", FAULT + n, FAULT + n + 0.01) for n in range(3)]
    shown = whole(run(planted().with_events(others)))
    assert [row.name for row in shown.probes] == ["new", "persistent", "dns"]
    assert len(shown.probes[2].asked) == 3
    assert shown.probes[2].silences == (), "all was served"


def test_failed_indeterminate_and_late_requests_are_told_apart() -> None:
    def late(event: Event) -> Event:
        return replace(event, end=event.t + 0.7) if isinstance(event, Request) and event.t == FAULT + 1 else event

    failed = whole(run(edited(planted(outage=(0.0, 0.2)), late))).probes[0]
    assert (failed.how_many(State.NOT_SERVED), failed.how_many(State.LATE)) == (10, 1)
    open_ended = planted(outage=(0.0, 0.2), kind="timeout", outcome=RequestOutcome.INDETERMINATE)
    assert whole(run(open_ended)).probes[0].how_many(State.NO_ANSWER) == 10


def test_the_gap_that_was_judged_is_the_gap_that_is_marked() -> None:
    new, persistent = whole(run(planted(outage=(0.0, 0.2)))).probes
    (silence,) = new.silences
    assert silence.length_s == pytest.approx(0.22)
    assert silence.start_s == pytest.approx(-0.016)
    assert persistent.silences[0].length_s == pytest.approx(0.3)


def test_what_observers_saw_is_a_bar_until_it_changes() -> None:
    shown = whole(
        run(
            watched(
                Observation(START + 1, "cp2", "vrrp", "BACKUP"),
                Observation(START + 2, "cp2", "vrrp", "BACKUP"),
                Observation(FAULT + 0.3, "cp2", "vrrp", "MASTER"),
            )
        )
    )
    (row,) = shown.observed
    assert (row.what, row.machine) == ("vrrp", "cp2")
    assert [(each.value, each.start_s, each.end_s) for each in row.seen] == [
        ("BACKUP", -4.0, pytest.approx(0.3)),
        ("MASTER", pytest.approx(0.3), 20.0),
    ]


def test_what_was_seen_before_a_machine_was_broken_is_old_until_somebody_looks_again() -> None:
    history = watched(Observation(START, "cp1", "vip", "held"), Observation(FAULT + 10, "cp1", "vip", "held"))
    (row,) = whole(run(history)).observed
    assert row.seen == (
        Seen(-5.0, 0.0, "held"),
        Seen(0.0, 10.0, "held", is_old=True),
        Seen(10.0, 20.0, "held"),
    )


def test_rows_of_observers_are_in_the_order_of_cause_and_effect() -> None:
    kinds = ("disk", "etcd-leader", "server apiservers/cp1", "vrrp", "vip")
    shown = whole(run(watched(*(Observation(START, machine, kind, "x") for kind in kinds for machine in ("b", "a")))))
    assert [row.what for row in shown.observed][::2] == [*reversed(kinds[1:]), "disk"]
    assert [row.machine for row in shown.observed] == ["a", "b"] * 5


def test_a_watch_is_a_bar_while_it_is_open() -> None:
    attempts = [
        Watching(START, 0, "listed", 7, START + 1.0, FAULT + 0.5, "reset"),
        Watching(FAULT + 0.5, 0, "reset", 8, None, FAULT + 0.6, "refused"),
        Watching(FAULT + 0.7, 0, "refused", 8, FAULT + 0.75, STOP, "stopped"),
        Watching(START, 1, "listed", 7, None, START + 1.0, "refused"),
    ]
    (row,) = whole(run(planted().with_events(attempts))).observed
    assert (row.what, row.machine) == ("watch 0", "client")
    assert [(round(each.start_s, 3), round(each.end_s, 3), each.value) for each in row.seen] == [
        (-4.0, 0.5, "open"),
        (0.5, 0.75, ""),
        (0.75, 20.0, "open"),
    ]


def test_without_observers_there_is_no_row_for_them() -> None:
    assert whole(run(planted())).observed == ()


def test_a_short_outage_in_a_long_run_gets_a_picture_of_its_own() -> None:
    found = views(run(planted(outage=(0.0, 0.2))))
    assert [each.title for each in found] == ["Around the fault", "The whole run"]
    assert (found[0].timeline.start_s, found[0].timeline.end_s) == (-1.0, 3.0)
    assert [each.title for each in views(run(planted(stop=FAULT + 4)))] == ["Around the fault", "The whole run"]
    assert len(views(run(planted(outage=(0.0, 15.0))))) == 1, "the outage is most of the run"


def test_a_return_that_was_felt_is_shown_too() -> None:
    history = watched(outage=(8.1, 8.3))
    back = [Mark(FAULT + 8, "return", "cp1")]
    comeback = history.between(FAULT + 4, STOP)
    comeback = History((*(each for each in comeback.events if not isinstance(each, Mark)), *back))
    felt = replace(run(history), failover=history.between(START, FAULT + 8), comeback=comeback)
    assert [each.title for each in views(felt)] == ["Around the fault", "Around the return", "The whole run"]
    failover, back = whole(felt).probes[0].silences
    assert (back.start_s, back.length_s) == (pytest.approx(8.084), pytest.approx(0.22))
    assert failover.length_s == pytest.approx(0.02), "nothing was lost before"


def test_a_run_without_a_fault_is_shown_from_its_start() -> None:
    (only,) = views(run(planted(marks=[])))
    assert not only.timeline.has_fault
    assert (only.timeline.start_s, only.timeline.end_s) == (0.0, STOP - START)


def test_an_empty_history_can_be_shown() -> None:
    (only,) = views(Run(History(()), ()))
    assert only.timeline.probes == ()


def test_a_part_has_only_what_lies_in_it() -> None:
    seen = [Observation(START, "cp1", "vip", "held"), Observation(FAULT + 15, "cp2", "vip", "held")]
    shown = part(whole(run(watched(*seen))), -1.0, 3.0)
    assert {row.machine for row in shown.observed} == {"cp1"}
    assert [each.text for each in shown.moments] == ["power-off cp1"]
    assert all(-1.0 <= each.due_s <= 3.0 for row in shown.probes for each in row.asked)
