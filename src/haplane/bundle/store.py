"""A bundle on disk: its folder, its manifest, its identity, and the index that finds it again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from haplane.model.bundle import BundleFile, BundleManifest
from haplane.model.cluster import BundleSource
from haplane.transport.files import replace_file

MANIFEST = "manifest.json"
_PATH = re.compile(r"(bin|cni|images)/[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Bundle:
    """folder holds bin/, images/, manifest.json, and cni/ where flannel was asked for."""

    folder: Path
    manifest: BundleManifest


@dataclass(frozen=True)
class StageRecord:
    """Which of a bundle's files a stage made, and the key of what it was made from."""

    name: str
    key: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class IndexEntry:
    """The bundle last made for a version, an architecture, what it must hold, and a list of sources.

    bundle: the folder's name. source: the one that made it, in words. stages: how it can be repaired piece by
    piece. If a directory source made it, directory is where it lay and seen what it looked like then
    (directory.fingerprint).
    """

    bundle: str
    source: str
    stages: tuple[StageRecord, ...]
    directory: str = ""
    seen: str = ""


_manifests = TypeAdapter(BundleManifest)
_entries = TypeAdapter(IndexEntry)


def identity_of(files: Iterable[BundleFile]) -> str:
    """sha256 over the sorted (path, sha256, executable) of all files: equal identities mean equal bytes."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        digest.update(f"{file.path}\0{file.sha256}\0{int(file.executable)}\n".encode())
    return digest.hexdigest()


def read_manifest(folder: Path) -> BundleManifest | None:
    """The manifest in a bundle's folder; None if there is none, it cannot be read, or it names files elsewhere."""
    try:
        manifest = _manifests.validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None
    inside = all(_PATH.fullmatch(file.path) for file in manifest.files)
    return manifest if inside and manifest.identity == identity_of(manifest.files) else None


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    replace_file(folder / MANIFEST, _manifests.dump_json(manifest, indent=1) + b"\n")


def bundles_folder(cache: Path) -> Path:
    return cache / "bundles"


def index_path(
    cache: Path, version: str, architecture: str, sources: Sequence[BundleSource], holds: Iterable[str]
) -> Path:
    """holds: what such a bundle has. One of an earlier haplane that has less is thereby not taken for it."""
    told = [f"{source.kind}\0{source.url}\0{source.registry}\0{source.path or ''}" for source in sources]
    key = hashlib.sha256("\n".join([*told, *sorted(holds)]).encode()).hexdigest()[:12]
    return bundles_folder(cache) / "index" / f"{version}-{architecture}-{key}.json"


def read_entries(cache: Path, version: str, architecture: str) -> tuple[IndexEntry, ...]:
    """Of all bundles of a version that were made here, whatever they hold and wherever they came from."""
    paths = sorted((bundles_folder(cache) / "index").glob(f"{version}-{architecture}-*.json"))
    return tuple(entry for path in paths if (entry := read_entry(path)))


def read_bundle(cache: Path, entry: IndexEntry) -> Bundle | None:
    """None if it is no longer there, or its manifest cannot be believed."""
    if Path(entry.bundle).name != entry.bundle:
        return None
    folder = bundles_folder(cache) / entry.bundle
    manifest = read_manifest(folder)
    return Bundle(folder, manifest) if manifest else None


def read_entry(path: Path) -> IndexEntry | None:
    try:
        return _entries.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_entry(path: Path, entry: IndexEntry) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, _entries.dump_json(entry, indent=1) + b"\n")


def hash_file(folder: Path, path: str) -> BundleFile:
    """Reads the whole file. Raises OSError."""
    with (folder / path).open("rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return BundleFile(path=path, sha256=digest, size=status.st_size, executable=bool(status.st_mode & 0o100))


async def hash_files(folder: Path, paths: Iterable[str]) -> tuple[BundleFile, ...]:
    """Side by side in threads (hashing leaves the interpreter's lock); sorted by path. Raises OSError."""
    return tuple(await asyncio.gather(*(asyncio.to_thread(hash_file, folder, path) for path in sorted(paths))))


def _is_as_told(folder: Path, file: BundleFile) -> bool:
    try:
        if (folder / file.path).stat().st_size != file.size:
            return False
        return hash_file(folder, file.path) == file
    except OSError:
        return False


async def damaged(folder: Path, files: Sequence[BundleFile]) -> tuple[BundleFile, ...]:
    """Those of the files that are missing, truncated or altered in the folder."""
    good = await asyncio.gather(*(asyncio.to_thread(_is_as_told, folder, file) for file in files))
    return tuple(file for file, fine in zip(files, good, strict=True) if not fine)


async def verify(bundle: Bundle) -> tuple[BundleFile, ...]:
    """The bundle's files that are missing, truncated or altered; empty when all is well. Reads every byte."""
    return await damaged(bundle.folder, bundle.manifest.files)


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
