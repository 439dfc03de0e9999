"""What is done to several machines at once, from outside, or to a machine that serves on for a while."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import cast

import pytest
from test_elsewhere import DESIGN, STATUS
from test_judging import history, outcomes
from tests.model.clusters import etcd_apart

from haplane.drills import breaking, judging
from haplane.drills.breaking import FromOutside, ShutDown
from haplane.drills.catalogue import DRILLS, find
from haplane.drills.checkers import Outcome
from haplane.drills.faults import Outside
from haplane.drills.targets import Who, targets
from haplane.model.cluster import Power, Role
from haplane.model.errors import UsageError
from haplane.observe.status import ClusterStatus, MachineStatus
from haplane.probes.history import End, History, Idle, Mark, Observation
from haplane.probes.pinging import SILENT_S, Pinger
from haplane.transport import power
from haplane.transport.ssh import Remote

CP1 = DESIGN.cluster.machines["cp1"]


def test_whoever_plays_most_parts_is_the_busiest() -> None:
    # cp1 holds the VIP; cp2 leads etcd, and its scheduler acts.
    assert targets(STATUS, Who.BUSIEST) == ("cp2",)
    assert targets(STATUS, Who.HOLDER_AND_ANOTHER) == ("cp1", "cp2")
    assert targets(STATUS, Who.EVERY) == ("cp1", "cp2", "cp3")


def test_what_is_done_to_all_is_done_to_those_that_have_it() -> None:
    """Not every machine has a balancer or an apiserver."""
    cluster = etcd_apart()
    status = ClusterStatus(cluster, tuple(MachineStatus(name) for name in cluster.machines))
    assert targets(status, Who.EVERY) == ("cp1", "cp2", "cp3", "e1", "e2", "e3")
    assert targets(status, Who.EVERY, Role.CONTROL_PLANE) == ("cp1", "cp2", "cp3")
    assert targets(status, Who.EVERY, Role.BALANCER) == ("cp1", "cp2", "cp3")


def test_what_a_design_does_not_survive_has_no_budget() -> None:
    two = find("power-off-two")
    assert not two.is_survived(DESIGN, ["cp1", "cp2"])
    assert math.isinf(two.budget_of(DESIGN, ["cp1", "cp2"]).worst_s)
    assert two.is_survived(DESIGN, ["cp1"])


def test_what_spares_all_machines_is_survived_on_all() -> None:
    assert all(drill.is_survived(DESIGN, ["cp1", "cp2", "cp3"]) for drill in DRILLS if drill.spares)


def of_all(*dark: tuple[float, float]) -> History:
    """As a history of one machine's power cut, but of all three."""
    every = find("power-off-all")
    events = [event for event in history(*dark).events if not isinstance(event, Observation)]
    for name in ("cp2", "cp3"):
        events += [
            replace(event, machine=name) for event in events if isinstance(event, Mark) and event.machine == "cp1"
        ]
    return History((*events, *(judging.named(0.0, every, name) for name in ("cp1", "cp2", "cp3"))))


def test_an_outage_that_was_asked_for_is_not_held_against_anybody() -> None:
    found = outcomes(of_all((5.0, 20.0)))
    assert found == {"recovered": Outcome.HELD}


def test_who_a_leaving_machine_still_serves_is_told_when_it_is_dark() -> None:
    leaving = find("shutdown-vip-holder")
    events = [event for event in history().events if not isinstance(event, Mark | Observation)]
    marks = [Mark(5.0, "shutdown", "cp1"), Mark(12.0, "power-off", "cp1"), Mark(15.0, "power-on", "cp1")]
    idle = [Idle(1.0, 12.3, "reset")] * 50
    assert judging._served_on_s(History((*events, *marks))) == 7.0
    header = next(iter(history().of(type(history().header))))
    asked = replace(header, config=replace(header.config, idle_connections=50))
    seen = History((asked, *events[1:], *marks, *idle, Mark(20.0, "whole"), judging.named(0.0, leaving, "cp1")))
    dark = {verdict.name: verdict for verdict in judging.judge(seen, DESIGN).verdicts}["nobody-waits-in-the-dark"]
    assert "told later" not in dark.sentence


# Nothing is done on the machine in these tests.
NOBODY = cast(Remote, None)
SWITCH = Power("off {name}", "on {name}", "freeze {name}", "thaw {name}")


def test_a_machine_is_frozen_only_by_a_command_of_the_file() -> None:
    freeze = next(drill for drill in DRILLS if drill.outside is Outside.FREEZE)
    with pytest.raises(UsageError, match="how a machine is frozen"):
        breaking.making(freeze, DESIGN, CP1, NOBODY, "", Power("off", "on"))
    with pytest.raises(UsageError, match="how a machine's power is cut"):
        breaking.making(freeze, DESIGN, CP1, NOBODY, "", None)
    made = breaking.making(freeze, DESIGN, CP1, NOBODY, "", SWITCH)
    assert (made.fault, made.healing, made.machine) == ("freeze", "heal", "cp1")


def test_a_shutdown_that_is_interrupted_ends_in_a_machine_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    async def run(command: str, machine: object, *, gently: bool = False) -> None:
        ran.append(f"{command}, gently" if gently else command)

    monkeypatch.setattr(power, "run", run)
    shutdown = next(drill for drill in DRILLS if drill.outside is Outside.SHUT_DOWN)
    made = breaking.making(shutdown, DESIGN, CP1, NOBODY, "", SWITCH)
    assert isinstance(made, ShutDown)
    asyncio.run(made.heal())
    assert ran == ["off {name}\non {name}"]


def test_clients_do_not_feel_that_a_fault_begins_before_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    async def run(command: str, machine: object, *, gently: bool = False) -> None:
        ran.append(f"{command}, gently" if gently else command)

    monkeypatch.setattr(power, "run", run)
    made = breaking.making(find("power-off-backup"), DESIGN, CP1, NOBODY, "", SWITCH)
    asyncio.run(made.inject())
    asyncio.run(made.heal())
    assert ran == ["off {name}, gently", "on {name}"]


def test_a_power_cut_is_healed_by_the_same_command_that_the_healer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[str] = []

    class Healer:
        def __init__(self, command: str, machine: object, *, after_s: float) -> None:
            armed.append(command)

    monkeypatch.setattr(power, "Healer", Healer)
    made = breaking.making(find("power-off-backup"), DESIGN, CP1, NOBODY, "", SWITCH)
    assert isinstance(made, FromOutside)
    asyncio.run(made.arm())
    assert armed == ["on {name}"]


def test_silence_is_waited_for_as_long_as_somebody_answers() -> None:
    async def waited(pinger: Pinger) -> float:
        began = asyncio.get_running_loop().time()
        await pinger.until_silent(3 * SILENT_S)
        return asyncio.get_running_loop().time() - began

    never_heard = Pinger()
    assert asyncio.run(waited(never_heard)) < SILENT_S / 2


def test_who_is_only_short_of_memory_serves_until_it_is_ended() -> None:
    """As recorded: the kernel ended HAProxy 9.38 s after the memory had been taken, and its clients with it."""
    short = find("memory-short")
    kept = [event for event in history().events if not isinstance(event, Mark | Observation)]
    header = next(iter(history().of(type(history().header))))
    asked = replace(header, config=replace(header.config, idle_connections=50))
    marks = [Mark(5.0, "memory-short", "cp1"), Mark(15.2, "heal", "cp1"), Mark(18.0, "whole")]

    def found(told_at: float, *seen: Observation) -> Outcome:
        idle = [Idle(1.0, told_at, "eof")] * 50
        end = [replace(event, count=len(idle) + event.count) if isinstance(event, End) else event for event in kept[1:]]
        events = (asked, *end, *marks, *idle, *seen, judging.named(0.0, short, "cp1"))
        judged = judging.judge(History(events), DESIGN).verdicts
        return {verdict.name: verdict.outcome for verdict in judged}["nobody-waits-in-the-dark"]

    let_go = Observation(14.41, "cp1", "vrrp", "FAULT")
    ended = Observation(14.38, "cp1", "balancer", "")
    assert found(14.39, let_go) is Outcome.HELD
    assert found(14.39, ended) is Outcome.HELD
    assert found(14.39) is Outcome.VIOLATED
    assert found(14.39, replace(ended, machine="cp2"), replace(ended, value="running")) is Outcome.VIOLATED
    early = replace(ended, t=6.0)
    assert found(14.39, early, let_go) is Outcome.VIOLATED, "they were told 8.4 s after it had ended"
