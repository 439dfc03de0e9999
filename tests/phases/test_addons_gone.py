"""Add-ons that the file has no more: what is deleted, in which order, and when it is refused."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest
import yaml
from tests.components.test_addons import with_worker
from tests.model.clusters import three_nodes
from tests.phases.test_workers import designed, found

from haplane.components.addons import MANIFESTS_FILE
from haplane.design.design import identity
from haplane.model.cluster import Cluster, Cni
from haplane.model.errors import HaplaneError
from haplane.model.progress import Silent
from haplane.observe.facts import Facts
from haplane.phases.addons_gone import PODS, RemoveAddOns, gone, objects, using_the_network
from haplane.phases.apply import _together, run_phases
from haplane.phases.change import Step
from haplane.phases.context import Context
from haplane.phases.decide import decide
from haplane.transport.ssh import Completed

OURS = """\
kube-flannel   kube-flannel-ds-abcde   true     Running
kube-system    kube-apiserver-cp1      true     Running
kube-system    coredns-5d78c9869d-x    <none>   Running
default        migrated                <none>   Succeeded
"""
WEB = "default        web-0                   <none>   Running\n"
BEFORE = with_worker()
WITHOUT_FLANNEL = with_worker(cni=Cni.BRIDGE)


def without_any(cluster: Cluster = BEFORE) -> Cluster:
    machines = {name: one for name, one in cluster.machines.items() if name != "w1"}
    return replace(three_nodes(), machines=machines)


@dataclass
class Cluster1:
    """Answers what is asked of it, and keeps what it was told to do, in order: (machine, script, standard input)."""

    manifests: str
    pods: str = OURS
    is_there: bool = True
    done: list[tuple[str, str, bytes]] = field(default_factory=list)

    def answer(self, machine: str, script: str, stdin: bytes | None) -> str:
        if script == f"cat {MANIFESTS_FILE}":
            return self.manifests
        if script == PODS:
            return self.pods
        if " get --ignore-not-found" in script:
            return "daemonset.apps/there\n" if self.is_there else ""
        self.done.append((machine, script, stdin or b""))
        return ""


@dataclass
class Machine1:
    name: str
    cluster: Cluster1

    async def run(self, script: str, *, stdin: bytes | None = None, **_: object) -> Completed:
        return Completed(self.cluster.answer(self.name, script, stdin), "", 0)


def manifests(cluster: Cluster) -> str:
    return designed(cluster).components("cp1")["addons"].files[0].content


def context(after: Cluster, answers: Cluster1, *, dry: bool, facts: dict[str, Facts] | None = None) -> Context:
    was = facts or found(designed(BEFORE))
    now = {name: one for name, one in was.items() if name in after.machines}
    nodes, workers = ({one.name: now[one.name] for one in some} for some in (after.control_plane, after.workers))
    return Context(
        cluster=after,
        design=designed(after),
        remotes={name: Machine1(name, answers) for name in now},  # type: ignore[misc]
        facts=now,
        decision=decide(nodes, {}, identity(after), workers=workers),
        bundle_folder=None,
        progress=Silent(),
        token="token",
        dry=dry,
    )


def plan(after: Cluster, answers: Cluster1) -> list[tuple[str, str]]:
    steps = asyncio.run(run_phases(context(after, answers, dry=True)))
    return [(one.machine, one.sentence) for one in steps if one.phase == RemoveAddOns.title]


def apply(after: Cluster, answers: Cluster1) -> None:
    made = context(after, answers, dry=False)
    steps: list[Step] = []
    asyncio.run(_together(phase := RemoveAddOns(), phase.machines(made), made, steps))


def test_a_plan_says_what_is_deleted() -> None:
    steps = plan(without_any(), Cluster1(manifests(BEFORE)))
    assert steps == [
        ("cp1", "delete flannel, kube-proxy, coredns from the cluster"),
        ("cp1", "take away flannel's links and routes"),
        ("cp1", f"remove {MANIFESTS_FILE}"),
        ("cp2", "take away flannel's links and routes"),
        ("cp2", f"remove {MANIFESTS_FILE}"),
        ("cp3", "take away flannel's links and routes"),
        ("cp3", f"remove {MANIFESTS_FILE}"),
    ]


def test_flannel_alone_goes_and_names_start_anew() -> None:
    steps = plan(WITHOUT_FLANNEL, Cluster1(manifests(BEFORE)))
    assert steps == [
        ("cp1", "delete flannel from the cluster"),
        ("cp1", "take away flannel's links and routes"),
        ("cp1", "start coredns anew, in whatever network there is then"),
        *((name, "take away flannel's links and routes") for name in ("cp2", "cp3", "w1")),
    ]


def test_only_what_the_file_has_no_more_is_deleted_and_no_namespace() -> None:
    going = gone(manifests(BEFORE), manifests(WITHOUT_FLANNEL))
    assert {(one.kind, one.name) for one in going} == {
        ("ServiceAccount", "flannel"),
        ("ClusterRole", "flannel"),
        ("ClusterRoleBinding", "flannel"),
        ("ConfigMap", "kube-flannel-cfg"),
        ("DaemonSet", "kube-flannel-ds"),
    }
    assert going[0].kind == "DaemonSet"
    assert gone(manifests(BEFORE), manifests(BEFORE)) == ()
    assert {one.kind for one in objects(manifests(BEFORE))} - {one.kind for one in gone(manifests(BEFORE), "")} == {
        "Namespace"
    }


def test_links_go_after_the_pods_and_the_manifests_at_last() -> None:
    cluster = Cluster1(manifests(BEFORE))
    apply(without_any(), cluster)
    kinds = ["delete" if "kubectl" in one else "links" if "ip link" in one else "forget" for _, one, _ in cluster.done]
    assert kinds == ["delete"] + ["links"] * 3 + ["forget"] * 3
    named = [one["metadata"]["name"] for one in yaml.safe_load_all(cluster.done[0][2])]
    assert "kube-flannel-ds" in named and "coredns" in named and "kube-flannel" not in named


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (WITHOUT_FLANNEL, "default/web-0 would lose their network"),
        (without_any(), "default/web-0 would lose their network, services, names"),
    ],
)
def test_what_pods_use_is_not_deleted(after: Cluster, said: str) -> None:
    with pytest.raises(HaplaneError) as error:
        plan(after, Cluster1(manifests(BEFORE), pods=OURS + WEB))
    assert said in error.value.why
    assert "rm -f /etc/haplane/addons.yaml" in error.value.hint
    assert "on cp1, cp2, cp3" in error.value.hint


def test_what_somebody_deleted_already_is_not_refused_and_links_that_pods_use_stay() -> None:
    steps = plan(WITHOUT_FLANNEL, Cluster1(manifests(BEFORE), pods=OURS + WEB, is_there=False))
    assert steps == [("cp1", "delete flannel from the cluster")]


def test_add_ons_that_were_made_somebodys_own_are_forgotten() -> None:
    facts = found(designed(BEFORE))
    without = {
        name: replace(one, loaded={key: value for key, value in one.loaded.items() if key != "addons"})
        for name, one in facts.items()
    }
    answers = Cluster1("", pods=OURS + WEB)
    assert RemoveAddOns().machines(context(without_any(), answers, dry=True, facts=without)) == ()


def test_manifests_that_change_without_losing_an_object_delete_nothing() -> None:
    changed = replace(BEFORE, kubernetes=replace(BEFORE.kubernetes, proxy=BEFORE.kubernetes.proxy.IPTABLES))
    assert plan(changed, Cluster1(manifests(BEFORE), pods=OURS + WEB)) == []


def test_what_cannot_be_read_is_not_guessed() -> None:
    with pytest.raises(HaplaneError) as error:
        plan(without_any(), Cluster1("kind: DaemonSet\n"))
    assert "cannot be read" in error.value.what
    assert plan(WITHOUT_FLANNEL, Cluster1("kind: DaemonSet\n")) == []


def test_pods_on_the_machines_network_and_those_that_have_ended_use_nothing() -> None:
    assert using_the_network(OURS) == ()
    assert using_the_network(OURS + WEB) == ("default/web-0",)
