"""Files are replaced whole or not at all, by however many at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from haplane.transport.files import replace_file


def test_many_that_replace_one_file_at_once_leave_the_whole_of_one(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    texts = [f"{number}\n" * 1000 for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda text: replace_file(file, text), texts * 4))
    assert file.read_text() in texts
    assert list(tmp_path.iterdir()) == [file], "nothing is left beside it"


def test_the_mode_is_what_the_umask_leaves_of_it(tmp_path: Path) -> None:
    for mode in (0o600, 0o644):
        replace_file(tmp_path / "file", b"x", mode=mode)
        assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "kept").touch()
    with pytest.raises(OSError):
        replace_file(folder, "x")
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "none" / "file", "x")
