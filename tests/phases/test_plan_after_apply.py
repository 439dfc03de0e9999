"""A law of plans: what an apply has brought to a machine, the next plan does not want to change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.clusters import BUNDLE, balanced_by

from haplane.components.base import Measured
from haplane.design.design import Design, identity
from haplane.design.solved import solved
from haplane.model.cluster import BalancerProgram, Cluster, Etcd, Failover, Machine, Role, Ssh
from haplane.model.facts import MachineFacts, MeasuredFacts
from haplane.model.progress import Silent
from haplane.observe.facts import Facts, FoundFile
from haplane.phases.apply import run_phases
from haplane.phases.change import Step
from haplane.phases.context import Context
from haplane.phases.decide import decide

AUTHORITY = "-----BEGIN CERTIFICATE-----\n"


def machine(number: int, zone: str | None) -> Machine:
    name = f"cp{number}"
    return Machine(name, (ip_address(f"192.0.2.{10 + number}"),), frozenset({Role.CONTROL_PLANE}), Ssh(), zone=zone)


lines = st.dictionaries(
    st.sampled_from(["timeout queue", "timeout connect", "retries", "option redispatch"]),
    st.one_of(st.integers(1, 9), st.booleans(), st.sampled_from(["100ms", "5s"])),
)
clusters = st.builds(
    lambda by, count, zones, haproxy, advert, target, heartbeat, host: replace(
        balanced_by(by),
        machines={f"cp{i}": machine(i, zones[i % len(zones)] if zones else None) for i in range(1, count + 1)},
        haproxy={"defaults": haproxy},
        keepalived={"vrrp_instance": {"advert_int": advert}} if advert else {},
        failover=Failover(target_ms=target, tell_clients=count % 2 == 0),
        etcd=Etcd(heartbeat_ms=heartbeat, election_ms=heartbeat and 10 * heartbeat),
        endpoint=replace(balanced_by(by).endpoint, host=host),
    ),
    st.sampled_from(BalancerProgram),
    st.integers(1, 7),
    st.lists(st.sampled_from(["rack-a", "rack-b", "rack-c"]), max_size=3),
    lines,
    st.sampled_from([None, 0.05, 0.1, 1]),
    st.sampled_from([None, 200, 500, 2000]),
    st.sampled_from([None, 30, 100]),
    st.sampled_from([None, "api.prod.example"]),
)
facts_files = st.builds(
    lambda interface, fsync, files: MeasuredFacts(
        {f"cp{i}": MachineFacts(interface, fsync, 12.0, {}, files, 8 << 30) for i in range(1, 8)}
    ),
    st.sampled_from([None, "eth0", "bond0.100"]),
    st.sampled_from([None, 2.0, 80.0]),
    st.sampled_from([None, 1024, 1 << 20]),
)


def applied(design: Design, name: str) -> Facts:
    """What a machine says once an apply has brought it to the design."""
    components = design.components(name).values()
    # Of a worker's part of the bundle.
    is_worker = name in {one.name for one in design.cluster.workers}
    marker = BUNDLE.folder_name + ("+worker" if is_worker else "")
    return Facts(
        measured=design.measured.get(name, Measured()),
        hostname=name,
        system="debian 13 x86_64",
        files={
            file.path: FoundFile(file.sha256, f"{file.mode:o}", file.sha256) for one in components for file in one.files
        },
        loaded={one.name: str(one.loaded) for one in components},
        units={one.unit: ("enabled", "active") for one in components if one.unit},
        packages=frozenset(design.packages(name)),
        bundles=frozenset({marker}),
        images=marker,
        membership=f"done {identity(design.cluster)}",
        has_etcd_data=True,
        has_kubelet=True,
        authority=AUTHORITY,
        holds_vip=name == "cp1",
    )


def designed(cluster: Cluster, facts: MeasuredFacts) -> Design:
    return solved(cluster, facts, bundle=BUNDLE)[0].with_authority(AUTHORITY)


def planned(design: Design, found: dict[str, Facts]) -> tuple[Step, ...]:
    context = Context(
        cluster=design.cluster,
        design=design,
        # Nothing is asked of a machine whose files are all as designed; where some are not, only their text is.
        remotes={name: Nobody() for name in found},
        facts=found,
        decision=decide(found, {}, identity(design.cluster)),
        bundle_folder=None,
        progress=Silent(),
        token="",
        dry=True,
    )
    return asyncio.run(run_phases(context))


class Nobody:
    async def run(self, *_: object, **__: object) -> object:
        return type("Completed", (), {"stdout": ""})()


@settings(max_examples=25)
@given(clusters, facts_files)
def test_a_plan_after_an_apply_is_empty(cluster: Cluster, facts: MeasuredFacts) -> None:
    design = designed(cluster, facts)
    assert planned(design, {name: applied(design, name) for name in cluster.machines}) == ()


@settings(max_examples=25)
@given(clusters, clusters, facts_files)
def test_a_changed_design_is_planned_for_every_machine_that_it_changes(
    cluster: Cluster, other: Cluster, facts: MeasuredFacts
) -> None:
    before = designed(cluster, facts)
    # The same machines, endpoint and balancer: what may change on a cluster that exists.
    same = {"machines": cluster.machines, "endpoint": cluster.endpoint, "balanced_by": cluster.balanced_by}
    after = designed(replace(other, **same), facts)
    found = {name: applied(before, name) for name in cluster.machines}
    differ = {
        name
        for name in cluster.machines
        if any(after.components(name)[one].loaded != was.loaded for one, was in before.components(name).items())
    }
    assert {step.machine for step in planned(after, found)} == differ
