"""What tells keepalived that a balancer has ended: the program itself, on real processes, and where it runs."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.model.clusters import balanced_by, three_nodes, view

from haplane.components import balancer_watch, keepalived
from haplane.components.balancer import balancer_of
from haplane.model.cluster import BalancerProgram, Cluster, Failover

WAIT_S = 10


@dataclass
class Watched:
    """A folder with a program of the balancer's name, its PID file, and the file that keepalived would follow."""

    folder: Path
    processes: list[subprocess.Popen[bytes]]

    def start(self, name: str = "haproxy") -> subprocess.Popen[bytes]:
        program = self.folder / name
        if not program.exists():
            shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
        process = subprocess.Popen([program, "60"])
        self.processes.append(process)
        # Until then it is still called as its parent is.
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text().strip(), name)
        (self.folder / "pid").write_text(f"{process.pid}\n")
        return process

    def watch(self) -> subprocess.Popen[bytes]:
        program = self.folder / "watch-balancer"
        program.write_text(balancer_watch.WATCH)
        program.chmod(0o755)
        arguments = (self.folder / "pid", "haproxy", self.folder / "gone")
        process = subprocess.Popen([program, *arguments], stderr=subprocess.PIPE)
        self.processes.append(process)
        return process

    def says(self) -> str:
        file = self.folder / "gone"
        return file.read_text().strip() if file.exists() else ""


def until(ask: Callable[[], object], answer: object) -> None:
    ends = time.monotonic() + WAIT_S
    while (said := ask()) != answer:
        assert time.monotonic() < ends, f"{said!r}, not {answer!r}, for {WAIT_S} s"
        time.sleep(0.01)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    one = Watched(tmp_path, [])
    yield one
    for process in one.processes:
        process.kill()
        process.wait()


def test_it_says_that_a_process_runs_has_ended_and_runs_again(watched: Watched) -> None:
    first = watched.start()
    watched.watch()
    until(watched.says, "0")
    first.kill()
    first.wait()
    until(watched.says, "1")
    watched.start()
    until(watched.says, "0")


def test_one_that_is_dead_and_not_yet_reaped_has_ended(watched: Watched) -> None:
    process = watched.start()
    watched.watch()
    until(watched.says, "0")
    process.kill()
    until(watched.says, "1")
    time.sleep(0.5)
    assert process.returncode is None, "it must not have been waited for"
    assert watched.says() == "1"


def test_one_that_hangs_has_not_ended(watched: Watched) -> None:
    process = watched.start()
    watched.watch()
    until(watched.says, "0")
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    assert watched.says() == "0"


@pytest.mark.parametrize("pid_file", [None, "", "none\n", "0\n", "999999999999\n"])
def test_without_a_process_it_says_so_and_goes_on(watched: Watched, pid_file: str | None) -> None:
    if pid_file is not None:
        (watched.folder / "pid").write_text(pid_file)
    program = watched.watch()
    until(watched.says, "1")
    time.sleep(0.3)
    assert program.poll() is None
    watched.start()
    until(watched.says, "0")


def test_somebody_else_with_the_number_is_not_the_balancer(watched: Watched) -> None:
    watched.start(name="other")
    program = watched.watch()
    until(watched.says, "1")
    assert program.poll() is None


def test_where_it_cannot_write_it_ends_and_says_where(watched: Watched) -> None:
    (watched.folder / "gone").mkdir()
    program = watched.watch()
    assert program.wait(WAIT_S) != 0
    assert program.stderr is not None
    assert str(watched.folder / "gone") in program.stderr.read().decode()
    program.stderr.close()


# ---- where it runs ----


def files(cluster: Cluster) -> dict[str, str]:
    return {file.path: file.content for file in keepalived.design(view(cluster, "cp1")).files}


def test_keepalived_follows_both_what_it_writes_and_what_haproxys_unit_writes() -> None:
    found, balancer = files(three_nodes()), balancer_of(three_nodes())
    assert balancer
    assert balancer.gone_file != balancer.down_file
    for file in (balancer.gone_file, balancer.down_file):
        assert f"  file {file}\n" in found[keepalived.CONFIG_FILE]
    called = f"{balancer_watch.WATCH_FILE} {balancer_watch.PID_FILE} haproxy {balancer.gone_file}\n"
    assert f"ExecStart={called}" in found[balancer_watch.UNIT_FILE]


@pytest.mark.parametrize(
    "cluster",
    [
        balanced_by(BalancerProgram.NONE),
        balanced_by(BalancerProgram.NGINX),
        replace(three_nodes(), failover=Failover(tell_clients=False)),
    ],
)
def test_where_clients_are_not_told_there_is_none_and_one_from_before_is_stopped(cluster: Cluster) -> None:
    """The ends of their connections have to leave before the VIP does."""
    found = files(cluster)
    assert not {balancer_watch.WATCH_FILE, balancer_watch.UNIT_FILE} & found.keys()
    assert "-gone" not in found[keepalived.CONFIG_FILE]
    assert balancer_watch.STOP in keepalived.design(view(cluster, "cp1")).load.command


def test_it_is_started_anew_when_keepalived_takes_new_files() -> None:
    design = keepalived.design(view(three_nodes(), "cp1"))
    for load in (design.load, design.start, design.restart):
        assert load
        lines = load.command.splitlines()
        assert lines.index(f"systemctl restart {balancer_watch.UNIT_NAME}") < len(lines) - 1
        assert lines[0] == "systemctl daemon-reload"
