"""Source directory: a folder as an export or an earlier bundle has it, bin/ and images/ and more; how to make one."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tarfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from haplane.bundle.images import image_names
from haplane.bundle.kubeadm import CONTROL_PLANE, ImageNames, pick_images
from haplane.bundle.problems import BadContent, SourceUnavailable
from haplane.bundle.stages import Stage, Stages, Workbench
from haplane.bundle.store import MANIFEST, Bundle, hash_files, read_manifest, remove, verify, write_manifest
from haplane.model.bundle import FLANNEL_PLUGIN, Addon, BundleFile, component_of, programs
from haplane.model.errors import HaplaneError
from haplane.model.progress import Progress
from haplane.transport.files import sync

_IMAGES = (*CONTROL_PLANE, "etcd", "pause")
_EXECUTABLE = frozenset(programs(frozenset(Addon)))


@dataclass(frozen=True)
class _Content:
    """What a directory offers. told: the files as its manifest gives them; empty when it has none."""

    paths: tuple[str, ...]
    names: ImageNames
    told: tuple[BundleFile, ...]


def fingerprint(folder: Path) -> str:
    """Changes when a file in it is replaced, by size and time: nothing is read. Empty when there is no folder."""
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for path in [folder / MANIFEST, *(folder / name for name in _offered(folder))]:
        if path.exists():
            status = path.stat()
            digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


async def check(folder: Path, version: str, architecture: str, addons: frozenset[Addon]) -> None:
    """Raises SourceUnavailable when the directory is missing, or lacks something, or holds another version."""
    await asyncio.to_thread(_look, folder, version, architecture, addons)


async def make_stages(
    folder: Path, version: str, architecture: str, addons: frozenset[Addon], stages: Stages, progress: Progress
) -> tuple[tuple[Stage, ...], ImageNames]:
    """Copies it, so that machines get what was verified also when the directory changes or goes away.

    Raises SourceUnavailable, and BadContent when a file is not what the directory's manifest says.
    """
    content = await asyncio.to_thread(_look, folder, version, architecture, addons)
    inputs = {"folder": str(folder), "seen": fingerprint(folder), "files": " ".join(content.paths)}
    stage = await stages.make("directory", inputs, partial(_copy, folder, content, progress), progress)
    return (stage,), content.names


async def _copy(folder: Path, content: _Content, progress: Progress, bench: Workbench) -> None:
    for path in content.paths:
        progress.now("directory", f"copying {folder / path}")
        await asyncio.to_thread(_copy_file, folder / path, bench.place(path), executable=path in _EXECUTABLE)
    if content.told:
        _compare(folder, content.told, await hash_files(bench.out, content.paths))
        progress.done("directory", f"copied from {folder}; all is as its {MANIFEST} says")
    else:
        progress.done("directory", f"copied from {folder}; it has no {MANIFEST}, so its files are taken as found")


def _copy_file(source: Path, target: Path, *, executable: bool) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o755 if executable else 0o644)


def _compare(folder: Path, told: tuple[BundleFile, ...], found: tuple[BundleFile, ...]) -> None:
    got = {file.path: file.sha256 for file in found}
    wrong = [file for file in told if got[file.path] != file.sha256]
    if wrong:
        raise BadContent(
            "a bundle directory's files are not what its manifest says",
            where=str(folder),
            why="\n".join(
                f"{file.path}: expected sha256 {file.sha256}, got {got[file.path]} (should have {file.size} bytes)"
                for file in wrong
            ),
            hint=f"copy the directory again from where it was made; remove {MANIFEST} only if you trust the files",
        )


def _offered(folder: Path) -> tuple[str, ...]:
    """The files of a bundle that lie in the folder, sorted."""
    images = sorted(
        f"images/{path.name}" for path in (folder / "images").glob("*.tar") if not path.name.startswith(".")
    )
    return (*(name for name in sorted(_EXECUTABLE) if (folder / name).is_file()), *images)


def _layout(addons: frozenset[Addon]) -> str:
    return (
        f"it must hold {', '.join(programs(addons))}, "
        f"and in images/*.tar the images {', '.join([*_IMAGES, *sorted(addons)])}"
    )


def _look(folder: Path, version: str, architecture: str, addons: frozenset[Addon]) -> _Content:
    """What the cluster needs of what is there: add-ons that it does not ask for are left where they are."""
    if not folder.is_dir():
        raise SourceUnavailable(f"{folder} is not a directory", hint=_layout(addons))
    others = set(Addon) - addons
    offered = _offered(folder)
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        if manifest is None:
            raise SourceUnavailable(f"{folder / MANIFEST} cannot be read as a bundle's manifest")
        if (manifest.kubernetes_version, manifest.architecture) != (version, architecture):
            raise SourceUnavailable(
                f"{folder} holds Kubernetes {manifest.kubernetes_version} for {manifest.architecture}, "
                f"not {version} for {architecture}"
            )
        told, images = manifest.files, manifest.images
        paths = tuple(file.path for file in told)
        unasked = {f"images/{addon}.tar" for addon in others}
    else:
        archives = {path: _names(folder / path) for path in offered if path.startswith("images/")}
        told, images = (), tuple(name for names in archives.values() for name in names)
        paths = offered
        unasked = {path for path, names in archives.items() if {component_of(name) for name in names} <= others}
    if Addon.FLANNEL in others:
        unasked.add(FLANNEL_PLUGIN)
    paths = tuple(path for path in paths if path not in unasked)
    told = tuple(file for file in told if file.path not in unasked)
    if missing := sorted({*programs(addons), *paths} - set(offered)):
        raise SourceUnavailable(f"{folder} lacks {', '.join(missing)}", hint=_layout(addons))
    return _Content(paths, _pick(folder, images, version, addons), told)


def _pick(folder: Path, images: tuple[str, ...], version: str, addons: frozenset[Addon]) -> ImageNames:
    try:
        names = pick_images(images, addons)
    except KeyError as error:
        raise SourceUnavailable(f"{folder} lacks an image {error.args[0]}", hint=_layout(addons)) from error
    proxy = [image for addon, image in names.addons.items() if addon is Addon.KUBE_PROXY]
    for name in (*names.control_plane.values(), *proxy):
        if not name.endswith(f":v{version}"):
            raise SourceUnavailable(f"{folder} holds {name}, not version {version}")
    return names


def _names(archive: Path) -> tuple[str, ...]:
    try:
        return image_names(archive)
    except (OSError, tarfile.TarError, ValueError) as error:
        raise SourceUnavailable(f"{archive} cannot be read as an image archive", why=str(error)) from error


async def export(bundle: Bundle, folder: Path) -> None:
    """Copies a bundle, verified, to a new or empty folder, which can then be a directory source on another host.

    Raises HaplaneError when the bundle is damaged or the folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise HaplaneError(f"{folder} is not empty", hint="name a new folder")
    if bad := await verify(bundle):
        raise HaplaneError("the bundle is damaged", where=str(bundle.folder), why=", ".join(file.path for file in bad))
    await asyncio.to_thread(_export, bundle, folder)


def _export(bundle: Bundle, folder: Path) -> None:
    beside = folder.with_name(f".{folder.name}.part")
    remove(beside)
    for file in bundle.manifest.files:
        target = beside / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_file(bundle.folder / file.path, target, executable=file.executable)
        sync(target)
    write_manifest(beside, bundle.manifest)
    beside.rename(folder)
