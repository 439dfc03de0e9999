"""Cut sets: the smallest sets of machines, or of zones, whose loss stops reads or writes of the API. Pure and exact.

What the API needs is a conjunction of thresholds over machines: a quorum of etcd's members, at least one apiserver, at
least one balancer. So a minimal cut is either all machines of an "at least one", or as many members as break the
quorum; nothing has to be searched among all subsets, and a thousand machines cost no more than three.

Sources: etcd.io/docs/v3.6 FAQ (quorum is n/2 + 1; linearizable reads need it as writes do), Kubernetes API concepts
(resourceVersion=0 is answered from an apiserver's watch cache), kubeadm (a stacked apiserver uses https://127.0.0.1:2379,
so it lives and dies with the member beside it).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations, islice, product

from haplane.design.design import Design
from haplane.model.cluster import BalancerRole, Cluster, EndpointOwner, Loss
from haplane.model.errors import UsageError

# Kinds of cuts that are listed at most; their number is exact beyond that.
LISTED = 50
# kubeadm's liveness probe of an apiserver asks /livez, of which etcd is a part, 8 times every 10 s.
CACHED_READS_LAST_S = 80


class Service(StrEnum):
    """READS: the default, linearizable. CACHED_READS: with resourceVersion=0, from an apiserver's memory."""

    READS = "reads"
    CACHED_READS = "cached reads"
    WRITES = "writes"


@dataclass(frozen=True)
class Need:
    """At least `needed` of the machines; without them, `without` is what happens. of: how many the design has."""

    what: str
    machines: frozenset[str]
    needed: int
    of: int
    without: str

    @property
    def is_met(self) -> bool:
        return len(self.machines) >= self.needed

    def after(self, lost: frozenset[str]) -> Need:
        return replace(self, machines=self.machines - lost)


@dataclass(frozen=True)
class AnyOf:
    """Any `count` of these machines or zones, in the file's order."""

    count: int
    among: tuple[str, ...]

    def __str__(self) -> str:
        if self.count == len(self.among):
            return " and ".join(_shortened(self.among))
        return f"any {self.count} of {', '.join(_shortened(self.among))}"


@dataclass(frozen=True)
class Cut:
    """Minimal cuts that differ only in which of equal machines or zones they take: one choice from each part."""

    parts: tuple[AnyOf, ...]
    because: str

    @property
    def size(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def number(self) -> int:
        """How many sets this stands for."""
        return math.prod(math.comb(len(part.among), part.count) for part in self.parts)

    def sets(self) -> Iterator[frozenset[str]]:
        """Each of them; there may be very many."""
        for chosen in product(*(combinations(part.among, part.count) for part in self.parts)):
            yield frozenset(name for names in chosen for name in names)

    def __str__(self) -> str:
        return ", and ".join(map(str, self.parts))


@dataclass(frozen=True)
class Cuts:
    """All minimal cuts of one service, smallest first. number: of sets, exact, even where more than LISTED kinds exist.

    smallest: the size of the smallest; None if no loss of this kind stops the service.
    """

    service: Service
    of: Loss
    smallest: int | None
    number: int
    cuts: tuple[Cut, ...]

    @property
    def is_complete(self) -> bool:
        return sum(cut.number for cut in self.cuts) == self.number


@dataclass(frozen=True)
class Left:
    """What still works without the lost machines.

    spare: how many more machines may be lost, whichever they are, before writes stop too. next: the smallest cuts of
    writes in what is left, empty where writes have stopped already.
    """

    lost: tuple[str, ...]
    reads: bool
    cached_reads: bool
    writes: bool
    because: tuple[str, ...]
    spare: int
    next: tuple[Cut, ...]


def needs(cluster: Cluster, service: Service) -> tuple[Need, ...]:
    """What has to be there for this service. Behind a load balancer of yours, co-located balancers are not needed."""
    members = frozenset(one.name for one in cluster.etcd_members)
    apiservers = frozenset(one.name for one in cluster.control_plane)
    balancers = frozenset(one.name for one in cluster.balancers)
    quorum = len(members) // 2 + 1
    is_external = cluster.endpoint.by is EndpointOwner.EXTERNAL
    no_balancer = "your load balancer has no balancer behind it" if is_external else "nobody holds the VIP"
    result = []
    if service is not Service.CACHED_READS:
        lost = f"etcd loses its quorum of {quorum} of {len(members)}"
        result.append(Need("etcd members", members, quorum, len(members), lost))
    result.append(Need("apiservers", apiservers, 1, len(apiservers), "no apiserver is left"))
    if not is_external or cluster.balancer is BalancerRole.BALANCER:
        result.append(Need("balancers", balancers, 1, len(balancers), no_balancer))
    return tuple(result)


def minimal_cuts(design: Design) -> tuple[Cuts, ...]:
    """Of each service: those of machines and, where machines have zones, those of zones."""
    kinds = [Loss.MACHINE, Loss.ZONE] if any(one.zone for one in design.cluster.machines.values()) else [Loss.MACHINE]
    return tuple(_cuts(design.cluster, service, kind) for kind in kinds for service in Service)


def survives(design: Design, lost: Iterable[str]) -> Left:
    """What is left without these machines and zones; a name that is both means both. Raises UsageError."""
    cluster = design.cluster
    names = tuple(dict.fromkeys(lost))
    machines = _machines_of(cluster, names)
    left = {service: [need.after(machines) for need in needs(cluster, service)] for service in Service}
    works = {service: all(need.is_met for need in left[service]) for service in Service}
    further = _Split.of(left[Service.WRITES], _units(cluster, Loss.MACHINE)) if works[Service.WRITES] else None
    cuts = tuple(islice(further.cuts(), LISTED)) if further else ()
    smallest = (further.smallest() if further else None) or 0
    return Left(
        lost=tuple(name for name in cluster.machines if name in machines),
        reads=works[Service.READS],
        cached_reads=works[Service.CACHED_READS],
        writes=works[Service.WRITES],
        because=(
            *map(_state, left[Service.WRITES]),
            *_cached_only(works),
            *_no_part(cluster, machines),
        ),
        spare=max(0, smallest - 1),
        next=tuple(cut for cut in cuts if cut.size == smallest),
    )


def promise_broken(design: Design) -> str | None:
    """Why the loss of one machine, or of one zone, stops writes although failover.survive says otherwise."""
    cluster = design.cluster
    survive = cluster.failover.survive
    # A zone that may be lost takes its machines with it: promising zones promises machines.
    for kind in dict.fromkeys((survive, Loss.MACHINE)):
        alone = [cut for cut in _cuts(cluster, Service.WRITES, kind).cuts if cut.size == 1]
        if alone:
            names = _shortened([name for cut in alone for part in cut.parts for name in part.among])
            return f"losing the {kind} {' or '.join(names)} alone stops writes: {alone[0].because}"
    nowhere = [name for name in _relevant(cluster) if not cluster.machines[name].zone]
    if survive is Loss.ZONE and nowhere:
        return f"no zone is known of {', '.join(_shortened(nowhere))}, so what is lost with one is not known either"
    return None


# ---- what is lost, in words ----


def _machines_of(cluster: Cluster, names: Sequence[str]) -> frozenset[str]:
    zones = dict.fromkeys(one.zone for one in cluster.machines.values() if one.zone)
    known = [*cluster.machines, *zones]
    for name in names:
        if name not in cluster.machines and name not in zones:
            close = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"no machine and no zone is called {name!r}",
                where=cluster.file,
                why=f"machines: {', '.join(_shortened([*cluster.machines], 12))}"
                + (f"\nzones: {', '.join(_shortened([*zones], 12))}" if zones else "\nno machine has a zone"),
                hint=f"did you mean {close[0]}?" if close else "name machines and zones of this file",
            )
    wanted = set(names)
    return frozenset(one.name for one in cluster.machines.values() if {one.name, one.zone} & wanted)


def _state(need: Need) -> str:
    text = f"{need.what}: {len(need.machines)} of {need.of} left, {need.needed} needed"
    return text if need.is_met else f"{text}: {need.without}"


def _cached_only(works: Mapping[Service, bool]) -> Iterator[str]:
    if works[Service.CACHED_READS] and not works[Service.READS]:
        yield (
            f"cached reads (resourceVersion=0) go on for about {CACHED_READS_LAST_S} s: /livez of an apiserver fails "
            "without etcd, and its kubelet then restarts it with an empty cache"
        )


def _no_part(cluster: Cluster, machines: frozenset[str]) -> Iterator[str]:
    relevant = _relevant(cluster)
    others = [name for name in cluster.machines if name in machines and name not in relevant]
    if others:
        yield f"{', '.join(_shortened(others))}: no part of the control plane"


def _shortened(names: Sequence[str], most: int = 6) -> list[str]:
    return [*names] if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]


# ---- the sets ----


@dataclass(frozen=True)
class _Unit:
    """What is lost at once: a machine, or the machines of a zone."""

    name: str
    machines: frozenset[str]


def _relevant(cluster: Cluster) -> dict[str, None]:
    """Names of machines that reads or writes may need, in the file's order."""
    used = frozenset[str]().union(*(need.machines for need in needs(cluster, Service.WRITES)))
    return dict.fromkeys(name for name in cluster.machines if name in used)


def _units(cluster: Cluster, kind: Loss) -> list[_Unit]:
    relevant = _relevant(cluster)
    if kind is Loss.MACHINE:
        return [_Unit(name, frozenset({name})) for name in relevant]
    zones: dict[str, list[str]] = {}
    for name in relevant:
        if zone := cluster.machines[name].zone:
            zones.setdefault(zone, []).append(name)
    return [_Unit(zone, frozenset(machines)) for zone, machines in zones.items()]


def _cuts(cluster: Cluster, service: Service, kind: Loss) -> Cuts:
    split = _Split.of(needs(cluster, service), _units(cluster, kind))
    cuts = sorted(islice(split.cuts(), LISTED), key=lambda cut: cut.size)
    return Cuts(service, kind, split.smallest(), split.number(), tuple(cuts))


@dataclass(frozen=True)
class _Split:
    """What stops a service, by units that are lost at once; every need is met before.

    order: all units. weights: unit -> how many machines of the quorum are in it, heaviest first, none without any.
    enough: so many lost ones break the quorum. wholes: sets of units each of which takes every machine of an "at least
    one", and why that matters; only minimal ones.
    """

    order: tuple[str, ...]
    weights: Mapping[str, int]
    enough: int
    quorum_lost: str
    wholes: Mapping[frozenset[str], str]

    @classmethod
    def of(cls, wanted: Sequence[Need], units: Sequence[_Unit]) -> _Split:
        quorum = next((need for need in wanted if need.needed > 1), None)
        weights = {unit.name: len(unit.machines & quorum.machines) for unit in units} if quorum else {}
        enough = len(quorum.machines) - quorum.needed + 1 if quorum else 1  # of nothing: never reached
        wholes: dict[frozenset[str], str] = {}
        for need in wanted:
            takes = {unit.name: unit.machines & need.machines for unit in units if unit.machines & need.machines}
            whole = frozenset(takes)
            if need.needed == 1 and need.machines == frozenset[str]().union(*takes.values()):
                wholes[whole] = f"{wholes[whole]}, {need.without}" if whole in wholes else need.without
        minimal = {
            whole: why
            for whole, why in wholes.items()
            if not any(other < whole for other in wholes)
            # One that breaks the quorum, too, is among those that do, or contains one of them.
            and (not quorum or sum(weights[name] for name in whole) < enough)
        }
        return cls(
            order=tuple(unit.name for unit in units),
            weights={name: weight for name, weight in sorted(weights.items(), key=lambda item: -item[1]) if weight > 0},
            enough=enough,
            quorum_lost=quorum.without if quorum else "",
            wholes=minimal,
        )

    @property
    def inside(self) -> list[frozenset[str]]:
        """Wholes that a set which breaks the quorum could contain; such a set is not minimal."""
        return [whole for whole in self.wholes if whole <= self.weights.keys()]

    def smallest(self) -> int | None:
        """The size of the smallest cut: a whole, or the heaviest units until the quorum is broken."""
        sizes = [len(whole) for whole in self.wholes]
        lost = 0
        for count, weight in enumerate(self.weights.values(), start=1):
            lost += weight
            if lost >= self.enough:
                sizes.append(count)
                break
        return min(sizes, default=None)

    def number(self) -> int:
        """How many minimal cuts there are: by inclusion and exclusion of the wholes inside."""
        inside = self.inside
        breaking = sum(
            (-1 if size % 2 else 1) * self._breaking(frozenset[str]().union(*chosen))
            for size in range(len(inside) + 1)
            for chosen in combinations(inside, size)
        )
        return len(self.wholes) + breaking

    def _breaking(self, containing: frozenset[str]) -> int:
        """How many minimal sets break the quorum and contain these units.

        Units are taken heaviest first, so that a set is minimal exactly if its last unit is the one that breaks.
        """
        ways = [1, *[0] * (self.enough - 1)]  # members lost so far -> how many sets
        missing, found = len(containing), 0
        for name, weight in self.weights.items():
            missing -= name in containing
            if not missing:
                found += sum(ways[max(0, self.enough - weight) :])
            with_it = ([0] * weight + ways)[: self.enough]
            ways = with_it if name in containing else [a + b for a, b in zip(ways, with_it, strict=True)]
        return found

    def cuts(self) -> Iterator[Cut]:
        """All of them by kind; those that break the quorum begin with one of the fewest units."""
        yield from (Cut((AnyOf(len(whole), self._ordered(whole)),), why) for whole, why in self.wholes.items())
        inside = self.inside
        kinds: dict[tuple[int, ...], list[str]] = {}
        for name, weight in self.weights.items():
            kinds.setdefault((weight, *(name in whole for whole in inside)), []).append(name)
        for counts in _choices([(key[0], len(names)) for key, names in kinds.items()], self.enough):
            parts = [(count, names) for count, names in zip(counts, kinds.values(), strict=False) if count]
            full = frozenset(name for count, names in parts if count == len(names) for name in names)
            if not any(whole <= full for whole in inside):
                some = (AnyOf(count, self._ordered(names)) for count, names in parts if count < len(names))
                every = (AnyOf(len(full), self._ordered(full)),) if full else ()
                yield Cut((*every, *some), self.quorum_lost)

    def _ordered(self, names: Iterable[str]) -> tuple[str, ...]:
        wanted = set(names)
        return tuple(name for name in self.order if name in wanted)


def _choices(kinds: Sequence[tuple[int, int]], enough: int) -> Iterator[tuple[int, ...]]:
    """How many of each kind (weight, how many there are; heaviest first) reach `enough`, none of them in vain."""
    if sum(weight * there for weight, there in kinds) < enough:
        return
    (weight, there), *rest = kinds
    reaching = -(-enough // weight)
    if reaching <= there:
        yield (reaching,)
    for count in range(min(there, reaching - 1), -1, -1):
        for further in _choices(rest, enough - count * weight):
            yield (count, *further)
