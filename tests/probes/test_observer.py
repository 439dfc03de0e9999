"""The observer: what machines' daemons and kernel say is understood, seen when it happens, and its clock is related."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_interface
from pathlib import Path

import asyncssh
import pytest
from tests.model.clusters import three_nodes

from haplane.components import etcd, haproxy, keepalived
from haplane.model.cluster import Cluster
from haplane.probes import observer
from haplane.probes.history import Observation, RoundTrip
from haplane.probes.observer import Seen, parse
from haplane.probes.observing import Observers
from haplane.transport.ssh import Remote

# ---- what daemons say ----

HAPROXY_3_0_11 = """\
[WARNING]  (779) : Server apiservers/cp2 is DOWN, reason: Layer4 connection problem, info: "SSL handshake failure \
(Connection refused)", check duration: 0ms. 2 active and 0 backup servers left. 0 sessions active, 0 requeued, 0 \
remaining in queue.
Server apiservers/cp2 is DOWN, reason: Layer4 connection problem, info: "SSL handshake failure (Connection refused)", \
check duration: 0ms. 2 active and 0 backup servers left. 0 sessions active, 0 requeued, 0 remaining in queue.
Server apiservers/cp2 is DOWN, reason: Layer4 timeout, check duration: 100ms. 2 active and 0 backup servers left. 1 \
sessions active, 0 requeued, 0 remaining in queue.
[WARNING]  (783) : Server apiservers/cp2 is UP, reason: Layer7 check passed, code: 200, check duration: 3ms. 3 active \
and 0 backup servers online. 0 sessions requeued, 0 total in queue.
Server apiservers/cp2 is UP. 2 active and 0 backup servers online. 0 sessions requeued, 0 total in queue.
"""


def test_changes_of_servers_are_understood_as_haproxy_3_0_11_logged_them() -> None:
    found = [haproxy.parse_change(line) for line in HAPROXY_3_0_11.splitlines()]
    assert found == [("apiservers/cp2", state) for state in ("DOWN", "DOWN", "DOWN", "UP", "UP")]


@pytest.mark.parametrize(
    ("message", "state"),
    [
        # 2.6 adds the cause in another place than 2.8 and 3.0.
        ("Server apiservers/cp1 is going DOWN for maintenance. 2 active and 0 backup servers left.", "MAINT"),
        ("Server apiservers/cp1 was DOWN and now enters maintenance (DNS NX status).", "MAINT"),
        ("Server apiservers/cp1 is UP/READY (leaving forced maintenance).", "UP"),
        ("Server apiservers/cp1 is DOWN/READY (leaving maintenance).", "DOWN"),
        ("Server apiservers/cp1 is UP/DRAIN (leaving forced maintenance).", "DRAIN"),
        ("Server apiservers/cp1 ('cp1.example') is UP/READY (resolves again).", "UP"),
        ("Server apiservers/cp1 enters drain state. 2 active and 0 backup servers left.", "DRAIN"),
        ("Server apiservers/cp1 is UP (leaving forced drain).", "UP"),
        ("Server apiservers/cp1 is stopping, reason: Layer7 check conditionally passed", "NOLB"),
        ("Backup Server apiservers/cp1 is DOWN via other/cp1. 2 active and 0 backup servers left.", "DOWN"),
    ],
)
def test_every_wording_of_haproxy_2_6_to_3_0_is_understood(message: str, state: str) -> None:
    assert haproxy.parse_change(message) == ("apiservers/cp1", state)
    assert haproxy.parse_change(f"[WARNING]  (12) : {message}") == ("apiservers/cp1", state)


@pytest.mark.parametrize(
    "message",
    [
        "Server apiservers/cp1 remains in forced maintenance.",
        "Health check for server apiservers/cp1 failed, reason: Layer4 timeout, status: 1/2 UP.",
        "backend apiservers has no server available!",
        "[NOTICE]   (776) : New worker (779) forked",
        "",
    ],
)
def test_what_is_no_change_of_a_server_is_not_taken_for_one(message: str) -> None:
    assert haproxy.parse_change(message) is None


def test_transitions_are_understood_as_keepalived_2_and_1_log_them() -> None:
    assert keepalived.parse_transition("(api) Entering MASTER STATE") == ("api", "MASTER")
    assert keepalived.parse_transition("(api) entering FAULT state") == ("api", "FAULT")
    assert keepalived.parse_transition("VRRP_Instance(api-ipv6) Entering BACKUP STATE") == ("api-ipv6", "BACKUP")
    assert keepalived.parse_transition("(api) Receive advertisement timeout") is None
    assert keepalived.parse_transition("VRRP_Script(balancer_hung) succeeded") is None


# Recorded with journalctl 257 --output=json from a machine with keepalived 2.3.3 and HAProxy 3.0.11; cursors cut.
JOURNAL_257 = """\
{"__MONOTONIC_TIMESTAMP":"653669694","SYSLOG_IDENTIFIER":"systemd","_BOOT_ID":"5d4f73f6e04c4f01be885c04e20efddc",\
"MESSAGE":"Started keepalived.service - Keepalive Daemon (LVS and VRRP).","UNIT":"keepalived.service"}
{"_BOOT_ID":"5d4f73f6e04c4f01be885c04e20efddc","__MONOTONIC_TIMESTAMP":"653679494","SYSLOG_IDENTIFIER":\
"Keepalived_vrrp","MESSAGE":"VRRP_Script(balancer_hung) succeeded"}
{"MESSAGE":"(api) Entering BACKUP STATE","__MONOTONIC_TIMESTAMP":"653679997","SYSLOG_IDENTIFIER":"Keepalived_vrrp"}
{"SYSLOG_IDENTIFIER":"Keepalived_vrrp","MESSAGE":"(api) Entering MASTER STATE","__MONOTONIC_TIMESTAMP":"667890799"}
{"__MONOTONIC_TIMESTAMP":"668906285","SYSLOG_IDENTIFIER":"haproxy","MESSAGE":"[WARNING]  (779) : Server \
apiservers/cp2 is DOWN, reason: Layer4 timeout, check duration: 100ms. 2 active and 0 backup servers left. 1 sessions \
active, 0 requeued, 0 remaining in queue."}
{"SYSLOG_IDENTIFIER":"haproxy","MESSAGE":"Server apiservers/cp2 is DOWN, reason: Layer4 timeout, check duration: \
100ms. 2 active and 0 backup servers left. 1 sessions active, 0 requeued, 0 remaining in queue.",\
"__MONOTONIC_TIMESTAMP":"668906285"}
{"MESSAGE":[27,91,49],"__MONOTONIC_TIMESTAMP":"668906290","SYSLOG_IDENTIFIER":"haproxy"}
"""


def said(journal: str = JOURNAL_257, *, started: float = 650.0) -> list[str]:
    return [f"start\t{started:.6f}\n", *(f"journal\t{entry}\n" for entry in journal.splitlines())]


def of(seen: tuple[Seen, ...], what: str) -> list[tuple[float, str]]:
    return [(each.t, each.value) for each in seen if each.what == what]


def test_a_recorded_journal_is_read_with_its_own_times_and_once() -> None:
    sight = parse(said())
    assert of(sight.seen, "vrrp") == [(653.679997, "BACKUP"), (667.890799, "MASTER")]
    assert of(sight.seen, "server apiservers/cp2") == [(668.906285, "DOWN")]
    assert sight.problems == ()


def test_what_was_logged_before_the_start_is_of_another_time() -> None:
    assert of(parse(said(started=660.0)).seen, "vrrp") == [(667.890799, "MASTER")]


def test_a_keepalived_that_ended_is_in_no_state() -> None:
    ended = {"SYSLOG_IDENTIFIER": "systemd", "UNIT": "keepalived.service", "__MONOTONIC_TIMESTAMP": "700000000"}
    killed = ended | {"MESSAGE": "keepalived.service: Main process exited, code=killed, status=9/KILL"}
    lines = [*said(), f"journal\t{json.dumps(killed)}\n"]
    assert of(parse(lines).seen, "vrrp")[-1] == (700.0, "")
    other = killed | {"UNIT": "haproxy.service"}
    assert of(parse([*said(), f"journal\t{json.dumps(other)}\n"]).seen, "vrrp")[-1] == (667.890799, "MASTER")


@pytest.mark.parametrize("unit", ["haproxy.service", "nginx.service"])
def test_a_balancer_ends_and_runs_again(unit: str) -> None:
    """As recorded when the kernel had killed HAProxy's worker."""
    lines = [
        f"journal\t{json.dumps({'UNIT': unit, 'MESSAGE': message, '__MONOTONIC_TIMESTAMP': at})}\n"
        for at, message in (
            ("700000000", f"{unit}: Main process exited, code=exited, status=137/n/a"),
            ("700253000", f"{unit}: Failed with result 'exit-code'."),
            ("702096000", f"Started {unit} - HAProxy Load Balancer."),
        )
    ]
    assert of(parse([*said(), *lines]).seen, "balancer") == [(700.0, ""), (702.096, "running")]


def test_addresses_and_gauges_have_the_error_of_how_they_were_seen() -> None:
    lines = [
        "start\t10.000000\n",
        "vip\t10.000000\t10.002000\tvip\t0\n",
        "etcd\t10.000000\t10.010000\t0\t1\t3\n",
        "vip\t12.000000\t12.015000\tvip\t1\n",
        "etcd\t11.500000\t12.010000\t1\t1\t4\n",
        "etcd\t13.000000\t15.000000\t-\t-\t-\n",
    ]
    seen = parse(lines, [RoundTrip(1.0, 16.0, 1.1)]).seen
    assert seen[0] == Seen(10.0, "observer", "watching") and seen[-1] == Seen(16.0, "observer", "")
    assert [each for each in seen if each.what == "vip"] == [
        Seen(10.001, "vip", "", 0.001),
        Seen(12.0075, "vip", "held", 0.0075),
    ]
    assert [each for each in seen if each.what == "etcd-leader"] == [
        Seen(10.005, "etcd-leader", "0", 0.005),
        Seen(11.755, "etcd-leader", "1", 0.255),
        Seen(14.0, "etcd-leader", "", 1.0),
    ]
    assert of(seen, "etcd-leader-changes") == [(10.005, "3"), (11.755, "4"), (14.0, "")]


def test_broken_lines_are_left_out_and_failures_are_told() -> None:
    lines = [
        "start\t10.0\n",
        "vip\t1",
        "vip\tx\ty\tvip\t1",
        "journal\t{",
        "etcd\t1\t2\t3",
        "what",
        "",
        "failed\tvip\tno",
    ]
    sight = parse(lines)
    assert sight.seen == (Seen(10.0, "observer", "watching"), Seen(10.0, "observer", ""))
    assert sight.problems == ("vip: no",)
    assert parse([]).seen == () and parse([]).problems == ("it did not start",)


def test_the_errors_of_both_clocks_and_of_the_sight_add_up() -> None:
    own, probers = RoundTrip(10.0, 1010.005, 10.01), RoundTrip(9.996, 60.006, 10.016)
    found = observer.observations("cp1", (Seen(1010.005, "vip", "held", 0.001),), (own,), (probers,))
    assert found == (Observation(60.005, "cp1", "vip", "held", pytest.approx(0.005 + 0.01 + 0.001)),)


def test_a_clock_that_was_never_read_gives_no_observation() -> None:
    with pytest.raises(ValueError, match="no reading"):
        observer.observations("cp1", (Seen(1.0, "vip", "held"),), (), (RoundTrip(0, 1, 2),))


# ---- the program, in a network of its own ----

VIP, VIP6 = "192.0.2.100", "2001:db8::100"


def dual_stack() -> Cluster:
    cluster = three_nodes()
    vips = (ip_interface(f"{VIP}/24"), ip_interface(f"{VIP6}/64"))
    return replace(cluster, endpoint=replace(cluster.endpoint, vips=vips))


def sh(script: str) -> None:
    done = subprocess.run(["/bin/sh", "-ec", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def wire() -> Iterator[str]:
    """A network namespace in which addresses come and go."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "perl", "unshare"))):
        pytest.fail("namespaces need root, iproute2, perl and util-linux")
    name = f"haplane-{os.getpid()}-observed"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode != 0:
        pytest.fail("no network namespace can be made here")
    try:
        sh(f"ip -n {name} link set lo up; ip -n {name} link add eth0 type bridge; ip -n {name} link set eth0 up")
        yield name
    finally:
        sh(f"ip netns del {name}")


class Running:
    """The program in a namespace, with its lines so far."""

    def __init__(self, namespace: str, *, path: str = "") -> None:
        environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, "/bin/sh", "-c", observer.command(dual_stack())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_for(self, pattern: str) -> str:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            for line in tuple(self.lines):
                if re.search(pattern, line):
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no {pattern} in {self.lines}")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self._thread.join(10)


@contextmanager
def observed(namespace: str, *, path: str = "") -> Iterator[Running]:
    running = Running(namespace, path=path)
    try:
        running.wait_for(r"^ready\t")
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def timed(act: Callable[[], None]) -> tuple[float, float]:
    before = time.monotonic()
    act()
    return before, time.monotonic()


def test_an_address_that_comes_and_goes_is_seen_between_two_readings_of_the_clock(wire: str) -> None:
    sh(f"ip -n {wire} addr add {VIP6}/128 dev eth0 nodad")
    with observed(wire) as running:
        came = timed(lambda: sh(f"ip -n {wire} addr add {VIP}/32 dev eth0"))
        running.wait_for(r"^vip\t.*\tvip\t1")
        went = timed(lambda: sh(f"ip -n {wire} addr del {VIP6}/128 dev eth0"))
        running.wait_for(rf"^vip\t.*\tvip {VIP6}\t0")
        running.end()
    seen = parse(running.lines).seen
    first, second = (each for each in seen if each.what == "vip")
    assert (first.value, second.value) == ("", "held")
    held, gone = (each for each in seen if each.what == f"vip {VIP6}")
    assert (held.value, gone.value) == ("held", "")
    # However busy this host is: it had not happened before what is said, and had when it was seen.
    for change, each in ((came, second), (went, gone)):
        assert each.t - each.error <= change[1] and change[0] <= each.t + each.error


def test_an_address_on_two_interfaces_is_held_until_both_have_lost_it(wire: str) -> None:
    sh(f"ip -n {wire} addr add {VIP}/32 dev eth0; ip -n {wire} addr add {VIP}/32 dev lo")
    with observed(wire) as running:
        sh(f"ip -n {wire} addr del {VIP}/32 dev lo; ip -n {wire} addr add 192.0.2.7/32 dev lo")
        time.sleep(0.2)
        sh(f"ip -n {wire} addr del {VIP}/32 dev eth0")
        running.wait_for(r"^vip\t.*\tvip\t0")
        running.end()
    assert [value for _, value in of(parse(running.lines).seen, "vip")] == ["held", ""]


def test_an_interface_that_vanishes_takes_its_address_with_it(wire: str) -> None:
    sh(f"ip -n {wire} addr add {VIP}/32 dev eth0")
    with observed(wire) as running:
        sh(f"ip -n {wire} link del eth0")
        running.wait_for(r"^vip\t.*\tvip\t0")
        running.end()


def test_a_line_is_answered_with_the_clock_and_nothing_is_left_when_input_ends(wire: str) -> None:
    with observed(wire) as running:
        assert running.process.stdin is not None
        before = time.monotonic()
        running.process.stdin.write("one\ntwo\n")
        running.process.stdin.flush()
        line = running.wait_for(r"^reading\t.*\ttwo")
        assert before <= float(line.split("\t")[1]) <= time.monotonic()
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        running.end()
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_journalctl_ends_with_a_program_that_was_killed(wire: str) -> None:
    if shutil.which("journalctl") is None:
        pytest.fail("there is no journalctl here")
    with observed(wire) as running:
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        assert len(children) == 1
        running.process.kill()
        running.process.wait()
        end = time.monotonic() + 10
        while alive(children[0]) and time.monotonic() < end:
            time.sleep(0.02)
    assert not alive(children[0])


def alive(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def replaying(folder: Path, journal: str) -> str:
    """A journalctl that says this, and then waits."""
    (folder / "entries").write_text(journal)
    (folder / "journalctl").write_text(f"#!/bin/sh\ncat {folder}/entries\nexec sleep 60\n")
    (folder / "journalctl").chmod(0o755)
    return str(folder)


def test_entries_of_the_journal_pass_but_for_those_that_cannot_matter(wire: str, tmp_path: Path) -> None:
    ahead = re.sub(r'(?<="__MONOTONIC_TIMESTAMP":")\d+', lambda stamp: str(int(stamp[0]) + 10**12), JOURNAL_257)
    with observed(wire, path=replaying(tmp_path, ahead)) as running:
        running.wait_for("is DOWN")
        running.end()
    assert [value for _, value in of(parse(running.lines).seen, "vrrp")] == ["BACKUP", "MASTER"]
    assert not any("VRRP_Script" in line for line in running.lines)


def test_a_machine_without_a_journal_is_told_and_the_rest_is_observed(wire: str, tmp_path: Path) -> None:
    (tmp_path / "journalctl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "journalctl").chmod(0o755)
    with observed(wire, path=str(tmp_path)) as running:
        running.wait_for(r"^failed\tjournal")
        sh(f"ip -n {wire} addr add {VIP}/32 dev eth0")
        running.wait_for(r"^vip\t.*\tvip\t1")
        running.end()
    assert parse(running.lines).problems == ("journal: journalctl has ended",)


# As etcd 3.6 has them, among 175 kB of others.
METRICS_3_6 = """\
# TYPE etcd_server_has_leader gauge
etcd_server_has_leader {has}
# HELP etcd_server_heartbeat_send_failures_total The total number of leader heartbeat send failures.
etcd_server_heartbeat_send_failures_total 0
# HELP etcd_server_is_leader Whether or not this member is a leader. 1 if is, 0 otherwise.
# TYPE etcd_server_is_leader gauge
etcd_server_is_leader {leads}
etcd_server_leader_changes_seen_total {changes}
"""


class Member:
    """Answers as etcd's metrics port, in a namespace, by way of a thread that has entered it."""

    def __init__(self, namespace: str) -> None:
        self.gauges: dict[str, int] | None = {"has": 1, "leads": 0, "changes": 2}
        self.asked = 0
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(namespace, ready), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def _serve(self, namespace: str, ready: threading.Event) -> None:
        member = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                member.asked += 1
                if member.gauges is None:
                    time.sleep(3)
                    return
                before = "# HELP etcd_disk_x about\n" * 4000
                self.wfile.write(f"HTTP/1.0 200 OK\r\n\r\n{before}{METRICS_3_6.format(**member.gauges)}".encode())

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        enter(namespace)
        self.server = ThreadingHTTPServer(("127.0.0.1", etcd.METRICS_PORT), Handler)
        self.server.daemon_threads = True
        ready.set()
        self.server.serve_forever(0.05)
        self.server.server_close()


def enter(namespace: str) -> None:
    """This thread alone."""
    import ctypes

    CLONE_NEWNET = 0x40000000
    with Path(f"/run/netns/{namespace}").open() as file:
        assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) == 0


def test_etcd_is_asked_gently_and_only_changes_are_told(wire: str) -> None:
    member = Member(wire)
    with observed(wire) as running:
        time.sleep(1.2)
        asked = member.asked
        before = time.monotonic()
        member.gauges = {"has": 1, "leads": 1, "changes": 3}
        running.wait_for(r"^etcd\t.*\t1\t1\t3")
        member.gauges = None
        running.wait_for(r"^etcd\t.*\t-\t-\t-")
        member.gauges = {"has": 1, "leads": 0, "changes": 4}
        running.wait_for(r"^etcd\t.*\t0\t1\t4")
        running.end()
    member.server.shutdown()
    assert asked <= 4
    leads = [each for each in parse(running.lines).seen if each.what == "etcd-leader"]
    assert [each.value for each in leads] == ["0", "1", "", "0"]
    # The change lies within what is said of it.
    assert leads[1].t - leads[1].error <= before + 0.6 and before <= leads[1].t + leads[1].error


def test_an_etcd_that_is_not_there_is_told_once(wire: str) -> None:
    with observed(wire) as running:
        time.sleep(1.2)
        running.end()
    assert [value for _, value in of(parse(running.lines).seen, "etcd-leader")] == [""]


# ---- over SSH, with clocks that differ ----


class Machines:
    """Real SSH servers on this host. Each runs commands in the namespaces of its machine."""

    def __init__(self, folder: Path) -> None:
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self._folder = folder
        self._stack: list[asyncssh.SSHAcceptor | asyncssh.SSHClientConnection] = []

    async def login(self, name: str, prefix: str) -> tuple[Remote, asyncssh.SSHAcceptor]:
        async def handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
            command = ["/bin/sh", "-c", f"exec {prefix} /bin/sh -c {shlex.quote(process.command or '')}"]
            pipe = asyncio.subprocess.PIPE
            running = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
            await process.redirect(stdin=running.stdin, stdout=running.stdout, stderr=running.stderr)
            process.exit(await running.wait())

        keys = self._folder / "authorized_keys"
        keys.write_bytes(self._key.export_public_key())
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            authorized_client_keys=str(keys),
            process_factory=handle,
            encoding=None,
        )
        connection = await asyncssh.connect(
            "127.0.0.1", server.get_port(), username="root", client_keys=[self._key], known_hosts=None, config=[]
        )
        self._stack += [connection, server]
        return Remote(name, connection, sudo=False), server

    async def close(self) -> None:
        for one in self._stack:
            one.close()
            await one.wait_closed()


@asynccontextmanager
async def machines(folder: Path) -> AsyncIterator[Machines]:
    found = Machines(folder)
    try:
        yield found
    finally:
        await found.close()


def now_there() -> tuple[RoundTrip, ...]:
    """A prober whose clock is this host's, 50 s ahead."""
    t = time.monotonic()
    return (RoundTrip(t, t + 50, t),)


def shifted(namespace: str, seconds: int) -> str:
    return f"unshare --time --monotonic {seconds} --fork ip netns exec {namespace}"


def test_machines_whose_clocks_differ_by_minutes_see_one_event_at_one_time(wire: str, tmp_path: Path) -> None:
    async def scenario() -> tuple[tuple[Observation, ...], tuple[float, float], tuple[str, ...]]:
        async with machines(tmp_path) as ssh:
            remotes = [(await ssh.login(name, shifted(wire, shift)))[0] for name, shift in (("cp1", 1000), ("cp2", 77))]
            observers = Observers(dual_stack())
            await observers.start(remotes)
            await asyncio.sleep(0.3)
            times = timed(lambda: sh(f"ip -n {wire} addr add {VIP}/32 dev eth0"))
            await asyncio.sleep(0.3)
            await observers.stop()
            return observers.observations(now_there()), times, observers.problems

    found, (before, after), problems = asyncio.run(scenario())
    assert [problem for problem in problems if "journal" not in problem] == []
    held = {each.machine: each for each in found if (each.what, each.value) == ("vip", "held")}
    assert set(held) == {"cp1", "cp2"}
    for each in held.values():
        assert before - each.error <= each.t - 50 <= after + each.error
        assert 0 < each.error < 1.0
    assert abs(held["cp1"].t - held["cp2"].t) <= held["cp1"].error + held["cp2"].error
    for name in held:
        watched = [each.value for each in found if (each.machine, each.what) == (name, "observer")]
        assert watched == ["watching", ""]


def test_a_machine_that_dies_ends_its_stream_and_may_be_observed_again(wire: str, tmp_path: Path) -> None:
    async def scenario() -> tuple[Observation, ...]:
        async with machines(tmp_path) as ssh:
            observers = Observers(dual_stack())
            remote, server = await ssh.login("cp1", shifted(wire, 500))
            await observers.start([remote])
            sh(f"ip -n {wire} addr add {VIP}/32 dev eth0")
            await asyncio.sleep(0.3)
            remote._connection.abort()
            server.close()
            sh(f"ip -n {wire} addr del {VIP}/32 dev eth0")
            await observers.read_clocks()
            # It boots: its clock begins anew.
            again, _ = await ssh.login("cp1", shifted(wire, 0))
            await observers.restart(again)
            await asyncio.sleep(0.2)
            await observers.stop()
            await observers.stop()
            return observers.observations(now_there())

    found = asyncio.run(scenario())
    watched = [each for each in found if each.what == "observer"]
    assert [each.value for each in watched] == ["watching", "", "watching", ""]
    assert [each.t for each in watched] == sorted(each.t for each in watched)
    assert [each.value for each in found if each.what == "vip"] == ["", "held", ""]


def test_a_machine_that_cannot_be_observed_is_told_and_seen_as_not_watched(tmp_path: Path) -> None:
    async def scenario() -> tuple[tuple[Observation, ...], tuple[str, ...]]:
        async with machines(tmp_path) as ssh:
            observers = Observers(dual_stack())
            mute, _ = await ssh.login("cp1", "false ||")
            broken, _ = await ssh.login("cp2", "env PATH=/nowhere")
            await observers.start([mute, broken])
            await observers.stop()
            return observers.observations(now_there()), observers.problems

    found, problems = asyncio.run(scenario())
    assert {(each.machine, each.what, each.value) for each in found} == {
        ("cp1", "observer", ""),
        ("cp2", "observer", ""),
    }
    assert any("cp1 is not fully observed" in problem for problem in problems)


def test_without_a_reading_of_the_probers_clock_nothing_is_claimed(tmp_path: Path) -> None:
    async def scenario() -> tuple[Observation, ...]:
        async with machines(tmp_path) as ssh:
            observers = Observers(dual_stack())
            await observers.start([(await ssh.login("cp1", ""))[0]])
            await observers.stop()
            return observers.observations(())

    assert asyncio.run(scenario()) == ()
