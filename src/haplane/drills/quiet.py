"""The probes of a drill without a fault: what clients see when nothing is broken. Saved, and judged by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from haplane.drills import running
from haplane.drills.history_file import HistoryFile
from haplane.drills.running import Asked
from haplane.model.errors import HaplaneError
from haplane.observe import status as observe
from haplane.phases.lock import locked
from haplane.probes import writing
from haplane.probes.history import History, to_line
from haplane.probes.observing import Observers
from haplane.probes.running import Prober
from haplane.transport.ssh import Fleet, Remote

QUIET = "quiet"
# The schedule begins a moment after the prober, and is stopped, as a drill's is.
BEGINS_WITHIN_S, STOPPED_BEFORE_S = 1.0, 60.0


async def watch(asked: Asked, lasts_s: float) -> History:
    """Ask as a drill does for so long. Raises HaplaneError, also on a cluster that is not whole."""
    cluster = asked.design.cluster
    async with Fleet(cluster.machines) as fleet:
        nodes, client = await running.connect(fleet, cluster)
        async with locked(nodes, command="haplane drill suite"):
            running.refuse_unless_whole(await observe.read_from(cluster, nodes))
            # Asked now and not only by the first drill, a minute later.
            first = nodes[cluster.control_plane[0].name]
            await running.confirm_unless_lab(first, "drills, one after the other", asked.confirm)
            return await _probe(asked, nodes, client, lasts_s)


async def _probe(asked: Asked, nodes: Mapping[str, Remote], client: Remote, lasts_s: float) -> History:
    cluster = asked.design.cluster
    apiservers = [nodes[one.name] for one in cluster.control_plane]
    file = HistoryFile.new(asked.folder, QUIET)
    prober, observers = Prober(client, file.write), Observers(cluster)
    await writing.prepare(apiservers, client, prober.namespace)
    try:
        await running.start_prober(prober, cluster, apiservers[0], duration_s=lasts_s + STOPPED_BEFORE_S)
        await prober.read_clock()
        await observers.start(nodes.values())
        asked.progress.step(QUIET, f"{lasts_s:.0f} s in which nothing is broken, to compare with")
        await asyncio.sleep(lasts_s + BEGINS_WITHIN_S)
    finally:
        await asyncio.shield(_conclude(prober, observers, file))
        with suppress(HaplaneError):
            await asyncio.shield(writing.remove(apiservers, client, prober.namespace))
    asked.progress.done(QUIET, f"history saved: {file.path}")
    return file.close()


async def _conclude(prober: Prober, observers: Observers, file: HistoryFile) -> None:
    await observers.stop()
    await prober.stop()
    for observation in observers.observations(prober.trips):
        file.write(to_line(observation))
