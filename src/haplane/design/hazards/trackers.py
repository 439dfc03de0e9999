"""What keepalived asks before it lets a machine hold the VIP. Source: keepalived.conf(5), vrrp_script."""

from __future__ import annotations

import re
from collections.abc import Iterator

from haplane.components import keepalived
from haplane.components.balancer import asked_of, balancer_of
from haplane.design.design import Design
from haplane.design.hazards.effective import Told, keepaliveds
from haplane.design.hazards.finding import Finding
from haplane.design.hazards.registry import error, hazard, warning
from haplane.design.hazards.vrrp import SCRIPT, is_on, priority_of, weights
from haplane.model.cluster import APISERVER_PORT, Endpoint

# Commands that tell that a process exists or a port is open, and no more; or that tell nothing.
_WEAK = re.compile(
    r"\b(pidof|pgrep|killall|systemctl|nc|ncat|netcat|netstat|ss|lsof|ps)\b|\bkill\s+-(0|s\s*0)\b|/dev/tcp/"
    r"|\.pid\b|^\s*(/\S*/)?(true|:|exit 0)\s*$"
)
_ASKS_HTTP = re.compile(r"\b(curl|wget)\b|https?://")


@hazard("vip-weight-below-spread")
def check_a_failed_check_moves_the_vip(design: Design) -> Iterator[Finding]:
    """A failed check must lower the priority below every healthy backup, or the VIP stays on a broken machine."""
    tolds = keepaliveds(design)
    priorities = [priority_of(told) for told in tolds]
    for told in tolds:
        spread = max(priorities) - min(priorities)
        for weight in weights(told):
            cure = "leave the weight out: a failed check then means FAULT"
            if len(told.cluster.endpoint.vips) > 1:
                because = "two VIPs share a sync group, which ignores weights without sync_group_tracking_weight"
            elif abs(weight.value) <= spread:
                because = f"weight {weight.value} moves a machine less far than the priorities' spread of {spread}"
            elif not 1 <= priority_of(told) + weight.value <= 254:
                because = f"weight {weight.value} takes the priority out of 1 to 254, where keepalived cuts it off"
            else:
                continue
            yield error(because, cure, weight.where)


@hazard("vip-check-weak")
def check_the_balancer_is_asked(design: Design) -> Iterator[Finding]:
    """The file beside the script tells when the balancer is dead; that it hangs, the script alone."""
    asked = asked_of(design.cluster)
    page = "own health page" if balancer_of(design.cluster) else "/readyz"
    for told in keepaliveds(design):
        script = _script(told)
        cure = f"ask {asked}'s {page}, as haplane's script does: leave script out"
        where = told.where("script", SCRIPT)
        if not script:
            yield warning(f"nothing asks whether {asked} answers, only whether it runs", cure, where)
        elif _WEAK.search(script) and not _ASKS_HTTP.search(script):
            because = f"{script} tells at most that a process exists or a port is open"
            yield warning(because, cure, where)


@hazard("vip-check-through-vip")
def check_each_machine_asks_itself(design: Design) -> Iterator[Finding]:
    for told in keepaliveds(design):
        name = next((one for one in _names(told.cluster.endpoint) if _mentions(_script(told), one)), None)
        if name:
            because = f"the check asks {name}, which is whoever holds the VIP, and not this machine"
            yield error(because, "ask 127.0.0.1", told.where("script", SCRIPT))


@hazard("vip-check-shared-fate")
def check_needs_no_apiserver(design: Design) -> Iterator[Finding]:
    if balancer_of(design.cluster) is None:
        yield from _nothing_else_to_ask(design)
        return
    for told in keepaliveds(design):
        if weights(told) or not _needs_apiserver(_script(told), told.cluster.endpoint.port):
            continue
        cure = "ask the balancer's own health page; the balancer judges the apiservers"
        where = told.where("script", SCRIPT)
        if is_on(told.arguments("init_fail", SCRIPT)):
            because = "with init_fail the VIP waits for an apiserver, and the first apiserver needs the VIP"
            yield error(because, cure, where)
        else:
            yield warning("the VIP moves, and cuts all clients off, when apiservers are slow", cure, where)


def _nothing_else_to_ask(design: Design) -> Iterator[Finding]:
    """Without a balancer the VIP has to follow the apiserver."""
    if keepaliveds(design):
        because = (
            "without a balancer the VIP follows the apiserver beside it: one that is slow moves it, and cuts all off"
        )
        cure = "let a balancer judge the apiservers: balancer: {by: haproxy}"
        yield warning(because, cure, design.cluster.where("balancer", "by"))


@hazard("vip-check-over-budget")
def check_a_hang_is_seen_in_time(design: Design) -> Iterator[Finding]:
    target_ms = design.cluster.failover.target_ms
    if target_ms is None:
        return
    tolds, asked = keepaliveds(design), asked_of(design.cluster)
    # The best backup takes over when what the first machine asks hangs.
    best = sorted((priority_of(told) for told in tolds), reverse=True)[:2][-1:]
    for told in tolds:
        timing = keepalived.timing(design.view(told.machine.name))
        skew_ms = keepalived.skew_ms(best[0], timing.advert_ms)
        check_ms = timing.check_fall * timing.check_interval_ms + timing.check_timeout_ms
        if check_ms + skew_ms > target_ms:
            because = (
                f"a hung {asked} is noticed after {timing.check_fall} × {timing.check_interval_ms:g} ms, a timeout of "
                f"{timing.check_timeout_ms:g} ms and {skew_ms:.0f} ms of skew: {check_ms + skew_ms:.0f} ms, and "
                f"failover.target is {target_ms} ms"
            )
            where = told.where("interval", SCRIPT, otherwise=("failover", "target"))
            yield warning(because, "shorten interval, fall or timeout, or relax the target", where)


def _script(told: Told) -> str:
    """What is run, without its quotes; empty if nothing is."""
    return (told.arguments("script", SCRIPT) or "").strip("\"'")


def _names(endpoint: Endpoint) -> list[str]:
    names = [str(vip.ip) for vip in endpoint.vips]
    return [*names, *(str(name) for name in (endpoint.host, endpoint.outside) if name)]


def _mentions(script: str, name: str) -> bool:
    """Not as a part of a longer name or address."""
    return bool(re.search(rf"(?<![\w.:-]){re.escape(name)}(?![\w-]|\.\w)", script))


def _needs_apiserver(script: str, port: int) -> bool:
    """kubectl, the apiserver's own port or pages, or HTTP through the balancer's port."""
    through = rf"|https?://[^\s/]*:{port}\b"
    return bool(re.search(rf"\bkubectl\b|(?<![0-9]){APISERVER_PORT}(?![0-9])|/(readyz|livez)\b{through}", script))
