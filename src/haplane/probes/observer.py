"""What a machine of the cluster does while something is broken: what its observer prints, and what that means. Pure.

The program (observer.pl) needs nothing but perl-base, and journalctl for what daemons say. What is observed:

    vip             held or empty; the second VIP of two is `vip ADDRESS`
    vrrp            MASTER, BACKUP, FAULT; empty once keepalived has ended; of a second VIP: `vrrp INSTANCE`
    balancer        running, or empty once it has ended: it is heard of when it starts or ends
    server NAME     UP, DOWN, MAINT, DRAIN, NOLB: this machine's HAProxy about BACKEND/SERVER
    etcd-leader     1: this member leads, 0: it does not, empty: it does not answer
    etcd-has-leader, etcd-leader-changes     as it says, in the same way
    observer        watching, or empty from when nothing more was heard

An address and etcd are seen at the beginning and at each change; daemons are heard of only when they say something.
The journal's times are when journald received a message: soon after it was written, unless the machine is overloaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from haplane.components import etcd, haproxy, keepalived, nginx
from haplane.model.cluster import Cluster
from haplane.observe.preflight import perl
from haplane.probes.history import Observation, Relation, RoundTrip, relate

VIP, VRRP, BALANCER, SERVER, ETCD_LEADER, OBSERVER = "vip", "vrrp", "balancer", "server", "etcd-leader", "observer"
HELD, RUNNING, WATCHING, GONE = "held", "running", "watching", ""
_GAUGES = (ETCD_LEADER, "etcd-has-leader", "etcd-leader-changes")
_KEEPALIVED = "keepalived.service"
_BALANCERS = tuple(one.unit for one in (haproxy.BALANCER, nginx.BALANCER))


def command(cluster: Cluster) -> str:
    """The shell command that runs until its standard input ends; the same on every machine."""
    first, *others = (vip.ip for vip in cluster.endpoint.vips)
    arguments: list[tuple[object, ...]] = [("vip", first, VIP), *(("vip", one, f"{VIP} {one}") for one in others)]
    arguments += [("unit", unit) for unit in (_KEEPALIVED, *_BALANCERS)]
    arguments.append(("etcd", etcd.loopback(cluster), etcd.METRICS_PORT))
    return perl.command("observer", arguments, package=__package__)


@dataclass(frozen=True)
class Seen:
    """On the machine's own clock. t may be wrong by error seconds."""

    t: float
    what: str
    value: str
    error: float = 0.0


@dataclass(frozen=True)
class Sight:
    """All that one observer said: what changed, by time, and what it could not watch, as sentences."""

    seen: tuple[Seen, ...]
    problems: tuple[str, ...]


def parse(lines: Iterable[str], trips: Sequence[RoundTrip] = ()) -> Sight:
    """The lines of one run of the program, but for answers to readings: those are trips. Lines cut off are left out.

    It was watching from its first word to its last, or to the last reading.
    """
    seen: list[Seen] = []
    problems: dict[str, None] = {}
    started, last = None, max((trip.read for trip in trips), default=0.0)
    for line in lines:
        fields = line.rstrip("\n").split("\t")
        try:
            if fields[0] == "start":
                started = float(fields[1])
            elif fields[0] == "failed":
                problems[f"{fields[1]}: {fields[2]}"] = None
            else:
                seen += _read(fields)
        except (ValueError, IndexError, KeyError):
            continue
    if started is None:
        return Sight((), (*problems, "it did not start"))
    # What is older is of the time before, perhaps of an earlier life of the machine.
    seen = sorted((each for each in seen if each.t >= started), key=lambda each: each.t)
    last = max(last, started, *(each.t for each in seen))
    watched = (Seen(started, OBSERVER, WATCHING), *_changes(seen), Seen(last, OBSERVER, GONE))
    return Sight(watched, tuple(problems))


def _read(fields: list[str]) -> Iterator[Seen]:
    match fields:
        case ["vip", since, until, what, value]:
            yield _between(since, until, what, HELD if value == "1" else GONE)
        case ["etcd", since, until, _, _, _]:
            for what, value in zip(_GAUGES, fields[3:], strict=True):
                yield _between(since, until, what, "" if value == "-" else value)
        case ["journal", entry]:
            yield from _heard(json.loads(entry))


def _between(since: str, until: str, what: str, value: str) -> Seen:
    """It came true between two looks, which are far apart when the program, or its machine, was held up meanwhile."""
    half = max((float(until) - float(since)) / 2, 0.0)
    return Seen(round(float(until) - half, 6), what, value, round(half, 6))


def _heard(entry: object) -> Iterator[Seen]:
    if not isinstance(entry, dict) or not isinstance(message := entry.get("MESSAGE"), str):
        return
    t = int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6
    sender = entry.get("SYSLOG_IDENTIFIER")
    if sender == "haproxy" and (change := haproxy.parse_change(message)):
        yield Seen(t, f"{SERVER} {change[0]}", change[1])
    elif sender == "Keepalived_vrrp" and (transition := keepalived.parse_transition(message)):
        instance, state = transition
        yield Seen(t, VRRP if instance == keepalived.INSTANCE else f"{VRRP} {instance}", state)
    elif (sender == "Keepalived_vrrp" and message.startswith("Stopped")) or (
        entry.get("UNIT") == _KEEPALIVED and "Main process exited" in message
    ):
        yield Seen(t, VRRP, GONE)
    elif entry.get("UNIT") in _BALANCERS and message.startswith("Started "):
        yield Seen(t, BALANCER, RUNNING)
    elif entry.get("UNIT") in _BALANCERS and "Main process exited" in message:
        yield Seen(t, BALANCER, GONE)


def _changes(seen: Iterable[Seen]) -> Iterator[Seen]:
    """Without what says again what was so already."""
    known: dict[str, str] = {}
    for each in seen:
        if known.get(each.what) != each.value:
            known[each.what] = each.value
            yield each


def observations(
    machine: str, seen: Iterable[Seen], trips: Sequence[RoundTrip], prober_trips: Sequence[RoundTrip]
) -> tuple[Observation, ...]:
    """The same on the prober's clock: both clocks are known by this host's, and both errors count.

    trips: readings of the machine's clock since it was started. Raises ValueError when a clock was never read.
    """
    return tuple(_observation(machine, each, trips, prober_trips) for each in seen)


def _observation(
    machine: str, seen: Seen, trips: Sequence[RoundTrip], prober_trips: Sequence[RoundTrip]
) -> Observation:
    # Near enough to choose a reading by: one that is off by seconds is not better than another.
    about = seen.t - relate(trips, near=trips[0].sent if trips else 0.0).offset
    own = relate(trips, near=about)
    here = seen.t - own.offset
    probers = relate(prober_trips, near=here)
    both = Relation(probers.offset, own.error + probers.error + seen.error)
    return both.observation(here, machine, seen.what, seen.value)


def not_watched(machine: str, local: float, prober_trips: Sequence[RoundTrip]) -> Observation:
    """That an observer which should have been there was not, at this time of this host."""
    return relate(prober_trips, near=local).observation(local, machine, OBSERVER, GONE)
