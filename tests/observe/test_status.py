"""The status of a cluster: what is asked of a machine, and what counts as a problem."""

from __future__ import annotations

import pytest
from tests.model.clusters import balanced_by

from haplane.model.cluster import BalancerProgram
from haplane.observe.status import ClusterStatus, MachineStatus, command
from haplane.reports.status import as_json


def status(by: BalancerProgram) -> ClusterStatus:
    """Machines of which nothing is known but that their units run."""
    cluster = balanced_by(by)
    units = dict.fromkeys(("containerd", "kubelet", str(by), "keepalived"), "active")
    return ClusterStatus(cluster, tuple(MachineStatus(name, units=units) for name in cluster.machines))


@pytest.mark.parametrize(("by", "expected"), [(BalancerProgram.HAPROXY, 9), (BalancerProgram.NGINX, 0)])
def test_only_a_balancer_that_knows_who_is_up_can_miss_somebody(by: BalancerProgram, expected: int) -> None:
    missed = [problem for problem in status(by).problems if "its balancer sees" in problem]
    assert len(missed) == expected


@pytest.mark.parametrize(
    ("by", "units"),
    [
        (BalancerProgram.HAPROXY, "containerd kubelet haproxy keepalived"),
        (BalancerProgram.NGINX, "containerd kubelet nginx keepalived"),
        (BalancerProgram.NONE, "containerd kubelet keepalived"),
    ],
)
def test_a_machine_is_asked_about_its_own_units(by: BalancerProgram, units: str) -> None:
    cluster = balanced_by(by)
    asked = command(cluster, cluster.machines["cp1"])
    assert f"for u in {units}; do" in asked
    assert ("socat" in asked) == (by is BalancerProgram.HAPROXY)


def test_the_shape_of_its_json_does_not_depend_on_the_balancer() -> None:
    first, *others = (as_json(status(by))["machines"] for by in BalancerProgram)
    for machines in others:
        assert isinstance(first, list) and isinstance(machines, list)
        assert [machine.keys() for machine in machines] == [machine.keys() for machine in first]
