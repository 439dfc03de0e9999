"""Images out of a registry (OCI distribution-spec), checked by digest, as OCI-layout archives."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import tarfile
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from haplane.bundle.downloads import Fetched, TokenWanted, download, fetch, wrong_checksum
from haplane.bundle.images import OCI_INDEX, OCI_MANIFEST, Blob, Descriptor, write_archive
from haplane.bundle.problems import SourceUnavailable
from haplane.bundle.together import side_by_side
from haplane.model.progress import Progress

_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LISTS = (OCI_INDEX, _DOCKER_LIST)
_ACCEPT = ", ".join([*_LISTS, OCI_MANIFEST, _DOCKER_MANIFEST])
_KUBERNETES = ("https://registry.k8s.io", "registry.k8s.io")
_DIGEST = r"^sha256:[0-9a-f]{64}$"


class _Part(BaseModel):
    """What is read of the registry's JSON; a digest becomes a file name, so its form is checked."""

    model_config = ConfigDict(frozen=True)


class _Platform(_Part):
    os: str = ""
    architecture: str = ""


class _Descriptor(_Part):
    media_type: str = Field(alias="mediaType")
    digest: str = Field(pattern=_DIGEST)
    size: int
    platform: _Platform = _Platform()

    @property
    def plain(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, self.size)


class _List(_Part):
    manifests: tuple[_Descriptor, ...]


class _Manifest(_Part):
    config: _Descriptor
    layers: tuple[_Descriptor, ...]


class _Config(_Part):
    os: str
    architecture: str


class _Token(_Part):
    """Both names are in use for it."""

    token: str = ""
    access_token: str = ""


_Json = TypeVar("_Json", bound=_Part)


@dataclass(frozen=True)
class Registry:
    """address: host[:port][/path], or with http:// or https:// before it (https is the default).

    An image's own registry (registry.k8s.io in registry.k8s.io/etcd:3.6.6-0) is replaced by the address of a mirror.
    Kubernetes' own registry is no mirror of others: an image of theirs comes from there.
    """

    address: str

    def of(self, image: str) -> str:
        """The address that an image comes from."""
        return image.partition("/")[0] if self.address in _KUBERNETES else self.address

    def url(self, image: str, kind: str, reference: str) -> str:
        scheme, _, rest = self.of(image).rpartition("://")
        host, _, prefix = rest.strip("/").partition("/")
        name = image.partition("/")[2].rpartition(":")[0]
        path = "/".join(part for part in (prefix, name) if part)
        return f"{scheme or 'https'}://{host}/v2/{path}/{kind}/{reference}"


async def check_image(registry: Registry, image: str) -> None:
    """Raises SourceUnavailable when the registry cannot be reached or lacks the image."""
    await _ask(registry.url(image, "manifests", _tag(image)))


async def pull(
    registry: Registry, image: str, architecture: str, *, work: Path, target: Path, subject: str, progress: Progress
) -> tuple[Path, ...]:
    """Writes the image for Linux on this architecture as an archive at target; returns its layers, lowest first.

    work keeps the blobs when it is interrupted. Raises SourceUnavailable or BadContent.
    """
    progress.now(subject, f"asking for {image}")
    url = registry.url(image, "manifests", _tag(image))
    answer, token = await _ask(url)
    media_type, content = answer.media_type, answer.content
    if media_type in _LISTS:
        wanted = _choose(_read(_List, content, url), architecture, url)
        url = registry.url(image, "manifests", wanted.digest)
        media_type, content = await _manifest(url, wanted.digest, token)
    manifest = _read(_Manifest, content, url)
    descriptors = [manifest.config, *manifest.layers]
    files = await _blobs(registry, image, descriptors, token, work, subject, progress)
    config = _read(_Config, files[manifest.config.digest].read_bytes(), url)
    if (config.os, config.architecture) != ("linux", architecture):
        raise SourceUnavailable(f"{url}: the image is for {config.os}/{config.architecture}, not linux/{architecture}")
    progress.now(subject, f"writing the image {image}")
    top = Descriptor(media_type, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))
    blobs = [Blob(part.plain, (files[part.digest],)) for part in descriptors]
    await asyncio.to_thread(write_archive, target, name=image, manifest=Blob(top, (content,)), blobs=blobs)
    return tuple(files[layer.digest] for layer in manifest.layers)


async def _ask(url: str) -> tuple[Fetched, Mapping[str, str]]:
    """A manifest, and the header to send from then on: many registries want a token, and give it to everybody."""
    accept = {"Accept": _ACCEPT}
    try:
        return await fetch(url, headers=accept), {}
    except TokenWanted as wanted:
        token = await _token(wanted)
        return await fetch(url, headers={**accept, **token}), token


async def _token(wanted: TokenWanted) -> Mapping[str, str]:
    """Without a login (distribution-spec, "Token authentication": realm, service, scope)."""
    told = dict(re.findall(r'(\w+)="([^"]*)"', wanted.challenge))
    realm = told.pop("realm", "")
    # urllib would open a file too.
    if not realm.startswith(("https://", "http://")):
        raise wanted
    asked = urllib.parse.urlencode({key: told[key] for key in ("service", "scope") if key in told})
    url = f"{realm}{'&' if '?' in realm else '?'}{asked}"
    try:
        answer = await fetch(url)
    except SourceUnavailable as error:
        raise SourceUnavailable(f"{wanted.what}, and it gives no token", why=error.what) from error
    given = _read(_Token, answer.content, url)
    token = given.token or given.access_token
    if not token:
        raise SourceUnavailable(f"{wanted.what}, and {url} gives no token")
    return {"Authorization": f"Bearer {token}"}


async def _manifest(url: str, digest: str, token: Mapping[str, str]) -> tuple[str, bytes]:
    answer = await fetch(url, headers={"Accept": _ACCEPT, **token})
    got = hashlib.sha256(answer.content).hexdigest()
    if f"sha256:{got}" != digest:
        raise wrong_checksum(url, expected=digest.removeprefix("sha256:"), got=got)
    return answer.media_type, answer.content


async def _blobs(
    registry: Registry,
    image: str,
    descriptors: Sequence[_Descriptor],
    token: Mapping[str, str],
    work: Path,
    subject: str,
    progress: Progress,
) -> Mapping[str, Path]:
    """Each blob once, side by side; an image may use one layer several times."""
    wanted = {part.digest: work / part.plain.hex for part in descriptors}
    async with side_by_side() as group:
        for digest, file in wanted.items():
            url = registry.url(image, "blobs", digest)
            sha256 = digest.removeprefix("sha256:")
            group.create_task(download(url, file, sha256=sha256, subject=subject, progress=progress, headers=token))
    return wanted


def _choose(listed: _List, architecture: str, url: str) -> _Descriptor:
    for entry in listed.manifests:
        if (entry.platform.os, entry.platform.architecture) == ("linux", architecture):
            return entry
    raise SourceUnavailable(f"{url}: there is no image for linux/{architecture}")


def _read(shape: type[_Json], content: bytes, url: str) -> _Json:
    try:
        return shape.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SourceUnavailable(f"{url}: not an answer of a registry", why=f"{place}: {first['msg']}") from error


def _tag(image: str) -> str:
    return image.rpartition(":")[2]


def extract(layers: Sequence[Path], path: str, target: Path) -> None:
    """The file as the topmost layer that has it gives it. Raises SourceUnavailable when none does."""
    for layer in reversed(layers):
        try:
            with tarfile.open(layer) as tar:
                for member in tar:
                    if member.name.removeprefix("./") == path and (source := tar.extractfile(member)):
                        with target.open("wb") as file:
                            shutil.copyfileobj(source, file)
                        target.chmod(0o755)
                        return
        except tarfile.TarError as error:
            raise SourceUnavailable(f"a layer of the image cannot be read: {error}") from error
    raise SourceUnavailable(f"the image holds no {path}")
