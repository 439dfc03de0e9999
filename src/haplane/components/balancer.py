"""Which program balances in a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from haplane.components import haproxy
from haplane.components.base import Balancer
from haplane.model.cluster import BalancerProgram, Cluster

_BALANCERS: Mapping[BalancerProgram, Balancer] = MappingProxyType({BalancerProgram.HAPROXY: haproxy.BALANCER})


def balancer_of(cluster: Cluster) -> Balancer:
    return _BALANCERS[cluster.balanced_by]
