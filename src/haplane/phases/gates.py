"""What must be true of a machine before the next one is changed."""

from __future__ import annotations

from haplane.components.base import join_host_port
from haplane.components.haproxy import AUTHORITY
from haplane.model.cluster import Address
from haplane.model.errors import HaplaneError
from haplane.phases.context import Context

TIMEOUT_S = 60


async def api_answers(context: Context, machine: str, address: Address, port: int) -> None:
    """The API is ready when asked from this machine at this address. Raises HaplaneError after TIMEOUT_S."""
    ask = (
        f"curl --silent --fail --max-time 2 --output /dev/null --cacert {AUTHORITY} "
        f"--connect-to kubernetes:{port}:{join_host_port(address, port)} https://kubernetes:{port}/readyz"
    )
    script = f"for i in $(seq {TIMEOUT_S * 2}); do {ask} && exit 0; sleep 0.5; done; {ask} --show-error"
    done = await context.remotes[machine].run(script, check=False, timeout_s=TIMEOUT_S * 5, shown_as=ask)
    if done.code:
        raise HaplaneError(
            f"after its change, {machine} does not reach the API at {join_host_port(address, port)}",
            where=f"{machine}: {ask}",
            why=f"exit code {done.code} for {TIMEOUT_S} s\n{done.stderr.strip()}",
            hint=f"on {machine}: journalctl -u haproxy -u keepalived -n 50; haplane status shows each view",
        )
