"""Clients that wait are told that the VIP has moved: what is configured for it, and that it works on real TCP."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
from tests.model.clusters import three_nodes, view

from haplane.components import haproxy, keepalived, waiting
from haplane.design.hazards.listening import others
from haplane.model.cluster import Cluster, EndpointOwner, Failover
from haplane.observe.preflight import meeting

# ---- what is configured ----


def files(cluster: Cluster, machine: str = "cp2") -> dict[str, str]:
    both = (haproxy.design(view(cluster, machine)), keepalived.design(view(cluster, machine)))
    return {file.path: file.content for one in both for file in one.files}


def haproxy_config(cluster: Cluster) -> str:
    return files(cluster)["/etc/haproxy/haproxy.cfg"]


def dual_stack() -> Cluster:
    cluster = three_nodes()
    vips = (ip_interface("192.0.2.100/24"), ip_interface("2001:db8::100/64"))
    machines = {
        name: replace(one, addresses=(ip_address(f"2001:db8::1{i}"), *one.addresses))
        for i, (name, one) in enumerate(cluster.machines.items(), 1)
    }
    return replace(cluster, endpoint=replace(cluster.endpoint, vips=vips), machines=machines)


def switched_off() -> Cluster:
    return replace(three_nodes(), failover=Failover(tell_clients=False))


def one_balancer() -> Cluster:
    cluster = three_nodes()
    return replace(cluster, machines={"cp2": cluster.machines["cp2"]})


def external() -> Cluster:
    cluster = three_nodes()
    return replace(cluster, endpoint=replace(cluster.endpoint, by=EndpointOwner.EXTERNAL))


def test_every_balancer_is_a_peer_and_knows_its_own_name() -> None:
    text = haproxy_config(three_nodes())
    assert "localpeer cp2\n" in text
    for name, address in (("cp1", "192.0.2.11"), ("cp2", "192.0.2.12"), ("cp3", "192.0.2.13")):
        assert f"  peer {name} {address}:10240\n" in text


def test_whoever_connects_is_remembered() -> None:
    assert "track-sc0 src,concat(:,sess.port) table clients\n" in haproxy_config(three_nodes())
    assert "  peer cp1 [2001:db8::11]:10240\n" in haproxy_config(dual_stack())


def test_the_port_is_known_before_it_is_part_of_the_key() -> None:
    text = haproxy_config(three_nodes())
    assert text.index("set-var(sess.port) src_port") < text.index("track-sc0")


def test_a_new_master_tells_the_clients_of_its_vip_as_root() -> None:
    text = files(dual_stack())["/etc/keepalived/keepalived.conf"]
    calls = re.findall(r'notify_master "(.*)" (.*)\n', text)
    program = "/usr/local/lib/haplane/tell-clients /run/haproxy/admin.sock"
    assert calls == [(f"{program} 192.0.2.100 8443 100", "root"), (f"{program} 2001:db8::100 8443 100", "root")]


def test_keepalived_finds_the_program_before_its_configuration_is_checked() -> None:
    first, last = keepalived.design(view(three_nodes(), "cp1")).file_sets
    assert {file.path: file.mode for file in first.files}[waiting.TELL_FILE] == 0o755
    assert "notify_master" in last.files[0].content


@pytest.mark.parametrize("cluster", [switched_off(), one_balancer(), external()])
def test_nothing_of_it_is_there_when_nobody_tells(cluster: Cluster) -> None:
    found = files(cluster)
    assert not {waiting.TELL_FILE, waiting.KEEP_FILE, f"/etc/systemd/system/{waiting.SERVICE}"} & set(found)
    everything = "".join(found.values())
    lines = ("localpeer", "peers balancers", "table clients", "backend clients", "notify_master", "sess.port")
    assert not [line for line in lines if line in everything]
    command = haproxy.design(view(cluster, "cp2")).load.command
    assert waiting.STOP in command
    assert waiting.PEERS_PORT not in {one.first for one in others(cluster, cluster.machines["cp2"])}


def test_who_keeps_the_clients_is_begun_anew_where_haproxy_runs_and_else_with_it() -> None:
    design = haproxy.design(view(three_nodes(), "cp1"))
    commands = design.load.command.splitlines()
    assert commands[0] == "systemctl daemon-reload"
    again = f"if systemctl is-active -q haproxy; then systemctl restart {waiting.SERVICE}; fi"
    assert commands.index(f"systemctl enable -q {waiting.SERVICE}") < commands.index(again)
    assert commands.index(again) < commands.index("systemctl reload haproxy")
    unit = files(three_nodes())[f"/etc/systemd/system/{waiting.SERVICE}"]
    assert {"PartOf=haproxy.service", "WantedBy=haproxy.service"} <= {*unit.splitlines()}


def test_the_peers_port_is_one_that_haproxy_listens_on_and_preflight_tries() -> None:
    cluster = three_nodes()
    machine = cluster.machines["cp2"]
    mine = [one for one in others(cluster, machine) if one.first == waiting.PEERS_PORT]
    assert [(one.program, one.address) for one in mine] == [("HAProxy's peers", machine.address)]
    assert meeting.PEERS_PORT == waiting.PEERS_PORT


def test_a_batch_of_touches_fits_into_one_of_haproxys_buffers() -> None:
    longest = f"set table clients key {'ffff:' * 7}ffff:65535 data.gpc0 1;"
    at_once = re.search(r"\$AT_ONCE = ([0-9]+);", waiting.KEEP)
    assert at_once
    assert int(at_once[1]) * len(longest) < 16384


# ---- the programs, with HAProxy's side of the conversation ----


@dataclass
class Socket:
    """Answers like HAProxy's on a UNIX socket, whose side of each conversation ends when the other has ended his."""

    path: Path
    answer: Callable[[str], str]
    asked: list[str] = field(default_factory=list)

    @contextmanager
    def served(self) -> Iterator[Socket]:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.path))
            listener.listen(64)
            thread = threading.Thread(target=self._serve, args=(listener,), daemon=True)
            thread.start()
            yield self
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                conversation, _ = listener.accept()
            except OSError:
                return
            with conversation, conversation.makefile("rw") as lines:
                command = lines.read()
                self.asked.append(command.rstrip("\n"))
                lines.write(self.answer(command))


def table(keys: Iterable[str], *, long_lived: bool, open_here: bool = False, expires_ms: int = 39_548) -> str:
    """As HAProxy 2.6 answers `show table`."""
    rows = [
        f"0x5574675c{i:04x}: key={key} use=0 exp={expires_ms - i} gpc0={int(long_lived)} conn_cur={int(open_here)}\n"
        for i, key in enumerate(keys)
    ]
    return "".join([f"# table: clients, type: string, size:262144, used:{len(rows)}\n", *rows, "\n"])


def knows(*, long: Iterable[str] = (), recent: Iterable[str] = (), ended: Iterable[str] = ()) -> Callable[[str], str]:
    """ended: not touched for 20 s, and never marked."""
    not_marked = table(recent, long_lived=False) + table(ended, long_lived=False, expires_ms=20_000)
    tables = {"gt": table(long, long_lived=True), "eq": not_marked}
    return lambda command: tables[command.split()[4]]


def installed(folder: Path, program: str) -> Path:
    path = folder / "program"
    path.write_text(program)
    path.chmod(0o755)
    return path


# Recorded from the master of HAProxy 2.6.
PROCESSES = """\
#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
11018           master          2 [failed: 0]   0d00h10m45s     2.6.12-1+deb12u4
# workers
14453           worker          0               0d00h10m06s     2.6.12-1+deb12u4
# old workers
11097           worker          1               0d00h10m45s     2.6.12-1+deb12u4
11099           worker          2               0d00h10m46s     2.6.12-1+deb12u4
# programs

"""


# What keep-clients asks, each third time it wants them all.
ALL, NEW = "show table clients data.conn_cur gt 0", "show table clients data.conn_cur gt 0 data.gpc0 eq 0"
KEEP_FASTER = waiting.KEEP.replace("$MARK_EVERY_S = 2", "$MARK_EVERY_S = 1").replace(
    "$TOUCH_ALL_EVERY = 5", "$TOUCH_ALL_EVERY = 3"
)


def touched(commands: Iterable[str]) -> list[str]:
    keys = [re.fullmatch(r"set table clients key (\S+) data.gpc0 1", one) for t in commands for one in t.split(";")]
    assert None not in keys
    return sorted(key[1] for key in keys if key)


def test_connections_that_are_open_are_touched_also_those_of_older_processes_and_new_ones_sooner(
    tmp_path: Path,
) -> None:
    open_here = [f"192.0.2.50:{port}" for port in range(40000, 40400)]
    old = {"@!11097": ["2001:db8::50:50000"], "@!11099": ["::ffff:192.0.2.51:50001", "192.0.2.50:40000"]}
    new = ["192.0.2.50:41000"]

    def master(command: str) -> str:
        return PROCESSES if command == "show proc\n" else table(old[command.split()[0]], long_lived=False)

    def admin(command: str) -> str:
        listed = {f"{ALL}\n": open_here, f"{NEW}\n": new}.get(command)
        return "\n" if listed is None else table(listed, long_lived=listed is open_here, open_here=True)

    with (
        Socket(tmp_path / "master", master).served() as at_master,
        Socket(tmp_path / "admin", admin).served() as at_admin,
    ):
        command = [installed(tmp_path, KEEP_FASTER), at_admin.path, at_master.path]
        keeps = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while at_admin.asked.count(ALL) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        keeps.terminate()
        assert keeps.communicate(timeout=30) == ("", "")
    rounds = [one for one in at_admin.asked if one.startswith("show")]
    assert rounds[:7] == [ALL, NEW, NEW, ALL, NEW, NEW, ALL]
    first, second, *_ = (at for at, one in enumerate(at_admin.asked) if one == NEW)
    assert touched(at_admin.asked[1:first]) == sorted({*open_here, "2001:db8::50:50000", "::ffff:192.0.2.51:50001"})
    assert touched(at_admin.asked[first + 1 : second]) == new
    assert max(map(len, at_admin.asked)) < 16384


def test_without_haproxy_its_keeper_ends_and_says_so(tmp_path: Path) -> None:
    command = [installed(tmp_path, waiting.KEEP), tmp_path / "none", tmp_path / "no-master"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert done.stderr == f"HAProxy does not answer on {tmp_path}/none: No such file or directory\n"


# ---- a VIP that moves ----

# Waits silently on every connection, as HAProxy does for a watch.
SERVER = """
import socket, sys
listener = socket.create_server(("::", 8443), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1000)
IPV6_TRANSPARENT = 75
listener.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, int("transparent" in sys.argv))
print("ready", flush=True)
kept = []
while True:
    kept.append(listener.accept()[0])
"""
# Opens connections and prints their ports; says how each ended once its standard input says a time, at most so long.
CLIENT = """
import select, socket, sys, time
host, count, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ones = [socket.create_connection((host, 8443), source_address=("", port) if port else None) for _ in range(count)]
print(*(one.getsockname()[1] for one in ones), flush=True)
within_s = float(sys.stdin.readline())
end = time.monotonic() + within_s
waiting, ended = {one.fileno(): one for one in ones}, {}
poll = select.poll()
for number in waiting:
    poll.register(number, select.POLLIN)
while waiting and (left := end - time.monotonic()) > 0:
    for number, _ in poll.poll(left * 1000):
        poll.unregister(number)
        try:
            how = f"read {waiting.pop(number).recv(1)}"
        except ConnectionResetError:
            how = "reset"
        except ConnectionAbortedError:
            how = "aborted"
        ended[how] = ended.get(how, 0) + 1
if waiting:
    ended["silent"] = len(waiting)
print(ended)
"""
VIPS = ("192.0.2.100", "2001:db8::100")


@dataclass
class Client:
    process: subprocess.Popen[str]
    ports: list[int]

    def fate(self, *, within_s: float) -> dict[str, int]:
        """reset, silent, ... -> of how many connections."""
        said = self.process.communicate(f"{within_s}\n", timeout=within_s + 20)[0]
        return {how: int(count) for how, count in re.findall(r"'([^']*)': ([0-9]+)", said)}


@dataclass
class Lan:
    """A client, the old and the new holder of the VIPs as network namespaces on one bridge, in the client's."""

    client: str
    old: str
    new: str
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, namespace: str, program: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, "-c", program, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def serve(self, namespace: str, *options: str) -> None:
        server = self.start(namespace, SERVER, *options)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

    def connect(self, vip: str, count: int = 1, *, at: str = "", port: int = 0) -> Client:
        process = self.start(at or self.client, CLIENT, vip, count, port)
        assert process.stdout is not None
        ports = [int(port) for port in process.stdout.readline().split()]
        assert len(ports) == count
        return Client(process, ports)

    def move_vips(self) -> None:
        """The old holder loses its power, and the new one announces itself."""
        sh(f"ip -n {self.old} link set eth0 down")
        self.give_vips(self.new)

    def move_vips_back(self) -> None:
        """Both are there, and the old holder has the VIPs again."""
        self.take_vips(self.new)
        sh(f"ip -n {self.old} link set eth0 up")
        sh(f"ip -n {self.old} addr flush dev eth0; ip -n {self.old} addr add 192.0.2.12/24 dev eth0")
        self.give_vips(self.old)

    def give_vips(self, holder: str) -> None:
        sh(f"ip -n {holder} addr add {VIPS[0]}/32 dev eth0; ip -n {holder} addr add {VIPS[1]}/128 dev eth0 nodad")
        for namespace in {self.client, self.new} - {holder}:
            sh(f"ip -n {namespace} neigh flush all")

    def take_vips(self, holder: str) -> None:
        for vip, length in zip(VIPS, (32, 128), strict=True):
            sh(f"ip -n {holder} addr del {vip}/{length} dev eth0")

    def vips_leave(self) -> None:
        """The old holder lives on without them; the new one does not know that it was not the holder before."""
        self.take_vips(self.old)
        self.give_vips(self.new)

    def leave(self, folder: Path, vip: str) -> str:
        """What the old holder logs."""
        program = installed(folder, waiting.TELL)
        command = ["ip", "netns", "exec", self.old, program, folder / "none", vip, "8443", "50", "leaving"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0
        return done.stderr.partition("tell-clients: ")[2].strip()

    def connected(self, namespace: str) -> str:
        command = ["ip", "netns", "exec", namespace, "ss", "-Htn", "state", "established", "sport = :8443"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def tell(self, folder: Path, vip: str, answer: Callable[[str], str]) -> str:
        """What the new holder logs."""
        with Socket(folder / "admin", answer).served() as haproxy_socket:
            program = installed(folder, waiting.TELL)
            command = ["ip", "netns", "exec", self.new, program, haproxy_socket.path, vip, "8443", "50"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert haproxy_socket.asked == [f"show table clients data.gpc0 {one} 0" for one in ("gt", "eq")]
        assert done.returncode == 0
        return done.stderr.split("tell-clients: ")[1].strip()


def sh(script: str) -> str:
    done = subprocess.run(["/bin/sh", "-ec", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def lan() -> Iterator[Lan]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "perl", "logger"))):
        pytest.fail("network namespaces need root, iproute2, perl and logger")
    found = Lan(*(f"haplane-{os.getpid()}-{name}" for name in ("waits", "old", "new")))
    if subprocess.run(["ip", "netns", "add", found.client], capture_output=True).returncode != 0:
        pytest.fail("no network namespace can be made here")
    try:
        sh(f"ip -n {found.client} link add br0 type bridge && ip -n {found.client} link set dev br0 up")
        for number, namespace in ((2, found.old), (3, found.new)):
            sh(f"ip netns add {namespace}")
            sh(f"ip -n {found.client} link add port{number} type veth peer name eth0 netns {namespace}")
            sh(f"ip -n {found.client} link set dev port{number} master br0 up")
        for number, namespace, device in ((1, found.client, "br0"), (2, found.old, "eth0"), (3, found.new, "eth0")):
            sh(f"ip -n {namespace} addr add 192.0.2.1{number}/24 dev {device}")
            sh(f"ip -n {namespace} addr add 2001:db8::1{number}/64 dev {device} nodad")
            sh(f"ip -n {namespace} link set dev {device} up; ip -n {namespace} link set dev lo up")
        found.give_vips(found.old)
        for namespace in (found.old, found.new):
            found.serve(namespace, "transparent")
        yield found
    finally:
        for process in found.running:
            process.kill()
            process.communicate()
        for namespace in (found.client, found.old, found.new):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


def test_a_client_that_nobody_tells_waits_in_the_dark(lan: Lan) -> None:
    client = lan.connect(VIPS[0])
    lan.move_vips()
    assert client.fate(within_s=2) == {"silent": 1}


@pytest.mark.parametrize(
    ("vip", "prefix"), [(VIPS[0], "192.0.2.11"), (VIPS[0], "::ffff:192.0.2.11"), (VIPS[1], "2001:db8::11")]
)
def test_a_client_whose_connection_died_with_the_old_holder_is_told(
    lan: Lan, tmp_path: Path, vip: str, prefix: str
) -> None:
    client = lan.connect(vip)
    lan.move_vips()
    said = lan.tell(tmp_path, vip, knows(long=[f"{prefix}:{client.ports[0]}"]))
    assert said == f"told 1 clients of {vip} port 8443 that the VIP has moved"
    assert client.fate(within_s=5) == {"reset": 1}


def test_five_hundred_clients_are_all_told_also_by_a_kernel_that_limits_challenge_acks(
    lan: Lan, tmp_path: Path
) -> None:
    sh(f"ip netns exec {lan.client} sh -c 'echo 1 > /proc/sys/net/ipv4/tcp_challenge_ack_limit'")
    client = lan.connect(VIPS[0], 500)
    lan.move_vips()
    keys = [f"::ffff:192.0.2.11:{port}" for port in client.ports]
    said = lan.tell(tmp_path, VIPS[0], knows(long=keys[:300], recent=keys[300:]))
    assert said == f"told 500 clients of {VIPS[0]} port 8443 that the VIP has moved"
    assert client.fate(within_s=5) == {"reset": 500}


def test_what_seems_to_have_ended_is_older_than_a_round_that_marks() -> None:
    assert "expire 40s " in waiting.CLIENTS
    assert "$EXPIRE_S = 40;" in waiting.TELL

    def number(name: str, program: str) -> int:
        found = re.search(rf"\${name} = ([0-9]+);", program)
        assert found
        return int(found[1])

    mark_every_s = number("MARK_EVERY_S", waiting.KEEP)
    assert number("MARKED_WITHIN_S", waiting.TELL) > mark_every_s
    assert number("TOUCH_ALL_EVERY", waiting.KEEP) * mark_every_s == 10, "four touches before an entry expires"


def test_who_seems_to_have_ended_is_told_as_well_after_all_the_others(lan: Lan, tmp_path: Path) -> None:
    """A mark may have come too late: nobody stays in the dark for that."""
    client = lan.connect(VIPS[0], 10)
    lan.move_vips()
    keys = [f"192.0.2.11:{port}" for port in client.ports]
    ended = [*(f"192.0.2.11:{port}" for port in range(20000, 22000)), *keys[5:]]
    took = time.monotonic()
    said = lan.tell(tmp_path, VIPS[0], knows(long=keys[:2], recent=keys[2:5], ended=ended))
    took = time.monotonic() - took
    assert said == f"told 2010 clients of {VIPS[0]} port 8443 that the VIP has moved"
    assert client.fate(within_s=5) == {"reset": 10}
    assert took > 0.55 + 0.9, "2,000 a second, once the others have been told three times"


def test_a_connection_that_lives_on_the_new_holder_survives(lan: Lan, tmp_path: Path) -> None:
    dead = lan.connect(VIPS[0], 5)
    lan.move_vips()
    alive = lan.connect(VIPS[0], 5)
    lan.tell(tmp_path, VIPS[0], knows(long=[f"192.0.2.11:{port}" for port in (*dead.ports, *alive.ports)]))
    assert dead.fate(within_s=5) == {"reset": 5}
    assert alive.fate(within_s=1) == {"silent": 5}


def test_what_is_left_of_an_older_connection_from_the_same_port_does_not_answer_for_it(
    lan: Lan, tmp_path: Path
) -> None:
    """The VIP was on the new holder a moment ago, and this client has used its port again since."""
    lan.move_vips()
    first = lan.connect(VIPS[0], port=45678)
    server = lan.running[1]  # of the new holder: it closes first, so that TIME-WAIT is there
    server.kill()
    server.wait()
    assert "read" in first.process.communicate("5\n", timeout=20)[0]
    waits = f"ip netns exec {lan.new} ss -Htan state time-wait sport = :8443"
    deadline = time.monotonic() + 5
    while not (left := subprocess.run(waits.split(), capture_output=True, text=True).stdout):
        assert time.monotonic() < deadline, "the new holder keeps nothing of it"
        time.sleep(0.05)
    assert ":45678" in left
    lan.move_vips_back()
    client = lan.connect(VIPS[0], port=45678)
    lan.move_vips()
    lan.tell(tmp_path, VIPS[0], knows(long=["192.0.2.11:45678"]))
    assert client.fate(within_s=5) == {"reset": 1}


@pytest.mark.parametrize("vip", VIPS)
def test_a_holder_that_lets_go_tells_those_that_are_connected_to_it(lan: Lan, tmp_path: Path, vip: str) -> None:
    client = lan.connect(vip, 5)
    lan.vips_leave()
    after = lan.connect(vip, 5)
    assert lan.leave(tmp_path, vip) == f"told 5 clients of {vip} port 8443 that the VIP has moved"
    assert client.fate(within_s=5) == {"reset": 5}
    assert after.fate(within_s=1) == {"silent": 5}
    assert lan.connected(lan.old) == "", "nothing is left to answer for a later connection of the same port"


def test_a_holder_whose_listener_cannot_send_from_where_it_is_not_tells_them_all_the_same(
    lan: Lan, tmp_path: Path
) -> None:
    """As HAProxy listened before: what an older process still has."""
    lan.running[0].kill()
    lan.running[0].wait()
    lan.serve(lan.old)
    client = lan.connect(VIPS[0], 5)
    lan.vips_leave()
    assert lan.leave(tmp_path, VIPS[0]).startswith("told 5 clients")
    assert client.fate(within_s=5) == {"reset": 5}


@pytest.mark.parametrize("vip", VIPS)
def test_what_the_next_holder_kept_of_an_older_connection_does_not_answer_for_one_that_has_to_end(
    lan: Lan, tmp_path: Path, vip: str
) -> None:
    """It stood still while the VIP was here, and does not know that its clients have gone since."""
    lan.give_vips(lan.new)
    lan.take_vips(lan.old)
    earlier = lan.connect(vip, port=45678)
    sh(f"ip -n {lan.client} link set dev port3 down")  # so that it hears of no end
    sh(f"ip netns exec {lan.client} ss --kill --tcp --numeric dport = :8443")
    earlier.process.kill()
    earlier.process.wait()
    lan.give_vips(lan.old)
    client = lan.connect(vip, port=45678)
    lan.take_vips(lan.old)
    sh(f"ip -n {lan.client} link set dev port3 up; ip -n {lan.client} neigh flush all")
    assert ":45678" in lan.connected(lan.new)
    assert lan.leave(tmp_path, vip).startswith("told 1 clients")
    assert client.fate(within_s=5) == {"reset": 1}


def test_a_client_that_hears_late_whose_the_vip_is_now_is_told_all_the_same(lan: Lan, tmp_path: Path) -> None:
    """Until then it answers to the machine that let go, where nobody resets what is not its own."""
    client = lan.connect(VIPS[0], 5)
    (old,) = json.loads(sh(f"ip -n {lan.old} -json link show eth0"))
    lan.vips_leave()
    sh(f"ip -n {lan.client} neigh replace {VIPS[0]} lladdr {old['address']} dev br0 nud permanent")
    with ThreadPoolExecutor() as pool:
        leaves = pool.submit(lan.leave, tmp_path, VIPS[0])
        time.sleep(0.3)
        sh(f"ip -n {lan.client} neigh del {VIPS[0]} dev br0")
        assert leaves.result().startswith("told 5 clients")
    assert client.fate(within_s=5) == {"reset": 5}


def test_who_is_connected_to_the_machine_itself_stays_when_the_vip_leaves(lan: Lan, tmp_path: Path) -> None:
    own = lan.connect("192.0.2.12", 3)
    lan.connect(VIPS[0])
    lan.vips_leave()
    lan.leave(tmp_path, VIPS[0])
    assert own.fate(within_s=1) == {"silent": 3}


@pytest.mark.parametrize("vip", VIPS)
def test_whoever_connected_from_the_machine_that_the_vip_leaves_does_not_wait(
    lan: Lan, tmp_path: Path, vip: str
) -> None:
    """It comes from the VIP itself, so nothing that others send would reach it."""
    inside = lan.connect(vip, 3, at=lan.old)
    lan.vips_leave()
    lan.leave(tmp_path, vip)
    assert inside.fate(within_s=1) == {"aborted": 3}


def test_a_machine_that_held_nothing_says_nothing_when_it_becomes_a_backup(lan: Lan, tmp_path: Path) -> None:
    lan.vips_leave()
    assert lan.leave(tmp_path, VIPS[0]) == ""


def test_keys_that_are_stale_or_no_address_harm_nobody(lan: Lan, tmp_path: Path) -> None:
    client = lan.connect(VIPS[0])
    lan.move_vips()
    stale = [f"192.0.2.11:{port}" for port in range(20000, 20050)] + ["192.0.2.99:40000", "198.51.100.1:40000"]
    other_family = ["2001:db8::11:40000"]
    none = ["999.0.2.11:40000", "192.0.2.11:0", "192.0.2.11:99999", "192.0.2.11", "nobody:1", "::ffff:1:2", ""]
    own = f"{VIPS[0]}:40000"
    keys = [*none, own, *other_family, *stale, f"192.0.2.11:{client.ports[0]}"]
    said = lan.tell(tmp_path, VIPS[0], knows(long=keys[:-1], recent=keys[-1:]))
    # Of one there is no route to, it says so, and goes on.
    assert said.startswith(f"told {len(stale) + 1} clients of {VIPS[0]} port 8443 that the VIP has moved; 3 segments")
    assert client.fate(within_s=5) == {"reset": 1}


@pytest.mark.parametrize(("vip", "own"), [(VIPS[0], "192.0.2.13"), (VIPS[1], "2001:db8::13")])
def test_a_client_on_the_new_holder_itself_is_told(lan: Lan, tmp_path: Path, vip: str, own: str) -> None:
    client = lan.connect(vip, at=lan.new)
    lan.move_vips()
    lan.tell(tmp_path, vip, knows(long=[f"{own}:{client.ports[0]}"]))
    assert client.fate(within_s=5) == {"reset": 1}


def test_two_tellers_at_once_do_no_harm(lan: Lan, tmp_path: Path) -> None:
    dead = lan.connect(VIPS[0], 5)
    lan.move_vips()
    alive = lan.connect(VIPS[0], 5)
    answer = knows(long=[f"192.0.2.11:{port}" for port in (*dead.ports, *alive.ports)])
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    threads = [threading.Thread(target=lan.tell, args=(folder, VIPS[0], answer)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dead.fate(within_s=5) == {"reset": 5}
    assert alive.fate(within_s=1) == {"silent": 5}


def test_a_machine_without_the_vip_tells_nobody_and_says_why(lan: Lan, tmp_path: Path) -> None:
    program = installed(tmp_path, waiting.TELL)
    command = ["ip", "netns", "exec", lan.new, program, tmp_path / "none", VIPS[0], "8443", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert "told 0 clients" in done.stderr
    assert "stopped: the VIP is not here: Cannot assign requested address" in done.stderr


FIREWALL = (
    "-A INPUT -m conntrack --ctstate INVALID -j DROP",
    "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "-A INPUT -p tcp ! --syn -m conntrack --ctstate NEW -j DROP",
)


@pytest.mark.parametrize(("loose", "fate"), [(1, "reset"), (0, "silent")])
def test_a_firewall_that_drops_what_it_does_not_know_swallows_answers_only_if_it_is_strict(
    lan: Lan, tmp_path: Path, loose: int, fate: str
) -> None:
    for rule in FIREWALL:
        sh(f"ip netns exec {lan.new} iptables {rule}")
    sh(f"ip netns exec {lan.new} sh -c 'echo {loose} > /proc/sys/net/netfilter/nf_conntrack_tcp_loose'")
    client = lan.connect(VIPS[0])
    lan.move_vips()
    lan.tell(tmp_path, VIPS[0], knows(long=[f"192.0.2.11:{client.ports[0]}"]))
    assert client.fate(within_s=3) == {fate: 1}
