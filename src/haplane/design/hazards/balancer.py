"""What stands in front of the apiservers. Source: the HAProxy configuration manual (keywords named); values measured.

What is said of nginx is in `nginx`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from haplane.components import haproxy, sessions, waiting
from haplane.components.balancer import balancer_of
from haplane.design.design import Design
from haplane.design.hazards import nginx
from haplane.design.hazards.effective import Told, extra_arguments, haproxies, haproxies_of_workers, nginxes
from haplane.design.hazards.finding import Finding
from haplane.design.hazards.listening import Bound, bound, clients_line, others
from haplane.design.hazards.registry import advice, error, hazard, warning
from haplane.model.cluster import BalancerProgram, Cluster, EndpointOwner

DEFAULTS, FRONTEND, BACKEND, SERVER, GLOBAL = "defaults", "frontend", "backend", "default-server", "global"
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
SHORTEST_CHECK_TIMEOUT_MS = 200
# Of HAProxy's connections: each machine holds about 10, and people and pods the rest.
CONNECTIONS_PER_MACHINE, CONNECTIONS_BESIDES = 10, 500


@hazard("lb-port-clash")
def check_ports_are_free(design: Design) -> Iterator[Finding]:
    cure = "use another port (8443 for an endpoint beside apiservers), or balancers on machines of their own"
    for told in (*haproxies(design), *haproxies_of_workers(design), *nginxes(design)):
        # Of two lines of its own the later one is told.
        taken = [*others(told.cluster, told.machine)]
        for line in _bound_lines(told):
            clashes = [(one, other) for one in line.listeners for other in taken if one.overlaps(other)]
            for program in dict.fromkeys(other.program for _, other in clashes):
                ports = sorted({max(one.first, other.first) for one, other in clashes if other.program == program})
                because = f"{line.program} and {program} both want port {', '.join(map(str, ports))} on one machine"
                yield error(because, cure, line.where)
            taken += line.listeners
    yield from _sshd_in_the_way(design.cluster)
    yield from _among_node_ports(design.cluster)


def _sshd_in_the_way(cluster: Cluster) -> Iterator[Finding]:
    """Of the others, only its port is the file's to say."""
    for machine in cluster.managed:
        sshd, *rest = others(cluster, machine)
        programs = dict.fromkeys(other.program for other in rest if sshd.overlaps(other))
        own = ("machines", machine.name, "ssh", "port")
        path = own if own in cluster.places else ("ssh", "port")
        for program in programs:
            because = f"sshd and {program} both want port {sshd.first} on one machine"
            yield error(because, "let sshd listen on another port", cluster.where(*path), machine.name)


# kube-apiserver's --service-node-port-range.
NODE_PORTS = "30000-32767"


def _among_node_ports(cluster: Cluster) -> Iterator[Finding]:
    """kube-proxy takes it for a service on every node, whoever listens there."""
    given = extra_arguments(cluster, "ClusterConfiguration", "apiServer", "extraArgs")
    said = (given.flags if given else {}).get("service-node-port-range", NODE_PORTS)
    first, _, last = said.partition("-")
    port, nodes = cluster.endpoint.port, (*cluster.control_plane, *cluster.workers)
    on_a_node = balancer_of(cluster) and any(machine in nodes for machine in cluster.balancers)
    if on_a_node and first.isdecimal() and last.isdecimal() and int(first) <= port <= int(last):
        because = f"port {port} of the endpoint is one that a service of type NodePort may get on every node ({said})"
        yield warning(because, "use a port outside of that range", cluster.where("endpoint", "port"))


@hazard("lb-nonlocal-bind")
def check_it_starts_without_the_vip(design: Design) -> Iterator[Finding]:
    for told in (*haproxies(design), *nginxes(design)):
        line = clients_line(told)
        vips = {vip.ip for vip in told.cluster.endpoint.vips}
        bound_vips = [one.address for one in line.listeners if one.address in vips] if line else []
        # nginx has no such parameter.
        if line and bound_vips and "transparent" not in line.parameters:
            because = (
                f"it binds to the VIP {bound_vips[0]}, which only one machine has: on the others it does not start"
            )
            cure = f"bind to a wildcard (*:{told.cluster.endpoint.port})"
            cure += ", or add transparent" if told.component == "haproxy" else ""
            yield error(because, cure, line.where)


@hazard("lb-idle-timeout")
def check_idle_connections_live(design: Design) -> Iterator[Finding]:
    for told in haproxies(design):
        mode = told.arguments("mode", FRONTEND, DEFAULTS) or "tcp"
        if mode != "tcp":
            because = f"mode {mode} does not pass TLS on to the apiserver, which has to see the client's certificate"
            yield error(because, "use mode tcp", told.where("mode", FRONTEND, DEFAULTS))
        idle_ms, keyword, sections = _idle_limit(told)
        if idle_ms < HOUR_MS:
            because = f"{keyword} ends connections that were idle for {_time(idle_ms)}"
            report = error if idle_ms < 10 * MINUTE_MS else warning
            yield report(because, "use 24h for tunnel, client and server alike", told.where(keyword, *sections))
    yield from nginx.idle_connections_end(design)


def _idle_limit(told: Told) -> tuple[float, str, tuple[str, ...]]:
    """In ms, the keyword that says it, and its sections. A timeout of 0, or none, is infinite."""
    limits = {
        "timeout tunnel": (BACKEND, DEFAULTS),
        "timeout client": (FRONTEND, DEFAULTS),
        "timeout server": (BACKEND, DEFAULTS),
    }
    times = {keyword: told.time_ms(keyword, *at, unit_ms=1) or math.inf for keyword, at in limits.items()}
    # Once both sides are connected, tunnel replaces the other two.
    keyword = (
        "timeout tunnel" if told.setting("timeout tunnel", BACKEND, DEFAULTS) else min(times, key=times.__getitem__)
    )
    return times[keyword], keyword, limits[keyword]


@hazard("lb-check-shallow")
def check_readiness_is_asked(design: Design) -> Iterator[Finding]:
    cure = "leave check, option httpchk and the request to haplane: GET /readyz, expect 200"
    for told in haproxies(design):
        if not _checks(told):
            keyword = "no-check" if told.setting("no-check", SERVER) else "check"
            yield error("apiservers are not checked at all", cure, told.where(keyword, SERVER))
            continue
        other = next((one for one in told.lines(BACKEND) if _OTHER_CHECK.fullmatch(one)), None)
        if other:
            because = f"{other} sees an apiserver that listens, not one that is ready"
            yield warning(because, cure, told.where(other, BACKEND))
        elif not told.setting("option httpchk", BACKEND, DEFAULTS):
            because = "without option httpchk a check is a connection: an apiserver that is stopping still passes"
            yield warning(because, cure, told.where("option httpchk", BACKEND))
    yield from nginx.checks_are_passive(design)


# They take the place of option httpchk.
_OTHER_CHECK = re.compile(r"option (tcp-check|ssl-hello-chk|(ldap|mysql|pgsql|redis|spop)-check|smtpchk)")


def _checks(told: Told) -> bool:
    return told.setting("check", SERVER) is not None and told.setting("no-check", SERVER) is None


@hazard("lb-check-tls-unverified")
def check_checks_verify(design: Design) -> Iterator[Finding]:
    cure = "keep ca-file, verify required and verifyhost kubernetes"
    for told in haproxies(design):
        if not _checks(told) or not (told.setting("check-ssl", SERVER) or told.setting("ssl", SERVER)):
            continue
        verify = ("verify", SERVER) if told.setting("verify", SERVER) else ("ssl-server-verify", GLOBAL)
        if told.arguments(*verify) == "none":
            yield warning("with verify none whatever answers 200 passes the check", cure, told.where(*verify))
        elif told.setting("no-verifyhost", SERVER):
            because = "with no-verifyhost any certificate of the CA passes the check"
            yield warning(because, cure, told.where("no-verifyhost", SERVER))
        # A check sends the name of check-sni alone; without both, no name is compared.
        elif not told.setting("verifyhost", SERVER) and not told.setting("check-sni", SERVER):
            because = "without verifyhost any certificate of the CA passes the check"
            yield warning(because, cure, told.where("verifyhost", SERVER))


@hazard("lb-check-over-budget")
def check_checks_are_quick_and_patient(design: Design) -> Iterator[Finding]:
    for told in haproxies(design):
        timing = haproxy.timing(design.view(told.machine.name))
        if timing.fall == 1:
            because = "one failed check takes an apiserver out: a short stall is enough"
            yield warning(because, "use fall 2 or more", told.where("fall", SERVER))
        if timing.check_timeout_ms < SHORTEST_CHECK_TIMEOUT_MS:
            because = f"a check that takes {timing.check_timeout_ms:g} ms counts as failed: under load healthy ones do"
            cure = "leave timeout check out: with inter 250ms a check has that long"
            yield warning(because, cure, told.where("timeout check", BACKEND, DEFAULTS))
        yield from _late(told, timing)
    yield from nginx.a_hang_is_never_seen(design)


# What decides how soon a hang is seen.
_HANG = (
    ("inter", (SERVER,)),
    ("fastinter", (SERVER,)),
    ("fall", (SERVER,)),
    ("timeout check", (BACKEND, DEFAULTS)),
)


def _late(told: Told, timing: haproxy.Timing) -> Iterator[Finding]:
    """Judged only where the file sets one of them.

    failover.target promises nothing about one of several apiservers: leastconn and `observe layer4` avoid it earlier
    than its checks fail. Who sets checks of his own beside a target is told what they cost.
    """
    target_ms = told.cluster.failover.target_ms
    given = [(keyword, at) for keyword, at in _HANG if (found := told.setting(keyword, *at)) and found.given]
    if target_ms is None or not given:
        return
    check_ms = timing.check_connect_ms + timing.check_timeout_ms
    late_ms = timing.interval_ms + (timing.fall - 1) * timing.fast_interval_ms + timing.fall * check_ms
    if late_ms > target_ms:
        because = f"these checks see a hung apiserver after {_time(late_ms)}, and failover.target is {_time(target_ms)}"
        keyword, at = given[0]
        yield warning(because, "shorten inter, fall or timeout check", told.where(keyword, *at))


@hazard("lb-no-redispatch")
def check_retries_go_elsewhere(design: Design) -> Iterator[Finding]:
    for told in haproxies(design):
        every = told.arguments("option redispatch", BACKEND, DEFAULTS)
        if every != "1":
            what = "there is no option redispatch" if every is None else f"option redispatch {every}".rstrip()
            because = f"{what}: retries stay with the apiserver that does not answer"
            where = told.where("option redispatch", BACKEND, DEFAULTS)
            yield warning(because, "use option redispatch: 1", where)
        if told.arguments("retries", BACKEND, DEFAULTS) == "0":
            because = "without retries a connection to a dead apiserver fails"
            yield warning(because, "use retries 3", told.where("retries", BACKEND, DEFAULTS))
    yield from nginx.failures_are_not_passed_on(design)


@hazard("lb-dead-sessions-kept")
def check_sessions_end_with_their_server(design: Design) -> Iterator[Finding]:
    for told in haproxies(design):
        haplane_ends_them = told.arguments("lua-load", GLOBAL) == sessions.FILE
        haproxy_ends_them = told.arguments("on-marked-down", SERVER) == "shutdown-sessions"
        if not haplane_ends_them and not haproxy_ends_them:
            because = "sessions stay on an apiserver that was marked down"
            yield warning(because, f"keep lua-load {sessions.FILE}", told.where("lua-load", GLOBAL))
    yield from nginx.sessions_stay(design)


@hazard("lb-no-slow-start")
def check_who_returns_is_not_flooded(design: Design) -> Iterator[Finding]:
    for told in haproxies(design):
        balance = told.arguments("balance", BACKEND, DEFAULTS) or ""
        if balance.split()[:1] == ["leastconn"] and not told.setting("slowstart", SERVER):
            because = "an apiserver that comes back has the fewest connections and gets all new ones"
            yield advice(because, "keep slowstart 10s", told.where("slowstart", SERVER))
    yield from nginx.who_returns_gets_everything(design)


@hazard("lb-clients-not-told")
def check_somebody_tells_clients(design: Design) -> Iterator[Finding]:
    """Who does not want it says so with failover.tell_clients."""
    cluster = design.cluster
    moves = cluster.endpoint.by is EndpointOwner.KEEPALIVED and len(cluster.balancers) > 1
    if moves and cluster.failover.tell_clients and not waiting.is_used(cluster):
        because = (
            f"only HAProxy knows who is connected through another machine, and balancer.by is {cluster.balanced_by}: "
            "nobody tells idle clients that the VIP has moved"
        )
        cure = (
            "use balancer: {by: haproxy}; or write failover: {tell_clients: false} if clients may find out themselves"
        )
        asked = ("failover", "tell_clients")
        yield warning(because, cure, cluster.where(*(asked if asked in cluster.places else ("balancer", "by"))))


@hazard("lb-one-apiserver")
def check_load_is_shared(design: Design) -> Iterator[Finding]:
    cluster = design.cluster
    is_ours = cluster.endpoint.by is EndpointOwner.KEEPALIVED
    if cluster.balanced_by is BalancerProgram.NONE and is_ours and len(cluster.control_plane) > 1:
        because = (
            "the VIP leads straight to one apiserver, which carries all clients while the others idle; when it dies or "
            "hangs, all of them wait for the VIP to move"
        )
        yield warning(because, "use balancer: {by: haproxy}", cluster.where("balancer", "by"))


@hazard("lb-connecting-frozen")
def check_connections_being_made_go_elsewhere(design: Design) -> Iterator[Finding]:
    for told in haproxies(design):
        if told.arguments("on-marked-down", SERVER) == "shutdown-sessions":
            because = "connections that are just being made to an apiserver that goes down are not made to another one"
            cure = f"leave it out: {sessions.FILE} ends sessions a moment later"
            yield warning(because, cure, told.where("on-marked-down", SERVER))


@hazard("lb-maxconn")
def check_everybody_can_reconnect(design: Design) -> Iterator[Finding]:
    wanted = CONNECTIONS_PER_MACHINE * len(design.cluster.machines) + CONNECTIONS_BESIDES
    for told in haproxies(design):
        if told.setting("maxconn", GLOBAL) is None:
            because = "HAProxy takes as many connections as descriptors let it, whatever the memory"
            yield warning(
                because, f"use maxconn: {wanted} or more", told.where("maxconn", GLOBAL, otherwise=("machines",))
            )
        for sections in ((GLOBAL,), (FRONTEND, DEFAULTS)):
            text = told.arguments("maxconn", *sections)
            if text is not None and text.isdecimal() and int(text) < wanted:
                because = f"maxconn is {text}; {len(design.cluster.machines)} machines may come with {wanted} at once"
                where = told.where("maxconn", *sections, otherwise=("machines",))
                yield warning(because, f"use {wanted} or more", where)
    yield from nginx.connections_are_too_few(design, wanted)


@hazard("lb-stats-exposed")
def check_control_is_not_open(design: Design) -> Iterator[Finding]:
    for told in haproxies(design):
        socket = bound(told, "stats socket", GLOBAL)
        if socket:
            yield from _open_socket(socket)
        yield from _open_page(told)


def _open_socket(socket: Bound) -> Iterator[Finding]:
    if any(one.address is None or not one.address.is_loopback for one in socket.listeners):
        because = "the stats socket listens on the network"
        yield error(because, "use a UNIX socket with mode 600", socket.where)
    mode = socket.parameter("mode") or ""
    # Without a mode the process's umask holds, and nobody but its user can write.
    open_to_others = re.fullmatch(r"[0-7]{3,4}", mode) and int(mode, 8) & 0o007
    if not socket.listeners and socket.parameter("level") == "admin" and open_to_others:
        yield error(f"with mode {mode} every user of the machine is admin of HAProxy", "use mode 600", socket.where)


def _open_page(told: Told) -> Iterator[Finding]:
    """The page answers where the mode is http and `stats enable` or one of its settings is there."""
    line = bound(told, "bind", FRONTEND)
    public = line and any(one.address is None or not one.address.is_loopback for one in line.listeners)
    if not public or told.arguments("mode", FRONTEND, DEFAULTS) != "http":
        return
    for section in (FRONTEND, BACKEND, DEFAULTS):
        page = next((one for one in told.lines(section) if _STATS_PAGE.fullmatch(one)), None)
        if page and not (told.setting("stats auth", section) or told.setting("stats http-request", section)):
            because = "the stats page is open to everybody who reaches the endpoint"
            yield error(because, "add stats auth, or remove the page", told.where(page, section))


_STATS_PAGE = re.compile(r"stats (enable|uri|admin|refresh|realm|show-.*)")


def _bound_lines(told: Told) -> list[Bound]:
    control = bound(told, "stats socket", GLOBAL) if told.component == "haproxy" else None
    return [line for line in (clients_line(told), control) if line]


def _time(value_ms: float) -> str:
    if value_ms < 1000:
        return f"{value_ms:g} ms"
    return f"{value_ms / 1000:g} s" if value_ms < 2 * MINUTE_MS else f"{value_ms / MINUTE_MS:g} min"
