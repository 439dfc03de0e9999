"""Clusters for tests of what is made from them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from haplane.components.base import Measured, View
from haplane.model.bundle import BundleManifest
from haplane.model.cluster import (
    BalancerProgram,
    Cluster,
    Endpoint,
    Etcd,
    EtcdTopology,
    Kubernetes,
    Machine,
    Role,
    Ssh,
)

BUNDLE = BundleManifest(
    identity="0123456789abcdef",
    kubernetes_version="1.35.4",
    architecture="amd64",
    etcd_image="registry.k8s.io/etcd:3.6.6-0",
    pause_image="registry.k8s.io/pause:3.10.1",
    images=(),
    files=(),
)


def three_nodes() -> Cluster:
    machines = {
        f"cp{i}": Machine(f"cp{i}", (ip_address(f"192.0.2.1{i}"),), frozenset({Role.CONTROL_PLANE}), Ssh())
        for i in (1, 2, 3)
    }
    return Cluster(
        name="prod",
        file="cluster.yaml",
        kubernetes=Kubernetes("1.35.4", (ip_network("10.244.0.0/16"),), (ip_network("10.96.0.0/16"),)),
        endpoint=Endpoint((ip_interface("192.0.2.100/24"),)),
        machines=machines,
        sources=(),
    )


def balanced_by(by: BalancerProgram) -> Cluster:
    """Three nodes; without a balancer clients come to the apiservers' own port."""
    cluster = three_nodes()
    port = 6443 if by is BalancerProgram.NONE else cluster.endpoint.port
    return replace(cluster, balanced_by=by, endpoint=replace(cluster.endpoint, port=port))


def etcd_apart(*, shared: bool = False) -> Cluster:
    """Three nodes, and three machines of etcd, e1 to e3; shared: the nodes are the machines of etcd, too."""
    cluster = three_nodes()
    nodes = {
        name: replace(one, roles=one.roles | {Role.ETCD}) if shared else one for name, one in cluster.machines.items()
    }
    members = {
        f"e{i}": Machine(f"e{i}", (ip_address(f"192.0.2.2{i}"),), frozenset({Role.ETCD}), Ssh())
        for i in (() if shared else (1, 2, 3))
    }
    return replace(cluster, machines={**nodes, **members}, etcd=Etcd(EtcdTopology.EXTERNAL))


def view(cluster: Cluster, machine: str) -> View:
    return View(cluster, cluster.machines[machine], Measured(), authority="PEM\n", bundle=BUNDLE)
