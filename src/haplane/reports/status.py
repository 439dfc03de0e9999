"""Status as a table for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from haplane.components.balancer import balancer_of
from haplane.observe.status import LEASES, ClusterStatus, MachineStatus, says_who_is_up

if TYPE_CHECKING:
    from rich.text import Text


def as_json(status: ClusterStatus) -> dict[str, object]:
    """Version 1: {version, cluster, endpoint, whole, problems, vip: {address, holders}, etcd, leases, add_ons,
    machines}."""
    cluster = status.cluster
    return {
        "version": 1,
        "cluster": cluster.name,
        "endpoint": f"{cluster.endpoint.name}:{cluster.endpoint.port}",
        "whole": status.is_whole,
        "problems": list(status.problems),
        "vip": {"address": str(cluster.endpoint.vip.ip), "holders": list(status.holders)},
        "etcd": {
            "leader": status.etcd_leader,
            "members": [{"name": one.name, "id": one.id, "learner": one.is_learner} for one in status.members],
        },
        "leases": {
            name: {"holder": lease.holder, "age_s": round(lease.age_s, 3), "held": lease.is_held}
            for name, lease in status.leases.items()
        },
        "add_ons": {one.name: {"ready": one.ready, "wanted": one.wanted} for one in status.add_ons},
        "machines": [_machine(one, status) for one in status.machines],
    }


def _machine(one: MachineStatus, status: ClusterStatus) -> dict[str, object]:
    return {
        "name": one.name,
        "reachable": not one.unreachable,
        "vrrp": one.vrrp_state,
        "holds_vip": one.holds_vip,
        "apiserver_ready": one.ready,
        "balancer_sees": {name: server.status for name, server in one.servers.items()},
        "etcd": {"answers": bool(one.etcd_id), "leader": one.name == status.etcd_leader},
        "node_ready": status.nodes.get(one.name),
        "units": dict(one.units),
    }


def show(status: ClusterStatus) -> None:
    """Print the table to standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("machine", "VRRP", "balancer", "apiserver", "etcd", "node", "acts as"):
        table.add_column(column)
    for one in status.machines:
        if one.unreachable:
            table.add_row(one.name, Text(one.unreachable, style="red"))
            continue
        table.add_row(one.name, *_parts(one, status))
    console = Console()
    endpoint = status.cluster.endpoint
    console.print(f"[bold]{status.cluster.name}[/bold]: https://{endpoint.name}:{endpoint.port}\n")
    console.print(table)
    console.print()
    for problem in status.problems:
        console.print(Text(f"not whole: {problem}", style="red"))
    if status.is_whole:
        console.print(Text("everything is whole", style="green"))


def _parts(one: MachineStatus, status: ClusterStatus) -> Iterator[Text]:
    """One cell per part that a machine may have; a dash where it has not."""
    from rich.text import Text

    cluster, machine, none = status.cluster, status.cluster.machines[one.name], Text("-", style="dim")
    has_apiserver = machine in cluster.control_plane
    vrrp = f"{one.vrrp_state or 'down'}{' (VIP)' if one.holds_vip else ''}"
    is_ready = bool(status.nodes.get(one.name))
    acts = [name.removeprefix("kube-") for name in LEASES if name in status.leases and _acts(status, name) == one.name]
    yield Text(vrrp, style=_style(bool(one.vrrp_state))) if machine in cluster.vip_sharers else none
    yield _balancer(one, status) if machine in cluster.running_balancer else none
    yield Text("ready" if one.ready else "not ready", style=_style(one.ready)) if has_apiserver else none
    yield Text(_etcd(one, status), style=_style(bool(one.etcd_id))) if machine in cluster.etcd_members else none
    is_node = has_apiserver or machine in cluster.workers
    yield Text("Ready" if is_ready else "NotReady", style=_style(is_ready)) if is_node else none
    yield Text(", ".join(acts) or "standby") if has_apiserver else none


def _balancer(one: MachineStatus, status: ClusterStatus) -> Text:
    """What it says of apiservers; of one that says nothing, whether it runs."""
    from rich.text import Text

    if not says_who_is_up(status.cluster):
        balancer = balancer_of(status.cluster)
        state = one.units.get(balancer.name, "no answer") if balancer else "none"
        return Text(state, style=_style(balancer is None or state == "active"))
    if not one.servers:
        return Text("no answer", style="red")
    down = [f"{name} {server.status}" for name, server in one.servers.items() if server.status != "UP"]
    text = f"{len(one.servers) - len(down)}/{len(one.servers)} up"
    return Text(f"{text} ({', '.join(down)})" if down else text, style=_style(not down))


def _etcd(one: MachineStatus, status: ClusterStatus) -> str:
    if not one.etcd_id:
        return "no answer"
    return "leader" if one.name == status.etcd_leader else "follower"


def _acts(status: ClusterStatus, name: str) -> str:
    lease = status.leases[name]
    return lease.holder if lease.is_held else ""


def _style(good: bool) -> str:
    return "green" if good else "red"
