"""One step of an outage. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """One step between the fault and the next answer.

    because: the sentence with the numbers; formula: the same with the names of the settings; setting: the key of
    cluster.yaml that changes it most, empty if none does.
    """

    name: str
    typical_s: float
    worst_s: float
    because: str
    formula: str = ""
    setting: str = ""


HANDSHAKE_S = (0.010, 0.050)  # TCP and TLS on a LAN; assumed, (typical, worst)

AVOID = "avoid the dead apiserver"
LEAVE = "leave the hung apiserver"


def no_other_apiserver() -> Link:
    because = "there is no other apiserver: until this one answers again"
    return Link(AVOID, math.inf, math.inf, because, setting="machines")


def worst(links: Iterable[Link]) -> Link:
    """Machines may differ by what the file overrides."""
    return max(links, key=lambda link: link.worst_s)
