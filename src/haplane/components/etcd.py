"""etcd on machines of its own, as a systemd unit; beside apiservers kubeadm runs it, with the same timers.

Sources: etcd.io/docs/v3.6 (configuration, tuning, clustering).
"""

from __future__ import annotations

from haplane.components.base import SLICE, ComponentDesign, File, FileSet, Load, View, join_host_port
from haplane.components.templates import render
from haplane.model.cluster import Cluster

CLIENT_PORT = 2379
PEER_PORT = 2380
METRICS_PORT = 2381
DATA = "/var/lib/etcd"
PKI = "/etc/etcd/pki"

# etcd.io/docs, tuning: heartbeat about the round trip between members, election at least ten times that.
DEFAULT_HEARTBEAT_MS = 100
DEFAULT_ELECTION_MS = 1000

UNIT = """\
# Written by haplane.
[Unit]
Description=etcd
Documentation=https://etcd.io/docs/
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0
[Service]
Type=notify
ExecStart=/usr/local/bin/etcd --config-file /etc/etcd/etcd.yaml
LimitNOFILE=65536
Slice={{ slice }}
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
"""

CONFIG = """\
# Written by haplane; a change here is undone by the next apply.
name: {{ name }}
data-dir: {{ data }}
heartbeat-interval: {{ heartbeat_ms }}
election-timeout: {{ election_ms }}
listen-peer-urls: https://{{ peer }}
initial-advertise-peer-urls: https://{{ peer }}
listen-client-urls: https://127.0.0.1:{{ client_port }},https://{{ client }}
advertise-client-urls: https://{{ client }}
listen-metrics-urls: http://127.0.0.1:{{ metrics_port }}
initial-cluster: {{ members }}
initial-cluster-token: {{ token }}
initial-cluster-state: new
feature-gates: InitialCorruptCheck=true
client-transport-security:
  cert-file: {{ pki }}/server.crt
  key-file: {{ pki }}/server.key
  trusted-ca-file: {{ pki }}/ca.crt
  client-cert-auth: true
peer-transport-security:
  cert-file: {{ pki }}/peer.crt
  key-file: {{ pki }}/peer.key
  trusted-ca-file: {{ pki }}/ca.crt
  client-cert-auth: true
"""


def heartbeat_ms(view: View) -> int:
    """As the file says, else as solved."""
    return view.cluster.etcd.heartbeat_ms or view.timers.etcd_heartbeat_ms


def election_ms(view: View) -> int:
    return view.cluster.etcd.election_ms or view.timers.etcd_election_ms


def client_urls(cluster: Cluster) -> list[str]:
    return [f"https://{join_host_port(one.address, CLIENT_PORT)}" for one in cluster.etcd_members]


def design(view: View) -> ComponentDesign:
    config = render(
        CONFIG,
        name=view.machine.name,
        data=DATA,
        heartbeat_ms=heartbeat_ms(view),
        election_ms=election_ms(view),
        peer=join_host_port(view.machine.address, PEER_PORT),
        client=join_host_port(view.machine.address, CLIENT_PORT),
        client_port=CLIENT_PORT,
        metrics_port=METRICS_PORT,
        members=",".join(
            f"{one.name}=https://{join_host_port(one.address, PEER_PORT)}" for one in view.cluster.etcd_members
        ),
        token=view.cluster.name,
        pki=PKI,
    )
    files = (File("/etc/etcd/etcd.yaml", config), File("/etc/systemd/system/etcd.service", render(UNIT, slice=SLICE)))
    return ComponentDesign(
        name="etcd",
        packages=(),
        file_sets=(FileSet(files),),
        load=Load("systemctl daemon-reload\nsystemctl enable -q etcd\nsystemctl restart etcd", "restart etcd"),
        unit="etcd.service",
    )
