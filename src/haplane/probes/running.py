"""The prober on another machine: put there, started, watched, asked for its clock, stopped."""

from __future__ import annotations

import asyncio
import json
import secrets
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import asyncssh

from haplane.components.base import RUN, STATE
from haplane.model.cluster import Cluster
from haplane.model.errors import CommandFailed, HaplaneError
from haplane.probes.history import Header, RoundTrip, parse
from haplane.probes.packing import packed
from haplane.probes.prober import NAMESPACE, OPEN_TO_ALL, Config, cached_read
from haplane.transport.ssh import Remote

FOLDER = f"{RUN}/probe"
# Where the write probe finds its token, see `writing`.
TOKEN_FILE = f"{FOLDER}/token"
READINGS = 5
# It looks up names first, see `prober.services`.
START_WITHIN_S = 15.0


class Prober:
    """Runs the open-loop prober on a machine and keeps its lines, each written to `sink` as it comes."""

    def __init__(self, remote: Remote, sink: Callable[[str], None]) -> None:
        self._remote = remote
        self._sink = sink
        self._process: asyncssh.SSHClientProcess[str] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Future[tuple[float, float]]] = {}
        self._started = asyncio.Event()
        self.kubectl = ""
        self.last_line = ""
        self.header: Header | None = None
        self.trips: list[RoundTrip] = []
        # Of its own: what another run wrote is not taken for this one's, nor waited for while it is removed.
        self.namespace = f"{NAMESPACE}-{secrets.token_hex(3)}"

    async def start(
        self,
        cluster: Cluster,
        authority: str,
        *,
        rate: float,
        duration_s: float,
        write_rate: float = 0.0,
        idle_connections: int = 0,
        register_rate: float = 0.0,
        watches: int = 0,
        lease_rate: float = 0.0,
        with_kubectl: bool = False,
        services: Sequence[str] = (),
        service_failed_at_most: int = 0,
    ) -> None:
        """Put the prober there and start it. Raises HaplaneError when it does not start.

        All but the rate and services needs what `writing.prepare` makes, and is asked with its account; without, the
        apiservers are asked for what is open to everybody. `kubectl` is empty afterwards where that machine has none.
        """
        has_python = await self._remote.run(
            "python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'", check=False, shown_as="look for Python"
        )
        if has_python.code:
            raise HaplaneError(
                f"{self._remote.name} has no Python 3.11 or later, which the prober needs",
                where=self._remote.name,
                why=has_python.stderr.strip(),
                hint="apt-get install python3 there (only the client machine needs it)",
            )
        await self._remote.run(f"mkdir -p {FOLDER} && cat > {FOLDER}/prober.pyz", stdin=packed())
        await self._remote.run(f"cat > {FOLDER}/ca.crt", stdin=authority.encode())
        if with_kubectl:
            found = await self._remote.run(find_kubectl(cluster), check=False, shown_as="look for kubectl")
            self.kubectl = found.stdout.strip()
        has_account = bool(write_rate or register_rate or watches or lease_rate or self.kubectl)
        config = Config(
            address=str(cluster.endpoint.vip.ip),
            port=cluster.endpoint.port,
            server_hostname="kubernetes",
            ca_file=f"{FOLDER}/ca.crt",
            path=cached_read(self.namespace) if has_account else OPEN_TO_ALL,
            rate=rate,
            duration_s=duration_s,
            write_rate=write_rate,
            namespace=self.namespace,
            token_file=TOKEN_FILE if has_account else "",
            idle_connections=idle_connections,
            register_rate=register_rate,
            watches=watches,
            lease_rate=lease_rate,
            kubectl=self.kubectl,
            services=tuple(services),
            service_failed_at_most=service_failed_at_most,
        )
        command = f"exec python3 {FOLDER}/prober.pyz {shlex.quote(config.to_json())}"
        self._process = await self._remote.start(command)
        self._reader = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await self._started.wait()
        except TimeoutError:
            why = f"the prober did not start within {START_WITHIN_S:g} s"
            raise HaplaneError(why, where=self._remote.name) from None
        if self._reader.done():
            stderr = await self._process.stderr.read()
            raise CommandFailed(self._remote.name, "python3 prober.pyz", self._process.returncode, "", stderr)

    async def read_clock(self) -> None:
        """Relate its clock to this host's: some readings are added to `trips`. Raises HaplaneError."""
        if self._process is None:
            raise HaplaneError("the prober was not started", where=self._remote.name)
        for _ in range(READINGS):
            token = secrets.token_hex(4)
            answer: asyncio.Future[tuple[float, float]] = asyncio.get_running_loop().create_future()
            self._answers[token] = answer
            sent = time.monotonic()
            self._process.stdin.write(token + "\n")
            try:
                async with asyncio.timeout(5):
                    read, received = await answer
            except TimeoutError:
                raise HaplaneError(
                    f"the prober on {self._remote.name} does not answer",
                    where=self._remote.name,
                    why=self.last_line,
                    hint="is the client machine still reachable?",
                ) from None
            self.trips.append(RoundTrip(sent, read, received))

    async def stop(self) -> None:
        """Let it finish what is due, and read to the end."""
        if self._process is None or self._reader is None:
            return
        # Whatever is wrong with the connection now: what was seen is saved, and its end is missing then.
        with suppress(TimeoutError, OSError, asyncssh.Error):
            self._process.stdin.write_eof()
            async with asyncio.timeout(15):
                await self._reader
        self._process.close()

    async def _read(self) -> None:
        assert self._process is not None
        try:
            await self._read_lines(self._process)
        finally:
            self._started.set()

    async def _read_lines(self, process: asyncssh.SSHClientProcess[str]) -> None:
        async for line in process.stdout:
            received = time.monotonic()
            line = line.rstrip("\n")
            self._sink(line)
            self.last_line = line
            if not self._started.is_set():
                with suppress(HaplaneError):
                    self.header = parse([line]).header
            self._started.set()
            if '"reading"' in line:
                with suppress(ValueError, KeyError):
                    read = json.loads(line)
                    answer = self._answers.pop(str(read["token"]))
                    # Whoever asked may have been told to stop meanwhile.
                    if not answer.done():
                        answer.set_result((float(read["t"]), received))


def find_kubectl(cluster: Cluster, *, state: str = STATE) -> str:
    """Prints the path of the cluster's own version, else of another one that was sent, else of the one in PATH."""
    bundles, version = f"{state}/bundles", cluster.kubernetes.version
    return f"""for kubectl in {bundles}/{version}-*/bin/kubectl {bundles}/*/bin/kubectl "$(command -v kubectl)"; do
  if [ -x "$kubectl" ]; then echo "$kubectl"; exit; fi
done
"""
