"""Long tests, run by hand with `make soak`."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.lab.conftest import LabUnderTest
from tests.lab.test_cluster import wait_until_whole

pytestmark = pytest.mark.soak


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
