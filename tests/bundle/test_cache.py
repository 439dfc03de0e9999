"""The cache: what is found again, what is noticed, and what is made again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from origin import BIN, VERSION, Heard, Origin

from haplane.bundle import Bundle, find, obtain, verify
from haplane.bundle.store import identity_of
from haplane.model.bundle import BundleFile
from haplane.model.cluster import BundleSource
from haplane.model.errors import HaplaneError


def get(sources: list[BundleSource], cache: Path, heard: Heard) -> Bundle:
    return asyncio.run(obtain(VERSION, sources, cache=cache, progress=heard))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def alter_one_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(20)
        byte = file.read(1)
        file.seek(20)
        file.write(bytes([byte[0] ^ 1]))


def forbid_running(path: Path) -> None:
    path.chmod(0o644)


def test_nothing_is_found_before_it_was_made_and_no_folder_appears(origin: Origin, cache: Path) -> None:
    assert find(VERSION, cache=cache, sources=[origin.source]) is None
    assert not cache.exists()


def test_a_made_bundle_is_found_without_asking_its_source(origin: Origin, cache: Path, heard: Heard) -> None:
    made = get([origin.source], cache, heard)
    origin.requests.clear()
    assert find(VERSION, cache=cache, sources=[origin.source]) == made
    assert get([origin.source], cache, heard) == made
    assert origin.requests == []
    assert find("1.35.5", cache=cache, sources=[origin.source]) is None


@pytest.mark.parametrize("damage", [Path.unlink, truncate, alter_one_byte, forbid_running])
def test_a_damaged_file_is_noticed_said_and_only_it_is_fetched_again(
    damage: Callable[[Path], None], origin: Origin, cache: Path, heard: Heard
) -> None:
    made = get([origin.source], cache, heard)
    damage(made.folder / "bin/kubelet")
    assert [file.path for file in asyncio.run(verify(made))] == ["bin/kubelet"]
    origin.requests.clear()
    repaired = get([origin.source], cache, heard)
    assert repaired == made
    assert asyncio.run(verify(repaired)) == ()
    assert "missing or damaged in the cache, to be made again: bin/kubelet" in heard
    assert {path for path, _ in origin.requests} == {f"{BIN}/kubelet", f"{BIN}/kubelet.sha256"}
    assert not list((cache / "stages").iterdir())


def test_a_lost_manifest_makes_the_bundle_again(origin: Origin, cache: Path, heard: Heard) -> None:
    made = get([origin.source], cache, heard)
    (made.folder / "manifest.json").write_text("{")
    assert find(VERSION, cache=cache, sources=[origin.source]) is None
    assert get([origin.source], cache, heard) == made


def test_a_manifest_that_names_files_elsewhere_is_not_believed(origin: Origin, cache: Path, heard: Heard) -> None:
    made = get([origin.source], cache, heard)
    manifest = made.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("bin/kubelet", "bin/../../kubelet"))
    assert find(VERSION, cache=cache, sources=[origin.source]) is None


def test_adding_a_source_that_does_not_work_makes_nothing_again(origin: Origin, cache: Path, heard: Heard) -> None:
    made = get([origin.source], cache, heard)
    origin.requests.clear()
    missing = BundleSource("directory", path=cache / "missing")
    assert get([missing, origin.source], cache, heard) == made
    assert origin.requests == []


def test_a_repair_asks_the_source_that_made_the_bundle_first(origin: Origin, cache: Path, heard: Heard) -> None:
    first = BundleSource("official", url=f"{origin.url}/elsewhere", registry=origin.url)
    made = get([first, origin.source], cache, heard)
    truncate(made.folder / "images/pause.tar")
    origin.requests.clear()
    assert get([first, origin.source], cache, heard) == made
    assert not [path for path, _ in origin.requests if "elsewhere" in path]


def test_a_stage_finished_before_an_interruption_is_not_made_again(origin: Origin, cache: Path, heard: Heard) -> None:
    missing = origin.pages.pop("/v2/pause/manifests/3.10.1")
    with pytest.raises(HaplaneError, match="HTTP 404"):
        get([origin.source], cache, heard)
    done = [path.name for path in (cache / "stages").iterdir() if path.name.startswith("kubeadm-")]
    assert done
    origin.pages["/v2/pause/manifests/3.10.1"] = missing
    origin.requests.clear()
    get([origin.source], cache, heard)
    assert origin.asked(f"{BIN}/kubeadm") == []


def test_a_finished_stage_that_was_damaged_meanwhile_is_made_again(origin: Origin, cache: Path, heard: Heard) -> None:
    missing = origin.pages.pop("/v2/pause/manifests/3.10.1")
    with pytest.raises(HaplaneError):
        get([origin.source], cache, heard)
    alter_one_byte(next((cache / "stages").glob("kubeadm-*/bin/kubeadm")))
    origin.pages["/v2/pause/manifests/3.10.1"] = missing
    assert asyncio.run(verify(get([origin.source], cache, heard))) == ()


def test_a_cache_that_cannot_be_made_is_told_and_not_a_traceback(origin: Origin, tmp_path: Path, heard: Heard) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HaplaneError, match="cannot be read or written"):
        get([origin.source], tmp_path / "file" / "cache", heard)


FILES = st.lists(
    st.builds(
        BundleFile, st.sampled_from(["bin/a", "bin/b", "c"]), st.text("0123456789abcdef"), st.just(1), st.booleans()
    ),
    unique_by=lambda file: file.path,
)


@given(FILES, st.randoms())
def test_the_identity_does_not_depend_on_order(files: list[BundleFile], random: object) -> None:
    shuffled = list(files)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert identity_of(shuffled) == identity_of(files)


@given(FILES, FILES)
def test_the_identity_changes_with_any_content(one: list[BundleFile], other: list[BundleFile]) -> None:
    same = sorted(map(str, one)) == sorted(map(str, other))
    assert (identity_of(one) == identity_of(other)) == same
