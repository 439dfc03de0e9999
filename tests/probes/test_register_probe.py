"""The register probe against a server in the shape of an apiserver: what it asks, and what it writes down."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from apiserver import FOLDER, ApiServer, Stored
from tls_server import Authority, probing

from haplane.drills.checkers import Outcome
from haplane.drills.register import reads_never_go_back, register_linearizable
from haplane.probes import prober
from haplane.probes.history import History, Request, parse
from haplane.probes.prober.http import Response
from haplane.probes.prober.questions import getting, outcome_of_answer, setting

TOKEN = "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"
CONFIG = prober.Config("192.0.2.1", 1, "x", "x", register_rate=5.0, token_file="x")
ONLY_REGISTER: dict[str, object] = {"rate": 0, "persistent_rate": 0, "register_rate": 20.0, "duration_s": 1.0}
ONLY_REGISTER |= {"write_prefix": "w-4f-"}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(TOKEN + "\n")
    return file


def seen(server: ApiServer, token_file: Path, **changes: object) -> History:
    """What the probe saw of this server: 20 sets and 40 gets in one second."""

    async def scenario() -> History:
        await server.start()
        async with probing(server, **ONLY_REGISTER | {"token_file": str(token_file)} | changes) as running:
            lines = [json.dumps(line) for line in await running.lines()]
        await server.stop()
        assert not any(TOKEN in line for line in lines), "the token is nowhere in the history"
        return parse(lines)

    return asyncio.run(scenario())


def outcomes(requests: tuple[Request, ...]) -> set[tuple[str, str]]:
    return {(each.outcome.value, each.kind) for each in requests}


def test_the_register_is_set_to_a_new_number_each_time_and_read_twice_as_often(
    authority: Authority, token_file: Path
) -> None:
    server = ApiServer(authority)
    history = seen(server, token_file)
    sets, gets = history.requests("set"), history.requests("get")
    assert [each.value for each in sets] == list(range(20))
    assert len(gets) == 40 and outcomes((*sets, *gets)) == {("ok", "")}
    assert server.connections == 60, "each over a connection of its own"
    assert [each.version for each in sets] == [101 + number for number in range(20)]
    stored = {each.version: int(each.value or "") for each in server.log}
    assert all(stored[each.version] == each.value for each in gets if each.version is not None)
    assert all(each.begun is not None for each in sets)
    written = [head for head in server.heads if head.startswith("PATCH")]
    assert written[0].startswith(f"PATCH {FOLDER}/w-4f-register?fieldManager=haplane-prober&force=true HTTP/1.1\r\n")
    assert f"Authorization: Bearer {TOKEN}\r\n" in written[0]
    assert "Content-Type: application/apply-patch+yaml\r\n" in written[0]
    assert server.sent_bodies[3] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "w-4f-register"},
        "data": {"value": "3"},
    }
    reads = {line for line in server.requested if line.startswith("GET")}
    assert reads == {f"GET {FOLDER}/w-4f-register"}, "no resourceVersion: it must be as of now"


def test_reads_overlap_with_writes(authority: Authority, token_file: Path) -> None:
    history = seen(ApiServer(authority, delay_s=0.05), token_file)
    sets, gets = history.requests("set"), history.requests("get")
    overlaps = [
        one for one in sets if any((get.sent_at or 0) < one.end and (one.sent_at or 0) < get.end for get in gets)
    ]
    assert len(overlaps) > 10


def test_a_register_that_is_not_there_is_an_answer(authority: Authority, token_file: Path) -> None:
    history = seen(ApiServer(authority, refused={"PATCH": 429}), token_file)
    assert outcomes(history.requests("set")) == {("failed", "http-429")}
    assert outcomes(history.requests("get")) == {("ok", "")}
    assert {(each.value, each.version) for each in history.requests("get")} == {(None, None)}


@pytest.mark.parametrize(("status", "outcome"), [(409, "failed"), (500, "indeterminate"), (504, "indeterminate")])
def test_a_set_that_the_server_did_not_finish_may_have_been_stored(status: int, outcome: str) -> None:
    answer = Response(status, 0, True, b"{}")
    assert outcome_of_answer(setting(CONFIG, TOKEN, 3), answer) == (outcome, f"http-{status}", {})


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"metadata": {"resourceVersion": "7"}, "data": {"value": "3"}}, ("ok", "", {"value": 3, "version": 7})),
        (200, {"metadata": {"resourceVersion": "7"}}, ("failed", "http-malformed", {})),
        (200, {"metadata": {"resourceVersion": "x"}, "data": {"value": "3"}}, ("failed", "http-malformed", {})),
        (200, {"metadata": [], "data": {"value": "3"}}, ("failed", "http-malformed", {})),
        (200, [], ("failed", "http-malformed", {})),
        (404, {"reason": "NotFound", "details": {"kind": "configmaps"}}, ("ok", "", {})),
        (404, {"reason": "NotFound"}, ("failed", "http-404", {})),
        (403, {}, ("failed", "http-403", {})),
        (503, {}, ("failed", "http-503", {})),
    ],
)
def test_what_is_read_is_the_value_and_its_version(status: int, body: object, expected: object) -> None:
    answer = Response(status, 0, True, json.dumps(body).encode())
    assert outcome_of_answer(getting(CONFIG, TOKEN), answer) == expected


def test_a_register_that_behaves_is_held(authority: Authority, token_file: Path) -> None:
    history = seen(ApiServer(authority, delay_s=0.03), token_file)
    assert reads_never_go_back(history).outcome is Outcome.HELD
    assert register_linearizable(history).outcome is Outcome.HELD


def test_one_stale_read_is_found_by_both_checkers(authority: Authority, token_file: Path) -> None:
    stale = [10]

    def once(found: list[Stored]) -> Stored:
        stale[0] -= 1
        return found[0] if stale[0] == 0 and len(found) > 2 else found[-1]

    history = seen(ApiServer(authority, stale=once), token_file)
    back, order = reads_never_go_back(history), register_linearizable(history)
    assert back.outcome is Outcome.VIOLATED and back.sentence.startswith("1 of 40 reads are older")
    assert order.outcome is Outcome.VIOLATED, order.sentence


def test_the_register_does_not_disturb_the_other_probes(authority: Authority, token_file: Path) -> None:
    history = seen(ApiServer(authority), token_file, rate=60.0, persistent_rate=20.0, write_rate=20.0, watches=2)
    counts = {name: len(history.requests(name)) for name in ("new", "persistent", "write", "set", "get")}
    assert counts == {"new": 60, "persistent": 20, "write": 20, "set": 20, "get": 40}
    assert all(each.ok for name in counts for each in history.requests(name))
    assert all(each.version is not None for each in history.requests("write"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"register_rate": 5.0}, "need a token_file"),
        ({"watches": 1}, "need a token_file"),
        ({"register_rate": -1.0}, "register_rate must be at least 0"),
        ({"watches": -1}, "watches must be at least 0"),
        ({"watches": True}, "watches must be int"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(changes: dict[str, object], says: str) -> None:
    values: dict[str, object] = {"address": "192.0.2.1", "port": 1, "server_hostname": "x", "ca_file": "x"}
    with pytest.raises(prober.ConfigError, match=says):
        prober.config_from(values | changes)
