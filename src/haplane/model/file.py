"""The way from the text of a cluster.yaml to a Cluster.

`reading` makes plain values of it, `values` says what one value may be, `shape` which keys there are, `agreement` how
values must agree.
"""

from __future__ import annotations

import difflib
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from haplane.model import cluster, shape
from haplane.model.agreement import disagreements
from haplane.model.cluster import APISERVER_PORT, KeyPath
from haplane.model.errors import InvalidFile, Problem
from haplane.model.reading import MAX_PROBLEMS, Document, dotted, first_of, read_document, shown


def read_cluster(text: str, *, file: str, folder: Path) -> cluster.Cluster:
    """The cluster that the text of a cluster.yaml describes.

    file: its name in errors. folder: where it is; relative paths in it begin there, a leading ~ stays as it is. Decode
    a file with errors="surrogateescape": bytes that are not UTF-8 then become a problem with a place, too.
    Raises InvalidFile with all that is wrong, at most MAX_PROBLEMS at once.
    """
    with _nothing_collected():
        document = read_document(text, file=file)
        problems = list(document.problems)
        given = None
        try:
            given = shape.ClusterFile.model_validate(document.root)
        except ValidationError as error:
            problems += islice(_translations(error, document), MAX_PROBLEMS + 1)
        problems += islice(disagreements(document), MAX_PROBLEMS + 1)
        if problems or given is None:
            raise InvalidFile(file, first_of(problems))
        return _cluster(given, document, folder)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """A large file makes hundreds of thousands of objects, all in use: looking for circles among them takes a third."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# ---- pydantic's findings in plain sentences ----

_NOUNS = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
}


def _translations(error: ValidationError, document: Document) -> Iterator[Problem]:
    errors = error.errors(include_url=False)
    wrong_keys = {details["loc"][:-1] for details in errors if _is_about_key(details)}
    for details in errors:
        # Whoever mends a wrong key gives it a value, too.
        if details["input"] is None and details["loc"] in wrong_keys:
            continue
        if problem := _translated(details, document):
            yield problem


def _is_about_key(details: ErrorDetails) -> bool:
    """pydantic marks a key that is wrong itself so; a key of the file may be called the same."""
    *around, last = details["loc"]
    return last == "[key]" and around[-1:] == [details["input"]]


def _translated(details: ErrorDetails, document: Document) -> Problem | None:
    path, kind, context = details["loc"], details["type"], details.get("ctx", {})
    about_key = _is_about_key(details)
    if about_key:
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
        written = subject.strip("'\"")
        fix = context["fix"].replace("{value}", written.removeprefix("v")) or _closest(written, context["choices"])
        if about_key and ":" in subject and document.value(*path) is None:
            fix = _SPACE
        return report(path, f"{subject} {context['what']}", expected=context["expected"], fix=fix)
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return document.at_value(path, f"{value} is out of range", expected=bound)
    noun = _NOUNS.get(kind, "allowed here")
    return document.at_value(
        path, f"{value} is not {noun}", expected=noun, fix=_type_fix(kind, details["input"], value)
    )


_SPACE = "put a space after the colon"


def _closest(written: str, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(written, choices, n=1) if len(written) <= 40 else []
    return f"write {close[0]}" if close else ""


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
    fix = _SPACE if key.partition(":")[0] in known else _closest(key, known)
    return document.at_key(path, "is not known here", expected=", ".join(known), fix=fix)


def _keys_at(path: KeyPath) -> list[str]:
    """Keys that the mapping at this path may have."""
    model: type[BaseModel] = shape.ClusterFile
    parts = iter(path)
    for part in parts:
        annotation = next(field.annotation for name, field in model.model_fields.items() if part in (name, field.alias))
        if get_origin(annotation) in (dict, list):
            next(parts, None)  # the machine's name, the index
        model = _model_in(annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for argument in get_args(annotation) if (model := _model_in(argument))), None)


# ---- the cluster ----


def _cluster(given: shape.ClusterFile, document: Document, folder: Path) -> cluster.Cluster:
    kubernetes, etcd, failover = given.kubernetes, given.etcd, given.failover
    return cluster.Cluster(
        name=given.name,
        file=document.file,
        kubernetes=cluster.Kubernetes(
            version=kubernetes.version,
            pods=tuple(kubernetes.pods),
            services=tuple(kubernetes.services),
            cni=kubernetes.cni,
            flannel=kubernetes.flannel.backend,
            proxy=kubernetes.proxy,
        ),
        endpoint=_endpoint(given.endpoint, given.balancer),
        machines={name: _machine(name, machine, given.ssh, folder) for name, machine in given.machines.items()},
        sources=tuple(_source(source, folder) for source in given.bundle.sources),
        balancer=given.balancer.role,
        balanced_by=given.balancer.by,
        balancer_on_workers=given.balancer.on_workers,
        etcd=cluster.Etcd(topology=etcd.topology, heartbeat_ms=etcd.heartbeat, election_ms=etcd.election),
        failover=cluster.Failover(
            target_ms=failover.target, survive=failover.survive, tell_clients=failover.tell_clients
        ),
        accept=given.accept,
        power=_power(given.power) if given.power else None,
        kubeadm={kind: own for kind, own in given.kubeadm if own is not None},
        kubelet=given.kubelet,
        containerd=given.containerd,
        keepalived=given.keepalived.model_dump(),
        haproxy=given.haproxy.model_dump(by_alias=True),
        nginx=given.nginx.model_dump(by_alias=True),
        places={
            path: cluster.Where(document.file, place.key_line, place.key_column, dotted(path))
            for path, place in document.places.items()
        },
    )


def _endpoint(endpoint: shape.Endpoint, balancer: shape.Balancer) -> cluster.Endpoint:
    # Beside an apiserver, its port is taken; without a balancer, it is the port.
    is_beside = balancer.role is cluster.BalancerRole.CONTROL_PLANE and balancer.by is not cluster.BalancerProgram.NONE
    port = 8443 if is_beside else APISERVER_PORT
    return cluster.Endpoint(
        vips=tuple(endpoint.vip),
        port=endpoint.port or port,
        host=endpoint.host,
        by=endpoint.by,
        outside=endpoint.outside,
        virtual_router_id=endpoint.virtual_router_id,
        cast=endpoint.cast,
    )


def _machine(name: str, machine: shape.Machine, common: shape.Ssh, folder: Path) -> cluster.Machine:
    return cluster.Machine(
        name=name,
        addresses=tuple(machine.address),
        roles=frozenset(machine.roles),
        ssh=_ssh(name, common, machine.ssh, folder),
        interface=machine.interface,
        zone=machine.zone,
        keepalived=machine.keepalived.model_dump(),
        haproxy=machine.haproxy.model_dump(by_alias=True),
        nginx=machine.nginx.model_dump(by_alias=True),
    )


def _ssh(name: str, common: shape.Ssh, own: shape.Ssh, folder: Path) -> cluster.Ssh:
    ssh = common.model_copy(update=own.model_dump(exclude_unset=True))
    return cluster.Ssh(
        user=ssh.user,
        port=ssh.port,
        sudo=ssh.user != "root" if ssh.sudo is None else ssh.sudo,
        # The common jump host may be a machine of this file; it is reached without itself.
        jump=None if ssh.jump == name else ssh.jump,
        key=_path(ssh.key, folder) if ssh.key else None,
        known_hosts=_path(ssh.known_hosts, folder) if ssh.known_hosts else None,
    )


def _source(source: shape.Source, folder: Path) -> cluster.BundleSource:
    if source.directory is not None:
        return cluster.BundleSource(kind="directory", path=_path(source.directory, folder))
    if source.official is not None:
        url, registry = source.official.url.rstrip("/"), source.official.registry.rstrip("/")
        return cluster.BundleSource(kind="official", url=url, registry=registry)
    return cluster.BundleSource(kind="go-modules")


def _power(given: shape.Power) -> cluster.Power:
    return cluster.Power(given.off, given.on, given.freeze or "", given.thaw or "")


def _path(text: str, folder: Path) -> Path:
    """A leading ~ stays: whose home it is, is not for pure code to know."""
    return Path(text) if text.startswith("~") else folder / text
