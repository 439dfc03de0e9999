"""Source go-modules: Kubernetes and etcd built on this host from their Go modules, images written around them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import resources
from pathlib import Path

from haplane.bundle.go import Go, Module
from haplane.bundle.images import write_image
from haplane.bundle.kubeadm import CONTROL_PLANE, ImageNames, ask_kubeadm
from haplane.bundle.stages import Stage, Stages, Workbench
from haplane.bundle.store import write_atomically
from haplane.bundle.together import side_by_side
from haplane.model.progress import Progress

KUBERNETES = "k8s.io/kubernetes"
_ON_MACHINES = ("kubelet", "kubectl")
_ETCD = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "etcdctl": "go.etcd.io/etcd/etcdctl/v3",
    "etcdutl": "go.etcd.io/etcd/etcdutl/v3",
}
# Part of every stage's key: when the way of building changes, everything is made anew.
_RECIPE = "1"
_PAUSE_USER = "65535:65535"
_PAUSE_GO = "1.21"


async def check(version: str, architecture: str) -> None:
    """Raises SourceUnavailable when Go is missing, or the module proxy refuses or cannot be reached."""
    await Go.find(architecture).knows(KUBERNETES, version)


async def make_stages(
    version: str, architecture: str, stages: Stages, progress: Progress
) -> tuple[tuple[Stage, ...], ImageNames]:
    """kubeadm first, because it knows which etcd and pause it wants; then the others side by side.

    Raises SourceUnavailable, BadContent or CommandFailed.
    """
    loader = Go.find(architecture)
    progress.now("kubeadm", f"downloading {KUBERNETES} v{version}")
    module = await loader.download(KUBERNETES, version)
    go = await loader.able_to_build(module.go_needed, stages.folder)
    kubeadm = await _stage("kubeadm", version, go, stages, progress, partial(_kubeadm, go, module, version, progress))
    names = await ask_kubeadm(kubeadm.folder / "bin/kubeadm", version)
    kubernetes = partial(_kubernetes, go, module, version, names, progress)
    async with side_by_side() as group:
        others = [
            group.create_task(_stage("kubernetes", version, go, stages, progress, kubernetes)),
            group.create_task(_make_etcd(names.etcd, architecture, stages, progress)),
            group.create_task(make_pause(names.pause, architecture, stages, progress)),
        ]
    return (kubeadm, *(task.result() for task in others)), names


async def _make_etcd(image: str, architecture: str, stages: Stages, progress: Progress) -> Stage:
    loader, version = Go.find(architecture), _etcd_version(image)
    progress.now("etcd", f"downloading {_ETCD['etcd']} v{version}")
    needed = (await loader.download(_ETCD["etcd"], version)).go_needed
    go = await loader.able_to_build(needed, stages.folder)
    return await _stage("etcd", image, go, stages, progress, partial(_etcd, go, image, needed, progress))


async def make_pause(image: str, architecture: str, stages: Stages, progress: Progress) -> Stage:
    """The image of our own pause (pause.go). Raises SourceUnavailable or CommandFailed."""
    source = resources.files(__package__).joinpath("pause.go").read_text()
    go = await Go.find(architecture).able_to_build(_PAUSE_GO, stages.folder)
    return await _stage("pause", image + source, go, stages, progress, partial(_pause, go, image, source, progress))


async def _stage(
    name: str, source: str, go: Go, stages: Stages, progress: Progress, make: Callable[[Workbench], Awaitable[None]]
) -> Stage:
    inputs = {"source": source, "go": go.version, "architecture": go.architecture, "recipe": _RECIPE}
    return await stages.make(name, inputs, make, progress)


async def _kubeadm(go: Go, module: Module, version: str, progress: Progress, bench: Workbench) -> None:
    _write_kubernetes_module(bench.work, module, version)
    output = bench.place("bin/kubeadm")
    await go.build(bench.work, {output: f"{KUBERNETES}/cmd/kubeadm"}, _stamp(version), "kubeadm", progress)


async def _kubernetes(
    go: Go, module: Module, version: str, names: ImageNames, progress: Progress, bench: Workbench
) -> None:
    _write_kubernetes_module(bench.work, module, version)
    built = bench.work / "built"
    outputs = {bench.place(f"bin/{name}"): name for name in _ON_MACHINES} | {
        built / name: name for name in CONTROL_PLANE
    }
    packages = {output: f"{KUBERNETES}/cmd/{name}" for output, name in outputs.items()}
    await go.build(bench.work, packages, _stamp(version), "kubernetes", progress)
    for name in CONTROL_PLANE:
        progress.now("kubernetes", f"writing the image {names.control_plane[name]}")
        await _image(go, bench, names.control_plane[name], {name: built / name}, entrypoint=name)
    progress.done("kubernetes", f"built v{version} with {go.version}")


async def _etcd(go: Go, image: str, needed: str, progress: Progress, bench: Workbench) -> None:
    version = _etcd_version(image)
    require = "".join(f"require {path} v{version}\n" for path in _ETCD.values())
    (bench.work / "go.mod").write_text(f"module haplane.invalid/etcd\n\ngo {needed}\n\n{require}")
    built = {name: bench.work / "built" / name for name in _ETCD}
    await go.build(bench.work, {built[name]: path for name, path in _ETCD.items()}, {}, "etcd", progress)
    await _image(go, bench, image, built, entrypoint="etcd")
    built["etcdctl"].rename(bench.place("bin/etcdctl"))
    progress.done("etcd", f"built v{version} with {go.version}")


async def _pause(go: Go, image: str, source: str, progress: Progress, bench: Workbench) -> None:
    (bench.work / "go.mod").write_text(f"module haplane.invalid/pause\n\ngo {_PAUSE_GO}\n")
    (bench.work / "pause.go").write_text(source)
    built = bench.work / "built" / "pause"
    await go.build(bench.work, {built: "haplane.invalid/pause"}, {}, "pause", progress)
    await _image(go, bench, image, {"pause": built}, entrypoint="pause", user=_PAUSE_USER)
    progress.done("pause", "built")


async def _image(
    go: Go, bench: Workbench, name: str, binaries: dict[str, Path], *, entrypoint: str, user: str = ""
) -> None:
    target = bench.place(f"images/{entrypoint}.tar")
    await asyncio.to_thread(
        write_image,
        target,
        name=name,
        architecture=go.architecture,
        binaries=binaries,
        entrypoint=entrypoint,
        user=user,
    )


def _etcd_version(image: str) -> str:
    """registry.k8s.io/etcd:3.6.6-0 -> 3.6.6 (the last number counts rebuilds of the image)."""
    return re.sub(r"-\d+$", "", image.rpartition(":")[2]).removeprefix("v")


def _stamp(version: str) -> dict[str, str]:
    """The variables that Kubernetes' own build sets (hack/lib/version.sh), for what `--version` prints."""
    major, minor = version.split(".")[:2]
    told = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{name}": value for package in packages for name, value in told.items()}


def _write_kubernetes_module(folder: Path, module: Module, version: str) -> None:
    (folder / "go.mod").write_text(kubernetes_go_mod(module.go_mod.read_text(), version))
    if not (folder / "go.sum").exists():
        write_atomically(folder / "go.sum", (module.folder / "go.sum").read_bytes())


def kubernetes_go_mod(original: str, version: str) -> str:
    """Kubernetes' go.mod made usable from outside: the same dependencies at the same versions.

    Its staging modules lie inside its source tree; they are also published, v1.35.4 as v0.35.4.
    """
    staging = "v0." + version.split(".", 1)[1]
    text = re.sub(r"(?m)^module \S+$", "module haplane.invalid/kubernetes", original)
    text = re.sub(r"(?m)^(\s*(?:replace )?)(\S+) => \./staging/\S+$", rf"\1\2 => \2 {staging}", text)
    text = re.sub(r"(?m)^(\s*(?:require )?k8s\.io/\S+) v0\.0\.0$", rf"\1 {staging}", text)
    return f"{text}\nrequire {KUBERNETES} v{version}\n"
