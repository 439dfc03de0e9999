"""Add-ons: in the bundle only when they are asked for, and then from every source."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from origin import BIN, COREDNS, FLANNEL, FLANNEL_PLUGIN, IMAGES, PROXY, VERSION, Heard, Origin, noise
from tests.model.clusters import three_nodes

from haplane.bundle import Bundle, check_sources, export, find, obtain, verify
from haplane.bundle.gomodules import flanneld_main
from haplane.bundle.images import image_names, write_image
from haplane.bundle.pinned import FLANNEL_IMAGE
from haplane.bundle.store import MANIFEST, bundles_folder
from haplane.model.bundle import Addon
from haplane.model.cluster import BundleSource, Cni, Machine, Role, Ssh
from haplane.model.errors import HaplaneError, UsageError

ALL = frozenset(Addon)
OF_WORKERS = frozenset({Addon.KUBE_PROXY, Addon.COREDNS})
NONE: frozenset[Addon] = frozenset()


def get(source: BundleSource, cache: Path, heard: Heard, addons: frozenset[Addon] = ALL) -> Bundle:
    return asyncio.run(obtain(VERSION, [source], cache=cache, progress=heard, addons=addons))


def paths(bundle: Bundle) -> set[str]:
    return {file.path for file in bundle.manifest.files}


@pytest.fixture
def exported(origin: Origin, tmp_path: Path, heard: Heard) -> Path:
    """A directory with all add-ons."""
    made = get(origin.source, tmp_path / "maker", heard)
    asyncio.run(export(made, tmp_path / "exported"))
    return tmp_path / "exported"


def test_a_cluster_asks_for_what_its_workers_and_its_network_need() -> None:
    cluster = three_nodes()
    assert cluster.addons == NONE
    worker = Machine("w1", (ip_address("192.0.2.21"),), frozenset({Role.WORKER}), Ssh())
    with_worker = replace(cluster, machines={**cluster.machines, "w1": worker})
    assert with_worker.addons == OF_WORKERS
    flannel = replace(cluster.kubernetes, cni=Cni.FLANNEL)
    assert replace(with_worker, kubernetes=flannel).addons == ALL
    assert replace(cluster, kubernetes=flannel).addons == ALL


def test_add_ons_come_from_the_registry_with_the_plugin_as_a_program(origin: Origin, cache: Path, heard: Heard) -> None:
    bundle = get(origin.source, cache, heard)
    of_kubeadm = {f"registry.k8s.io/{name}" for name in (*IMAGES, PROXY, COREDNS)}
    assert set(bundle.manifest.images) == {*of_kubeadm, FLANNEL_IMAGE}
    assert bundle.manifest.image_of("coredns") == f"registry.k8s.io/{COREDNS}"
    assert image_names(bundle.folder / "images/coredns.tar") == (f"registry.k8s.io/{COREDNS}",)
    assert image_names(bundle.folder / "images/flannel.tar") == (FLANNEL_IMAGE,)
    assert (bundle.folder / "cni/flannel").read_bytes() == noise("flannel plugin", 30_000)
    (plugin,) = (file for file in bundle.manifest.files if file.path.startswith("cni/"))
    assert plugin.executable
    assert "images/flannel-cni-plugin.tar" not in paths(bundle)
    assert bundle.manifest.bare_images == ()
    assert asyncio.run(verify(bundle)) == ()
    assert not list((cache / "stages").iterdir())


def test_what_was_not_asked_for_is_neither_fetched_nor_there(origin: Origin, cache: Path, heard: Heard) -> None:
    bundle = get(origin.source, cache, heard, NONE)
    assert {path for path in paths(bundle) if "proxy" in path or "coredns" in path or "flannel" in path} == set()
    assert bundle.manifest.image_of(Addon.KUBE_PROXY) is None
    assert not [path for path, _ in origin.requests if "proxy" in path or "coredns" in path or "flannel" in path]
    with_proxy = get(origin.source, cache, heard, OF_WORKERS)
    assert paths(with_proxy) - paths(bundle) == {"images/kube-proxy.tar", "images/coredns.tar"}


def test_bundles_with_and_without_lie_side_by_side_and_each_is_found_again(
    origin: Origin, cache: Path, heard: Heard
) -> None:
    without, with_all = get(origin.source, cache, heard, NONE), get(origin.source, cache, heard)
    assert without.manifest.identity != with_all.manifest.identity
    origin.requests.clear()
    for addons, made in ((NONE, without), (ALL, with_all)):
        assert find(VERSION, cache=cache, sources=[origin.source], addons=addons) == made
        assert get(origin.source, cache, heard, addons) == made
    assert find(VERSION, cache=cache, sources=[origin.source], addons=OF_WORKERS) is None
    assert origin.requests == []


def test_a_cluster_that_gets_workers_has_only_the_add_ons_made(origin: Origin, cache: Path, heard: Heard) -> None:
    without = get(origin.source, cache, heard, NONE)
    origin.requests.clear()
    bundle = get(origin.source, cache, heard)
    assert asyncio.run(verify(bundle)) == () == asyncio.run(verify(without))
    asked = {path.split("/")[2] for path, _ in origin.requests if path.startswith("/v2/")}
    assert asked == {"kube-proxy", "coredns", "flannel-io"}
    assert not [path for path, _ in origin.requests if path.startswith(BIN)]
    assert not list((cache / "stages").iterdir())


def test_what_is_damaged_in_one_bundle_is_not_lent_to_another(origin: Origin, cache: Path, heard: Heard) -> None:
    without = get(origin.source, cache, heard, NONE)
    (without.folder / "bin/kubelet").unlink()
    (without.folder / "bin/kubectl").write_bytes(b"altered")
    origin.requests.clear()
    assert asyncio.run(verify(get(origin.source, cache, heard))) == ()
    asked = {path for path, _ in origin.requests if path.startswith(BIN)}
    assert asked == {f"{BIN}/{name}{end}" for name in ("kubelet", "kubectl") for end in ("", ".sha256")}


def test_a_bundle_that_an_earlier_haplane_made_without_etcd_is_not_taken_but_helps(
    origin: Origin, cache: Path, heard: Heard
) -> None:
    made = get(origin.source, cache, heard, NONE)
    entries = list((bundles_folder(cache) / "index").iterdir())
    for entry in entries:
        entry.rename(entry.with_name(f"{entry.name.rpartition('-')[0]}-0123456789ab.json"))
    manifest = json.loads((made.folder / MANIFEST).read_text())
    del manifest["bare_images"]
    (made.folder / MANIFEST).write_text(json.dumps(manifest))
    assert find(VERSION, cache=cache, sources=[origin.source]) is None
    origin.requests.clear()
    assert get(origin.source, cache, heard, NONE).manifest == made.manifest
    assert origin.requests == []


def test_what_is_wrong_with_a_registry_for_flannel_is_told_before_anything_starts(origin: Origin, cache: Path) -> None:
    del origin.pages[f"/v2/{FLANNEL.replace(':', '/manifests/')}"]
    asyncio.run(check_sources(VERSION, [origin.source], addons=OF_WORKERS))
    with pytest.raises(UsageError, match="flannel-io/flannel/manifests"):
        asyncio.run(check_sources(VERSION, [origin.source], addons=ALL))


@pytest.mark.parametrize("lost", [PROXY, COREDNS, FLANNEL, FLANNEL_PLUGIN])
def test_a_registry_that_lacks_an_add_on_is_named(lost: str, origin: Origin, cache: Path, heard: Heard) -> None:
    del origin.pages[f"/v2/{lost.replace(':', '/manifests/')}"]
    with pytest.raises(HaplaneError, match="HTTP 404"):
        get(origin.source, cache, heard)


@pytest.mark.parametrize("with_manifest", [True, False])
def test_a_directory_gives_what_is_asked_for_and_no_more(
    with_manifest: bool, exported: Path, origin: Origin, cache: Path, heard: Heard
) -> None:
    if not with_manifest:
        (exported / MANIFEST).unlink()
    source = BundleSource("directory", path=exported)
    for addons in (ALL, OF_WORKERS, NONE):
        assert get(source, cache, heard, addons).manifest == get(origin.source, cache, heard, addons).manifest


@pytest.mark.parametrize("lost", ["images/kube-proxy.tar", "images/coredns.tar", "images/flannel.tar", "cni/flannel"])
def test_a_directory_that_lacks_an_add_on_is_told_with_all_that_it_must_hold(exported: Path, lost: str) -> None:
    for path in (lost, MANIFEST):
        (exported / path).unlink()
    source = BundleSource("directory", path=exported)
    asyncio.run(check_sources(VERSION, [source]))
    with pytest.raises(UsageError, match="lacks") as caught:
        asyncio.run(check_sources(VERSION, [source], addons=ALL))
    assert Path(lost).stem in caught.value.what
    for part in ("bin/etcd", "cni/flannel", "kube-proxy", "coredns", "flannel"):
        assert part in caught.value.hint


def test_a_directory_with_another_kube_proxy_is_not_used(exported: Path, cache: Path, heard: Heard) -> None:
    (exported / MANIFEST).unlink()
    program = exported.parent / "kube-proxy"
    program.write_bytes(noise("kube-proxy"))
    name = "registry.k8s.io/kube-proxy:v1.35.3"
    write_image(
        exported / "images/kube-proxy.tar",
        name=name,
        architecture="amd64",
        binaries={"kube-proxy": program},
        entrypoint="kube-proxy",
    )
    with pytest.raises(HaplaneError, match=r"kube-proxy:v1\.35\.3, not version"):
        get(BundleSource("directory", path=exported), cache, heard)


def test_images_that_haplane_made_are_told_as_such_also_from_a_directory(
    exported: Path, cache: Path, heard: Heard
) -> None:
    (exported / MANIFEST).unlink()
    program = exported.parent / "flanneld"
    program.write_bytes(noise("flanneld"))
    write_image(
        exported / "images/flannel.tar",
        name=FLANNEL_IMAGE,
        architecture="amd64",
        binaries={"flanneld": program},
        entrypoint="flanneld",
    )
    bundle = get(BundleSource("directory", path=exported), cache, heard)
    assert bundle.manifest.bare_images == (FLANNEL_IMAGE,)


def test_flanneld_is_built_without_what_needs_c_or_the_sdk_of_a_cloud() -> None:
    original = """import (
	_ "github.com/flannel-io/flannel/pkg/backend/tencentvpc"
	_ "github.com/flannel-io/flannel/pkg/backend/udp"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
)
"""
    assert (
        flanneld_main(original)
        == """import (
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
)
"""
    )
