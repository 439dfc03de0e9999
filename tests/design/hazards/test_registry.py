"""The catalogue, the registered checks, what accept does, and the page in docs."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Network, ip_address
from pathlib import Path

import pytest
from tests.design.hazards.planting import found_in
from tests.design.hazards.table import PLANTED, page
from tests.model.clusters import three_nodes

from haplane.design.design import Design
from haplane.design.hazards import CATALOGUE, Moment, Severity, lint, stops
from haplane.design.hazards.registry import CHECKS, hazard
from haplane.design.hazards.unseen import NOT_IN_FILE, NOT_ON_MACHINES, PARTLY
from haplane.lab.files import LabPaths, write_default
from haplane.model.cluster import Cluster, Cni, Machine, Role, Ssh
from haplane.model.file import read_cluster
from haplane.observe import preflight

DOCS = Path(__file__).parents[3] / "docs" / "hazards.md"
# Found by `lint` itself.
OF_ACCEPT = {"accept-unknown", "accept-unused"}


def with_workers(count: int) -> Cluster:
    cluster = three_nodes()
    workers = {
        f"w{i}": Machine(f"w{i}", (ip_address("192.168.0.0") + i,), frozenset({Role.WORKER}), Ssh())
        for i in range(1, count + 1)
    }
    kubernetes = replace(cluster.kubernetes, cni=Cni.FLANNEL)
    return replace(cluster, kubernetes=kubernetes, machines={**cluster.machines, **workers})


def test_a_design_of_three_nodes_has_no_hazard() -> None:
    assert lint(Design(three_nodes())) == ()


@pytest.mark.parametrize("nodes", [1, 2, 3, 5])
def test_the_labs_cluster_has_no_hazard_that_nobody_accepted(nodes: int, tmp_path: Path) -> None:
    paths = LabPaths(tmp_path / "cluster.yaml")
    write_default(paths, subnet=IPv4Network("10.77.0.0/24"), cache=tmp_path, control_plane=nodes)
    cluster = read_cluster(paths.cluster.read_text(), file="cluster.yaml", folder=tmp_path)
    assert [one for one in lint(Design(cluster)) if not one.accepted] == []


def test_every_hazard_of_the_file_is_checked_or_has_a_reason() -> None:
    of_the_file = {one.id for one in CATALOGUE.values() if Moment.LINT in one.moments}
    assert of_the_file == {*CHECKS, *NOT_IN_FILE, *OF_ACCEPT}
    assert len(of_the_file) == len(CHECKS) + len(NOT_IN_FILE) + len(OF_ACCEPT)
    assert {*PARTLY} <= {*CHECKS}


def test_every_hazard_of_the_machines_is_checked_or_has_a_reason() -> None:
    of_the_machines = {one.id for one in CATALOGUE.values() if Moment.PREFLIGHT in one.moments}
    looked_for = {one.hazard for one in preflight.CHECKS} & of_the_machines
    assert of_the_machines == {*looked_for, *NOT_ON_MACHINES}
    assert not looked_for & {*NOT_ON_MACHINES}


def test_every_check_has_a_planted_hazard() -> None:
    assert {one.hazard for one in PLANTED} == {*CHECKS, *OF_ACCEPT}


def test_planted_hazards_have_names_of_their_own() -> None:
    for names in ([(one.hazard, one.title) for one in PLANTED], [(one.hazard, one.near_miss) for one in PLANTED]):
        assert len(set(names)) == len(names)


def test_a_check_of_an_unknown_hazard_cannot_be_registered() -> None:
    with pytest.raises(KeyError):
        hazard("vip-gone")
    with pytest.raises(ValueError, match="etcd-space"):
        hazard("etcd-space")
    with pytest.raises(ValueError, match="host-identity"):
        hazard("host-identity")


@pytest.mark.parametrize("id", CATALOGUE)
def test_a_hazard_says_everything_in_sentences(id: str) -> None:
    one = CATALOGUE[id]
    assert one.moments
    for sentence in (one.condition, one.goes_wrong, one.cure):
        assert sentence.endswith(".")
        assert "  " not in sentence and "|" not in sentence


def test_an_accepted_hazard_carries_its_reason_and_stops_nothing() -> None:
    piece = "accept:\n  host-identity: a test\nmachines:\n" + "".join(
        f"  cp{i}: {{address: 192.0.2.11}}\n" for i in (1, 2, 3)
    )
    found = found_in(piece, "host-identity")
    assert [finding.accepted for finding in found] == ["a test", "a test"]
    assert stops(found) == []


def test_an_unknown_hazard_in_accept_gets_a_suggestion() -> None:
    (finding,) = found_in("accept: {vip-priority-bat: so}\n", "accept-unknown")
    assert finding.cure == "write vip-priority-bad"


def test_what_one_line_does_to_all_machines_is_one_finding() -> None:
    (finding,) = found_in("keepalived: {vrrp_instance: {nopreempt: false}}\n", "vip-failback-outage")
    assert finding.machine == ""


def test_the_step_of_priorities_that_is_advised_fits_the_version() -> None:
    machines = "machines:\n" + "".join(
        f"  cp{i}: {{address: 192.0.2.1{i}, keepalived: {{vrrp_instance: {{priority: {250 - i}}}}}}}\n"
        for i in (1, 2, 3)
    )
    (finding,) = found_in(machines, "vip-priority-bad")
    assert "steps of 26 " in finding.cure
    version_2 = "keepalived: {global_defs: {vrrp_version: 2}, vrrp_instance: {advert_int: 10}}\n"
    (finding,) = found_in(machines + version_2, "vip-priority-bad")
    assert "steps of 3 " in finding.cure


def test_findings_come_in_the_files_order() -> None:
    cluster = read_cluster(
        "name: prod\nkubernetes: {version: 1.35.4}\n"
        "haproxy:\n  default-server:\n    fall: 1\n    on-marked-down: shutdown-sessions\n"
        "machines:\n  cp1: {address: 192.0.2.11}\n  cp2: {address: 192.0.2.11}\n"
        "endpoint:\n  vip: 192.0.2.100/24\n  port: 6443\n",
        file="cluster.yaml",
        folder=Path("/nowhere"),
    )
    found = lint(Design(cluster))
    lines = [finding.where.line for finding in found if finding.where]
    assert lines == sorted(lines)
    assert len({finding.hazard for finding in found}) == 6


def test_more_machines_than_the_default_takes_are_told() -> None:
    found = lint(Design(with_workers(947)))
    assert found == ()
    (finding,) = lint(Design(with_workers(948)))
    assert (finding.hazard, finding.severity) == ("lb-maxconn", Severity.WARNING)


def test_a_balancer_on_every_worker_is_no_hazard() -> None:
    design = Design(replace(with_workers(3), balancer_on_workers=True))
    assert lint(design) == ()


def test_what_lint_looks_at_grows_with_the_machines_and_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: views are made for balancers and etcd members alone."""
    made: list[str] = []
    view = Design.view
    monkeypatch.setattr(Design, "view", lambda design, name: made.append(name) or view(design, name))
    lint(Design(three_nodes()))
    few = len(made)
    made.clear()
    lint(Design(with_workers(500)))
    assert len(made) == few


def test_the_page_in_docs_is_what_is_found() -> None:
    assert DOCS.read_text() == page(), "python -m tests.design.hazards.table > docs/hazards.md makes it again"


def test_the_page_has_one_row_for_each_hazard() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", DOCS.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(CATALOGUE)


def test_every_test_that_the_page_names_exists() -> None:
    planted = {(one.hazard, name) for one in PLANTED for name in (one.title, one.near_miss)}
    named: set[tuple[str, str]] = set()
    for id, cell in re.findall(r"^\| `([^`]+)` \|.*\| (found: .*?) \|", DOCS.read_text(), re.MULTILINE):
        named |= {(id, name) for name in re.findall(r"`([^`]+)`", cell)}
    assert named == planted
