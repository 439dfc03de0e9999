"""Phase of what runs in the cluster for the sake of pods: flannel, kube-proxy, CoreDNS."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from haplane.components import addons
from haplane.components.kubernetes import KUBECONFIG
from haplane.model.cluster import Cni
from haplane.phases.change import Change
from haplane.phases.context import Context, Phase


class ApplyAddOns(Phase):
    """Every control-plane machine keeps the manifests, and one of them applies them to the cluster.

    As soon as the first node is there: the others find their network when they join.
    """

    title = "Apply the add-ons"

    def __init__(self) -> None:
        self._applied = asyncio.Event()

    def machines(self, context: Context) -> Sequence[str]:
        return context.having("addons")

    async def run(self, context: Context, do: Change) -> None:
        design, seed = context.design.components(do.machine)["addons"], context.seed()
        if do.machine == seed:
            changed = await do.component(design)
            self._applied.set()
            if changed and not context.decision.new:
                await wait_for_add_ons(context, do)
            return
        if not do.differs(design):
            return
        await do.files(design)

        async def remember() -> None:
            # Not before they are applied: a machine that remembers them would not apply them in the other's place.
            await self._applied.wait()
            do.remember(design)
            await do.confirm()

        await do.do(f"remember that {seed} has applied the add-ons", remember)


async def wait_for_add_ons(context: Context, do: Change) -> None:
    """Until all of them run everywhere, where that can be."""
    # A machine that is left out keeps them from ever being whole; and somebody else's network may come later.
    if not context.every_node_answers or context.cluster.kubernetes.cni is Cni.NONE:
        return
    for name in addons.in_order(context.cluster):
        kind = "daemonset" if name in addons.DAEMON_SETS else "deployment"
        namespace, found = {**addons.DAEMON_SETS, **addons.DEPLOYMENTS}[name]
        script = f"kubectl {KUBECONFIG} --namespace {namespace} rollout status --timeout 180s {kind}/{found}"
        await do.do(f"wait until {name} runs", partial(do.sh, script, timeout_s=200))
