"""keepalived: the VIP, by VRRP version 3 (RFC 9568).

Source: keepalived.conf(5); the values were measured, see `docs/measurements.md`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass

from haplane.components import balancer_watch, etcd, waiting
from haplane.components.balancer import balancer_of
from haplane.components.base import (
    COMES_FIRST,
    HEALTH_PORT,
    LIBEXEC,
    RUN,
    Balancer,
    ComponentDesign,
    File,
    FileSet,
    Given,
    Load,
    View,
    join_host_port,
)
from haplane.components.settings import Setting, Settings, lines, overridden, time_ms, whole
from haplane.components.templates import render
from haplane.model.cluster import APISERVER_PORT, Cast, Cluster, Interface, Role

INSTANCE = "api"
CHECK_FILE = f"{LIBEXEC}/check-balancer"
CONFIG_FILE = "/etc/keepalived/keepalived.conf"
# Where there is no balancer, whose own it would be.
AUTHORITY = "/etc/keepalived/haplane-ca.crt"
TOP_PRIORITY = 250
# Systems whose keepalived (2.2.7, 2.2.8) refuses a fraction as the interval of a script; 2.3.2 reads it.
WHOLE_SECONDS = frozenset({"debian 12", "ubuntu 24.04"})
# Two backups whose skew differs by less both claim the VIP.
SKEW_APART_MS = 10

# Of one question to another machine; and to this one, where HAProxy may try four apiservers, 100 ms each. All fit into
# the time that the script has, also where a processor has to be waited for.
ASK_OTHERS_S = 0.15
ASK_OWN_S = 0.45
# So many nodes have to be out of reach until a balancer that reaches no other is cut off: the script has 2 s.
NODES_AT_MOST = 3
# HAProxy asks an apiserver that is down every 0.5 s, and believes the second good answer.
AGAIN_S = 0.6

CONFIG = """\
# Written by haplane; a change here is undone by the next apply.
global_defs {
{{ global_defs }}\
}

{% if is_watched %}
# Gone: who waits for that says so at once.
track_file balancer_gone {
  file {{ balancer.gone_file }}
  weight 0
}

{% endif %}
{% if balancer %}
# Dead: {{ balancer.unit }} says so the moment it ends.
track_file balancer_dead {
  file {{ balancer.down_file }}
  weight 0
}

# Hung: its own health page does not answer.
vrrp_script balancer_hung {
{% else %}
# Dead, hung, or not ready: the VIP leads straight to this machine's apiserver.
vrrp_script apiserver_unready {
{% endif %}
{{ vrrp_script }}\
}
{% for instance in instances %}

vrrp_instance {{ instance.name }} {
{{ instance.lines }}\
{% if instance.peers %}
  unicast_peer {
{% for peer in instance.peers %}
    {{ peer }}
{% endfor %}
  }
{% endif %}
  virtual_ipaddress {
    {{ instance.vip }} dev {{ interface }}
  }
{% if balancer %}
  track_file {
{% if is_watched %}
    balancer_gone
{% endif %}
    balancer_dead
  }
  track_script {
    balancer_hung
  }
{% else %}
  track_script {
    apiserver_unready
  }
{% endif %}
}
{% endfor %}
{% if instances | length > 1 %}

# Both addresses are on the same machine.
vrrp_sync_group endpoint {
  group {
{% for instance in instances %}
    {{ instance.name }}
{% endfor %}
  }
}
{% endif %}
"""

# Verified, so that nothing but this cluster's own apiserver passes.
ASK_APISERVER = """\
curl --silent --fail --max-time {{ timeout_s }} --output /dev/null --cacert {{ authority }} \\
  --connect-to kubernetes:{{ port }}:{{ address }} https://kubernetes:{{ port }}/readyz"""

# num_connects: of TCP. curl 7.88 (Debian 12) knows no time_connect of a handshake that failed (curl/curl#10670).
CHECK = """\
#!/bin/bash
# Does this machine's {{ balancer.title }} answer, and does it serve anybody? Asked by keepalived.
# By bash itself: this is asked several times a second, and curl takes six times as much of a processor.
status() {
  knows=
  { exec 3<> /dev/tcp/127.0.0.1/{{ port }}; } 2> /dev/null || return 1
  printf 'GET {{ balancer.health_path }} HTTP/1.0\\r\\n\\r\\n' >&3
  read -r -t {{ timeout_s }} _ knows _ <&3
}
status || exit 1
{% if others %}
{% if balancer.knows_the_ready %}
[ "$knows" != 503 ] && exit 0
# It knows of no apiserver that is ready. Who is served all the same, because it asks them anyway, keeps the VIP here.
ask() {
  curl --silent --insecure --max-time $1 --output /dev/null --write-out '%{http_code} %{num_connects}' https://$2/readyz
}
answer=$(ask {{ own_s }} {{ own }})
ended=$?
case $answer in 200*) exit 0 ;; esac
# That may be so everywhere. But where another balancer serves, it should have the VIP; unless this one may only be slow
# (28: no answer in time), as all are then, or knows of an apiserver a moment later. And who reaches no other machine
# is cut off: it lets go, too, or would take the VIP from the others once it is back.
reaches=1
for peer in{% for other in others %} {{ other }}{% endfor %}; do
  answer=$(ask {{ other_s }} $peer)
  case $answer in *" 0") continue ;; esac
  [ $ended = 28 ] && exit 0
  case $answer in
    200*)
      sleep {{ again_s }}
      status && [ "$knows" = 503 ] && exit 1
      exit 0
      ;;
  esac
  reaches=0
done
{% if nodes %}
# The only balancer that is left is not cut off while it reaches who has an apiserver, ready or not.
for node in{% for node in nodes %} {{ node }}{% endfor %}; do
  [ $reaches = 0 ] && break
  case $(ask {{ other_s }} $node) in *" 0") ;; *) reaches=0 ;; esac
done
{% endif %}
exit $reaches
{% else %}
{% if ask_own %}
# Whether an apiserver is ready {{ balancer.title }} does not know. Where the one beside it is, somebody is served.
{{ ask_own }} && exit 0
{% endif %}
# Who reaches no other machine is cut off and serves nobody: it lets go of the VIP, or would take it from the others
# once it is back.
for peer in{% for other in others %} {{ other }}{% endfor %}; do
  connected=$(curl --silent --insecure --max-time {{ other_s }} --output /dev/null --write-out '%{num_connects}' \\
    https://$peer/)
  case $connected in *[1-9]*) exit 0 ;; esac
done
exit 1
{% endif %}
{% endif %}
"""

CHECK_WITHOUT_BALANCER = """\
#!/bin/sh
# Is this machine's apiserver ready? The VIP leads straight to it. Asked by keepalived.
{{ ask_own }}
"""


def settings(view: View, vip: Interface | None = None) -> Settings:
    """What keepalived is told here about this VIP (the first if none), with reasons.

    haplane's own choice, over it the file's, over it the machine's.
    """
    cluster, timers, machine = view.cluster, view.timers, view.machine
    vip = vip or cluster.endpoint.vip
    asked = "balancer" if balancer_of(cluster) else "apiserver"
    position = [one.name for one in cluster.balancers].index(machine.name)
    step = priority_step(timers.advert_ms)
    source = machine.address_of(vip.version)
    unicast = {
        "unicast_src_ip": Setting(str(source), "peers by address: needs no multicast on the network"),
        "unicast_fault_no_peer": Setting("", "no peers is a mistake, not a reason to fall back to multicast"),
    }
    derived: Settings = {
        "global_defs": {
            "router_id": Setting(machine.name, "its name in keepalived's own messages"),
            "vrrp_version": Setting("3", "intervals shorter than a second, and IPv6 (RFC 9568)"),
            "enable_script_security": Setting("", "no check that somebody other than root could change"),
            "script_user": Setting("nobody nogroup", "a question to loopback needs no rights"),
            "vrrp_startup_delay": Setting("5", "not before network and balancer have settled after a boot"),
            "vrrp_garp_master_refresh": Setting("60", "a neighbour that missed the announcement hears of it again"),
            "vrrp_higher_prio_send_advert": Setting("true", "ends a split as soon as it is heard"),
            "vrrp_check_unicast_src": Setting("", "adverts of strangers are dropped"),
            "vrrp_rt_priority": Setting("50", "a holder that waits 3 adverts for a processor has lost the VIP"),
            "vrrp_rlimit_rttime": Setting("200000", "by default it is killed after 10 ms of work without a pause"),
        },
        "vrrp_script": {
            "script": Setting(
                f'"{CHECK_FILE}"',
                "the balancer's own page, on loopback; the others' only if it serves nobody"
                if balancer_of(cluster)
                else "this machine's own apiserver: nothing stands in front of it",
            ),
            "interval": _check_interval(view),
            "timeout": Setting("2", "for the script itself; the questions in it end sooner"),
            "fall": _check_fall(cluster),
            "rise": Setting("2", f"{_an(asked)} that flaps does not get the VIP"),
            "init_fail": Setting("", f"{_an(asked)} has to answer before its machine can hold the VIP"),
        },
        "vrrp_instance": {
            "state": Setting("BACKUP", "nobody is born MASTER: nopreempt needs it"),
            "nopreempt": Setting("", "a machine that comes back does not cause a second outage"),
            "interface": Setting(interface_of(view), "the one that has the machine's address"),
            "virtual_router_id": _router_id_setting(view),
            "priority": Setting(
                str(max(1, TOP_PRIORITY - position * step)),
                f"by the file's order, in steps of {step}: {SKEW_APART_MS} ms between two backups",
            ),
            "advert_int": Setting(f"{timers.advert_ms / 1000:g}", "the VIP moves after 3 of them and the skew"),
            **(unicast if cluster.endpoint.cast is Cast.UNICAST and len(cluster.balancers) > 1 else {}),
            **waiting.keepalived_settings(view, vip),
        },
    }
    return overridden(derived, *given(view))


def given(view: View) -> Given:
    """Where cluster.yaml speaks of it."""
    machine = view.machine
    return (("keepalived",), view.cluster.keepalived), (("machines", machine.name, "keepalived"), machine.keepalived)


def config_test(system: str) -> str:
    """The command of the test. keepalived 2.2.7 takes any parent for a sign that it is orphaned, and ends itself.

    So it gets a process namespace of its own, in which it has none (acassen/keepalived#2587).
    """
    return f"{'unshare --pid --fork ' if system == 'debian 12' else ''}keepalived --config-test"


def check_fall(cluster: Cluster) -> int:
    """Questions that fail in a row before the VIP moves. An apiserver is slower than a balancer when it is busy."""
    return 2 if balancer_of(cluster) else 3


def _check_fall(cluster: Cluster) -> Setting:
    because = "one question may be lost" if balancer_of(cluster) else "an apiserver that stalls for a second lives"
    return Setting(str(check_fall(cluster)), because)


def _an(noun: str) -> str:
    return f"an {noun}" if noun[0] == "a" else f"a {noun}"


def _check_interval(view: View) -> Setting:
    asked = "balancer" if balancer_of(view.cluster) else "apiserver"
    interval_s = view.timers.check_interval_ms / 1000
    if view.measured.system in WHOLE_SECONDS and interval_s % 1:
        because = f"how soon a hung {asked} is seen; keepalived of {view.measured.system} reads whole seconds only"
        return Setting(f"{math.ceil(interval_s)}", because)
    return Setting(f"{interval_s:g}", f"how soon a hung {asked} is seen")


ENABLE = "systemctl daemon-reload\nsystemctl enable -q keepalived"
DROP_IN_FILE = "/etc/systemd/system/keepalived.service.d/haplane.conf"
DROP_IN = """\
# Written by haplane.
[Unit]
Wants=network-online.target
After=network-online.target{{ " " + balancer.unit if balancer else "" }}
StartLimitIntervalSec=0
[Service]
Restart=always
RestartSec=1
{{ comes_first }}
{% if balancer %}
# {{ balancer.title }} writes it too, but may have been started before it was told to.
ExecStartPre=/bin/sh -c 'mkdir -p {{ run }}; systemctl is-active -q {{ balancer.name }}; \
echo $(( $? != 0 )) > {{ balancer.down_file }}'
{% endif %}
# A keepalived that was killed leaves the address behind: two machines would have it.
{% for vip in vips %}
ExecStopPost=-/sbin/ip address delete {{ vip }} dev {{ interface }}
{% endfor %}
{% if stopped %}
# Who was connected to it hears that the VIP has left, once its next holder has it.
{% for command in stopped %}
ExecStopPost=-{{ command }}
{% endfor %}
{% endif %}
"""


def _router_id_setting(view: View) -> Setting:
    number = str(virtual_router_id(view.cluster, view.router_ids_of_others))
    if view.cluster.endpoint.virtual_router_id is not None:
        return Setting(number, "as the file says", ("endpoint", "virtual_router_id"))
    return Setting(
        number, "from the cluster's name and VIP; the next one that nobody else on the network was heard with"
    )


def virtual_router_id(cluster: Cluster, of_others: frozenset[int] = frozenset()) -> int:
    """From the file, else from the cluster's name and VIP, so that clusters on one network rarely share one.

    of_others: ids that strangers were heard with; not taken as long as one is free.
    """
    endpoint = cluster.endpoint
    if endpoint.virtual_router_id is not None:
        return endpoint.virtual_router_id
    digest = hashlib.sha256(f"{cluster.name} {endpoint.vip.ip}".encode()).digest()
    first = int.from_bytes(digest[:4], "big") % 255
    return next((one for step in range(255) if (one := 1 + (first + step) % 255) not in of_others), 1 + first)


def priority_step(advert_ms: int) -> int:
    """The smallest step of priorities that keeps backups SKEW_APART_MS apart (skew: RFC 9568 section 6.1)."""
    return math.ceil(256 * SKEW_APART_MS / advert_ms)


def skew_ms(priority: int, advert_ms: float) -> float:
    """RFC 9568 section 6.1: ((256 - priority) / 256) * advert interval."""
    return (256 - priority) / 256 * advert_ms


@dataclass(frozen=True)
class Timing:
    """What decides how soon the VIP moves away from this machine, as configured.

    check_*: keepalived's question to the balancer; it has failed after fall times the interval and the timeout.
    """

    advert_ms: float
    priority: int
    check_interval_ms: float
    check_timeout_ms: float
    check_fall: int


def timing(view: View) -> Timing:
    """A value that is none falls back to keepalived's own default (keepalived.conf(5))."""
    chosen = settings(view)
    instance, script = chosen["vrrp_instance"], chosen["vrrp_script"]

    return Timing(
        advert_ms=time_ms(instance.get("advert_int"), 1000, unit_ms=1000),
        priority=whole(instance.get("priority"), 100),
        check_interval_ms=time_ms(script.get("interval"), 1000, unit_ms=1000),
        check_timeout_ms=min(view.timers.check_timeout_ms, time_ms(script.get("timeout"), math.inf, unit_ms=1000)),
        check_fall=whole(script.get("fall"), 1),
    )


def interface_of(view: View) -> str:
    return view.machine.interface or view.measured.interface


def _host_address(vip: Interface) -> str:
    """As /32 or /128, so that nothing takes it for the node's own."""
    return f"{vip.ip}/{vip.max_prefixlen}"


def authority(cluster: Cluster) -> str:
    """Where machines that may hold the VIP have the cluster's CA certificate."""
    balancer = balancer_of(cluster)
    return balancer.authority if balancer else AUTHORITY


def _check(view: View) -> str:
    timeout_s = view.timers.check_timeout_ms / 1000
    balancer = balancer_of(view.cluster)
    if balancer is None:
        return render(CHECK_WITHOUT_BALANCER, ask_own=_ask_own(view, timeout_s))
    is_beside = Role.CONTROL_PLANE in view.machine.roles
    return render(
        CHECK,
        timeout_s=timeout_s,
        port=HEALTH_PORT,
        balancer=balancer,
        own=join_host_port(view.machine.address, view.cluster.endpoint.port),
        own_s=ASK_OWN_S,
        again_s=AGAIN_S,
        others=_others(view, balancer),
        nodes=_nodes_apart(view)[:NODES_AT_MOST],
        other_s=ASK_OTHERS_S,
        ask_own=_ask_own(view, ASK_OTHERS_S) if is_beside else "",
    )


def _ask_own(view: View, timeout_s: float) -> str:
    address = join_host_port(view.machine.address, APISERVER_PORT)
    return render(
        ASK_APISERVER,
        timeout_s=f"{timeout_s:g}",
        authority=authority(view.cluster),
        port=APISERVER_PORT,
        address=address,
    )


def _others(view: View, balancer: Balancer) -> list[str]:
    """Whom a machine reaches that is not cut off: the other balancers and, where it has to find out itself, more."""
    cluster = view.cluster
    found = [
        join_host_port(one.address, cluster.endpoint.port) for one in cluster.balancers if one.name != view.machine.name
    ]
    if balancer.knows_the_ready:
        return found
    apart = [one for one in cluster.etcd_members if one not in (*cluster.control_plane, *cluster.balancers)]
    return [*found, *_nodes_apart(view), *(join_host_port(one.address, etcd.CLIENT_PORT) for one in apart)]


def _nodes_apart(view: View) -> list[str]:
    """The apiservers of machines that are no balancers."""
    cluster = view.cluster
    apart = [one for one in cluster.control_plane if one not in cluster.balancers]
    return [join_host_port(one.address, APISERVER_PORT) for one in apart]


def _instances(view: View) -> list[dict[str, object]]:
    """One per VIP: VRRP speaks of one IP version at a time."""
    vips, unicast = view.cluster.endpoint.vips, view.cluster.endpoint.cast is Cast.UNICAST
    others = [one for one in view.cluster.balancers if one.name != view.machine.name]
    return [
        {
            "name": INSTANCE if vip == vips[0] else f"{INSTANCE}-ipv{vip.version}",
            "lines": lines(settings(view, vip)["vrrp_instance"]),
            "peers": [one.address_of(vip.version) for one in others] if unicast else [],
            "vip": _host_address(vip),
        }
        for vip in vips
    ]


def design(view: View) -> ComponentDesign:
    interface, balancer = interface_of(view), balancer_of(view.cluster)
    enable = f"{ENABLE}\n{balancer_watch.commands(view)}"
    chosen = settings(view)
    config = render(
        CONFIG,
        global_defs=lines(chosen["global_defs"]),
        vrrp_script=lines(chosen["vrrp_script"]),
        balancer=balancer,
        is_watched=balancer_watch.is_used(view.cluster),
        instances=_instances(view),
        interface=interface,
    )
    drop_in = render(
        DROP_IN,
        run=RUN,
        comes_first=COMES_FIRST,
        balancer=balancer,
        vips=[_host_address(vip) for vip in view.cluster.endpoint.vips],
        interface=interface,
        stopped=waiting.keepalived_stopped(view),
    )
    return ComponentDesign(
        name="keepalived",
        packages=("keepalived", "bash", "curl", "iproute2"),
        file_sets=(
            # First, because the check of keepalived.conf looks for the scripts under their final paths.
            FileSet(
                (
                    File(CHECK_FILE, _check(view), mode=0o755),
                    File(DROP_IN_FILE, drop_in),
                    *(() if balancer else (File(AUTHORITY, view.authority_file),)),
                    *balancer_watch.files(view),
                    *waiting.keepalived_files(view),
                )
            ),
            FileSet(
                (File(CONFIG_FILE, config),),
                validate=f"{config_test(view.measured.system)} --use-file .{CONFIG_FILE}",
            ),
        ),
        load=Load(f"{enable}\nsystemctl reload keepalived", "reload keepalived (the VIP stays where it is)"),
        unit="keepalived.service",
        start=Load(f"{enable}\nsystemctl restart keepalived", "start keepalived"),
        restart=Load(f"{enable}\nsystemctl restart keepalived", "restart keepalived (a VIP held here moves)"),
        restart_for=(DROP_IN_FILE,),
        dialect=_dialect(view),
    )


def _dialect(view: View) -> str:
    """What two keepalived must share to hear each other: a change of it makes old and new deaf, and both MASTER."""
    chosen = settings(view)
    version = chosen["global_defs"].get("vrrp_version", Setting("2")).arguments
    instances = [settings(view, vip)["vrrp_instance"] for vip in view.cluster.endpoint.vips]
    routers = [one["virtual_router_id"].arguments for one in instances if "virtual_router_id" in one]
    secrets = [one[key].arguments for one in instances for key in ("auth_type", "auth_pass") if key in one]
    vips = [_host_address(vip) for vip in view.cluster.endpoint.vips]
    return " ".join([version, view.cluster.endpoint.cast, *routers, *secrets, *vips])


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

# The same, after its age in seconds: while vrrp_startup_delay lasts it says BACKUP, and takes no VIP.
SETTLED_COMMAND = f"""ps -o etimes= -p "$(cat /run/keepalived.pid)"
{STATUS_COMMAND}"""


def has_settled(view: View, said: str) -> bool:
    """Output of SETTLED_COMMAND -> whether it has the VIP, or would take it. False when it did not answer."""
    age_s, _, dump = said.partition("\n")
    state = parse_state(dump)
    delay_s = time_ms(settings(view)["global_defs"].get("vrrp_startup_delay"), 0, unit_ms=1000) / 1000
    return state == "MASTER" or (state == "BACKUP" and age_s.strip().isdigit() and int(age_s) > delay_s)


_STATES = {0: "INIT", 1: "BACKUP", 2: "MASTER", 3: "FAULT"}  # vrrp.h, VRRP_STATE_*


def parse_state(dump: str) -> str:
    """The JSON dump -> MASTER, BACKUP, FAULT or INIT; empty when the daemon did not answer."""
    try:
        instances = [entry["data"] for entry in json.loads(dump)]
        return next(_STATES.get(one["state"], "") for one in instances if one["iname"] == INSTANCE)
    except (ValueError, KeyError, TypeError, StopIteration):
        return ""


# As 2.x writes it, and 1.x: "VRRP_Instance(api) Entering MASTER STATE".
_TRANSITION = re.compile(r"(?:VRRP_Instance)?\((?P<instance>[^ )]+)\) entering (?P<state>[A-Z]+) state", re.IGNORECASE)


def parse_transition(message: str) -> tuple[str, str] | None:
    """A log message -> which instance is in which state now."""
    found = _TRANSITION.match(message)
    return (found["instance"], found["state"].upper()) if found else None
