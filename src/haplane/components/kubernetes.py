"""kubeadm and kubelet: the files that make a cluster, and the unit that runs its nodes.

Sources: kubeadm.k8s.io/v1beta4, kubelet.config.k8s.io/v1beta1, the kubelet packages' own unit files.
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from haplane.components import etcd
from haplane.components.base import STATE, ComponentDesign, File, FileSet, Load, View, join_host_port, loopbacks
from haplane.model.cluster import APISERVER_PORT, Cluster, Role, Value

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

# As an argument of kubectl on a control-plane node.
KUBECONFIG = "--kubeconfig /etc/kubernetes/admin.conf"
PKI = "/etc/kubernetes/pki"
# The apiserver's client certificate for kubelets may do what administrators may; curl starts ten times quicker than
# kubectl.
_CLIENT = f"{PKI}/apiserver-kubelet-client"
AS_ADMINISTRATOR = f"curl --silent --cacert {PKI}/ca.crt --cert {_CLIENT}.crt --key {_CLIENT}.key"
CONFIG_FOLDER = "/etc/haplane"
INIT_FILE = f"{CONFIG_FOLDER}/kubeadm-init.yaml"
PATCHES = f"{CONFIG_FOLDER}/patches"
# goaway-chance: after a restart, clients find their way back to all apiservers. shutdown-delay-duration: one that is
# told to stop says so by /readyz, and serves until balancers have noticed.
API_SERVER_ARGUMENTS = {
    "goaway-chance": "0.001",
    "shutdown-delay-duration": "10s",
    "shutdown-watch-termination-grace-period": "5s",
}
# The delay, and 60 s for requests that are under way (kube-apiserver's request timeout).
API_SERVER_GRACE_S = 75
API_SERVER_PATCH = f"""\
spec:
  terminationGracePeriodSeconds: {API_SERVER_GRACE_S}
"""
# When a machine shuts down its kubelet ends all pods of the control plane at once, and an apiserver without etcd
# answers 500 until balancers have noticed. So etcd stays until the apiserver takes no requests any more, and those that
# are under way have had as long again.
ETCD_STAYS_S = 20
ETCD_PATCH = f"""\
spec:
  terminationGracePeriodSeconds: {ETCD_STAYS_S + 30}
  containers:
    - name: etcd
      lifecycle: {{preStop: {{sleep: {{seconds: {ETCD_STAYS_S}}}}}}}
      # Who has to wait for a processor by this: kubeadm asks for 100m, and less than for the controller manager.
      resources: {{requests: {{cpu: 500m}}}}
"""
# A kubelet waits ever longer, by itself up to 5 minutes (since 1.35 it can be told; KEP-5593). It begins with 10 s, and
# what clients depend on should not be away for longer.
RESTARTED_AFTER_AT_MOST = "10s"
BINARIES = ("kubeadm", "kubelet", "kubectl", "etcdctl")

PARKED = f"{STATE}/parked"

UNIT = f"""\
# Written by haplane.
[Unit]
Description=kubelet: The Kubernetes Node Agent
Documentation=https://kubernetes.io/docs/
Wants=network-online.target
After=network-online.target containerd.service
StartLimitIntervalSec=0
# Before kubeadm has written it there is nothing to run.
ConditionPathExists=/var/lib/kubelet/config.yaml
[Service]
# What was taken away for a moment when the machine lost its power.
ExecStartPre=-/bin/sh -c 'cp -n {PARKED}/*.yaml /etc/kubernetes/manifests/ 2>/dev/null'
ExecStartPre=-/bin/sh -c 'cp -n {PARKED}/pki/* /etc/kubernetes/pki/ 2>/dev/null'
ExecStart=/usr/local/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
"""


def kubelet_design(view: View) -> ComponentDesign:
    return ComponentDesign(
        name="kubelet",
        packages=(),
        file_sets=(FileSet((File("/etc/systemd/system/kubelet.service", UNIT),)),),
        # Restarted only where it runs: before kubeadm it would have nothing to do.
        load=Load(
            "systemctl daemon-reload\nsystemctl enable -q kubelet\nsystemctl try-restart kubelet",
            "enable the kubelet (restart it where it runs)",
        ),
        unit="kubelet.service",
        started_later=True,
    )


def kubeadm_design(view: View) -> ComponentDesign:
    patches = [File(f"{PATCHES}/kube-apiserver+strategic.yaml", API_SERVER_PATCH)]
    if view.cluster.is_stacked:
        patches.append(File(f"{PATCHES}/etcd+strategic.yaml", ETCD_PATCH))
    return ComponentDesign(
        name="kubeadm",
        # For the certificate with which an apiserver asks an etcd on other machines.
        packages=() if view.cluster.is_stacked else ("openssl",),
        file_sets=(
            FileSet(tuple(patches)),
            FileSet(
                (File(INIT_FILE, init_file(view), mode=0o600),),
                validate=f"/usr/local/bin/kubeadm config validate --config .{INIT_FILE}",
            ),
        ),
        load=Load("true", "keep the configuration for kubeadm"),
    )


def init_file(view: View) -> str:
    """InitConfiguration, ClusterConfiguration and KubeletConfiguration for `kubeadm init`. Holds no secret."""
    cluster = view.cluster
    init: dict[str, Value] = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": _local_endpoint(view),
        "nodeRegistration": _registration(view),
        "patches": {"directory": PATCHES},
        # kubeadm makes one in any case; without this it would be good for a day.
        "bootstrapTokens": [{"ttl": "1h0m0s"}],
        # The add-ons are haplane's own: kubeadm's cannot be changed.
        "skipPhases": ["addon/coredns", "addon/kube-proxy"],
    }
    configuration: dict[str, Value] = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": cluster.name,
        "kubernetesVersion": f"v{cluster.kubernetes.version}",
        "controlPlaneEndpoint": control_plane_endpoint(view),
        # An apiserver signs a handshake of a client with a thirtieth of the work that RSA takes: clients that come back
        # all at once, and a busy machine, notice.
        "encryptionAlgorithm": "ECDSA-P256",
        "networking": {
            "podSubnet": ",".join(str(network) for network in cluster.kubernetes.pods),
            "serviceSubnet": ",".join(str(network) for network in cluster.kubernetes.services),
        },
        "apiServer": {
            "certSANs": certificate_names(cluster),
            "extraArgs": [{"name": name, "value": value} for name, value in API_SERVER_ARGUMENTS.items()],
        },
    }
    if etcd_part := _etcd(view):
        configuration["etcd"] = etcd_part
    kubelet: dict[str, Value] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        # A reboot that is asked for lets static pods end as they would by themselves.
        "shutdownGracePeriod": "90s",
        "shutdownGracePeriodCriticalPods": "80s",
    }
    if _minor(cluster) >= 35:
        # Else an apiserver or an etcd that crashed a few times comes back only minutes after its cause has gone.
        kubelet["crashLoopBackOff"] = {"maxContainerRestartPeriod": RESTARTED_AFTER_AT_MOST}
    documents = [
        _merged(init, cluster.kubeadm.get("InitConfiguration", {})),
        _merged(configuration, cluster.kubeadm.get("ClusterConfiguration", {})),
        _merged(kubelet, cluster.kubelet),
    ]
    return _yaml(documents)


def join_file(view: View, *, token: str, authority_hash: str, certificate_key: str | None, via: str) -> str:
    """JoinConfiguration for a control-plane node; of a worker, without certificate_key.

    via: host:port of an apiserver that answers. token and certificate_key are secrets with a short life: the file
    lives in a tmpfs on the machine while kubeadm runs.
    """
    join: dict[str, Value] = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "discovery": {
            "bootstrapToken": {"apiServerEndpoint": via, "token": token, "caCertHashes": [authority_hash]},
        },
        "nodeRegistration": _registration(view),
    }
    if certificate_key is not None:
        join["controlPlane"] = {"localAPIEndpoint": _local_endpoint(view), "certificateKey": certificate_key}
        join["patches"] = {"directory": PATCHES}
    return _yaml([_merged(join, view.cluster.kubeadm.get("JoinConfiguration", {}))])


def _yaml(documents: list[dict[str, Value]]) -> str:
    # libyaml is eight times faster; the width keeps its lines and those of PyYAML's own dumper the same.
    return yaml.dump_all(documents, Dumper=_DUMPER, sort_keys=False, width=1000)


def certificate_names(cluster: Cluster) -> list[Value]:
    """Every name and address by which an apiserver of this cluster is reached."""
    endpoint = cluster.endpoint
    names = [str(vip.ip) for vip in endpoint.vips]
    names += [str(name) for name in (endpoint.host, endpoint.outside) if name]
    names += [text for one in cluster.control_plane for text in (one.name, *map(str, one.addresses))]
    return [*dict.fromkeys(names)]


def _etcd(view: View) -> dict[str, Value]:
    """Where etcd is, and its timers where they are not its own defaults."""
    if not view.cluster.is_stacked:
        return {
            "external": {
                "endpoints": [*etcd.client_urls(view.cluster)],
                "caFile": etcd.CLIENT_CA,
                "certFile": etcd.CLIENT_CERT,
                "keyFile": etcd.CLIENT_KEY,
            }
        }
    heartbeat, election = etcd.heartbeat_ms(view), etcd.election_ms(view)
    if (heartbeat, election) == (etcd.DEFAULT_HEARTBEAT_MS, etcd.DEFAULT_ELECTION_MS):
        return {}
    arguments: list[Value] = [
        {"name": "heartbeat-interval", "value": str(heartbeat)},
        {"name": "election-timeout", "value": str(election)},
    ]
    return {"local": {"extraArgs": arguments}}


def control_plane_endpoint(view: View) -> str:
    endpoint = view.cluster.endpoint
    return f"{endpoint.host}:{endpoint.port}" if endpoint.host else join_host_port(endpoint.vip.ip, endpoint.port)


def kubelet_server(view: View) -> str:
    """Where a worker's kubelet reaches the API: its own balancer, or the endpoint, as kubeadm leaves it."""
    beside = view.cluster.balancer_on_workers and view.machine in view.cluster.running_balancer
    port = view.cluster.endpoint.port
    return f"https://{join_host_port(loopbacks(view.cluster)[0], port) if beside else control_plane_endpoint(view)}"


def _minor(cluster: Cluster) -> int:
    return int(cluster.kubernetes.version.split(".")[1])


def _local_endpoint(view: View) -> Value:
    return {"advertiseAddress": str(view.machine.address), "bindPort": APISERVER_PORT}


def _registration(view: View) -> Value:
    # By itself kubeadm keeps pods off every control-plane machine, also where they are wanted.
    open_to_all: dict[str, Value] = {"taints": []} if Role.WORKER in view.machine.roles else {}
    return {
        "name": view.machine.name,
        "criSocket": "unix:///run/containerd/containerd.sock",
        # Pinned, so that the VIP is never taken for the node's address.
        "kubeletExtraArgs": [{"name": "node-ip", "value": ",".join(map(str, view.machine.addresses))}],
        **open_to_all,
    }


def _merged(base: Mapping[str, Value], over: Mapping[str, Value]) -> dict[str, Value]:
    """over wins; mappings are merged, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
