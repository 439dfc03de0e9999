"""`apply` killed at any point and run again ends in the same cluster.

One cluster is built from nothing while its apply is killed (SIGKILL) again and again, each time at a later point.
"""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.lab.conftest import LabUnderTest, make_lab
from tests.lab.test_cluster import wait_until_whole

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[LabUnderTest]:
    yield from make_lab("kill", "10.79.0.0/24")


def kill_when(lab: LabUnderTest, pattern: str, *, after_s: float = 0.0) -> str:
    """Start an apply, kill it when it says this (and some time has passed); returns all it had said."""
    process = lab.start("apply")
    assert process.stderr is not None
    said: list[str] = []
    # Whatever happens, it does not run for ever.
    guard = threading.Timer(300, process.kill)
    guard.start()
    try:
        for line in process.stderr:
            said.append(line)
            if re.search(pattern, line):
                time.sleep(after_s)
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
    finally:
        guard.cancel()
    text = "".join(said)
    assert process.returncode == -signal.SIGKILL, f"it never said {pattern!r}, or ended before it was killed:\n{text}"
    return text


def wait_until_said(process: subprocess.Popen[str], what: str) -> None:
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if what in line:
            return
    pytest.fail(f"it never said {what!r}:\n{''.join(said)}")


def etcd_members(lab: LabUnderTest, machine: str) -> list[str]:
    client = "/etc/kubernetes/pki/etcd/healthcheck-client"
    command = f"etcdctl --cacert /etc/kubernetes/pki/etcd/ca.crt --cert {client}.crt --key {client}.key member list"
    return sorted(line.split(", ")[2] for line in lab.inside(machine, command).splitlines())


def authorities(lab: LabUnderTest) -> set[str]:
    return {
        lab.inside(name, "cat /etc/kubernetes/pki/ca.crt 2>/dev/null", check=False) for name in ("cp1", "cp2", "cp3")
    }


BEFORE_THE_CLUSTER = (
    ("while the bundle is sent", r"cp2: send Kubernetes", 0.3),
    ("while the operating system is prepared", r"cp1: write /etc/modules-load.d", 0.0),
    ("between the write of a file and the start of its daemon", r"cp3: restart containerd", 0.0),
    ("while the authority is made", r"cp1: create the CA", 0.1),
    ("between the authority and the balancers", r"write /etc/haproxy/haplane-ca.crt", 0.0),
    ("while the VIP is started", r"cp2: start keepalived", 0.0),
    ("while images are loaded", r"cp1: load the container images", 1.0),
    ("inside kubeadm init, early", r"cp1: kubeadm init", 1.0),
)


@pytest.mark.timeout(1200)
def test_apply_killed_at_every_stage_ends_in_one_whole_cluster(lab: LabUnderTest) -> None:
    for what, pattern, after_s in BEFORE_THE_CLUSTER:
        print(f"kill: {what}")
        kill_when(lab, pattern, after_s=after_s)

    # The job goes on without haplane: the next apply waits for it instead of starting another init.
    print("kill: in the join, just begun")
    kill_when(lab, r"kubeadm join", after_s=0.3)
    first = lab.inside("cp1", "cat /etc/kubernetes/pki/ca.crt")
    assert first

    print("kill: between two joins")
    process = lab.start("apply")
    deadline = time.monotonic() + 180
    while True:
        done = [
            lab.inside(name, "cat /var/lib/haplane/membership", check=False)[:4] == "done" for name in ("cp2", "cp3")
        ]
        if any(done):
            break
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.kill()
    process.communicate()

    lab.haplane("apply", timeout_s=400)
    wait_until_whole(lab)
    assert authorities(lab) == {first}, "every kill ended in the same cluster"
    assert etcd_members(lab, "cp1") == ["cp1", "cp2", "cp3"]
    assert "nothing to do" in lab.haplane("apply").stdout


# Stands before the real one in PATH: the restart that should follow the rename never happens.
DYING_SYSTEMCTL = """\
#!/bin/sh
case "$*" in *"restart containerd"*) sleep 3; kill -KILL $PPID; exit 1;; esac
exec /usr/bin/systemctl "$@"
"""


@pytest.mark.timeout(300)
def test_a_death_between_rename_and_reload_is_seen_and_mended(lab: LabUnderTest) -> None:
    """The files are as the design says, yet the daemon has not loaded them: looking at files alone would miss it."""
    first = lab.status()["vip"]["holders"][0]
    name = next(name for name in ("cp1", "cp2", "cp3") if name != first)  # BACKUPs are changed first
    lab.edit("  disable_apparmor: true", "  disable_apparmor: true\n  max_container_log_line_size: 5000")
    lab.inside(
        name, f"cat > /usr/local/bin/systemctl <<'END'\n{DYING_SYSTEMCTL}END\nchmod 755 /usr/local/bin/systemctl"
    )
    kill_when(lab, rf"{name}: restart containerd", after_s=1)
    time.sleep(3)  # until the shell on the machine is dead too
    lab.inside(name, "rm /usr/local/bin/systemctl")

    assert "max_container_log_line_size = 5000" in lab.inside(name, "cat /etc/containerd/config.toml")
    plan = lab.haplane("plan").stdout
    assert f"{name}: restart containerd" in plan
    assert f"{name}: write" not in plan
    before = lab.inside(name, "systemctl show -p ActiveEnterTimestampMonotonic --value containerd")
    lab.haplane("apply")
    assert lab.inside(name, "systemctl show -p ActiveEnterTimestampMonotonic --value containerd") != before
    assert "nothing to do" in lab.haplane("apply").stdout
    wait_until_whole(lab)


@pytest.mark.timeout(700)
def test_an_apply_killed_while_static_pods_are_replaced_is_completed_by_the_next(lab: LabUnderTest) -> None:
    """The job on the machine goes on alone; that no client is sent there meanwhile is ended by the next apply."""
    lab.file.write_text(lab.file.read_text() + "etcd: {heartbeat: 60ms, election: 600ms}\n")
    kill_when(lab, r"replace the static pods", after_s=5)
    lab.haplane("apply", timeout_s=500)
    wait_until_whole(lab)
    for name in ("cp1", "cp2", "cp3"):
        assert "--election-timeout=600" in lab.inside(name, "tr '\\0' '\\n' < /proc/$(pidof etcd)/cmdline")
    assert "nothing to do" in lab.haplane("apply").stdout


@pytest.mark.timeout(900)
def test_ctrl_c_and_then_a_power_cut_inside_a_join_are_completed_by_the_next(lab: LabUnderTest) -> None:
    """A power cut ends kubeadm, as haplane's death does not: what it left is undone, in etcd too, and it joins anew."""
    lab.haplane("reset", "--yes", timeout_s=300)
    process = lab.start("apply")
    wait_until_said(process, "cp1: kubeadm init")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "cp1: kubeadm init" in err
    assert "running the same command again completes it" in err

    process = lab.start("apply")
    wait_until_said(process, "cp3: kubeadm join")
    time.sleep(6)
    lab.haplane("lab", "power", "off", "cp3")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    lab.haplane("lab", "power", "on", "cp3")
    assert "begun join" in lab.inside("cp3", "cat /var/lib/haplane/membership")
    lab.haplane("apply", timeout_s=400)
    wait_until_whole(lab)
    assert etcd_members(lab, "cp1") == ["cp1", "cp2", "cp3"]


def test_reset_leaves_nothing_behind_that_an_apply_would_trip_over(lab: LabUnderTest) -> None:
    lab.haplane("reset", "--yes", timeout_s=300)
    for name in ("cp1", "cp2", "cp3"):
        assert (
            lab.inside(
                name,
                "ls -d /var/lib/etcd/member /etc/kubernetes/manifests /etc/kubernetes/pki 2>/dev/null",
                check=False,
            )
            == ""
        )
        assert "10.79.0.100" not in lab.inside(name, "ip -o addr")
    asked = "curl -sk --max-time 2 https://10.79.0.100:8443/readyz || echo nobody"
    assert lab.inside("client", asked) == "nobody"
