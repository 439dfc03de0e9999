"""nginx (open source, its stream module) in front of all apiservers.

It checks passively: an apiserver is left out for a while once a connection to it could not be made. One that takes
connections and does not answer, or is not ready, is not noticed; whoever is connected to it is not told either.

Sources: nginx.org/en/docs, ngx_stream_core_module, ngx_stream_upstream_module, ngx_stream_proxy_module, control; tried
with nginx 1.22.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

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
)
from haplane.components.settings import Setting, Settings, lines, overridden, parameters, whole
from haplane.components.templates import render
from haplane.model.cluster import APISERVER_PORT

# The stream module is a package of its own in Debian and Ubuntu.
PACKAGES = ("nginx", "libnginx-mod-stream")
CONFIG_FILE = "/etc/nginx/nginx.conf"
AUTHORITY = "/etc/nginx/haplane-ca.crt"
SYSCTL_FILE = "/etc/sysctl.d/91-haplane-nginx.conf"

# Two buffers of 16 kB for each client, and what describes its two connections.
BYTES_PER_CLIENT = 36_000
MAX_CLIENTS = 10_000
# nginx's own worker_connections (ngx_core_module).
DEFAULT_CONNECTIONS = 512
# Of a worker's connections: listeners, the health page, its channel; and of its descriptors: the log, and spare ones.
CONNECTIONS_BESIDES = 50
DESCRIPTORS_BESIDES = 100

# proxy_socket_keepalive takes the kernel's times, which are two hours. `listen` has its own.
KEEPALIVE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 30, 10, 3
SYSCTL = f"""\
# Written by haplane. A connection to an apiserver whose machine is gone ends after \
{KEEPALIVE_S + KEEPALIVE_PROBES * KEEPALIVE_INTERVAL_S} s; nginx has no such times of its own.
net.ipv4.tcp_keepalive_time = {KEEPALIVE_S}
net.ipv4.tcp_keepalive_intvl = {KEEPALIVE_INTERVAL_S}
net.ipv4.tcp_keepalive_probes = {KEEPALIVE_PROBES}
"""

CONFIG = """\
# Written by haplane; a change here is undone by the next apply.
{{ main }}
events {
{{ events }}\
}

# Tells keepalived that nginx is alive, and no more: it does not know whether an apiserver is ready.
http {
  access_log off;
  server {
{{ health }}\
    return 200;
  }
}

stream {
{{ stream }}
  upstream apiservers {
{{ upstream }}\
{% for name, address in servers %}
    # {{ name }}
    server {{ address }} {{ server_parameters }};
{% endfor %}
{% if anyway %}
    # All of them failing at once is overload rather than death: asking anyway beats refusing everybody.
{% for name, address in servers %}
    server {{ address }} backup max_fails=0;
{% endfor %}
{% endif %}
  }

  server {
{{ server }}\
    proxy_pass apiservers;
  }
}
"""
# Methods that take no server as `backup`.
_NO_BACKUP = frozenset({"hash", "random"})


def settings(view: View) -> Settings:
    """What nginx is told here, with reasons: haplane's own choice, over it the file's, over it the machine's."""
    endpoint = view.cluster.endpoint
    families = {vip.version for vip in endpoint.vips}
    address = f"{endpoint.port}" if families == {4} else f"[::]:{endpoint.port}"
    both = " ipv6only=off" if len(families) > 1 else ""
    keepalive = f"so_keepalive={KEEPALIVE_S}s:{KEEPALIVE_INTERVAL_S}s:{KEEPALIVE_PROBES}"
    connections = 2 * max_clients(view) + CONNECTIONS_BESIDES
    derived: Settings = {
        "main": {
            "load_module": Setting("modules/ngx_stream_module.so", "connections are passed on, not requests"),
            "user": Setting("www-data", "the distribution's own"),
            "pid": Setting("/run/nginx.pid", "where its unit looks"),
            "error_log": Setting("syslog:server=unix:/dev/log,nohostname,tag=nginx warn", "systemd's journal keeps it"),
            "worker_processes": Setting("auto", "one for each processor"),
            "worker_rlimit_nofile": Setting(
                str(open_files(view)), "descriptors of a worker: one for each connection, and some besides"
            ),
            "worker_shutdown_timeout": Setting("30m", "old connections of a reloaded process end then"),
        },
        "events": {
            "worker_connections": Setting(
                str(connections),
                f"two for each client; as many clients as descriptors and memory allow, at most {MAX_CLIENTS}",
            ),
        },
        "stream": {
            "proxy_connect_timeout": Setting("100ms", "a dead apiserver costs a try of another one, not a request"),
            "proxy_next_upstream": Setting("on", "a connection that cannot be made is made to another apiserver"),
            "proxy_next_upstream_tries": Setting("4", "as often as that"),
            "proxy_next_upstream_timeout": Setting("1s", "nobody waits long for one that takes him"),
            "proxy_timeout": Setting("24h", "watches and `kubectl exec` are quiet for long"),
            "proxy_socket_keepalive": Setting("on", "finds apiservers that vanished while idle"),
        },
        "server": {
            "listen": Setting(
                f"{address}{both} backlog=4096 {keepalive}",
                "a wildcard starts where the VIP is not; room for all at once; finds clients that vanished while idle",
            ),
        },
        "upstream": {
            "zone": Setting("apiservers 64k", "its processes share what they know of apiservers"),
            "least_conn": Setting("", "connections stuck on a hung apiserver pile up, so new ones avoid it"),
        },
        "upstream-server": {
            "max_fails": Setting("1", "the first connection that cannot be made is enough"),
            "fail_timeout": Setting("5s", "for so long it is left out; then one client's connection tries it again"),
        },
    }
    return overridden(derived, *given(view))


def health(view: View) -> Mapping[str, Setting]:
    """Where the health page is, by directive."""
    if not health_is_public(view.cluster):
        return {"listen": Setting(f"127.0.0.1:{HEALTH_PORT}")}
    only_4 = {address.version for address in view.machine.addresses} == {4}
    return {"listen": Setting(f"{HEALTH_PORT}" if only_4 else f"[::]:{HEALTH_PORT} ipv6only=off", HEALTH_IS_PUBLIC)}


def given(view: View) -> Given:
    """Where cluster.yaml speaks of it."""
    return (("nginx",), view.cluster.nginx), (("machines", view.machine.name, "nginx"), view.machine.nginx)


def max_clients(view: View) -> int:
    """As many as descriptors and a quarter of the memory allow, at most MAX_CLIENTS."""
    by_files = (view.measured.open_files - CONNECTIONS_BESIDES - DESCRIPTORS_BESIDES) // 2
    by_memory = view.measured.memory_bytes // 4 // BYTES_PER_CLIENT
    return max(500, min(MAX_CLIENTS, by_files, by_memory))


def open_files(view: View) -> int:
    return min(view.measured.open_files, 2 * max_clients(view) + CONNECTIONS_BESIDES + DESCRIPTORS_BESIDES)


def room(view: View) -> Room:
    """For worker_connections, of which each client takes two, as the file may say it."""
    connections = whole(settings(view)["events"].get("worker_connections"), DEFAULT_CONNECTIONS)
    return Room(connections, connections + DESCRIPTORS_BESIDES, connections // 2 * BYTES_PER_CLIENT)


ENABLE = f"systemctl daemon-reload\nsystemctl enable -q nginx\nsysctl -q -p {SYSCTL_FILE}"
# systemctl only sends a signal: until no process of before is left that takes connections, old ones do.
RELOAD = """\
workers() { pgrep --parent "$(cat /run/nginx.pid)" --full 'worker process$' || true; }
before=$(workers)
systemctl reload nginx
for i in $(seq 100); do
  now=$(workers)
  if [ -n "$now" ] && ! echo "$now" | grep -qxF "$before"; then break; fi
  sleep 0.1
done"""
DROP_IN_FILE = "/etc/systemd/system/nginx.service.d/haplane.conf"
# The distribution's unit waits 5 s for connections to end, and takes no new ones meanwhile: the VIP must be gone
# before, and watches never end. A master that was killed leaves workers behind, which KillMode=mixed ends.
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
KillMode=mixed
ExecStartPost=/bin/sh -c 'mkdir -p {{ run }} && echo 0 > {{ down_file }}'
ExecStop=
ExecStop=/bin/sh -c 'mkdir -p {{ run }} && echo 1 > {{ down_file }}'
ExecStopPost=/bin/sh -c 'mkdir -p {{ run }} && echo 1 > {{ down_file }}'
"""


@dataclass(frozen=True)
class Timing:
    """What decides how long an apiserver that fails is used, as configured.

    passes_on: a connection that cannot be made is made elsewhere. max_fails: 0 leaves nobody out. idle_ms: after which
    a connection ends. by_connections: whoever has the fewest gets the next.
    """

    connect_ms: float
    passes_on: bool
    max_fails: int
    fail_timeout_ms: float
    idle_ms: float
    by_connections: bool


def timing(view: View) -> Timing:
    """A value that is none falls back to nginx's own default (ngx_stream_proxy_module, ngx_stream_upstream_module)."""
    chosen = settings(view)
    # What stands in the inner block wins.
    proxy, server = {**chosen["stream"], **chosen["server"]}, chosen["upstream-server"]
    connect_ms = _time_ms(proxy.get("proxy_connect_timeout"), 60_000)
    tries_ms = _time_ms(proxy.get("proxy_next_upstream_timeout"), 0) or math.inf
    is_on = proxy.get("proxy_next_upstream", Setting("on")).arguments != "off"
    return Timing(
        connect_ms=connect_ms,
        passes_on=is_on and whole(proxy.get("proxy_next_upstream_tries"), 0) != 1 and tries_ms > connect_ms,
        max_fails=whole(server.get("max_fails"), 1),
        fail_timeout_ms=_time_ms(server.get("fail_timeout"), 10_000),
        idle_ms=_time_ms(proxy.get("proxy_timeout"), 600_000),
        by_connections="least_conn" in chosen["upstream"],
    )


_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def _time_ms(setting: Setting | None, otherwise: float) -> float:
    """As nginx writes times (nginx.org, syntax): 100ms, 1h 30m, or seconds. otherwise: where it is none."""
    text = setting.arguments if setting else ""
    parts = re.findall(r"([0-9]+)(ms|[smhdw])?", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        return otherwise
    return sum(float(number) * _UNITS_MS[unit or "s"] for number, unit in parts)


def design(view: View) -> ComponentDesign:
    chosen = settings(view)
    config = render(
        CONFIG,
        main=lines(chosen["main"], indent="", end=";"),
        events=lines(chosen["events"], end=";"),
        health=lines(health(view), indent="    ", end=";"),
        stream=lines(chosen["stream"], end=";"),
        upstream=lines(chosen["upstream"], indent="    ", end=";"),
        server_parameters=parameters(chosen["upstream-server"]),
        servers=[(one.name, join_host_port(one.address, APISERVER_PORT)) for one in view.cluster.control_plane],
        anyway=not _NO_BACKUP & chosen["upstream"].keys(),
        server=lines(chosen["server"], indent="    ", end=";"),
    )
    drop_in = render(
        DROP_IN, open_files=open_files(view), run=RUN, comes_first=COMES_FIRST, down_file=BALANCER.down_file
    )
    return ComponentDesign(
        name="nginx",
        packages=PACKAGES,
        file_sets=(
            FileSet(
                (File(AUTHORITY, view.authority_file), File(SYSCTL_FILE, SYSCTL), File(DROP_IN_FILE, drop_in)),
            ),
            # A relative path would begin in nginx's own folder.
            FileSet((File(CONFIG_FILE, config),), validate=f'nginx -t -q -c "$PWD{CONFIG_FILE}"'),
        ),
        load=Load(f"{ENABLE}\n{RELOAD}", "reload nginx (no connection is dropped)"),
        unit="nginx.service",
        start=Load(f"{ENABLE}\nsystemctl restart nginx", "start nginx"),
        restart=Load(f"{ENABLE}\nsystemctl restart nginx", "restart nginx (connections through it end)"),
        restart_for=(DROP_IN_FILE,),
    )


BALANCER = Balancer(
    name="nginx",
    title="nginx",
    health_path="/",
    knows_the_ready=False,
    authority=AUTHORITY,
    config_test=ConfigTest(CONFIG_FILE, "nginx -t", "[emerg]", "[warn]"),
    settings=settings,
    given=given,
    room=room,
    health=health,
    design=design,
)
