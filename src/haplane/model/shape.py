"""Which keys a cluster.yaml may have: one model per section. The descriptions are what an editor shows."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator

from haplane.model import cluster, values

OFFICIAL_URL = "https://dl.k8s.io"
OFFICIAL_REGISTRY = "https://registry.k8s.io"


class _Section(BaseModel):
    # defer_build, and defaults by model_construct: only ClusterFile is built, once, and no section before it.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Flannel(_Section):
    """Of cni: flannel, how packets get to another machine."""

    backend: Annotated[cluster.FlannelBackend, values.one_of(cluster.FlannelBackend)] = cluster.FlannelBackend.VXLAN


class Kubernetes(_Section):
    """Version and networks."""

    version: values.Version = Field(description="x.y.z in full, without v.")
    pods: values.Networks = Field(
        default_factory=lambda: [values.DEFAULT_PODS],
        description=f"Network of the pods, or one per IP version. Default: {values.DEFAULT_PODS}.",
    )
    services: values.Networks = Field(
        default_factory=lambda: [values.DEFAULT_SERVICES],
        description=f"Network of the services, or one per IP version. Default: {values.DEFAULT_SERVICES}.",
    )
    cni: Annotated[cluster.Cni, values.one_of(cluster.Cni)] = cluster.Cni.NONE
    flannel: Flannel = Flannel.model_construct()
    proxy: Annotated[cluster.Proxy, values.one_of(cluster.Proxy)] = cluster.Proxy.NFTABLES


class Endpoint(_Section):
    """The one address that clients use for the API."""

    vip: values.Vips = Field(
        description="The virtual IP with the prefix of its subnet, or a list of an IPv4 and an IPv6 one."
    )
    port: values.Port | None = Field(
        None, description="Where clients connect. Default: 8443 where a balancer is beside the apiservers, else 6443."
    )
    host: values.DnsName | None = Field(None, description="A DNS name of the VIP; goes into the certificates.")
    by: Annotated[cluster.EndpointOwner, values.one_of(cluster.EndpointOwner)] = cluster.EndpointOwner.KEEPALIVED
    outside: values.AnAddress | None = Field(
        None, description="Address of an outer load balancer that forwards to the VIP; goes into the certificates."
    )
    virtual_router_id: values.VirtualRouterId | None = Field(
        None, description="VRRP's, one per pair on a network. Default: from the cluster's name and VIP."
    )
    cast: Annotated[cluster.Cast, values.one_of(cluster.Cast)] = cluster.Cast.UNICAST


class Balancer(_Section):
    """What stands in front of the apiservers, and where."""

    by: Annotated[cluster.BalancerProgram, values.one_of(cluster.BalancerProgram)] = cluster.BalancerProgram.HAPROXY
    role: Annotated[cluster.BalancerRole, values.one_of(cluster.BalancerRole)] = cluster.BalancerRole.CONTROL_PLANE
    on_workers: bool = Field(
        False, description="Each worker runs one for itself, so that its kubelet does not depend on the VIP."
    )


class Etcd(_Section):
    """Where etcd runs, and its timers."""

    topology: Annotated[cluster.EtcdTopology, values.one_of(cluster.EtcdTopology)] = cluster.EtcdTopology.STACKED
    heartbeat: values.Milliseconds | None = Field(
        None, description="Between two of the leader's heartbeats. Default: solved for failover.target."
    )
    election: values.Milliseconds | None = Field(
        None, description="Silence of the leader after which another is elected. Default: solved for failover.target."
    )


class Failover(_Section):
    """What is wanted of a failover."""

    target: values.Milliseconds | None = Field(
        None, description="The longest outage of the endpoint when its holder dies; timers are solved for it."
    )
    survive: Annotated[cluster.Loss, values.one_of(cluster.Loss)] = cluster.Loss.MACHINE
    tell_clients: bool = Field(
        True, description="The new holder of the VIP tells clients that their old connections are gone."
    )


Lines = dict[values.Keyword, values.Arguments]


class Keepalived(_Section):
    """Keywords of keepalived.conf(5), by block: arguments; true: the keyword alone; false: without it."""

    global_defs: Lines = Field(default_factory=dict, description="For example vrrp_garp_master_refresh: 30.")
    vrrp_instance: Lines = Field(default_factory=dict, description="For example advert_int: 0.2, in seconds.")
    vrrp_script: Lines = Field(default_factory=dict, description="The question to the balancer, e.g. interval: 1.")


class Haproxy(_Section):
    """Keywords of HAProxy's configuration manual, by section: arguments; true: the keyword alone; false: without it."""

    global_: Lines = Field(default_factory=dict, alias="global", description="For example maxconn: 4000.")
    defaults: Lines = Field(default_factory=dict, description="For example timeout tunnel: 1h.")
    frontend: Lines = Field(default_factory=dict, description="Where clients connect.")
    backend: Lines = Field(default_factory=dict, description="The apiservers, e.g. balance: roundrobin.")
    default_server: Lines = Field(
        default_factory=dict, alias="default-server", description="What stands on the line default-server."
    )


class Nginx(_Section):
    """Directives of nginx, by block: arguments; true: the directive alone; false: without it."""

    main: Lines = Field(default_factory=dict, description="Outside of all blocks, e.g. worker_processes: 2.")
    events: Lines = Field(default_factory=dict, description="For example worker_connections: 4000.")
    stream: Lines = Field(default_factory=dict, description="For example proxy_timeout: 1h.")
    server: Lines = Field(default_factory=dict, description="Where clients connect, e.g. listen: 8443.")
    upstream: Lines = Field(default_factory=dict, description="The apiservers, e.g. zone: apiservers 128k.")
    upstream_server: Lines = Field(
        default_factory=dict,
        alias="upstream-server",
        description="Parameters of each apiserver's line, e.g. fail_timeout: 1s.",
    )


class Ssh(_Section):
    """How to log in. A machine's keys override the common ones, one by one; an empty value takes them away."""

    # Which keys were set matters, see `file`.
    user: values.User = Field("root", description="Who logs in.")
    port: values.Port = Field(22, description="Where sshd listens.")
    sudo: bool | None = Field(None, description="Run commands through sudo -n. Default: true unless the user is root.")
    jump: values.Jump | None = Field(
        None, description="Log in through it: host, user@host, user@host:port, or a machine of this file."
    )
    key: values.Text | None = Field(None, description="Path of the private key. Default: the agent and ~/.ssh.")
    known_hosts: values.Text | None = Field(None, description="Path. Default: ~/.ssh/known_hosts.")


class Official(_Section):
    """Mirrors with the layout of the official places."""

    url: values.Url = Field(OFFICIAL_URL, description="Where programs are.")
    registry: values.Url = Field(OFFICIAL_REGISTRY, description="Where images are.")


class Source(_Section):
    """A folder, or mirrors of the official places."""

    # One of its keys is set, or none for go-modules, which has no settings.
    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    directory: values.Text | None = Field(None, description="Path of a folder with bin/ and images/.")
    official: Official | None = Field(None, description="Mirrors instead of the official places.")


class SourceName(StrEnum):
    """A source without settings."""

    OFFICIAL = "official"
    GO_MODULES = "go-modules"


_NAMED_SOURCES = {SourceName.OFFICIAL: Source(official=Official()), SourceName.GO_MODULES: Source()}


def _source_of(value: object, from_mapping: ValidatorFunctionWrapHandler) -> Source:
    """A source by its name, or as a mapping with its settings."""
    if not isinstance(value, dict):
        return _NAMED_SOURCES[values.parse_choice(SourceName, value)]
    source: Source = from_mapping(value)
    if (source.directory is None) == (source.official is None):
        raise values.wrong("does not say one source", "either directory or official")
    return source


class Bundle(_Section):
    """Where Kubernetes' programs and images come from."""

    sources: values.NotEmpty[
        Annotated[Source, WrapValidator(_source_of, json_schema_input_type=SourceName | Source)]
    ] = Field(
        default_factory=lambda: [*_NAMED_SOURCES.values()],
        description="The first that works is used. Default: official, then go-modules.",
    )


class Power(_Section):
    """Shell commands, run on this host, that cut and restore a machine's power; {name} and {address} are replaced."""

    off: values.PowerCommand = Field(description="For example ipmitool -H {name}-bmc chassis power off.")
    on: values.PowerCommand = Field(description="For example ipmitool -H {name}-bmc chassis power on.")
    freeze: values.PowerCommand | None = Field(
        None, description="Stops everything in the machine, for example virsh suspend {name}. Only with thaw."
    )
    thaw: values.PowerCommand | None = Field(None, description="Lets it go on, for example virsh resume {name}.")


class Kubeadm(_Section):
    """Kinds of kubeadm's own configuration (v1beta4), passed through."""

    ClusterConfiguration: dict[str, Any] | None = Field(None, description="For the whole cluster.")
    InitConfiguration: dict[str, Any] | None = Field(None, description="For the machine that begins the cluster.")
    JoinConfiguration: dict[str, Any] | None = Field(None, description="For those that join it.")


class Machine(_Section):
    """A host that haplane can log in to."""

    address: values.Addresses = Field(
        description="Where it is reached, without prefix; or a list of an IPv4 and an IPv6 address, the first leading."
    )
    roles: values.NotEmpty[Annotated[cluster.Role, values.one_of(cluster.Role)]] = Field(
        default_factory=lambda: [cluster.Role.CONTROL_PLANE], description="Default: control-plane."
    )
    interface: values.InterfaceName | None = Field(
        None, description="Where keepalived puts the VIP. Default: the one that has the machine's address."
    )
    zone: values.Label | None = Field(None, description="What fails as one: a rack, a room, a hypervisor.")
    ssh: Ssh = Ssh.model_construct()
    keepalived: Keepalived = Keepalived.model_construct()
    haproxy: Haproxy = Haproxy.model_construct()
    nginx: Nginx = Nginx.model_construct()


class ClusterFile(_Section):
    """A highly available Kubernetes control plane for haplane."""

    name: values.Label = Field(description="The cluster's name: a DNS label.")
    kubernetes: Kubernetes
    endpoint: Endpoint
    machines: dict[values.Label, Machine] = Field(
        description="Name (a DNS label) and machine. The first control-plane machine is preferred for the VIP."
    )
    balancer: Balancer = Balancer.model_construct()
    etcd: Etcd = Etcd.model_construct()
    failover: Failover = Failover.model_construct()
    accept: dict[values.HazardId, values.Reason] = Field(
        default_factory=dict, description="Hazards that may stay, each with the reason why."
    )
    ssh: Ssh = Ssh.model_construct()
    bundle: Bundle = Bundle.model_construct()
    power: Power | None = Field(None, description="How a drill cuts and restores the power of a machine.")
    kubeadm: Kubeadm = Kubeadm.model_construct()
    kubelet: dict[str, Any] = Field(default_factory=dict, description="KubeletConfiguration, passed through.")
    containerd: dict[str, values.Scalar] = Field(
        default_factory=dict, description="containerd's CRI plugin, passed through; single values only."
    )
    keepalived: Keepalived = Keepalived.model_construct()
    haproxy: Haproxy = Haproxy.model_construct()
    nginx: Nginx = Nginx.model_construct()
