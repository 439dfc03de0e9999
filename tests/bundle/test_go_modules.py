"""The go-modules source: how its modules are written, what its failures say, and real builds of the small pieces."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from origin import VERSION, Heard, Origin, Page

from haplane.bundle import check_sources, host_architecture, obtain
from haplane.bundle.gomodules import kubernetes_go_mod, make_flannel_plugin, make_pause
from haplane.bundle.images import image_names
from haplane.bundle.stages import Stage, Stages
from haplane.model.bundle import FLANNEL_PLUGIN, Addon
from haplane.model.cluster import BundleSource
from haplane.model.errors import HaplaneError, UsageError

SOURCE = BundleSource("go-modules")
PAUSE = "registry.k8s.io/pause:3.10.1"
needs_go = pytest.mark.skipif(not shutil.which("go"), reason="Go is not installed")

ORIGINAL = """\
module k8s.io/kubernetes

go 1.25.0

godebug default=go1.25

require (
	github.com/blang/semver/v4 v4.0.0
	k8s.io/api v0.0.0
	k8s.io/klog/v2 v2.130.1
	k8s.io/utils v0.0.0-20251002143259-bc988d571ff4
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
)
"""

PROCESS = """
import asyncio, sys
from pathlib import Path
from haplane.bundle.gomodules import make_pause
from haplane.bundle.stages import Stages

class Said:
    def now(self, subject, text): print(text, flush=True)
    done = now

asyncio.run(make_pause("registry.k8s.io/pause:3.10.1", "amd64", Stages(Path(sys.argv[1])), Said()))
"""


def test_kubernetes_is_built_with_its_own_versions_and_published_staging_modules() -> None:
    text = kubernetes_go_mod(ORIGINAL, "1.35.4")
    assert "module haplane.invalid/kubernetes\n" in text
    assert "\tk8s.io/api v0.35.4\n" in text
    assert "\tk8s.io/api => k8s.io/api v0.35.4\n" in text
    assert "\tk8s.io/utils v0.0.0-20251002143259-bc988d571ff4\n" in text
    assert "\tk8s.io/klog/v2 v2.130.1\n" in text
    assert "godebug default=go1.25\n" in text
    assert text.endswith("require k8s.io/kubernetes v1.35.4\n")


def test_missing_go_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UsageError) as caught:
        asyncio.run(check_sources(VERSION, [SOURCE]))
    assert "apt install golang-go" in str(caught.value)


@needs_go
def test_a_module_proxy_that_refuses_is_named_with_what_it_said(
    origin: Origin, tmp_path: Path, cache: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOPROXY", origin.url)
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    with pytest.raises(UsageError) as caught:
        asyncio.run(check_sources(VERSION, [SOURCE]))
    for part in (origin.url, "404 Not Found", "set GOPROXY"):
        assert part in str(caught.value)
    with pytest.raises(HaplaneError, match="module proxy") as raised:
        asyncio.run(obtain(VERSION, [SOURCE], cache=cache, progress=heard))
    assert f"reading {origin.url}" in str(raised.value)
    assert "404 Not Found" in heard


@needs_go
def test_a_module_proxy_without_flannel_is_told_before_anything_starts(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOPROXY", origin.url)
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    told = json.dumps({"Version": f"v{VERSION}", "Time": "2026-01-01T00:00:00Z"}).encode()
    origin.pages[f"/k8s.io/kubernetes/@v/v{VERSION}.info"] = Page(told)
    asyncio.run(check_sources(VERSION, [SOURCE], addons=frozenset({Addon.KUBE_PROXY, Addon.COREDNS})))
    with pytest.raises(UsageError, match="flannel-io/flannel"):
        asyncio.run(check_sources(VERSION, [SOURCE], addons=frozenset({Addon.FLANNEL})))


def pause(folder: Path, heard: Heard) -> Stage:
    return asyncio.run(make_pause(PAUSE, "amd64", Stages(folder), heard))


@pytest.mark.lab
def test_pause_is_built_twice_to_the_same_bytes_and_only_once_in_one_folder(tmp_path: Path, heard: Heard) -> None:
    one, other = pause(tmp_path / "one", heard), pause(tmp_path / "two", heard)
    assert one.files == other.files
    assert image_names(one.folder / "images/pause.tar") == (PAUSE,)
    heard.lines.clear()
    assert pause(tmp_path / "one", heard) == one
    assert heard.lines == ["pause: already made"]


@pytest.mark.lab
def test_a_build_whose_process_was_killed_is_finished_by_the_next(tmp_path: Path, heard: Heard) -> None:
    environment = {**os.environ, "GOCACHE": str(tmp_path / "empty")}
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "stages")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as first:
        assert first.stdout
        assert any("packages compiled" in line for line in first.stdout)
        os.kill(first.pid, signal.SIGKILL)
    assert not list((tmp_path / "stages").glob("pause-*/stage.json"))
    assert pause(tmp_path / "stages", heard).files == pause(tmp_path / "clean", heard).files


@pytest.mark.lab
def test_pause_reaps_children_and_ends_when_told(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "src/haplane/bundle/pause.go"
    program = tmp_path / "pause"
    static = {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-trimpath", "-o", program, source], env=static, check=True)
    with subprocess.Popen(["sh", "-c", f"sleep 0.3 & exec {program}"]) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        try:
            for _ in range(100):
                if Path(f"/proc/{process.pid}/comm").read_text() == "pause\n" and not children.read_text().split():
                    break
                time.sleep(0.05)
            assert not children.read_text().split()
            assert process.poll() is None
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.lab
def test_the_flannel_plugin_hands_its_part_of_the_pods_network_to_the_bridge(tmp_path: Path, heard: Heard) -> None:
    plugin = asyncio.run(make_flannel_plugin(host_architecture(), Stages(tmp_path / "stages"), heard))
    (tmp_path / "subnet.env").write_text(
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00:1::/56\n"
        "FLANNEL_IPV6_SUBNET=fd00:1:0:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    )
    bridge = tmp_path / "bridge"
    bridge.write_text(f'#!/bin/sh\ncat > {tmp_path}/given\necho \'{{"cniVersion":"0.3.1","dns":{{}}}}\'\n')
    bridge.chmod(0o755)
    asked = {
        "cniVersion": "0.3.1",
        "name": "cbr0",
        "type": "flannel",
        "subnetFile": str(tmp_path / "subnet.env"),
        "dataDir": str(tmp_path / "data"),
    }
    told = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "one", "CNI_NETNS": "/none", "CNI_IFNAME": "eth0"}
    subprocess.run(
        [plugin.folder / FLANNEL_PLUGIN],
        input=json.dumps(asked).encode(),
        env={**os.environ, **told, "CNI_PATH": str(tmp_path)},
        check=True,
    )
    given = json.loads((tmp_path / "given").read_text())
    assert (given["type"], given["mtu"], given["ipMasq"]) == ("bridge", 1450, False)
    assert given["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:1:0:1::/64"}]]
    assert given["ipam"]["routes"] == [{"dst": "10.244.0.0/16"}, {"dst": "fd00:1::/56"}]
