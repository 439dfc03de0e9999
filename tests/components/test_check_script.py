"""What keepalived asks, run as it is: by real shells and curl, against servers that do what real ones do."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.model.clusters import balanced_by, view
from tests.probes.tls_server import Authority, make_authority

from haplane.components import keepalived
from haplane.components.base import HEALTH_PORT
from haplane.model.cluster import BalancerProgram, BalancerRole, Cluster, Role

OTHER = "127.0.0.2"


@contextmanager
def page(
    code: int | Callable[[], int], tls: Authority | None = None, *, address: str = "127.0.0.1", port: int = 0
) -> Iterator[int]:
    """The port of a health page on loopback, or with tls of an apiserver that says so to whatever it is asked."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code() if callable(code) else code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer((address, port), Page)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.chain_file)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def listening(address: str, port: int = 0) -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server((address, port)) as server:
        yield server.getsockname()[1]


# Nobody is there.
DEAD = 1


def exit_code(
    tmp_path: Path,
    by: BalancerProgram,
    *,
    health: int = DEAD,
    other: int = DEAD,
    apiserver: int = DEAD,
    ca_file: Path = Path("/dev/null"),
    count: int = 2,
) -> int:
    """Of the script of the first machine. Ports of its health page, of the second machine's balancer, its apiserver."""
    cluster = two_nodes(by, other, count)
    text = script(cluster, "cp1").replace(f"/127.0.0.1/{HEALTH_PORT};", f"/127.0.0.1/{health};")
    text = text.replace("127.0.0.1:6443", f"127.0.0.1:{apiserver}").replace(keepalived.authority(cluster), str(ca_file))
    file = tmp_path / "check"
    file.write_text(text)
    file.chmod(0o755)
    return subprocess.run([str(file)], check=False, timeout=20).returncode


def script(cluster: Cluster, machine: str) -> str:
    design = keepalived.design(view(cluster, machine))
    return next(file.content for file in design.files if file.path == keepalived.CHECK_FILE)


def two_nodes(by: BalancerProgram, port: int, count: int) -> Cluster:
    cluster = balanced_by(by)
    machines = {
        name: replace(cluster.machines[name], addresses=(ip_address(address),))
        for name, address in list({"cp1": "127.0.0.1", "cp2": OTHER}.items())[:count]
    }
    endpoint = replace(cluster.endpoint, port=port if by is not BalancerProgram.NONE else 6443)
    return replace(cluster, machines=machines, endpoint=endpoint)


@pytest.mark.parametrize("by", [BalancerProgram.HAPROXY, BalancerProgram.NGINX])
def test_a_balancer_that_does_not_answer_loses_the_vip(tmp_path: Path, by: BalancerProgram) -> None:
    with listening("127.0.0.1") as hung, listening(OTHER) as other:
        assert exit_code(tmp_path, by, health=DEAD, other=other) == 1
        assert exit_code(tmp_path, by, health=hung, other=other) == 1


def test_nginx_keeps_the_vip_while_its_machine_reaches_another(tmp_path: Path) -> None:
    with page(200) as health, listening(OTHER) as other:
        assert exit_code(tmp_path, BalancerProgram.NGINX, health=health, other=other) == 0


def test_who_is_cut_off_lets_go_of_the_vip_whatever_nginx_says(tmp_path: Path) -> None:
    with page(200) as health:
        assert exit_code(tmp_path, BalancerProgram.NGINX, health=health, other=DEAD) == 1


def test_haproxy_that_serves_somebody_is_not_asked_for_others(tmp_path: Path) -> None:
    with page(200) as health:
        assert exit_code(tmp_path, BalancerProgram.HAPROXY, health=health, other=DEAD) == 0
    with page(503) as health:
        assert exit_code(tmp_path, BalancerProgram.HAPROXY, health=health, other=DEAD) == 1


def test_haproxy_without_an_apiserver_leaves_the_vip_to_another_balancer_that_serves(tmp_path: Path) -> None:
    tls = make_authority(tmp_path / "tls")
    with page(503) as health, page(200, tls, address=OTHER) as other:
        assert exit_code(tmp_path, BalancerProgram.HAPROXY, health=health, other=other) == 1


def test_haproxy_that_knows_of_an_apiserver_again_keeps_the_vip(tmp_path: Path) -> None:
    tls, codes = make_authority(tmp_path / "tls"), iter((503, 200))
    with page(lambda: next(codes)) as health, page(200, tls, address=OTHER) as other:
        assert exit_code(tmp_path, BalancerProgram.HAPROXY, health=health, other=other) == 0


def test_haproxy_whose_clients_are_served_all_the_same_keeps_the_vip(tmp_path: Path) -> None:
    """Its checks fail because all is overloaded, and it asks the apiservers anyway."""
    tls = make_authority(tmp_path / "tls")
    with page(503) as health, page(200, tls) as both, page(200, tls, address=OTHER, port=both):
        assert exit_code(tmp_path, BalancerProgram.HAPROXY, health=health, other=both) == 0


def test_haproxy_that_may_only_be_slow_keeps_the_vip(tmp_path: Path) -> None:
    """Where machines are overloaded all are slow, and each move of the VIP makes it worse."""
    tls = make_authority(tmp_path / "tls")
    with page(503) as health, page(200, tls, address=OTHER) as both, listening("127.0.0.1", both):
        assert exit_code(tmp_path, BalancerProgram.HAPROXY, health=health, other=both) == 0


def test_where_nobody_serves_the_vip_stays_with_who_reaches_another(tmp_path: Path) -> None:
    tls = make_authority(tmp_path / "tls")
    with page(503) as health, listening(OTHER) as silent, page(500, tls, address=OTHER) as not_ready:
        for other in (silent, not_ready):
            assert exit_code(tmp_path, BalancerProgram.HAPROXY, health=health, other=other) == 0


def test_who_is_cut_off_lets_go_also_if_its_own_apiserver_takes_long_to_say_no(tmp_path: Path) -> None:
    with page(503) as health, listening("127.0.0.1") as own:
        assert exit_code(tmp_path, BalancerProgram.HAPROXY, health=health, other=own) == 1


def test_all_questions_fit_into_the_time_that_the_script_has() -> None:
    """A page that answers takes no time; all that is asked then may time out. Five balancers are the most."""
    cluster = balanced_by(BalancerProgram.HAPROXY)
    timeout_s = float(keepalived.settings(view(cluster, "cp1"))["vrrp_script"]["timeout"].arguments)
    others_s = keepalived.ASK_OWN_S + 4 * keepalived.ASK_OTHERS_S
    # Either another balancer serves, or none is reached.
    for rest_s in (keepalived.AGAIN_S, keepalived.NODES_AT_MOST * keepalived.ASK_OTHERS_S):
        assert others_s + rest_s < timeout_s * 0.85


def test_a_single_machine_has_nobody_to_be_cut_off_from(tmp_path: Path) -> None:
    with page(200) as health:
        assert exit_code(tmp_path, BalancerProgram.NGINX, health=health, other=DEAD, count=1) == 0


def test_nginx_beside_an_apiserver_that_is_ready_serves_even_if_no_other_machine_is_left(tmp_path: Path) -> None:
    own = make_authority(tmp_path / "own")
    with page(200) as health, page(200, own) as ready, page(500, own) as not_ready:
        for apiserver, code in ((ready, 0), (not_ready, 1)):
            asked = {"health": health, "apiserver": apiserver, "ca_file": own.ca_file}
            assert exit_code(tmp_path, BalancerProgram.NGINX, **asked) == code


def test_without_a_balancer_only_a_ready_apiserver_of_this_cluster_has_the_vip(tmp_path: Path) -> None:
    own, another = make_authority(tmp_path / "own"), make_authority(tmp_path / "another")
    with page(200, own) as ready, page(500, own) as not_ready, page(200, another) as strange:
        codes = [
            exit_code(tmp_path, BalancerProgram.NONE, apiserver=port, ca_file=own.ca_file)
            for port in (ready, not_ready, strange, DEAD)
        ]
    assert codes[0] == 0
    assert 0 not in codes[1:]


def test_without_a_balancer_an_apiserver_that_hangs_loses_the_vip(tmp_path: Path) -> None:
    own = make_authority(tmp_path / "own")
    with listening("127.0.0.1") as hung:
        assert exit_code(tmp_path, BalancerProgram.NONE, apiserver=hung, ca_file=own.ca_file) != 0


def test_an_apiserver_is_asked_by_name_and_verified() -> None:
    for by, authority in (
        (BalancerProgram.NGINX, "/etc/nginx/haplane-ca.crt"),
        (BalancerProgram.NONE, "/etc/keepalived/haplane-ca.crt"),
    ):
        design = keepalived.design(view(balanced_by(by), "cp2"))
        text = script(balanced_by(by), "cp2")
        assert f"--cacert {authority} " in text
        assert "--connect-to kubernetes:6443:192.0.2.12:6443 https://kubernetes:6443/readyz" in text
        is_own = authority.startswith("/etc/keepalived")
        assert (authority in [file.path for file in design.files]) == is_own


def balancer_pair(by: BalancerProgram, *addresses: str, nodes: tuple[str, ...]) -> Cluster:
    cluster = balanced_by(by)
    one = cluster.machines["cp1"]
    pair = {
        f"lb{i}": replace(one, name=f"lb{i}", addresses=(ip_address(address),), roles=frozenset({Role.BALANCER}))
        for i, address in enumerate(addresses, start=1)
    }
    apart = {
        f"cp{i}": replace(one, name=f"cp{i}", addresses=(ip_address(address),))
        for i, address in enumerate(nodes, start=1)
    }
    return replace(cluster, machines={**pair, **apart}, balancer=BalancerRole.BALANCER)


def test_a_balancer_of_its_own_asks_no_apiserver_and_tries_to_reach_them() -> None:
    nodes = ("192.0.2.11", "192.0.2.12", "192.0.2.13")
    text = script(balancer_pair(BalancerProgram.NGINX, "192.0.2.5", "192.0.2.6", nodes=nodes), "lb1")
    assert "readyz" not in text
    assert "for peer in 192.0.2.6:8443 192.0.2.11:6443 192.0.2.12:6443 192.0.2.13:6443; do" in text


@pytest.mark.parametrize(("reached", "code"), [(True, 0), (False, 1)])
def test_the_only_balancer_left_keeps_the_vip_while_it_reaches_a_node_whose_apiserver_is_slow(
    tmp_path: Path, reached: bool, code: int
) -> None:
    with page(503) as health, listening("127.0.0.12") as slow:
        cluster = balancer_pair(BalancerProgram.HAPROXY, "127.0.0.1", OTHER, nodes=("127.0.0.11", "127.0.0.12"))
        text = script(cluster, "lb1").replace(f"/127.0.0.1/{HEALTH_PORT};", f"/127.0.0.1/{health};")
        file = tmp_path / "check"
        file.write_text(text.replace("127.0.0.12:6443", f"127.0.0.12:{slow if reached else DEAD}"))
        file.chmod(0o755)
        assert subprocess.run([str(file)], check=False, timeout=20).returncode == code
