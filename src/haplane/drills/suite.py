"""Drills one after the other, each on a cluster that is whole again. What cannot be run is told and left out."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from haplane.drills import holders, judging, noise, quiet, running
from haplane.drills.catalogue import Drill
from haplane.drills.running import Asked, Result
from haplane.model.errors import HaplaneError
from haplane.observe import status as observe
from haplane.probes.history import WHOLE, History

WHOLE_WITHIN_S = 240.0


@dataclass(frozen=True)
class Played:
    """results: one per run, in order. why_not: why there are fewer than were asked for; empty if there are not."""

    drill: Drill
    results: tuple[Result, ...]
    why_not: str = ""


def shuffled(drills: Sequence[Drill], seed: int) -> Iterator[Drill]:
    """Without end, every drill once before any comes again; the same seed gives the same order."""
    order = random.Random(seed)
    while True:
        yield from order.sample(drills, len(drills))


async def play_for(drills: Iterator[Drill], asked: Asked, *, within_s: float) -> tuple[Played, ...]:
    """As many as begin within this time; those that came more than once have several results."""
    ends = time.monotonic() + within_s
    played: dict[str, Played] = {}
    while time.monotonic() < ends:
        (one,) = await play([next(drills)], asked, repeat=1, fails=False)
        if not one.results and not one.why_not:
            continue
        before = played.get(one.drill.name)
        results = (*before.results, *one.results) if before else one.results
        played[one.drill.name] = Played(one.drill, results, one.why_not or (before.why_not if before else ""))
    return tuple(played.values())


async def play(drills: Sequence[Drill], asked: Asked, *, repeat: int, fails: bool = True) -> tuple[Played, ...]:
    """fails: raise HaplaneError when no drill at all could be run."""
    played: list[Played] = []
    failed: HaplaneError | None = None
    ended_whole = False
    for number, drill in enumerate(drills, start=1):
        results: list[Result] = []
        why_not = ""
        for turn in range(repeat):
            which = f" ({turn + 1} of {repeat})" if repeat > 1 else ""
            asked.progress.done("suite", f"{number} of {len(drills)}: {drill.name}{which}")
            try:
                was_whole, ended_whole = ended_whole, False
                results.append(await _run(drill, asked, was_whole=was_whole))
                ended_whole = bool(results[-1].history.marked(WHOLE))
            except running.Spared as spared:
                asked.progress.done("suite", f"{drill.name} was left out: {spared.what}")
                break
            except HaplaneError as error:
                failed, why_not = error, f"{error.what}: {error.why}".rstrip(": \n")
                asked.progress.done("suite", f"{drill.name} was not run: {why_not}")
                break
        played.append(Played(drill, tuple(results), why_not))
    if fails and failed and not any(one.results for one in played):
        raise failed
    return tuple(played)


def stayed(played: Sequence[Played]) -> str:
    """A sentence: how often the VIP moved in all that was seen, for those who reach it."""
    reached = judging.as_clients_reach
    histories = [reached(result.history, one.drill) for one in played for result in one.results]
    moves = sum(_moves(history) for history in histories)
    watched_s = sum(end.t - header.t for history in histories if (end := history.end) and (header := history.header))
    times = "not once" if not moves else f"needlessly {moves} time{'s' if moves > 1 else ''}"
    return f"the VIP moved {times} in {watched_s / 60:.1f} min of {len(histories)} drills that spared its holder"


def _moves(history: History) -> int:
    """Of the address that moved most: two VIPs move together."""
    return max(Counter(move.address for move in holders.moves(history)).values(), default=0)


async def watch_quietly(asked: Asked, windows: int) -> History | None:
    """So many windows without a fault; None, and said, if that cannot be: the drills say more."""
    try:
        await _until_whole(asked)
        return await quiet.watch(asked, noise.lasts_s(windows))
    except HaplaneError as error:
        why = f"{error.what}: {error.why}".rstrip(": \n")
        asked.progress.done(quiet.QUIET, f"nothing to compare short gaps with: {why}")
        return None


async def _run(drill: Drill, asked: Asked, *, was_whole: bool) -> Result:
    """was_whole: a moment ago, so that the drill's own look should be enough."""
    if was_whole:
        with suppress(running.NotWhole):
            return await running.run(drill, asked)
    await _until_whole(asked)
    return await running.run(drill, asked)


async def _until_whole(asked: Asked) -> None:
    await observe.until_whole(
        asked.design.cluster,
        within_s=WHOLE_WITHIN_S,
        on_problem=lambda problem: asked.progress.now("drill", f"waiting: {problem}"),
    )
