"""Source official: binaries as dl.k8s.io lays them out, images from a registry; each checked by its checksum."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial

from haplane.bundle.downloads import download, fetch
from haplane.bundle.kubeadm import ImageNames, ask_kubeadm
from haplane.bundle.pinned import FLANNEL_IMAGE, FLANNEL_PLUGIN_IMAGE
from haplane.bundle.problems import SourceUnavailable
from haplane.bundle.registry import Registry, check_image, extract, pull
from haplane.bundle.stages import Stage, Stages, Workbench
from haplane.bundle.together import side_by_side
from haplane.model.bundle import FLANNEL_PLUGIN, Addon, component_of
from haplane.model.cluster import BundleSource
from haplane.model.progress import Progress

_BESIDE_KUBEADM = ("kubelet", "kubectl")
# What is taken out of an image: where it is there, and where it goes in the bundle.
_TAKEN = {
    "etcd": {"usr/local/bin/etcd": "bin/etcd", "usr/local/bin/etcdctl": "bin/etcdctl"},
    component_of(FLANNEL_PLUGIN_IMAGE): {"flannel": FLANNEL_PLUGIN},
}


async def check(source: BundleSource, version: str, architecture: str, addons: frozenset[Addon]) -> None:
    """Raises SourceUnavailable when this version is not there, or the place cannot be reached."""
    async with side_by_side() as group:
        group.create_task(_checksum(_binary_url(source, version, architecture, "kubeadm")))
        for image in (f"registry.k8s.io/kube-apiserver:v{version}", *_of_flannel(addons)):
            group.create_task(check_image(Registry(source.registry), image))


async def make_stages(
    source: BundleSource,
    version: str,
    architecture: str,
    addons: frozenset[Addon],
    stages: Stages,
    progress: Progress,
) -> tuple[tuple[Stage, ...], ImageNames]:
    """kubeadm says which images it wants; what it does not name comes meanwhile.

    Raises SourceUnavailable, BadContent.
    """

    async def stage(name: str, place: str, make: Callable[[Workbench], Awaitable[None]]) -> Stage:
        return await stages.make(name, {"place": place, "architecture": architecture}, make, progress)

    async def binary(name: str) -> Stage:
        url = _binary_url(source, version, architecture, name)
        return await stage(name, url, partial(_binary, url, name, progress))

    async def image(name: str) -> Stage:
        make = partial(_image, Registry(source.registry), name, architecture, progress)
        taken = _TAKEN.get(component_of(name), {}).values()
        return await stage(component_of(name), " ".join([source.registry, name, *taken]), make)

    known = _of_flannel(addons)
    async with side_by_side() as group:
        beside = [group.create_task(binary(name)) for name in _BESIDE_KUBEADM]
        beside += [group.create_task(image(name)) for name in known]
        kubeadm = await binary("kubeadm")
        names = await ask_kubeadm(kubeadm.folder / "bin/kubeadm", version, addons)
        images = [group.create_task(image(name)) for name in names.all if name not in known]
    return (kubeadm, *(task.result() for task in (*beside, *images))), names


def _of_flannel(addons: frozenset[Addon]) -> tuple[str, ...]:
    return (FLANNEL_IMAGE, FLANNEL_PLUGIN_IMAGE) if Addon.FLANNEL in addons else ()


async def _binary(url: str, name: str, progress: Progress, bench: Workbench) -> None:
    downloaded = bench.work / name
    await download(url, downloaded, sha256=await _checksum(url), subject=name, progress=progress)
    downloaded.chmod(0o755)
    downloaded.rename(bench.place(f"bin/{name}"))
    progress.done(name, f"downloaded from {url}")


async def _image(registry: Registry, name: str, architecture: str, progress: Progress, bench: Workbench) -> None:
    component = component_of(name)
    # The plugin's image only carries it to here: machines run the program itself.
    carrier = name == FLANNEL_PLUGIN_IMAGE
    target = bench.work / "image.tar" if carrier else bench.place(f"images/{component}.tar")
    layers = await pull(
        registry, name, architecture, work=bench.work, target=target, subject=component, progress=progress
    )
    for inside, path in _TAKEN.get(component, {}).items():
        await asyncio.to_thread(extract, layers, inside, bench.place(path))
    progress.done(component, f"pulled {name} from {registry.of(name)}")


def _binary_url(source: BundleSource, version: str, architecture: str, name: str) -> str:
    return f"{source.url.rstrip('/')}/v{version}/bin/linux/{architecture}/{name}"


async def _checksum(url: str) -> str:
    beside = f"{url}.sha256"
    words = (await fetch(beside)).content.decode(errors="replace").split()
    if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0]):
        raise SourceUnavailable(f"{beside}: not a checksum", why=" ".join(words)[:200])
    return words[0]
