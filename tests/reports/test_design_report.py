"""The design report: what a person reads, and what a program does."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from tests.model.clusters import three_nodes

from haplane.design.budget import Budget, budgets
from haplane.design.cuts import Left, survives
from haplane.design.derived import derived
from haplane.design.design import Design
from haplane.design.link import Link
from haplane.model.cluster import Failover, Loss, Machine, Role
from haplane.model.file import read_cluster
from haplane.reports import design as report
from haplane.reports import topology

DETECT = Link("detect", 0.25, 0.3125, "3 adverts", "3 * advert_int", "keepalived.vrrp_instance.advert_int")
TAKE_OVER = Link("take over", 0.003, 0.010, "an address is added")
NO_END = Link("no quorum", math.inf, math.inf, "2 of 3 must answer")
BUDGETS = (
    Budget("power-off", (DETECT, TAKE_OVER), "power-off of cp1", "new connections"),
    Budget("cut", (DETECT, TAKE_OVER), "the network of cp1 is cut", "new connections"),
    Budget("quorum", (NO_END,), "2 of 3 members are lost", "writes"),
    Budget("slow", (Link("detect", 17.0, 23.8, "a lease"),), "a controller dies", "controllers"),
)


def printed(
    design: Design,
    shown: tuple[Budget, ...] = BUDGETS,
    *,
    because: dict[str, str] | None = None,
    left: Left | None = None,
) -> str:
    out = io.StringIO()
    report.show(design, shown, because=because, left=left, console=Console(file=out, width=80))
    return out.getvalue()


def squeezed(text: str) -> str:
    """Without line breaks and runs of spaces: where a line is broken does not matter."""
    return " ".join(text.split())


def as_json(design: Design, **more: Any) -> Any:
    return json.loads(json.dumps(report.as_json(design, BUDGETS, **more), allow_nan=False))


def numbered(count: int) -> Design:
    machine = three_nodes().machines["cp1"]
    machines: dict[str, Machine] = {f"cp{i}": replace(machine, name=f"cp{i}") for i in range(1, count + 1)}
    return Design(replace(three_nodes(), machines=machines))


# ---- terminal ----


def test_the_report_begins_with_the_picture_and_fits_a_terminal() -> None:
    design = Design(three_nodes())
    text = printed(design, budgets(design), left=survives(design, ["cp1"]))
    assert text.startswith(topology.text(design).rstrip("\n"))
    assert max(map(len, text.splitlines())) <= 80


def test_each_value_stands_with_its_reason_and_its_key() -> None:
    text = squeezed(printed(Design(three_nodes())))
    assert "keepalived, vrrp_instance override with keepalived.vrrp_instance.NAME" in text
    assert "advert_int 0.1 the VIP moves after 3 of them and the skew" in text
    assert "[endpoint.virtual_router_id]" in text
    assert "keepalived on cp2" in text


def test_a_value_of_the_file_stands_with_its_place() -> None:
    text = (
        "name: prod\nkubernetes: {version: 1.35.4}\nendpoint:\n  vip: 192.0.2.100/24\n  port: 9443\n"
        "machines: {cp1: {address: 192.0.2.11}}\n"
    )
    design = Design(read_cluster(text, file="cluster.yaml", folder=Path("/")))
    assert "endpoint port 9443 as the file says (cluster.yaml:5:3)" in squeezed(printed(design))


def test_a_solved_timer_stands_with_the_solvers_reason() -> None:
    text = squeezed(printed(Design(three_nodes()), because={"advert_ms": "the target is 500 ms"}))
    assert "advert_int 0.1 the target is 500 ms" in text


def test_values_of_very_many_machines_are_left_to_json() -> None:
    design = numbered(12)
    text = printed(design)
    assert "keepalived on cp9" in text
    assert "keepalived on cp10" not in text
    assert "and the values of 3 more machines: see --json" in text
    assert {row["subject"] for row in as_json(design)["derived"]} >= {f"keepalived on cp{i}" for i in range(1, 13)}


def test_a_budget_is_the_sum_of_its_links_and_repeats_no_reason() -> None:
    text = squeezed(printed(Design(three_nodes())))
    assert "power-off of cp1 253 ms 322 ms new connections detect 250 ms 312 ms 3 adverts" in text
    assert "detect, take over 253 ms 322 ms as above" in text
    assert text.count("an address is added") == 1


def test_an_outage_without_an_end_says_so() -> None:
    text = squeezed(printed(Design(three_nodes())))
    assert "2 of 3 members are lost no end no end writes" in text
    assert "a controller dies 17.0 s 23.8 s" in text


def test_cut_sets_are_told_together_for_reads_and_writes() -> None:
    text = printed(Design(three_nodes()))
    assert "reads and writes stop when 2 machines are lost, at the least" in text
    assert "any 2 of cp1, cp2, cp3: etcd loses its quorum of 2 of 3" in text
    assert "3 minimal sets" in text
    assert "cached reads stop when 3 machines are lost, at the least" in text
    assert "failover.survive: machine is kept" in text


def test_a_broken_promise_says_who_breaks_it() -> None:
    text = squeezed(printed(numbered(2)))
    assert "reads and writes stop when 1 machine is lost, at the least" in text
    assert "is not kept: losing the machine cp1 or cp2 alone stops writes" in text


def test_zones_that_hold_nothing_of_it_do_not_stop_it() -> None:
    cluster = three_nodes()
    worker = replace(cluster.machines["cp1"], name="w1", roles=frozenset({Role.WORKER}), zone="a")
    text = printed(Design(replace(cluster, machines={**cluster.machines, "w1": worker})))
    assert "no loss of zones stops reads, cached reads and writes" in text


def test_a_number_that_nobody_can_read_is_rounded() -> None:
    # 100 over 50 is 1.009 * 10^29.
    assert "about 10^29 minimal sets" in printed(numbered(100), ())


def test_what_if_says_what_goes_on_and_why_the_rest_stops() -> None:
    design = Design(three_nodes())
    gone = squeezed(printed(design, left=survives(design, ["cp1", "cp2"])))
    assert "Without cp1, cp2 reads stop cached reads go on writes stop" in gone
    assert "etcd members: 1 of 3 left, 2 needed: etcd loses its quorum of 2 of 3" in gone
    one = squeezed(printed(design, left=survives(design, ["cp1"])))
    assert "the next may be one too many: writes stop without any 1 of cp2, cp3" in one
    none = squeezed(printed(design, left=survives(design, [])))
    assert "Without nothing" in none
    assert "1 more may be lost, whichever they are" in none


def test_without_colour_nothing_but_text_is_printed() -> None:
    assert "\x1b" not in printed(Design(three_nodes()))


# ---- JSON ----


def test_json_has_every_derived_value() -> None:
    design = Design(three_nodes())
    found = as_json(design)
    assert (found["version"], found["cluster"], found["endpoint"]) == (1, "prod", "192.0.2.100:8443")
    assert [(one["subject"], one["name"], one["value"]) for one in found["derived"]] == [
        (row.subject, row.name, row.value) for row in derived(design)
    ]
    router_id = next(one for one in found["derived"] if one["name"] == "virtual_router_id")
    assert (router_id["override"], router_id["given"]) == ("endpoint.virtual_router_id", None)


def test_json_has_budgets_in_seconds_and_null_where_there_is_no_end() -> None:
    power_off, _, quorum, _ = as_json(Design(three_nodes()))["budgets"]
    assert (power_off["fault"], power_off["typical_s"], power_off["worst_s"]) == ("power-off", 0.253, 0.3225)
    assert power_off["links"][0] == {
        "name": "detect",
        "typical_s": 0.25,
        "worst_s": 0.3125,
        "because": "3 adverts",
        "formula": "3 * advert_int",
        "setting": "keepalived.vrrp_instance.advert_int",
    }
    assert (quorum["typical_s"], quorum["worst_s"]) == (None, None)


def test_json_has_cuts_by_service() -> None:
    writes = next(one for one in as_json(Design(three_nodes()))["cuts"] if one["service"] == "writes")
    assert writes == {
        "service": "writes",
        "of": "machine",
        "smallest": 2,
        "number": 3,
        "complete": True,
        "cuts": [
            {
                "size": 2,
                "number": 3,
                "any_of": [{"count": 2, "among": ["cp1", "cp2", "cp3"]}],
                "because": "etcd loses its quorum of 2 of 3",
            }
        ],
    }


def test_json_has_the_promise_and_the_answer_to_what_if() -> None:
    cluster = replace(three_nodes(), failover=Failover(survive=Loss.ZONE))
    found = as_json(Design(cluster), left=survives(Design(cluster), ["cp1", "cp3"]))
    assert found["promise"]["survive"] == "zone"
    assert found["promise"]["broken"].startswith("no zone is known of cp1, cp2, cp3")
    assert {key: found["what_if"][key] for key in ("lost", "reads", "cached_reads", "writes", "spare", "next")} == {
        "lost": ["cp1", "cp3"],
        "reads": False,
        "cached_reads": True,
        "writes": False,
        "spare": 0,
        "next": [],
    }
    assert as_json(Design(cluster))["what_if"] is None
