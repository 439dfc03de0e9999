"""Planted hazards of HAProxy, and of what is passed through to kubeadm."""

from __future__ import annotations

from tests.design.hazards.planting import Planted

from haplane.design.hazards import Severity

ERROR, WARNING, ADVICE = Severity.ERROR, Severity.WARNING, Severity.ADVICE

DEDICATED = """\
balancer: {role: balancer}
machines:
  cp1: {address: 192.0.2.11}
  cp2: {address: 192.0.2.12}
  cp3: {address: 192.0.2.13}
  lb1: {address: 192.0.2.5, roles: [balancer]}
  lb2: {address: 192.0.2.6, roles: [balancer]}
"""


def haproxy(section: str, *lines: str) -> str:
    return f"haproxy:\n  {section}:\n" + "".join(f"    {line}\n" for line in lines)


def configuration(*lines: str) -> str:
    return "kubeadm:\n  ClusterConfiguration:\n" + "".join(f"    {line}\n" for line in lines)


BALANCER = (
    Planted(
        "lb-port-clash",
        ERROR,
        "the apiserver's port beside an apiserver",
        "endpoint:\n  vip: 192.0.2.100/24\n  port: 6443 # <-\n",
        "the apiserver's port on balancers of their own",
        "endpoint:\n  vip: 192.0.2.100/24\n  port: 6443\n" + DEDICATED,
    ),
    Planted(
        "lb-port-clash",
        ERROR,
        "the port of a program on loopback",
        "endpoint:\n  vip: 192.0.2.100/24\n  port: 10257 # <-\n",
        "the VIP alone beside a program on loopback",
        haproxy("frontend", 'bind: "192.0.2.100:10257 transparent"'),
    ),
    Planted(
        "lb-port-clash",
        ERROR,
        "a bind line with the apiserver's port",
        haproxy("frontend", 'bind: "*:8443,192.0.2.100:6443" # <-'),
        "a bind line with two free ports",
        haproxy("frontend", 'bind: "*:8443,192.0.2.100:9443"'),
    ),
    Planted(
        "lb-port-clash",
        ERROR,
        "a range of ports around etcd's",
        haproxy("frontend", 'bind: "*:2300-2400" # <-'),
        "a range of ports below etcd's",
        haproxy("frontend", 'bind: "*:2300-2378"'),
    ),
    Planted(
        "lb-port-clash",
        ERROR,
        "the port of sshd",
        "ssh: {port: 2222}\nendpoint:\n  vip: 192.0.2.100/24\n  port: 2222 # <-\n",
        "the port that sshd does not have",
        "ssh: {port: 2222}\nendpoint:\n  vip: 192.0.2.100/24\n  port: 22\n",
    ),
    Planted(
        "lb-port-clash",
        ERROR,
        "a stats socket on the endpoint's port",
        haproxy("global", 'stats socket: "ipv4@127.0.0.1:8443 level admin" # <-'),
        "a stats socket on a port of its own",
        haproxy("global", 'stats socket: "ipv4@127.0.0.1:9999 level admin"'),
    ),
    Planted(
        "lb-nonlocal-bind",
        ERROR,
        "bound to the VIP",
        haproxy("frontend", 'bind: "192.0.2.100:8443" # <-'),
        "bound to the VIP with transparent",
        haproxy("frontend", 'bind: "192.0.2.100:8443 transparent"'),
    ),
    Planted(
        "lb-idle-timeout",
        ERROR,
        "mode http",
        haproxy("frontend", "mode: http # <-"),
        "mode tcp",
        haproxy("frontend", "mode: tcp"),
    ),
    Planted(
        "lb-idle-timeout",
        ERROR,
        "a tunnel of minutes",
        haproxy("defaults", "timeout tunnel: 5m # <-"),
        "a client of minutes below a long tunnel",
        haproxy("defaults", "timeout client: 5m"),
    ),
    Planted(
        "lb-idle-timeout",
        WARNING,
        "a tunnel of half an hour",
        haproxy("backend", "timeout tunnel: 30m # <-"),
        "a tunnel of an hour",
        haproxy("backend", "timeout tunnel: 1h"),
    ),
    Planted(
        "lb-idle-timeout",
        ERROR,
        "a short client without a tunnel",
        haproxy("defaults", "timeout tunnel: false", "timeout client: 50000 # <-"),
        "no limit without a tunnel",
        haproxy("defaults", "timeout tunnel: false", "timeout client: false", "timeout server: 0"),
    ),
    Planted(
        "lb-check-shallow",
        ERROR,
        "no check",
        haproxy("default-server", "check: false # <-"),
        "a rarer check",
        haproxy("default-server", "inter: 1s"),
    ),
    Planted(
        "lb-check-shallow",
        WARNING,
        "no request",
        haproxy("backend", "option httpchk: false # <-"),
        "the request's option among the defaults",
        "haproxy:\n  defaults: {option httpchk: true}\n  backend: {option httpchk: false}\n",
    ),
    Planted(
        "lb-check-shallow",
        WARNING,
        "a check of TCP",
        haproxy("backend", "option tcp-check: true # <-"),
        "keepalive of TCP",
        haproxy("backend", "option tcpka: true"),
    ),
    Planted(
        "lb-check-tls-unverified",
        WARNING,
        "verify none",
        haproxy("default-server", "verify: none # <-"),
        "verify required",
        haproxy("default-server", "verify: required"),
    ),
    Planted(
        "lb-check-tls-unverified",
        WARNING,
        "verify none for all servers",
        "haproxy:\n  global:\n    ssl-server-verify: none # <-\n  default-server: {verify: false}\n",
        "verify none for all other servers",
        "haproxy:\n  global:\n    ssl-server-verify: none\n",
    ),
    Planted(
        "lb-check-tls-unverified",
        WARNING,
        "no name at all",
        haproxy("default-server", "check-sni: false", "verifyhost: false # <-"),
        "the name of check-sni",
        haproxy("default-server", "verifyhost: false"),
    ),
    Planted(
        "lb-check-over-budget",
        WARNING,
        "one failure is enough",
        haproxy("default-server", "fall: 1 # <-"),
        "two failures",
        haproxy("default-server", "fall: 2"),
    ),
    Planted(
        "lb-check-over-budget",
        WARNING,
        "a hasty timeout",
        haproxy("defaults", "timeout check: 199ms # <-"),
        "a patient timeout",
        haproxy("defaults", "timeout check: 200ms"),
    ),
    Planted(
        "lb-check-over-budget",
        WARNING,
        "rare checks beside a target",
        "failover: {target: 2s}\n" + haproxy("default-server", "inter: 2s # <-"),
        "rare checks without a target",
        haproxy("default-server", "inter: 2s"),
    ),
    Planted(
        "lb-no-redispatch",
        WARNING,
        "no redispatch",
        haproxy("defaults", "option redispatch: false # <-"),
        "redispatch in the backend",
        "haproxy:\n  defaults: {option redispatch: false}\n  backend: {option redispatch: 1}\n",
    ),
    Planted(
        "lb-no-redispatch",
        WARNING,
        "only the last retry goes elsewhere",
        haproxy("defaults", "option redispatch: true # <-"),
        "each retry goes elsewhere",
        haproxy("defaults", "option redispatch: 1"),
    ),
    Planted(
        "lb-no-redispatch",
        WARNING,
        "no retries",
        haproxy("defaults", "retries: 0 # <-"),
        "one retry",
        haproxy("defaults", "retries: 1"),
    ),
    Planted(
        "lb-dead-sessions-kept",
        WARNING,
        "sessions are kept",
        haproxy("global", "lua-load: false # <-"),
        "a program of haplane's ends them",
        haproxy("global", "lua-load: /etc/haproxy/haplane-sessions.lua"),
    ),
    Planted(
        "lb-connecting-frozen",
        WARNING,
        "ended the moment the apiserver is down",
        haproxy("default-server", "on-marked-down: shutdown-sessions # <-"),
        "not ended by HAProxy itself",
        haproxy("default-server", "on-marked-down: false"),
    ),
    Planted(
        "lb-maxconn",
        WARNING,
        "no maxconn",
        haproxy("global", "maxconn: false # <-"),
        "a large maxconn",
        haproxy("global", "maxconn: 2000"),
    ),
    Planted(
        "lb-maxconn",
        WARNING,
        "a maxconn for fewer machines",
        haproxy("global", "maxconn: 529 # <-"),
        "a maxconn for these machines",
        haproxy("global", "maxconn: 530"),
    ),
    Planted(
        "lb-maxconn",
        WARNING,
        "a small maxconn of the frontend",
        haproxy("frontend", "maxconn: 100 # <-"),
        "a frontend as large as the process",
        haproxy("frontend", "maxconn: 10000"),
    ),
    Planted(
        "lb-stats-exposed",
        ERROR,
        "a stats socket on the network",
        haproxy("global", 'stats socket: "*:9999" # <-'),
        "a stats socket on loopback",
        haproxy("global", 'stats socket: "127.0.0.1:9999"'),
    ),
    Planted(
        "lb-stats-exposed",
        ERROR,
        "an admin's socket for everybody",
        haproxy("global", "stats socket: /run/haproxy/admin.sock mode 666 level admin # <-"),
        "an admin's socket for its group",
        haproxy("global", "stats socket: /run/haproxy/admin.sock mode 660 level admin"),
    ),
    Planted(
        "lb-stats-exposed",
        ERROR,
        "a page without a password",
        haproxy("frontend", "mode: http", "stats enable: true # <-"),
        "a page with a password",
        haproxy("frontend", "mode: http", "stats enable: true", "stats auth: ops:secret"),
    ),
)

API = (
    Planted(
        "api-endpoint-is-node",
        ERROR,
        "the name of a machine",
        "endpoint:\n  vip: 192.0.2.100/24\n  host: cp1 # <-\n",
        "a name of its own",
        "endpoint:\n  vip: 192.0.2.100/24\n  host: api\n",
    ),
    Planted(
        "api-endpoint-is-node",
        ERROR,
        "the address of a machine",
        "endpoint:\n  by: external\n  vip: 192.0.2.11/24 # <-\n",
        "the address of an outer load balancer",
        "endpoint:\n  by: external\n  vip: 192.0.2.14/24\n",
    ),
    Planted(
        "api-endpoint-not-in-san",
        ERROR,
        "names without the machines' addresses",
        configuration("apiServer:", "  certSANs: [192.0.2.100, 192.0.2.11, 192.0.2.12] # <-"),
        "all addresses",
        configuration("apiServer:", "  certSANs: [192.0.2.11, 192.0.2.12, 192.0.2.13]"),
    ),
    Planted(
        "api-endpoint-not-in-san",
        ERROR,
        "a name without the VIP",
        "endpoint: {vip: 192.0.2.100/24, host: api.example}\n"
        + configuration("apiServer:", "  certSANs: [192.0.2.11, 192.0.2.12, 192.0.2.13] # <-"),
        "the VIP, and a name that kubeadm adds",
        "endpoint: {vip: 192.0.2.100/24, host: api.example}\n"
        + configuration("apiServer:", "  certSANs: [192.0.2.100, 192.0.2.11, 192.0.2.12, 192.0.2.13]"),
    ),
    Planted(
        "api-kubelet-not-local",
        WARNING,
        "the gate is off",
        configuration("featureGates:", "  ControlPlaneKubeletLocalMode: false # <-"),
        "the gate is on",
        configuration("featureGates:", "  ControlPlaneKubeletLocalMode: true"),
    ),
    Planted(
        "api-shutdown-delay",
        WARNING,
        "arguments of the apiserver without a delay",
        configuration("apiServer:", '  extraArgs: [{name: goaway-chance, value: "0.001"}] # <-'),
        "arguments of the apiserver with a delay of its own",
        configuration("apiServer:", "  extraArgs: # fine", "  - {name: shutdown-delay-duration, value: 15s}"),
    ),
    Planted(
        "api-no-goaway",
        ADVICE,
        "other arguments instead",
        configuration("apiServer:", "  extraArgs: # <-", '    - {name: v, value: "2"}'),
        "other arguments besides",
        configuration(
            "apiServer:", "  extraArgs:", '    - {name: v, value: "2"}', '    - {name: goaway-chance, value: "0.001"}'
        ),
    ),
    Planted(
        "api-no-goaway",
        ADVICE,
        "turned off",
        configuration("apiServer:", "  extraArgs:", '    - {name: goaway-chance, value: "0"} # <-'),
        "another chance",
        configuration("apiServer:", "  extraArgs:", '    - {name: goaway-chance, value: "0.02"}'),
    ),
    Planted(
        "api-leader-election",
        ERROR,
        "off for the scheduler",
        configuration("scheduler:", "  extraArgs:", '    - {name: leader-elect, value: "false"} # <-'),
        "on for the scheduler",
        configuration("scheduler:", "  extraArgs:", '    - {name: leader-elect, value: "true"}'),
    ),
    Planted(
        "api-node-grace",
        WARNING,
        "40 s as it was before 1.32",
        configuration("controllerManager:", "  extraArgs:", "    - {name: node-monitor-grace-period, value: 40s} # <-"),
        "50 s in another unit",
        configuration("controllerManager:", "  extraArgs:", "    - {name: node-monitor-grace-period, value: 0m50s}"),
    ),
)
