"""Who listens where on a machine, and how HAProxy's `bind` and `stats socket` and nginx's `listen` say it.

Sources: HAProxy's configuration manual, 11.1; ngx_stream_core_module, `listen`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from haplane.components import etcd, waiting
from haplane.components.addons import FLANNEL_HEALTH_PORT
from haplane.components.balancer import balancer_of
from haplane.components.base import HEALTH_PORT, health_is_public
from haplane.design.hazards.effective import Told
from haplane.model.bundle import Addon
from haplane.model.cluster import APISERVER_PORT, Address, Cluster, Machine, Role, Where

LOOPBACK = ip_address("127.0.0.1")


@dataclass(frozen=True)
class Listener:
    """A program on a range of TCP ports. address: None means every one."""

    program: str
    address: Address | None
    first: int
    last: int

    def overlaps(self, other: Listener) -> bool:
        """A wildcard takes the port on every address."""
        same_address = None in (self.address, other.address) or self.address == other.address
        return same_address and self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Bound:
    """A line of a balancer that listens. parameters: the words after its addresses."""

    program: str
    listeners: tuple[Listener, ...]
    parameters: tuple[str, ...]
    where: Where

    def parameter(self, keyword: str) -> str | None:
        """The word after the keyword; None if it is not there."""
        words = iter(self.parameters)
        return next((next(words, "") for word in words if word == keyword), None)


_PROGRAMS = {"bind": "HAProxy's frontend", "stats socket": "HAProxy's stats socket", "listen": "nginx"}


def bound(told: Told, keyword: str, section: str) -> Bound | None:
    """What a line `bind`, `stats socket` or `listen` says; None if it is not there."""
    words = (told.arguments(keyword, section) or "").split()
    if not words:
        return None
    program = _PROGRAMS[keyword]
    # nginx takes a port alone, too.
    words[0] = f":{words[0]}" if keyword == "listen" and words[0].isdecimal() else words[0]
    where = told.where(keyword, section, otherwise=("endpoint", "port"))
    return Bound(program, tuple(_listeners(words[0], program)), tuple(words[1:]), where)


def clients_line(told: Told) -> Bound | None:
    """Where a balancer takes clients' connections."""
    return bound(told, "bind", "frontend") if told.component == "haproxy" else bound(told, "listen", "server")


def _listeners(addresses: str, program: str) -> Iterator[Listener]:
    """ADDRESS:PORT or ADDRESS:FIRST-LAST, several with commas; what is no TCP address (a socket's path) is left out."""
    for one in addresses.split(","):
        found = re.fullmatch(r"(?:(?:ipv4|ipv6|tcp|tcp4|tcp6)@)?(.*):([0-9]+)(?:-([0-9]+))?", one)
        if not found or "@" in found[1] or "/" in found[1]:
            continue
        try:
            host = found[1].strip("[]")
            address = None if host in ("", "*") else ip_address(host)
        except ValueError:
            # A name or a variable: what it means is not known here.
            continue
        everywhere = address is None or address.is_unspecified
        yield Listener(program, None if everywhere else address, int(found[2]), int(found[3] or found[2]))


def others(cluster: Cluster, machine: Machine) -> Iterator[Listener]:
    """Everything on the machine but the balancer's own configurable lines. Source: Kubernetes, ports and protocols."""

    def on(address: Address | None, *ports: int, program: str) -> Iterator[Listener]:
        return (Listener(program, address, port, port) for port in ports)

    yield from on(None, machine.ssh.port, program="sshd")
    balancer = balancer_of(cluster)
    balances = Role(cluster.balancer) in machine.roles
    if balancer and cluster.runs_balancer(machine):
        # A worker's own is asked by nobody else.
        address = None if balances and health_is_public(cluster) else LOOPBACK
        yield from on(address, HEALTH_PORT, program=f"{balancer.title}'s health page")
    if balances and waiting.is_used(cluster):
        yield from on(machine.address, waiting.PEERS_PORT, program="HAProxy's peers")
    if machine.is_node:
        yield from on(None, 10250, program="kubelet")
        yield from on(LOOPBACK, 10248, program="kubelet")
        yield from on(None, 10256, program="kube-proxy")
        yield from on(LOOPBACK, 10249, program="kube-proxy")
        if Addon.FLANNEL in cluster.addons:
            yield from on(LOOPBACK, FLANNEL_HEALTH_PORT, program="flannel")
    if Role.CONTROL_PLANE in machine.roles:
        yield from on(None, APISERVER_PORT, program="the apiserver")
        yield from on(LOOPBACK, 10257, program="the controller manager")
        yield from on(LOOPBACK, 10259, program="the scheduler")
    if machine in cluster.etcd_members:
        yield from on(machine.address, etcd.CLIENT_PORT, etcd.PEER_PORT, program="etcd")
        yield from on(LOOPBACK, etcd.CLIENT_PORT, etcd.METRICS_PORT, program="etcd")
