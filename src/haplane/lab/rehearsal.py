"""A cluster.yaml of yours as a lab's: the same design, on addresses of this host, with what containers need. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface
from itertools import chain, count
from typing import Any

import yaml

from haplane.model.errors import UsageError

HEAD = """\
# Made by `haplane lab up` after {source}: the same design on machines of this host. What is at the end differs,
# because containers on a shared kernel need it.
"""
# What a lab decides itself: who logs in how, and who cuts the power.
_LABS_OWN = ("ssh", "power")
_LABS_OWN_OF_MACHINES = ("ssh", "interface", "address")
MACHINES_FROM, VIPS_FROM, CLIENT, ONLY_IPV6_FROM = 10, 99, 199, 210


def needs_ipv6(document: Mapping[str, Any]) -> bool:
    machines = document["machines"].values()
    given = [address for one in machines for address in _listed(one["address"])]
    given += [vip.partition("/")[0] for vip in _listed(document["endpoint"]["vip"])]
    return any(ip_address(str(one)).version == 6 for one in given)


def subnet6_of(subnet: IPv4Network) -> IPv6Network:
    """Its own for every subnet: unique local addresses (RFC 4193)."""
    _, second, third, _ = subnet.network_address.packed
    return IPv6Network(f"fd77:{second:x}:{third:x}::/64")


def places(wanted: Mapping[str, int], taken: Set[int], subnet: IPv4Network) -> dict[str, int]:
    """Machine -> its place in the subnet: the one that is wanted for it, else the next that is free, from the first on.

    taken: by others. The first address of a lab is this host's. Raises UsageError when there are not enough.
    """
    last = subnet.num_addresses - 1
    free = dict.fromkeys(one for one in range(2, last) if one not in taken)
    found: dict[str, int] = {}
    for name, one in wanted.items():
        place = one if one in free else next((other for other in free if other > one), next(iter(free), None))
        if place is None:
            raise UsageError(
                f"{len(wanted)} machines do not fit into {subnet}",
                why=f"{last - 2 - len(taken)} addresses are left there for them",
                hint="haplane lab up --subnet with a larger network, for example 10.77.0.0/22",
            )
        del free[place]
        found[name] = place
    return found


def rehearsed(
    document: Mapping[str, Any],
    *,
    source: str,
    name: str,
    subnet: IPv4Network,
    ssh: Mapping[str, str],
    power: Mapping[str, str],
    containers: Mapping[str, Any],
) -> str:
    """The text of the lab's cluster.yaml.

    document: of a file that `read_cluster` accepts. containers: what they need, merged into the sections of that name.
    Raises UsageError when the subnet is too small.
    """
    networks: dict[int, IPv4Network | IPv6Network] = {4: subnet, 6: subnet6_of(subnet)}

    def placed(given: object, position: int) -> str | list[str]:
        """The same kind of address, or of several, at this position of the lab's networks."""
        found = [str(networks[ip_interface(str(one)).version][position]) for one in _listed(given)]
        return found if isinstance(given, list) else found[0]

    result: dict[str, Any] = {key: value for key, value in document.items() if key not in _LABS_OWN}
    endpoint, machines = dict(document["endpoint"]), {**document["machines"]}
    vips = _listed(placed(endpoint["vip"], VIPS_FROM + 1))
    with_prefix = [f"{one}/{networks[ip_address(one).version].prefixlen}" for one in vips]
    endpoint["vip"] = with_prefix if isinstance(endpoint["vip"], list) else with_prefix[0]
    if "outside" in endpoint:
        endpoint["outside"] = placed(endpoint["outside"], VIPS_FROM + 2)
    kubernetes = dict(document["kubernetes"])
    if kubernetes.get("cni", "none") == "none" and not any(
        "worker" in one.get("roles", ()) for one in machines.values()
    ):
        # Nodes become Ready without a network that somebody would have to bring.
        kubernetes["cni"] = "bridge"
    result |= {"name": name, "kubernetes": kubernetes, "endpoint": endpoint, "ssh": dict(ssh), "machines": {}}
    if not any(one.get("roles") == ["client"] for one in machines.values()):
        names = chain(["client"], (f"client{number}" for number in count(2)))
        free = next(one for one in names if one not in machines)
        # Of the IP versions of the endpoint, which it asks.
        machines[free] = {"address": endpoint["vip"], "roles": ["client"]}
    wanted = {
        key: (CLIENT if one.get("roles") == ["client"] else MACHINES_FROM) + position
        for position, (key, one) in enumerate(machines.items(), start=1)
    }
    place = places(wanted, {VIPS_FROM + 1, VIPS_FROM + 2}, subnet)
    for key, machine in machines.items():
        own = {name: value for name, value in machine.items() if name not in _LABS_OWN_OF_MACHINES}
        result["machines"][key] = {"address": placed(machine["address"], place[key]), **own}
    result["power"] = dict(power)
    for section, needed in containers.items():
        result[section] = _merged(result.get(section) or {}, needed)
    return HEAD.format(source=source) + yaml.safe_dump(result, sort_keys=False, width=100)


def _listed(value: object) -> Iterator[str]:
    yield from map(str, value if isinstance(value, list) else [value])


def _merged(given: Mapping[str, Any], needed: Mapping[str, Any]) -> dict[str, Any]:
    """What containers need wins: without it nothing starts."""
    result = dict(given)
    for key, value in needed.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
