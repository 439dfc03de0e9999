"""haplane plan, apply, status, kubeconfig, reset: the machines of a cluster file."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from haplane.cli.session import (
    DEFAULT_FILE,
    Terminal,
    cache_folder,
    facts_file,
    load_cluster,
    load_facts,
    run,
    show_json,
    write_file,
)
from haplane.model.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from haplane.model.bundle import BundleManifest
    from haplane.model.cluster import Cluster
    from haplane.model.facts import MeasuredFacts
    from haplane.phases.apply import Applied, Inputs
    from haplane.phases.change import Step
    from haplane.phases.probing import Seen
    from haplane.phases.saved_plan import Plan

File = Annotated[Path, Parameter(name=["--file", "-f"])]
Json = Annotated[bool, Parameter(name="--json", negative=())]
Yes = Annotated[bool, Parameter(negative=())]


def plan(
    *,
    file: File = DEFAULT_FILE,
    json: Json = False,
    exit_code: Annotated[bool, Parameter(negative=())] = False,
    skip: tuple[str, ...] = (),
    out: Path | None = None,
) -> int:
    """Show what apply would do now: every command as a sentence, every file as a diff. Touches nothing.

    Parameters
    ----------
    exit_code
        Exit with 1 if anything would change.
    skip
        Leave this machine out (repeatable).
    out
        Save the plan in this file; apply --plan does exactly that, or refuses.
    """
    from haplane.phases import apply as phases
    from haplane.phases import saved_plan

    cluster, facts = load_cluster(file), load_facts(file)
    made = run(lambda terminal: phases.plan(_inputs(cluster, facts, terminal, skip)))
    steps = made.steps
    if out is not None:
        write_file(out, saved_plan.written(made, cluster=cluster.name))
    if json:
        show_json(_steps_as_json(steps))
    else:
        _print_steps(steps)
    return ExitCode.FINDING if steps and exit_code else ExitCode.DONE


def preflight(
    *, file: File = DEFAULT_FILE, json: Json = False, quick: Annotated[bool, Parameter(negative=())] = False
) -> int:
    """Look at all machines at once, change nothing, and keep what was measured in facts.yaml beside the file.

    Exits with 1 if an error was found that nobody accepted, or a machine did not answer.

    Parameters
    ----------
    quick
        Without what takes long: the disk's speed and stalls (a minute).
    """
    from haplane.design.hazards import stops
    from haplane.design.solved import solved
    from haplane.model.facts import facts_text
    from haplane.observe import preflight as look
    from haplane.reports import preflight as report
    from haplane.transport.ssh import Fleet, Remote

    cluster, facts = load_cluster(file), load_facts(file)
    design, _ = solved(cluster, facts)

    async def work(terminal: Terminal) -> tuple[look.Report, dict[str, str]]:
        async with Fleet(cluster.machines) as fleet:
            found = await fleet.connect_all(list(cluster.machines.values()))
            remotes = {name: one for name, one in found.items() if isinstance(one, Remote)}
            silent = {name: one.what for name, one in found.items() if not isinstance(one, Remote)}
            return await look.preflight(design, remotes, slow=not quick, progress=terminal), silent

    seen, silent = run(work)
    write_file(facts_file(file), facts_text(facts.updated_by(seen.facts)))
    if json:
        show_json(report.as_json(seen, silent))
    else:
        print("\n".join(report.lines(seen, look.CHECKS, silent)))
        print(f"measured: {facts_file(file)}")
    return ExitCode.FINDING if silent or stops(seen.findings) else ExitCode.DONE


def apply(
    *,
    file: File = DEFAULT_FILE,
    json: Json = False,
    skip: tuple[str, ...] = (),
    plan: Path | None = None,
    probe_rate: float = 20.0,
) -> None:
    """Bring the machines to what the file says. Can be interrupted at any moment and run again.

    Parameters
    ----------
    skip
        Leave this machine out (repeatable); the cluster must have quorum without it.
    plan
        Do exactly what this saved plan says; refuse if the machines or the file changed since.
    probe_rate
        How often the endpoint is asked per second while a live cluster is changed.
    """
    cluster, facts = load_cluster(file), load_facts(file)
    exactly = _saved_plan(plan, cluster) if plan else None
    applied = run(
        lambda terminal: apply_cluster(cluster, facts, terminal, skip=skip, exactly=exactly, probe_rate=probe_rate)
    )
    steps, seen = applied.steps, applied.seen
    if json:
        show_json(_steps_as_json(steps) | {"probe": asdict(seen) if seen else None})
    elif not steps:
        print("nothing to do: the machines are as the file says")
    else:
        machines = len({step.machine for step in steps})
        print(f"done: {len(steps)} steps on {machines} machine{'' if machines == 1 else 's'}")
        if seen:
            print(_seen(seen))


async def apply_cluster(
    cluster: Cluster,
    facts: MeasuredFacts,
    terminal: Terminal,
    *,
    skip: tuple[str, ...] = (),
    exactly: Plan | None = None,
    probe_rate: float = 20.0,
) -> Applied:
    """apply; a bundle that was never made is made before any machine is touched."""
    from haplane.phases import apply as phases

    inputs = _inputs(cluster, facts, terminal, skip)
    if inputs.bundle is None:
        await inputs.obtain()
        inputs = _inputs(cluster, facts, terminal, skip)
    return await phases.apply(replace(inputs, probe_rate=probe_rate), exactly=exactly)


def _saved_plan(file: Path, cluster: Cluster) -> Plan:
    from haplane.phases import saved_plan

    try:
        text = file.read_text(errors="replace")
    except OSError as error:
        raise UsageError(f"{file} cannot be read", where=str(file.absolute()), why=str(error)) from None
    return saved_plan.read(text, file=str(file), cluster=cluster.name)


def status(
    *, file: File = DEFAULT_FILE, json: Json = False, watch: Annotated[bool, Parameter(negative=())] = False
) -> int:
    """Show the cluster as every machine sees it: VIP, balancers, apiservers, etcd, leases.

    Parameters
    ----------
    watch
        Show it again every two seconds until interrupted.
    """
    from haplane.observe import status as observe
    from haplane.reports import status as report

    cluster = load_cluster(file)
    if watch:
        import asyncio

        async def forever(_: Terminal) -> None:
            while True:
                seen = await observe.read(cluster)
                print("\033[H\033[2J" if sys.stdout.isatty() else "", end="")
                report.show(seen)
                await asyncio.sleep(2)

        run(forever)
        return ExitCode.DONE
    seen = run(lambda _: observe.read(cluster))
    if json:
        show_json(report.as_json(seen))
    else:
        report.show(seen)
    return ExitCode.DONE if seen.is_whole else ExitCode.FINDING


def kubeconfig(
    *, file: File = DEFAULT_FILE, out: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
) -> None:
    """Write a kubeconfig for administrators that goes through the endpoint (mode 0600).

    Parameters
    ----------
    out
        The file to write; default is kubeconfig beside the cluster file, - is standard output.
    """
    from haplane.phases import kubeconfig as phase

    cluster = load_cluster(file)
    text = run(lambda _: phase.read(cluster))
    if out is not None and str(out) == "-":
        print(text, end="")
        return
    target = out or file.parent / "kubeconfig"
    phase.write(target, text)
    print(f"written: {target}")


def reset(*, file: File = DEFAULT_FILE, yes: Yes = False) -> None:
    """Take the cluster off its machines: etcd's data, certificates, static pods, VIP. Packages and the bundle stay.

    Parameters
    ----------
    yes
        Do not ask for the cluster's name.
    """
    from haplane.phases import reset as phase

    cluster = load_cluster(file)
    if not yes:
        names = ", ".join(machine.name for machine in cluster.managed)
        print(f"This deletes the cluster {cluster.name} and all its data from {names}.", file=sys.stderr)
        if not sys.stdin.isatty():
            raise UsageError("reset needs a person to confirm it", hint="or say --yes")
        if input(f"Type the cluster's name ({cluster.name}) to go on: ").strip() != cluster.name:
            raise UsageError("nothing was changed: that is not the cluster's name")
    run(lambda terminal: phase.reset(cluster, terminal))


def _inputs(cluster: Cluster, facts: MeasuredFacts, terminal: Terminal, skip: tuple[str, ...]) -> Inputs:
    from haplane.bundle import find
    from haplane.phases.apply import Inputs

    version, sources, addons = cluster.kubernetes.version, cluster.sources, cluster.addons

    async def obtain() -> tuple[BundleManifest, Path]:
        from haplane.bundle import obtain

        bundle = await obtain(version, sources, cache=cache_folder(), progress=terminal, addons=addons)
        return bundle.manifest, bundle.folder

    found = find(version, cache=cache_folder(), sources=sources, addons=addons)
    return Inputs(
        cluster=cluster,
        bundle=found.manifest if found else None,
        obtain=obtain,
        progress=terminal,
        facts=facts,
        skip=frozenset(skip),
    )


def _print_steps(steps: tuple[Step, ...]) -> None:
    if not steps:
        print("nothing to do: the machines are as the file says")
    phase = ""
    for step in steps:
        if step.phase != phase:
            phase = step.phase
            print(f"\n{phase}")
        print(f"  {step.machine}: {step.sentence}")
        for line in step.diff.splitlines():
            print(f"    {line}")


def _seen(seen: Seen) -> str:
    if seen.why_not:
        return f"what clients saw was not measured: {seen.why_not}"
    kinds = ", ".join(f"{count} {kind}" for kind, count in seen.kinds.items())
    return (
        f"clients meanwhile: {seen.not_served} of {seen.requests} new connections not served"
        f"{f' ({kinds})' if kinds else ''}, "
        f"longest gap {seen.longest_gap_s * 1000:.0f} ms"
    )


def _steps_as_json(steps: tuple[Step, ...]) -> dict[str, object]:
    return {
        "version": 1,
        "steps": [
            {"machine": step.machine, "phase": step.phase, "sentence": step.sentence, "diff": step.diff}
            for step in steps
        ],
    }
