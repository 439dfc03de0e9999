"""haplane plan against ansible-playbook --check --diff: the same files and units, the same machines, one run.

`python bench/against_ansible.py --file lab/cluster.yaml`, on a running lab to which the file was applied. ansible is
as fast as it can reasonably be: one loop over all files and one over all units, a fork per machine, pipelining, no
facts, no looking for Python, and its SSH connections stay open between its runs (haplane logs in anew each time).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from measuring import REPOSITORY, Ran, haplane, ran, row, table

from haplane.bundle import find
from haplane.cli.session import cache_folder, load_cluster, load_facts
from haplane.design.design import Design
from haplane.design.solved import solved
from haplane.model.cluster import Machine
from haplane.model.errors import HaplaneError
from haplane.phases.apply import gather
from haplane.reports import rendered
from haplane.transport.ssh import Fleet

HAPLANE_RUNS, ANSIBLE_RUNS = 10, 5
REQUIREMENTS = REPOSITORY / "requirements" / "bench.txt"
ENVIRONMENT = REPOSITORY / ".cache" / "bench"

PYTHON = "/usr/bin/python3"

# A play is JSON here, which is YAML: nothing has to be quoted by hand.
PLAYBOOK = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "name": "files",
                "ansible.builtin.copy": {
                    "src": "{{ item.src }}",
                    "dest": "{{ item.dest }}",
                    "owner": "root",
                    "group": "root",
                    "mode": "{{ item.mode }}",
                },
                "loop": "{{ managed_files }}",
                "loop_control": {"label": "{{ item.dest }}"},
            },
            {
                "name": "units",
                "ansible.builtin.systemd_service": {"name": "{{ item }}", "enabled": True, "state": "started"},
                "loop": "{{ managed_units }}",
            },
        ],
    }
]


class Unfit(Exception):
    """Why the comparison cannot be made here."""


def install_ansible() -> None:
    """ansible-core in an environment of its own, made when the requirements changed."""
    stamp, wanted = ENVIRONMENT / ".stamp", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"making {ENVIRONMENT} from {REQUIREMENTS}", file=sys.stderr)
    ran([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)])
    pip = [str(ENVIRONMENT / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    ran([*pip, "--require-hashes", "--requirement", str(REQUIREMENTS)])
    stamp.write_text(wanted)


async def applied_design(file: Path) -> Design:
    """The design as apply wrote it, with what only the machines know. Raises Unfit, HaplaneError."""
    cluster, facts = load_cluster(file), load_facts(file)
    bundle = find(cluster.kubernetes.version, cache=cache_folder(), sources=cluster.sources)
    manifest = bundle.manifest if bundle else None
    async with Fleet(cluster.machines) as fleet:
        remotes = {machine.name: await fleet.connect(machine) for machine in cluster.control_plane}
        for name, remote in remotes.items():
            if (await remote.run(f"test -x {PYTHON}", check=False)).code:
                raise Unfit(f"{name} has no {PYTHON}, which ansible needs there")
        found = await gather(cluster, remotes, solved(cluster, facts, bundle=manifest)[0])
    asked = {name: one.measured for name, one in found.items()}
    authority = next(iter(found.values())).authority
    return solved(cluster, facts, bundle=manifest, asked=asked)[0].with_authority(authority)


def inventory(design: Design, files: Path) -> dict[str, object]:
    """files: the folder of `haplane render`."""
    return {"all": {"hosts": {one.name: _host(design, one, files) for one in design.cluster.control_plane}}}


def _host(design: Design, machine: Machine, files: Path) -> dict[str, object]:
    ssh, components = machine.ssh, design.components(machine.name).values()
    if ssh.jump:
        raise Unfit(f"{machine.name} is reached through a jump host, which this benchmark does not set up for ansible")
    variables: dict[str, object] = {
        "ansible_host": str(machine.address),
        "ansible_port": ssh.port,
        "ansible_user": ssh.user,
        "ansible_become": ssh.sudo,
        "ansible_python_interpreter": PYTHON,
        "managed_files": [
            {"src": str(files / f"{machine.name}{file.path}"), "dest": file.path, "mode": f"{file.mode:04o}"}
            for one in components
            for file in one.files
        ],
        "managed_units": [one.unit for one in components if one.unit],
    }
    if ssh.key:
        variables["ansible_ssh_private_key_file"] = str(ssh.key)
    if ssh.known_hosts:
        variables["ansible_ssh_common_args"] = f"-o UserKnownHostsFile={ssh.known_hosts}"
    return variables


def settings(folder: Path, forks: int) -> dict[str, str]:
    """ansible's own, as environment variables; those of the user's ansible.cfg do not count."""
    (folder / "ansible.cfg").touch()
    return {
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_FORKS": str(forks),
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
        "ANSIBLE_NOCOLOR": "True",
    }


def write_play(design: Design, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Writes playbook, inventory and files into the folder; returns ansible's command and its environment."""
    files = folder / "files"
    rendered.write(design, files)
    (folder / "inventory.yaml").write_text(json.dumps(inventory(design, files), indent=1))
    (folder / "playbook.yaml").write_text(json.dumps(PLAYBOOK, indent=1))
    program = str(ENVIRONMENT / "bin" / "ansible-playbook")
    command = [program, "--inventory", str(folder / "inventory.yaml"), str(folder / "playbook.yaml")]
    return command, settings(folder, forks=len(design.cluster.control_plane))


def recap(output: str) -> dict[str, dict[str, int]]:
    """The last part of what ansible-playbook prints: machine -> {ok, changed, unreachable, failed, ...}."""
    _, _, lines = output.partition("PLAY RECAP")
    counts: dict[str, dict[str, int]] = {}
    for line in lines.splitlines()[1:]:
        machine, colon, rest = line.partition(" : ")
        if colon:
            counts[machine.strip()] = {word: int(number) for word, number in re.findall(r"(\w+)=(\d+)", rest)}
    return counts


def changes(counts: Mapping[str, Mapping[str, int]], machines: Sequence[str]) -> list[str]:
    """What says that ansible did not find every machine as it wants it."""
    missing = [f"{name}: not in the recap" for name in machines if name not in counts]
    bad = ("changed", "unreachable", "failed", "skipped")
    return missing + [f"{name}: {word}={one[word]}" for name, one in counts.items() for word in bad if one.get(word)]


def measure(file: Path) -> None:
    """Prints the rows. Raises Unfit, HaplaneError."""
    design = asyncio.run(applied_design(file))
    install_ansible()
    names = [machine.name for machine in design.cluster.control_plane]
    with tempfile.TemporaryDirectory(prefix="haplane-bench-") as name:
        command, environment = write_play(design, Path(name))

        def ansible() -> Ran:
            # 2 and 4: a task failed, a machine was not reached; the recap says where.
            done = ran([*command, "--check", "--diff"], codes=(0, 2, 4), environment=environment)
            if wrong := changes(recap(done.stdout), names):
                raise Unfit(f"ansible would change something: {', '.join(wrong)}\n{done.stdout}")
            return done

        def plan() -> Ran:
            # Exit code 1 when anything would change: then this ends.
            return haplane("plan", "--exit-code", "--file", str(file))

        version = ran([command[0], "--version"], environment=environment).stdout.splitlines()[0]
        # Once each for what is there from then on: ansible's open connections, compiled Python on both sides.
        ansible()
        plan()
        plans, checks = [], []
        for _ in range(ANSIBLE_RUNS):
            plans += [plan().wall_s for _ in range(HAPLANE_RUNS // ANSIBLE_RUNS)]
            checks.append(ansible().wall_s)
    row("haplane plan", plans, "s")
    row("ansible-playbook --check --diff", checks, "s")
    # Of neighbours in time, so that a slow moment of the host counts on both sides.
    each = len(plans) // len(checks)
    ratios = [check / statistics.median(plans[i * each : (i + 1) * each]) for i, check in enumerate(checks)]
    row("ansible / haplane", ratios, "times", 1)
    files = sum(len(one.files) for name in names for one in design.components(name).values())
    print(f"\n{len(names)} machines, {files} files; {version}; the machines have {PYTHON}.")


def main(file: Path) -> None:
    table("`haplane plan` and `ansible-playbook --check --diff`, nothing changed")
    try:
        measure(file)
    except (Unfit, HaplaneError) as error:
        print(f"\nNot measured: {error}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="haplane plan against ansible-playbook --check --diff")
    parser.add_argument("--file", type=Path, default=Path("cluster.yaml"))
    main(parser.parse_args().file)
