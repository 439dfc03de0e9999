"""etcd on machines of its own, as a systemd unit; beside apiservers kubeadm runs it, with the same timers.

Sources: etcd.io/docs/v3.6 (configuration, tuning, clustering).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from haplane.components.base import COMES_FIRST, RUN, STATE, ComponentDesign, File, FileSet, Load, View, join_host_port
from haplane.components.templates import render
from haplane.model.cluster import Cluster, Machine

CLIENT_PORT = 2379
PEER_PORT = 2380
METRICS_PORT = 2381
DATA = "/var/lib/etcd"
PKI = "/etc/etcd/pki"
CONFIG_FILE = "/etc/etcd/etcd.yaml"
BINARIES = ("etcd", "etcdctl")
# On a machine of its own: `begun new|join`, then the cluster's identity; replaced by `done ...` when it is a member.
MEMBERSHIP = f"{STATE}/etcd-membership"
# While a member joins others, and only until it has: etcd is told so by another configuration.
JOINING = f"{RUN}/etcd-joining.yaml"
JOINING_ENVIRONMENT = f"{RUN}/etcd-joining.env"

# Where kubeadm puts what an apiserver needs to ask an etcd on other machines.
CLIENT_CA = "/etc/kubernetes/pki/etcd/ca.crt"
CLIENT_CERT = "/etc/kubernetes/pki/apiserver-etcd-client.crt"
CLIENT_KEY = "/etc/kubernetes/pki/apiserver-etcd-client.key"

# Of `endpoint status -w fields`: exit code 0 where the member that answered leads. As text: awk rounds such numbers.
LEADS = """awk -F ' : ' '$1=="\\"MemberID\\"" { me=$2 } $1=="\\"Leader\\"" { leader=$2 }
  END { exit !(me != "" && me "" == leader "") }'"""

# Of a shell in which $e is `etcdctl` as its own member is asked: a leader hands on to a follower that votes. A member
# that stops does so as well, but only tries.
GIVE_UP_THE_LEAD = f"""\
if $e endpoint status -w fields | {LEADS}; then
  me=$($e endpoint status | cut -d, -f2 | tr -d ' ')
  other=$($e member list | grep ', started,' | grep -v "^$me" | grep 'false$' | head -n 1 | cut -d, -f1)
  [ -z "$other" ] || $e move-leader "$other" || true
fi
"""

# etcd.io/docs, tuning: heartbeat about the round trip between members, election at least ten times that.
DEFAULT_HEARTBEAT_MS = 100
DEFAULT_ELECTION_MS = 1000

# A member that starts without its data has forgotten for what it voted, and could undo what was promised to clients.
# etcd itself refuses that only while it can ask the others.
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
Environment=CONFIG={{ config }}
EnvironmentFile=-{{ joining }}
ExecStartPre=/bin/sh -c '[ -d {{ data }}/member/wal ] || [ -f {{ joining }} ] || \\
grep -qs "^begun new" {{ membership }} || { echo "its data is gone; haplane apply replaces the member" >&2; exit 1; }'
ExecStart=/usr/local/bin/etcd --config-file ${CONFIG}
LimitNOFILE=65536
{{ comes_first }}
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
"""

CONFIG = """\
# Written by haplane; a change here is undone by the next apply.
name: "{{ name }}"
data-dir: {{ data }}
heartbeat-interval: {{ heartbeat_ms }}
election-timeout: {{ election_ms }}
listen-peer-urls: https://{{ peer }}
initial-advertise-peer-urls: https://{{ peer }}
listen-client-urls: https://127.0.0.1:{{ client_port }},https://{{ client }}
advertise-client-urls: https://{{ client }}
listen-metrics-urls: http://127.0.0.1:{{ metrics_port }}
initial-cluster: {{ members }}
initial-cluster-token: "{{ token }}"
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


@dataclass(frozen=True)
class ClientFiles:
    """With which a machine of etcd asks its own member: the CA certificate, a certificate and its key."""

    ca: str
    cert: str
    key: str


def client_files(cluster: Cluster) -> ClientFiles:
    if cluster.is_stacked:
        pki = "/etc/kubernetes/pki/etcd"
        return ClientFiles(f"{pki}/ca.crt", f"{pki}/healthcheck-client.crt", f"{pki}/healthcheck-client.key")
    return ClientFiles(f"{PKI}/ca.crt", f"{PKI}/server.crt", f"{PKI}/server.key")


def loopback(cluster: Cluster) -> str:
    """Where a member listens for its own machine: kubeadm's by the IP version of its node's first address."""
    return "::1" if cluster.is_stacked and cluster.etcd_members[0].address.version == 6 else "127.0.0.1"


def own_url(cluster: Cluster) -> str:
    """At which a member answers its own machine."""
    return f"https://{join_host_port(ip_address(loopback(cluster)), CLIENT_PORT)}"


def etcdctl(cluster: Cluster, *, endpoints: str = "") -> str:
    """The beginning of a command on a machine of etcd, to its own member unless others are named."""
    files = client_files(cluster)
    return (
        f"etcdctl --command-timeout 3s --cacert {files.ca} --cert {files.cert} --key {files.key} "
        f"--endpoints {endpoints or own_url(cluster)}"
    )


@dataclass(frozen=True)
class Leaf:
    """A certificate of etcd's CA that a machine has: its files, the CA's, and what it says.

    names: DNS names and addresses; none: it is for a client alone.
    """

    cert: str
    key: str
    ca: str
    common_name: str
    names: tuple[str, ...] = ()


def leaves(cluster: Cluster, machine: Machine) -> tuple[Leaf, ...]:
    """What a machine needs where etcd has machines of its own; nothing where kubeadm does that."""
    if cluster.is_stacked:
        return ()
    found: list[Leaf] = []
    if machine in cluster.etcd_members:
        # As kubeadm names its own: all by which it is reached. Members also call each other with it.
        names = (machine.name, "localhost", *map(str, machine.addresses), "127.0.0.1", "::1")
        found += [
            Leaf(f"{PKI}/{kind}.crt", f"{PKI}/{kind}.key", f"{PKI}/ca.crt", machine.name, names)
            for kind in ("server", "peer")
        ]
    if machine in cluster.control_plane:
        found.append(Leaf(CLIENT_CERT, CLIENT_KEY, CLIENT_CA, "kube-apiserver-etcd-client"))
    return tuple(found)


def peer_url(machine: Machine) -> str:
    return f"https://{join_host_port(machine.address, PEER_PORT)}"


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
        members=",".join(f"{one.name}={peer_url(one)}" for one in view.cluster.etcd_members),
        token=view.cluster.name,
        pki=PKI,
    )
    unit = render(
        UNIT, comes_first=COMES_FIRST, config=CONFIG_FILE, joining=JOINING_ENVIRONMENT, data=DATA, membership=MEMBERSHIP
    )
    files = (File(CONFIG_FILE, config), File("/etc/systemd/system/etcd.service", unit))
    return ComponentDesign(
        name="etcd",
        packages=("openssl",),
        file_sets=(FileSet(files),),
        load=Load("systemctl daemon-reload\nsystemctl enable -q etcd\nsystemctl restart etcd", "restart etcd"),
        unit="etcd.service",
    )
