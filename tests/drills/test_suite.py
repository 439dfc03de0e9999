"""The order of drills in a random sequence."""

from __future__ import annotations

from itertools import islice

from haplane.drills.catalogue import DRILLS
from haplane.drills.suite import shuffled


def names(seed: int, count: int) -> list[str]:
    return [drill.name for drill in islice(shuffled(DRILLS, seed), count)]


def test_the_same_seed_gives_the_same_order() -> None:
    assert names(7, 60) == names(7, 60)
    assert names(7, len(DRILLS)) != names(8, len(DRILLS))


def test_every_drill_comes_before_any_comes_again() -> None:
    assert sorted(names(7, len(DRILLS))) == sorted(drill.name for drill in DRILLS)
