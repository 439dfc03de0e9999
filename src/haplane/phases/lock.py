"""One writer at a time: a lock on every machine, with an owner and an expiry that is renewed.

It lives in /run, so a reboot frees it. Every remote action checks its token first.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shlex
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from haplane.components.base import RUN
from haplane.model.errors import CommandFailed, HaplaneError
from haplane.transport.ssh import Remote, Unreachable

EXPIRES_AFTER_S = 45
RENEW_EVERY_S = 10
LOST = 97
HELD = 96


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. boot and started tell a process id that was used again from the one that took the lock."""

    token: str
    who: str
    host: str
    boot: str
    pid: int
    started: str
    command: str
    since: str

    @classmethod
    def this_process(cls, command: str) -> Owner:
        return cls(
            token=secrets.token_hex(8),
            who=f"{os.environ.get('USER', 'root')}@{socket.gethostname()}",
            host=socket.gethostname(),
            boot=_boot_id(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            command=command,
            since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        )

    def is_gone(self) -> bool:
        """True only when this host can tell for certain that the owner's process has ended."""
        return self.boot == _boot_id() and self.host == socket.gethostname() and _started(self.pid) != self.started


def guard(token: str) -> str:
    """The line that every remote action begins with."""
    return (
        f'read -r haplane_token haplane_rest < {RUN}/lock && [ "$haplane_token" = {token} ] || '
        f"{{ echo 'haplane: the lock on this machine was lost' >&2; exit {LOST}; }}\n"
    )


def _acquire(owner: Owner, steal: str) -> str:
    # /proc/uptime: the machine's own clock may jump. A guard file serialises two who look at the same moment.
    return f"""
mkdir -p {RUN} && exec 9> {RUN}/.lock-guard && flock 9 || exit 1
read -r now rest < /proc/uptime; now=${{now%.*}}
if [ -s {RUN}/lock ]; then
  read -r token expires owner < {RUN}/lock
  if [ "$token" != {owner.token} ] && [ "$token" != "{steal}" ] && [ "$expires" -gt "$now" ]; then
    printf '%s\\n' "$owner"; exit {HELD}
  fi
fi
printf '%s %s %s\\n' {owner.token} $((now + {EXPIRES_AFTER_S})) {shlex.quote(json.dumps(asdict(owner)))} \
> {RUN}/.lock-new && mv {RUN}/.lock-new {RUN}/lock
"""


def _release(token: str) -> str:
    return f'read -r t rest < {RUN}/lock && [ "$t" = {token} ] && rm -f {RUN}/lock; true'


class LockLost(HaplaneError):
    """The lock on a machine is no longer this process's: it must not touch it."""


class LockHeld(HaplaneError):
    """Somebody else is changing these machines."""


@asynccontextmanager
async def locked(remotes: Mapping[str, Remote], *, command: str) -> AsyncIterator[str]:
    """Hold the lock on all these machines; yields its token.

    Machines are locked in sorted order, so that two who start at once do not each get half. Raises LockHeld.
    A lock that could not be renewed until it expired cancels what runs under it.
    """
    owner = Owner.this_process(command)
    taken: list[Remote] = []
    task = asyncio.current_task()
    try:
        for name in sorted(remotes):
            await _take(remotes[name], owner)
            taken.append(remotes[name])
        renewal = asyncio.create_task(_renew(taken, owner, task))
        try:
            yield owner.token
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
    finally:
        # What is not released expires by itself.
        await asyncio.gather(
            *(remote.run(_release(owner.token), check=False, timeout_s=5) for remote in taken), return_exceptions=True
        )


async def _take(remote: Remote, owner: Owner) -> None:
    steal = ""
    for _ in range(2):
        done = await remote.run(_acquire(owner, steal), shown_as="take the lock", check=False, timeout_s=20)
        if done.code == 0:
            return
        if done.code != HELD:
            raise CommandFailed(remote.name, "take the lock", done.code, done.stdout, done.stderr)
        holder = Owner(**json.loads(done.stdout))
        if steal or not holder.is_gone():
            raise LockHeld(
                f"{remote.name} is being changed by somebody else",
                where=f"{remote.name}: {RUN}/lock",
                why=f"{holder.command}, by {holder.who} (process {holder.pid}), since {holder.since}",
                hint=f"wait for it to end; a lock that is not renewed expires after {EXPIRES_AFTER_S} s",
            )
        steal = holder.token


async def _renew(remotes: list[Remote], owner: Owner, task: asyncio.Task[object] | None) -> None:
    async def is_lost(remote: Remote) -> bool:
        try:
            done = await remote.run(_acquire(owner, ""), check=False, timeout_s=RENEW_EVERY_S)
        except (Unreachable, HaplaneError):
            # A machine that cannot be reached cannot be changed by this process either.
            return False
        return done.code == HELD

    while True:
        await asyncio.sleep(RENEW_EVERY_S)
        # At once: those that are silent would let the locks of all behind them expire.
        if any(await asyncio.gather(*map(is_lost, remotes))) and task is not None:
            task.cancel("the lock was taken over")
            return


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _started(pid: int) -> str:
    """The process's start time in clock ticks since boot (proc(5), field 22), empty when it does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
