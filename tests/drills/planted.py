"""Histories made by hand, in which everything that matters can be planted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from haplane.probes.history import Clock, End, Event, Header, History, Idle, Mark, Request, RequestOutcome, Stall
from haplane.probes.prober import Config, service_probe

CONFIG = Config(address="192.0.2.100", port=8443, server_hostname="kubernetes", ca_file="/tmp/ca.crt")
START, FAULT, STOP = 100.0, 105.0, 125.0
TOOK = 0.004


def planted(
    *,
    outage: tuple[float, float] = (0.0, 0.2),
    kind: str = "refused",
    outcome: RequestOutcome = RequestOutcome.FAILED,
    stalls: Iterable[Stall] = (),
    marks: Iterable[Mark] = (Mark(FAULT, "power-off", "cp1", 0.001),),
    stop: float = STOP,
    config: Config = CONFIG,
) -> History:
    """Healthy but for requests that are due within the outage, which is given in seconds from the fault."""
    events: list[Event] = [Header(START - 0.2, 1, START, 1.7e9, 1e-7, config)]
    requests: list[Request] = []
    rates = {"new": config.rate, "persistent": config.persistent_rate, "write": config.write_rate}
    rates |= {service_probe(url): config.service_rate for url in config.services}
    for probe, rate in rates.items():
        for number in range(round((stop - START) * rate)):
            t, key = round(START + number / rate, 6), f"{config.write_prefix}{number}" if probe == "write" else ""
            if outage[0] <= round(t - FAULT, 6) < outage[1]:
                took = config.timeout_s if kind == "timeout" else 0.001
                sent_at = None if outcome is RequestOutcome.FAILED else t
                requests.append(Request(t, probe, outcome, kind, sent_at, round(t + took, 6), t, key))
            else:
                sent_at, end = round(t + 0.002, 6), round(t + TOOK, 6)
                requests.append(Request(t, probe, RequestOutcome.OK, "", sent_at, end, t, key))
    by_end: list[Request] = sorted(requests, key=lambda request: request.end)
    events += by_end
    for second in range(1, round(stop - START) + 1):
        inside = tuple(stall for stall in stalls if second - 1 < stall.end - START <= second)
        lag = max((stall.lag for stall in inside), default=0.001)
        events.append(Clock(START + second, lag, inside))
    events += marks
    events.append(End(stop, "duration", len(requests)))
    return History(tuple(events))


def edited(history: History, edit: Callable[[Event], Event | None]) -> History:
    """With each event changed, or left out where edit returns None; the end still counts what is there."""
    kept = [event for event in map(edit, history.events) if event is not None]
    count = sum(isinstance(event, Request | Idle) for event in kept)
    return History(tuple(replace(event, count=count) if isinstance(event, End) else event for event in kept))
