"""Each hazard of the file: planted and found on its line, nearly planted and not found."""

from __future__ import annotations

import pytest
from tests.design.hazards.planting import Planted, found_in
from tests.design.hazards.table import PLANTED

CASES = pytest.mark.parametrize("planted", [pytest.param(one, id=f"{one.hazard}: {one.title}") for one in PLANTED])
NEAR_MISSES = pytest.mark.parametrize(
    "planted", [pytest.param(one, id=f"{one.hazard}: {one.near_miss}") for one in PLANTED]
)


@CASES
def test_a_planted_hazard_is_found_on_its_line(planted: Planted) -> None:
    found = found_in(planted.has, planted.hazard)
    assert planted.lines
    assert [finding.where.line for finding in found if finding.where] == planted.lines
    assert {finding.severity for finding in found} == {planted.severity}


@CASES
def test_a_finding_says_why_and_how_to_go_on(planted: Planted) -> None:
    for finding in found_in(planted.has, planted.hazard):
        for sentence in (finding.because, finding.cure):
            assert sentence and "None" not in sentence and not sentence.endswith(".")


@NEAR_MISSES
def test_a_near_miss_is_not_found(planted: Planted) -> None:
    assert found_in(planted.lacks, planted.hazard) == []
