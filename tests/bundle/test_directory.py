"""The directory source: with a manifest its files are checked, without one they are taken as found."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from origin import VERSION, Heard, Origin, noise

from haplane.bundle import Bundle, check_sources, export, find, obtain
from haplane.model.cluster import BundleSource
from haplane.model.errors import HaplaneError, UsageError


def get(folder: Path, cache: Path, heard: Heard, *, version: str = VERSION) -> Bundle:
    source = BundleSource("directory", path=folder)
    return asyncio.run(obtain(version, [source], cache=cache, progress=heard))


@pytest.fixture
def made(origin: Origin, tmp_path: Path, heard: Heard) -> Bundle:
    return asyncio.run(obtain(VERSION, [origin.source], cache=tmp_path / "maker", progress=heard))


@pytest.fixture
def exported(made: Bundle, tmp_path: Path) -> Path:
    asyncio.run(export(made, tmp_path / "exported"))
    return tmp_path / "exported"


def test_an_exported_bundle_comes_back_with_the_same_identity(
    made: Bundle, exported: Path, cache: Path, heard: Heard
) -> None:
    assert get(exported, cache, heard).manifest == made.manifest
    assert "all is as its manifest.json says" in heard


def test_a_tampered_file_stops_and_names_file_expected_and_got(
    made: Bundle, exported: Path, cache: Path, heard: Heard
) -> None:
    (exported / "bin/kubectl").write_bytes(noise("altered"))
    with pytest.raises(HaplaneError) as caught:
        get(exported, cache, heard)
    told = str(caught.value)
    expected = next(file.sha256 for file in made.manifest.files if file.path == "bin/kubectl")
    assert f"bin/kubectl: expected sha256 {expected}, got " in told
    assert find(VERSION, cache=cache, sources=[BundleSource("directory", path=exported)]) is None


def test_without_a_manifest_the_files_are_taken_as_found_and_that_is_said(
    made: Bundle, exported: Path, cache: Path, heard: Heard
) -> None:
    (exported / "manifest.json").unlink()
    (exported / "bin/kubectl").chmod(0o644)
    assert get(exported, cache, heard).manifest == made.manifest
    assert "it has no manifest.json, so its files are taken as found" in heard


def test_a_cached_copy_serves_when_the_directory_is_gone_and_not_when_it_changed(
    exported: Path, cache: Path, heard: Heard
) -> None:
    (exported / "manifest.json").unlink()
    first = get(exported, cache, heard)
    aside = exported.rename(exported.with_name("aside"))
    assert get(exported, cache, heard) == first
    aside.rename(exported)
    (exported / "bin/kubectl").write_bytes(noise("newer"))
    assert get(exported, cache, heard).manifest.identity != first.manifest.identity


@pytest.mark.parametrize("lost", ["bin/etcd", "bin/etcdctl", "images/kube-scheduler.tar"])
def test_a_directory_that_lacks_something_is_told_before_anything_starts(exported: Path, lost: str) -> None:
    for path in (lost, "manifest.json"):
        (exported / path).unlink()
    with pytest.raises(UsageError, match="lacks") as caught:
        asyncio.run(check_sources(VERSION, [BundleSource("directory", path=exported)]))
    assert Path(lost).stem in str(caught.value)


@pytest.mark.parametrize("with_manifest", [True, False])
def test_a_directory_with_another_version_is_not_used(
    with_manifest: bool, exported: Path, cache: Path, heard: Heard
) -> None:
    if not with_manifest:
        (exported / "manifest.json").unlink()
    with pytest.raises(HaplaneError, match=r"not (version )?1\.35\.5"):
        get(exported, cache, heard, version="1.35.5")


def test_what_is_not_an_image_archive_is_named(exported: Path, cache: Path, heard: Heard) -> None:
    (exported / "manifest.json").unlink()
    (exported / "images/etcd.tar").write_bytes(noise("not a tar"))
    with pytest.raises(HaplaneError, match=r"etcd\.tar cannot be read as an image archive"):
        get(exported, cache, heard)


def test_a_broken_manifest_is_named(exported: Path, cache: Path, heard: Heard) -> None:
    (exported / "manifest.json").write_text("{")
    with pytest.raises(HaplaneError, match=r"manifest\.json cannot be read"):
        get(exported, cache, heard)


def test_an_export_does_not_overwrite_and_does_not_spread_damage(made: Bundle, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(HaplaneError, match="is not empty"):
        asyncio.run(export(made, exported))
    (made.folder / "bin/kubelet").write_bytes(b"")
    with pytest.raises(HaplaneError, match="damaged"):
        asyncio.run(export(made, tmp_path / "other"))
    shutil.rmtree(exported)
    with pytest.raises(HaplaneError, match="damaged"):
        asyncio.run(export(made, exported))
