"""Services of the user's own: what is held, and near misses that must not be; who never answers is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planted import CONFIG, FAULT, edited, planted
from tests.model.clusters import three_nodes

from haplane.design.design import Design
from haplane.drills import catalogue, judging
from haplane.drills.checkers import Outcome, Verdict, availability
from haplane.drills.services import Services, refuse_silent, services
from haplane.model.errors import UsageError
from haplane.probes.history import Event, History, Mark, Request, RequestOutcome, Stall, parse, to_lines
from haplane.probes.prober import service_probe

HELD, VIOLATED, UNKNOWN = Outcome.HELD, Outcome.VIOLATED, Outcome.UNKNOWN
URL, OTHER = "http://192.0.2.21:30080/health", "tcp://192.0.2.100:5432"
PROBE = service_probe(URL)
OFF_TO_WHOLE = (Mark(FAULT, "power-off", "cp1", 0.001), Mark(FAULT + 10, "power-on", "cp1"), Mark(FAULT + 15, "whole"))


def asked(*lost_s: float, kind: str = "refused", at_most: int = 0, stalls: tuple[Stall, ...] = ()) -> History:
    """Two services, of which the first loses the requests that are due so long after the fault."""
    config = replace(CONFIG, services=(URL, OTHER), service_failed_at_most=at_most)
    took_s = config.service_timeout_s if kind == "timeout" else 0.001
    outcome = RequestOutcome.INDETERMINATE if kind == "timeout" else RequestOutcome.FAILED

    def lose(event: Event) -> Event:
        if isinstance(event, Request) and event.probe == PROBE and round(event.t - FAULT, 3) in lost_s:
            return replace(event, outcome=outcome, kind=kind, end=round(event.t + took_s, 6), sent_at=event.t)
        return event

    return edited(planted(outage=(0.0, 0.0), config=config, marks=OFF_TO_WHOLE, stalls=stalls), lose)


def verdicts(history: History) -> dict[str, Verdict]:
    named = history.with_events([judging.named(FAULT, catalogue.find("power-off-vip-holder"), "cp1")])
    # As it is saved, so that the bound is that of the file.
    judged = judging.judge(parse(to_lines(named)), Design(three_nodes()))
    return {verdict.name: verdict for verdict in judged.verdicts}


def test_a_service_that_goes_on_is_held_and_its_longest_gap_is_told() -> None:
    found = verdicts(asked())
    assert found[PROBE].outcome is HELD
    assert found[PROBE].sentence == "longest gap 0.100 s, 0 of 250 requests not served (at most 0)"
    assert found[service_probe(OTHER)].outcome is HELD


def test_one_lost_request_is_one_too_many_unless_it_is_allowed() -> None:
    found = verdicts(asked(3.0))
    assert found[PROBE].outcome is VIOLATED
    assert "longest gap 0.200 s, 1 of 250 requests not served" in found[PROBE].sentence
    assert any("due +3.000 s: failed (refused)" in line for line in found[PROBE].evidence)
    assert found[service_probe(OTHER)].outcome is HELD, "each is judged on its own"
    assert verdicts(asked(3.0, at_most=1))[PROBE].outcome is HELD
    assert verdicts(asked(3.0, 9.0, at_most=1))[PROBE].outcome is VIOLATED


def test_what_is_lost_long_after_all_is_whole_counts_too() -> None:
    assert verdicts(asked(18.9))[PROBE].outcome is VIOLATED


def test_requests_without_an_answer_in_time_count_as_lost() -> None:
    lost = tuple(round(n / 10, 1) for n in range(12))
    found = verdicts(asked(*lost, kind="timeout", at_most=11))
    assert found[PROBE].outcome is VIOLATED and "longest gap 1.300 s" in found[PROBE].sentence
    assert verdicts(asked(*lost, kind="timeout", at_most=12))[PROBE].outcome is HELD, "no gap is too long by itself"


def test_a_service_that_was_not_well_before_the_fault_is_unknown() -> None:
    found = verdicts(asked(-2.0))
    assert found[PROBE].outcome is UNKNOWN and "not served before the fault" in found[PROBE].sentence


def test_a_timeout_may_be_the_probers_own_stall() -> None:
    """Its second, and not the three of the other probes: half of it is enough to doubt."""
    stalls = (Stall.ending(FAULT + 5.0, 0.6),)
    found = verdicts(asked(4.6, kind="timeout", stalls=stalls))
    assert found[PROBE].outcome is UNKNOWN and "may be the prober's own" in found[PROBE].sentence
    assert verdicts(asked(4.6, kind="timeout"))[PROBE].outcome is VIOLATED


def test_a_service_whose_requests_are_missing_is_unknown() -> None:
    history = asked()
    gone = edited(history, lambda event: None if isinstance(event, Request) and event.probe == PROBE else event)
    found = verdicts(gone)[PROBE]
    assert found.outcome is UNKNOWN and "too few requests: 0, expected 250" in found.sentence


def test_one_that_ended_with_the_fault_is_unknown() -> None:
    history = planted(config=replace(CONFIG, services=(URL,)), outage=(0.0, 0.0), stop=FAULT + 0.5)
    assert availability(history, probe=PROBE, failed_at_most=0).outcome is UNKNOWN


def test_histories_without_services_get_no_such_verdict() -> None:
    assert not any(name.startswith("service") for name in verdicts(planted(outage=(0.0, 0.0), marks=OFF_TO_WHOLE)))


def test_a_service_that_never_answered_is_refused_with_what_was_seen() -> None:
    config = replace(CONFIG, services=(URL,))
    before = planted(config=config, outage=(-10.0, 0.0), stop=FAULT, marks=())
    with pytest.raises(UsageError) as refused:
        refuse_silent(Services((URL,)), before, "ops")
    told = str(refused.value)
    assert URL in told and "nothing was broken" in told and "where: ops" in told and "50 requests: 50 refused" in told


def test_one_answer_is_enough_to_begin() -> None:
    config = replace(CONFIG, services=(URL,))
    refuse_silent(Services((URL,)), planted(config=config, outage=(-10.0, -0.1), stop=FAULT, marks=()), "ops")


@pytest.mark.parametrize(
    ("urls", "at_most", "told"),
    [
        ((URL,), -1, "at least 0"),
        ((), 3, "needs an --ask"),
        ((URL, URL), 0, "given twice"),
        (("gopher://a",), 0, "where: --ask gopher://a"),
    ],
)
def test_what_cannot_be_asked_is_refused(urls: tuple[str, ...], at_most: int, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        services(urls, at_most)
    assert told in str(refused.value)
