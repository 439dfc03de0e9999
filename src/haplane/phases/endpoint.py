"""Phases of the endpoint: the balancers, and the VIP in front of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from haplane.components import balancer_watch, waiting
from haplane.components.balancer import balancer_of
from haplane.components.base import loopbacks
from haplane.components.keepalived import CONFIG_FILE
from haplane.model.cluster import EndpointOwner
from haplane.observe.facts import LOADED
from haplane.phases.change import Change
from haplane.phases.context import Context, Phase
from haplane.phases.gates import api_answers, one_shares_the_vip


class StartBalancer(Phase):
    title = "Start the load balancers"
    rolls = True

    def machines(self, context: Context) -> Sequence[str]:
        balancer = balancer_of(context.cluster)
        return context.having(balancer.name) if balancer else ()

    async def run(self, context: Context, do: Change) -> None:
        if balancer := balancer_of(context.cluster):
            await do.component(context.design.components(do.machine)[balancer.name])

    async def gate(self, context: Context, machine: str) -> None:
        one = context.cluster.machines[machine]
        vip = context.cluster.endpoint.vip
        # A worker's own listens for itself alone; the others' for the IP versions of the endpoint.
        outer = one.address_of(vip.version) or one.address
        address = outer if one in context.cluster.balancers else loopbacks(context.cluster)[0]
        await api_answers(context, machine, address, context.cluster.endpoint.port)


# The drain of an apply that died, where nothing balances, would start keepalived again later.
STOP_KEEPALIVED = f"""set -e
for timer in $(systemctl list-units --plain --no-legend 'haplane-undrain-*.timer' | awk '{{print $1}}'); do
  if systemctl show --property=ExecStart "${{timer%.timer}}.service" | grep -q 'start keepalived'; then
    systemctl stop "$timer"
  fi
done
systemctl disable -q --now keepalived 2>/dev/null || true
{balancer_watch.STOP}
if systemctl is-active -q keepalived; then echo 'keepalived goes on' >&2; exit 1; fi
"""
FORGET_VIP = f"rm -f {CONFIG_FILE}\nrm -f {LOADED}/keepalived"


class LeaveVip(Phase):
    """While others go on that share it still: they hear it leave, and one takes over at once.

    Before these learn who else shares it from now on: then they would not hear it any more.

    keepalived.conf goes once all have stopped: until then each says who else shares the VIP, should one not answer the
    next apply (refuse_to_skip_a_holder).
    """

    title = "Take the virtual IP off machines that have no part in it any more"

    def __init__(self) -> None:
        self._stopped: set[str] = set()
        self._all_stopped = asyncio.Event()

    def machines(self, context: Context) -> Sequence[str]:
        return () if _all_are_new(context) else self.leaving(context)

    def leaving(self, context: Context) -> tuple[str, ...]:
        sharers = context.having("keepalived")
        return tuple(name for name, one in context.facts.items() if "keepalived" in one.loaded and name not in sharers)

    async def others_have_it(self, context: Context) -> None:
        """Raises HaplaneError where nobody could take the VIP."""

    async def run(self, context: Context, do: Change) -> None:
        async def leave() -> None:
            await self.others_have_it(context)
            await do.sh(STOP_KEEPALIVED, shown_as="systemctl disable --now keepalived")
            self._stopped.add(do.machine)
            if len(self._stopped) == len(self.machines(context)):
                self._all_stopped.set()
            await self._all_stopped.wait()
            await do.sh(FORGET_VIP, shown_as=f"rm {CONFIG_FILE}")

        await do.do("stop keepalived: by the file this machine does not share the VIP any more", leave)


class HandVipOver(LeaveVip):
    """Where none of those that share it from now on did before: once they have it, for keepalived settles for seconds.

    Old and new do not hear each other; for a moment two machines have it, and both lead to the same apiservers. Stopped
    first, nobody had it for 7 s (measured).
    """

    title = "Take the virtual IP off machines that others have taken it from"

    def machines(self, context: Context) -> Sequence[str]:
        return self.leaving(context) if _all_are_new(context) else ()

    async def others_have_it(self, context: Context) -> None:
        await one_shares_the_vip(context, context.having("keepalived"))


class StartVip(Phase):
    """Rolled, unless old and new keepalived would be deaf to each other: then both would be MASTER meanwhile.

    In that case the BACKUPs stop, the holder changes while nobody else listens, and the BACKUPs start again.
    """

    title = "Start the virtual IP"
    rolls = True

    def __init__(self) -> None:
        self._stopped: set[str] = set()
        self._all_stopped = asyncio.Event()
        self._switched = asyncio.Event()

    def machines(self, context: Context) -> Sequence[str]:
        return context.having("keepalived")

    def rolls_in(self, context: Context) -> bool:
        return super().rolls_in(context) and not _would_be_deaf(context) and not _all_are_new(context)

    async def run(self, context: Context, do: Change) -> None:
        if not (context.is_live and _would_be_deaf(context)):
            await do.component(context.design.components(do.machine)["keepalived"])
        elif do.machine == _backups_first(context)[-1]:
            await self._switch_holder(context, do)
        else:
            await self._switch_backup(context, do)

    async def gate(self, context: Context, machine: str) -> None:
        # One that has just started settles for seconds: was the next one the holder, nobody would take the VIP from it.
        await one_shares_the_vip(context, [machine])
        await api_answers(context, machine, context.cluster.endpoint.vip.ip, context.cluster.endpoint.port)

    async def _switch_backup(self, context: Context, do: Change) -> None:
        await do.do(
            "stop keepalived: it would not hear the holder any more, and take the VIP too",
            lambda: do.sh("systemctl stop keepalived"),
        )
        self._stopped.add(do.machine)
        if len(self._stopped) == len(self.machines(context)) - 1:
            self._all_stopped.set()
        try:
            if not do.dry:
                await self._switched.wait()
        except asyncio.CancelledError:
            # The holder could not be changed: as it was before is better than without a BACKUP.
            await asyncio.shield(do.sh("systemctl start keepalived"))
            raise
        await do.component(context.design.components(do.machine)["keepalived"], was_stopped=True)

    async def _switch_holder(self, context: Context, do: Change) -> None:
        if not do.dry and len(self.machines(context)) > 1:
            await self._all_stopped.wait()
        do.gated = True
        await do.component(context.design.components(do.machine)["keepalived"])
        if not do.dry:
            await do.gate(lambda: self.gate(context, do.machine))
        self._switched.set()


class StopBalancers(Phase):
    """Near the end: whoever was led to one by the VIP, by a kubelet or by the add-ons is led elsewhere by then.

    A load balancer of yours is led by you: while it still has clients there, a balancer goes on until another apply.
    That is seen only when its turn comes, and a plan says the same whether they are there or not.
    """

    title = "Stop balancers that nobody uses any more"

    def machines(self, context: Context) -> Sequence[str]:
        balancer = balancer_of(context.cluster)
        running = context.of(context.cluster.running_balancer)
        return tuple(
            name
            for name, one in context.facts.items()
            if balancer and balancer.name in one.loaded and name not in running
        )

    async def run(self, context: Context, do: Change) -> None:
        balancer = balancer_of(context.cluster)
        if balancer is None:
            return
        endpoint = context.cluster.endpoint
        is_yours = endpoint.by is EndpointOwner.EXTERNAL

        async def stop() -> None:
            if is_yours and (why := await _in_use(do, endpoint.port)):
                do.progress.step(do.machine, f"{balancer.title} goes on: {why}")
                return
            if context.is_live and endpoint.by is EndpointOwner.KEEPALIVED:
                # The VIP leads to one that works.
                await api_answers(context, context.seed(), endpoint.vip.ip, endpoint.port)
            await do.sh(_stop(balancer.name), shown_as=f"systemctl disable --now {balancer.name}")

        unless = "unless clients are still connected to it" if is_yours else "which nobody uses there any more"
        await do.do(f"stop {balancer.title}, {unless}", stop)


async def _in_use(do: Change, port: int) -> str:
    """Why the balancer there has to stay: who is connected to it from elsewhere. Empty: nobody, each time."""
    found = await do.remote.run(clients(port), check=False, shown_as="ss: who is connected")
    if found.code:
        return f"it cannot be told who is connected to it: {found.stderr.strip() or f'exit code {found.code}'}"
    who = sorted({line.rpartition(":")[0] for line in found.stdout.split()})
    return f"clients are still connected to it ({', '.join(who)}); the next apply looks again" if who else ""


def clients(port: int, *, times: int = 3, apart_s: float = 1.5) -> str:
    """Prints who is connected to the balancer here from elsewhere, also those that come and go. Fails where ss does."""
    return f"""for i in $(seq {times}); do
  [ "$i" = 1 ] || sleep {apart_s:g}
  said=$(ss -Htn state established "sport = :{port}") || exit 1
  printf '%s\\n' "$said" | awk 'NF && $3 !~ /^(127\\.|\\[::1\\]|\\[::ffff:127\\.)/ {{print $4}}'
done
"""


def _stop(name: str) -> str:
    return f"""set -e
{waiting.STOP}
systemctl disable -q --now {name} 2>/dev/null || true
if systemctl is-active -q {name}; then echo '{name} goes on' >&2; exit 1; fi
rm -f {LOADED}/{name}
"""


def _all_are_new(context: Context) -> bool:
    """Of those that share the VIP by design: does none share it until now?"""
    sharers = context.having("keepalived")
    return bool(sharers) and not any("keepalived" in context.facts[name].loaded for name in sharers)


def _backups_first(context: Context) -> list[str]:
    sharers = context.having("keepalived")
    return [name for name in context.backups_first if name in sharers]


def _would_be_deaf(context: Context) -> bool:
    """Does some machine's keepalived speak now what the designed one does not understand?"""
    for name in context.having("keepalived"):
        spoken = context.facts[name].loaded.get("keepalived")
        designed = context.design.components(name)["keepalived"].loaded
        if spoken and spoken.split(".")[-1] != designed.dialect:
            return True
    return False
