"""Log in to machines over SSH and run commands there.

Host keys are always checked. A jump host is logged in to once and shared by the machines behind it.
"""

from __future__ import annotations

import asyncio
import ctypes.util
import getpass
import shlex
from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from haplane.model.cluster import Machine, Ssh
from haplane.model.errors import CommandFailed, HaplaneError

# It looks for two optional libraries by starting ldconfig and a compiler, a tenth of a second of every command. The
# algorithms in them are not needed.
_find_library = ctypes.util.find_library
ctypes.util.find_library = lambda name: None
import asyncssh  # noqa: E402

ctypes.util.find_library = _find_library

CONNECT_TIMEOUT_S = 8
# A machine that loses power sends nothing: without keepalives a command on it would wait for ever.
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 3
# AES-GCM first: machines that took part in measurements have AES instructions, and asyncssh's default is ChaCha20.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr")


class Unreachable(HaplaneError):
    """A machine could not be logged in to."""

    def __init__(self, machine: str, what: str, *, where: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, where=where, why=why, hint=hint)
        self.machine = machine


@dataclass(frozen=True)
class Completed:
    stdout: str
    stderr: str
    code: int


class Remote:
    """One logged-in machine. Commands run as root: directly, or through sudo."""

    def __init__(self, name: str, connection: asyncssh.SSHClientConnection, *, sudo: bool) -> None:
        self.name = name
        self._connection = connection
        self._sudo = sudo

    async def run(
        self,
        script: str,
        *,
        shown_as: str = "",
        stdin: bytes | AsyncIterable[bytes] | None = None,
        check: bool = True,
        timeout_s: float = 120,
        hint: str = "",
    ) -> Completed:
        """Run a shell script as root and wait for it.

        shown_as: how errors name the command (default: its first line). Raises CommandFailed when check is set
        and the exit code is not 0, Unreachable when the connection is lost, HaplaneError after timeout_s seconds.
        """
        shown = shown_as or script.strip().splitlines()[0][:160]
        try:
            async with asyncio.timeout(timeout_s):
                process = await self._connection.create_process(self._as_root(script), encoding=None)
                async with process:
                    if stdin is not None:
                        await _feed(process, stdin)
                    process.stdin.write_eof()
                    done = await process.wait()
        except TimeoutError:
            raise HaplaneError(
                f"a command did not end within {timeout_s:.0f} s on {self.name}",
                where=f"{self.name}: {shown}",
                hint="look at what it is doing there; running the same haplane command again continues",
            ) from None
        except (OSError, asyncssh.Error) as error:
            raise Unreachable(
                self.name,
                f"the connection to {self.name} was lost",
                where=f"{self.name}: {shown}",
                why=str(error) or type(error).__name__,
                hint="run the same command again when the machine answers; what was begun is completed then",
            ) from error
        stdout, stderr = _text(done.stdout), _text(done.stderr)
        code = done.returncode
        if code is None:
            # Neither an exit code nor a signal arrives when the connection breaks under a running command.
            raise Unreachable(
                self.name,
                f"the connection to {self.name} was lost",
                where=f"{self.name}: {shown}",
                hint="run the same command again when the machine answers; what was begun is completed then",
            )
        if check and code != 0:
            raise CommandFailed(self.name, shown, code, stdout, stderr, hint=hint or _hint_for(stderr))
        return Completed(stdout, stderr, code)

    async def start(self, script: str) -> asyncssh.SSHClientProcess[str]:
        """Start a script as root whose output is read while it runs."""
        return await self._connection.create_process(self._as_root(script), encoding="utf-8", errors="replace")

    def _as_root(self, script: str) -> str:
        prefix = "sudo -n -- " if self._sudo else ""
        return f"{prefix}/bin/sh -c {shlex.quote(script)}"


async def _feed(process: asyncssh.SSHClientProcess[bytes], data: bytes | AsyncIterable[bytes]) -> None:
    try:
        if isinstance(data, bytes):
            process.stdin.write(data)
            await process.stdin.drain()
            return
        async for chunk in data:
            process.stdin.write(chunk)
            await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        # The command ended before it had read all; its exit code and stderr say why.
        return


def _text(output: Any) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else str(output or "")


def _hint_for(stderr: str) -> str:
    if "No space left on device" in stderr:
        return "the disk is full: free space there (df -h), then run the same command again"
    if "a password is required" in stderr or "is not in the sudoers file" in stderr:
        return "let this user use sudo without a password: USER ALL=(ALL) NOPASSWD: ALL in /etc/sudoers.d/haplane"
    if "sudo: not found" in stderr or "sudo: command not found" in stderr:
        return "install sudo there, or log in as root (ssh: {user: root})"
    return ""


class Fleet:
    """Connections to some machines: `async with Fleet(machines) as fleet`, then `fleet.connect(...)`.

    A jump host named in `known` (a machine of the same file) is logged in to with its own settings; any other is
    reached with the settings of the machine behind it.
    """

    def __init__(self, known: Mapping[str, Machine]) -> None:
        self._known = known
        self._stack = AsyncExitStack()
        self._jumps: dict[str, asyncio.Task[asyncssh.SSHClientConnection]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        for task in self._jumps.values():
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().abort()
            task.cancel()

    async def connect_all(self, machines: Iterable[Machine]) -> dict[str, Remote | Unreachable]:
        """Log in to all machines at once; a machine that cannot be reached is its error."""
        machines = tuple(machines)
        found = await asyncio.gather(*(self._try(machine) for machine in machines))
        return {machine.name: one for machine, one in zip(machines, found, strict=True)}

    async def _try(self, machine: Machine) -> Remote | Unreachable:
        try:
            return await self.connect(machine)
        except Unreachable as error:
            return error

    async def connect(self, machine: Machine) -> Remote:
        """Log in to one machine. Raises Unreachable."""
        connection = await self._open(machine.name, str(machine.address), machine.ssh)
        self._stack.callback(connection.abort)
        return Remote(machine.name, connection, sudo=machine.ssh.sudo)

    async def _open(self, name: str, host: str, ssh: Ssh) -> asyncssh.SSHClientConnection:
        tunnel = await self._jump(ssh) if ssh.jump else None
        where = f"{name}: ssh {ssh.user}@{host} port {ssh.port}" + (f" through {ssh.jump}" if ssh.jump else "")
        return await _login(name, host, ssh, tunnel, where)

    async def _jump(self, ssh: Ssh) -> asyncssh.SSHClientConnection:
        assert ssh.jump is not None
        if ssh.jump not in self._jumps:
            self._jumps[ssh.jump] = asyncio.ensure_future(self._open_jump(ssh.jump, ssh))
        return await asyncio.shield(self._jumps[ssh.jump])

    async def _open_jump(self, jump: str, ssh: Ssh) -> asyncssh.SSHClientConnection:
        if jump in self._known:
            # It may be behind another one; the reader refuses circles.
            machine = self._known[jump]
            return await self._open(jump, str(machine.address), machine.ssh)
        user, _, rest = jump.rpartition("@")
        bracketed, _, port = rest[1:].partition("]") if rest.startswith("[") else rest.partition(":")
        host, port = bracketed, port.removeprefix(":")
        settings = replace(ssh, jump=None, user=user or ssh.user, port=int(port or 22))
        return await self._open(jump, host, settings)


def local_user() -> str:
    return getpass.getuser()


async def _login(
    name: str, host: str, ssh: Ssh, tunnel: asyncssh.SSHClientConnection | None, where: str
) -> asyncssh.SSHClientConnection:
    options: dict[str, Any] = {
        "username": ssh.user,
        "port": ssh.port,
        "encryption_algs": CIPHERS,
        "keepalive_interval": KEEPALIVE_INTERVAL_S,
        "keepalive_count_max": KEEPALIVE_COUNT,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "login_timeout": CONNECT_TIMEOUT_S,
        "password_auth": False,
        "kbdint_auth": False,
        "gss_auth": False,
        "x509_trusted_certs": None,
    }
    if ssh.key:
        key = ssh.key.expanduser()
        if not key.exists():
            raise Unreachable(
                name, f"the SSH key for {name} is missing", where=str(key), hint="ssh.key in the cluster file names it"
            )
        # A key that the file names is the one to use: neither the agent nor ~/.ssh is asked for others.
        options |= {"client_keys": [str(key)], "agent_path": None, "config": []}
    known_hosts = ssh.known_hosts.expanduser() if ssh.known_hosts else Path("~/.ssh/known_hosts").expanduser()
    keyscan = f"ssh-keyscan -p {ssh.port} {host} >> {known_hosts}   (then compare the fingerprint with the machine's)"
    if not known_hosts.exists():
        raise Unreachable(
            name,
            f"no host key of {name} is known: there is no {known_hosts}",
            where=where,
            hint=f"log in once with ssh and check the fingerprint, or: {keyscan}",
        )
    options["known_hosts"] = str(known_hosts)
    try:
        return await asyncssh.connect(host, tunnel=tunnel, **options)
    except asyncssh.HostKeyNotVerifiable as error:
        raise Unreachable(
            name,
            f"the host key of {name} is not the one that is known",
            where=where,
            why=f"{error}; {known_hosts} has no matching key for {host}",
            hint="if the machine was reinstalled, remove the old key "
            f"(ssh-keygen -f {known_hosts} -R {_known_hosts_name(host, ssh.port)}) "
            f"and add the new one: {keyscan}. If it was not, somebody may be in between",
        ) from None
    except asyncssh.PermissionDenied as error:
        raise Unreachable(
            name,
            f"{name} refuses the login as {ssh.user}",
            where=where,
            why=str(error),
            hint=f"try it by hand: ssh -p {ssh.port} {ssh.user}@{host}; the key may be missing in its authorized_keys "
            "(ssh-copy-id), or ssh.user / ssh.key in the cluster file may be wrong",
        ) from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, asyncssh.ConfigParseError) as error:
        raise Unreachable(
            name,
            f"the SSH key or configuration for {name} cannot be used",
            where=where,
            why=str(error),
            hint="a key with a passphrase belongs into ssh-agent (ssh-add); ssh.key in the cluster file names the key",
        ) from None
    except (TimeoutError, asyncssh.ConnectionLost, OSError, asyncssh.Error) as error:
        timed_out = isinstance(error, TimeoutError)
        why = f"no answer within {CONNECT_TIMEOUT_S} s" if timed_out else str(error) or type(error).__name__
        raise Unreachable(
            name,
            f"{name} does not answer",
            where=where,
            why=why,
            hint="is it switched on, is the address right, does sshd run there, does a firewall let port "
            f"{ssh.port} through?",
        ) from None


def _known_hosts_name(host: str, port: int) -> str:
    return host if port == 22 else f"'[{host}]:{port}'"
