"""How keepalived reads what it is told about VRRP. Source: keepalived.conf(5); defaults are keepalived's own."""

from __future__ import annotations

import re
from dataclasses import dataclass

from haplane.design.hazards.effective import Told
from haplane.model.cluster import Where

GLOBAL, SCRIPT, INSTANCE = "global_defs", "vrrp_script", "vrrp_instance"


@dataclass(frozen=True)
class Weight:
    """A tracker's weight other than 0: what a check adds to the priority (below 0: takes away when it fails)."""

    value: int
    where: Where


def weights(told: Told) -> list[Weight]:
    """Of the script, and of trackers that the file adds to the instance."""
    found = [Weight(_number_in(told.arguments("weight", SCRIPT) or ""), told.where("weight", SCRIPT))]
    for keyword, arguments in told.lines(INSTANCE).items():
        if keyword.startswith("track_"):
            found.append(Weight(_number_in(arguments.partition("weight")[2]), told.where(keyword, INSTANCE)))
    return [one for one in found if one.value]


def _number_in(text: str) -> int:
    """The number at the beginning, e.g. of `-30 reverse`; 0 if there is none."""
    found = re.match(r"\s*([-+]?[0-9]+)", text)
    return int(found[1]) if found else 0


def priority_of(told: Told) -> int:
    text = told.arguments("priority", INSTANCE) or ""
    return int(text) if text.removeprefix("-").isdecimal() else 100


def version_of(told: Told) -> int:
    text = told.arguments("version", INSTANCE) or told.arguments("vrrp_version", GLOBAL)
    return 3 if text == "3" else 2


def advert_ms_of(told: Told) -> float:
    found = told.time_ms("advert_int", INSTANCE, unit_ms=1000)
    return 1000 if found is None else found


def is_on(arguments: str | None) -> bool:
    """Of an option whose keyword alone turns it on. None: the line is not there."""
    return arguments is not None and arguments.lower() not in ("off", "false", "no")
