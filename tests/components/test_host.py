"""The operating system: what only nodes need."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

from tests.model.clusters import etcd_apart, view

from haplane.components import host
from haplane.model.cluster import BalancerRole, Cluster, Machine, Role, Ssh


def forwards_ipv6(cluster: Cluster, machine: str) -> tuple[bool, bool]:
    """In the file that a boot reads, and at once."""
    found = host.design(view(cluster, machine))
    sysctl = next(file.content for file in found.files if file.path == "/etc/sysctl.d/90-haplane.conf")
    return "net.ipv6.conf.all.forwarding" in sysctl, "accept_ra" in found.load.command


def test_only_nodes_forward_packets_of_ipv6() -> None:
    cluster = etcd_apart()
    of_others = {
        "w1": Machine("w1", (ip_address("192.0.2.21"),), frozenset({Role.WORKER}), Ssh()),
        "lb1": Machine(
            "lb1", (ip_address("192.0.2.51"), ip_address("2001:db8::51")), frozenset({Role.BALANCER}), Ssh()
        ),
    }
    cluster = replace(
        cluster,
        balancer=BalancerRole.BALANCER,
        machines={**cluster.machines, **of_others},
        kubernetes=replace(cluster.kubernetes, pods=(*cluster.kubernetes.pods, ip_network("fd00:10:244::/56"))),
    )
    assert {name: forwards_ipv6(cluster, name) for name in ("cp1", "w1", "lb1", "e1")} == {
        "cp1": (True, True),
        "w1": (True, True),
        "lb1": (False, False),
        "e1": (False, False),
    }


def test_without_ipv6_no_node_does() -> None:
    assert forwards_ipv6(etcd_apart(), "cp1") == (False, False)
