"""The command line as a user meets it: help, wrong usage, files that are not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from haplane.cli.main import COMMANDS

HAPLANE = str(Path(sys.executable).parent / "haplane")


def haplane(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([HAPLANE, *arguments], capture_output=True, text=True, cwd=cwd, stdin=subprocess.DEVNULL)
    assert "Traceback" not in done.stderr + done.stdout
    return done


def test_help_names_every_command() -> None:
    text = haplane("--help").stdout
    for command, _, _, _ in COMMANDS:
        assert command.split()[0] in text


@pytest.mark.parametrize("command", [command for command, _, _, _ in COMMANDS])
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = haplane(*command.split(), "--help")
    assert done.returncode == 0
    assert "Example: haplane " in done.stdout


@pytest.mark.parametrize(
    "arguments", [["plna"], ["plan", "--nope"], ["lab", "power", "sideways", "cp1"], ["drill", "run"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert haplane(*arguments).returncode == 2


def test_a_missing_file_is_told_with_the_way_on(tmp_path: Path) -> None:
    done = haplane("plan", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no cluster.yaml" in done.stderr
    assert "haplane lab up" in done.stderr


def test_all_errors_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(
        "name: prod\n"
        "kubernetes: {version: 1.30}\n"
        "endpoint: {vip: 192.0.3.100/24}\n"
        "machnes: {}\n"
        "machines:\n"
        "  cp1: {address: 192.0.2.300}\n"
        "  cp2: {address: 192.0.2.12}\n"
        "  cp3: {address: 192.0.2.12}\n"
        "  cp2: {address: 192.0.2.14}\n"
    )
    done = haplane("plan", cwd=tmp_path)
    assert done.returncode == 2
    for place in ("cluster.yaml:2:", "cluster.yaml:4:", "cluster.yaml:6:", "cluster.yaml:9:"):
        assert place in done.stderr
    assert "expected" in done.stderr


def test_a_drill_that_does_not_exist_is_told_which_do(tmp_path: Path) -> None:
    done = haplane("drill", "run", "everything", cwd=tmp_path)
    assert done.returncode == 2
    assert "power-off-vip-holder" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("suite", "--quick", "--matrix"), "at most one can be given"),
        (("suite", "--matrix", "--only", "move-vip"), "at most one can be given"),
        (("run", "move-vip", "--on", "cp2", "--repeat", "2"), "the machine may play another part"),
        (("run", "move-vip", "--ask", "192.0.2.21:30080"), "where: --ask 192.0.2.21:30080"),
        (("run", "move-vip", "--ask", "http://192.0.2.21:300800/"), "no number from 1 to 65535"),
        (("run", "move-vip", "--ask", "http://me:secret@192.0.2.21/"), "where: --ask http://***@192.0.2.21/"),
        (("suite", "--ask", "tcp://192.0.2.21:80", "--ask", "tcp://192.0.2.21:80"), "it is given twice"),
        (("suite", *(f"--ask=tcp://192.0.2.21:{port}" for port in range(1, 10))), "at most 8 are asked"),
        (("chaos", "--ask", "http://192.0.2.21/#top"), "it has a fragment"),
        (("chaos", "--ask", "tcp://192.0.2.21:80", "--ask-failed-at-most", "-1"), "must be at least 0"),
        (("suite", "--ask-failed-at-most", "3"), "needs an --ask"),
    ],
)
def test_drills_that_cannot_be_meant_are_refused(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    done = haplane("drill", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_drill_on_a_machine_that_is_no_node_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(
        "name: prod\nkubernetes: {version: 1.35.4}\nendpoint: {vip: 192.0.2.100/24}\nmachines:\n"
        + "".join(f"  cp{n}: {{address: 192.0.2.1{n}}}\n" for n in (1, 2, 3))
        + "  ops: {address: 192.0.2.9, roles: [client]}\n"
    )
    done = haplane("drill", "run", "move-vip", "--on", "ops", "--yes", "prod", cwd=tmp_path)
    assert done.returncode == 2
    assert "ops is no machine of prod that haplane changes" in done.stderr and "cp1, cp2, cp3" in done.stderr


def test_a_dash_is_standard_output_and_not_an_option(tmp_path: Path) -> None:
    done = haplane("kubeconfig", "--out", "-", cwd=tmp_path)
    assert "there is no cluster.yaml" in done.stderr
