"""What must be true of a machine before the next one is changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from haplane.components import etcd, keepalived
from haplane.components.balancer import balancer_of
from haplane.components.base import join_host_port
from haplane.model.cluster import APISERVER_PORT, Address
from haplane.model.errors import HaplaneError
from haplane.observe.facts import AUTHORITY
from haplane.phases.context import Context

TIMEOUT_S = 60
AGREEING = 4
KUBELET_IS_WELL = "curl --silent --fail --max-time 2 --output /dev/null http://localhost:10248/healthz"


async def node_answers(context: Context, machine: str) -> None:
    """A control-plane node by its own apiserver; of a node without one, its kubelet. Raises HaplaneError."""
    if machine in context.of(context.cluster.control_plane):
        await api_answers(context, machine, context.cluster.machines[machine].address, APISERVER_PORT)
        return
    script = f"""for i in $(seq {TIMEOUT_S * 3}); do
  if {KUBELET_IS_WELL}; then exit 0; fi
  sleep 0.3
done
{KUBELET_IS_WELL} --show-error
"""
    done = await context.remotes[machine].run(script, check=False, timeout_s=TIMEOUT_S * 5, shown_as=KUBELET_IS_WELL)
    if done.code:
        raise HaplaneError(
            f"after its change, the kubelet of {machine} is not well",
            where=f"{machine}: {KUBELET_IS_WELL}",
            why=f"exit code {done.code} for {TIMEOUT_S} s\n{done.stderr.strip()}",
            hint=f"on {machine}: journalctl -u kubelet -u containerd -n 50",
        )


async def etcd_answers(context: Context, machine: str) -> None:
    """Its member of an etcd with machines of its own answers what takes a quorum and a leader, AGREEING times in a row.

    Raises HaplaneError after TIMEOUT_S.
    """
    ask = f"{etcd.etcdctl(context.cluster)} endpoint health"
    script = f"""good=0
end=$(($(date +%s) + {TIMEOUT_S}))
while [ $(date +%s) -lt $end ]; do
  if said=$({ask} 2>&1); then good=$((good + 1)); else good=0; fi
  if [ $good = {AGREEING} ]; then exit 0; fi
  sleep 0.3
done
echo "$said" >&2
journalctl -u etcd -n 5 -o cat --no-pager >&2
exit 1
"""
    done = await context.remotes[machine].run(script, check=False, timeout_s=TIMEOUT_S * 2, shown_as=ask)
    if done.code:
        raise HaplaneError(
            f"the member of etcd on {machine} does not answer",
            where=f"{machine}: {ask}",
            why=f"exit code {done.code} for {TIMEOUT_S} s\n{done.stderr.strip()}",
            hint=f"on {machine}: journalctl -u etcd -n 50; it needs ports {etcd.CLIENT_PORT} and {etcd.PEER_PORT} of "
            "all members, and clocks that agree. If its data is damaged and the others are well: stop it there, remove "
            f"{etcd.DATA}/member, and run this again; it joins them anew",
        )


async def api_answers(context: Context, machine: str, address: Address, port: int) -> None:
    """The API is ready when asked from this machine at this address, AGREEING times in a row.

    Once is not enough: a balancer that is being reloaded still answers with its previous configuration. Raises
    HaplaneError after TIMEOUT_S.
    """
    balancers = context.of((*context.cluster.balancers, *context.cluster.running_balancer))
    authority = keepalived.authority(context.cluster) if machine in balancers else AUTHORITY
    ask = (
        f"curl --silent --fail --max-time 2 --output /dev/null --cacert {authority} "
        f"--connect-to kubernetes:{port}:{join_host_port(address, port)} https://kubernetes:{port}/readyz"
    )
    script = f"""good=0
for i in $(seq {TIMEOUT_S * 3}); do
  if {ask}; then good=$((good + 1)); else good=0; fi
  if [ $good = {AGREEING} ]; then exit 0; fi
  sleep 0.3
done
{ask} --show-error
"""
    balancer = balancer_of(context.cluster)
    units = f"-u {balancer.name} -u keepalived" if balancer else "-u kubelet -u keepalived"
    done = await context.remotes[machine].run(script, check=False, timeout_s=TIMEOUT_S * 5, shown_as=ask)
    if done.code:
        raise HaplaneError(
            f"after its change, {machine} does not reach the API at {join_host_port(address, port)}",
            where=f"{machine}: {ask}",
            why=f"exit code {done.code} for {TIMEOUT_S} s\n{done.stderr.strip()}",
            hint=f"on {machine}: journalctl {units} -n 50; haplane status shows each view",
        )


async def one_shares_the_vip(context: Context, machines: Sequence[str]) -> None:
    """The keepalived of one of them has the VIP or would take it: it has settled, and no check of it fails.

    Raises HaplaneError after TIMEOUT_S.
    """

    async def said(machine: str) -> str:
        asked = context.remotes[machine].run(keepalived.SETTLED_COMMAND, check=False, shown_as="ask keepalived's state")
        return (await asked).stdout

    end = time.monotonic() + TIMEOUT_S
    while True:
        answers = dict(zip(machines, await asyncio.gather(*map(said, machines)), strict=True))
        if any(keepalived.has_settled(context.design.view(name), one) for name, one in answers.items()):
            return
        if time.monotonic() > end:
            states = {name: keepalived.parse_state(one.partition("\n")[2]) for name, one in answers.items()}
            are = ", ".join(f"{name}: {state or 'silent'}" for name, state in states.items())
            raise HaplaneError(
                f"neither {' nor '.join(machines)} could take the VIP"
                if len(machines) > 1
                else f"{machines[0]} could not take the VIP",
                where=", ".join(machines),
                why=f"for {TIMEOUT_S} s no keepalived there had it or would have taken it ({are}); in FAULT a check "
                "fails, and after its start it settles first (vrrp_startup_delay)",
                hint="journalctl -u keepalived -n 50 there; haplane status shows each view",
            )
        await asyncio.sleep(0.3)
