"""The go command: which version builds, modules downloaded, packages compiled; and what its failures mean."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from haplane.bundle.problems import BadContent, SourceUnavailable
from haplane.bundle.run import run
from haplane.model.errors import CommandFailed
from haplane.model.progress import Progress

_SHOW_EVERY_SECONDS = 0.2
_INSTALL_HINT = "install Go: apt install golang-go (Debian, Ubuntu), brew install go (macOS), or see https://go.dev/dl"
_PROXY_HINT = (
    "set GOPROXY to a Go module proxy that this host reaches (go env -w GOPROXY=https://...), "
    "or configure another bundle source: official, or a directory"
)
# What decides the bytes of the binaries is said here, so that the user's settings cannot change them.
_FIXED = {
    "GO111MODULE": "on",
    "CGO_ENABLED": "0",
    "GOOS": "linux",
    "GOFLAGS": "-mod=mod -buildvcs=false",
    "GOWORK": "off",
    "GOEXPERIMENT": "",
    "GOFIPS140": "off",
    "GOAMD64": "v1",
    "GOARM64": "v8.0",
}


@dataclass(frozen=True)
class Module:
    """A downloaded module: its go.mod file and its folder."""

    go_mod: Path
    folder: Path

    @property
    def go_needed(self) -> str:
        """The Go version that go.mod asks for, e.g. 1.25.0."""
        found = re.search(r"(?m)^go (\S+)", self.go_mod.read_text())
        return found.group(1) if found else "1.21"


@dataclass(frozen=True)
class Go:
    """command: the go program; version: what builds, e.g. go1.26.8; environment: all that go gets."""

    command: Path
    version: str
    architecture: str
    environment: Mapping[str, str]

    @staticmethod
    def find(architecture: str) -> Go:
        """Raises SourceUnavailable, with the command that installs Go, when it is missing."""
        found = shutil.which("go")
        if not found:
            raise SourceUnavailable("Go is not installed on this host", hint=_INSTALL_HINT)
        return Go(Path(found), "", architecture, {**os.environ, **_FIXED, "GOARCH": architecture})

    async def knows(self, path: str, version: str) -> None:
        """Asks the module proxy (or the local cache) for the version. Raises SourceUnavailable, BadContent."""
        try:
            await self._run("list", "-m", f"{path}@v{version}")
        except CommandFailed as error:
            raise _not_given(error) from error

    async def download(self, path: str, version: str) -> Module:
        """Into Go's module cache, checked against the checksum database. Raises SourceUnavailable, BadContent."""
        try:
            said = await self._run("mod", "download", "-json", f"{path}@v{version}")
        except CommandFailed as error:
            # With -json the reason is in the JSON.
            reason = str(json.loads(error.stdout or "{}").get("Error") or error.stderr)
            raise _not_given(CommandFailed(error.machine, error.command, error.code, stderr=reason)) from error
        told = json.loads(said)
        return Module(Path(told["GoMod"]), Path(told["Dir"]))

    async def able_to_build(self, needed: str, folder: Path) -> Go:
        """This Go if it is new enough (needed, e.g. 1.25.0); otherwise the newer one that it fetches by itself."""
        local = {**self.environment, "GOTOOLCHAIN": "local"}
        version = (await run([self.command, "env", "GOVERSION"], folder=folder, environment=local)).strip()
        if _numbers(version) >= _numbers(needed):
            return replace(self, version=version, environment=local)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".go-") as temporary:
            (Path(temporary) / "go.mod").write_text(f"module haplane.invalid/go\n\ngo {needed}\n")
            try:
                version = await run(
                    [self.command, "env", "GOVERSION"], folder=Path(temporary), environment=self.environment
                )
            except CommandFailed as error:
                raise SourceUnavailable(
                    f"Go is too old on this host: {version}, and {needed} is needed",
                    where=error.where,
                    why=error.why,
                    hint=_INSTALL_HINT,
                ) from error
        return replace(self, version=version.strip())

    async def build(
        self, folder: Path, packages: Mapping[Path, str], stamp: Mapping[str, str], subject: str, progress: Progress
    ) -> None:
        """Static, stripped, reproducible programs. packages: output file to package; stamp: variable to value.

        Raises CommandFailed or BadContent.
        """
        link = " ".join(["-s", "-w", *(f"-X {key}={value}" for key, value in stamp.items())])
        linked = folder / "linked"
        linked.mkdir(exist_ok=True)
        command: list[str | Path] = [self.command, "build", "-v", "-trimpath", "-ldflags", link, "-o", f"{linked}/"]
        command += packages.values()
        watch = _Compiling(subject, progress)
        progress.now(subject, f"compiling with {self.version}")
        try:
            await run(command, folder=folder, environment=self.environment, watch=watch)
        except CommandFailed as error:
            _stop_if_altered(error)
            raise
        for output, package in packages.items():
            output.parent.mkdir(parents=True, exist_ok=True)
            (linked / _program_name(package)).rename(output)

    async def _run(self, *arguments: str) -> str:
        return await run([self.command, *arguments], folder=Path("/"), environment=self.environment)


class _Compiling:
    """Turns what `go build -v` prints into progress: one line per package compiled or module downloaded."""

    def __init__(self, subject: str, progress: Progress) -> None:
        self.subject = subject
        self.progress = progress
        self.packages = 0
        self.shown = 0.0

    def __call__(self, line: str) -> None:
        if line.startswith("go: downloading "):
            text = line.removeprefix("go: ")
        elif line and not line.startswith(("go: ", "#")) and " " not in line:
            self.packages += 1
            text = f"{self.packages} packages compiled, now {line}"
        else:
            return
        if monotonic() - self.shown >= _SHOW_EVERY_SECONDS:
            self.shown = monotonic()
            self.progress.now(self.subject, text)


def _not_given(error: CommandFailed) -> SourceUnavailable:
    _stop_if_altered(error)
    return SourceUnavailable(
        "the Go module proxy does not give what is needed", where=error.where, why=error.why, hint=_PROXY_HINT
    )


def _stop_if_altered(error: CommandFailed) -> None:
    """Go says SECURITY ERROR when a module is not what the checksum database knows."""
    if "SECURITY ERROR" in error.stderr or "SECURITY ERROR" in error.stdout:
        raise BadContent(
            "a Go module is not what the checksum database says it is",
            where=error.where,
            why=error.why,
            hint="find out who altered it (the proxy, or this host's module cache: go clean -modcache) before going on",
        ) from error


def _program_name(package: str) -> str:
    """As `go build` names it: the last element that is not a major version."""
    return [part for part in package.split("/") if not re.fullmatch(r"v\d+", part)][-1]


def _numbers(version: str) -> tuple[int, ...]:
    """go1.26.8 and 1.25.0 as numbers to compare; a release candidate counts as its release."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("rc")[0].split("-")[0]))
