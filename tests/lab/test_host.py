"""What is missing on this host is said before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from haplane.lab import host
from haplane.model.errors import ExitCode, UsageError
from haplane.model.progress import Silent


def test_everything_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(host, "PROGRAMS", {"no-such-podman": "podman", "no-such-runc": "runc"})
    with pytest.raises(UsageError) as caught:
        host.check_host()
    assert caught.value.exit_code is ExitCode.USAGE
    assert "not root" in caught.value.why
    assert "sudo" in caught.value.hint
    assert "apt-get install --no-install-recommends podman runc" in caught.value.hint


def limits(folder: Path, instances: int) -> Path:
    (folder / "max_user_instances").write_text(f"{instances}\n")
    (folder / "max_user_watches").write_text("1048576\n")
    return folder


def test_too_few_inotify_instances_are_raised(tmp_path: Path) -> None:
    host.raise_limits(Silent(), files=limits(tmp_path, 128))
    assert (tmp_path / "max_user_instances").read_text() == "1024"


def test_limits_that_are_high_enough_stay(tmp_path: Path) -> None:
    host.raise_limits(Silent(), files=limits(tmp_path, 8192))
    assert (tmp_path / "max_user_instances").read_text() == "8192\n"
    assert (tmp_path / "max_user_watches").read_text() == "1048576\n"


def test_machines_get_real_time_where_it_is_shared_out(tmp_path: Path) -> None:
    shared = tmp_path / "libpod_parent" / "cpu.rt_runtime_us"
    assert host.real_time_us(shared) == 0, "control groups have no shares here"
    (tmp_path / shared.name).write_text("950000\n")
    shared.parent.mkdir()
    shared.write_text("0\n")
    assert host.real_time_us(shared) == host.REAL_TIME_EACH_US
    assert shared.read_text() == str(host.REAL_TIME_US)


def test_a_host_that_gives_no_real_time_has_a_lab_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "cpu.rt_runtime_us").write_text("950000\n")
    assert host.real_time_us(tmp_path / "libpod_parent" / "cpu.rt_runtime_us") == 0


def test_machines_are_not_outweighed_by_one_process_of_the_host(tmp_path: Path) -> None:
    shares = tmp_path / "libpod_parent" / "cpu.shares"
    host.give_processors(shares)
    assert not shares.parent.exists(), "no control groups of this kind here"
    (tmp_path / shares.name).write_text("1024\n")
    host.give_processors(shares)
    assert shares.parent.is_dir(), "a host that has none of its own takes it from podman, or not at all"
    shares.write_text("1024\n")
    host.give_processors(shares)
    assert shares.read_text() == str(host.SHARES_OF_MACHINES)
    shares.write_text("20000\n")
    host.give_processors(shares)
    assert shares.read_text() == "20000\n", "somebody gave more"
