"""Which components a machine has, by its roles, in the order in which they are brought up."""

from __future__ import annotations

from collections.abc import Callable

from haplane.components import addons, containerd, etcd, etcd_watch, host, keepalived, kubernetes
from haplane.components.balancer import balancer_of
from haplane.components.base import ComponentDesign, View
from haplane.model import roles
from haplane.model.cluster import Cluster, Machine


def _is_external_etcd(cluster: Cluster, machine: Machine) -> bool:
    return not cluster.is_stacked and roles.etcd_members(cluster, machine)


def _asks_external_etcd(cluster: Cluster, machine: Machine) -> bool:
    return not cluster.is_stacked and roles.control_plane(cluster, machine)


def _balancer_design(view: View) -> ComponentDesign | None:
    balancer = balancer_of(view.cluster)
    return balancer.design(view) if balancer else None


_COMPONENTS: tuple[tuple[Callable[[View], ComponentDesign | None], Callable[[Cluster, Machine], bool]], ...] = (
    (host.design, roles.managed),
    (containerd.design, roles.nodes),
    (kubernetes.kubelet_design, roles.nodes),
    (kubernetes.kubeadm_design, roles.control_plane),
    (etcd.design, _is_external_etcd),
    (etcd_watch.design, _asks_external_etcd),
    (_balancer_design, roles.run_a_balancer),
    (keepalived.design, roles.vip_sharers),
    (addons.design, roles.control_plane),
)


def components_of(view: View) -> dict[str, ComponentDesign]:
    """By name."""
    found = (design(view) for design, belongs in _COMPONENTS if belongs(view.cluster, view.machine))
    return {one.name: one for one in found if one}
