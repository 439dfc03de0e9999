"""Which machines something concerns: questions about a cluster and one of its machines, for tables of such."""

from __future__ import annotations

from haplane.model.cluster import Cluster, Machine, Role


def everyone(cluster: Cluster, machine: Machine) -> bool:
    return True


def managed(cluster: Cluster, machine: Machine) -> bool:
    """Those on which something is installed: clients only ask."""
    return machine.roles != {Role.CLIENT}


def nodes(cluster: Cluster, machine: Machine) -> bool:
    return machine.is_node


def control_plane(cluster: Cluster, machine: Machine) -> bool:
    return Role.CONTROL_PLANE in machine.roles


def etcd_members(cluster: Cluster, machine: Machine) -> bool:
    return machine in cluster.etcd_members


def balancers(cluster: Cluster, machine: Machine) -> bool:
    return machine in cluster.balancers


def run_a_balancer(cluster: Cluster, machine: Machine) -> bool:
    return cluster.runs_balancer(machine)


def vip_sharers(cluster: Cluster, machine: Machine) -> bool:
    return machine in cluster.vip_sharers
