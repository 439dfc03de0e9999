"""Does a ruleset drop packets of connections that the kernel does not know? Pure.

Of nftables as `nft -s list ruleset` shows it, and of iptables as iptables-save does (translated into the former).
Source: nft(8), iptables-extensions(8). What is not understood restricts a rule: it then counts neither as one that
drops nor, before it, as one that accepts for certain.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from ipaddress import ip_address, ip_network

from haplane.model.cluster import Address

_HOOKS = ("input", "prerouting")


@dataclass(frozen=True)
class Packet:
    """One from a client: it comes in here, for the VIP and the endpoint's port."""

    interface: str
    address: Address
    port: int


@dataclass
class Chain:
    """name: as shown in evidence. hook: empty for one that others jump to."""

    name: str
    hook: str = ""
    rules: list[str] = field(default_factory=list)


# (table, chain) -> chain.
Chains = Mapping[tuple[str, str], Chain]


def dropping_rule(rules: Mapping[str, str], packet: Packet) -> str:
    """The first rule that drops such a packet when it fits no connection, with its place; empty if there is none.

    rules: by tool (nft, iptables, ip6tables), as `Installed` has them.
    """
    for tool, text in rules.items():
        if tool == ("iptables" if packet.address.version == 6 else "ip6tables"):
            continue
        chains = _nft(text) if tool == "nft" else _iptables(text, "ip6" if tool == "ip6tables" else "ip")
        for (table, _), chain in chains.items():
            if chain.hook in _HOOKS and _family_fits(table, packet):
                found = _walk(chains, table, chain, packet, stale=False, above=())
                if isinstance(found, str):
                    return f"{tool}: {found}"
    return ""


def _family_fits(table: str, packet: Packet) -> bool:
    family = table.partition(" ")[0]
    return family in ("inet", "", "ip6" if packet.address.version == 6 else "ip")


# ---- one packet through the rules ----


def _walk(
    chains: Chains, table: str, chain: Chain, packet: Packet, *, stale: bool, above: tuple[str, ...]
) -> str | bool:
    """The rule that drops it; True if it was accepted before; False if it comes out at the end.

    stale: only packets that fit no connection come here.
    """
    if chain.name in above:
        return False
    for text in chain.rules:
        rule = _rule(text)
        if not rule.concerns(packet):
            continue
        is_stale = stale or rule.is_stale
        target = rule.stale_verdict or rule.verdict
        verdict, _, where = target.partition(" ")
        if verdict == "drop" and (rule.is_stale or (stale and rule.is_certain)):
            return f"{chain.name}: {text}"
        if verdict in ("jump", "goto") and (table, where) in chains and (rule.is_certain or rule.is_stale):
            inner = chains[table, where]
            found = _walk(chains, table, inner, packet, stale=is_stale, above=(*above, chain.name))
            if isinstance(found, str):
                return f"{chain.name}: {text}; {found}" if rule.is_stale else found
            # Decided there for certain; from a goto nobody comes back.
            if found or verdict == "goto":
                return found
        elif verdict in ("accept", "reject") and (rule.is_certain or rule.is_stale):
            # A reset is what the client waits for; other rejections tell it, too.
            return True
        elif verdict == "return" and rule.is_certain:
            return False
    return False


@dataclass(frozen=True)
class _Rule:
    """One rule, in the words of nftables.

    verdict: drop, accept, reject, return, `jump CHAIN`, `goto CHAIN`, or empty. is_stale: it is for packets that fit no
    connection. stale_verdict: of a map by state. is_certain: nothing but interface, address and port decides.
    """

    verdict: str
    is_stale: bool
    stale_verdict: str
    is_certain: bool
    restrictions: tuple[tuple[str, str, str], ...]

    def concerns(self, packet: Packet) -> bool:
        return all(_fits(what, negated == "", values, packet) for what, negated, values in self.restrictions)


_VALUES = r"(?:\{[^}]*\}|\"[^\"]*\"|[^\s{}]+)"
_VERDICT = re.compile(r"\b(?:(drop|accept|return|(?:jump|goto) \S+)|(reject)(?: with .*)?)\s*$")
_STATE = re.compile(r"\bct state +(!= *)?(\{[^}]*\}|[\w,]+)")
_STATE_MAP = re.compile(r"\bct state +vmap +\{([^}]*)\}")
_NOT_SYN = re.compile(r"\btcp flags(?: & \([^)]*\)| & \S+)? +(?:!=|!) *syn\b(?: / \S+)?")
_RESTRICTION = re.compile(
    rf"\b(iif|iifname|ip6? daddr|(?:tcp|th|udp|sctp) dport|meta l4proto|ip protocol|ip6 nexthdr) +(!= *)?({_VALUES})"
)
_NOISE = re.compile(r"\bcounter(?: packets \d+ bytes \d+)?|\blog(?: [a-z]+ (?:\"[^\"]*\"|\S+))*")


def _rule(text: str) -> _Rule:
    text = re.sub(r'\bcomment "[^"]*"', "", text).strip()
    found = _VERDICT.search(text)
    verdict = (found[1] or found[2]) if found else ""
    conditions = text[: found.start()] if found else text
    mapped = _STATE_MAP.search(conditions)
    by_state = dict(re.findall(r"(\w+) *: *((?:jump|goto) [^\s,]+|\w+)", mapped[1])) if mapped else {}
    if mapped:
        conditions = conditions.replace(mapped[0], "")
    is_stale = "invalid" in by_state
    if state := _STATE.search(conditions):
        names = set(re.findall(r"\w+", state[2]))
        not_syn = _NOT_SYN.search(conditions)
        if not state[1] and ("invalid" in names or ("new" in names and not_syn)):
            is_stale = True
            conditions = conditions.replace(state[0], "")
            conditions = conditions.replace(not_syn[0], "") if not_syn else conditions
    restrictions = tuple(match.groups(default="") for match in _RESTRICTION.finditer(conditions))
    rest = _NOISE.sub("", _RESTRICTION.sub("", conditions)).strip()
    return _Rule(
        verdict=verdict,
        is_stale=is_stale and not rest,
        stale_verdict=by_state.get("invalid", ""),
        # A map by state is no verdict for all.
        is_certain=not rest and not mapped,
        restrictions=tuple((what, negated, values) for what, negated, values in restrictions),
    )


def _fits(what: str, wanted: bool, values: str, packet: Packet) -> bool:
    """Whether one restriction lets the packet pass. What cannot be told (a named set) lets it."""
    each = [one.strip().strip('"') for one in values.strip("{} ").split(",")]
    if any(one.startswith("@") for one in each):
        return True
    if what.startswith("iif"):
        return any(fnmatch(packet.interface, one) for one in each) == wanted
    if what.endswith("daddr"):
        if what.startswith("ip6") != (packet.address.version == 6):
            return False
        return any(_contains(one, packet.address) for one in each) == wanted
    if what.endswith("dport"):
        return what.startswith(("tcp", "th")) and any(_has_port(one, packet.port) for one in each) == wanted
    return bool({"tcp", "6"} & set(each)) == wanted


def _contains(network: str, address: Address) -> bool:
    try:
        if "-" in network:
            first, _, last = network.partition("-")
            return int(ip_address(first)) <= int(address) <= int(ip_address(last))
        return address in ip_network(network, strict=False)
    except ValueError:
        return True


def _has_port(text: str, port: int) -> bool:
    first, _, last = text.partition("-")
    return not first.isdecimal() or int(first) <= port <= int(last if last.isdecimal() else first)


# ---- nftables ----


def _nft(text: str) -> Chains:
    chains: dict[tuple[str, str], Chain] = {}
    table, chain, other = "", None, 0
    for line in _whole_lines(text):
        if other:
            # A set, map or flowtable.
            other += line.count("{") - line.count("}")
        elif opened := re.fullmatch(r"table (\S+ \S+) \{(?: #.*)?", line):
            table = opened[1]
        elif opened := re.fullmatch(r"chain (\S+) \{(?: #.*)?", line):
            chain = chains.setdefault((table, opened[1]), Chain(f"table {table}, chain {opened[1]}"))
        elif line == "}":
            chain = None
        elif chain is None:
            other = line.count("{") - line.count("}")
        elif hook := re.match(r"type \w+ hook (\w+) ", line):
            chain.hook = hook[1]
        else:
            chain.rules.append(line)
    return chains


def _whole_lines(text: str) -> Iterator[str]:
    """Sets without a name can be longer than a line."""
    kept = ""
    for line in map(str.strip, text.splitlines()):
        kept = f"{kept} {line}".strip()
        opens_block = kept.endswith("{") and re.match(r"(table|chain|set|map|flowtable|ct|counter|quota|limit) ", kept)
        if opens_block or kept == "}" or kept.count("{") <= kept.count("}"):
            if kept and not kept.startswith("#"):
                yield kept
            kept = ""


# ---- iptables ----

_BUILT_IN = {("filter", "INPUT"): "input", ("mangle", "INPUT"): "input", ("mangle", "PREROUTING"): "prerouting"}
_VERDICTS = {"DROP": "drop", "ACCEPT": "accept", "REJECT": "reject", "RETURN": "return"}


def _iptables(text: str, family: str) -> Chains:
    chains: dict[tuple[str, str], Chain] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            name = line[1:].split()[0]
            # Only here tables have a name without a family.
            chains[f" {table}", name] = Chain(f"table {table}, chain {name}", _BUILT_IN.get((table, name), ""))
        elif line.startswith("-A "):
            _, name, *words = shlex.split(line)
            if chain := chains.get((f" {table}", name)):
                chain.rules.append(" ".join(_translated(words, family)))
    return chains


_ONE_WORD = {
    "-i": "iifname",
    "-s": "saddr",
    "-d": "daddr",
    "-p": "meta l4proto",
    "--dport": "th dport",
    "--dports": "th dport",
    "--ctstate": "ct state",
    "--state": "ct state",
}
_IGNORED = {"-m", "--comment", "--reject-with", "--nfacct-name"}


def _translated(words: Iterable[str], family: str) -> Iterator[str]:
    """A rule of iptables in the words of nftables; what has none stays."""
    left = iter(words)
    negated = ""
    for word in left:
        if word == "!":
            negated = "!= "
            continue
        if word in _IGNORED:
            next(left, "")
        elif word in _ONE_WORD:
            before = f"{family} " if word in ("-s", "-d") else ""
            yield f"{before}{_ONE_WORD[word]} {negated}{_value(word, next(left, ''))}"
        elif word == "--tcp-flags":
            mask, flags = next(left, ""), next(left, "")
            yield f"tcp flags & ({mask.lower().replace(',', ' | ')}) {negated or '== '}{flags.lower()}"
        elif word == "--syn":
            yield f"tcp flags {negated or '== '}syn"
        elif word in ("-j", "-g"):
            target = next(left, "")
            verdict = _VERDICTS.get(target) or ("jump " if word == "-j" else "goto ") + target
            yield verdict
        else:
            yield f"{negated}{word}"
        negated = ""


def _value(option: str, value: str) -> str:
    if option == "-i":
        return f'"{value.removesuffix("+")}*"' if value.endswith("+") else f'"{value}"'
    if option in ("--ctstate", "--state"):
        return value.lower()
    if option in ("--dport", "--dports"):
        return "{ " + value.replace(":", "-").replace(",", ", ") + " }"
    return value
