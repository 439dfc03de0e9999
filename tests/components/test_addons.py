"""The manifests of add-ons, and what else of a machine's design depends on workers."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.model.clusters import BUNDLE, three_nodes, view

from haplane.components import addons
from haplane.components.kubernetes import certificate_names, init_file, kubelet_server
from haplane.design.derived import derived
from haplane.design.design import Design
from haplane.model.bundle import BundleManifest
from haplane.model.cluster import BalancerProgram, Cluster, Cni, FlannelBackend, Machine, Proxy, Role, Ssh


def with_worker(*, on_workers: bool = False, cni: Cni = Cni.FLANNEL, control_plane: int = 3) -> Cluster:
    cluster = three_nodes()
    machines = dict([*cluster.machines.items()][:control_plane])
    machines["w1"] = Machine("w1", (ip_address("192.0.2.21"),), frozenset({Role.WORKER}), Ssh())
    kubernetes = replace(cluster.kubernetes, cni=cni)
    return replace(cluster, machines=machines, kubernetes=kubernetes, balancer_on_workers=on_workers)


def objects(cluster: Cluster, bundle: BundleManifest = BUNDLE) -> dict[tuple[str, str], dict[str, Any]]:
    """As the API would read the file: (kind, name) -> object."""
    text = addons.manifests_file(replace(view(cluster, "cp1"), bundle=bundle))
    found = list(yaml.safe_load_all(text))
    named = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(named) == len(found)
    return named


def containers(one: dict[str, Any]) -> dict[str, Any]:
    (container,) = one["spec"]["template"]["spec"]["containers"]
    return container  # type: ignore[no-any-return]


CLUSTERS = {
    "flannel": with_worker(),
    "a balancer on every worker": with_worker(on_workers=True),
    "somebody else's network": with_worker(cni=Cni.NONE),
    "no worker": replace(three_nodes(), kubernetes=replace(three_nodes().kubernetes, cni=Cni.FLANNEL)),
}
VERSIONS = {
    "Namespace": "v1",
    "ServiceAccount": "v1",
    "ConfigMap": "v1",
    "Service": "v1",
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
    "DaemonSet": "apps/v1",
    "Deployment": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
}


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
def test_what_objects_name_is_in_the_file_too_and_before_them(cluster: Cluster) -> None:
    seen: set[tuple[str, str, str]] = {("Namespace", "", "kube-system"), ("ClusterRole", "", "system:node-proxier")}
    for one in addons.manifests(view(cluster, "cp1")):
        metadata: Any = one["metadata"]
        kind, namespace = str(one["kind"]), metadata.get("namespace", "")
        assert one["apiVersion"] == VERSIONS[kind]
        assert not namespace or ("Namespace", "", namespace) in seen
        seen.add((kind, namespace, metadata["name"]))
        spec: Any = one.get("spec", {})
        if kind == "ClusterRoleBinding":
            role: Any = one["roleRef"]
            (subject,) = one["subjects"]  # type: ignore[misc, union-attr]
            assert ("ClusterRole", "", role["name"]) in seen
            assert ("ServiceAccount", subject["namespace"], subject["name"]) in seen  # type: ignore[index, call-overload]
        if kind in ("DaemonSet", "Deployment"):
            pod = spec["template"]["spec"]
            labels = spec["template"]["metadata"]["labels"]
            assert spec["selector"]["matchLabels"].items() <= labels.items()
            assert ("ServiceAccount", namespace, pod["serviceAccountName"]) in seen
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {*volumes}
            for volume in volumes.values():
                if "configMap" in volume:
                    assert ("ConfigMap", namespace, volume["configMap"]["name"]) in seen
            assert pod["containers"][0]["imagePullPolicy"] == "IfNotPresent"


def test_the_file_is_the_same_on_every_control_plane_machine() -> None:
    design = Design(with_worker(), BUNDLE)
    contents = {design.components(name)["addons"].files[0].content for name in ("cp1", "cp2", "cp3")}
    assert len(contents) == 1
    assert "addons" not in design.components("w1")
    assert "&id" not in contents.pop()


def test_a_cluster_without_workers_and_network_has_none() -> None:
    assert "addons" not in Design(three_nodes(), BUNDLE).components("cp1")


def test_each_add_on_is_there_when_it_is_needed() -> None:
    names = {one for one in objects(with_worker(cni=Cni.NONE)) if one[0] in ("DaemonSet", "Deployment")}
    assert names == {("DaemonSet", "kube-proxy"), ("Deployment", "coredns")}
    assert ("DaemonSet", "kube-flannel-ds") in objects(CLUSTERS["no worker"])


def test_images_are_those_of_the_bundle() -> None:
    images = ("registry.k8s.io/coredns/coredns:v9.9.9", "ghcr.io/flannel-io/flannel:v8.8.8")
    found = objects(with_worker(), replace(BUNDLE, images=images))
    assert containers(found["Deployment", "coredns"])["image"] == images[0]
    assert containers(found["DaemonSet", "kube-flannel-ds"])["image"] == images[1]
    assert containers(found["DaemonSet", "kube-proxy"])["image"] == "registry.k8s.io/kube-proxy:v1.35.4"


def test_images_without_tools_get_those_of_the_machine() -> None:
    images = ("registry.k8s.io/kube-proxy:v1.35.4", "ghcr.io/flannel-io/flannel:v0.28.10")
    found = objects(with_worker(), replace(BUNDLE, images=images, bare_images=images))
    for name, program in (("kube-proxy", "kube-proxy"), ("kube-flannel-ds", "flanneld")):
        container = containers(found["DaemonSet", name])
        assert container["command"] == [f"/usr/local/bin/{program}"]
        mounted = {mount["mountPath"] for mount in container["volumeMounts"] if mount.get("readOnly")}
        assert mounted >= {"/lib", "/lib64", "/usr/lib", "/usr/sbin", "/etc/alternatives"}
    assert "command" not in containers(found["Deployment", "coredns"])
    # Else nft says 6 for tcp, and kube-proxy takes away what it does not know again.
    (mount,) = [one for one in containers(found["DaemonSet", "kube-proxy"])["volumeMounts"] if "subPath" in one]
    assert (mount["mountPath"], mount["subPath"]) == ("/etc/protocols", "protocols")
    assert "tcp 6 TCP\n" in found["ConfigMap", "kube-proxy"]["data"]["protocols"]
    assert "protocols" not in objects(with_worker())["ConfigMap", "kube-proxy"]["data"], "an image with tools has it"
    assert "nftables" in Design(with_worker()).packages("w1")
    assert "nftables" not in Design(three_nodes()).packages("cp1")


def test_flannel_knows_the_pods_network_and_how_packets_travel() -> None:
    cluster = with_worker()
    pods = (ip_network("10.1.0.0/16"), ip_network("fd00:1::/56"))
    kubernetes = replace(cluster.kubernetes, pods=pods, flannel=FlannelBackend.HOST_GW, proxy=Proxy.IPTABLES)
    found = objects(replace(cluster, kubernetes=kubernetes))
    assert json.loads(found["ConfigMap", "kube-flannel-cfg"]["data"]["net-conf.json"]) == {
        "Network": "10.1.0.0/16",
        "IPv6Network": "fd00:1::/56",
        "EnableIPv6": True,
        "EnableNFTables": False,
        "Backend": {"Type": "host-gw"},
    }
    proxy = yaml.safe_load(found["ConfigMap", "kube-proxy"]["data"]["config.conf"])
    assert (proxy["mode"], proxy["clusterCIDR"]) == ("iptables", "10.1.0.0/16,fd00:1::/56")
    only_ipv6 = replace(cluster.kubernetes, pods=(pods[1],))
    told = json.loads(
        objects(replace(cluster, kubernetes=only_ipv6))["ConfigMap", "kube-flannel-cfg"]["data"]["net-conf.json"]
    )
    assert told["EnableIPv4"] is False
    assert "Network" not in told


@pytest.mark.parametrize(
    ("cluster", "server"),
    [
        (with_worker(), "https://192.0.2.100:8443"),
        (with_worker(on_workers=True), "https://127.0.0.1:8443"),
        # Every node is a control-plane machine with its balancer.
        (CLUSTERS["no worker"], "https://127.0.0.1:8443"),
        (
            replace(with_worker(on_workers=True), haproxy={"frontend": {"bind": "192.0.2.100:8443"}}),
            "https://192.0.2.100:8443",
        ),
        (replace(CLUSTERS["no worker"], balanced_by=BalancerProgram.NONE), "https://192.0.2.100:8443"),
    ],
)
def test_kube_proxy_and_flannel_use_the_balancer_beside_them_where_all_have_one(cluster: Cluster, server: str) -> None:
    found = objects(cluster)
    for name in ("kube-proxy", "kube-flannel-cfg"):
        (told,) = yaml.safe_load(found["ConfigMap", name]["data"]["kubeconfig.conf"])["clusters"]
        assert told["cluster"]["server"] == server
        assert told["cluster"].get("tls-server-name") == ("kubernetes" if "127.0.0.1" in server else None)


def test_a_change_of_their_configuration_starts_the_pods_anew() -> None:
    def mark(cluster: Cluster) -> str:
        return str(objects(cluster)["DaemonSet", "kube-proxy"]["spec"]["template"]["metadata"]["annotations"])

    assert mark(with_worker()) != mark(with_worker(on_workers=True))


@pytest.mark.parametrize(("control_plane", "replicas", "domains"), [(3, 3, 3), (1, 2, 2)])
def test_coredns_is_on_several_machines(control_plane: int, replicas: int, domains: int) -> None:
    found = objects(with_worker(control_plane=control_plane))
    spec = found["Deployment", "coredns"]["spec"]
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert spec["replicas"] == replicas
    assert (spread["minDomains"], spread["whenUnsatisfiable"]) == (domains, "DoNotSchedule")
    seconds = [
        one["tolerationSeconds"] for one in spec["template"]["spec"]["tolerations"] if "tolerationSeconds" in one
    ]
    assert seconds == [30, 30]


def test_names_are_resolved_where_kubelets_look() -> None:
    found = objects(with_worker())
    assert found["Service", "kube-dns"]["spec"]["clusterIP"] == "10.96.0.10"
    corefile = found["ConfigMap", "coredns"]["data"]["Corefile"]
    assert "kubernetes cluster.local " in corefile
    assert corefile.count("{") == corefile.count("}")
    named = replace(with_worker(), kubelet={"clusterDomain": "prod.internal"})
    assert "kubernetes prod.internal " in objects(named)["ConfigMap", "coredns"]["data"]["Corefile"]


def test_a_machine_without_name_servers_has_one_in_coredns() -> None:
    """Else `forward . /etc/resolv.conf` ends the process: no nameservers found."""
    pod = objects(with_worker())["Deployment", "coredns"]["spec"]["template"]["spec"]
    assert pod["dnsConfig"]["nameservers"] == [addons.NOBODY]


def test_containerd_gets_flannels_plugin() -> None:
    components = Design(with_worker(), BUNDLE).components("w1")
    config, network = components["containerd"].files
    assert 'bin_dir = "/usr/lib/cni"' in config.content
    assert [one["type"] for one in json.loads(network.content)["plugins"]] == ["flannel", "portmap"]


def test_a_workers_own_balancer_listens_for_itself_alone() -> None:
    cluster = with_worker(on_workers=True)
    vips = (*cluster.endpoint.vips, ip_interface("2001:db8::100/64"))
    cluster = replace(cluster, endpoint=replace(cluster.endpoint, vips=vips))
    cluster = replace(cluster, haproxy={"frontend": {"bind": "*:8443"}, "global": {"maxconn": 77}})
    components = Design(cluster, BUNDLE, authority="PEM\n").components("w1")
    assert "keepalived" not in components
    config = components["haproxy"].file_sets[1].files[0].content
    assert "bind 127.0.0.1:8443,[::1]:8443\n" in config
    assert "peers" not in config
    assert "maxconn 77" in config
    assert "haproxy" not in Design(with_worker(), BUNDLE).components("w1")


def test_certificates_and_kubelets_know_the_balancer_beside_them() -> None:
    for on_workers, server in ((True, "https://127.0.0.1:8443"), (False, "https://192.0.2.100:8443")):
        cluster = with_worker(on_workers=on_workers)
        assert kubelet_server(view(cluster, "w1")) == server
        # They ask for the name that every apiserver has.
        assert "127.0.0.1" not in certificate_names(cluster)
        rows = {one.name: one for one in derived(Design(cluster))}
        assert rows["API server of workers' kubelets"].value == server


def test_a_control_plane_machine_that_is_a_worker_too_takes_pods() -> None:
    cluster = three_nodes()
    both = replace(cluster.machines["cp1"], roles=frozenset({Role.CONTROL_PLANE, Role.WORKER}))
    cluster = replace(cluster, machines={**cluster.machines, "cp1": both})
    taints = [
        one["nodeRegistration"].get("taints", "kubeadm's")
        for name in ("cp1", "cp2")
        for one in [next(yaml.safe_load_all(init_file(view(cluster, name))))]
    ]
    assert taints == [[], "kubeadm's"]
    assert cluster.addons == {"kube-proxy", "coredns"}


def test_the_labs_http_servers_run_from_the_image_of_the_clusters_coredns() -> None:
    text = (Path(__file__).parents[1] / "lab" / "http.yaml").read_text()
    found = {one["kind"]: one for one in yaml.safe_load_all(text)}
    assert containers(found["Deployment"])["image"] == "IMAGE-OF-COREDNS"
    assert text.count("        image: IMAGE-OF-COREDNS") == 1
    assert (
        found["Service"]["spec"]["selector"].items()
        <= found["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    )
