"""Which components a machine has, by its roles, in the order in which they are brought up."""

from __future__ import annotations

from collections.abc import Callable

from haplane.components import containerd, etcd, host, keepalived, kubernetes
from haplane.components.balancer import balancer_of
from haplane.components.base import ComponentDesign, View
from haplane.model.cluster import Cluster, EndpointOwner, EtcdTopology, Machine, Role

_NODES = {Role.CONTROL_PLANE, Role.WORKER}


def _is_node(cluster: Cluster, machine: Machine) -> bool:
    return bool(machine.roles & _NODES)


def _is_control_plane(cluster: Cluster, machine: Machine) -> bool:
    return Role.CONTROL_PLANE in machine.roles


def _is_reached_by_clients(cluster: Cluster, machine: Machine) -> bool:
    return Role(cluster.balancer) in machine.roles


def _may_hold_the_vip(cluster: Cluster, machine: Machine) -> bool:
    return _is_reached_by_clients(cluster, machine) and cluster.endpoint.by is EndpointOwner.KEEPALIVED


def _is_external_etcd(cluster: Cluster, machine: Machine) -> bool:
    return cluster.etcd.topology is EtcdTopology.EXTERNAL and Role.ETCD in machine.roles


def _is_changed(cluster: Cluster, machine: Machine) -> bool:
    """Clients only ask: nothing is installed there."""
    return machine.roles != {Role.CLIENT}


def _balancer_design(view: View) -> ComponentDesign | None:
    balancer = balancer_of(view.cluster)
    return balancer.design(view) if balancer else None


_COMPONENTS: tuple[tuple[Callable[[View], ComponentDesign | None], Callable[[Cluster, Machine], bool]], ...] = (
    (host.design, _is_changed),
    (containerd.design, _is_node),
    (kubernetes.kubelet_design, _is_node),
    (kubernetes.kubeadm_design, _is_control_plane),
    (etcd.design, _is_external_etcd),
    (_balancer_design, _is_reached_by_clients),
    (keepalived.design, _may_hold_the_vip),
)


def components_of(view: View) -> dict[str, ComponentDesign]:
    """By name."""
    found = (design(view) for design, belongs in _COMPONENTS if belongs(view.cluster, view.machine))
    return {one.name: one for one in found if one}
