"""Planted hazards of nginx, and of no balancer at all."""

from __future__ import annotations

from tests.design.hazards.planted_api import configuration, haproxy
from tests.design.hazards.planting import Planted

from haplane.design.hazards import Severity

ERROR, WARNING, ADVICE = Severity.ERROR, Severity.WARNING, Severity.ADVICE

BY_HAPROXY = "balancer: {by: haproxy}\n"
BY_NGINX = "balancer: {by: nginx}\n"
BY_NOBODY = "balancer: {by: none}\n"
NGINX_HERE = "balancer:\n  by: nginx # <-\n"
NOBODY_HERE = "balancer:\n  by: none # <-\n"
OUTSIDE = "endpoint: {vip: 192.0.2.100/24, by: external}\n"


def nginx(section: str, *lines: str) -> str:
    return f"{BY_NGINX}nginx:\n  {section}:\n" + "".join(f"    {line}\n" for line in lines)


BALANCERS = (
    Planted(
        "lb-port-clash",
        ERROR,
        "nginx on etcd's port",
        nginx("server", "listen: 2379 # <-"),
        "nginx on the port below",
        nginx("server", "listen: 2378"),
    ),
    Planted(
        "lb-port-clash",
        ERROR,
        "nginx on the apiserver's port",
        BY_NGINX + "endpoint:\n  vip: 192.0.2.100/24\n  port: 6443 # <-\n",
        "nobody but the apiserver on its port",
        BY_NOBODY + "endpoint:\n  vip: 192.0.2.100/24\n  port: 6443\n",
    ),
    Planted(
        "lb-nonlocal-bind",
        ERROR,
        "nginx bound to the VIP",
        nginx("server", 'listen: "192.0.2.100:8443" # <-'),
        "nginx on a wildcard",
        nginx("server", 'listen: "*:8443"'),
    ),
    Planted(
        "lb-idle-timeout",
        ERROR,
        "a short proxy_timeout",
        nginx("stream", "proxy_timeout: 5m # <-"),
        "a long proxy_timeout in the inner block",
        f"{BY_NGINX}nginx:\n  stream: {{proxy_timeout: 5m}}\n  server: {{proxy_timeout: 1h}}\n",
    ),
    Planted(
        "lb-idle-timeout",
        WARNING,
        "nginx's own proxy_timeout",
        nginx("stream", "proxy_timeout: false # <-"),
        "a proxy_timeout of an hour in seconds",
        nginx("stream", "proxy_timeout: 3600"),
    ),
    Planted(
        "lb-check-shallow",
        WARNING,
        "nginx asks nobody",
        NGINX_HERE,
        "HAProxy asks",
        BY_HAPROXY,
    ),
    Planted(
        "lb-check-shallow",
        ERROR,
        "nginx notices nothing",
        nginx("upstream-server", "max_fails: 0 # <-"),
        "HAProxy waits for more failures",
        haproxy("default-server", "fall: 9"),
    ),
    Planted(
        "lb-check-over-budget",
        WARNING,
        "nginx beside a target",
        "failover: {target: 500ms}\n" + NGINX_HERE,
        "nginx without a target",
        BY_NGINX,
    ),
    Planted(
        "lb-no-redispatch",
        WARNING,
        "nginx passes nobody on",
        nginx("stream", 'proxy_next_upstream: "off" # <-'),
        "nginx passes on by itself",
        nginx("stream", "proxy_next_upstream: false"),
    ),
    Planted(
        "lb-no-redispatch",
        WARNING,
        "nginx tries once",
        nginx("server", "proxy_next_upstream_tries: 1 # <-"),
        "nginx tries twice",
        nginx("server", "proxy_next_upstream_tries: 2"),
    ),
    Planted(
        "lb-no-redispatch",
        WARNING,
        "nginx has no time for a second try",
        nginx("stream", "proxy_next_upstream_timeout: 100ms # <-"),
        "nginx has time for a second try",
        nginx("stream", "proxy_next_upstream_timeout: 101ms"),
    ),
    Planted(
        "lb-dead-sessions-kept",
        WARNING,
        "nginx ends none",
        NGINX_HERE,
        "HAProxy ends them",
        BY_HAPROXY,
    ),
    Planted(
        "lb-dead-sessions-kept",
        WARNING,
        "nginx does not even look whether the other side lives",
        NGINX_HERE + "nginx:\n  stream:\n    proxy_socket_keepalive: false # <-\n",
        "there is nobody who could keep them",
        BY_NOBODY,
    ),
    Planted(
        "lb-no-slow-start",
        ADVICE,
        "no slow start",
        haproxy("default-server", "slowstart: false # <-"),
        "no slow start, but turn by turn",
        "haproxy:\n  default-server: {slowstart: false}\n  backend: {balance: roundrobin}\n",
    ),
    Planted(
        "lb-no-slow-start",
        ADVICE,
        "nginx has none",
        NGINX_HERE,
        "nginx has none, but goes turn by turn",
        nginx("upstream", "least_conn: false"),
    ),
    Planted(
        "lb-clients-not-told",
        WARNING,
        "nginx does not know them",
        NGINX_HERE,
        "nginx does not know them, and need not",
        BY_NGINX + "failover: {tell_clients: false}\n",
    ),
    Planted(
        "lb-clients-not-told",
        WARNING,
        "nobody knows them who is asked to tell",
        BY_NOBODY + "failover:\n  tell_clients: true # <-\n",
        "a VIP that cannot move",
        BY_NOBODY + "machines: {cp1: {address: 192.0.2.11}}\n",
    ),
    Planted(
        "lb-one-apiserver",
        WARNING,
        "nobody balances",
        NOBODY_HERE,
        "a load balancer of yours balances",
        BY_NOBODY + OUTSIDE,
    ),
    Planted(
        "lb-maxconn",
        WARNING,
        "few connections of nginx's",
        nginx("events", "worker_connections: 1109 # <-"),
        "as many connections of nginx's as are needed",
        nginx("events", "worker_connections: 1110"),
    ),
    Planted(
        "vip-check-shared-fate",
        WARNING,
        "the VIP follows its machine's apiserver",
        NOBODY_HERE,
        "the VIP follows nginx",
        BY_NGINX,
    ),
    Planted(
        "api-shutdown-delay",
        WARNING,
        "a delay in which the VIP does not move",
        BY_NOBODY + configuration("apiServer:", "  extraArgs: [{name: shutdown-delay-duration, value: 2s}] # <-"),
        "a delay in which it does",
        BY_NOBODY + configuration("apiServer:", "  extraArgs: [{name: shutdown-delay-duration, value: 3s}]"),
    ),
)
