"""Every drill: what it breaks, where, for how long, and which budget it is held against. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from haplane.design.budget import Budget, budgets, power_off_etcd_leader, power_off_nodes, power_off_vip_holder
from haplane.design.cuts import survives
from haplane.design.design import Design
from haplane.design.link import Link
from haplane.drills import faults
from haplane.drills.elsewhere import elsewhere
from haplane.drills.faults import Make, Outside
from haplane.drills.targets import SEVERAL, Who, examples
from haplane.model.cluster import BalancerProgram, Role
from haplane.model.errors import UsageError

RATE = 50.0
LASTS_S = 10.0
# A kubelet waits 10 s before it starts a pod once more.
POD_LASTS_S = 15.0
IDLE_CONNECTIONS = 50
# As many as reconnect-herd has; more was not tried, and an apiserver ends one that has asked nothing for 90 s.
WAITING_AT_MOST = 1000
# Nothing of the design's ends it, or it is not known what does: what clients see is measured.
NO_BUDGET = "unbounded"


@dataclass(frozen=True)
class Drill:
    """make: what makes the fault for a machine, or what is done to it from outside. budget: the fault's name in the
    design's budgets.

    moves_vip: whether the VIP has to move, must not, or may (None). failed_at_most: requests not served, at RATE per
    second; None: as many as are due within the budget. requests_wait: whether the budget is of requests; else of what
    no client asks for. isolates: nobody reaches the machine meanwhile. spares: no machine is lost by it. program: what
    has to balance. quick: part of the quick suite. unseen: no client's request needs what is broken there, so that the
    budget is 0; its name only says where the fault has meaning. starves: nothing ends by it but what is ended for it
    meanwhile, sooner or later.
    """

    name: str
    sentence: str
    who: Who
    make: Make | Outside
    budget: str
    requests_wait: bool = True
    moves_vip: bool | None = False
    failed_at_most: int | None = 4
    lasts_s: float = LASTS_S
    isolates: bool = False
    spares: bool = False
    program: BalancerProgram | None = None
    needs: Role | None = None
    idle_connections: int = IDLE_CONNECTIONS
    quick: bool = False
    unseen: bool = False
    starves: bool = False

    @property
    def outside(self) -> Outside | None:
        return self.make if isinstance(self.make, Outside) else None

    @property
    def darkens(self) -> bool:
        """Is nothing left of the machine meanwhile, not even a kernel that answers?"""
        return self.make in (Outside.CUT_POWER, Outside.SHUT_DOWN)

    def has_meaning(self, design: Design) -> bool:
        """Is there anything of this kind in the design, and somebody who may play the part?"""
        return self.example(design) != ()

    def example(self, design: Design) -> tuple[str, ...]:
        """The first machines that it could be done to; none where it has no meaning."""
        if self.program not in (None, design.cluster.balanced_by):
            return ()
        known = {NO_BUDGET, *(one.fault for one in budgets(design))}
        # Of two together the first alone decides.
        those = islice(examples(design.cluster, self.who, self.needs), len(design.cluster.machines))
        return next((names for names in those if self._budget_on(design, names) in known), ())

    def fits(self, design: Design, machine: str) -> bool:
        """Does it have meaning on this machine, if that plays its part?"""
        known = {NO_BUDGET, *(one.fault for one in budgets(design))}
        may = (machine,) in examples(design.cluster, self.who, self.needs)
        return (
            may and self.program in (None, design.cluster.balanced_by) and self._budget_on(design, [machine]) in known
        )

    def _budget_on(self, design: Design, machines: Sequence[str]) -> str:
        """The fault's name in the budgets, where it is to a machine that has other parts than the usual one."""
        cluster, machine = design.cluster, design.cluster.machines[machines[0]]
        serves = machine in cluster.control_plane
        if self.budget == "power-off-vip-holder" and machine not in cluster.vip_sharers:
            is_etcd = machine in cluster.etcd_members and not cluster.is_stacked
            return "power-off-etcd-leader" if is_etcd else "power-off-control-plane-node"
        if self.make is Outside.FREEZE and machine in cluster.balancers and not cluster.vip_sharers:
            # The balancer there stands still as well, and only a load balancer of yours can tell.
            return "power-off-control-plane-node" if serves else "power-off-balancer"
        if serves or self.budget not in ("power-off-control-plane-node", "apiserver-hang"):
            return self.budget
        # A balancer without an apiserver: what stands still there is the VIP, or nothing.
        alone = {Who.VIP_HOLDER: "power-off-vip-holder", Who.BACKUP: "power-off-idle-balancer"}
        return alone.get(self.who, self.budget)

    def must_move_vip(self, design: Design, machines: Sequence[str]) -> bool | None:
        """As `moves_vip`; it stays where it is when no machine is broken that could hold it.

        Where it leads straight to an apiserver, it may leave one that cannot answer, or has no etcd to ask. Where no
        apiserver is left that is ready, its holder lets go of what would lead nowhere.
        """
        if not self.is_survived(design, machines):
            return None
        could = {one.name for one in design.cluster.vip_sharers}
        if could and not could & {*machines}:
            return False
        return None if self._stops_whom_all_ask(design) else self.moves_vip

    def may_fail(self, design: Design, budget_s: float) -> int:
        """How many requests, at RATE, when the budget is so long: all, where nobody asks a second apiserver."""
        if self.failed_at_most is None or self._stops_whom_all_ask(design):
            return math.ceil(RATE * budget_s)
        return self.failed_at_most

    def _stops_whom_all_ask(self, design: Design) -> bool:
        where_all_are = self.who is Who.VIP_HOLDER or self.budget.startswith("etcd")
        return _leads_straight(design) and where_all_are and self.budget.startswith(("apiserver", "etcd"))

    def is_survived(self, design: Design, machines: Sequence[str]) -> bool:
        """Does the API go on without these machines?"""
        left = survives(design, machines)
        return self.spares or (left.reads and left.writes)

    def budget_of(self, design: Design, machines: Sequence[str]) -> Budget:
        """What this design allows, at the rate at which a drill asks. Raises UsageError where it has none.

        machines: those that it is done to.
        """
        survived = self.is_survived(design, machines)
        if self.unseen and survived:
            because = "no client's request needs it there: what is measured is what a busy host looks like"
            return Budget(self.name, (Link("none", 0.0, 0.0, because),), self.sentence)
        fault, count = self._budget_on(design, machines), len(machines)
        if fault == NO_BUDGET or not survived:
            because = "nothing of the design's ends it; what clients see is measured"
            return Budget(self.name, (Link("until healed", 0.0, math.inf, because),), self.sentence)
        if fault == "power-off-vip-holder":
            return power_off_vip_holder(design, machines[0], also=machines[1:], request_interval_s=1 / RATE)
        found = {one.fault: one for one in budgets(design, request_interval_s=1 / RATE)}
        if fault not in found:
            raise UsageError(f"{self.name} has no meaning in this design", where=design.cluster.file)
        if self.who is Who.TWO_NODES:
            return power_off_nodes(design, lost=count, request_interval_s=1 / RATE)
        if self.who is Who.ETCD_AND_NODE:
            return power_off_etcd_leader(design, nodes=count - 1, request_interval_s=1 / RATE)
        return found[fault]


_WAYS = {
    "kill": "kill {what}, once",
    "death": "kill {what}, and keep it dead",
    "hang": "stop {what} (SIGSTOP)",
    "restart": "restart {what}",
    "crash-loop": "kill {what}, and again each time it has come up",
}


def _process(
    name: str,
    what: str,
    who: Who,
    ways: Mapping[str, Make],
    budget: str,
    but: Mapping[str, Mapping[str, Any]] | None = None,
    **common: Any,
) -> Iterator[Drill]:
    """All that may happen to a process. but: what differs, by way."""
    for way, sentence in _WAYS.items():
        drill = Drill(f"{name}-{way}", sentence.format(what=what), who, ways[way], budget)
        yield replace(drill, **{**common, **(but or {}).get(way, {})})


_MACHINES = (
    Drill(
        "power-off-vip-holder",
        "cut the power of the machine that holds the VIP, silently, and restore it",
        Who.VIP_HOLDER,
        Outside.CUT_POWER,
        "power-off-vip-holder",
        moves_vip=True,
        quick=True,
    ),
    Drill(
        "power-off-backup",
        "cut the power of a BACKUP, which shares the VIP and does not hold it",
        Who.BACKUP,
        Outside.CUT_POWER,
        "power-off-control-plane-node",
        quick=True,
    ),
    Drill(
        "power-off-control-plane-node",
        "cut the power of a control-plane node that cannot hold the VIP",
        Who.NODE_APART,
        Outside.CUT_POWER,
        "power-off-control-plane-node",
        quick=True,
    ),
    Drill(
        "power-off-balancer",
        "cut the power of a balancer behind an address of somebody else's",
        Who.BALANCER,
        Outside.CUT_POWER,
        "power-off-balancer",
        quick=True,
    ),
    Drill(
        "power-off-worker",
        "cut the power of a worker",
        Who.WORKER,
        Outside.CUT_POWER,
        "kubelet-death",
        failed_at_most=0,
    ),
    Drill(
        "power-off-etcd-member",
        "cut the power of a machine of etcd that does not lead",
        Who.ETCD_FOLLOWER,
        Outside.CUT_POWER,
        "power-off-etcd-follower",
    ),
    Drill(
        "power-off-etcd-leader",
        "cut the power of the machine of etcd's leader",
        Who.ETCD_LEADER,
        Outside.CUT_POWER,
        "power-off-vip-holder",
        moves_vip=None,
    ),
    Drill(
        "power-off-busiest",
        "cut the power of the machine that everything hangs on: the VIP, etcd's leader, the leases",
        Who.BUSIEST,
        Outside.CUT_POWER,
        "power-off-vip-holder",
        moves_vip=None,
    ),
    Drill(
        "power-off-two",
        "cut the power of the VIP's holder and of a control-plane node at once",
        Who.HOLDER_AND_ANOTHER,
        Outside.CUT_POWER,
        "power-off-vip-holder",
        moves_vip=None,
    ),
    Drill(
        "power-off-two-nodes",
        "cut the power of two control-plane nodes without the VIP at once",
        Who.TWO_NODES,
        Outside.CUT_POWER,
        "power-off-control-plane-node",
    ),
    Drill(
        "power-off-etcd-machine-and-node",
        "cut the power of the machine of etcd's leader and of a control-plane node at once",
        Who.ETCD_AND_NODE,
        Outside.CUT_POWER,
        "power-off-etcd-leader",
    ),
    Drill(
        "power-off-all",
        "cut the power of all machines of the cluster at once, and restore it: a cold start",
        Who.EVERY,
        Outside.CUT_POWER,
        NO_BUDGET,
        moves_vip=None,
    ),
    Drill(
        "reboot-vip-holder",
        "reset the machine that holds the VIP, without a warning",
        Who.VIP_HOLDER,
        Outside.CUT_POWER,
        "power-off-vip-holder",
        moves_vip=True,
        lasts_s=2.0,
    ),
    Drill(
        "reconnect-herd",
        "cut the power of the machine that holds the VIP while 1,000 connections wait, which all come back at once",
        Who.VIP_HOLDER,
        Outside.CUT_POWER,
        "power-off-vip-holder",
        moves_vip=True,
        idle_connections=1000,
    ),
    Drill(
        "freeze-vip-holder",
        "stop everything in the machine that holds the VIP, and let it go on as if no time had passed",
        Who.VIP_HOLDER,
        Outside.FREEZE,
        "apiserver-hang",
        moves_vip=True,
        # Its kernel still takes connections, until the VIP has moved and until its apiserver is known to be gone.
        failed_at_most=60,
    ),
)

_ETCD = faults.etcd_member()


def _of_balancer(program: BalancerProgram, called: str) -> Iterator[Drill]:
    hung: dict[str, Any] = {"budget": f"{program}-hang", "failed_at_most": None, "program": program}
    where = f"{called} where the VIP is"
    yield from _process(
        program,
        where,
        Who.VIP_HOLDER,
        faults.unit(program),
        f"{program}-death",
        {
            "death": {"quick": True},
            "hang": {**hung, "quick": True},
            # It may be back before keepalived has looked.
            "restart": {"moves_vip": None},
        },
        moves_vip=True,
        # Whoever is refused is not asked again: all that was asked until the VIP had moved.
        failed_at_most=None,
        program=program,
    )
    used_up = Drill(
        f"{program}-descriptors",
        f"use up the file descriptors of {where}",
        Who.VIP_HOLDER,
        faults.descriptors_are_used_up(program),
        f"{program}-hang",
        moves_vip=True,
    )
    yield replace(used_up, **hung)
    yield Drill(
        f"reload-{program}",
        f"reload {called} on every machine at once",
        Who.EVERY,
        faults.unit_reloads(program),
        "kubelet-death",
        failed_at_most=0,
        spares=True,
        program=program,
        needs=Role.BALANCER,
    )


_PROCESSES = (
    *_of_balancer(BalancerProgram.HAPROXY, "HAProxy"),
    *_of_balancer(BalancerProgram.NGINX, "nginx"),
    *_process(
        "keepalived",
        "keepalived where the VIP is",
        Who.VIP_HOLDER,
        faults.unit("keepalived"),
        "keepalived-death",
        {
            "death": {"moves_vip": True},
            "hang": {"budget": "keepalived-hang"},
            "restart": {"budget": "move-vip", "failed_at_most": 1},
        },
        moves_vip=None,
    ),
    *_process(
        "apiserver",
        "an apiserver",
        Who.NODE,
        faults.pod("kube-apiserver"),
        "apiserver-death",
        {
            "kill": {"sentence": "kill the apiserver beside the VIP, once", "who": Who.VIP_HOLDER},
            "death": {"lasts_s": POD_LASTS_S},
            "hang": {"budget": "apiserver-hang", "failed_at_most": 4, "lasts_s": 20.0, "quick": True},
            # It serves on for as long as it is told to (shutdown-delay-duration).
            "restart": {"failed_at_most": 0, "lasts_s": POD_LASTS_S},
            "crash-loop": {"lasts_s": POD_LASTS_S},
        },
        needs=Role.CONTROL_PLANE,
        failed_at_most=1,
    ),
    *_process(
        "etcd-leader",
        "etcd's leader",
        Who.ETCD_LEADER,
        _ETCD,
        "etcd-leader-death",
        {
            "death": {"lasts_s": POD_LASTS_S, "quick": True},
            "hang": {"lasts_s": POD_LASTS_S, "budget": "etcd-leader-hang"},
            "crash-loop": {"lasts_s": POD_LASTS_S},
        },
    ),
    Drill(
        "etcd-follower-death",
        "kill a member of etcd that does not lead, and keep it dead",
        Who.ETCD_FOLLOWER,
        _ETCD["death"],
        "etcd-follower-death",
        lasts_s=POD_LASTS_S,
    ),
    *_process(
        "controller-manager",
        "the kube-controller-manager that acts",
        Who.CONTROLLER_MANAGER,
        faults.pod("kube-controller-manager"),
        "controller-manager-death",
        requests_wait=False,
        lasts_s=25.0,
    ),
    *_process(
        "scheduler",
        "the kube-scheduler that acts",
        Who.SCHEDULER,
        faults.pod("kube-scheduler"),
        "scheduler-death",
        requests_wait=False,
        lasts_s=25.0,
    ),
    *_process(
        "kubelet",
        "the kubelet where the VIP is",
        Who.VIP_HOLDER,
        faults.unit("kubelet", whom="main"),
        "kubelet-death",
        needs=Role.CONTROL_PLANE,
        failed_at_most=0,
    ),
    *_process(
        "containerd",
        "containerd where the VIP is",
        Who.VIP_HOLDER,
        faults.unit("containerd", whom="main"),
        "kubelet-death",
        needs=Role.CONTROL_PLANE,
        failed_at_most=0,
    ),
)

_NETWORK = (
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
        "cut-backup",
        "cut a BACKUP, which shares the VIP and does not hold it, off from everybody",
        Who.BACKUP,
        faults.cut_off,
        "power-off-control-plane-node",
        isolates=True,
    ),
    Drill(
        "cut-control-plane-node",
        "cut a control-plane node that cannot hold the VIP off from everybody",
        Who.NODE_APART,
        faults.cut_off,
        "power-off-control-plane-node",
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
        "adverts-lost",
        "lose the holder's VRRP adverts, and nothing else",
        Who.VIP_HOLDER,
        faults.adverts_are_lost,
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
        "late-vip-holder",
        f"delay all that the VIP's holder sends by {faults.DELAY_MS} ms",
        Who.VIP_HOLDER,
        faults.is_late,
        NO_BUDGET,
    ),
    Drill(
        "flapping-vip-holder",
        "cut the VIP's holder off from everybody every other second",
        Who.VIP_HOLDER,
        faults.link_flaps,
        NO_BUDGET,
        moves_vip=None,
    ),
)

_RESOURCES = (
    Drill(
        "busy-vip-holder",
        "keep all processors of the VIP's holder busy",
        Who.VIP_HOLDER,
        faults.processors_are_busy,
        "kubelet-death",
    ),
    Drill(
        "memory-short",
        "leave the balancer and keepalived where the VIP is 32 MB, and somebody beside them who takes all of it",
        Who.VIP_HOLDER,
        faults.memory_is_short,
        "keepalived-death",
        moves_vip=None,
        starves=True,
    ),
    Drill(
        "flood",
        "flood the apiservers with large requests from an administrator's machine",
        Who.NODE,
        faults.apiservers_are_flooded,
        NO_BUDGET,
    ),
    Drill(
        "etcd-disk-full",
        "fill the disk of etcd's leader, which has to be a file system of its own",
        Who.ETCD_LEADER,
        faults.disk_is_full,
        "etcd-leader-death",
        lasts_s=15.0,
    ),
    Drill(
        "etcd-disk-slow",
        "let the disk of etcd's leader stand still for 200 ms of every 250",
        Who.ETCD_LEADER,
        faults.disk_is_slow,
        NO_BUDGET,
        lasts_s=15.0,
    ),
    Drill(
        "etcd-disk-hang",
        "let the disk of etcd's leader stand still",
        Who.ETCD_LEADER,
        faults.disk_hangs,
        "etcd-leader-hang",
        lasts_s=15.0,
    ),
)

_PLANNED = (
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
        "shutdown-vip-holder",
        "shut the machine that holds the VIP down in good order, and start it again",
        Who.VIP_HOLDER,
        Outside.SHUT_DOWN,
        "power-off-vip-holder",
        moves_vip=True,
        failed_at_most=1,
        lasts_s=3.0,
    ),
    Drill(
        "swap-certificate",
        "give every apiserver a new certificate",
        Who.EVERY,
        faults.certificate_is_swapped,
        "kubelet-death",
        failed_at_most=0,
        spares=True,
        needs=Role.CONTROL_PLANE,
    ),
)

# Each fault where it harms most, and some elsewhere; then the same faults on the other parts.
DRILLS: tuple[Drill, ...] = (*_MACHINES, *_PROCESSES, *_NETWORK, *_RESOURCES, *_PLANNED)
ELSEWHERE = tuple(elsewhere(DRILLS))
MATRIX = (*DRILLS, *ELSEWHERE)


def find(name: str) -> Drill:
    """Raises UsageError with the nearest names."""
    by_name = {drill.name: drill for drill in MATRIX}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=3)
    hint = f"perhaps {' or '.join(near)}" if near else f"there are: {', '.join(by_name)}"
    raise UsageError(f"there is no drill {name}", hint=hint)


def suite(design: Design, *, quick: bool = False, matrix: bool = False) -> list[Drill]:
    """Those that have meaning in this design, each fault where it harms most. matrix: on every part."""
    usual = [_hardest(drill, design) for drill in DRILLS if drill.has_meaning(design)]
    there = {_fault(drill) for drill in usual}
    # A fault of a part that this design has not, on the part that comes next to it.
    instead: dict[tuple[Make | Outside, float, int], Drill] = {}
    for drill in ELSEWHERE:
        if _fault(drill) not in there and drill.has_meaning(design):
            instead.setdefault(_fault(drill), drill)
    if matrix:
        there_already = {drill.name for drill in usual}
        others = (*DRILLS, *ELSEWHERE)
        return [*usual, *(one for one in others if one.has_meaning(design) and one.name not in there_already)]
    hurried = {_fault(drill) for drill in DRILLS if drill.quick}
    return [
        *(drill for drill in usual if drill.quick or not quick),
        *(drill for fault, drill in instead.items() if fault in hurried or not quick),
    ]


def ending(design: Design, *, spares_holder: bool = False) -> list[Drill]:
    """Those that something of the design's ends. spares_holder: on any part but the VIP's holder, which has to stay."""
    found = suite(design, matrix=spares_holder)
    if spares_holder:
        found = [drill for drill in found if drill.who not in _WITH_HOLDER and _stays(drill, design)]
    return [drill for drill in found if math.isfinite(drill.budget_of(design, drill.example(design)).worst_s)]


_WITH_HOLDER = {Who.VIP_HOLDER, Who.HOLDER_AND_ANOTHER, Who.BUSIEST, Who.EVERY}


def _stays(drill: Drill, design: Design) -> bool:
    return drill.must_move_vip(design, drill.example(design)) is False


def _hardest(drill: Drill, design: Design) -> Drill:
    """Without a balancer all clients ask the apiserver beside the VIP, and nobody the others."""
    if not (_leads_straight(design) and drill.who is Who.NODE and drill.budget.startswith("apiserver")):
        return drill
    there = next(one for one in ELSEWHERE if one.who is Who.VIP_HOLDER and _fault(one) == _fault(drill))
    return replace(there, quick=drill.quick)


def _leads_straight(design: Design) -> bool:
    return design.cluster.balanced_by is BalancerProgram.NONE


def for_parts(drill: Drill, parts: Collection[Who], design: Design, machine: str) -> Drill | None:
    """The drill of the same fault for this machine, which plays these parts; this one if it can be. None: no such."""
    if drill.who in SEVERAL:
        return None
    same = (drill, *(other for other in MATRIX if _fault(other) == _fault(drill)))
    return next((one for one in same if one.who in parts and one.fits(design, machine)), None)


def _fault(drill: Drill) -> tuple[Make | Outside, float, int]:
    """What two drills have in common that do the same, wherever it is."""
    return drill.make, drill.lasts_s, drill.idle_connections
