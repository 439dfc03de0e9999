"""Why an apply does not even begin: hazards in the file or on the machines."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from ipaddress import ip_address

from haplane.components.keepalived import CONFIG_FILE
from haplane.design.design import Design
from haplane.design.hazards import Finding, lint, stops
from haplane.model.cluster import Address, Cluster
from haplane.model.errors import ExitCode, HaplaneError
from haplane.model.progress import Progress
from haplane.observe.facts import Facts
from haplane.transport.ssh import Remote


class Hazardous(HaplaneError):
    """Hazards of severity error that nobody accepted; nothing was touched."""

    exit_code = ExitCode.FINDING

    def __init__(self, findings: Sequence[Finding], where: str) -> None:
        super().__init__(
            f"{len(findings)} hazard{'' if len(findings) == 1 else 's'} {where}: nothing was changed",
            why="\n".join(str(finding) for finding in findings),
            hint="mend it; or, if you know better, accept one in the file with your reason: accept: {ID: REASON}",
        )


def refuse_hazards(design: Design) -> None:
    """Raises Hazardous with all that lint found and nobody accepted."""
    if found := stops(lint(design)):
        raise Hazardous(found, "in the file")


async def refuse_unfit_machines(design: Design, remotes: Mapping[str, Remote], progress: Progress) -> None:
    """The quick part of preflight. Raises Hazardous with all that it found and nobody accepted."""
    from haplane.observe.preflight import preflight  # a plan without changes does not need it

    report = await preflight(design, remotes, slow=False, progress=progress)
    if found := stops(report.findings):
        raise Hazardous(found, "on the machines")


async def refuse_to_skip_a_holder(
    cluster: Cluster, facts: Mapping[str, Facts], remotes: Mapping[str, Remote], skip: Collection[str]
) -> None:
    """Raises HaplaneError where a machine that is left out shares the VIP, and by the file it should no more.

    It would hear none of those that share it from now on, and have the VIP besides them. Who shares it now, those that
    leave it say: nobody has written their keepalived.conf since.
    """
    sharers = {one.name for one in cluster.vip_sharers}
    left_out = [cluster.machines[name] for name in skip if name not in sharers]
    leaving = [name for name, one in facts.items() if "keepalived" in one.loaded and name not in sharers]
    if not left_out or not leaving:
        return
    done = await remotes[leaving[0]].run(f"cat {CONFIG_FILE}", check=False, shown_as=f"read {CONFIG_FILE}")
    peers = unicast_peers(done.stdout)
    # Of multicast nobody says who takes part.
    holders = [one.name for one in left_out if not peers or peers & {*one.addresses}]
    if holders:
        names = ", ".join(holders)
        raise HaplaneError(
            f"{names} cannot be left out while it is changed who shares the VIP",
            where=str(cluster.where("balancer", "role")),
            why=f"{names} shares the VIP until now{'' if peers else ', it may be'}, and so do {', '.join(leaving)}; by "
            f"the file it is {', '.join(one.name for one in cluster.vip_sharers) or 'nobody'}. If it still runs, it "
            "would hear none of these, and two machines would have the VIP",
            hint=f"make {names} answer, then run this again without --skip; or put balancer and endpoint back as they "
            f"were until it does; or, if it is gone for good, take it out of the file",
        )


def unicast_peers(text: str) -> frozenset[Address]:
    """Addresses of the other machines that a keepalived.conf of haplane's names; none where adverts are multicast."""
    found = set[Address]()
    for block in re.findall(r"unicast_peer\s*\{([^}]*)\}", text):
        for word in block.split():
            try:
                found.add(ip_address(word))
            except ValueError:
                continue
    return frozenset(found)
