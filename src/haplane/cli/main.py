"""The command line. Commands are imported only when they run, so that --help is quick."""

from __future__ import annotations

import sys

from cyclopts import App

from haplane import __version__
from haplane.model.errors import ExitCode, HaplaneError

app = App(
    name="haplane",
    version=__version__,
    help="Highly available Kubernetes control planes on ordinary machines, proven by breaking them on purpose.",
    version_flags=["--version"],
    result_action="return_value",
)
app.command("haplane.cli.cluster:plan")
app.command("haplane.cli.cluster:apply")
app.command("haplane.cli.cluster:status")
app.command("haplane.cli.cluster:kubeconfig")
app.command("haplane.cli.cluster:reset")

lab = App(name="lab", help="Machines as containers on this host: a place to learn and to test.")
lab.command("haplane.cli.lab:up")
lab.command("haplane.cli.lab:down")
lab.command("haplane.cli.lab:status")
lab.command("haplane.cli.lab:shell")
lab.command("haplane.cli.lab:power")
app.command(lab)

bundle = App(name="bundle", help="Kubernetes' programs and images for one version: build, verify, export.")
bundle.command("haplane.cli.bundle:build")
bundle.command("haplane.cli.bundle:verify")
bundle.command("haplane.cli.bundle:export")
app.command(bundle)

drill = App(name="drill", help="Break something on purpose, under load, and judge what clients saw.")
drill.command("haplane.cli.drill:list_drills", name="list")
drill.command("haplane.cli.drill:run")
drill.command("haplane.cli.drill:check")
app.command(drill)

app.command("haplane.cli.demo:demo")


def main() -> None:
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(arguments)
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
