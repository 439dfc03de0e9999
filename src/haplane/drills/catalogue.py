"""Every drill: what it breaks, where, for how long, and which budget it is held against. Pure."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

from haplane.design.budget import Budget, budgets, power_off_vip_holder
from haplane.design.design import Design
from haplane.design.link import Link
from haplane.drills import faults
from haplane.drills.faults import Make
from haplane.drills.targets import Who
from haplane.model.errors import UsageError

RATE = 50.0
LASTS_S = 8.0
CUT_POWER = None
# Nothing of the design's ends it, or it is not known what does: what clients see is measured.
NO_BUDGET = "unbounded"


@dataclass(frozen=True)
class Drill:
    """make: CUT_POWER, or what makes the fault for a machine. budget: the fault's name in the design's budgets.

    moves_vip: whether the VIP has to move, must not, or may (None). failed_at_most: requests not served, at RATE per
    second. requests_wait: whether the budget is of requests; else of what no client asks for. isolates: nobody reaches
    the machine meanwhile. quick: part of the quick suite.
    """

    name: str
    sentence: str
    who: Who
    make: Make | None
    budget: str
    requests_wait: bool = True
    moves_vip: bool | None = False
    failed_at_most: int = 4
    lasts_s: float = LASTS_S
    isolates: bool = False
    quick: bool = False

    @property
    def cuts_power(self) -> bool:
        return self.make is None

    def has_meaning(self, design: Design) -> bool:
        """Is there anything of this kind in the design?"""
        return self.budget in {NO_BUDGET, *(one.fault for one in budgets(design))}

    def budget_of(self, design: Design, machine: str) -> Budget:
        """What this design allows, at the rate at which a drill asks. Raises UsageError where it has none."""
        if self.budget == "power-off-vip-holder":
            return power_off_vip_holder(design, machine, request_interval_s=1 / RATE)
        if self.budget == NO_BUDGET:
            because = "nothing of the design's ends it; what clients see is measured"
            return Budget(self.name, (Link("until healed", 0.0, math.inf, because),), self.sentence)
        found = {one.fault: one for one in budgets(design, request_interval_s=1 / RATE)}
        if self.budget not in found:
            raise UsageError(f"{self.name} has no meaning in this design", where=design.cluster.file)
        return found[self.budget]


DRILLS: tuple[Drill, ...] = (
    Drill(
        "power-off-vip-holder",
        "cut the power of the machine that holds the VIP, silently, and restore it",
        Who.VIP_HOLDER,
        CUT_POWER,
        "power-off-vip-holder",
        moves_vip=True,
        quick=True,
    ),
    Drill(
        "power-off-backup",
        "cut the power of a control-plane node that does not hold the VIP",
        Who.BACKUP,
        CUT_POWER,
        "power-off-control-plane-node",
        quick=True,
    ),
    Drill(
        "power-off-etcd-leader",
        "cut the power of the machine of etcd's leader",
        Who.ETCD_LEADER,
        CUT_POWER,
        "power-off-vip-holder",
        moves_vip=None,
    ),
    Drill(
        "haproxy-death",
        "kill HAProxy where the VIP is, and keep it dead",
        Who.VIP_HOLDER,
        faults.unit_dies("haproxy"),
        "haproxy-death",
        moves_vip=True,
        quick=True,
    ),
    Drill(
        "haproxy-hang",
        "stop HAProxy (SIGSTOP) where the VIP is",
        Who.VIP_HOLDER,
        faults.unit_hangs("haproxy"),
        "haproxy-hang",
        moves_vip=True,
        # Nothing is answered until the VIP has moved: all that was asked meanwhile, at RATE.
        failed_at_most=60,
        quick=True,
    ),
    Drill(
        "nginx-death",
        "kill nginx where the VIP is, and keep it dead",
        Who.VIP_HOLDER,
        faults.unit_dies("nginx"),
        "nginx-death",
        moves_vip=True,
        quick=True,
    ),
    Drill(
        "nginx-hang",
        "stop nginx (SIGSTOP) where the VIP is",
        Who.VIP_HOLDER,
        faults.unit_hangs("nginx"),
        "nginx-hang",
        moves_vip=True,
        failed_at_most=60,
        quick=True,
    ),
    Drill(
        "keepalived-death",
        "kill keepalived where the VIP is, and keep it dead",
        Who.VIP_HOLDER,
        faults.unit_dies("keepalived"),
        "keepalived-death",
        moves_vip=True,
    ),
    Drill(
        "keepalived-hang",
        "stop keepalived (SIGSTOP) where the VIP is",
        Who.VIP_HOLDER,
        faults.unit_hangs("keepalived"),
        "keepalived-hang",
        moves_vip=None,
    ),
    Drill(
        "move-vip",
        "move the VIP on purpose: stop keepalived where it is",
        Who.VIP_HOLDER,
        faults.unit_stops("keepalived"),
        "move-vip",
        moves_vip=True,
        failed_at_most=1,
        quick=True,
    ),
    Drill(
        "apiserver-death",
        "kill an apiserver, and keep it dead",
        Who.BACKUP,
        faults.pod_dies("kube-apiserver"),
        "apiserver-death",
        failed_at_most=1,
        lasts_s=15.0,
    ),
    Drill(
        "apiserver-kill",
        "kill the apiserver beside the VIP once",
        Who.VIP_HOLDER,
        faults.pod_is_killed("kube-apiserver"),
        "apiserver-death",
        failed_at_most=1,
    ),
    Drill(
        "apiserver-hang",
        "stop an apiserver (SIGSTOP)",
        Who.BACKUP,
        faults.pod_hangs("kube-apiserver"),
        "apiserver-hang",
        lasts_s=20.0,
        quick=True,
    ),
    Drill(
        "etcd-leader-death",
        "kill etcd's leader, and keep it dead",
        Who.ETCD_LEADER,
        faults.pod_dies("etcd"),
        "etcd-leader-death",
        lasts_s=15.0,
        quick=True,
    ),
    Drill(
        "etcd-leader-hang",
        "stop etcd's leader (SIGSTOP)",
        Who.ETCD_LEADER,
        faults.pod_hangs("etcd"),
        "etcd-leader-hang",
        lasts_s=15.0,
    ),
    Drill(
        "etcd-follower-death",
        "kill a member of etcd that does not lead, and keep it dead",
        Who.ETCD_FOLLOWER,
        faults.pod_dies("etcd"),
        "etcd-follower-death",
        lasts_s=15.0,
    ),
    Drill(
        "controller-manager-death",
        "kill the kube-controller-manager that acts, and keep it dead until another does",
        Who.CONTROLLER_MANAGER,
        faults.pod_dies("kube-controller-manager"),
        "controller-manager-death",
        requests_wait=False,
        lasts_s=25.0,
    ),
    Drill(
        "scheduler-death",
        "kill the kube-scheduler that acts, and keep it dead until another does",
        Who.SCHEDULER,
        faults.pod_dies("kube-scheduler"),
        "scheduler-death",
        requests_wait=False,
        lasts_s=25.0,
    ),
    Drill(
        "kubelet-death",
        "kill the kubelet where the VIP is, and keep it dead",
        Who.VIP_HOLDER,
        faults.unit_dies("kubelet", whom="main"),
        "kubelet-death",
        failed_at_most=0,
    ),
    Drill(
        "kubelet-hang",
        "stop the kubelet (SIGSTOP) where the VIP is",
        Who.VIP_HOLDER,
        faults.unit_hangs("kubelet", whom="main"),
        "kubelet-hang",
        failed_at_most=0,
    ),
    Drill(
        "containerd-death",
        "kill containerd where the VIP is, and keep it dead; what runs under it goes on",
        Who.VIP_HOLDER,
        faults.unit_dies("containerd", whom="main"),
        "kubelet-death",
        failed_at_most=0,
    ),
    Drill(
        "cut-vip-holder",
        "cut the VIP's holder off from everybody",
        Who.VIP_HOLDER,
        faults.cut_off,
        "cut-vip-holder",
        moves_vip=True,
        isolates=True,
        quick=True,
    ),
    Drill(
        "adverts-lost",
        "lose the holder's VRRP adverts, and nothing else",
        Who.VIP_HOLDER,
        faults.adverts_are_lost,
        NO_BUDGET,
        moves_vip=None,
    ),
    Drill(
        "cut-from-peers",
        "cut the VIP's holder off from the other machines of the cluster, and not from clients",
        Who.VIP_HOLDER,
        faults.cut_off_from_peers,
        NO_BUDGET,
        moves_vip=None,
    ),
    Drill(
        "cut-from-clients",
        "cut the VIP's holder off from clients, and not from the other machines of the cluster",
        Who.VIP_HOLDER,
        faults.cut_off_from_clients,
        NO_BUDGET,
        moves_vip=None,
    ),
    Drill(
        "half-deaf",
        "lose all that the VIP's holder sends; it still hears everybody",
        Who.VIP_HOLDER,
        faults.half_deaf,
        "cut-vip-holder",
        moves_vip=True,
        isolates=True,
    ),
    Drill(
        "lossy-vip-holder",
        "lose one in ten packets from and to the VIP's holder",
        Who.VIP_HOLDER,
        faults.loses_packets,
        NO_BUDGET,
        moves_vip=None,
    ),
    Drill(
        "cut-backup",
        "cut a control-plane node without the VIP off from everybody",
        Who.BACKUP,
        faults.cut_off,
        "power-off-control-plane-node",
        isolates=True,
    ),
    Drill(
        "busy-vip-holder",
        "keep all processors of the VIP's holder busy",
        Who.VIP_HOLDER,
        faults.processors_are_busy,
        "kubelet-death",
    ),
)


def find(name: str) -> Drill:
    """Raises UsageError with the nearest names."""
    by_name = {drill.name: drill for drill in DRILLS}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=3)
    hint = f"perhaps {' or '.join(near)}" if near else f"there are: {', '.join(by_name)}"
    raise UsageError(f"there is no drill {name}", hint=hint)
