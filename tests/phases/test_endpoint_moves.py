"""Who balances and who shares the VIP changes on a live cluster: what is stopped, when, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest
from tests.components.test_addons import with_worker
from tests.model.clusters import view
from tests.phases.test_workers import designed, found

from haplane.components import keepalived
from haplane.components.base import Measured
from haplane.design.design import identity
from haplane.model.cluster import BalancerRole, Cast, Cluster, EndpointOwner, Machine, Role, Ssh
from haplane.model.errors import HaplaneError
from haplane.model.progress import Silent
from haplane.observe.facts import Facts
from haplane.phases.apply import run_phases
from haplane.phases.change import Step
from haplane.phases.context import Context
from haplane.phases.decide import decide
from haplane.phases.endpoint import LeaveVip, StartVip, StopBalancers
from haplane.phases.kubelets import PointKubelets
from haplane.phases.refuse import refuse_to_skip_a_holder, unicast_peers
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
        remotes={name: Says(says) for name in facts},  # type: ignore[misc]
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
    assert phases.index(LeaveVip.title) < phases.index(StartVip.title) < phases.index(StopBalancers.title)
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


@pytest.mark.parametrize(("connected", "stopped"), [("192.0.2.9:50000\n", []), ("", ["cp1", "cp2", "cp3"])])
def test_a_load_balancer_of_yours_may_still_use_one(connected: str, stopped: list[str]) -> None:
    before = replace(BEFORE, endpoint=replace(BEFORE.endpoint, by=EndpointOwner.EXTERNAL))
    planned = steps(on_balancers(before), with_new(found(designed(before))), says=connected)
    assert [step.machine for step in planned if step.sentence == STOP] == stopped


def keepalived_conf(cluster: Cluster, name: str) -> str:
    design = keepalived.design(view(cluster, name))
    assert design
    return next(file.content for file in design.files if file.path == keepalived.CONFIG_FILE)


def refused(after: Cluster, skip: str, *, conf: str) -> str:
    """Why; empty where it is not."""
    facts = {name: one for name, one in with_new(found(designed(BEFORE))).items() if name != skip}
    remotes = {name: Says(conf) for name in facts}
    try:
        asyncio.run(refuse_to_skip_a_holder(after, facts, remotes, {skip}))  # type: ignore[arg-type]
    except HaplaneError as error:
        return str(error)
    return ""


def test_a_machine_that_shared_the_vip_cannot_be_left_out_while_it_goes_elsewhere() -> None:
    said = refused(on_balancers(), "cp2", conf=keepalived_conf(BEFORE, "cp1"))
    assert "cp2 cannot be left out" in said
    assert "by the file it is lb1, lb2" in said


def test_one_that_never_shared_it_can_and_so_can_one_that_will() -> None:
    conf = keepalived_conf(BEFORE, "cp1")
    assert refused(on_balancers(), "w1", conf=conf) == ""
    assert refused(on_balancers(), "lb2", conf=conf) == ""


def test_while_nobody_leaves_the_vip_anybody_can_be_left_out() -> None:
    assert refused(BEFORE, "cp2", conf=keepalived_conf(BEFORE, "cp1")) == ""


def test_where_adverts_are_multicast_nobody_says_who_shares_the_vip() -> None:
    multicast = replace(BEFORE, endpoint=replace(BEFORE.endpoint, cast=Cast.MULTICAST))
    assert "it may be" in refused(on_balancers(), "w1", conf=keepalived_conf(multicast, "cp1"))


def test_peers_are_read_from_haplanes_own_file() -> None:
    peers = unicast_peers(keepalived_conf(BEFORE, "cp1"))
    assert peers == {ip_address("192.0.2.12"), ip_address("192.0.2.13")}
