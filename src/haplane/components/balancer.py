"""Which program balances in a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from haplane.components import haproxy, nginx
from haplane.components.base import Balancer, loopbacks
from haplane.model.cluster import Address, BalancerProgram, Cluster

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


# Section and keyword by which the file says where it listens.
_LISTENS = {BalancerProgram.HAPROXY: ("frontend", "bind"), BalancerProgram.NGINX: ("server", "listen")}


def loopback_of_every_node(cluster: Cluster) -> Address | None:
    """Where every node reaches a balancer of its own; None if some have none, or the file says where it listens."""
    if any(one not in cluster.running_balancer for one in cluster.nodes):
        return None
    section, keyword = _LISTENS[cluster.balanced_by]
    own = {
        BalancerProgram.HAPROXY: (cluster.haproxy, *(one.haproxy for one in cluster.nodes)),
        BalancerProgram.NGINX: (cluster.nginx, *(one.nginx for one in cluster.nodes)),
    }
    if any(keyword in sections.get(section, {}) for sections in own[cluster.balanced_by]):
        return None
    return loopbacks(cluster)[0]
