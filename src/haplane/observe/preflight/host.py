"""One machine as it stands: one shell command, and a parser of what it says."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address, ip_interface

from haplane.components.etcd import MEMBERSHIP as ETCD_MEMBERSHIP
from haplane.components.etcd import PKI as ETCD_PKI
from haplane.components.etcd_watch import UNIT_NAME
from haplane.model.cluster import Address, Cluster, Machine
from haplane.observe.facts import MEMBERSHIP
from haplane.observe.preflight.probe import Host, Link, Listener, Module

MODULES = ("overlay", "br_netfilter")
UNITS = (
    *("keepalived", "haproxy", "nginx", "containerd", "kubelet", "etcd"),
    UNIT_NAME.removesuffix(".service"),
)
# What an upgrade that nobody watches would restart.
HOLDABLE = ("keepalived", "haproxy", "nginx", "containerd")

_SCRIPT = r"""
LC_ALL=C; export LC_ALL; PATH=$PATH:/usr/sbin:/sbin; T='	'
say() {
  printf '%s' "$1"; shift
  for value; do printf '\t%s' "$(printf '%s' "$value" | tr '\n\t' '  ')"; done; echo
}
say now "$(date +%s)"
say system "$(. /etc/os-release; echo "$ID $VERSION_ID")"
say architecture "$(uname -m)"
say hostname "$(uname -n)"
say init "$(cat /proc/1/comm)"
say open_files "$(awk '/^Max open files/{print $5}' /proc/1/limits)"
say memory "$(awk '/^MemTotal/{print $2*1024}' /proc/meminfo)"
container=$(systemd-detect-virt --container 2>/dev/null)
case $container in ''|none) container=$(tr '\0' '\n' < /proc/1/environ 2>/dev/null | sed -n 's/^container=//p') ;; esac
say container "$container"
say hypervisor "$(systemd-detect-virt --vm 2>/dev/null)"
say vendor "$(cat /sys/class/dmi/id/sys_vendor 2>/dev/null)"
say machine_id "$(cat /etc/machine-id 2>/dev/null)"
say product_uuid "$(cat /sys/class/dmi/id/product_uuid 2>/dev/null)"
ip -o addr show | awk '{print "address\t" $2 "\t" $4}'
ip -o link show | awk '{name=$2; sub(/[@:].*/, "", name); mtu=""; mac="";
  for (i=3; i<NF; i++) {if ($i=="mtu") mtu=$(i+1); if ($i=="link/ether") mac=$(i+1)}
  print "link\t" name "\t" mac "\t" mtu}'
command -v ss >/dev/null && say ss yes && ss -ltnpH | awk '{print "listen\t" $4 "\t" $6}'
awk 'NR>1 {print "swap\t" $1}' /proc/swaps 2>/dev/null
for m in @MODULES@; do
  if [ -d /sys/module/$m ] || grep -qw $m /proc/filesystems; then say module $m loaded
  elif ! command -v modprobe >/dev/null; then say module $m unknown
  elif why=$(modprobe -n $m 2>&1); then say module $m loadable
  else say module $m missing "$why"; fi
done
f=/proc/sys/net/ipv4/ip_forward; say forward "$(cat $f)" "$([ -w $f ] && echo yes)"
command -v containerd >/dev/null && \
  say containerd_systemd "$(timeout 5 containerd config dump 2>/dev/null | awk '$1=="SystemdCgroup" {print $3; exit}')"
say kubelet_driver "$(sed -n 's/^cgroupDriver: *//p' /var/lib/kubelet/config.yaml 2>/dev/null)"
for f in /proc/sys/net/ipv4/conf/*/rp_filter; do
  name=${f#/proc/sys/net/ipv4/conf/}; say rp_filter "${name%/rp_filter}" "$(cat $f)"
done
for v in 4 6; do
  f=/proc/sys/net/ipv$v/ip_nonlocal_bind; [ -r $f ] && say nonlocal_bind $v "$(cat $f)"
done
for a in @PEERS@; do
  say route $a "$(ip -o route get $a 2>/dev/null | awk '{for (i=1; i<NF; i++) if ($i=="dev") {print $(i+1); exit}}')"
done
{ ip route show default; ip -6 route show default; } 2>/dev/null | \
  awk '{for (i=1; i<NF; i++) if ($i=="via") print "gateway\t" $(i+1)}'
resolv=/etc/resolv.conf
# systemd-resolved stands before the real ones.
grep -q '^nameserver 127\.0\.0\.53' $resolv 2>/dev/null && [ -r /run/systemd/resolve/resolv.conf ] && \
  resolv=/run/systemd/resolve/resolv.conf
awk '$1=="nameserver" {print "name_server\t" $2}' $resolv 2>/dev/null
say synchronised "$(timeout 3 timedatectl show -p NTPSynchronized --value 2>/dev/null)"
n=/proc/sys/net/netfilter; [ -r $n/nf_conntrack_count ] && \
  say conntrack "$(cat $n/nf_conntrack_count)" "$(cat $n/nf_conntrack_max)"
for u in @UNITS@; do
  if systemctl is-active -q $u 2>/dev/null; then say unit $u "$(systemctl is-enabled $u 2>/dev/null)"; fi
done
dpkg-query -W -f '${db:Status-Status}\t${Package}\n' unattended-upgrades @HOLDABLE@ 2>/dev/null | \
  awk '$1=="installed" {print "package\t" $2}'
apt-mark showhold 2>/dev/null | awk '{print "held\t" $1}'
apt-config dump 2>/dev/null | awk -F '"' '
  /^APT::Periodic::Unattended-Upgrade / {print "unattended\t" $2}
  /^Unattended-Upgrade::Automatic-Reboot / {reboot=$2}
  /^Unattended-Upgrade::Automatic-Reboot-Time / {at=$2}
  END {if (reboot=="true") print "reboots_at\t" (at=="" ? "now" : at)}'
for f in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt @ETCD_PKI@/*.crt; do
  [ -s "$f" ] && echo "certificate$T$f$T$(base64 -w0 "$f")"
done
say membership "$(cat @MEMBERSHIP@ 2>/dev/null)"
say etcd_membership "$(cat @ETCD_MEMBERSHIP@ 2>/dev/null)"
@RESOLVE@
exit 0
"""


def command(cluster: Cluster, machine: Machine) -> str:
    """Changes nothing. Its output is for `parse`."""
    host = cluster.endpoint.host
    resolve = f"timeout 3 getent ahosts {shlex.quote(host or '')} | awk '!seen[$1]++ {{print \"resolved\\t\" $1}}'"
    peers = [str(address) for one in cluster.machines.values() if one != machine for address in one.addresses]
    replaced = {
        "MODULES": " ".join(MODULES),
        "PEERS": " ".join(peers),
        "UNITS": " ".join(UNITS),
        "HOLDABLE": " ".join(HOLDABLE),
        "ETCD_PKI": ETCD_PKI,
        "MEMBERSHIP": MEMBERSHIP,
        "ETCD_MEMBERSHIP": ETCD_MEMBERSHIP,
        "RESOLVE": resolve if host else "",
    }
    return re.sub("@([A-Z_]+)@", lambda found: replaced[found[1]], _SCRIPT)


def parse(output: str) -> Host:
    """What is not there or not understood stays empty."""
    found: dict[str, list[list[str]]] = {}
    for line in output.splitlines():
        key, *values = line.split("\t")
        found.setdefault(key, []).append([value.strip() for value in values])

    def one(key: str) -> str:
        return next((values[0] for values in found.get(key, []) if values), "")

    def rows(key: str, length: int) -> Iterator[list[str]]:
        return (values for values in found.get(key, []) if len(values) >= length and values[0])

    forward = next(rows("forward", 2), ["", ""])
    conntrack = next(rows("conntrack", 2), None)
    return Host(
        hostname=one("hostname"),
        system=one("system"),
        architecture=one("architecture"),
        init=one("init"),
        open_files=int(one("open_files")) if one("open_files").isdecimal() else None,
        memory_bytes=int(float(one("memory"))) if one("memory") else None,
        container=one("container"),
        hypervisor=one("hypervisor").replace("none", ""),
        vendor=one("vendor"),
        machine_id=one("machine_id"),
        product_uuid=one("product_uuid").lower(),
        addresses=tuple((name, ip_interface(address)) for name, address in rows("address", 2)),
        links={name: Link(mac.lower(), int(mtu)) for name, mac, mtu in rows("link", 3) if mtu.isdecimal()},
        listeners=tuple(_listeners(rows("listen", 1))) if one("ss") else None,
        swaps=tuple(values[0] for values in rows("swap", 1)),
        modules={values[0]: Module(values[1], "".join(values[2:])) for values in rows("module", 2)},
        forwards=forward[0] == "1",
        forwarding_settable=forward[1] == "yes",
        containerd_systemd={"true": True, "false": False}.get(one("containerd_systemd")),
        kubelet_driver=one("kubelet_driver").strip("'\""),
        rp_filter={name: int(value) for name, value in rows("rp_filter", 2) if value.isdecimal()},
        nonlocal_bind={int(version): value == "1" for version, value in rows("nonlocal_bind", 2)},
        routes={ip_address(peer): device for peer, device in rows("route", 2) if device},
        gateways=_distinct(rows("gateway", 1)),
        name_servers=_distinct(rows("name_server", 1)),
        synchronised={"yes": True, "no": False}.get(one("synchronised")),
        conntrack=(int(conntrack[0]), int(conntrack[1])) if conntrack and all(map(str.isdecimal, conntrack)) else None,
        units={name: state if state != "not-found" else "" for name, state in rows("unit", 2)},
        packages=frozenset(_distinct(rows("package", 1))),
        held=frozenset(_distinct(rows("held", 1))),
        unattended=one("unattended") not in ("", "0"),
        reboots_at=one("reboots_at"),
        certificates={path: base64.b64decode(text).decode(errors="replace") for path, text in rows("certificate", 2)},
        membership=one("membership"),
        etcd_membership=one("etcd_membership"),
        resolved=tuple(address for values in rows("resolved", 1) if (address := _address(values[0]))),
        now=datetime.fromtimestamp(int(one("now")), UTC) if one("now").isdecimal() else None,
    )


def _listeners(rows: Iterator[list[str]]) -> Iterator[Listener]:
    """ss(8): address:port, and users:(("name",pid=1,fd=3),...)."""
    for place, *users in rows:
        address, _, port = place.rpartition(":")
        program = re.search(r'"([^"]*)"', users[0]) if users else None
        if port.isdecimal():
            yield Listener(address, int(port), program[1] if program else "")


def _distinct(rows: Iterator[list[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values[0] for values in rows))


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
