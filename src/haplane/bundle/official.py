"""Source official: binaries as dl.k8s.io lays them out, images from a registry; each checked by its checksum."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial

from haplane.bundle.downloads import download, fetch
from haplane.bundle.kubeadm import ImageNames, ask_kubeadm, component_of
from haplane.bundle.problems import SourceUnavailable
from haplane.bundle.registry import Registry, check_image, extract, pull
from haplane.bundle.stages import Stage, Stages, Workbench
from haplane.bundle.together import side_by_side
from haplane.model.cluster import BundleSource
from haplane.model.progress import Progress

_BESIDE_KUBEADM = ("kubelet", "kubectl")
_ETCDCTL = "usr/local/bin/etcdctl"


async def check(source: BundleSource, version: str, architecture: str) -> None:
    """Raises SourceUnavailable when this version is not there, or the place cannot be reached."""
    async with side_by_side() as group:
        group.create_task(_checksum(_binary_url(source, version, architecture, "kubeadm")))
        group.create_task(check_image(Registry(source.registry), f"registry.k8s.io/kube-apiserver:v{version}"))


async def make_stages(
    source: BundleSource, version: str, architecture: str, stages: Stages, progress: Progress
) -> tuple[tuple[Stage, ...], ImageNames]:
    """kubeadm says which images it wants; the other binaries come meanwhile. Raises SourceUnavailable, BadContent."""

    async def stage(name: str, place: str, make: Callable[[Workbench], Awaitable[None]]) -> Stage:
        return await stages.make(name, {"place": place, "architecture": architecture}, make, progress)

    async def binary(name: str) -> Stage:
        url = _binary_url(source, version, architecture, name)
        return await stage(name, url, partial(_binary, url, name, progress))

    async def image(name: str) -> Stage:
        make = partial(_image, Registry(source.registry), name, architecture, progress)
        return await stage(component_of(name), f"{source.registry} {name}", make)

    async with side_by_side() as group:
        beside = [group.create_task(binary(name)) for name in _BESIDE_KUBEADM]
        kubeadm = await binary("kubeadm")
        names = await ask_kubeadm(kubeadm.folder / "bin/kubeadm", version)
        images = [group.create_task(image(name)) for name in names.all]
    return (kubeadm, *(task.result() for task in (*beside, *images))), names


async def _binary(url: str, name: str, progress: Progress, bench: Workbench) -> None:
    downloaded = bench.work / name
    await download(url, downloaded, sha256=await _checksum(url), subject=name, progress=progress)
    downloaded.chmod(0o755)
    downloaded.rename(bench.place(f"bin/{name}"))
    progress.done(name, f"downloaded from {url}")


async def _image(registry: Registry, name: str, architecture: str, progress: Progress, bench: Workbench) -> None:
    component = component_of(name)
    target = bench.place(f"images/{component}.tar")
    layers = await pull(
        registry, name, architecture, work=bench.work, target=target, subject=component, progress=progress
    )
    if component == "etcd":
        await asyncio.to_thread(extract, layers, _ETCDCTL, bench.place("bin/etcdctl"))
    progress.done(component, f"pulled {name} from {registry.address}")


def _binary_url(source: BundleSource, version: str, architecture: str, name: str) -> str:
    return f"{source.url.rstrip('/')}/v{version}/bin/linux/{architecture}/{name}"


async def _checksum(url: str) -> str:
    beside = f"{url}.sha256"
    words = (await fetch(beside)).content.decode(errors="replace").split()
    if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0]):
        raise SourceUnavailable(f"{beside}: not a checksum", why=" ".join(words)[:200])
    return words[0]
