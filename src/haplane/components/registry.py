"""Which components a machine has, by its roles, in the order in which they are brought up."""

from __future__ import annotations

from collections.abc import Callable

from haplane.components import addons, containerd, etcd, etcd_watch, host, keepalived, kubernetes
from haplane.components.balancer import balancer_of
from haplane.components.base import ComponentDesign, View
from haplane.model.cluster import Cluster, Machine, Role

_NODES = {Role.CONTROL_PLANE, Role.WORKER}


def _is_node(cluster: Cluster, machine: Machine) -> bool:
    return bool(machine.roles & _NODES)


def _is_control_plane(cluster: Cluster, machine: Machine) -> bool:
    return Role.CONTROL_PLANE in machine.roles


def _runs_the_balancer(cluster: Cluster, machine: Machine) -> bool:
    return machine in cluster.running_balancer


def _may_hold_the_vip(cluster: Cluster, machine: Machine) -> bool:
    return machine in cluster.vip_sharers


def _is_external_etcd(cluster: Cluster, machine: Machine) -> bool:
    return not cluster.is_stacked and machine in cluster.etcd_members


def _asks_external_etcd(cluster: Cluster, machine: Machine) -> bool:
    return not cluster.is_stacked and machine in cluster.control_plane


def _is_changed(cluster: Cluster, machine: Machine) -> bool:
    """Clients only ask: nothing is installed there."""
    return machine in cluster.managed


def _balancer_design(view: View) -> ComponentDesign | None:
    balancer = balancer_of(view.cluster)
    return balancer.design(view) if balancer else None


_COMPONENTS: tuple[tuple[Callable[[View], ComponentDesign | None], Callable[[Cluster, Machine], bool]], ...] = (
    (host.design, _is_changed),
    (containerd.design, _is_node),
    (kubernetes.kubelet_design, _is_node),
    (kubernetes.kubeadm_design, _is_control_plane),
    (etcd.design, _is_external_etcd),
    (etcd_watch.design, _asks_external_etcd),
    (_balancer_design, _runs_the_balancer),
    (keepalived.design, _may_hold_the_vip),
    (addons.design, _is_control_plane),
)


def components_of(view: View) -> dict[str, ComponentDesign]:
    """By name."""
    found = (design(view) for design, belongs in _COMPONENTS if belongs(view.cluster, view.machine))
    return {one.name: one for one in found if one}
