"""Errors for people: what happened, where, why (the evidence), and how to go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell sees; the same for every command."""

    DONE = 0
    FINDING = 1
    USAGE = 2
    FAILED = 3
    UNKNOWN = 4
    INTERRUPTED = 130


class HaplaneError(Exception):
    """A failure a user can cause.

    what: one line. where: file:line or machine and command. why: the evidence (exit code, last lines of
    output). hint: how to go on, with the command if there is one.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, what: str, *, where: str = "", why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.what]
        for label, text in (("where", self.where), ("why", self.why), ("hint", self.hint)):
            if text:
                parts.append(f"{label}: " + text.replace("\n", "\n" + " " * (len(label) + 2)))
        return "\n".join(parts)


class UsageError(HaplaneError):
    """Wrong usage, or something missing on this host that must be there before anything starts."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in a file. line and column count from 1; key is the dotted path, e.g. machines.cp1.address."""

    file: str
    line: int
    column: int
    key: str
    what: str
    expected: str = ""
    fix: str = ""

    def __str__(self) -> str:
        text = (
            f"{self.file}:{self.line}:{self.column}: {self.key}: {self.what}"
            if self.key
            else (f"{self.file}:{self.line}:{self.column}: {self.what}")
        )
        if self.expected:
            text += f"\n    expected: {self.expected}"
        if self.fix:
            text += f"\n    fix: {self.fix}"
        return text


class InvalidFile(HaplaneError):
    """All that is wrong with a file, at once."""

    exit_code = ExitCode.USAGE

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems))
        count = len(self.problems)
        super().__init__(f"{file} has {count} error{'' if count == 1 else 's'}")

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems) + f"\n{self.what}"


class CommandFailed(HaplaneError):
    """A command on a machine (or on this host) ended with another exit code than 0."""

    def __init__(
        self, machine: str, command: str, code: int | None, stdout: str = "", stderr: str = "", *, hint: str = ""
    ) -> None:
        self.machine = machine
        self.command = command
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
        last = "\n".join((stderr.strip() or stdout.strip()).splitlines()[-12:])
        ended = "was killed" if code is None else f"exit code {code}"
        super().__init__(
            f"a command failed on {machine}",
            where=f"{machine}: {command}",
            why=f"{ended}\n{last}" if last else ended,
            hint=hint,
        )
