"""Stages: pieces of a bundle that are each made once, kept under a key of their inputs, and picked up again."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from haplane.bundle.store import (
    Bundle,
    StageRecord,
    damaged,
    hash_files,
    remove,
)
from haplane.model.bundle import BundleFile
from haplane.model.progress import Progress
from haplane.transport.files import replace_file, sync

_RECORD = "stage.json"
_files = TypeAdapter(tuple[BundleFile, ...])


@dataclass(frozen=True)
class Stage:
    """A finished piece: folder holds the files at the paths that they will have in the bundle."""

    name: str
    key: str
    folder: Path
    files: tuple[BundleFile, ...]

    @property
    def record(self) -> StageRecord:
        return StageRecord(self.name, self.key, tuple(file.path for file in self.files))


@dataclass(frozen=True)
class Workbench:
    """Where a stage is made. work survives an interruption (downloads, sources); out becomes the finished stage."""

    work: Path
    out: Path

    def place(self, path: str) -> Path:
        """Where a file of the bundle goes; its folder exists afterwards."""
        target = self.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


Make = Callable[[Workbench], Awaitable[None]]


class Stages:
    """The folder that holds finished and half-made stages. One process at a time may use it (see lock.py)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    async def make(self, name: str, inputs: Mapping[str, str], make: Make, progress: Progress) -> Stage:
        """The finished stage for these inputs; `make` runs only if it is not there yet or was damaged since."""
        key = _key(name, inputs)
        folder = self._folder(name, key)
        if files := await _intact(folder):
            progress.done(name, "already made")
            return Stage(name, key, folder, files)
        remove(folder)
        work = self.folder / f"{name}-{key}.work"
        bench = Workbench(work=work, out=work / "out")
        remove(bench.out)
        bench.out.mkdir(parents=True)
        await make(bench)
        files = await hash_files(bench.out, _paths(bench.out))
        await asyncio.to_thread(self._keep, bench, folder, files)
        return Stage(name, key, folder, files)

    def _keep(self, bench: Workbench, folder: Path, files: Sequence[BundleFile]) -> None:
        for file in files:
            sync(bench.out / file.path)
        replace_file(bench.out / _RECORD, _files.dump_json(tuple(files), indent=1))
        bench.out.rename(folder)
        sync(self.folder)
        remove(bench.work)

    async def restore(self, bundle: Bundle, records: Sequence[StageRecord], bad: Sequence[BundleFile]) -> None:
        """Takes stages back out of a bundle so that only those with a damaged file are made again."""
        lost = {file.path for file in bad}
        by_path = {file.path: file for file in bundle.manifest.files}
        for record in records:
            folder = self._folder(record.name, record.key)
            if lost.isdisjoint(record.paths) and set(record.paths) <= by_path.keys() and not folder.exists():
                files = tuple(by_path[path] for path in record.paths)
                await asyncio.to_thread(self._restore_one, bundle.folder, folder, files)

    def _restore_one(self, source: Path, folder: Path, files: tuple[BundleFile, ...]) -> None:
        beside = folder.with_name(f".{folder.name}.{os.getpid()}")
        remove(beside)
        for file in files:
            target = beside / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source / file.path, target)
        replace_file(beside / _RECORD, _files.dump_json(files, indent=1))
        beside.rename(folder)

    def discard(self, records: Sequence[StageRecord]) -> None:
        """Stages whose files are in a finished bundle are not needed beside it."""
        for record in records:
            remove(self._folder(record.name, record.key))

    def _folder(self, name: str, key: str) -> Path:
        return self.folder / f"{name}-{key}"


def _key(name: str, inputs: Mapping[str, str]) -> str:
    told = "\n".join([name, *(f"{key}={value}" for key, value in sorted(inputs.items()))])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _paths(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


async def _intact(folder: Path) -> tuple[BundleFile, ...]:
    try:
        files = _files.validate_json((folder / _RECORD).read_bytes())
    except (OSError, ValidationError):
        return ()
    return () if await damaged(folder, files) else files
