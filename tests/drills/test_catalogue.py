"""The list of drills, and its page."""

from __future__ import annotations

import re
from pathlib import Path

from haplane.drills.catalogue import DRILLS, ELSEWHERE

PAGE = Path(__file__).parents[2] / "docs" / "drills.md"


def test_the_page_names_every_drill_once_and_no_other() -> None:
    first, elsewhere = PAGE.read_text().split("## What watches")[0].split("## The same faults elsewhere")
    for text, drills in ((first, DRILLS), (elsewhere, ELSEWHERE)):
        named = [name for row in re.findall(r"^\| ([a-z, -]+) \|", text, re.MULTILINE) for name in row.split(", ")]
        assert sorted(named[1:]) == sorted(drill.name for drill in drills)


def test_the_quick_suite_is_quick() -> None:
    quick = [drill for drill in DRILLS if drill.quick]
    assert len(quick) == 8
    assert sum(drill.lasts_s for drill in quick) < 100
