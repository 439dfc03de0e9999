"""haplane init, lint, design, render, schema, hazards: no machine is needed."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from haplane.cli.session import DEFAULT_FILE, load_cluster, load_facts, show_json, write_file
from haplane.model.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from haplane.design.design import Design
    from haplane.design.timers import Solution
    from haplane.model.cluster import Cluster

File = Annotated[Path, Parameter(name=["--file", "-f"])]
Json = Annotated[bool, Parameter(name="--json", negative=())]


def lint(
    positional: Annotated[Path | None, Parameter(name="cluster-file", show=True)] = None,
    /,
    *,
    file: File = DEFAULT_FILE,
    json: Json = False,
    sarif: Annotated[bool, Parameter(negative=())] = False,
    accept: tuple[str, ...] = (),
) -> int:
    """Look for hazards that the file alone shows. Exits with 1 if one is there that nobody accepted.

    Parameters
    ----------
    positional
        The cluster file; the same as --file.
    sarif
        Print SARIF 2.1.0, for code review tools.
    accept
        ID=REASON: write into the file that this hazard is accepted, and why (repeatable). Comments stay.
    """
    from haplane.design.hazards import CATALOGUE
    from haplane.design.hazards import lint as find
    from haplane.reports import hazards as report

    file = positional or file
    if accept:
        _accept(file, accept)
    cluster, design, _ = _designed(file)
    findings = find(design)
    if sarif:
        show_json(report.as_sarif(findings, CATALOGUE, root=Path.cwd() if Path(cluster.file).is_absolute() else None))
    elif json:
        show_json(report.as_json(findings))
    else:
        report.show(findings)
    return ExitCode.FINDING if any(not one.accepted for one in findings) else ExitCode.DONE


def design(
    positional: Annotated[Path | None, Parameter(name="cluster-file", show=True)] = None,
    /,
    *,
    file: File = DEFAULT_FILE,
    json: Json = False,
    svg: Path | None = None,
    what_if: str = "",
) -> None:
    """Show the topology, every derived value with its reason, the outage each fault may cost, and what may be lost.

    Parameters
    ----------
    positional
        The cluster file; the same as --file.
    svg
        Write the picture of the topology into this file.
    what_if
        Machines and zones that are lost, with commas: cp1,rack-b. Shows what is left.
    """
    from haplane.design.budget import budgets
    from haplane.design.cuts import survives
    from haplane.reports import design as report
    from haplane.reports import topology

    _, designed, solution = _designed(positional or file)
    left = survives(designed, [name.strip() for name in what_if.split(",") if name.strip()]) if what_if else None
    if svg is not None:
        write_file(svg, topology.svg(designed))
    computed = budgets(designed)
    if json:
        show_json({**report.as_json(designed, computed, because=solution.because, left=left), "unmet": solution.unmet})
        return
    report.show(designed, computed, because=solution.because, left=left)
    for sentence in solution.unmet:
        print(f"failover.target is not met: {sentence}")


def render(folder: Path, /, *, file: File = DEFAULT_FILE) -> None:
    """Write all files of all machines as apply would, for review: FOLDER/MACHINE/etc/...

    Parameters
    ----------
    folder
        Where to write. Files of an earlier render that are no longer part of the design are removed.
    """
    from haplane.reports import rendered

    _, designed, _ = _designed(file)
    count = rendered.write(designed, folder)
    print(f"written: {count} files in {folder}")


def hazards(*, json: Json = False) -> None:
    """Show the catalogue of all hazards: when each is looked for, what goes wrong, what to do."""
    from haplane.design.hazards import CATALOGUE
    from haplane.reports import hazards as report

    if json:
        show_json(report.catalogue_as_json(CATALOGUE))
    else:
        report.show_catalogue(CATALOGUE)


def schema() -> None:
    """Print the JSON Schema of cluster.yaml, so that an editor completes and checks it."""
    from haplane.model.schema import json_schema

    show_json(json_schema())


def init(
    *,
    file: File = DEFAULT_FILE,
    name: str = "",
    vip: str = "",
    machine: tuple[str, ...] = (),
    client: str = "",
    host: str | None = None,
    user: str | None = None,
    target: str | None = None,
) -> None:
    """Write a commented cluster.yaml. What is not given as an option is asked for.

    Parameters
    ----------
    name
        Name of the cluster.
    vip
        The virtual IP with its subnet's prefix, e.g. 192.0.2.100/24.
    machine
        NAME=ADDRESS of a control-plane machine (repeat it).
    client
        NAME=ADDRESS of a machine from which drills probe.
    host
        A DNS name for the endpoint.
    user
        The user to log in as.
    target
        The longest outage wanted when a machine dies, e.g. 500ms.
    """
    from haplane.model.file import read_cluster
    from haplane.model.starter import starter

    if file.exists():
        raise UsageError(f"{file} is there already", where=str(file.absolute()), hint="name another one with --file")
    name = name or _ask("Name of the cluster", "--name", "prod")
    vip = vip or _ask("Virtual IP with the prefix of its subnet", "--vip", "192.0.2.100/24")
    machines = dict(_pair(one, "--machine") for one in machine)
    while not machine:
        answer = _ask(f"Control-plane machine {len(machines) + 1} as NAME=ADDRESS, empty when done", "--machine", "")
        if not answer and machines:
            break
        machines.update([_pair(answer, "--machine")])
    text = starter(
        name,
        vip,
        machines,
        host=host,
        ssh_user=user,
        target=target,
        client=_pair(client, "--client") if client else None,
    )
    # What is wrong with an answer is told as for any file, before there is one.
    read_cluster(text, file=str(file), folder=file.absolute().parent)
    write_file(file, text)
    print(f"written: {file}\nnext: haplane lint -f {file}, haplane design -f {file}, haplane preflight -f {file}")


def _accept(file: Path, given: tuple[str, ...]) -> None:
    from haplane.design.hazards import CATALOGUE
    from haplane.model.editing import edited

    reasons = dict(_pair(one, "--accept", "ID=REASON") for one in given)
    for id in reasons:
        if id not in CATALOGUE:
            close = difflib.get_close_matches(id, CATALOGUE, n=1)
            hint = f"did you mean {close[0]}?" if close else "haplane hazards lists them"
            raise UsageError(f"there is no hazard {id}", hint=hint)
    load_cluster(file)
    write_file(file, edited(file.read_text(), {("accept", id): reason for id, reason in reasons.items()}))


def _designed(file: Path) -> tuple[Cluster, Design, Solution]:
    from haplane.design.solved import solved

    cluster = load_cluster(file)
    found, solution = solved(cluster, load_facts(file))
    return cluster, found, solution


def _ask(question: str, option: str, example: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(f"{option} is missing", why="there is nobody to ask: standard input is no terminal")
    return input(f"{question}{f' (e.g. {example})' if example else ''}: ").strip()


def _pair(text: str, option: str, shape: str = "NAME=ADDRESS") -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        example = "cp1=192.0.2.11" if shape == "NAME=ADDRESS" else "vip-failback-outage='this VIP may move'"
        raise UsageError(f"{option} {text} is not {shape}", hint=f"for example {option} {example}")
    return name, value
