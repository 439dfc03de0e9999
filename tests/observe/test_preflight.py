"""Preflight's judges: each check with a case that triggers it and a near miss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.components.test_addons import with_worker
from tests.model.clusters import etcd_apart, three_nodes

from haplane.components.etcd_watch import UNIT_NAME
from haplane.components.keepalived import virtual_router_id
from haplane.components.kubernetes import certificate_names
from haplane.design.design import Design
from haplane.design.hazards import CATALOGUE, Severity
from haplane.design.hazards.listening import others
from haplane.model.cluster import (
    BalancerRole,
    Cast,
    Cluster,
    Cni,
    EndpointOwner,
    FlannelBackend,
    Machine,
    Role,
    Ssh,
)
from haplane.observe.preflight import CHECKS, Outcome, Report, judge
from haplane.observe.preflight.host import command
from haplane.observe.preflight.host_checks import _in_the_way
from haplane.observe.preflight.meeting import command as meeting_command
from haplane.observe.preflight.meeting import connections, outer_addresses, wrapped_from, wrapped_to, wraps_pods
from haplane.observe.preflight.probe import (
    Answers,
    Asking,
    Clock,
    Disk,
    Host,
    Link,
    Listener,
    Meeting,
    Module,
    Packet,
    Part,
    Probe,
    Stall,
    Trip,
)

NOW = datetime(2026, 11, 23, tzinfo=UTC)
CLUSTER = three_nodes()
VIP = CLUSTER.endpoint.vip.ip
STRANGER = ip_address("192.0.2.77")


def mac(number: int) -> str:
    return f"52:54:00:00:00:0{number}"


def whole(name: str, cluster: Cluster = CLUSTER) -> Probe:
    """A machine with which nothing is wrong."""
    machine, number = cluster.machines[name], int(name[-1])
    peers = [one.address for one in cluster.machines.values() if one.name != name]
    return Probe(
        host=Host(
            hostname=name,
            system="debian 13",
            architecture="x86_64",
            init="systemd",
            open_files=524288,
            memory_bytes=4 << 30,
            machine_id=str(number) * 32,
            product_uuid=f"uuid-{number}",
            addresses=(("lo", ip_interface("127.0.0.1/8")), ("eth0", ip_interface(f"{machine.address}/24"))),
            links={"eth0": Link(mac(number), 1500)},
            listeners=(Listener("0.0.0.0", 22, "sshd"),),
            modules={"overlay": Module("loaded"), "br_netfilter": Module("loadable")},
            forwarding_settable=True,
            rp_filter={"all": 0, "eth0": 2},
            routes=dict.fromkeys(peers, "eth0"),
            gateways=("192.0.2.1", "192.0.2.2"),
            name_servers=("192.0.2.3", "192.0.2.4"),
            synchronised=True,
            conntrack=(10, 100),
            now=NOW,
        ),
        clock=Clock(0.01, 0.01),
        meeting=Meeting(
            listened_s=3,
            heard=tuple(Packet(peer, 0, "u") for peer in peers),
            sent=frozenset(peers),
            connects={(one.address, one.port): "open" for one in connections(cluster) if one.source == name},
        ),
        asking=Asking(
            trips={peer: Trip("echo", 40, 40, 0.2, 0.9) for peer in peers},
            echo_lost=dict.fromkeys(peers, (0, 40)),
            full=dict.fromkeys(peers, (1500, True)),
            answers={VIP: ()},
        ),
        disk=Disk("/var/lib/etcd/", 200, 2.5, 6.0),
        stall=Stall(12.0, 60.0),
    )


def fleet(cluster: Cluster = CLUSTER) -> dict[str, Probe]:
    return {name: whole(name, cluster) for name in cluster.machines}


def changed(part: str, name: str = "cp1", **values: Any) -> dict[str, Probe]:
    """A whole fleet, but for one thing on one machine."""
    probes = fleet()
    probe = probes[name]
    probes[name] = replace(probe, **{part: replace(getattr(probe, part), **values)})
    return probes


def judged(check: str, probes: Mapping[str, Probe], cluster: Cluster = CLUSTER, *, slow: bool = True) -> dict[str, str]:
    """machine -> severity, `not tried` or `passed`, for one check."""
    report = judge(Design(cluster), probes, slow=slow)
    hazard = next(one.hazard or one.name for one in CHECKS if one.name == check)
    found = {one.machine: one.outcome.value for one in report.results if one.check == check}
    for name, outcome in found.items():
        if outcome == "finding":
            because = because_of(report, check, name)
            found[name] = next(
                one.severity.value
                for one in report.findings
                if one.machine == name and one.hazard == hazard and one.because in because
            )
    return found


def because_of(report: Report, check: str, name: str) -> str:
    return next(one.because for one in report.results if one.check == check and one.machine == name)


def test_a_whole_fleet_has_no_finding() -> None:
    report = judge(Design(CLUSTER), fleet(), slow=True)
    assert report.findings == ()
    waits = {one.check for one in report.results if one.outcome is Outcome.NOT_TRIED}
    # What only an existing cluster has.
    assert waits == {
        *("cgroup-driver", "units-enabled", "certificates-valid", "endpoint-in-certificate", "etcd-certificates-fit"),
        *("keepalived-alike", "scripts-run", "keepalived-ordered", "interval-understood", "readyz-open"),
        *("configuration-accepted", "unknown-packets-answered", "keys-shared"),
    }


def test_names_of_checks_are_unique_and_every_check_says_how_to_go_on() -> None:
    assert len({one.name for one in CHECKS}) == len(CHECKS)
    assert all(one.cure and one.sentence for one in CHECKS)


def test_hazards_of_checks_are_in_the_catalogue() -> None:
    known = {one.id for one in CATALOGUE.values()}
    assert {one.hazard for one in CHECKS if one.hazard} <= known


def test_a_health_page_for_everybody_needs_its_port_on_every_address() -> None:
    other = Listener("192.0.2.11", 8404, "nginx")
    cluster = three_nodes()
    outside = replace(cluster, endpoint=replace(cluster.endpoint, outside=ip_address("203.0.113.7")))
    assert [_in_the_way(other, one, one.machines["cp1"]) for one in (cluster, outside)] == [False, True]


def test_a_workers_own_balancer_needs_its_ports_on_loopback_alone() -> None:
    cluster = with_worker(on_workers=True)
    cluster = replace(cluster, endpoint=replace(cluster.endpoint, outside=ip_address("203.0.113.7")))
    worker = cluster.machines["w1"]
    places = [(address, port) for port in (8404, 8443) for address in ("192.0.2.21", "127.0.0.1", "*", "[::1]")]
    in_the_way = [_in_the_way(Listener(address, port, "nginx"), cluster, worker) for address, port in places]
    assert in_the_way == [False, True, True, False] * 2
    assert _in_the_way(Listener("192.0.2.11", 8443, "nginx"), cluster, cluster.machines["cp1"])


def test_a_port_of_a_workers_own_balancer_is_one_that_it_listens_on() -> None:
    def pages(cluster: Cluster, name: str) -> list[object]:
        found = others(cluster, cluster.machines[name])
        return [one.address for one in found if one.program == "HAProxy's health page"]

    loopback = ip_address("127.0.0.1")
    cluster = with_worker(on_workers=True)
    outside = replace(cluster, endpoint=replace(cluster.endpoint, outside=ip_address("203.0.113.7")))
    assert [pages(one, name) for one in (cluster, outside) for name in ("cp1", "w1")] == [
        *([loopback], [loopback]),
        *([None], [loopback]),
    ]
    assert pages(with_worker(), "w1") == []


def pods_fleet() -> tuple[Cluster, dict[str, Probe]]:
    """Nodes with flannel, of which each hears all others."""
    cluster = with_worker()
    probes = {}
    for name in cluster.machines:
        probe = whole(name, cluster)
        others_ = frozenset(one.address for one in cluster.machines.values() if one.name != name)
        probes[name] = replace(probe, meeting=replace(probe.meeting, caught=others_, carried=others_))
    return cluster, probes


def test_packets_of_pods_that_do_not_arrive_are_found_where_they_were_sent() -> None:
    cluster, probes = pods_fleet()
    check = "pods-packets-arrive"
    assert set(judged(check, probes, cluster).values()) == {"passed"}
    meeting = probes["w1"].meeting
    deaf = replace(probes["w1"], meeting=replace(meeting, caught=meeting.caught - {ip_address("192.0.2.12")}))
    assert judged(check, probes | {"w1": deaf}, cluster) == {
        **dict.fromkeys(("cp1", "cp2", "cp3"), "passed"),
        "w1": "error",
    }
    # Nothing was sent: nothing is said of who hears nothing.
    mute = replace(probes["cp2"], meeting=replace(probes["cp2"].meeting, carried=frozenset()))
    assert judged(check, probes | {"w1": deaf, "cp2": mute}, cluster)["w1"] == "not tried"
    without_raw = replace(meeting, failed={"datagrams": "a raw socket: Operation not permitted"}, caught=frozenset())
    assert judged(check, probes | {"w1": replace(deaf, meeting=without_raw)}, cluster)["w1"] == "not tried"


def test_a_sender_whose_own_firewall_forbids_packets_of_pods_is_to_blame() -> None:
    cluster, probes = pods_fleet()
    to = ip_address("192.0.2.21")
    meeting = probes["cp2"].meeting
    forbids = replace(meeting, carried=meeting.carried - {to}, failed={f"datagram to {to}": "Operation not permitted"})
    deaf = replace(probes["w1"].meeting, caught=probes["w1"].meeting.caught - {ip_address("192.0.2.12")})
    found = judged(
        "pods-packets-arrive",
        probes | {"cp2": replace(probes["cp2"], meeting=forbids), "w1": replace(probes["w1"], meeting=deaf)},
        cluster,
    )
    assert found == {"cp1": "passed", "cp2": "error", "cp3": "passed", "w1": "passed"}
    no_way = replace(forbids, failed={f"datagram to {to}": "Network is unreachable"})
    other = probes | {"cp2": replace(probes["cp2"], meeting=no_way)}
    assert judged("pods-packets-arrive", other, cluster)["w1"] == "not tried"


def test_packets_of_pods_are_wrapped_only_by_vxlan() -> None:
    cluster, _ = pods_fleet()
    routed = replace(cluster, kubernetes=replace(cluster.kubernetes, flannel=FlannelBackend.HOST_GW))
    worker = cluster.machines["w1"]
    assert [wraps_pods(one, worker) for one in (cluster, routed, with_worker(cni=Cni.BRIDGE))] == [True, False, False]
    assert wrapped_to(routed, worker) == ()
    assert "datagrams" not in meeting_command(routed, worker, interface="eth0", seconds=3).rpartition(" -- ")[2]
    assert "datagrams\t192.0.2.21\t8472" in meeting_command(cluster, worker, interface="eth0", seconds=3)


def test_in_a_large_cluster_each_node_hears_those_that_send_to_it() -> None:
    cluster = with_worker()
    extra = {
        f"w{number}": Machine(f"w{number}", (ip_address(f"192.0.2.{20 + number}"),), frozenset({Role.WORKER}), Ssh())
        for number in range(1, 30)
    }
    cluster = replace(cluster, machines={**cluster.machines, **extra})
    sent = {(one.address, to) for one in cluster.nodes for to in wrapped_to(cluster, one)}
    expected = {(source, to) for one in cluster.nodes for _, source, to in wrapped_from(cluster, one)}
    assert sent == expected
    assert len(sent) == len(cluster.nodes) * 12


def test_units_of_machines_that_only_balance_are_judged_once_there_is_a_cluster() -> None:
    cluster = replace(
        CLUSTER,
        balancer=BalancerRole.BALANCER,
        machines={
            **CLUSTER.machines,
            "lb4": Machine("lb4", (ip_address("192.0.2.14"),), frozenset({Role.BALANCER}), Ssh()),
        },
    )
    probes = fleet(cluster)
    balancer = replace(probes["lb4"], host=replace(probes["lb4"].host, units={"haproxy": "disabled"}))
    probes["lb4"] = balancer
    assert judged("units-enabled", probes, cluster)["lb4"] == "not tried"
    probes["cp1"] = replace(probes["cp1"], host=replace(probes["cp1"].host, membership="done name=prod"))
    assert judged("units-enabled", probes, cluster)["lb4"] == "warning"


def test_the_watch_of_etcd_is_a_unit_that_has_to_run_again() -> None:
    cluster = etcd_apart()
    probes = fleet(cluster)
    host = replace(
        probes["cp1"].host, membership="done name=prod", units={UNIT_NAME.removesuffix(".service"): "disabled"}
    )
    probes["cp1"] = replace(probes["cp1"], host=host)
    assert judged("units-enabled", probes, cluster)["cp1"] == "warning"
    assert "haplane-etcd-watch" in command(cluster, cluster.machines["cp1"])


def test_the_page_names_every_check() -> None:
    page = Path("docs/preflight.md").read_text()
    for one in CHECKS:
        speed = "slow" if one.is_slow else "quick"
        row = next(line for line in page.splitlines() if line.startswith(f"| {one.name} |"))
        assert one.sentence in row and one.cure in row
        assert row.endswith(f"| {speed} | {one.hazard or '–'} |")


HOST_CASES: list[tuple[str, dict[str, Any], str]] = [
    ("hostname-unique", {"hostname": "CP2"}, "error"),
    ("hostname-unique", {"hostname": "cp2x"}, "passed"),
    ("machine-id-unique", {"machine_id": "2" * 32}, "error"),
    ("machine-id-unique", {"machine_id": ""}, "error"),
    ("product-uuid-unique", {"product_uuid": "uuid-2"}, "error"),
    ("product-uuid-unique", {"product_uuid": "uuid-2", "container": "podman"}, "not tried"),
    ("product-uuid-unique", {"product_uuid": ""}, "not tried"),
    ("mac-unique", {"links": {"eth0": Link(mac(2), 1500)}}, "error"),
    ("mac-unique", {"links": {"eth0": Link(mac(1), 1500), "br0": Link(mac(2), 1500)}}, "passed"),
    ("system-supported", {"system": "debian 11"}, "error"),
    ("system-supported", {"system": "ubuntu 24.04"}, "passed"),
    ("architecture-equal", {"architecture": "aarch64"}, "error"),
    ("init-is-systemd", {"init": "init"}, "error"),
    ("ports-free", {"listeners": (Listener("0.0.0.0", 6443, "nginx"),)}, "error"),
    ("ports-free", {"listeners": (Listener("*", 6443, "kube-apiserver"),)}, "passed"),
    ("ports-free", {"listeners": (Listener("127.0.0.1", 10257, "kube-controller"),)}, "passed"),
    ("ports-free", {"listeners": (Listener("192.0.2.11", 8404, "nginx"),)}, "passed"),
    ("ports-free", {"listeners": (Listener("[::]", 8404, "nginx"),)}, "error"),
    ("ports-free", {"listeners": (Listener("192.0.2.11", 8443, "nginx"),)}, "error"),
    ("ports-free", {"listeners": (Listener("0.0.0.0", 8444, "nginx"),)}, "passed"),
    ("ports-free", {"listeners": (Listener("*", 6443, ""),), "membership": "done name=prod"}, "not tried"),
    ("ports-free", {"listeners": None}, "not tried"),
    ("modules-loadable", {"modules": {"overlay": Module("loaded"), "br_netfilter": Module("missing", "no")}}, "error"),
    ("modules-loadable", {"modules": {"overlay": Module("loaded")}}, "not tried"),
    ("modules-loadable", {"modules": {"br_netfilter": Module("missing")}, "container": "podman"}, "not tried"),
    ("forwarding-settable", {"forwarding_settable": False}, "error"),
    ("forwarding-settable", {"forwarding_settable": False, "forwards": True}, "passed"),
    ("swap-off", {"swaps": ("/dev/sda2",)}, "error"),
    ("cgroup-driver", {"kubelet_driver": "systemd", "containerd_systemd": False}, "error"),
    ("cgroup-driver", {"kubelet_driver": "systemd", "containerd_systemd": True}, "passed"),
    ("cgroup-driver", {"kubelet_driver": "cgroupfs", "containerd_systemd": False}, "passed"),
    ("cgroup-driver", {"containerd_systemd": False}, "not tried"),
    ("conntrack-room", {"conntrack": (96, 100)}, "error"),
    ("conntrack-room", {"conntrack": (81, 100)}, "warning"),
    ("conntrack-room", {"conntrack": (80, 100)}, "passed"),
    ("conntrack-room", {"conntrack": None}, "not tried"),
    ("clock-synchronised", {"synchronised": False}, "warning"),
    ("clock-synchronised", {"synchronised": False, "container": "podman"}, "not tried"),
    ("clock-synchronised", {"synchronised": None}, "not tried"),
    (
        "packages-held",
        {"unattended": True, "packages": frozenset({"unattended-upgrades", "containerd"})},
        "warning",
    ),
    (
        "packages-held",
        {
            "unattended": True,
            "packages": frozenset({"unattended-upgrades", "containerd"}),
            "held": frozenset({"containerd"}),
        },
        "passed",
    ),
    ("packages-held", {"packages": frozenset({"unattended-upgrades", "containerd"})}, "passed"),
    ("zone-labelled", {"hypervisor": "kvm"}, "warning"),
    ("zone-labelled", {"hypervisor": "kvm", "container": "podman"}, "not tried"),
    ("more-than-one-provider", {"gateways": ("192.0.2.1",)}, "advice"),
    ("more-than-one-provider", {"gateways": ()}, "passed"),
    ("units-enabled", {"membership": "done name=prod", "units": {"haproxy": "disabled"}}, "warning"),
    ("units-enabled", {"membership": "done name=prod", "units": {"haproxy": "enabled", "etcd": ""}}, "passed"),
    ("units-enabled", {"units": {"haproxy": "disabled"}}, "not tried"),
    ("mtu-equal", {"links": {"eth0": Link(mac(1), 9000)}}, "error"),
    ("rp-filter", {"rp_filter": {"all": 1}, "routes": {ip_address("192.0.2.12"): "eth1"}}, "warning"),
    (
        "rp-filter",
        {"rp_filter": {"all": 1, "eth0": 2}, "routes": {ip_address("192.0.2.12"): "eth1"}},
        "passed",
    ),
    ("rp-filter", {"rp_filter": {"eth0": 1}}, "passed"),
    ("rp-filter", {"rp_filter": {"eth0": 1}, "routes": {}}, "not tried"),
    ("vip-in-subnet", {"addresses": (("eth0", ip_interface("192.0.2.11/28")),)}, "error"),
    ("vip-in-subnet", {"addresses": (("eth0", ip_interface("192.0.2.11/25")),)}, "passed"),
    (
        "vip-in-subnet",
        {"addresses": (("eth0", ip_interface("192.0.2.11/28")), ("eth0", ip_interface("192.0.2.100/32")))},
        "error",
    ),
    ("vip-in-subnet", {"addresses": (("lo", ip_interface("127.0.0.1/8")),)}, "error"),
    ("vip-in-subnet", {"addresses": ()}, "not tried"),
    ("vip-may-move", {"vendor": "Amazon EC2"}, "warning"),
    ("vip-may-move", {"vendor": "QEMU"}, "passed"),
]


@pytest.mark.parametrize(("check", "values", "outcome"), HOST_CASES)
def test_one_machine_is_judged_by_what_it_is(check: str, values: dict[str, Any], outcome: str) -> None:
    assert judged(check, changed("host", **values))["cp1"] == outcome


def test_every_check_of_a_host_has_a_case_that_triggers_it() -> None:
    triggered = {check for check, _, outcome in HOST_CASES if outcome in list(Severity)}
    elsewhere = {
        *("reboots-apart", "endpoint-resolves", "certificates-valid", "endpoint-in-certificate"),
        *("etcd-certificates-fit", "connections-fit", "bind-possible"),
    }
    assert {one.name for one in CHECKS if one.needs is Part.HOST} == triggered | elsewhere


def test_swap_is_fine_where_the_kubelet_is_told_so() -> None:
    cluster = replace(CLUSTER, kubelet={"failSwapOn": False})
    assert judged("swap-off", changed("host", swaps=("/dev/sda2",)), cluster)["cp1"] == "passed"


def test_machines_that_reboot_at_the_same_time_are_found() -> None:
    probes = fleet()
    upgrades = {"unattended": True, "packages": frozenset({"unattended-upgrades"})}
    for name, at in (("cp1", "02:00"), ("cp2", "02:00"), ("cp3", "03:00")):
        probes[name] = replace(probes[name], host=replace(probes[name].host, reboots_at=at, **upgrades))
    assert judged("reboots-apart", probes) == {"cp1": "warning", "cp2": "warning", "cp3": "passed"}


@pytest.mark.parametrize(
    ("offsets", "errors", "outcome"),
    [
        ((0.0, 0.0, 7.0), 0.01, ("passed", "passed", "error")),
        ((0.0, 0.0, 2.0), 0.01, ("passed", "passed", "warning")),
        ((0.0, 0.0, 0.9), 0.01, ("passed", "passed", "passed")),
        # Each is within the limit of the middle one, but not of the other.
        ((-4.0, 0.0, 4.0), 0.01, ("error", "passed", "error")),
        ((0.0, 0.0, 1.5), 0.4, ("passed", "passed", "passed")),
        ((0.0, 0.0, 3.0), 2.0, ("passed", "passed", "not tried")),
    ],
)
def test_clocks_are_compared_within_the_error(
    offsets: tuple[float, ...], errors: float, outcome: tuple[str, ...]
) -> None:
    probes = {
        name: replace(whole(name), clock=Clock(offset, errors))
        for name, offset in zip(CLUSTER.machines, offsets, strict=True)
    }
    assert tuple(judged("clocks-agree", probes).values()) == outcome


# ---- the VIP ----


@pytest.mark.parametrize(
    ("answers", "holder", "outcome"),
    [
        (("aa:bb:cc:dd:ee:ff",), "", "error"),
        # Another machine that may hold it can have got it since it was read.
        ((mac(2),), "", "passed"),
        ((mac(2),), "cp2", "passed"),
        ((mac(2), "aa:bb:cc:dd:ee:ff"), "cp2", "error"),
        ((), "", "passed"),
        (None, "", "not tried"),
    ],
)
def test_only_a_machine_that_has_the_vip_may_answer_for_it(
    answers: tuple[str, ...] | None, holder: str, outcome: str
) -> None:
    probes = changed("asking", answers={} if answers is None else {VIP: answers})
    if holder:
        host = probes[holder].host
        held = replace(host, addresses=(*host.addresses, ("eth0", ip_interface(f"{VIP}/32"))))
        probes[holder] = replace(probes[holder], host=held)
    assert judged("vip-free", probes)["cp1"] == outcome


def test_an_answer_may_come_from_a_machine_that_was_not_reached() -> None:
    probes = changed("asking", answers={VIP: (mac(3),)})
    del probes["cp3"]
    assert judged("vip-free", probes) == {"cp1": "not tried", "cp2": "passed", "cp3": "not tried"}


def test_a_stranger_with_our_router_id_is_found_and_another_is_a_fact() -> None:
    own = virtual_router_id(CLUSTER)
    other = own % 255 + 1
    peers = whole("cp1").meeting.heard
    ours = Packet(ip_address("192.0.2.12"), own, "-")
    same = changed("meeting", heard=(*peers, ours, Packet(STRANGER, own, "-")))
    assert judged("router-id-free", same)["cp1"] == "error"
    different = changed("meeting", heard=(*peers, ours, Packet(STRANGER, other, "-")))
    assert judged("router-id-free", different)["cp1"] == "passed"
    assert judge(Design(CLUSTER), different, slow=False).facts.router_ids == {other}


def test_a_link_local_stranger_may_be_a_machine_that_was_not_reached() -> None:
    own = virtual_router_id(CLUSTER)
    probes = changed("meeting", heard=(Packet(ip_address("fe80::1"), own, "-"),))
    assert judged("router-id-free", probes)["cp1"] == "error"
    del probes["cp3"]
    assert judged("router-id-free", probes)["cp1"] == "not tried"
    assert judge(Design(CLUSTER), probes, slow=False).facts.router_ids == frozenset()


def test_vrrp_that_does_not_arrive_is_found_where_it_was_sent() -> None:
    only_cp3 = (Packet(ip_address("192.0.2.13"), 0, "u"),)
    silent = changed("meeting", heard=only_cp3)
    assert judged("vrrp-arrives", silent) == {"cp1": "error", "cp2": "passed", "cp3": "passed"}
    # A real advert says as much.
    advert = changed("meeting", heard=(*only_cp3, Packet(ip_address("192.0.2.12"), 51, "-")))
    assert judged("vrrp-arrives", advert)["cp1"] == "passed"


@pytest.mark.parametrize(
    "why",
    [
        {"meeting": Meeting(3, failed={"vrrp": "a raw socket: Operation not permitted"})},
        {"missing": {Part.MEETING: "the connection was lost"}},
    ],
)
def test_vrrp_that_could_not_be_sent_is_not_said_to_be_filtered(why: dict[str, Any]) -> None:
    probes = changed("meeting", heard=(Packet(ip_address("192.0.2.13"), 0, "u"),))
    probes["cp2"] = replace(probes["cp2"], **why)
    assert judged("vrrp-arrives", probes)["cp1"] == "not tried"
    del probes["cp2"]
    assert judged("vrrp-arrives", probes)["cp1"] == "not tried"


def test_a_machine_that_cannot_listen_says_nothing_of_strangers() -> None:
    deaf = Meeting(0, failed={"vrrp": "a raw socket: Operation not permitted"})
    probes = fleet() | {"cp1": replace(whole("cp1"), meeting=deaf)}
    assert judged("router-id-free", probes)["cp1"] == "not tried"
    assert judged("vrrp-arrives", probes)["cp1"] == "not tried"


@pytest.mark.parametrize(
    ("casts", "multicast", "arrives"),
    [("um", "passed", "passed"), ("u", "error", "passed"), ("", "not tried", "error")],
)
def test_blocked_multicast_is_told_from_filtered_vrrp(casts: str, multicast: str, arrives: str) -> None:
    cluster = replace(CLUSTER, endpoint=replace(CLUSTER.endpoint, cast=Cast.MULTICAST))
    group = ip_address("224.0.0.18")
    probes = {}
    for name, probe in fleet(cluster).items():
        meeting = probe.meeting
        heard = tuple(Packet(one.source, 0, cast) for one in meeting.heard for cast in casts)
        probes[name] = replace(probe, meeting=replace(meeting, heard=heard, sent=meeting.sent | {group}))
    assert judged("multicast-arrives", probes, cluster)["cp1"] == multicast
    assert judged("vrrp-arrives", probes, cluster)["cp1"] == arrives


def test_a_vip_of_somebody_else_is_not_judged() -> None:
    cluster = replace(CLUSTER, endpoint=replace(CLUSTER.endpoint, by=EndpointOwner.EXTERNAL))
    report = judge(Design(cluster), changed("asking", answers={VIP: ("aa:bb:cc:dd:ee:ff",)}), slow=True)
    assert report.findings == ()
    assert "vip-free" not in {one.check for one in report.results}


@pytest.mark.parametrize(
    ("made", "refused", "silent", "before", "after"),
    [
        (20, 0, 0, "passed", "passed"),
        (14, 0, 6, "error", "error"),
        (0, 14, 6, "error", "error"),
        (0, 0, 20, "warning", "error"),
        (0, 20, 0, "not tried", "error"),
        (19, 1, 0, "not tried", "error"),
        (0, 0, 0, "not tried", "not tried"),
    ],
)
def test_a_load_balancer_of_yours_answers_each_time(
    made: int, refused: int, silent: int, before: str, after: str
) -> None:
    """before, after: the cluster was made."""
    cluster = replace(CLUSTER, endpoint=replace(CLUSTER.endpoint, by=EndpointOwner.EXTERNAL))
    probes = changed("meeting", again={(VIP, 8443): Answers(made, refused, silent)})
    assert judged("endpoint-answers", probes, cluster)["cp1"] == before
    member = replace(probes["cp2"], host=replace(probes["cp2"].host, membership="done name=prod"))
    assert judged("endpoint-answers", {**probes, "cp2": member}, cluster)["cp1"] == after
    assert judged("endpoint-answers", probes) == {}, "our own VIP is not there yet"


@pytest.mark.parametrize(("stall_ms", "outcome"), [(300, "error"), (299, "warning"), (200, "warning"), (199, "passed")])
def test_a_stall_is_measured_in_adverts(stall_ms: float, outcome: str) -> None:
    # The calm advert is 100 ms.
    assert judged("stalls-below-adverts", changed("stall", longest_ms=stall_ms))["cp1"] == outcome


def test_the_advert_of_the_file_counts_for_stalls() -> None:
    cluster = replace(CLUSTER, keepalived={"vrrp_instance": {"advert_int": 0.05}})
    assert judged("stalls-below-adverts", changed("stall", longest_ms=150), cluster)["cp1"] == "error"


@pytest.mark.parametrize(
    ("resolved", "outcome"),
    [
        (["192.0.2.100"], "passed"),
        (["192.0.2.11"], "error"),
        (["192.0.2.100", "192.0.2.11"], "error"),
        ([], "not tried"),
    ],
)
def test_the_name_of_the_endpoint_leads_to_it(resolved: list[str], outcome: str) -> None:
    cluster = replace(CLUSTER, endpoint=replace(CLUSTER.endpoint, host="api.example"))
    probes = changed("host", resolved=tuple(map(ip_address, resolved)))
    assert judged("endpoint-resolves", probes, cluster)["cp1"] == outcome
    assert judged("endpoint-resolves", probes)["cp1"] == "passed"


# ---- the network ----


@pytest.mark.parametrize(
    ("state", "outcome"), [("silent", "error"), ("Connection refused", "error"), ("open", "passed")]
)
def test_a_port_that_is_closed_is_found(state: str, outcome: str) -> None:
    connects = {**whole("cp1").meeting.connects, (ip_address("192.0.2.12"), 2380): state}
    assert judged("ports-open", changed("meeting", connects=connects))["cp1"] == outcome


def test_a_port_where_nobody_could_listen_is_not_said_to_be_closed() -> None:
    connects = {**whole("cp1").meeting.connects, (ip_address("192.0.2.12"), 2380): "Connection refused"}
    probes = changed("meeting", connects=connects)
    deaf = replace(probes["cp2"].meeting, failed={"listen 2380": "Permission denied"})
    assert judged("ports-open", probes | {"cp2": replace(probes["cp2"], meeting=deaf)})["cp1"] == "not tried"
    del probes["cp2"]
    assert judged("ports-open", probes)["cp1"] == "not tried"


PEERS = (ip_address("192.0.2.12"), ip_address("192.0.2.13"))


@pytest.mark.parametrize(("lost", "outcome"), [(2, "warning"), (1, "passed"), (40, "not tried")])
def test_lost_packets_are_counted(lost: int, outcome: str) -> None:
    assert judged("no-loss", changed("asking", echo_lost={PEERS[0]: (lost, 40), PEERS[1]: (0, 40)}))["cp1"] == outcome


@pytest.mark.parametrize(
    ("mean_ms", "worst_ms", "outcome"),
    [(101, 99, "warning"), (50, 100.1, "warning"), (100, 100, "passed")],
)
def test_etcd_timers_must_be_longer_than_the_way(mean_ms: float, worst_ms: float, outcome: str) -> None:
    trips = dict.fromkeys(PEERS, Trip("connect", 5, 5, mean_ms, worst_ms))
    assert judged("etcd-timers-fit", changed("asking", trips=trips))["cp1"] == outcome
    assert judged("etcd-timers-fit", changed("asking", trips={}))["cp1"] == "not tried"


@pytest.mark.parametrize(
    ("passes", "lost", "outcome"),
    [(False, 0, "error"), (True, 0, "passed"), (False, 30, "not tried")],
)
def test_packets_of_full_size_must_pass(passes: bool, lost: int, outcome: str) -> None:
    probes = changed("asking", full=dict.fromkeys(PEERS, (1500, passes)), echo_lost=dict.fromkeys(PEERS, (lost, 40)))
    assert judged("full-packets-pass", probes)["cp1"] == outcome


def test_each_connection_is_needed_once_and_none_to_oneself() -> None:
    found = list(connections(CLUSTER))
    assert len({(one.source, one.target, one.port) for one in found}) == len(found)
    assert all(one.source != one.target for one in found)
    assert {one.port for one in found} == {8443, 6443, 2379, 2380, 10250, 10240}


def test_a_machine_of_etcd_alone_needs_no_way_to_the_endpoint() -> None:
    cluster = etcd_apart()
    assert {one.port for one in connections(cluster) if one.source == "e1"} == {2380}
    outside = replace(cluster, endpoint=replace(cluster.endpoint, by=EndpointOwner.EXTERNAL))
    assert {*judged("endpoint-answers", fleet(outside), outside)} == {"cp1", "cp2", "cp3"}
    assert outer_addresses(outside, outside.machines["e1"]) == ()
    assert ("cp1", "cp2", 6443) in {(one.source, one.target, one.port) for one in connections(outside)}


def test_an_endpoint_of_somebody_else_may_be_silent_while_there_is_only_etcd() -> None:
    cluster = etcd_apart()
    cluster = replace(cluster, endpoint=replace(cluster.endpoint, by=EndpointOwner.EXTERNAL))
    probes = fleet(cluster)
    probes["e1"] = replace(probes["e1"], host=replace(probes["e1"].host, etcd_membership="done name=prod"))
    answers = {(VIP, 8443): Answers(0, 20, 0)}
    probes["cp1"] = replace(probes["cp1"], meeting=replace(probes["cp1"].meeting, again=answers))
    assert probes["e1"].host.is_member
    assert judged("endpoint-answers", probes, cluster)["cp1"] == "not tried"


# ---- disks, certificates ----


@pytest.mark.parametrize(
    ("p99_ms", "samples", "outcome"),
    [(10.1, 200, "warning"), (10, 200, "passed"), (101, 200, "error"), (5, 3, "not tried"), (500, 3, "error")],
)
def test_a_slow_disk_is_found(p99_ms: float, samples: int, outcome: str) -> None:
    assert judged("disk-quick", changed("disk", p99_ms=p99_ms, samples=samples))["cp1"] == outcome


def certificate(names: list[str], days: float) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=400))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.mark.parametrize(
    ("file", "days", "outcome"),
    [
        ("apiserver.crt", 6, "error"),
        ("apiserver.crt", -3, "error"),
        ("apiserver.crt", 29, "warning"),
        ("apiserver.crt", 31, "passed"),
        ("ca.crt", 364, "warning"),
        ("ca.crt", 366, "passed"),
    ],
)
def test_certificates_that_end_soon_are_found(file: str, days: float, outcome: str) -> None:
    text = certificate(["kubernetes"], days)
    probes = changed("host", certificates={f"/etc/kubernetes/pki/{file}": text})
    assert judged("certificates-valid", probes)["cp1"] == outcome


@pytest.mark.parametrize(
    ("machine", "path"),
    [("e1", "/etc/etcd/pki/peer.crt"), ("cp1", "/etc/kubernetes/pki/apiserver-etcd-client.crt")],
)
def test_what_the_next_apply_issues_again_does_not_keep_it_from_doing_so(machine: str, path: str) -> None:
    cluster = etcd_apart()
    probes = fleet(cluster)
    host = replace(probes[machine].host, certificates={path: certificate(["kubernetes"], -3)})
    probes[machine] = replace(probes[machine], host=host)
    assert judged("certificates-valid", probes, cluster)[machine] == "warning"


def test_a_certificate_that_cannot_be_read_is_not_tried() -> None:
    probes = changed("host", certificates={"/etc/kubernetes/pki/apiserver.crt": "nothing"})
    assert judged("certificates-valid", probes)["cp1"] == "not tried"
    assert judged("endpoint-in-certificate", probes)["cp1"] == "not tried"


def test_the_apiserver_must_be_certified_for_the_endpoint() -> None:
    names = [str(name) for name in certificate_names(CLUSTER)]
    path = "/etc/kubernetes/pki/apiserver.crt"
    good = changed("host", certificates={path: certificate(names, 300)})
    assert judged("endpoint-in-certificate", good)["cp1"] == "passed"
    bad = changed("host", certificates={path: certificate([n for n in names if n != str(VIP)], 300)})
    assert judged("endpoint-in-certificate", bad)["cp1"] == "warning"
    on_workers = replace(CLUSTER, balancer_on_workers=True)
    assert judged("endpoint-in-certificate", good, on_workers)["cp1"] == "passed", (
        "who asks there verifies another name"
    )


# ---- the whole ----


def test_a_machine_that_was_not_reached_is_never_said_to_be_fine() -> None:
    probes = fleet()
    del probes["cp3"]
    report = judge(Design(CLUSTER), probes, slow=True)
    assert {one.outcome for one in report.results if one.machine == "cp3"} == {Outcome.NOT_TRIED}
    assert report.findings == ()


@pytest.mark.parametrize("part", list(Part))
def test_what_could_not_be_read_is_never_said_to_be_fine(part: Part) -> None:
    probes = fleet()
    probes["cp1"] = replace(
        whole("cp1"), missing={part: "it is broken"}, **{part.value: type(getattr(Probe(), part))()}
    )
    report = judge(Design(CLUSTER), probes, slow=True)
    mine = {one.check: one for one in report.results if one.machine == "cp1"}
    for check in CHECKS:
        if check.needs is part and check.name in mine:
            assert mine[check.name].outcome is Outcome.NOT_TRIED
            assert mine[check.name].because == "it is broken"


def test_slow_checks_wait_until_they_are_asked_for() -> None:
    probes = changed("stall", longest_ms=1000)
    assert judged("stalls-below-adverts", probes, slow=False)["cp1"] == "not tried"


def test_an_accepted_finding_carries_its_reason() -> None:
    cluster = replace(CLUSTER, accept={"vip-vrid-collision": "the stranger leaves tomorrow"})
    probes = changed("meeting", heard=(Packet(STRANGER, virtual_router_id(CLUSTER), "-"),))
    accepted = [
        one.accepted
        for one in judge(Design(cluster), probes, slow=False).findings
        if one.hazard == "vip-vrid-collision"
    ]
    assert accepted == ["the stranger leaves tomorrow"]


def test_clients_are_only_asked_about_what_clients_do() -> None:
    client = replace(CLUSTER.machines["cp3"], roles=frozenset({Role.CLIENT}))
    cluster = replace(CLUSTER, machines={**CLUSTER.machines, "cp3": client})
    results = judge(Design(cluster), fleet(cluster), slow=True).results
    assert {one.check for one in results if one.machine == "cp3"} == {"ports-open", "endpoint-resolves"}


def test_facts_hold_what_was_measured_and_nothing_else() -> None:
    probes = fleet()
    probes["cp2"] = replace(probes["cp2"], disk=Disk(), missing={Part.DISK: "no room", Part.STALL: "lost"})
    del probes["cp3"]
    facts = judge(Design(CLUSTER), probes, slow=True).facts
    assert set(facts.machines) == {"cp1", "cp2"}
    cp1, cp2 = facts.machines["cp1"], facts.machines["cp2"]
    assert (cp1.interface, cp1.fsync_p99_ms, cp1.stall_ms) == ("eth0", 2.5, 12.0)
    assert cp1.round_trip_ms == {"cp2": 0.2, "cp3": 0.2}
    assert (cp2.interface, cp2.fsync_p99_ms, cp2.stall_ms) == ("eth0", None, None)
