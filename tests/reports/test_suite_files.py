"""The suite for a wiki, for CI and for programs, and all of it in a folder."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.drills.planted import CONFIG, FAULT, planted
from tests.reports.suites import BUDGET, drill, run, suite

from haplane.design.budget import Budget
from haplane.design.link import Link
from haplane.drills.checkers import Outcome, Verdict, availability
from haplane.model.errors import HaplaneError, UsageError
from haplane.probes.history import History, Mark, Request, RequestOutcome
from haplane.reports.drill import DrillReport, Run
from haplane.reports.suite import against, junit, markdown, read_json, saved, summary, texts, write
from haplane.reports.suite.report import picture_file

FULL = suite(drill(0.2, 0.9), drill(0.1, name="kill-haproxy"), not_run=(("disk-full", "no disk of its own"),))
NO_FAULT = DrillReport("no-fault", (run(planted(marks=[])),), BUDGET)


def test_a_service_is_in_every_file_of_the_report() -> None:
    url = "http://192.0.2.21:30080/a?b=<c>&d"
    history = planted(outage=(0.0, 0.2), config=replace(CONFIG, services=(url,)))
    probe = f"service {url}"
    verdict = replace(availability(history, probe=probe, failed_at_most=0), name=probe)
    report = suite(DrillReport("power-off", (Run(history, (verdict,)),), BUDGET))
    made = texts(report)
    assert f"{probe} ██████████××█" in made["report.md"]
    assert "http://192.0.2.21:30080/a?b=&lt;c&gt;&amp;d: 250 requests, 2 not served" in made["index.html"]
    (case,) = cases(made["junit.xml"])
    assert case == f"drills.power-off run 1: {probe}"
    (told,) = json.loads(made["report.json"])["drills"][0]["runs"][0]["verdicts"]
    assert (told["name"], told["outcome"]) == (probe, "violated")


# -- a wiki


def test_the_wiki_text_has_the_summary_the_budget_and_a_timeline() -> None:
    lines = markdown.written(FULL).splitlines()
    assert lines[0] == "# Drills of prod: violated"
    assert "| power-off | violated | 2 | 301 ms | 320 ms | 570 ms | 920 ms | 27.5 (10–45) |" in lines
    assert "| detect | 300 ms | 310 ms | 3 adverts \\[of 0.1 s\\] \\| skew |" in lines
    assert "| measured | 570 ms | 920 ms | longest gap: median, max |" in lines
    assert any(line.startswith("       new ██████████××██") for line in lines)
    assert "                     ^ power-off cp1" in lines
    assert "- disk-full: no disk of its own" in lines


def test_a_probe_of_another_name_has_a_row_in_the_wiki_text() -> None:
    asked = [Request(FAULT + n / 10, "dns", RequestOutcome.OK, "", FAULT, FAULT + n / 10 + 0.01) for n in range(9)]
    text = markdown.written(suite(DrillReport("a", (run(planted().with_events(asked)),))))
    assert "       dns           █████████\n" in text


def test_wiki_text_from_histories_is_no_markup() -> None:
    assert markdown.escaped("a|b <i>*c*</i>\n`d` [e](f)") == "a\\|b &lt;i>\\*c\\*&lt;/i> \\`d\\` \\[e\\](f)"
    history = planted(marks=[Mark(FAULT, "```\n# big", "cp1")])
    text = markdown.written(suite(DrillReport("a", (run(history),))))
    assert "\n# big" not in text
    assert text.count("```") == 2


# -- JUnit


def cases(text: str) -> dict[str, ElementTree.Element]:
    return {f"{one.get('classname')} {one.get('name')}": one for one in ElementTree.fromstring(text).iter("testcase")}


def test_junit_has_a_case_for_each_verdict_of_each_run_and_counts_right() -> None:
    text = junit.written(replace(FULL, drills=(*FULL.drills, NO_FAULT)))
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuite"
    counts = {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "9", "failures": "2", "errors": "2", "skipped": "1"}
    assert root.get("timestamp") == "2026-05-17T19:04:11"
    found = cases(text)
    assert list(found["drills.power-off run 1: availability-new"]) == []
    (failure,) = found["drills.power-off run 2: budget"]
    assert failure.tag == "failure" and failure.get("type") == "violated"
    assert (failure.get("message") or "").startswith("measured 0.920 s, the budget allows 0.320 s")
    assert "longest gap 0.920 s" in (failure.text or "")
    (error,) = found["drills.no-fault run 1: budget"]
    assert error.tag == "error" and error.get("message") == "no fault is marked"
    (skipped,) = found["drills.disk-full not run"]
    assert skipped.tag == "skipped" and skipped.get("message") == "no disk of its own"


def test_junit_has_what_its_schemas_ask_for_in_their_order() -> None:
    root = ElementTree.fromstring(junit.written(FULL))
    assert {"name", "timestamp", "hostname", "tests", "failures", "errors", "time"} <= set(root.keys())
    order = ["properties", *["testcase"] * 7, "system-out", "system-err"]
    assert [child.tag for child in root] == order
    for case in root.iter("testcase"):
        assert {"name", "classname", "time"} <= set(case.keys())
        assert len(case) <= 1
        assert all(child.tag == "skipped" or child.get("type") for child in case)


def test_the_time_of_a_run_is_counted_once() -> None:
    assert ElementTree.fromstring(junit.written(suite(drill(0.1, 0.2)))).get("time") == "50.000"


def test_a_run_that_nothing_judged_is_no_success() -> None:
    root = ElementTree.fromstring(junit.written(suite(DrillReport("a", (Run(planted(), ()),)))))
    assert (root.get("tests"), root.get("errors")) == ("1", "1")


def test_junit_holds_any_text() -> None:
    verdict = Verdict("<x>", Outcome.VIOLATED, "\x1b[31m & \x00", ("]]>",))
    text = junit.written(suite(DrillReport("a", (Run(planted(), (verdict,)),))))
    (failure,) = cases(text)["drills.a run 1: <x>"]
    assert failure.text == "\ufffd[31m & \ufffd\n]]>"


# -- JSON


def test_the_json_has_a_kind_a_version_and_the_drills() -> None:
    shape = json.loads(saved.written(FULL))
    assert (shape["kind"], shape["version"], shape["outcome"]) == ("haplane-drill-suite", 1, "violated")
    assert [drill["drill"] for drill in shape["drills"]] == ["power-off", "kill-haproxy"]
    assert shape["not_run"] == [{"name": "disk-full", "why": "no disk of its own"}]


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    unbound = Budget("isolate", (Link("never", float("inf"), float("inf"), "nothing ends it"),))
    report = suite(
        *FULL.drills,
        NO_FAULT,
        DrillReport("bare", (Run(History(()), ()),)),
        DrillReport("unbound", (run(planted()),), unbound),
    )
    write(report, tmp_path)
    assert read_json(tmp_path / "report.json") == summary(report)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ("{}", "kind: Field required"),
        ('{"kind": "haplane-design", "version": 1}', "kind: Input should be 'haplane-drill-suite'"),
        ('{"kind": "haplane-drill-suite", "version": 2}', "its format is 2, and this haplane reads 1"),
        ('{"kind": "haplane-drill-suite", "version": 1}', "cluster: Field required"),
    ],
)
def test_a_file_that_is_no_such_report_is_named_with_the_reason(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(text)
    with pytest.raises(UsageError) as raised:
        read_json(file)
    assert raised.value.where == str(file)
    assert why in raised.value.why


def test_a_report_with_a_wrong_drill_says_where() -> None:
    shape = json.loads(saved.written(FULL))
    shape["drills"][1]["runs"][0]["outage"]["failed"] = "many"
    with pytest.raises(UsageError) as raised:
        saved.parse(json.dumps(shape), file="report.json")
    assert raised.value.why.startswith("drills.1.runs.0.outage.failed: ")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_an_error_for_people(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "report.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        read_json(file)


# -- the folder


def test_all_files_are_written_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "today"
    compared = against(summary(FULL), FULL)
    assert write(FULL, folder, compared) == folder / "index.html"
    assert write(FULL, folder, compared) == folder / "index.html", "again, over the old ones"
    assert {path.name: path.read_text() for path in folder.iterdir()} == texts(FULL, compared)


def test_pictures_lie_beside_the_texts_that_link_them(tmp_path: Path) -> None:
    drawn = {"power-off-1.png": b"\x89PNG one", "kill-haproxy-1.png": b"\x89PNG two"}
    write(FULL, tmp_path, pictures=drawn)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == drawn
    text = (tmp_path / "report.md").read_text()
    assert re.findall(r"!\[.*\]\((.*)\)", text) == list(drawn), "and none for run 2, which was not drawn"
    assert json.loads((tmp_path / "report.json").read_text())["pictures"] == list(drawn)
    assert "png" not in (tmp_path / "index.html").read_text(), "the page needs nothing else"


@pytest.mark.parametrize(
    ("drill_name", "file"), [("move-vip", "move-vip-2.png"), ("../a b/<c>", "..-a-b-c--2.png"), ("", "-2.png")]
)
def test_the_name_of_a_picture_is_one_file_in_the_folder(drill_name: str, file: str) -> None:
    assert picture_file(drill_name, 2) == file


def test_a_folder_that_cannot_be_written_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HaplaneError, match="cannot be written"):
        write(FULL, tmp_path / "file")


def test_the_same_report_gives_the_same_bytes() -> None:
    assert texts(FULL) == texts(FULL)
