"""Labs of real machines for tests. They leave none behind."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TextIO

import pytest

# Of every lab that these tests make, and of no other.
PREFIX = "tests-"
LOCK = Path("/run/lock/haplane-lab-tests")
HAPLANE = str(Path(sys.executable).parent / "haplane")


@dataclass(frozen=True)
class LabUnderTest:
    """One lab, driven by the command line as a user would."""

    file: Path
    name: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [HAPLANE, *arguments, "--file", str(self.file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever runs the tests in the background may have had Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def haplane(
        self, *arguments: str, code: int | None = 0, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [HAPLANE, *arguments, "--file", str(self.file)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if code is not None:
            assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def inside(self, machine: str, script: str, *, check: bool = True) -> str:
        """Run a script in a machine, past haplane: for looking, and for breaking things."""
        command = ["podman", "exec", f"haplane-{self.name}-{machine}", "sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if check:
            assert done.returncode == 0, f"{machine}: {script}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def status(self) -> dict[str, object]:
        return json.loads(self.haplane("status", "--json", code=None).stdout)

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new, 1))


@cache
def alone() -> TextIO:
    """No other run of these tests goes on beside this one, and what a killed one left is gone.

    Two labs on two processors slow each other down until timers mean nothing. The lock lasts as long as this process.
    """
    lock = LOCK.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pytest.fail(f"another run of the lab tests goes on on this host (it holds {LOCK})")
    for kind, remove in (("container", ["rm", "--force", "--volumes", "--time", "0"]), ("network", ["rm", "--force"])):
        listed = ["podman", kind, "ls", "--quiet", "--filter", f"name=^haplane-{PREFIX}"]
        if kind == "container":
            listed.append("--all")
        left = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
        if left:
            subprocess.run(["podman", kind, *remove, *left], check=True, capture_output=True)
    return lock


def make_lab(name: str, subnet: str, *, arguments: Sequence[str] = ()) -> Iterator[LabUnderTest]:
    if os.geteuid() != 0:
        pytest.fail("the lab tests need root")
    alone()
    name = PREFIX + name
    with tempfile.TemporaryDirectory(prefix=f"haplane-{name}-") as folder:
        lab = LabUnderTest(Path(folder) / "cluster.yaml", name)
        try:
            lab.haplane("lab", "up", "--name", name, "--subnet", subnet, *arguments, timeout_s=1200)
            # Minutes on a machine that never had it; the tests' own times do not include it.
            lab.haplane("bundle", "build", timeout_s=3600)
            yield lab
        finally:
            subprocess.run([HAPLANE, "lab", "down", "--file", str(lab.file)], timeout=120, check=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabUnderTest]:
    """Three Ready nodes and a client, shared by the tests of a module; each leaves it whole."""
    for lab in make_lab("three", "10.78.0.0/24"):
        lab.haplane("apply")
        yield lab
