"""Preflight over real SSH: three machines that are all this host, by three of its loopback addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from tests.model.clusters import three_nodes

from haplane.design.design import Design
from haplane.model.cluster import Cluster, Ssh
from haplane.model.progress import Silent
from haplane.observe.preflight import Outcome, Report, meeting, preflight
from haplane.observe.preflight.probe import Part, Probe
from haplane.observe.preflight.run import read
from haplane.transport.ssh import Fleet, Remote

# Raw sockets need root.
pytestmark = pytest.mark.wire


async def _shell(process: asyncssh.SSHServerProcess[bytes]) -> None:
    command = await asyncio.create_subprocess_shell(
        process.command or "false",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert command.stdin and command.stdout and command.stderr
    given = asyncio.create_task(_copy(process.stdin, command.stdin))
    await asyncio.gather(_copy(command.stdout, process.stdout), _copy(command.stderr, process.stderr))
    process.exit(await command.wait())
    given.cancel()


async def _copy(source: Any, to: Any) -> None:
    with suppress(BrokenPipeError, ConnectionResetError, asyncssh.Error):
        while chunk := await source.read(65536):
            to.write(chunk)
            await to.drain()
        if isinstance(to, asyncio.StreamWriter):
            to.close()


class _Anybody(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


@asynccontextmanager
async def three_machines(folder: Path) -> AsyncIterator[tuple[Cluster, dict[str, Remote]]]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        _Anybody, "127.0.0.1", 0, server_host_keys=[key], process_factory=_shell, encoding=None
    )
    port = server.sockets[0].getsockname()[1]
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")
    cluster = three_nodes()
    ssh = Ssh(port=port, known_hosts=known)
    reached = {
        name: replace(machine, addresses=(ip_address("127.0.0.1"),), ssh=ssh)
        for name, machine in cluster.machines.items()
    }
    machines = {
        name: replace(machine, addresses=(ip_address(f"127.0.0.{number}"),), ssh=ssh)
        for number, (name, machine) in enumerate(cluster.machines.items(), 1)
    }
    endpoint = replace(cluster.endpoint, vips=(ip_interface("127.0.0.100/8"),))
    async with server, Fleet(reached) as fleet:
        remotes = {name: await fleet.connect(machine) for name, machine in reached.items()}
        yield replace(cluster, machines=machines, endpoint=endpoint), remotes


def test_machines_are_read_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "LISTEN_S", 1)
    monkeypatch.setattr(meeting, "LISTEN_SLOW_S", 1)

    async def scenario() -> Report:
        async with three_machines(tmp_path) as (cluster, remotes):
            return await preflight(Design(cluster), remotes, slow=True, progress=Silent(), stall_s=0.2)

    report = asyncio.run(scenario())
    found = {(one.check, one.machine): one for one in report.results}
    # They are one host, and preflight says so.
    assert found["hostname-unique", "cp1"].outcome is Outcome.FINDING
    assert found["clocks-agree", "cp1"].outcome is Outcome.PASSED
    assert found["ports-open", "cp1"].outcome is not Outcome.NOT_TRIED
    assert found["no-loss", "cp1"].outcome is Outcome.PASSED
    assert found["vrrp-arrives", "cp1"].outcome is not Outcome.NOT_TRIED
    assert found["stalls-below-adverts", "cp1"].outcome is not Outcome.NOT_TRIED
    assert found["disk-quick", "cp1"].outcome is not Outcome.NOT_TRIED
    facts = report.facts.machines["cp1"]
    assert facts.stall_ms is not None and facts.fsync_p99_ms is not None
    assert set(facts.round_trip_ms) == {"cp2", "cp3"}


def test_a_machine_that_is_lost_does_not_hold_up_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "LISTEN_S", 1)
    monkeypatch.setattr(meeting, "LISTEN_SLOW_S", 1)

    async def scenario() -> Mapping[str, Probe]:
        async with three_machines(tmp_path) as (cluster, remotes):
            remotes["cp3"]._connection.abort()
            await asyncio.sleep(0.1)
            return await read(Design(cluster), remotes, slow=False, progress=Silent())

    probes = asyncio.run(scenario())
    assert set(probes["cp3"].missing) >= {Part.HOST, Part.CLOCK, Part.MEETING, Part.ASKING}
    assert "cp3" in probes["cp3"].missing[Part.HOST]
    assert Part.MEETING not in probes["cp1"].missing
    assert probes["cp1"].meeting.listened_s > 0
