"""Read a keepalived.conf, whoever wrote it. Source: keepalived.conf(5). Pure; files that it includes are not read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface

from haplane.components import keepalived
from haplane.components.settings import milliseconds
from haplane.model.cluster import Address, Endpoint

_TOKEN = re.compile(r'"([^"]*)"|([{}])|([^\s{}"]+)')


@dataclass(frozen=True)
class Statement:
    """A line, and the lines in the braces behind it."""

    words: tuple[str, ...]
    inside: tuple[Statement, ...] = ()

    def all(self, keyword: str) -> list[Statement]:
        return [one for one in self.inside if one.words[:1] == (keyword,)]

    def argument(self, keyword: str) -> str | None:
        """The first word behind it; None if the line is not there."""
        return next((one.words[1] if len(one.words) > 1 else "" for one in self.all(keyword)), None)

    def everywhere(self) -> Iterator[Statement]:
        for one in self.inside:
            yield one
            yield from one.everywhere()


def parse(text: str) -> Statement:
    """The whole file as the inside of one statement. A brace too many or too few is forgiven."""
    stack: list[tuple[tuple[str, ...], list[Statement]]] = [((), [])]

    def close() -> None:
        if len(stack) > 1:
            words, inside = stack.pop()
            stack[-1][1].append(Statement(words, tuple(inside)))

    for line in text.splitlines():
        words: list[str] = []
        for quoted, brace, bare in _TOKEN.findall(line):
            if bare.startswith(("#", "!")):
                break
            if brace != "":
                if brace == "{":
                    # The brace can be on a line of its own.
                    opened = words or (list(stack[-1][1].pop().words) if stack[-1][1] else [])
                    stack.append((tuple(opened), []))
                elif words:
                    stack[-1][1].append(Statement(tuple(words)))
                if brace == "}":
                    close()
                words = []
            else:
                words.append(bare or quoted)
        if words:
            stack[-1][1].append(Statement(tuple(words)))
    while len(stack) > 1:
        close()
    return Statement((), tuple(stack[0][1]))


@dataclass(frozen=True)
class Script:
    """A program that keepalived runs. user: its own, else the file's; empty if neither says so."""

    path: str
    user: str


def scripts(file: Statement) -> tuple[Script, ...]:
    """In the file's order; what is no path is left out."""
    default = next((one.argument("script_user") or "" for one in file.all("global_defs")), "")
    found = []
    for block in (file, *file.everywhere()):
        for line in block.inside:
            keyword, command, *user = (*line.words, "", "")[: max(3, len(line.words))]
            if keyword != "script" and not re.fullmatch(r"notify(?!_fifo$)(_\w+)?", keyword):
                continue
            path = (command.split() or [""])[0]
            if path.startswith("/"):
                own = block.argument("user") if keyword == "script" else user[0]
                found.append(Script(path, own or default))
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Dialect:
    """What machines must have in common to hear each other. What is secret is a digest."""

    version: str
    router_id: str
    advert_ms: float
    authentication: str
    addresses: tuple[str, ...]
    cast: str

    @property
    def shown(self) -> Mapping[str, str]:
        """Name -> value, without secrets."""
        return {
            "vrrp_version": self.version,
            "virtual_router_id": self.router_id,
            "advert_int": f"{self.advert_ms / 1000:g}",
            "authentication": self.authentication,
            "virtual_ipaddress": " ".join(self.addresses) or "none",
            "cast": self.cast,
        }


SECRET = frozenset({"authentication"})


def dialects(file: Statement, endpoint: Endpoint) -> Mapping[int, Dialect]:
    """IP version -> how the instance of the endpoint's VIP speaks. Missing: the file has no such instance."""
    found: dict[int, Dialect] = {}
    vips = {vip.ip for vip in endpoint.vips}
    for block in file.all("vrrp_instance"):
        addresses = tuple(_addresses(block))
        name = block.words[1] if len(block.words) > 1 else ""
        is_ours = name.partition("-")[0] == keepalived.INSTANCE or bool(vips & {*addresses})
        if is_ours and addresses:
            version = addresses[0].version
            found.setdefault(version, _dialect(file, block, addresses))
    return found


def _addresses(block: Statement) -> Iterator[Address]:
    for listed in block.all("virtual_ipaddress"):
        for one in listed.inside:
            try:
                yield ip_interface(one.words[0]).ip
            except ValueError:
                continue


def _dialect(file: Statement, block: Statement, addresses: tuple[Address, ...]) -> Dialect:
    general = next((one.argument("vrrp_version") for one in file.all("global_defs")), None)
    # IPv6 has version 3 alone.
    version = block.argument("version") or general or "2"
    secrets = [one.words for one in block.everywhere() if one.words[0] in ("auth_type", "auth_pass")]
    digest = hashlib.sha256(repr(sorted(secrets)).encode()).hexdigest() if secrets else "none"
    advert_ms = milliseconds(block.argument("advert_int") or "", unit_ms=1000)
    return Dialect(
        version=version if addresses[0].version == 4 else "3",
        router_id=block.argument("virtual_router_id") or "",
        advert_ms=1000 if advert_ms is None else advert_ms,
        authentication=digest,
        addresses=tuple(sorted(map(str, addresses))),
        cast="unicast" if block.all("unicast_peer") else "multicast",
    )
