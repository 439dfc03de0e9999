"""The drill's judgement: what happened while something was broken, and when it was mended, are judged apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.model.clusters import three_nodes

from haplane.design.budget import budgets
from haplane.design.design import Design
from haplane.design.link import LEAVE
from haplane.drills import catalogue, judging
from haplane.drills.checkers import Outcome
from haplane.drills.idle import NAME as DARK
from haplane.model.errors import HaplaneError
from haplane.probes import prober
from haplane.probes.history import (
    COUNTED,
    Clock,
    End,
    Event,
    Header,
    History,
    Idle,
    Kubectl,
    LeaseSeen,
    Listing,
    Mark,
    Observation,
    Request,
    RequestOutcome,
    Watched,
    Watching,
)
from haplane.probes.observer import ETCD_LEADER
from haplane.probes.prober import LEASES, Config

CONFIG = Config(address="192.0.2.100", port=8443, server_hostname="kubernetes", ca_file="ca.crt", persistent_rate=0)
DESIGN = Design(three_nodes())
DRILL = catalogue.find("power-off-vip-holder")
BUDGET = DRILL.budget_of(DESIGN, ["cp1"])
OFF, ON, WHOLE, END_S = 5.0, 15.0, 25.0, 30.0


def history(*dark: tuple[float, float]) -> History:
    """50 requests/s for 30 s, refused between these times."""
    requests = []
    for index in range(int(END_S * 50)):
        due = index / 50
        refused = any(start <= due < end for start, end in dark)
        outcome, kind = (RequestOutcome.FAILED, "refused") if refused else (RequestOutcome.OK, "")
        requests.append(Request(due, "new", outcome, kind, due, due + 0.005))
    marks = [Mark(OFF, "power-off", "cp1"), Mark(ON, "power-on", "cp1"), Mark(WHOLE, "whole")]
    header = Header(0.0, 1, 0.0, 0.0, 0.0, CONFIG)
    clocks = [Clock(float(second), 0.001) for second in range(1, int(END_S))]
    named = judging.named(0.0, DRILL, "cp1")
    return History((header, *requests, *clocks, End(END_S, "duration", len(requests)), named, *marks))


def outcomes(judged: History) -> dict[str, Outcome]:
    return {verdict.name: verdict.outcome for verdict in judging.judge(judged, DESIGN).verdicts}


def test_nothing_lost_is_held() -> None:
    assert set(outcomes(history()).values()) == {Outcome.HELD}


def test_a_long_gap_while_the_power_was_off_is_the_failovers() -> None:
    found = outcomes(history((5.0, 5.8)))
    assert found["while-broken"] is Outcome.VIOLATED
    assert found["budget"] is Outcome.VIOLATED
    assert found["return"] is Outcome.HELD


def test_requests_lost_when_the_machine_comes_back_are_the_returns() -> None:
    found = outcomes(history((17.0, 17.2)))
    assert found["while-broken"] is Outcome.HELD
    assert found["budget"] is Outcome.HELD
    assert found["return"] is Outcome.VIOLATED


def test_a_return_is_judged_when_its_moment_is_hardly_known() -> None:
    """A host that is busy takes seconds to restore power, and that it was done then is all that is known."""

    def vague(event: Event) -> Event:
        return replace(event, error=3.9) if isinstance(event, Mark) and event.what == "power-on" else event

    assert outcomes(History(tuple(map(vague, history().events))))["return"] is Outcome.HELD


def test_a_machine_that_was_dark_only_just_before_it_came_back_has_a_return() -> None:
    shut = [
        replace(event, what="shutdown") if isinstance(event, Mark) and event.what == "power-off" else event
        for event in history((17.0, 17.2)).events
    ]
    found = outcomes(History((*shut, Mark(ON - 3.9, "power-off", "cp1"))))
    assert found["return"] is Outcome.VIOLATED, "10 requests were refused"


def test_a_cluster_that_is_whole_too_late_is_told() -> None:
    late = History(
        tuple(
            Mark(event.t, "nothing") if isinstance(event, Mark) and event.what == "whole" else event
            for event in history().events
        )
    )
    assert outcomes(late)["recovered"] is not Outcome.HELD


def test_the_budget_names_the_links_and_adds_up() -> None:
    assert BUDGET.worst_s == sum(link.worst_s for link in BUDGET.links)
    assert BUDGET.links[0].name == "detect"
    # RFC 9568: three adverts of 0.1 s, and the best backup's skew: (256 - 224) / 256 of one.
    assert abs(BUDGET.links[0].worst_s - 0.3125) < 1e-9
    assert all(link.typical_s <= link.worst_s for link in BUDGET.links)


def test_a_history_says_which_drill_it_is_of() -> None:
    assert judging.judge(history(), DESIGN).drill is DRILL
    nameless = History(tuple(event for event in history().events if not isinstance(event, Observation)))
    with pytest.raises(HaplaneError, match="does not say which drill"):
        judging.judge(nameless, DESIGN)


def test_a_history_of_another_cluster_is_refused() -> None:
    moved = history().with_events([])
    other = History(
        tuple(replace(event, machine="db1") if isinstance(event, Observation) else event for event in moved.events)
    )
    with pytest.raises(HaplaneError, match="another cluster"):
        judging.judge(other, DESIGN)


def watched(*, silent_s: float = 0.003) -> History:
    """Ten writes a second that one watch is told of; the one at the time of the fault only after so long."""
    asked = history()
    config = replace(CONFIG, write_rate=10.0, watches=1, token_file="token")
    events: list[Event] = [replace(each, config=config) if isinstance(each, Header) else each for each in asked.events]
    written = [
        Request(t, "write", RequestOutcome.OK, "", t, t + 0.01, key=f"w-{number}", version=number + 2)
        for number, t in enumerate(number / 10 for number in range(int(END_S * 10)))
    ]
    told = [
        Watched(each.end + (silent_s if each.t == OFF else 0.003), 0, "ADDED", each.key, each.version or 0)
        for each in written
    ]
    list_ = Listing(-0.1, 0, "start", None, RequestOutcome.OK, "", -0.05, 1)
    events += [*written, *told, list_, Watching(-0.05, 0, "listed", 1, -0.04, END_S + 1.0, "stopped")]
    count = sum(isinstance(each, COUNTED) for each in events)
    return History(tuple(replace(each, count=count) if isinstance(each, End) else each for each in events))


def test_a_watch_has_the_time_to_be_told_and_that_of_a_write() -> None:
    election = next(one for one in budgets(DESIGN, request_interval_s=0.02) if one.fault == "etcd-leader-death")
    elected_s = sum(link.worst_s for link in election.links if link.name != LEAVE)
    # An apiserver that is lost is left after 2.8 s, one without etcd after 4.05 s.
    limit_s = BUDGET.worst_s + judging.TOLD_AFTER_S + max(elected_s, 2.8)
    assert outcomes(watched())["watch-sees-all"] is Outcome.HELD
    assert outcomes(watched(silent_s=limit_s - 0.01))["watch-sees-all"] is Outcome.HELD
    assert outcomes(watched(silent_s=limit_s + 0.01))["watch-sees-all"] is Outcome.VIOLATED


def waiting(judged: History, *, told_s: float) -> History:
    """And 50 clients that wait, of which 17 are told so long after the fault."""
    idle = [Idle(0.1, OFF + told_s, "eof") if number < 17 else Idle(0.1, END_S, prober.ALIVE) for number in range(50)]
    events = configured(judged, idle_connections=50).events
    return History((*(replace(one, count=one.count + 50) if isinstance(one, End) else one for one in events), *idle))


def test_whose_etcd_has_died_is_told_so_when_the_apiserver_knows() -> None:
    budget_s = catalogue.find("etcd-leader-death").budget_of(DESIGN, ["cp1"]).worst_s
    limit_s = budget_s + judging.TOLD_AFTER_S
    assert limit_s == pytest.approx(4.8, abs=0.05)
    for told_s, outcome in ((limit_s - 0.01, Outcome.HELD), (limit_s + 0.01, Outcome.VIOLATED)):
        assert outcomes(as_drill(waiting(history(), told_s=told_s), "etcd-leader-death"))[DARK] is outcome
    # Of any other apiserver it is known sooner.
    assert outcomes(as_drill(waiting(history(), told_s=limit_s - 0.01), "apiserver-hang"))[DARK] is Outcome.VIOLATED


@pytest.mark.parametrize(
    ("answers_at", "ends_at", "counts"),
    [(6.5, 8.0, True), (9.0, 10.0, True), (9.5, 10.0, False), (99.0, 99.0, False)],
    ids=["in time", "just in time", "when it was left already", "never"],
)
def test_an_etcd_that_comes_back_and_dies_again_gives_as_long_again(
    answers_at: float, ends_at: float, counts: bool
) -> None:
    seen = [(0.0, "cp1", "1"), (OFF + 0.3, "cp1", ""), (answers_at, "cp1", "0"), (ends_at, "cp1", "")]
    seen += [(OFF + 1.0, "cp2", "1"), (OFF + 2.0, "cp2", "")]
    limit_s = catalogue.find("etcd-leader-crash-loop").budget_of(DESIGN, ["cp1"]).worst_s + judging.TOLD_AFTER_S
    limit_s += ends_at - OFF if counts else 0.0
    for told_s, outcome in ((limit_s - 0.01, Outcome.HELD), (limit_s + 0.01, Outcome.VIOLATED)):
        judged = as_drill(waiting(history(), told_s=told_s), "etcd-leader-crash-loop")
        judged = judged.with_events([Observation(t, machine, ETCD_LEADER, value) for t, machine, value in seen])
        assert outcomes(judged)[DARK] is outcome, (told_s, outcome)


def test_the_register_is_judged_where_it_was_asked() -> None:
    assert not {"reads-never-go-back", "register-linearizable"} & set(outcomes(history()))
    config = replace(CONFIG, register_rate=5.0, token_file="token")
    asked = [replace(each, config=config) if isinstance(each, Header) else each for each in history().events]
    found = outcomes(History(tuple(asked)))
    assert found["reads-never-go-back"] is found["register-linearizable"] is Outcome.UNKNOWN, "nothing was read"


def test_what_no_client_asks_for_gives_requests_no_time() -> None:
    """A scheduler may be without a lease for 24 s; a request waits for none of it."""
    lost = as_drill(history((5.0, 5.8)), "scheduler-death")
    assert outcomes(lost)["while-broken"] is Outcome.VIOLATED


def with_leases(judged: History, *, taken_at: float = 22.0, lost: str = "cp1", by: str = "cp2") -> History:
    """And the leases, twice a second: one machine holds both until another has taken them."""
    reads = []
    for number in range(int(END_S * 2)):
        t = number / 2
        holder, since = (by, taken_at) if t >= taken_at else (lost, -100.0)
        renewed = since + 2 * int((min(t, OFF if holder == lost else END_S) - since) / 2)
        reads += [
            LeaseSeen(t, lease, "", t, t + 0.004, f"{holder}_x", since, renewed, 15.0, int(holder == by))
            for lease in LEASES
        ]
    return configured(judged, lease_rate=2.0, token_file="token").with_events(reads)


def configured(judged: History, **settings: object) -> History:
    events = judged.events
    config = {"address": "192.0.2.100", "port": 8443, "server_hostname": "kubernetes", "ca_file": "ca.crt"}
    changed = prober.config_from(config | {"persistent_rate": 0} | settings)
    return History(tuple(replace(event, config=changed) if isinstance(event, Header) else event for event in events))


def as_drill(judged: History, name: str) -> History:
    """The same history, of a drill that breaks something on the machine."""

    def change(event: Event) -> Event:
        if isinstance(event, Observation):
            return judging.named(0.0, catalogue.find(name), "cp1")
        if isinstance(event, Mark) and event.what in ("power-off", "power-on"):
            return replace(event, what=name if event.what == "power-off" else "heal")
        return event

    return History(tuple(map(change, judged.events)))


def test_who_acts_is_judged_where_leases_were_read_and_not_in_older_histories() -> None:
    assert not {"one-controller-acts", "acts-again"} & set(outcomes(history()))
    found = outcomes(with_leases(history()))
    assert found["one-controller-acts"] is found["acts-again"] is Outcome.HELD
    assert outcomes(with_leases(history(), taken_at=10.0))["one-controller-acts"] is Outcome.VIOLATED


def test_a_controller_that_dies_has_its_budget_to_be_replaced() -> None:
    """After 15 s of the lease, and two looks of 4.4 s: 23.8 s. It dies after 5 s."""
    for name in ("controller-manager-death", "scheduler-death"):
        assert outcomes(as_drill(with_leases(history(), taken_at=28.0), name))["acts-again"] is Outcome.HELD
        late = as_drill(with_leases(history(), taken_at=29.5), name)
        (verdict,) = [one for one in judging.judge(late, DESIGN).verdicts if one.name == "acts-again"]
        assert verdict.outcome is Outcome.VIOLATED, verdict
        program = name.removesuffix("-death")
        assert f"kube-{program}: cp2 acts 24.5 s after (at most 23.8 s)" in verdict.sentence


def test_with_a_machine_an_election_of_etcd_may_come_between() -> None:
    assert outcomes(with_leases(history(), taken_at=29.0))["acts-again"] is Outcome.HELD
    within_s = judging.acts_again_within_s(DESIGN, DRILL, "kube-scheduler")
    own_s = judging.acts_again_within_s(DESIGN, catalogue.find("scheduler-death"), "kube-scheduler")
    assert own_s == pytest.approx(23.8) and 1.0 < within_s - own_s < 5.0


def test_of_a_machine_that_did_not_act_nobody_need_take_over() -> None:
    assert "acts-again" not in outcomes(with_leases(history(), lost="cp3", taken_at=99.0))


def test_what_is_done_to_a_controller_that_waits_need_not_be_made_good_by_another() -> None:
    for name in ("controller-manager-death-waiting", "scheduler-hang-waiting"):
        assert "acts-again" not in outcomes(as_drill(with_leases(history(), lost="cp3", taken_at=99.0), name))


def test_a_machine_that_is_only_cut_off_may_go_on_to_act() -> None:
    gone = as_drill(with_leases(history(), taken_at=99.0), "cut-vip-holder")
    assert outcomes(gone)["acts-again"] is Outcome.UNKNOWN, "it is not renewed, and 24.5 s were watched"
    events = (
        replace(event, renewed=event.renewed + 2.0) if isinstance(event, LeaseSeen) and event.t > 16.0 else event
        for event in gone.events
    )
    assert outcomes(History(tuple(events)))["acts-again"] is Outcome.HELD


def with_kubectl(judged: History, *, back_s: float) -> History:
    """And 10 writes a second, all shown but until so long after the fault."""
    settings = {"write_rate": 10.0, "token_file": "token", "kubectl": "/usr/bin/kubectl"}
    writes = [
        Request(number / 10, "write", RequestOutcome.OK, "", number / 10, number / 10 + 0.004, None, f"w-{number}")
        for number in range(int(END_S * 10))
    ]
    shown = [Kubectl(write.end, "line", f"configmap/{write.key}") for write in writes]
    shown = [line for line in shown if not OFF <= line.t < OFF + back_s]
    events = [
        replace(event, count=event.count + len(writes)) if isinstance(event, End) else event
        for event in configured(judged, **settings).events
    ]
    return History((*events, *writes, *shown))


def test_what_kubectl_sees_is_judged_where_there_was_one() -> None:
    """It has 1 s more than a request when the VIP moves, and else until an apiserver that hangs is left."""
    assert "kubectl-sees-on" not in outcomes(history())
    limit_s = BUDGET.worst_s + 1.0
    assert outcomes(with_kubectl(history(), back_s=limit_s - 0.1))["kubectl-sees-on"] is Outcome.HELD
    late = with_kubectl(history(), back_s=limit_s + 0.1)
    assert outcomes(late)["kubectl-sees-on"] is Outcome.VIOLATED
    assert outcomes(as_drill(late, "apiserver-hang"))["kubectl-sees-on"] is Outcome.HELD
    dark = as_drill(with_kubectl(history(), back_s=20.0), "apiserver-hang")
    assert outcomes(dark)["kubectl-sees-on"] is Outcome.VIOLATED
    assert "kubectl-sees-on" not in outcomes(as_drill(dark, "lossy-vip-holder")), "there is no budget"


def test_what_is_mended_before_the_fault_has_settled_is_one_with_it() -> None:
    events = [
        event for event in history((5.0, 5.2)).events if not (isinstance(event, Mark) and event.what == "power-on")
    ]
    quickly = History((*events, Mark(7.0, "power-on", "cp1")))
    assert judging.while_broken(quickly).window == (0.0, END_S)
    found = outcomes(quickly)
    assert found["while-broken"] is Outcome.VIOLATED, "10 requests were refused, 4 are allowed"
    assert "return" not in found
