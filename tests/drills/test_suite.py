"""The order of drills in a random sequence."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.drills.planted import FAULT, planted
from tests.drills.test_holders import handed_over, history, saw
from tests.model.clusters import three_nodes

from haplane.design.design import Design
from haplane.drills import running, suite
from haplane.drills.catalogue import DRILLS, Drill, ending, find
from haplane.drills.running import Asked, NotWhole, Spared
from haplane.drills.suite import play, play_for, shuffled, stayed
from haplane.drills.targets import Who
from haplane.model.progress import Silent
from haplane.probes.history import WHOLE, Mark


def names(seed: int, count: int) -> list[str]:
    return [drill.name for drill in islice(shuffled(DRILLS, seed), count)]


def test_the_same_seed_gives_the_same_order() -> None:
    assert names(7, 60) == names(7, 60)
    assert names(7, len(DRILLS)) != names(8, len(DRILLS))


def test_every_drill_comes_before_any_comes_again() -> None:
    assert sorted(names(7, len(DRILLS))) == sorted(drill.name for drill in DRILLS)


def test_drills_that_spare_the_holder_move_nothing() -> None:
    design = Design(three_nodes())
    found = ending(design, spares_holder=True)
    assert len(found) > 50
    assert not {drill.who for drill in found} & {Who.VIP_HOLDER, Who.BUSIEST, Who.EVERY, Who.HOLDER_AND_ANOTHER}
    assert {drill.must_move_vip(design, drill.example(design)) for drill in found} == {False}
    assert "power-off-vip-holder" in {drill.name for drill in ending(design)}


def test_what_would_have_been_done_to_the_holder_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def whole(asked: Asked) -> None:
        """Of no concern here."""

    async def run(drill: Drill, asked: Asked) -> Any:
        await asyncio.sleep(0.01)
        if drill.name.startswith("etcd-leader"):
            raise Spared("cp1 holds the VIP, and is spared; nothing was broken")
        return SimpleNamespace(history=planted())

    async def confirm(why: str) -> None:
        raise AssertionError(why)

    monkeypatch.setattr(running, "run", run)
    monkeypatch.setattr(suite, "_until_whole", whole)
    drills = [find("etcd-leader-death"), find("cut-backup")]
    asked = Asked(Design(three_nodes()), Path(), confirm, Silent(), spares_holder=True)
    played = asyncio.run(play_for(shuffled(drills, 1), asked, within_s=0.2))
    assert [(one.drill.name, one.why_not) for one in played] == [("cut-backup", "")]
    assert "the VIP moved not once in" in stayed(cast(Any, played))


def test_whether_all_is_whole_is_asked_where_a_drill_did_not_end_so_or_finds_it_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    outcomes = ["whole", "whole", "refused", "not whole", "whole"]

    async def whole(asked: Asked) -> None:
        done.append("waited")

    async def run(drill: Drill, asked: Asked) -> Any:
        outcome = outcomes.pop(0)
        done.append(outcome)
        if outcome == "refused":
            raise NotWhole("a drill needs a cluster that is whole; nothing was broken")
        marks = [Mark(FAULT + 9, WHOLE, "", 0.001)] if outcome == "whole" else []
        return SimpleNamespace(history=history(*marks))

    async def confirm(why: str) -> None:
        raise AssertionError(why)

    monkeypatch.setattr(running, "run", run)
    monkeypatch.setattr(suite, "_until_whole", whole)
    asked = Asked(Design(three_nodes()), Path(), confirm, Silent())
    (played,) = asyncio.run(play([find("cut-backup")], asked, repeat=4))
    assert done == ["waited", "whole", "whole", "refused", "waited", "not whole", "waited", "whole"]
    assert len(played.results) == 4 and not played.why_not


def test_moves_of_the_vip_are_counted() -> None:
    results = [SimpleNamespace(history=one) for one in (planted(), handed_over(0.01))]
    played = [SimpleNamespace(drill=find("kubelet-kill-backup"), results=results)]
    assert stayed(cast(Any, played)) == "the VIP moved needlessly 1 time in 0.8 min of 2 drills that spared its holder"


def test_what_a_machine_believes_that_nobody_reaches_is_no_move() -> None:
    """Cut off, it hears no adverts and takes the VIP for itself; the one that had it has it still."""
    alone = history(
        Mark(FAULT, "cut-backup", "cp2", 0.001), saw("cp2", FAULT + 0.4, "held"), saw("cp2", FAULT + 0.9, "")
    )
    for drill, moved in (("cut-backup", "not once"), ("lossy-backup", "needlessly 1 time")):
        played = [SimpleNamespace(drill=find(drill), results=[SimpleNamespace(history=alone)])]
        assert f"the VIP moved {moved} in" in stayed(cast(Any, played))
