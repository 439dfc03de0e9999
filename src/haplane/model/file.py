"""The shape of cluster.yaml, and the way from its text to a Cluster.

`values` says what one value may be, the pydantic models here which keys there are, `agreement` how values must agree.
"""

from __future__ import annotations

import difflib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import ErrorDetails

from haplane.model import cluster, values
from haplane.model.agreement import disagreements
from haplane.model.errors import InvalidFile, Problem
from haplane.model.reading import Document, KeyPath, read_document, shown

OFFICIAL_URL = "https://dl.k8s.io"
OFFICIAL_REGISTRY = "https://registry.k8s.io"


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
    problems += disagreements(document)
    if problems or shape is None:
        raise InvalidFile(file, problems)
    return _cluster(shape, document, folder)


# ---- the shape ----


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Kubernetes(_Section):
    version: values.Version
    pods: values.Networks = Field(default_factory=lambda: [values.DEFAULT_PODS])
    services: values.Networks = Field(default_factory=lambda: [values.DEFAULT_SERVICES])
    cni: Annotated[cluster.Cni, values.one_of(cluster.Cni)] = cluster.Cni.NONE


class _Endpoint(_Section):
    vip: values.Vip
    port: values.EndpointPort = 8443
    host: values.DnsName | None = None
    virtual_router_id: values.VirtualRouterId | None = None


class _Ssh(_Section):
    """Which keys were set matters: a machine's override the common ones key by key. An empty value means none."""

    user: values.User = "root"
    port: values.Port = 22
    sudo: bool = False
    jump: values.Jump | None = None
    key: values.Text | None = None
    known_hosts: values.Text | None = None


class _Official(_Section):
    url: values.Url = OFFICIAL_URL
    registry: values.Url = OFFICIAL_REGISTRY


class _Source(_Section):
    """One of its keys is set, or none for go-modules, which has no settings."""

    directory: values.Text | None = None
    official: _Official | None = None


class _SourceName(StrEnum):
    OFFICIAL = "official"
    GO_MODULES = "go-modules"


_NAMED_SOURCES = {_SourceName.OFFICIAL: _Source(official=_Official()), _SourceName.GO_MODULES: _Source()}


def _source_of(value: object, from_mapping: ValidatorFunctionWrapHandler) -> _Source:
    """A source by its name, or as a mapping with its settings."""
    if not isinstance(value, dict):
        return _NAMED_SOURCES[values.parse_choice(_SourceName, value)]
    source: _Source = from_mapping(value)
    if (source.directory is None) == (source.official is None):
        raise values.wrong("does not say one source", "either directory or official")
    return source


class _Bundle(_Section):
    sources: values.NotEmpty[Annotated[_Source, WrapValidator(_source_of)]] = Field(
        default_factory=lambda: [*_NAMED_SOURCES.values()]
    )


class _Power(_Section):
    off: values.PowerCommand
    on: values.PowerCommand


class _Kubeadm(_Section):
    """Kinds of kubeadm's own configuration, passed through."""

    ClusterConfiguration: dict[str, Any] | None = None
    InitConfiguration: dict[str, Any] | None = None
    JoinConfiguration: dict[str, Any] | None = None


class _Machine(_Section):
    address: values.MachineAddress
    roles: values.NotEmpty[Annotated[cluster.Role, values.one_of(cluster.Role)]] = Field(
        default_factory=lambda: [cluster.Role.CONTROL_PLANE]
    )
    interface: values.InterfaceName | None = None
    ssh: _Ssh = _Ssh()


class _File(_Section):
    name: values.Label
    kubernetes: _Kubernetes
    endpoint: _Endpoint
    machines: dict[values.Label, _Machine]
    ssh: _Ssh = _Ssh()
    bundle: _Bundle = _Bundle()
    power: _Power | None = None
    kubeadm: _Kubeadm = _Kubeadm()
    kubelet: dict[str, Any] = Field(default_factory=dict)
    containerd: dict[str, values.Scalar] = Field(default_factory=dict)


# ---- pydantic's findings in plain sentences ----

_NOUNS = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
}


def _translated(details: ErrorDetails, document: Document) -> Problem | None:
    path, kind, context = details["loc"], details["type"], details.get("ctx", {})
    # pydantic's mark of a key that is wrong itself, unless it is a key of the file.
    about_key = path[-1] == "[key]"
    if about_key and path not in document.places:
        path = path[:-1]
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
        report = document.at_key if about_key else document.at_value
        subject = shown(str(path[-1])) if about_key else value
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


# ---- the cluster ----


def _cluster(shape: _File, document: Document, folder: Path) -> cluster.Cluster:
    kubernetes, endpoint = shape.kubernetes, shape.endpoint
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
        kubeadm={kind: given for kind, given in shape.kubeadm if given is not None},
        kubelet=shape.kubelet,
        containerd=shape.containerd,
    )


def _ssh(name: str, common: _Ssh, own: _Ssh, folder: Path) -> cluster.Ssh:
    ssh = common.model_copy(update=own.model_dump(exclude_unset=True))
    return cluster.Ssh(
        user=ssh.user,
        port=ssh.port,
        sudo=ssh.sudo if "sudo" in ssh.model_fields_set else ssh.user != "root",
        # The common jump host may be a machine of this file; it is reached without itself.
        jump=None if ssh.jump == name else ssh.jump,
        key=_path(ssh.key, folder) if ssh.key else None,
        known_hosts=_path(ssh.known_hosts, folder) if ssh.known_hosts else None,
    )


def _source(source: _Source, folder: Path) -> cluster.BundleSource:
    if source.directory is not None:
        return cluster.BundleSource(kind="directory", path=_path(source.directory, folder))
    if source.official is not None:
        url, registry = source.official.url.rstrip("/"), source.official.registry.rstrip("/")
        return cluster.BundleSource(kind="official", url=url, registry=registry)
    return cluster.BundleSource(kind="go-modules")


def _path(text: str, folder: Path) -> Path:
    """A leading ~ stays: whose home it is, is not for pure code to know."""
    return Path(text) if text.startswith("~") else folder / text
