"""Planted hazards of topology, addresses, etcd and accept."""

from __future__ import annotations

from tests.design.hazards.planting import Planted

from haplane.design.hazards import Severity

ERROR, WARNING, ADVICE = Severity.ERROR, Severity.WARNING, Severity.ADVICE

CP = """\
  cp1: {address: 192.0.2.11, zone: a}
  cp2: {address: 192.0.2.12, zone: b}
"""
EXTERNAL = """\
etcd: {topology: external}
"""


def etcd_machines(count: int) -> str:
    return "".join(f"  e{i}: {{address: 192.0.2.2{i}, roles: [etcd]}}\n" for i in range(1, count + 1))


def nodes(count: int) -> str:
    return "".join(f"  cp{i}: {{address: 192.0.2.1{i}}}\n" for i in range(1, count + 1))


def in_zones(*zones: str) -> str:
    """Three machines for etcd; what follows a zone's name is behind it."""
    return "".join(
        f"  e{i}:\n    address: 192.0.2.2{i}\n    roles: [etcd]\n    zone: {zone}\n" for i, zone in enumerate(zones, 1)
    )


def pair(*zones: str) -> str:
    return "".join(
        f"  lb{i}:\n    address: 192.0.2.{i}\n    roles: [balancer]\n    zone: {zone}\n"
        for i, zone in enumerate(zones, 5)
    )


BOTH = "".join(f"  cp{i}: {{address: [192.0.2.1{i}, 2001:db8::1{i}]}}\n" for i in (1, 2, 3))
BOTH_NETWORKS = """\
kubernetes:
  version: 1.35.4
  pods: [10.244.0.0/16, fd00::/56]
  services: [10.96.0.0/16, fd00:96::/112]
"""
SIX_FIRST = "cp2: {address: [2001:db8::12, 192.0.2.12]}"

MACHINES = (
    Planted(
        "topo-too-few-nodes",
        ERROR,
        "two control-plane machines",
        f"machines: # <-\n{nodes(2)}",
        "three control-plane machines",
        f"machines:\n{nodes(3)}",
    ),
    Planted(
        "topo-too-few-nodes",
        ERROR,
        "two external etcd machines",
        f"{EXTERNAL}machines: # <-\n{nodes(3)}{etcd_machines(2)}",
        "three external etcd machines",
        f"{EXTERNAL}machines:\n{nodes(3)}{etcd_machines(3)}",
    ),
    Planted(
        "topo-too-few-nodes",
        WARNING,
        "two apiservers with etcd elsewhere",
        f"{EXTERNAL}machines: # <-\n{nodes(2)}{etcd_machines(3)}",
        "three apiservers with etcd elsewhere",
        f"{EXTERNAL}machines:\n{nodes(3)}{etcd_machines(3)}",
    ),
    Planted(
        "topo-too-few-nodes",
        ERROR,
        "one balancer machine",
        f"balancer: {{role: balancer}}\nmachines: # <-\n{nodes(3)}  lb1: {{address: 192.0.2.5, roles: [balancer]}}\n",
        "two balancer machines",
        f"balancer: {{role: balancer}}\nmachines:\n{nodes(3)}  lb1: {{address: 192.0.2.5, roles: [balancer]}}\n"
        "  lb2: {address: 192.0.2.6, roles: [balancer]}\n",
    ),
    Planted(
        "topo-zone-collapsed",
        ERROR,
        "a machine without a zone",
        f"failover: {{survive: zone}}\nmachines:\n{CP}  cp3: {{address: 192.0.2.13}} # <-\n",
        "no zones where none is promised",
        f"machines:\n{CP}  cp3: {{address: 192.0.2.13}}\n",
    ),
    Planted(
        "topo-zone-collapsed",
        ERROR,
        "etcd in two zones",
        f"failover:\n  survive: zone # <-\nmachines:\n{CP}  cp3: {{address: 192.0.2.13, zone: b}}\n",
        "etcd in three zones",
        f"failover:\n  survive: zone\nmachines:\n{CP}  cp3: {{address: 192.0.2.13, zone: c}}\n",
    ),
    Planted(
        "host-identity",
        ERROR,
        "an address used twice",
        "machines:\n  cp1: {address: 192.0.2.11}\n  cp2: {address: 192.0.2.12}\n  cp3:\n    address: 192.0.2.11 # <-\n",
        "addresses that differ",
        f"machines:\n{nodes(3)}",
    ),
    Planted(
        "vip-outside-subnet",
        ERROR,
        "a machine in another subnet",
        "machines:\n  cp1: {address: 192.0.2.11}\n  cp2: {address: 192.0.2.12}\n  cp3: {address: 198.51.100.1} # <-\n",
        "a client in another subnet",
        f"machines:\n{nodes(3)}  client: {{address: 198.51.100.1, roles: [client]}}\n",
    ),
    Planted(
        "vip-outside-subnet",
        ERROR,
        "machines without an address of the second VIP's family",
        "endpoint: {vip: [192.0.2.100/24, 2001:db8::100/64]}\nmachines:\n"
        "  cp1: {address: [192.0.2.11, 2001:db8::11]}\n"
        "  cp2: {address: [192.0.2.12, 2001:db8::12]}\n"
        "  cp3: {address: 192.0.2.13} # <-\n",
        "machines with both families",
        "endpoint: {vip: [192.0.2.100/24, 2001:db8::100/64]}\nmachines:\n"
        "  cp1: {address: [192.0.2.11, 2001:db8::11]}\n"
        "  cp2: {address: [192.0.2.12, 2001:db8::12]}\n"
        "  cp3: {address: [192.0.2.13, 2001:db8::13]}\n",
    ),
    Planted(
        "vip-address-conflict",
        ERROR,
        "the VIP is a machine's address",
        "endpoint:\n  vip: 192.0.2.12/24 # <-\n",
        "the VIP is next to a machine's address",
        "endpoint:\n  vip: 192.0.2.14/24\n",
    ),
    Planted(
        "vip-address-conflict",
        ERROR,
        "pods overlap services",
        "kubernetes:\n  version: 1.35.4\n  pods: 10.96.0.0/12\n  services: 10.96.0.0/16 # <-\n",
        "services right behind pods",
        "kubernetes:\n  version: 1.35.4\n  pods: 10.80.0.0/12\n  services: 10.96.0.0/16\n",
    ),
    Planted(
        "vip-address-conflict",
        ERROR,
        "pods overlap the VIP's subnet",
        "kubernetes:\n  version: 1.35.4\n  pods: 192.0.2.128/25 # <-\n",
        "pods beside the VIP's subnet",
        "kubernetes:\n  version: 1.35.4\n  pods: 192.0.3.0/24\n",
    ),
    Planted(
        "vip-address-conflict",
        ERROR,
        "a worker inside the pods network",
        f"machines:\n{nodes(3)}  w1: {{address: 10.244.1.1, roles: [worker]}} # <-\n",
        "a worker just outside of the pods network",
        f"machines:\n{nodes(3)}  w1: {{address: 10.245.0.1, roles: [worker]}}\n",
    ),
    Planted(
        "vip-address-conflict",
        ERROR,
        "the outer load balancer is the VIP",
        "endpoint:\n  vip: 192.0.2.100/24\n  outside: 192.0.2.100 # <-\n",
        "the outer load balancer has its own address",
        "endpoint:\n  vip: 192.0.2.100/24\n  outside: 203.0.113.7\n",
    ),
    Planted(
        "vip-family-mix",
        ERROR,
        "pods of both families and one VIP",
        "kubernetes: {version: 1.35.4, pods: [10.244.0.0/16, fd00::/48]}\nendpoint:\n  vip: 192.0.2.100/24 # <-\n",
        "pods and VIP of one family",
        "kubernetes: {version: 1.35.4, pods: [10.244.0.0/16]}\n",
    ),
    Planted(
        "etcd-even-members",
        ERROR,
        "two members",
        f"machines: # <-\n{nodes(2)}",
        "three members",
        f"machines:\n{nodes(3)}",
    ),
    Planted(
        "etcd-even-members",
        WARNING,
        "four members",
        f"machines: # <-\n{nodes(4)}",
        "four apiservers with three members elsewhere",
        f"{EXTERNAL}machines:\n{nodes(4)}{etcd_machines(3)}",
    ),
    Planted(
        "etcd-even-members",
        WARNING,
        "nine members",
        f"machines: # <-\n{nodes(9)}",
        "seven members",
        f"machines:\n{nodes(7)}",
    ),
    Planted(
        "etcd-zone-majority",
        ERROR,
        "two of three members in one zone",
        f"failover:\n  survive: zone # <-\nmachines:\n{CP}  cp3: {{address: 192.0.2.13, zone: b}}\n",
        "two of five members in one zone",
        f"failover:\n  survive: zone\nmachines:\n{CP}  cp3: {{address: 192.0.2.13, zone: b}}\n"
        "  cp4: {address: 192.0.2.14, zone: a}\n  cp5: {address: 192.0.2.15, zone: c}\n",
    ),
    Planted(
        "etcd-zone-majority",
        WARNING,
        "all members in one zone, and no promise",
        f"{EXTERNAL}machines:\n{nodes(3)}{in_zones('a # <-', 'a', 'a')}",
        "members in two zones, and no promise",
        f"{EXTERNAL}machines:\n{nodes(3)}{in_zones('a', 'a', 'b')}",
    ),
    Planted(
        "topo-zone-collapsed",
        WARNING,
        "a pair of balancers in one zone",
        f"balancer: {{role: balancer}}\nmachines:\n{nodes(3)}{pair('a # <-', 'a')}",
        "a pair of balancers in two zones",
        f"balancer: {{role: balancer}}\nmachines:\n{nodes(3)}{pair('a', 'b')}",
    ),
    Planted(
        "vip-address-conflict",
        ERROR,
        "the outer load balancer is a machine of the cluster",
        "endpoint:\n  vip: 192.0.2.100/24\n  outside: 192.0.2.12 # <-\n",
        "the outer load balancer is a client",
        f"endpoint:\n  vip: 192.0.2.100/24\n  outside: 192.0.2.50\nmachines:\n{nodes(3)}"
        "  lb: {address: 192.0.2.50, roles: [client]}\n",
    ),
    Planted(
        "vip-address-conflict",
        ERROR,
        "the outer load balancer is inside services",
        "endpoint:\n  vip: 192.0.2.100/24\n  outside: 10.96.0.7 # <-\n",
        "the outer load balancer is beside services",
        "endpoint:\n  vip: 192.0.2.100/24\n  outside: 10.97.0.7\n",
    ),
    Planted(
        "net-families-differ",
        ERROR,
        "services of a version that pods have not",
        "kubernetes:\n  version: 1.35.4\n  services: [10.96.0.0/16, fd00:96::/112] # <-\n",
        "services and pods of both versions",
        f"{BOTH_NETWORKS}machines:\n{BOTH}",
    ),
    Planted(
        "net-families-differ",
        WARNING,
        "pods of a version that services have not",
        f"kubernetes:\n  version: 1.35.4\n  pods: [10.244.0.0/16, fd00::/56] # <-\nmachines:\n{BOTH}",
        "machines with a version that nobody else has",
        f"machines:\n{BOTH}",
    ),
    Planted(
        "net-families-differ",
        ERROR,
        "an apiserver known by another version than services have first",
        f"machines:\n{BOTH.replace('cp2: {address: [192.0.2.12, 2001:db8::12]}', SIX_FIRST + ' # <-')}",
        "an etcd member known by another version, which all have",
        f"{EXTERNAL}machines:\n{BOTH}"
        "  e1: {address: [2001:db8::21, 192.0.2.21], roles: [etcd]}\n"
        "  e2: {address: [192.0.2.22, 2001:db8::22], roles: [etcd]}\n"
        "  e3: {address: [192.0.2.23, 2001:db8::23], roles: [etcd]}\n",
    ),
    Planted(
        "net-families-differ",
        ERROR,
        "a worker without the pods' second version",
        f"{BOTH_NETWORKS}machines:\n{BOTH}  w1: {{address: 192.0.2.31, roles: [worker]}} # <-\n",
        "a client without the pods' second version",
        f"{BOTH_NETWORKS}machines:\n{BOTH}  admin: {{address: 192.0.2.31, roles: [client]}}\n",
    ),
    Planted(
        "net-families-differ",
        ERROR,
        "machines that never get to an endpoint of somebody else's",
        "endpoint: {vip: 2001:db8::100/64, by: external}\nmachines:\n"
        "  cp1: {address: 192.0.2.11} # <-\n  cp2: {address: 192.0.2.12} # <-\n  cp3: {address: 192.0.2.13} # <-\n",
        "machines that get to it by their second address",
        f"endpoint: {{vip: 2001:db8::100/64, by: external}}\nmachines:\n{BOTH}",
    ),
    Planted(
        "net-families-differ",
        ERROR,
        "a balancer that does not reach apiservers",
        "kubernetes: {version: 1.35.4, pods: fd00::/56, services: fd00:96::/112}\n"
        "balancer: {role: balancer}\nmachines:\n"
        + "".join(f"  cp{i}: {{address: 2001:db8::1{i}}}\n" for i in (1, 2, 3))
        + "  lb1: {address: 192.0.2.5, roles: [balancer]} # <-\n"
        "  lb2: {address: [192.0.2.6, 2001:db8::6], roles: [balancer]}\n"
        "endpoint: {vip: [192.0.2.100/24, 2001:db8::100/64]}\n",
        "balancers between clients of one version and apiservers of another",
        "kubernetes: {version: 1.35.4, pods: fd00::/56, services: fd00:96::/112}\n"
        "balancer: {role: balancer}\nmachines:\n"
        + "".join(f"  cp{i}: {{address: 2001:db8::1{i}}}\n" for i in (1, 2, 3))
        + "  lb1: {address: [192.0.2.5, 2001:db8::5], roles: [balancer]}\n"
        "  lb2: {address: [192.0.2.6, 2001:db8::6], roles: [balancer]}\n"
        "endpoint: {vip: [192.0.2.100/24, 2001:db8::100/64]}\n",
    ),
    Planted(
        "lb-port-clash",
        ERROR,
        "sshd on etcd's port",
        "ssh:\n  port: 2379 # <-\n",
        "sshd on etcd's port where there is no etcd",
        f"{EXTERNAL}machines:\n{nodes(3)}{etcd_machines(3)}"
        "  w1: {address: 192.0.2.31, roles: [worker], ssh: {port: 2379}}\n",
    ),
    Planted(
        "lb-port-clash",
        WARNING,
        "an endpoint among the ports of services",
        "endpoint:\n  vip: 192.0.2.100/24\n  port: 30443 # <-\n",
        "such a port on balancers that run no services",
        "endpoint:\n  vip: 192.0.2.100/24\n  port: 30443\nbalancer: {role: balancer}\n"
        f"machines:\n{nodes(3)}{pair('a', 'b')}",
    ),
    Planted(
        "lb-port-clash",
        ERROR,
        "balancers on control-plane machines without a port of their own",
        "balancer: {role: balancer}\nendpoint: # <-\n  vip: 192.0.2.100/24\nmachines:\n"
        "  cp1: {address: 192.0.2.11, roles: [control-plane, balancer]}\n"
        "  cp2: {address: 192.0.2.12, roles: [control-plane, balancer]}\n  cp3: {address: 192.0.2.13}\n",
        "balancers on control-plane machines with a port of their own",
        "balancer: {role: balancer}\nendpoint:\n  vip: 192.0.2.100/24\n  port: 8443\nmachines:\n"
        "  cp1: {address: 192.0.2.11, roles: [control-plane, balancer]}\n"
        "  cp2: {address: 192.0.2.12, roles: [control-plane, balancer]}\n  cp3: {address: 192.0.2.13}\n",
    ),
    Planted(
        "etcd-timing",
        WARNING,
        "an election sooner than 5 heartbeats",
        "etcd:\n  heartbeat: 100ms\n  election: 400ms # <-\n",
        "an election after 5 heartbeats",
        "etcd:\n  heartbeat: 100ms\n  election: 500ms\n",
    ),
    Planted(
        "etcd-timing",
        WARNING,
        "a long heartbeat with the derived election",
        "etcd:\n  heartbeat: 300ms # <-\n",
        "a shorter heartbeat with the derived election",
        "etcd:\n  heartbeat: 200ms\n",
    ),
    Planted(
        "etcd-timing",
        WARNING,
        "an election after more than 50 s",
        "etcd:\n  election: 51s # <-\n",
        "an election after 50 s",
        "etcd:\n  election: 50s\n",
    ),
    Planted(
        "etcd-timing",
        WARNING,
        "an impatient election passed through to kubeadm",
        "kubeadm:\n  ClusterConfiguration:\n    etcd:\n      local:\n        extraArgs:\n"
        '          - {name: election-timeout, value: "300"} # <-\n',
        "other arguments passed through to kubeadm",
        "kubeadm:\n  ClusterConfiguration:\n    etcd:\n      local:\n        extraArgs:\n"
        '          - {name: snapshot-count, value: "300"}\n',
    ),
    Planted(
        "accept-unknown",
        WARNING,
        "a typing error",
        "accept:\n  vip-priority-bat: never mind # <-\n",
        "a hazard that exists",
        "accept:\n  vip-priority-bad: never mind\n",
    ),
    Planted(
        "accept-unused",
        ADVICE,
        "a hazard that the file does not have",
        "accept:\n  vip-priority-bad: never mind # <-\n",
        "a hazard that machines may show, too",
        "accept:\n  vip-outside-subnet: never mind\n",
    ),
)
