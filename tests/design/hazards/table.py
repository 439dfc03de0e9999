"""docs/hazards.md, made of the catalogue, the registered checks and the planted hazards.

`python -m tests.design.hazards.table` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.design.hazards.planted_api import API, BALANCER
from tests.design.hazards.planted_balancers import BALANCERS
from tests.design.hazards.planted_machines import MACHINES
from tests.design.hazards.planted_pods import PODS
from tests.design.hazards.planted_vip import VIP

from haplane.design.hazards import CATALOGUE, Hazard, Moment
from haplane.design.hazards.unseen import NOT_IN_FILE, NOT_ON_MACHINES, PARTLY
from haplane.observe.preflight import CHECKS

PLANTED = (*MACHINES, *VIP, *BALANCER, *BALANCERS, *API, *PODS)

HEAD = """\
# Hazards

Known ways in which a design or a running cluster loses availability. `accept: {ID: reason}` in cluster.yaml silences
one and shows the reason wherever it is found.

- **lint**: in the file alone (`haplane lint`). What the file leaves to haplane is judged after it was derived, so that
  a design without overrides has no finding. Findings point to the line that causes them.
- **preflight**: on the machines, before anything is changed (`haplane preflight`); the name is that of the check in
  [preflight.md](preflight.md). **status**: in the running cluster; nothing looks there for hazards yet.

The names under lint are those of tests in `tests/design/hazards`: each hazard is planted in a file and must be found on
its line, and a file that nearly has it must pass. This page is made from the catalogue, the checks and these tests;
`python -m tests.design.hazards.table > docs/hazards.md` makes it again.
"""

TOPICS = {
    "accept": "The file",
    "topo": "Topology",
    "vip": "VIP and VRRP",
    "lb": "Balancer",
    "svc": "Services",
    "etcd": "etcd",
    "api": "API and kubeadm",
    "net": "Network",
    "host": "Hosts",
    "cert": "Certificates",
    "upgrade": "Upgrades",
}


def page() -> str:
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    for prefix, topic in TOPICS.items():
        yield f"## {topic}\n"
        yield "| id | condition | goes wrong | lint | preflight | status |"
        yield "|---|---|---|---|---|---|"
        yield from (_row(hazard) for hazard in CATALOGUE.values() if hazard.id.partition("-")[0] == prefix)
        yield ""


def _row(hazard: Hazard) -> str:
    status = "not yet: no command looks for it" if Moment.STATUS in hazard.moments else ""
    cells = [f"`{hazard.id}`", hazard.condition, hazard.goes_wrong, _lint(hazard), _preflight(hazard), status]
    return "| " + " | ".join(cells) + " |"


def _preflight(hazard: Hazard) -> str:
    """Names of the checks that look for it, or why there are none."""
    if Moment.PREFLIGHT not in hazard.moments:
        return ""
    names = [f"`{check.name}`" for check in CHECKS if check.hazard == hazard.id]
    return ", ".join(names) or f"not yet: {NOT_ON_MACHINES[hazard.id]}"


def _lint(hazard: Hazard) -> str:
    """Names of tests, or why there are none."""
    if Moment.LINT not in hazard.moments:
        return ""
    if hazard.id in NOT_IN_FILE:
        return f"not yet: {NOT_IN_FILE[hazard.id]}"
    planted = [one for one in PLANTED if one.hazard == hazard.id]
    found = ", ".join(f"`{one.title}`" for one in planted)
    passes = ", ".join(f"`{one.near_miss}`" for one in planted)
    partly = f"<br>not: {PARTLY[hazard.id]}" if hazard.id in PARTLY else ""
    return f"found: {found}<br>passes: {passes}{partly}"


if __name__ == "__main__":
    print(page(), end="")
