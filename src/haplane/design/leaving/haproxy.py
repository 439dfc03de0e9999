"""HAProxy: a connection that fails is tried elsewhere, and each apiserver is asked whether it is ready.

Sources: HAProxy's configuration manual, section 5.2 and `timeout check`, and its src/check.c (the next check starts an
interval after the last one has ended).
"""

from __future__ import annotations

from haplane.components import sessions
from haplane.components.base import View
from haplane.components.haproxy import Timing, timing
from haplane.design.link import AVOID, LEAVE, Link

CONNECT = "haproxy.defaults.timeout connect"


def silent(view: View, apiservers: int, lost: int) -> Link:
    balancer = timing(view)
    connect_s, retries = balancer.connect_ms / 1000, balancer.retries
    if balancer.redispatch and retries:
        because = f"a connection to it is given up after timeout connect {connect_s * 1000:.0f} ms and tried on another"
        # Which may be lost as well.
        cost_s, formula = lost * connect_s, "timeout connect" if lost == 1 else f"{lost} * timeout connect"
    else:
        # Between two tries of the same server HAProxy waits min(timeout connect, 1 s).
        cost_s = (retries + 1) * connect_s + retries * min(connect_s, 1.0)
        because = (
            f"a connection to it is tried {retries + 1} times, all on the same apiserver, without option redispatch"
        )
        formula = "(retries + 1) * timeout connect + retries * min(timeout connect, 1 s)"
    because += f"; {'one' if lost == 1 else lost} in {apiservers} connections goes there"
    return Link(AVOID, cost_s * lost / apiservers, cost_s, because, formula, CONNECT)


def refused(view: View) -> Link:
    wait_s = min(timing(view).connect_ms / 1000, 1.0)
    because = (
        "its kernel refuses once the process is gone, and nobody new is sent there from when its connections end; "
        f"HAProxy takes it out then, and may wait {wait_s * 1000:.0f} ms before the next one"
    )
    return Link(AVOID, 0.0, wait_s, because, "min(timeout connect, 1 s)", CONNECT)


def hung(view: View, why: str) -> Link:
    """Until its checks have failed and its sessions are ended."""
    balancer = timing(view)
    fall, one_ms = balancer.fall, balancer.check_connect_ms + balancer.check_timeout_ms
    after_ms = sessions.end_after_ms(balancer.connect_ms) + sessions.LATE_MS + sessions.LOOK_EVERY_MS
    many = sessions.LATE_MS // sessions.EACH_MS
    worst_ms = balancer.interval_ms + fall * one_ms + (fall - 1) * balancer.fast_interval_ms + after_ms
    because = (
        f"{why}; leastconn sends new connections elsewhere as soon as one is stuck there. A stuck one is ended after "
        f"{fall} failed checks of up to {one_ms:g} ms, the first after {balancer.interval_ms:g} ms and the others "
        f"{balancer.fast_interval_ms:g} ms apart, and {after_ms} ms in which it may only be overloaded "
        f"({sessions.EACH_MS} ms for each of its sessions, where there are more than {many}: a herd)"
    )
    formula = f"inter + fall * {_check(balancer)} + (fall - 1) * fastinter + 1150 ms + timeout connect"
    return Link(LEAVE, 0.0, worst_ms / 1000, because, formula, "haproxy.default-server.inter")


def unready(view: View, why: str) -> Link:
    """It has begun to say that it is not ready: until enough checks have heard that, and its sessions are ended."""
    balancer = timing(view)
    one_ms = balancer.check_connect_ms + balancer.check_timeout_ms
    after_ms = sessions.end_after_ms(balancer.connect_ms) + sessions.LOOK_EVERY_MS
    worst_ms = balancer.interval_ms + one_ms + (balancer.fall - 1) * balancer.fast_interval_ms + after_ms
    because = (
        f"{why}; {balancer.fall} checks have to hear it, the first after {balancer.interval_ms:g} ms and the others "
        f"{balancer.fast_interval_ms:g} ms apart, one of which may wait {one_ms:g} ms in vain; its sessions are ended "
        f"{after_ms} ms later"
    )
    formula = f"inter + {_check(balancer)} + (fall - 1) * fastinter + 150 ms + timeout connect"
    return Link(LEAVE, 0.0, worst_ms / 1000, because, formula, "haproxy.default-server.inter")


def _check(balancer: Timing) -> str:
    return "(min(timeout connect, inter) + timeout check)" if balancer.check_connect_ms else "inter"
