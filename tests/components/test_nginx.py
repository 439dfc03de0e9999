"""nginx: what it serves, how many at once, and that keepalived follows it."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_interface

import pytest
from tests.model.clusters import balanced_by, view

from haplane.components import keepalived, nginx
from haplane.components.base import HEALTH_PORT, Measured, View
from haplane.model.cluster import BalancerProgram, Cluster, EndpointOwner

CLUSTER = balanced_by(BalancerProgram.NGINX)
ADDRESSES = ("192.0.2.11:6443", "192.0.2.12:6443", "192.0.2.13:6443")


def config(one: View | None = None) -> str:
    design = nginx.design(one or view(CLUSTER, "cp1"))
    return next(file.content for file in design.files if file.path == nginx.CONFIG_FILE)


def told(**blocks: dict[str, str | int | bool]) -> Cluster:
    """upstream_server is the block upstream-server."""
    return replace(CLUSTER, nginx={block.replace("_", "-"): lines for block, lines in blocks.items()})


def test_every_apiserver_is_a_server_and_asked_anyway_when_all_fail() -> None:
    for address in ADDRESSES:
        assert f"server {address} max_fails=1 fail_timeout=5s;\n" in config()
        assert f"server {address} backup max_fails=0;\n" in config()


@pytest.mark.parametrize("method", [{"hash": "$remote_addr consistent"}, {"random": "two"}])
def test_a_method_that_knows_no_backups_gets_none(method: dict[str, str]) -> None:
    cluster = told(upstream={"least_conn": False, **method})
    text = config(view(cluster, "cp1"))
    assert "backup" not in text
    assert "least_conn" not in text
    assert all(f"server {address} max_fails=1" in text for address in ADDRESSES)


@pytest.mark.parametrize(
    ("vips", "listen"),
    [
        (["192.0.2.100/24"], "listen 8443 "),
        (["2001:db8::100/64"], "listen [::]:8443 backlog"),
        (["192.0.2.100/24", "2001:db8::100/64"], "listen [::]:8443 ipv6only=off "),
    ],
)
def test_it_listens_on_a_wildcard_of_the_endpoints_ip_versions(vips: list[str], listen: str) -> None:
    endpoint = replace(CLUSTER.endpoint, vips=tuple(map(ip_interface, vips)))
    assert listen in config(view(replace(CLUSTER, endpoint=endpoint), "cp1"))


@pytest.mark.parametrize(
    ("open_files", "memory_bytes", "clients"),
    [(1 << 20, 64 << 30, 10_000), (20_150, 64 << 30, 10_000), (2_150, 64 << 30, 1_000), (1 << 20, 1 << 30, 7_456)],
)
def test_connections_are_bounded_by_descriptors_and_memory(open_files: int, memory_bytes: int, clients: int) -> None:
    measured = Measured(open_files=open_files, memory_bytes=memory_bytes)
    text = config(replace(view(CLUSTER, "cp1"), measured=measured))
    assert f"worker_connections {2 * clients + 50};\n" in text
    (descriptors,) = re.findall(r"worker_rlimit_nofile ([0-9]+);", text)
    assert 2 * clients < int(descriptors) <= open_files


def test_few_descriptors_are_no_reason_to_serve_nobody() -> None:
    measured = Measured(open_files=256)
    assert "worker_connections 1050;\n" in config(replace(view(CLUSTER, "cp1"), measured=measured))


def test_what_the_file_says_wins_and_a_machine_wins_over_it() -> None:
    cluster = told(stream={"proxy_timeout": "1h", "proxy_socket_keepalive": False}, upstream_server={"max_fails": 3})
    cp1 = replace(cluster.machines["cp1"], nginx={"stream": {"proxy_timeout": "2h"}})
    text = config(view(replace(cluster, machines={**cluster.machines, "cp1": cp1}), "cp1"))
    assert "proxy_timeout 2h;\n" in text
    assert "proxy_socket_keepalive" not in text
    assert "max_fails=3 fail_timeout=5s;" in text


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ({}, (100, True, 1, 5000, 86_400_000, True)),
        ({"stream": {"proxy_connect_timeout": 2}}, (2000, False, 1, 5000, 86_400_000, True)),
        ({"server": {"proxy_connect_timeout": "50ms"}}, (50, True, 1, 5000, 86_400_000, True)),
        ({"stream": {"proxy_timeout": False}}, (100, True, 1, 5000, 600_000, True)),
        ({"stream": {"proxy_timeout": "1h 30m"}}, (100, True, 1, 5000, 5_400_000, True)),
        ({"stream": {"proxy_timeout": "$timeout"}}, (100, True, 1, 5000, 600_000, True)),
        ({"upstream-server": {"fail_timeout": "1m30s"}}, (100, True, 1, 90_000, 86_400_000, True)),
        ({"upstream-server": {"max_fails": False, "fail_timeout": False}}, (100, True, 1, 10_000, 86_400_000, True)),
        ({"upstream": {"least_conn": False}}, (100, True, 1, 5000, 86_400_000, False)),
        ({"stream": {"proxy_next_upstream": "off"}}, (100, False, 1, 5000, 86_400_000, True)),
    ],
)
def test_timing_is_as_nginx_reads_its_lines(
    blocks: dict[str, dict[str, str | int | bool]], expected: tuple[object, ...]
) -> None:
    found = nginx.timing(view(replace(CLUSTER, nginx=blocks), "cp1"))
    assert (
        found.connect_ms,
        found.passes_on,
        found.max_fails,
        found.fail_timeout_ms,
        found.idle_ms,
        found.by_connections,
    ) == expected


def test_the_health_page_is_on_loopback_and_promises_nothing_about_apiservers() -> None:
    page = config().partition("http {")[2].partition("\n}\n")[0]
    assert f"listen 127.0.0.1:{HEALTH_PORT};" in page
    assert "return 200;" in page
    assert "proxy_pass" not in page


def test_the_health_page_is_for_everybody_where_a_load_balancer_in_front_asks_it() -> None:
    outside = replace(CLUSTER, endpoint=replace(CLUSTER.endpoint, by=EndpointOwner.EXTERNAL))
    design = nginx.design(view(outside, "cp1"))
    page = next(file.content for file in design.files if file.path == nginx.CONFIG_FILE).partition("http {")[2]
    assert f"    listen {HEALTH_PORT};\n" in page.partition("\n}\n")[0]


def test_its_unit_says_when_it_is_down_before_it_stops_taking_connections() -> None:
    drop_in = next(file.content for file in nginx.design(view(CLUSTER, "cp1")).files if file.path == nginx.DROP_IN_FILE)
    stops = [line for line in drop_in.splitlines() if line.startswith("ExecStop=")]
    assert stops[0] == "ExecStop=", "the distribution's own, which waits for connections to end, is taken away"
    assert "echo 1 > /run/haplane/nginx-down" in stops[1]
    assert "ExecStopPost=/bin/sh -c 'mkdir -p /run/haplane && echo 1 > /run/haplane/nginx-down'" in drop_in


def test_keepalived_follows_nginx() -> None:
    design = keepalived.design(view(CLUSTER, "cp1"))
    found = {file.path: file.content for file in design.files}
    assert "file /run/haplane/nginx-down\n" in found["/etc/keepalived/keepalived.conf"]
    assert "nginx.service" in found[keepalived.DROP_IN_FILE]
    assert not [path for path, text in found.items() if "haproxy" in text.lower()]


def test_nobody_tells_clients_because_nobody_knows_them() -> None:
    for component in (nginx, keepalived):
        design = component.design(view(CLUSTER, "cp1"))
        assert "clients" not in " ".join(file.path for file in design.files)
        assert not any("notify_master" in file.content for file in design.files)
