"""What of a cluster is on one machine already, and what there is in its way: one shell command, and its parser."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterable, Iterator

from haplane.components import keepalived
from haplane.components.balancer import balancer_of
from haplane.components.base import CALM, join_host_port
from haplane.components.kubernetes import AS_ADMINISTRATOR, PKI
from haplane.design.design import Design
from haplane.model.cluster import APISERVER_PORT, Machine, Role
from haplane.observe.preflight.probe import Access, Checked, Encryption, Installed

# What all control-plane machines have in common.
SHARED_KEYS = tuple(f"{PKI}/{name}" for name in ("ca.crt", "front-proxy-ca.crt", "sa.pub", "etcd/ca.crt"))
KEEPALIVED_FILE = keepalived.CONFIG_FILE
COMPONENTS = ("haproxy", "nginx", "keepalived")
# Of a ruleset or a file; what is longer is cut there.
MOST_BYTES = 400_000

# nftables shows the rules of iptables as well, but not all of their conditions; iptables-save without a table loads
# no module of the kernel.
_SCRIPT = r"""
LC_ALL=C; export LC_ALL; PATH=$PATH:/usr/sbin:/sbin; T='	'
say() {
  printf '%s' "$1"; shift
  for value; do printf '\t%s' "$(printf '%s' "$value" | tr '\n\t' '  ')"; done; echo
}
text() { printf '%s\t%s\n' "$1" "$(head -c @MOST@ | base64 -w0)"; }
# Who tests a configuration prints lines of it, and one may hold a password.
tested() {
  out=$("$@" 2>&1 </dev/null); code=$?
  printf '%s\n' "$out" | sed 's/\(auth_[a-z]*\).*/\1 .../' | text "tested$T$code"
}
conf=@KEEPALIVED_FILE@; cfg=@BALANCER_FILE@; b=@BALANCER@
for p in $b keepalived; do command -v $p >/dev/null && say program $p; done
if command -v keepalived >/dev/null; then
  say keepalived "$(keepalived --version 2>&1 | head -n 1)"
  # 2.2.7 ends itself where it has a parent (acassen/keepalived#2587); in a process namespace of its own it has none.
  alone='unshare --pid --fork'; $alone true 2>/dev/null || alone=
  [ -f $conf ] && tested timeout 10 $alone keepalived --config-test | sed 's/^tested/tested\tkeepalived/'
fi
[ -n "$b" ] && command -v $b >/dev/null && [ -f "$cfg" ] && \
  tested timeout 20 @BALANCER_TEST@ | sed "s/^tested/tested$T$b/"
if [ -f $conf ]; then
  text keepalived_file < $conf
  paths=
  for s in $(sed -nE 's/^[[:space:]]*(script|notify[a-z_]*)[[:space:]]+"?(\/[^" ]+).*/\2/p' $conf); do
    while paths="$paths $s"; [ "$s" != / ]; do s=${s%/*}; s=${s:-/}; done
  done
  [ -n "$paths" ] && stat -L -c "access$T%n$T%a$T%u$T%g" $paths 2>/dev/null
  set -- $(sed -nE 's/^[[:space:]]*script_user[[:space:]]+//p' $conf | head -n 1)
  [ -n "$1" ] && say account "user $1" "$(getent passwd "$1" >/dev/null && echo yes)"
  [ -n "$2" ] && say account "group $2" "$(getent group "$2" >/dev/null && echo yes)"
fi
systemctl show -p LoadState -p After -p Wants keepalived 2>/dev/null | sed 's/^\([A-Za-z]*\)=/unit\t\1\t/'
sha256sum @FILES@ 2>/dev/null | sed 's/^\([0-9a-f]*\)  /sha256\t\1\t/'
m=/etc/kubernetes/manifests/kube-apiserver.yaml
if [ -f $m ]; then
  e=$(sed -n 's/^ *- --encryption-provider-config=//p' $m | head -n 1)
  say encryption "$e" "$([ -n "$e" ] && sha256sum < "$e" 2>/dev/null)"
fi
@READYZ@
command -v nft >/dev/null && found=$(timeout 5 nft -s list ruleset 2>/dev/null) && \
  printf '%s\n' "$found" | text "rules${T}nft"
for name in iptables ip6tables; do
  command -v $name-save >/dev/null && found=$(timeout 5 $name-save 2>/dev/null) && \
    printf '%s\n' "$found" | text "rules$T$name"
done
if command -v getenforce >/dev/null; then
  say selinux "$(getenforce 2>/dev/null)" "$(getsebool haproxy_connect_any 2>/dev/null)"
fi
say apparmor "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)"
if command -v journalctl >/dev/null; then
  found=$(timeout 3 journalctl -q -k --no-pager -o cat --since=-1day -n 5 \
    -g '(apparmor="DENIED"|avc: +denied).*(haproxy|nginx|keepalived)' 2>/dev/null)
  # 1: there are none.
  case $? in 0|1) say journal read; [ -n "$found" ] && printf '%s\n' "$found" | sed 's/^/denied\t/' ;; esac
fi
@LATE@
exit 0
"""

# What etcd says of itself as a leader, where it lives as a static pod or as a unit (server/etcdserver/raft.go).
_LATE = r"""
late() { sed -nE 's/.*"ts":"([^"]*)".*failed to send out heartbeat on time.*"expected-duration":"([^"]*)",'\
'"exceeded-duration":"([^"]*)".*/late\t\1\t\2\t\3/p' | awk -F'\t' -v since="$since" '$2 >= since' | tail -n 5000; }
since=$(date -u -d -1day +%Y-%m-%dT%H:%M)
for log in /var/log/pods/kube-system_etcd-*/etcd/*.log; do [ -f "$log" ] && { echo etcd_log; late < "$log"; }; done
systemctl is-active -q etcd 2>/dev/null && { echo etcd_log; journalctl -q -u etcd --since=-1day -o cat | late; }
"""


def command(design: Design, machine: Machine) -> str:
    """Changes nothing. Its output is for `parse`."""
    components = design.components(machine.name)
    files = [file.path for name in COMPONENTS if name in components for file in components[name].files]
    url = f"https://{join_host_port(machine.address, APISERVER_PORT)}/readyz"
    status = f"--noproxy '*' --max-time 3 --output /dev/null --write-out '%{{http_code}}' {url}"
    # The administrator first: an apiserver that was ready before the other was asked knows what anonymous may do.
    ask = (
        f'say readyz_administrator "$({AS_ADMINISTRATOR} {status})"; say readyz "$(curl --silent --insecure {status})"'
    )
    balancer = balancer_of(design.cluster)
    replaced = {
        "MOST": str(MOST_BYTES),
        "KEEPALIVED_FILE": KEEPALIVED_FILE,
        "BALANCER": balancer.name if balancer else "",
        "BALANCER_FILE": balancer.config_test.file if balancer else "",
        "BALANCER_TEST": balancer.config_test.command if balancer else "true",
        "FILES": " ".join(map(shlex.quote, (*files, *SHARED_KEYS))),
        "LATE": _LATE if machine in design.cluster.etcd_members else "",
        "READYZ": f"command -v curl >/dev/null && {{ {ask}; }}" if Role.CONTROL_PLANE in machine.roles else "",
    }
    return re.sub("@([A-Z_]+)@", lambda found: replaced[found[1]], _SCRIPT)


def parse(output: str) -> Installed:
    """What is not there or not understood stays empty."""
    found: dict[str, list[list[str]]] = {}
    for line in output.splitlines():
        key, *values = line.split("\t")
        found.setdefault(key, []).append([value.strip() for value in values])

    def rows(key: str, length: int) -> Iterator[list[str]]:
        return (values for values in found.get(key, []) if len(values) >= length)

    def one(key: str) -> str:
        return next((values[0] for values in rows(key, 1)), "")

    selinux = next(rows("selinux", 2), ["", ""])
    encryption = next(rows("encryption", 2), None)
    return Installed(
        programs=frozenset(values[0] for values in rows("program", 1)),
        keepalived_version=_version(one("keepalived")),
        keepalived_file=_text(one("keepalived_file")),
        access={
            path: Access(int(mode, 8), int(owner), int(group))
            for path, mode, owner, group in rows("access", 4)
            if (mode + owner + group).isdecimal()
        },
        accounts={name: there == "yes" for name, there in rows("account", 2)},
        unit={values[0]: values[1] for values in rows("unit", 2)},
        tests={
            program: Checked(int(code), tuple(line for line in _text(text).splitlines() if line.strip()))
            for program, code, text in rows("tested", 3)
            if code.isdecimal()
        },
        digests={path: digest for digest, path in rows("sha256", 2)},
        encryption=Encryption(encryption[0], encryption[1].split(" ")[0]) if encryption else None,
        readyz=one("readyz"),
        readyz_administrator=one("readyz_administrator"),
        rules={tool: _text(text) for tool, text in rows("rules", 2)},
        selinux=selinux[0],
        haproxy_connects={"on": True, "off": False}.get(selinux[1].rpartition("> ")[2]),
        apparmor=one("apparmor") == "Y",
        denied=tuple(values[0] for values in rows("denied", 1)) if one("journal") else None,
        late_heartbeat_ms=_longest_late(rows("late", 3)) if "etcd_log" in found else None,
    )


def _longest_late(rows: Iterable[list[str]]) -> float:
    """When the log said so, after how long it was due, how much later it came -> in ms; 0 if none was late."""
    gaps = (_ms(due) + _ms(late) for _, due, late, *_ in rows)
    # Whoever is silent for longer has hung, or its machine has: that is what an election is for.
    return max((gap for gap in gaps if gap < CALM.etcd_election_ms), default=0.0)


_MS_OF = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1, "µs": 1e-3, "us": 1e-3, "ns": 1e-6}


def _ms(duration: str) -> float:
    """As Go writes it: 1m2.5s, 200ms, 5.1µs."""
    return sum(float(number) * _MS_OF[unit] for number, unit in re.findall(r"([0-9.]+)(ms|µs|us|ns|h|m|s)", duration))


def _version(text: str) -> tuple[int, ...] | None:
    """Keepalived v2.3.3 (03/30,2025)."""
    found = re.search(r"v([0-9]+(?:\.[0-9]+)+)", text)
    return tuple(map(int, found[1].split("."))) if found else None


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace")
