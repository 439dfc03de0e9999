"""The command line as a user meets it: help, wrong usage, files that are not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.drills.planted import FAULT, planted

from haplane.cli.main import COMMANDS
from haplane.drills import judging
from haplane.drills.catalogue import find
from haplane.probes.history import to_line

HAPLANE = str(Path(sys.executable).parent / "haplane")


THREE_NODES = (
    "name: prod\nkubernetes: {version: 1.35.4}\nendpoint: {vip: 192.0.2.100/24}\nmachines:\n"
    + "".join(f"  cp{n}: {{address: 192.0.2.1{n}}}\n" for n in (1, 2, 3))
    + "  ops: {address: 192.0.2.9, roles: [client]}\n"
)


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
        (("run", "move-vip", "--waiting", "-1"), "--waiting must be 0 to 1000"),
        (("run", "move-vip", "--waiting", "1001"), "leave it out for 50"),
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
    (tmp_path / "cluster.yaml").write_text(THREE_NODES)
    done = haplane("drill", "run", "move-vip", "--on", "ops", "--yes", "prod", cwd=tmp_path)
    assert done.returncode == 2
    assert "ops is no machine of prod that haplane changes" in done.stderr and "cp1, cp2, cp3" in done.stderr


def test_a_dash_is_standard_output_and_not_an_option(tmp_path: Path) -> None:
    done = haplane("kubeconfig", "--out", "-", cwd=tmp_path)
    assert "there is no cluster.yaml" in done.stderr


def test_saved_histories_are_judged_again_those_of_one_drill_together(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(THREE_NODES)
    runs = (("power-off-vip-holder", 0.1), ("apiserver-kill", 0.0), ("power-off-vip-holder", 5.0))
    for number, (drill, lasts_s) in enumerate(runs):
        history = planted(outage=(0.0, lasts_s)).with_events([judging.named(FAULT, find(drill), "cp1")])
        (tmp_path / f"{number}.jsonl").write_text("".join(f"{to_line(event)}\n" for event in history.events))
    names = [f"{number}.jsonl" for number in range(len(runs))]
    done = haplane("drill", "check", *names, "--json", cwd=tmp_path)
    assert done.returncode == 1, "one of them is violated"
    decoder, text, reports = json.JSONDecoder(), done.stdout, []
    while text.strip():
        report, end = decoder.raw_decode(text.lstrip())
        reports.append(report)
        text = text.lstrip()[end:]
    assert [(report["drill"], len(report["runs"])) for report in reports] == [(runs[0][0], 2), (runs[1][0], 1)]
    assert reports[0]["measured"]["longest_gap_s"]["max"] >= 5.0
    (tmp_path / "quiet.jsonl").write_text("".join(f"{to_line(event)}\n" for event in planted(marks=()).events))
    shown = haplane("drill", "check", "quiet.jsonl", *names, cwd=tmp_path).stdout
    assert "run 2: violated" in shown and "apiserver-kill:" in shown
    done = haplane("drill", "check", "quiet.jsonl", cwd=tmp_path)
    assert done.returncode == 3 and "nothing was broken in it" in done.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"name: prod\nversion: 1\n", "this is no history of a drill"),
        (b'{\n  "version": 1\n}\n', "this is no history of a drill"),
        (b"\x7fELF\xd0\x00", "this is no history of a drill"),
        (b"", "does not say which drill it is of"),
        (b'{"probe": "dns"}\n', "saved:1:1: probe: is 'dns'"),
    ],
)
def test_a_file_that_is_no_history_is_told_once(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "cluster.yaml").write_text(THREE_NODES)
    (tmp_path / "saved").write_bytes(content)
    done = haplane("drill", "check", "saved", cwd=tmp_path)
    assert done.returncode in (2, 3)
    assert done.stderr.count("error: ") == 1 and told in done.stderr and "saved" in done.stderr
