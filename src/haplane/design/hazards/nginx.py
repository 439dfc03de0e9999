"""nginx in front of the apiservers: what its lines lose, and what it cannot do. `balancer` registers these checks.

Sources: nginx.org/en/docs, ngx_stream_proxy_module, ngx_stream_upstream_module, ngx_core_module.
"""

from __future__ import annotations

from collections.abc import Iterator

from haplane.components import nginx
from haplane.design.design import Design
from haplane.design.hazards.effective import Told, nginxes
from haplane.design.hazards.finding import Finding
from haplane.design.hazards.registry import advice, error, warning
from haplane.model.cluster import BalancerProgram, Where

EVENTS, STREAM, SERVER, UPSTREAM, PARAMETERS = "events", "stream", "server", "upstream", "upstream-server"
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
USE_HAPROXY = "use balancer: {by: haproxy}, which asks every apiserver"


def _balances(design: Design) -> bool:
    return design.cluster.balanced_by is BalancerProgram.NGINX


def _by(design: Design) -> Where:
    return design.cluster.where("balancer", "by")


def checks_are_passive(design: Design) -> Iterator[Finding]:
    if not _balances(design):
        return
    careless = [told for told in nginxes(design) if told.arguments("max_fails", PARAMETERS) == "0"]
    for told in careless:
        because = "with max_fails 0 an apiserver that refuses every connection is tried again and again"
        yield error(because, "use max_fails: 1", told.where("max_fails", PARAMETERS))
    if not careless:
        because = "nginx asks no apiserver: one that hangs, is starting or is about to stop still gets clients"
        yield warning(because, USE_HAPROXY, _by(design))


def a_hang_is_never_seen(design: Design) -> Iterator[Finding]:
    target_ms = design.cluster.failover.target_ms
    if target_ms is not None and _balances(design):
        because = f"failover.target is {target_ms} ms, and nginx never sees that an apiserver hangs"
        yield warning(because, USE_HAPROXY, _by(design))


def sessions_stay(design: Design) -> Iterator[Finding]:
    if not _balances(design):
        return
    seconds = nginx.KEEPALIVE_S + nginx.KEEPALIVE_PROBES * nginx.KEEPALIVE_INTERVAL_S
    because = (
        "nginx ends no session: it stays on an apiserver that hangs until that is healed, and on one whose machine is "
        f"gone until keepalive finds out, after {seconds} s"
    )
    yield warning(because, "use balancer: {by: haproxy}, which ends them", _by(design))
    for told in nginxes(design):
        if told.arguments("proxy_socket_keepalive", SERVER, STREAM) != "on":
            because = "idle sessions stay for ever on an apiserver whose machine is gone"
            where = told.where("proxy_socket_keepalive", SERVER, STREAM)
            yield warning(because, "use proxy_socket_keepalive: on", where)


def who_returns_gets_everything(design: Design) -> Iterator[Finding]:
    for told in nginxes(design):
        if told.setting("least_conn", UPSTREAM):
            because = "an apiserver that comes back has the fewest connections, and gets all new ones at once"
            cure = (
                "use balancer: {by: haproxy}, which does; without least_conn, new connections do not avoid a hung one"
            )
            yield advice(because, cure, told.where("least_conn", UPSTREAM, otherwise=("balancer", "by")))


def idle_connections_end(design: Design) -> Iterator[Finding]:
    for told in nginxes(design):
        idle_ms = nginx.timing(design.view(told.machine.name)).idle_ms
        if idle_ms < HOUR_MS:
            because = f"proxy_timeout ends connections that were idle for {idle_ms / MINUTE_MS:g} min"
            report = error if idle_ms < 10 * MINUTE_MS else warning
            yield report(because, "use proxy_timeout: 24h", told.where("proxy_timeout", SERVER, STREAM))


def failures_are_not_passed_on(design: Design) -> Iterator[Finding]:
    for told in nginxes(design):
        if nginx.timing(design.view(told.machine.name)).passes_on:
            continue
        keyword = next(one for one in _PASSING_ON if _forbids(told, one))
        because = f"{keyword} {told.arguments(keyword, SERVER, STREAM)}: a connection to a dead apiserver fails"
        cure = "use proxy_next_upstream: on, more than one try, and a time for them above proxy_connect_timeout"
        yield warning(because, cure, told.where(keyword, SERVER, STREAM))


_PASSING_ON = ("proxy_next_upstream", "proxy_next_upstream_tries", "proxy_next_upstream_timeout")


def _forbids(told: Told, keyword: str) -> bool:
    """Of two that do not, the time for all tries is left."""
    forbidden = {"proxy_next_upstream": "off", "proxy_next_upstream_tries": "1"}
    return keyword not in forbidden or told.arguments(keyword, SERVER, STREAM) == forbidden[keyword]


def connections_are_too_few(design: Design, clients: int) -> Iterator[Finding]:
    wanted = 2 * clients + nginx.CONNECTIONS_BESIDES
    for told in nginxes(design):
        text = told.arguments("worker_connections", EVENTS) or str(nginx.DEFAULT_CONNECTIONS)
        if text.isdecimal() and int(text) < wanted:
            because = (
                f"worker_connections is {text}; {len(design.cluster.machines)} machines may come with {clients} "
                "connections at once, and each takes two"
            )
            where = told.where("worker_connections", EVENTS, otherwise=("machines",))
            yield warning(because, f"use {wanted} or more", where)
