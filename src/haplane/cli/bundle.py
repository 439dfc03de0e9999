"""haplane bundle: Kubernetes' programs and images for one version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from haplane.cli.session import DEFAULT_FILE, Terminal, cache_folder, load_cluster, run, show_json
from haplane.model.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from haplane.bundle import Bundle
    from haplane.model.cluster import Cluster

File = Annotated[Path, Parameter(name=["--file", "-f"])]
Json = Annotated[bool, Parameter(name="--json", negative=())]


def build(*, file: File = DEFAULT_FILE, json: Json = False) -> None:
    """Get the programs and images for the version in the file: from the cache, or the first source that works."""
    from haplane.bundle import check_sources, find, obtain

    cluster = load_cluster(file)
    version, sources, addons = cluster.kubernetes.version, cluster.sources, cluster.addons

    async def work(terminal: Terminal) -> Bundle:
        if find(version, cache=cache_folder(), sources=sources, addons=addons) is None:
            await check_sources(version, sources, addons=addons)
        return await obtain(version, sources, cache=cache_folder(), progress=terminal, addons=addons)

    bundle = run(work)
    if json:
        show_json(_as_json(bundle))
        return
    megabytes = sum(one.size for one in bundle.manifest.files) / 1e6
    print(f"Kubernetes {bundle.manifest.kubernetes_version}: {len(bundle.manifest.files)} files, {megabytes:.0f} MB")
    print(f"{bundle.folder}")


def verify(*, file: File = DEFAULT_FILE, json: Json = False) -> int:
    """Hash every file of the cached bundle and compare it with its manifest."""
    from haplane.bundle import verify as verify_bundle

    bundle = _cached(load_cluster(file))
    wrong = run(lambda _: verify_bundle(bundle))
    if json:
        show_json({**_as_json(bundle), "wrong": [one.path for one in wrong]})
    elif wrong:
        print(f"{bundle.folder}: missing, truncated or altered: {', '.join(one.path for one in wrong)}")
        print("haplane bundle build replaces them")
    else:
        print(f"{bundle.folder}: all {len(bundle.manifest.files)} files are as they were made")
    return ExitCode.FINDING if wrong else ExitCode.DONE


def export(folder: Path, *, file: File = DEFAULT_FILE) -> None:
    """Copy the cached bundle to a folder; there, `bundle: {sources: [{directory: FOLDER}]}` uses it."""
    from haplane.bundle import export as export_bundle

    bundle = _cached(load_cluster(file))
    run(lambda _: export_bundle(bundle, folder))
    print(f"written: {folder}")


def _cached(cluster: Cluster) -> Bundle:
    from haplane.bundle import find

    version, sources = cluster.kubernetes.version, cluster.sources
    bundle = find(version, cache=cache_folder(), sources=sources, addons=cluster.addons)
    if bundle is None:
        raise UsageError(
            f"there is no bundle for Kubernetes {cluster.kubernetes.version} yet", hint="haplane bundle build"
        )
    return bundle


def _as_json(bundle: Bundle) -> dict[str, object]:
    manifest = bundle.manifest
    return {
        "version": 1,
        "folder": str(bundle.folder),
        "identity": manifest.identity,
        "kubernetes": manifest.kubernetes_version,
        "images": list(manifest.images),
        "files": [{"path": one.path, "sha256": one.sha256, "size": one.size} for one in manifest.files],
    }
