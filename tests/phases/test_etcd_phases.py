"""etcd on machines of its own: what is planned for it, in which order, and scripts that a shell takes."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address

import pytest
import yaml
from tests.model.clusters import BUNDLE, etcd_apart, three_nodes

from haplane.components import etcd
from haplane.components.base import Measured
from haplane.design.design import Design, identity
from haplane.design.solved import solved
from haplane.model.bundle import BundleFile
from haplane.model.cluster import Cluster, Etcd, EtcdTopology
from haplane.model.errors import HaplaneError
from haplane.model.facts import NOTHING_MEASURED
from haplane.model.progress import Silent
from haplane.observe.facts import Facts, FoundCertificate, FoundFile
from haplane.phases.apply import PHASES, run_phases
from haplane.phases.change import Step
from haplane.phases.context import Context
from haplane.phases.create import reset_script
from haplane.phases.decide import decide
from haplane.phases.endpoint import StartBalancer
from haplane.phases.etcd import ChangeEtcd, StartEtcd
from haplane.phases.prepare import bundle_marker, bundle_part, programs
from haplane.phases.reset import FORGET
from haplane.transport.ssh import Completed

AUTHORITY = "-----BEGIN CERTIFICATE-----\n"
CA = "0123"
FILES = tuple(
    BundleFile(path, "00", 1, executable=path.startswith("bin/"))
    for path in (
        *(f"bin/{name}" for name in ("kubeadm", "kubelet", "kubectl", "etcdctl", "etcd")),
        "images/kube-apiserver.tar",
    )
)


def designed(cluster: Cluster) -> Design:
    return solved(cluster, NOTHING_MEASURED, bundle=replace(BUNDLE, files=FILES))[0].with_authority(AUTHORITY)


def bare(name: str) -> Facts:
    return Facts(Measured(), name, "debian 13 x86_64")


def applied(design: Design, name: str) -> Facts:
    """What a machine says once an apply has brought it to the design."""
    cluster, components = design.cluster, design.components(name).values()
    machine = cluster.machines[name]
    is_node, is_member = machine in cluster.control_plane, machine in cluster.etcd_members
    marker = BUNDLE.folder_name + ("" if not is_member else "+both" if is_node else "+etcd")
    return replace(
        bare(name),
        files={
            file.path: FoundFile(file.sha256, f"{file.mode:o}", file.sha256) for one in components for file in one.files
        },
        loaded={one.name: str(one.loaded) for one in components},
        units={one.unit: ("enabled", "active") for one in components if one.unit},
        packages=frozenset(design.packages(name)),
        bundles=frozenset({marker}),
        images=marker if is_node else "",
        membership=f"done {identity(cluster)}" if is_node else "",
        etcd_membership=f"done {identity(cluster)}" if is_member else "",
        has_etcd_data=is_member,
        has_kubelet=is_node,
        authority=AUTHORITY if is_node else None,
        certificates={leaf.cert: FoundCertificate(CA, frozenset(leaf.names)) for leaf in etcd.leaves(cluster, machine)},
        etcd_authority=CA if is_member else "",
        has_etcd_authority_key=is_member and machine == cluster.etcd_members[0],
        holds_vip=name == "cp1",
    )


def assert_shell_takes(script: str) -> None:
    taken = subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=False, capture_output=True)
    assert taken.returncode == 0, f"{taken.stderr}\n{script}"


class Machine:
    """Takes every script, and answers what the test says of one that has these words in it."""

    def __init__(self, name: str, told: list[tuple[str, str]], answers: Mapping[str, Completed]) -> None:
        self.name, self._told, self._answers = name, told, answers

    async def run(self, script: str, **_: object) -> Completed:
        assert_shell_takes(script)
        self._told.append((self.name, script))
        await asyncio.sleep(0)
        found = next((answer for words, answer in self._answers.items() if words in script), None)
        return found or Completed("", "", 0)


def context_of(
    design: Design,
    found: dict[str, Facts],
    *,
    dry: bool = True,
    told: list[tuple[str, str]] | None = None,
    answers: Mapping[str, Mapping[str, Completed]] | None = None,
) -> Context:
    cluster = design.cluster
    decision = decide(
        {one.name: found[one.name] for one in cluster.control_plane if one.name in found},
        {},
        identity(cluster),
        etcd={one.name: found[one.name] for one in cluster.etcd_members if one.name in found},
        voters=len(cluster.etcd_members),
    )
    remotes = {name: Machine(name, told if told is not None else [], (answers or {}).get(name, {})) for name in found}
    return Context(
        cluster=cluster,
        design=design,
        remotes=remotes,  # type: ignore[arg-type]
        facts=found,
        decision=decision,
        bundle_folder=None,
        progress=Silent(),
        token="t",
        dry=dry,
    )


def planned(design: Design, found: dict[str, Facts]) -> tuple[Step, ...]:
    return asyncio.run(run_phases(context_of(design, found)))


@pytest.mark.parametrize("shared", [False, True])
def test_a_plan_after_an_apply_is_empty(shared: bool) -> None:
    design = designed(etcd_apart(shared=shared))
    assert planned(design, {name: applied(design, name) for name in design.cluster.machines}) == ()


@pytest.mark.parametrize("shared", [False, True])
def test_etcd_is_there_before_the_cluster_is_created(shared: bool) -> None:
    design = designed(etcd_apart(shared=shared))
    steps = planned(design, {name: bare(name) for name in design.cluster.machines})
    first = design.cluster.etcd_members[0].name
    titles = list(dict.fromkeys(step.phase for step in steps))
    order = [
        "Create the cluster's certificate authority",
        "Create etcd's certificate authority",
        "Issue etcd's certificates",
        "Start etcd",
        "Create the cluster",
        "Join the other nodes",
    ]
    assert [title for title in titles if title in order] == order
    made = [(step.machine, step.sentence) for step in steps if step.phase == order[1]]
    assert made == [(first, "create the CA of etcd (its key stays on the machine)")]
    # Joining nodes get the apiserver's from kubeadm.
    clients = [step.machine for step in steps if etcd.CLIENT_CERT in step.sentence]
    assert clients == ["cp1"]
    assert sum(step.phase == "Start etcd" and step.sentence.startswith("start") for step in steps) == 3


def test_a_stacked_cluster_has_none_of_it() -> None:
    design = designed(replace(etcd_apart(), etcd=Etcd(EtcdTopology.STACKED)))
    nodes = {one.name: bare(one.name) for one in design.cluster.control_plane}
    decision = decide(nodes, {}, identity(design.cluster))
    context = replace(context_of(designed(etcd_apart()), {n: bare(n) for n in etcd_apart().machines}), design=design)
    context = replace(context, cluster=design.cluster, facts=nodes, decision=decision)
    steps = asyncio.run(run_phases(context))
    assert not {step.phase for step in steps} & {one.title for one in PHASES if "etcd" in one.title}


def test_a_certificate_that_ends_or_names_another_address_is_made_anew_and_nothing_else() -> None:
    design = designed(etcd_apart())
    found = {name: applied(design, name) for name in design.cluster.machines}
    without = dict(found["e2"].certificates)
    del without[f"{etcd.PKI}/peer.crt"]
    found["e2"] = replace(found["e2"], certificates=without)
    other = FoundCertificate(CA, frozenset({"e3", "192.0.2.99"}))
    server = f"{etcd.PKI}/server.crt"
    found["e3"] = replace(found["e3"], certificates={**found["e3"].certificates, server: other})
    found["cp3"] = replace(found["cp3"], certificates={})
    assert [(step.machine, step.sentence.split(",")[0]) for step in planned(design, found)] == [
        ("cp3", f"issue {etcd.CLIENT_CERT}"),
        ("e2", f"issue {etcd.PKI}/peer.crt"),
        ("e3", f"issue {server}"),
    ]


def test_without_the_key_of_the_ca_no_other_is_made_for_members_that_run() -> None:
    design = designed(etcd_apart())
    found = {name: applied(design, name) for name in design.cluster.machines}
    found["e1"] = replace(found["e1"], has_etcd_authority_key=False)
    assert planned(design, found) == ()
    found["e1"] = replace(found["e1"], certificates={}, etcd_authority="")
    with pytest.raises(HaplaneError, match="the key of etcd's CA is gone") as refused:
        planned(design, found)
    assert "backup" in refused.value.hint


def run(phase: type[StartEtcd] | type[ChangeEtcd], context: Context) -> None:
    one = phase()
    assert one.machines(context)

    async def all_of_it() -> None:
        from haplane.phases import apply

        before, apply.PHASES = apply.PHASES, (phase,)
        try:
            await run_phases(context)
        finally:
            apply.PHASES = before

    asyncio.run(all_of_it())


def places(told: list[tuple[str, str]], words: str) -> list[int]:
    return [place for place, (_, script) in enumerate(told) if words in script]


def test_members_are_started_side_by_side_and_are_members_once_all_answer() -> None:
    design = designed(etcd_apart())
    told: list[tuple[str, str]] = []
    run(StartEtcd, context_of(design, {name: bare(name) for name in design.cluster.machines}, dry=False, told=told))
    starts, answers = places(told, "restart --no-block etcd"), places(told, "endpoint health")
    done = places(told, "echo 'done ")
    assert [len(starts), len(answers), len(done)] == [3, 3, 3]
    assert max(starts) < min(answers) and max(answers) < min(done)
    assert all("begun new" in told[place][1] for place in starts)


def test_a_change_reaches_one_member_after_the_other_and_the_leader_last() -> None:
    before = designed(etcd_apart())
    after = designed(replace(before.cluster, etcd=Etcd(EtcdTopology.EXTERNAL, heartbeat_ms=50, election_ms=500)))
    found = {name: applied(before, name) for name in before.cluster.machines}
    told: list[tuple[str, str]] = []
    follows = {"who leads": Completed("", "", 1), "endpoint status -w fields | awk": Completed("", "", 1)}
    context = context_of(after, found, dry=False, told=told, answers={"e2": follows, "e3": follows})
    run(ChangeEtcd, context)
    loads = [told[place][0] for place in places(told, "systemctl restart etcd")]
    assert loads == ["e2", "e3", "e1"]
    assert len(places(told, "move-leader")) == 3
    # A gate after each, before the next is touched.
    answers = places(told, "endpoint health")
    restarts = places(told, "systemctl restart etcd")
    assert [restarts[i] < answers[i] for i in range(3)] == [True] * 3 and answers[0] < restarts[1]


def test_a_change_that_does_not_come_up_is_undone_and_reaches_nobody_else() -> None:
    before = designed(etcd_apart())
    after = designed(replace(before.cluster, etcd=Etcd(EtcdTopology.EXTERNAL, heartbeat_ms=50, election_ms=500)))
    found = {name: applied(before, name) for name in before.cluster.machines}
    told: list[tuple[str, str]] = []
    silent = {"endpoint health": Completed("", "context deadline exceeded", 1)}
    context = context_of(after, found, dry=False, told=told, answers={"e2": silent, "e1": {}})
    # Without an answer nobody leads but the last that was asked.
    with pytest.raises(HaplaneError, match="its previous files were put back"):
        run(ChangeEtcd, replace(context, remotes={**context.remotes}))
    changed = {name for name, script in told if "systemctl restart etcd" in script}
    assert "e2" in changed and "e3" not in changed
    assert any(name == "e2" and "previous" in script and "restart" not in script for name, script in told)


def test_a_member_whose_data_is_gone_is_removed_and_joins_anew_before_any_other_changes() -> None:
    design = designed(etcd_apart())
    found = {name: applied(design, name) for name in design.cluster.machines}
    found["e3"] = replace(found["e3"], has_etcd_data=False)
    steps = planned(design, found)
    assert [(step.machine, step.sentence) for step in steps] == [
        ("e3", "join the other members of etcd anew, without what it held before")
    ]
    told: list[tuple[str, str]] = []
    run(ChangeEtcd, context_of(design, found, dry=False, told=told))
    on_e3 = [script for name, script in told if name == "e3"]
    assert "begun join" in on_e3[0]
    removed = places(told, "member remove")
    assert [told[place][0] for place in removed] == ["e1"]
    assert removed[0] < places(told, etcd.JOINING_ENVIRONMENT)[0] < places(told, "member promote")[0]
    assert places(told, "member promote")[0] < places(told, "echo 'done ")[0]
    # Whoever dies in between joins once more; later nobody would come back to it.
    assert places(told, f"rm -f {etcd.JOINING_ENVIRONMENT}")[0] < places(told, "echo 'done ")[0]


def test_a_join_that_was_cut_short_goes_on_and_removes_nobody() -> None:
    design = designed(etcd_apart())
    found = {name: applied(design, name) for name in design.cluster.machines}
    found["e3"] = replace(found["e3"], etcd_membership=f"begun join {identity(design.cluster)}")
    told: list[tuple[str, str]] = []
    run(ChangeEtcd, context_of(design, found, dry=False, told=told))
    assert not places(told, "member remove")
    assert places(told, "member promote")


def test_whoever_joins_already_comes_before_those_whose_data_is_gone() -> None:
    """etcd takes one learner at a time."""
    cluster = etcd_apart()
    more = {
        f"e{i}": replace(cluster.machines["e1"], name=f"e{i}", addresses=(ip_address(f"192.0.2.2{i}"),)) for i in (4, 5)
    }
    design = designed(replace(cluster, machines={**cluster.machines, **more}))
    found = {name: applied(design, name) for name in design.cluster.machines}
    found["e2"] = replace(found["e2"], has_etcd_data=False)
    found["e4"] = replace(found["e4"], etcd_membership=f"begun join {identity(design.cluster)}")
    told: list[tuple[str, str]] = []
    run(ChangeEtcd, context_of(design, found, dry=False, told=told))
    joined = [name for name, script in told if "joining" in script and "--no-block" in script]
    assert joined == ["e4", "e2"]
    assert places(told, "member promote")[0] < places(told, "member add")[0]


def test_a_key_of_the_ca_on_a_machine_that_is_left_out_is_not_said_to_be_gone() -> None:
    design = designed(etcd_apart())
    found = {name: applied(design, name) for name in design.cluster.machines}
    found["e2"] = replace(found["e2"], certificates={})
    with pytest.raises(HaplaneError, match="is not at hand") as raised:
        planned(design, {name: one for name, one in found.items() if name != "e1"})
    assert "if e1 has it" in raised.value.hint


def test_machines_may_have_names_that_yaml_takes_for_something_else() -> None:
    cluster = etcd_apart()
    machine = replace(cluster.machines["e1"], name="1")
    cluster = replace(cluster, name="no", machines={**cluster.machines, "1": machine})
    config = yaml.safe_load(designed(cluster).components("1")["etcd"].files[0].content)
    assert (config["name"], config["initial-cluster-token"]) == ("1", "no")


def test_what_an_unfinished_init_wrote_is_taken_out_of_etcd_before_the_next() -> None:
    design = designed(etcd_apart())
    found = {name: applied(design, name) for name in design.cluster.machines}
    for name in ("cp1", "cp2", "cp3"):
        found[name] = replace(found[name], membership="", has_kubelet=False, authority=None, certificates={})
    found["cp1"] = replace(found["cp1"], membership=f"begun init {identity(design.cluster)}")
    steps = planned(design, found)
    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases.index("Undo what kubeadm left in etcd") < phases.index("Create the cluster")
    assert "Start etcd" not in phases


def test_each_machine_gets_the_part_of_the_bundle_that_it_runs() -> None:
    bundle = replace(BUNDLE, files=FILES)
    apart = designed(etcd_apart())
    context = context_of(apart, {name: bare(name) for name in apart.cluster.machines})
    assert programs(context, "e1") == ("etcd", "etcdctl")
    assert [file.path for file in bundle_part(context, "e1", bundle)] == ["bin/etcdctl", "bin/etcd"]
    assert "bin/etcd" not in {file.path for file in bundle_part(context, "cp1", bundle)}
    assert len(bundle_part(context, "cp1", bundle)) == len(FILES) - 1
    shared = designed(etcd_apart(shared=True))
    both = context_of(shared, {name: bare(name) for name in shared.cluster.machines})
    assert programs(both, "cp1") == ("kubeadm", "kubelet", "kubectl", "etcdctl", "etcd")
    assert bundle_part(both, "cp1", bundle) == FILES
    markers = {bundle_marker(context, "cp1", bundle), bundle_marker(context, "e1", bundle)}
    assert len(markers | {bundle_marker(both, "cp1", bundle)}) == 3


def test_a_bundle_without_etcd_is_told_before_anything_is_sent() -> None:
    design = designed(etcd_apart())
    context = context_of(design, {name: bare(name) for name in design.cluster.machines})
    with pytest.raises(HaplaneError, match="the bundle has no etcd, which e1 needs"):
        bundle_part(context, "e1", replace(BUNDLE, files=FILES[:3] + FILES[3:4]))


def test_undoing_kubeadm_leaves_a_member_beside_it_alone_and_a_reset_does_not() -> None:
    kept = reset_script(keeps_etcd=True)
    assert "--skip-phases remove-etcd-member" in kept
    assert f"{etcd.DATA}/member" not in kept
    assert f"rm -rf {etcd.DATA}/member" in reset_script()
    assert etcd.MEMBERSHIP in FORGET and etcd.PKI in FORGET


def test_a_member_without_its_data_does_not_start_unless_it_begins_or_joins() -> None:
    unit = next(
        file for file in designed(etcd_apart()).components("e1")["etcd"].files if file.path.endswith(".service")
    )
    (line,) = [
        line.removeprefix("ExecStartPre=") for line in unit.content.replace("\\\n", " ").splitlines() if "Pre=" in line
    ]
    script = line.removeprefix("/bin/sh -c '").removesuffix("'")
    assert "'" not in script
    assert subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=False).returncode == 0
    done = subprocess.run(["/bin/sh", "-c", script], text=True, check=False, capture_output=True)
    assert done.returncode == 1 and "haplane apply replaces the member" in done.stderr


def test_a_balancer_is_asked_by_the_ip_version_of_the_endpoint() -> None:
    cluster = three_nodes()
    both = replace(cluster.machines["cp1"], addresses=(ip_address("2001:db8::11"), ip_address("192.0.2.11")))
    design = designed(replace(cluster, machines={**cluster.machines, "cp1": both}))
    told: list[tuple[str, str]] = []
    context = context_of(design, {name: bare(name) for name in design.cluster.machines}, dry=False, told=told)
    asyncio.run(StartBalancer().gate(context, "cp1"))
    assert "kubernetes:8443:192.0.2.11:8443" in told[0][1]
