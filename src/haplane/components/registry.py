"""The components of a control-plane node, in the order in which they are brought up."""

from __future__ import annotations

from collections.abc import Callable

from haplane.components import containerd, haproxy, host, keepalived, kubernetes
from haplane.components.base import ComponentDesign, View

CONTROL_PLANE: tuple[Callable[[View], ComponentDesign], ...] = (
    host.design,
    containerd.design,
    kubernetes.kubelet_design,
    kubernetes.kubeadm_design,
    haproxy.design,
    keepalived.design,
)
