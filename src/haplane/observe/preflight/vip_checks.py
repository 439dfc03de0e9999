"""Can the VIP live on these machines, and is it theirs alone? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from haplane.components import keepalived
from haplane.design.hazards.finding import Severity
from haplane.model.cluster import Address, Cast, Machine
from haplane.model.roles import everyone, vip_sharers
from haplane.observe.preflight.check import NotTried, Said, Seen, Trouble, check
from haplane.observe.preflight.meeting import GROUPS
from haplane.observe.preflight.probe import Meeting, Packet, Part, Probe

# DMI vendors whose networks deliver an address only to the machine that they gave it to.
CLOUDS = ("Amazon EC2", "Google", "Microsoft Corporation", "DigitalOcean", "Hetzner", "OpenStack Foundation", "Alibaba")


@check(
    "vip-in-subnet",
    hazard="vip-outside-subnet",
    sentence="the VIP is in a subnet of every machine that may hold it",
    cure="take a free address of the machines' own subnet",
    concerns=vip_sharers,
)
def vip_in_subnet(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        machine = seen.cluster.machines[name]
        if not probe.host.addresses:
            yield NotTried(name, "ip (package iproute2) is not there to ask")
            continue
        interface = machine.interface or probe.host.interface_of(machine.address)
        if not interface:
            yield Trouble(name, f"no interface has its address {machine.address}", cure="correct machines.NAME.address")
            continue
        # A VIP that is held here already is not a subnet of its own.
        subnets = [
            one.network
            for where, one in probe.host.addresses
            if where == interface and one.network.num_addresses > 1 and not one.ip.is_link_local
        ]
        for vip in seen.cluster.endpoint.vips:
            if not any(vip.ip in subnet for subnet in subnets):
                there = ", ".join(map(str, subnets)) or "no subnet"
                yield Trouble(name, f"the VIP {vip.ip} is not in what {interface} has: {there}")


@check(
    "vip-free",
    hazard="vip-already-answered",
    sentence="nobody outside the cluster answers for the VIP",
    cure="find the owner by that MAC address (ip neigh, the switch's table), or take another address",
    concerns=vip_sharers,
    needs=Part.ASKING,
)
def vip_free(seen: Seen) -> Iterator[Said]:
    ours = {link.mac: name for name, probe in seen.all.items() for link in probe.host.links.values() if link.mac}
    for name, probe in seen.machines.items():
        for vip in seen.cluster.endpoint.vips:
            if probe.host.holds(vip.ip):
                continue
            answers = probe.asking.answers.get(vip.ip)
            if answers is None:
                why = probe.asking.failed.get("probe", "nobody was asked")
                yield NotTried(name, f"who answers for {vip.ip}: {why}")
                continue
            for mac in answers:
                yield from _answered(seen, name, vip.ip, mac, ours)


def _answered(seen: Seen, name: str, vip: Address, mac: str, ours: Mapping[str, str]) -> Iterator[Said]:
    owner = ours.get(mac, "")
    # One that may hold it can have got it since it was read: VRRP does not wait for preflight.
    if owner and (owner in seen.machines or seen.all[owner].host.holds(vip)):
        return
    if owner:
        cure = f"switch proxy ARP off on {owner}, or look at what its interfaces have"
        yield Trouble(name, f"{owner} ({mac}) answers for {vip} without having it", cure=cure)
    elif missing := ", ".join(seen.unread):
        yield NotTried(name, f"{mac} answers for {vip}; it may be one of those that were not reached: {missing}")
    else:
        yield Trouble(name, f"{mac} answers for {vip}, and is none of the cluster's machines")


def _addresses(seen: Seen) -> Mapping[Address, str]:
    """Every address of every machine -> its name: as the file says, and as was read (link-local ones, too)."""
    found = {address: one.name for one in seen.cluster.machines.values() for address in one.addresses}
    for name, probe in seen.all.items():
        found |= {one.ip: name for _, one in probe.host.addresses if not one.is_loopback}
    return found


def strangers(cluster_addresses: Mapping[Address, str], meeting: Meeting) -> tuple[Packet, ...]:
    """Adverts of VRRP routers that are none of the cluster's machines."""
    return tuple(one for one in meeting.heard if one.cast == "-" and one.source not in cluster_addresses)


def foreign_routers(seen: Seen) -> frozenset[int]:
    """Virtual router ids that others use on the machines' network."""
    known = _addresses(seen)
    heard = (packet for probe in seen.all.values() for packet in strangers(known, probe.meeting))
    # A link-local address may be one of a machine of ours that was not reached.
    sure = (packet for packet in heard if not (packet.source.is_link_local and seen.unread))
    return frozenset(packet.router_id for packet in sure if packet.router_id)


@check(
    "router-id-free",
    hazard="vip-vrid-collision",
    sentence="no other VRRP router on the network uses the cluster's virtual router id",
    cure="endpoint.virtual_router_id in cluster.yaml: another one",
    concerns=vip_sharers,
    needs=Part.MEETING,
)
def router_id_free(seen: Seen) -> Iterator[Said]:
    known = _addresses(seen)
    own = keepalived.virtual_router_id(seen.cluster, seen.design.router_ids_of_others)
    for name, probe in seen.machines.items():
        meeting = probe.meeting
        foreign = [packet for packet in strangers(known, meeting) if packet.router_id == own]
        for packet in foreign:
            unread = ", ".join(seen.unread)
            # A link-local address says nothing of the machine behind it.
            if packet.source.is_link_local and unread:
                yield NotTried(name, f"{packet.source} uses {own}; it may be one of those not reached: {unread}")
            else:
                yield Trouble(
                    name, f"{packet.source} sends adverts with virtual router id {own}, which is the cluster's"
                )
        if why := _deaf(meeting) or meeting.failed.get("group", ""):
            yield NotTried(name, f"it cannot listen for VRRP: {why}")


def _deaf(meeting: Meeting) -> str:
    return "" if meeting.listened_s else meeting.failed.get("vrrp", "nothing was listened for")


def _pairs(seen: Seen) -> Iterator[tuple[str, Probe, Machine]]:
    """Each machine with each other one that it should hear."""
    for name, probe in seen.machines.items():
        for other in seen.cluster.balancers:
            if other.name != name:
                yield name, probe, other


@check(
    "vrrp-arrives",
    hazard="net-vrrp-filtered",
    sentence="VRRP packets (IP protocol 112) arrive between all machines that share the VIP",
    cure="allow IP protocol 112 between them: firewall, security groups, the CNI's host policy",
    concerns=vip_sharers,
    needs=Part.MEETING,
)
def vrrp_arrives(seen: Seen) -> Iterator[Said]:
    for name, probe, other in _pairs(seen):
        for vip in seen.cluster.endpoint.vips:
            if why := _deaf(probe.meeting) or _mute(seen, name, other, vip.version):
                yield NotTried(name, f"VRRP from {other.name}: {why}")
            elif not _heard(seen, probe, other, vip.version, "um-"):
                seconds = probe.meeting.listened_s
                to = seen.cluster.machines[name].address_of(vip.version)
                yield Trouble(
                    name, f"no VRRP packet of {other.name} to {to} arrived in {seconds:g} s, though it sent some"
                )


@check(
    "multicast-arrives",
    hazard="net-multicast-blocked",
    sentence="where adverts are multicast, the network delivers them",
    cure="endpoint.cast: unicast, or let the switch deliver the group (IGMP snooping without a querier drops it)",
    concerns=vip_sharers,
    needs=Part.MEETING,
)
def multicast_arrives(seen: Seen) -> Iterator[Said]:
    if seen.cluster.endpoint.cast is not Cast.MULTICAST:
        return
    for name, probe, other in _pairs(seen):
        for vip in seen.cluster.endpoint.vips:
            why = _deaf(probe.meeting) or probe.meeting.failed.get("group", "")
            if why := why or _mute(seen, name, other, vip.version, group=True):
                yield NotTried(name, f"multicast from {other.name}: {why}")
            elif _heard(seen, probe, other, vip.version, "m"):
                continue
            elif _heard(seen, probe, other, vip.version, "u"):
                yield Trouble(name, f"VRRP of {other.name} arrives by address, but not to {GROUPS[vip.version]}")
            else:
                yield NotTried(name, f"multicast from {other.name}: nothing of it arrives at all")


def _heard(seen: Seen, probe: Probe, other: Machine, version: int, casts: str) -> bool:
    theirs = {address for address, owner in _addresses(seen).items() if owner == other.name}
    return any(
        one.source in theirs and one.source.version == version and one.cast in casts for one in probe.meeting.heard
    )


def _mute(seen: Seen, name: str, other: Machine, version: int, *, group: bool = False) -> str:
    """Why the other one sent nothing to this machine; empty when it did."""
    sender = seen.all.get(other.name)
    if sender is None:
        return "it was not reached"
    if why := sender.missing.get(Part.MEETING):
        return why
    to = GROUPS[version] if group else str(seen.cluster.machines[name].address_of(version))
    if to in map(str, sender.meeting.sent):
        return ""
    failed = sender.meeting.failed
    return failed.get("vrrp") or failed.get(f"send to {to}") or f"it sent nothing to {to}"


@check(
    "vip-may-move",
    hazard="vip-moves-not-allowed",
    sentence="no cloud keeps the VIP from moving between machines",
    cure="an allowed-address pair or the provider's API, or endpoint.by: external with its load balancer",
    concerns=vip_sharers,
)
def vip_may_move(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        if probe.host.container:
            yield NotTried(name, f"it is a container ({probe.host.container}); what its host is says nothing here")
        elif probe.host.vendor.startswith(CLOUDS):
            yield Trouble(
                name, f"it runs in a cloud ({probe.host.vendor}) that may drop packets for the VIP", Severity.WARNING
            )


@check(
    "stalls-below-adverts",
    hazard="vip-advert-below-stall",
    sentence="no machine pauses for so long that the others take its VIP",
    cure="a longer failover.target (or advert_int), or machines that are paused less",
    concerns=vip_sharers,
    needs=Part.STALL,
)
def stalls_below_adverts(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        advert_ms = keepalived.timing(seen.view(name)).advert_ms
        adverts = probe.stall.longest_ms / advert_ms
        if adverts >= 2:
            yield Trouble(
                name,
                f"a sleep of 10 ms took {probe.stall.longest_ms:.0f} ms longer within {probe.stall.watched_s:g} s: "
                f"{adverts:.1f} adverts of {advert_ms:g} ms, and 3 that are missing move the VIP",
                Severity.ERROR if adverts >= 3 else Severity.WARNING,
            )


@check(
    "endpoint-resolves",
    hazard="api-endpoint-drift",
    sentence="where the endpoint's name resolves, it is to the endpoint",
    cure="correct the name's entry in DNS or /etc/hosts",
    concerns=everyone,
)
def endpoint_resolves(seen: Seen) -> Iterator[Said]:
    endpoint = seen.cluster.endpoint
    if not endpoint.host:
        return
    own = {*(vip.ip for vip in endpoint.vips), *([endpoint.outside] if endpoint.outside else [])}
    for name, probe in seen.machines.items():
        if not probe.host.resolved:
            yield NotTried(name, f"{endpoint.host} does not resolve there yet; haplane writes it into /etc/hosts")
        for address in probe.host.resolved:
            if address not in own:
                yield Trouble(name, f"{endpoint.host} resolves to {address}, not to {', '.join(map(str, own))}")
