"""A web server with dl.k8s.io's layout and a registry, which can be told to misbehave: real HTTP, small content."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import ssl
import tarfile
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from haplane.bundle import host_architecture
from haplane.bundle.pinned import FLANNEL_IMAGE, FLANNEL_PLUGIN_IMAGE
from haplane.model.bundle import component_of
from haplane.model.cluster import BundleSource

VERSION = "1.35.4"
ARCHITECTURE = host_architecture()
ETCD = "etcd:3.6.6-0"
PAUSE = "pause:3.10.1"
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
IMAGES = (*(f"{name}:v{VERSION}" for name in CONTROL_PLANE), ETCD, PAUSE)
PROXY = f"kube-proxy:v{VERSION}"
COREDNS = "coredns/coredns:v1.13.1"
FLANNEL, FLANNEL_PLUGIN = (name.partition("/")[2] for name in (FLANNEL_IMAGE, FLANNEL_PLUGIN_IMAGE))
LISTED = [f"registry.k8s.io/{name}" for name in (*IMAGES, PROXY, COREDNS)]
KUBEADM = ("#!/bin/sh\n" + "".join(f"echo {name}\n" for name in LISTED)).encode()
OCI = "application/vnd.oci.image"
BIN = f"/v{VERSION}/bin/linux/{ARCHITECTURE}"


def noise(name: str, size: int = 300_000) -> bytes:
    """The same bytes for the same name."""
    return random.Random(name).randbytes(size)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Heard:
    """Keeps what progress says."""

    lines: list[str] = field(default_factory=list)

    def now(self, subject: str, text: str) -> None:
        self.lines.append(f"{subject}: {text}")

    def done(self, subject: str, text: str) -> None:
        self.lines.append(f"{subject}: {text}")

    def __contains__(self, part: str) -> bool:
        return any(part in line for line in self.lines)


@dataclass
class Page:
    """What a path answers. break_after: only so many bytes of the first answer arrive. stall: it waits there.

    token: only who brings it gets an answer; who does not is told to get it at /token.
    """

    content: bytes
    media_type: str = "application/octet-stream"
    etag: str = ""
    ranges: bool = True
    break_after: int | None = None
    stall: threading.Event | None = None
    delay_seconds: float = 0.0
    redirect: str = ""
    token: str = ""
    failures: list[int] = field(default_factory=list)


class Origin:
    """pages by path; requests: (path, its Range header) in the order they came; tokens: (path, Authorization)."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.tokens: list[tuple[str, str | None]] = []
        self.half_sent = threading.Event()
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                origin.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.scheme = "https" if tls else "http"
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}"

    @property
    def source(self) -> BundleSource:
        return BundleSource("official", url=self.url, registry=self.url)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def asked(self, path: str) -> list[str | None]:
        """The Range headers of the requests for a path."""
        return [told for asked, told in self.requests if asked == path]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        told = handler.headers.get("Range")
        self.requests.append((handler.path, told))
        self.tokens.append((handler.path, handler.headers.get("Authorization")))
        page = self.pages.get(handler.path)
        if page is None:
            return self._status(handler, 404)
        time.sleep(page.delay_seconds)
        if page.failures:
            return self._status(handler, page.failures.pop(0))
        if page.token and handler.headers.get("Authorization") != f"Bearer {page.token}":
            return self._status(
                handler, 401, challenge=f'Bearer realm="{self.url}/token",service="s",scope="a:b/c:pull"'
            )
        if page.redirect:
            return self._status(handler, 307, location=page.redirect)
        start = int(told.removeprefix("bytes=").rstrip("-")) if told and page.ranges else 0
        condition = handler.headers.get("If-Range")
        if condition and condition != page.etag:
            start = 0
        if start and start >= len(page.content):
            return self._status(handler, 416)
        body = page.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(page.content) - 1}/{len(page.content)}")
        if page.etag:
            handler.send_header("ETag", page.etag)
        handler.send_header("Content-Type", page.media_type)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if page.break_after is None:
            handler.wfile.write(body)
            return None
        handler.wfile.write(body[: page.break_after])
        handler.wfile.flush()
        page.break_after = None
        self.half_sent.set()
        if page.stall:
            page.stall.wait(30)
        handler.close_connection = True
        return None

    def _status(self, handler: BaseHTTPRequestHandler, code: int, *, location: str = "", challenge: str = "") -> None:
        handler.send_response(code)
        if location:
            handler.send_header("Location", location)
        if challenge:
            handler.send_header("WWW-Authenticate", challenge)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def add_binary(self, name: str, content: bytes) -> None:
        self.pages[f"{BIN}/{name}"] = Page(content, etag=f'"{digest(content)[:8]}"')
        self.pages[f"{BIN}/{name}.sha256"] = Page(digest(content).encode(), "text/plain")

    def add_image(self, name: str, files: dict[str, bytes]) -> None:
        """A list of two architectures; the other one's manifest is not there. Blobs are behind a redirect."""
        repository, _, tag = name.partition(":")
        layer, unpacked = layer_of(files)
        config = json.dumps(
            {
                "architecture": ARCHITECTURE,
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(unpacked)}"]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{OCI}.manifest.v1+json",
                "config": self._blob(repository, f"{OCI}.config.v1+json", config),
                "layers": [self._blob(repository, f"{OCI}.layer.v1.tar+gzip", layer)],
            }
        ).encode()
        self.pages[f"/v2/{repository}/manifests/sha256:{digest(manifest)}"] = Page(manifest, f"{OCI}.manifest.v1+json")
        entries = [
            {**described(f"{OCI}.manifest.v1+json", b"other"), "platform": {"os": "linux", "architecture": "mips"}},
            {
                **described(f"{OCI}.manifest.v1+json", manifest),
                "platform": {"os": "linux", "architecture": ARCHITECTURE},
            },
        ]
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries}
        self.pages[f"/v2/{repository}/manifests/{tag}"] = Page(json.dumps(index).encode(), f"{OCI}.index.v1+json")

    def _blob(self, repository: str, media_type: str, content: bytes) -> dict[str, object]:
        stored = f"/storage/{repository}/{digest(content)}"
        self.pages[stored] = Page(content)
        self.pages[f"/v2/{repository}/blobs/sha256:{digest(content)}"] = Page(b"", redirect=stored)
        return described(media_type, content)

    def layer(self, repository: str) -> Page:
        """The stored page of an image's largest blob."""
        stored = [page for path, page in self.pages.items() if path.startswith(f"/storage/{repository}/")]
        return max(stored, key=lambda page: len(page.content))


def described(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{digest(content)}", "size": len(content)}


def layer_of(files: dict[str, bytes]) -> tuple[bytes, bytes]:
    """A layer, compressed and not."""
    unpacked = io.BytesIO()
    with tarfile.open(fileobj=unpacked, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(unpacked.getvalue(), 1, mtime=0), unpacked.getvalue()


def filled(tls: ssl.SSLContext | None = None) -> Origin:
    """An origin that has all that a bundle needs, with every add-on."""
    origin = Origin(tls)
    origin.add_binary("kubeadm", KUBEADM)
    for name in ("kubelet", "kubectl"):
        origin.add_binary(name, noise(name))
    for name in (*IMAGES, PROXY, COREDNS, FLANNEL):
        component = component_of(name)
        files = {f"usr/local/bin/{component}": noise(component, 50_000)}
        if component == "etcd":
            files["usr/local/bin/etcdctl"] = noise("etcdctl", 40_000)
        origin.add_image(name, files)
    origin.add_image(FLANNEL_PLUGIN, {"flannel": noise("flannel plugin", 30_000)})
    return origin
