"""Generated files against the ones that were read by a person, and by each component's own checker on a machine."""

from __future__ import annotations

from tests.components.golden_files import FOLDER, contents


def test_every_file_is_as_it_was_read_by_a_person() -> None:
    golden = {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob("*") if path.is_file()}
    assert contents() == golden, "if the change is meant: python -m tests.components.golden_files"
