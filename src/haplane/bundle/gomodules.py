"""Source go-modules: programs built on this host from their published Go modules, images written around them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path

from haplane.bundle.go import Go, Module
from haplane.bundle.images import write_image
from haplane.bundle.kubeadm import CONTROL_PLANE, ImageNames, ask_kubeadm
from haplane.bundle.pinned import FLANNEL_VERSION
from haplane.bundle.stages import Stage, Stages, Workbench
from haplane.bundle.together import side_by_side
from haplane.model.bundle import FLANNEL_PLUGIN, Addon, component_of
from haplane.model.progress import Progress
from haplane.transport.files import replace_file

KUBERNETES = "k8s.io/kubernetes"
_ON_MACHINES = ("kubelet", "kubectl")
_ETCD = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "etcdctl": "go.etcd.io/etcd/etcdctl/v3",
    "etcdutl": "go.etcd.io/etcd/etcdutl/v3",
}
_COREDNS = "github.com/coredns/coredns"
_FLANNEL = "github.com/flannel-io/flannel"
# udp is for debugging and on amd64 needs C; tencentvpc is for one cloud and brings its SDK.
_BACKENDS_LEFT_OUT = ("udp", "tencentvpc")
# The last release with the flannel plugin in it. The plugin went on as github.com/flannel-io/cni-plugin, which the
# module proxy refuses. This one knows IPv6 too, and CNI 0.3.1 and 0.4.0 as the version of its configuration.
_FLANNEL_PLUGIN, _FLANNEL_PLUGIN_VERSION = "github.com/containernetworking/plugins", "0.9.1"
# Part of a stage's key: when the way of building it changes, it is made anew.
_RECIPE = "1"
_ETCD_RECIPE = "2"
_PAUSE_USER = "65535:65535"
# For what says of itself that it needs no newer one; below it Go takes the defaults of another time.
_OLDEST_GO = "1.21"


async def check(version: str, architecture: str, addons: frozenset[Addon]) -> None:
    """Raises SourceUnavailable when Go is missing, or the module proxy refuses or cannot be reached.

    Which CoreDNS it must have is not known before kubeadm was built.
    """
    go = Go.find(architecture)
    await go.knows(KUBERNETES, version)
    if Addon.FLANNEL in addons:
        await go.knows(_FLANNEL, FLANNEL_VERSION)
        await go.knows(_FLANNEL_PLUGIN, _FLANNEL_PLUGIN_VERSION)


async def make_stages(
    version: str, architecture: str, addons: frozenset[Addon], stages: Stages, progress: Progress
) -> tuple[tuple[Stage, ...], ImageNames]:
    """kubeadm first, because it knows which etcd, pause and CoreDNS it wants; then the others side by side.

    Raises SourceUnavailable, BadContent or CommandFailed.
    """
    go, module = await _ready("kubeadm", KUBERNETES, version, architecture, stages, progress)
    kubeadm = await _stage("kubeadm", version, go, stages, progress, partial(_kubeadm, go, module, version, progress))
    names = await ask_kubeadm(kubeadm.folder / "bin/kubeadm", version, addons)

    async def kubernetes() -> tuple[Stage, ...]:
        """kube-proxy is made of what the others are: at the same time most of it would be compiled twice."""
        make = partial(_kubernetes, go, module, version, names, progress)
        made = await _stage("kubernetes", version, go, stages, progress, make)
        if Addon.KUBE_PROXY not in addons:
            return (made,)
        proxy = partial(_kube_proxy, go, module, version, names.addons[Addon.KUBE_PROXY], progress)
        return made, await _stage("kube-proxy", version, go, stages, progress, proxy)

    others = [_make_etcd(names.etcd, architecture, stages, progress)]
    others.append(make_pause(names.pause, architecture, stages, progress))
    if Addon.COREDNS in addons:
        others.append(make_coredns(names.addons[Addon.COREDNS], architecture, stages, progress))
    if Addon.FLANNEL in addons:
        others.append(make_flannel(names.addons[Addon.FLANNEL], architecture, stages, progress))
        others.append(make_flannel_plugin(architecture, stages, progress))
    async with side_by_side() as group:
        first = group.create_task(kubernetes())
        tasks = [group.create_task(other) for other in others]
    return (kubeadm, *first.result(), *(task.result() for task in tasks)), names


async def _ready(
    name: str, path: str, version: str, architecture: str, stages: Stages, progress: Progress
) -> tuple[Go, Module]:
    """A module on this host, and a Go that can build it. Raises SourceUnavailable, BadContent."""
    loader = Go.find(architecture)
    progress.now(name, f"downloading {path} v{version}")
    module = await loader.download(path, version)
    return await loader.able_to_build(module.go_needed, stages.folder), module


async def _make_etcd(image: str, architecture: str, stages: Stages, progress: Progress) -> Stage:
    go, module = await _ready("etcd", _ETCD["etcd"], _version_of(image), architecture, stages, progress)
    make = partial(_etcd, go, image, module.go_needed, progress)
    return await _stage("etcd", image, go, stages, progress, make, recipe=_ETCD_RECIPE)


async def make_coredns(image: str, architecture: str, stages: Stages, progress: Progress) -> Stage:
    """The image of CoreDNS with the plugins of its release. Raises SourceUnavailable, BadContent or CommandFailed."""
    go, module = await _ready("coredns", _COREDNS, _version_of(image), architecture, stages, progress)
    return await _stage("coredns", image, go, stages, progress, partial(_coredns, go, image, module, progress))


async def make_flannel(image: str, architecture: str, stages: Stages, progress: Progress) -> Stage:
    """The image of flanneld. Raises SourceUnavailable, BadContent or CommandFailed."""
    go, module = await _ready("flannel", _FLANNEL, _version_of(image), architecture, stages, progress)
    return await _stage("flannel", image, go, stages, progress, partial(_flannel, go, image, module, progress))


async def make_flannel_plugin(architecture: str, stages: Stages, progress: Progress) -> Stage:
    """flannel's CNI plugin, which machines run. Raises SourceUnavailable, BadContent or CommandFailed."""
    go = await Go.find(architecture).able_to_build(_OLDEST_GO, stages.folder)
    source = f"{_FLANNEL_PLUGIN} {_FLANNEL_PLUGIN_VERSION}"
    return await _stage("flannel-plugin", source, go, stages, progress, partial(_flannel_plugin, go, progress))


async def make_pause(image: str, architecture: str, stages: Stages, progress: Progress) -> Stage:
    """The image of our own pause (pause.go). Raises SourceUnavailable or CommandFailed."""
    source = resources.files(__package__).joinpath("pause.go").read_text()
    go = await Go.find(architecture).able_to_build(_OLDEST_GO, stages.folder)
    return await _stage("pause", image + source, go, stages, progress, partial(_pause, go, image, source, progress))


async def _stage(
    name: str,
    source: str,
    go: Go,
    stages: Stages,
    progress: Progress,
    make: Callable[[Workbench], Awaitable[None]],
    *,
    recipe: str = _RECIPE,
) -> Stage:
    inputs = {"source": source, "go": go.version, "architecture": go.architecture, "recipe": recipe}
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


async def _kube_proxy(go: Go, module: Module, version: str, image: str, progress: Progress, bench: Workbench) -> None:
    _write_kubernetes_module(bench.work, module, version)
    built = bench.work / "built/kube-proxy"
    await go.build(bench.work, {built: f"{KUBERNETES}/cmd/kube-proxy"}, _stamp(version), "kube-proxy", progress)
    await _image(go, bench, image, {"kube-proxy": built}, entrypoint="kube-proxy")
    progress.done("kube-proxy", f"built v{version} with {go.version}")


async def _coredns(go: Go, image: str, module: Module, progress: Progress, bench: Workbench) -> None:
    version = _version_of(image)
    _write_module(bench.work, "coredns", module.go_needed, {_COREDNS: version})
    built = bench.work / "built/coredns"
    await go.build(bench.work, {built: _COREDNS}, {}, "coredns", progress)
    await _image(go, bench, image, {"coredns": built}, entrypoint="coredns")
    progress.done("coredns", f"built v{version} with {go.version}")


async def _flannel(go: Go, image: str, module: Module, progress: Progress, bench: Workbench) -> None:
    version = _version_of(image)
    _write_module(bench.work, "flanneld", module.go_needed, {_FLANNEL: version})
    (bench.work / "main.go").write_text(flanneld_main((module.folder / "main.go").read_text()))
    built = bench.work / "built/flanneld"
    stamp = {f"{_FLANNEL}/pkg/version.Version": f"v{version}"}
    await go.build(bench.work, {built: "haplane.invalid/flanneld"}, stamp, "flannel", progress)
    await _image(go, bench, image, {"flanneld": built}, entrypoint="flanneld")
    progress.done("flannel", f"built v{version} with {go.version}")


async def _flannel_plugin(go: Go, progress: Progress, bench: Workbench) -> None:
    _write_module(bench.work, "flannel-plugin", _OLDEST_GO, {_FLANNEL_PLUGIN: _FLANNEL_PLUGIN_VERSION})
    stamp = {f"{_FLANNEL_PLUGIN}/pkg/utils/buildversion.BuildVersion": f"v{_FLANNEL_PLUGIN_VERSION}"}
    package = f"{_FLANNEL_PLUGIN}/plugins/meta/flannel"
    await go.build(bench.work, {bench.place(FLANNEL_PLUGIN): package}, stamp, "flannel-plugin", progress)
    progress.done("flannel-plugin", f"built v{_FLANNEL_PLUGIN_VERSION} with {go.version}")


async def _etcd(go: Go, image: str, needed: str, progress: Progress, bench: Workbench) -> None:
    version = _version_of(image)
    _write_module(bench.work, "etcd", needed, dict.fromkeys(_ETCD.values(), version))
    built = {name: bench.work / "built" / name for name in _ETCD}
    await go.build(bench.work, {built[name]: path for name, path in _ETCD.items()}, {}, "etcd", progress)
    await _image(go, bench, image, built, entrypoint="etcd")
    for name in ("etcd", "etcdctl"):
        built[name].rename(bench.place(f"bin/{name}"))
    progress.done("etcd", f"built v{version} with {go.version}")


async def _pause(go: Go, image: str, source: str, progress: Progress, bench: Workbench) -> None:
    _write_module(bench.work, "pause", _OLDEST_GO, {})
    (bench.work / "pause.go").write_text(source)
    built = bench.work / "built" / "pause"
    await go.build(bench.work, {built: "haplane.invalid/pause"}, {}, "pause", progress)
    await _image(go, bench, image, {"pause": built}, entrypoint="pause", user=_PAUSE_USER)
    progress.done("pause", "built")


async def _image(
    go: Go,
    bench: Workbench,
    name: str,
    binaries: dict[str, Path],
    *,
    entrypoint: str,
    user: str = "",
) -> None:
    target = bench.place(f"images/{component_of(name)}.tar")
    await asyncio.to_thread(
        write_image,
        target,
        name=name,
        architecture=go.architecture,
        binaries=binaries,
        entrypoint=entrypoint,
        user=user,
    )


def _version_of(image: str) -> str:
    """registry.k8s.io/etcd:3.6.6-0 -> 3.6.6 (the last number counts rebuilds of the image)."""
    return re.sub(r"-\d+$", "", image.rpartition(":")[2]).removeprefix("v")


def _stamp(version: str) -> dict[str, str]:
    """The variables that Kubernetes' own build sets (hack/lib/version.sh), for what `--version` prints."""
    major, minor = version.split(".")[:2]
    told = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{name}": value for package in packages for name, value in told.items()}


def flanneld_main(original: str) -> str:
    """flanneld's main file without the backends that haplane does not use and that are in its way."""
    return re.sub(rf'(?m)^\s*_ "{_FLANNEL}/pkg/backend/({"|".join(_BACKENDS_LEFT_OUT)})"\n', "", original)


def _write_module(folder: Path, name: str, needed: str, requires: Mapping[str, str]) -> None:
    """A module of our own whose dependencies come at the versions that the required ones ask for."""
    require = "".join(f"require {path} v{version}\n" for path, version in requires.items())
    (folder / "go.mod").write_text(f"module haplane.invalid/{name}\n\ngo {needed}\n\n{require}")


def _write_kubernetes_module(folder: Path, module: Module, version: str) -> None:
    (folder / "go.mod").write_text(kubernetes_go_mod(module.go_mod.read_text(), version))
    if not (folder / "go.sum").exists():
        replace_file(folder / "go.sum", (module.folder / "go.sum").read_bytes())


def kubernetes_go_mod(original: str, version: str) -> str:
    """Kubernetes' go.mod made usable from outside: the same dependencies at the same versions.

    Its staging modules lie inside its source tree; they are also published, v1.35.4 as v0.35.4.
    """
    staging = "v0." + version.split(".", 1)[1]
    text = re.sub(r"(?m)^module \S+$", "module haplane.invalid/kubernetes", original)
    text = re.sub(r"(?m)^(\s*(?:replace )?)(\S+) => \./staging/\S+$", rf"\1\2 => \2 {staging}", text)
    text = re.sub(r"(?m)^(\s*(?:require )?k8s\.io/\S+) v0\.0\.0$", rf"\1 {staging}", text)
    return f"{text}\nrequire {KUBERNETES} v{version}\n"
