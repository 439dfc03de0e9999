"""Take a cluster off its machines."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from haplane.components import etcd
from haplane.components.base import RUN, STATE
from haplane.model.cluster import Cluster
from haplane.model.errors import HaplaneError
from haplane.model.progress import Progress
from haplane.observe.facts import LOADED, MEMBERSHIP
from haplane.phases.create import JOIN_FILE, UPLOAD_FILE, reset_script
from haplane.phases.lock import guard, locked
from haplane.transport.ssh import Fleet, Remote

# What a killed apply left running would make the cluster anew behind our back, or start keepalived again. Then the
# VIP, so that clients are refused at once instead of reaching half a cluster.
STOP_SERVICES = """
systemctl stop 'haplane-job-*' 'haplane-undrain-*.timer' 2>/dev/null || true
# One by one: who is not installed keeps none of the others running.
for unit in keepalived haplane-balancer-watch haplane-clients haproxy nginx kubelet haplane-etcd-watch etcd; do
  systemctl disable -q --now $unit 2>/dev/null || true
done
"""
FORGET = f"""
rm -f {MEMBERSHIP} {etcd.MEMBERSHIP}
for component in haproxy nginx keepalived kubelet kubeadm etcd etcd-watch addons; do rm -f {LOADED}/$component; done
rm -rf {etcd.PKI} {etcd.JOINING} {etcd.JOINING_ENVIRONMENT}
rm -f /etc/keepalived/keepalived.conf /etc/haproxy/haplane-ca.crt /etc/nginx/haplane-ca.crt
rm -rf {RUN}/jobs {JOIN_FILE} {UPLOAD_FILE}
"""


async def reset(cluster: Cluster, progress: Progress) -> None:
    """Every machine must answer: a node left behind would come back as half a cluster.

    Raises HaplaneError; can be run again.
    """
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(Fleet(cluster.machines))
        found = await fleet.connect_all(cluster.managed)
        for one in found.values():
            if not isinstance(one, Remote):
                raise HaplaneError(
                    "nothing was reset: a machine does not answer",
                    where=one.where,
                    why=one.why or one.what,
                    hint=one.hint,
                )
        remotes = {name: one for name, one in found.items() if isinstance(one, Remote)}
        token = await stack.enter_async_context(locked(remotes, command="haplane reset"))

        async def take_off(name: str, remote: Remote) -> None:
            progress.now(name, "taking Kubernetes off")
            script = f"{guard(token)}mkdir -p {STATE}\n{STOP_SERVICES}\n{reset_script()}\n{FORGET}"
            await remote.run(script, shown_as="kubeadm reset", timeout_s=180)
            progress.done(name, "reset")

        await asyncio.gather(*(take_off(name, remote) for name, remote in remotes.items()))
