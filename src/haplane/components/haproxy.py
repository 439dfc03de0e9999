"""HAProxy: one on each control-plane node, in front of all apiservers.

Sources: the HAProxy 3.0 configuration manual (keywords named below); the values were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from haplane.components.base import RUN, ComponentDesign, File, FileSet, Load, View, join_host_port
from haplane.components.templates import render

APISERVER_PORT = 6443
# Answers 200 as long as HAProxy itself works; keepalived asks it. Loopback only.
HEALTH_PORT = 8404
SOCKET = "/run/haproxy/admin.sock"
AUTHORITY = "/etc/haproxy/haplane-ca.crt"
# keepalived follows this file: 0 while HAProxy runs, 1 from the moment it ends.
DOWN_FILE = f"{RUN}/haproxy-down"

# One connection of this proxy takes about 33 kB (two buffers), and two file descriptors.
BYTES_PER_CONNECTION = 33_000
MAX_CONNECTIONS = 10_000

CHECK_INTERVAL_MS = 200
CHECK_FAST_MS = 50
# Connect and TLS of a check must end within `timeout connect`. Two such failures came from nothing but a machine that
# booted beside (shared processors), and on-marked-down then ended healthy sessions.
CHECK_FALL = 3
CHECK_TIMEOUT_MS = 250
CONNECT_TIMEOUT_MS = 100

CONFIG = """\
# Written by haplane; a change here is undone by the next apply.
global
  log stdout format raw daemon notice
  stats socket {{ socket }} mode 600 level admin
  maxconn {{ maxconn }}
  # Old connections of a reloaded process end then.
  hard-stop-after 30m

defaults
  mode tcp
  log global
  # A dead apiserver costs a retry on another one, not a failed request.
  timeout connect {{ connect_ms }}ms
  retries 3
  option redispatch 1
  timeout queue 1s
  # Watches and `kubectl exec` are quiet for long.
  timeout client 24h
  timeout server 24h
  timeout tunnel 24h
  timeout client-fin 30s
  timeout check {{ check_timeout_ms }}ms
  # Clients and apiservers that vanished: keepalive finds idle ones, the user timeout those with data on the way.
  option clitcpka
  option srvtcpka

frontend health
  bind 127.0.0.1:{{ health_port }}
  mode http
  monitor-uri /healthz

frontend api
  bind {{ bind }} tcp-ut 30s
  # All of them failing at once is overload rather than death: asking anyway beats refusing everybody.
  use_backend anyway if { nbsrv(apiservers) eq 0 }
  default_backend apiservers

backend apiservers
  # Connections stuck on a hung apiserver pile up there, so that new ones avoid it. For the same reason one that has
  # just come back would get them all at once, while it is still warming up: slowstart spreads them.
  balance leastconn
  option httpchk
  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host kubernetes
  http-check expect status 200
  default-server check check-ssl check-alpn http/1.1 check-sni kubernetes \
ca-file {{ authority }} verify required verifyhost kubernetes \
inter {{ inter_ms }}ms fastinter {{ fast_ms }}ms downinter 500ms fall {{ fall }} rise 2 slowstart 10s \
on-marked-down shutdown-sessions observe layer4 error-limit 1 on-error mark-down
{% for name, address in servers %}
  server {{ name }} {{ address }}
{% endfor %}

backend anyway
  balance leastconn
{% for name, address in servers %}
  server {{ name }} {{ address }}
{% endfor %}
"""

ENABLE = "systemctl daemon-reload\nsystemctl enable -q haproxy"
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
# It is on the way of every request, and takes little.
Nice=-10
Restart=always
RestartSec=1
RuntimeDirectory=haproxy
RuntimeDirectoryPreserve=yes
ExecStartPost=/bin/sh -c 'mkdir -p {{ run }} && echo 0 > {{ down_file }}'
ExecStopPost=/bin/sh -c 'mkdir -p {{ run }} && echo 1 > {{ down_file }}'
"""


def max_connections(view: View) -> int:
    """As many as descriptors and a quarter of the memory allow, at most MAX_CONNECTIONS."""
    by_files = view.measured.open_files // 2 - 200
    by_memory = view.measured.memory_bytes // 4 // BYTES_PER_CONNECTION
    return max(500, min(MAX_CONNECTIONS, by_files, by_memory))


def design(view: View) -> ComponentDesign:
    config = render(
        CONFIG,
        socket=SOCKET,
        maxconn=max_connections(view),
        connect_ms=CONNECT_TIMEOUT_MS,
        check_timeout_ms=CHECK_TIMEOUT_MS,
        health_port=HEALTH_PORT,
        # A wildcard, so that it starts on machines that do not hold the VIP.
        bind=f"{'[::]' if view.cluster.endpoint.vip.version == 6 else '*'}:{view.cluster.endpoint.port}",
        authority=AUTHORITY,
        inter_ms=CHECK_INTERVAL_MS,
        fast_ms=CHECK_FAST_MS,
        fall=CHECK_FALL,
        servers=[(one.name, join_host_port(one.address, APISERVER_PORT)) for one in view.cluster.control_plane],
    )
    open_files = min(view.measured.open_files, 2 * max_connections(view) + 400)
    drop_in = render(DROP_IN, open_files=open_files, run=RUN, down_file=DOWN_FILE)
    authority = view.authority or "(the cluster's CA certificate, made by kubeadm when the cluster is created)\n"
    return ComponentDesign(
        name="haproxy",
        packages=("haproxy",),
        file_sets=(
            # First, because the check of haproxy.cfg reads it under its final path.
            FileSet((File(AUTHORITY, authority), File(DROP_IN_FILE, drop_in))),
            FileSet((File("/etc/haproxy/haproxy.cfg", config),), validate="haproxy -c -q -f ./etc/haproxy/haproxy.cfg"),
        ),
        load=Load(f"{ENABLE}\nsystemctl reload haproxy", "reload HAProxy (no connection is dropped)"),
        unit="haproxy.service",
        start=Load(f"{ENABLE}\nsystemctl restart haproxy", "start HAProxy"),
        restart=Load(f"{ENABLE}\nsystemctl restart haproxy", "restart HAProxy (connections through it end)"),
        restart_for=(DROP_IN_FILE,),
    )


@dataclass(frozen=True)
class Server:
    """One apiserver as one HAProxy sees it. status: UP, DOWN, MAINT, ...; check: why, e.g. L7OK."""

    name: str
    status: str
    check: str
    sessions: int


STATUS_COMMAND = f"echo 'show stat' | socat -t 2 - UNIX-CONNECT:{SOCKET}"


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
