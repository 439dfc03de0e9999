"""The write probe against a real TLS server: what is acknowledged, what is refused, and what nobody can know."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from tls_server import Authority, TlsServer, probing, program

from haplane.probes import prober
from haplane.probes.history import History, Request, parse

TOKEN = "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(TOKEN + "\n")
    return file


def written(server: TlsServer, token_file: Path, **changes: object) -> History:
    """What the probe saw of this server; 20 writes in one second."""

    async def scenario() -> list[str]:
        await server.start()
        settings: dict[str, object] = {"rate": 0, "persistent_rate": 0, "write_rate": 20.0, "duration_s": 1.0}
        async with probing(server, **settings | {"token_file": str(token_file)} | changes) as running:
            lines = await running.lines()
        await server.stop()
        return [json.dumps(line) for line in lines]

    lines = asyncio.run(scenario())
    assert not any(TOKEN in line for line in lines), "the token is nowhere in the history"
    return parse(lines)


def outcomes(history: History) -> set[tuple[str, str, bool]]:
    """Outcome, kind, and whether it was sent."""
    return {(each.outcome.value, each.kind, each.sent_at is not None) for each in history.requests("write")}


def test_each_write_makes_something_new_with_the_token_of_the_file(authority: Authority, token_file: Path) -> None:
    server = TlsServer(authority)
    history = written(server, token_file, write_prefix="w-4f-", namespace="somewhere")
    assert outcomes(history) == {("ok", "", True)}
    keys = [each.key for each in history.requests("write")]
    assert keys == [f"w-4f-{number}" for number in range(20)]
    assert sorted(server.created) == sorted(keys) and server.connections == 20
    assert all(each.begun is not None for each in history.requests("write"))
    first = server.heads[0].splitlines()
    assert first[0] == "POST /api/v1/namespaces/somewhere/configmaps HTTP/1.1"
    assert f"Authorization: Bearer {TOKEN}" in first
    assert history.end is not None and history.end.count == 20


@pytest.mark.parametrize("probe", [{"rate": 10.0}, {"persistent_rate": 10.0}, {"idle_connections": 2}])
def test_whoever_reads_shows_the_token_as_well_where_there_is_one(
    authority: Authority, token_file: Path, probe: dict[str, object]
) -> None:
    path = prober.cached_read("somewhere")
    server = TlsServer(authority, bodies={path: b"{}"})
    written(server, token_file, write_rate=0, path=path, **probe)
    assert server.asked
    for head in server.asked:
        first, *headers = head.splitlines()
        assert first == "GET /api/v1/namespaces/somewhere/configmaps/page?resourceVersion=0 HTTP/1.1"
        assert f"Authorization: Bearer {TOKEN}" in headers


@pytest.mark.parametrize("status", [403, 409, 429])
def test_a_write_that_is_refused_has_failed(authority: Authority, token_file: Path, status: int) -> None:
    assert outcomes(written(TlsServer(authority, status=status), token_file)) == {("failed", f"http-{status}", True)}


@pytest.mark.parametrize("status", [202, 500, 504])
def test_a_write_that_the_server_did_not_finish_may_be_stored(
    authority: Authority, token_file: Path, status: int
) -> None:
    history = written(TlsServer(authority, status=status), token_file)
    assert outcomes(history) == {("indeterminate", f"http-{status}", True)}


def test_a_write_without_an_answer_in_time_may_be_stored(authority: Authority, token_file: Path) -> None:
    history = written(TlsServer(authority, answering=False), token_file, timeout_s=1.5)
    sent = [each for each in history.requests("write") if each.sent_at is not None]
    assert {(each.outcome.value, each.kind) for each in sent} == {("indeterminate", "timeout")}


def test_a_connection_that_breaks_after_the_write_was_sent_leaves_it_open(
    authority: Authority, token_file: Path
) -> None:
    reset = written(TlsServer(authority, resetting=True), token_file)
    assert outcomes(reset) == {("indeterminate", "reset", True)}
    cut = written(TlsServer(authority, cut_after=10), token_file)
    assert outcomes(cut) == {("indeterminate", "eof", True)}


def test_a_write_that_could_not_be_sent_has_failed(authority: Authority, token_file: Path) -> None:
    async def scenario() -> History:
        server = TlsServer(authority)
        await server.start()
        await server.stop()
        settings: dict[str, object] = {"rate": 0, "persistent_rate": 0, "write_rate": 20.0, "duration_s": 0.5}
        async with probing(server, **settings, token_file=str(token_file)) as running:
            return parse(json.dumps(line) for line in await running.lines())

    assert outcomes(asyncio.run(scenario())) == {("failed", "refused", False)}


def test_writes_over_the_cap_have_their_name_and_were_never_sent(authority: Authority, token_file: Path) -> None:
    server = TlsServer(authority, answering=False)
    history = written(server, token_file, in_flight_limit=4, timeout_s=2.0)
    over = [each for each in history.requests("write") if each.kind == "prober-overloaded"]
    assert over and all(each.sent_at is None and each.begun is None and each.key for each in over)
    assert len({each.key for each in history.requests("write")}) == 20


def test_writes_do_not_disturb_the_other_probes(authority: Authority, token_file: Path) -> None:
    history = written(TlsServer(authority), token_file, rate=30.0, persistent_rate=10.0)
    asked: dict[str, list[Request]] = {name: list(history.requests(name)) for name in ("new", "persistent", "write")}
    assert {name: len(each) for name, each in asked.items()} == {"new": 30, "persistent": 10, "write": 20}
    assert all(each.ok for some in asked.values() for each in some)
    assert not any(each.key for name in ("new", "persistent") for each in asked[name])


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (TOKEN, 0o644, "can be read by others"),
        ("", 0o600, "holds no bearer token"),
        (f"{TOKEN}\r\nX-Other: header", 0o600, "holds no bearer token"),
        (None, 0o600, "cannot read the token file"),
    ],
)
def test_a_token_file_that_cannot_be_used_ends_it_without_showing_the_token(
    authority: Authority, tmp_path: Path, text: str | None, mode: int, says: str
) -> None:
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    config = prober.Config("127.0.0.1", 1, "kubernetes", str(authority.ca_file), write_rate=1.0, token_file=str(file))
    command = program(tmp_path, config.to_json())
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert ended.returncode == 2 and says in ended.stderr
    assert TOKEN not in ended.stderr + ended.stdout


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"write_rate": 5.0}, "need a token_file"),
        ({"namespace": "a/../b"}, "namespace"),
        ({"write_prefix": "w\r\n"}, "write_prefix"),
        ({"write_rate": -1.0}, "write_rate"),
    ],
)
def test_a_write_configuration_that_cannot_be_used_is_refused(changes: dict[str, object], says: str) -> None:
    values: dict[str, object] = {"address": "192.0.2.1", "port": 1, "server_hostname": "x", "ca_file": "x"}
    with pytest.raises(prober.ConfigError, match=says):
        prober.config_from(values | changes)
