"""The lease probe against a real TLS server: what it reads, how it asks, and what it says when it could not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tls_server import Authority, TlsServer, probing

from haplane.probes import prober
from haplane.probes.history import GivenBack, History, LeaseSeen, parse

TOKEN = "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"
SPEC = {
    "holderIdentity": "cp2_0b9d2a0e-5c5f-4a2c-9f5e-1d9a53b3f4a1",
    "leaseDurationSeconds": 15,
    "acquireTime": "2026-01-01T00:00:00.250000Z",
    "renewTime": "2026-01-01T00:01:00.125000Z",
    "leaseTransitions": 7,
}
NEW_YEAR = 1767225600.0


def lease(**changes: object) -> bytes:
    return json.dumps({"kind": "Lease", "metadata": {"name": "x"}, "spec": SPEC | changes}).encode()


def watch_of(name: str) -> str:
    return f"/namespaces/kube-system/leases?watch=1&fieldSelector=metadata.name%3D{name}"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(TOKEN + "\n")
    return file


def seen(server: TlsServer, token_file: Path, **changes: object) -> History:
    """What the probe saw of this server in a second, looking four times."""

    async def scenario() -> list[str]:
        await server.start()
        settings: dict[str, object] = {"rate": 0, "persistent_rate": 0, "lease_rate": 4.0, "duration_s": 1.0}
        async with probing(server, **settings | {"token_file": str(token_file)} | changes) as running:
            lines = await running.lines()
        await server.stop()
        return [json.dumps(line) for line in lines]

    lines = asyncio.run(scenario())
    assert not any(TOKEN in line for line in lines), "the token is nowhere in the history"
    return parse(lines)


def test_each_look_reads_both_leases_with_the_token_over_one_new_connection(
    authority: Authority, token_file: Path
) -> None:
    bodies = {"/kube-controller-manager": lease(), "/kube-scheduler": lease(holderIdentity="cp3_x", leaseTransitions=1)}
    bodies |= {watch_of(name): b"" for name in prober.LEASES}
    server = TlsServer(authority, bodies=bodies)
    history = seen(server, token_file)
    looks = history.of(LeaseSeen)
    # On a busy host one look may begin before the one before it has ended.
    assert [look.name for look in sorted(looks, key=lambda look: look.t)] == list(prober.LEASES) * 4
    assert {look.kind for look in looks} == {""}
    first, second = looks[:2]
    assert (first.holder, first.duration_s, first.transitions) == (SPEC["holderIdentity"], 15.0, 7)
    assert (first.acquired, first.renewed) == (NEW_YEAR + 0.25, NEW_YEAR + 60.125)
    assert (second.holder, second.transitions) == ("cp3_x", 1)
    assert all(look.sent_at is not None and look.t <= look.sent_at <= look.end for look in looks)
    over = [port for question, port in zip(server.asked, server.asked_over, strict=True) if "?watch=1" not in question]
    assert sorted(over.count(port) for port in set(over)) == [2] * 4, "each look is one connection, and its own"
    head = next(question for question in server.asked if "?watch=1" not in question).splitlines()
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager"
    assert head[0] == f"GET {path} HTTP/1.1"
    assert f"Authorization: Bearer {TOKEN}" in head
    assert history.end is not None and history.end.count == 0, "the end counts requests and idle connections alone"


def test_a_lease_that_was_given_back_has_no_holder(authority: Authority, token_file: Path) -> None:
    given_back = lease(holderIdentity="", leaseDurationSeconds=1)
    server = TlsServer(authority, bodies=dict.fromkeys(("/kube-controller-manager", "/kube-scheduler"), given_back))
    assert {(look.kind, look.holder, look.duration_s) for look in seen(server, token_file).of(LeaseSeen)} == {
        ("", "", 1.0)
    }


def told(*bodies: bytes) -> bytes:
    """A watch's stream: one event in a line."""
    return b"".join(b'{"type":"MODIFIED","object":' + body + b"}\n" for body in bodies)


def test_a_lease_that_is_given_back_between_two_looks_is_told_by_a_watch(
    authority: Authority, token_file: Path
) -> None:
    manager, scheduler = prober.LEASES
    stream = told(lease(), lease(holderIdentity=""), lease(holderIdentity="cp3_x", leaseTransitions=8))
    bodies = {f"/{name}": lease() for name in prober.LEASES} | {watch_of(manager): stream, watch_of(scheduler): told()}
    server = TlsServer(authority, bodies=bodies)
    history = seen(server, token_file)
    assert {(each.name, each.transitions) for each in history.of(GivenBack)} == {(manager, 7)}
    watches = [question for question in server.asked if "?watch=1" in question]
    assert all(f"Authorization: Bearer {TOKEN}" in question for question in watches)
    # A stream that ends is asked for again, but not without a pause.
    assert {name: sum(f"%3D{name} " in each for each in watches) for name in prober.LEASES} in [
        {manager: each, scheduler: each} for each in range(2, 7)
    ]


@pytest.mark.parametrize("body", [b"", b"not JSON\n", b"[]\n", b"{}\n", told(b"{}"), told(lease(holderIdentity="a"))])
def test_a_watch_that_says_no_such_thing_says_nothing(authority: Authority, token_file: Path, body: bytes) -> None:
    bodies = {f"/{name}": lease() for name in prober.LEASES} | {watch_of(name): body for name in prober.LEASES}
    history = seen(TlsServer(authority, bodies=bodies), token_file)
    assert not history.of(GivenBack) and len(history.of(LeaseSeen)) == 8


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b"not JSON", lease(renewTime=None), lease(renewTime="now"), lease(leaseDurationSeconds=None)],
)
def test_an_answer_that_is_no_lease_is_malformed(authority: Authority, token_file: Path, body: bytes) -> None:
    server = TlsServer(authority, bodies=dict.fromkeys(("/kube-controller-manager", "/kube-scheduler"), body))
    assert {look.kind for look in seen(server, token_file).of(LeaseSeen)} == {"malformed"}


def test_what_is_refused_or_broken_says_how(authority: Authority, token_file: Path) -> None:
    def kinds(server: TlsServer, **changes: object) -> set[tuple[str, str, bool]]:
        looks = seen(server, token_file, **changes).of(LeaseSeen)
        assert len(looks) == 8
        return {(look.name, look.kind, look.sent_at is None) for look in looks}

    manager, scheduler = prober.LEASES
    forbidden = kinds(TlsServer(authority, status=403))
    assert forbidden == {(manager, "http-403", False), (scheduler, "http-403", False)}
    # The first was sent, and the connection ended with it: the second never was.
    assert kinds(TlsServer(authority, resetting=True)) == {(manager, "reset", False), (scheduler, "reset", True)}
    silent = kinds(TlsServer(authority, answering=False), timeout_s=1.0)
    assert silent == {(manager, "timeout", False), (scheduler, "timeout", True)}


def test_leases_cannot_be_read_without_a_token() -> None:
    with pytest.raises(prober.ConfigError, match="lease_rate and kubectl need a token_file"):
        prober.Config("192.0.2.1", 1, "x", "x", lease_rate=2.0)
