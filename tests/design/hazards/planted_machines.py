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
