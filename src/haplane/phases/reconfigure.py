"""Phase that brings the static pods of a running control plane to the design: an apiserver's flag, etcd's timers.

kubeadm says what they should be; haplane puts them in place, one machine and one pod at a time, each only while no
balancer sends new clients there, and puts back what does not become healthy.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from haplane.components import haproxy
from haplane.components.base import RUN, STATE
from haplane.components.etcd import GIVE_UP_THE_LEAD
from haplane.components.kubernetes import INIT_FILE, PARKED
from haplane.model.cluster import APISERVER_PORT, BalancerProgram
from haplane.observe.facts import AUTHORITY
from haplane.phases.change import Change
from haplane.phases.context import Context, Phase
from haplane.phases.gates import api_answers, one_shares_the_vip

# However haplane ends, the balancers send clients to the machine again after this long.
DRAINED_AT_MOST_S = 600
# A request that is under way when its server is drained has this long; what takes longer is a watch, and resumes.
SETTLE_S = 1.0
HEALTHY_WITHIN_S = 120

# What clients' requests need on the machine that they are sent to.
SERVING = frozenset({"etcd", "kube-apiserver"})

MANIFESTS = "/etc/kubernetes/manifests"
NEW = f"{RUN}/manifests"

# kubeadm's own answer, without touching anything. A member knows its peers from its data: the ones in the manifest are
# those of the day it joined, and stay.
MAKE = f"""set -e
rm -rf {NEW}
mkdir -p {NEW}
export KUBEADM_INIT_DRYRUN_DIR={NEW}
kubeadm init phase control-plane all --dry-run --config {INIT_FILE} > /dev/null
if [ -f {MANIFESTS}/etcd.yaml ]; then
  kubeadm init phase etcd local --dry-run --config {INIT_FILE} > /dev/null
  peers=$(grep -E -- '--initial-cluster(-state)?=' {MANIFESTS}/etcd.yaml)
  awk -v peers="$peers" \\
    '/--initial-cluster-state=/ {{ next }} /--initial-cluster=/ {{ print peers; next }} {{ print }}' \\
    {NEW}/etcd.yaml > {NEW}/.etcd
  mv {NEW}/.etcd {NEW}/etcd.yaml
fi
"""
# The names in the apiserver's certificate are those of the file; kubeadm renews a certificate with its old names only.
NAMES = f"""
names() {{ sed -n '/certSANs:/,/extraArgs:/p' "$1"; }}
named_otherwise() {{
  [ -f {STATE}/previous{INIT_FILE} ] && [ "$(names {STATE}/previous{INIT_FILE})" != "$(names {INIT_FILE})" ]
}}
"""
DIFFERING = f"""{MAKE}{NAMES}
if named_otherwise; then echo certificate; fi
for pod in etcd kube-apiserver kube-controller-manager kube-scheduler; do
  if [ -f {NEW}/$pod.yaml ] && ! cmp -s {NEW}/$pod.yaml {MANIFESTS}/$pod.yaml; then echo $pod; fi
done
"""

# A pod is taken away, and put there anew once its processes have ended: a kubelet that replaces one by itself looks
# only every 15 s. etcd's turn takes the apiserver beside it away as well: before a kubelet starts a changed pod it
# deletes the old one's mirror through that apiserver, which without its etcd only times out (measured: 45 s), and
# refused goes on at once. An apiserver waits for its watches until it is killed after 30 s; nobody new is sent there,
# so it is killed after 5. What is taken away is parked: should the machine restart now, its kubelet puts it back.
REPLACE = f"""{MAKE}{NAMES}
pki=/etc/kubernetes/pki
cp -n {PARKED}/pki/* $pki/ 2> /dev/null || true
if named_otherwise; then
  echo "making the apiserver's certificate anew"
  mkdir -p -m 700 {PARKED}/pki
  cp -p $pki/apiserver.crt $pki/apiserver.key {PARKED}/pki/
  sync -f {PARKED}/pki
  rm $pki/apiserver.crt $pki/apiserver.key
  # It reads the new one by itself, and goes on with the one that it has until then.
  kubeadm init phase certs apiserver --config {INIT_FILE} > /dev/null || {{
    cp -p {PARKED}/pki/* $pki/
    echo "the previous certificate was put back" >&2
    exit 1
  }}
  sync -f $pki
fi
rm -rf {PARKED}/pki
e="etcdctl --endpoints https://localhost:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \\
--cert /etc/kubernetes/pki/etcd/healthcheck-client.crt --key /etc/kubernetes/pki/etcd/healthcheck-client.key"
healthy() {{
  case $1 in
    etcd) curl -sf -m 2 -o /dev/null http://localhost:2381/health ;;
    kube-apiserver) curl -sf -m 2 -o /dev/null --cacert {AUTHORITY} \\
      --connect-to kubernetes:6443:localhost:6443 https://kubernetes:6443/readyz ;;
    kube-controller-manager) curl -sfk -m 2 -o /dev/null https://localhost:10257/healthz ;;
    kube-scheduler) curl -sfk -m 2 -o /dev/null https://localhost:10259/healthz ;;
  esac
}}
gone() {{  # pod, quarter seconds
  for i in $(seq $2); do pidof $1 > /dev/null || return 0; sleep 0.25; done
  return 1
}}
take() {{
  for pod in $1; do
    [ ! -f {MANIFESTS}/$pod.yaml ] || cp {MANIFESTS}/$pod.yaml {PARKED}/$pod.yaml
  done
  sync -f {PARKED}
  for pod in $1; do rm -f {MANIFESTS}/$pod.yaml; done
  case $1 in *kube-apiserver*) gone kube-apiserver 20 || kill -9 $(pidof kube-apiserver) || true ;; esac
  # It would stay for the apiserver's sake (preStop).
  case $1 in *etcd*) kill $(pidof etcd) || true ;; esac
  for pod in $1; do gone $pod 160 || kill -9 $(pidof $pod) || true; done
  sleep 3  # the kubelet, too, has to see that they ended
}}
put() {{  # pod, folder
  cp $2/$1.yaml {MANIFESTS}/.$1.haplane
  chmod 600 {MANIFESTS}/.$1.haplane
  sync -f {MANIFESTS}/.$1.haplane
  mv -f {MANIFESTS}/.$1.haplane {MANIFESTS}/$1.yaml
  for i in $(seq {HEALTHY_WITHIN_S * 4}); do
    if pidof $1 > /dev/null && healthy $1; then return 0; fi
    sleep 0.25
  done
  echo "$1 did not become healthy within {HEALTHY_WITHIN_S} s; its last lines:" >&2
  tail -n 5 "$(ls -t /var/log/pods/kube-system_$1-*/*/*.log | head -n 1)" >&2 || true
  return 1
}}
give_up_the_lead() {{
{GIVE_UP_THE_LEAD}}}
differs() {{ [ -f {NEW}/$1.yaml ] && ! cmp -s {NEW}/$1.yaml {MANIFESTS}/$1.yaml; }}
mkdir -p {PARKED}
# What an earlier run had taken away is there again before anything else is.
for pod in etcd kube-apiserver kube-controller-manager kube-scheduler; do
  if [ -f {PARKED}/$pod.yaml ] && [ ! -f {MANIFESTS}/$pod.yaml ]; then put $pod {PARKED}; fi
  rm -f {PARKED}/$pod.yaml
done
for turn in "etcd kube-apiserver" kube-apiserver kube-controller-manager kube-scheduler; do
  differs ${{turn%% *}} || continue
  case $turn in etcd*) give_up_the_lead ;; esac
  echo "replacing $turn"
  take "$turn"
  for pod in $turn; do
    if ! put $pod {NEW}; then
      echo "putting the previous ones back" >&2
      for pod in $turn; do put $pod {PARKED} || true; done
      exit 1
    fi
  done
  rm -f {PARKED}/*.yaml
done
kubeadm init phase upload-config kubeadm --config {INIT_FILE} --kubeconfig /etc/kubernetes/admin.conf > /dev/null
"""


class ReconfigureNodes(Phase):
    title = "Reconfigure the control plane"
    rolls = True

    def machines(self, context: Context) -> Sequence[str]:
        return context.decision.members

    async def run(self, context: Context, do: Change) -> None:
        design = context.design.components(do.machine)["kubeadm"]
        if not do.differs(design):
            return
        await do.files(design)

        async def reconfigure() -> None:
            do.remember(design)
            differing = (await do.sh(DIFFERING, shown_as="kubeadm init phase control-plane all --dry-run")).stdout
            if SERVING & {*differing.split()}:
                async with _drained(context, do):
                    await replace(differing)
                return
            # An apply that died here may have left it drained, and its job has done the rest.
            await _end_drain(context, do.machine)
            if differing.split():
                await replace(differing)

        async def replace(differing: str) -> None:
            await do.job("reconfigure", REPLACE, shown_as=f"replace {', '.join(differing.split())}")

        drain = _drain(context, do.machine)
        meanwhile = drain.meanwhile if drain else "while new clients are still sent there"
        await do.do(f"replace the static pods that this changes, one after the other, {meanwhile}", reconfigure)

    async def gate(self, context: Context, machine: str) -> None:
        await _answers(context, machine)
        if _others_by_the_vip(context, machine):
            await one_shares_the_vip(context, [machine])


@asynccontextmanager
async def _drained(context: Context, do: Change) -> AsyncIterator[None]:
    """No new client is sent to the machine's apiserver meanwhile, if that can be had."""
    drain = _drain(context, do.machine)
    if drain is None:
        yield
        await _answers(context, do.machine)
        return
    if others := _others_by_the_vip(context, do.machine):
        await one_shares_the_vip(context, others)
    # The timer first: nobody stays drained because haplane died.
    timer = _drain_timer(do.machine)
    later = f"systemd-run --quiet --on-active={DRAINED_AT_MOST_S} --unit={timer} /bin/sh -c {shlex.quote(drain.end)}"
    await _everywhere(
        context,
        drain.machines,
        f"systemctl stop {timer}.timer 2>/dev/null\n{later} && {drain.begin}",
        f"drain {do.machine}",
    )
    try:
        await asyncio.sleep(SETTLE_S)
        yield
        await _answers(context, do.machine)
    finally:
        await asyncio.shield(_end_drain(context, do.machine))


async def _answers(context: Context, machine: str) -> None:
    await api_answers(context, machine, context.cluster.machines[machine].address, APISERVER_PORT)


@dataclass(frozen=True)
class _Drain:
    """What keeps new clients away from one machine's apiserver, and what sends them there again; where it is run.

    meanwhile: what a plan says of it.
    """

    begin: str
    end: str
    machines: tuple[str, ...]
    meanwhile: str


def _drain(context: Context, machine: str) -> _Drain | None:
    """None where nobody can be told: nginx passes connections on once the apiserver has closed its port."""
    cluster = context.cluster
    if cluster.balanced_by is BalancerProgram.HAPROXY:
        begin, end = (haproxy.set_server_command(machine, state) for state in ("drain", "ready"))
        return _Drain(begin, end, context.of(cluster.running_balancer), "with no new client sent there")
    if _others_by_the_vip(context, machine):
        stop, start = "systemctl stop keepalived", "systemctl start keepalived"
        return _Drain(stop, start, (machine,), "with the VIP on another machine")
    return None


def _others_by_the_vip(context: Context, machine: str) -> tuple[str, ...]:
    """Where the VIP leads straight to an apiserver: who could have it while this machine's is replaced."""
    sharers = context.having("keepalived")
    if context.cluster.balanced_by is not BalancerProgram.NONE or machine not in sharers:
        return ()
    return tuple(name for name in sharers if name != machine)


async def _end_drain(context: Context, machine: str) -> None:
    if drain := _drain(context, machine):
        back = f"{drain.end}\nsystemctl stop {_drain_timer(machine)}.timer 2>/dev/null"
        await _everywhere(context, drain.machines, back, f"send clients to {machine} again")


async def _everywhere(context: Context, machines: Sequence[str], script: str, shown_as: str) -> None:
    await asyncio.gather(*(context.remotes[one].run(script, shown_as=shown_as, check=False) for one in machines))


def _drain_timer(machine: str) -> str:
    return f"haplane-undrain-{machine}"
