"""Why an apply does not even begin: hazards in the file or on the machines."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import ip_address

from haplane.components.keepalived import CHECK_FILE, CONFIG_FILE
from haplane.design.design import Design
from haplane.design.hazards import Finding, lint, stops
from haplane.model.cluster import Address, Cast, Cluster
from haplane.model.errors import ExitCode, HaplaneError
from haplane.model.progress import Progress
from haplane.observe.facts import Facts
from haplane.transport.ssh import Remote

READ = f"cat {CONFIG_FILE} {CHECK_FILE} 2>/dev/null"
WRITTEN_BY_HAPLANE = "# Written by haplane"
ASKS_BALANCER = "vrrp_script balancer_hung"


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

    It would hear none of those that share it from now on, and have the VIP besides them. Who shares it, every
    keepalived.conf of haplane's says that is on a machine which answers: one that stays, one that leaves, and one that
    an earlier apply has stopped while others were still to be (see LeaveVip).
    """
    sharers = {one.name for one in cluster.vip_sharers}
    left_out = [cluster.machines[name] for name in skip if name not in sharers]
    if not left_out:
        return
    said = await asyncio.gather(*(remotes[name].run(READ, check=False, shown_as=READ) for name in facts))
    texts = {name: one.stdout for name, one in zip(facts, said, strict=True) if WRITTEN_BY_HAPLANE in one.stdout}
    peers = {name: peers_in(text, cluster.endpoint.port) for name, text in texts.items()}
    unsure = [name for name, text in texts.items() if peers[name] is None and _is_multicast(cluster, text, texts)]
    leaving = [name for name in texts if name not in sharers]
    for one in left_out:
        named_by = [name for name, found in peers.items() if found and found & {*one.addresses}]
        if named_by or (unsure and leaving):
            raise _refusal(cluster, one.name, named_by, unsure)


def _refusal(cluster: Cluster, name: str, named_by: Sequence[str], unsure: Sequence[str]) -> HaplaneError:
    by_the_file = ", ".join(one.name for one in cluster.vip_sharers) or "nobody"
    if named_by:
        why = f"{CONFIG_FILE} of {', '.join(named_by)} names it among those that share the VIP"
    else:
        why = f"it may be one of those that share the VIP: they speak by multicast, and {CONFIG_FILE} of "
        why += f"{', '.join(unsure)} does not say to whom"
    return HaplaneError(
        f"{name} cannot be left out while it is changed who shares the VIP",
        where=str(cluster.where("balancer", "role")),
        why=f"{why}; by the file it is {by_the_file}. If {name} still runs, it would hear none of these, and two "
        "machines would have the VIP",
        hint=f"make {name} answer, then run this again without --skip; or put balancer and endpoint back as they "
        "were until it does; or, if it is gone for good, take it out of the file",
    )


def peers_in(text: str, port: int) -> frozenset[Address] | None:
    """Addresses of the others that share the VIP with a machine, from what READ prints there; None: nobody says.

    Of multicast keepalived.conf names no peers, but the check does: it asks the other balancers. port: of the endpoint.
    """
    if "unicast_src_ip" in text:
        return unicast_peers(text)
    if ASKS_BALANCER not in text:
        # The check of an apiserver asks no others. So does unicast write where there is one machine alone.
        return None
    asked = " ".join(re.findall(r"^for peer in (.*); do$", text, re.MULTILINE)).split()
    return _addresses(place.rpartition(":")[0].strip("[]") for place in asked if place.endswith(f":{port}"))


def _is_multicast(cluster: Cluster, text: str, texts: Mapping[str, str]) -> bool:
    """Where there is one machine alone, unicast looks like it: it has nobody to speak to."""
    return "unicast_src_ip" not in text and (cluster.endpoint.cast is Cast.MULTICAST or len(texts) > 1)


def unicast_peers(text: str) -> frozenset[Address]:
    """Addresses of the other machines that a keepalived.conf of haplane's names; none where adverts are multicast."""
    return _addresses(word for block in re.findall(r"unicast_peer\s*\{([^}]*)\}", text) for word in block.split())


def _addresses(words: Iterable[str]) -> frozenset[Address]:
    found = set[Address]()
    for word in words:
        try:
            found.add(ip_address(word))
        except ValueError:
            continue
    return frozenset(found)
