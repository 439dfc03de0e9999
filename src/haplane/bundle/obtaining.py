"""The way to a bundle: the cache first, then each source in the order configured."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from haplane.bundle import directory, gomodules, official
from haplane.bundle.host import host_architecture
from haplane.bundle.images import image_names, is_bare
from haplane.bundle.kubeadm import ImageNames
from haplane.bundle.locks import lock
from haplane.bundle.pinned import FLANNEL_IMAGE, FLANNEL_PLUGIN_IMAGE
from haplane.bundle.problems import SourceUnavailable
from haplane.bundle.stages import Stage, Stages
from haplane.bundle.store import (
    Bundle,
    IndexEntry,
    StageRecord,
    bundles_folder,
    identity_of,
    index_path,
    read_bundle,
    read_entries,
    read_entry,
    remove,
    verify,
    write_entry,
    write_manifest,
)
from haplane.model.bundle import Addon, BundleManifest, programs
from haplane.model.cluster import BundleSource
from haplane.model.errors import CommandFailed, HaplaneError, UsageError
from haplane.model.progress import Progress
from haplane.transport.files import sync

_NOTHING: frozenset[Addon] = frozenset()


def find(
    version: str,
    *,
    cache: Path,
    sources: Sequence[BundleSource],
    addons: frozenset[Addon] = _NOTHING,
    architecture: str = "",
) -> Bundle | None:
    """The bundle last made for this, by its manifest alone: nothing is hashed, its files may be damaged."""
    found = _cached(_Wanted(version, architecture or host_architecture(), addons), cache, sources)
    return found[0] if found else None


async def obtain(
    version: str,
    sources: Sequence[BundleSource],
    *,
    cache: Path,
    progress: Progress,
    addons: frozenset[Addon] = _NOTHING,
    architecture: str = "",
) -> Bundle:
    """A bundle whose every byte was verified just now; made or repaired first where that is needed.

    version without the v, e.g. 1.35.4; addons: see Cluster.addons. Raises BadContent when a source gives something
    else than its checksum promises, and another HaplaneError that lists each source with its reason when none can be
    used.
    """
    order = _Order(_Wanted(version, architecture or host_architecture(), addons), cache, progress)
    with _disk_errors(cache):
        found = _cached(order.wanted, cache, sources)
        if found and not await verify(found[0]):
            return found[0]
        async with lock(bundles_folder(cache) / ".lock", order.subject, progress):
            return await _make(order, sources)


async def check_sources(
    version: str,
    sources: Sequence[BundleSource],
    *,
    addons: frozenset[Addon] = _NOTHING,
    architecture: str = "",
) -> None:
    """Says before anything starts what would stop `obtain`. Raises UsageError only if no source can work.

    Asks each source in turn until one answers; a cached bundle (see `find`) needs none of them.
    """
    wanted = _Wanted(version, architecture or host_architecture(), addons)
    failures = []
    for source in sources:
        try:
            await _check(source, wanted)
        except HaplaneError as error:
            failures.append((told(source), error))
        else:
            return
    raise _none_works(UsageError, version, failures)


def told(source: BundleSource) -> str:
    """A source in a few words, e.g. official (https://dl.k8s.io)."""
    place = source.url or (str(source.path) if source.path else "")
    return f"{source.kind} ({place})" if place else source.kind


@dataclass(frozen=True)
class _Wanted:
    """Which bundle."""

    version: str
    architecture: str
    addons: frozenset[Addon]

    def index(self, cache: Path, sources: Sequence[BundleSource]) -> Path:
        pinned = [FLANNEL_IMAGE, FLANNEL_PLUGIN_IMAGE] if Addon.FLANNEL in self.addons else []
        holds = [*programs(self.addons), *self.addons, *pinned]
        return index_path(cache, self.version, self.architecture, sources, holds)


@dataclass(frozen=True)
class _Order:
    """What is wanted, and where it goes."""

    wanted: _Wanted
    cache: Path
    progress: Progress

    @property
    def subject(self) -> str:
        return f"bundle {self.wanted.version}"


def _cached(wanted: _Wanted, cache: Path, sources: Sequence[BundleSource]) -> tuple[Bundle, IndexEntry] | None:
    entry = read_entry(wanted.index(cache, sources))
    if entry is None:
        return None
    if entry.directory and directory.fingerprint(Path(entry.directory)) not in ("", entry.seen):
        return None
    bundle = read_bundle(cache, entry)
    return (bundle, entry) if bundle else None


async def _make(order: _Order, sources: Sequence[BundleSource]) -> Bundle:
    """With the lock held: another process may have made it in the meantime."""
    found = _cached(order.wanted, order.cache, sources)
    if found:
        if not await verify(found[0]):
            return found[0]
        # A repair asks the source that made the bundle first: most of it is there already.
        sources_now = sorted(sources, key=lambda source: told(source) != found[1].source)
    else:
        sources_now = list(sources)
    failures: list[tuple[str, HaplaneError]] = []
    for source in sources_now:
        try:
            bundle, entry = await _from_source(order, source)
        except (SourceUnavailable, CommandFailed) as error:
            reason = f"{error.what}: {error.why.splitlines()[-1]}" if error.why else error.what
            order.progress.now(order.subject, f"source {told(source)} cannot be used: {reason}")
            failures.append((told(source), error))
        else:
            write_entry(order.wanted.index(order.cache, sources), entry)
            order.progress.done(order.subject, f"ready, {bundle.manifest.identity[:12]} from {told(source)}")
            return bundle
    raise _none_works(HaplaneError, order.wanted.version, failures)


async def _from_source(order: _Order, source: BundleSource) -> tuple[Bundle, IndexEntry]:
    """What this source made before is used again, repaired where it is damaged."""
    stages = Stages(order.cache / "stages")
    found = _cached(order.wanted, order.cache, [source])
    if found:
        bundle, entry = found
        bad = await verify(bundle)
        if not bad:
            return bundle, entry
        paths = ", ".join(file.path for file in bad)
        order.progress.now(order.subject, f"missing or damaged in the cache, to be made again: {paths}")
        await stages.restore(bundle, entry.stages, bad)
    lent = await _lend(order, source, stages)
    folder = source.path.expanduser() if source.kind == "directory" and source.path else None
    seen = directory.fingerprint(folder) if folder else ""
    made, names = await _stages(order, source, stages)
    bundle = await _assemble(order.wanted, order.cache, made, names)
    records = tuple(stage.record for stage in made)
    entry = IndexEntry(bundle.folder.name, told(source), records, str(folder or ""), seen)
    write_entry(order.wanted.index(order.cache, [source]), entry)
    stages.discard([*records, *lent, *(found[1].stages if found else ())])
    return bundle, entry


async def _lend(order: _Order, source: BundleSource, stages: Stages) -> tuple[StageRecord, ...]:
    """Puts back the stages of what this source made of the version before, for other add-ons or by an older haplane.

    Their keys say whether they serve: for a cluster that gets workers only the add-ons are made.
    """
    entries = read_entries(order.cache, order.wanted.version, order.wanted.architecture)
    by_bundle = {entry.bundle: entry for entry in entries if entry.source == told(source)}
    for entry in by_bundle.values():
        if bundle := read_bundle(order.cache, entry):
            await stages.restore(bundle, entry.stages, await verify(bundle))
    return tuple(record for entry in by_bundle.values() for record in entry.stages)


async def _stages(order: _Order, source: BundleSource, stages: Stages) -> tuple[tuple[Stage, ...], ImageNames]:
    version, architecture, addons = order.wanted.version, order.wanted.architecture, order.wanted.addons
    match source.kind, source.path:
        case "official", _:
            return await official.make_stages(source, version, architecture, addons, stages, order.progress)
        case "go-modules", _:
            return await gomodules.make_stages(version, architecture, addons, stages, order.progress)
        case "directory", Path() as folder:
            return await directory.make_stages(
                folder.expanduser(), version, architecture, addons, stages, order.progress
            )
    raise _no_such_kind(source)


async def _check(source: BundleSource, wanted: _Wanted) -> None:
    version, architecture, addons = wanted.version, wanted.architecture, wanted.addons
    match source.kind, source.path:
        case "official", _:
            await official.check(source, version, architecture, addons)
        case "go-modules", _:
            await gomodules.check(version, architecture, addons)
        case "directory", Path() as folder:
            await directory.check(folder.expanduser(), version, architecture, addons)
        case _:
            raise _no_such_kind(source)


def _no_such_kind(source: BundleSource) -> SourceUnavailable:
    return SourceUnavailable(f"there is no bundle source {told(source)}")


async def _assemble(wanted: _Wanted, cache: Path, stages: Sequence[Stage], names: ImageNames) -> Bundle:
    """Puts the stages' files together and the manifest last; the folder appears whole or not at all."""
    files = tuple(sorted((file for stage in stages for file in stage.files), key=lambda file: file.path))
    manifest = BundleManifest(
        identity=identity_of(files),
        kubernetes_version=wanted.version,
        architecture=wanted.architecture,
        etcd_image=names.etcd,
        pause_image=names.pause,
        images=names.all,
        files=files,
        bare_images=await asyncio.to_thread(_bare, stages),
    )
    folder = bundles_folder(cache) / manifest.folder_name
    await asyncio.to_thread(_put, folder, manifest, stages)
    return Bundle(folder, manifest)


def _bare(stages: Sequence[Stage]) -> tuple[str, ...]:
    """Read from the archives: a directory without a manifest may hold what haplane made, or what docker saved."""
    archives = [stage.folder / file.path for stage in stages for file in stage.files if file.path.startswith("images/")]
    return tuple(sorted(name for archive in archives if is_bare(archive) for name in image_names(archive)))


def _put(folder: Path, manifest: BundleManifest, stages: Sequence[Stage]) -> None:
    beside = folder.with_name(f".{folder.name}.new")
    old = folder.with_name(f".{folder.name}.old")
    remove(beside)
    for stage in stages:
        for file in stage.files:
            target = beside / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(stage.folder / file.path, target)
    write_manifest(beside, manifest)
    remove(old)
    if folder.exists():
        folder.rename(old)
    beside.rename(folder)
    sync(folder.parent)
    remove(old)


@contextmanager
def _disk_errors(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HaplaneError(
            "a file of the bundle cannot be read or written",
            where=str(error.filename or cache),
            why=error.strerror or str(error),
            hint=f"make {cache} writable and free about 2 GB on its disk, or choose another cache",
        ) from error


def _none_works(kind: type[HaplaneError], version: str, failures: Sequence[tuple[str, HaplaneError]]) -> HaplaneError:
    if len(failures) == 1:
        source, error = failures[0]
        if isinstance(error, kind):
            return error
        return kind(error.what, where=error.where or f"bundle source {source}", why=error.why, hint=error.hint)
    return kind(
        f"no source has what machines need for Kubernetes {version}",
        why="\n".join(f"{source}: {error}" for source, error in failures) or "no source is configured",
        hint="make one of the sources usable, or give a directory made on another host with haplane bundle export",
    )
