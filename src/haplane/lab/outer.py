"""The lab's stand-in for a load balancer of yours that has the endpoint's address, or one in front of it. Pure."""

from __future__ import annotations

from itertools import chain, count

from haplane.components.balancer import balancer_of
from haplane.components.base import HEALTH_PORT, join_host_port
from haplane.model.cluster import APISERVER_PORT, Address, Cluster, EndpointOwner, Machine, Role, Ssh

NAME = "outer"  # where no machine of the cluster is called so
CONFIG_FILE = "/etc/haproxy/haproxy.cfg"

CONFIG = """\
global
  maxconn 5000
defaults
  mode tcp
  timeout connect 1s
  timeout client 24h
  timeout server 24h
frontend api
  bind :::{port} v4v6
  default_backend behind
backend behind
  option redispatch 1
{servers}"""


# Of /bin/sh: its configuration is on standard input.
START = f"""set -e
cat > {CONFIG_FILE}
mkdir -p /etc/systemd/system/haproxy.service.d
printf '[Service]\\nLimitNOFILE=20000\\n' > /etc/systemd/system/haproxy.service.d/lab.conf
systemctl daemon-reload
systemctl enable -q haproxy
systemctl restart haproxy
"""


def machine(cluster: Cluster, ssh: Ssh) -> Machine | None:
    """Where it stands; None where the endpoint needs none."""
    address = _address(cluster)
    if not address:
        return None
    names = chain([NAME], (f"{NAME}{number}" for number in count(2)))
    free = next(one for one in names if one not in cluster.machines)
    return Machine(free, address, frozenset({Role.CLIENT}), ssh)


def _address(cluster: Cluster) -> tuple[Address, ...]:
    endpoint = cluster.endpoint
    if endpoint.outside:
        return (endpoint.outside,)
    return tuple(vip.ip for vip in endpoint.vips) if endpoint.by is EndpointOwner.EXTERNAL else ()


def config(cluster: Cluster) -> str:
    """HAProxy's: to the VIP where that is haplane's, else to every balancer by its health page."""
    port, versions = cluster.endpoint.port, [one.version for one in _address(cluster)]

    def reached(one: Machine) -> Address:
        """By an IP version that the stand-in has, too."""
        return next((found for version in versions if (found := one.address_of(version))), one.address)

    if cluster.endpoint.by is EndpointOwner.KEEPALIVED:
        vips = [vip.ip for vip in cluster.endpoint.vips]
        vip = next((one for one in vips if one.version in versions), vips[0])
        servers = f"  server vip {join_host_port(vip, port)}\n"
    elif balancer := balancer_of(cluster):
        check = f"check port {HEALTH_PORT} inter 1s fall 2 rise 2 on-marked-down shutdown-sessions"
        servers = f"  option httpchk GET {balancer.health_path}\n" + "".join(
            f"  server {one.name} {join_host_port(reached(one), port)} {check}\n" for one in cluster.balancers
        )
    else:
        servers = "".join(
            f"  server {one.name} {join_host_port(reached(one), APISERVER_PORT)} check\n"
            for one in cluster.control_plane
        )
    return CONFIG.format(port=port, servers=servers)
