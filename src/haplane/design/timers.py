"""Timers for `failover.target`: the calmest that meet it, never shorter than what was measured allows. Pure.

Without a target the calm ones stay. A short timer is not free: a machine that stalls for longer than a timer is taken
for dead while it lives, so measured stalls, round trips and disks set the lower bounds.

Sources: RFC 9568; etcd.io/docs, tuning (heartbeat about the round trip, election ten times that) and what etcd refuses
to start with (an election below 5 heartbeats or above 50 s).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations

from haplane.components.balancer import asked_of, balancer_of
from haplane.components.base import CALM, Timers
from haplane.components.keepalived import SKEW_APART_MS, TOP_PRIORITY, check_fall, priority_step
from haplane.design.budget import (
    ONE_APISERVER,
    REQUEST_INTERVAL_S,
    budgets,
    check_times_out,
    endpoint_moves,
    holder_resigns,
    leader_is_lost,
)
from haplane.design.design import Design
from haplane.design.link import Link
from haplane.model.cluster import Cluster, EndpointOwner, KeyPath, Machine
from haplane.model.facts import MachineFacts, MeasuredFacts

# VRRP version 3 counts in hundredths of a second, and nothing here needs to be finer.
STEP_MS = 10
# A longer advert is not calmer, only later. VRRP itself ends at 40.95 s.
LONGEST_ADVERT_MS = 1000
VRRP_LIMIT_MS = 40_950
# Where stalls were not measured: what the calm advert survives.
ASSUMED_STALL_MS = 3 * CALM.advert_ms - STEP_MS

# A busy program that lives may take so long to answer; an apiserver also looks at its etcd first.
SHORTEST_CHECK_TIMEOUT_MS = 100
SHORTEST_APISERVER_TIMEOUT_MS = 250
# A question has to have ended before the next is due, or keepalived leaves that one out.
CHECK_PAUSE_MS = 20

# etcd on two busy processors held its leader with 30 ms; nothing shorter was tried.
SHORTEST_HEARTBEAT_MS = 30
TIMES_HEARTBEAT = 5
TIMES_ROUND_TRIP = 10
# A leader that waits for its disk sends no heartbeats meanwhile, and the slowest write is slower than the p99.
TIMES_FSYNC = 10
# Stalls are measured where nothing much goes on. While a machine came back, leaders that had stalled for 26 to 62 ms
# sent heartbeats after 0.6 s, and with an election of 0.2 s they elected without end (docs/measurements.md).
TIMES_STALL = 10

# fault -> the timer that decides whether it meets the target.
_JUDGED = {
    "power-off-vip-holder": "advert_ms",
    "power-off-balancer": "advert_ms",
    "{asked}-hang": "check_interval_ms",
    "etcd-leader-death": "etcd_election_ms",
}
_KEEPALIVED_KEYS = {
    "advert_ms": ("vrrp_instance", "advert_int"),
    "check_interval_ms": ("vrrp_script", "interval"),
    "check_timeout_ms": ("vrrp_script", "timeout"),
}


@dataclass(frozen=True)
class Solution:
    """because: field of Timers -> why it has its value. unmet: what keeps the target from being met, as sentences."""

    timers: Timers
    because: Mapping[str, str]
    unmet: tuple[str, ...] = ()


def solve(cluster: Cluster, facts: MeasuredFacts) -> Solution:
    """The calmest timers that meet failover.target, else the nearest that are safe.

    The target holds for the way of the endpoint and of writes to their next holder; one of several apiservers may be
    avoided for longer.
    """
    target_ms = cluster.failover.target_ms
    if target_ms is None:
        calm = dict.fromkeys(asdict(CALM), "calm: the file has no failover.target")
        return Solution(CALM, _with_overrides(cluster, calm))
    advert_ms, why_advert = _advert(cluster, facts, target_ms)
    interval_ms, timeout_ms, why_check = _check(cluster, advert_ms, target_ms)
    heartbeat_ms, election_ms, why_etcd = _etcd(cluster, facts, target_ms)
    timers = Timers(advert_ms, interval_ms, timeout_ms, heartbeat_ms, election_ms)
    because = {
        "advert_ms": why_advert,
        "check_interval_ms": why_check,
        "check_timeout_ms": why_check,
        "etcd_heartbeat_ms": why_etcd,
        "etcd_election_ms": why_etcd,
    }
    because = _with_overrides(cluster, because)
    return Solution(timers, because, tuple(_unmet(cluster, timers, target_ms, because)))


# -- VRRP


def _advert(cluster: Cluster, facts: MeasuredFacts, target_ms: float) -> tuple[int, str]:
    if reason := _fixed_endpoint(cluster):
        return CALM.advert_ms, reason
    stall_ms, stall = _longest_stall(cluster.balancers, facts)
    by_stall = int(stall_ms // (3 * STEP_MS)) * STEP_MS + STEP_MS
    by_priority = _shortest_for_priorities(len(cluster.balancers))
    wanted = max((one for one in _adverts(LONGEST_ADVERT_MS) if _moves_ms(one) <= target_ms), default=STEP_MS)
    lowest = min(max(by_stall, by_priority), VRRP_LIMIT_MS)
    if wanted >= LONGEST_ADVERT_MS >= lowest:
        return wanted, f"the calmest that is of use: {_moves_ms(wanted):.0f} ms at worst, of {target_ms:g} ms"
    if wanted >= lowest:
        return (
            wanted,
            f"the longest with which the VIP moves within {target_ms:g} ms ({_moves_ms(wanted):.0f} at worst)",
        )
    if by_stall >= by_priority:
        return lowest, f"no shorter: 3 adverts have to be longer than {stall}"
    return lowest, (
        f"no shorter: {len(cluster.balancers)} balancers need {len(cluster.balancers)} priorities, each "
        f"{priority_step(lowest)} below the last so that their skews are {SKEW_APART_MS} ms apart"
    )


def _moves_ms(advert_ms: int) -> float:
    """At worst, from the death of the machine with the top priority to an answer through the next one."""
    return _worst_ms(endpoint_moves(advert_ms, TOP_PRIORITY - priority_step(advert_ms), REQUEST_INTERVAL_S))


def _adverts(longest_ms: int) -> range:
    return range(STEP_MS, longest_ms + 1, STEP_MS)


def _shortest_for_priorities(balancers: int) -> int:
    """With which the last balancer's priority is at least 1; with which steps of 1 do, where none is."""
    smallest_step = 256 * SKEW_APART_MS
    fitting = (one for one in _adverts(smallest_step) if _last_priority(balancers, one) >= 1)
    return next(fitting, smallest_step)


def _last_priority(balancers: int, advert_ms: int) -> int:
    return TOP_PRIORITY - (balancers - 1) * priority_step(advert_ms)


def _fixed_endpoint(cluster: Cluster) -> str:
    """Why no timer of keepalived changes anything; empty if one does."""
    if cluster.endpoint.by is EndpointOwner.EXTERNAL:
        return "calm: endpoint.by is external, so a load balancer of yours decides when the address moves"
    if len(cluster.balancers) < 2:
        return "calm: no other machine can hold the VIP, so a shorter time would not help"
    return ""


# -- keepalived's question


def _check(cluster: Cluster, advert_ms: int, target_ms: float) -> tuple[int, int, str]:
    if reason := _fixed_endpoint(cluster):
        return CALM.check_interval_ms, CALM.check_timeout_ms, reason
    asked, fall = asked_of(cluster), check_fall(cluster)
    least_ms = SHORTEST_CHECK_TIMEOUT_MS if balancer_of(cluster) else SHORTEST_APISERVER_TIMEOUT_MS
    moves_ms = _worst_ms(holder_resigns(advert_ms, TOP_PRIORITY - priority_step(advert_ms), REQUEST_INTERVAL_S))
    shortest = least_ms + CHECK_PAUSE_MS
    for interval_ms in range(CALM.check_interval_ms, shortest - 1, -STEP_MS):
        # As calm as the calm one: the same part of the interval.
        part = interval_ms * CALM.check_timeout_ms // CALM.check_interval_ms // STEP_MS * STEP_MS
        timeout_ms = max(part, least_ms)
        worst_ms = _worst_ms([check_times_out(interval_ms, timeout_ms, fall)]) + moves_ms
        if worst_ms <= target_ms:
            return interval_ms, timeout_ms, f"the calmest with which a hung {asked} loses the VIP in {worst_ms:.0f} ms"
    reason = f"no shorter: a busy {asked} that lives may take {least_ms} ms to answer"
    return shortest, least_ms, reason


# -- etcd


def _etcd(cluster: Cluster, facts: MeasuredFacts, target_ms: float) -> tuple[int, int, str]:
    """heartbeat, election, why. What the file says of one of them bounds the other."""
    members = cluster.etcd_members
    own = CALM.etcd_heartbeat_ms, CALM.etcd_election_ms
    if len(members) < 3:
        return *own, f"etcd's own: with {len(members)} members nobody is left to elect"
    measured = [facts.machines.get(one.name, MachineFacts()) for one in members]
    fsyncs = [one.fsync_p99_ms for one in measured if one.fsync_p99_ms is not None]
    trips = list(_round_trips(members, facts))
    if len(fsyncs) < len(members) or None in trips:
        return *own, "etcd's own: round trips and disks of its members were not measured (preflight does)"
    fsync_ms, trip_ms = max(fsyncs), max(one for one in trips if one is not None)
    stall_ms, stall = _longest_stall(members, facts)
    late_ms = max(one.late_heartbeat_ms or 0 for one in measured)
    pairs = list(_etcd_pairs(cluster, trip_ms, fsync_ms, stall_ms, late_ms))
    measured_as = f"round trip {trip_ms:g} ms, fsync {fsync_ms:g} ms, {stall}"
    if late_ms:
        measured_as += f", and its leaders once sent no heartbeat for {late_ms:g} ms"
    if not pairs:
        return *own, f"etcd's own: nothing shorter is safe ({measured_as}); if it elects without need, set it longer"
    fitting = [pair for pair in pairs if _writes_ms(pair[1], len(members)) <= target_ms]
    if fitting:
        heartbeat, election = max(fitting, key=_calmness)
        return heartbeat, election, f"the calmest with which writes go on within {target_ms:g} ms ({measured_as})"
    heartbeat, election = min(pairs, key=lambda pair: (pair[1], pair[0]))
    return heartbeat, election, f"no shorter is safe: {measured_as}"


def _calmness(pair: tuple[int, int]) -> tuple[int, int, int]:
    """The slowest heartbeat of which an election has ten, as etcd's own does; else the fastest, to have many."""
    heartbeat, election = pair
    return (heartbeat if 10 * heartbeat <= election else 0, -heartbeat, election)


def _etcd_pairs(
    cluster: Cluster, trip_ms: float, fsync_ms: float, stall_ms: float, late_ms: float
) -> Iterator[tuple[int, int]]:
    """Heartbeats and elections that are safe and no longer than etcd's own; an election is whole heartbeats."""
    shortest = max(SHORTEST_HEARTBEAT_MS, _rounded_up(trip_ms))
    given_heartbeat, given_election = cluster.etcd.heartbeat_ms, cluster.etcd.election_ms
    heartbeats = [given_heartbeat] if given_heartbeat else range(shortest, CALM.etcd_heartbeat_ms + 1, STEP_MS)
    for heartbeat in heartbeats:
        safe_ms = max(
            TIMES_HEARTBEAT * heartbeat,
            TIMES_ROUND_TRIP * trip_ms,
            TIMES_FSYNC * fsync_ms,
            TIMES_STALL * stall_ms,
            # The heartbeat after the late one has to arrive in time.
            late_ms + 2 * heartbeat,
        )
        if given_election:
            elections: Iterable[int] = [given_election] if given_election >= TIMES_HEARTBEAT * heartbeat else []
        else:
            elections = range(math.ceil(safe_ms / heartbeat) * heartbeat, CALM.etcd_election_ms + 1, heartbeat)
        yield from ((heartbeat, election) for election in elections)


def _writes_ms(election_ms: int, members: int) -> float:
    return _worst_ms(leader_is_lost(election_ms, members, REQUEST_INTERVAL_S))


def _round_trips(members: Iterable[Machine], facts: MeasuredFacts) -> Iterator[float | None]:
    """The slower direction of each pair; None: not measured."""
    for one, other in combinations([member.name for member in members], 2):
        there = facts.machines.get(one, MachineFacts()).round_trip_ms.get(other)
        back = facts.machines.get(other, MachineFacts()).round_trip_ms.get(one)
        yield max((trip for trip in (there, back) if trip is not None), default=None)


# -- both


def _longest_stall(machines: Iterable[Machine], facts: MeasuredFacts) -> tuple[float, str]:
    """In ms, and in words."""
    stalls = [facts.machines.get(one.name, MachineFacts()).stall_ms for one in machines]
    known = [stall for stall in stalls if stall is not None]
    if len(known) < len(stalls):
        return ASSUMED_STALL_MS, f"a stall of {ASSUMED_STALL_MS} ms, assumed because not all were measured (preflight)"
    return max(known), f"the longest stall of {max(known):g} ms"


def _rounded_up(value_ms: float) -> int:
    return math.ceil(value_ms / STEP_MS) * STEP_MS


def _worst_ms(links: Iterable[Link]) -> float:
    # Sums of binary fractions are not exact.
    return round(1000 * sum(link.worst_s for link in links), 6)


def _unmet(cluster: Cluster, timers: Timers, target_ms: float, because: Mapping[str, str]) -> Iterator[str]:
    """By the budgets of the design as it will be, with what the file overrides."""
    keepalived = cluster.endpoint.by is EndpointOwner.KEEPALIVED
    if keepalived and _last_priority(len(cluster.balancers), timers.advert_ms) < 1:
        yield f"{len(cluster.balancers)} balancers cannot share one VIP: VRRP has too few priorities to keep them apart"
    balancer = balancer_of(cluster)
    asked = balancer.name if balancer else "apiserver"
    judged = {fault.format(asked=asked): timer for fault, timer in _JUDGED.items()}
    for budget in budgets(Design(cluster, timers=timers)):
        if budget.fault not in judged:
            continue
        links = [link for link in budget.links if link.name not in ONE_APISERVER]
        worst_ms, longest = _worst_ms(links), max(links, key=lambda link: link.worst_s)
        if math.isinf(worst_ms):
            yield f"{budget.fault}: {longest.because}"
        elif worst_ms > target_ms:
            yield (
                f"{budget.fault}: {worst_ms:.0f} ms at worst instead of {target_ms:g} ms; `{longest.name}` alone "
                f"takes {1000 * longest.worst_s:.0f} ms of it ({longest.because}); {because[judged[budget.fault]]}"
            )


def _with_overrides(cluster: Cluster, because: Mapping[str, str]) -> dict[str, str]:
    """The reasons, and what the file says instead."""
    result = dict(because)
    for field, path, value in _overrides(cluster):
        wins = "counts if it is shorter" if field == "check_timeout_ms" else "wins"
        result[field] += f"; but the file says {'.'.join(map(str, path))}: {value}, which {wins}"
    return result


def _overrides(cluster: Cluster) -> Iterator[tuple[str, KeyPath, object]]:
    """field of Timers, the key of cluster.yaml that overrides it, its value."""
    for field, (section, keyword) in _KEEPALIVED_KEYS.items():
        if keyword in cluster.keepalived.get(section, {}):
            yield field, ("keepalived", section, keyword), cluster.keepalived[section][keyword]
        for one in cluster.balancers:
            if keyword in one.keepalived.get(section, {}):
                yield field, ("machines", one.name, "keepalived", section, keyword), one.keepalived[section][keyword]
    for field, keyword, value in (
        ("etcd_heartbeat_ms", "heartbeat_ms", cluster.etcd.heartbeat_ms),
        ("etcd_election_ms", "election_ms", cluster.etcd.election_ms),
    ):
        if value is not None:
            yield field, ("etcd", keyword), value
