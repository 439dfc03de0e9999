"""What one value of cluster.yaml may be: parsers of single values, and the types made of them."""

from __future__ import annotations

import difflib
import re
import string
from enum import StrEnum
from functools import partial
from ipaddress import ip_address, ip_interface, ip_network
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from haplane.model.cluster import Address, Interface, Network
from haplane.model.reading import shown

SUPPORTED_MINORS = ("1.34", "1.35")
DEFAULT_PODS = ip_network("10.244.0.0/16")
DEFAULT_SERVICES = ip_network("10.96.0.0/16")

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


def wrong(what: str, expected: str, fix: str = "") -> PydanticCustomError:
    """what is a predicate: the value as written stands before it. {value} in fix is the value as written."""
    return PydanticCustomError("wrong", "{what}", {"what": what, "expected": expected, "fix": fix})


def parse_choice(kind: type[E], value: object) -> E:
    """Raises PydanticCustomError, as all parsers do."""
    if value in list(kind):
        return kind(str(value))
    close = difflib.get_close_matches(str(value)[:40], list(kind), n=1)
    raise wrong("is not known", " or ".join(kind), f"write {close[0]}" if close else "")


def one_of(kind: type[StrEnum]) -> BeforeValidator:
    return BeforeValidator(partial(parse_choice, kind))


def _matching(pattern: str, what: str, expected: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise wrong(what, expected)
        return value

    return AfterValidator(check)


def _not_empty(value: list[T]) -> list[T]:
    if not value:
        raise wrong("is empty", "at least one value", "add one, or leave the key out")
    return value


def _scalar(value: object) -> object:
    if isinstance(value, dict | list):
        raise wrong("is not one value", "text, a number, true or false")
    return value


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


def _dual_stack(networks: list[Network]) -> list[Network]:
    if len(networks) != 1 and [network.version for network in networks] not in ([4, 6], [6, 4]):
        raise wrong("does not fit", "one network, or an IPv4 and an IPv6 network")
    return networks


def _no_address(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        return value
    raise wrong("is an address", "a DNS name", "leave it out; clients can always use the VIP")


def _not_the_api_servers(value: int) -> int:
    if value == 6443:
        expected = "a port from 1 to 65535 that is not 6443"
        raise wrong("is the API server's own port, and it runs on the same machines", expected, "write 8443")
    return value


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

Text = Annotated[str, _matching(r"[^\s\x00-\x1f]([^\x00-\x1f\x7f]*\S)?", "is not one line of text", "one line of text")]
Label = Annotated[str, _matching(_LABEL, "is not a DNS label", _LABEL_RULE)]
DnsName = Annotated[
    str,
    _matching(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*", "is not a DNS name", "a lower-case DNS name"),
    AfterValidator(_no_address),
]
User = Annotated[str, _matching(r"[A-Za-z0-9_][^\s@:\x00-\x1f]*", "is not a user name", "a user name, for example ops")]
Jump = Annotated[
    str,
    _matching(
        r"([A-Za-z0-9_][^\s@:]*@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][^\s@:\[\]]*)(:[0-9]{1,5})?",
        "is not a host to jump over",
        "host, user@host, user@host:port, or a machine of this file; an IPv6 address in brackets",
    ),
]
Url = Annotated[str, _matching(r"https?://[^\s/?#][^\s?#]*", "is not a URL", "an http:// or https:// URL")]
InterfaceName = Annotated[
    str, _matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", "is not an interface name", "a name of at most 15 characters")
]
Version = Annotated[str, BeforeValidator(_version)]
MachineAddress = Annotated[Address, BeforeValidator(parse_address)]
Vip = Annotated[Interface, BeforeValidator(parse_vip)]
Networks = Annotated[
    list[Annotated[Network, BeforeValidator(parse_network)]], BeforeValidator(_as_list), AfterValidator(_dual_stack)
]
Port = Annotated[int, Field(ge=1, le=65535)]
EndpointPort = Annotated[Port, AfterValidator(_not_the_api_servers)]
VirtualRouterId = Annotated[int, Field(ge=1, le=255)]
PowerCommand = Annotated[Text, AfterValidator(_power_command)]
Scalar = Annotated[Any, AfterValidator(_scalar)]
NotEmpty = Annotated[list[T], AfterValidator(_not_empty)]
