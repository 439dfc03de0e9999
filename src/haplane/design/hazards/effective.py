"""What the daemons of a machine would be told, and which line of the file says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from haplane.components import haproxy, keepalived, nginx
from haplane.components.settings import Setting, Settings, milliseconds
from haplane.design.design import Design
from haplane.model.cluster import BalancerProgram, Cluster, EndpointOwner, Interface, KeyPath, Machine, Value, Where


@dataclass(frozen=True)
class Told:
    """A component's effective configuration on one machine."""

    cluster: Cluster
    machine: Machine
    component: str
    settings: Settings

    def setting(self, keyword: str, *sections: str) -> Setting | None:
        """In the first of the sections that has it."""
        return next(
            (self.settings[section][keyword] for section in sections if keyword in self.settings[section]), None
        )

    def arguments(self, keyword: str, *sections: str) -> str | None:
        """What stands after the keyword; None if the line is not there."""
        found = self.setting(keyword, *sections)
        return found.arguments if found else None

    def time_ms(self, keyword: str, *sections: str, unit_ms: float) -> float | None:
        """None: not there, or not a time."""
        found = self.arguments(keyword, *sections)
        return None if found is None else milliseconds(found, unit_ms=unit_ms)

    def lines(self, section: str) -> Mapping[str, str]:
        """Every line of the section: keyword -> arguments."""
        return {keyword: setting.arguments for keyword, setting in self.settings[section].items()}

    def where(self, keyword: str, *sections: str, otherwise: KeyPath = ("endpoint",)) -> Where:
        """The line of the file that sets the keyword or takes it away; if none does, the place of `otherwise`."""
        found = self.setting(keyword, *sections)
        said = [found.given] if found and found.given else []
        owners: tuple[KeyPath, ...] = (("machines", self.machine.name, self.component), (self.component,))
        said += [(*owner, section, keyword) for section in sections for owner in owners]
        return self.cluster.where(*next((path for path in said if path in self.cluster.places), otherwise))


def keepaliveds(design: Design, vip: Interface | None = None) -> list[Told]:
    """keepalived on every machine that may hold the VIP; none where the endpoint is somebody else's."""
    cluster = design.cluster
    if cluster.endpoint.by is not EndpointOwner.KEEPALIVED:
        return []
    return [
        Told(cluster, one, "keepalived", keepalived.settings(design.view(one.name), vip)) for one in cluster.balancers
    ]


def haproxies(design: Design) -> list[Told]:
    """HAProxy on every balancer; none where another program balances."""
    cluster = design.cluster
    if cluster.balanced_by is not BalancerProgram.HAPROXY:
        return []
    return [Told(cluster, one, "haproxy", haproxy.settings(design.view(one.name))) for one in cluster.balancers]


def haproxies_of_workers(design: Design) -> list[Told]:
    """HAProxy on workers: they are alike, so that the first and those with settings of their own are enough."""
    cluster = design.cluster
    found = [one for one in cluster.running_balancer if one not in cluster.balancers]
    chosen = [one for index, one in enumerate(found) if index == 0 or any(one.haproxy.values())]
    return [Told(cluster, one, "haproxy", haproxy.settings(design.view(one.name))) for one in chosen]


def nginxes(design: Design) -> list[Told]:
    """nginx on every balancer; none where another program balances."""
    cluster = design.cluster
    if cluster.balanced_by is not BalancerProgram.NGINX:
        return []
    return [Told(cluster, one, "nginx", nginx.settings(design.view(one.name))) for one in cluster.balancers]


# ---- what is passed through to kubeadm ----


def passed(values: Mapping[str, Value], *path: str) -> Value:
    """A value inside of what is passed through; None if the file leaves it to haplane."""
    found: Value = dict(values)
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


@dataclass(frozen=True)
class Arguments:
    """Flags of one program, as the file has them: name -> value. They replace haplane's own as a whole list."""

    flags: Mapping[str, str]
    path: KeyPath
    indexes: Mapping[str, int]

    def where(self, cluster: Cluster, name: str) -> Where:
        index = (self.indexes[name],) if name in self.indexes else ()
        return cluster.where(*self.path, *index)


def extra_arguments(cluster: Cluster, kind: str, *path: str) -> Arguments | None:
    """The list of flags at this path of a kind of kubeadm (v1beta4: name and value each); None if left to haplane.

    Of a flag given twice the last one counts.
    """
    at: KeyPath = ("kubeadm", kind, *path)
    # A list is replaced as a whole, and so is what lies below a key that holds no mapping any more.
    given = passed(cluster.kubeadm.get(kind, {}), *path)
    if not isinstance(given, list):
        return None
    named = [(index, one) for index, one in enumerate(given) if isinstance(one, dict) and "name" in one]
    return Arguments(
        flags={str(one["name"]): _flag(one.get("value", "")) for _, one in named},
        path=at,
        indexes={str(one["name"]): index for index, one in named},
    )


def _flag(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_GO_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def go_duration_s(text: str) -> float | None:
    """Seconds of 40s, 1m30s, 1.5h as Go writes them (time.ParseDuration). None: not one."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|us|µs|ns|h|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return 0.0 if text == "0" else None
    return sum(float(number) * _GO_UNITS_S[unit] for number, unit in parts)
