"""Who balances and who shares the VIP changes on a live cluster: what is stopped, when, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.components.test_addons import with_worker
from tests.model.clusters import view
from tests.phases.test_workers import designed, found

from haplane.components import keepalived
from haplane.components.base import Measured
from haplane.design.design import identity
from haplane.model.cluster import BalancerProgram, BalancerRole, Cast, Cluster, EndpointOwner, Machine, Role, Ssh
from haplane.model.errors import HaplaneError
from haplane.model.progress import Silent
from haplane.observe.facts import Facts
from haplane.phases.apply import PHASES, _together, run_phases
from haplane.phases.change import Step
from haplane.phases.context import Context, Phase
from haplane.phases.create import WaitUntilWhole
from haplane.phases.decide import decide
from haplane.phases.endpoint import STOP_KEEPALIVED, HandVipOver, LeaveVip, StartVip, StopBalancers, clients
from haplane.phases.kubelets import PointKubelets
from haplane.phases.refuse import refuse_to_skip_a_holder, unicast_peers
from haplane.phases.reset import STOP_SERVICES
from haplane.transport.ssh import Completed

BEFORE = with_worker()
STOP = "stop HAProxy, which nobody uses there any more"


def on_balancers(before: Cluster = BEFORE) -> Cluster:
    balancers = {
        name: Machine(name, (ip_address(f"192.0.2.{number}"),), frozenset({Role.BALANCER}), Ssh())
        for name, number in (("lb1", 51), ("lb2", 52))
    }
    return replace(before, balancer=BalancerRole.BALANCER, machines={**before.machines, **balancers})


@dataclass
class Says:
    """A machine that answers every question with this."""

    text: str = ""

    async def run(self, *_: object, **__: object) -> Completed:
        return Completed(self.text, "", 0)


def steps(after: Cluster, facts: dict[str, Facts], *, says: str = "") -> tuple[Step, ...]:
    nodes, workers = ({one.name: facts[one.name] for one in some} for some in (after.control_plane, after.workers))
    context = Context(
        cluster=after,
        design=designed(after),
        remotes={name: Says(says) for name in facts},  # type: ignore[misc]  # a stand-in
        facts=facts,
        decision=decide(nodes, {}, identity(after), workers=workers),
        bundle_folder=None,
        progress=Silent(),
        token="",
        dry=True,
    )
    return asyncio.run(run_phases(context))


def with_new(facts: dict[str, Facts]) -> dict[str, Facts]:
    blank = Facts(Measured(), "lb", "debian 13 x86_64")
    return {**facts, "lb1": blank, "lb2": blank}


def test_old_balancers_end_after_the_vip_has_moved_and_kubelets_are_led_elsewhere() -> None:
    planned = steps(on_balancers(), with_new(found(designed(BEFORE))))
    phases = list(dict.fromkeys(step.phase for step in planned))
    assert phases.index(StartVip.title) < phases.index(HandVipOver.title) < phases.index(StopBalancers.title)
    assert LeaveVip.title not in phases, "nobody would have it while the new ones settle"
    assert [step.machine for step in planned if step.sentence == STOP] == ["cp1", "cp2", "cp3"]


def test_once_they_have_ended_nothing_is_left_to_do() -> None:
    after = on_balancers()
    design = designed(after)
    facts = found(design)
    alone = {
        name: replace(facts[name], membership="", has_etcd_data=False, has_kubelet=False) for name in ("lb1", "lb2")
    }
    marker = {name: replace(one, bundles=frozenset(), images="") for name, one in alone.items()}
    assert [one.sentence for one in steps(after, {**facts, **marker})] == []


def test_a_workers_own_ends_after_its_kubelet_was_pointed_elsewhere() -> None:
    planned = steps(BEFORE, found(designed(with_worker(on_workers=True))))
    phases = [step.phase for step in planned if step.machine == "w1"]
    assert phases == [PointKubelets.title, StopBalancers.title]


YOURS = replace(BEFORE, endpoint=replace(BEFORE.endpoint, by=EndpointOwner.EXTERNAL))
STOP_UNLESS = "stop HAProxy, unless clients are still connected to it"


@pytest.mark.parametrize("connected", ["192.0.2.9:50000\n", ""])
def test_a_plan_is_the_same_whether_a_load_balancer_of_yours_still_uses_one_or_not(connected: str) -> None:
    planned = steps(on_balancers(YOURS), with_new(found(designed(YOURS))), says=connected)
    assert [step.machine for step in planned if step.sentence == STOP_UNLESS] == ["cp1", "cp2", "cp3"]


@dataclass
class Machine1:
    """Answers who is connected and what its keepalived is, and keeps every script but who is connected."""

    connected: str = ""
    code: int = 0
    vrrp: str = ""
    done: list[str] = field(default_factory=list)

    async def run(self, script: str, *, check: bool = True, **_: object) -> Completed:
        if script == clients(8443):
            return Completed(self.connected, "", self.code)
        self.done.append(script)
        return Completed(self.vrrp if script == keepalived.SETTLED_COMMAND else "", "", 0)


@dataclass
class Told(Silent):
    steps: list[str] = field(default_factory=list)

    def step(self, subject: str, text: str) -> None:
        self.steps.append(f"{subject}: {text}")


async def applied(phase: Phase, after: Cluster, facts: dict[str, Facts], remotes: dict[str, Machine1]) -> list[str]:
    """One phase; what was told meanwhile."""
    nodes, workers = ({one.name: facts[one.name] for one in some} for some in (after.control_plane, after.workers))
    decision = decide(nodes, {}, identity(after), workers=workers)
    told = Told()
    context = Context(after, designed(after), remotes, facts, decision, None, told, "token", dry=False)  # type: ignore[arg-type]  # a stand-in
    await _together(phase, phase.machines(context), context, [])
    return told.steps


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (Machine1(), ""),
        (Machine1("192.0.2.9:50000\n"), "HAProxy goes on: clients are still connected to it (192.0.2.9)"),
        # Who cannot be asked is not taken for nobody.
        (Machine1(code=1), "HAProxy goes on: it cannot be told who is connected to it: exit code 1"),
    ],
)
def test_a_balancer_that_somebody_may_still_use_goes_on_and_that_is_said(machine: Machine1, said: str) -> None:
    facts = with_new(found(designed(YOURS)))
    remotes = {name: machine if name == "cp1" else Machine1() for name in facts}
    told = asyncio.run(applied(StopBalancers(), on_balancers(YOURS), facts, remotes))
    assert any(said and said in one for one in told) == bool(said)
    assert any("disable -q --now haproxy" in one for one in machine.done) != bool(said)
    assert any("disable -q --now haproxy" in one for one in remotes["cp2"].done)


SS = """\
#!/bin/sh
echo x >> {count}
case $(wc -l < {count}) in {asked}) {says} ;; esac
"""
TO_ITSELF = "echo '0 0 127.0.0.1:8443 127.0.0.1:40000'"
FROM_ELSEWHERE = "echo '0 0 192.0.2.11:8443 192.0.2.9:50000'"


@pytest.mark.parametrize(
    ("asked", "says", "prints"),
    [
        ("[123]", TO_ITSELF, ""),
        # One that comes and goes is seen by the last of three questions, too.
        ("3", FROM_ELSEWHERE, "192.0.2.9:50000\n"),
        ("2", "exit 1", None),
    ],
)
def test_who_is_connected_is_asked_three_times(tmp_path: Path, asked: str, says: str, prints: str | None) -> None:
    (tmp_path / "ss").write_text(SS.format(count=tmp_path / "count", asked=asked, says=says))
    (tmp_path / "ss").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ["/bin/sh", "-c", clients(8443, apart_s=0.01)]
    done = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert (done.stdout if done.returncode == 0 else None) == prints


def test_keepalived_conf_goes_once_all_that_leave_the_vip_have_stopped() -> None:
    facts = with_new(found(designed(BEFORE)))
    done: list[str] = []
    remotes = {name: Machine1(done=done) for name in facts}
    facts["lb1"] = replace(facts["lb1"], loaded={"keepalived": "a.b.c"})
    asyncio.run(applied(LeaveVip(), on_balancers(), facts, remotes))
    kinds = ["stop" if STOP_KEEPALIVED in one else "forget" for one in done]
    assert kinds == ["stop"] * 3 + ["forget"] * 3
    assert "rm -f /etc/keepalived/keepalived.conf" in done[-1]


def test_old_holders_stop_once_a_new_one_could_have_the_vip() -> None:
    facts = with_new(found(designed(BEFORE)))
    done: list[str] = []
    said = "1\n" + json.dumps([{"data": {"iname": keepalived.INSTANCE, "state": 2}}])
    remotes = {name: Machine1(vrrp=said if name == "lb2" else "", done=done) for name in facts}
    asyncio.run(applied(HandVipOver(), on_balancers(), facts, remotes))
    first = next(number for number, one in enumerate(done) if STOP_KEEPALIVED in one)
    assert keepalived.SETTLED_COMMAND in done[:first]
    assert sum(STOP_KEEPALIVED in one for one in done) == 3


SYSTEMCTL = """\
#!/bin/sh
case "$*" in
  list-units*) echo haplane-undrain-cp1.timer loaded active waiting; echo haplane-undrain-cp2.timer loaded ;;
  "show --property=ExecStart haplane-undrain-cp1.service") echo 'argv[]=/bin/sh -c systemctl start keepalived' ;;
  show*) echo 'argv[]=/bin/sh -c echo set server ready' ;;
  is-active*) exit 3 ;;
  *) echo "$*" >> {told} ;;
esac
"""


def test_a_drain_that_would_start_keepalived_again_is_ended_and_no_other(tmp_path: Path) -> None:
    told = tmp_path / "told"
    (tmp_path / "systemctl").write_text(SYSTEMCTL.format(told=told))
    (tmp_path / "systemctl").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-c", STOP_KEEPALIVED], env=environment, check=True)
    assert told.read_text() == (
        "stop haplane-undrain-cp1.timer\ndisable -q --now keepalived\ndisable -q --now haplane-balancer-watch.service\n"
    )
    assert "'haplane-undrain-*.timer'" in STOP_SERVICES


def test_balancers_end_once_the_cluster_is_whole() -> None:
    assert PHASES.index(WaitUntilWhole) < PHASES.index(StopBalancers)


def keepalived_conf(cluster: Cluster, name: str) -> str:
    """As it is read: with the check."""
    design = keepalived.design(view(cluster, name))
    assert design
    files = {file.path: file.content for file in design.files}
    return files[keepalived.CONFIG_FILE] + files[keepalived.CHECK_FILE]


def refused(after: Cluster, skip: str, *, confs: dict[str, str], before: Cluster = BEFORE) -> str:
    """Why; empty where it is not. confs: on which machine there is which keepalived.conf."""
    facts = {name: one for name, one in with_new(found(designed(before))).items() if name != skip}
    # Whether it is remembered that keepalived is loaded is the same.
    unmarked = {name: replace(one, loaded={}) for name, one in facts.items()}
    said = []
    for one in (facts, unmarked):
        try:
            remotes = {name: Says(confs.get(name, "")) for name in one}
            asyncio.run(refuse_to_skip_a_holder(after, one, remotes, {skip}))  # type: ignore[arg-type]  # a stand-in
            said.append("")
        except HaplaneError as error:
            said.append(str(error))
    assert said[0] == said[1]
    return said[0]


def confs_of(cluster: Cluster) -> dict[str, str]:
    return {one.name: keepalived_conf(cluster, one.name) for one in cluster.vip_sharers}


def test_a_machine_that_shared_the_vip_cannot_be_left_out_while_it_goes_elsewhere() -> None:
    said = refused(on_balancers(), "cp2", confs=confs_of(BEFORE))
    assert "cp2 cannot be left out" in said
    assert "of cp1, cp3 names it" in said
    assert "by the file it is lb1, lb2" in said


def test_the_only_one_that_leaves_the_vip_cannot_be_left_out_either() -> None:
    before = on_balancers()
    roles = {**before.machines, "lb2": replace(before.machines["lb2"], roles=frozenset({Role.WORKER}))}
    after = replace(before, machines=roles)
    assert "of lb1 names it" in refused(after, "lb2", confs={"lb1": keepalived_conf(before, "lb1")})


def test_one_that_never_shared_it_can_and_so_can_one_that_will() -> None:
    assert refused(on_balancers(), "w1", confs=confs_of(BEFORE)) == ""
    assert refused(on_balancers(), "lb2", confs=confs_of(BEFORE)) == ""


def test_while_nobody_leaves_the_vip_anybody_can_be_left_out() -> None:
    assert refused(BEFORE, "cp2", confs=confs_of(BEFORE)) == ""
    assert refused(BEFORE, "w1", confs=confs_of(BEFORE)) == ""


def test_a_file_that_cannot_be_read_or_is_of_somebody_else_is_no_reason() -> None:
    assert refused(on_balancers(), "w1", confs={}) == ""
    other = "vrrp_instance theirs {\n  virtual_router_id 7\n}\n"
    assert refused(on_balancers(), "w1", confs={"cp1": other}) == ""


def alone(by: BalancerProgram) -> Cluster:
    machines = {name: one for name, one in BEFORE.machines.items() if name in ("cp1", "w1")}
    return replace(BEFORE, balanced_by=by, machines=machines)


@pytest.mark.parametrize("by", BalancerProgram)
def test_one_that_shares_the_vip_with_nobody_is_no_reason(by: BalancerProgram) -> None:
    conf = keepalived_conf(alone(by), "cp1")
    assert "unicast_src_ip" not in conf
    assert refused(on_balancers(alone(by)), "w1", confs={"cp1": conf}, before=alone(by)) == ""


def multicast(cluster: Cluster) -> Cluster:
    return replace(cluster, endpoint=replace(cluster.endpoint, cast=Cast.MULTICAST))


@pytest.mark.parametrize("by", [BalancerProgram.HAPROXY, BalancerProgram.NGINX])
def test_where_adverts_are_multicast_the_check_says_who_shares_the_vip(by: BalancerProgram) -> None:
    before = multicast(replace(BEFORE, balanced_by=by))
    assert "names it" in refused(on_balancers(before), "cp2", confs=confs_of(before), before=before)
    assert refused(on_balancers(before), "w1", confs=confs_of(before), before=before) == ""


def test_without_a_balancer_nobody_says_whom_multicast_reaches() -> None:
    before = multicast(replace(BEFORE, balanced_by=BalancerProgram.NONE))
    # Also where it is to be unicast from now on.
    for after in (on_balancers(before), on_balancers(replace(before, endpoint=BEFORE.endpoint))):
        assert "it may be" in refused(after, "w1", confs=confs_of(before), before=before)
    assert refused(before, "w1", confs=confs_of(before), before=before) == ""


def test_peers_are_read_from_haplanes_own_file() -> None:
    peers = unicast_peers(keepalived_conf(BEFORE, "cp1"))
    assert peers == {ip_address("192.0.2.12"), ip_address("192.0.2.13")}
