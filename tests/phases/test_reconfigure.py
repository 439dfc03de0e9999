"""A control plane is reconfigured on a live cluster: whom new clients are kept away from, and for what."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace

import pytest
from tests.model.clusters import BUNDLE, balanced_by
from tests.phases.test_plan_after_apply import AUTHORITY, applied

from haplane.components import keepalived
from haplane.components.base import Loaded
from haplane.design.design import Design, identity
from haplane.model.cluster import BalancerProgram, Cluster
from haplane.model.errors import HaplaneError
from haplane.model.progress import Silent
from haplane.observe.facts import Facts
from haplane.phases import gates, reconfigure
from haplane.phases.change import Change
from haplane.phases.context import Context
from haplane.phases.decide import decide
from haplane.phases.reconfigure import DIFFERING, REPLACE, ReconfigureNodes
from haplane.transport.ssh import Completed

STATES = {"INIT": 0, "BACKUP": 1, "MASTER": 2, "FAULT": 3}


@dataclass
class Machine:
    """Says which pods differ and what its keepalived is, and remembers what it was told to do."""

    name: str
    told: list[tuple[str, str]]
    differing: str = ""
    state: str = "BACKUP"
    age_s: int = 60
    asked: int = field(default=0)

    async def run(self, script: str, **_: object) -> Completed:
        await asyncio.sleep(0)
        if script == keepalived.SETTLED_COMMAND:
            self.asked += 1
            said = f"{self.age_s}\n" + json.dumps(
                [{"data": {"iname": keepalived.INSTANCE, "state": STATES[self.state]}}]
            )
            return Completed(said, "", 0)
        if script.endswith(DIFFERING):
            return Completed(self.differing, "", 0)
        for word in ("systemctl stop keepalived", "systemctl start keepalived", "state drain", "state ready"):
            if word in script.rpartition("&&")[2]:
                self.told.append((self.name, word))
        if REPLACE in script:
            self.told.append((self.name, "replace"))
        return Completed("", "", 0)


def context_of(cluster: Cluster, machines: dict[str, Machine]) -> Context:
    design = Design(cluster, BUNDLE, authority=AUTHORITY)
    facts = {name: applied(design, name) for name in machines}
    return Context(
        cluster=cluster,
        design=design,
        remotes=machines,  # type: ignore[arg-type]  # a stand-in
        facts=facts,
        decision=decide(facts, {}, identity(cluster)),
        bundle_folder=None,
        progress=Silent(),
        token="",
        dry=False,
    )


def behind(facts: Facts) -> Facts:
    """Its kubeadm was given another configuration."""
    return replace(facts, loaded={**facts.loaded, "kubeadm": str(Loaded("a", "b", "c"))})


def reconfigured(by: BalancerProgram, **machines: Machine) -> None:
    """cp1, by its phase and the gate after it."""
    cluster = balanced_by(by)
    context = context_of(cluster, machines)
    phase = ReconfigureNodes()
    change = Change(
        machine="cp1",
        phase=phase.title,
        remote=machines["cp1"],  # type: ignore[arg-type]  # a stand-in
        facts=behind(context.facts["cp1"]),
        token="",
        progress=Silent(),
        dry=False,
    )

    async def both() -> None:
        await phase.run(context, change)
        await phase.gate(context, "cp1")

    asyncio.run(both())


def three(told: list[tuple[str, str]], differing: str, *, others: str = "BACKUP") -> dict[str, Machine]:
    cp1 = Machine("cp1", told, differing)
    return {"cp1": cp1, **{name: Machine(name, told, state=others) for name in ("cp2", "cp3")}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconfigure, "SETTLE_S", 0.0)
    monkeypatch.setattr(gates, "TIMEOUT_S", 0.5)


def test_without_a_balancer_the_vip_is_elsewhere_while_its_apiserver_is_replaced() -> None:
    told: list[tuple[str, str]] = []
    machines = three(told, "kube-apiserver")
    reconfigured(BalancerProgram.NONE, **machines)
    at_cp1 = [word for name, word in told if name == "cp1"]
    assert at_cp1 == ["systemctl stop keepalived", "replace", "systemctl start keepalived"]
    assert all(name == "cp1" for name, _ in told)
    assert machines["cp1"].asked, "the next machine waits until this one could take the VIP again"


def test_where_nobody_could_take_the_vip_it_is_not_handed_over() -> None:
    told: list[tuple[str, str]] = []
    with pytest.raises(HaplaneError, match="neither cp2 nor cp3 could take the VIP") as refused:
        reconfigured(BalancerProgram.NONE, **three(told, "etcd", others="FAULT"))
    assert told == []
    assert "cp2: FAULT" in refused.value.why


def test_a_scheduler_is_replaced_where_clients_are() -> None:
    told: list[tuple[str, str]] = []
    reconfigured(BalancerProgram.NONE, **three(told, "kube-scheduler", others="FAULT"))
    assert ("cp1", "replace") in told
    assert ("cp1", "systemctl stop keepalived") not in told


def test_behind_a_balancer_nobody_asks_keepalived() -> None:
    told: list[tuple[str, str]] = []
    machines = three(told, "kube-apiserver")
    machines["cp1"].state = "FAULT"
    reconfigured(BalancerProgram.HAPROXY, **machines)
    words = [word for _, word in told]
    assert words.count("state drain") == 3
    assert words.index("replace") > words.index("state drain")
    assert words[-3:] == ["state ready"] * 3
    assert not any(one.asked for one in machines.values())


def test_one_that_settles_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "TIMEOUT_S", 5)
    machines = three([], "")
    machines["cp1"].age_s = 5
    context = context_of(balanced_by(BalancerProgram.HAPROXY), machines)

    async def settles() -> None:
        await asyncio.sleep(0.4)
        machines["cp1"].age_s = 6

    async def both() -> None:
        await asyncio.gather(gates.one_shares_the_vip(context, ["cp1"]), settles())

    asyncio.run(both())
    assert machines["cp1"].asked > 1


def test_one_that_never_settles_is_named() -> None:
    machines = three([], "")
    machines["cp1"].state = "FAULT"
    context = context_of(balanced_by(BalancerProgram.HAPROXY), machines)
    with pytest.raises(HaplaneError, match=r"^cp1 could not take the VIP") as refused:
        asyncio.run(gates.one_shares_the_vip(context, ["cp1"]))
    assert "cp1: FAULT" in refused.value.why
