"""The examples: each lints as it says, has budgets with an end for its main faults, and a list of drills."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from haplane.design.budget import budgets
from haplane.design.cuts import survives
from haplane.design.design import Design
from haplane.design.hazards import lint
from haplane.design.solved import solved
from haplane.drills.catalogue import MATRIX, suite
from haplane.drills.targets import Who
from haplane.model.cluster import Role
from haplane.model.facts import MeasuredFacts
from haplane.model.file import read_cluster

FOLDER = Path(__file__).parents[2] / "examples"

# Example -> faults that the design itself ends, besides those of a leader of etcd and of an apiserver.
OWN = ("power-off-vip-holder", "power-off-control-plane-node", "haproxy-death", "haproxy-hang", "move-vip")
MAIN = {
    "stacked-3": OWN,
    "stacked-5": OWN,
    "external-etcd": (*OWN, "power-off-etcd-leader", "power-off-etcd-follower"),
    "balancer-pair": (*OWN, "power-off-idle-balancer"),
    "external-load-balancer": (),
    "nginx": ("power-off-vip-holder", "power-off-control-plane-node", "nginx-death", "nginx-hang", "move-vip"),
    "no-balancer": ("power-off-vip-holder", "power-off-control-plane-node", "apiserver-hang", "move-vip"),
    "dual-stack": OWN,
    "ipv6": OWN,
    "workers": OWN,
    "worker-balancers": OWN,
}


def design_of(example: str) -> Design:
    file = FOLDER / f"{example}.yaml"
    return solved(read_cluster(file.read_text(), file=file.name, folder=FOLDER), MeasuredFacts())[0]


@pytest.mark.parametrize("example", MAIN)
def test_lint_finds_nothing_that_the_example_does_not_accept(example: str) -> None:
    assert [str(one) for one in lint(design_of(example)) if not one.accepted] == []


@pytest.mark.parametrize("example", MAIN)
def test_the_main_faults_have_an_end(example: str) -> None:
    found = {one.fault: one for one in budgets(design_of(example))}
    for fault in (*MAIN[example], "etcd-leader-death", "apiserver-death", "scheduler-death"):
        # What nginx does not notice has none.
        if example != "nginx" or fault != "etcd-leader-death":
            assert math.isfinite(found[fault].worst_s), fault


@pytest.mark.parametrize("example", MAIN)
def test_every_drill_that_has_meaning_has_machines_and_a_budget(example: str) -> None:
    design = design_of(example)
    listed = [drill for drill in MATRIX if drill.has_meaning(design)]
    assert len(listed) > 50
    for drill in listed:
        machines = drill.example(design)
        assert drill.budget_of(design, machines).links, drill.name
        assert drill.must_move_vip(design, machines) in (True, False, None)
    quick = suite(design, quick=True)
    assert 5 <= len(quick) <= 9
    assert {drill.name for drill in quick} <= {drill.name for drill in suite(design)}


@pytest.mark.parametrize("example", MAIN)
def test_there_is_a_machine_to_ask_from_and_one_machine_may_be_lost(example: str) -> None:
    design = design_of(example)
    assert len(design.cluster.with_role(Role.CLIENT)) == 1
    for machine in design.cluster.managed:
        left = survives(design, [machine.name])
        assert left.reads and left.writes, machine.name


def test_behind_an_address_of_somebody_elses_nobody_holds_the_vip() -> None:
    design = design_of("external-load-balancer")
    of_the_holder = [drill for drill in MATRIX if drill.who in (Who.VIP_HOLDER, Who.BACKUP, Who.HOLDER_AND_ANOTHER)]
    assert not [drill.name for drill in of_the_holder if drill.has_meaning(design)]


def test_of_five_any_two_may_be_lost_at_once() -> None:
    design = design_of("stacked-5")
    left = survives(design, ["cp1", "cp2"])
    assert left.reads and left.writes and left.spare == 0
    assert survives(design, ["rack-a"]).writes


def test_examples_are_small_and_no_file_is_left_out() -> None:
    there = {file.stem for file in FOLDER.glob("*.yaml")}
    assert set(MAIN) <= there
    assert all(len(file.read_text().splitlines()) < 40 for file in FOLDER.glob("*.yaml"))
