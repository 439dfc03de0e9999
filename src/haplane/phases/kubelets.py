"""Phase that says to workers' kubelets where the API is: at the balancer beside them, or at the endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from haplane.components.kubernetes import control_plane_endpoint, kubelet_server
from haplane.observe.facts import KUBELET_CONFIG
from haplane.phases.change import Change
from haplane.phases.context import Context, Phase
from haplane.phases.gates import node_answers

_NEW = "/etc/kubernetes/.kubelet.conf.haplane"


class PointKubelets(Phase):
    """kubeadm join writes the endpoint. The kubelets of control-plane machines use the apiserver beside them anyway."""

    title = "Tell workers' kubelets where the API is"
    rolls = True

    def machines(self, context: Context) -> Sequence[str]:
        return context.of(context.cluster.workers)

    async def run(self, context: Context, do: Change) -> None:
        view = context.design.view(do.machine)
        wanted = kubelet_server(view)
        endpoint = f"https://{control_plane_endpoint(view)}"
        found = endpoint if do.machine in context.decision.new else do.facts.kubelet_server
        if found and found != wanted:
            await self._point(do, wanted, is_beside=wanted != endpoint)

    async def _point(self, do: Change, wanted: str, *, is_beside: bool) -> None:
        # A name that every apiserver's certificate has, also of a cluster that was made before.
        server = f"--server {wanted}" + (" --tls-server-name kubernetes" if is_beside else "")
        # A kubectl that was cut short leaves its lock behind.
        script = f"""set -e
rm -f {_NEW}.lock
cp -p {KUBELET_CONFIG} {_NEW}
name=$(kubectl config view --kubeconfig {_NEW} -o 'jsonpath={{.clusters[0].name}}')
kubectl config set-cluster "$name" --kubeconfig {_NEW} {server} > /dev/null
sync -f {_NEW}
mv -f {_NEW} {KUBELET_CONFIG}
systemctl restart kubelet
"""
        await do.do(
            f"point the kubelet to {wanted}{', its own balancer' if is_beside else ''} (restart it)",
            lambda: do.sh(script, shown_as=f"kubectl config set-cluster {server}"),
        )

    async def gate(self, context: Context, machine: str) -> None:
        await node_answers(context, machine)
