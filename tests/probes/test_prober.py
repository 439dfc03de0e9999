"""The prober as it runs on a client machine: a real subprocess against a real TLS server."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tls_server import Authority, Line, TlsServer, make_authority, probing, program

from haplane.probes import prober
from haplane.probes.history import End, History, Reading, Reconnect, RequestOutcome, parse
from haplane.probes.packing import packed
from haplane.probes.prober.connection import Connection
from haplane.probes.prober.http import Failed, Response, read_response
from haplane.probes.prober.streams import tls_context


def history_of(lines: list[Line]) -> History:
    return parse(json.dumps(line) for line in lines)


def kinds(history: History, probe: str = "new") -> set[tuple[str, str]]:
    return {(request.outcome.value, request.kind) for request in history.requests(probe)}


def test_every_request_to_a_healthy_server_is_ok(authority: Authority) -> None:
    async def scenario() -> tuple[History, TlsServer]:
        server = TlsServer(authority)
        await server.start()
        async with probing(server) as running:
            lines = await running.lines()
            assert running.process.returncode == 0
        await server.stop()
        return history_of(lines), server

    history, server = asyncio.run(scenario())
    assert kinds(history) == {("ok", "")} == kinds(history, "persistent")
    assert len(history.requests()) == 100
    assert len(history.requests("persistent")) == 20
    assert server.connections == 101, "each new request has its own connection, the persistent ones share one"
    assert history.header is not None and history.header.config.rate == 50
    assert history.end is not None and (history.end.reason, history.end.count) == ("duration", 120)
    assert [each.cause for each in history.of(Reconnect)] == ["start"]
    assert all(each.begun is not None and each.begun <= (each.sent_at or 0.0) for each in history.requests())
    assert isinstance(history.events[0], type(history.header)) and isinstance(history.events[-1], End)


def test_a_server_that_is_gone_for_a_while_is_seen_as_refused_and_then_ok_again(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority)
        await server.start()
        async with probing(server, duration_s=4.0) as running:
            header = await running.wait_for_a_line()
            await asyncio.sleep(1.2)
            await server.stop()
            await asyncio.sleep(1.0)
            await server.start()
            lines = await running.lines()
        await server.stop()
        return history_of([header, *lines])

    history = asyncio.run(scenario())
    outcomes = [request.outcome for request in history.requests()]
    assert ("failed", "refused") in kinds(history)
    assert RequestOutcome.INDETERMINATE not in outcomes
    assert outcomes[0] is outcomes[-1] is RequestOutcome.OK
    persistent = history.requests("persistent")
    assert ("failed", "refused") in kinds(history, "persistent")
    assert persistent[-1].ok
    reconnects = history.of(Reconnect)
    assert reconnects[0].cause == "start" and reconnects[-1].outcome is RequestOutcome.OK
    assert {each.cause for each in reconnects[1:]} & {"reset", "eof"}, "the idle connection broke and was made anew"


def test_a_server_that_never_answers_leaves_requests_indeterminate(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority, answering=False)
        await server.start()
        async with probing(server, rate=20.0, timeout_s=0.5, duration_s=1.0) as running:
            lines = await running.lines()
        await server.stop()
        return history_of(lines)

    history = asyncio.run(scenario())
    assert ("indeterminate", "timeout") in kinds(history)
    assert not any(request.ok for request in history.requests())
    assert all(request.latency_s >= 0.5 for request in history.requests() if request.kind == "timeout")
    assert ("indeterminate", "timeout") in kinds(history, "persistent")
    assert "timeout" in {each.cause for each in history.of(Reconnect)}


def test_a_port_that_accepts_but_never_shakes_hands_is_a_failure_because_nothing_was_sent(authority: Authority) -> None:
    async def scenario() -> History:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = TlsServer(authority, port=listening.getsockname()[1])
            async with probing(server, rate=20.0, timeout_s=0.4, duration_s=0.5) as running:
                return history_of(await running.lines())

    history = asyncio.run(scenario())
    assert kinds(history) == {("failed", "tls-timeout")} == kinds(history, "persistent")
    assert all(request.sent_at is None for request in history.requests())


def test_a_connection_that_is_never_accepted_fails_with_connect_timeout(authority: Authority) -> None:
    async def scenario() -> History:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(0)
            server = TlsServer(authority, port=listening.getsockname()[1])
            address = listening.getsockname()
            fillers = [socket.socket() for _ in range(4)]  # a full backlog: the kernel drops further SYNs
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            async with probing(server, rate=10.0, timeout_s=0.4, duration_s=0.5, persistent_rate=0) as running:
                history = history_of(await running.lines())
            for filler in fillers:
                filler.close()
            return history

    assert kinds(asyncio.run(scenario())) == {("failed", "connect-timeout")}


def test_a_certificate_of_another_ca_fails_as_tls(authority: Authority, tmp_path: Path) -> None:
    async def scenario() -> History:
        server = TlsServer(authority)
        await server.start()
        other = make_authority(tmp_path / "other")
        async with probing(server, ca_file=str(other.ca_file), duration_s=0.5) as running:
            lines = await running.lines()
        await server.stop()
        return history_of(lines)

    history = asyncio.run(scenario())
    assert kinds(history) == {("failed", "tls")} == kinds(history, "persistent")


def test_a_certificate_for_another_name_fails_as_tls(tmp_path: Path) -> None:
    async def scenario() -> History:
        server = TlsServer(make_authority(tmp_path, hostname="elsewhere"))
        await server.start()
        async with probing(server, duration_s=0.5) as running:
            lines = await running.lines()
        await server.stop()
        return history_of(lines)

    assert kinds(asyncio.run(scenario())) == {("failed", "tls")}


def test_another_status_than_200_is_a_failure_that_keeps_the_connection(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority, status=500)
        await server.start()
        async with probing(server, duration_s=0.5) as running:
            lines = await running.lines()
        await server.stop()
        return history_of(lines)

    history = asyncio.run(scenario())
    assert kinds(history) == {("failed", "http-500")} == kinds(history, "persistent")
    assert len(history.of(Reconnect)) == 1


def test_an_answer_that_is_cut_off_is_not_ok(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority, cut_after=-1)
        await server.start()
        async with probing(server, duration_s=0.5) as running:
            lines = await running.lines()
        await server.stop()
        return history_of(lines)

    history = asyncio.run(scenario())
    assert kinds(history) == {("failed", "eof")}
    assert not any(request.ok for request in history.requests("persistent"))


def test_the_schedule_is_kept_while_every_answer_is_slow(authority: Authority) -> None:
    async def scenario() -> tuple[History, TlsServer]:
        server = TlsServer(authority, delay_s=1.0)
        await server.start()
        async with probing(server, rate=30.0, persistent_rate=0, timeout_s=5.0, duration_s=2.0) as running:
            lines = await running.lines()
        await server.stop()
        return history_of(lines), server

    history, server = asyncio.run(scenario())
    requests = history.requests()
    assert len(requests) == 60 == server.requests, "rate times duration, though each takes a second"
    assert kinds(history) == {("ok", "")}
    start = history.window[0]
    assert [request.t for request in requests] == pytest.approx([start + i / 30 for i in range(60)], abs=1e-5)
    assert all(request.latency_s >= 1.0 for request in requests)


def test_persistent_requests_that_wait_for_their_turn_count_from_when_they_were_due(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority, delay_s=0.4)
        await server.start()
        async with probing(server, rate=0, persistent_rate=5.0, timeout_s=20.0, duration_s=2.0) as running:
            lines = await running.lines()
        await server.stop()
        return history_of(lines)

    requests = asyncio.run(scenario()).requests("persistent")
    assert len(requests) == 10
    assert all(request.ok for request in requests)
    assert requests[-1].latency_s >= 10 * 0.4 - 9 / 5, "each takes 0.4 s and one is due every 0.2 s"


def test_requests_over_the_cap_are_written_down_as_the_probers_own_failure(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority, answering=False)
        await server.start()
        settings = {"rate": 40.0, "persistent_rate": 0, "timeout_s": 1.0, "duration_s": 1.0, "in_flight_limit": 10}
        async with probing(server, **settings) as running:
            lines = await running.lines()
        await server.stop()
        return history_of(lines)

    history = asyncio.run(scenario())
    assert len(history.requests()) == 40, "none is dropped"
    assert kinds(history) == {("indeterminate", "timeout"), ("failed", "prober-overloaded")}


def test_it_ends_with_a_trailer_when_stdin_closes(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority)
        await server.start()
        async with probing(server, duration_s=600.0) as running:
            header = await running.wait_for_a_line()
            await asyncio.sleep(0.5)
            assert running.process.stdin is not None
            running.process.stdin.close()
            lines = await running.lines()
        await server.stop()
        return history_of([header, *lines])

    end = asyncio.run(scenario()).end
    assert end is not None
    assert end.reason == "stdin-closed"


def test_it_ends_with_a_trailer_on_sigterm_and_waits_for_what_was_asked(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority, delay_s=0.5)
        await server.start()
        async with probing(server, persistent_rate=0, duration_s=600.0, timeout_s=20.0) as running:
            header = await running.wait_for_a_line()
            await asyncio.sleep(1.0)
            running.process.send_signal(signal.SIGTERM)
            lines = await running.lines()
            assert running.process.returncode == 0
        await server.stop()
        return history_of([header, *lines])

    history = asyncio.run(scenario())
    assert history.end is not None and history.end.reason == "sigterm"
    assert history.end.count == len(history.requests()) + len(history.requests("persistent"))
    assert all(request.t <= history.end.t for request in history.requests())
    assert kinds(history) == {("ok", "")}


def test_events_are_written_while_it_runs(authority: Authority) -> None:
    async def scenario() -> None:
        server = TlsServer(authority)
        await server.start()
        async with probing(server, duration_s=600.0) as running:
            while (await running.wait_for_a_line())["probe"] != "new":
                pass
            assert running.process.returncode is None
        await server.stop()

    asyncio.run(scenario())


def test_a_line_on_stdin_is_answered_with_the_clock(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority)
        await server.start()
        async with probing(server, duration_s=600.0) as running:
            lines = [await running.wait_for_a_line()]
            assert running.process.stdin is not None
            running.process.stdin.write(b"first\nsec")
            running.process.stdin.write(b"ond\n")
            while sum(line["probe"] == "reading" for line in lines) < 2:
                lines.append(await running.wait_for_a_line())
            running.process.stdin.close()
            lines += await running.lines()
        await server.stop()
        return history_of(lines)

    history = asyncio.run(scenario())
    assert [reading.token for reading in history.of(Reading)] == ["first", "second"]
    assert history.header is not None and all(each.t >= history.header.t for each in history.of(Reading))


def test_a_reader_that_stands_still_does_not_stop_the_schedule(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority)
        await server.start()
        async with probing(server, rate=150.0, duration_s=4.0) as running:
            assert running.process.stdout is not None
            running.process.stdout._transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(4.5)
            running.process.stdout._transport.resume_reading()  # type: ignore[attr-defined]
            lines = await running.lines()
        await server.stop()
        return history_of(lines)

    history = asyncio.run(scenario())
    assert len(history.requests()) == 600
    assert history.end is not None and history.end.reason == "duration"


def test_it_ends_when_nobody_reads_any_more(authority: Authority) -> None:
    async def scenario() -> int | None:
        server = TlsServer(authority)
        await server.start()
        async with probing(server, duration_s=600.0) as running:
            await running.wait_for_a_line()
            running.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
            await asyncio.wait_for(running.process.wait(), 60)
        await server.stop()
        return running.process.returncode

    assert asyncio.run(scenario()) == 1


def test_its_own_stalls_are_in_the_history(authority: Authority) -> None:
    async def scenario() -> History:
        server = TlsServer(authority)
        await server.start()
        async with probing(server, duration_s=3.0) as running:
            header = await running.wait_for_a_line()
            await asyncio.sleep(1.0)
            running.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.5)
            running.process.send_signal(signal.SIGCONT)
            lines = await running.lines()
        await server.stop()
        return history_of([header, *lines])

    history = asyncio.run(scenario())
    start, end = history.window
    assert history.stalled_s(start, end) >= 0.4
    assert len(history.requests()) == 150, "what was due meanwhile is asked late and counts from when it was due"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "usage"),
        (["{"], "not JSON"),
        (['{"address": "localhost", "port": 1, "server_hostname": "x", "ca_file": "x"}'], "not looked up"),
        (['{"address": "127.0.0.1", "port": 1, "server_hostname": "x", "ca_file": "/nonexistent"}'], "CA file"),
        (['{"address": "127.0.0.1", "port": 1, "server_hostname": "x", "ca_file": "x", "speed": 1}'], "speed"),
        (['{"address": "127.0.0.1"}'], "missing: port"),
    ],
)
def test_a_wrong_configuration_ends_with_2_and_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    ended = subprocess.run(
        program(tmp_path, *arguments), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert ended.returncode == 2
    assert says in ended.stderr and len(ended.stderr.splitlines()) == 1


def test_the_prober_imports_only_the_standard_library() -> None:
    modules = list(Path(prober.__file__).parent.glob("*.py"))
    imported = {
        line.split()[1].split(".")[0]
        for module in modules
        for line in module.read_text().splitlines()
        if line.lstrip().startswith(("import ", "from "))
    }
    assert len(modules) > 5
    assert imported - {""} <= sys.stdlib_module_names, "its own modules are imported by relative names"


def test_the_prober_is_packed_the_same_each_time() -> None:
    assert packed() == packed()
    with zipfile.ZipFile(io.BytesIO(packed())) as archive:
        assert {"__main__.py", "prober/__init__.py", "prober/main.py"} <= set(archive.namelist())


@pytest.mark.parametrize(
    ("data", "status", "keep"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nok", 200, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, False),
        (b"HTTP/1.1 204 \r\n\r\n", 204, True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", 500, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nA: b\r\n\r\n", 200, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, True),
    ],
)
def test_an_answer_is_complete_with_its_last_byte_and_not_before(data: bytes, status: int, keep: bool) -> None:
    body = b"ok" if status == 200 else b""
    expected = Response(status, len(data), keep, body)
    assert read_response(data) == expected
    assert all(read_response(data[:length]) is None for length in range(len(data)))
    assert read_response(data + b"HTTP/1.1 200 OK\r\n") == expected


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    data = b"HTTP/1.1 200 OK\r\n\r\nok"
    assert read_response(data) is None
    assert read_response(data, ended=True) == Response(200, len(data), False, b"ok")
    assert read_response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", ended=True) is None


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    ],
)
def test_what_is_not_http_is_malformed(data: bytes) -> None:
    with pytest.raises(Failed, match="http-malformed"):
        read_response(data)


def test_no_request_waits_for_an_acknowledgement(authority: Authority) -> None:
    """Nagle's algorithm would hold it back behind the handshake, for as long as the server delays its ACK."""

    async def scenario() -> int:
        server = TlsServer(authority)
        await server.start()
        connection = Connection(tls_context(str(authority.ca_file)), "kubernetes")
        await connection.open("127.0.0.1", server.port)
        assert connection._transport is not None
        option: int = connection._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.abort()
        await server.stop()
        return option

    assert asyncio.run(scenario()) == 1
