"""The VRRP instance that moves the VIP. Sources: keepalived.conf(5), RFC 9568; measured values in docs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from haplane.components import keepalived
from haplane.design.design import Design
from haplane.design.hazards.effective import Told, keepaliveds
from haplane.design.hazards.finding import Finding
from haplane.design.hazards.registry import advice, error, hazard, warning
from haplane.design.hazards.vrrp import GLOBAL, INSTANCE, advert_ms_of, is_on, priority_of, version_of, weights
from haplane.model.cluster import Cast, Where

# VRRP version 3 counts hundredths of a second in 12 bits (RFC 9568 section 5.2.7).
SHORTEST_ADVERT_MS, LONGEST_ADVERT_MS = 10, 40_950


@hazard("vip-options-conflict")
def check_options_fit_the_version(design: Design) -> Iterator[Finding]:
    for told in keepaliveds(design):
        yield from _version_2(told) if version_of(told) == 2 else _version_3(told)
        for keyword, section in (("vrrp_strict", GLOBAL), ("strict_mode", INSTANCE), ("no_accept", INSTANCE)):
            if is_on(told.arguments(keyword, section)):
                because = f"with {keyword} the holder of the VIP drops packets that are sent to it"
                yield error(because, "remove the line", told.where(keyword, section))


def _version_2(told: Told) -> Iterator[Finding]:
    version = ("version", INSTANCE) if told.setting("version", INSTANCE) else ("vrrp_version", GLOBAL)
    where = told.where(*version)
    if advert_ms_of(told) % 1000:
        because = f"VRRP version 2 counts whole seconds, and advert_int is {advert_ms_of(told) / 1000:g} s"
        yield error(because, "use vrrp_version 3", where)
    if any(vip.version == 6 for vip in told.cluster.endpoint.vips):
        yield error("VRRP version 2 knows no IPv6", "use vrrp_version 3", where)


def _version_3(told: Told) -> Iterator[Finding]:
    advert_ms = advert_ms_of(told)
    if not SHORTEST_ADVERT_MS <= advert_ms <= LONGEST_ADVERT_MS or round(advert_ms, 6) % 10:
        because = f"advert_int is {advert_ms / 1000:g} s; VRRP version 3 sends 0.01 to 40.95 s in steps of 0.01 s"
        yield error(because, "use such an interval", told.where("advert_int", INSTANCE))
    if told.setting("authentication", INSTANCE):
        because = "VRRP version 3 has no authentication: keepalived leaves it out"
        cure = "remove it, and filter protocol 112 on the segment (auth_hmac from keepalived 2.4.0 on)"
        yield error(because, cure, told.where("authentication", INSTANCE))


@hazard("vip-priority-bad")
def check_priorities_differ_enough(design: Design) -> Iterator[Finding]:
    machines: dict[int, list[Told]] = defaultdict(list)
    for told in keepaliveds(design):
        machines[priority_of(told)].append(told)
    for priority, those in machines.items():
        where = _where_priority(those[-1])
        if not 1 <= priority <= 254:
            yield error(f"priority is {priority}; 255 ignores every check", "use 1 to 254", where)
        if len(those) > 1:
            names = ", ".join(one.machine.name for one in those)
            because = f"{names} have the same priority {priority}"
            yield error(because, f"keep them apart, or leave them to haplane; {_room(those[0])}", where)
    gaps = [(higher - lower, lower) for lower, higher in pairwise(sorted(machines))]
    if gaps:
        smallest, lower = min(gaps)
        told = machines[lower][-1]
        skew_ms = smallest / 256 * _skew_of_256_ms(told)
        if skew_ms < keepalived.SKEW_APART_MS:
            because = f"priorities {lower + smallest} and {lower} are {skew_ms:.1f} ms of skew apart"
            yield warning(f"{because}: both backups may claim the VIP", _room(told), _where_priority(told))


def _skew_of_256_ms(told: Told) -> float:
    """Version 2 counts the skew in 256ths of a second (RFC 3768 section 6.1), version 3 of the interval."""
    return 1000 if version_of(told) == 2 else advert_ms_of(told)


def _room(told: Told) -> str:
    step = keepalived.priority_step(max(1, int(_skew_of_256_ms(told))))
    return f"at this advert interval use steps of {step} or more within 1 to 254, or a longer interval"


def _where_priority(told: Told) -> Where:
    return told.where("priority", INSTANCE, otherwise=("machines", told.machine.name))


@hazard("vip-nopreempt-broken")
def check_nopreempt_works(design: Design) -> Iterator[Finding]:
    for told in keepaliveds(design):
        options = [one for one in ("nopreempt", "preempt_delay") if told.setting(one, INSTANCE)]
        if options and (told.arguments("state", INSTANCE) or "").upper() == "MASTER":
            because = f"keepalived drops {' and '.join(options)} where the state is MASTER"
            yield error(because, "use state BACKUP on all machines", told.where("state", INSTANCE))
        for weight in weights(told) if "nopreempt" in options else ():
            because = "with nopreempt a MASTER whose priority was lowered by a weight is not replaced"
            yield error(because, "leave the weight out: a failed check then means FAULT", weight.where)


@hazard("vip-failback-outage")
def check_a_return_costs_nothing(design: Design) -> Iterator[Finding]:
    for told in keepaliveds(design):
        if not told.setting("nopreempt", INSTANCE) and not told.setting("preempt_delay", INSTANCE):
            because = "a machine that comes back takes the VIP away from the one that holds it"
            yield advice(because, "keep nopreempt", told.where("nopreempt", INSTANCE))


@hazard("vip-unicast-peers")
def check_unicast_is_closed(design: Design) -> Iterator[Finding]:
    """Peers are made of the machines' addresses; source and its check can be changed by the file."""
    cluster = design.cluster
    if cluster.endpoint.cast is not Cast.UNICAST or len(cluster.balancers) < 2:
        return
    for told in keepaliveds(design):
        where = told.where("unicast_src_ip", INSTANCE)
        source = told.setting("unicast_src_ip", INSTANCE)
        if source is None:
            because = "without unicast_src_ip it may send adverts from an address that its peers do not know"
            yield error(because, "leave unicast_src_ip to haplane", where)
        elif source.given and source.arguments not in map(str, told.machine.addresses):
            because = f"peers know this machine by its address in the file, and drop adverts from {source.arguments}"
            yield error(because, "leave unicast_src_ip to haplane", where, told.machine.name)
        checked = (("vrrp_check_unicast_src", GLOBAL), ("check_unicast_src", INSTANCE))
        if not any(is_on(told.arguments(*one)) for one in checked):
            because = "adverts are taken from anybody, also from a machine that was removed"
            yield warning(because, "keep vrrp_check_unicast_src", told.where("vrrp_check_unicast_src", GLOBAL))


@hazard("vip-garp-not-repeated")
def check_announcements_are_repeated(design: Design) -> Iterator[Finding]:
    for told in keepaliveds(design):
        own = ("garp_master_refresh", INSTANCE)
        keyword = own if told.setting(*own) else ("vrrp_garp_master_refresh", GLOBAL)
        if not told.time_ms(*keyword, unit_ms=1000):
            because = "a neighbour that missed the announcement of the VIP never hears another"
            yield advice(because, "use vrrp_garp_master_refresh 60", told.where(*keyword))
