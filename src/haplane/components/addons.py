"""Add-ons: what runs in the cluster for the sake of pods: flannel, kube-proxy and CoreDNS, as one file of manifests.

Names and labels are those of kubeadm's own add-ons and of flannel's, which everybody looks for. kubeadm's are not used:
they cannot be changed, and all of CoreDNS would be on the first node. Sources: kubeadm 1.35
(cmd/kubeadm/app/phases/addons), flannel 0.28 (Documentation/kube-flannel.yml, main.go), CoreDNS 1.13.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache

import yaml

from haplane.components.balancer import loopback_of_every_node
from haplane.components.base import ComponentDesign, File, FileSet, Load, View, join_host_port
from haplane.components.kubernetes import CONFIG_FOLDER, control_plane_endpoint
from haplane.model.bundle import Addon
from haplane.model.cluster import Address, Cluster, Proxy, Value

Manifest = dict[str, Value]

MANIFESTS_FILE = f"{CONFIG_FOLDER}/addons.yaml"
SYSTEM, OF_FLANNEL = "kube-system", "kube-flannel"
# The names of their DaemonSets and Deployment: namespace and name.
# As text: what is written as YAML knows no enumerations.
KUBE_PROXY, COREDNS, FLANNEL = Addon.KUBE_PROXY.value, Addon.COREDNS.value, Addon.FLANNEL.value
DAEMON_SETS = {KUBE_PROXY: (SYSTEM, "kube-proxy"), FLANNEL: (OF_FLANNEL, "kube-flannel-ds")}
DEPLOYMENTS = {COREDNS: (SYSTEM, "coredns")}
DNS_LABEL = "kube-dns"

# As kubeadm 1.35 and flannel name them; the bundle says which it carries.
_IMAGES = {
    KUBE_PROXY: "registry.k8s.io/kube-proxy:v{version}",
    COREDNS: "registry.k8s.io/coredns/coredns:v1.13.1",
    FLANNEL: "ghcr.io/flannel-io/flannel:v0.28.10",
}
# Where their own images have the program; ours have it in /usr/local/bin. None: the image says it.
_PROGRAMS = {KUBE_PROXY: "/usr/local/bin/kube-proxy", COREDNS: None, FLANNEL: "/opt/bin/flanneld"}
_OUR_PROGRAMS = {KUBE_PROXY: "kube-proxy", COREDNS: "coredns", FLANNEL: "flanneld"}
# The machine's nft and iptables, for images that have none; /etc/alternatives says which iptables is meant.
_FOLDERS_OF_THE_MACHINE = ("/lib", "/lib64", "/usr/lib", "/usr/sbin", "/etc/alternatives")
# Without it nft calls protocols by their numbers: kube-proxy does not know what it wrote itself, and takes away every
# Service of the machine when it looks: once an hour, and whenever it starts (readOrReset in pkg/proxy/nftables).
_PROTOCOLS = "tcp 6 TCP\nudp 17 UDP\nsctp 132 SCTP\n"
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# flannel's own health page, on loopback of each node.
FLANNEL_HEALTH_PORT = 8081
# How long a pod of CoreDNS stays bound to a machine that is gone; by itself it would be 5 minutes.
GONE_AFTER_S = 30
# Discard-only (RFC 6666): nobody ever answers there, and a pod without IPv6 finds out at once.
NOBODY = "100::1"

# What flannel leaves in the kernel would lead packets of another network into its own.
TAKE_FLANNELS_LINKS = """\
for link in cni0 flannel.1 flannel-v6.1; do ip link delete $link 2>/dev/null || true; done
for table in "ip flannel-ipv4" "ip6 flannel-ipv6"; do nft delete table $table 2>/dev/null || true; done"""

# kube-proxy's, too, would lead packets to services as they were. Those of its mode iptables (KUBE-*) go with a restart
# of the machine: other programs have rules in the same tables.
TAKE_PROXYS_RULES = """\
for table in "ip kube-proxy" "ip6 kube-proxy"; do nft delete table $table 2>/dev/null || true; done"""

_APPLY = f"kubectl --kubeconfig /etc/kubernetes/admin.conf apply --server-side --force-conflicts -f {MANIFESTS_FILE}"
# A balancer that was just reloaded, an apiserver that was just started: it is asked again for half a minute.
LOAD = f"""\
for i in $(seq 15); do
  if said=$({_APPLY} 2>&1); then exit_code=0; break; fi
  exit_code=1
  sleep 2
done
[ $exit_code = 0 ] || {{ echo "$said" >&2; exit 1; }}"""


def design(view: View) -> ComponentDesign | None:
    """On every control-plane machine, so that any of them can apply it; None where the cluster has no add-ons."""
    if not view.cluster.addons:
        return None
    content = "# Written by haplane; a change here is undone by the next apply.\n" + manifests_file(view)
    return ComponentDesign(
        name="addons",
        packages=(),
        file_sets=(FileSet((File(MANIFESTS_FILE, content),)),),
        load=Load(LOAD, f"apply the add-ons to the cluster ({', '.join(in_order(view.cluster))})"),
    )


def in_order(cluster: Cluster) -> list[str]:
    """Names of the cluster's add-ons in the order in which they need each other."""
    return [name for name in (FLANNEL, KUBE_PROXY, COREDNS) if name in cluster.addons]


def manifests_file(view: View) -> str:
    return str(yaml.dump_all(manifests(view), Dumper=_readable(), sort_keys=False, width=1000))


@cache
def _readable() -> type[yaml.SafeDumper]:
    """For people who read the diff of a plan: texts of several lines as such, and nothing by reference."""

    # Which of the two it is, libyaml's or PyYAML's own, is known only here: mypy takes no such base.
    class Readable(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Readable.add_representer(str, text)
    return Readable


def manifests(view: View) -> list[Manifest]:
    """Every object, in an order in which the API takes them. The same on all control-plane machines."""
    made = {FLANNEL: _flannel, KUBE_PROXY: _kube_proxy, COREDNS: _coredns}
    return [one for name in in_order(view.cluster) for one in made[name](view)]


def image(view: View, name: str) -> str:
    """As the bundle carries it."""
    default = _IMAGES[name].format(version=view.cluster.kubernetes.version)
    repository = default.rpartition(":")[0]
    carried = view.bundle.images if view.bundle else ()
    return next((one for one in carried if one.rpartition(":")[0] == repository), default)


def cluster_dns(cluster: Cluster) -> Address:
    """The tenth address of the services, which kubeadm tells every kubelet (GetDNSIP)."""
    return cluster.kubernetes.services[0][10]


def coredns_replicas(cluster: Cluster) -> int:
    return 3 if len(cluster.nodes) >= 3 else 2


def api_server(view: View) -> str:
    """Where add-ons of a machine's own network reach the API: the balancer beside them, or the endpoint."""
    beside = loopback_of_every_node(view.cluster)
    at = join_host_port(beside, view.cluster.endpoint.port) if beside else control_plane_endpoint(view)
    return f"https://{at}"


# ---- flannel ----


def _flannel(view: View) -> Iterator[Manifest]:
    labels: Manifest = {"k8s-app": FLANNEL}
    # Pods that are the machine's network: the restrictions for pods are not meant for them.
    privileged: Manifest = {**labels, "pod-security.kubernetes.io/enforce": "privileged"}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OF_FLANNEL, "labels": privileged}}
    yield _account(FLANNEL, OF_FLANNEL)
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": FLANNEL, "labels": labels},
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
        ],
    }
    yield _role_binding(FLANNEL, FLANNEL, account=FLANNEL, namespace=OF_FLANNEL)
    data: Manifest = {"net-conf.json": _net_conf(view.cluster), "kubeconfig.conf": _kubeconfig(view)}
    yield _config_map("kube-flannel-cfg", OF_FLANNEL, data, {**labels, "app": FLANNEL, "tier": "node"})
    container: Manifest = {
        "name": "kube-flannel",
        **_run(
            view,
            FLANNEL,
            "--ip-masq",
            "--kube-subnet-mgr",
            # Its own address, never the VIP, and without asking where the default route leads.
            "--iface=$(HOST_IP)",
            # Without kube-proxy, which would have to run first.
            "--kubeconfig-file=/etc/kube-flannel/kubeconfig.conf",
            "--healthz-ip=127.0.0.1",
            f"--healthz-port={FLANNEL_HEALTH_PORT}",
        ),
        "env": [
            _env_of("NODE_NAME", "spec.nodeName"),
            _env_of("POD_NAME", "metadata.name"),
            _env_of("POD_NAMESPACE", "metadata.namespace"),
            _env_of("HOST_IP", "status.hostIP"),
            {"name": "PATH", "value": _SEARCH_PATH},
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "50Mi"}},
        "securityContext": {"privileged": False, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "host": "127.0.0.1", "port": FLANNEL_HEALTH_PORT},
            "periodSeconds": 5,
        },
    }
    volumes = [
        _Volume("run", "/run/flannel", host="/run/flannel", kind="DirectoryOrCreate"),
        _Volume("flannel-cfg", "/etc/kube-flannel", config_map="kube-flannel-cfg"),
        _XTABLES_LOCK,
        *_tools_of_the_machine(view, FLANNEL),
    ]
    yield _daemon_set(FLANNEL, container, volumes, config=data, labels={"app": FLANNEL, "tier": "node"})


def _net_conf(cluster: Cluster) -> str:
    found: dict[str, object] = {}
    for network in cluster.kubernetes.pods:
        found["Network" if network.version == 4 else "IPv6Network"] = str(network)
    if "Network" not in found:
        found["EnableIPv4"] = False
    if "IPv6Network" in found:
        found["EnableIPv6"] = True
    found["EnableNFTables"] = cluster.kubernetes.proxy is Proxy.NFTABLES
    found["Backend"] = {"Type": str(cluster.kubernetes.flannel)}
    return json.dumps(found, indent=2) + "\n"


# ---- kube-proxy ----


def _kube_proxy(view: View) -> Iterator[Manifest]:
    yield _account(KUBE_PROXY, SYSTEM)
    yield _role_binding("kubeadm:node-proxier", "system:node-proxier", account=KUBE_PROXY, namespace=SYSTEM)
    pods = view.cluster.kubernetes.pods
    config: Manifest = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0" if pods[0].version == 4 else "::",
        "clientConnection": {"kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf"},
        "clusterCIDR": ",".join(map(str, pods)),
        "mode": str(view.cluster.kubernetes.proxy),
        # The kernel's maximum stays as it is on the machine; in a container it cannot be written at all.
        "conntrack": {"maxPerCore": 0},
    }
    tools = _tools_of_the_machine(view, KUBE_PROXY)
    data: Manifest = {"config.conf": _yaml(config), "kubeconfig.conf": _kubeconfig(view)}
    if tools:
        data["protocols"] = _PROTOCOLS
        tools.append(_Volume("protocols", "/etc/protocols", config_map="kube-proxy", key="protocols"))
    yield _config_map("kube-proxy", SYSTEM, data, {"app": KUBE_PROXY})
    container: Manifest = {
        "name": KUBE_PROXY,
        **_run(view, KUBE_PROXY, "--config=/var/lib/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)"),
        "env": [_env_of("NODE_NAME", "spec.nodeName"), {"name": "PATH", "value": _SEARCH_PATH}],
        "resources": {"requests": {"cpu": "50m", "memory": "50Mi"}},
        "securityContext": {"privileged": True},
        "readinessProbe": {"httpGet": {"path": "/livez", "port": 10256}, "periodSeconds": 5},
    }
    modules = [] if tools else [_Volume("lib-modules", "/lib/modules", host="/lib/modules", read_only=True)]
    volumes = [_Volume("kube-proxy", "/var/lib/kube-proxy", config_map="kube-proxy"), _XTABLES_LOCK, *modules, *tools]
    yield _daemon_set(KUBE_PROXY, container, volumes, config=data)


def _kubeconfig(view: View) -> str:
    """By the token of the pod's ServiceAccount."""
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    of_the_api: Manifest = {"certificate-authority": f"{account}/ca.crt", "server": api_server(view)}
    if loopback_of_every_node(view.cluster):
        # A name that every apiserver's certificate has, also of a cluster that was made before.
        of_the_api["tls-server-name"] = "kubernetes"
    return _yaml(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "default", "cluster": of_the_api}],
            "users": [{"name": "default", "user": {"tokenFile": f"{account}/token"}}],
            "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
            "current-context": "default",
        }
    )


# ---- CoreDNS ----

# forward: the machine's name servers, as kubelet has them (kubeadm leads it around systemd-resolved's stub). Where a
# machine has none, CoreDNS would not even start: the pod's own resolv.conf ends with NOBODY, who is asked last.
# acl instead of loop: where a machine's name server is on its loopback, `loop` ends the process, and with it the names
# of the cluster; refused at their first turn, such questions do no harm.
_COREFILE = """\
.:53 {{
    errors
    health {{
       lameduck 5s
    }}
    ready
    acl {{
       block net 127.0.0.0/8 ::1/128
    }}
    kubernetes {domain} in-addr.arpa ip6.arpa {{
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }}
    prometheus :9153
    forward . /etc/resolv.conf {{
       policy sequential
       max_concurrent 1000
    }}
    cache 30 {{
       disable success {domain}
       disable denial {domain}
    }}
    reload
    loadbalance
}}
"""


def _coredns(view: View) -> Iterator[Manifest]:
    cluster = view.cluster
    labels: Manifest = {"k8s-app": DNS_LABEL}
    yield _account(COREDNS, SYSTEM)
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["endpoints", "services", "pods", "namespaces"],
                "verbs": ["list", "watch"],
            },
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    }
    yield _role_binding("system:coredns", "system:coredns", account=COREDNS, namespace=SYSTEM)
    # What kubelets call the cluster's domain may be said in the file.
    domain = str(cluster.kubelet.get("clusterDomain", "cluster.local"))
    yield _config_map(COREDNS, SYSTEM, {"Corefile": _COREFILE.format(domain=domain)}, labels)
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": DNS_LABEL,
            "namespace": SYSTEM,
            "labels": {**labels, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
            "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
        },
        "spec": {
            "clusterIP": str(cluster_dns(cluster)),
            "selector": labels,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
            ],
        },
    }
    yield {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": COREDNS, "namespace": SYSTEM, "labels": labels},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
    }
    yield _coredns_deployment(view, labels)


def _coredns_deployment(view: View, labels: Manifest) -> Manifest:
    replicas = coredns_replicas(view.cluster)
    container: Manifest = {
        "name": COREDNS,
        **_run(view, COREDNS, "-conf", "/etc/coredns/Corefile"),
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "70Mi"}, "limits": {"memory": "170Mi"}},
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": 8080},
            "initialDelaySeconds": 60,
            "timeoutSeconds": 5,
            "failureThreshold": 5,
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 5},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "config-volume", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    # One on each machine, also while the cluster has only its first: the others wait for theirs. A machine that is
    # gone does not count, so that what was there starts where there is room.
    spread: Manifest = {
        "topologyKey": "kubernetes.io/hostname",
        "maxSkew": 1,
        "minDomains": min(replicas, len(view.cluster.nodes)),
        "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": labels},
    }
    no_longer: Manifest = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": GONE_AFTER_S}
    gone = [{"key": f"node.kubernetes.io/{what}", **no_longer} for what in ("not-ready", "unreachable")]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": COREDNS, "namespace": SYSTEM, "labels": labels},
        "spec": {
            "replicas": replicas,
            # None besides, which would find no machine without one.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "priorityClassName": "system-cluster-critical",
                    "serviceAccountName": COREDNS,
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "tolerations": [
                        {"key": "CriticalAddonsOnly", "operator": "Exists"},
                        {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"},
                        *gone,
                    ],
                    "topologySpreadConstraints": [spread],
                    "dnsPolicy": "Default",
                    "dnsConfig": {"nameservers": [NOBODY]},
                    "containers": [container],
                    "volumes": [
                        {
                            "name": "config-volume",
                            "configMap": {"name": COREDNS, "items": [{"key": "Corefile", "path": "Corefile"}]},
                        }
                    ],
                },
            },
        },
    }


# ---- what they have in common ----


class _Volume:
    """A folder of the machine (host; kind: what the kubelet makes if it is missing), or a ConfigMap, in a container.

    key: of the ConfigMap this alone, as a file.
    """

    def __init__(
        self,
        name: str,
        path: str,
        *,
        host: str = "",
        kind: str = "",
        config_map: str = "",
        key: str = "",
        read_only: bool = False,
    ) -> None:
        of_the_machine: Manifest = {"path": host, **({"type": kind} if kind else {})}
        source: Manifest = {"configMap": {"name": config_map}} if config_map else {"hostPath": of_the_machine}
        self.volume: Manifest = {"name": name, **source}
        self.mount: Manifest = {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}
        if key:
            self.mount["subPath"] = key


_XTABLES_LOCK = _Volume("xtables-lock", "/run/xtables.lock", host="/run/xtables.lock", kind="FileOrCreate")


def _tools_of_the_machine(view: View, name: str) -> list[_Volume]:
    """nft and iptables where the image has none."""
    if not _is_bare(view, name):
        return []
    return [
        _Volume(f"machine{path.replace('/', '-')}", path, host=path, read_only=True) for path in _FOLDERS_OF_THE_MACHINE
    ]


def _is_bare(view: View, name: str) -> bool:
    return view.bundle is not None and image(view, name) in view.bundle.bare_images


def _run(view: View, name: str, *arguments: str) -> Manifest:
    program = f"/usr/local/bin/{_OUR_PROGRAMS[name]}" if _is_bare(view, name) else _PROGRAMS[name]
    command: Manifest = {"command": [program]} if program else {}
    return {
        "image": image(view, name),
        "imagePullPolicy": "IfNotPresent",
        **command,
        "args": [*arguments],
    }


def _daemon_set(
    name: str, container: Manifest, volumes: Iterable[_Volume], *, config: Manifest, labels: Manifest | None = None
) -> Manifest:
    """On every node whatever its state, in the machine's own network. config: a change of it starts the pods anew."""
    namespace, set_name = DAEMON_SETS[name]
    # A selector cannot be changed later: flannel's own, and kubeadm's.
    selector: Manifest = {"app": FLANNEL} if name == FLANNEL else {"k8s-app": name}
    every: Manifest = {"k8s-app": name, **(labels or {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": set_name, "namespace": namespace, "labels": every},
        "spec": {
            "selector": {"matchLabels": selector},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
            "template": {
                "metadata": {"labels": every, "annotations": {"haplane/config": _digest(config)}},
                "spec": {
                    "hostNetwork": True,
                    "priorityClassName": "system-node-critical",
                    "serviceAccountName": name,
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{**container, "volumeMounts": [one.mount for one in volumes]}],
                    "volumes": [one.volume for one in volumes],
                },
            },
        },
    }


def _account(name: str, namespace: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def _role_binding(name: str, role: str, *, account: str, namespace: str) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def _config_map(name: str, namespace: str, data: Manifest, labels: Manifest) -> Manifest:
    metadata: Manifest = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _env_of(name: str, field: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}}


def _yaml(value: Manifest) -> str:
    return str(yaml.dump(value, Dumper=_readable(), sort_keys=False, width=1000))


def _digest(data: Manifest) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
