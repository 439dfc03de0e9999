"""Long tests, run by hand with `make soak`."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.lab.conftest import LabUnderTest
from tests.lab.test_cluster import wait_until_whole

pytestmark = pytest.mark.soak


@pytest.mark.timeout(600)
def test_a_gate_that_fails_puts_the_previous_files_back_and_stops(cluster: LabUnderTest) -> None:
    """A machine whose balancer cannot be reached after its change: what was there before is there again."""
    wait_until_whole(cluster)
    holder = cluster.status()["vip"]["holders"][0]
    first, second = (name for name in ("cp1", "cp2", "cp3") if name != holder)
    for name in (first, second):
        cluster.inside(name, "echo '# by hand' >> /etc/haproxy/haproxy.cfg")
    cluster.inside(first, "iptables -I INPUT -p tcp --dport 8443 -j REJECT")
    try:
        done = cluster.haplane("apply", code=3, timeout_s=400)
        assert f"after its change, {first} does not reach the API" in done.stderr
        assert "its previous files were put back and nothing else was changed" in done.stderr
        assert "# by hand" in cluster.inside(first, "cat /etc/haproxy/haproxy.cfg"), "put back"
        assert "# by hand" in cluster.inside(second, "cat /etc/haproxy/haproxy.cfg"), "never reached"
    finally:
        cluster.inside(first, "iptables -D INPUT -p tcp --dport 8443 -j REJECT")
    cluster.haplane("apply")
    assert "# by hand" not in cluster.inside(first, "cat /etc/haproxy/haproxy.cfg")
    wait_until_whole(cluster)


@pytest.mark.timeout(700)
def test_a_drill_that_is_killed_is_healed_by_its_healer(cluster: LabUnderTest) -> None:
    wait_until_whole(cluster)
    drill = cluster.start("drill", "run", "power-off-vip-holder")
    assert drill.stderr is not None
    for line in drill.stderr:
        if "is dark for" in line:
            break
    drill.send_signal(signal.SIGKILL)
    drill.communicate()

    def states() -> set[str]:
        listed = json.loads(cluster.haplane("lab", "status", "--json").stdout)["machines"]
        return {machine["state"] for machine in listed}

    assert states() == {"running", "exited"}
    deadline = time.monotonic() + 240
    while states() != {"running"}:
        assert time.monotonic() < deadline, "the healer never restored the power"
        time.sleep(2)
    wait_until_whole(cluster)
