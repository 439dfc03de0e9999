"""cluster.yaml is read strictly: every error has a place and a sentence, and all come at once."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
import yaml
from tests.model.files import DEDICATED, FULL, NGINX, SMALLEST, read

from haplane.model import reading
from haplane.model.cluster import (
    BalancerProgram,
    BalancerRole,
    BundleSource,
    Cast,
    Cni,
    EndpointOwner,
    Etcd,
    EtcdTopology,
    Failover,
    Loss,
    Power,
    Role,
    Where,
)
from haplane.model.errors import InvalidFile, Problem


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidFile) as caught:
        read(text)
    return caught.value.problems


def test_the_smallest_file_gets_every_default() -> None:
    cluster = read(SMALLEST)
    assert (cluster.name, cluster.file) == ("prod", "cluster.yaml")
    assert cluster.kubernetes.version == "1.35.4"
    assert cluster.kubernetes.pods == (ip_network("10.244.0.0/16"),)
    assert cluster.kubernetes.services == (ip_network("10.96.0.0/16"),)
    assert cluster.kubernetes.cni is Cni.NONE
    assert (cluster.endpoint.vip, cluster.endpoint.port) == (ip_interface("192.0.2.100/24"), 8443)
    assert [source.kind for source in cluster.sources] == ["official", "go-modules"]
    assert cluster.sources[0].url == "https://dl.k8s.io"
    assert cluster.sources[0].registry == "https://registry.k8s.io"
    cp1 = cluster.machines["cp1"]
    assert (cp1.addresses, cp1.roles) == ((ip_address("192.0.2.11"),), {Role.CONTROL_PLANE})
    assert (cp1.interface, cp1.zone) == (None, None)
    assert (cp1.ssh.user, cp1.ssh.port, cp1.ssh.sudo, cp1.ssh.jump) == ("root", 22, False, None)
    assert (cluster.endpoint.by, cluster.endpoint.cast) == (EndpointOwner.KEEPALIVED, Cast.UNICAST)
    assert (cluster.endpoint.outside, cluster.endpoint.virtual_router_id) == (None, None)
    assert (cluster.balancer, cluster.etcd, cluster.failover) == (BalancerRole.CONTROL_PLANE, Etcd(), Failover())
    assert cluster.accept == {}
    assert not any((*cluster.keepalived.values(), *cluster.haproxy.values(), *cp1.keepalived.values()))


def test_a_full_file_is_read_whole() -> None:
    cluster = read(FULL)
    assert cluster.kubernetes.pods == (ip_network("10.200.0.0/16"), ip_network("fd00:1::/56"))
    assert (cluster.endpoint.port, cluster.endpoint.host, cluster.endpoint.virtual_router_id) == (
        9443,
        "api.prod.example",
        51,
    )
    assert cluster.sources[2] == BundleSource(kind="directory", path=Path("/cluster/bundle"))
    assert cluster.sources[3].url == "http://127.0.0.1:8000"
    assert cluster.power == Power("virsh destroy {name}", "wake {address}", "virsh suspend {name}", "wake {name}")
    assert [machine.name for machine in cluster.control_plane] == ["cp1", "cp2"]
    assert cluster.failover == Failover(target_ms=500, survive=Loss.ZONE, tell_clients=False)
    assert cluster.etcd == Etcd(heartbeat_ms=30, election_ms=300)
    assert cluster.endpoint.cast is Cast.MULTICAST
    assert cluster.accept == {"vip-failback-outage": "the boss likes the first machine"}
    assert (cluster.machines["cp1"].interface, cluster.machines["cp1"].zone) == ("eth0", "rack-a")


def test_settings_of_keepalived_and_haproxy_are_kept_by_section_for_all_and_for_one_machine() -> None:
    cluster = read(FULL)
    cp1, cp2 = cluster.machines["cp1"], cluster.machines["cp2"]
    assert cluster.keepalived["vrrp_instance"] == {"advert_int": 0.2, "nopreempt": False}
    assert cluster.haproxy["defaults"] == {"timeout tunnel": "1h", "option redispatch": False}
    assert cluster.haproxy["default-server"] == {"slowstart": False, "inter": "1s"}
    assert cluster.haproxy["global"] == {"maxconn": 4000}
    assert cp1.keepalived["vrrp_instance"] == {"priority": 120}
    assert cp1.keepalived["vrrp_script"] == {"init_fail": True}
    assert cp2.haproxy["frontend"] == {"maxconn": 100}


def test_balancers_and_etcd_may_have_machines_of_their_own() -> None:
    cluster = read(DEDICATED)
    assert (cluster.balancer, cluster.etcd.topology) == (BalancerRole.BALANCER, EtcdTopology.EXTERNAL)
    assert [machine.name for machine in cluster.balancers] == ["lb1", "lb2"]
    assert [machine.name for machine in cluster.etcd_members] == ["cp1", "et1"]
    assert [machine.name for machine in cluster.with_role(Role.WORKER)] == ["w1"]
    assert cluster.endpoint.port == 6443, "no apiserver is beside the balancer"


@pytest.mark.parametrize(
    ("lines", "port"),
    [
        ("balancer: {by: nginx}\n", 8443),
        ("balancer: {by: none}\n", 6443),
        ("balancer: {by: none, role: control-plane}\n", 6443),
    ],
)
def test_the_port_is_the_apiservers_own_where_nothing_is_in_front_of_them(lines: str, port: int) -> None:
    assert read(SMALLEST + lines).endpoint.port == port


def test_a_load_balancer_of_yours_in_front_of_apiservers_may_have_any_port() -> None:
    text = SMALLEST.replace("192.0.2.100/24", "192.0.2.100/24, by: external, port: 443") + "balancer: {by: none}\n"
    cluster = read(text)
    assert (cluster.endpoint.port, cluster.balanced_by) == (443, BalancerProgram.NONE)


def test_settings_of_nginx_are_kept_by_block_for_all_and_for_one_machine() -> None:
    cluster = read(NGINX)
    assert cluster.balanced_by is BalancerProgram.NGINX
    assert cluster.nginx["stream"] == {"proxy_timeout": "1h", "proxy_socket_keepalive": False}
    assert cluster.nginx["upstream-server"] == {"fail_timeout": "2s"}
    assert cluster.machines["cp2"].nginx["events"] == {"worker_connections": 4000}


def test_an_endpoint_and_a_machine_may_have_an_address_of_each_ip_version() -> None:
    cluster = read(DEDICATED)
    lb1 = cluster.machines["lb1"]
    assert cluster.endpoint.vips == (ip_interface("192.0.2.100/24"), ip_interface("2001:db8::100/64"))
    assert cluster.endpoint.outside == ip_address("203.0.113.7")
    assert (lb1.address, lb1.address_of(6)) == (ip_address("192.0.2.5"), ip_address("2001:db8::5"))
    assert cluster.machines["w1"].address_of(4) is None


@pytest.mark.parametrize(
    ("written", "milliseconds"), {"500ms": 500, "1.5s": 1500, "1.001s": 1001, "2m": 120_000, "0.5s": 500}.items()
)
def test_a_time_is_read_with_its_unit(written: str, milliseconds: int) -> None:
    assert read(SMALLEST + f"failover: {{target: {written}}}\n").failover.target_ms == milliseconds


def test_each_key_has_a_place_and_what_is_not_in_the_file_the_place_around_it() -> None:
    cluster = read(FULL)
    assert cluster.where("endpoint", "port") == Where("cluster.yaml", 7, 33, "endpoint.port")
    assert cluster.where("endpoint", "by") == Where("cluster.yaml", 7, 1, "endpoint")
    assert cluster.where("bundle", "sources", 2).line == 17
    priority = cluster.where("machines", "cp1", "keepalived", "vrrp_instance", "priority")
    assert (priority.line, priority.key) == (35, "machines.cp1.keepalived.vrrp_instance.priority")
    assert cluster.where("machines", "cp9") == Where("cluster.yaml", 29, 1, "machines")
    assert cluster.where("zones") == Where("cluster.yaml", 1, 1, "")


def test_a_machine_overrides_the_common_ssh_section_key_by_key() -> None:
    machines = read(FULL).machines
    cp1, cp2, bastion = (machines[name].ssh for name in ("cp1", "cp2", "bastion"))
    assert (cp1.user, cp1.port, cp1.sudo, cp1.jump) == ("root", 2222, False, "bastion")
    assert (cp2.user, cp2.port, cp2.sudo, cp2.jump) == ("ops", 22, True, None)
    assert bastion.jump is None, "the jump host is reached without itself"


def test_paths_begin_where_the_file_is_and_a_tilde_stays() -> None:
    ssh = read(FULL).machines["cp1"].ssh
    assert (ssh.key, ssh.known_hosts) == (Path("/cluster/keys/id"), Path("~/.ssh/known_hosts"))


def test_what_is_passed_through_keeps_its_types() -> None:
    cluster = read(FULL)
    assert cluster.kubeadm == {"ClusterConfiguration": {"apiServer": {"extraArgs": [{"name": "v", "value": "2"}]}}}
    assert cluster.kubelet["evictionHard"] == {"memory.available": "5%"}
    assert cluster.kubelet["some"] == [1.5, None, None, "", True, False, "2026-01-01"]
    assert cluster.containerd == {"SystemdCgroup": True}


# Each changes one line of SMALLEST (line number, its new text) and expects one problem: line, column, key, and words
# of what is wrong and of the fix.
ONE_WRONG_LINE = {
    "a version read as a float": (
        (2, "kubernetes: {version: 1.30}"),
        (2, 23, "kubernetes.version", "1.30 is a number to YAML", "for example 1.30.0"),
    ),
    "a version of two parts": (
        (2, "kubernetes: {version: '1.35'}"),
        (2, 23, "kubernetes.version", "not a full version", "for example 1.35.0"),
    ),
    "a version with a v": (
        (2, "kubernetes: {version: v1.35.4}"),
        (2, 23, "kubernetes.version", "begins with a v", "write 1.35.4"),
    ),
    "a version that is too old": (
        (2, "kubernetes: {version: 1.33.1}"),
        (2, 23, "kubernetes.version", "not supported", ""),
    ),
    "a missing version": ((2, "kubernetes: {cni: none}"), (2, 1, "kubernetes.version", "missing", "add version:")),
    "an unknown choice": (
        (2, "kubernetes: {version: 1.35.4, cni: brigde}"),
        (2, 36, "kubernetes.cni", "not known", "bridge"),
    ),
    "a network with host bits": (
        (2, "kubernetes: {version: 1.35.4, pods: 10.9.0.1/16}"),
        (2, 37, "kubernetes.pods", "inside a network", "write 10.9.0.0/16"),
    ),
    "two networks of one family": (
        (2, "kubernetes: {version: 1.35.4, pods: [10.8.0.0/16, 10.9.0.0/16]}"),
        (2, 37, "kubernetes.pods", "a list has two of IPv4", ""),
    ),
    "a VIP without a prefix": (
        (3, "endpoint: {vip: 192.0.2.100}"),
        (3, 17, "endpoint.vip", "has no prefix", "192.0.2.100/24"),
    ),
    "a VIP that is a network": ((3, "endpoint: {vip: 192.0.2.0/24}"), (3, 17, "endpoint.vip", "network 192", "")),
    "a VIP that is a broadcast address": (
        (3, "endpoint: {vip: 192.0.2.255/24}"),
        (3, 17, "endpoint.vip", "is the broadcast address of 192.0.2.0/24", ""),
    ),
    "a port that is none": (
        (3, "endpoint: {vip: 192.0.2.100/24, port: 65536}"),
        (3, 39, "endpoint.port", "out of range", ""),
    ),
    "a number in quotes": (
        (3, "endpoint: {vip: 192.0.2.100/24, port: '9443'}"),
        (3, 39, "endpoint.port", "not a whole number", "write 9443 without quotes"),
    ),
    "an address as host": (
        (3, "endpoint: {vip: 192.0.2.100/24, host: 192.0.2.9}"),
        (3, 39, "endpoint.host", "is an address", "leave it out"),
    ),
    "an address out of range": (
        (6, "  cp2: {address: 192.0.2.300}"),
        (6, 18, "machines.cp2.address", "192.0.2.300 is not an IP address", ""),
    ),
    "an address with a prefix": (
        (6, "  cp2: {address: 192.0.2.12/24}"),
        (6, 18, "machines.cp2.address", "has a prefix", "write 192.0.2.12"),
    ),
    "a machine named twice": (
        (6, "  cp1: {address: 192.0.2.12}"),
        (6, 3, "machines.cp1", "already given in line 5", "remove one or rename it"),
    ),
    "a key given twice": (
        (6, "  cp2: {address: 192.0.2.12, address: 192.0.2.13}"),
        (6, 30, "machines.cp2.address", "already given in line 6", ""),
    ),
    "a name in capitals": ((6, "  CP2: {address: 192.0.2.12}"), (6, 3, "machines.CP2", "not a DNS label", "")),
    "an unknown key": (
        (6, "  cp2: {address: 192.0.2.12, role: [client]}"),
        (6, 30, "machines.cp2.role", "not known here", "write roles"),
    ),
    "a key that lacks the space": (
        (6, "  cp2: {address: 192.0.2.12, interface:eth0}"),
        (6, 30, "machines.cp2.interface:eth0", "not known here", "space after the colon"),
    ),
    "an unknown key at the top": (
        (1, "name: prod\nmachine: {}"),
        (2, 1, "machine", "not known here", "write machines"),
    ),
    "text for a list": (
        (6, "  cp2: {address: 192.0.2.12, roles: client}"),
        (6, 37, "machines.cp2.roles", "not a list", "write [client]"),
    ),
    "an unknown role": (
        (6, "  cp2: {address: 192.0.2.12, roles: [contrl-plane]}"),
        (6, 38, "machines.cp2.roles[0]", "not known", "write control-plane"),
    ),
    "an empty machine": ((6, "  cp2:"), (6, 7, "machines.cp2", "an empty value is not a mapping", "")),
    "yes for true": ((1, "name: prod\nssh: {sudo: yes}"), (2, 13, "ssh.sudo", "yes is true to some", "write true")),
    "off for text": ((1, "name: off"), (1, 7, "name", "off is false to some", '"off"')),
    "an octal number": (
        (1, "name: prod\nssh: {port: 022}"),
        (2, 13, "ssh.port", "022 is not the same number", "decimal"),
    ),
    "a number by sixties": ((1, "name: 190:20"), (1, 7, "name", "190:20 is not the same number", '"190:20"')),
    "a time of day": ((1, "name: 12:30:45"), (1, 7, "name", "12:30:45 is not the same number", "")),
    "a number that is too large": (
        (1, "name: prod\nkubelet: {maxPods: 1" + "0" * 5000 + "}"),
        (2, 20, "kubelet.maxPods", "too large a number", ""),
    ),
    "a number for text": ((1, "name: 5"), (1, 7, "name", "5 is not text", 'write "5"')),
    "an anchor": ((6, "  cp2: &x {address: 192.0.2.12}"), (6, 8, "machines.cp2", "an anchor (&x)", "write it out")),
    "an alias": ((6, "  cp2: *x"), (6, 8, "machines.cp2", "an alias (*x)", "write it out")),
    "a merge key": ((6, "  cp2: {<<: *x}"), (6, 9, "machines.cp2.<<", "a merge key", "write it out")),
    "an explicit tag": ((1, "name: !!python/object:os.system prod"), (1, 7, "name", "a tag", "remove it")),
    "a list as key": ((6, "  ? [a]\n  : {address: 192.0.2.12}"), (6, 5, "machines", "a list as a key", "")),
    "a value without key": (
        (6, "  cp2: {'': a, address: 192.0.2.12}"),
        (6, 9, "machines.cp2", "a value without a key", ""),
    ),
    "a second document": (
        (6, "  cp2: {address: 192.0.2.12}\n---\nname: prod"),
        (7, 1, "", "a second document begins here", ""),
    ),
    "a tab": ((6, "\tcp2: {address: 192.0.2.12}"), (6, 1, "", "a tab", "indent with spaces")),
    "a colon too many": ((1, "name: a: b"), (1, 8, "", "a colon where no key can be", "")),
    "a quote that stays open": ((1, 'name: "prod'), (1, 7, "", "a quotation mark is never closed", "close it")),
    "a list that stays open": ((1, "name: [a, b"), (2, 11, "", "a list in brackets", "")),
    "a wrong indentation": ((6, " cp2: {address: 192.0.2.12}"), (6, 2, "", "does not fit the lines above", "indent")),
    "a directive": ((1, "%YAML 1.1\n---\nname: prod"), (1, 1, "", "a directive", "remove it")),
    "a NUL": ((1, "name: pr\0od"), (1, 9, "", "character U+0000 is not text", "")),
    "a byte that is not UTF-8": ((1, "name: pr\udcffod"), (1, 9, "", "byte 0xff is not text", "")),
    "an escaped NUL": ((1, 'name: prod\nkubelet: {a: "\\0"}'), (2, 14, "kubelet.a", "not text", "")),
    "another name in a power command": (
        (1, 'name: prod\npower: {off: "off {nam}", on: "on {name}"}'),
        (2, 14, "power.off", "has the field {nam}", ""),
    ),
    "half of power": ((1, "name: prod\npower: {off: a}"), (2, 1, "power.on", "missing", "add on:")),
    "frozen for ever": (
        (1, "name: prod\npower: {off: a, on: b, freeze: c}"),
        (2, 24, "power.freeze", "no meaning without power.thaw", "add thaw:"),
    ),
    "a key that haplane writes": (
        (1, "name: prod\nkubeadm: {ClusterConfiguration: {kubernetesVersion: v1.35.4}}"),
        (2, 34, "kubeadm.ClusterConfiguration.kubernetesVersion", "written by haplane", "kubernetes.version"),
    ),
    "another kind of kubeadm's": (
        (1, "name: prod\nkubeadm: {ResetConfiguration: {}}"),
        (2, 11, "kubeadm.ResetConfiguration", "not known here", ""),
    ),
    "a list under containerd": (
        (1, "name: prod\ncontainerd: {a: [b]}"),
        (2, 17, "containerd.a", "a list is not one value", ""),
    ),
    "an unknown source": (
        (1, "name: prod\nbundle: {sources: [oficial]}"),
        (2, 20, "bundle.sources[0]", "not known", "write official"),
    ),
    "two sources in one": (
        (1, "name: prod\nbundle: {sources: [{directory: a, official: {}}]}"),
        (2, 20, "bundle.sources[0]", "one source", ""),
    ),
    "a wrong URL": (
        (1, "name: prod\nbundle: {sources: [{official: {url: ftp://a}}]}"),
        (2, 37, "bundle.sources[0].official.url", "ftp://a is not a URL", ""),
    ),
    "a jump with blanks": ((1, "name: prod\nssh: {jump: a b}"), (2, 13, "ssh.jump", "not a host to jump over", "")),
    "jumps in a circle": (
        (6, "  cp2: {address: 192.0.2.12, ssh: {jump: cp2}}"),
        (6, 42, "machines.cp2.ssh.jump", "in a circle: cp2 over cp2", ""),
    ),
    "a tab after the indentation": (
        (6, "  cp2:\n    address: 192.0.2.12\n  \tzone: a"),
        (8, 3, "", "a tab where YAML has spaces", "indent with spaces"),
    ),
    "a tab before a list": (
        (6, "  cp2:\n    address: 192.0.2.12\n    roles:\n\t- client"),
        (9, 1, "", "a tab where YAML has spaces", "indent with spaces"),
    ),
    "n for false": ((1, "name: n"), (1, 7, "name", "n is false to some YAML readers", '"n"')),
    "a switch in capitals": (
        (1, "name: prod\nfailover: {tell_clients: OFF}"),
        (2, 26, "failover.tell_clients", "OFF is false to some", "write false"),
    ),
    "a switch as zone": (
        (6, "  cp2: {address: 192.0.2.12, zone: no}"),
        (6, 36, "machines.cp2.zone", "no is false to some", '"no"'),
    ),
    "a hexadecimal number": (
        (1, "name: prod\nkubelet: {a: 0x1F}"),
        (2, 14, "kubelet.a", "0x1F is not the same number", "decimal"),
    ),
    "an octal number of YAML 1.2": (
        (1, "name: prod\nkubelet: {a: 0o17}"),
        (2, 14, "kubelet.a", "0o17 is not the same number", "decimal"),
    ),
    "a binary number": ((1, "name: prod\nkubelet: {a: 0b11}"), (2, 14, "kubelet.a", "0b11 is not the same", "")),
    "a number with underscores": (
        (1, "name: prod\nkubelet: {a: 1_000}"),
        (2, 14, "kubelet.a", "1_000 is not the same", "decimal"),
    ),
    "a fraction by sixties": (
        (1, "name: prod\nkubelet: {a: 1:30.5}"),
        (2, 14, "kubelet.a", "1:30.5 is not the same", '"1:30.5"'),
    ),
    "infinity": ((1, "name: prod\nkubelet: {a: -.inf}"), (2, 14, "kubelet.a", "-.inf is not the same number", "")),
    "a version that loses its last zero": (
        (2, "kubernetes: {version: 1.350}"),
        (2, 23, "kubernetes.version", "1.350 is a number to YAML", "for example 1.350.0"),
    ),
    "a machine named twice, once in quotes": (
        (6, '  "cp1": {address: 192.0.2.12}'),
        (6, 3, "machines.cp1", "already given in line 5", "rename"),
    ),
    "a key given twice in a section that is passed through": (
        (1, "name: prod\nkubelet: {evictionHard: {a: 1, a: 2}}"),
        (2, 32, "kubelet.evictionHard.a", "already given in line 2", ""),
    ),
    # ---- the endpoint ----
    "two IPv4 VIPs": (
        (3, "endpoint: {vip: [192.0.2.100/24, 192.0.2.101/24]}"),
        (3, 17, "endpoint.vip", "a list has two of IPv4", ""),
    ),
    "three VIPs": (
        (3, 'endpoint: {vip: [192.0.2.100/24, 192.0.2.101/24, "2001:db8::1/64"]}'),
        (3, 17, "endpoint.vip", "a list has more than two", ""),
    ),
    "no VIP": ((3, "endpoint: {vip: []}"), (3, 17, "endpoint.vip", "a list is empty", "")),
    "one of two VIPs is wrong": (
        (3, "endpoint: {vip: [192.0.2.100/24, 2001:db8::1]}"),
        (3, 34, "endpoint.vip[1]", "2001:db8::1 has no prefix", "2001:db8::1/64"),
    ),
    "a VIP that is a mapping": (
        (3, "endpoint: {vip: {address: 192.0.2.100/24}}"),
        (3, 17, "endpoint.vip", "a mapping is not a list", ""),
    ),
    "an unknown owner of the endpoint": (
        (3, "endpoint: {vip: 192.0.2.100/24, by: keepalive}"),
        (3, 37, "endpoint.by", "keepalive is not known", "write keepalived"),
    ),
    "an outside address with a prefix": (
        (3, "endpoint: {vip: 192.0.2.100/24, outside: 203.0.113.7/24}"),
        (3, 42, "endpoint.outside", "has a prefix", "write 203.0.113.7"),
    ),
    "a list of outside addresses": (
        (3, "endpoint: {vip: 192.0.2.100/24, outside: [203.0.113.7]}"),
        (3, 42, "endpoint.outside", "a list is not an IP address", ""),
    ),
    "an unknown cast": (
        (3, "endpoint: {vip: 192.0.2.100/24, cast: multi-cast}"),
        (3, 39, "endpoint.cast", "multi-cast is not known", "write multicast"),
    ),
    "a router id that is too large": (
        (3, "endpoint: {vip: 192.0.2.100/24, virtual_router_id: 256}"),
        (3, 52, "endpoint.virtual_router_id", "256 is out of range", ""),
    ),
    "a router id where keepalived does not run": (
        (3, "endpoint: {vip: 192.0.2.100/24, by: external, virtual_router_id: 5}"),
        (3, 47, "endpoint.virtual_router_id", "no meaning with endpoint.by: external", "remove it"),
    ),
    "settings of a keepalived that does not run": (
        (3, "endpoint: {vip: 192.0.2.100/24, by: external}\nkeepalived: {vrrp_script: {fall: 3}}"),
        (4, 1, "keepalived", "no meaning with endpoint.by: external", "remove it"),
    ),
    # ---- machines ----
    "two IPv6 addresses": (
        (6, '  cp2: {address: ["2001:db8::1", "2001:db8::2"]}'),
        (6, 18, "machines.cp2.address", "a list has two of IPv6", ""),
    ),
    "a zone in capitals": (
        (6, "  cp2: {address: 192.0.2.12, zone: Rack_A}"),
        (6, 36, "machines.cp2.zone", "Rack_A is not a DNS label", ""),
    ),
    "a zone that is a number": (
        (6, "  cp2: {address: 192.0.2.12, zone: 1}"),
        (6, 36, "machines.cp2.zone", "1 is not text", 'write "1"'),
    ),
    "a list of zones": (
        (6, "  cp2: {address: 192.0.2.12, zone: [a]}"),
        (6, 36, "machines.cp2.zone", "a list is not text", ""),
    ),
    "a machine for an etcd that is not external": (
        (6, "  cp2: {address: 192.0.2.12, roles: [control-plane, etcd]}"),
        (6, 53, "machines.cp2.roles[1]", "nothing uses the role etcd", "write etcd: {topology: external}"),
    ),
    "a machine for a balancer that is elsewhere": (
        (6, "  cp2: {address: 192.0.2.12, roles: [balancer]}"),
        (6, 38, "machines.cp2.roles[0]", "nothing uses the role balancer", "write balancer: {role: balancer}"),
    ),
    "a misspelt topology, of which the roles say what was meant": (
        (6, "  cp2: {address: 192.0.2.12, roles: [etcd]}\netcd: {topology: exernal}"),
        (7, 18, "etcd.topology", "exernal is not known", "write external"),
    ),
    "a topology that is no mapping": (
        (6, "  cp2: {address: 192.0.2.12, roles: [etcd]}\netcd: external"),
        (7, 7, "etcd", "external is not a mapping of keys to values", ""),
    ),
    "an external etcd without machines": (
        (1, "name: prod\netcd: {topology: external}"),
        (2, 18, "etcd.topology", "no machine has the role etcd", ""),
    ),
    "a dedicated balancer without machines": (
        (1, "name: prod\nbalancer: {role: balancer}"),
        (2, 18, "balancer.role", "no machine has the role balancer", ""),
    ),
    "nginx on workers": (
        (1, "name: prod\nbalancer: {by: nginx, on_workers: true}"),
        (2, 35, "balancer.on_workers", "no meaning with balancer.by: nginx", "remove it, or let haproxy balance"),
    ),
    "services without room": (
        (2, "kubernetes: {version: 1.35.4, services: 10.96.0.0/29}"),
        (2, 41, "kubernetes.services", "10.96.0.0/29 has only 8 addresses", ""),
    ),
    "a backend of flannel without it": (
        (2, "kubernetes: {version: 1.35.4, cni: bridge, flannel: {backend: vxlan}}"),
        (2, 44, "kubernetes.flannel", "no meaning with kubernetes.cni: bridge", "remove it, or write cni: flannel"),
    ),
    "another balancer": (
        (1, "name: prod\nbalancer: {by: nginxx}"),
        (2, 16, "balancer.by", "nginxx is not known", "write nginx"),
    ),
    "settings of a balancer that does not run": (
        (1, "name: prod\nbalancer: {by: nginx}\nhaproxy: {global: {maxconn: 5}}"),
        (3, 1, "haproxy", "no meaning with balancer.by: nginx", "remove it, or write balancer: {by: haproxy}"),
    ),
    "settings of nginx without saying that it balances": (
        (1, "name: prod\nnginx: {stream: {proxy_timeout: 1h}}"),
        (2, 1, "nginx", "no meaning with balancer.by: haproxy", "remove it, or write balancer: {by: nginx}"),
    ),
    "settings of a machine's balancer where there is none": (
        (6, "  cp2: {address: 192.0.2.12, nginx: {}}\nbalancer: {by: none}"),
        (6, 30, "machines.cp2.nginx", "no meaning with balancer.by: none", "remove it"),
    ),
    "machines of its own for no balancer": (
        (1, "name: prod\nbalancer: {by: none, role: balancer}"),
        (2, 28, "balancer.role", "no meaning with balancer.by: none", "remove it"),
    ),
    "a machine for no balancer": (
        (6, "  cp2: {address: 192.0.2.12, roles: [control-plane, balancer]}\nbalancer: {by: none}"),
        (6, 53, "machines.cp2.roles[1]", "nothing uses the role balancer", "leave the role out"),
    ),
    "another port than the apiservers' without a balancer": (
        (3, "endpoint: {vip: 192.0.2.100/24, port: 8443}\nbalancer: {by: none}"),
        (3, 39, "endpoint.port", "nobody listens on 8443", "leave it out"),
    ),
    # ---- times ----
    "a time without a unit": (
        (1, "name: prod\nfailover: {target: 500}"),
        (2, 20, "failover.target", "500 has no unit", "write 500ms or 500s"),
    ),
    "a time below one without a unit": (
        (1, "name: prod\nfailover: {target: 0.5}"),
        (2, 20, "failover.target", "0.5 has no unit", "write 0.5s"),
    ),
    "a time with a long unit": (
        (1, "name: prod\nfailover: {target: 2 seconds}"),
        (2, 20, "failover.target", "2 seconds is not a time", "write 2s"),
    ),
    "a time with a blank": (
        (1, "name: prod\netcd: {heartbeat: 100 msec}"),
        (2, 19, "etcd.heartbeat", "100 msec is not a time", "write 100ms"),
    ),
    "a time in days": (
        (1, "name: prod\netcd: {election: 1d}"),
        (2, 18, "etcd.election", "1d is not a time", ""),
    ),
    "a time by sixties": (
        (1, "name: prod\nfailover: {target: 1:30}"),
        (2, 20, "failover.target", "1:30 is not the same number", ""),
    ),
    "a time that is negative": (
        (1, "name: prod\nfailover: {target: -5}"),
        (2, 20, "failover.target", "-5 is not a time", ""),
    ),
    "a part of a millisecond": (
        (1, "name: prod\nfailover: {target: 0.5ms}"),
        (2, 20, "failover.target", "0.5ms is not a whole number of milliseconds", ""),
    ),
    "a loss that is none": (
        (1, "name: prod\nfailover: {survive: zones}"),
        (2, 21, "failover.survive", "zones is not known", "write zone"),
    ),
    "a number for a switch": (
        (1, "name: prod\nfailover: {tell_clients: 1}"),
        (2, 26, "failover.tell_clients", "1 is not true or false", ""),
    ),
    # ---- accepted hazards ----
    "a hazard accepted for no reason": (
        (1, "name: prod\naccept: {topo-single-provider: }"),
        (2, 32, "accept.topo-single-provider", "an empty value is not text", "give it a value"),
    ),
    "a hazard accepted with an empty reason": (
        (1, "name: prod\naccept: {topo-single-provider: ''}"),
        (2, 32, "accept.topo-single-provider", "'' gives no reason", ""),
    ),
    "a hazard accepted by a switch": (
        (1, "name: prod\naccept: {topo-single-provider: true}"),
        (2, 32, "accept.topo-single-provider", "true is not text", ""),
    ),
    "a list of accepted hazards": (
        (1, "name: prod\naccept: [topo-single-provider]"),
        (2, 9, "accept", "a list is not a mapping", ""),
    ),
    "an id that no hazard can have": (
        (1, "name: prod\naccept: {Topo: because}"),
        (2, 10, "accept.Topo", "is not the id of a hazard", ""),
    ),
    # ---- settings of components ----
    "an unknown section of keepalived": (
        (1, "name: prod\nkeepalived: {vrrp_instances: {}}"),
        (2, 14, "keepalived.vrrp_instances", "not known here", "write vrrp_instance"),
    ),
    "an unknown section of HAProxy": (
        (1, "name: prod\nhaproxy: {globals: {}}"),
        (2, 11, "haproxy.globals", "not known here", "write global"),
    ),
    "a section of HAProxy by its name in Python": (
        (1, "name: prod\nhaproxy: {default_server: {}}"),
        (2, 11, "haproxy.default_server", "not known here", "write default-server"),
    ),
    "an unknown section of one machine's HAProxy": (
        (6, "  cp2: {address: 192.0.2.12, haproxy: {global_: {}}}"),
        (6, 40, "machines.cp2.haproxy.global_", "not known here", "write global"),
    ),
    "a keyword that is none": (
        (1, "name: prod\nhaproxy: {defaults: {'timeout  tunnel': 1h}}"),
        (2, 22, "haproxy.defaults.timeout  tunnel", "is not a keyword", ""),
    ),
    "a keyword in a section with another name in Python": (
        (1, "name: prod\nhaproxy: {global: {'a{': 1}}"),
        (2, 20, "haproxy.global.a{", "a{ is not a keyword", ""),
    ),
    "a keyword that lacks the space": (
        (1, "name: prod\nkeepalived: {vrrp_instance: {advert_int:0.2}}"),
        (2, 30, "keepalived.vrrp_instance.advert_int:0.2", "is not a keyword", "space after the colon"),
    ),
    "arguments over two lines": (
        (1, 'name: prod\nhaproxy: {defaults: {mode: "tcp\\nlog global"}}'),
        (2, 28, "haproxy.defaults.mode", "is more than one line", ""),
    ),
    "a list of arguments": (
        (1, "name: prod\nkeepalived: {vrrp_instance: {advert_int: [1]}}"),
        (2, 42, "keepalived.vrrp_instance.advert_int", "a list is not one value", ""),
    ),
    "a keyword without arguments": (
        (1, "name: prod\nkeepalived: {vrrp_instance: {nopreempt: }}"),
        (2, 41, "keepalived.vrrp_instance.nopreempt", "is empty", ""),
    ),
    "a keyword where a section must be": (
        (1, "name: prod\nkeepalived: {vrrp_instance: nopreempt}"),
        (2, 29, "keepalived.vrrp_instance", "nopreempt is not a mapping", ""),
    ),
    "a router id past the endpoint": (
        (1, "name: prod\nkeepalived: {vrrp_instance: {virtual_router_id: 5}}"),
        (2, 30, "keepalived.vrrp_instance.virtual_router_id", "written by haplane", "endpoint.virtual_router_id"),
    ),
    "an interface past the machine": (
        (6, "  cp2: {address: 192.0.2.12, keepalived: {vrrp_instance: {interface: eth1}}}"),
        (
            6,
            59,
            "machines.cp2.keepalived.vrrp_instance.interface",
            "written by haplane",
            "say it with machines.cp2.interface",
        ),
    ),
}


@pytest.mark.parametrize("case", ONE_WRONG_LINE)
def test_one_wrong_line_is_one_problem_with_its_place(case: str) -> None:
    (number, line), expected = ONE_WRONG_LINE[case]
    lines = SMALLEST.splitlines()
    lines[number - 1] = line
    at_line, column, key, what, fix = expected
    (found,) = problems("\n".join(lines) + "\n")
    assert (found.file, found.line, found.column, found.key) == ("cluster.yaml", at_line, column, key)
    assert what in found.what
    assert fix in found.fix
    assert found.expected or found.fix


@pytest.mark.parametrize(
    ("text", "what"),
    {
        "": "the file is empty",
        "# nothing yet\n": "the file is empty",
        "---\n": "the file is empty",
        "- name: prod\n": "the file is a list",
        "prod": "the file is text",
        "*prod": "the file is an alias",
        "[" * 500_000: "more than 64 levels",
        "[a," * 300_000: "more than 64 levels",
        "- " * 500_000: "more than 64 levels",
        "? " * 500_000: "more than 64 levels",
        "- a\n" * 250_000: "more than 40000 keys and values",
        "a: &a [x]\nb: [" + "*a," * 300_000: "more than 40000 keys and values",
        "%TAG !a! b\n" * 80_000: "a directive",
        "a" * 50_000_000: "the file has 50000000 characters",
        '"' + "a\n" * 500_000: "a quotation mark is never closed",
        'a: "\\UFFFFFFFF"': "a backslash that means nothing",
        "\x7fELF\x02\x01\x01\0\0\0": "character U+007F is not text",
        "a: [1, 2": "a list in brackets goes on wrongly or is never closed",
        "a: 1\nb\nc: 2": "a key without a colon",
        "a: @b": "a value cannot begin with @",
    }.items(),
    ids=lambda value: value[:20],
)
def test_a_file_that_is_no_mapping_is_refused_with_a_sentence(text: str, what: str) -> None:
    assert any(what in problem.what for problem in problems(text))


def test_all_that_is_wrong_comes_at_once_in_the_order_of_the_file() -> None:
    found = problems("""\
name: Prod
kubernetes: {version: 1.30, pods: 10.244.0.0/33}
endpoint: {vip: 10.0.9.100/24, prot: 8443}
ssh: {sudo: on, port: 0x16}
machines:
  cp1: {address: 192.0.2.300}
  cp2: {address: 10.0.9.2, roles: worker}
  cp3: {address: 10.0.9.2}
  cp3: {address: 10.0.9.3}
  cp4: {}
""")
    assert [(problem.line, problem.key) for problem in found] == [
        (1, "name"),
        (2, "kubernetes.version"),
        (2, "kubernetes.pods"),
        (3, "endpoint.prot"),
        (4, "ssh.sudo"),
        (4, "ssh.port"),
        (6, "machines.cp1.address"),
        (7, "machines.cp2.roles"),
        (9, "machines.cp3"),
        (10, "machines.cp4.address"),
    ]


def test_a_broken_line_does_not_hide_what_was_read_before_it() -> None:
    assert [problem.line for problem in problems(SMALLEST.replace("prod", "&x prod") + " cp3: {}\n")] == [1, 7]


def test_at_least_one_machine_must_be_a_control_plane_machine() -> None:
    (found,) = problems(SMALLEST.replace("192.0.2.11}", "192.0.2.11, roles: [client]}").replace("  cp2", "# cp2"))
    assert (found.line, found.column, found.key) == (4, 1, "machines")
    assert "no machine is a control-plane machine" in found.what


def test_keys_may_be_words_that_are_refused_as_values() -> None:
    cluster = read(SMALLEST + "kubelet: {on: 1, 010: 2, yes: 3, 1.30: 4}\n")
    assert list(cluster.kubelet) == ["on", "010", "yes", "1.30"]


def test_quotes_make_text_of_anything() -> None:
    cluster = read(SMALLEST + "kubelet: {a: 'on', b: \"010\", c: '12:30:45', d: '', e: '1.30', f: '~'}\n")
    assert list(cluster.kubelet.values()) == ["on", "010", "12:30:45", "", "1.30", "~"]


def test_a_chain_of_jump_hosts_is_no_circle() -> None:
    read(
        SMALLEST.replace("machines:", "ssh: {jump: inner}\nmachines:")
        + "  inner: {address: 203.0.113.1, roles: [client], ssh: {jump: outer}}\n"
        + "  outer: {address: 203.0.113.2, roles: [client], ssh: {jump: }}\n"
    )


def test_an_error_never_shows_control_characters_of_the_file() -> None:
    (found,) = problems(SMALLEST.replace("prod", '"\\e[31m\\n' + "x" * 5000 + '"'))
    assert found.what.isprintable()
    assert len(found.what) < 200


@pytest.mark.parametrize("key", ["[key]", "[name]", "[mapping]", "[", "0", " "])
def test_keys_that_look_like_a_place_are_only_unknown(key: str) -> None:
    found = problems(SMALLEST + f'  "{key}": {{address: 192.0.2.13, "{key}": 1}}\n"{key}": 1\n')
    assert {(7, 3), (7, 29 + len(key)), (8, 1)} >= {(problem.line, problem.column) for problem in found}
    assert found[-1].key == key


@pytest.mark.parametrize("case", ONE_WRONG_LINE)
def test_without_libyaml_the_same_lines_are_refused(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "Loader", yaml.SafeLoader)
    (number, line), (at_line, *_) = ONE_WRONG_LINE[case]
    lines = SMALLEST.splitlines()
    lines[number - 1] = line
    assert [problem.line for problem in problems("\n".join(lines) + "\n")] == [at_line]


def test_an_anchor_does_not_hide_a_key_given_twice() -> None:
    found = problems(SMALLEST + "  cp3: &a {address: 192.0.2.13}\n  cp3: *a\n")
    assert [(problem.line, problem.column, problem.key) for problem in found] == [
        (7, 8, "machines.cp3"),
        (8, 3, "machines.cp3"),
    ]


def test_a_tab_between_a_key_and_its_value_is_space() -> None:
    assert read(SMALLEST.replace("name: prod", "name:\tprod\t# a comment")).name == "prod"


def test_machines_whose_roles_cannot_be_understood_are_no_missing_machines() -> None:
    (found,) = problems(DEDICATED.replace("roles: [etcd]", "roles: [ectd]").replace("[control-plane, etcd]", "[etdc]"))[
        :1
    ]
    assert "not known" in found.what


def test_a_list_that_is_far_too_long_is_one_error() -> None:
    (found,) = problems(SMALLEST.replace("192.0.2.11}", "192.0.2.11, roles: [" + "clint, " * 5000 + "]}"))
    assert found.what.endswith("has too many entries")
    assert found.expected == "at most 100"


def test_more_errors_than_anybody_reads_end_with_a_sentence() -> None:
    found = problems(SMALLEST + "".join(f"key{i}: 1\n" for i in range(500)))
    assert len(found) == reading.MAX_PROBLEMS + 1
    assert [problem.line for problem in found] == list(range(7, 108))
    assert found[-1].what == "there are more errors"


def test_more_errors_than_anybody_reads_do_not_hide_that_reading_stopped_there() -> None:
    found = problems("kubelet: [" + "yes," * 500 + "]\n}")
    assert len(found) == reading.MAX_PROBLEMS + 2
    assert "more errors" in found[-2].what
    assert found[-1].line == 2
