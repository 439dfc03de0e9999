"""HAProxy: one on each control-plane node, in front of all apiservers; and if asked for one on each worker, for itself.

Sources: the HAProxy 3.0 configuration manual (keywords named below); the values were measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from haplane.components import sessions, waiting
from haplane.components.base import (
    COMES_FIRST,
    HEALTH_IS_PUBLIC,
    HEALTH_PORT,
    RUN,
    Balancer,
    ComponentDesign,
    ConfigTest,
    File,
    FileSet,
    Given,
    Load,
    Room,
    View,
    health_is_public,
    join_host_port,
    loopbacks,
)
from haplane.components.settings import Setting, Settings, lines, one_line, overridden, time_ms, whole
from haplane.components.templates import render
from haplane.model.cluster import APISERVER_PORT

# Of its health page: 200, or 503 while it knows of no apiserver that is ready.
SERVING_PATH = "/apiservers"
CONFIG_FILE = "/etc/haproxy/haproxy.cfg"
AUTHORITY = "/etc/haproxy/haplane-ca.crt"

# One connection of this proxy takes about 33 kB (two buffers), and two file descriptors.
BYTES_PER_CONNECTION = 33_000
# Listeners, checks, peers, its log and sockets.
DESCRIPTORS_BESIDES = 400
MAX_CONNECTIONS = 10_000

CONFIG = """\
# Written by haplane; a change here is undone by the next apply.
global
{{ global_ }}
defaults
{{ defaults }}
frontend health
{{ health }}\
  mode http
  monitor-uri /healthz
  http-request return status 503 if { path {{ serving_path }} } { nbsrv(apiservers) eq 0 }
  http-request return status 200

frontend api
{{ frontend }}\
  # Who has something to ask says so first: TLS begins with the client.
  tcp-request content set-var(txn.asks) bool(true) if { req.len gt 0 }
  tcp-request content lua.leave_alone
  # All of them failing at once is overload rather than death: asking anyway beats refusing everybody.
  use_backend anyway if { nbsrv(apiservers) eq 0 }
  default_backend apiservers

backend apiservers
{{ backend }}\
  tcp-response content lua.asked
  tcp-response content lua.answered if { res.len gt 0 }
  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host kubernetes
  http-check expect status 200
  default-server {{ default_server }}
{% for name, address in servers %}
  server {{ name }} {{ address }}
{% endfor %}

backend anyway
  balance leastconn
{% for name, address in servers %}
  server {{ name }} {{ address }}
{% endfor %}
{{ clients }}"""


def settings(view: View) -> Settings:
    """What HAProxy is told here, with reasons: haplane's own choice, over it the file's, over it the machine's."""
    cluster = view.cluster
    families = {vip.version for vip in cluster.endpoint.vips}
    wildcard = "*" if families == {4} else "[::]"
    clients = waiting.haproxy_settings(view)
    derived: Settings = {
        "global": {
            "log": Setting("stdout format raw daemon notice", "systemd's journal keeps it"),
            "stats socket": Setting(f"{waiting.SOCKET} mode 600 level admin", "for root on this machine only"),
            "maxconn": Setting(
                str(max_connections(view)),
                f"what descriptors and a quarter of the memory allow, at most {MAX_CONNECTIONS}",
            ),
            "hard-stop-after": Setting("30m", "old connections of a reloaded process end then"),
            "lua-load": Setting(sessions.FILE, "long connections do not stay on a dead apiserver"),
            **clients["global"],
        },
        "defaults": {
            "mode": Setting("tcp", "TLS ends at the apiserver, which must see the client's certificate"),
            "log": Setting("global", "as said above"),
            "timeout connect": Setting("100ms", "a dead apiserver costs a retry on another one, not a failed request"),
            "retries": Setting("3", "a connection that fails is tried again"),
            "option redispatch": Setting("1", "each retry goes to another apiserver"),
            "timeout queue": Setting("1s", "nobody waits long for a server that is full"),
            "timeout client": Setting("24h", "watches and `kubectl exec` are quiet for long"),
            "timeout server": Setting("24h", "the same on the other side"),
            "timeout tunnel": Setting("24h", "and once both sides have spoken"),
            "timeout client-fin": Setting("30s", "one that has closed its side only is let go"),
            "option clitcpka": Setting("", "finds clients that vanished while idle"),
            "option srvtcpka": Setting("", "finds apiservers that vanished while idle"),
        },
        "frontend": {
            "bind": Setting(
                f"{wildcard}:{cluster.endpoint.port}{' v4v6' if len(families) > 1 else ''} tcp-ut 30s"
                f"{waiting.bind_option(view)}",
                "a wildcard starts where the VIP is not; the user timeout finds clients that vanished with data unsent",
            ),
            "tcp-request inspect-delay": Setting(
                "100ms", "how long a new connection may take to say that it asks something"
            ),
            **clients["frontend"],
        },
        "backend": {
            "balance": Setting("leastconn", "connections stuck on a hung apiserver pile up, so new ones avoid it"),
            "tcp-response inspect-delay": Setting(
                "10s", "for so long it is looked whether a new connection is answered"
            ),
            "option httpchk": Setting("", "an open port says nothing: a hung apiserver has one, too"),
        },
        "default-server": {
            "check": Setting("", "each apiserver is asked whether it is ready"),
            "check-ssl": Setting("", "apiservers speak nothing else"),
            "check-alpn": Setting("http/1.1", "the check is written in it"),
            "check-sni": Setting("kubernetes", "the name that is verified"),
            "ca-file": Setting(AUTHORITY, "the cluster's own CA"),
            "verify": Setting("required", "only this cluster's apiservers pass"),
            "verifyhost": Setting("kubernetes", "a name that every apiserver's certificate has"),
            "inter": Setting("250ms", "how soon a hang is seen; a check has as long, its handshake included"),
            "fastinter": Setting("100ms", "between checks once one has failed"),
            "downinter": Setting("500ms", "how soon one that is back is seen"),
            "fall": Setting("4", "a stall of a second is no death; leastconn avoids a hung one meanwhile"),
            "rise": Setting("2", "one good answer may be luck"),
            "slowstart": Setting("10s", "leastconn would send everything to one that has just come back"),
            "observe": Setting("layer4", "a connection that fails counts as well as a check"),
            "error-limit": Setting("1", "the first connection that fails is enough"),
            "on-error": Setting("mark-down", "at once, not after the next checks"),
        },
    }
    if not _is_reached_by_clients(view):
        derived = {section: {**lines, **_of_a_worker(view).get(section, {})} for section, lines in derived.items()}
    return overridden(derived, *given(view))


def _is_reached_by_clients(view: View) -> bool:
    return view.machine in view.cluster.balancers


def _of_a_worker(view: View) -> Settings:
    """What is different where only the machine itself connects, and where there may be hundreds of them."""
    binds = [join_host_port(address, view.cluster.endpoint.port) for address in loopbacks(view.cluster)]
    return {
        "defaults": {
            "timeout check": Setting("1s", "a hung apiserver is one that takes longer"),
        },
        "frontend": {
            "bind": Setting(",".join(binds), "for this machine alone"),
        },
        "backend": {
            "balance": Setting(
                "random(2)", "a few connections from each of many machines: the first is not always one"
            ),
        },
        "default-server": {
            "inter": Setting("2s", "each check is a handshake, and there may be hundreds of workers"),
            "fastinter": Setting("500ms", "between checks once one has failed"),
            "downinter": Setting("2s", "how soon one that is back is seen"),
            "fall": Setting("3", "a stall of a second is no death"),
        },
    }


def health(view: View) -> Mapping[str, Setting]:
    """Where the health page is, by keyword."""
    if not health_is_public(view.cluster) or not _is_reached_by_clients(view):
        return {"bind": Setting(f"127.0.0.1:{HEALTH_PORT}")}
    only_4 = {address.version for address in view.machine.addresses} == {4}
    return {"bind": Setting(f"*:{HEALTH_PORT}" if only_4 else f"[::]:{HEALTH_PORT} v4v6", HEALTH_IS_PUBLIC)}


def given(view: View) -> Given:
    """Where cluster.yaml speaks of it. Where clients connect is not where a worker does."""
    common = view.cluster.haproxy
    if not _is_reached_by_clients(view):
        common = {section: lines for section, lines in common.items() if section != "frontend"}
    return (("haproxy",), common), (("machines", view.machine.name, "haproxy"), view.machine.haproxy)


ENABLE = "systemctl daemon-reload\nsystemctl enable -q haproxy"
# systemctl only sends a signal: until the new process has taken the listeners over, the old one serves.
RELOAD = f"""\
worker() {{ echo 'show info' | socat -t 2 - UNIX-CONNECT:{waiting.SOCKET} 2>/dev/null | sed -n 's/^Pid: //p'; }}
before=$(worker)
systemctl reload haproxy
for i in $(seq 100); do
  now=$(worker)
  if [ -n "$now" ] && [ "$now" != "$before" ]; then break; fi
  sleep 0.1
done"""
DROP_IN_FILE = "/etc/systemd/system/haproxy.service.d/haplane.conf"
DROP_IN = """\
# Written by haplane.
[Unit]
Wants=network-online.target
After=network-online.target
# A balancer that keeps dying is started again for ever: the others serve meanwhile.
StartLimitIntervalSec=0
[Service]
LimitNOFILE={{ open_files }}
{{ comes_first }}
Restart=always
RestartSec=1
RuntimeDirectory=haproxy
RuntimeDirectoryPreserve=yes
ExecStartPost=/bin/sh -c 'mkdir -p {{ run }} && echo 0 > {{ down_file }}'
ExecStopPost=/bin/sh -c 'mkdir -p {{ run }} && echo 1 > {{ down_file }}'
"""


def max_connections(view: View) -> int:
    """As many as descriptors and a quarter of the memory allow, at most MAX_CONNECTIONS."""
    by_files = (view.measured.open_files - DESCRIPTORS_BESIDES) // 2
    by_memory = view.measured.memory_bytes // 4 // BYTES_PER_CONNECTION
    return max(500, min(MAX_CONNECTIONS, by_files, by_memory))


def room(view: View) -> Room:
    """For maxconn connections, as the file may say it."""
    maxconn = whole(settings(view)["global"].get("maxconn"), 0)
    return Room(maxconn, 2 * maxconn + DESCRIPTORS_BESIDES, BYTES_PER_CONNECTION * maxconn)


@dataclass(frozen=True)
class Timing:
    """What decides how long an apiserver that fails is used, as configured. redispatch: a retry goes to another one.

    check_timeout_ms: how long a check may wait for its answer. check_connect_ms: for its TCP and TLS handshake before
    that; 0: it is part of the other.
    """

    connect_ms: float
    check_connect_ms: float
    check_timeout_ms: float
    interval_ms: float
    fast_interval_ms: float
    down_interval_ms: float
    fall: int
    rise: int
    retries: int
    redispatch: bool


def timing(view: View) -> Timing:
    """A value that is none falls back to HAProxy's own default (configuration manual, 5.2 and timeout connect)."""
    chosen = settings(view)
    defaults, server = chosen["defaults"], chosen["default-server"]

    interval_ms = time_ms(server.get("inter"), 2000, unit_ms=1)
    connect_ms = time_ms(defaults.get("timeout connect"), math.inf, unit_ms=1)
    has_own = "timeout check" in defaults
    return Timing(
        connect_ms=connect_ms,
        # src/tcpcheck.c, tcpcheck_eval_connect: without timeout check a check has inter in all.
        check_connect_ms=min(connect_ms, interval_ms) if has_own else 0,
        check_timeout_ms=time_ms(defaults.get("timeout check"), interval_ms, unit_ms=1),
        interval_ms=interval_ms,
        fast_interval_ms=time_ms(server.get("fastinter"), interval_ms, unit_ms=1),
        down_interval_ms=time_ms(server.get("downinter"), interval_ms, unit_ms=1),
        fall=whole(server.get("fall"), 3),
        rise=whole(server.get("rise"), 2),
        retries=whole(defaults.get("retries"), 3),
        redispatch="option redispatch" in defaults,
    )


def design(view: View) -> ComponentDesign:
    chosen = settings(view)
    config = render(
        CONFIG,
        global_=lines(chosen["global"]),
        defaults=lines(chosen["defaults"]),
        health=lines(health(view)),
        serving_path=SERVING_PATH,
        frontend=lines(chosen["frontend"]),
        backend=lines(chosen["backend"]),
        default_server=one_line(chosen["default-server"]),
        servers=[(one.name, join_host_port(one.address, APISERVER_PORT)) for one in view.cluster.control_plane],
        clients=waiting.haproxy_sections(view),
    )
    open_files = min(view.measured.open_files, 2 * max_connections(view) + DESCRIPTORS_BESIDES)
    drop_in = render(DROP_IN, open_files=open_files, run=RUN, down_file=BALANCER.down_file, comes_first=COMES_FIRST)
    enable = f"{ENABLE}\n{waiting.haproxy_commands(view)}"
    return ComponentDesign(
        name="haproxy",
        packages=("haproxy",),
        file_sets=(
            # First, because the check of haproxy.cfg reads them under their final paths.
            FileSet(
                (
                    File(AUTHORITY, view.authority_file),
                    File(sessions.FILE, sessions.script(timing(view).connect_ms)),
                    File(DROP_IN_FILE, drop_in),
                    *waiting.haproxy_files(view),
                )
            ),
            FileSet((File(CONFIG_FILE, config),), validate=f"haproxy -c -f .{CONFIG_FILE}"),
        ),
        load=Load(f"{enable}\n{RELOAD}", "reload HAProxy (no connection is dropped)"),
        unit="haproxy.service",
        start=Load(f"{enable}\nsystemctl restart haproxy", "start HAProxy"),
        restart=Load(f"{enable}\nsystemctl restart haproxy", "restart HAProxy (connections through it end)"),
        restart_for=(DROP_IN_FILE,),
    )


BALANCER = Balancer(
    name="haproxy",
    title="HAProxy",
    health_path=SERVING_PATH,
    knows_the_ready=True,
    authority=AUTHORITY,
    config_test=ConfigTest(CONFIG_FILE, f"haproxy -c -f {CONFIG_FILE}", "[ALERT]", "[WARNING]"),
    settings=settings,
    given=given,
    room=room,
    health=health,
    design=design,
)


@dataclass(frozen=True)
class Server:
    """One apiserver as one HAProxy sees it. status: UP, DOWN, MAINT, ...; check: why, e.g. L7OK."""

    name: str
    status: str
    check: str
    sessions: int


STATUS_COMMAND = f"echo 'show stat' | socat -t 2 - UNIX-CONNECT:{waiting.SOCKET}"


def set_server_command(name: str, state: str) -> str:
    """state: ready, or drain (no new connections; those that are there go on). Management guide, `set server`."""
    return f"echo 'set server apiservers/{name} state {state}' | socat -t 2 - UNIX-CONNECT:{waiting.SOCKET}"


def parse_servers(stat_csv: str) -> Mapping[str, Server]:
    """`show stat` of the runtime API -> the servers of the apiservers backend."""
    lines = [line for line in stat_csv.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("# "):
        return {}
    columns = lines[0].removeprefix("# ").split(",")
    rows = (dict(zip(columns, line.split(","), strict=False)) for line in lines[1:])
    return {
        row["svname"]: Server(
            name=row["svname"],
            status=row["status"].split(" ")[0],
            check=row.get("check_status", "").lstrip("* "),
            sessions=int(row.get("scur") or 0),
        )
        for row in rows
        if row["pxname"] == "apiservers" and row["svname"] not in ("BACKEND", "FRONTEND")
    }


# HAProxy 2.6 to 3.0, src/server.c (srv_update_status and what it calls), with what each means in words of `show stat`.
# The same is said twice: to the log, and on standard error behind "[WARNING]  (PID) : ".
_CHANGE = re.compile(
    r"(?:\[[A-Z]+\] .*?: )?(?:Backup )?Server (?P<name>[^ /]+/[^ ]+) (?:\('[^']*'\) )?"
    r"(?:is (?P<state>UP|DOWN)(?P<draining>/DRAIN)?\b|(?P<maint>was DOWN and now enters|is going DOWN for) maintenance|"
    r"(?P<drain>enters drain state)|(?P<stopping>is stopping))"
)


def parse_change(message: str) -> tuple[str, str] | None:
    """A log message -> which server (BACKEND/NAME) is in which state now: UP, DOWN, MAINT, DRAIN or NOLB.

    A server that is up is said to be up again when its slow start ends.
    """
    found = _CHANGE.match(message)
    if found is None:
        return None
    if found["maint"]:
        return found["name"], "MAINT"
    if found["drain"] or found["draining"]:
        return found["name"], "DRAIN"
    return found["name"], "NOLB" if found["stopping"] else found["state"]
