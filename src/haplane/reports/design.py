"""A design for a terminal and as JSON: its picture, what was derived and why, the budgets, and what stops it."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from haplane.design.budget import Budget
from haplane.design.cuts import Cut, Cuts, Left, minimal_cuts, promise_broken
from haplane.design.derived import Derived, derived
from haplane.design.design import Design
from haplane.design.link import Link
from haplane.model.cluster import Loss, Value, Where
from haplane.reports import topology
from haplane.reports.budget import budget_as_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

VERSION = 1
MACHINES = 9  # whose own values are shown on a terminal; JSON has all
CUTS = 10  # that are shown on a terminal
VALUE = 200  # characters of a value on a terminal


def show(
    design: Design,
    budgets: Sequence[Budget],
    *,
    because: Mapping[str, str] | None = None,
    left: Left | None = None,
    console: Console | None = None,
) -> None:
    """Print everything. because: see `derived`. left: what a `--what-if` left, shown at the end."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    # Not wrapped: boxes that are torn apart say nothing.
    console.print(Text(topology.text(design)), no_wrap=True, overflow="crop", crop=True)
    parts = [
        _heading("What was derived, and why"),
        *_derived_part(derived(design, because)),
        _heading("How long a fault may last"),
        _budget_table(budgets),
        _heading("What stops it"),
        *_cuts_part(design),
    ]
    if left is not None:
        parts += [_heading(f"Without {', '.join(left.lost) or 'nothing'}"), *_left_part(left)]
    for part in parts:
        console.print(part)


def _heading(line: str) -> Text:
    from rich.text import Text

    return Text(f"{line}\n", "bold underline")


# ---- what was derived ----


def _derived_part(rows: Sequence[Derived]) -> Iterator[RenderableType]:
    from rich.text import Text

    for (subject, section), each in _grouped(rows).items():
        key = _common_key(each)
        title = Text.assemble((f"{subject}{f', {section}' if section else ''}", "bold cyan"))
        if key:
            title.append(f"  override with {key}.NAME", "dim")
        yield title
        yield _values(each, key)
    hidden = _machines(rows)[MACHINES:]
    if hidden:
        yield Text(f"and the values of {len(hidden)} more machines: see --json\n", "dim")


def _grouped(rows: Iterable[Derived]) -> dict[tuple[str, str], list[Derived]]:
    """(subject, section) -> rows: of each component what all machines share, then what is one machine's own."""
    components: dict[str, list[Derived]] = {}
    for row in rows:
        components.setdefault(row.subject.partition(" on ")[0], []).append(row)
    hidden = {*_machines([row for each in components.values() for row in each])[MACHINES:]}
    groups: dict[tuple[str, str], list[Derived]] = {}
    for each in components.values():
        for row in sorted(each, key=lambda one: " on " in one.subject):
            is_own = " on " in row.subject
            if row.subject.partition(" on ")[2] not in hidden:
                groups.setdefault((row.subject, "" if is_own else row.section), []).append(row)
    return groups


def _machines(rows: Iterable[Derived]) -> list[str]:
    return [*dict.fromkeys(row.subject.partition(" on ")[2] for row in rows if " on " in row.subject)]


def _common_key(rows: Sequence[Derived]) -> str:
    """What stands before the names in most of the keys that override these values."""
    keys = [row.override.removesuffix(f".{row.name}") for row in rows if row.override.endswith(f".{row.name}")]
    return max(dict.fromkeys(keys), key=keys.count, default="")


def _values(rows: Sequence[Derived], key: str) -> RenderableType:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(ratio=5, overflow="fold")
    table.add_column(ratio=6, overflow="fold")
    table.expand = True
    for row in rows:
        value = row.value if len(row.value) <= VALUE else f"{row.value[:VALUE]}…"
        why = Text(row.because)
        if row.given:
            why.append(f" ({row.given})", "yellow")
        elif row.override and row.override != f"{key}.{row.name}":
            why.append(f"{' ' if row.because else ''}[{row.override}]", "dim")
        table.add_row(Text.assemble((row.name, "green"), f" {value}"), why)
    return Padding(table, (0, 0, 1, 2))


# ---- budgets ----


def _budget_table(budgets: Sequence[Budget]) -> Table:
    """A reason is given where it comes first: many faults go through the same links."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("fault, and what it goes through", ratio=4)
    table.add_column("typical", justify="right", no_wrap=True)
    table.add_column("worst", justify="right", no_wrap=True)
    table.add_column("because", ratio=5)
    told: set[Link] = set()
    for budget in budgets:
        title = Text(budget.sentence or budget.fault)
        table.add_row(title, _time(budget.typical_s), _time(budget.worst_s), Text(budget.affects), style="bold")
        for name, typical_s, worst_s, why in _link_rows(budget.links, told):
            table.add_row(Text(f"  {name}"), _time(typical_s), _time(worst_s), Text(why), style="dim")
        told.update(budget.links)
        table.add_section()
    return table


def _link_rows(links: Iterable[Link], told: Container[Link]) -> Iterator[tuple[str, float, float, str]]:
    """Name, typical, worst, reason; links that were told before and follow each other are one row."""
    for is_told, run in groupby(links, key=lambda link: link in told):
        each = [*run]
        if is_told:
            names = ", ".join(link.name for link in each)
            yield names, sum(link.typical_s for link in each), sum(link.worst_s for link in each), "as above"
        else:
            yield from ((link.name, link.typical_s, link.worst_s, link.because) for link in each)


def _time(seconds: float) -> str:
    if math.isinf(seconds):
        return "no end"
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


# ---- what stops it ----


def _cuts_part(design: Design) -> Iterator[RenderableType]:
    from rich.text import Text

    for services, cuts in _together(minimal_cuts(design)):
        yield from _cuts_lines(services, cuts)
    broken = promise_broken(design)
    promise = f"failover.survive: {design.cluster.failover.survive}"
    if broken:
        yield Text(f"{promise} is not kept: {broken}\n", "bold red")
    else:
        yield Text(f"{promise} is kept: the loss of any one leaves reads and writes\n", "green")


def _together(all_cuts: Iterable[Cuts]) -> list[tuple[str, Cuts]]:
    """Services that the same sets stop are told together."""
    groups: dict[tuple[Loss, int, tuple[Cut, ...]], list[Cuts]] = {}
    for one in all_cuts:
        groups.setdefault((one.of, one.number, one.cuts), []).append(one)
    return [(_and([one.service for one in each]), each[0]) for each in groups.values()]


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _cuts_lines(services: str, cuts: Cuts) -> Iterator[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    if cuts.smallest is None:
        yield Text(f"no loss of {cuts.of}s stops {services}\n")
        return
    lost = f"1 {cuts.of} is lost" if cuts.smallest == 1 else f"{cuts.smallest} {cuts.of}s are lost"
    sets = f"{_number(cuts.number)} minimal set{'' if cuts.number == 1 else 's'}"
    yield Text.assemble((services, "bold"), f" stop when {lost}, at the least")
    for cut in cuts.cuts[:CUTS]:
        yield Padding(Text(f"{cut}: {cut.because}"), (0, 0, 0, 4))
    yield Padding(Text(sets, "dim"), (0, 0, 1, 4))


def _number(number: int) -> str:
    return f"{number:,}" if number < 10**12 else f"about 10^{len(str(number)) - 1}"


def _left_part(left: Left) -> Iterator[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    for name, works in (("reads", left.reads), ("cached reads", left.cached_reads), ("writes", left.writes)):
        yield Text.assemble(f"{name:<14}", ("go on", "green") if works else ("stop", "bold red"))
    for sentence in left.because:
        yield Padding(Text(sentence), (0, 0, 0, 4))
    if left.writes:
        more = f"{left.spare} more may be lost, whichever they are" if left.spare else "the next may be one too many"
        yield Text(f"\n{more}: writes stop without {'; or without '.join(map(str, left.next[:CUTS]))}")


# ---- JSON ----


def as_json(
    design: Design,
    budgets: Sequence[Budget],
    *,
    because: Mapping[str, str] | None = None,
    left: Left | None = None,
) -> dict[str, Value]:
    """Version 1: {version, cluster, endpoint, derived, budgets, cuts, promise: {survive, broken}, what_if}.

    Times are in seconds. null: a time without an end, a place or a reason that there is not, no what_if asked for.
    """
    cluster = design.cluster
    return {
        "version": VERSION,
        "cluster": cluster.name,
        "endpoint": f"{cluster.endpoint.name}:{cluster.endpoint.port}",
        "derived": [_derived_json(row) for row in derived(design, because)],
        "budgets": [budget_as_json(budget) for budget in budgets],
        "cuts": [_cuts_json(cuts) for cuts in minimal_cuts(design)],
        "promise": {"survive": cluster.failover.survive.value, "broken": promise_broken(design)},
        "what_if": None if left is None else _left_json(left),
    }


def _derived_json(row: Derived) -> Value:
    return {
        "subject": row.subject,
        "section": row.section or None,
        "name": row.name,
        "value": row.value,
        "because": row.because or None,
        "override": row.override or None,
        "given": _where_json(row.given),
    }


def _where_json(where: Where | None) -> Value:
    if where is None:
        return None
    return {"file": where.file, "line": where.line, "column": where.column, "key": where.key}


def _cuts_json(cuts: Cuts) -> Value:
    """number is exact and may be larger than what some readers of JSON can hold."""
    return {
        "service": cuts.service.value,
        "of": cuts.of.value,
        "smallest": cuts.smallest,
        "number": cuts.number,
        "complete": cuts.is_complete,
        "cuts": [_cut_json(cut) for cut in cuts.cuts],
    }


def _cut_json(cut: Cut) -> Value:
    return {
        "size": cut.size,
        "number": cut.number,
        "any_of": [{"count": part.count, "among": [*part.among]} for part in cut.parts],
        "because": cut.because,
    }


def _left_json(left: Left) -> Value:
    return {
        "lost": [*left.lost],
        "reads": left.reads,
        "cached_reads": left.cached_reads,
        "writes": left.writes,
        "because": [*left.because],
        "spare": left.spare,
        "next": [_cut_json(cut) for cut in left.next],
    }
