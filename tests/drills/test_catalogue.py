"""The list of drills, and its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.model.clusters import balanced_by

from haplane.design.design import Design
from haplane.drills.catalogue import DRILLS, ELSEWHERE, suite
from haplane.model.cluster import BalancerProgram

PAGE = Path(__file__).parents[2] / "docs" / "drills.md"


def test_the_page_names_every_drill_once_and_no_other() -> None:
    table = PAGE.read_text().split("## The same faults elsewhere")[0]
    named = [name for row in re.findall(r"^\| ([a-z, -]+) \|", table, re.MULTILINE) for name in row.split(", ")]
    assert sorted(named[1:]) == sorted(drill.name for drill in DRILLS)


def test_the_page_names_no_drill_elsewhere_that_is_not_there() -> None:
    section = PAGE.read_text().split("## The same faults elsewhere")[1].split("## What watches")[0]
    named = set(re.findall(r"`([a-z-]+-(?:backup|vip-holder|node|balancer|follower|waiting))`", section))
    assert len(named) > 5
    assert named <= {drill.name for drill in ELSEWHERE}


@pytest.mark.parametrize("by", [BalancerProgram.HAPROXY, BalancerProgram.NGINX])
def test_the_quick_suite_is_quick(by: BalancerProgram) -> None:
    design = Design(balanced_by(by))
    quick = suite(design, quick=True)
    assert {f"{by}-death", f"{by}-hang"} < {drill.name for drill in quick}
    assert len(quick) == 8
    assert sum(drill.lasts_s for drill in quick) < 100
