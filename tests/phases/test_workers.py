"""Phases of workers and add-ons: what is planned, by whom, and what is not planned again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address

import pytest
from tests.components.test_addons import with_worker
from tests.model.clusters import BUNDLE
from tests.phases.test_plan_after_apply import AUTHORITY, Nobody, applied

from haplane.components.base import Measured
from haplane.components.kubernetes import kubelet_server
from haplane.design.design import Design, identity
from haplane.model.cluster import BalancerRole, Cluster, Machine, Role, Ssh
from haplane.model.progress import Silent
from haplane.observe.facts import Facts, command, parse
from haplane.phases.apply import run_phases
from haplane.phases.change import Step
from haplane.phases.context import Context
from haplane.phases.decide import decide


def found(design: Design) -> dict[str, Facts]:
    """Machines as an apply of the design leaves them."""
    facts = {name: applied(design, name) for name in design.cluster.machines}
    worker = replace(facts["w1"], has_etcd_data=False, kubelet_server=kubelet_server(design.view("w1")))
    return {**facts, "w1": worker}


async def planned(cluster: Cluster, facts: dict[str, Facts]) -> tuple[Step, ...]:
    workers = {one.name: facts[one.name] for one in cluster.workers}
    nodes = {one.name: facts[one.name] for one in cluster.control_plane}
    context = Context(
        cluster=cluster,
        design=designed(cluster),
        remotes={name: Nobody() for name in facts},  # type: ignore[misc]
        facts=facts,
        decision=decide(nodes, {}, identity(cluster), workers=workers),
        bundle_folder=None,
        progress=Silent(),
        token="",
        dry=True,
    )
    return await run_phases(context)


def designed(cluster: Cluster) -> Design:
    return Design(cluster, BUNDLE, authority=AUTHORITY)


def run(cluster: Cluster, facts: dict[str, Facts]) -> list[tuple[str, str]]:
    return [(step.machine, step.sentence) for step in asyncio.run(planned(cluster, facts))]


@pytest.mark.parametrize("on_workers", [True, False])
def test_a_plan_after_an_apply_is_empty(on_workers: bool) -> None:
    cluster = with_worker(on_workers=on_workers)
    assert run(cluster, found(designed(cluster))) == []


def test_a_new_cluster_gets_its_add_ons_from_its_first_node() -> None:
    cluster = with_worker(on_workers=True)
    blank = Facts(Measured(), "host", "debian 13 x86_64")
    steps = run(cluster, dict.fromkeys(cluster.machines, blank))
    by = [machine for machine, sentence in steps if sentence.startswith("apply the add-ons")]
    assert by == ["cp1"]
    sentences = [sentence for _, sentence in steps]
    order = [
        sentences.index("kubeadm init"),
        sentences.index("apply the add-ons to the cluster (flannel, kube-proxy, coredns)"),
        sentences.index("kubeadm join through 192.0.2.100:8443"),
        sentences.index("point the kubelet to https://127.0.0.1:8443, its own balancer (restart it)"),
        sentences.index("wait until coredns runs"),
    ]
    assert order == sorted(order)


def test_a_kubelet_that_was_pointed_elsewhere_is_seen() -> None:
    cluster = with_worker(on_workers=True)
    facts = found(designed(cluster))
    facts["w1"] = replace(facts["w1"], kubelet_server="https://192.0.2.100:8443")
    assert run(cluster, facts) == [
        ("w1", "point the kubelet to https://127.0.0.1:8443, its own balancer (restart it)"),
    ]


def test_a_balancer_that_is_not_wanted_any_more_is_stopped_last() -> None:
    facts = found(designed(with_worker(on_workers=True)))
    steps = [sentence for machine, sentence in run(with_worker(), facts) if machine == "w1"]
    assert steps == [
        "point the kubelet to https://192.0.2.100:8443 (restart it)",
        "stop HAProxy, which nobody uses there any more",
    ]


def test_a_balancer_that_an_apply_which_died_left_running_is_stopped_by_the_next() -> None:
    facts = found(designed(with_worker(on_workers=True)))
    facts["w1"] = replace(facts["w1"], kubelet_server="https://192.0.2.100:8443")
    steps = [sentence for machine, sentence in run(with_worker(), facts) if machine == "w1"]
    assert steps == ["stop HAProxy, which nobody uses there any more"]


def test_machines_that_share_the_vip_no_more_keep_it_until_new_ones_have_it() -> None:
    before = with_worker()
    balancers = {
        name: Machine(name, (ip_address(f"192.0.2.{number}"),), frozenset({Role.BALANCER}), Ssh())
        for name, number in (("lb1", 51), ("lb2", 52))
    }
    after = replace(before, balancer=BalancerRole.BALANCER, machines={**before.machines, **balancers})
    blank = Facts(Measured(), "lb", "debian 13 x86_64")
    steps = asyncio.run(planned(after, {**found(designed(before)), "lb1": blank, "lb2": blank}))
    stops = [number for number, step in enumerate(steps) if step.sentence.startswith("stop keepalived: by the file")]
    assert [steps[number].machine for number in stops] == ["cp1", "cp2", "cp3"]
    starts = [number for number, step in enumerate(steps) if step.phase == "Start the virtual IP"]
    assert starts and max(starts) < min(stops)


def test_manifests_that_somebody_changed_are_seen_on_their_machine() -> None:
    cluster = with_worker()
    facts = found(designed(cluster))
    files = {path: one for path, one in facts["cp2"].files.items() if path != "/etc/haplane/addons.yaml"}
    facts["cp2"] = replace(facts["cp2"], files=files)
    assert run(cluster, facts) == [
        ("cp2", "write /etc/haplane/addons.yaml"),
        ("cp2", "remember that cp1 has applied the add-ons"),
    ]


def test_where_a_kubelet_finds_the_api_is_read() -> None:
    asked = command(with_worker().machines["w1"].address, with_worker().endpoint.vip.ip, [], [], [])
    assert "/etc/kubernetes/kubelet.conf" in asked
    assert parse("kubelet\tyes\nkubelet_server\thttps://127.0.0.1:8443\n").kubelet_server == "https://127.0.0.1:8443"
