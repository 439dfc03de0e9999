"""Generated files against the ones that were read by a person, and by each component's own checker on a machine."""

from __future__ import annotations

import pytest
from tests.components.golden_files import FOLDERS, contents

from haplane.model.cluster import BalancerProgram


@pytest.mark.parametrize("by", BalancerProgram)
def test_every_file_is_as_it_was_read_by_a_person(by: BalancerProgram) -> None:
    folder = FOLDERS[by]
    golden = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert contents(by) == golden, "if the change is meant: python -m tests.components.golden_files"
