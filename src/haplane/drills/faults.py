"""What can be broken on one machine, and how it is mended: scripts for that machine. Pure.

A script that heals can be run at any time and again: a timer on the machine runs it if nobody else does. Nothing here
touches what a machine that is a container shares with its host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from haplane.design.design import Design
from haplane.model.cluster import Address, Machine

# In the machine's own network namespace, and of no other name, so that healing takes away nothing else.
TABLE = "haplane_drill"
# What goes on by itself ends by itself, even if nobody heals.
KEPT_AT_MOST_S = 180


@dataclass(frozen=True)
class Fault:
    """prepare: changes nothing that serves. inject: does the harm at once, so that its moment is known."""

    prepare: str
    inject: str
    heal: str


Make = Callable[[Design, Machine], Fault]


# -- daemons that systemd runs


def unit_dies(unit: str, *, whom: str = "all") -> Make:
    """Killed, and not started again until healed. whom: `main` spares what runs in its control group besides."""
    drop_in = f"/run/systemd/system/{unit}.service.d/zz-haplane-drill.conf"
    return _always(
        Fault(
            prepare=f"mkdir -p {drop_in.rpartition('/')[0]}\nprintf '[Service]\\nRestart=no\\n' > {drop_in}\n"
            "systemctl daemon-reload",
            inject=f"systemctl kill --kill-whom={whom} --signal=KILL {unit}",
            heal=f"rm -f {drop_in}\nsystemctl daemon-reload\nsystemctl reset-failed {unit} 2>/dev/null\n"
            f"systemctl start {unit}",
        )
    )


def unit_hangs(unit: str, *, whom: str = "all") -> Make:
    return _always(
        Fault(
            prepare="",
            inject=f"systemctl kill --kill-whom={whom} --signal=STOP {unit}",
            heal=f"systemctl kill --kill-whom={whom} --signal=CONT {unit}",
        )
    )


def unit_stops(unit: str) -> Make:
    """On purpose, and in good order."""
    return _always(Fault(prepare="", inject=f"systemctl stop {unit}", heal=f"systemctl start {unit}"))


# -- static pods


def pod_dies(pod: str) -> Make:
    """Killed again whenever its kubelet has started it, until healed; it starts it once more a while after.

    Its manifest stays: a kubelet that finds etcd's gone and back asks the apiserver beside it for minutes.
    """
    unit = "haplane-drill-keep-dead"
    again = f"while :; do pids=$(pidof {pod}) && kill -KILL $pids; sleep 0.2; done"
    return _always(
        Fault(
            prepare="",
            inject=f"kill -KILL $(pidof {pod})\n"
            f"systemd-run --quiet --collect --unit={unit} -p RuntimeMaxSec={KEPT_AT_MOST_S} /bin/sh -c '{again}'",
            heal=f"systemctl stop {unit} 2>/dev/null; true",
        )
    )


def pod_is_killed(pod: str) -> Make:
    """Once; the kubelet starts it again."""
    return _always(Fault(prepare="", inject=f"kill -KILL $(pidof {pod})", heal="true"))


def pod_hangs(pod: str) -> Make:
    """Its kubelet may kill it meanwhile, when its probes have failed for long enough."""
    heal = f"pids=$(pidof {pod}) && kill -CONT $pids || true"
    return _always(Fault(prepare="", inject=f"kill -STOP $(pidof {pod})", heal=heal))


# -- the network


def cut_off(design: Design, machine: Machine) -> Fault:
    """From everybody. Only SSH goes on, as over a management network: nothing of the cluster uses it."""
    return _filtered(design, machine, inbound="drop", outbound="drop")


def cut_off_from_peers(design: Design, machine: Machine) -> Fault:
    """From the other control-plane machines and balancers; clients reach it."""
    peers = ", ".join(map(str, _peers(design, machine)))
    return _filtered(
        design,
        machine,
        inbound=f"ip saddr {{ {peers} }} drop\n    accept",
        outbound=f"ip daddr {{ {peers} }} drop\n    accept",
    )


def cut_off_from_clients(design: Design, machine: Machine) -> Fault:
    """Wrongly alive: its peers hear it, and nobody else does."""
    peers = ", ".join(map(str, _peers(design, machine)))
    return _filtered(
        design,
        machine,
        inbound=f"ip saddr {{ {peers} }} accept\n    drop",
        outbound=f"ip daddr {{ {peers} }} accept\n    drop",
    )


def adverts_are_lost(design: Design, machine: Machine) -> Fault:
    """Its VRRP adverts (IP protocol 112) reach nobody, everything else does."""
    return _filtered(design, machine, inbound="accept", outbound="ip protocol 112 drop\n    accept")


def loses_packets(design: Design, machine: Machine) -> Fault:
    """One in ten, in each direction, whatever they are; SSH loses none."""
    lose = "numgen random mod 10 0 drop\n    accept"
    return _filtered(design, machine, inbound=lose, outbound=lose)


def half_deaf(design: Design, machine: Machine) -> Fault:
    """One way: it hears everybody, and nobody hears it."""
    return _filtered(design, machine, inbound="accept", outbound="drop")


def _filtered(design: Design, machine: Machine, *, inbound: str, outbound: str) -> Fault:
    """ARP goes on for its own address, without which SSH would end, and not for a VIP: nobody may find it here."""
    interface = design.view(machine.name).measured.interface if not machine.interface else machine.interface
    vips = ", ".join(str(vip.ip) for vip in design.cluster.endpoint.vips if vip.version == 4)
    hidden = f"arp daddr ip {{ {vips} }} drop\n    arp saddr ip {{ {vips} }} drop\n    " if vips else ""
    rules = f"""table netdev {TABLE} {{
  chain in {{
    type filter hook ingress device "{interface}" priority -500; policy accept;
    tcp dport {machine.ssh.port} accept
    {hidden if inbound.endswith("drop") else ""}ether type arp accept
    {inbound}
  }}
  chain out {{
    type filter hook egress device "{interface}" priority -500; policy accept;
    tcp sport {machine.ssh.port} accept
    {hidden if outbound.endswith("drop") else ""}ether type arp accept
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


def _peers(design: Design, machine: Machine) -> Iterable[Address]:
    cluster = design.cluster
    others = {one.name: one for one in (*cluster.control_plane, *cluster.balancers, *cluster.etcd_members)}
    return (one.address for name, one in others.items() if name != machine.name)


# -- resources


def processors_are_busy(design: Design, machine: Machine) -> Fault:
    """As many loops as there are processors, at the priority of everything else."""
    unit = "haplane-drill-load"
    loops = "for i in $(seq $(nproc)); do (while :; do :; done) & done; wait"
    return Fault(
        prepare="",
        inject=f"systemd-run --quiet --collect --unit={unit} -p RuntimeMaxSec={KEPT_AT_MOST_S} /bin/sh -c '{loops}'",
        heal=f"systemctl stop {unit} 2>/dev/null; true",
    )


def _always(fault: Fault) -> Make:
    return lambda design, machine: fault
