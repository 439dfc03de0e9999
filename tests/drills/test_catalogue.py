"""The list of drills, and its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.model.clusters import balanced_by

from haplane.design.design import Design
from haplane.drills.catalogue import DRILLS, ELSEWHERE, find, suite
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


def test_without_a_balancer_an_apiserver_is_broken_where_clients_are() -> None:
    """The VIP may leave it, and all that is asked until then is lost."""
    design = Design(balanced_by(BalancerProgram.NONE))
    usual, every = suite(design), suite(design, matrix=True)
    hang = next(drill for drill in usual if drill.name == "apiserver-hang-vip-holder")
    assert hang in suite(design, quick=True)
    assert hang.must_move_vip(design, ["cp1"]) is None
    assert hang.may_fail(design, 2.0) == 100
    assert not {drill.name for drill in usual} & {"apiserver-hang", "apiserver-death", "haproxy-death"}
    assert len({drill.name for drill in every}) == len(every)
    assert {"apiserver-hang", "apiserver-death"} < {drill.name for drill in every}
    # Nobody asks the others.
    elsewhere = find("apiserver-hang")
    assert elsewhere.must_move_vip(design, ["cp2"]) is False
    assert elsewhere.may_fail(design, 2.0) == 4
    behind = Design(balanced_by(BalancerProgram.HAPROXY))
    assert hang.must_move_vip(behind, ["cp1"]) is False
    assert hang.may_fail(behind, 2.0) == 4
