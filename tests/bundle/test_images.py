"""Image archives: the same bytes from the same input, in the form that the OCI specification gives."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haplane.bundle.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, image_names, is_bare, write_archive, write_image
from haplane.bundle.images import blob as made_blob

NAME = "registry.k8s.io/etcd:3.6.6-0"


def write(folder: Path, target: str, binaries: dict[str, bytes], *, mtime: int = 0) -> Path:
    files = {}
    for name, content in binaries.items():
        files[name] = folder / f"{target}-{name}"
        files[name].write_bytes(content)
        os.utime(files[name], (mtime, mtime))
    write_image(
        folder / target, name=NAME, architecture="amd64", binaries=files, entrypoint=next(iter(binaries)), user="7:7"
    )
    return folder / target


def members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


def blob(content: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    algorithm, _, value = descriptor["digest"].partition(":")
    found = content[f"blobs/{algorithm}/{value}"]
    assert hashlib.new(algorithm, found).hexdigest() == value
    assert len(found) == descriptor["size"]
    return found


def test_the_same_input_gives_the_same_bytes_whatever_order_and_time(tmp_path: Path) -> None:
    one = write(tmp_path, "one.tar", {"etcd": b"server", "etcdctl": b"client"}, mtime=1)
    other = write(tmp_path, "other.tar", {"etcd": b"server", "etcdctl": b"client"}, mtime=1_700_000_000)
    assert one.read_bytes() == other.read_bytes()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,80}", fullmatch=True), st.binary(max_size=2000), min_size=1))
def test_what_goes_into_an_image_comes_out_of_its_layer(tmp_path: Path, binaries: dict[str, bytes]) -> None:
    content = members(write(tmp_path, "image.tar", binaries))
    index = json.loads(content["index.json"])
    manifest = json.loads(blob(content, index["manifests"][0]))
    config = json.loads(blob(content, manifest["config"]))
    layer = blob(content, manifest["layers"][0])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]
        assert all(member.mode == 0o755 and member.uid == member.gid == member.mtime == 0 for member in tar)
        assert [member.name for member in tar if member.isdir()] == ["usr", "usr/local", "usr/local/bin"]
    assert found == {f"usr/local/bin/{name}": binary for name, binary in binaries.items()}


def test_an_archive_is_an_oci_layout_that_names_its_image_for_containerd(tmp_path: Path) -> None:
    archive = write(tmp_path, "image.tar", {"etcd": b"server"})
    content = members(archive)
    assert json.loads(content["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(content["index.json"])
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == NAME
    assert image_names(archive) == (NAME,)
    config = json.loads(blob(content, json.loads(blob(content, index["manifests"][0]))["config"]))
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["config"]["Entrypoint"] == ["/usr/local/bin/etcd"]
    assert config["config"]["User"] == "7:7"
    assert "/usr/local/bin" in config["config"]["Env"][0]


def test_names_are_read_from_what_docker_save_writes(tmp_path: Path) -> None:
    archive = tmp_path / "saved.tar"
    with tarfile.open(archive, "w") as tar:
        told = json.dumps([{"RepoTags": [NAME, "other:1"]}]).encode()
        member = tarfile.TarInfo("manifest.json")
        member.size = len(told)
        tar.addfile(member, io.BytesIO(told))
    assert image_names(archive) == (NAME, "other:1")


@pytest.mark.parametrize("told", [None, b"[]", b"{}", b"not json", b'{"manifests": 3}'])
def test_what_is_no_image_archive_is_told_as_such(tmp_path: Path, told: bytes | None) -> None:
    with pytest.raises(ValueError):
        image_names(odd(tmp_path, told))


def odd(folder: Path, told: bytes | None) -> Path:
    archive = folder / "odd.tar"
    with tarfile.open(archive, "w") as tar:
        if told is not None:
            member = tarfile.TarInfo("index.json")
            member.size = len(told)
            tar.addfile(member, io.BytesIO(told))
    return archive


def test_what_haplane_writes_is_known_to_hold_nothing_but_the_program(tmp_path: Path) -> None:
    assert is_bare(write(tmp_path, "image.tar", {"etcd": b"server", "etcdctl": b"client"}))


@pytest.mark.parametrize("files", [["etc/passwd"], ["usr/local/bin/etcd", "lib/libc.so"], ["usr/local/bin/more/deep"]])
def test_an_image_with_more_than_programs_is_not_bare(tmp_path: Path, files: list[str]) -> None:
    assert not is_bare(saved(tmp_path, OCI_LAYER, layer(files)))


def test_an_image_as_a_registry_gives_it_is_not_bare(tmp_path: Path) -> None:
    packed = gzip.compress(layer(["usr/local/bin/etcd"]))
    assert not is_bare(saved(tmp_path, f"{OCI_LAYER}+gzip", packed))
    assert is_bare(saved(tmp_path, OCI_LAYER, layer(["usr/local/bin/etcd"])))
    assert not is_bare(saved(tmp_path, OCI_LAYER, layer(["usr/local/bin/etcd"]), layer(["usr/local/bin/etcdctl"])))
    assert not is_bare(saved(tmp_path, OCI_LAYER, b"not a tar"))


@pytest.mark.parametrize("told", [None, b"[]", b"{}", b"not json", b'{"manifests": [3]}', b'{"manifests": [{}, {}]}'])
def test_what_is_no_image_archive_is_not_bare(tmp_path: Path, told: bytes | None) -> None:
    assert not is_bare(odd(tmp_path, told))


def layer(files: list[str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in files:
            tar.addfile(tarfile.TarInfo(name))
    return content.getvalue()


def saved(folder: Path, media_type: str, *layers: bytes) -> Path:
    """An archive of an image with these layers."""
    config = made_blob(OCI_CONFIG, b"{}")
    blobs = [made_blob(media_type, content) for content in layers]
    told = {"config": config.descriptor.json(), "layers": [one.descriptor.json() for one in blobs]}
    manifest = made_blob(OCI_MANIFEST, json.dumps(told).encode())
    write_archive(folder / "saved.tar", name=NAME, manifest=manifest, blobs=[config, *blobs])
    return folder / "saved.tar"
