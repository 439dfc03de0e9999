"""What can be broken on one machine, and how it is mended: by scripts of that machine, or from outside. Pure.

A script that heals can be run at any time and again: a timer on the machine runs it if nobody else does. Nothing here
touches what a machine that is a container shares with its host.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from haplane.components import etcd
from haplane.components.base import SLICE
from haplane.design.design import Design
from haplane.model.cluster import Address, Machine

# In the machine's own network namespace, and of no other name, so that healing takes away nothing else.
TABLE = "haplane_drill"
DELAY_MS = 30
# What goes on by itself ends by itself, even if nobody heals.
KEPT_AT_MOST_S = 180


@dataclass(frozen=True)
class Fault:
    """prepare: changes nothing that serves. inject: does the harm at once, so that its moment is known."""

    prepare: str
    inject: str
    heal: str


Make = Callable[[Design, Machine], Fault]


class Outside(Enum):
    """What the commands of `power` in the cluster file do to a whole machine, from outside.

    SHUT_DOWN: the machine ends everything in good order; then its power comes back as after a cut.
    """

    CUT_POWER = auto()
    FREEZE = auto()
    SHUT_DOWN = auto()


# What keeps a fault up runs as a unit of this name; one drill has one.
KEEPER = "haplane-drill"


def _kept(script: str, *, more: str = "") -> str:
    """Goes on in the background until `_let_go`, or for KEPT_AT_MOST_S."""
    return (
        f"systemd-run --quiet --collect --unit={KEEPER} -p RuntimeMaxSec={KEPT_AT_MOST_S} {more} /bin/sh -c '{script}'"
    )


def _let_go() -> str:
    return f"systemctl stop {KEEPER} 2>/dev/null; true"


# -- daemons that systemd runs


def unit(name: str, *, whom: str = "all") -> Mapping[str, Make]:
    """The ways to disturb it. whom: `main` spares what runs in its control group besides."""
    kill = f"systemctl kill --kill-whom={whom} --signal="
    drop_in = f"/run/systemd/system/{name}.service.d/zz-haplane-drill.conf"
    start = f"systemctl reset-failed {name} 2>/dev/null\nsystemctl start {name}"
    return {
        "kill": _always(Fault("", f"{kill}KILL {name}", start)),
        "death": _always(
            Fault(
                prepare=f"mkdir -p {drop_in.rpartition('/')[0]}\nprintf '[Service]\\nRestart=no\\n' > {drop_in}\n"
                "systemctl daemon-reload",
                inject=f"{kill}KILL {name}",
                heal=f"rm -f {drop_in}\nsystemctl daemon-reload\n{start}",
            )
        ),
        "hang": _always(Fault("", f"{kill}STOP {name}", f"{kill}CONT {name}")),
        # Waited for, the command would end long after the harm was done.
        "restart": _always(Fault("", f"systemctl restart --no-block {name}", start)),
        "crash-loop": _always(
            Fault(
                prepare="",
                inject=f"{kill}KILL {name}\n" + _kept(f"while sleep 2; do {kill}KILL {name}; done"),
                heal=f"{_let_go()}\n{start}",
            )
        ),
    }


def unit_stops(name: str) -> Make:
    """On purpose, and in good order."""
    # Waited for, the command would end long after the VIP has moved; whoever starts it again waits for both.
    return _always(Fault("", f"systemctl stop --no-block {name}", f"systemctl start {name}"))


def unit_reloads(name: str) -> Make:
    return _always(Fault("", f"systemctl reload {name}", "true"))


# -- static pods


def pod(name: str) -> Mapping[str, Make]:
    """The ways to disturb it; its kubelet starts it again, ever later.

    Its manifest stays: a kubelet that finds etcd's gone and back asks the apiserver beside it for minutes. One that
    hangs, its kubelet may kill meanwhile, when its probes have failed for long enough.
    """
    kill = f"kill -KILL $(pidof {name})"
    again = f"pids=$(pidof {name}) && kill -KILL $pids"
    return {
        "kill": _always(Fault("", kill, "true")),
        "death": _always(Fault("", f"{kill}\n" + _kept(f"while sleep 0.2; do {again}; done"), _let_go())),
        "hang": _always(Fault("", f"kill -STOP $(pidof {name})", f"pids=$(pidof {name}) && kill -CONT $pids || true")),
        "restart": _always(Fault("", f"kill -TERM $(pidof {name})", "true")),
        "crash-loop": _always(Fault("", f"{kill}\n" + _kept(f"while sleep 3; do {again}; done"), _let_go())),
    }


# -- etcd


def etcd_member() -> Mapping[str, Make]:
    """The ways to disturb it, as a static pod or as a unit of its own, whichever the design has."""
    as_pod, as_unit = pod("etcd"), unit("etcd")

    def either(way: str) -> Make:
        return lambda design, machine: (as_pod if design.cluster.is_stacked else as_unit)[way](design, machine)

    return {way: either(way) for way in as_pod}


# -- the network


def cut_off(design: Design, machine: Machine) -> Fault:
    """From everybody. Only SSH goes on, as over a management network: nothing of the cluster uses it."""
    return _filtered(design, machine, inbound="drop", outbound="drop")


def cut_off_from_peers(design: Design, machine: Machine) -> Fault:
    """From the other control-plane machines and balancers; clients reach it."""
    return _filtered(
        design,
        machine,
        inbound=f"{_of_peers(design, machine, 'saddr', 'drop')}accept",
        outbound=f"{_of_peers(design, machine, 'daddr', 'drop')}accept",
    )


def cut_off_from_clients(design: Design, machine: Machine) -> Fault:
    """Wrongly alive: its peers hear it, and nobody else does."""
    return _filtered(
        design,
        machine,
        inbound=f"{_of_peers(design, machine, 'saddr', 'accept')}drop",
        outbound=f"{_of_peers(design, machine, 'daddr', 'accept')}drop",
    )


def adverts_are_lost(design: Design, machine: Machine) -> Fault:
    """Its VRRP adverts (IP protocol 112) reach nobody, everything else does."""
    of_6 = "ip6 nexthdr 112 drop\n    " if machine.address_of(6) else ""
    return _filtered(design, machine, inbound="accept", outbound=f"ip protocol 112 drop\n    {of_6}accept")


def loses_packets(design: Design, machine: Machine) -> Fault:
    """One in ten, in each direction, whatever they are; SSH loses none."""
    lose = "numgen random mod 10 0 drop\n    accept"
    return _filtered(design, machine, inbound=lose, outbound=lose)


def link_flaps(design: Design, machine: Machine) -> Fault:
    """A second without anybody, a second with all, and again."""
    cut = cut_off(design, machine)
    turns = f"while :; do {cut.inject}; sleep 1; nft delete table netdev {TABLE}; sleep 1; done"
    # Not deleted by the file that has to be there again and again.
    return Fault(cut.prepare, _kept(turns), f"{_let_go()}\n{cut.heal}")


def is_late(design: Design, machine: Machine) -> Fault:
    """All that it sends comes DELAY_MS later, but SSH and VRRP, which is bound to its interface.

    By a device of our own, because netem is not everywhere: what the machine sends is routed into it, and comes back as
    something to be forwarded.
    """
    program = importlib.resources.files("haplane.drills").joinpath("delay.pl").read_text()
    device, table = "haplane-drill", 7077
    file, conf = f"/run/{device}.pl", f"/proc/sys/net/ipv4/conf/{device}"
    return Fault(
        prepare=f"cat > {file} <<'HAPLANE_PROGRAM'\n{program}HAPLANE_PROGRAM\n"
        + _kept(f"exec perl {file} {device} {DELAY_MS}")
        + f"""
for i in $(seq 50); do [ -e {conf} ] && break; sleep 0.1; done
echo 1 > {conf}/accept_local
echo 0 > {conf}/rp_filter
ip link set {device} up mtu $(cat /sys/class/net/{_interface(design, machine)}/mtu)
ip route replace default dev {device} table {table}
ip rule add priority 7076 iif lo ipproto tcp sport {machine.ssh.port} lookup main""",
        inject=f"ip rule add priority 7077 iif lo lookup {table}",
        heal=f"ip rule delete priority 7077 2>/dev/null\nip rule delete priority 7076 2>/dev/null\n"
        f"{_let_go()}\nrm -f {file}",
    )


def half_deaf(design: Design, machine: Machine) -> Fault:
    """One way: it hears everybody, and nobody hears it."""
    return _filtered(design, machine, inbound="accept", outbound="drop")


def _filtered(design: Design, machine: Machine, *, inbound: str, outbound: str) -> Fault:
    """ARP goes on for its own address, without which SSH would end, and not for a VIP: nobody may find it here. So do
    its likes in IPv6, neighbour solicitation and advertisement, whose target is 8 bytes on (RFC 4861 4.3).
    """
    interface = _interface(design, machine)
    vips = ", ".join(str(vip.ip) for vip in design.cluster.endpoint.vips if vip.version == 4)
    hidden = f"arp daddr ip {{ {vips} }} drop\n    arp saddr ip {{ {vips} }} drop\n    " if vips else ""
    asked = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
    of_6 = [int(vip.ip) for vip in design.cluster.endpoint.vips if vip.version == 6]
    hidden += "".join(f"{asked} @th,64,128 {vip:#034x} drop\n    " for vip in of_6)
    found = f"ether type arp accept\n    {asked} accept" if machine.address_of(6) else "ether type arp accept"
    rules = f"""table netdev {TABLE} {{
  chain in {{
    type filter hook ingress device "{interface}" priority -500; policy accept;
    tcp dport {machine.ssh.port} accept
    {hidden if inbound.endswith("drop") else ""}{found}
    {inbound}
  }}
  chain out {{
    type filter hook egress device "{interface}" priority -500; policy accept;
    tcp sport {machine.ssh.port} accept
    {hidden if outbound.endswith("drop") else ""}{found}
    {outbound}
  }}
}}
"""
    file = f"/run/{TABLE}.nft"
    return Fault(
        prepare=f"cat > {file} <<'HAPLANE_RULES'\n{rules}HAPLANE_RULES\nnft --check --file {file}",
        inject=f"nft --file {file}",
        heal=f"nft delete table netdev {TABLE} 2>/dev/null\nrm -f {file}",
    )


def _interface(design: Design, machine: Machine) -> str:
    return machine.interface or design.view(machine.name).measured.interface


def _of_peers(design: Design, machine: Machine, which: str, what: str) -> str:
    """A line for each IP version in which there are peers. which: saddr or daddr; what: becomes of their packets."""
    peers = list(_peers(design, machine))
    lines = ""
    for version, header in ((4, "ip"), (6, "ip6")):
        if some := ", ".join(str(one) for one in peers if one.version == version):
            lines += f"{header} {which} {{ {some} }} {what}\n    "
    return lines


def _peers(design: Design, machine: Machine) -> Iterable[Address]:
    cluster = design.cluster
    others = {one.name: one for one in (*cluster.control_plane, *cluster.balancers, *cluster.etcd_members)}
    return (address for name, one in others.items() if name != machine.name for address in one.addresses)


# -- resources


def processors_are_busy(design: Design, machine: Machine) -> Fault:
    """As many loops as there are processors, at the priority of everything else."""
    return Fault("", _kept("for i in $(seq $(nproc)); do (while :; do :; done) & done; wait"), _let_go())


def memory_is_short(design: Design, machine: Machine) -> Fault:
    """For what clients depend on: one that takes all it gets, in the same control group, under a limit."""
    drop_in = f"/run/systemd/system.control/{SLICE}.d/50-MemoryMax.conf"
    return Fault(
        prepare="",
        inject=f"systemctl set-property --runtime {SLICE} "
        f"MemoryMax=$(($(systemctl show --value --property=MemoryCurrent {SLICE}) + 33554432))\n"
        + _kept("while :; do tail /dev/zero; done", more=f"--slice={SLICE}"),
        heal=f"{_let_go()}\nsystemctl set-property --runtime {SLICE} MemoryMax=infinity\n"
        f"rm -f {drop_in}\nsystemctl daemon-reload",
    )


def descriptors_are_used_up(process: str) -> Make:
    """It may open no file and take no connection, also when it has closed some."""
    each = f"for pid in $(pidof {process}); do"
    return _always(
        Fault(
            prepare="",
            inject=f"{each} prlimit --pid $pid --nofile=1: ; done",
            heal=f"{each} prlimit --pid $pid --nofile=$(prlimit --pid $pid --nofile --output HARD --noheadings): ; done"
            "\ntrue",
        )
    )


def apiservers_are_flooded(design: Design, machine: Machine) -> Fault:
    """By somebody who asks for all that there is, as fast as it comes, with the rights of an administrator."""
    ask = "kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw /openapi/v2 > /dev/null 2>&1"
    return Fault("", _kept(f"for i in 1 2 3 4; do (while :; do {ask}; done) & done; wait"), _let_go())


# Whatever is done to a file system is done to all that is on it.
_OF_ITS_OWN = f"""\
[ "$(findmnt --noheadings --output FSROOT --mountpoint {etcd.DATA})" = / ] || {{
  echo "{etcd.DATA} is not a file system of its own, and others would suffer with etcd" >&2; exit 1
}}"""


def disk_is_full(design: Design, machine: Machine) -> Fault:
    """That of etcd, to the last byte. Nothing is kept free for it; what it has allocated before is its own."""
    ballast = f"{etcd.DATA}/haplane-drill"
    return Fault(
        prepare=f"{_OF_ITS_OWN}\n"
        f"fallocate --length $(($(df --output=avail --block-size=1M {etcd.DATA} | tail -1) - 32))M {ballast}.most",
        inject=f"head -c 1G /dev/zero > {ballast}.rest 2>/dev/null || true",
        heal=f"rm -f {ballast}.most {ballast}.rest",
    )


def disk_is_slow(design: Design, machine: Machine) -> Fault:
    """That of etcd: nothing is written to it for four of every five moments of 250 ms."""
    thaw = f"fsfreeze --unfreeze {etcd.DATA}"
    turns = f"while :; do fsfreeze --freeze {etcd.DATA}; sleep 0.2; {thaw}; sleep 0.05; done"
    return Fault(
        prepare=_OF_ITS_OWN,
        inject=_kept(turns, more=f"-p ExecStopPost=-/usr/sbin/'{thaw}'"),
        heal=f"{_let_go()}\n{thaw} 2>/dev/null\ntrue",
    )


def disk_hangs(design: Design, machine: Machine) -> Fault:
    """That of etcd: whoever writes to it waits."""
    return Fault(
        prepare=_OF_ITS_OWN,
        inject=f"fsfreeze --freeze {etcd.DATA}",
        heal=f"fsfreeze --unfreeze {etcd.DATA} 2>/dev/null\ntrue",
    )


# -- on purpose


def certificate_is_swapped(design: Design, machine: Machine) -> Fault:
    """The apiserver's, by kubeadm; it reads the new one by itself."""
    return Fault("", "kubeadm certs renew apiserver > /dev/null", "true")


def _always(fault: Fault) -> Make:
    return lambda design, machine: fault
