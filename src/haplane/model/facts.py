"""What was measured on machines and networks, once, and is kept beside cluster.yaml: facts.yaml, written by preflight.

Designs see the world through this alone, so that the same two files always give the same design.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from haplane.model.errors import InvalidFile, Problem
from haplane.model.reading import Document, read_document
from haplane.model.values import InterfaceName, Label

HEADER = """\
# Measured by `haplane preflight` on the machines of cluster.yaml, whose design is made from both files. Keep them
# together. system: as /etc/os-release says. open_files: how many a service may have open. Milliseconds: fsync_p99_ms of
# small writes where etcd's data lies, stall_ms the longest pause of a process, late_heartbeat_ms the longest that a
# leader of etcd there sent no heartbeat within a day, round_trip_ms the mean to each other machine. router_ids: VRRP
# routers of others that were heard on the network.
"""


@dataclass(frozen=True)
class MachineFacts:
    """None: not measured.

    system: ID and VERSION_ID of os-release. interface: the one that has the machine's address. open_files: how many a
    service may have open. memory_bytes: of the machine. fsync_p99_ms: of small writes where etcd's data lies. stall_ms:
    the longest overshoot of a short sleep. late_heartbeat_ms: the longest time between two heartbeats of etcd's leader
    there that was shorter than its own election timeout, by its log of a day; 0 if none was late. round_trip_ms:
    machine name -> mean round trip to it.
    """

    interface: str | None = None
    fsync_p99_ms: float | None = None
    stall_ms: float | None = None
    round_trip_ms: Mapping[str, float] = field(default_factory=dict)
    open_files: int | None = None
    memory_bytes: int | None = None
    system: str | None = None
    late_heartbeat_ms: float | None = None

    def updated_by(self, newer: MachineFacts) -> MachineFacts:
        """What the newer one did not measure stays."""
        return MachineFacts(
            system=newer.system or self.system,
            interface=newer.interface or self.interface,
            open_files=newer.open_files or self.open_files,
            memory_bytes=newer.memory_bytes or self.memory_bytes,
            fsync_p99_ms=self.fsync_p99_ms if newer.fsync_p99_ms is None else newer.fsync_p99_ms,
            stall_ms=self.stall_ms if newer.stall_ms is None else newer.stall_ms,
            late_heartbeat_ms=self.late_heartbeat_ms if newer.late_heartbeat_ms is None else newer.late_heartbeat_ms,
            round_trip_ms={**self.round_trip_ms, **newer.round_trip_ms},
        )


@dataclass(frozen=True)
class MeasuredFacts:
    """router_ids: virtual router ids of strangers that were heard on the machines' network."""

    machines: Mapping[str, MachineFacts] = field(default_factory=dict)
    router_ids: frozenset[int] = frozenset()

    def updated_by(self, newer: MeasuredFacts) -> MeasuredFacts:
        """Both, the newer one first. A router that was silent this time may speak again: its id stays."""
        return MeasuredFacts(
            machines={
                name: self.machines.get(name, MachineFacts()).updated_by(newer.machines.get(name, MachineFacts()))
                for name in dict.fromkeys((*self.machines, *newer.machines))
            },
            router_ids=self.router_ids | newer.router_ids,
        )


NOTHING_MEASURED = MeasuredFacts()


def read_facts(text: str, *, file: str) -> MeasuredFacts:
    """What the text of a facts.yaml says. file: its name in errors. Raises InvalidFile with all that is wrong."""
    document = read_document(text, file=file)
    problems = list(document.problems)
    shape = None
    try:
        shape = _File.model_validate(document.root)
    except ValidationError as error:
        problems += filter(None, (_translated(details, document) for details in error.errors(include_url=False)))
    if problems or shape is None:
        raise InvalidFile(file, problems)
    return MeasuredFacts(
        machines={name: MachineFacts(**machine.model_dump()) for name, machine in shape.machines.items()},
        router_ids=frozenset(shape.router_ids),
    )


def facts_text(facts: MeasuredFacts) -> str:
    """As `read_facts` reads it; to a microsecond, names sorted, so that a difference is a difference."""
    machines = "".join(_machine_lines(facts.machines))
    ids = ", ".join(map(str, sorted(facts.router_ids)))
    return f"{HEADER}machines:{machines or ' {}'}\nrouter_ids: [{ids}]\n"


def _machine_lines(machines: Mapping[str, MachineFacts]) -> Iterator[str]:
    for name, machine in sorted(machines.items()):
        # In quotes: to some YAML readers a plain 0o1 or 1e3 is a number.
        values = {
            "system": json.dumps(machine.system) if machine.system else "",
            "interface": json.dumps(machine.interface) if machine.interface else "",
            "open_files": str(machine.open_files or ""),
            "memory_bytes": str(machine.memory_bytes or ""),
            "fsync_p99_ms": _number(machine.fsync_p99_ms),
            "stall_ms": _number(machine.stall_ms),
            "late_heartbeat_ms": _number(machine.late_heartbeat_ms),
            "round_trip_ms": ", ".join(f"{peer}: {_number(ms)}" for peer, ms in sorted(machine.round_trip_ms.items())),
        }
        values["round_trip_ms"] = f"{{{values['round_trip_ms']}}}" if machine.round_trip_ms else ""
        yield f"\n  {name}:" + ("" if any(values.values()) else " {}")
        yield from (f"\n    {key}: {value}" for key, value in values.items() if value)


def _number(milliseconds: float | None) -> str:
    return "" if milliseconds is None else repr(round(float(milliseconds), 3))


# ---- the shape ----

_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class _Machine(_Section):
    system: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+ [A-Za-z0-9._-]+$", max_length=60)] | None = None
    interface: InterfaceName | None = None
    open_files: Annotated[int, Field(ge=1)] | None = None
    memory_bytes: Annotated[int, Field(ge=1)] | None = None
    fsync_p99_ms: _Milliseconds | None = None
    stall_ms: _Milliseconds | None = None
    late_heartbeat_ms: _Milliseconds | None = None
    round_trip_ms: dict[Label, _Milliseconds] = Field(default_factory=dict)


class _File(_Section):
    machines: dict[Label, _Machine] = Field(default_factory=dict)
    router_ids: list[Annotated[int, Field(ge=1, le=255)]] = Field(default_factory=list)


_EXPECTED = {
    "string_type": "text",
    "string_pattern_mismatch": "a name and a version, such as debian 13",
    "string_too_long": "a name and a version, such as debian 13",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
}
_FIX = "run `haplane preflight` again, which writes this file"


def _translated(details: ErrorDetails, document: Document) -> Problem | None:
    path, kind, context = details["loc"], details["type"], details.get("ctx", {})
    about_key = path[-1] == "[key]" and path not in document.places
    path = document.known(path[:-1] if about_key else path)
    if any(path[:length] in document.refused for length in range(1, len(path) + 1)):
        return None
    if kind == "extra_forbidden":
        known = _Machine.model_fields if len(path) == 3 else _File.model_fields
        return document.at_key(path, "is not known here", expected=", ".join(known), fix=_FIX)
    value = str(path[-1]) if about_key else document.places[path].text
    if kind == "wrong":
        return document.at_value(path, f"{value} {context['what']}", expected=context["expected"], fix=_FIX)
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']:g}" if "ge" in context else f"at most {context['le']:g}"
        return document.at_value(path, f"{value} is out of range", expected=bound, fix=_FIX)
    expected = _EXPECTED.get(kind, "something else")
    return document.at_value(path, f"{value} is not {expected}", expected=expected, fix=_FIX)
