"""A change of each kind on a live cluster, under a probe: what clients see, and that a bad one is taken back."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import time
from pathlib import Path

import pytest

from haplane.model.cluster import BalancerProgram
from tests.components import golden_files
from tests.lab.conftest import LabUnderTest
from tests.lab.test_cluster import wait_until_whole

pytestmark = pytest.mark.lab

NODES = ("cp1", "cp2", "cp3")
# Machines that start pods take the processors of this one host from those that serve; how little a change costs where
# nothing else does is measured in bench/.
NOTICED_AT_MOST_S = 1.5


def changed(lab: LabUnderTest, **sections: str) -> dict[str, object]:
    """Apply with these top-level keys put into the file, or replaced; the summary of what clients saw."""
    lines = [line for line in lab.file.read_text().splitlines() if line.partition(":")[0] not in sections]
    lab.file.write_text("\n".join([*lines, *(f"{key}: {value}" for key, value in sections.items() if value)]) + "\n")
    done = json.loads(lab.haplane("apply", "--json", timeout_s=900).stdout)
    wait_until_whole(lab)
    assert "nothing to do" in lab.haplane("plan").stdout
    probe = done["probe"]
    assert probe["requests"] > 20, "the endpoint was asked meanwhile"
    assert probe["longest_gap_s"] < NOTICED_AT_MOST_S, probe
    return {"steps": done["steps"], **probe}


def everywhere(lab: LabUnderTest, script: str) -> set[str]:
    return {lab.inside(name, script) for name in NODES}


def test_timeouts_and_a_new_option_of_the_balancer_are_rolled(cluster: LabUnderTest) -> None:
    done = changed(cluster, haproxy="{defaults: {timeout queue: 2s}, backend: {option log-health-checks: true}}")
    assert done["not_served"] == 0
    assert everywhere(cluster, "grep -c 'timeout queue 2s' /etc/haproxy/haproxy.cfg") == {"1"}
    machines = [step["machine"] for step in done["steps"] if "reload HAProxy" in step["sentence"]]
    assert sorted(machines) == list(NODES)


def test_priorities_and_the_advert_interval_are_rolled(cluster: LabUnderTest) -> None:
    changed(cluster, keepalived="{vrrp_instance: {advert_int: 0.2}}")
    assert everywhere(cluster, "grep -c 'advert_int 0.2' /etc/keepalived/keepalived.conf") == {"1"}
    changed(cluster, keepalived="")
    assert everywhere(cluster, "grep -c 'advert_int 0.1' /etc/keepalived/keepalived.conf") == {"1"}
    # Its one child speaks VRRP. Reloads have been known to end it, see haplane.lab.image.
    child = "pgrep --parent $(systemctl show --value --property MainPID keepalived)"
    assert everywhere(cluster, f"chrt --pid $({child}) | grep -o SCHED_RR") == {"SCHED_RR"}
    assert everywhere(cluster, "journalctl --unit keepalived --grep 'exited due to signal' --quiet || true") == {""}


def test_a_changed_virtual_router_id_never_makes_two_holders(cluster: LabUnderTest) -> None:
    vip = cluster.status()["vip"]["address"]
    cluster.edit("endpoint: {vip:", "endpoint: {virtual_router_id: 77, vip:")
    plan = cluster.haplane("plan").stdout
    assert plan.count("stop keepalived") == 2, "the holder keeps it until the others listen no more"
    done = changed(cluster)
    assert done["requests"]
    assert everywhere(cluster, "grep -c 'virtual_router_id 77' /etc/keepalived/keepalived.conf") == {"1"}
    holders = [name for name in NODES if cluster.inside(name, f"ip -o addr show to {vip}", check=False)]
    assert len(holders) == 1


@pytest.mark.timeout(900)
def test_a_flag_of_the_apiserver_reaches_every_node_one_after_the_other(cluster: LabUnderTest) -> None:
    flags = "[{name: goaway-chance, value: '0.002'}, {name: shutdown-delay-duration, value: 10s}]"
    cluster.edit("kubeadm:\n", f"kubeadm:\n  ClusterConfiguration: {{apiServer: {{extraArgs: {flags}}}}}\n")
    changed(cluster)
    assert everywhere(cluster, "tr '\\0' ' ' < /proc/$(pidof kube-apiserver)/cmdline | grep -c chance=0.002") == {"1"}
    assert everywhere(cluster, "ls /etc/kubernetes/manifests | wc -l") == {"4"}


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_timers_of_etcd_change_one_member_at_a_time(cluster: LabUnderTest) -> None:
    done = changed(cluster, etcd="{heartbeat: 50ms, election: 500ms}")
    assert done["requests"]
    assert everywhere(cluster, "tr '\\0' ' ' < /proc/$(pidof etcd)/cmdline | grep -c election-timeout=500") == {"1"}


def test_what_the_validator_refuses_changes_nothing(cluster: LabUnderTest) -> None:
    before = everywhere(cluster, "sha256sum /etc/haproxy/haproxy.cfg")
    text = cluster.file.read_text()
    cluster.file.write_text("".join(_without(text, "haproxy")) + "haproxy: {defaults: {timeout nonsense: 1s}}\n")
    try:
        done = cluster.haplane("apply", code=3)
    finally:
        cluster.file.write_text(text)
    assert "nonsense" in done.stderr
    assert everywhere(cluster, "sha256sum /etc/haproxy/haproxy.cfg") == before
    assert "nothing to do" in cluster.haplane("apply").stdout


@pytest.mark.timeout(600)
def test_what_breaks_the_gate_is_taken_back(cluster: LabUnderTest) -> None:
    """A valid configuration that does not serve: the first machine gets its files back, the others are not touched."""
    before = everywhere(cluster, "sha256sum /etc/haproxy/haproxy.cfg")
    text = cluster.file.read_text()
    broken = 'haproxy: {frontend: {bind: "127.0.0.1:8443"}}\n'
    cluster.file.write_text("".join(_without(text, "haproxy")) + broken)
    try:
        done = cluster.haplane("apply", code=3, timeout_s=500)
    finally:
        cluster.file.write_text(text)
    assert "does not reach the API" in done.stderr
    assert "its previous files were put back and nothing else was changed" in done.stderr
    assert everywhere(cluster, "sha256sum /etc/haproxy/haproxy.cfg") == before
    cluster.haplane("apply")
    wait_until_whole(cluster)


def test_a_saved_plan_is_applied_exactly_or_refused(cluster: LabUnderTest, tmp_path: Path) -> None:
    cluster.inside("cp2", "echo '# by hand' >> /etc/haproxy/haproxy.cfg")
    saved = tmp_path / "plan.json"
    plan = cluster.haplane("plan", "--out", str(saved)).stdout
    assert "cp2: write /etc/haproxy/haproxy.cfg (changed since haplane wrote it: " in plan
    cluster.inside("cp2", "echo '# again' >> /etc/haproxy/haproxy.cfg")
    refused = cluster.haplane("apply", "--plan", str(saved), code=3)
    assert "the plan is out of date: nothing was changed" in refused.stderr
    assert "# by hand" in cluster.inside("cp2", "cat /etc/haproxy/haproxy.cfg")
    cluster.haplane("plan", "--out", str(saved))
    assert "done" in cluster.haplane("apply", "--plan", str(saved)).stdout
    assert "# by hand" not in cluster.inside("cp2", "cat /etc/haproxy/haproxy.cfg")


def test_a_hazard_in_the_file_stops_plan_and_apply(cluster: LabUnderTest) -> None:
    text = cluster.file.read_text()
    cluster.file.write_text("".join(_without(text, "haproxy")) + "haproxy: {defaults: {timeout tunnel: 1m}}\n")
    try:
        for command in ("plan", "apply"):
            done = cluster.haplane(command, code=1)
            assert "error[lb-idle-timeout]" in done.stderr
            assert "nothing was changed" in done.stderr
        cluster.file.write_text(cluster.file.read_text() + "accept: {lb-idle-timeout: a test}\n")
        assert "timeout tunnel 1m" in cluster.haplane("plan").stdout
    finally:
        cluster.file.write_text(text)


def test_preflight_finds_nothing_on_a_whole_cluster_and_keeps_what_it_measured(cluster: LabUnderTest) -> None:
    done = cluster.haplane("preflight", "--quick", timeout_s=120)
    assert "✗" not in done.stdout
    facts = cluster.file.with_name("facts.yaml").read_text()
    assert 'interface: "eth0"' in facts
    assert "round_trip_ms: {cp2:" in facts


WAITING = """
import asyncio, ssl, sys, time
CONTEXT = ssl.create_default_context(); CONTEXT.check_hostname = False; CONTEXT.verify_mode = ssl.CERT_NONE
async def wait_for_news():
    reader, writer = await asyncio.open_connection(sys.argv[1], 8443, ssl=CONTEXT)
    print("connected", flush=True)
    try:
        await reader.read(1)
    except OSError:
        pass
    print("told", time.time(), flush=True)
async def main():
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(wait_for_news())
asyncio.run(main())
"""
# client-go notices a connection whose other end vanished by a ping after 30 s, and gives it 15 s more.
TOLD_WITHIN_S = 3.0


def test_clients_that_only_wait_are_told_when_the_holder_of_the_vip_dies(cluster: LabUnderTest) -> None:
    """50 idle connections, and a `kubectl get -w`: a watch that would have stayed silent for 45 s ends at once."""
    status = cluster.status()
    vip, holder = status["vip"]["address"], status["vip"]["holders"][0]
    kubeconfig = cluster.haplane("kubeconfig", "--out", "-").stdout
    machine = f"haplane-{cluster.name}-client"
    subprocess.run(
        ["podman", "exec", "-i", machine, "sh", "-c", "umask 077; cat > /root/config"],
        input=kubeconfig,
        text=True,
        check=True,
    )
    watch = "$(ls /var/lib/haplane/bundles/*/bin/kubectl | head -n 1) --kubeconfig /root/config get nodes -w"
    idle, watcher = (
        subprocess.Popen(["podman", "exec", machine, *command], stdout=subprocess.PIPE, text=True)
        for command in (["python3", "-c", WAITING, str(vip)], ["sh", "-c", f"{watch}; echo told $(date +%s.%N)"])
    )
    assert idle.stdout and watcher.stdout
    for _ in range(50):
        assert idle.stdout.readline().strip() == "connected"
    assert "cp1" in "".join(watcher.stdout.readline() for _ in range(4)), "the watch has begun"
    began = time.time()
    try:
        cluster.haplane("lab", "power", "off", holder)
        told = [float(line.split()[1]) for line in idle.communicate(timeout=60)[0].splitlines()]
        lines = [line for line in watcher.communicate(timeout=60)[0].splitlines() if line.startswith("told")]
        told += [float(line.split()[1]) for line in lines]
    finally:
        cluster.haplane("lab", "power", "on", holder)
    assert len(told) == 51
    assert max(told) - began < TOLD_WITHIN_S, f"the last was told {max(told) - began:.2f} s after the cut was asked for"
    wait_until_whole(cluster)


# Connections from port 20000, one after the other, that wait until they are told: "connected", "told", and so on.
SAME_PORT = """
import socket, struct, sys
for _ in range(2):
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.settimeout(30)
        one.bind(("", 20000))
        one.connect((sys.argv[1], 8443))
        print("connected", flush=True)
        try:
            one.recv(1)
        except OSError as error:
            assert "reset" in str(error), error
    print("told", flush=True)
"""


def test_a_client_that_uses_a_port_again_is_known_as_before(cluster: LabUnderTest) -> None:
    """Where it was told, Linux has seen our segment to it before its own, and calls it the one that was called."""
    vip = cluster.status()["vip"]["address"]
    command = ["podman", "exec", f"haplane-{cluster.name}-client", "python3", "-c", SAME_PORT, str(vip)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert client.stdout
    open_here = "echo show table clients data.conn_cur gt 0 | socat -t 2 - UNIX-CONNECT:/run/haproxy/admin.sock"
    try:
        for _ in range(2):
            assert client.stdout.readline().strip() == "connected"
            # Marks come within 2 s, and are replicated.
            time.sleep(4)
            holder = cluster.status()["vip"]["holders"][0]
            assert cluster.inside(holder, open_here).count(":20000 ") == 1
            cluster.inside(holder, "systemctl stop keepalived")
            cluster.inside(holder, "systemctl start keepalived")
            assert client.stdout.readline().strip() == "told"
            wait_until_whole(cluster)
    finally:
        client.kill()
        client.wait()


# Connections that say nothing at all: "connected" once all are made, then when the first of them ended.
MANY = """
import asyncio, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
async def main():
    made = [await asyncio.open_connection(sys.argv[1], 8443) for _ in range(int(sys.argv[2]))]
    print("connected", flush=True)
    waiting = [asyncio.create_task(reader.read(1)) for reader, _ in made]
    ended, _ = await asyncio.wait(waiting, timeout=float(sys.argv[3]), return_when="FIRST_COMPLETED")
    print(time.time() if ended else "never")
asyncio.run(main())
"""


def first_end(cluster: LabUnderTest, connections: int, *, hangs_s: float, within_s: float, reloaded: bool) -> float:
    """How long after an apiserver was stopped the first of so many connections ended; infinite if none did in time.

    reloaded: HAProxy begins a moment before, from when it counts, and knows no apiserver that has been up for long.
    """
    status = cluster.status()
    vip, holder = status["vip"]["address"], status["vip"]["holders"][0]
    late = next(name for name in NODES if name != holder)
    began = time.time()
    if reloaded:
        cluster.inside(holder, "systemctl reload haproxy && sleep 1")
    else:
        # One that has just come back is given fewer connections for 10 s (slowstart).
        time.sleep(12)
    command = ["podman", "exec", f"haplane-{cluster.name}-client", "python3", "-c", MANY]
    clients = subprocess.Popen([*command, str(vip), str(connections), str(within_s)], stdout=subprocess.PIPE, text=True)
    assert clients.stdout and clients.stdout.readline().strip() == "connected"
    # Who says nothing is connected to an apiserver after 0.1 s.
    time.sleep(0.5)
    if not reloaded:
        began = time.time()
    cluster.inside(late, "kill -STOP $(pidof kube-apiserver)")
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            clients.wait(hangs_s)
    finally:
        cluster.inside(late, "kill -CONT $(pidof kube-apiserver)")
    ended = clients.communicate(timeout=60)[0].strip()
    wait_until_whole(cluster)
    return math.inf if ended == "never" else float(ended) - began


def test_a_late_apiserver_keeps_its_sessions_while_nobody_knows_whether_others_would_stand_them(
    cluster: LabUnderTest,
) -> None:
    """HAProxy knows since when one has been up in whole seconds: its ten are more than nine. With few sessions, beside
    others that are well, it would be less than four.
    """
    assert 9.0 < first_end(cluster, 30, hangs_s=25, within_s=25, reloaded=True) < 25


def test_a_late_apiserver_with_many_sessions_keeps_them_longer(cluster: LabUnderTest) -> None:
    """A third of them is there, and 5 ms for each is more than the second that a few have."""
    assert 5.5 < first_end(cluster, 3000, hangs_s=25, within_s=25, reloaded=False) < 25


def test_a_late_apiserver_that_answers_again_has_kept_its_sessions(cluster: LabUnderTest) -> None:
    assert first_end(cluster, 30, hangs_s=5, within_s=12, reloaded=True) == math.inf


# Connections that say nothing after a TLS handshake, made again when they end: "connected" once all are made.
BACK = """
import asyncio, ssl, sys
made = []
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
async def stay():
    while True:
        reader, writer = await asyncio.open_connection(sys.argv[1], 8443, ssl=context)
        made.append(1)
        await reader.read(1)
        writer.close()
async def main():
    count = int(sys.argv[2])
    tasks = [asyncio.create_task(stay()) for _ in range(count)]
    while len(made) < count:
        await asyncio.sleep(0.01)
    print("connected", flush=True)
    await asyncio.wait(tasks, timeout=float(sys.argv[3]))
asyncio.run(main())
"""
# Ends all sessions of one apiserver; its sessions and its weight before, 0.2 s and 2.2 s later.
END_SESSIONS = """
ask="socat -t 2 - UNIX-CONNECT:/run/haproxy/admin.sock"
look() {{ echo show stat | $ask | awk -F, '$1 == "apiservers" && $2 == "{name}" {{print $5, $19}}'; }}
look
echo shutdown sessions server apiservers/{name} | $ask > /dev/null
sleep 0.2; look; sleep 2; look"""


def test_an_apiserver_that_loses_its_sessions_gets_no_new_ones_for_a_second(cluster: LabUnderTest) -> None:
    """One that dies loses them before it stops to listen, and is then the one with the fewest (leastconn)."""
    status = cluster.status()
    vip, holder = status["vip"]["address"], status["vip"]["holders"][0]
    loses = next(name for name in NODES if name != holder)
    # One that has just come back is given fewer connections for 10 s (slowstart).
    time.sleep(12)
    command = ["podman", "exec", f"haplane-{cluster.name}-client", "python3", "-c", BACK, str(vip), "600", "4"]
    clients = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert clients.stdout and clients.stdout.readline().strip() == "connected"
    seen = cluster.inside(holder, END_SESSIONS.format(name=loses)).splitlines()
    clients.communicate(timeout=60)
    (had, weight), (soon, weight_soon), (later, weight_later) = (tuple(map(int, line.split())) for line in seen)
    assert had > 150 and weight > 0, seen
    assert weight_soon == 0 and weight_later == weight, seen
    # All 600 are connected again by then.
    assert max(soon, later) < had / 2, seen


# TLS connections, one each 20 ms; how many had no answer within 1.5 s.
UNANSWERED = """
import asyncio, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
async def ask():
    try:
        writer = (await asyncio.wait_for(asyncio.open_connection(sys.argv[1], 8443, ssl=context), 1.5))[1]
    except (OSError, TimeoutError):
        return 1
    writer.close()
    return 0
async def main():
    tasks = []
    for _ in range(int(sys.argv[2])):
        tasks.append(asyncio.create_task(ask()))
        await asyncio.sleep(0.02)
    print(sum(await asyncio.gather(*tasks)))
asyncio.run(main())
"""


def test_an_apiserver_that_hangs_and_has_few_sessions_does_not_get_all_new_ones(cluster: LabUnderTest) -> None:
    """As one does that has just come back: leastconn sends it everything, and its checks fail after half a second."""
    status = cluster.status()
    vip, holder = str(status["vip"]["address"]), status["vip"]["holders"][0]
    hangs = next(name for name in NODES if name != holder)
    client = ["podman", "exec", f"haplane-{cluster.name}-client", "python3", "-c"]
    with subprocess.Popen([*client, BACK, vip, "300", "8"], stdout=subprocess.PIPE, text=True) as clients:
        assert clients.stdout and clients.stdout.readline().strip() == "connected"
        # They come back to the others; it is left alone for a second.
        had, *_, (few, weight) = (
            tuple(map(int, line.split()))
            for line in cluster.inside(holder, END_SESSIONS.format(name=hangs)).splitlines()
        )
        assert had[0] > 70 and few < 30 and weight > 0, (had, few, weight)
        cluster.inside(hangs, "kill -STOP $(pidof kube-apiserver)")
        try:
            done = subprocess.run([*client, UNANSWERED, vip, "25"], capture_output=True, text=True, timeout=30)
        finally:
            cluster.inside(hangs, "kill -CONT $(pidof kube-apiserver)")
    # Without the rule: each of them.
    assert int(done.stdout) < 12, done
    wait_until_whole(cluster)


# One line per look: when, and the local ports of the kubelet's connections to the endpoint.
LOOK_AT_KUBELET = """
for i in $(seq 200); do
  echo "$(date +%s.%N) $(ss -Htnp state established dst {vip} | awk '/kubelet/ {{printf "%s ", $3}}')"
  sleep 0.05
done
"""


def test_a_kubelet_behind_the_vip_goes_on_when_its_holder_dies(cluster: LabUnderTest) -> None:
    """As a worker's does: kubeadm lets a control-plane node's kubelet ask the apiserver beside it, so one is turned."""
    wait_until_whole(cluster)
    status = cluster.status()
    vip, holder = status["vip"]["address"], status["vip"]["holders"][0]
    # Neither the holder nor the one that will hold the VIP next: its own address would be the other end.
    name = [one for one in NODES if one != holder][-1]
    kubeconfig = "/etc/kubernetes/kubelet.conf"
    cluster.inside(name, f"cp {kubeconfig} /root/ && sed -i 's#server: .*#server: https://{vip}:8443#' {kubeconfig}")
    try:
        cluster.inside(name, "systemctl restart kubelet")
        machine = f"haplane-{cluster.name}-{name}"
        look = ["podman", "exec", machine, "sh", "-c", LOOK_AT_KUBELET.format(vip=vip)]
        time.sleep(8)
        with subprocess.Popen(look, stdout=subprocess.PIPE, text=True) as process:
            time.sleep(1)
            began = time.time()
            cluster.haplane("lab", "power", "off", holder)
            seen = [line.split() for line in process.communicate(timeout=60)[0].splitlines()]
        before = {port for when, *ports in seen if float(when) < began for port in ports}
        assert before, "it was connected through the VIP"
        again = [float(when) for when, *ports in seen if ports and not before & set(ports)]
        assert again, "the kubelet never came back"
        assert again[0] - began < TOLD_WITHIN_S, f"back {again[0] - began:.2f} s after the cut was asked for"
    finally:
        cluster.haplane("lab", "power", "on", holder)
        cluster.inside(name, f"cp /root/kubelet.conf {kubeconfig} && systemctl restart kubelet")
    wait_until_whole(cluster)


def test_golden_files_pass_the_components_own_checkers(cluster: LabUnderTest) -> None:
    """On a machine that has the programs, and under their final paths what the files refer to."""
    machine = f"haplane-{cluster.name}-cp1"
    for by, count, whose in (
        (BalancerProgram.HAPROXY, 4, "kubeadm, containerd, HAProxy, keepalived"),
        (BalancerProgram.NGINX, 2, "nginx, keepalived"),
        (BalancerProgram.NONE, 1, "keepalived"),
    ):
        folder = str(golden_files.FOLDERS[by])
        archive = subprocess.run(["tar", "-C", folder, "-c", "."], capture_output=True, check=True).stdout
        unpack = ["podman", "exec", "-i", machine, "sh", "-c", "mkdir -p /tmp/golden && tar -C /tmp/golden -x"]
        subprocess.run(unpack, input=archive, check=True)
        validators = [files.validate for files in golden_files.file_sets(by) if files.validate]
        assert len(validators) == count, whose
        for validate in validators:
            cluster.inside("cp1", f"cd /tmp/golden && {validate}")
        cluster.inside("cp1", "rm -rf /tmp/golden")


def _without(text: str, key: str) -> list[str]:
    return [line for line in text.splitlines(keepends=True) if line.partition(":")[0] != key]
