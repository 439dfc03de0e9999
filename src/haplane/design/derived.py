"""What haplane derived: each value with its reason, and the key of cluster.yaml that overrides it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from haplane.components import addons, etcd, keepalived, kubernetes
from haplane.components.balancer import balancer_of, loopback_of_every_node
from haplane.components.base import HEALTH_IS_PUBLIC, Given, View, health_is_public, join_host_port
from haplane.components.settings import Setting, Settings
from haplane.design.design import Design
from haplane.model.bundle import Addon
from haplane.model.cluster import (
    APISERVER_PORT,
    BalancerRole,
    Cast,
    Cluster,
    EndpointOwner,
    FlannelBackend,
    Interface,
    Machine,
    Value,
    Where,
)

LEFT_OUT = "(left out)"
ON = "on"  # of a keyword without arguments
AS_GIVEN = "as the file says"


@dataclass(frozen=True)
class Derived:
    """One value. subject: whose it is, e.g. cluster, keepalived (the same on all its machines), keepalived on cp1.

    section: of the component's own file, if it has sections. override: the key of cluster.yaml that says it instead,
    empty if nothing does. given: where the file says it already.
    """

    subject: str
    name: str
    value: str
    because: str
    override: str
    given: Where | None = None
    section: str = ""


def derived(design: Design, because: Mapping[str, str] | None = None) -> tuple[Derived, ...]:
    """Everything, the cluster's own values first.

    because: field of `Timers` -> why it was solved to be what it is; wins over the components' general reasons.
    """
    solved = because or {}
    cluster = design.cluster
    views = {one.name: design.view(one.name) for one in cluster.balancers}
    rows = [*_cluster(design), *_add_ons(design), *_etcd(design, solved)]
    if cluster.endpoint.by is EndpointOwner.KEEPALIVED:
        rows += _keepalived(cluster, views, solved)
    balancer = balancer_of(cluster)
    if balancer is None:
        return tuple(rows)
    settings = {name: _with_left_out(balancer.settings(view), balancer.given(view)) for name, view in views.items()}
    return (*rows, *_rows(cluster, balancer.name, settings))


# ---- the cluster ----


def _cluster(design: Design) -> Iterator[Derived]:
    cluster = design.cluster
    endpoint, first = cluster.endpoint, design.view(cluster.control_plane[0].name)
    yield Derived(
        "cluster",
        "controlPlaneEndpoint",
        kubernetes.control_plane_endpoint(first),
        "the DNS name, so that the address may change" if endpoint.host else "the VIP; the file names no DNS name",
        "endpoint.host",
        _given(cluster, "endpoint", "host"),
    )
    nothing_between = balancer_of(cluster) is None
    beside = cluster.balancer is BalancerRole.CONTROL_PLANE
    port = _given(cluster, "endpoint", "port")
    by_default = (
        "the apiservers' own: nothing stands in front of them"
        if nothing_between
        else f"{APISERVER_PORT} is taken by the apiserver beside the balancer"
        if beside
        else "the apiserver's own port, which is free where no apiserver runs"
    )
    yield Derived(
        "cluster", "endpoint port", str(endpoint.port), AS_GIVEN if port else by_default, "endpoint.port", port
    )
    yield _certificate_names(cluster)
    yield from _health_pages(design)


def _health_pages(design: Design) -> Iterator[Derived]:
    """Only where others than keepalived have to know of them."""
    cluster = design.cluster
    balancer = balancer_of(cluster)
    if balancer and health_is_public(cluster):
        pages = {
            line.arguments for one in cluster.balancers for line in balancer.health(design.view(one.name)).values()
        }
        value = f"{', '.join(sorted(pages))}, GET {balancer.health_path}"
        given = _given(cluster, "endpoint", "by") or _given(cluster, "endpoint", "outside")
        key = "endpoint.by" if cluster.endpoint.by is EndpointOwner.EXTERNAL else "endpoint.outside"
        yield Derived("cluster", "health page", value, HEALTH_IS_PUBLIC, key, given)


def _certificate_names(cluster: Cluster) -> Derived:
    path = ("kubeadm", "ClusterConfiguration", "apiServer", "certSANs")
    own: Value = cluster.kubeadm.get("ClusterConfiguration", {}).get("apiServer")
    own = own.get("certSANs") if isinstance(own, dict) else None
    names = own if isinstance(own, list) else kubernetes.certificate_names(cluster)
    why = AS_GIVEN if own is not None else "every name and address by which an apiserver is reached"
    given = cluster.where(*path) if own is not None else None
    return Derived("cluster", "certificate names", ", ".join(map(str, names)), why, ".".join(path), given)


def _add_ons(design: Design) -> Iterator[Derived]:
    """What pods need, and how workers reach the API."""
    cluster, view = design.cluster, design.view(design.cluster.control_plane[0].name)
    kubernetes_, beside = cluster.kubernetes, loopback_of_every_node(cluster)
    if Addon.FLANNEL in cluster.addons:
        wraps = "packets of pods are wrapped: it works over any network"
        routes = "packets of pods are routed: all nodes are in one layer 2 network"
        yield Derived(
            "cluster",
            "flannel's backend",
            str(kubernetes_.flannel),
            wraps if kubernetes_.flannel is FlannelBackend.VXLAN else routes,
            "kubernetes.flannel.backend",
            _given(cluster, "kubernetes", "flannel", "backend"),
        )
    if Addon.KUBE_PROXY in cluster.addons:
        scales = "what it does for a packet does not grow with the number of services"
        given = _given(cluster, "kubernetes", "proxy")
        because = AS_GIVEN if given else scales
        yield Derived("cluster", "kube-proxy's mode", str(kubernetes_.proxy), because, "kubernetes.proxy", given)
        yield Derived(
            "cluster",
            "kube-proxy's API server",
            addons.api_server(view),
            "the balancer of each node's own, so that it does not depend on the VIP"
            if beside
            else "the endpoint: not every node has a balancer of its own",
            "balancer.on_workers",
            _given(cluster, "balancer", "on_workers"),
        )
    if Addon.COREDNS in cluster.addons:
        replicas = addons.coredns_replicas(cluster)
        because = f"one on each of {replicas} nodes: the loss of a machine leaves {replicas - 1}"
        yield Derived("cluster", "CoreDNS replicas", str(replicas), because, "")
        because = "the tenth address of the services, as kubeadm tells kubelets"
        yield Derived("cluster", "cluster DNS", str(addons.cluster_dns(cluster)), because, "kubernetes.services")
    if cluster.workers:
        yield Derived(
            "cluster",
            "API server of workers' kubelets",
            kubernetes.kubelet_server(design.view(cluster.workers[0].name)),
            "each worker's own balancer: their connections stay when the VIP moves"
            if cluster.balancer_on_workers
            else "the endpoint: when the VIP moves they connect anew",
            "balancer.on_workers",
            _given(cluster, "balancer", "on_workers"),
        )


def _etcd(design: Design, solved: Mapping[str, str]) -> Iterator[Derived]:
    cluster, members = design.cluster, design.cluster.etcd_members
    view = design.view(members[0].name)
    quorum = len(members) // 2 + 1
    yield Derived(
        "etcd",
        "members",
        ", ".join(one.name for one in members),
        f"{'one on each control-plane node' if cluster.is_stacked else 'machines of their own'}; "
        f"{quorum} of {len(members)} are the quorum",
        "etcd.topology",
        _given(cluster, "etcd", "topology"),
    )
    yield Derived(
        "etcd",
        "client URLs",
        etcd.own_url(cluster) if cluster.is_stacked else ", ".join(etcd.client_urls(cluster)),
        "each apiserver uses the member beside it" if cluster.is_stacked else "each apiserver knows every member",
        "etcd.topology",
    )
    yield Derived(
        "etcd",
        "peer URLs",
        ", ".join(f"https://{join_host_port(one.address, etcd.PEER_PORT)}" for one in members),
        "each member's own address",
        "machines.NAME.address",
    )
    tuning = "etcd's tuning guide"
    for name, key, own, value, otherwise in (
        (
            "heartbeat-interval",
            "heartbeat",
            cluster.etcd.heartbeat_ms,
            etcd.heartbeat_ms(view),
            f"about the round trip between members, with room to spare ({tuning})",
        ),
        (
            "election-timeout",
            "election",
            cluster.etcd.election_ms,
            etcd.election_ms(view),
            f"ten heartbeats: a slow disk or a short pause is no reason to elect ({tuning})",
        ),
    ):
        given = cluster.where("etcd", key) if own is not None else None
        why = AS_GIVEN if given else solved.get(f"etcd_{key}_ms", otherwise)
        yield Derived("etcd", name, f"{value} ms", why, f"etcd.{key}", given)


def _given(cluster: Cluster, *path: str) -> Where | None:
    return cluster.places.get(path)


# ---- components with settings ----


# Keywords that a timer stands behind: field of Timers.
_SOLVED = {("vrrp_instance", "advert_int"): "advert_ms", ("vrrp_script", "interval"): "check_interval_ms"}

# Keywords that have a key of their own in cluster.yaml.
_KEYS = {
    "virtual_router_id": "endpoint.virtual_router_id",
    "interface": "machines.{machine}.interface",
    "unicast_src_ip": "machines.{machine}.address",
    "unicast_peer": "endpoint.cast",
    "check timeout": "failover.target",
}


def _keepalived(cluster: Cluster, views: Mapping[str, View], solved: Mapping[str, str]) -> Iterator[Derived]:
    settings = {name: _keepalived_on(view, solved) for name, view in views.items()}
    yield from _rows(cluster, "keepalived", settings)


def _keepalived_on(view: View, solved: Mapping[str, str]) -> Settings:
    """keepalived's settings, and what its file holds besides: peers, and the sources of a second VIP."""
    cluster, machine = view.cluster, view.machine
    with_left_out = _with_left_out(keepalived.settings(view), keepalived.given(view))
    result = {section: dict(settings) for section, settings in with_left_out.items()}
    for (section, keyword), field in _SOLVED.items():
        setting = result[section].get(keyword)
        if setting and setting.given is None and field in solved:
            result[section][keyword] = replace(setting, because=solved[field])
    instance = result["vrrp_instance"]
    if machine.interface and "interface" in instance and instance["interface"].given is None:
        instance["interface"] = Setting(machine.interface, AS_GIVEN, ("machines", machine.name, "interface"))
    result["vrrp_script"]["check timeout"] = Setting(
        f"{view.timers.check_timeout_ms / 1000:g}",
        solved.get("check_timeout_ms", "the health page has to answer before the next question"),
    )
    others = [one for one in cluster.balancers if one.name != machine.name]
    for vip in cluster.endpoint.vips:
        mark = "" if vip == cluster.endpoint.vip else f" (IPv{vip.version})"
        if mark and (source := keepalived.settings(view, vip)["vrrp_instance"].get("unicast_src_ip")):
            instance[f"unicast_src_ip{mark}"] = source
        if cluster.endpoint.cast is Cast.UNICAST and others:
            instance[f"unicast_peer{mark}"] = Setting(_peers(others, vip), "all the others that may hold the VIP")
    return result


def _peers(others: Sequence[Machine], vip: Interface) -> str:
    return " ".join(str(one.address_of(vip.version)) for one in others)


def _with_left_out(settings: Settings, given: Given) -> Settings:
    """The settings, and those that the file leaves out by `false`."""
    result = {section: dict(lines) for section, lines in settings.items()}
    for place, sections in given:
        for section, lines in sections.items():
            for keyword, value in lines.items():
                if value is False and keyword not in settings[section]:
                    result[section][keyword] = Setting(LEFT_OUT, AS_GIVEN, (*place, section, keyword))
    return result


def _rows(cluster: Cluster, component: str, settings: Mapping[str, Settings]) -> Iterator[Derived]:
    """machine -> settings as rows: one where all machines have the same, else one per machine."""
    for section, keyword in _keywords(settings.values()):
        found = {name: each[section][keyword] for name, each in settings.items() if keyword in each.get(section, {})}
        first, *others = found.values()
        if len(found) == len(settings) and all(other == first for other in others):
            yield _row(cluster, component, section, keyword, first)
        else:
            yield from (_row(cluster, component, section, keyword, setting, name) for name, setting in found.items())


def _row(cluster: Cluster, component: str, section: str, keyword: str, setting: Setting, machine: str = "") -> Derived:
    """machine: the only one where it is so; empty if it is so on all."""
    plain = keyword.partition(" (IPv")[0]
    own = f"machines.{machine}.{component}" if machine else component
    key = _KEYS.get(plain) if component == "keepalived" else None
    return Derived(
        subject=f"{component} on {machine}" if machine else component,
        name=keyword,
        value=setting.arguments or ON,
        because=setting.because,
        override=key.format(machine=machine or "NAME") if key else f"{own}.{section}.{plain}",
        given=cluster.where(*setting.given) if setting.given else None,
        section=section,
    )


def _keywords(settings: Iterable[Settings]) -> list[tuple[str, str]]:
    """Section and keyword of all of them, in the order of their files."""
    sections: dict[str, dict[str, None]] = {}
    for each in settings:
        for section, lines in each.items():
            sections.setdefault(section, {}).update(dict.fromkeys(lines))
    return [(section, keyword) for section, keywords in sections.items() for keyword in keywords]
