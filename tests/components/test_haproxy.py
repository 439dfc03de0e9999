"""HAProxy: what it serves, and what its runtime API says."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from tests.model.clusters import three_nodes, view

from haplane.components import haproxy
from haplane.components.base import Measured
from haplane.model.cluster import EndpointOwner

STAT = """\
# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,bck,\
chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,check_status
api,FRONTEND,,,3,9,9800,120,1,1,0,0,0,,,,,OPEN,,,,,,,,,1,2,0,,,,0,1,0,9,
apiservers,cp1,0,0,2,4,,60,1,1,,0,,0,0,0,0,UP,1,1,0,0,0,40,0,,1,3,1,,60,,2,1,,4,L7OK
apiservers,cp2,0,0,0,4,,60,1,1,,0,,0,0,0,0,DOWN 1/2,1,1,0,2,1,4,4,,1,3,2,,60,,2,0,,4,* L4TOUT
apiservers,BACKEND,0,0,2,9,980,120,1,1,0,0,,0,0,0,0,UP,2,2,0,,0,40,0,,1,3,0,,120,,1,1,,9,
anyway,cp1,0,0,0,0,,0,0,0,,0,,0,0,0,0,no check,1,1,0,,,40,,,1,4,1,,0,,2,0,,0,
"""


def config(**measured: int) -> str:
    one = view(three_nodes(), "cp1")
    design = haproxy.design(replace(one, measured=Measured(**measured)) if measured else one)
    return next(file.content for file in design.files if file.path == "/etc/haproxy/haproxy.cfg")


def test_every_apiserver_is_a_server() -> None:
    for name, address in (("cp1", "192.0.2.11"), ("cp2", "192.0.2.12"), ("cp3", "192.0.2.13")):
        assert f"server {name} {address}:6443\n" in config()


def test_it_binds_a_wildcard_so_that_it_starts_where_the_vip_is_not() -> None:
    assert "bind *:8443 " in config()


def test_checks_verify_the_certificate_and_ask_readyz() -> None:
    text = config()
    assert "verify required verifyhost kubernetes" in text
    assert "uri /readyz" in text
    assert "verify none" not in text


@pytest.mark.parametrize(
    ("open_files", "memory_bytes", "expected"),
    [(1 << 20, 64 << 30, 10_000), (20_000, 64 << 30, 9_800), (1 << 20, 1 << 30, 8_134), (256, 1 << 30, 500)],
)
def test_connections_are_bounded_by_descriptors_and_memory(open_files: int, memory_bytes: int, expected: int) -> None:
    assert f"maxconn {expected}\n" in config(open_files=open_files, memory_bytes=memory_bytes)


def test_servers_are_read_from_the_runtime_api_of_haproxy_3_0() -> None:
    servers = haproxy.parse_servers(STAT)
    assert list(servers) == ["cp1", "cp2"]
    assert (servers["cp1"].status, servers["cp1"].check, servers["cp1"].sessions) == ("UP", "L7OK", 2)
    assert (servers["cp2"].status, servers["cp2"].check) == ("DOWN", "L4TOUT")


def test_an_answer_that_is_none_has_no_servers() -> None:
    assert haproxy.parse_servers("") == {}
    assert haproxy.parse_servers("connection refused\n") == {}


def behind_another(addresses: tuple[str, ...] = (), **endpoint: object) -> str:
    """The section of the health page where a load balancer of somebody else's is in front."""
    cluster = three_nodes()
    machine = cluster.machines["cp1"]
    machine = replace(machine, addresses=(*machine.addresses, *map(ip_address, addresses)))
    cluster = replace(
        cluster,
        endpoint=replace(cluster.endpoint, **endpoint),  # type: ignore[arg-type]  # fields of Endpoint
        machines={**cluster.machines, "cp1": machine},
    )
    files = haproxy.design(view(cluster, "cp1")).files
    text = next(file.content for file in files if file.path == "/etc/haproxy/haproxy.cfg")
    return text.partition("frontend health\n")[2].partition("\nfrontend api")[0]


def test_the_health_page_is_on_loopback_unless_a_load_balancer_in_front_asks_it() -> None:
    assert "\n  bind 127.0.0.1:8404\n" in "\n" + behind_another()
    for endpoint in ({"by": EndpointOwner.EXTERNAL}, {"outside": ip_address("203.0.113.7")}):
        page = behind_another(**endpoint)
        assert "  bind *:8404\n" in page
        assert "asks each balancer" in page
        assert "return status 503 if { path /apiservers } { nbsrv(apiservers) eq 0 }" in page
    assert "  bind [::]:8404 v4v6\n" in behind_another(("2001:db8::11",), by=EndpointOwner.EXTERNAL)
