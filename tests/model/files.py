"""Texts of cluster.yaml for tests, which together use every key."""

from __future__ import annotations

from pathlib import Path

from haplane.model.cluster import Cluster
from haplane.model.file import read_cluster

SMALLEST = """\
name: prod
kubernetes: {version: 1.35.4}
endpoint: {vip: 192.0.2.100/24}
machines:
  cp1: {address: 192.0.2.11}
  cp2: {address: 192.0.2.12}
"""

FULL = """\
name: prod
kubernetes:
  version: 1.34.9
  pods: [10.200.0.0/16, "fd00:1::/56"]
  services: [10.201.0.0/16, "fd00:2::/112"]
  cni: bridge
endpoint: {vip: 192.0.2.100/24, port: 9443, host: api.prod.example, virtual_router_id: 51, cast: multicast}
failover: {target: 500ms, survive: zone, tell_clients: false}
etcd: {heartbeat: 30ms, election: 0.3s}
accept:
  vip-failback-outage: the boss likes the first machine   # he does
ssh: {user: ops, port: 22, jump: bastion, key: ./keys/id, known_hosts: ~/.ssh/known_hosts}
bundle:
  sources:
    - official
    - go-modules
    - directory: ./bundle
    - official: {url: "http://127.0.0.1:8000/", registry: "http://127.0.0.1:8001"}
power: {off: "virsh destroy {name}", on: "wake {address}", freeze: "virsh suspend {name}", thaw: "wake {name}"}
kubeadm:
  ClusterConfiguration: {apiServer: {extraArgs: [{name: v, value: "2"}]}}
kubelet: {evictionHard: {memory.available: 5%}, maxPods: 200, some: [1.5, ~, null, "", true, FALSE, 2026-01-01]}
containerd: {SystemdCgroup: true}
keepalived: {vrrp_instance: {advert_int: 0.2, nopreempt: false}, global_defs: {vrrp_garp_master_refresh: 30}}
haproxy:
  defaults: {timeout tunnel: 1h, option redispatch: false}
  default-server: {slowstart: false, inter: 1s}
  global: {maxconn: 4000}
machines:
  cp1:
    address: 192.0.2.11
    interface: eth0
    zone: rack-a
    ssh: {port: 2222, user: root}
    keepalived: {vrrp_instance: {priority: 120}, vrrp_script: {init_fail: true}}
  cp2: {address: 192.0.2.12, roles: [control-plane, client], ssh: {jump: }, haproxy: {frontend: {maxconn: 100}}}
  bastion: {address: 203.0.113.4, roles: [client]}
"""

DEDICATED = """\
name: prod
kubernetes: {version: 1.35.4}
endpoint: {vip: [192.0.2.100/24, "2001:db8::100/64"], by: keepalived, outside: 203.0.113.7}
balancer: {by: haproxy, role: balancer}
etcd: {topology: external}
haproxy: {backend: {balance: roundrobin}}
machines:
  lb1: {address: [192.0.2.5, "2001:db8::5"], roles: [balancer], zone: a}
  lb2: {address: [192.0.2.6, "2001:db8::6"], roles: [balancer], zone: b}
  cp1: {address: 192.0.2.11, roles: [control-plane, etcd]}
  et1: {address: 192.0.2.21, roles: [etcd]}
  w1: {address: ["2001:db8::31"], roles: [worker]}
"""

WORKERS = """\
name: prod
kubernetes: {version: 1.35.4, cni: flannel, flannel: {backend: host-gw}, proxy: iptables}
endpoint: {vip: 192.0.2.100/24}
balancer: {on_workers: true}
machines:
  cp1: {address: 192.0.2.11}
  cp2: {address: 192.0.2.12}
  cp3: {address: 192.0.2.13}
  w1: {address: 192.0.2.21, roles: [worker]}
  w2: {address: 192.0.2.22, roles: [worker], haproxy: {global: {maxconn: 1000}}}
"""

NGINX = """\
name: prod
kubernetes: {version: 1.35.4}
endpoint: {vip: 192.0.2.100/24, by: keepalived}
balancer: {by: nginx}
nginx:
  main: {worker_processes: 2}
  stream: {proxy_timeout: 1h, proxy_socket_keepalive: false}
  server: {listen: "*:8443"}
  upstream: {zone: apiservers 128k}
  upstream-server: {fail_timeout: 2s}
machines:
  cp1: {address: 192.0.2.11}
  cp2: {address: 192.0.2.12, nginx: {events: {worker_connections: 4000}}}
"""

NOBODY = SMALLEST + "balancer: {by: none}\n"

ALL = {
    "the smallest": SMALLEST,
    "a full one": FULL,
    "one of dedicated machines": DEDICATED,
    "one with workers": WORKERS,
    "one with nginx": NGINX,
    "one without a balancer": NOBODY,
}


def read(text: str) -> Cluster:
    return read_cluster(text, file="cluster.yaml", folder=Path("/cluster"))
