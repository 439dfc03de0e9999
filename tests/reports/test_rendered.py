"""The files of a design on disk: the same bytes for the same design, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.model.clusters import three_nodes

from haplane.design.design import Design
from haplane.model.errors import UsageError
from haplane.reports.rendered import write


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_of_every_machine_is_there_byte_for_byte(tmp_path: Path) -> None:
    design = Design(three_nodes())
    count = write(design, tmp_path / "out")
    found = contents(tmp_path / "out")
    expected = {
        f"{name}{file.path}": file.content.encode()
        for name in ("cp1", "cp2", "cp3")
        for component in design.components(name).values()
        for file in component.files
    }
    assert len(expected) == count
    assert {name: found[name] for name in expected} == expected


def test_the_same_design_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(Design(three_nodes()), tmp_path / folder)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_files_that_left_the_design_are_removed_and_others_stay(tmp_path: Path) -> None:
    cluster = three_nodes()
    write(Design(cluster), tmp_path / "out")
    (tmp_path / "out" / "README").write_text("mine\n")
    fewer = {name: machine for name, machine in cluster.machines.items() if name != "cp3"}
    write(Design(replace(cluster, machines=fewer)), tmp_path / "out")
    found = contents(tmp_path / "out")
    assert not any(name.startswith("cp3/") for name in found)
    assert found["README"] == b"mine\n"


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root\n")
    with pytest.raises(UsageError, match="is not empty"):
        write(Design(three_nodes()), tmp_path)
    assert list(contents(tmp_path)) == ["passwd"]
