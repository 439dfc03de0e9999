"""Which program balances in a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from haplane.components import haproxy, nginx
from haplane.components.base import Balancer
from haplane.model.cluster import BalancerProgram, Cluster

_BALANCERS: Mapping[BalancerProgram, Balancer] = MappingProxyType(
    {BalancerProgram.HAPROXY: haproxy.BALANCER, BalancerProgram.NGINX: nginx.BALANCER}
)


def balancer_of(cluster: Cluster) -> Balancer | None:
    """None: there is none, and clients reach apiservers straight."""
    return _BALANCERS.get(cluster.balanced_by)


def asked_of(cluster: Cluster) -> str:
    """What keepalived asks before a machine may hold the VIP, as people call it: without a balancer the apiserver."""
    balancer = balancer_of(cluster)
    return balancer.title if balancer else "apiserver"
