"""Planted hazards of keepalived: what the file may write over haplane's own choice."""

from __future__ import annotations

from tests.design.hazards.planting import Planted

from haplane.design.hazards import Severity

ERROR, WARNING, ADVICE = Severity.ERROR, Severity.WARNING, Severity.ADVICE

DUAL = """\
endpoint: {vip: [192.0.2.100/24, 2001:db8::100/64]}
machines:
  cp1: {address: [192.0.2.11, 2001:db8::11]}
  cp2: {address: [192.0.2.12, 2001:db8::12]}
  cp3: {address: [192.0.2.13, 2001:db8::13]}
"""


def instance(*lines: str) -> str:
    return "keepalived:\n  vrrp_instance:\n" + "".join(f"    {line}\n" for line in lines)


def global_defs(*lines: str) -> str:
    return "keepalived:\n  global_defs:\n" + "".join(f"    {line}\n" for line in lines)


def script(*lines: str) -> str:
    return "keepalived:\n  vrrp_script:\n" + "".join(f"    {line}\n" for line in lines)


def machines(*priorities: int, mark: int) -> str:
    """mark: of which machine the priority is marked."""
    lines = ["machines:"]
    for number, priority in enumerate(priorities, start=1):
        lines += [f"  cp{number}:", f"    address: 192.0.2.1{number}", "    keepalived:", "      vrrp_instance:"]
        lines.append(f"        priority: {priority}{' # <-' if number == mark else ''}")
    return "\n".join(lines) + "\n"


VIP = (
    Planted(
        "vip-options-conflict",
        ERROR,
        "version 2 with a fraction of a second",
        global_defs("vrrp_version: 2 # <-"),
        "version 2 with whole seconds",
        global_defs("vrrp_version: 2") + "  vrrp_instance: {advert_int: 1}\n",
    ),
    Planted(
        "vip-options-conflict",
        ERROR,
        "version 2 of one instance with IPv6",
        DUAL + instance("version: 2 # <-", "advert_int: 1"),
        "version 3 with IPv6",
        DUAL,
    ),
    Planted(
        "vip-options-conflict",
        ERROR,
        "no version line, which means version 2",
        global_defs("vrrp_version: false # <-"),
        "the version of the instance instead",
        global_defs("vrrp_version: false") + "  vrrp_instance: {version: 3}\n",
    ),
    Planted(
        "vip-options-conflict",
        ERROR,
        "an interval between two hundredths",
        instance("advert_int: 0.105 # <-"),
        "an interval of hundredths",
        instance("advert_int: 0.11"),
    ),
    Planted(
        "vip-options-conflict",
        ERROR,
        "an interval above 40.95 s",
        instance("advert_int: 41 # <-"),
        "an interval of 40.95 s",
        instance("advert_int: 40.95"),
    ),
    Planted(
        "vip-options-conflict",
        ERROR,
        "authentication in version 3",
        instance('authentication: "{ auth_type PASS auth_pass secret }" # <-'),
        "authentication in version 2",
        global_defs("vrrp_version: 2")
        + '  vrrp_instance: {advert_int: 1, authentication: "{ auth_type PASS auth_pass secret }"}\n',
    ),
    Planted(
        "vip-options-conflict",
        ERROR,
        "strict mode of all instances",
        global_defs("vrrp_strict: true # <-"),
        "no strict mode",
        global_defs("vrrp_strict: false"),
    ),
    Planted(
        "vip-options-conflict",
        ERROR,
        "no_accept",
        instance("no_accept: true # <-"),
        "strict mode turned off",
        instance('strict_mode: "off"'),
    ),
    Planted(
        "vip-priority-bad",
        ERROR,
        "the priority of an owner",
        machines(255, 200, 150, mark=1),
        "the highest that is not an owner's",
        machines(254, 200, 150, mark=0),
    ),
    Planted(
        "vip-priority-bad",
        ERROR,
        "two machines with the same priority",
        machines(250, 200, 200, mark=3),
        "three priorities",
        machines(250, 200, 150, mark=0),
    ),
    Planted(
        "vip-priority-bad",
        ERROR,
        "one priority for all machines",
        instance("priority: 100 # <-"),
        "one machine with its own priority",
        "machines:\n  cp1: {address: 192.0.2.11, keepalived: {vrrp_instance: {priority: 100}}}\n"
        "  cp2: {address: 192.0.2.12}\n  cp3: {address: 192.0.2.13}\n",
    ),
    Planted(
        "vip-priority-bad",
        WARNING,
        "25 apart at 0.1 s",
        machines(250, 225, 150, mark=2),
        "26 apart at 0.1 s",
        machines(250, 224, 150, mark=0),
    ),
    Planted(
        "vip-priority-bad",
        WARNING,
        "2 apart in version 2",
        machines(250, 248, 150, mark=2) + global_defs("vrrp_version: 2") + "  vrrp_instance: {advert_int: 10}\n",
        "3 apart in version 2",
        machines(250, 247, 150, mark=0) + global_defs("vrrp_version: 2") + "  vrrp_instance: {advert_int: 10}\n",
    ),
    Planted(
        "vip-weight-below-spread",
        ERROR,
        "a weight of the spread",
        script("weight: -52 # <-"),
        "a weight above the spread",
        script("weight: -53"),
    ),
    Planted(
        "vip-weight-below-spread",
        ERROR,
        "a weight that keepalived cuts off",
        script("weight: -220 # <-"),
        "a weight that fits",
        script("weight: -190"),
    ),
    Planted(
        "vip-weight-below-spread",
        ERROR,
        "a weight in a sync group",
        DUAL + script("weight: -60 # <-"),
        "no weight in a sync group",
        DUAL + script("weight: 0"),
    ),
    Planted(
        "vip-weight-below-spread",
        ERROR,
        "a small weight of a tracker of the file's own",
        instance('track_interface: "{ eth1 weight -10 }" # <-'),
        "a tracker of the file's own without weight",
        instance('track_interface: "{ eth1 }"'),
    ),
    Planted(
        "vip-nopreempt-broken",
        ERROR,
        "state MASTER",
        instance("state: MASTER # <-"),
        "state MASTER without nopreempt",
        instance("state: MASTER", "nopreempt: false"),
    ),
    Planted(
        "vip-nopreempt-broken",
        ERROR,
        "a weight",
        script("weight: -60 # <-"),
        "a weight without nopreempt",
        script("weight: -60") + "  vrrp_instance: {nopreempt: false}\n",
    ),
    Planted(
        "vip-failback-outage",
        ADVICE,
        "no nopreempt",
        instance("nopreempt: false # <-"),
        "preempt_delay instead",
        instance("nopreempt: false", "preempt_delay: 300"),
    ),
    Planted(
        "vip-check-weak",
        WARNING,
        "a process that exists",
        script('script: "/usr/bin/pidof haproxy" # <-'),
        "a page that is asked for",
        script('script: "/usr/bin/curl -fsS http://127.0.0.1:8404/healthz"'),
    ),
    Planted(
        "vip-check-weak",
        WARNING,
        "a port that is open",
        script("script: nc -z 127.0.0.1 8443 # <-"),
        "a script of the file's own",
        script("script: /usr/local/bin/check-haproxy"),
    ),
    Planted(
        "vip-check-weak",
        WARNING,
        "no script",
        script("script: false # <-"),
        "another interval",
        script("interval: 1"),
    ),
    Planted(
        "vip-check-through-vip",
        ERROR,
        "the VIP",
        script("script: curl -fk https://192.0.2.100:8443/healthz # <-"),
        "an address that begins like the VIP",
        "endpoint: {vip: 192.0.2.10/24}\n" + script("script: curl -f http://192.0.2.100:8404/healthz"),
    ),
    Planted(
        "vip-check-through-vip",
        ERROR,
        "the endpoint's name",
        "endpoint: {vip: 192.0.2.100/24, host: api.example}\n"
        + script("script: curl -fk https://api.example:8443/healthz # <-"),
        "a name that ends like the endpoint's",
        "endpoint: {vip: 192.0.2.100/24, host: api.example}\n"
        + script("script: curl -f http://my-api.example:8404/healthz"),
    ),
    Planted(
        "vip-check-shared-fate",
        ERROR,
        "an apiserver, at a new cluster, too",
        script("script: curl -fk https://127.0.0.1:6443/healthz # <-"),
        "an apiserver with a weight",
        script("script: curl -fk https://127.0.0.1:6443/healthz", "weight: -60"),
    ),
    Planted(
        "vip-check-shared-fate",
        WARNING,
        "an apiserver through the balancer",
        script("script: curl -fk https://127.0.0.1:8443/ # <-", "init_fail: false"),
        "the balancer's own page",
        script("script: curl -f http://127.0.0.1:8404/healthz", "init_fail: false"),
    ),
    Planted(
        "vip-check-over-budget",
        WARNING,
        "a slow interval",
        "failover: {target: 2s}\n" + script("interval: 1 # <-"),
        "an interval that meets the target",
        "failover: {target: 2s}\n" + script("interval: 0.5"),
    ),
    Planted(
        "vip-check-over-budget",
        WARNING,
        "many failures before one counts",
        "failover:\n  target: 2s # <-\n" + script("fall: 4"),
        "many failures without a target",
        script("fall: 4"),
    ),
    Planted(
        "vip-unicast-peers",
        ERROR,
        "no source address",
        instance("unicast_src_ip: false # <-"),
        "no source address with multicast",
        "endpoint: {vip: 192.0.2.100/24, cast: multicast}\n" + instance("unicast_src_ip: false"),
    ),
    Planted(
        "vip-unicast-peers",
        ERROR,
        "a source address that is another machine's",
        instance("unicast_src_ip: 192.0.2.12 # <-"),
        "the machine's own second address",
        DUAL.replace("2001:db8::11]}", "2001:db8::11], keepalived: {vrrp_instance: {unicast_src_ip: 192.0.2.11}}}"),
    ),
    Planted(
        "vip-unicast-peers",
        WARNING,
        "adverts of strangers are heard",
        global_defs("vrrp_check_unicast_src: false # <-"),
        "the instance's own option",
        global_defs("vrrp_check_unicast_src: false") + "  vrrp_instance: {check_unicast_src: true}\n",
    ),
    Planted(
        "vip-garp-not-repeated",
        ADVICE,
        "announced once",
        global_defs("vrrp_garp_master_refresh: 0 # <-"),
        "announced seldom",
        global_defs("vrrp_garp_master_refresh: 600"),
    ),
    Planted(
        "vip-garp-not-repeated",
        ADVICE,
        "announced once by one instance",
        instance("garp_master_refresh: 0 # <-"),
        "announced by one instance only",
        global_defs("vrrp_garp_master_refresh: false") + "  vrrp_instance: {garp_master_refresh: 60}\n",
    ),
    Planted(
        "vip-chosen-as-node-ip",
        WARNING,
        "kubelet's arguments without node-ip",
        "kubeadm:\n  InitConfiguration:\n    nodeRegistration:\n      kubeletExtraArgs: # <-\n"
        '        - {name: v, value: "2"}\n',
        "another key of the node's registration",
        "kubeadm:\n  InitConfiguration:\n    nodeRegistration:\n      taints: []\n",
    ),
    Planted(
        "vip-chosen-as-node-ip",
        WARNING,
        "a node-ip that is the VIP",
        "kubeadm:\n  JoinConfiguration:\n    nodeRegistration:\n      kubeletExtraArgs:\n"
        "        - {name: node-ip, value: 192.0.2.100} # <-\n",
        "a node-ip that is a machine's",
        "kubeadm:\n  JoinConfiguration:\n    nodeRegistration:\n      kubeletExtraArgs:\n"
        "        - {name: node-ip, value: 192.0.2.11}\n",
    ),
    Planted(
        "vip-chosen-as-node-ip",
        WARNING,
        "an advertiseAddress that is chosen automatically",
        "kubeadm:\n  JoinConfiguration:\n    controlPlane:\n      localAPIEndpoint:\n"
        "        advertiseAddress: 0.0.0.0 # <-\n",
        "an advertiseAddress of a machine",
        "kubeadm:\n  JoinConfiguration:\n    controlPlane:\n      localAPIEndpoint:\n"
        "        advertiseAddress: 192.0.2.12\n",
    ),
)
