"""How the values of a cluster.yaml must agree with each other.

The checks look at the values as they were read, so that one wrong value hides nothing about the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from pydantic_core import PydanticCustomError

from haplane.model.cluster import Address, Cni, Interface, Network, Role, Value
from haplane.model.errors import Problem
from haplane.model.reading import Document, KeyPath
from haplane.model.values import DEFAULT_PODS, DEFAULT_SERVICES, parse_address, parse_network, parse_vip

T = TypeVar("T")


def disagreements(document: Document) -> Iterator[Problem]:
    """Every problem of every check. A value that cannot be understood is left out: whoever parses it complains."""
    found = _Found.of(document)
    for check in _CHECKS:
        yield from check(found)


@dataclass(frozen=True)
class _Found:
    """What can be understood of a file even when other parts of it are wrong. networks: of pods and services."""

    document: Document
    machines: Mapping[str, Value]
    addresses: Mapping[str, Address]
    networks: Mapping[KeyPath, Network]
    vip: Interface | None

    @classmethod
    def of(cls, document: Document) -> _Found:
        machines = document.value("machines")
        machines = machines if isinstance(machines, dict) else {}
        addresses = {name: _understood(parse_address, document.value("machines", name, "address")) for name in machines}
        return cls(
            document,
            machines,
            {name: address for name, address in addresses.items() if address},
            {**_networks(document, "pods", DEFAULT_PODS), **_networks(document, "services", DEFAULT_SERVICES)},
            _understood(parse_vip, document.value("endpoint", "vip")),
        )

    def roles(self, name: str) -> list[Value] | None:
        """None when they cannot be understood."""
        machine = self.machines[name]
        if not isinstance(machine, dict):
            return None
        roles = machine.get("roles", [Role.CONTROL_PLANE])
        if not isinstance(roles, list) or not roles or any(role not in list(Role) for role in roles):
            return None
        return roles

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


def _addresses_differ(found: _Found) -> Iterator[Problem]:
    first: dict[Address, str] = {}
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
        if not found.vip or address in found.vip.network or Role.CONTROL_PLANE not in (found.roles(name) or ()):
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


def _pods_of_the_bridge_fit(found: _Found) -> Iterator[Problem]:
    """With cni: bridge every control-plane machine gets a part of the pods network (a /24, or a /64) for itself."""
    if found.document.value("kubernetes", "cni") != Cni.BRIDGE:
        return
    machines = sum(Role.CONTROL_PLANE in (found.roles(name) or ()) for name in found.machines)
    for path, network in found.networks.items():
        part = 24 if network.version == 4 else 64
        if path[1] == "pods" and network.num_addresses < machines << (network.max_prefixlen - part):
            what = f"{network} has no /{part} for each of {machines} machines"
            at = path if path in found.document.places else ("kubernetes", "cni")
            yield found.document.at_value(at, what, expected=f"a network of {machines} times /{part}, or cni: none")


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


_CLUSTER_CONFIGURATION = ("kubeadm", "ClusterConfiguration")
_PASSED_THROUGH: tuple[KeyPath, ...] = (
    _CLUSTER_CONFIGURATION,
    ("kubeadm", "InitConfiguration"),
    ("kubeadm", "JoinConfiguration"),
    ("kubelet",),
)

# Keys of the passed-through sections that haplane writes itself, and the key of cluster.yaml that says them.
_OWNED: Mapping[KeyPath, str] = {
    (*_CLUSTER_CONFIGURATION, "controlPlaneEndpoint"): "endpoint",
    (*_CLUSTER_CONFIGURATION, "networking"): "kubernetes.pods and kubernetes.services",
    (*_CLUSTER_CONFIGURATION, "kubernetesVersion"): "kubernetes.version",
    **{(*section, key): "" for section in _PASSED_THROUGH for key in ("apiVersion", "kind")},
}

_CHECKS: tuple[Callable[[_Found], Iterator[Problem]], ...] = (
    _a_control_plane_exists,
    _addresses_differ,
    _vip_is_free,
    _vip_shares_the_machines_network,
    _networks_are_apart,
    _pods_of_the_bridge_fit,
    _owned_keys_are_absent,
    _jumps_end,
)
