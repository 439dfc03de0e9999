"""The outage that a design allows, per fault, link by link. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from haplane.components import haproxy, keepalived
from haplane.model.cluster import Cluster


@dataclass(frozen=True)
class Link:
    """One step between the fault and the next answer (detect, decide, take over, announce, reconnect)."""

    name: str
    typical_s: float
    worst_s: float
    because: str


@dataclass(frozen=True)
class Budget:
    fault: str
    links: tuple[Link, ...]

    @property
    def typical_s(self) -> float:
        return sum(link.typical_s for link in self.links)

    @property
    def worst_s(self) -> float:
        return sum(link.worst_s for link in self.links)


# What the timers do not say: the system calls between VRRP's decision and the announcement on the wire, and a TLS
# handshake on a LAN. Assumed, and generous; the drill's own measurement stands beside the sum.
TAKE_OVER_S = (0.005, 0.020)
HANDSHAKE_S = (0.010, 0.050)


def power_off_vip_holder(cluster: Cluster, holder: str, *, request_interval_s: float) -> Budget:
    """The longest time without an answer for new connections when the machine that holds the VIP loses its power.

    request_interval_s: how often a client asks; the outage cannot be seen finer. Formulas: RFC 9568 section 6.1
    (Active_Down_Interval = 3 * advert + skew, counted from the last advert), HAProxy's `timeout connect` with
    `option redispatch 1`.
    """
    backups = [
        keepalived.priority(position)
        for position, machine in enumerate(cluster.control_plane)
        if machine.name != holder
    ]
    advert_s = keepalived.ADVERT_MS / 1000
    skew_s = keepalived.skew_ms(max(backups, default=keepalived.TOP_PRIORITY)) / 1000
    down_s = 3 * advert_s + skew_s
    connect_s = haproxy.CONNECT_TIMEOUT_MS / 1000
    links = (
        Link(
            "detect",
            down_s - advert_s / 2,
            down_s,
            f"3 adverts of {advert_s:g} s and {skew_s * 1000:.1f} ms of skew after the last one",
        ),
        Link("take over", *TAKE_OVER_S, "the best backup adds the VIP and announces it by gratuitous ARP"),
        Link(
            "reconnect",
            request_interval_s / 2 + HANDSHAKE_S[0],
            request_interval_s + HANDSHAKE_S[1],
            f"the next request is due within {request_interval_s * 1000:.0f} ms and makes a TLS handshake",
        ),
        Link(
            "avoid the dead apiserver",
            0.0,
            connect_s,
            f"a connection to it is given up after timeout connect {connect_s * 1000:.0f} ms and tried on another",
        ),
    )
    return Budget(fault=f"power-off of {holder}, which holds the VIP", links=links)
