"""The shape of cluster.yaml, and the way from its text to a Cluster.

The pydantic models say what one value may be; the checks below them say how values must agree. The checks look at the
values as they were read, so that one wrong value hides nothing about the others.
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_interface, ip_network
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from haplane.model import cluster
from haplane.model.errors import InvalidFile, Problem
from haplane.model.reading import Document, KeyPath, read_document, shown

SUPPORTED_MINORS = ("1.34", "1.35")
OFFICIAL_URL = "https://dl.k8s.io"
OFFICIAL_REGISTRY = "https://registry.k8s.io"

_DEFAULT_NETWORKS = {"pods": "10.244.0.0/16", "services": "10.96.0.0/16"}

T = TypeVar("T")


def read_cluster(text: str, *, file: str, folder: Path) -> cluster.Cluster:
    """The cluster that the text of a cluster.yaml describes.

    file: its name in errors. folder: where it is; relative paths in it begin there, a leading ~ stays as it is. Decode
    a file with errors="surrogateescape": bytes that are not UTF-8 then become a problem with a place, too.
    Raises InvalidFile with all that is wrong.
    """
    document = read_document(text, file=file)
    problems = list(document.problems)
    shape = None
    try:
        shape = _File.model_validate(document.root)
    except ValidationError as error:
        problems += filter(None, (_translated(details, document) for details in error.errors(include_url=False)))
    found = _Found.of(document)
    problems += (problem for check in _CHECKS for problem in check(found))
    if problems or shape is None:
        raise InvalidFile(file, problems)
    return _cluster(shape, document, folder)


# ---- one value ----


def _wrong(what: str, expected: str, fix: str = "") -> PydanticCustomError:
    """what is a predicate: the value as written stands before it. {value} in fix is the value as written."""
    return PydanticCustomError("wrong", "{what}", {"what": what, "expected": expected, "fix": fix})


def _text_like(pattern: str, what: str, expected: str, fix: str = "") -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise _wrong(what, expected, fix)
        return value

    return AfterValidator(check)


def _one_of(kind: type[StrEnum]) -> BeforeValidator:
    def parse(value: object) -> StrEnum:
        if value in list(kind):
            return kind(str(value))
        close = difflib.get_close_matches(str(value)[:40], list(kind), n=1)
        raise _wrong("is not known", " or ".join(kind), f"write {close[0]}" if close else "")

    return BeforeValidator(parse)


def _not_empty(value: list[T]) -> list[T]:
    if not value:
        raise _wrong("is empty", "at least one value", "add one, or leave the key out")
    return value


def _version(value: object) -> str:
    expected = f"a version of Kubernetes from {SUPPORTED_MINORS[0]} to {SUPPORTED_MINORS[-1]} as x.y.z"
    example = "write the full version, for example {value}.0"
    text = value if isinstance(value, str) else ""
    if isinstance(value, float):
        raise _wrong("is a number to YAML, not a version", expected, example)
    if re.fullmatch(r"v?[0-9]+\.[0-9]+", text):
        raise _wrong("is not a full version", expected, example)
    if not re.fullmatch(r"v?(0|[1-9][0-9]{0,3})(\.(0|[1-9][0-9]{0,3})){2}", text):
        raise _wrong("is not a version", expected)
    if text.startswith("v"):
        raise _wrong("begins with a v", expected, f"write {text[1:]}")
    if text.rpartition(".")[0] not in SUPPORTED_MINORS:
        raise _wrong("is not supported", expected)
    return text


def _address(value: object) -> cluster.Address:
    expected = "an IP address of one machine, for example 192.0.2.11"
    if isinstance(value, str) and "/" in value:
        raise _wrong("has a prefix", expected, f"write {shown(value.partition('/')[0])}")
    try:
        address = ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise _wrong("is not an IP address", expected) from None
    if address.is_multicast or address.is_unspecified or getattr(address, "scope_id", None):
        raise _wrong("is not an address of one machine", expected)
    return address


def _vip(value: object) -> cluster.Interface:
    expected = "an address with the prefix of its subnet, for example 192.0.2.100/24"
    text = value if isinstance(value, str) else ""
    address, slash, prefix = text.partition("/")
    version = _address(address or value).version
    if not slash:
        raise _wrong("has no prefix", expected, f"write {address}/{24 if version == 4 else 64} if that is its subnet")
    try:
        # ip_interface would take a netmask, too.
        vip = ip_interface(text if prefix.isdecimal() else "")
    except ValueError:
        raise _wrong("has a wrong prefix", expected) from None
    # In a /31, /32, /127 or /128 every address is an ordinary one (RFC 3021, RFC 6164).
    if vip.network.prefixlen < vip.max_prefixlen - 1:
        if vip.ip == vip.network.network_address:
            raise _wrong(f"is the address of the network {vip.network} itself", expected)
        if vip.version == 4 and vip.ip == vip.network.broadcast_address:
            raise _wrong(f"is the broadcast address of {vip.network}", expected)
    return vip


def _network(value: object) -> cluster.Network:
    expected = "a network, for example 10.244.0.0/16"
    if not isinstance(value, str) or not re.fullmatch(r"[^/]+/[0-9]+", value):
        raise _wrong("is not a network", expected)
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        raise _wrong("is not a network", expected) from None
    if network.network_address != ip_address(value.partition("/")[0]):
        raise _wrong("is an address inside a network", expected, f"write {network}")
    return network


def _dual_stack(networks: list[cluster.Network]) -> list[cluster.Network]:
    if len(networks) != 1 and [network.version for network in networks] not in ([4, 6], [6, 4]):
        raise _wrong("does not fit", "one network, or an IPv4 and an IPv6 network")
    return networks


def _host(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        return value
    raise _wrong("is an address", "a DNS name", "leave it out; clients can always use the VIP")


def _endpoint_port(value: int) -> int:
    if value == 6443:
        expected = "a port from 1 to 65535 that is not 6443"
        raise _wrong("is the API server's own port, and it runs on the same machines", expected, "write 8443")
    return value


def _power_command(value: str) -> str:
    expected = "a command in which only {name} and {address} are replaced"
    try:
        fields = [field for field in string.Formatter().parse(value) if field[1] is not None]
    except ValueError:
        raise _wrong(
            "has a brace that does not close or open", expected, "double a brace that is meant: {{ }}"
        ) from None
    for _, name, form, conversion in fields:
        if name not in ("name", "address") or form or conversion:
            raise _wrong(f"has the field {{{shown(str(name))}}}", expected, "double a brace that is meant: {{ }}")
    return value


def _scalar(value: object) -> object:
    if isinstance(value, dict | list):
        raise _wrong("is not one value", "text, a number, true or false")
    return value


_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_LABEL_RULE = "1 to 63 lower-case letters, digits and hyphens, with no hyphen at the ends"

_Text = Annotated[
    str, _text_like(r"[^\s\x00-\x1f]([^\x00-\x1f\x7f]*\S)?", "is not one line of text", "one line of text")
]
_Label = Annotated[str, _text_like(_LABEL, "is not a DNS label", _LABEL_RULE)]
_Dns = Annotated[
    str,
    _text_like(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*", "is not a DNS name", "a lower-case DNS name"),
    AfterValidator(_host),
]
_User = Annotated[
    str, _text_like(r"[A-Za-z0-9_][^\s@:\x00-\x1f]*", "is not a user name", "a user name, for example ops")
]
_Jump = Annotated[
    str,
    _text_like(
        r"([A-Za-z0-9_][^\s@:]*@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][^\s@:\[\]]*)(:[0-9]{1,5})?",
        "is not a host to jump over",
        "host, user@host, user@host:port, or a machine of this file; an IPv6 address in brackets",
    ),
]
_Url = Annotated[str, _text_like(r"https?://[^\s/?#][^\s?#]*", "is not a URL", "an http:// or https:// URL")]
_Interface = Annotated[
    str, _text_like(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", "is not an interface name", "a name of at most 15 characters")
]
_Port = Annotated[int, Field(ge=1, le=65535)]
_Networks = Annotated[
    list[Annotated[cluster.Network, BeforeValidator(_network)]],
    BeforeValidator(lambda value: value if isinstance(value, list | dict) else [value]),
    AfterValidator(_dual_stack),
]
_Command = Annotated[_Text, AfterValidator(_power_command)]


# ---- the shape ----


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Kubernetes(_Section):
    version: Annotated[str, BeforeValidator(_version)]
    pods: _Networks = Field(default_factory=lambda: [ip_network(_DEFAULT_NETWORKS["pods"])])
    services: _Networks = Field(default_factory=lambda: [ip_network(_DEFAULT_NETWORKS["services"])])
    cni: Annotated[cluster.Cni, _one_of(cluster.Cni)] = cluster.Cni.NONE


class _Endpoint(_Section):
    vip: Annotated[cluster.Interface, BeforeValidator(_vip)]
    port: Annotated[_Port, AfterValidator(_endpoint_port)] = 8443
    host: _Dns | None = None
    virtual_router_id: Annotated[int, Field(ge=1, le=255)] | None = None


class _Ssh(_Section):
    """Which keys were set matters: a machine's override the common ones key by key. An empty value means none."""

    user: _User = "root"
    port: _Port = 22
    sudo: bool = False
    jump: _Jump | None = None
    key: _Text | None = None
    known_hosts: _Text | None = None


class _Official(_Section):
    url: _Url = OFFICIAL_URL
    registry: _Url = OFFICIAL_REGISTRY


class _Source(_Section):
    directory: _Text | None = None
    official: _Official | None = None


def _exactly_one(source: _Source) -> _Source:
    if (source.directory is None) == (source.official is None):
        raise _wrong("does not say one source", "either directory or official")
    return source


class _SourceName(StrEnum):
    OFFICIAL = "official"
    GO_MODULES = "go-modules"


# Tags in brackets, like pydantic's own [key], are no keys of the file.
_AnySource = Annotated[
    Annotated[_SourceName, _one_of(_SourceName), Tag("[name]")]
    | Annotated[_Source, AfterValidator(_exactly_one), Tag("[mapping]")],
    Discriminator(lambda value: "[mapping]" if isinstance(value, dict) else "[name]"),
]


class _Bundle(_Section):
    sources: Annotated[list[_AnySource], AfterValidator(_not_empty)] = Field(default_factory=lambda: [*_SourceName])


class _Power(_Section):
    off: _Command
    on: _Command


class _Kubeadm(_Section):
    """Kinds of kubeadm's own configuration, passed through."""

    ClusterConfiguration: dict[str, Any] | None = None
    InitConfiguration: dict[str, Any] | None = None
    JoinConfiguration: dict[str, Any] | None = None


class _Machine(_Section):
    address: Annotated[cluster.Address, BeforeValidator(_address)]
    roles: Annotated[list[Annotated[cluster.Role, _one_of(cluster.Role)]], AfterValidator(_not_empty)] = Field(
        default_factory=lambda: [cluster.Role.CONTROL_PLANE]
    )
    interface: _Interface | None = None
    ssh: _Ssh = _Ssh()


class _File(_Section):
    name: _Label
    kubernetes: _Kubernetes
    endpoint: _Endpoint
    machines: dict[_Label, _Machine]
    ssh: _Ssh = _Ssh()
    bundle: _Bundle = _Bundle()
    power: _Power | None = None
    kubeadm: _Kubeadm = _Kubeadm()
    kubelet: dict[str, Any] = Field(default_factory=dict)
    containerd: dict[str, Annotated[Any, AfterValidator(_scalar)]] = Field(default_factory=dict)


# ---- pydantic's findings in plain sentences ----

_NOUNS = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
}


def _path_of(location: KeyPath, document: Document) -> KeyPath:
    """pydantic's location without its tags, unless one is a key of the file."""
    path: KeyPath = ()
    for part in location:
        if part not in ("[key]", "[name]", "[mapping]") or (*path, part) in document.places:
            path = (*path, part)
    return path


def _translated(details: ErrorDetails, document: Document) -> Problem | None:
    path = _path_of(details["loc"], document)
    kind, context = details["type"], details.get("ctx", {})
    if any(path[:length] in document.refused for length in range(1, len(path) + 1)):
        return None
    if kind == "missing":
        # What a merge key would bring in is not missing; the merge key itself was refused.
        if (*path[:-1], "<<") in document.refused:
            return None
        return document.at_key(path, "is missing", fix=f"add {path[-1]}:")
    if kind == "extra_forbidden":
        return _unknown_key(path, document)
    path = document.known(path)
    value = document.places[path].text
    if kind == "wrong":
        report = document.at_key if details["loc"][-1] == "[key]" else document.at_value
        subject = shown(str(path[-1])) if report == document.at_key else value
        fix = context["fix"].replace("{value}", subject.strip("'\"").removeprefix("v"))
        return report(path, f"{subject} {context['what']}", expected=context["expected"], fix=fix)
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return document.at_value(path, f"{value} is out of range", expected=bound)
    noun = _NOUNS.get(kind, "allowed here")
    return document.at_value(
        path, f"{value} is not {noun}", expected=noun, fix=_type_fix(kind, details["input"], value)
    )


def _type_fix(kind: str, given: object, value: str) -> str:
    if given is None:
        return "give it a value, or leave the key out"
    if isinstance(given, dict | list):
        return ""
    if kind == "string_type":
        return f'write "{value}"'
    if kind == "list_type":
        return f"write [{value}]"
    bare = shown(str(given))
    if (kind == "int_type" and bare.isdecimal()) or (kind == "bool_type" and bare in ("true", "false")):
        return f"write {bare} without quotes"
    return ""


def _unknown_key(path: KeyPath, document: Document) -> Problem:
    key, known = str(path[-1]), _keys_at(path[:-1])
    close = difflib.get_close_matches(key, known, n=1) if len(key) <= 40 else []
    fix = f"write {close[0]}" if close else ""
    if key.partition(":")[0] in known:
        fix = "put a space after the colon"
    return document.at_key(path, "is not known here", expected=", ".join(known), fix=fix)


def _keys_at(path: KeyPath) -> list[str]:
    """Keys that the mapping at this path may have."""
    model: type[BaseModel] = _File
    parts = iter(path)
    for part in parts:
        annotation = model.model_fields[str(part)].annotation
        if get_origin(annotation) in (dict, list):
            next(parts, None)  # the machine's name, the index
        model = _model_in(annotation) or model
    return list(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for argument in get_args(annotation) if (model := _model_in(argument))), None)


# ---- how values must agree ----


@dataclass(frozen=True)
class _Found:
    """What can be understood of a file even when other parts of it are wrong. networks: of pods and services."""

    document: Document
    machines: Mapping[str, cluster.Value]
    addresses: Mapping[str, cluster.Address]
    networks: Mapping[KeyPath, cluster.Network]
    vip: cluster.Interface | None

    @classmethod
    def of(cls, document: Document) -> _Found:
        machines = document.value("machines")
        machines = machines if isinstance(machines, dict) else {}
        addresses = {name: _understood(_address, document.value("machines", name, "address")) for name in machines}
        networks: dict[KeyPath, cluster.Network | None] = {}
        for key in ("pods", "services"):
            path: KeyPath = ("kubernetes", key)
            given = document.value(*path)
            if isinstance(given, list):
                networks |= {(*path, index): _understood(_network, one) for index, one in enumerate(given[:2])}
            elif path in document.places:
                networks[path] = _understood(_network, given)
            else:
                networks[path] = ip_network(_DEFAULT_NETWORKS[key])
        return cls(
            document,
            machines,
            {name: address for name, address in addresses.items() if address},
            {path: network for path, network in networks.items() if network},
            _understood(_vip, document.value("endpoint", "vip")),
        )

    def roles(self, name: str) -> list[cluster.Value] | None:
        """None when they cannot be understood."""
        machine = self.machines[name]
        if not isinstance(machine, dict):
            return None
        roles = machine.get("roles", [cluster.Role.CONTROL_PLANE])
        if not isinstance(roles, list) or not roles or any(role not in list(cluster.Role) for role in roles):
            return None
        return roles

    def jump(self, name: str) -> str:
        """The machine of this file over which this one is reached, or nothing."""
        own: KeyPath = ("machines", name, "ssh", "jump")
        jump = self.document.value(*own) if own in self.document.places else self.document.value("ssh", "jump")
        over_itself = jump == name and own not in self.document.places
        return jump if isinstance(jump, str) and jump in self.machines and not over_itself else ""


def _understood(parse: Callable[[object], T], value: object) -> T | None:
    try:
        return parse(value)
    except PydanticCustomError:
        return None


def _a_control_plane_exists(found: _Found) -> Iterator[Problem]:
    all_roles = [found.roles(name) for name in found.machines]
    if ("machines",) not in found.document.places or None in all_roles:
        return
    if not any(cluster.Role.CONTROL_PLANE in (roles or ()) for roles in all_roles):
        expected = f"at least one machine with the role {cluster.Role.CONTROL_PLANE}"
        yield found.document.at_key(("machines",), "no machine is a control-plane machine", expected=expected)


def _addresses_differ(found: _Found) -> Iterator[Problem]:
    first: dict[cluster.Address, str] = {}
    for name, address in found.addresses.items():
        if (other := first.setdefault(address, name)) != name:
            line = found.document.places["machines", other].key_line
            what = f"{address} is also the address of {other} (line {line})"
            yield found.document.at_value(("machines", name, "address"), what, expected="one address per machine")


def _vip_is_free(found: _Found) -> Iterator[Problem]:
    for name, address in found.addresses.items():
        if found.vip and address == found.vip.ip:
            line = found.document.places["machines", name].key_line
            what = f"{found.vip} is also the address of {name} (line {line})"
            expected = "an address that no machine has; it moves between them"
            yield found.document.at_value(("endpoint", "vip"), what, expected=expected)


def _vip_shares_the_machines_network(found: _Found) -> Iterator[Problem]:
    for name, address in found.addresses.items():
        if not found.vip or address in found.vip.network or cluster.Role.CONTROL_PLANE not in (found.roles(name) or ()):
            continue
        what = f"the VIP {found.vip} and {name} {address} share no network"
        expected = f"an address in {found.vip.network}, because VRRP moves the VIP inside one network"
        yield found.document.at_value(("machines", name, "address"), what, expected=expected)


def _networks_are_apart(found: _Found) -> Iterator[Problem]:
    expected = "networks that do not overlap"
    for (one, network), (two, other) in combinations(found.networks.items(), 2):
        if one[1] != two[1] and network.overlaps(other):
            at = two if two in found.document.places else one
            what = f"{one[1]} {network} and {two[1]} {other} overlap"
            yield found.document.at_value(at, what, expected=expected)
    for path, network in found.networks.items():
        if found.vip and network.overlaps(found.vip.network):
            what = f"{path[1]} {network} and the machines' network {found.vip.network} overlap"
            yield found.document.at_value(path, what, expected=expected)
            continue
        for name, address in found.addresses.items():
            if address in network:
                what = f"{path[1]} {network} holds the address of {name}, {address}"
                yield found.document.at_value(path, what, expected=expected)


def _owned_keys_are_absent(found: _Found) -> Iterator[Problem]:
    for path, owner in _OWNED.items():
        if path in found.document.places:
            fix = f"say it with {owner}" if owner else "remove it"
            yield found.document.at_key(path, "is written by haplane", fix=fix)


def _jumps_end(found: _Found) -> Iterator[Problem]:
    walked: set[str] = set()
    for name in found.machines:
        way: list[str] = []
        while name and name not in walked:
            walked.add(name)
            way.append(name)
            name = found.jump(name)
        if name in way:
            circle = " over ".join([*way[way.index(name) :], name])
            path = ("machines", name, "ssh", "jump")
            yield found.document.at_value(path, f"jump hosts in a circle: {circle}", expected="a way from this host")


# Keys of the passed-through sections that haplane writes itself, and the key of cluster.yaml that says them.
_OWNED: Mapping[KeyPath, str] = {
    ("kubeadm", "ClusterConfiguration", "controlPlaneEndpoint"): "endpoint",
    ("kubeadm", "ClusterConfiguration", "networking"): "kubernetes.pods and kubernetes.services",
    ("kubeadm", "ClusterConfiguration", "kubernetesVersion"): "kubernetes.version",
    **{("kubeadm", kind, key): "" for kind in _Kubeadm.model_fields for key in ("apiVersion", "kind")},
    **{("kubelet", key): "" for key in ("apiVersion", "kind")},
}

_CHECKS: tuple[Callable[[_Found], Iterator[Problem]], ...] = (
    _a_control_plane_exists,
    _addresses_differ,
    _vip_is_free,
    _vip_shares_the_machines_network,
    _networks_are_apart,
    _owned_keys_are_absent,
    _jumps_end,
)


# ---- the cluster ----


def _cluster(shape: _File, document: Document, folder: Path) -> cluster.Cluster:
    kubernetes, endpoint = shape.kubernetes, shape.endpoint
    kubeadm = {kind: getattr(shape.kubeadm, kind) for kind in _Kubeadm.model_fields}
    return cluster.Cluster(
        name=shape.name,
        file=document.file,
        kubernetes=cluster.Kubernetes(
            version=kubernetes.version,
            pods=tuple(kubernetes.pods),
            services=tuple(kubernetes.services),
            cni=kubernetes.cni,
        ),
        endpoint=cluster.Endpoint(
            vip=endpoint.vip,
            port=endpoint.port,
            host=endpoint.host,
            virtual_router_id=endpoint.virtual_router_id,
        ),
        machines={
            name: cluster.Machine(
                name=name,
                address=machine.address,
                roles=frozenset(machine.roles),
                ssh=_ssh(name, shape.ssh, machine.ssh, folder),
                interface=machine.interface,
                line=document.places["machines", name].key_line,
            )
            for name, machine in shape.machines.items()
        },
        sources=tuple(_source(source, folder) for source in shape.bundle.sources),
        power=cluster.Power(off=shape.power.off, on=shape.power.on) if shape.power else None,
        kubeadm={kind: given for kind, given in kubeadm.items() if given is not None},
        kubelet=shape.kubelet,
        containerd=shape.containerd,
    )


def _ssh(name: str, common: _Ssh, own: _Ssh, folder: Path) -> cluster.Ssh:
    ssh = common.model_copy(update={key: getattr(own, key) for key in own.model_fields_set})
    # The common jump host may be a machine of this file; it is reached without itself.
    over_itself = ssh.jump == name and "jump" not in own.model_fields_set
    return cluster.Ssh(
        user=ssh.user,
        port=ssh.port,
        sudo=ssh.sudo if "sudo" in ssh.model_fields_set else ssh.user != "root",
        jump=None if over_itself else ssh.jump,
        key=_path(ssh.key, folder) if ssh.key else None,
        known_hosts=_path(ssh.known_hosts, folder) if ssh.known_hosts else None,
    )


def _source(source: _SourceName | _Source, folder: Path) -> cluster.BundleSource:
    if source == _SourceName.GO_MODULES:
        return cluster.BundleSource(kind="go-modules")
    if isinstance(source, _Source) and source.directory is not None:
        return cluster.BundleSource(kind="directory", path=_path(source.directory, folder))
    official = (source.official if isinstance(source, _Source) else None) or _Official()
    return cluster.BundleSource(kind="official", url=official.url.rstrip("/"), registry=official.registry.rstrip("/"))


def _path(text: str, folder: Path) -> Path:
    """A leading ~ stays: whose home it is, is not for pure code to know."""
    return Path(text) if text.startswith("~") else folder / text
