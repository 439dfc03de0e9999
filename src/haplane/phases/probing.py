"""Probing while a live cluster is changed: what clients saw of it goes into the summary."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from haplane.model.cluster import Cluster, Role
from haplane.model.errors import HaplaneError
from haplane.model.progress import Progress
from haplane.probes.gaps import gaps
from haplane.probes.history import parse
from haplane.probes.running import Prober
from haplane.transport.ssh import Fleet, Remote

# Enough to see a gap of 50 ms, and little load beside clients of its own.
RATE = 20.0
LONGEST_S = 4 * 3600.0
# Before the first change and after the last, so that both are seen.
MARGIN_S = 0.5


@dataclass
class Seen:
    """What clients saw while the machines changed: new TLS connections to the endpoint.

    not_served: failed, or not answered within 3 s; kinds: how many in which way. why_not: why there was no probe.
    """

    requests: int = 0
    not_served: int = 0
    longest_gap_s: float = 0.0
    why_not: str = ""
    kinds: Mapping[str, int] = field(default_factory=dict)


@asynccontextmanager
async def probing(
    cluster: Cluster, fleet: Fleet, authority: str | None, progress: Progress, *, rate: float
) -> AsyncIterator[Seen]:
    """Probes the endpoint meanwhile; the result is filled in at the end. That nothing can be probed stops no change."""
    seen = Seen()
    client = await _client(cluster, fleet)
    if not isinstance(client, Remote) or not authority:
        seen.why_not = client if isinstance(client, str) else "the cluster's CA is not known"
        yield seen
        return
    lines: list[str] = []
    prober = Prober(client, lines.append)
    try:
        await prober.start(cluster, authority, rate=rate, duration_s=LONGEST_S)
    except HaplaneError as error:
        seen.why_not = error.what
        yield seen
        return
    progress.step("apply", f"asking the endpoint {rate:g} times a second from {client.name} meanwhile")
    try:
        await asyncio.sleep(MARGIN_S)
        yield seen
        await asyncio.sleep(MARGIN_S)
    finally:
        await asyncio.shield(prober.stop())
        history = parse(lines, file=f"the prober on {client.name}")
        requests = history.requests()
        seen.requests = len(requests)
        seen.not_served = sum(not request.ok for request in requests)
        # A plain mapping: dataclasses.asdict makes nonsense of a Counter.
        seen.kinds = dict(Counter(request.kind for request in requests if not request.ok))
        seen.longest_gap_s = max((gap.length_s for gap in gaps(history)), default=0.0)


async def _client(cluster: Cluster, fleet: Fleet) -> Remote | str:
    """A machine to probe from, which no change touches; or why there is none."""
    for machine in cluster.with_role(Role.CLIENT):
        if machine.roles == {Role.CLIENT}:
            found = (await fleet.connect_all([machine]))[machine.name]
            return found if isinstance(found, Remote) else f"{machine.name} does not answer"
    return "no machine has the role client alone"
