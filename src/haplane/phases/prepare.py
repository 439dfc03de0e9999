"""Phases that make a machine ready: packages, the bundle, the operating system, containerd."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from haplane.components import etcd
from haplane.components.base import STATE
from haplane.components.containerd import PLUGINS
from haplane.components.kubernetes import BINARIES
from haplane.model.bundle import FLANNEL_PLUGIN, BundleFile, BundleManifest, component_of
from haplane.model.errors import CommandFailed, HaplaneError
from haplane.observe.facts import BUNDLE_MARKERS, IMAGES_MARKER
from haplane.phases.change import Change
from haplane.phases.context import Context, Phase
from haplane.phases.gates import node_answers
from haplane.phases.lock import guard

SUPPORTED = {"debian": ("12", "13"), "ubuntu": ("24.04",)}
CHUNK_BYTES = 1 << 20


class InstallPackages(Phase):
    title = "Install packages"

    async def run(self, context: Context, do: Change) -> None:
        missing = [one for one in context.design.packages(do.machine) if one not in do.facts.packages]
        if not missing:
            return
        name, _, rest = do.facts.system.partition(" ")
        if rest.split(" ")[0] not in SUPPORTED.get(name, ()):
            raise HaplaneError(
                f"{do.machine} runs {do.facts.system or 'an unknown system'}: haplane cannot install packages there",
                where=do.machine,
                hint=f"supported are Debian 12 and 13 and Ubuntu 24.04; or install these yourself: {' '.join(missing)}",
            )
        script = (
            "export DEBIAN_FRONTEND=noninteractive\n"
            # A power cut inside an earlier run leaves dpkg half-way; other users of apt are waited for.
            '[ -z "$(ls /var/lib/dpkg/updates)" ] || dpkg --force-confold --configure -a\n'
            "apt-get -q -o DPkg::Lock::Timeout=300 update\n"
            "apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "
            f"install -y --no-install-recommends {' '.join(missing)}"
        )
        await do.do(
            f"install {' '.join(missing)}", lambda: do.job("packages", script, shown_as=script.splitlines()[-1])
        )


def needing(context: Context) -> tuple[str, ...]:
    """Machines that run something of the bundle."""
    of_it = {*context.having("kubelet"), *context.having("etcd")}
    return tuple(name for name in context.facts if name in of_it)


def lacking_bundle(context: Context) -> tuple[str, ...]:
    """Machines that do not have all that they need of it."""
    bundle = context.design.bundle
    return tuple(
        name
        for name in needing(context)
        if bundle is None or bundle_marker(context, name, bundle) not in context.facts[name].bundles
    )


def bundle_marker(context: Context, machine: str, bundle: BundleManifest) -> str:
    """What says on a machine that its part of the bundle is there, verified and linked."""
    kinds = {"etcd": context.having("etcd"), "worker": context.of(context.cluster.workers)}
    parts = [name for name, machines in kinds.items() if machine in machines]
    if "etcd" in parts and machine in context.of(context.cluster.control_plane):
        parts = ["both"]
    return "+".join((bundle.folder_name, *parts))


def programs(context: Context, machine: str) -> tuple[str, ...]:
    """Of the bundle, linked into /usr/local/bin."""
    of_nodes = BINARIES if machine in context.having("kubelet") else ()
    of_etcd = etcd.BINARIES if machine in context.having("etcd") else ()
    return tuple(dict.fromkeys((*of_nodes, *of_etcd)))


def bundle_part(context: Context, machine: str, bundle: BundleManifest) -> tuple[BundleFile, ...]:
    """The files that a machine needs: its programs, and of nodes the images. Raises HaplaneError without a program."""
    needed = programs(context, machine)
    there = {file.path for file in bundle.files}
    if missing := [name for name in needed if f"bin/{name}" not in there]:
        raise HaplaneError(
            f"the bundle has no {', '.join(missing)}, which {machine} needs",
            where=bundle.folder_name,
            why=f"it has {', '.join(sorted(there)) or 'nothing'}",
            hint="haplane bundle build makes it anew; a directory of yours has to hold bin/"
            + " and bin/".join(missing),
        )
    left_out = {f"bin/{name}" for name in etcd.BINARIES if name not in needed}
    left_out |= {path for path in there if path.startswith("images/")} - _images(context, machine, bundle)
    if machine not in context.having("kubelet"):
        left_out = there - {f"bin/{name}" for name in needed}
    return tuple(file for file in bundle.files if file.path not in left_out)


def _images(context: Context, machine: str, bundle: BundleManifest) -> set[str]:
    """Archives of what runs on a node: on a worker no part of the control plane."""
    every = {file.path for file in bundle.files if file.path.startswith("images/")}
    if machine not in context.of(context.cluster.workers):
        return every
    return every & {f"images/{name}.tar" for name in (component_of(bundle.pause_image), *context.cluster.addons)}


class SendBundle(Phase):
    title = "Send Kubernetes"

    def machines(self, context: Context) -> Sequence[str]:
        return needing(context)

    async def run(self, context: Context, do: Change) -> None:
        bundle = context.design.bundle
        if bundle is None:
            await do.do(f"send Kubernetes {context.cluster.kubernetes.version} (not built yet)", _nothing)
            return
        if bundle_marker(context, do.machine, bundle) in do.facts.bundles:
            return
        await do.do(
            f"send Kubernetes {bundle.kubernetes_version}, verify it, link its programs",
            lambda: self._send(context, do),
        )

    async def _send(self, context: Context, do: Change) -> None:
        bundle, folder = context.design.bundle, context.bundle_folder
        assert bundle is not None and folder is not None
        there = f"{STATE}/bundles/{bundle.folder_name}"
        wrong = await self._wrong(do, there, bundle_part(context, do.machine, bundle))
        for file in wrong:
            do.progress.now(do.machine, f"sending {file.path} ({file.size >> 20} MB)")
            await self._upload(do, folder / file.path, f"{there}/{file.path}", file)
        links = "\n".join(
            f"ln -sf {there}/bin/{name} .{name}.haplane\nmv -f .{name}.haplane {name}"
            for name in programs(context, do.machine)
        )
        if any(file.path == FLANNEL_PLUGIN for file in bundle.files):
            # Beside the distribution's own: containerd looks into one folder.
            links += f"\nmkdir -p {PLUGINS}\nln -sf {there}/{FLANNEL_PLUGIN} {PLUGINS}/.flannel.haplane\n"
            links += f"mv -f {PLUGINS}/.flannel.haplane {PLUGINS}/flannel"
        marker = f"{BUNDLE_MARKERS}/{bundle_marker(context, do.machine, bundle)}"
        await do.sh(
            f"set -e\ncd /usr/local/bin\n{links}\nmkdir -p {BUNDLE_MARKERS}\ntouch {marker}",
            shown_as="link the programs of Kubernetes into /usr/local/bin",
        )

    async def _wrong(self, do: Change, there: str, files: tuple[BundleFile, ...]) -> list[BundleFile]:
        """The files that the machine does not have, or has with other content."""
        sums = "".join(f"{file.sha256}  {file.path}\n" for file in files)
        check = f"sha256sum --check 2>/dev/null <<'HAPLANE_SUMS' || true\n{sums}HAPLANE_SUMS\n"
        script = f"cd {there} 2>/dev/null || exit 0\n{check}"
        done = await do.sh(script, shown_as="verify the bundle")
        good = {line.removesuffix(": OK") for line in done.stdout.splitlines() if line.endswith(": OK")}
        return [file for file in files if file.path not in good]

    async def _upload(self, do: Change, source: Path, target: str, file: BundleFile) -> None:
        partial = f"{target}.partial"
        mode = "755" if file.executable else "644"
        script = f"""set -e
mkdir -p {shlex.quote(str(Path(target).parent))}
cat > {partial}
[ "$(sha256sum < {partial} | cut -d' ' -f1)" = {file.sha256} ] || {{ echo 'what arrived is damaged' >&2; exit 1; }}
chmod {mode} {partial}; sync -f {partial}; mv -f {partial} {target}
"""
        try:
            await do.remote.run(
                guard(do.token) + script, shown_as=f"receive {target}", stdin=_chunks(source), timeout_s=1800
            )
        except CommandFailed as error:
            # A file that cannot be kept must not fill the disk that etcd may share.
            await do.sh(f"rm -f {partial}", shown_as="remove what arrived in part")
            raise error


class PrepareHost(Phase):
    title = "Prepare the operating system"

    async def run(self, context: Context, do: Change) -> None:
        await do.component(context.design.components(do.machine)["host"])


class StartContainerd(Phase):
    title = "Start the container runtime"
    rolls = True

    def machines(self, context: Context) -> Sequence[str]:
        return context.having("containerd")

    async def run(self, context: Context, do: Change) -> None:
        await do.component(context.design.components(do.machine)["containerd"])

    async def gate(self, context: Context, machine: str) -> None:
        await node_answers(context, machine)


class PrepareKubelet(Phase):
    title = "Prepare kubelet and kubeadm"
    rolls = True

    def machines(self, context: Context) -> Sequence[str]:
        return context.having("kubelet")

    async def run(self, context: Context, do: Change) -> None:
        components = context.design.components(do.machine)
        await do.component(components["kubelet"])
        # On a node of the cluster a change of it replaces pods: a phase of its own.
        if "kubeadm" in components and do.machine not in context.decision.members:
            await do.component(components["kubeadm"])

    async def gate(self, context: Context, machine: str) -> None:
        await node_answers(context, machine)


async def import_images(context: Context, do: Change) -> None:
    """Load the images that run here into containerd, unless it has them."""
    bundle = context.design.bundle
    if bundle is None:
        await do.do("load the container images", _nothing)
        return
    marker = bundle_marker(context, do.machine, bundle)
    if do.facts.images == marker:
        return
    archives = [f"{STATE}/bundles/{bundle.folder_name}/{path}" for path in sorted(_images(context, do.machine, bundle))]
    imports = "\n".join(f"ctr -n k8s.io images import --local {archive}" for archive in archives)
    script = f"{imports}\necho {marker} > {IMAGES_MARKER}"
    await do.do("load the container images", lambda: do.job("images", script, shown_as="ctr -n k8s.io images import"))


async def _nothing() -> None:
    pass


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
