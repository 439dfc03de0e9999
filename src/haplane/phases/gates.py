"""What must be true of a machine before the next one is changed."""

from __future__ import annotations

from haplane.components import keepalived
from haplane.components.balancer import balancer_of
from haplane.components.base import join_host_port
from haplane.model.cluster import Address
from haplane.model.errors import HaplaneError
from haplane.phases.context import Context

TIMEOUT_S = 60
AGREEING = 4


async def api_answers(context: Context, machine: str, address: Address, port: int) -> None:
    """The API is ready when asked from this machine at this address, AGREEING times in a row.

    Once is not enough: a balancer that is being reloaded still answers with its previous configuration. Raises
    HaplaneError after TIMEOUT_S.
    """
    authority = keepalived.authority(context.cluster)
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
