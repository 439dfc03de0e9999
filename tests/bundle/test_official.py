"""The official source against a real HTTP server on this host."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
from origin import BIN, ETCD, IMAGES, VERSION, Heard, Origin, Page, digest, filled, noise

from haplane.bundle import Bundle, check_sources, obtain, verify
from haplane.bundle.downloads import TokenWanted
from haplane.bundle.images import image_names
from haplane.bundle.registry import Registry, _token
from haplane.model.cluster import BundleSource
from haplane.model.errors import HaplaneError, UsageError

PROCESS = """
import asyncio, sys
from pathlib import Path
from haplane.bundle import obtain
from haplane.model.cluster import BundleSource

class Said:
    def now(self, subject, text): print(f"{subject}: {text}", flush=True)
    done = now

url, cache = sys.argv[1:]
source = BundleSource("official", url=url, registry=url)
bundle = asyncio.run(obtain("1.35.4", [source], cache=Path(cache), progress=Said()))
print("identity", bundle.manifest.identity)
"""


def get(sources: list[BundleSource], cache: Path, heard: Heard) -> Bundle:
    return asyncio.run(obtain(VERSION, sources, cache=cache, progress=heard))


def unused_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def test_a_bundle_has_the_binaries_and_images_of_its_version(origin: Origin, cache: Path, heard: Heard) -> None:
    bundle = get([origin.source], cache, heard)
    assert (bundle.folder / "bin/kubelet").read_bytes() == noise("kubelet")
    assert (bundle.folder / "bin/etcdctl").read_bytes() == noise("etcdctl", 40_000)
    assert (bundle.folder / "bin/etcd").read_bytes() == noise("etcd", 50_000)
    assert all(file.executable == file.path.startswith("bin/") for file in bundle.manifest.files)
    assert bundle.manifest.images == tuple(sorted(f"registry.k8s.io/{name}" for name in IMAGES))
    assert bundle.manifest.etcd_image == f"registry.k8s.io/{ETCD}"
    assert image_names(bundle.folder / "images/etcd.tar") == (f"registry.k8s.io/{ETCD}",)
    assert asyncio.run(verify(bundle)) == ()
    assert not list((cache / "stages").iterdir())


def test_every_blob_of_a_pulled_image_is_in_its_archive_under_its_digest(
    origin: Origin, cache: Path, heard: Heard
) -> None:
    bundle = get([origin.source], cache, heard)
    with tarfile.open(bundle.folder / "images/kube-apiserver.tar") as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]
    index = json.loads(content["index.json"])
    manifest = json.loads(content[f"blobs/sha256/{index['manifests'][0]['digest'][7:]}"])
    for part in (manifest["config"], *manifest["layers"]):
        blob = content[f"blobs/sha256/{part['digest'][7:]}"]
        assert (f"sha256:{digest(blob)}", len(blob)) == (part["digest"], part["size"])


def test_a_wrong_checksum_stops_and_names_url_expected_and_got(origin: Origin, cache: Path, heard: Heard) -> None:
    expected = digest(noise("kubelet"))
    origin.pages[f"{BIN}/kubelet"].content = noise("altered")
    fallback = BundleSource("directory", path=cache)
    with pytest.raises(HaplaneError) as caught:
        get([origin.source, fallback], cache, heard)
    told = str(caught.value)
    assert f"{origin.url}{BIN}/kubelet" in told
    assert expected in told
    assert digest(noise("altered")) in told
    assert "cannot be used" not in heard
    assert not [path for path in cache.rglob("*kubelet*") if path.is_file()]


def test_a_wrong_blob_stops_and_names_its_digest(origin: Origin, cache: Path, heard: Heard) -> None:
    page = origin.layer("kube-scheduler")
    expected, page.content = digest(page.content), noise("altered")
    with pytest.raises(HaplaneError, match="wrong checksum") as caught:
        get([origin.source], cache, heard)
    assert expected in str(caught.value)
    assert "/v2/kube-scheduler/blobs/" in str(caught.value)


def test_a_manifest_other_than_the_list_promises_stops(origin: Origin, cache: Path, heard: Heard) -> None:
    path = next(path for path in origin.pages if path.startswith("/v2/pause/manifests/sha256:"))
    origin.pages[path].content += b" "
    with pytest.raises(HaplaneError, match="wrong checksum"):
        get([origin.source], cache, heard)


def test_a_missing_version_falls_to_the_next_source_and_is_said(origin: Origin, cache: Path, heard: Heard) -> None:
    empty = BundleSource("official", url=f"{origin.url}/elsewhere", registry=origin.url)
    bundle = get([empty, origin.source], cache, heard)
    assert bundle.manifest.kubernetes_version == VERSION
    assert "elsewhere) cannot be used" in heard
    assert "HTTP 404" in heard


def test_an_unreachable_host_falls_to_the_next_source_at_once(origin: Origin, cache: Path, heard: Heard) -> None:
    nowhere = f"http://127.0.0.1:{unused_port()}"
    get([BundleSource("official", url=nowhere, registry=nowhere), origin.source], cache, heard)
    assert "cannot be reached: " in heard


def test_when_no_source_works_one_error_lists_each_with_its_reason(origin: Origin, cache: Path, heard: Heard) -> None:
    nowhere = f"http://127.0.0.1:{unused_port()}"
    sources = [
        BundleSource("official", url=nowhere, registry=nowhere),
        BundleSource("official", url=f"{origin.url}/elsewhere", registry=origin.url),
        BundleSource("directory", path=cache / "missing"),
    ]
    with pytest.raises(HaplaneError) as caught:
        get(sources, cache, heard)
    told = str(caught.value)
    assert "Connection refused" in told
    assert "HTTP 404" in told
    assert "missing is not a directory" in told


@pytest.mark.parametrize("etag", ['"one"', "", 'W/"weak"'])
def test_a_transfer_that_breaks_is_continued_where_it_broke(
    etag: str, origin: Origin, cache: Path, heard: Heard
) -> None:
    page = origin.pages[f"{BIN}/kubelet"]
    page.etag, page.break_after = etag, 100_000
    bundle = get([origin.source], cache, heard)
    assert (bundle.folder / "bin/kubelet").read_bytes() == page.content
    assert origin.asked(f"{BIN}/kubelet") == [None, "bytes=100000-"]


def test_a_server_without_ranges_is_asked_for_everything_again(origin: Origin, cache: Path, heard: Heard) -> None:
    page = origin.pages[f"{BIN}/kubelet"]
    page.ranges, page.break_after = False, 100_000
    bundle = get([origin.source], cache, heard)
    assert (bundle.folder / "bin/kubelet").read_bytes() == page.content


def test_a_server_error_is_tried_again(origin: Origin, cache: Path, heard: Heard) -> None:
    origin.pages[f"{BIN}/kubectl"].failures = [503, 502]
    get([origin.source], cache, heard)
    assert len(origin.asked(f"{BIN}/kubectl")) == 3


def test_a_server_error_that_stays_ends_after_three_attempts(origin: Origin, cache: Path, heard: Heard) -> None:
    origin.pages[f"{BIN}/kubectl"].failures = [503] * 9
    with pytest.raises(HaplaneError, match=r"HTTP 503 .* \(3 attempts\)"):
        get([origin.source], cache, heard)
    assert len(origin.asked(f"{BIN}/kubectl")) == 3


@pytest.mark.parametrize("changed", [False, True])
def test_a_killed_download_continues_in_the_next_process(
    changed: bool, origin: Origin, cache: Path, heard: Heard
) -> None:
    page = origin.pages[f"{BIN}/kubelet"]
    page.break_after, page.stall = 200_000, threading.Event()
    with subprocess.Popen([sys.executable, "-c", PROCESS, origin.url, str(cache)], stdout=subprocess.DEVNULL) as first:
        assert origin.half_sent.wait(30)
        wait_for_partial(cache, 200_000)
        os.kill(first.pid, signal.SIGKILL)
    page.stall.set()
    if changed:
        origin.add_binary("kubelet", noise("newer"))
    bundle = get([origin.source], cache, heard)
    assert (bundle.folder / "bin/kubelet").read_bytes() == noise("newer" if changed else "kubelet")
    assert origin.asked(f"{BIN}/kubelet") == [None, "bytes=200000-"]


def wait_for_partial(cache: Path, size: int) -> None:
    for _ in range(300):
        if any(path.stat().st_size >= size for path in cache.rglob("kubelet.partial")):
            return
        time.sleep(0.05)
    raise AssertionError("the first half never reached the disk")


def test_a_cancelled_download_ends_while_its_server_is_silent_and_is_continued_later(
    origin: Origin, cache: Path, heard: Heard
) -> None:
    page = origin.pages[f"{BIN}/kubelet"]
    page.break_after, page.stall = 200_000, threading.Event()

    async def cancel_halfway() -> None:
        task = asyncio.create_task(obtain(VERSION, [origin.source], cache=cache, progress=heard))
        await asyncio.to_thread(wait_for_partial, cache, 200_000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not page.stall.is_set()

    asyncio.run(cancel_halfway())
    page.stall.set()
    bundle = get([origin.source], cache, heard)
    assert (bundle.folder / "bin/kubelet").read_bytes() == noise("kubelet")
    assert origin.asked(f"{BIN}/kubelet") == [None, "bytes=200000-"]


def test_two_at_once_make_it_once_and_the_second_says_that_it_waits(origin: Origin, cache: Path) -> None:
    origin.pages[f"{BIN}/kubectl"].delay_seconds = 2.0
    command = [sys.executable, "-c", PROCESS, origin.url, str(cache)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as one,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other,
    ):
        said = [process.communicate(timeout=60)[0] for process in (one, other)]
    assert said[0].splitlines()[-1] == said[1].splitlines()[-1]
    assert sum("waiting for another haplane (process" in text for text in said) == 1
    assert len(origin.asked(f"{BIN}/kubectl")) == 1


def test_sources_are_checked_before_anything_starts(origin: Origin) -> None:
    asyncio.run(check_sources(VERSION, [BundleSource("directory", path=Path("/missing")), origin.source]))
    with pytest.raises(UsageError) as caught:
        asyncio.run(check_sources("1.35.5", [origin.source]))
    assert "HTTP 404" in str(caught.value)


def test_a_url_without_its_scheme_is_told_and_not_a_traceback(cache: Path, heard: Heard) -> None:
    with pytest.raises(HaplaneError, match="unknown url type"):
        get([BundleSource("official", url="dl.k8s.io", registry="registry.k8s.io")], cache, heard)


def test_a_registry_that_gives_everybody_a_token_is_asked_for_it(origin: Origin, cache: Path, heard: Heard) -> None:
    want_token(origin)
    origin.pages["/token?service=s&scope=a%3Ab%2Fc%3Apull"] = Page(b'{"token": "given"}', "application/json")
    assert asyncio.run(verify(get([origin.source], cache, heard))) == ()
    assert {token for path, token in origin.tokens if "/blobs/" in path} == {"Bearer given"}
    assert {token for path, token in origin.tokens if not path.startswith("/v2/")} == {None}


@pytest.mark.parametrize("given", [None, b"{}", b"not json"])
def test_a_registry_that_wants_a_login_is_told_and_not_a_traceback(given: bytes | None, origin: Origin) -> None:
    want_token(origin)
    if given is not None:
        origin.pages["/token?service=s&scope=a%3Ab%2Fc%3Apull"] = Page(given)
    with pytest.raises(UsageError, match=r"HTTP 401|not an answer of a registry"):
        asyncio.run(check_sources(VERSION, [origin.source]))


def test_a_challenge_that_leads_to_a_file_is_not_followed() -> None:
    wanted = TokenWanted("HTTP 401", 'realm="file:///etc/passwd"')
    with pytest.raises(TokenWanted):
        asyncio.run(_token(wanted))


def want_token(origin: Origin) -> None:
    for path, page in origin.pages.items():
        if path.startswith("/v2/"):
            page.token = "given"


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("https://registry.k8s.io", "https://ghcr.io/v2/flannel-io/flannel/manifests/v1"),
        ("mirror:5000/all", "https://mirror:5000/v2/all/flannel-io/flannel/manifests/v1"),
    ],
)
def test_an_image_of_another_registry_comes_from_there_or_from_the_mirror(address: str, url: str) -> None:
    assert Registry(address).url("ghcr.io/flannel-io/flannel:v1", "manifests", "v1") == url
    own = Registry("registry.k8s.io").url("registry.k8s.io/coredns/coredns:v1", "manifests", "v1")
    assert own == "https://registry.k8s.io/v2/coredns/coredns/manifests/v1"


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_https_is_believed_only_with_a_certificate_that_this_host_trusts(
    tmp_path: Path, cache: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    subprocess.run([*command, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    origin = filled(tls)
    try:
        with pytest.raises(HaplaneError, match="CERTIFICATE_VERIFY_FAILED"):
            get([origin.source], cache, heard)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert get([origin.source], cache, heard).manifest.kubernetes_version == VERSION
    finally:
        origin.close()
