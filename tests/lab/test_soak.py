"""Long tests, run by hand with `make soak`."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time

import pytest

from tests.lab.conftest import LabUnderTest
from tests.lab.test_cluster import wait_until_whole

pytestmark = pytest.mark.soak


# One drill of each kind of fault, and what its line says once it is broken.
ON_MACHINES = (
    "haproxy-hang",
    "keepalived-death",
    "kubelet-crash-loop",
    "apiserver-hang",
    "etcd-leader-death",
    "cut-vip-holder",
    "flapping-vip-holder",
    "late-vip-holder",
    "busy-vip-holder",
    "memory-short",
    "haproxy-descriptors",
    "etcd-disk-full",
    "etcd-disk-slow",
    "etcd-disk-hang",
)
FROM_OUTSIDE = ("power-off-vip-holder", "freeze-vip-holder", "shutdown-vip-holder")
LEFT_BEHIND = r"""
systemctl is-active --quiet haplane-drill && echo "what keeps the fault up runs"
systemctl is-active --quiet haplane-heal.timer haplane-heal.service && echo "the healer is armed"
nft list table netdev haplane_drill >/dev/null 2>&1 && echo "packets are dropped"
ls /run/systemd/system/*.d/zz-haplane-drill.conf /run/systemd/system.control/haplane.slice.d/* /run/haplane-drill* \
  /run/haplane_drill* /var/lib/etcd/haplane-drill* 2>/dev/null
ps -eo state=,comm= | grep "^T" && echo "stands still"
ip rule | grep -E "^707[67]:"
for pid in $(pidof haproxy); do
  [ "$(prlimit --pid $pid --nofile --output SOFT --noheadings)" -gt 1000 ] || echo "may open no files"
done
timeout 3 sh -c 'echo > /var/lib/etcd/written && rm /var/lib/etcd/written' || echo "the disk of etcd takes nothing"
"""


def broken(lab: LabUnderTest, name: str) -> tuple[subprocess.Popen[str], str]:
    """A drill that has just broken something, and the machine."""
    wait_until_whole(lab)
    drill = lab.start("drill", "run", name)
    assert drill.stderr is not None
    for line in drill.stderr:
        if found := re.search(r"drill: (\S+) is (?:dark|left so) for", line):
            return drill, found[1]
    raise AssertionError(f"{name} broke nothing")


def left_behind(lab: LabUnderTest, machine: str) -> str:
    return lab.inside(machine, LEFT_BEHIND, check=False).strip()


def wait_until_healed(lab: LabUnderTest, machine: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while True:
        states = {
            one["name"]: one["state"] for one in json.loads(lab.haplane("lab", "status", "--json").stdout)["machines"]
        }
        left = f"{machine} is {states[machine]}" if states[machine] != "running" else left_behind(lab, machine)
        if not left:
            break
        assert time.monotonic() < deadline, left
        time.sleep(2)
    # A machine that is still shutting down looks healed: then its healer is waited for here.
    wait_until_whole(lab, within_s=180 + within_s)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", (*ON_MACHINES, *FROM_OUTSIDE))
def test_an_interrupted_drill_heals_at_once(cluster: LabUnderTest, name: str) -> None:
    drill, machine = broken(cluster, name)
    drill.send_signal(signal.SIGINT)
    _, err = drill.communicate(timeout=120)
    assert drill.returncode == 130, err
    wait_until_healed(cluster, machine, within_s=5)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", (*ON_MACHINES, *FROM_OUTSIDE))
def test_a_drill_that_is_killed_is_healed_by_its_healer(cluster: LabUnderTest, name: str) -> None:
    drill, machine = broken(cluster, name)
    drill.send_signal(signal.SIGKILL)
    drill.communicate()
    # A process of this host's gives the commands of `power` their time first.
    wait_until_healed(cluster, machine, within_s=320 if name in FROM_OUTSIDE else 80)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ON_MACHINES)
def test_a_drill_that_lost_its_connection_is_healed_by_the_machine(cluster: LabUnderTest, name: str) -> None:
    drill, machine = broken(cluster, name)
    cluster.inside(machine, "ss --kill --tcp state established '( sport = :22 )' > /dev/null")
    _, err = drill.communicate(timeout=300)
    assert drill.returncode in (0, 1, 4), err
    wait_until_healed(cluster, machine, within_s=5)
