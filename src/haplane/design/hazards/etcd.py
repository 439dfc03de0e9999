"""etcd: how many vote, where, and how patient they are. Sources: etcd FAQ, etcd tuning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from haplane.components import etcd
from haplane.design.design import Design
from haplane.design.hazards.effective import extra_arguments
from haplane.design.hazards.finding import Finding
from haplane.design.hazards.registry import error, hazard, warning
from haplane.model.cluster import Loss, Where

# etcd refuses to start above it.
LONGEST_ELECTION_MS = 50_000
MOST_MEMBERS = 7


@hazard("etcd-even-members")
def check_number_of_members(design: Design) -> Iterator[Finding]:
    count = len(design.cluster.etcd_members)
    where = design.cluster.where("machines")
    if count == 2:
        yield error("etcd has 2 members: losing either one stops it", "use 3 or 5", where)
    elif count % 2 == 0:
        survived = (count - 1) // 2
        because = f"etcd has {count} members, which survive the loss of {survived} as {count - 1} would"
        yield warning(because, f"use {count - 1} or {count + 1}", where)
    elif count > MOST_MEMBERS:
        yield warning(f"etcd has {count} members, and every write waits for {count // 2 + 1}", "use 5", where)


@hazard("etcd-zone-majority")
def check_no_zone_holds_quorum(design: Design) -> Iterator[Finding]:
    cluster = design.cluster
    members = cluster.etcd_members
    if cluster.failover.survive is not Loss.ZONE:
        zones = {one.zone for one in members}
        if len(members) > 1 and len(zones) == 1 and None not in zones:
            because = f"all {len(members)} etcd members are in zone {members[0].zone}: what takes it takes all of them"
            where = cluster.where("machines", members[0].name, "zone")
            yield warning(because, "spread them over three zones", where)
        return
    bearable = (len(members) - 1) // 2
    for zone, count in Counter(one.zone for one in members if one.zone is not None).items():
        if count > bearable:
            because = f"zone {zone} holds {count} of {len(members)} etcd members; {bearable} may be lost"
            cure = "use at least three zones and spread etcd evenly, or write survive: machine"
            yield error(because, cure, cluster.where("failover", "survive"))


@hazard("etcd-timing")
def check_election_is_patient(design: Design) -> Iterator[Finding]:
    heartbeat_ms, election_ms, where = _timers(design)
    if election_ms < 5 * heartbeat_ms:
        because = f"an election after {election_ms} ms leaves room for fewer than 5 heartbeats of {heartbeat_ms} ms"
        yield warning(because, f"use an election timeout of {10 * heartbeat_ms} ms or a shorter heartbeat", where)
    if election_ms > LONGEST_ELECTION_MS:
        because = f"etcd does not take an election timeout of {election_ms} ms"
        yield warning(because, f"use {LONGEST_ELECTION_MS} ms at most", where)


def _timers(design: Design) -> tuple[int, int, Where]:
    """Heartbeat and election timeout in milliseconds as etcd will be told, and where the file says so."""
    cluster = design.cluster
    view = design.view(cluster.etcd_members[0].name)
    given = extra_arguments(cluster, "ClusterConfiguration", "etcd", "local", "extraArgs")
    if given is not None and cluster.is_stacked:
        flags = given.flags
        where = given.where(cluster, next((name for name in _FLAGS if name in flags), ""))
        return (
            _whole(flags.get("heartbeat-interval"), etcd.DEFAULT_HEARTBEAT_MS),
            _whole(flags.get("election-timeout"), etcd.DEFAULT_ELECTION_MS),
            where,
        )
    key = "election" if ("etcd", "election") in cluster.places else "heartbeat"
    return etcd.heartbeat_ms(view), etcd.election_ms(view), cluster.where("etcd", key)


_FLAGS = ("election-timeout", "heartbeat-interval")


def _whole(text: str | None, otherwise: int) -> int:
    """etcd's own default where the flag is missing or no number."""
    return int(text) if text and text.isdecimal() else otherwise
