"""plan and apply: one readable ordered list of phases."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from haplane.components import etcd
from haplane.design.design import Design, identity
from haplane.design.solved import solved
from haplane.model.bundle import BundleManifest
from haplane.model.cluster import Cluster
from haplane.model.errors import HaplaneError
from haplane.model.facts import NOTHING_MEASURED, MeasuredFacts
from haplane.model.progress import Progress
from haplane.observe import facts as facts_of
from haplane.observe.facts import Facts
from haplane.phases.addons import ApplyAddOns
from haplane.phases.addons_gone import RemoveAddOns
from haplane.phases.change import JOB_TIMEOUT_S, Change, Step, undone
from haplane.phases.context import Context, Phase
from haplane.phases.create import (
    CreateAuthority,
    CreateCluster,
    JoinNodes,
    UndoUnfinished,
    WaitUntilWhole,
)
from haplane.phases.decide import Membership, decide, membership
from haplane.phases.endpoint import HandVipOver, LeaveVip, StartBalancer, StartVip, StopBalancers
from haplane.phases.etcd import ChangeEtcd, CreateEtcdAuthority, EmptyEtcd, IssueEtcdCertificates, StartEtcd, WatchEtcd
from haplane.phases.kubelets import PointKubelets
from haplane.phases.lock import LockLost, locked
from haplane.phases.prepare import (
    InstallPackages,
    PrepareHost,
    PrepareKubelet,
    SendBundle,
    StartContainerd,
    lacking_bundle,
)
from haplane.phases.probing import RATE, Seen, probing
from haplane.phases.reconfigure import ReconfigureNodes
from haplane.phases.refuse import refuse_hazards, refuse_to_skip_a_holder, refuse_unfit_machines
from haplane.phases.saved_plan import Plan, fingerprint, refuse_unless_same
from haplane.transport.ssh import Fleet, Remote, Unreachable

PHASES: tuple[type[Phase], ...] = (
    InstallPackages,
    SendBundle,
    PrepareHost,
    StartContainerd,
    UndoUnfinished,
    PrepareKubelet,
    CreateAuthority,
    CreateEtcdAuthority,
    IssueEtcdCertificates,
    StartEtcd,
    ChangeEtcd,
    EmptyEtcd,
    StartBalancer,
    LeaveVip,
    StartVip,
    HandVipOver,
    CreateCluster,
    RemoveAddOns,
    ApplyAddOns,
    JoinNodes,
    WatchEtcd,
    PointKubelets,
    WaitUntilWhole,
    StopBalancers,
    ReconfigureNodes,
)


@dataclass(frozen=True)
class Inputs:
    """Everything an apply needs besides the machines.

    bundle: what is in the cache now, unverified; obtain makes or verifies it, and is called only when a machine
    needs it. facts: what preflight measured. skip: machines left out, of a cluster that has quorum. probe_rate: how
    often the endpoint is asked per second while a live cluster is changed.
    """

    cluster: Cluster
    bundle: BundleManifest | None
    obtain: Callable[[], Awaitable[tuple[BundleManifest, Path]]]
    progress: Progress
    facts: MeasuredFacts = NOTHING_MEASURED
    skip: frozenset[str] = frozenset()
    probe_rate: float = RATE


@dataclass(frozen=True)
class Applied:
    """What was done, and what clients saw meanwhile; seen is None where there was no cluster yet, or nothing to do."""

    steps: tuple[Step, ...]
    seen: Seen | None = None


async def plan(inputs: Inputs) -> Plan:
    """What an apply would do now, machine by machine. Touches nothing."""
    _refuse(inputs)
    async with Fleet(inputs.cluster.machines) as fleet:
        remotes, silent = await _connect(fleet, inputs)
        context = await _context(inputs, remotes, silent, token="", dry=True)
        return Plan(await run_phases(context), fingerprint(context))


async def apply(inputs: Inputs, *, exactly: Plan | None = None) -> Applied:
    """Bring the machines to the design. Can be killed at any moment and run again.

    exactly: a plan that was saved; anything else is refused.
    """
    _refuse(inputs)
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(Fleet(inputs.cluster.machines))
        remotes, silent = await _connect(fleet, inputs)
        token = await stack.enter_async_context(locked(remotes, command="haplane apply"))
        context = await _context(inputs, remotes, silent, token=token, dry=False)
        now = Plan(await run_phases(replace(context, dry=True)), fingerprint(context))
        if exactly is not None:
            refuse_unless_same(exactly, now)
        if not now.steps:
            return Applied(())
        await refuse_unfit_machines(context.design, remotes, inputs.progress)
        bundle = context.design.bundle
        if bundle is None or lacking_bundle(context):
            manifest, context.bundle_folder = await inputs.obtain()
            context.design = replace(context.design, bundle=manifest)
        if not context.is_live:
            return Applied(await run_phases(context))
        authority = context.design.authority
        async with probing(inputs.cluster, fleet, authority, inputs.progress, rate=inputs.probe_rate) as seen:
            steps = await run_phases(context)
        return Applied(steps, seen)


def _refuse(inputs: Inputs) -> None:
    refuse_hazards(solved(inputs.cluster, inputs.facts)[0])


async def _connect(fleet: Fleet, inputs: Inputs) -> tuple[dict[str, Remote], dict[str, HaplaneError]]:
    wanted = [machine for machine in inputs.cluster.managed if machine.name not in inputs.skip]
    found = await fleet.connect_all(wanted)
    remotes = {name: one for name, one in found.items() if isinstance(one, Remote)}
    silent: dict[str, HaplaneError] = {name: one for name, one in found.items() if isinstance(one, Unreachable)}
    if not remotes:
        raise _nobody_answers(silent)
    return remotes, silent


def _nobody_answers(silent: Mapping[str, HaplaneError]) -> HaplaneError:
    if len(silent) == 1:
        return next(iter(silent.values()))
    first = next(iter(silent.values()))
    why = "\n".join(f"{name}: {error.what}" for name, error in silent.items())
    return HaplaneError(
        "no machine could be logged in to", where=first.where, why=f"{why}\n{first.why}", hint=first.hint
    )


async def gather(cluster: Cluster, remotes: Mapping[str, Remote], design: Design) -> dict[str, Facts]:
    """Facts of all these machines at once, one command each."""

    async def one(name: str) -> Facts:
        components = design.components(name).values()
        command = facts_of.command(
            cluster.machines[name].address,
            cluster.endpoint.vip.ip,
            [file.path for component in components for file in component.files],
            [component.unit for component in components if component.unit],
            design.packages(name),
            etcd.leaves(cluster, cluster.machines[name]),
        )
        done = await remotes[name].run(command, shown_as="read facts")
        return facts_of.parse(done.stdout)

    found = await asyncio.gather(*(one(name) for name in remotes))
    return dict(zip(remotes, found, strict=True))


async def _context(
    inputs: Inputs, remotes: Mapping[str, Remote], silent: Mapping[str, HaplaneError], *, token: str, dry: bool
) -> Context:
    cluster = inputs.cluster
    blank, _ = solved(cluster, inputs.facts, bundle=inputs.bundle)
    facts = await gather(cluster, remotes, blank)
    if not dry and any(one.jobs for one in facts.values()):
        # Before anything is decided: what they are doing changes what the machines are.
        await _wait_for_jobs(facts, remotes, inputs.progress)
        facts = await gather(cluster, remotes, blank)
    _check_skipped(inputs, facts)
    await refuse_to_skip_a_holder(cluster, facts, remotes, inputs.skip)
    decision = decide(
        {one.name: facts[one.name] for one in cluster.control_plane if one.name in facts},
        silent,
        identity(cluster),
        workers={one.name: facts[one.name] for one in cluster.workers if one.name in facts},
        etcd=None
        if cluster.is_stacked
        else {one.name: facts[one.name] for one in cluster.etcd_members if one.name in facts},
        voters=len(cluster.etcd_members),
    )
    asked = {name: one.measured for name, one in facts.items()}
    design, _ = solved(cluster, inputs.facts, bundle=inputs.bundle, asked=asked)
    # Of a node of the cluster, never of a machine whose kubeadm was cut short and will be undone.
    authority = facts[decision.members[0]].authority if decision.members else None
    return Context(
        cluster=cluster,
        design=design.with_authority(authority),
        remotes=remotes,
        facts=facts,
        decision=decision,
        bundle_folder=None,
        progress=inputs.progress,
        token=token,
        dry=dry,
    )


def _check_skipped(inputs: Inputs, facts: Mapping[str, Facts]) -> None:
    if not inputs.skip:
        return
    cluster = inputs.cluster
    if unknown := inputs.skip - {machine.name for machine in cluster.managed}:
        why = f"no such machine: {', '.join(unknown)}"
    else:
        # Not the marker alone: machines whose data is gone could otherwise start a second cluster beside the silent.
        found = [facts[one.name] for one in cluster.control_plane if one.name in facts]
        nodes = sum(membership(one, holds_etcd=cluster.is_stacked) is Membership.MEMBER for one in found)
        members = sum(facts[one.name].has_etcd_data for one in cluster.etcd_members if one.name in facts)
        quorum = len(cluster.etcd_members) // 2 + 1
        if nodes and members >= quorum:
            return
        why = f"without it {nodes} control-plane nodes and {members} members of etcd answer, and {quorum} are a quorum"
    raise HaplaneError(f"--skip {' '.join(sorted(inputs.skip))} is not possible", why=why)


async def _wait_for_jobs(facts: Mapping[str, Facts], remotes: Mapping[str, Remote], progress: Progress) -> None:
    """A haplane that died may have left a job running on a machine: it is let finish, never run twice."""
    units = f"systemctl list-units --plain --no-legend --state=active,activating '{facts_of.JOB_UNITS}'"
    script = f'for i in $(seq {JOB_TIMEOUT_S * 5}); do [ -z "$({units})" ] && exit 0; sleep 0.2; done; exit 1'

    async def one(name: str, jobs: Sequence[str]) -> None:
        progress.step(name, f"waiting for {', '.join(jobs)}, begun by an earlier apply")
        await remotes[name].run(script, shown_as=f"wait for {', '.join(jobs)}", timeout_s=JOB_TIMEOUT_S + 60)

    await asyncio.gather(*(one(name, found.jobs) for name, found in facts.items() if found.jobs))


async def run_phases(context: Context) -> tuple[Step, ...]:
    steps: list[Step] = []
    for kind in PHASES:
        phase = kind()
        machines = phase.machines(context)
        if phase.rolls_in(context):
            await _roll(phase, await phase.order(context, machines), context, steps)
        else:
            await _together(phase, machines, context, steps)
    return tuple(steps)


async def _together(phase: Phase, machines: Sequence[str], context: Context, steps: list[Step]) -> None:
    changes = [_change(phase, name, context) for name in machines]
    try:
        # A TaskGroup: the first failure stops the others; what they had begun can be run again.
        async with asyncio.TaskGroup() as group:
            for change in changes:
                group.create_task(phase.run(context, change))
    except* HaplaneError as errors:
        raise errors.exceptions[0] from None
    finally:
        for change in changes:
            steps.extend(change.steps)


async def _roll(phase: Phase, machines: Sequence[str], context: Context, steps: list[Step]) -> None:
    """One machine at a time; a change or a gate that fails puts that machine's previous files back and stops."""
    for name in machines:
        change = _change(phase, name, context)
        change.gated = phase.is_gated(context, name)
        try:
            await phase.run(context, change)
            if change.gated and change.steps and not context.dry:
                await phase.gate(context, name)
                await change.confirm()
        except HaplaneError as error:
            if context.dry or not change.gated or isinstance(error, Unreachable | LockLost):
                raise
            await change.roll_back()
            raise undone(error) from None
        finally:
            steps.extend(change.steps)


def _change(phase: Phase, machine: str, context: Context) -> Change:
    return Change(
        machine=machine,
        phase=phase.title,
        remote=context.remotes[machine],
        facts=context.facts[machine],
        token=context.token,
        progress=context.progress,
        dry=context.dry,
    )
