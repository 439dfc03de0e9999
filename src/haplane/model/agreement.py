"""How the values of a cluster.yaml must agree with each other to mean anything at all.

What has a meaning but would lose availability is a hazard, see `design`.

The checks look at the values as they were read, so that one wrong value hides nothing about the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic_core import PydanticCustomError

from haplane.model.cluster import (
    APISERVER_PORT,
    BalancerProgram,
    BalancerRole,
    Cni,
    EndpointOwner,
    EtcdTopology,
    KeyPath,
    Network,
    Role,
    Value,
)
from haplane.model.errors import Problem
from haplane.model.reading import Document
from haplane.model.values import DEFAULT_PODS, DEFAULT_SERVICES, parse_network

# The smallest network that has a tenth address.
FEWEST_SERVICES = 16

T = TypeVar("T")


def disagreements(document: Document) -> Iterator[Problem]:
    """Every problem of every check. A value that cannot be understood is left out: whoever parses it complains."""
    found = _Found.of(document)
    for check in _CHECKS:
        yield from check(found)


@dataclass(frozen=True)
class _Found:
    """What can be understood of a file even when other parts of it are wrong.

    described: the machines that have keys of their own; no other has any that could disagree. pods: their networks.
    """

    document: Document
    machines: Mapping[str, Value]
    described: Sequence[str]
    pods: Mapping[KeyPath, Network]

    @classmethod
    def of(cls, document: Document) -> _Found:
        machines = document.value("machines")
        machines = machines if isinstance(machines, dict) else {}
        described = [name for name, machine in machines.items() if machine and isinstance(machine, dict)]
        return cls(document, machines, described, _networks(document, "pods", DEFAULT_PODS))

    def roles(self, name: str) -> list[Value] | None:
        """None when they cannot be understood."""
        machine = self.machines[name]
        if not isinstance(machine, dict):
            return None
        roles = machine.get("roles", [Role.CONTROL_PLANE])
        if not isinstance(roles, list) or not roles or any(role not in list(Role) for role in roles):
            return None
        return roles

    def with_role(self, role: Role) -> list[str]:
        return [name for name in self.machines if role in (self.roles(name) or ())]

    def jump(self, name: str) -> str:
        """The machine of this file over which this one is reached, or nothing."""
        own: KeyPath = ("machines", name, "ssh", "jump")
        jump = self.document.value(*own) if own in self.document.places else self.document.value("ssh", "jump")
        over_itself = jump == name and own not in self.document.places
        return jump if isinstance(jump, str) and jump in self.machines and not over_itself else ""


def _networks(document: Document, key: str, default: Network) -> dict[KeyPath, Network]:
    """The networks under kubernetes.KEY that can be understood: one, a list, or the default."""
    path: KeyPath = ("kubernetes", key)
    if path not in document.places:
        return {path: default}
    given = document.value(*path)
    # More than two are refused anyway, and every pair is compared.
    values = {(*path, index): one for index, one in enumerate(given[:2])} if isinstance(given, list) else {path: given}
    found = {at: _understood(parse_network, value) for at, value in values.items()}
    return {at: network for at, network in found.items() if network}


def _understood(parse: Callable[[object], T], value: object) -> T | None:
    try:
        return parse(value)
    except PydanticCustomError:
        return None


def _a_control_plane_exists(found: _Found) -> Iterator[Problem]:
    all_roles = [found.roles(name) for name in found.machines]
    if ("machines",) not in found.document.places or None in all_roles:
        return
    if not any(Role.CONTROL_PLANE in (roles or ()) for roles in all_roles):
        expected = f"at least one machine with the role {Role.CONTROL_PLANE}"
        yield found.document.at_key(("machines",), "no machine is a control-plane machine", expected=expected)


def _machines_fit_the_topology(found: _Found) -> Iterator[Problem]:
    """What is asked for has machines, and no machine has a role that nothing uses."""
    for role, path, kind, value in (
        (Role.ETCD, ("etcd", "topology"), EtcdTopology, EtcdTopology.EXTERNAL),
        (Role.BALANCER, ("balancer", "role"), BalancerRole, BalancerRole.BALANCER),
    ):
        given = found.document.value(*path)
        machines = found.with_role(role)
        # Whoever asks for machines of its own for nothing is told so.
        is_moot = role is Role.BALANCER and found.document.value("balancer", "by") == BalancerProgram.NONE
        if (
            given == value
            and not is_moot
            and not machines
            and all(found.roles(name) is not None for name in found.machines)
        ):
            what = f"{value} needs machines of its own, and no machine has the role {role}"
            yield found.document.at_value(path, what, expected=f"at least one machine with the role {role}")
        # What was written in their place may have meant them.
        if given == value or (found.document.is_given(*path) and given not in list(kind)):
            continue
        for name in machines:
            what = f"nothing uses the role {role}"
            fix = "leave the role out" if is_moot else f"write {path[0]}: {{{path[1]}: {value}}}, or leave the role out"
            index = (found.roles(name) or []).index(role)
            yield found.document.at_value(("machines", name, "roles", index), what, fix=fix)


def _an_endpoint_of_others_has_no_vrrp(found: _Found) -> Iterator[Problem]:
    by = ("endpoint", "by")
    if found.document.value(*by) != EndpointOwner.EXTERNAL:
        return
    sections = [("keepalived",), *(("machines", name, "keepalived") for name in found.described)]
    for path in (("endpoint", "virtual_router_id"), ("endpoint", "cast"), *sections):
        if path in found.document.places:
            what = f"has no meaning with endpoint.by: {EndpointOwner.EXTERNAL}, where keepalived does not run"
            yield found.document.at_key(path, what, fix="remove it")


def _what_is_frozen_is_thawed(found: _Found) -> Iterator[Problem]:
    for given, missing in (("freeze", "thaw"), ("thaw", "freeze")):
        if ("power", given) in found.document.places and ("power", missing) not in found.document.places:
            what = f"has no meaning without power.{missing}"
            yield found.document.at_key(("power", given), what, fix=f"add {missing}:")


def _settings_are_of_who_balances(found: _Found) -> Iterator[Problem]:
    """Each program that balances has a section of its own."""
    by = found.document.value("balancer", "by") or BalancerProgram.HAPROXY
    if by not in list(BalancerProgram):
        return
    for program in BalancerProgram:
        for path in ((str(program),), *(("machines", name, str(program)) for name in found.described)):
            if program != by and path in found.document.places:
                what = f"has no meaning with balancer.by: {by}, where {program} does not run"
                yield found.document.at_key(path, what, fix=f"remove it, or write balancer: {{by: {program}}}")


def _without_a_balancer_clients_reach_apiservers(found: _Found) -> Iterator[Problem]:
    """On the apiservers' own machines, and at their own port unless a load balancer of yours is in front."""
    if found.document.value("balancer", "by") != BalancerProgram.NONE:
        return
    if found.document.value("balancer", "role") == BalancerRole.BALANCER:
        what = f"{BalancerRole.BALANCER} has no meaning with balancer.by: {BalancerProgram.NONE}"
        yield found.document.at_value(("balancer", "role"), what, expected=BalancerRole.CONTROL_PLANE, fix="remove it")
    port = found.document.value("endpoint", "port")
    is_ours = found.document.value("endpoint", "by") != EndpointOwner.EXTERNAL
    if is_ours and isinstance(port, int) and port != APISERVER_PORT:
        what = f"with balancer.by: {BalancerProgram.NONE} nobody listens on {port}, only apiservers on theirs"
        fix = "leave it out, or let haproxy or nginx balance"
        yield found.document.at_value(("endpoint", "port"), what, expected=str(APISERVER_PORT), fix=fix)


def _pods_of_each_node_fit(found: _Found) -> Iterator[Problem]:
    """Every node gets a part of the pods network (a /24, or a /64) for itself, where haplane makes that network."""
    if found.document.value("kubernetes", "cni") not in (Cni.BRIDGE, Cni.FLANNEL):
        return
    machines = len({*found.with_role(Role.CONTROL_PLANE), *found.with_role(Role.WORKER)})
    for path, network in found.pods.items():
        part = 24 if network.version == 4 else 64
        if network.num_addresses < machines << (network.max_prefixlen - part):
            what = f"{network} has no /{part} for each of {machines} machines"
            at = path if path in found.document.places else ("kubernetes", "cni")
            yield found.document.at_value(at, what, expected=f"a network of {machines} times /{part}, or cni: none")


def _services_have_room(found: _Found) -> Iterator[Problem]:
    """The tenth address is that of the cluster's DNS; kubeadm asks for as many."""
    for path, network in _networks(found.document, "services", DEFAULT_SERVICES).items():
        if network.num_addresses < FEWEST_SERVICES:
            what = f"{network} has only {network.num_addresses} addresses"
            smallest = network.max_prefixlen - (FEWEST_SERVICES - 1).bit_length()
            yield found.document.at_value(path, what, expected=f"a network of services of at least /{smallest}")


def _flannel_has_a_network(found: _Found) -> Iterator[Problem]:
    path, cni = ("kubernetes", "flannel"), found.document.value("kubernetes", "cni") or Cni.NONE
    if path in found.document.places and cni in (Cni.NONE, Cni.BRIDGE):
        what = f"has no meaning with kubernetes.cni: {cni}"
        yield found.document.at_key(path, what, fix=f"remove it, or write cni: {Cni.FLANNEL}")


def _workers_run_haproxy(found: _Found) -> Iterator[Problem]:
    by, path = found.document.value("balancer", "by") or BalancerProgram.HAPROXY, ("balancer", "on_workers")
    if found.document.value(*path) is True and by in (BalancerProgram.NGINX, BalancerProgram.NONE):
        what = f"true has no meaning with balancer.by: {by}: what workers run is {BalancerProgram.HAPROXY}"
        yield found.document.at_value(path, what, expected="false", fix="remove it, or let haproxy balance")


def _owned_keys_are_absent(found: _Found) -> Iterator[Problem]:
    own = {
        ("machines", name, *path): owner.format(name=name)
        for name in found.described
        for path, owner in _OWNED_OF_KEEPALIVED.items()
    }
    for path, owner in {**_OWNED, **own}.items():
        if path in found.document.places:
            fix = f"say it with {owner}" if owner else "remove it"
            yield found.document.at_key(path, "is written by haplane", fix=fix)


def _jumps_end(found: _Found) -> Iterator[Problem]:
    walked: set[str] = set()
    # In a circle somebody has a jump of its own.
    for name in found.described:
        way: list[str] = []
        while name and name not in walked:
            walked.add(name)
            way.append(name)
            name = found.jump(name)
        if name in way:
            circle = " over ".join([*way[way.index(name) :], name])
            path = ("machines", name, "ssh", "jump")
            yield found.document.at_value(path, f"jump hosts in a circle: {circle}", expected="a way from this host")


_CLUSTER_CONFIGURATION = ("kubeadm", "ClusterConfiguration")
_PASSED_THROUGH: tuple[KeyPath, ...] = (
    _CLUSTER_CONFIGURATION,
    ("kubeadm", "InitConfiguration"),
    ("kubeadm", "JoinConfiguration"),
    ("kubelet",),
)

# Said once for all parts of the file that depend on it: peers must agree on one, addresses are removed from the other.
_OWNED_OF_KEEPALIVED: Mapping[KeyPath, str] = {
    ("keepalived", "vrrp_instance", "virtual_router_id"): "endpoint.virtual_router_id",
    ("keepalived", "vrrp_instance", "interface"): "machines.{name}.interface",
}

# Keys of the passed-through sections that haplane writes itself, and the key of cluster.yaml that says them.
_OWNED: Mapping[KeyPath, str] = {
    (*_CLUSTER_CONFIGURATION, "controlPlaneEndpoint"): "endpoint",
    (*_CLUSTER_CONFIGURATION, "networking"): "kubernetes.pods and kubernetes.services",
    (*_CLUSTER_CONFIGURATION, "kubernetesVersion"): "kubernetes.version",
    **{path: owner.format(name="NAME") for path, owner in _OWNED_OF_KEEPALIVED.items()},
    **{(*section, key): "" for section in _PASSED_THROUGH for key in ("apiVersion", "kind")},
}

_CHECKS: tuple[Callable[[_Found], Iterator[Problem]], ...] = (
    _a_control_plane_exists,
    _machines_fit_the_topology,
    _an_endpoint_of_others_has_no_vrrp,
    _settings_are_of_who_balances,
    _without_a_balancer_clients_reach_apiservers,
    _pods_of_each_node_fit,
    _services_have_room,
    _flannel_has_a_network,
    _workers_run_haproxy,
    _what_is_frozen_is_thawed,
    _owned_keys_are_absent,
    _jumps_end,
)
