"""The same fault on machines that play another part: which drill that is, and how it is judged."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from planted import planted
from tests.model.clusters import three_nodes

from haplane.design.design import Design
from haplane.drills import judging, running
from haplane.drills.catalogue import DRILLS, ELSEWHERE, MATRIX, Drill, find, for_parts
from haplane.drills.checkers import Outcome
from haplane.drills.running import Asked
from haplane.drills.targets import SEVERAL, Who, parts, targets
from haplane.model.cluster import BalancerProgram
from haplane.model.errors import HaplaneError
from haplane.model.progress import Silent
from haplane.observe.status import ClusterStatus, EtcdMember, Lease, MachineStatus
from haplane.probes.history import HEAL, WHOLE, History, Mark, Observation
from haplane.probes.observer import HELD, OBSERVER, WATCHING

DESIGN = Design(three_nodes())
FAULT = 105.0
VIP = "vip 192.0.2.100"

# cp1 holds the VIP, cp2 leads etcd and has the scheduler that acts, cp3 the controller manager.
NAMES = ("cp1", "cp2", "cp3")
MEMBERS = tuple(EtcdMember(name, f"id-{name}", False) for name in NAMES)
LEASES = (Lease("kube-scheduler", "cp2", 1.0), Lease("kube-controller-manager", "cp3", 1.0))
STATUS = ClusterStatus(
    DESIGN.cluster,
    tuple(
        MachineStatus(
            name,
            holds_vip=name == "cp1",
            etcd_id=f"id-{name}",
            etcd_leader="id-cp2",
            members=MEMBERS,
            leases=LEASES,
        )
        for name in NAMES
    ),
)


def test_parts_are_what_a_machine_plays_now() -> None:
    assert parts(STATUS, "cp1") == {
        Who.VIP_HOLDER,
        Who.ETCD_FOLLOWER,
        Who.WAITING_CONTROLLER_MANAGER,
        Who.WAITING_SCHEDULER,
    }
    assert parts(STATUS, "cp2") == {
        Who.BACKUP,
        Who.NODE,
        Who.BUSIEST,
        Who.ETCD_LEADER,
        Who.WAITING_CONTROLLER_MANAGER,
        Who.SCHEDULER,
    }


# Parts that this cluster has not.
ABSENT = {Who.BALANCER, Who.NODE_APART, Who.WORKER}


@pytest.mark.parametrize("who", [who for who in Who if who not in SEVERAL | ABSENT])
def test_whoever_is_the_target_plays_the_part(who: Who) -> None:
    (machine,) = targets(STATUS, who)
    assert who in parts(STATUS, machine)


def test_without_a_lease_nobody_acts_and_nobody_waits() -> None:
    old = tuple(replace(lease, age_s=60.0) for lease in LEASES)
    status = replace(STATUS, machines=tuple(replace(one, leases=old) for one in STATUS.machines))
    assert parts(status, "cp3") == {Who.BACKUP, Who.NODE, Who.ETCD_FOLLOWER}


@pytest.mark.parametrize("who", sorted(ABSENT))
def test_a_part_that_this_cluster_has_not_is_played_by_nobody(who: Who) -> None:
    with pytest.raises(HaplaneError, match="no machine is"):
        targets(STATUS, who)


@pytest.mark.parametrize(
    ("name", "machine", "found"),
    [
        ("haproxy-death", "cp1", "haproxy-death"),
        ("haproxy-death", "cp2", "haproxy-death-backup"),
        ("haproxy-death-backup", "cp1", "haproxy-death"),
        ("move-vip", "cp3", "keepalived-stop-backup"),
        ("power-off-vip-holder", "cp2", "power-off-backup"),
        ("power-off-backup", "cp1", "power-off-vip-holder"),
        ("power-off-etcd-leader", "cp2", "power-off-etcd-leader"),
        ("power-off-etcd-leader", "cp3", "power-off-backup"),
        ("power-off-busiest", "cp1", "power-off-vip-holder"),
        ("reboot-vip-holder", "cp2", "reboot-backup"),
        ("freeze-vip-holder", "cp3", "freeze-backup"),
        ("shutdown-backup", "cp1", "shutdown-vip-holder"),
        ("haproxy-crash-loop", "cp3", "haproxy-crash-loop-backup"),
        ("etcd-disk-hang", "cp1", "etcd-disk-hang-follower"),
        ("apiserver-death", "cp1", "apiserver-death-vip-holder"),
        ("cut-backup", "cp1", "cut-vip-holder"),
        ("etcd-leader-death", "cp1", "etcd-follower-death"),
        ("etcd-follower-death", "cp2", "etcd-leader-death"),
        ("etcd-leader-hang", "cp3", "etcd-follower-hang"),
        ("scheduler-death", "cp1", "scheduler-death-waiting"),
        ("controller-manager-death", "cp3", "controller-manager-death"),
    ],
)
def test_on_another_machine_the_same_fault_may_be_another_drill(name: str, machine: str, found: str) -> None:
    chosen = for_parts(find(name), parts(STATUS, machine), DESIGN, machine)
    assert chosen is not None and chosen.name == found


# A herd comes back only to where it was; a flood is of all apiservers, wherever it comes from.
ONE_PART = frozenset({"reconnect-herd", "flood"})
NGINX = frozenset(drill.name for drill in MATRIX if drill.program is BalancerProgram.NGINX)


@pytest.mark.parametrize(
    "drill",
    [drill for drill in MATRIX if drill.who not in SEVERAL | ABSENT and drill.name not in ONE_PART | NGINX],
    ids=lambda drill: drill.name,
)
def test_every_fault_has_a_drill_for_every_machine_of_a_cluster_that_is_whole(drill: Drill) -> None:
    for machine in NAMES:
        found = for_parts(drill, parts(STATUS, machine), DESIGN, machine)
        assert found is not None, machine
        assert found.make is drill.make
        assert found.who in parts(STATUS, machine)


@pytest.mark.parametrize("drill", [drill for drill in MATRIX if drill.who in SEVERAL], ids=lambda drill: drill.name)
def test_what_is_done_to_several_is_not_done_to_one(drill: Drill) -> None:
    assert all(for_parts(drill, parts(STATUS, machine), DESIGN, machine) is None for machine in NAMES)


def test_without_a_part_that_it_is_for_there_is_no_drill() -> None:
    assert for_parts(find("scheduler-death"), {Who.BACKUP}, DESIGN, "cp2") is None


def test_each_says_something_else_than_what_it_was_made_of() -> None:
    assert len({drill.sentence for drill in MATRIX}) == len(MATRIX)
    assert len({drill.name for drill in MATRIX}) == len(MATRIX)


def test_only_where_the_vip_is_must_a_fault_move_it() -> None:
    assert {drill.who for drill in MATRIX if drill.moves_vip} == {Who.VIP_HOLDER}
    unclear = {drill.name.removesuffix("-backup") for drill in ELSEWHERE if drill.moves_vip is None}
    assert unclear == {"cut-from-peers", "lossy", "flapping", "freeze", "keepalived-hang"}, "deaf for a while"


def test_the_others_are_in_no_shorter_suite() -> None:
    assert not {drill.name for drill in ELSEWHERE if drill.quick}
    assert {drill.name for drill in DRILLS if drill.unseen} == set()


def test_what_no_request_needs_has_no_budget_and_keeps_its_meaning() -> None:
    drill = find("keepalived-death-backup")
    assert drill.budget_of(DESIGN, ["cp2"]).worst_s == 0.0
    assert drill.budget == "keepalived-death", "without VRRP there is no such drill"
    lost = drill.budget_of(DESIGN, ["cp2", "cp3"])
    assert math.isinf(lost.worst_s), "a design that does not survive it has no bound"


# -- chosen


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def done(self, subject: str, text: str) -> None:
        self.lines.append(text)


async def never(why: str) -> None:
    raise AssertionError(why)


def asked(on: str = "") -> tuple[Asked, Told]:
    told = Told()
    return Asked(DESIGN, Path(), never, told, on=on), told


def test_without_a_machine_the_drills_own_target_is_broken() -> None:
    want, told = asked()
    drill, machines = running._choose(find("etcd-leader-death"), STATUS, want)
    assert (drill.name, machines, told.lines) == ("etcd-leader-death", ("cp2",), [])


def test_what_another_part_makes_of_a_drill_is_told() -> None:
    want, told = asked(on="cp3")
    drill, machines = running._choose(find("haproxy-death"), STATUS, want)
    assert (drill.name, machines) == ("haproxy-death-backup", ("cp3",))
    assert told.lines == ["now cp3 is a machine that could hold the VIP and does not: this is haproxy-death-backup"]


def test_a_machine_that_plays_no_part_for_it_is_not_broken() -> None:
    want, _ = asked(on="cp1")
    nobody = replace(STATUS, machines=tuple(replace(one, leases=()) for one in STATUS.machines))
    with pytest.raises(HaplaneError) as raised:
        running._choose(find("scheduler-death"), nobody, want)
    assert "scheduler-death has no meaning on cp1 alone as it is now; nothing was broken" in raised.value.what


# -- judged


def history(drill: str, machine: str, *, outage_s: float = 0.0, moves: bool = False) -> History:
    """cp1 holds the VIP, until the fault if it moves; watched all the time."""
    marks = [Mark(FAULT, drill, machine, 0.001), Mark(FAULT + 8, HEAL, machine), Mark(FAULT + 12, WHOLE)]
    seen = [Observation(100.0, name, OBSERVER, WATCHING) for name in NAMES]
    seen += [Observation(100.0, name, VIP, HELD if name == "cp1" else "") for name in NAMES]
    if moves:
        seen += [Observation(FAULT + 0.1, "cp1", VIP, ""), Observation(FAULT + 0.11, "cp2", VIP, HELD)]
    named = judging.named(100.0, find(drill), machine)
    return planted(outage=(0.0, outage_s), marks=marks, config=CONFIG).with_events([*seen, named])


def outcomes(judged: History) -> dict[str, Outcome]:
    return {verdict.name: verdict.outcome for verdict in judging.judge(judged, DESIGN).verdicts}


CONFIG = replace(planted().header.config, persistent_rate=0.0)  # type: ignore[union-attr]  # planted ones have one


def test_a_backup_without_haproxy_is_not_seen() -> None:
    assert set(outcomes(history("haproxy-death-backup", "cp2")).values()) == {Outcome.HELD}


def test_a_vip_that_moves_when_a_backup_loses_haproxy_is_wrong() -> None:
    at_holder = outcomes(history("haproxy-death", "cp1", moves=True))
    at_backup = outcomes(history("haproxy-death-backup", "cp2", moves=True))
    assert (at_holder["vip-moved"], at_backup["vip-moved"]) == (Outcome.HELD, Outcome.VIOLATED)


def test_an_outage_that_the_holder_is_allowed_is_too_long_for_a_backup() -> None:
    allowed_s = find("haproxy-hang").budget_of(DESIGN, ["cp1"]).worst_s - 0.03
    assert allowed_s > judging.NOISE_S
    at_holder = outcomes(history("haproxy-hang", "cp1", outage_s=allowed_s, moves=True))
    at_backup = outcomes(history("haproxy-hang-backup", "cp2", outage_s=allowed_s))
    assert (at_holder["budget"], at_backup["budget"]) == (Outcome.HELD, Outcome.VIOLATED)


def test_a_single_request_that_a_backup_costs_is_one_too_many() -> None:
    lost = outcomes(history("keepalived-stop-backup", "cp2", outage_s=0.02))
    assert lost["while-broken"] is Outcome.VIOLATED
