"""What is broken on machines: scripts that a shell takes, and that name what they are meant for."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
from tests.model.clusters import balanced_by, etcd_apart, three_nodes

from haplane.design.design import Design
from haplane.drills.breaking import NOT_PREPARED, arm_script, heal_script
from haplane.drills.catalogue import MATRIX, Drill, find
from haplane.drills.faults import Fault, Outside
from haplane.drills.targets import Who
from haplane.model.cluster import BalancerProgram
from haplane.model.errors import UsageError

DESIGN = Design(three_nodes())
OF_EXTERNAL_ETCD = ("power-off-etcd-member", "power-off-etcd-machine-and-node")
ON_MACHINES = [drill for drill in MATRIX if not drill.outside]


def fault_of(drill: Drill) -> Fault:
    assert not isinstance(drill.make, Outside)
    return drill.make(DESIGN, DESIGN.cluster.machines["cp1"])


def test_names_are_of_one_drill_each_and_none_is_a_word_of_healing() -> None:
    names = [drill.name for drill in MATRIX]
    assert len(set(names)) == len(names)
    assert not {"heal", "power-on", "whole"} & set(names)


@pytest.mark.parametrize("by", [BalancerProgram.HAPROXY, BalancerProgram.NGINX])
@pytest.mark.parametrize("drill", MATRIX, ids=lambda drill: drill.name)
def test_every_drill_has_a_budget_in_a_design_of_three_unless_it_breaks_what_is_not_there(
    drill: Drill, by: BalancerProgram
) -> None:
    design = Design(balanced_by(by))
    absent = drill.who in (Who.BALANCER, Who.NODE_APART, Who.WORKER) or drill.name in OF_EXTERNAL_ETCD
    assert drill.has_meaning(design) == (drill.program in (None, by) and not absent)
    if machines := drill.example(design):
        assert drill.budget_of(design, machines).links


@pytest.mark.parametrize("drill", ON_MACHINES, ids=lambda drill: drill.name)
def test_a_shell_takes_every_script(drill: Drill) -> None:
    fault = fault_of(drill)
    for script in (fault.prepare, fault.inject, fault.heal, arm_script(fault, 30), heal_script(fault)):
        assert subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=False).returncode == 0, script


@pytest.mark.parametrize("drill", ON_MACHINES, ids=lambda drill: drill.name)
def test_the_healer_is_armed_before_anything_is_prepared(drill: Drill) -> None:
    fault = fault_of(drill)
    script = arm_script(fault, 30)
    assert "--on-active=30" in script
    assert script.index("systemd-run") < script.index("/bin/sh -ec")


def test_what_cannot_be_prepared_is_undone_and_told(tmp_path: Path) -> None:
    """In a list of || a shell does not stop at the first command that fails, unless it is a shell of its own."""
    # No systemd here: a healer is armed if asked for alone, and none was before.
    for name, script in (("systemd-run", "exit 0"), ("systemctl", "[ $# -lt 4 ]")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    script = arm_script(Fault(prepare="false\ntrue", inject="", heal="echo healed"), 30)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (NOT_PREPARED, "healed\n")


@pytest.mark.parametrize(
    "drill", [drill for drill in ON_MACHINES if drill.name.startswith("etcd")], ids=lambda d: d.name
)
def test_a_member_on_a_machine_of_its_own_is_disturbed_as_a_unit(drill: Drill) -> None:
    design = Design(etcd_apart())
    assert not isinstance(drill.make, Outside)
    fault = drill.make(design, design.cluster.machines["e1"])
    scripts = (fault.prepare, fault.inject, fault.heal)
    assert "pidof" not in "".join(scripts)
    assert "disk" in drill.name or "systemctl" in fault.inject
    for script in scripts:
        assert subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=False).returncode == 0, script


@pytest.mark.parametrize("drill", MATRIX, ids=lambda drill: drill.name)
def test_every_drill_has_a_budget_where_etcd_has_machines_of_its_own(drill: Drill) -> None:
    design = Design(etcd_apart())
    machine = "e1" if drill.who in (Who.ETCD_LEADER, Who.ETCD_FOLLOWER) else "cp1"
    if drill.has_meaning(design):
        assert drill.budget_of(design, [machine]).links


def test_a_machine_that_cannot_hold_the_vip_takes_no_longer_than_what_it_is() -> None:
    design = Design(etcd_apart())
    found = find("power-off-etcd-leader").budget_of(design, ["e1"])
    assert found.fault == "power-off-etcd-leader"
    assert find("power-off-etcd-leader").budget_of(design, ["cp1"]).fault == "power-off-vip-holder"


def test_of_a_machine_with_both_ip_versions_both_are_cut_and_it_is_still_found() -> None:
    cluster = three_nodes()
    machines = {
        name: replace(one, addresses=(*one.addresses, ip_address(f"2001:db8::{name[-1]}")))
        for name, one in cluster.machines.items()
    }
    vips = (*cluster.endpoint.vips, ip_interface("2001:db8::100/64"))
    cluster = replace(cluster, machines=machines, endpoint=replace(cluster.endpoint, vips=vips))

    def rules(drill: str) -> str:
        make = find(drill).make
        assert not isinstance(make, Outside)
        return make(Design(cluster), machines["cp1"]).prepare

    asked = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
    cut = rules("cut-vip-holder")
    assert cut.index(f"{asked} @th,64,128 0x20010db8000000000000000000000100 drop") < cut.index(f"{asked} accept")
    assert "ip6 saddr { 2001:db8::2, 2001:db8::3 } drop" in rules("cut-from-peers")
    assert "ip saddr { 192.0.2.12, 192.0.2.13 } drop" in rules("cut-from-peers")
    assert "ip6 nexthdr 112 drop" in rules("adverts-lost")
    assert "ip6" not in fault_of(find("cut-from-peers")).prepare


def test_who_is_cut_off_keeps_ssh_and_hides_the_vip() -> None:
    rules = fault_of(find("cut-vip-holder")).prepare
    assert rules.count("tcp dport 22 accept") == 1
    assert rules.count("tcp sport 22 accept") == 1
    assert "arp daddr ip { 192.0.2.100 } drop" in rules


def test_lost_adverts_are_all_that_is_lost() -> None:
    rules = fault_of(find("adverts-lost")).prepare
    assert [line.strip() for line in rules.splitlines() if line.strip().endswith("drop")] == ["ip protocol 112 drop"]


def test_a_drill_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as told:
        find("haproxy-dead")
    assert "haproxy-death" in told.value.hint
