"""A picture of a cluster: from clients over the endpoint and the balancers to apiservers and etcd; as text and as SVG.

Both are drawn from the same `Picture`: a chain of boxes, and below it tiers of machines, by zone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from haplane.components import etcd, keepalived
from haplane.components.balancer import balancer_of
from haplane.design.design import Design
from haplane.model.cluster import APISERVER_PORT, BalancerRole, Cluster, EndpointOwner, Machine, Role
from haplane.reports.markup import xml

WIDTH = 80  # columns
MOST = 9  # machines of a tier that are drawn one by one; more are drawn by zone
NAMED = 6  # workers, clients and zones that are named; more are counted

KEEPALIVED, APISERVER, ETCD = "keepalived", "apiserver", "etcd"


@dataclass(frozen=True)
class Box:
    """title stands out; lines below it."""

    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Boxes side by side. zone: where they all are, empty if they are in none."""

    zone: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Tier:
    """Machines that do the same. arrow: what is said of the way to them from above; None: there is none."""

    arrow: str | None
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Picture:
    """tiers from clients down; notes: what an arrow cannot say."""

    title: str
    tiers: tuple[Tier, ...]
    notes: tuple[str, ...]


def picture(design: Design) -> Picture:
    cluster = design.cluster
    balancers = {one.name for one in cluster.balancers}
    apiservers = [one for one in cluster.control_plane if one.name not in balancers]
    drawn = balancers | {one.name for one in cluster.control_plane}
    members = [one for one in cluster.etcd_members if one.name not in drawn]
    machines = (
        (_to_balancers(design), cluster.balancers),
        (f"each to every apiserver that {_is_used(cluster)}", apiservers),
        ("each to any etcd member", members),
    )
    return Picture(
        title=f"{cluster.name}: Kubernetes {cluster.kubernetes.version}",
        tiers=(
            *_chain(cluster),
            *(Tier(arrow, _groups(design, tier)) for arrow, tier in machines if tier),
            *_workers(cluster),
        ),
        notes=tuple(_notes(cluster)),
    )


# ---- what is in it ----


def _chain(cluster: Cluster) -> Iterator[Tier]:
    """Clients, the load balancer outside if there is one, the endpoint."""
    endpoint = cluster.endpoint
    clients = [one.name for one in cluster.with_role(Role.CLIENT)]
    yield _alone(None, Box("clients", (f"among them {_named(clients)}",) if clients else ()))
    if endpoint.outside:
        yield _alone("", Box(f"load balancer outside: {endpoint.outside}", ("yours; forwards to the endpoint",)))
    addresses = " and ".join(str(vip.ip) for vip in endpoint.vips)
    is_ours = endpoint.by is EndpointOwner.KEEPALIVED
    kind = "VIP" if is_ours else "load balancer of yours at"
    yield _alone("", Box(f"{kind} {addresses}", (f"https://{_url_host(endpoint.name)}:{endpoint.port}",)))


def _url_host(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _alone(arrow: str | None, box: Box) -> Tier:
    return Tier(arrow, (Group("", (box,)),))


def _to_balancers(design: Design) -> str:
    cluster = design.cluster
    if cluster.endpoint.by is EndpointOwner.EXTERNAL:
        return "to each of them"
    router_id = keepalived.virtual_router_id(cluster, design.router_ids_of_others)
    return f"held by {'one of them' if len(cluster.balancers) > 1 else 'the only one'} (VRRP {router_id})"


def _groups(design: Design, machines: Sequence[Machine]) -> tuple[Group, ...]:
    """By zone, in the file's order; machines without a zone are a group of their own."""
    zones: dict[str, list[Machine]] = {}
    for one in machines:
        zones.setdefault(one.zone or "", []).append(one)
    if len(machines) <= MOST:
        return tuple(Group(zone, tuple(_box(design, one) for one in each)) for zone, each in zones.items())
    if len(zones) <= MOST:
        return tuple(Group(zone, (_many(design, each),)) for zone, each in zones.items())
    return (Group("", (_many(design, machines, f"in {len(zones)} zones"),)),)


def _box(design: Design, machine: Machine) -> Box:
    details = {
        KEEPALIVED: lambda: str(keepalived.timing(design.view(machine.name)).priority),
        _balancer(design.cluster): lambda: f":{design.cluster.endpoint.port}",
        APISERVER: lambda: f":{APISERVER_PORT}",
        ETCD: lambda: f":{etcd.CLIENT_PORT}",
    }
    parts = (f"{part} {details[part]()}" for part in _runs(design.cluster, machine))
    return Box(machine.name, (*map(str, machine.addresses), *parts))


def _many(design: Design, machines: Sequence[Machine], where: str = "") -> Box:
    if len(machines) == 1:
        return _box(design, machines[0])
    names = f"{machines[0].name} … {machines[-1].name}"
    parts = dict.fromkeys(part for one in machines for part in _runs(design.cluster, one))
    return Box(f"{len(machines)} machines", tuple(filter(None, (names, where, *parts))))


def _runs(cluster: Cluster, machine: Machine) -> Iterator[str]:
    """What of the way from a client to etcd is on this machine."""
    if Role(cluster.balancer) in machine.roles:
        if cluster.endpoint.by is EndpointOwner.KEEPALIVED:
            yield KEEPALIVED
        if balancer := _balancer(cluster):
            yield balancer
    if Role.CONTROL_PLANE in machine.roles:
        yield APISERVER
    if machine in cluster.etcd_members:
        yield ETCD


def _balancer(cluster: Cluster) -> str:
    """What people call it; empty if there is none."""
    balancer = balancer_of(cluster)
    return balancer.title if balancer else ""


def _is_used(cluster: Cluster) -> str:
    """Which apiservers a balancer uses."""
    balancer = balancer_of(cluster)
    return "is ready" if balancer and balancer.knows_the_ready else "takes connections"


def _workers(cluster: Cluster) -> Iterator[Tier]:
    workers = [one for one in cluster.with_role(Role.WORKER) if Role.CONTROL_PLANE not in one.roles]
    if workers:
        count = f"{len(workers)} worker{'' if len(workers) == 1 else 's'}"
        zones: dict[str, list[str]] = {}
        for one in workers:
            zones.setdefault(one.zone or "", []).append(one.name)
        lines: tuple[str, ...]
        if len(workers) <= NAMED or set(zones) == {""}:
            lines = (_named([one.name for one in workers]),)
        elif len(zones) <= NAMED:
            lines = tuple(f"{zone or 'no zone'}: {len(names)}" for zone, names in zones.items())
        else:
            lines = (f"in {len(zones)} zones",)
        yield _alone(None, Box(count, (*lines, "over the endpoint")))


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= NAMED else f"{names[0]} … {names[-1]}"


def _notes(cluster: Cluster) -> Iterator[str]:
    if cluster.endpoint.by is EndpointOwner.KEEPALIVED:
        yield f"Adverts of VRRP are {cluster.endpoint.cast}; the number behind keepalived is its priority."
    if not _balancer(cluster):
        yield "No balancer: whoever asks the endpoint reaches one machine's own apiserver, and the others idle."
    elif cluster.balancer is BalancerRole.CONTROL_PLANE:
        yield f"{_balancer(cluster)} on each machine uses every apiserver that {_is_used(cluster)}, not only its own."
    members = len(cluster.etcd_members)
    writes = f"writes need {members // 2 + 1} of {members} members"
    if cluster.is_stacked:
        yield f"Each apiserver uses the etcd beside it; {writes}."
    else:
        yield f"Each apiserver uses any etcd member; {writes}."


# ---- where it stands: the same for text and SVG, in character cells ----


@dataclass(frozen=True)
class _Placed:
    """A box (box) or a zone's frame (zone) with its upper left corner."""

    x: int
    y: int
    width: int
    height: int
    box: Box | None = None
    zone: str = ""


@dataclass(frozen=True)
class _Arrow:
    """Two cells high."""

    x: int
    y: int
    label: str


@dataclass(frozen=True)
class _Layout:
    height: int
    placed: tuple[_Placed, ...]
    arrows: tuple[_Arrow, ...]


def _layout(tiers: Iterable[Tier]) -> _Layout:
    placed: list[_Placed] = []
    arrows: list[_Arrow] = []
    y = 0
    for tier in tiers:
        if tier.arrow is not None:
            arrows.append(_Arrow(WIDTH // 2, y, _cut(tier.arrow, WIDTH // 2 - 2)))
            y += 2
        elif y:
            y += 1
        for row in _rows(tier):
            placed += _place(row, _box_width(tier), y)
            y = max(one.y + one.height for one in placed)
    return _Layout(y, tuple(placed), tuple(arrows))


def _box_width(tier: Tier) -> int:
    boxes = [box for group in tier.groups for box in group.boxes]
    longest = max(len(line) for box in boxes for line in (box.title, *box.lines))
    headings = [len(group.zone) + len("zone ") + 2 for group in tier.groups]
    return min(WIDTH, max(longest + 4, *headings))


def _rows(tier: Tier) -> list[list[Group]]:
    """As many boxes side by side as there is room for, in rows of about the same length."""
    pairs = [(group.zone, box) for group in tier.groups for box in group.boxes]
    room = max(1, (WIDTH + 2) // (_box_width(tier) + 2))
    count = -(-len(pairs) // room)
    each = -(-len(pairs) // count)
    return [_grouped(pairs[start : start + each]) for start in range(0, len(pairs), each)]


def _grouped(pairs: Iterable[tuple[str, Box]]) -> list[Group]:
    zones: dict[str, list[Box]] = {}
    for zone, box in pairs:
        zones.setdefault(zone, []).append(box)
    return [Group(zone, tuple(boxes)) for zone, boxes in zones.items()]


def _place(row: Sequence[Group], width: int, y: int) -> Iterator[_Placed]:
    """In the middle; a line above for the names of zones where there are any."""
    boxes = [box for group in row for box in group.boxes]
    heading = 1 if any(group.zone for group in row) else 0
    height = max(len(box.lines) for box in boxes) + 3
    x = (WIDTH - len(boxes) * (width + 2) + 2) // 2
    for group in row:
        if group.zone:
            across = len(group.boxes) * (width + 2) - 2
            yield _Placed(x, y, across, height + 1, zone=_cut(f"zone {group.zone}", across))
        for box in group.boxes:
            cut = Box(_cut(box.title, width - 4), tuple(_cut(line, width - 4) for line in box.lines))
            yield _Placed(x, y + heading, width, height, box=cut)
            x += width + 2


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}…"


# ---- as text ----


def text(design: Design) -> str:
    """At most WIDTH columns, without colour; what is longer is cut."""
    drawn = picture(design)
    layout = _layout(drawn.tiers)
    canvas = [[" "] * WIDTH for _ in range(layout.height)]
    for arrow in layout.arrows:
        _write(canvas, arrow.x, arrow.y, f"│ {arrow.label}")
        _write(canvas, arrow.x, arrow.y + 1, "▼")
    for one in layout.placed:
        if one.box is None:
            _write(canvas, one.x, one.y, f"{one.zone} ".ljust(one.width, "┄")[: one.width])
            continue
        inside = one.width - 2
        lines = [one.box.title, *one.box.lines]
        lines += [""] * (one.height - 2 - len(lines))
        _write(canvas, one.x, one.y, f"┌{'─' * inside}┐")
        for number, line in enumerate(lines, start=1):
            _write(canvas, one.x, one.y + number, f"│ {line.ljust(inside - 2)} │")
        _write(canvas, one.x, one.y + one.height - 1, f"└{'─' * inside}┘")
    notes = (line for note in drawn.notes for line in textwrap.wrap(note, WIDTH))
    lines = [_cut(drawn.title, WIDTH), "", *("".join(row) for row in canvas), "", *notes]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _write(canvas: list[list[str]], x: int, y: int, line: str) -> None:
    canvas[y][x : x + len(line)] = line


# ---- as SVG ----

CELL = (8.0, 18.0)  # width and height of a character in pixels
MARGIN = 20.0

# Follows the reader's choice of a light or dark page, as far as the page around it lets an image know.
STYLE = """\
    svg { background: #ffffff; color: #1f2328; }
    text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: currentColor; }
    .title { font-weight: bold; }
    .quiet { fill: #59636e; }
    .box { fill: #f6f8fa; stroke: #59636e; }
    .zone { fill: none; stroke: #818b98; stroke-dasharray: 4 3; }
    .way { stroke: #59636e; stroke-width: 1.5; }
    .tip { fill: #59636e; }
    @media (prefers-color-scheme: dark) {
      svg { background: #0d1117; color: #f0f6fc; }
      .quiet { fill: #9198a1; }
      .box { fill: #151b23; stroke: #9198a1; }
      .zone { stroke: #656c76; }
      .way { stroke: #9198a1; }
      .tip { fill: #9198a1; }
    }
"""


def svg(design: Design) -> str:
    """One self-contained document: no script, nothing fetched; the same design gives the same bytes."""
    drawn = picture(design)
    layout = _layout(drawn.tiers)
    notes = [line for note in drawn.notes for line in textwrap.wrap(note, WIDTH)]
    below = layout.height + 3  # the title and a line above, a line below
    width, height = (2 * MARGIN + cells * size for cells, size in zip((WIDTH, below + len(notes)), CELL, strict=True))
    shapes = [
        _text(0, 0, drawn.title, "title"),
        *(_rectangle(one) for one in layout.placed if one.box is None),
        *(shape for arrow in layout.arrows for shape in _way(arrow)),
        *(shape for one in layout.placed if one.box for shape in _boxed(one, one.box)),
        *(_text(0, below + number, note, "quiet") for number, note in enumerate(notes)),
    ]
    body = "".join(f"  {shape}\n" for shape in shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title notes" width="{width:g}" '
        f'height="{height:g}" viewBox="0 0 {width:g} {height:g}">\n'
        f'  <title id="title">{xml(drawn.title)}</title>\n  <desc id="notes">{xml(" ".join(drawn.notes))}</desc>\n'
        f"  <style>\n{STYLE}  </style>\n{body}</svg>\n"
    )


def _boxed(one: _Placed, box: Box) -> Iterator[str]:
    yield _rectangle(one)
    yield _text(one.x + 2, one.y + 3, box.title, "title")
    yield from (_text(one.x + 2, one.y + 4 + number, line) for number, line in enumerate(box.lines))


def _rectangle(one: _Placed) -> str:
    """A zone's frame stands around its boxes; its name is in the line above them."""
    x, y = _pixels(one.x, one.y + 2)
    width, height = one.width * CELL[0], one.height * CELL[1]
    if one.box:
        return f'<rect class="box" x="{x:g}" y="{y + 4:g}" width="{width:g}" height="{height - 8:g}" rx="5"/>'
    frame = f'<rect class="zone" x="{x - 6:g}" y="{y:g}" width="{width + 12:g}" height="{height:g}" rx="7"/>'
    return frame + _text(one.x, one.y + 2, one.zone, "quiet")


def _way(arrow: _Arrow) -> Iterator[str]:
    x, y = _pixels(arrow.x, arrow.y + 2)
    end = y + 2 * CELL[1]
    yield f'<line class="way" x1="{x:g}" y1="{y - 2:g}" x2="{x:g}" y2="{end - 6:g}"/>'
    yield f'<path class="tip" d="M {x - 5:g} {end - 8:g} h 10 l -5 9 z"/>'
    if arrow.label:
        yield _text(arrow.x + 2, arrow.y + 2.5, arrow.label, "quiet")


def _text(x: float, y: float, line: str, kind: str = "") -> str:
    """y: of the line whose text it is."""
    left, top = _pixels(x, y)
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{left:g}" y="{top + 13:g}">{xml(line)}</text>'


def _pixels(x: float, y: float) -> tuple[float, float]:
    return MARGIN + x * CELL[0], MARGIN + y * CELL[1]
