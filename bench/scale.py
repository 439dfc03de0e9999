"""`haplane plan` with nothing to change on 100 machines: `python bench/scale.py`.

The machines are SSH servers of one process on loopback that answer as machines do which are as the design says. What is
measured is haplane: logging in, reading, deciding, comparing; not what machines need for their answers.

Targets: below 5 s, below 300 MB.
"""

from __future__ import annotations

import asyncio
import base64
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from multiprocessing.synchronize import Event
from pathlib import Path

import asyncssh
from measuring import haplane, row, table

from haplane.bundle import find
from haplane.cli.session import cache_folder, load_cluster
from haplane.components.base import File, Measured
from haplane.design.design import Design, identity
from haplane.design.hazards import lint, stops
from haplane.design.solved import solved
from haplane.lab.files import VERSION, LabPaths, make_keys
from haplane.model.bundle import BundleManifest
from haplane.model.cluster import Cluster
from haplane.model.facts import NOTHING_MEASURED
from haplane.observe.facts import MEMBERSHIP

REPEAT = 5
MACHINES = 100
FIRST, VIP, PORT = IPv4Address("127.0.1.1"), "127.0.1.200/24", 2222
LISTENING_WITHIN_S = 60
EMPTY_PLAN = "nothing to do"

# Nothing in a plan looks into it: it is compared, and written for HAProxy. As long as a CA certificate of kubeadm's.
_LINES = "\n".join(["QUJD" * 16] * 16)
AUTHORITY = f"-----BEGIN CERTIFICATE-----\n{_LINES}\n-----END CERTIFICATE-----\n"


def cluster_text(accept: Sequence[str] = ()) -> str:
    """accept: ids of hazards."""
    machines = "".join(f"  cp{i + 1}: {{address: {FIRST + i}}}\n" for i in range(MACHINES))
    accepted = "".join(f"  {id}: a benchmark\n" for id in accept)
    return (
        f"name: scale\nkubernetes: {{version: {VERSION}}}\nendpoint: {{vip: {VIP}}}\n"
        f"ssh: {{user: root, port: {PORT}, key: keys/id_ed25519, known_hosts: known_hosts}}\n"
        + (f"accept:\n{accepted}" if accept else "")
        + f"machines:\n{machines}"
    )


def write_cluster(file: Path) -> Cluster:
    """The file and its keys. Nobody has 100 control-plane machines: the errors that lint finds are accepted."""
    file.write_text(cluster_text())
    found = stops(lint(solved(load_cluster(file), NOTHING_MEASURED)[0]))
    file.write_text(cluster_text(sorted({finding.hazard for finding in found})))
    cluster = load_cluster(file)
    make_keys(LabPaths(file), cluster.name, cluster.machines.values())
    return cluster


def answer(design: Design, machine: str, measured: Measured) -> str:
    """What `observe.facts.command` prints on a machine that is as the design says."""
    bundle = design.bundle
    assert bundle is not None
    components = design.components(machine).values()
    lines = [
        ("interface", measured.interface),
        ("open_files", measured.open_files),
        ("memory", measured.memory_bytes),
        ("hostname", machine),
        ("system", "debian 13 x86_64"),
        *(line for one in components for file in one.files for line in _found(file)),
        *(("loaded", one.name, one.loaded) for one in components),
        *(("unit", one.unit, "enabled", "active") for one in components if one.unit),
        *(("package", package) for package in design.packages(machine)),
        ("bundle", bundle.folder_name),
        ("images", bundle.folder_name),
        ("membership", f"done {identity(design.cluster)}"),
        ("etcd_data", "yes"),
        ("kubelet", "yes"),
        ("authority", base64.b64encode(AUTHORITY.encode()).decode()),
    ]
    return "".join("\t".join(map(str, line)) + "\n" for line in lines)


def _found(file: File) -> Iterator[tuple[str, ...]]:
    """A file that is as haplane wrote it."""
    yield "sha256", file.sha256, file.path
    yield "stat", f"{file.mode:o}", "2026-01-01 00:00 by root", file.path
    yield "written", file.sha256, file.path


def answers(cluster: Cluster, bundle: BundleManifest) -> dict[str, str]:
    """machine -> what it says when it is asked for its facts."""
    measured = Measured()
    asked = dict.fromkeys(cluster.machines, measured)
    design = solved(cluster, NOTHING_MEASURED, bundle=bundle, asked=asked)[0].with_authority(AUTHORITY)
    return {name: answer(design, name, measured) for name in cluster.machines}


def serve(file: Path, said: Mapping[str, str], listening: Event) -> None:
    """All machines, until this process is ended. said: as `answers` returns it."""
    asyncio.run(_serve(file, said, listening))


async def _serve(file: Path, said: Mapping[str, str], listening: Event) -> None:
    cluster, paths = load_cluster(file), LabPaths(file)
    client_key = str(paths.user_key.with_suffix(".pub"))

    async def machine(name: str) -> asyncssh.SSHAcceptor:
        def run(process: asyncssh.SSHServerProcess[str]) -> None:
            # Of all that haplane runs, only what reads the facts names this file.
            process.stdout.write(said[name] if MEMBERSHIP in (process.command or "") else "")
            process.exit(0)

        return await asyncssh.listen(
            str(cluster.machines[name].address),
            PORT,
            server_host_keys=[str(paths.host_key(name))],
            authorized_client_keys=client_key,
            process_factory=run,
        )

    servers = [await machine(name) for name in said]
    listening.set()
    await asyncio.gather(*(server.wait_closed() for server in servers))


@contextmanager
def machines(file: Path, said: Mapping[str, str]) -> Iterator[None]:
    """The machines, in a process of their own."""
    context = multiprocessing.get_context("fork")
    listening = context.Event()
    process = context.Process(target=serve, args=(file, said, listening), daemon=True)
    process.start()
    try:
        if not listening.wait(LISTENING_WITHIN_S):
            sys.exit(f"the SSH servers do not listen on {FIRST} and the addresses after it, port {PORT}")
        yield
    finally:
        process.terminate()
        process.join()


def main() -> None:
    table(f"`haplane plan`, nothing to change, {MACHINES} machines on loopback")
    with tempfile.TemporaryDirectory(prefix="haplane-bench-") as folder:
        file = Path(folder) / "cluster.yaml"
        cluster = write_cluster(file)
        bundle = find(VERSION, cache=cache_folder(), sources=cluster.sources)
        if bundle is None:
            print(f"\nNot measured: Kubernetes {VERSION} is not in the cache; `haplane bundle build` makes it.")
            return
        with machines(file, answers(cluster, bundle.manifest)):
            runs = [haplane("plan", "--file", str(file)) for _ in range(REPEAT)]
        for run in runs:
            if not run.stdout.startswith(EMPTY_PLAN):
                sys.exit(f"the plan is not empty, so this is not what was to be measured:\n{run.stdout[:2000]}")
        row("haplane plan", [run.wall_s for run in runs], "s")
        row("its peak memory", [run.peak_mb for run in runs], "MB", 0)
    print("\nTargets: below 5 s, below 300 MB.")


if __name__ == "__main__":
    main()
