"""Is each machine what a cluster can be built on? Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from statistics import median_low

from haplane.components import waiting
from haplane.components.addons import FLANNEL_HEALTH_PORT
from haplane.components.balancer import balancer_of
from haplane.components.base import HEALTH_PORT, health_is_public, loopbacks
from haplane.design.hazards.finding import Severity
from haplane.model.bundle import Addon
from haplane.model.cluster import APISERVER_PORT, Cluster, Machine, Role
from haplane.model.roles import balancers, etcd_members, managed, nodes
from haplane.observe.preflight.check import NotTried, Said, Seen, Trouble, check
from haplane.observe.preflight.host import HOLDABLE, MODULES, UNITS
from haplane.observe.preflight.meeting import PEERS_PORT
from haplane.observe.preflight.probe import Listener, Part, Probe

SUPPORTED = ("debian 12", "debian 13", "ubuntu 24.04")
CLOCK_ERROR_S = 5
# etcd's prober warns at 1 s.
CLOCK_WARNING_S = 1


def _shared(names: Mapping[str, str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Machines that say the same: (machine, what, the others). Nothing said is nobody's."""
    by_value: dict[str, list[str]] = defaultdict(list)
    for name, value in names.items():
        if value:
            by_value[value].append(name)
    for value, alike in by_value.items():
        yield from ((name, value, tuple(one for one in alike if one != name)) for name in alike if len(alike) > 1)


def _repeated(seen: Seen, noun: str, value: Callable[[str, Probe], str]) -> Iterator[Said]:
    for name, same, others in _shared({name: value(name, probe) for name, probe in seen.machines.items()}):
        yield Trouble(name, f"{noun} {same} is also that of {', '.join(others)}")


@check(
    "hostname-unique",
    hazard="host-identity",
    sentence="every machine has a name of its own",
    cure="give each machine its own name: hostnamectl hostname NAME",
    concerns=managed,
)
def hostname_unique(seen: Seen) -> Iterator[Said]:
    yield from _repeated(seen, "the host name", lambda _, probe: probe.host.hostname.lower())


@check(
    "machine-id-unique",
    hazard="host-identity",
    sentence="every machine has its own machine-id",
    cure="on each copy: rm /etc/machine-id /var/lib/dbus/machine-id; systemd-machine-id-setup; reboot",
    concerns=managed,
)
def machine_id_unique(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        if not probe.host.machine_id:
            yield Trouble(name, "/etc/machine-id is empty or missing", cure="systemd-machine-id-setup")
    yield from _repeated(seen, "the machine-id", lambda _, probe: probe.host.machine_id)


@check(
    "product-uuid-unique",
    hazard="host-identity",
    sentence="every machine has its own product_uuid",
    cure="give each virtual machine its own UUID in the hypervisor",
    concerns=managed,
)
def product_uuid_unique(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        if probe.host.container:
            yield NotTried(name, f"it is a container ({probe.host.container}) and shows its host's product_uuid")
        elif not probe.host.product_uuid:
            yield NotTried(name, "it has no /sys/class/dmi/id/product_uuid")
    yield from _repeated(seen, "product_uuid", lambda _, probe: "" if probe.host.container else probe.host.product_uuid)


@check(
    "mac-unique",
    hazard="host-identity",
    sentence="every machine has its own MAC address",
    cure="give each virtual machine its own MAC address in the hypervisor",
    concerns=managed,
)
def mac_unique(seen: Seen) -> Iterator[Said]:
    def mac(name: str, probe: Probe) -> str:
        link = probe.host.links.get(probe.host.interface_of(seen.cluster.machines[name].address))
        return link.mac if link else ""

    for name, probe in seen.machines.items():
        if not mac(name, probe):
            yield NotTried(name, f"no interface has {seen.cluster.machines[name].address}, so no MAC address is known")
    yield from _repeated(seen, "the MAC address", mac)


@check(
    "system-supported",
    sentence="the operating system is Debian 12 or 13, or Ubuntu 24.04",
    cure="install one of them, or leave the machine out",
    concerns=managed,
)
def system_supported(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        if probe.host.system not in SUPPORTED:
            yield Trouble(name, f"it runs {probe.host.system or 'a system without /etc/os-release'}")


@check(
    "architecture-equal",
    sentence="all nodes have the same architecture, for which the bundle is made",
    cure="use machines of one architecture",
    concerns=nodes,
)
def architecture_equal(seen: Seen) -> Iterator[Said]:
    found = [probe.host.architecture for probe in seen.machines.values() if probe.host.architecture]
    if not found:
        return
    # Of two that are as frequent, the first of the file.
    usual = max(found, key=found.count)
    for name, probe in seen.machines.items():
        if probe.host.architecture != usual:
            yield Trouble(name, f"it is {probe.host.architecture or 'unknown'}; the others are {usual}")


@check(
    "init-is-systemd",
    sentence="systemd runs the machine",
    cure="install systemd-sysv and reboot",
    concerns=managed,
)
def init_is_systemd(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        if probe.host.init != "systemd":
            yield Trouble(name, f"process 1 is {probe.host.init or 'unknown'}")


# ---- ports ----

_LOOPBACK = frozenset({FLANNEL_HEALTH_PORT, 2381, 10248, 10249, 10257, 10259})


def owners(cluster: Cluster, machine: Machine) -> Mapping[int, str]:
    """The ports that components will have on a machine -> the program that has them then."""
    ports: dict[int, str] = {}
    if machine.is_node:
        ports |= {10250: "kubelet", 10248: "kubelet"}
        if Addon.KUBE_PROXY in cluster.addons:
            ports |= {10249: "kube-proxy", 10256: "kube-proxy"}
        if Addon.FLANNEL in cluster.addons:
            ports[FLANNEL_HEALTH_PORT] = "flanneld"
    if Role.CONTROL_PLANE in machine.roles:
        ports |= {APISERVER_PORT: "kube-apiserver", 10257: "kube-controller-manager", 10259: "kube-scheduler"}
    if machine in cluster.etcd_members:
        ports |= dict.fromkeys((2379, 2380, 2381), "etcd")
    if cluster.runs_balancer(machine):
        if balancer := balancer_of(cluster):
            ports |= dict.fromkeys((cluster.endpoint.port, HEALTH_PORT), balancer.name)
        if balancer and machine in cluster.balancers and waiting.is_used(cluster):
            ports[PEERS_PORT] = balancer.name
    return ports


@check(
    "ports-free",
    hazard="lb-port-clash",
    sentence="no other program has a port that the cluster needs",
    cure="stop that program or give it another port; endpoint.port in cluster.yaml can be another one, too",
    concerns=managed,
)
def ports_free(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        needed = owners(seen.cluster, seen.cluster.machines[name])
        if probe.host.listeners is None:
            yield NotTried(name, "ss (package iproute2) is not there to ask")
            continue
        for one in dict.fromkeys(probe.host.listeners):
            owner = needed.get(one.port, "")
            # The kernel keeps 15 characters of a program's name.
            machine = seen.cluster.machines[name]
            if not owner or one.program == owner[:15] or not _in_the_way(one, seen.cluster, machine):
                continue
            if not one.program and probe.host.is_member:
                yield NotTried(name, f"who has port {one.port} cannot be seen")
            else:
                yield Trouble(name, f"{one.program or 'an unknown program'} has port {one.port}, which {owner} needs")


def _in_the_way(listener: Listener, cluster: Cluster, machine: Machine) -> bool:
    address = listener.address.strip("[]").partition("%")[0]
    on_loopback = {"*", "0.0.0.0", "::", "127.0.0.1", *map(str, loopbacks(cluster))}
    return listener.port not in _on_loopback(cluster, machine) or address in on_loopback


def _on_loopback(cluster: Cluster, machine: Machine) -> frozenset[int]:
    """Ports that the cluster needs on the machine's loopback alone."""
    if cluster.runs_balancer(machine) and machine not in cluster.balancers:
        # A worker's own, for itself.
        return _LOOPBACK | {HEALTH_PORT, cluster.endpoint.port}
    return _LOOPBACK if health_is_public(cluster) else _LOOPBACK | {HEALTH_PORT}


# ---- kernel ----


@check(
    "modules-loadable",
    hazard="host-kubelet-prereqs",
    sentence="the kernel modules overlay and br_netfilter are there",
    cure="install the kernel's modules package (linux-modules-extra on slim cloud kernels), then: modprobe MODULE",
    concerns=nodes,
)
def modules_loadable(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        for module in MODULES:
            found = probe.host.modules.get(module)
            if found is None or found.state == "unknown":
                yield NotTried(name, f"whether {module} can be loaded: modprobe (package kmod) is not there to ask")
            elif found.state == "missing" and probe.host.container:
                yield NotTried(name, f"{module} is not loaded, and a container cannot load it: its host has to")
            elif found.state == "missing":
                yield Trouble(name, f"{module} is not loaded and cannot be: {found.why or 'modprobe says no'}")


@check(
    "forwarding-settable",
    hazard="host-kubelet-prereqs",
    sentence="packets are forwarded between interfaces, or can be",
    cure="let root write /proc/sys/net/ipv4/ip_forward",
    concerns=nodes,
)
def forwarding_settable(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        if not probe.host.forwards and not probe.host.forwarding_settable:
            yield Trouble(name, "net.ipv4.ip_forward is 0 and cannot be written")


@check(
    "swap-off",
    hazard="host-kubelet-prereqs",
    sentence="no machine swaps, unless the kubelet is told not to mind",
    cure="swapoff -a, and remove swap from /etc/fstab; or say kubelet: {failSwapOn: false} in cluster.yaml",
    concerns=nodes,
)
def swap_off(seen: Seen) -> Iterator[Said]:
    if seen.cluster.kubelet.get("failSwapOn") is False:
        return
    for name, probe in seen.machines.items():
        if probe.host.swaps:
            whose = "its host swaps" if probe.host.container else "it swaps"
            yield Trouble(name, f"{whose} to {', '.join(probe.host.swaps)}; the kubelet refuses to start")


@check(
    "cgroup-driver",
    hazard="host-cgroup-driver",
    sentence="kubelet and containerd use the same cgroup driver",
    cure="systemd for both: cgroupDriver in /var/lib/kubelet/config.yaml, SystemdCgroup in containerd's config.toml",
    concerns=nodes,
)
def cgroup_driver(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        driver, systemd = probe.host.kubelet_driver, probe.host.containerd_systemd
        if not driver:
            yield NotTried(name, "no kubelet is configured there yet; the design gives both the same")
        elif systemd is None:
            yield NotTried(name, "`containerd config dump` does not say")
        elif (driver == "systemd") != systemd:
            yield Trouble(name, f"kubelet: {driver}, containerd: {'systemd' if systemd else 'cgroupfs'}")


@check(
    "conntrack-room",
    hazard="net-conntrack-full",
    sentence="there is room for new connections in the kernel's table",
    cure="raise net.netfilter.nf_conntrack_max",
    concerns=managed,
)
def conntrack_room(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        if probe.host.conntrack is None:
            yield NotTried(name, "nf_conntrack is not loaded")
            continue
        count, most = probe.host.conntrack
        if most and count / most > 0.8:
            severity = Severity.ERROR if count / most > 0.95 else Severity.WARNING
            yield Trouble(name, f"{count} of {most} entries are used", severity)


# ---- clocks ----


@check(
    "clocks-agree",
    hazard="host-clock",
    sentence=f"all clocks are within {CLOCK_WARNING_S} s of each other",
    cure="apt-get install chrony; chronyc makestep",
    concerns=managed,
    needs=Part.CLOCK,
)
def clocks_agree(seen: Seen) -> Iterator[Said]:
    if len(seen.machines) < 2:
        yield from (NotTried(name, "there is no other clock to compare with") for name in seen.machines)
        return
    middle = median_low(probe.clock.offset_s for probe in seen.machines.values())
    for name, probe in seen.machines.items():
        own = probe.clock
        far = max(seen.machines, key=lambda other: abs(seen.machines[other].clock.offset_s - own.offset_s))
        other = seen.machines[far].clock
        # Of a pair the one is wrong that is further from the rest.
        if abs(own.offset_s - middle) < abs(other.offset_s - middle):
            continue
        apart, error = abs(own.offset_s - other.offset_s), own.error_s + other.error_s
        evidence = f"its clock is {apart:.2f} s (± {error:.2f} s) away from that of {far}"
        # Only what the way of measuring cannot explain.
        if apart - error > CLOCK_WARNING_S:
            yield Trouble(name, evidence, Severity.ERROR if apart - error > CLOCK_ERROR_S else Severity.WARNING)
        elif apart + error > CLOCK_ERROR_S:
            yield NotTried(name, f"{evidence}: too slow a connection to tell")


@check(
    "clock-synchronised",
    hazard="host-clock",
    sentence="every clock is kept right by NTP",
    cure="apt-get install chrony, and let it reach its servers (chronyc sources)",
    concerns=managed,
)
def clock_synchronised(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        if probe.host.container:
            yield NotTried(name, "it is a container and has its host's clock")
        elif probe.host.synchronised is None:
            yield NotTried(name, "timedatectl does not say")
        elif not probe.host.synchronised:
            yield Trouble(name, "timedatectl: NTPSynchronized=no", Severity.WARNING)


# ---- what brings machines down together ----


@check(
    "packages-held",
    hazard="topo-reboot-storm",
    sentence="no unattended upgrade restarts what the cluster runs on",
    cure="apt-mark hold PACKAGE",
    concerns=managed,
)
def packages_held(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        host = probe.host
        loose = sorted(host.packages & _used(seen, name) - host.held)
        if host.unattended and "unattended-upgrades" in host.packages and loose:
            because = f"unattended-upgrades may restart {', '.join(loose)}"
            yield Trouble(name, because, Severity.WARNING, cure=f"apt-mark hold {' '.join(loose)}")


def _used(seen: Seen, name: str) -> set[str]:
    """Packages that the cluster runs on there: nginx may be somebody else's."""
    return set(HOLDABLE) & set(seen.design.packages(name))


@check(
    "reboots-apart",
    hazard="topo-reboot-storm",
    sentence="machines do not reboot by themselves at the same time",
    cure="Unattended-Upgrade::Automatic-Reboot-Time: another one on each machine, or Automatic-Reboot false",
    concerns=lambda cluster, machine: etcd_members(cluster, machine) or balancers(cluster, machine),
)
def reboots_apart(seen: Seen) -> Iterator[Said]:
    active = {
        name: probe.host.reboots_at if probe.host.unattended and "unattended-upgrades" in probe.host.packages else ""
        for name, probe in seen.machines.items()
    }
    for name, at, others in _shared(active):
        yield Trouble(name, f"it reboots after upgrades at {at}, as {', '.join(others)}", Severity.WARNING)


@check(
    "zone-labelled",
    hazard="topo-zone-collapsed",
    sentence="virtual machines say which hypervisor or zone they share",
    cure="machines.NAME.zone: the hypervisor's name",
    concerns=lambda cluster, machine: etcd_members(cluster, machine) or balancers(cluster, machine),
)
def zone_labelled(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        if probe.host.container:
            yield NotTried(name, f"it is a container ({probe.host.container}); its host is not asked about")
        elif probe.host.hypervisor and not seen.cluster.machines[name].zone:
            evidence = f"it is a virtual machine ({probe.host.hypervisor}) without a zone: all may be on one hypervisor"
            yield Trouble(name, evidence, Severity.WARNING)


@check(
    "more-than-one-provider",
    hazard="topo-single-provider",
    sentence="name servers and gateways are more than one",
    cure="add a second one, or accept it with a reason: accept: {topo-single-provider: ...}",
    concerns=managed,
)
def more_than_one_provider(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        for kind, found in (("name server", probe.host.name_servers), ("default gateway", probe.host.gateways)):
            if len(found) == 1:
                yield Trouble(name, f"its only {kind} is {found[0]}", Severity.ADVICE, cure=f"add a second {kind}")


@check(
    "units-enabled",
    hazard="host-not-enabled",
    sentence="what runs now runs again after a power loss",
    cure="systemctl enable UNIT, or haplane apply",
    concerns=managed,
)
def units_enabled(seen: Seen) -> Iterator[Said]:
    exists = any(probe.host.is_node for probe in seen.all.values())
    for name, probe in seen.machines.items():
        machine = seen.cluster.machines[name]
        # What only balances remembers nothing of the cluster.
        remembers = machine.is_node or etcd_members(seen.cluster, machine)
        if not (probe.host.is_member if remembers else exists):
            yield NotTried(name, "no cluster was made there yet")
            continue
        needed = {one.unit.removesuffix(".service") for one in seen.design.components(name).values()}
        for unit in UNITS:
            state = probe.host.units.get(unit, "")
            if unit in needed and state and state != "enabled":
                # An error would keep the next apply from enabling it.
                yield Trouble(name, f"systemctl is-enabled {unit}: {state}", Severity.WARNING)
