"""Where etcd has machines of its own: each control-plane node leaves a member that has fallen silent.

An apiserver asks all members in turn and waits for one that says nothing: 10 s where its power is gone
(TCP_USER_TIMEOUT of grpc-go), 40 s where it hangs (keepalive of etcd's client: 30 s + 10 s). Measured: more than a
quarter of all writes. Its connections to that member are ended here much sooner; what was asked over them fails at
once, and all that follows goes to members that answer.
"""

from __future__ import annotations

from haplane.components import etcd
from haplane.components.base import COMES_FIRST, LIBEXEC, ComponentDesign, File, FileSet, Load, View
from haplane.components.templates import render

NAME = "etcd-watch"
SCRIPT_FILE = f"{LIBEXEC}/watch-etcd"
UNIT_NAME = "haplane-etcd-watch.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT_NAME}"
ANSWER_S = 0.5
PAUSE_S = 0.5
TIMES = 2
# From the moment that a member falls silent: the round that it has just passed, and those that it fails.
LEFT_AFTER_S = PAUSE_S + TIMES * (PAUSE_S + ANSWER_S)

# /version needs no other member and no disk: who does not say it says nothing. While nobody does, it is not the member.
SCRIPT = """\
#!/bin/sh
# Written by haplane. Ends the connections of this machine to a member of etcd that is silent while another answers.
set -f
set --{% for address, url in members %} {{ address }}{% endfor %}

silent=
while :; do
  # Before kubeadm has put the certificate there, nobody asks etcd from here.
  [ -s {{ cert }} ] || { sleep 5; continue; }
  heard=$(curl --parallel --parallel-immediate --silent --max-time {{ answer_s }} \\
    --cacert {{ ca }} --cert {{ cert }} --key {{ key }} \\
    --write-out '#%{urlnum}:%{http_code}\\n' \\
{% for address, url in members %}
    --output /dev/null {{ url }}/version{{ "" if loop.last else " \\\\" }}
{% endfor %}
  )
  failed= number=0
  for member in "$@"; do
    case "$heard" in *"#$number:200"*) ;; *) failed="$failed $member" ;; esac
    number=$((number + 1))
  done
  case "$heard" in
    *:200*)
      for member in $failed; do
        case "$silent " in
          *" $member "*) ss --kill --tcp --numeric state connected dst "$member" dport = :{{ port }} > /dev/null ;;
        esac
      done
      silent=$failed ;;
  esac
  sleep {{ pause_s }}
done
"""

UNIT = """\
# Written by haplane.
[Unit]
Description=Leave members of etcd that are silent
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0
[Service]
ExecStart={{ script }}
{{ comes_first }}
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
"""


def design(view: View) -> ComponentDesign:
    members = [
        (f"[{one.address}]" if one.address.version == 6 else str(one.address), url)
        for one, url in zip(view.cluster.etcd_members, etcd.client_urls(view.cluster), strict=True)
    ]
    script = render(
        SCRIPT,
        members=members,
        ca=etcd.CLIENT_CA,
        cert=etcd.CLIENT_CERT,
        key=etcd.CLIENT_KEY,
        answer_s=f"{ANSWER_S:g}",
        pause_s=f"{PAUSE_S:g}",
        port=etcd.CLIENT_PORT,
    )
    return ComponentDesign(
        name=NAME,
        packages=("curl", "iproute2"),
        file_sets=(
            FileSet(
                (
                    File(SCRIPT_FILE, script, mode=0o755),
                    File(UNIT_FILE, render(UNIT, script=SCRIPT_FILE, comes_first=COMES_FIRST)),
                )
            ),
        ),
        load=Load(
            f"systemctl daemon-reload\nsystemctl enable -q {UNIT_NAME}\nsystemctl restart {UNIT_NAME}",
            "watch for members of etcd that fall silent",
        ),
        unit=UNIT_NAME,
    )
