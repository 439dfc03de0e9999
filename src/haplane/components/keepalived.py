"""keepalived: the VIP, by VRRP version 3 (RFC 9568).

Source: keepalived.conf(5); the values were measured, see `docs/measurements.md`.
"""

from __future__ import annotations

import hashlib
import json
import math

from haplane.components import haproxy
from haplane.components.base import LIBEXEC, RUN, ComponentDesign, File, FileSet, Load, View
from haplane.components.templates import render
from haplane.model.cluster import Cluster

INSTANCE = "api"
TOP_PRIORITY = 250
ADVERT_MS = 100
# Two backups whose skew differs by less both claim the VIP.
SKEW_APART_MS = 10
STARTUP_DELAY_S = 5

CONFIG = """\
# Written by haplane; a change here is undone by the next apply.
global_defs {
  router_id {{ machine }}
  vrrp_version 3
  enable_script_security
  script_user nobody nogroup
  # Not before the network and the balancer have settled after a boot.
  vrrp_startup_delay {{ startup_delay_s }}
  # A neighbour that missed the announcement hears of it again.
  vrrp_garp_master_refresh 60
  vrrp_higher_prio_send_advert true
  vrrp_check_unicast_src
  # A holder that waits 0.3 s for a processor has lost the VIP. Where real-time is not allowed (in containers), the
  # unit's niceness remains.
  vrrp_rt_priority 50
}

# Dead: haproxy.service says so the moment it ends.
track_file balancer_dead {
  file {{ down_file }}
  weight 0
}

# Hung: its own health page does not answer.
vrrp_script balancer_hung {
  script "{{ libexec }}/check-balancer"
  interval 0.5
  timeout 1
  fall 2
  rise 2
  init_fail
}

vrrp_instance {{ instance }} {
  state BACKUP
  nopreempt
  interface {{ interface }}
  virtual_router_id {{ virtual_router_id }}
  priority {{ priority }}
  advert_int {{ advert_s }}
{% if peers %}
  unicast_src_ip {{ address }}
  unicast_peer {
{% for peer in peers %}
    {{ peer }}
{% endfor %}
  }
{% endif %}
  virtual_ipaddress {
    {{ vip }} dev {{ interface }}
  }
  track_file {
    balancer_dead
  }
  track_script {
    balancer_hung
  }
}
"""

CHECK = f"""\
#!/bin/sh
# Does this machine's HAProxy answer? Asked by keepalived.
exec curl --silent --fail --max-time 0.4 --output /dev/null http://127.0.0.1:{haproxy.HEALTH_PORT}/healthz
"""

ENABLE = "systemctl daemon-reload\nsystemctl enable -q keepalived"
DROP_IN_FILE = "/etc/systemd/system/keepalived.service.d/haplane.conf"
DROP_IN = """\
# Written by haplane.
[Unit]
Wants=network-online.target
After=network-online.target haproxy.service
StartLimitIntervalSec=0
[Service]
Restart=always
RestartSec=1
Nice=-20
# HAProxy writes it too, but may have been started before it was told to.
ExecStartPre=/bin/sh -c 'mkdir -p {{ run }}; systemctl is-active -q haproxy; echo $(( $? != 0 )) > {{ down_file }}'
# A keepalived that was killed leaves the address behind: two machines would have it.
ExecStopPost=-/sbin/ip address delete {{ vip }} dev {{ interface }}
"""


def virtual_router_id(cluster: Cluster) -> int:
    """From the file, else from the cluster's name and VIP, so that clusters on one network rarely share one."""
    endpoint = cluster.endpoint
    if endpoint.virtual_router_id is not None:
        return endpoint.virtual_router_id
    digest = hashlib.sha256(f"{cluster.name} {endpoint.vip.ip}".encode()).digest()
    return 1 + int.from_bytes(digest[:4], "big") % 255


def priority_step(advert_ms: int) -> int:
    """The smallest step of priorities that keeps backups SKEW_APART_MS apart (skew: RFC 9568 section 6.1)."""
    return math.ceil(256 * SKEW_APART_MS / advert_ms)


def priority(position: int, advert_ms: int = ADVERT_MS) -> int:
    """The first machine in the file has the highest."""
    return TOP_PRIORITY - position * priority_step(advert_ms)


def skew_ms(priority: int, advert_ms: int = ADVERT_MS) -> float:
    """RFC 9568 section 6.1: ((256 - priority) / 256) * advert interval."""
    return (256 - priority) / 256 * advert_ms


def vip_address(view: View) -> str:
    """As a host address (/32 or /128), so that nothing takes it for the node's own."""
    vip = view.cluster.endpoint.vip
    return f"{vip.ip}/{vip.max_prefixlen}"


def design(view: View) -> ComponentDesign:
    interface = view.machine.interface or view.measured.interface
    config = render(
        CONFIG,
        machine=view.machine.name,
        startup_delay_s=STARTUP_DELAY_S,
        down_file=haproxy.DOWN_FILE,
        libexec=LIBEXEC,
        instance=INSTANCE,
        interface=interface,
        virtual_router_id=virtual_router_id(view.cluster),
        priority=priority(view.position),
        advert_s=ADVERT_MS / 1000,
        address=view.machine.address,
        peers=list(view.peers.values()),
        vip=vip_address(view),
    )
    drop_in = render(
        DROP_IN,
        run=RUN,
        down_file=haproxy.DOWN_FILE,
        vip=vip_address(view),
        interface=interface,
    )
    return ComponentDesign(
        name="keepalived",
        packages=("keepalived", "curl", "iproute2"),
        file_sets=(
            # First, because the check of keepalived.conf looks for the scripts under their final paths.
            FileSet(
                (
                    File(f"{LIBEXEC}/check-balancer", CHECK, mode=0o755),
                    File(DROP_IN_FILE, drop_in),
                )
            ),
            FileSet(
                (File("/etc/keepalived/keepalived.conf", config),),
                validate="keepalived --config-test --use-file ./etc/keepalived/keepalived.conf",
            ),
        ),
        load=Load(f"{ENABLE}\nsystemctl reload keepalived", "reload keepalived (the VIP stays where it is)"),
        unit="keepalived.service",
        start=Load(f"{ENABLE}\nsystemctl restart keepalived", "start keepalived"),
        restart=Load(f"{ENABLE}\nsystemctl restart keepalived", "restart keepalived (a VIP held here moves)"),
        restart_for=(DROP_IN_FILE,),
    )


# Asked of the daemon itself: it writes what it knows when told to by a signal (keepalived(8), --signum). A notify
# script is not enough: two transitions within milliseconds start two scripts at once, and the older may end last.
STATUS_COMMAND = """\
dump=/tmp/keepalived.json; before=$(mktemp)
if kill -"$(keepalived --signum=JSON)" "$(cat /run/keepalived.pid)"; then
  for i in $(seq 50); do [ "$dump" -nt "$before" ] && [ "$(tail -c 3 "$dump")" = "}]" ] && break; sleep 0.02; done
  [ "$dump" -nt "$before" ] && cat "$dump"
fi
rm -f "$before"
"""

_STATES = {0: "INIT", 1: "BACKUP", 2: "MASTER", 3: "FAULT"}  # vrrp.h, VRRP_STATE_*


def parse_state(dump: str) -> str:
    """The JSON dump -> MASTER, BACKUP, FAULT or INIT; empty when the daemon did not answer."""
    try:
        instances = [entry["data"] for entry in json.loads(dump)]
        return next(_STATES.get(one["state"], "") for one in instances if one["iname"] == INSTANCE)
    except (ValueError, KeyError, TypeError, StopIteration):
        return ""
