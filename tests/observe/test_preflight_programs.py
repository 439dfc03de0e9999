"""Preflight's programs on this host: what they print is what their parsers read."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
from tests.model.clusters import three_nodes

from haplane.model.cluster import Cast, Cluster, EndpointOwner
from haplane.observe.preflight import asking, host, meeting, perl, timing
from haplane.observe.preflight.probe import Answers, Host, Listener, Module, Packet


def sh(script: str, *, namespace: str = "", stdin: str = "") -> str:
    command = ["/bin/sh", "-c", script]
    if namespace:
        command = ["ip", "netns", "exec", namespace, *command]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


# ---- one machine ----

RECORDED = """\
now\t1795461894
system\tdebian 13
architecture\tx86_64
hostname\tcp1
init\tsystemd
container\tpodman
hypervisor\tnone
machine_id\t3d1219c7c4c5404aaa1f6d2a48adfda4
product_uuid\t
address\tlo\t127.0.0.1/8
address\teth0\t10.77.0.11/24
address\teth0\tfe80::c8b7:e7ff:fea6:5c5f/64
link\tlo\t\t65536
link\teth0\tC8:b7:e7:a6:5c:5f\t1500
ss\tyes
listen\t0.0.0.0:22\tusers:(("sshd",pid=71,fd=6))
listen\t127.0.0.1%lo:53\tusers:(("systemd-resolve",pid=5,fd=1),("x",pid=6,fd=1))
listen\t[::]:6443\t
swap\t/dev/dm-1
module\toverlay\tloaded
module\tbr_netfilter\tmissing\tmodprobe: FATAL: Module br_netfilter not found
forward\t0\tyes
containerd_systemd\ttrue
kubelet_driver\tsystemd
nonlocal_bind\t4\t1
nonlocal_bind\t6\t0
rp_filter\tall\t0
rp_filter\teth0\t2
route\t10.77.0.12\teth0
route\t10.77.0.13\t
gateway\t10.77.0.1
gateway\t10.77.0.1
name_server\t10.0.0.53
synchronised\tyes
conntrack\t81\t262144
unit\tkeepalived\tenabled
unit\tetcd\tnot-found
package\tcontainerd
held\tcontainerd
unattended\t1
reboots_at\t02:00
certificate\t/etc/kubernetes/pki/ca.crt\tUEVNCg==
membership\tdone name=lab endpoint=10.77.0.100:8443
resolved\t10.77.0.100
"""


def test_a_machine_is_read() -> None:
    found = host.parse(RECORDED)
    assert (found.system, found.container, found.hypervisor) == ("debian 13", "podman", "")
    assert found.interface_of(ip_address("10.77.0.11")) == "eth0"
    assert found.links["eth0"].mac == "c8:b7:e7:a6:5c:5f"
    assert found.listeners == (
        Listener("0.0.0.0", 22, "sshd"),
        Listener("127.0.0.1%lo", 53, "systemd-resolve"),
        Listener("[::]", 6443, ""),
    )
    assert found.modules["br_netfilter"] == Module("missing", "modprobe: FATAL: Module br_netfilter not found")
    assert (found.forwards, found.forwarding_settable, found.containerd_systemd) == (False, True, True)
    assert found.routes == {ip_address("10.77.0.12"): "eth0"}
    assert found.nonlocal_bind == {4: True, 6: False}
    assert found.gateways == ("10.77.0.1",)
    assert found.units == {"keepalived": "enabled", "etcd": ""}
    assert found.conntrack == (81, 262144)
    assert found.certificates == {"/etc/kubernetes/pki/ca.crt": "PEM\n"}
    assert found.resolved == (ip_address("10.77.0.100"),)
    assert found.is_member


def test_nothing_at_all_is_a_machine_of_which_nothing_is_known() -> None:
    assert host.parse("") == Host()
    assert host.parse("forward\nconntrack\t\t\nmodule\tx\nlisten\n") == Host()


def test_this_host_can_be_read() -> None:
    cluster = three_nodes()
    cluster = replace(cluster, endpoint=replace(cluster.endpoint, host="localhost"))
    done = subprocess.run(
        ["/bin/sh", "-c", host.command(cluster, cluster.machines["cp1"])], capture_output=True, text=True, timeout=60
    )
    found = host.parse(done.stdout)
    assert done.stderr == ""
    assert found.hostname == os.uname().nodename
    assert found.architecture == os.uname().machine
    assert found.interface_of(ip_address("127.0.0.1")) == "lo"
    assert ip_address("127.0.0.1") in found.resolved or ip_address("::1") in found.resolved
    assert found.now is not None


# ---- disk and stalls ----


def test_the_disk_is_timed_and_nothing_is_left_behind(tmp_path: Path) -> None:
    found = timing.parse_disk(sh(timing.disk_command(f"{tmp_path}/not/there/yet")))
    assert found.folder == f"{tmp_path}/"
    assert 1 <= found.samples <= timing.SAMPLES
    assert 0 < found.p99_ms <= found.worst_ms
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_be_written_says_so() -> None:
    with pytest.raises(perl.CouldNot, match="cannot write into /proc/"):
        timing.parse_disk(sh(timing.disk_command("/proc/etcd")))


def test_stalls_are_watched() -> None:
    found = timing.parse_stall(sh(timing.stall_command(0.2)))
    assert found.watched_s == 0.2
    assert found.longest_ms > 0


def test_a_machine_without_perl_says_so(tmp_path: Path) -> None:
    script = f"PATH={tmp_path}\n{timing.stall_command(0.2)}"
    with pytest.raises(perl.CouldNot, match="perl-base is not installed"):
        timing.parse_stall(sh(script.replace("command -v perl", "command -v haplane-no-perl")))


CATCH = r"""
use Socket qw(:all);
use Time::HiRes qw(time sleep);
sub now {{ return time }}
my $WRAPPED = "\0" x 8 . "haplane";
my %caught;
{catch}
socket(my $ear, AF_INET, SOCK_DGRAM, 0); bind($ear, pack_sockaddr_in(0, inet_aton("127.0.0.1")));
socket(my $send, AF_INET, SOCK_DGRAM, 0);
sub arrives {{
    my ($from, $port) = @_;
    # As a raw socket has it: the header of IP, that of UDP, and what is in it.
    my $packet = pack("C", 0x45) . "\0" x 11 . inet_aton($from) . "\0" x 4 . pack("nnnn", 9, $port, 0, 0) . $WRAPPED;
    send($send, $packet, 0, getsockname($ear));
}}
arrives("192.0.2.$_", 53) for 1 .. 100;
arrives("192.0.2.12", 8472);
catch($ear, "", 8472);
print join(" ", keys %caught);
"""


def test_datagrams_behind_many_of_others_are_caught_at_once() -> None:
    source = (Path(meeting.__file__).parent / "meet.pl").read_text()
    found = re.search(r"^sub catch \{.*?^\}", source, re.MULTILINE | re.DOTALL)
    assert found
    assert sh(f"exec perl -e {shlex.quote(CATCH.format(catch=found[0]))}") == "192.0.2.12 8472"
    assert max(map(len, source.splitlines())) <= 120


# ---- two machines on one wire ----


@dataclass(frozen=True)
class Wire:
    """cp1 and cp2 as network namespaces joined by a cable; cp2 has the VIP, cp3 is not there."""

    cluster: Cluster
    near: str
    far: str
    far_mac: str

    def on_both(self, script: Callable[[str], str]) -> dict[str, str]:
        """What both say who begin at the same moment."""
        started = {
            name: subprocess.Popen(
                ["ip", "netns", "exec", namespace, "/bin/sh", "-c", script(name)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name, namespace in (("cp1", self.near), ("cp2", self.far))
        }
        for process in started.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started.values():
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return {name: process.communicate(timeout=30)[0] for name, process in started.items()}


@pytest.fixture
def wire() -> Iterator[Wire]:
    cluster = three_nodes()
    near, far = f"haplane-{os.getpid()}-near", f"haplane-{os.getpid()}-far"
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("perl") is None:
        pytest.fail("network namespaces need root, iproute2 and perl")
    if subprocess.run(["ip", "netns", "add", near], capture_output=True).returncode != 0:
        pytest.fail("no network namespace can be made here")
    try:
        sh(f"ip netns add {far} && ip -n {near} link add eth0 type veth peer name eth0 netns {far}")
        for namespace, number in ((near, 1), (far, 2)):
            address, v6 = cluster.machines[f"cp{number}"].address, f"2001:db8::1{number}"
            sh(f"ip -n {namespace} addr add {address}/24 dev eth0; ip -n {namespace} link set lo up")
            sh(f"ip -n {namespace} addr add {v6}/64 dev eth0 nodad; ip -n {namespace} link set eth0 up")
        sh(f"ip -n {far} addr add {cluster.endpoint.vip.ip}/32 dev eth0")
        yield Wire(cluster, near, far, sh("cat /sys/class/net/eth0/address", namespace=far).strip())
    finally:
        sh(f"ip netns del {near}; ip netns del {far} 2>/dev/null || true")


def test_machines_on_one_wire_meet(wire: Wire) -> None:
    cluster = replace(wire.cluster, endpoint=replace(wire.cluster.endpoint, cast=Cast.MULTICAST))

    def script(name: str) -> str:
        return meeting.command(cluster, cluster.machines[name], interface="eth0", seconds=1.5)

    found = {name: meeting.parse(output) for name, output in wire.on_both(script).items()}
    cp1, cp2 = (cluster.machines[name].address for name in ("cp1", "cp2"))
    assert set(found["cp1"].heard) == {Packet(cp2, 0, "u"), Packet(cp2, 0, "m")}
    assert set(found["cp2"].heard) == {Packet(cp1, 0, "u"), Packet(cp1, 0, "m")}
    assert {cp2, ip_address("224.0.0.18")} <= found["cp1"].sent
    assert found["cp1"].listened_s == 1.5
    open_ones = {place for place, state in found["cp1"].connects.items() if state == "open"}
    assert open_ones == {(cp2, port) for port in (8443, 6443, 2379, 2380, 10250, 10240)}
    third = cluster.machines["cp3"].address
    assert {state for (address, _), state in found["cp1"].connects.items() if address == third} <= {
        "silent",
        "No route to host",
    }


@pytest.mark.parametrize(
    ("address", "answers"),
    [
        ("192.0.2.12", Answers(meeting.TIMES, 0, 0)),
        # The other machine has it, and listens on its own address alone.
        ("192.0.2.100", Answers(0, meeting.TIMES, 0)),
        ("192.0.2.99", Answers(0, 0, meeting.TIMES)),
    ],
)
def test_an_address_of_somebody_elses_is_asked_again_and_again(wire: Wire, address: str, answers: Answers) -> None:
    endpoint = replace(wire.cluster.endpoint, by=EndpointOwner.EXTERNAL, vips=(ip_interface(f"{address}/24"),))
    cluster = replace(wire.cluster, endpoint=endpoint)

    def script(name: str) -> str:
        return meeting.command(cluster, cluster.machines[name], interface="eth0", seconds=1.5)

    found = {name: meeting.parse(output) for name, output in wire.on_both(script).items()}
    assert found["cp1"].again == {(ip_address(address), 8443): answers}
    assert found["cp1"].heard == (), "no VRRP is sent where nobody shares a VIP"


def test_a_firewall_is_found_by_meeting(wire: Wire) -> None:
    if shutil.which("nft") is None and shutil.which("iptables") is None:
        pytest.fail("there is no packet filter here")
    drops = "iptables -A INPUT -p 112 -j DROP; iptables -A INPUT -p tcp --dport 2380 -j DROP"
    done = subprocess.run(["ip", "netns", "exec", wire.far, "/bin/sh", "-ec", drops], capture_output=True)
    if done.returncode != 0:
        pytest.fail("the packet filter cannot be used here")

    def script(name: str) -> str:
        return meeting.command(wire.cluster, wire.cluster.machines[name], interface="eth0", seconds=1.5)

    found = {name: meeting.parse(output) for name, output in wire.on_both(script).items()}
    cp1, cp2 = (wire.cluster.machines[name].address for name in ("cp1", "cp2"))
    # Raw sockets are served after the filter of INPUT.
    assert found["cp2"].heard == ()
    assert found["cp1"].heard == (Packet(cp2, 0, "u"),)
    assert found["cp1"].connects[cp2, 2380] == "silent"
    assert found["cp2"].connects[cp1, 2380] == "open"


def test_real_adverts_of_a_stranger_are_heard(wire: Wire) -> None:
    # VRRP version 3, advert, router 51 (RFC 9568 5.2), to the group; its checksum is not looked at.
    stranger = (
        "perl -MSocket=:all -e 'socket(S,AF_INET,SOCK_RAW,112) or die; setsockopt(S,IPPROTO_IP,IP_MULTICAST_IF,"
        'inet_aton("192.0.2.12")); for(1..30){send(S,pack("C8a4",0x31,51,100,1,0,100,0,0,inet_aton("192.0.2.200")),'
        '0,pack_sockaddr_in(0,inet_aton("224.0.0.18"))) or die $!; select(undef,undef,undef,0.1)}\''
    )
    sender = subprocess.Popen(["ip", "netns", "exec", wire.far, "/bin/sh", "-c", f"exec {stranger}"])
    try:
        script = meeting.command(wire.cluster, wire.cluster.machines["cp1"], interface="eth0", seconds=1)
        found = meeting.parse(sh(script, namespace=wire.near, stdin="go\n"))
    finally:
        sender.kill()
        sender.wait()
    assert found.heard == (Packet(ip_address("192.0.2.12"), 51, "-"),)


def test_one_machine_asks_the_others_and_who_has_the_vip(wire: Wire) -> None:
    cluster, near = wire.cluster, wire.cluster.machines["cp1"]
    this = host.parse(sh(host.command(cluster, near), namespace=wire.near))
    found = asking.parse(sh(asking.command(cluster, near, this), namespace=wire.near))
    cp2, cp3 = (cluster.machines[name].address for name in ("cp2", "cp3"))
    assert found.trips[cp2].how == "echo"
    assert 0 < found.trips[cp2].mean_ms <= found.trips[cp2].worst_ms
    assert found.echo_lost[cp3] == (asking.ECHOES, asking.ECHOES)
    assert found.full == {cp2: (1500, True)}
    assert found.answers == {cluster.endpoint.vip.ip: (wire.far_mac,)}
    assert cp3 not in found.trips


def test_nobody_answers_for_a_free_address(wire: Wire) -> None:
    sh(f"ip -n {wire.far} addr del {wire.cluster.endpoint.vip.ip}/32 dev eth0")
    near = wire.cluster.machines["cp1"]
    this = host.parse(sh(host.command(wire.cluster, near), namespace=wire.near))
    found = asking.parse(sh(asking.command(wire.cluster, near, this), namespace=wire.near))
    assert found.answers == {wire.cluster.endpoint.vip.ip: ()}


def test_a_wire_with_a_smaller_mtu_is_found(wire: Wire) -> None:
    sh(f"ip -n {wire.far} link set eth0 mtu 1400")
    near = wire.cluster.machines["cp1"]
    this = host.parse(sh(host.command(wire.cluster, near), namespace=wire.near))
    found = asking.parse(sh(asking.command(wire.cluster, near, this), namespace=wire.near))
    assert found.full == {wire.cluster.machines["cp2"].address: (1500, False)}


@pytest.mark.parametrize("kept", ["fd01::100", "fd01::99"])
def test_ipv6_neighbours_are_asked_too(wire: Wire, kept: str) -> None:
    sh(f"ip -n {wire.far} -6 addr add fd01::100/128 dev eth0 nodad; sleep 1.5")
    script = perl.command("ask", [("interface", "eth0"), ("count", 1), ("free", kept)])
    found = asking.parse(sh(script, namespace=wire.near))
    assert found.answers == {ip_address(kept): (wire.far_mac,) if kept == "fd01::100" else ()}
