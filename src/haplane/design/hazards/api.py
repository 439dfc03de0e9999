"""The endpoint and the control plane as kubeadm is told to make them. Sources: kubeadm v1beta4, the programs' flags."""

from __future__ import annotations

from collections.abc import Iterator

from haplane.components import haproxy, keepalived, kubernetes
from haplane.components.kubernetes import API_SERVER_ARGUMENTS
from haplane.design.design import Design
from haplane.design.hazards.effective import extra_arguments, go_duration_s, passed
from haplane.design.hazards.finding import Finding
from haplane.design.hazards.registry import advice, error, hazard, warning
from haplane.model.cluster import BalancerProgram, Cluster, EndpointOwner, KeyPath, Value

CONFIGURATION = "ClusterConfiguration"
# 50 s is more than client-go's 30 s until it pings and 15 s until it gives up.
SHORTEST_NODE_GRACE_S = 50


@hazard("api-endpoint-is-node")
def check_the_endpoint_is_no_machine(design: Design) -> Iterator[Finding]:
    """A VIP that is a machine's address is vip-address-conflict: two would own it."""
    cluster, endpoint = design.cluster, design.cluster.endpoint
    if len(cluster.control_plane) < 2:
        return
    cure = "use a VIP, or a name of its own that can be pointed elsewhere"
    if endpoint.host in cluster.machines:
        because = f"the endpoint {endpoint.host} is the name of a machine"
        yield error(because, cure, cluster.where("endpoint", "host"))
    if endpoint.by is EndpointOwner.EXTERNAL:
        owners = {address: machine.name for machine in cluster.machines.values() for address in machine.addresses}
        for index, vip in enumerate(endpoint.vips):
            if vip.ip in owners:
                because = f"the endpoint {vip.ip} is the address of {owners[vip.ip]}"
                yield error(because, cure, cluster.where("endpoint", "vip", index))


@hazard("api-endpoint-not-in-san")
def check_certificates_have_every_name(design: Design) -> Iterator[Finding]:
    """certSANs of the file replace haplane's; kubeadm adds the endpoint itself and each machine's own address."""
    cluster = design.cluster
    given = passed(cluster.kubeadm.get(CONFIGURATION, {}), "apiServer", "certSANs")
    if not isinstance(given, list):
        return
    names = {str(name) for name in given} | {cluster.endpoint.name}
    wanted = [str(name) for name in kubernetes.certificate_names(cluster) if name not in cluster.machines]
    missing = [name for name in wanted if name not in names and f"*.{name.partition('.')[2]}" not in names]
    if missing:
        because = f"certSANs lacks {', '.join(missing)}: whoever connects by that gets an x509 error"
        where = cluster.where("kubeadm", CONFIGURATION, "apiServer", "certSANs")
        yield error(because, f"add {', '.join(missing)}, or leave certSANs out", where)


@hazard("api-kubelet-not-local")
def check_kubelets_use_their_own_apiserver(design: Design) -> Iterator[Finding]:
    """On by default since 1.33 (KEP-4471), which is older than what is supported: only the file can turn it off."""
    gates = passed(design.cluster.kubeadm.get(CONFIGURATION, {}), "featureGates")
    gate = "ControlPlaneKubeletLocalMode"
    if isinstance(gates, dict) and gates.get(gate) is False:
        because = "kubelets of control-plane machines use the VIP: in an upgrade a new one may meet an older apiserver"
        where = design.cluster.where("kubeadm", CONFIGURATION, "featureGates", gate)
        yield warning(because, "leave the feature gate on", where)


@hazard("api-shutdown-delay")
def check_apiservers_stop_late(design: Design) -> Iterator[Finding]:
    """Balancers must have taken an apiserver out before it closes its port."""
    given = extra_arguments(design.cluster, CONFIGURATION, "apiServer", "extraArgs")
    delay = (given.flags if given else API_SERVER_ARGUMENTS).get("shutdown-delay-duration", "0")
    delay_s = go_duration_s(delay)
    needed_s = _noticed_s(design)
    if delay_s is not None and delay_s < needed_s:
        because = f"an apiserver closes its port {delay_s:g} s after it is told to stop; checks need {needed_s:g} s"
        where = design.cluster.where("kubeadm", CONFIGURATION, "apiServer", "extraArgs")
        yield warning(because, "add shutdown-delay-duration 10s", where)


def _noticed_s(design: Design) -> float:
    """Until clients go elsewhere. nginx does not notice: it makes a connection elsewhere once it is refused."""
    cluster = design.cluster
    if cluster.balanced_by is BalancerProgram.NGINX:
        return 0
    views = [design.view(one.name) for one in cluster.balancers]
    if cluster.balanced_by is BalancerProgram.HAPROXY:
        checks = [haproxy.timing(view) for view in views]
        noticed_ms = [one.fall * one.interval_ms + one.check_connect_ms + one.check_timeout_ms for one in checks]
    elif cluster.endpoint.by is EndpointOwner.KEEPALIVED:
        asked = [keepalived.timing(view) for view in views]
        noticed_ms = [one.check_fall * one.check_interval_ms + one.check_timeout_ms for one in asked]
    else:
        noticed_ms = []
    return max(noticed_ms, default=0) / 1000 + 1


@hazard("api-no-goaway")
def check_clients_find_back(design: Design) -> Iterator[Finding]:
    cluster = design.cluster
    given = extra_arguments(cluster, CONFIGURATION, "apiServer", "extraArgs")
    if given is None or len(cluster.control_plane) < 2:
        return
    if _number(given.flags.get("goaway-chance", "0")) == 0:
        because = "after a restart of one apiserver its clients stay on the others (these extraArgs replace haplane's)"
        yield advice(because, "add goaway-chance 0.001", given.where(cluster, "goaway-chance"))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@hazard("api-leader-election")
def check_one_controller_leads(design: Design) -> Iterator[Finding]:
    cluster = design.cluster
    for program in ("controllerManager", "scheduler"):
        given = extra_arguments(cluster, CONFIGURATION, program, "extraArgs")
        if given and given.flags.get("leader-elect", "true").lower() in ("false", "f", "0"):
            because = f"every {program} acts at once, as if it were alone"
            yield error(because, "leave leader-elect on", given.where(cluster, "leader-elect"))


@hazard("api-node-grace")
def check_nodes_outlive_a_move(design: Design) -> Iterator[Finding]:
    cluster = design.cluster
    given = extra_arguments(cluster, CONFIGURATION, "controllerManager", "extraArgs")
    flag = "node-monitor-grace-period"
    grace_s = go_duration_s(given.flags.get(flag, "")) if given else None
    if given and grace_s is not None and grace_s < SHORTEST_NODE_GRACE_S:
        because = f"a node is NotReady after {grace_s:g} s, and a kubelet needs 45 s to notice that the VIP has moved"
        yield warning(because, f"use {SHORTEST_NODE_GRACE_S}s or leave it out", given.where(cluster, flag))


@hazard("vip-chosen-as-node-ip")
def check_addresses_are_pinned(design: Design) -> Iterator[Finding]:
    """haplane pins both; a list or a value of the file replaces them."""
    cluster = design.cluster
    for kind, *endpoint in (("InitConfiguration",), ("JoinConfiguration", "controlPlane")):
        node: KeyPath = ("nodeRegistration", "kubeletExtraArgs")
        given = extra_arguments(cluster, kind, *map(str, node))
        if given is not None and _may_be_the_vip(cluster, given.flags.get("node-ip")):
            because = "kubelet may take the VIP for its node's address (these kubeletExtraArgs replace haplane's)"
            yield warning(because, "leave kubeletExtraArgs out, or give node-ip too", given.where(cluster, "node-ip"))
        path = (*endpoint, "localAPIEndpoint", "advertiseAddress")
        address = passed(cluster.kubeadm.get(kind, {}), *path)
        if address is not None and _may_be_the_vip(cluster, address):
            because = f"the apiserver may announce the VIP as its own address: advertiseAddress is {address}"
            yield warning(because, "leave it to haplane", cluster.where("kubeadm", kind, *path))


def _may_be_the_vip(cluster: Cluster, address: Value) -> bool:
    """Not said, said to be chosen automatically, or the VIP itself."""
    given = {part.strip() for part in str(address or "").split(",")}
    return bool(given & {"", "0.0.0.0", "::", *(str(vip.ip) for vip in cluster.endpoint.vips)})
