"""Container images as OCI-layout archives: written byte for byte the same from the same input, and read for names.

Layers are not compressed: containerd then imports at the speed of the disk, and the digest of a layer is its diff_id.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# containerd takes the image's full name from this annotation (pkg images/annotations.go).
NAME_ANNOTATION = "io.containerd.image.name"
_REFERENCE_ANNOTATION = "org.opencontainers.image.ref.name"
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BINARIES = PurePosixPath("usr/local/bin")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Descriptor:
    """media_type, digest (sha256:...) and size in bytes of a blob."""

    media_type: str
    digest: str
    size: int

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")

    def json(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Blob:
    """Content of an archive: bytes, a file, or several of them one after the other."""

    descriptor: Descriptor
    pieces: tuple[bytes | Path, ...]


def compact(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _chunks(pieces: Sequence[bytes | Path]) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        with piece.open("rb") as file:
            while chunk := file.read(_BLOCK_BYTES):
                yield chunk


def blob(media_type: str, *pieces: bytes | Path) -> Blob:
    """Reads the pieces once for their digest and size."""
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(pieces):
        digest.update(chunk)
        size += len(chunk)
    return Blob(Descriptor(media_type, f"sha256:{digest.hexdigest()}", size), pieces)


def _header(name: str, size: int, *, mode: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.type, member.mtime = size, mode, kind, 0
    return member.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return b"\0" * (-size % tarfile.BLOCKSIZE)


def write_image(
    target: Path, *, name: str, architecture: str, binaries: Mapping[str, Path], entrypoint: str, user: str = ""
) -> None:
    """An image of static binaries in /usr/local/bin (name to file) and nothing else, as an archive at target."""
    folders = [*reversed(_BINARIES.parents[:-1]), _BINARIES]
    pieces: list[bytes | Path] = [_header(f"{name}/", 0, mode=0o755, kind=tarfile.DIRTYPE) for name in folders]
    for binary, file in sorted(binaries.items()):
        size = file.stat().st_size
        pieces += [_header(str(_BINARIES / binary), size, mode=0o755), file, _padding(size)]
    pieces.append(b"\0" * (2 * tarfile.BLOCKSIZE))
    layer = blob(OCI_LAYER, *pieces)
    settings: dict[str, object] = {"Env": [f"PATH={_SEARCH_PATH}"], "Entrypoint": [f"/{_BINARIES}/{entrypoint}"]}
    if user:
        settings["User"] = user
    config = blob(
        OCI_CONFIG,
        compact(
            {
                "architecture": architecture,
                "os": "linux",
                "config": settings,
                "rootfs": {"type": "layers", "diff_ids": [layer.descriptor.digest]},
            }
        ),
    )
    manifest = blob(
        OCI_MANIFEST,
        compact(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": config.descriptor.json(),
                "layers": [layer.descriptor.json()],
            }
        ),
    )
    write_archive(target, name=name, manifest=manifest, blobs=[config, layer])


def write_archive(target: Path, *, name: str, manifest: Blob, blobs: Sequence[Blob]) -> None:
    """An OCI layout (image-spec image-layout.md) with one image, put in place atomically."""
    annotations = {NAME_ANNOTATION: name, _REFERENCE_ANNOTATION: name.rpartition(":")[2]}
    index = compact(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{**manifest.descriptor.json(), "annotations": annotations}],
        }
    )
    by_hex = {blob.descriptor.hex: blob for blob in [manifest, *blobs]}
    beside = target.with_name(f".{target.name}.part")
    with beside.open("wb") as file:
        for folder in ("blobs/", "blobs/sha256/"):
            file.write(_header(folder, 0, mode=0o755, kind=tarfile.DIRTYPE))
        for digest, content in sorted(by_hex.items()):
            _write_member(file, f"blobs/sha256/{digest}", content.descriptor.size, content.pieces)
        _write_member(file, "index.json", len(index), (index,))
        layout = compact({"imageLayoutVersion": "1.0.0"})
        _write_member(file, "oci-layout", len(layout), (layout,))
        file.write(b"\0" * (2 * tarfile.BLOCKSIZE))
        file.flush()
        os.fsync(file.fileno())
    beside.rename(target)


def _write_member(file: io.BufferedWriter, name: str, size: int, pieces: Sequence[bytes | Path]) -> None:
    file.write(_header(name, size, mode=0o644))
    for chunk in _chunks(pieces):
        file.write(chunk)
    file.write(_padding(size))


def is_bare(archive: Path) -> bool:
    """Does an archive hold one image with programs in /usr/local/bin and nothing else, as write_image makes it?

    Raises OSError, or tarfile.TarError when it is no archive.
    """
    with tarfile.open(archive) as tar:

        def part(name: str) -> IO[bytes]:
            if file := tar.extractfile(name):
                return file
            raise KeyError(name)

        def blob_of(descriptor: Mapping[str, str]) -> IO[bytes]:
            return part(f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}")

        try:
            (image,) = json.load(part("index.json"))["manifests"]
            (layer,) = json.load(blob_of(image))["layers"]
            if layer["mediaType"] != OCI_LAYER:
                return False
            with tarfile.open(fileobj=blob_of(layer)) as content:
                paths = [PurePosixPath(member.name) for member in content]
        except (KeyError, TypeError, AttributeError, ValueError, tarfile.TarError):
            return False
    return all(path in _BINARIES.parents or _BINARIES in (path, path.parent) for path in paths)


def image_names(archive: Path) -> tuple[str, ...]:
    """The names that an archive (OCI layout, or what `docker save` writes) gives its images.

    Raises OSError, tarfile.TarError, or ValueError when it is no image archive.
    """
    with tarfile.open(archive) as tar:
        members = {member.name.removeprefix("./"): member for member in tar if member.size < _BLOCK_BYTES}
        found = {
            name: json.load(file)
            for name in ("index.json", "manifest.json")
            if name in members and (file := tar.extractfile(members[name]))
        }
    try:
        if "index.json" in found:
            told = [entry.get("annotations", {}) for entry in found["index.json"]["manifests"]]
            if names := tuple(entry[NAME_ANNOTATION] for entry in told if NAME_ANNOTATION in entry):
                return names
        if "manifest.json" in found:
            return tuple(name for entry in found["manifest.json"] for name in entry["RepoTags"] or ())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{archive.name}: neither index.json nor manifest.json is what an image archive has"
        ) from error
    raise ValueError(f"{archive.name} names no image")
