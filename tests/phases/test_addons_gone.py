"""Add-ons that the file has no more: what is deleted, in which order, and when it is refused."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest
import yaml
from tests.components.test_addons import with_worker
from tests.model.clusters import three_nodes
from tests.phases.test_workers import designed, found

from haplane.components import addons
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
from haplane.phases.create import reset_script
from haplane.phases.decide import decide
from haplane.transport.ssh import Completed

OURS = """\
kube-flannel   kube-flannel-ds-abcde   true     Running     flannel
kube-system    kube-apiserver-cp1      true     Running     <none>
kube-system    coredns-5d78c9869d-x    <none>   Running     kube-dns
default        migrated                <none>   Succeeded   <none>
"""
WEB = "default        web-0                   <none>   Running     <none>\n"
UNUSED = ", as no pod has an address of the pods' network"
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
        # What takes time is overtaken by whoever does not wait for it.
        for _turn in range(10 if "kubectl" in script else 1):
            await asyncio.sleep(0)
        return Completed(self.cluster.answer(self.name, script, stdin), "", 0)


def manifests(cluster: Cluster) -> str:
    return designed(cluster).components("cp1")["addons"].files[0].content


def context(after: Cluster, answers: Cluster1, *, dry: bool, facts: dict[str, Facts] | None = None) -> Context:
    was = facts or found(designed(BEFORE))
    now = {name: one for name, one in was.items() if name in after.machines}
    nodes, workers = (
        {one.name: now[one.name] for one in some if one.name in now} for some in (after.control_plane, after.workers)
    )
    return Context(
        cluster=after,
        design=designed(after),
        remotes={name: Machine1(name, answers) for name in now},  # type: ignore[misc]  # a stand-in
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


def apply(after: Cluster, answers: Cluster1, *, silent: str = "") -> None:
    facts = {name: one for name, one in found(designed(BEFORE)).items() if name != silent}
    made = context(after, answers, dry=False, facts=facts)
    steps: list[Step] = []
    asyncio.run(_together(phase := RemoveAddOns(), phase.machines(made), made, steps))


def test_a_plan_says_what_is_deleted() -> None:
    steps = plan(without_any(), Cluster1(manifests(BEFORE)))
    on_each = ["take away flannel's links and routes", "take away kube-proxy's rules", f"remove {MANIFESTS_FILE}"]
    assert steps == [
        ("cp1", f"delete flannel, kube-proxy, coredns from the cluster{UNUSED}"),
        *((name, one) for name in ("cp1", "cp2", "cp3") for one in on_each),
    ]


def test_flannel_alone_goes_and_names_start_anew() -> None:
    steps = plan(WITHOUT_FLANNEL, Cluster1(manifests(BEFORE)))
    assert steps == [
        ("cp1", f"delete flannel from the cluster{UNUSED}"),
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


def kind_of(script: str) -> str:
    signs = {"kubectl": "delete", "ip link delete": "links", "nft delete table": "rules"}
    return next((kind for sign, kind in signs.items() if sign in script), "forget")


def test_links_go_after_the_pods_and_the_manifests_at_last() -> None:
    cluster = Cluster1(manifests(BEFORE))
    apply(without_any(), cluster)
    kinds = [kind_of(one) for _, one, _ in cluster.done]
    assert kinds[0] == "delete" and sorted(kinds[1:7]) == ["links"] * 3 + ["rules"] * 3 and kinds[7:] == ["forget"] * 3
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


def test_coredns_is_known_by_its_label_and_not_by_its_name() -> None:
    assert using_the_network("kube-system coredns-autoscaler-x <none> Running <none>\n") != ()
    assert using_the_network("default coredns-x <none> Running kube-dns\n") == ("default/coredns-x",)
    assert using_the_network("kube-system resolver-x <none> Running kube-dns\n") == ()


def test_kube_proxys_rules_go_with_it_and_stay_with_it() -> None:
    cluster = Cluster1(manifests(BEFORE))
    apply(without_any(), cluster)
    assert {name for name, one, _ in cluster.done if kind_of(one) != "delete" and "ip6 kube-proxy" in one} == {
        "cp1",
        "cp2",
        "cp3",
    }
    assert "kube-proxy" not in str(plan(WITHOUT_FLANNEL, Cluster1(manifests(BEFORE))))
    assert addons.TAKE_PROXYS_RULES in reset_script()


def test_pods_of_a_node_that_does_not_answer_are_not_waited_for() -> None:
    cluster = Cluster1(manifests(BEFORE))
    apply(without_any(), cluster, silent="cp2")
    (_, delete, _), (_, wait, _) = cluster.done[:2]
    assert "--cascade=background --wait=false" in delete and "--timeout" not in delete
    assert "-l 'k8s-app in (flannel,kube-proxy,kube-dns)' --field-selector spec.nodeName!=cp2)" in wait
    whole = Cluster1(manifests(BEFORE))
    apply(without_any(), whole)
    assert "--cascade=foreground --wait " in whole.done[0][1]


def test_an_object_of_which_only_the_version_changed_is_not_deleted() -> None:
    before = "apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: {name: a, namespace: b}\n"
    assert gone(before, before.replace("v1beta1", "v1")) == ()
    (one,) = gone(before, before.replace("policy", "other"))
    assert one.api_version == "policy/v1beta1"
    (one,) = gone("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n", "")
    assert one.api_version == "v1"
