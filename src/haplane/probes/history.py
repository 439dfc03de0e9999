"""What the prober, the drill and observers saw, as events, and their file format: a JSON object per line. Pure.

All times are seconds on the prober's monotonic clock. Events keep the file's order, which is the order in which they
were written and not the order of t: a request is written when it ends. What each line of the prober means is said in
`prober`; marks (what the drill did), observations (what a machine was seen to be) and what was found stored are added
by the drill. Keys that came later are optional, so that older files are read as before.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TypeVar

from haplane.model.errors import InvalidFile, Problem
from haplane.model.reading import first_of
from haplane.probes import prober
from haplane.probes.prober import Config, ConfigError

# What a drill does to heal, and when all is as it was before. CALM: since when clients are served well, where that took
# a while. Every other mark is a fault.
POWER_ON, HEAL, WHOLE, CALM = "power-on", "heal", "whole", "calm"
HEALING = frozenset({POWER_ON, HEAL, WHOLE})
NO_FAULT = HEALING | {CALM}

# Those of services have the names of prober.service_probe.
REQUEST_PROBES = ("new", "persistent", "write", "set", "get")

# How fast two clocks may drift apart, in seconds per second: the most by which NTP may bend one (adjtimex(2)).
DRIFT = 500e-6


class RequestOutcome(StrEnum):
    OK = "ok"
    FAILED = "failed"
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True)
class Header:
    """start: when the first request is due. wall: the wall clock at t, with its error in seconds."""

    t: float
    version: int
    start: float
    wall: float
    wall_error: float
    config: Config


@dataclass(frozen=True)
class Request:
    """t: when it was due. sent_at is None when it never was sent. end: when its outcome was known.

    begun: when the prober began with it; None where it did not or where that was not written down. key: the name of
    what a write makes. value: what the register was set to, or had when it was read; a get that is ok without one found
    no register. version: the resourceVersion that the answer told.
    """

    t: float
    probe: str
    outcome: RequestOutcome
    kind: str
    sent_at: float | None
    end: float
    begun: float | None = None
    key: str = ""
    value: int | None = None
    version: int | None = None

    @property
    def latency_s(self) -> float:
        return self.end - self.t

    @property
    def ok(self) -> bool:
        return self.outcome is RequestOutcome.OK


@dataclass(frozen=True)
class Reconnect:
    """An attempt of the persistent probe to connect."""

    t: float
    cause: str
    outcome: RequestOutcome
    kind: str
    end: float


@dataclass(frozen=True)
class Idle:
    """A connection that waited from t until told_at.

    kind: how it was told that it was over (reset, eof ...), or prober.ALIVE or prober.DARK: still open at the end of
    the schedule, it then answered or did not.
    """

    t: float
    told_at: float
    kind: str


@dataclass(frozen=True)
class Listing:
    """A list by one of the watches. since: the last version it had seen before. version: the list's; None: failed."""

    t: float
    number: int
    cause: str
    since: int | None
    outcome: RequestOutcome
    kind: str
    end: float
    version: int | None


@dataclass(frozen=True)
class Watching:
    """An attempt to watch what is newer than since. opened: when it was granted; None: never. kind: how it ended."""

    t: float
    number: int
    cause: str
    since: int
    opened: float | None
    ended: float
    kind: str


@dataclass(frozen=True)
class Watched:
    """What one of the watches was told at t; LISTED: what it found in a list. A bookmark has no key."""

    t: float
    number: int
    kind: str
    key: str
    version: int


@dataclass(frozen=True)
class Stall:
    """The prober itself stood still at some time between start and end, for lag seconds at most."""

    start: float
    end: float
    lag: float

    @classmethod
    def ending(cls, end: float, lag: float) -> Stall:
        """A stall whose place is known."""
        return cls(round(end - lag, 6), end, lag)


@dataclass(frozen=True)
class Clock:
    """lag: how late the prober's schedule was at worst since the Clock before. stalls: those with a known place."""

    t: float
    lag: float
    stalls: tuple[Stall, ...] = ()


@dataclass(frozen=True)
class LeaseSeen:
    """What the lease `name` said at some time between sent_at and end; nothing where kind is not empty.

    holder: empty when it was given back. acquired, renewed: the wall clock of the holder's machine, in seconds.
    """

    t: float
    name: str
    kind: str
    sent_at: float | None
    end: float
    holder: str = ""
    acquired: float = 0.0
    renewed: float = 0.0
    duration_s: float = 0.0
    transitions: int = 0


@dataclass(frozen=True)
class GivenBack:
    """A watch was told at t that the lease `name` has no holder, after so many changes of it."""

    t: float
    name: str
    transitions: int


@dataclass(frozen=True)
class Kubectl:
    """What `kubectl get --watch-only` did: prober.STARTED, LINE (text: the line), ENDED (text: its last words)."""

    t: float
    what: str
    text: str = ""
    code: int | None = None


@dataclass(frozen=True)
class Reading:
    """The prober's clock, answered to the line `token` on its stdin."""

    t: float
    token: str


@dataclass(frozen=True)
class Mark:
    """What the drill did to a machine (empty: to none in particular). t may be wrong by error seconds."""

    t: float
    what: str
    machine: str = ""
    error: float = 0.0


@dataclass(frozen=True)
class Observation:
    """What an observer saw on a machine, e.g. vrrp is MASTER. t may be wrong by error seconds."""

    t: float
    machine: str
    what: str
    value: str
    error: float = 0.0


@dataclass(frozen=True)
class Stored:
    """The keys of all that was stored when it was read back, not before t."""

    t: float
    keys: tuple[str, ...]


@dataclass(frozen=True)
class End:
    """t: when the schedule ended. count: how many lines of COUNTED the prober wrote."""

    t: float
    reason: str
    count: int


COUNTED = (Request, Idle, Listing, Watching, Watched)
Event = (
    Header
    | Request
    | Reconnect
    | Idle
    | Listing
    | Watching
    | Watched
    | LeaseSeen
    | GivenBack
    | Kubectl
    | Clock
    | Reading
    | Mark
    | Observation
    | Stored
    | End
)
_E = TypeVar("_E", bound=Event)


@dataclass(frozen=True)
class History:
    events: tuple[Event, ...]

    def of(self, kind: type[_E]) -> tuple[_E, ...]:
        """The events of one kind, in the file's order."""
        return tuple(event for event in self.events if isinstance(event, kind))

    @cached_property
    def header(self) -> Header | None:
        return next(iter(self.of(Header)), None)

    @cached_property
    def end(self) -> End | None:
        return next(iter(self.of(End)), None)

    @cached_property
    def marks(self) -> tuple[Mark, ...]:
        """By time."""
        return tuple(sorted(self.of(Mark), key=lambda mark: mark.t))

    def marked(self, what: str) -> tuple[Mark, ...]:
        return tuple(mark for mark in self.marks if mark.what == what)

    @cached_property
    def fault(self) -> Mark | None:
        """The first mark that does not heal."""
        return next((mark for mark in self.marks if mark.what not in NO_FAULT), None)

    @cached_property
    def by_probe(self) -> Mapping[str, tuple[Request, ...]]:
        """The requests of every probe that asked anything, by when they were due; services come last."""
        found: dict[str, list[Request]] = {name: [] for name in (*REQUEST_PROBES, *self.services)}
        for request in sorted(self.of(Request), key=lambda request: (request.t, request.end)):
            found.setdefault(request.probe, []).append(request)
        return {name: tuple(requests) for name, requests in found.items() if requests}

    @property
    def services(self) -> tuple[str, ...]:
        """The probes of services of the user's own."""
        return tuple(map(prober.service_probe, self.header.config.services)) if self.header else ()

    def requests(self, probe: str = "new") -> tuple[Request, ...]:
        """Of one probe, by the time they were due."""
        return self.by_probe.get(probe, ())

    def observed(self, what: str, machine: str | None = None) -> tuple[Observation, ...]:
        """By time; of one machine or of all."""
        seen = (each for each in self.of(Observation) if each.what == what and machine in (None, each.machine))
        return tuple(sorted(seen, key=lambda each: each.t))

    @cached_property
    def window(self) -> tuple[float, float]:
        """From when to when requests were due. Without a header or an end: what the requests cover."""
        requests = self.of(Request)
        start = self.header.start if self.header else min((each.t for each in requests), default=0.0)
        end = self.end.t if self.end else max((each.end for each in requests), default=start)
        return start, max(start, end)

    @cached_property
    def stalls(self) -> tuple[Stall, ...]:
        """When the prober stood still. A silence between clock lines counts: they are due once a second."""
        start, end = self.window
        found: list[Stall] = []
        before = start
        clocks = sorted(self.of(Clock), key=lambda clock: clock.t)
        for clock in clocks:
            found += clock.stalls
            placed = max((stall.lag for stall in clock.stalls), default=prober.STALL_S)
            if clock.lag > placed:  # somewhere since the line before
                found.append(Stall(min(before, clock.t - clock.lag), clock.t, clock.lag))
            before = max(before, clock.t)
        ticks = [start, *(clock.t for clock in clocks if start < clock.t < end), end]
        for earlier, later in itertools.pairwise(ticks):
            if later - earlier > 2.0:
                found.append(Stall(earlier, later, later - earlier))
        return tuple(sorted(found, key=lambda stall: (stall.start, stall.end)))

    def stalled_s(self, start: float, end: float) -> float:
        """How long the prober stood still at worst in a stall that may have touched this time."""
        return max((stall.lag for stall in self.stalls if stall.start <= end and start <= stall.end), default=0.0)

    def between(self, start: float, end: float) -> History:
        """What was due, done and seen in a part of the window, as a history of its own: header and end are moved.

        A request belongs to the part in which it was due, however long it took; an idle connection to that in which
        it became ready, so that only the whole history tells what became of all.
        """
        within = [event for event in self.events if not isinstance(event, Header | End) and start <= event.t < end]
        header, last = self.header, self.end
        first = [replace(header, start=max(start, header.start))] if header else []
        count = sum(isinstance(event, COUNTED) for event in within)
        ended = [End(min(end, last.t), last.reason, count)] if last else []
        return History((*first, *within, *ended))

    def with_events(self, events: Iterable[Event]) -> History:
        return History((*self.events, *events))


# -- reading and writing


class _Wrong(Exception):
    def __init__(self, key: str, what: str, expected: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.key, self.what, self.expected, self.fix = key, what, expected, fix


class _Reader:
    """Takes the values of one line by key; what is left at the end is unknown."""

    def __init__(self, values: dict[str, object]) -> None:
        self._values = values

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def value(self, key: str) -> object:
        if key not in self._values:
            raise _Wrong(key, "is missing")
        return self._values.pop(key)

    def number(self, key: str, *, least: float = -math.inf, default: float | None = None) -> float:
        if default is not None and key not in self._values:
            return default
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _Wrong(key, f"is {value!r}", "a number")
        if value < least - 2e-6:  # times are rounded to 1e-6
            raise _Wrong(key, f"is {value}", f"at least {least}")
        return float(value)

    def text(self, key: str, *, default: str | None = None) -> str:
        if default is not None and key not in self._values:
            return default
        value = self.value(key)
        if not isinstance(value, str):
            raise _Wrong(key, f"is {value!r}", "a string")
        return value

    def name(self, key: str) -> str:
        if not (text := self.text(key)):
            raise _Wrong(key, "is empty")
        return text

    def time_or_null(self, key: str, *, least: float) -> float | None:
        value = self.value(key)
        return None if value is None else _Reader({key: value}).number(key, least=least)

    def whole_or_null(self, key: str) -> int | None:
        value = self.value(key)
        return None if value is None else _Reader({key: value}).whole(key)

    def whole(self, key: str) -> int:
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise _Wrong(key, f"is {value!r}", "a whole number")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        value = self.value(key)
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise _Wrong(key, f"is {value!r}", "a list of names")
        return tuple(value)

    def outcome(self) -> RequestOutcome:
        text = self.text("outcome")
        try:
            return RequestOutcome(text)
        except ValueError:
            raise _Wrong("outcome", f"is {text!r}", " | ".join(RequestOutcome)) from None

    def finish(self) -> None:
        if self._values:
            raise _Wrong(next(iter(self._values)), "is an unknown key")


def _read_header(line: _Reader) -> Header:
    version = line.whole("version")
    if version != prober.VERSION:
        raise _Wrong("version", f"is {version}", str(prober.VERSION), "judge it with the haplane that made it")
    t, start = line.number("t"), line.number("start")
    wall, wall_error = line.number("wall"), line.number("wall_error", least=0.0)
    config = line.value("config")
    if not isinstance(config, dict):
        raise _Wrong("config", f"is {config!r}", "an object")
    try:
        return Header(t, version, start, wall, wall_error, prober.config_from(config))
    except ConfigError as error:
        raise _Wrong("config", str(error)) from None


def _read_request(probe: str) -> Callable[[_Reader], Request]:
    def read(line: _Reader) -> Request:
        t, outcome, kind = line.number("t"), line.outcome(), line.text("kind")
        begun = line.number("begun", least=t) if "begun" in line else None
        sent_at = line.time_or_null("sent_at", least=t if begun is None else begun)
        end = line.number("end", least=t if sent_at is None else sent_at)
        if (kind == "") != (outcome is RequestOutcome.OK):
            raise _Wrong("kind", f"is {kind!r} with outcome {outcome}", "empty with ok, a word otherwise")
        if sent_at is None and outcome is not RequestOutcome.FAILED:
            raise _Wrong("sent_at", f"is null with outcome {outcome}", "when it was sent")
        key = line.name("key") if probe == "write" else ""
        value = line.whole("value") if probe == "set" or (probe == "get" and "value" in line) else None
        version = line.whole("version") if probe in ("write", "set", "get") and "version" in line else None
        if probe == "get" and (value is None) != (version is None):
            raise _Wrong("value", "is there without version, or the other way round", "both or none")
        return Request(t, probe, outcome, kind, sent_at, end, begun, key, value, version)

    return read


def _read_reconnect(line: _Reader) -> Reconnect:
    t, cause, outcome = line.number("t"), line.name("cause"), line.outcome()
    kind = line.text("kind")
    if outcome is RequestOutcome.INDETERMINATE or (kind == "") != (outcome is RequestOutcome.OK):
        raise _Wrong("kind", f"is {kind!r} with outcome {outcome}", "empty with ok, a word with failed")
    return Reconnect(t, cause, outcome, kind, line.number("end", least=t))


def _read_idle(line: _Reader) -> Idle:
    t = line.number("t")
    return Idle(t, line.number("told_at", least=t), line.name("kind"))


def _read_listing(line: _Reader) -> Listing:
    t, number, cause = line.number("t"), line.whole("number"), line.name("cause")
    since, outcome, kind = line.whole_or_null("since"), line.outcome(), line.text("kind")
    end, version = line.number("end", least=t), line.whole_or_null("version")
    ok = outcome is RequestOutcome.OK
    if outcome is RequestOutcome.INDETERMINATE or (kind == "") != ok:
        raise _Wrong("kind", f"is {kind!r} with outcome {outcome}", "empty with ok, a word with failed")
    if (version is None) == ok:
        raise _Wrong("version", f"is {version} with outcome {outcome}", "a whole number with ok, null with failed")
    return Listing(t, number, cause, since, outcome, kind, end, version)


def _read_watching(line: _Reader) -> Watching:
    t, number, cause, since = line.number("t"), line.whole("number"), line.name("cause"), line.whole("since")
    opened = line.time_or_null("opened", least=t)
    ended = line.number("ended", least=t if opened is None else opened)
    return Watching(t, number, cause, since, opened, ended, line.name("kind"))


def _read_watched(line: _Reader) -> Watched:
    t, number, kind, key = line.number("t"), line.whole("number"), line.name("kind"), line.text("key")
    return Watched(t, number, kind, key, line.whole("version"))


def _read_lease(line: _Reader) -> LeaseSeen:
    t, name, kind = line.number("t"), line.name("name"), line.text("kind")
    sent = line.value("sent_at")
    sent_at = None if sent is None else _Reader({"sent_at": sent}).number("sent_at", least=t)
    end = line.number("end", least=t if sent_at is None else sent_at)
    if kind:
        return LeaseSeen(t, name, kind, sent_at, end)
    if sent_at is None:
        raise _Wrong("sent_at", "is null with an empty kind", "when it was sent")
    holder, acquired, renewed = line.text("holder"), line.number("acquired"), line.number("renewed")
    duration_s = line.number("duration_s", least=0.0)
    return LeaseSeen(t, name, kind, sent_at, end, holder, acquired, renewed, duration_s, line.whole("transitions"))


def _read_kubectl(line: _Reader) -> Kubectl:
    t, what, text = line.number("t"), line.name("what"), line.text("text")
    expected = (prober.STARTED, prober.LINE, prober.ENDED)
    if what not in expected:
        raise _Wrong("what", f"is {what!r}", " | ".join(expected))
    return Kubectl(t, what, text, line.whole("code") if what == prober.ENDED else None)


def _read_clock(line: _Reader) -> Clock:
    t, lag = line.number("t"), line.number("lag", least=0.0)
    stalls = []
    pairs = line.value("stalls")
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise _Wrong("stalls", f"has {pair!r}", "[end, length]")
        each = _Reader({"end": pair[0], "length": pair[1]})
        stalls.append(Stall.ending(each.number("end"), each.number("length", least=0.0)))
    return Clock(t, max(lag, 0.0), tuple(stalls))


_READERS: Mapping[str, Callable[[_Reader], Event]] = {
    "header": _read_header,
    **{probe: _read_request(probe) for probe in REQUEST_PROBES},
    "reconnect": _read_reconnect,
    "idle": _read_idle,
    "listing": _read_listing,
    "watching": _read_watching,
    "watch": _read_watched,
    "lease": _read_lease,
    "given-back": lambda line: GivenBack(line.number("t"), line.name("name"), line.whole("transitions")),
    "kubectl": _read_kubectl,
    "clock": _read_clock,
    "reading": lambda line: Reading(line.number("t"), line.text("token")),
    "mark": lambda line: Mark(
        line.number("t"),
        line.name("what"),
        line.text("machine", default=""),
        line.number("error", least=0.0, default=0.0),
    ),
    "observer": lambda line: Observation(
        line.number("t"),
        line.name("machine"),
        line.name("what"),
        line.text("value"),
        line.number("error", least=0.0, default=0.0),
    ),
    "stored": lambda line: Stored(line.number("t"), line.names("keys")),
    "end": lambda line: End(line.number("t"), line.name("reason"), line.whole("count")),
}


def parse(lines: Iterable[str], *, file: str = "history") -> History:
    """The history that these lines hold; file names it in errors. Blank lines are left out.

    Raises InvalidFile with the lines that are wrong, the first MAX_PROBLEMS of them. Whole lines are expected: who
    receives a stream that breaks off drops what came after the last line end (the history then has no end, so that no
    verdict is held).
    """
    events: list[Event] = []
    problems: list[Problem] = []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            event = _read_line(text)
            if isinstance(event, Header | End) and any(type(each) is type(event) for each in events):
                raise _Wrong("probe", "is there a second time")
            events.append(event)
        except _Wrong as wrong:
            problems.append(Problem(file, number, 1, wrong.key, wrong.what, wrong.expected, wrong.fix))
    if problems:
        raise InvalidFile(file, first_of(problems))
    return History(tuple(events))


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _read_line(text: str) -> Event:
    try:
        values = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise _Wrong("", f"is not JSON: {error}", fix="a line that was cut off can be removed") from None
    if not isinstance(values, dict):
        raise _Wrong("", "is not a JSON object")
    line = _Reader(values)
    probe = line.text("probe")
    reader = _read_request(probe) if probe.startswith(prober.service_probe("")) else _READERS.get(probe)
    if reader is None:
        raise _Wrong("probe", f"is {probe!r}", " | ".join(_READERS))
    event = reader(line)
    line.finish()
    return event


_NAMES = {Header: "header", Reconnect: "reconnect", Idle: "idle", Clock: "clock", Reading: "reading", Mark: "mark"}
_NAMES |= {Listing: "listing", Watching: "watching", Watched: "watch"}
_NAMES |= {Observation: "observer", Stored: "stored", End: "end", Kubectl: "kubectl"}
_NAMES |= {LeaseSeen: "lease", GivenBack: "given-back"}
_LEFT_OUT = (("begun", None), ("key", ""), ("value", None), ("version", None))
_LEASE_SAYS = ("holder", "acquired", "renewed", "duration_s", "transitions")


def to_line(event: Event) -> str:
    """One line without its line end; parse reads it back as an equal event."""
    values: dict[str, object] = asdict(event)
    if isinstance(event, Clock):
        values["stalls"] = [[stall.end, stall.lag] for stall in event.stalls]
    if isinstance(event, Request):
        values = {key: value for key, value in values.items() if (key, value) not in _LEFT_OUT}
    if isinstance(event, LeaseSeen) and event.kind:
        values = {key: value for key, value in values.items() if key not in _LEASE_SAYS}
    if isinstance(event, Kubectl) and event.code is None:
        del values["code"]
    probe = event.probe if isinstance(event, Request) else _NAMES[type(event)]
    return json.dumps({"t": values.pop("t"), "probe": probe} | values, separators=(",", ":"))


def to_lines(history: History) -> Iterator[str]:
    return (to_line(event) for event in history.events)


# -- clocks


@dataclass(frozen=True)
class RoundTrip:
    """The prober's clock read over a channel: sent and received on the local clock, read on the prober's."""

    sent: float
    read: float
    received: float


@dataclass(frozen=True)
class Relation:
    """The prober's clock is the local clock plus offset, wrong by at most error seconds."""

    offset: float
    error: float

    def mark(self, local: float, what: str, machine: str = "") -> Mark:
        """What the drill did at this local time."""
        return Mark(round(local + self.offset, 6), what, machine, round(self.error, 6))

    def observation(self, local: float, machine: str, what: str, value: str) -> Observation:
        return Observation(round(local + self.offset, 6), machine, what, value, round(self.error, 6))

    def stored(self, local: float, keys: Iterable[str]) -> Stored:
        """What was read back; local is when the reading began."""
        return Stored(round(local + self.offset - self.error, 6), tuple(keys))


def relate(trips: Sequence[RoundTrip], near: float) -> Relation:
    """How the clocks relate near a local time, from the reading that knows it best (at least one is needed).

    The prober read its clock somewhere between sent and received, so the middle is wrong by at most half the round
    trip (Cristian 1989); for each second between the reading and `near`, DRIFT is added.
    """
    if not trips:
        raise ValueError("no reading of the prober's clock")
    if any(trip.received < trip.sent for trip in trips):
        raise ValueError("an answer cannot come before its question")

    def error(trip: RoundTrip) -> float:
        away = max(trip.sent - near, near - trip.received, 0.0)
        return (trip.received - trip.sent) / 2 + DRIFT * away

    best = min(trips, key=error)
    return Relation(best.read - (best.sent + best.received) / 2, error(best))
