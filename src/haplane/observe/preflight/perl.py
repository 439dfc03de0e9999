"""Programs for machines that have no Python: in the Perl that every Debian and Ubuntu has (perl-base, essential)."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files


class CouldNot(Exception):
    """A program could do nothing at all, because of this."""


def command(program: str, arguments: Iterable[Iterable[object]], *, package: str = __package__) -> str:
    """A shell command. package: where PROGRAM.pl is. arguments: each a record, whose fields are joined by tabs."""
    places = ((__package__, "clock"), (package, program))
    source = "".join(files(place).joinpath(f"{name}.pl").read_text() for place, name in places)
    given = " ".join(shlex.quote("\t".join(map(str, argument))) for argument in arguments)
    return (
        f"LC_ALL=C; export LC_ALL\n"
        f"command -v perl >/dev/null || {{ printf 'failed\\tall\\tperl-base is not installed\\n'; exit 0; }}\n"
        f"exec perl -e {shlex.quote(source)} -- {given}\n"
    )


def records(output: str) -> Iterator[list[str]]:
    """The fields of each line. Raises CouldNot when the program said so."""
    for line in output.splitlines():
        fields = line.split("\t")
        if fields[:2] == ["failed", "all"]:
            raise CouldNot("".join(fields[2:]))
        yield fields


def failures(lines: Iterable[list[str]]) -> Mapping[str, str]:
    """What could not be tried -> why; the first reason counts."""
    found: dict[str, str] = {}
    for fields in lines:
        if fields[0] == "failed" and len(fields) == 3:
            found.setdefault(fields[1], fields[2])
    return found
