"""The command line. Commands are imported only when they run, so that --help is quick."""

from __future__ import annotations

import gc
import sys

from cyclopts import App, CycloptsError

from haplane import __version__
from haplane.model.errors import ExitCode, HaplaneError

app = App(
    name="haplane",
    version=__version__,
    help="Highly available Kubernetes control planes on ordinary machines, proven by breaking them on purpose.",
    version_flags=["--version"],
    result_action="return_value",
)
# Command, where it is, what it does, an example.
COMMANDS = (
    (
        "init",
        "haplane.cli.design:init",
        "Write a commented cluster.yaml; what is not given as an option is asked for.",
        "haplane init --name prod --vip 192.0.2.100/24 --machine cp1=192.0.2.11 --machine cp2=192.0.2.12 "
        "--machine cp3=192.0.2.13",
    ),
    (
        "lint",
        "haplane.cli.design:lint",
        "Look for hazards that the file alone shows: known ways to lose availability.",
        "haplane lint cluster.yaml",
    ),
    (
        "design",
        "haplane.cli.design:design",
        "Show the topology, what was derived and why, the outage each fault may cost, and what may be lost.",
        "haplane design cluster.yaml --what-if cp1,rack-b",
    ),
    (
        "render",
        "haplane.cli.design:render",
        "Write all files of all machines as apply would, for review.",
        "haplane render rendered/ --file cluster.yaml",
    ),
    (
        "hazards",
        "haplane.cli.design:hazards",
        "Show the catalogue of all hazards.",
        "haplane hazards",
    ),
    (
        "schema",
        "haplane.cli.design:schema",
        "Print the JSON Schema of cluster.yaml, for editors.",
        "haplane schema > cluster.schema.json",
    ),
    (
        "preflight",
        "haplane.cli.cluster:preflight",
        "Look at the machines before anything is changed, and measure what the timers are solved from.",
        "haplane preflight --file cluster.yaml",
    ),
    (
        "plan",
        "haplane.cli.cluster:plan",
        "Show what apply would do now: every command as a sentence, every file as a diff.",
        "haplane plan --file lab/cluster.yaml",
    ),
    (
        "apply",
        "haplane.cli.cluster:apply",
        "Bring the machines to what the file says. Can be interrupted at any moment and run again.",
        "haplane apply --file lab/cluster.yaml",
    ),
    (
        "status",
        "haplane.cli.cluster:status",
        "Show the cluster as every machine sees it: VIP, balancers, apiservers, etcd, leases.",
        "haplane status --file lab/cluster.yaml",
    ),
    (
        "kubeconfig",
        "haplane.cli.cluster:kubeconfig",
        "Write a kubeconfig for administrators that goes through the endpoint.",
        "haplane kubeconfig --out admin.conf && kubectl --kubeconfig admin.conf get nodes",
    ),
    (
        "reset",
        "haplane.cli.cluster:reset",
        "Take the cluster off its machines.",
        "haplane reset --file lab/cluster.yaml --yes",
    ),
    (
        "lab up",
        "haplane.cli.lab:up",
        "Make the lab's machines, and its cluster.yaml unless it is there.",
        "haplane lab up --file lab/cluster.yaml",
    ),
    (
        "lab down",
        "haplane.cli.lab:down",
        "Remove the lab's machines and their disks; the files and keys stay.",
        "haplane lab down --file lab/cluster.yaml",
    ),
    (
        "lab status",
        "haplane.cli.lab:status",
        "Show the lab's machines as podman sees them.",
        "haplane lab status",
    ),
    (
        "lab shell",
        "haplane.cli.lab:shell",
        "Open a root shell on a machine of the lab.",
        "haplane lab shell cp1",
    ),
    (
        "lab power",
        "haplane.cli.lab:power",
        "Cut or restore a machine's power.",
        "haplane lab power off cp1",
    ),
    (
        "bundle build",
        "haplane.cli.bundle:build",
        "Get the programs and images: from the cache, or the first source that works.",
        "haplane bundle build --file lab/cluster.yaml",
    ),
    (
        "bundle verify",
        "haplane.cli.bundle:verify",
        "Hash every file of the cached bundle and compare it with its manifest.",
        "haplane bundle verify --file lab/cluster.yaml",
    ),
    (
        "bundle export",
        "haplane.cli.bundle:export",
        "Copy the cached bundle to a folder, for a host without a network.",
        "haplane bundle export /media/usb/kubernetes --file lab/cluster.yaml",
    ),
    (
        "drill list",
        "haplane.cli.drill:list_drills",
        "Show the drills: what each breaks, and the outage that the design allows.",
        "haplane drill list --file lab/cluster.yaml",
    ),
    (
        "drill run",
        "haplane.cli.drill:run",
        "Run a drill: probe, break, heal, measure, judge.",
        "haplane drill run power-off-vip-holder --file lab/cluster.yaml --ask http://192.0.2.21:30080/health",
    ),
    (
        "drill suite",
        "haplane.cli.drill:suite",
        "Run one drill after the other, and write a report.",
        "haplane drill suite --quick --file lab/cluster.yaml",
    ),
    (
        "drill chaos",
        "haplane.cli.drill:chaos",
        "Run drills in a random order for some minutes.",
        "haplane drill chaos --seed 7 --minutes 10 --file lab/cluster.yaml",
    ),
    (
        "drill check",
        "haplane.cli.drill:check",
        "Judge saved histories again, without a cluster.",
        "haplane drill check lab/drills/power-off-vip-holder-20260101T120000.jsonl --file lab/cluster.yaml",
    ),
    (
        "demo",
        "haplane.cli.demo:demo",
        "Build an HA control plane of real machines on this host, and cut the power of the VIP's holder.",
        "haplane demo",
    ),
)
GROUPS = {
    "lab": "Machines as containers on this host: a place to learn and to test.",
    "bundle": "Kubernetes' programs and images for one version: build, verify, export.",
    "drill": "Break something on purpose, under load, and judge what clients saw.",
}


def _register() -> None:
    groups = {name: App(name=name, help=help_text) for name, help_text in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for words, place, help_text, example in COMMANDS:
        *group_name, name = words.split()
        target = groups[group_name[0]] if group_name else app
        target.command(place, name=name, help=f"{help_text}\n\nExample: `{example}`")


_register()


def main() -> None:
    # A command begins with thousands of objects that stay; to look through them for garbage takes a tenth of its time.
    gc.set_threshold(100_000)
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(arguments, exit_on_error=False)
    except CycloptsError:
        # It has been printed, with the usage.
        code = int(ExitCode.USAGE)
    except HaplaneError as error:
        if debug:
            raise
        from haplane.cli.session import fail

        code = fail(error)
    except KeyboardInterrupt:
        code = int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        sys.stderr.close()
        code = 0
    except Exception as error:
        if debug:
            raise
        from haplane.cli.session import fail

        code = fail(
            HaplaneError(
                "haplane itself is at fault",
                why=f"{type(error).__name__}: {error}",
                hint="run it again with --debug and report what it prints",
            )
        )
    sys.exit(code if isinstance(code, int) else 0)
