"""A machine with nothing but systemd and sshd, behind a jump host, entered by a user with sudo: apply installs all."""

from __future__ import annotations

import functools
import hashlib
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from haplane.lab.image import BARE
from tests.lab.conftest import LabUnderTest, make_lab
from tests.lab.test_cluster import wait_until_whole

pytestmark = pytest.mark.lab

SUBNET = "10.80.0.0/24"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def package_mirror(folder: Path) -> None:
    """A flat apt repository of the packages from which the lab's own image was made."""
    stanzas = []
    for deb in sorted((user_cache_path("haplane") / "debs").glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True).stdout
        content = deb.read_bytes()
        name = deb.name.replace("%3a", "_")
        (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        stanzas.append(f"{control.strip()}\nFilename: ./{name}\nSize: {len(content)}\nSHA256: {digest}\n")
    assert stanzas, "the lab's image was made without its package cache"
    (folder / "Packages").write_text("\n".join(stanzas))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("mirror")
    package_mirror(folder)
    # Inside this host only: the lab's network has no route out, and this listens for the test alone.
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.mark.timeout(4200)  # on a machine that never had them, image and bundle are made here
def test_apply_installs_what_a_bare_machine_lacks(mirror: int) -> None:
    for lab in make_lab("bare", SUBNET, arguments=("--nodes", "1", "--image", "bare")):
        prepare(lab, mirror)
        plan = lab.haplane("plan").stdout
        assert "cp1: install" in plan
        assert "keepalived" in plan
        assert "python3" not in lab.inside("cp1", "ls /usr/bin")
        lab.haplane("apply", timeout_s=900)
        wait_until_whole(lab)
        assert "nothing to do" in lab.haplane("apply").stdout
        assert lab.inside("cp1", "cat /var/log/auth.log 2>/dev/null; journalctl -t sudo | grep -c COMMAND") != "0"


def prepare(lab: LabUnderTest, mirror: int) -> None:
    """Make the bare machine what a fresh server is: a user with sudo, a mirror; and reach it through the client."""
    assert "keepalived" not in BARE
    assert lab.inside("cp1", "command -v keepalived haproxy containerd curl", check=False) == ""
    lab.inside("cp1", "useradd --create-home --shell /bin/bash ops")
    lab.inside("cp1", "echo 'ops ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ops")
    lab.inside("cp1", "install -d -o ops -m 700 ~ops/.ssh && install -o ops /root/.ssh/authorized_keys ~ops/.ssh/")
    lab.inside("cp1", "rm -rf /etc/apt/sources.list.d/*")
    source = f"deb [trusted=yes] http://10.80.0.1:{mirror}/ ./"
    lab.inside("cp1", f"echo '{source}' > /etc/apt/sources.list")
    # root may not log in any more: everything goes through sudo.
    lab.inside("cp1", "echo 'PermitRootLogin no' > /etc/ssh/sshd_config.d/00-no-root.conf && systemctl reload ssh")
    lab.edit("  cp1: {address: 10.80.0.11}", "  cp1: {address: 10.80.0.11, ssh: {user: ops, sudo: true, jump: client}}")
