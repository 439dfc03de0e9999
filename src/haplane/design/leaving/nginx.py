"""nginx: a connection that cannot be made is made elsewhere; nothing else is noticed.

Sources: ngx_stream_proxy_module, ngx_stream_upstream_module; its src/stream/ngx_stream_upstream_round_robin.c (who was
left out is tried again by one connection, and is back once that was made); tried with nginx 1.22.
"""

from __future__ import annotations

import math

from haplane.components.base import View
from haplane.components.nginx import KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES, KEEPALIVE_S, Timing, timing
from haplane.design.link import AVOID, HANDSHAKE_S, LEAVE, Link

CONNECT = "nginx.stream.proxy_connect_timeout"


def silent(view: View, apiservers: int, lost: int) -> Link:
    balancer = timing(view)
    connect_s = balancer.connect_ms / 1000
    idle_s = KEEPALIVE_S + KEEPALIVE_PROBES * KEEPALIVE_INTERVAL_S
    because = (
        f"a connection to it is given up after proxy_connect_timeout {balancer.connect_ms:g} ms and {_then(balancer)}; "
        f"{_who_goes_there(balancer, apiservers, lost)}. Connections that were open end when keepalive has found out, "
        f"after {idle_s} s, or when their client gives up"
    )
    # Another one may be lost as well.
    cost_s, formula = lost * connect_s, "proxy_connect_timeout" if lost == 1 else f"{lost} * proxy_connect_timeout"
    return Link(AVOID, cost_s * lost / apiservers, cost_s, because, formula, CONNECT)


def refused(view: View) -> Link:
    balancer = timing(view)
    because = f"its kernel refuses at once, and the connection is {_then(balancer)}"
    return Link(AVOID, 0.0, HANDSHAKE_S[1], because, setting="nginx.stream.proxy_next_upstream")


def hung(view: View, why: str) -> Link:
    """Until it is healed: nobody asks it, so nobody notices."""
    spread = (
        "least_conn sends new connections elsewhere as long as enough are stuck there, and there again when those have "
        "given up"
        if timing(view).by_connections
        else "new connections go there as to the others"
    )
    because = (
        f"{why}; nginx does not ask apiservers, so nobody notices: {spread}. Whoever is connected to it waits until it "
        "is healed, or until he gives up"
    )
    return Link(LEAVE, 0.0, math.inf, because, setting="balancer.by")


def unready(view: View, why: str) -> Link:
    """The same: what it would say nobody hears."""
    return hung(view, why)


def _then(balancer: Timing) -> str:
    return "made to another apiserver" if balancer.passes_on else "closed: its client has to ask again"


def _who_goes_there(balancer: Timing, apiservers: int, lost: int) -> str:
    some = f"{'one' if lost == 1 else lost} in {apiservers} connections"
    if not balancer.max_fails:
        return f"{some} goes there, for max_fails is 0"
    return (
        f"{some} goes there until the first was given up, then one every fail_timeout of "
        f"{balancer.fail_timeout_ms / 1000:g} s"
    )
