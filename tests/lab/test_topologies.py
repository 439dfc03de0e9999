"""Every example, rehearsed in a lab: what clients see while it is broken, not what files say.

Three stand for all in `make test`; the others belong to `make soak`.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.conftest import LabUnderTest, make_lab
from tests.lab.test_cluster import wait_until_whole

pytestmark = pytest.mark.lab

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
HTTP = Path(__file__).parent / "http.yaml"
# What stands in it for the image that every node has.
COREDNS_IMAGE = "IMAGE-OF-COREDNS"
# What must hold on a machine as busy as one that runs a whole cluster; the rest is measured in docs/topologies.md.
CERTAIN = (
    "no-write-lost",
    "reads-never-go-back",
    "register-linearizable",
    "watch-sees-all",
    "one-controller-acts",
    "recovered",
)
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
# Of a pod's network, whose name server is the cluster's.
LOOK_UP = """
import socket, struct
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.settimeout(3)
name = b"".join(bytes([len(part)]) + part.encode() for part in "http.default.svc.cluster.local".split("."))
asked.sendto(struct.pack(">6H", 7, 256, 1, 0, 0, 0) + name + bytes(1) + struct.pack(">2H", 1, 1), ("10.96.0.10", 53))
print(".".join(map(str, asked.recv(512)[-4:])))
"""


# The connections of a machine's kubelet to the balancer beside it -> the apiserver that each leads to.
KUBELETS_WAYS = """
import json, re, subprocess
ask = "echo show sess | socat -t 2 - UNIX-CONNECT:/run/haproxy/admin.sock"
ways = dict(re.findall(r" src=(\\S+) .*? srv=(\\S+)", subprocess.getoutput(ask)))
connections = subprocess.getoutput("ss -tnpH state established '( dport = :8443 )'").splitlines()
print(json.dumps({line.split()[2]: ways[line.split()[2]] for line in connections if '"kubelet"' in line}))
"""

START_KUBE_PROXY_ANEW = """
process() { pgrep -f '^/usr/local/bin/kube-proxy '; }
old=$(process) && kill $old
for second in $(seq 60); do
  new=$(process) && [ "$new" != "$old" ] && break
  sleep 1
done
[ -n "$new" ] && [ "$new" != "$old" ] && sleep 5
"""


@contextmanager
def lab_like(example: str) -> Iterator[LabUnderTest]:
    name, arguments = example.replace("-", ""), ("--like", str(EXAMPLES / f"{example}.yaml"))
    # A context manager: the lab goes when the test fails, too.
    with contextmanager(make_lab)(name, "10.78.0.0/24", arguments=arguments) as lab:
        lab.haplane("apply", timeout_s=600)
        wait_until_whole(lab)
        assert "nothing to do" in lab.haplane("plan").stdout, "a second apply would change something"
        yield lab


def drilled(
    lab: LabUnderTest, drill: str, *options: str, also: Collection[str] = (), unseen: Collection[str] = ()
) -> None:
    """Run it; what clients rely on must have held, and also this. unseen: what this design does not promise."""
    wait_until_whole(lab)
    done = lab.haplane("drill", "run", drill, "--json", *options, code=None, timeout_s=400)
    assert done.returncode in (0, 1, 4), done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    found = {verdict["name"]: verdict for verdict in run["verdicts"]}
    for name in {*CERTAIN, *also} - {*unseen}:
        assert name in found, f"{drill}: {sorted(found)}"
        assert found[name]["outcome"] == "held", f"{drill}: {found[name]}\n{said(lab)}"


def said(lab: LabUnderTest) -> str:
    """By keepalived and the balancers in the last two minutes: they know why the VIP left."""
    journal = "journalctl --unit keepalived --unit haproxy --since -2min --output short-precise"
    machines = [one["name"] for one in lab.status()["machines"]]
    return "\n".join(lab.inside(machine, journal, check=False) for machine in machines)


def test_a_balancer_pair_of_its_own() -> None:
    with lab_like("balancer-pair") as lab:
        status = lab.status()
        assert set(status["vip"]["holders"]) <= {"lb1", "lb2"}
        drilled(lab, "power-off-vip-holder", also={"vip-moved"})
        drilled(lab, "haproxy-hang")
        wait_until_whole(lab)
        keeps_the_vip_alone_while_apiservers_are_slow(lab)


def keeps_the_vip_alone_while_apiservers_are_slow(lab: LabUnderTest) -> None:
    (holder,) = lab.status()["vip"]["holders"]
    (other,) = {"lb1", "lb2"} - {holder}
    nodes = ("cp1", "cp2", "cp3")
    lab.inside(other, "systemctl stop keepalived haproxy")
    since = lab.inside(holder, "date '+%F %T'; sleep 1.1")
    try:
        for node in nodes:
            lab.inside(node, "pkill --signal STOP --exact kube-apiserver")
        time.sleep(4)
    finally:
        for node in nodes:
            lab.inside(node, "pkill --signal CONT --exact kube-apiserver")
    journal = lab.inside(holder, f"journalctl --unit keepalived --unit haproxy --since '{since}'")
    assert "has no server available" in journal
    assert "STATE" not in journal, "it has let go of the VIP"
    lab.inside(other, "systemctl start haproxy keepalived")
    wait_until_whole(lab)


def test_etcd_on_machines_of_its_own() -> None:
    with lab_like("external-etcd") as lab:
        # A machine of etcd and a control-plane node at once.
        drilled(lab, "power-off-etcd-machine-and-node")
        # A member whose data is gone joins the others again; until then it does not start by itself.
        lab.inside("etcd3", "systemctl stop etcd; rm -rf /var/lib/etcd/member; systemctl start --no-block etcd")
        assert "join the other members of etcd anew" in lab.haplane("plan").stdout
        lab.haplane("apply")
        wait_until_whole(lab)
        assert {one["name"] for one in lab.status()["etcd"]["members"]} == {"etcd1", "etcd2", "etcd3"}


def test_workers_serve_while_the_control_plane_breaks() -> None:
    with lab_like("workers") as lab:
        path = "jsonpath={.spec.template.spec.containers[0].image}"
        image = lab.inside("cp1", f"{KUBECTL} -n kube-system get deployment coredns -o '{path}'")
        command = ["podman", "exec", "-i", f"haplane-{lab.name}-cp1", "sh", "-c", f"{KUBECTL} apply -f -"]
        manifests = HTTP.read_text().replace(COREDNS_IMAGE, image)
        subprocess.run(command, input=manifests, text=True, check=True, capture_output=True)
        lab.inside("cp1", f"{KUBECTL} rollout status deployment/http --timeout 90s")
        service = lab.inside("cp1", f"{KUBECTL} get service http -o 'jsonpath={{.spec.clusterIP}}'")
        pod = "$(pgrep -f 'conf /etc/http/Corefile' | head -n 1)"
        named = lab.inside("worker1", f"nsenter -t {pod} -n python3 - <<'ASK'\n{LOOK_UP}ASK")
        assert named == service, "the cluster's DNS"
        worker = json.loads(lab.haplane("status", "--json").stdout)["machines"][-1]["name"]
        address = lab.inside("cp1", f"{KUBECTL} get node {worker} -o 'jsonpath={{.status.addresses[0].address}}'")
        url = f"http://{address}:30080/health"
        asking = ("--ask", url, "--ask-failed-at-most", "10")
        drilled(lab, "power-off-vip-holder", *asking, also={f"service {url}"})
        # A kube-proxy that starts finds what it wrote before; so does one that runs, once an hour.
        lab.inside(worker, START_KUBE_PROXY_ANEW)
        lab.inside("admin", f"curl --silent --show-error --fail --max-time 5 {url}")


@pytest.mark.soak
def test_five_nodes_lose_two_at_once() -> None:
    with lab_like("stacked-5") as lab:
        drilled(lab, "power-off-two")


@pytest.mark.soak
def test_an_address_of_somebody_elses() -> None:
    with lab_like("external-load-balancer") as lab:
        assert lab.status()["vip"]["holders"] == []
        balancer = lab.file.read_text().split("cp1:")[1].split("address: ")[1].split()[0]
        assert (
            lab.inside("admin", f"curl -s -o /dev/null -w '%{{http_code}}' http://{balancer}:8404/apiservers") == "200"
        )
        drilled(lab, "power-off-control-plane-node")
        drilled(lab, "haproxy-death-balancer")


@pytest.mark.soak
@pytest.mark.parametrize("example", ["stacked-3", "nginx", "dual-stack", "ipv6"])
def test_the_vip_moves(example: str) -> None:
    # nginx does not know who is connected, so nobody tells those who watch that the VIP has moved.
    unseen = {"watch-sees-all"} if example == "nginx" else set()
    with lab_like(example) as lab:
        drilled(lab, "power-off-vip-holder", also={"vip-moved"}, unseen=unseen)


@pytest.mark.soak
def test_a_vip_that_leads_straight_to_an_apiserver() -> None:
    with lab_like("no-balancer") as lab:
        # Nobody tells those who watch that the VIP has moved, so what they see is not judged.
        drilled(lab, "power-off-vip-holder", unseen={"watch-sees-all"})
        drilled(lab, "apiserver-hang-vip-holder", also={"while-broken"}, unseen={"watch-sees-all"})
        # A flag of all apiservers: the VIP is handed over before the one beside it is replaced.
        flag = "{name: max-requests-inflight, value: '399'}"
        lab.edit("kubeadm:\n", f"kubeadm:\n  ClusterConfiguration: {{apiServer: {{extraArgs: [{flag}]}}}}\n")
        applied = json.loads(lab.haplane("apply", "--json", timeout_s=600).stdout)
        assert applied["probe"]["not_served"] <= 2, applied["probe"]


@pytest.mark.soak
def test_a_worker_with_a_balancer_of_its_own_keeps_its_connection() -> None:
    with lab_like("worker-balancers") as lab:
        connections = "ss -tnH state established '( dport = :8443 )' | awk '{print $3, $4}' | sort"
        time.sleep(5)
        before = lab.inside("worker1", connections)
        assert before and all("127.0.0.1:8443" in line for line in before.splitlines())
        holder = lab.status()["vip"]["holders"][0]
        lab.inside(holder, "systemctl stop keepalived")
        time.sleep(3)
        assert lab.inside("worker1", connections) == before, "the VIP has moved, and nobody there noticed"
        lab.inside(holder, "systemctl start keepalived")
        wait_until_whole(lab)
        ask = f"python3 - <<'ASK'\n{KUBELETS_WAYS}ASK"
        ways = json.loads(lab.inside("worker1", ask))
        assert ways
        lost = next(name for name in ("cp1", "cp2", "cp3") if name not in ways.values())
        lab.haplane("lab", "power", "off", lost)
        time.sleep(5)
        assert json.loads(lab.inside("worker1", ask)) == ways, f"{lost} is not one of them"
        lab.haplane("lab", "power", "on", lost)
        drilled(lab, "power-off-backup")
