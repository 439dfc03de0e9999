"""What one value of cluster.yaml may be: parsers of single values, and the types made of them.

Each type also says how a user writes it, for the JSON Schema: an address is text there, not an object.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import cache, partial
from ipaddress import ip_address, ip_interface, ip_network
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

from haplane.model.cluster import Address, Interface, Network
from haplane.model.reading import shown

SUPPORTED_MINORS = ("1.34", "1.35")
DEFAULT_PODS = ip_network("10.244.0.0/16")
DEFAULT_SERVICES = ip_network("10.96.0.0/16")

MOST_ENTRIES = 100

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


def wrong(what: str, expected: str, fix: str = "", *, choices: Sequence[str] = ()) -> PydanticCustomError:
    """what is a predicate: the value as written stands before it. {value} in fix is the value as written.

    choices: if there is no fix, the one that is most like the value is.
    """
    context = {"what": what, "expected": expected, "fix": fix, "choices": choices}
    return PydanticCustomError("wrong", "{what}", context)


def parse_choice(kind: type[E], value: object) -> E:
    """Raises PydanticCustomError, as all parsers do."""
    choices = _choices(kind)
    if isinstance(value, str) and value in choices:
        return kind(value)
    raise wrong("is not known", " or ".join(choices), choices=choices)


@cache
def _choices(kind: type[StrEnum]) -> tuple[str, ...]:
    return tuple(str(choice) for choice in kind)


def one_of(kind: type[StrEnum]) -> BeforeValidator:
    return BeforeValidator(partial(parse_choice, kind))


@dataclass(frozen=True)
class _Matching:
    """Text that the whole of a regular expression matches; one that ECMA-262 understands too (JSON Schema, 6.4)."""

    pattern: str
    what: str
    expected: str
    fix: str = ""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}

    def _checked(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise wrong(self.what, self.expected, self.fix)
        return value


def _not_empty(value: list[T]) -> list[T]:
    if not value:
        raise wrong("is empty", "at least one value", "add one, or leave the key out")
    return value


def _not_too_many(value: object) -> object:
    """Before its entries are looked at: tens of thousands that are wrong would take a second to say so."""
    if isinstance(value, list) and len(value) > MOST_ENTRIES:
        raise wrong("has too many entries", f"at most {MOST_ENTRIES}")
    return value


def _scalar(value: object) -> object:
    """A single value of a section that is passed through."""
    if isinstance(value, dict | list):
        raise wrong("is not one value", "text, a number, true or false")
    return value


def _arguments(value: object) -> object:
    """What stands after a keyword in a component's own file."""
    if value is None:
        raise wrong("is empty", "the keyword's arguments; true for the keyword alone, false for none")
    if isinstance(value, str) and re.search(r"[\x00-\x1f\x7f]", value):
        raise wrong("is more than one line", "the keyword's arguments on one line")
    return _scalar(value)


def _version(value: object) -> str:
    expected = f"a version of Kubernetes from {SUPPORTED_MINORS[0]} to {SUPPORTED_MINORS[-1]} as x.y.z"
    example = "write the full version, for example {value}.0"
    text = value if isinstance(value, str) else ""
    if isinstance(value, float):
        raise wrong("is a number to YAML, not a version", expected, example)
    if re.fullmatch(r"v?[0-9]+\.[0-9]+", text):
        raise wrong("is not a full version", expected, example)
    if not re.fullmatch(r"v?(0|[1-9][0-9]{0,3})(\.(0|[1-9][0-9]{0,3})){2}", text):
        raise wrong("is not a version", expected)
    if text.startswith("v"):
        raise wrong("begins with a v", expected, f"write {text[1:]}")
    if text.rpartition(".")[0] not in SUPPORTED_MINORS:
        raise wrong("is not supported", expected)
    return text


def parse_address(value: object) -> Address:
    expected = "an IP address of one machine, for example 192.0.2.11"
    text = value if isinstance(value, str) else ""
    if "/" in text:
        raise wrong("has a prefix", expected, f"write {shown(text.partition('/')[0])}")
    try:
        address = ip_address(text)
    except ValueError:
        raise wrong("is not an IP address", expected) from None
    if address.is_multicast or address.is_unspecified or getattr(address, "scope_id", None):
        raise wrong("is not an address of one machine", expected)
    return address


def parse_vip(value: object) -> Interface:
    expected = "an address with the prefix of its subnet, for example 192.0.2.100/24"
    text = value if isinstance(value, str) else ""
    address, slash, prefix = text.partition("/")
    version = parse_address(address).version
    if not slash:
        raise wrong("has no prefix", expected, f"write {address}/{24 if version == 4 else 64} if that is its subnet")
    try:
        # ip_interface would take a netmask, too.
        vip = ip_interface(text if prefix.isdecimal() else "")
    except ValueError:
        raise wrong("has a wrong prefix", expected) from None
    # In a /31, /32, /127 or /128 every address is an ordinary one (RFC 3021, RFC 6164).
    if vip.network.prefixlen < vip.max_prefixlen - 1:
        if vip.ip == vip.network.network_address:
            raise wrong(f"is the address of the network {vip.network} itself", expected)
        if vip.version == 4 and vip.ip == vip.network.broadcast_address:
            raise wrong(f"is the broadcast address of {vip.network}", expected)
    return vip


_DURATION = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m)"


def parse_duration_ms(value: object) -> int:
    """Milliseconds of 500ms, 1.5s, 2m."""
    expected = "a time with its unit (ms, s or m), for example 500ms or 1.5s"
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        raise wrong("has no unit", expected, "write {value}ms or {value}s" if value >= 1 else "write {value}s")
    text = value if isinstance(value, str) else ""
    found = re.fullmatch(_DURATION, text)
    if not found:
        raise wrong("is not a time", expected, _other_unit(text))
    milliseconds = Fraction(found[1]) * {"ms": 1, "s": 1000, "m": 60_000}[found[2]]
    if milliseconds < 1 or milliseconds.denominator != 1:
        raise wrong("is not a whole number of milliseconds", expected)
    return int(milliseconds)


def _other_unit(text: str) -> str:
    """The fix for a time whose unit is spelt in another way: 500 ms, 2sec, 1min."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|mil|s|m)[a-z]*", text.lower())
    return f"write {found[1]}{'ms' if found[2] == 'mil' else found[2]}" if found else ""


def parse_network(value: object) -> Network:
    expected = "a network, for example 10.244.0.0/16"
    text = value if isinstance(value, str) else ""
    try:
        # ip_network would take a netmask, and an address without a prefix.
        network = ip_network(text if re.fullmatch(r"[^/]+/[0-9]+", text) else "", strict=False)
    except ValueError:
        raise wrong("is not a network", expected) from None
    if network.network_address != ip_address(text.partition("/")[0]):
        raise wrong("is an address inside a network", expected, f"write {network}")
    return network


def _as_list(value: object) -> object:
    return value if isinstance(value, list | dict) else [value]


def _one_per_ip_version(noun: str) -> AfterValidator:
    def check(given: list[T]) -> list[T]:
        versions = [one.version for one in given]  # type: ignore[attr-defined]  # addresses, interfaces, networks
        if len(versions) == 1 or sorted(versions) == [4, 6]:
            return given
        what = "is empty" if not given else f"has two of IPv{versions[0]}" if len(given) == 2 else "has more than two"
        raise wrong(what, f"one {noun}, or a list of an IPv4 and an IPv6 {noun}")

    return AfterValidator(check)


def _no_address(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        return value
    raise wrong("is an address", "a DNS name", "leave it out; clients can always use the VIP")


def _power_command(value: str) -> str:
    expected = "a command in which only {name} and {address} are replaced"
    doubled = "double a brace that is meant: {{ }}"
    try:
        fields = [field for field in string.Formatter().parse(value) if field[1] is not None]
    except ValueError:
        raise wrong("has a brace that does not close or open", expected, doubled) from None
    for _, name, form, conversion in fields:
        if name not in ("name", "address") or form or conversion:
            raise wrong(f"has the field {{{shown(str(name))}}}", expected, doubled)
    return value


_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_LABEL_RULE = "1 to 63 lower-case letters, digits and hyphens, with no hyphen at the ends"
_LINE = r"[^\s\x00-\x1f]([^\x00-\x1f\x7f]*\S)?"
_BLOCK = "write it on one line; a block on several begins with >-"

Text = Annotated[str, _Matching(_LINE, "is not one line of text", "one line of text", _BLOCK)]
Reason = Annotated[str, _Matching(_LINE, "gives no reason", "one line that says why this hazard may stay", _BLOCK)]
Label = Annotated[str, _Matching(_LABEL, "is not a DNS label", _LABEL_RULE)]
HazardId = Annotated[str, _Matching(_LABEL, "is not the id of a hazard", "an id as `haplane hazards` shows them")]
DnsName = Annotated[
    str,
    _Matching(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*", "is not a DNS name", "a lower-case DNS name"),
    AfterValidator(_no_address),
]
User = Annotated[str, _Matching(r"[A-Za-z0-9_][^\s@:\x00-\x1f]*", "is not a user name", "a user name, for example ops")]
Jump = Annotated[
    str,
    _Matching(
        r"([A-Za-z0-9_][^\s@:]*@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][^\s@:\[\]]*)(:[0-9]{1,5})?",
        "is not a host to jump over",
        "host, user@host, user@host:port, or a machine of this file; an IPv6 address in brackets",
    ),
]
Url = Annotated[str, _Matching(r"https?://[^\s/?#][^\s?#]*", "is not a URL", "an http:// or https:// URL")]
InterfaceName = Annotated[
    str, _Matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", "is not an interface name", "a name of at most 15 characters")
]
Keyword = Annotated[
    str, _Matching(r"[A-Za-z][A-Za-z0-9_.-]*( [A-Za-z0-9_.-]+)*", "is not a keyword", "a keyword, e.g. timeout tunnel")
]
PowerCommand = Annotated[Text, AfterValidator(_power_command)]
Port = Annotated[int, Field(ge=1, le=65535)]
VirtualRouterId = Annotated[int, Field(ge=1, le=255)]
NotEmpty = Annotated[
    list[T],
    Field(json_schema_extra={"minItems": 1, "maxItems": MOST_ENTRIES}),
    AfterValidator(_not_empty),
    BeforeValidator(_not_too_many),
]

# ---- values that are parsed, each with the text that is written for it ----

_Written = Annotated[str, Field(pattern=r"^[0-9A-Fa-f:.]+$", examples=["192.0.2.11", "2001:db8::11"])]
_WrittenWithPrefix = Annotated[
    str, Field(pattern=r"^[0-9A-Fa-f:.]+/[0-9]+$", examples=["192.0.2.0/24", "2001:db8::/64"])
]
_WrittenVersion = Annotated[
    str,
    Field(
        pattern=rf"^({'|'.join(map(re.escape, SUPPORTED_MINORS))})\.(0|[1-9][0-9]{{0,3}})$",
        examples=[f"{minor}.0" for minor in SUPPORTED_MINORS],
    ),
]
_WrittenTime = Annotated[str, Field(pattern=f"^{_DURATION}$", examples=["500ms", "1.5s"])]
_WrittenArguments = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")] | float | bool

Version = Annotated[str, BeforeValidator(_version, json_schema_input_type=_WrittenVersion)]
Milliseconds = Annotated[int, BeforeValidator(parse_duration_ms, json_schema_input_type=_WrittenTime)]
AnAddress = Annotated[Address, BeforeValidator(parse_address, json_schema_input_type=_Written)]
AVip = Annotated[Interface, BeforeValidator(parse_vip, json_schema_input_type=_WrittenWithPrefix)]
ANetwork = Annotated[Network, BeforeValidator(parse_network, json_schema_input_type=_WrittenWithPrefix)]
_OneOrTwo = Annotated[list[T], Field(min_length=1, max_length=2)]
Addresses = Annotated[
    list[AnAddress],
    BeforeValidator(_as_list, json_schema_input_type=AnAddress | _OneOrTwo[AnAddress]),
    _one_per_ip_version("address"),
]
Vips = Annotated[
    list[AVip], BeforeValidator(_as_list, json_schema_input_type=AVip | _OneOrTwo[AVip]), _one_per_ip_version("VIP")
]
Networks = Annotated[
    list[ANetwork],
    BeforeValidator(_as_list, json_schema_input_type=ANetwork | _OneOrTwo[ANetwork]),
    _one_per_ip_version("network"),
]
Scalar = Annotated[Any, BeforeValidator(_scalar, json_schema_input_type=str | float | bool | None)]
Arguments = Annotated[Any, BeforeValidator(_arguments, json_schema_input_type=_WrittenArguments)]
