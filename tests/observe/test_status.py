"""The status of a cluster: what is asked of a machine, and what counts as a problem."""

from __future__ import annotations

import json

import pytest
from tests.components.test_addons import with_worker
from tests.model.clusters import balanced_by, etcd_apart, three_nodes

from haplane.model.cluster import BalancerProgram, Cluster
from haplane.observe.status import ClusterStatus, MachineStatus, command, parse
from haplane.reports.status import as_json


def status(by: BalancerProgram) -> ClusterStatus:
    """Machines of which nothing is known but that their units run."""
    cluster = balanced_by(by)
    units = dict.fromkeys(("containerd", "kubelet", str(by), "keepalived"), "active")
    return ClusterStatus(cluster, tuple(MachineStatus(name, units=units) for name in cluster.machines))


@pytest.mark.parametrize(("by", "expected"), [(BalancerProgram.HAPROXY, 9), (BalancerProgram.NGINX, 0)])
def test_only_a_balancer_that_knows_who_is_up_can_miss_somebody(by: BalancerProgram, expected: int) -> None:
    missed = [problem for problem in status(by).problems if "its balancer sees" in problem]
    assert len(missed) == expected


@pytest.mark.parametrize(
    ("by", "units"),
    [
        (BalancerProgram.HAPROXY, "containerd kubelet haproxy haplane-clients haplane-balancer-watch keepalived"),
        (BalancerProgram.NGINX, "containerd kubelet nginx keepalived"),
        (BalancerProgram.NONE, "containerd kubelet keepalived"),
    ],
)
def test_a_machine_is_asked_about_its_own_units(by: BalancerProgram, units: str) -> None:
    cluster = balanced_by(by)
    asked = command(cluster, cluster.machines["cp1"])
    assert asked_units(cluster, "cp1") == units.split()
    assert ("socat" in asked) == (by is BalancerProgram.HAPROXY)


def test_all_of_an_apiserver_is_asked_by_one_process() -> None:
    asked = command(balanced_by(BalancerProgram.HAPROXY), three_nodes().machines["cp1"])
    assert asked.count("curl ") == 1


@pytest.mark.parametrize(
    ("answer", "ready", "reason"),
    [
        ("### codes\nnodes 200\nreadyz 200\n### readyz\nok", True, ""),
        ("### codes\nreadyz 500\n### readyz\n[-]etcd failed\nreadyz check failed", False, "readyz check failed"),
        ("### codes\nreadyz 429\n### readyz\n", False, "HTTP 429"),
        ("### codes\nreadyz 000", False, ""),
        ("", False, ""),
    ],
)
def test_an_apiserver_is_ready_when_it_says_so(answer: str, ready: bool, reason: str) -> None:
    one = parse("cp1", answer)
    assert (one.ready, one.ready_reason) == (ready, reason)


def test_the_shape_of_its_json_does_not_depend_on_the_balancer() -> None:
    first, *others = (as_json(status(by))["machines"] for by in BalancerProgram)
    for machines in others:
        assert isinstance(first, list) and isinstance(machines, list)
        assert [machine.keys() for machine in machines] == [machine.keys() for machine in first]


def add_on(kind: str, namespace: str, name: str, **rest: object) -> str:
    return json.dumps({"kind": kind, "metadata": {"namespace": namespace, "name": name}, **rest})


def answers(*, ready: int, on: list[str]) -> str:
    """What an apiserver says of the add-ons, as curl prints it: one answer behind the other."""
    condition = {"conditions": [{"type": "Ready", "status": "True"}]}
    return "### addons\n" + "".join(
        [
            add_on(
                "DaemonSet", "kube-flannel", "kube-flannel-ds", status={"desiredNumberScheduled": 4, "numberReady": 4}
            ),
            add_on("DaemonSet", "kube-system", "kube-proxy", status={"desiredNumberScheduled": 4, "numberReady": 3}),
            add_on("Deployment", "kube-system", "coredns", spec={"replicas": 3}, status={"readyReplicas": ready}),
            json.dumps({"kind": "PodList", "items": [{"spec": {"nodeName": one}, "status": condition} for one in on]}),
        ]
    )


def problems_of_add_ons(output: str) -> list[str]:
    found = ClusterStatus(with_worker(), (parse("cp1", output),)).problems
    return [one for one in found if one.startswith(("kube-proxy", "flannel", "CoreDNS"))]


def test_add_ons_that_are_not_whole_are_told() -> None:
    assert problems_of_add_ons(answers(ready=2, on=["cp1", "cp2"])) == [
        "kube-proxy: 3 of 4 ready",
        "CoreDNS: 2 of 3 ready",
    ]


def test_coredns_on_one_node_alone_is_told() -> None:
    assert "CoreDNS: all on one node (cp1)" in problems_of_add_ons(answers(ready=3, on=["cp1", "cp1", "cp1"]))


def test_add_ons_that_are_missing_are_told() -> None:
    missing = "### addons\n" + json.dumps({"kind": "Status", "metadata": {}, "status": "Failure", "code": 404}) * 3
    assert problems_of_add_ons(missing) == [
        "flannel: 0 of 1 ready",
        "kube-proxy: 0 of 1 ready",
        "CoreDNS: 0 of 1 ready",
    ]


def test_a_worker_is_asked_about_the_balancer_that_it_runs() -> None:
    for on_workers in (True, False):
        cluster = with_worker(on_workers=on_workers)
        assert ("haproxy" in asked_units(cluster, "w1")) == on_workers
        assert "keepalived" not in asked_units(cluster, "w1")
        assert "daemonsets/kube-proxy" in command(cluster, cluster.machines["cp1"])


def asked_units(cluster: Cluster, machine: str) -> list[str]:
    _, _, after = command(cluster, cluster.machines[machine]).partition("set -- ")
    return after.partition("\n")[0].split()


def test_who_asks_an_etcd_elsewhere_is_asked_whether_it_leaves_silent_members() -> None:
    apart, shared, stacked = etcd_apart(), etcd_apart(shared=True), three_nodes()
    assert asked_units(apart, "cp1")[:3] == ["containerd", "kubelet", "haplane-etcd-watch"]
    assert asked_units(apart, "e1") == ["etcd"]
    assert asked_units(shared, "cp1")[2:4] == ["etcd", "haplane-etcd-watch"]
    assert "haplane-etcd-watch" not in asked_units(stacked, "cp1")


def test_a_machine_that_does_not_leave_silent_members_is_told() -> None:
    cluster = etcd_apart()
    output = "### units\ncontainerd active\nhaplane-etcd-watch failed\n"
    assert "cp1: haplane-etcd-watch is failed" in ClusterStatus(cluster, (parse("cp1", output),)).problems
