"""kubectl, as people use it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from pathlib import Path

from .clock import Emit, us
from .config import Config

STARTED, LINE, ENDED = "started", "line", "ended"

# kubectl ends with 0 and says nothing when its watch ends, whatever ended it; with another code it did not come to
# watch. A shell runs it again, so that this process never stands still to start another.
WATCH_FOR_EVER = """
while :; do
  printf '%s started\\n' "$0"
  "$@" 2> "$HOME/said"
  code=$?
  printf '%s ended %s %s\\n' "$0" "$code" "$(tail -n 1 "$HOME/said")"
  [ "$code" -eq 0 ] || sleep 0.1
done
"""
OWN = "haplane-witness"  # begins what the shell says; kubectl's lines begin with the kind of object
TEXT_LIMIT = 200


class Witness:
    """Runs kubectl until the schedule ends, and writes down each line when it comes."""

    def __init__(self, config: Config, emit: Emit) -> None:
        self._config = config
        self._emit = emit
        self._loop = asyncio.get_running_loop()

    async def watch(self, stopped: asyncio.Event) -> None:
        try:
            beside = Path(self._config.token_file).parent
            with tempfile.TemporaryDirectory(prefix="kubectl-", dir=beside, ignore_cleanup_errors=True) as home:
                await self._watch(home, stopped)
        except OSError as error:  # its own trouble is no reason to stop the other probes
            self._write(self._loop.time(), f"{OWN} {ENDED} 126 {error}")

    async def _watch(self, home: str, stopped: asyncio.Event) -> None:
        file = Path(home) / "config"
        file.write_text(kubeconfig(self._config))
        command = [self._config.kubectl, "--kubeconfig", str(file), "get", "configmaps", "--watch-only"]
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", WATCH_FOR_EVER, OWN, *command, "--output", "name"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Nothing of the user's: no proxy, no other configuration; what it caches is taken away with the rest.
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": home},
            start_new_session=True,
        )
        assert process.stdout is not None
        reading = asyncio.create_task(self._read(process.stdout))
        try:
            await stopped.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the shell and what it runs
            await reading
            await process.wait()

    async def _read(self, output: asyncio.StreamReader) -> None:
        rest = b""
        while data := await output.read(65536):
            now = self._loop.time()
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[:65536]
            for line in lines:
                self._write(now, line.decode(errors="replace"))

    def _write(self, now: float, line: str) -> None:
        event: dict[str, object] = {"t": us(now), "probe": "kubectl"}
        own, what, *rest = [*line.split(" ", 3), ""]
        if own != OWN:
            event |= {"what": LINE, "text": line[:TEXT_LIMIT]}
        elif what == ENDED:
            event |= {"what": ENDED, "text": rest[1][:TEXT_LIMIT], "code": int(rest[0])}
        else:
            event |= {"what": STARTED, "text": ""}
        self._emit(event)


def kubeconfig(config: Config) -> str:
    """For the same account, by the file of its token; JSON is YAML."""
    host = f"[{config.address}]" if ":" in config.address else config.address
    cluster = {"server": f"https://{host}:{config.port}", "tls-server-name": config.server_hostname}
    cluster["certificate-authority"] = str(Path(config.ca_file).absolute())
    user = {"tokenFile": str(Path(config.token_file).absolute())}
    name = "haplane"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": config.namespace}}],
            "current-context": name,
        }
    )
