"""The watch probe against a server in the shape of an apiserver: what it is told, and how it goes on when that ends."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from apiserver import FOLDER, ApiServer, Stored
from test_register_probe import TOKEN, token_file
from tls_server import Authority, probing

from haplane.drills.checkers import Outcome, Verdict
from haplane.drills.watches import watch_sees_all
from haplane.probes.history import COUNTED, History, Listing, Mark, Request, Watched, Watching, parse
from haplane.probes.prober.http import RESPONSE_LIMIT, Failed, Stream

__all__ = ["token_file"]

WRITING: dict[str, object] = {"rate": 0, "persistent_rate": 0, "write_rate": 40.0, "register_rate": 20.0, "watches": 1}
During = Callable[[ApiServer], Awaitable[None]]


def seen(server: ApiServer, token_file: Path, during: During | None = None, **changes: object) -> History:
    """What the probe saw of this server in one second, or in two: during runs when the watch has begun."""

    async def scenario() -> History:
        await server.start()
        settings = WRITING | {"token_file": str(token_file), "duration_s": 2.0 if during else 1.0}
        async with probing(server, **settings | changes) as running:
            if during:
                async with asyncio.timeout(30):
                    while not server.watching or len(server.log) < 8:  # noqa: ASYNC110  # happens elsewhere
                        await asyncio.sleep(0.01)
                await during(server)
            lines = [json.dumps(line) for line in await running.lines()]
            assert running.process.returncode == 0
        await server.stop()
        assert not any(TOKEN in line for line in lines), "the token is nowhere in the history"
        return parse(lines)

    history = asyncio.run(scenario())
    assert history.end is not None
    assert history.end.count == sum(isinstance(event, COUNTED) for event in history.events)
    return history


def judged(history: History, *, within_s: float = math.inf) -> Verdict:
    """With a fault soon after the start."""
    assert history.header is not None
    begun = max((each.opened or 0.0 for each in history.of(Watching)[:1]), default=0.0)
    fault = Mark(max(begun, history.header.start) + 0.05, "nothing")
    return watch_sees_all(history.with_events([fault]), within_s)


def told(history: History, *kinds: str) -> list[str]:
    return [each.key for each in history.of(Watched) if each.kind in kinds]


def test_a_watch_lists_and_is_then_told_of_each_write_once_in_order(authority: Authority, token_file: Path) -> None:
    server = ApiServer(authority, log=[Stored("ADDED", "kube-root-ca.crt", 60, None)], delay_s=0.01)
    history = seen(server, token_file)
    requested = [line for line in server.requested if "?" in line and line.startswith("GET")]
    (listing,), (watching,) = history.of(Listing), history.of(Watching)
    assert requested == [
        f"GET {FOLDER}?limit=250",
        f"GET {FOLDER}?watch=1&resourceVersion={listing.version}&allowWatchBookmarks=true",
    ]
    assert (listing.cause, listing.since, listing.outcome.value) == ("start", None, "ok")
    assert (watching.cause, watching.since, watching.kind) == ("listed", listing.version, "stopped")
    assert told(history, "LISTED")[0] == "kube-root-ca.crt"
    written = {each.key for each in history.requests("write")}
    assert len(written) == 40 and written <= set(told(history, "ADDED", "LISTED"))
    versions = [each.version for each in history.of(Watched) if each.kind != "LISTED"]
    assert versions == sorted(set(versions))
    assert told(history, "MODIFIED").count("w-register") >= 18
    assert judged(history).outcome is Outcome.HELD


def test_several_watches_are_told_each(authority: Authority, token_file: Path) -> None:
    history = seen(ApiServer(authority), token_file, watches=3)
    keys = {number: {each.key for each in history.of(Watched) if each.number == number} for number in range(3)}
    assert keys[0] == keys[1] == keys[2] and len(keys[0]) == 41
    assert judged(history).sentence.startswith("3 watches saw all ")


def test_a_watch_that_is_reset_is_resumed_at_once_where_it_was(authority: Authority, token_file: Path) -> None:
    async def reset(server: ApiServer) -> None:
        server.end_watches()

    history = seen(ApiServer(authority), token_file, reset)
    first, second = history.of(Watching)
    assert first.kind in ("reset", "eof") and second.cause == first.kind
    before = [each.version for each in history.of(Watched) if each.t <= first.ended]
    assert second.since == before[-1]
    assert len(history.of(Listing)) == 1
    verdict = judged(history)
    assert verdict.outcome is Outcome.HELD
    assert any("resumed from" in line for line in verdict.evidence)


def test_a_server_that_is_away_is_asked_again_and_again(authority: Authority, token_file: Path) -> None:
    async def away(server: ApiServer) -> None:
        await server.stop()
        await asyncio.sleep(0.5)
        await server.start()

    history = seen(ApiServer(authority), token_file, away)
    attempts = history.of(Watching)
    refused = [each for each in attempts if each.kind == "refused"]
    assert refused and all(each.opened is None for each in refused) and len(refused) < 10
    assert attempts[-1].cause == "refused" and attempts[-1].kind == "stopped"
    assert judged(history).outcome is Outcome.HELD


@pytest.mark.parametrize("gone", ["gone", "410"])
def test_a_watch_whose_version_is_not_kept_any_more_lists_again(
    authority: Authority, token_file: Path, gone: str
) -> None:
    async def expire(server: ApiServer) -> None:
        server.grant = gone
        server.end_watches()
        missed = len(server.log)
        while len(server.log) < missed + 10:  # noqa: ASYNC110  # happens elsewhere
            await asyncio.sleep(0.01)
        server.grant = ""

    history = seen(ApiServer(authority, page=3), token_file, expire)
    again = history.of(Listing)[1:]
    assert again and {each.cause for each in again} == {"expired"}
    assert again[0].since is not None and (again[0].version or 0) >= again[0].since
    assert any(key.startswith("w-") and key != "w-register" for key in told(history, "LISTED")), "all pages were read"
    assert {"expired", "stopped"} <= {each.kind for each in history.of(Watching)}
    verdict = judged(history)
    assert verdict.outcome is Outcome.HELD, verdict
    assert any("listed again" in line for line in verdict.evidence)


def test_other_errors_are_no_reason_to_list_again(authority: Authority, token_file: Path) -> None:
    async def fail(server: ApiServer) -> None:
        for server.grant in ("error", "malformed"):
            server.end_watches()
            await asyncio.sleep(0.3)
        server.grant = ""

    history = seen(ApiServer(authority), token_file, fail)
    assert len(history.of(Listing)) == 1
    assert {"error-500", "http-malformed"} <= {each.kind for each in history.of(Watching)}
    assert judged(history).outcome is Outcome.HELD


def test_a_list_that_is_refused_is_asked_for_again(authority: Authority, token_file: Path) -> None:
    history = seen(ApiServer(authority, refused={"GET": 403}), token_file)
    assert {(each.kind, each.version) for each in history.of(Listing)} == {("http-403", None)}
    assert 5 < len(history.of(Listing)) < 40 and not history.of(Watching)
    assert judged(history).outcome is Outcome.UNKNOWN


def test_bookmarks_move_the_version_and_are_not_events(authority: Authority, token_file: Path) -> None:
    history = seen(ApiServer(authority, bookmarks=True), token_file)
    assert set(told(history, "BOOKMARK")) == {""}
    assert judged(history).outcome is Outcome.HELD


def test_an_event_that_is_dropped_is_found(authority: Authority, token_file: Path) -> None:
    history = seen(ApiServer(authority, told=lambda each: [] if each.key == "w-21" else [each]), token_file)
    verdict = judged(history)
    assert verdict.outcome is Outcome.VIOLATED and "1 never seen;" in verdict.sentence
    assert "w-21" in verdict.evidence[0]


def test_a_change_of_the_register_that_is_dropped_is_found(authority: Authority, token_file: Path) -> None:
    history = seen(ApiServer(authority, told=lambda each: [] if each.value == "11" else [each]), token_file)
    verdict = judged(history)
    assert verdict.outcome is Outcome.VIOLATED and "register set to 11" in verdict.evidence[0]


def test_an_event_that_comes_twice_is_found(authority: Authority, token_file: Path) -> None:
    twice = ApiServer(authority, told=lambda each: [each] * (2 if each.key == "w-21" else 1))
    verdict = judged(seen(twice, token_file))
    assert verdict.outcome is Outcome.VIOLATED and "1 seen twice;" in verdict.sentence


def test_a_watch_that_falls_silent_is_found(authority: Authority, token_file: Path) -> None:
    silent = []

    async def fall_silent(server: ApiServer) -> None:
        server.told = lambda each: silent.append(each) or []  # type: ignore[func-returns-value]  # None, hence the list

    history = seen(ApiServer(authority), token_file, fall_silent)
    assert judged(history, within_s=0.2).outcome is Outcome.VIOLATED
    assert judged(history, within_s=30.0).outcome is Outcome.UNKNOWN, "it may still have come"


def test_a_last_write_is_still_seen(authority: Authority, token_file: Path) -> None:
    history = seen(ApiServer(authority, delay_s=0.3), token_file)
    last = max((each for each in history.of(Request) if each.probe == "write"), key=lambda each: each.t)
    assert history.end is not None and last.end > history.end.t - 0.05
    assert last.key in told(history, "ADDED")


def test_a_stream_is_cut_into_lines_wherever_it_was_cut_on_its_way() -> None:
    chunks = b"3\r\n{}\n\r\n4\r\n{1}\n\r\n2\r\n{2\r\n2\r\n}\n\r\n0\r\n\r\n"
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    for size in (1, 2, 3, 7, len(data)):
        stream = Stream()
        lines = [line for at in range(0, len(data), size) for line in stream.feed(data[at : at + size])]
        assert lines == [b"{}", b"{1}", b"{2}"] and stream.status == 200 and stream.ended
    plain = Stream()
    assert plain.feed(b"HTTP/1.1 200 OK\r\n\r\n{}\n{") == [b"{}"] and not plain.ended


def test_a_stream_without_an_end_of_line_is_given_up() -> None:
    stream = Stream()
    stream.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(Failed, match="http-malformed"):
        for _ in range(20):
            stream.feed(b"x" * (RESPONSE_LIMIT // 10))
    with pytest.raises(Failed, match="http-malformed"):
        Stream().feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nwhat\r\n")
