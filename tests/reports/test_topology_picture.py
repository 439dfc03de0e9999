"""The picture of a topology: who stands where, in 80 columns, and as an image that cannot do harm."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.model.clusters import balanced_by, three_nodes

from haplane.design.design import Design
from haplane.model.cluster import BalancerProgram, BalancerRole, EndpointOwner, Etcd, EtcdTopology, Machine, Role, Ssh
from haplane.reports import topology

GOLDEN = Path(__file__).parent / "golden"
SVG = "{http://www.w3.org/2000/svg}"


def machines(prefix: str, count: int, role: Role, zones: str = "") -> dict[str, Machine]:
    """zones: a letter per machine; repeated if there are more machines."""
    return {
        f"{prefix}{i}": Machine(
            f"{prefix}{i}",
            (ip_address(0x0A000000 + 65536 * (ord(prefix[0]) - 96) + i),),
            frozenset({role}),
            Ssh(),
            zone=zones[(i - 1) % len(zones)] if zones else None,
        )
        for i in range(1, count + 1)
    }


def dedicated() -> Design:
    """Two balancers, three apiservers, five etcd members, in racks, behind a load balancer outside."""
    cluster = three_nodes()
    parts = {
        **machines("lb", 2, Role.BALANCER, "ab"),
        **machines("cp", 3, Role.CONTROL_PLANE, "aab"),
        **machines("etcd", 5, Role.ETCD, "abc"),
    }
    return Design(
        replace(
            cluster,
            machines=parts,
            balancer=BalancerRole.BALANCER,
            etcd=Etcd(EtcdTopology.EXTERNAL),
            endpoint=replace(cluster.endpoint, host="api.prod.example", outside=ip_address("203.0.113.7"), port=6443),
        )
    )


def with_workers(count: int, zones: str = "") -> Design:
    cluster = three_nodes()
    return Design(replace(cluster, machines={**cluster.machines, **machines("w", count, Role.WORKER, zones)}))


def below(text: str, *parts: str) -> bool:
    """Each part is on a line below the one before."""
    lines = text.splitlines()
    found = [next((number for number, line in enumerate(lines) if part in line), -1) for part in parts]
    return -1 not in found and found == sorted(set(found))


def test_three_nodes_look_as_they_always_did() -> None:
    assert topology.text(Design(three_nodes())) == (GOLDEN / "three-nodes.txt").read_text()
    assert topology.svg(Design(three_nodes())) == (GOLDEN / "three-nodes.svg").read_text()


def test_the_way_goes_down_from_clients_to_etcd() -> None:
    way = ("clients", "outside: 203.0.113.7", "VIP 192.0.2.100", "api.prod.example:6443", "lb1", "cp1", "etcd1")
    assert below(topology.text(dedicated()), *way)


def test_a_machine_is_drawn_once_with_all_that_it_runs() -> None:
    text = topology.text(Design(three_nodes()))
    assert len(re.findall(r"\bcp1\b", text)) == 1
    assert below(text, "cp1", "192.0.2.11", "keepalived 250", "HAProxy :8443", "apiserver :6443", "etcd :2379")


def test_dedicated_machines_run_only_their_part() -> None:
    (balancers, apiservers, members) = [
        [box for group in tier.groups for box in group.boxes] for tier in topology.picture(dedicated()).tiers[3:]
    ]
    assert [box.title for box in balancers] == ["lb1", "lb2"]
    assert balancers[0].lines[1:] == ("keepalived 250", "HAProxy :6443")
    assert apiservers[0].lines[1:] == ("apiserver :6443",)
    assert members[0].lines[1:] == ("etcd :2379",)
    assert "writes need 3 of 5 members" in topology.text(dedicated())


def test_machines_stand_in_their_zones() -> None:
    tier = topology.picture(dedicated()).tiers[-1]
    assert [(group.zone, [box.title for box in group.boxes]) for group in tier.groups] == [
        ("a", ["etcd1", "etcd4"]),
        ("b", ["etcd2", "etcd5"]),
        ("c", ["etcd3"]),
    ]
    heading = next(line for line in topology.text(dedicated()).splitlines() if "zone c" in line)
    assert heading.index("zone a") < heading.index("zone b") < heading.index("zone c")


def test_an_address_of_somebody_else_has_no_keepalived() -> None:
    cluster = three_nodes()
    text = topology.text(Design(replace(cluster, endpoint=replace(cluster.endpoint, by=EndpointOwner.EXTERNAL))))
    assert "load balancer of yours at 192.0.2.100" in text
    assert "keepalived" not in text


def test_each_machine_shows_which_program_balances_there() -> None:
    text = topology.text(Design(balanced_by(BalancerProgram.NGINX)))
    assert below(text, "cp1", "192.0.2.11", "keepalived 250", "nginx :8443", "apiserver :6443", "etcd :2379")
    assert "every apiserver that takes connections" in text
    assert "HAProxy" not in text


def test_without_a_balancer_the_vip_leads_to_an_apiserver() -> None:
    text = topology.text(Design(balanced_by(BalancerProgram.NONE)))
    assert below(text, "192.0.2.100:6443", "cp1", "192.0.2.11", "keepalived 250", "apiserver :6443", "No balancer")
    assert "HAProxy" not in text and "nginx" not in text


def test_many_workers_are_counted_by_zone() -> None:
    text = topology.text(with_workers(995, "abc"))
    assert below(text, "995 workers", "a: 332", "b: 332", "c: 331")
    assert "w500" not in text
    assert below(topology.text(with_workers(2)), "2 workers", "w1, w2")


def test_many_control_plane_machines_are_drawn_by_zone() -> None:
    cluster = replace(three_nodes(), machines=machines("cp", 1000, Role.CONTROL_PLANE, "ab"))
    text = topology.text(Design(cluster))
    assert text.count("500 machines") == 2
    assert "cp1 … cp999" in text
    assert "writes need 501 of 1000 members" in text


@pytest.mark.parametrize("count", range(1, 12))
def test_no_line_is_wider_than_a_terminal_and_no_box_is_torn(count: int) -> None:
    cluster = replace(three_nodes(), machines=machines("cp", count, Role.CONTROL_PLANE, "abc"))
    text = topology.text(Design(cluster))
    lines = text.splitlines()
    assert max(map(len, lines)) <= topology.WIDTH
    assert text.count("┌") == text.count("┐") == text.count("└") == text.count("┘")
    assert all(len(re.findall("[│]", line)) != 1 or line.index("│") == topology.WIDTH // 2 for line in lines)


def test_a_very_long_name_is_cut() -> None:
    name = "m" * 120
    cluster = replace(three_nodes(), machines={name: replace(three_nodes().machines["cp1"], name=name)})
    text = topology.text(Design(cluster))
    assert f"{'m' * 75}…" in text
    assert max(map(len, text.splitlines())) == topology.WIDTH


# ---- SVG ----


def test_the_image_says_what_the_text_says() -> None:
    root = ElementTree.fromstring(topology.svg(dedicated()))
    written = [each.text for each in root.iter(f"{SVG}text")]
    for name in ("clients", "lb1", "lb2", "cp3", "etcd5", "zone c", "https://api.prod.example:6443"):
        assert name in written
    boxes = [each for each in root.iter(f"{SVG}rect") if each.get("class") == "box"]
    frames = [each for each in root.iter(f"{SVG}rect") if each.get("class") == "zone"]
    assert (len(boxes), len(frames)) == (3 + 2 + 3 + 5, 2 + 2 + 3)


def test_everything_is_inside_the_image() -> None:
    root = ElementTree.fromstring(topology.svg(dedicated()))
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for each in root.iter(f"{SVG}rect"):
        x, y, across, down = (float(each.get(name, "nan")) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert x + across <= width
        assert y >= 0
        assert y + down <= height
    assert all(float(each.get("y", "nan")) <= height for each in root.iter(f"{SVG}text"))


def test_the_image_needs_nothing_from_elsewhere_and_suits_dark_pages() -> None:
    image = topology.svg(dedicated())
    assert {each.tag.removeprefix(SVG) for each in ElementTree.fromstring(image).iter()} == {
        "svg", "title", "desc", "style", "text", "rect", "line", "path"
    }  # fmt: skip
    assert not re.search(r"\bon\w+=|href|url\(|@import", image)
    assert "prefers-color-scheme: dark" in image


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_whatever_a_name_holds_the_image_stays_valid_xml(name: str, zone: str) -> None:
    cluster = three_nodes()
    machine = replace(cluster.machines["cp1"], name=name, zone=zone)
    image = topology.svg(Design(replace(cluster, name=f"<script>{name}", machines={name: machine})))
    root = ElementTree.fromstring(image.encode(errors="surrogatepass"))
    assert not list(root.iter(f"{SVG}script"))


def test_the_same_design_gives_the_same_bytes() -> None:
    assert topology.svg(dedicated()) == topology.svg(dedicated())
    assert topology.text(dedicated()) == topology.text(dedicated())
