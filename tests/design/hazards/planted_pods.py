"""Planted hazards of the network of pods."""

from __future__ import annotations

from tests.design.hazards.planting import Planted

from haplane.design.hazards import Severity

NODES = "".join(f"  cp{i}: {{address: 192.0.2.1{i}}}\n" for i in (1, 2, 3))


def machines(worker: str = "192.0.2.21", mark: str = "") -> str:
    return f"machines:\n{NODES}  w1: {{address: {worker}, roles: [worker]}}{mark}\n"


def kubernetes(more: str, mark: str = "") -> str:
    return f"kubernetes: {{version: 1.35.4{more}}}{mark}\n"


PODS = (
    Planted(
        "net-pods-apart",
        Severity.ERROR,
        "a worker, and bridges that end at their machine",
        kubernetes(", cni: bridge", " # <-") + machines(),
        "a bridge, and no worker",
        kubernetes(", cni: bridge") + f"machines:\n{NODES}",
    ),
    Planted(
        "net-pods-apart",
        Severity.WARNING,
        "a worker, and no network of haplane's",
        kubernetes("", " # <-") + machines(),
        "a worker, and flannel",
        kubernetes(", cni: flannel") + machines(),
    ),
    Planted(
        "net-pods-apart",
        Severity.WARNING,
        "routes to a worker elsewhere",
        kubernetes(", cni: flannel, flannel: {backend: host-gw}") + machines("198.51.100.21", " # <-"),
        "a worker elsewhere, and wrapped packets",
        kubernetes(", cni: flannel, flannel: {backend: vxlan}") + machines("198.51.100.21"),
    ),
)
