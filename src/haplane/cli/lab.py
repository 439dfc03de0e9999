"""haplane lab: machines as containers on this host."""

from __future__ import annotations

import os
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from haplane.cli.session import DEFAULT_FILE, Terminal, cache_folder, load_cluster, run, show_json
from haplane.lab import files, machines
from haplane.lab.host import check_host
from haplane.model.errors import UsageError

File = Annotated[Path, Parameter(name=["--file", "-f"])]
Json = Annotated[bool, Parameter(name="--json", negative=())]


def up(
    *,
    file: File = DEFAULT_FILE,
    version: str = files.VERSION,
    nodes: int = 3,
    name: str = "lab",
    subnet: str = files.SUBNET,
    image: Literal["full", "bare"] = "full",
    like: Path | None = None,
) -> None:
    """Make the lab's machines: image, network, containers, keys; and cluster.yaml, unless it is there.

    Parameters
    ----------
    file
        The cluster file; lab.yaml and the keys lie beside it.
    version
        Kubernetes version written into a new cluster file.
    nodes
        Control-plane machines written into a new cluster file.
    name
        Name of a new lab: its containers and network carry it.
    subnet
        Network of a new lab, inside this host only.
    image
        Machines of a new lab: full have all packages, bare have only systemd and sshd (the client stays full).
    like
        A cluster.yaml of yours, rehearsed: a new lab gets its design, on addresses of this host. Where the endpoint
        belongs to a load balancer of yours, a machine called outer (or outer2, ...) stands in for it.
    """
    check_host()
    paths = files.LabPaths(file)
    cache = cache_folder()
    files.write_default(
        paths,
        name=name,
        version=version,
        subnet=_network(subnet),
        control_plane=nodes,
        image=image,
        cache=cache,
        like=like,
    )

    async def work(terminal: Terminal) -> None:
        await machines.up(_lab(file), cache=cache, progress=terminal)

    run(work)


def down(*, file: File = DEFAULT_FILE) -> None:
    """Remove the lab's machines and their disks; the files and keys stay."""
    lab = _lab(file)
    run(lambda terminal: machines.down(lab, progress=terminal))


def status(*, file: File = DEFAULT_FILE, json: Json = False) -> None:
    """Show the lab's machines as podman sees them."""
    lab = _lab(file)
    seen = run(lambda _: machines.status(lab))
    if json:
        show_json({"version": 1, "machines": [{"name": one.machine, "state": one.state} for one in seen]})
        return
    states = {one.machine: one.state for one in seen}
    for machine in lab.machines.values():
        print(f"{machine.name:12} {machine.address!s:16} {states.get(machine.name, 'not made')}")


def shell(machine: str, *, file: File = DEFAULT_FILE) -> None:
    """Open a root shell on a machine of the lab."""
    command = machines.shell_command(_lab(file), machine)
    os.execvp(command[0], command)


def power(action: Literal["on", "off", "freeze", "thaw"], machine: str, *, file: File = DEFAULT_FILE) -> None:
    """Cut or restore a machine's power, or stop all that runs in it and let it go on.

    Off is silent, as a power cut is: no connection is closed.
    """
    lab = _lab(file)
    actions = {"on": machines.power_on, "off": machines.power_off, "freeze": machines.freeze, "thaw": machines.thaw}
    run(lambda _: actions[action](lab, machine))


def _network(text: str) -> IPv4Network:
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise UsageError(f"--subnet {text} is not a network", why=str(error), hint="for example 10.77.0.0/24") from None
    if network.prefixlen > 24:
        raise UsageError(f"--subnet {text} is too small", hint="a /24 or larger, for example 10.77.0.0/24")
    return network


def _lab(file: Path) -> machines.Lab:
    paths = files.LabPaths(file)
    settings = files.read_lab(paths)
    cluster = load_cluster(file)
    lab = machines.Lab(paths, settings, cluster)
    files.make_keys(paths, cluster.name, lab.machines.values())
    return lab
