"""The table of derived values: nothing is missing, each with its reason, and the key that overrides it is the one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from types import ModuleType

import pytest
from tests.model.clusters import balanced_by, three_nodes

from haplane.components import haproxy, keepalived, nginx
from haplane.components.base import Measured, Timers
from haplane.design.derived import Derived, derived
from haplane.design.design import Design
from haplane.model.cluster import BalancerProgram, BalancerRole, Cast, EndpointOwner, Etcd, EtcdTopology, Role, Where
from haplane.model.file import read_cluster

FILE = """\
name: prod
kubernetes: {version: 1.35.4}
endpoint: {vip: 192.0.2.100/24}
machines:
  cp1: {address: 192.0.2.11}
  cp2: {address: 192.0.2.12}
  cp3: {address: 192.0.2.13}
"""


def of_file(text: str) -> Design:
    return Design(read_cluster(text, file="cluster.yaml", folder=Path("/")))


def row(rows: tuple[Derived, ...], subject: str, name: str) -> Derived:
    (found,) = [one for one in rows if (one.subject, one.name) == (subject, name)]
    return found


@pytest.mark.parametrize(("by", "balancer"), [(BalancerProgram.HAPROXY, haproxy), (BalancerProgram.NGINX, nginx)])
def test_every_setting_of_both_daemons_is_in_the_table_with_its_value(
    by: BalancerProgram, balancer: ModuleType
) -> None:
    design = Design(balanced_by(by))
    rows = derived(design)
    assert {one.subject.partition(" ")[0] for one in rows} == {"cluster", "etcd", "keepalived", by}
    for component, module in (("keepalived", keepalived), (by, balancer)):
        for name in design.cluster.machines:
            for section, lines in module.settings(design.view(name)).items():
                for keyword, setting in lines.items():
                    shown = [
                        one
                        for one in rows
                        if one.subject in (component, f"{component} on {name}")
                        and (one.section, one.name) == (section, keyword)
                    ]
                    assert [(one.value, one.because) for one in shown] == [
                        (setting.arguments or "on", setting.because)
                    ], (component, section, keyword)


def test_what_is_equal_everywhere_is_shown_once_and_what_differs_per_machine() -> None:
    rows = derived(Design(three_nodes()))
    advert = row(rows, "keepalived", "advert_int")
    assert (advert.value, advert.override) == ("0.1", "keepalived.vrrp_instance.advert_int")
    priorities = [(one.subject, one.value, one.override) for one in rows if one.name == "priority"]
    assert priorities == [
        (f"keepalived on cp{i}", value, f"machines.cp{i}.keepalived.vrrp_instance.priority")
        for i, value in ((1, "250"), (2, "224"), (3, "198"))
    ]


def test_peers_are_all_the_others() -> None:
    rows = derived(Design(three_nodes()))
    assert row(rows, "keepalived on cp2", "unicast_peer").value == "192.0.2.11 192.0.2.13"
    multicast = replace(three_nodes(), endpoint=replace(three_nodes().endpoint, cast=Cast.MULTICAST))
    assert not [one for one in derived(Design(multicast)) if one.name.startswith("unicast")]


def test_a_second_vip_has_its_own_sources_and_peers() -> None:
    cluster = three_nodes()
    machines = {
        name: replace(one, addresses=(one.address, ip_address(f"2001:db8::1{name[-1]}")))
        for name, one in cluster.machines.items()
    }
    vips = (*cluster.endpoint.vips, ip_interface("2001:db8::100/64"))
    rows = derived(Design(replace(cluster, machines=machines, endpoint=replace(cluster.endpoint, vips=vips))))
    assert row(rows, "keepalived on cp1", "unicast_src_ip (IPv6)").value == "2001:db8::11"
    assert row(rows, "keepalived on cp1", "unicast_peer (IPv6)").value == "2001:db8::12 2001:db8::13"
    assert row(rows, "cluster", "certificate names").value.startswith("192.0.2.100, 2001:db8::100, cp1, ")


def test_a_reason_of_the_solver_wins_over_the_general_one() -> None:
    fast = Design(three_nodes(), timers=Timers(advert_ms=50, check_interval_ms=200, etcd_election_ms=300))
    reasons = {"advert_ms": "solved A", "check_interval_ms": "solved B", "etcd_election_ms": "solved C"}
    rows = derived(fast, reasons)
    found = [row(rows, *key) for key in (("keepalived", "advert_int"), ("keepalived", "interval"))]
    found.append(row(rows, "etcd", "election-timeout"))
    assert [(one.value, one.because) for one in found] == [
        ("0.05", "solved A"),
        ("0.2", "solved B"),
        ("300 ms", "solved C"),
    ]


def test_what_the_file_says_is_shown_with_its_place_and_no_solver_speaks_over_it() -> None:
    design = of_file(
        FILE
        + "keepalived:\n  vrrp_instance:\n    advert_int: 0.5\n    nopreempt: false\n"
        + "haproxy: {defaults: {timeout connect: 300ms}}\n"
        + "etcd: {heartbeat: 50ms}\n"
    )
    rows = derived(design, {"advert_ms": "solved"})
    advert, preempt = row(rows, "keepalived", "advert_int"), row(rows, "keepalived", "nopreempt")
    assert (advert.value, advert.because) == ("0.5", "as the file says")
    assert advert.given == Where("cluster.yaml", 10, 5, "keepalived.vrrp_instance.advert_int")
    assert (preempt.value, preempt.because, preempt.given and preempt.given.line) == (
        "(left out)",
        "as the file says",
        11,
    )
    connect = row(rows, "haproxy", "timeout connect")
    assert (connect.value, connect.override) == ("300ms", "haproxy.defaults.timeout connect")
    assert connect.given is not None
    assert connect.given.line == 12
    heartbeat = row(rows, "etcd", "heartbeat-interval")
    assert (heartbeat.value, heartbeat.override, heartbeat.given is not None) == ("50 ms", "etcd.heartbeat", True)


def test_one_machines_own_setting_is_shown_beside_those_of_the_others() -> None:
    design = of_file(FILE.replace("192.0.2.12}", "192.0.2.12, haproxy: {global: {maxconn: 500}}}"))
    rows = [one for one in derived(design) if one.name == "maxconn"]
    assert [(one.subject, one.value, one.given is not None) for one in rows] == [
        ("haproxy on cp1", "10000", False),
        ("haproxy on cp2", "500", True),
        ("haproxy on cp3", "10000", False),
    ]
    assert {one.override for one in rows} == {f"machines.cp{i}.haproxy.global.maxconn" for i in (1, 2, 3)}


OVERRIDES = [
    ("keepalived", "advert_int", "0.7", "keepalived: {vrrp_instance: {advert_int: 0.7}}"),
    ("keepalived", "virtual_router_id", "77", "VIP, virtual_router_id: 77"),
    ("cluster", "endpoint port", "9443", "VIP, port: 9443"),
    ("cluster", "controlPlaneEndpoint", "api.example:8443", "VIP, host: api.example"),
    ("etcd", "election-timeout", "700 ms", "etcd: {election: 700ms}"),
    (
        "cluster",
        "certificate names",
        "only.example",
        "kubeadm: {ClusterConfiguration: {apiServer: {certSANs: [only.example]}}}",
    ),
    ("haproxy", "inter", "1s", "haproxy: {default-server: {inter: 1s}}"),
]
OVERRIDES_OF_NGINX = [
    ("nginx", "proxy_timeout", "1h", "nginx: {stream: {proxy_timeout: 1h}}"),
    ("nginx", "fail_timeout", "2s", "nginx: {upstream-server: {fail_timeout: 2s}}"),
    ("nginx", "least_conn", "(left out)", "nginx: {upstream: {least_conn: false}}"),
]


@pytest.mark.parametrize(("subject", "name", "value", "line"), OVERRIDES)
def test_the_key_that_is_named_overrides_the_value(subject: str, name: str, value: str, line: str) -> None:
    if line.startswith("VIP"):
        text = FILE.replace("192.0.2.100/24", line.replace("VIP", "192.0.2.100/24"))
    else:
        text = f"{FILE}{line}\n"
    before = row(derived(of_file(FILE)), subject, name)
    after = row(derived(of_file(text)), subject, name)
    assert before.value != value
    assert after.value == value
    assert after.given is not None
    assert after.given.key == before.override


@pytest.mark.parametrize(("subject", "name", "value", "line"), OVERRIDES_OF_NGINX)
def test_the_key_that_is_named_overrides_the_value_of_nginx(subject: str, name: str, value: str, line: str) -> None:
    text = f"{FILE}balancer: {{by: nginx}}\n"
    before, after = (row(derived(of_file(one)), subject, name) for one in (text, f"{text}{line}\n"))
    assert (before.value != value, after.value) == (True, value)
    assert after.given is not None
    assert after.given.key == before.override


def test_without_a_balancer_there_is_none_in_the_table() -> None:
    rows = derived(Design(balanced_by(BalancerProgram.NONE)))
    assert {one.subject.partition(" ")[0] for one in rows} == {"cluster", "etcd", "keepalived"}
    assert "nothing stands in front" in row(rows, "cluster", "endpoint port").because
    assert row(rows, "keepalived", "fall").value == "3"


def test_interfaces_are_measured_unless_the_file_names_them() -> None:
    text = FILE.replace("192.0.2.13}", "192.0.2.13, interface: bond0}")
    measured = {"cp1": Measured(interface="ens1"), "cp2": Measured(interface="ens2")}
    rows = [one for one in derived(replace(of_file(text), measured=measured)) if one.name == "interface"]
    assert [(one.value, one.override) for one in rows] == [
        ("ens1", "machines.cp1.interface"),
        ("ens2", "machines.cp2.interface"),
        ("bond0", "machines.cp3.interface"),
    ]
    assert [one.given.key if one.given else "" for one in rows] == ["", "", "machines.cp3.interface"]


def test_without_our_vip_there_is_no_keepalived_in_the_table() -> None:
    external = replace(three_nodes(), endpoint=replace(three_nodes().endpoint, by=EndpointOwner.EXTERNAL))
    subjects = {one.subject for one in derived(Design(external))}
    assert subjects == {"cluster", "etcd", "haproxy"}


def test_the_health_page_is_in_the_table_where_somebody_elses_load_balancer_has_to_know_it() -> None:
    assert "health page" not in {one.name for one in derived(Design(three_nodes()))}
    text = FILE.replace("/24}", "/24, outside: 203.0.113.7}")
    page = row(derived(of_file(text)), "cluster", "health page")
    assert page.value == "*:8404, GET /apiservers"
    assert "a load balancer in front asks" in page.because
    assert page.override == "endpoint.outside" and page.given


def test_etcd_of_its_own_is_reached_at_every_member() -> None:
    cluster = three_nodes()
    machines = {
        name: replace(one, roles=one.roles | {Role.ETCD}) if name != "cp3" else one
        for name, one in cluster.machines.items()
    }
    design = Design(replace(cluster, machines=machines, etcd=Etcd(EtcdTopology.EXTERNAL)))
    rows = derived(design)
    assert row(rows, "etcd", "client URLs").value == "https://192.0.2.11:2379, https://192.0.2.12:2379"
    assert row(rows, "etcd", "members").because == "machines of their own; 2 of 2 are the quorum"
    assert row(derived(Design(cluster)), "etcd", "client URLs").value == "https://127.0.0.1:2379"


def test_the_reason_for_the_port_depends_on_what_stands_beside_the_balancer() -> None:
    assert "taken by the apiserver" in row(derived(Design(three_nodes())), "cluster", "endpoint port").because
    cluster = three_nodes()
    machines = {
        **cluster.machines,
        "lb1": replace(cluster.machines["cp1"], name="lb1", roles=frozenset({Role.BALANCER})),
    }
    dedicated = replace(cluster, machines=machines, balancer=BalancerRole.BALANCER)
    assert "no apiserver runs" in row(derived(Design(dedicated)), "cluster", "endpoint port").because
