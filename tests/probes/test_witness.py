"""What the prober makes of a program that prints and ends, as kubectl does: real processes, small ones."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import pytest
from tests.model.clusters import three_nodes
from tls_server import Authority, TlsServer, probing

from haplane.probes import prober, running
from haplane.probes.history import History, Kubectl, Request, parse
from haplane.probes.prober import kubectl


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text("token\n")
    return file


def program(folder: Path, script: str) -> str:
    file = folder / "program"
    file.write_text(f"#!/bin/sh\n{script}")
    file.chmod(0o755)
    return str(file)


def seen(authority: Authority, token_file: Path, path: str, **changes: object) -> History:
    async def scenario() -> list[str]:
        server = TlsServer(authority)
        await server.start()
        settings: dict[str, object] = {"rate": 0, "persistent_rate": 0, "duration_s": 1.5, "kubectl": path}
        async with probing(server, **settings | {"token_file": str(token_file)} | changes) as started:
            lines = await started.lines()
        assert started.process.returncode == 0
        await server.stop()
        return [json.dumps(line) for line in lines]

    return parse(asyncio.run(scenario()))


def said(history: History) -> list[tuple[str, str, int | None]]:
    return [(each.what, each.text, each.code) for each in history.of(Kubectl)]


def test_each_line_is_written_down_and_a_watch_that_ended_is_started_again_at_once(
    authority: Authority, token_file: Path
) -> None:
    path = program(token_file.parent, "echo configmap/w-1; sleep 0.3; echo configmap/w-2; echo why >&2; sleep 0.1\n")
    history = seen(authority, token_file, path)
    once = [
        ("started", "", None),
        ("line", "configmap/w-1", None),
        ("line", "configmap/w-2", None),
        ("ended", "why", 0),
    ]
    assert said(history)[:8] == once * 2
    events = history.of(Kubectl)
    assert [event.t for event in events] == sorted(event.t for event in events)
    assert events[2].t - events[1].t > 0.25, "when it came, not when it was flushed"


def test_one_that_does_not_come_to_watch_is_tried_again_with_its_last_words(
    authority: Authority, token_file: Path
) -> None:
    path = program(token_file.parent, r"printf '%s\n' first 'The connection was refused: \0 %s' >&2; exit 1" + "\n")
    found = said(seen(authority, token_file, path))
    assert found[:2] == [("started", "", None), ("ended", r"The connection was refused: \0 %s", 1)]
    assert 2 < found.count(found[1]) < 30, "not at once: a pause, so that nobody is kept busy by it"


def test_one_that_cannot_be_run_is_told(authority: Authority, token_file: Path) -> None:
    found = said(seen(authority, token_file, str(token_file.parent / "nowhere")))
    assert ("ended", 127) in {(what, code) for what, _, code in found}
    assert not any(what == "line" for what, _, _ in found)


def test_it_is_asked_what_kubectl_is_asked(authority: Authority, token_file: Path) -> None:
    script = 'echo "$*"; cat "$2"; echo; env | grep -v "^_=\\|^PWD=\\|^OLDPWD=\\|^SHLVL=" | sort; sleep 60\n'
    path = program(token_file.parent, script)
    lines = [text for what, text, _ in said(seen(authority, token_file, path, namespace="somewhere")) if what == "line"]
    home = lines[0].split()[1].removesuffix("/config")
    assert lines[0] == f"--kubeconfig {home}/config get configmaps --watch-only --output name"
    assert lines[1].startswith('{"apiVersion": "v1", "kind": "Config"')
    assert [line.partition("=")[0] for line in lines[2:]] == ["HOME", "PATH"], "no proxy, nothing of the user's"
    assert sorted(file.name for file in Path(home).parent.iterdir()) == ["program", "token"], "taken away in the end"


def test_the_configuration_names_the_token_and_does_not_hold_it(tmp_path: Path) -> None:
    config = prober.Config("2001:db8::1", 6443, "kubernetes", "/run/ca.crt", token_file="/run/token", namespace="n")
    read = json.loads(kubectl.kubeconfig(config))
    assert read["clusters"][0]["cluster"] == {
        "server": "https://[2001:db8::1]:6443",
        "tls-server-name": "kubernetes",
        "certificate-authority": "/run/ca.crt",
    }
    assert read["users"][0]["user"] == {"tokenFile": "/run/token"}
    assert read["contexts"][0]["context"]["namespace"] == "n"


def test_nothing_that_it_started_is_left_behind(authority: Authority, token_file: Path) -> None:
    path = program(token_file.parent, "echo $$; sleep 600 & echo $!; wait\n")
    pids = [int(text) for what, text, _ in said(seen(authority, token_file, path)) if what == "line"]
    assert len(pids) == 2
    assert not any(map(_runs, pids))


def test_one_that_says_much_holds_up_nothing(authority: Authority, token_file: Path) -> None:
    path = program(token_file.parent, "head -c 3000000 /dev/zero | tr '\\0' x; echo; sleep 60\n")
    history = seen(authority, token_file, path, rate=20.0)
    (line,) = [text for what, text, _ in said(history) if what == "line"]
    assert line == "x" * kubectl.TEXT_LIMIT
    assert all(request.ok for request in history.of(Request))


def test_a_prober_that_is_killed_leaves_none_that_goes_on_printing(authority: Authority, token_file: Path) -> None:
    """The pipe is gone: the next line ends it."""
    path = program(token_file.parent, "while :; do echo $$; sleep 0.1; done\n")

    async def scenario() -> int:
        server = TlsServer(authority)
        await server.start()
        settings: dict[str, object] = {"rate": 0, "persistent_rate": 0, "kubectl": path, "duration_s": 600.0}
        async with probing(server, **settings, token_file=str(token_file)) as started:
            line = await started.wait_for_a_line()
            while line.get("what") != "line":
                line = await started.wait_for_a_line()
            started.process.send_signal(signal.SIGKILL)
            await started.process.wait()
        await server.stop()
        return int(str(line["text"]))

    pid = asyncio.run(scenario())

    async def gone() -> None:
        async with asyncio.timeout(60):
            while _runs(pid):  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.05)

    asyncio.run(gone())


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_kubectl_needs_a_token() -> None:
    with pytest.raises(prober.ConfigError, match="kubectl need a token_file"):
        prober.Config("192.0.2.1", 1, "x", "x", kubectl="/usr/bin/kubectl")


def test_the_clusters_own_kubectl_is_taken_then_another_bundles_then_the_one_in_path(tmp_path: Path) -> None:
    cluster = three_nodes()

    def found() -> str:
        script = running.find_kubectl(cluster, state=str(tmp_path))
        environment = {"PATH": str(tmp_path / "path")}
        return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, env=environment).stdout.strip()

    assert not found()
    (tmp_path / "path").mkdir()
    bundles = [f"bundles/{version}-amd64-0123/bin" for version in ("1.0.0", cluster.kubernetes.version)]
    for file in (tmp_path / folder / "kubectl" for folder in ["path", *bundles]):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o644)
        assert found() != str(file), "it cannot be run"
        file.chmod(0o755)
        assert found() == str(file)
