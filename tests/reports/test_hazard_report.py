"""Findings as messages, JSON and SARIF; the catalogue as a list."""

from __future__ import annotations

import io
import json
from pathlib import PurePosixPath
from typing import Any

import pytest
from rich.console import Console

from haplane.design.hazards.catalogue import CATALOGUE
from haplane.design.hazards.finding import Finding, Hazard, Moment, Severity
from haplane.model.cluster import Where
from haplane.reports import hazards

VIP = Finding(
    "vip-outside-subnet",
    Severity.ERROR,
    "192.0.2.100 is in no subnet of cp2 [eth0]",
    "choose an address of 198.51.100.0/24",
    Where("cluster.yaml", 3, 12, "endpoint.vip"),
)
TWO = Finding(
    "topo-too-few-nodes",
    Severity.WARNING,
    "2 control-plane machines",
    "use 3",
    Where("cluster.yaml", 4, 1, "machines"),
    accepted="a test cluster",
)
DISK = Finding("etcd-slow-disk", Severity.ADVICE, "fsync takes 12 ms", "use an SSD", machine="cp3")
CLOCK = Finding("host-clock", Severity.WARNING, "0.9 s off", "run chrony", Where("cluster.yaml", 9, 3), machine="cp1")
ALL = (TWO, DISK, CLOCK, VIP)

RULES = {
    "vip-outside-subnet": Hazard(
        "vip-outside-subnet",
        frozenset({Moment.STATUS, Moment.LINT}),
        "The VIP is in no subnet.",
        "Nobody finds it.",
        "Choose another.",
        "RFC 826",
    ),
    "topo-too-few-nodes": Hazard(
        "topo-too-few-nodes", frozenset({Moment.LINT}), "Two.", "Both.", "Three.", "kadm#2188"
    ),
    "etcd-slow-disk": Hazard("etcd-slow-disk", frozenset({Moment.PREFLIGHT}), "Slow.", "Lost.", "SSD.", "etcd FAQ"),
}


def printed(findings: tuple[Finding, ...], width: int = 80) -> str:
    out = io.StringIO()
    hazards.show(findings, console=Console(file=out, width=width))
    return out.getvalue()


def test_findings_look_like_a_compilers_messages_in_the_files_order() -> None:
    assert printed(ALL) == (
        "cluster.yaml:3:12: error[vip-outside-subnet]: 192.0.2.100 is in no subnet of cp2 [eth0]\n"
        "    cure: choose an address of 198.51.100.0/24\n"
        "cluster.yaml:9:3: warning[host-clock]: 0.9 s off (on cp1)\n"
        "    cure: run chrony\n"
        "cp3: advice[etcd-slow-disk]: fsync takes 12 ms\n"
        "    cure: use an SSD\n"
        "cluster.yaml:4:1: accepted warning[topo-too-few-nodes]: 2 control-plane machines\n"
        "    reason: a test cluster\n"
        "1 error, 1 warning, 1 advice; 1 accepted\n"
    )


def test_a_message_is_not_wrapped_so_that_it_can_be_searched_for() -> None:
    assert printed(ALL, width=20) == printed(ALL, width=200)


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ((), "no hazard found"),
        ((VIP, VIP), "2 errors"),
        ((DISK, DISK), "2 advice"),
        ((TWO,), "no hazard found; 1 accepted"),
    ],
)
def test_the_summary_counts_what_is_open(findings: tuple[Finding, ...], expected: str) -> None:
    assert hazards.summary(findings) == expected
    assert printed(findings).splitlines()[-1] == expected


def test_json_has_every_finding_with_its_place() -> None:
    found = json.loads(json.dumps(hazards.as_json(ALL)))
    assert found["version"] == 1
    assert found["counts"] == {"error": 1, "warning": 1, "advice": 1, "accepted": 1}
    assert [one["hazard"] for one in found["findings"]] == [
        "vip-outside-subnet",
        "topo-too-few-nodes",
        "host-clock",
        "etcd-slow-disk",
    ]
    first, accepted, _, on_machine = found["findings"]
    assert first["where"] == {"file": "cluster.yaml", "line": 3, "column": 12, "key": "endpoint.vip"}
    assert (first["severity"], first["machine"], first["accepted"]) == ("error", None, None)
    assert accepted["accepted"] == "a test cluster"
    assert (on_machine["where"], on_machine["machine"]) == (None, "cp3")


# ---- SARIF ----


def run_of(findings: tuple[Finding, ...], root: PurePosixPath | None = None) -> Any:
    log = json.loads(json.dumps(hazards.as_sarif(findings, RULES, root=root)))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    return run


def test_each_result_points_to_its_rule() -> None:
    run = run_of(ALL)
    rules = run["tool"]["driver"]["rules"]
    assert [rules[one["ruleIndex"]]["id"] for one in run["results"]] == [one["ruleId"] for one in run["results"]]
    # host-clock is not in this catalogue: it has a rule all the same.
    assert [rule["id"] for rule in rules] == [*RULES, "host-clock"]
    assert rules[0]["shortDescription"]["text"] == "The VIP is in no subnet."
    assert rules[0]["help"]["text"] == "Nobody finds it.\n\nCure: Choose another.\n\nSource: RFC 826"
    assert rules[0]["properties"]["tags"] == ["availability", "lint", "status"]


def test_severities_become_levels() -> None:
    assert {one["ruleId"]: one["level"] for one in run_of(ALL)["results"]} == {
        "vip-outside-subnet": "error",
        "topo-too-few-nodes": "warning",
        "host-clock": "warning",
        "etcd-slow-disk": "note",
    }


def test_a_result_names_its_place_in_the_file_or_its_machine() -> None:
    first, *_, last = run_of(ALL)["results"]
    (place,) = first["locations"]
    assert place["physicalLocation"] == {
        "artifactLocation": {"uri": "cluster.yaml"},
        "region": {"startLine": 3, "startColumn": 12},
    }
    assert place["logicalLocations"] == [{"fullyQualifiedName": "endpoint.vip", "kind": "member"}]
    assert last["locations"] == [{"logicalLocations": [{"fullyQualifiedName": "cp3", "kind": "resource"}]}]


def test_what_is_accepted_is_suppressed_with_its_reason_and_nothing_else_is() -> None:
    suppressed = {one["ruleId"]: one["suppressions"] for one in run_of(ALL)["results"]}
    assert suppressed.pop("topo-too-few-nodes") == [
        {"kind": "inSource", "status": "accepted", "justification": "a test cluster"}
    ]
    assert set(map(tuple, suppressed.values())) == {()}


@pytest.mark.parametrize(
    ("file", "root", "uri"),
    [
        ("cluster.yaml", None, "cluster.yaml"),
        ("sites/north west/a#b.yaml", None, "sites/north%20west/a%23b.yaml"),
        ("/repo/sites/c.yaml", "/repo", "sites/c.yaml"),
        ("/elsewhere/c.yaml", "/repo", "file:///elsewhere/c.yaml"),
    ],
)
def test_files_are_named_from_the_root(file: str, root: str | None, uri: str) -> None:
    finding = Finding("vip-outside-subnet", Severity.ERROR, "why", "cure", Where(file))
    (result,) = run_of((finding,), PurePosixPath(root) if root else None)["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_a_result_is_recognised_when_its_line_moves_and_not_when_its_key_is_another() -> None:
    def fingerprint(where: Where) -> str:
        finding = Finding("vip-outside-subnet", Severity.ERROR, "why", "cure", where)
        (result,) = run_of((finding,))["results"]
        return str(result["partialFingerprints"]["haplane/v1"])

    before = fingerprint(Where("cluster.yaml", 3, 1, "endpoint.vip"))
    assert before == fingerprint(Where("cluster.yaml", 30, 5, "endpoint.vip"))
    assert before != fingerprint(Where("cluster.yaml", 3, 1, "endpoint.port"))


# ---- the catalogue ----


def test_the_catalogue_is_listed_with_consequence_and_cure() -> None:
    out = io.StringIO()
    hazards.show_catalogue(RULES, console=Console(file=out, width=80))
    first = out.getvalue().splitlines()[:6]
    assert [" ".join(line.split()) for line in first] == [
        "vip-outside-subnet",
        "seen in the file; in a running cluster",
        "when The VIP is in no subnet.",
        "goes wrong Nobody finds it.",
        "cure Choose another.",
        "source RFC 826",
    ]
    assert out.getvalue().splitlines()[-1] == "3 hazards"


def test_the_whole_catalogue_can_be_shown_and_exported() -> None:
    out = io.StringIO()
    hazards.show_catalogue(CATALOGUE, console=Console(file=out, width=80))
    shown = out.getvalue().splitlines()
    exported = json.loads(json.dumps(hazards.catalogue_as_json(CATALOGUE)))
    assert exported["version"] == 1
    assert [one["id"] for one in exported["hazards"]] == [*CATALOGUE]
    assert all(name in shown for name in CATALOGUE)
    assert all(one["moments"] for one in exported["hazards"])
