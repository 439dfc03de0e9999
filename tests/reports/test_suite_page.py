"""The suite as one HTML page, and its pictures."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.drills.planted import FAULT, START, planted
from tests.reports.suites import drill, run, suite, watched

from haplane.design.budget import Budget
from haplane.design.link import Link
from haplane.drills.checkers import Outcome, Verdict
from haplane.probes.history import History, Mark, Observation, Request, RequestOutcome
from haplane.reports.drill import DrillReport, Run
from haplane.reports.suite import against, drawing, page, spread_svg, summary, timeline_svg
from haplane.reports.suite.timeline import views, whole

VOID = {"meta", "link", "br", "img", "hr", "input"}
EVIL = "<script>alert(1)</script>\"'&"


class Reader(HTMLParser):
    """Checks that what is opened is closed, and keeps what tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labelled: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if "href" in values else []
        self.labelled += (values.get("aria-labelledby") or "").split()
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += f"{data} "


def read(text: str) -> Reader:
    reader = Reader(text)
    assert reader.open == []
    return reader


FULL = suite(drill(0.2, 0.22, 0.9), drill(0.1, name="kill-haproxy"), not_run=(("disk-full", "no disk of its own"),))


def test_the_page_is_whole_and_every_link_and_label_leads_somewhere() -> None:
    reader = read(page.written(FULL, against(summary(FULL), FULL)))
    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert set(reader.labelled) <= set(reader.ids)
    assert {link for link in reader.links if not link.startswith("#")} == {"report.json", "junit.xml", "report.md"}


def test_the_page_fetches_nothing() -> None:
    text = page.written(FULL, against(summary(FULL), FULL))
    reader = read(text)
    assert "http://" not in text and "https://" not in text
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert "@import" not in text and "url(" not in text and "src=" not in text


def test_the_summary_says_how_each_drill_went() -> None:
    text = " ".join(read(page.written(FULL)).text.split())
    assert "violated : 1 held, 1 violated, 1 not run" in text
    assert "power-off violated 3 301 ms 320 ms 240 ms 920 ms 11 (10–45)" in text
    assert "disk-full no disk of its own" in text
    assert "3 adverts [of 0.1 s] | skew" in text
    assert "due +0.000 s: failed (refused) after 0.001 s" in text, "the evidence"


def test_every_picture_has_a_title_and_a_description() -> None:
    reader = read(page.written(FULL))
    pictures = sum(identifier.endswith("-desc") for identifier in reader.ids)
    assert pictures == 2 + 4 * 2, "the runs of each drill, and two timelines for each run"


def test_outcomes_are_words_and_not_only_colours() -> None:
    text = page.written(FULL)
    for found in re.findall(r'class="outcome (\w+)">(\w+)<', text):
        assert found[0] == found[1]


def evil_suite() -> str:
    marks = [Mark(FAULT, EVIL, EVIL)]
    events = [
        Observation(START, EVIL, EVIL, EVIL),
        Request(FAULT, EVIL, RequestOutcome.FAILED, EVIL, None, FAULT + 1),
    ]
    history = planted(marks=marks).with_events(events)
    verdict = Verdict(EVIL, Outcome.VIOLATED, EVIL, (EVIL,))
    budget = Budget(EVIL, (Link(EVIL, 0.1, 0.2, EVIL),), EVIL, EVIL)
    report = suite(DrillReport(EVIL, (Run(history, (verdict,)),), budget), not_run=((EVIL, EVIL),))
    report = replace(report, cluster=EVIL, haplane=EVIL, when=EVIL, environment=(EVIL,))
    return page.written(report, against(replace(summary(report), cluster="b"), report))


def test_text_from_histories_is_escaped() -> None:
    text = evil_suite()
    assert "<script" not in text
    assert read(text).text.count(EVIL) > 20


def test_a_suite_without_drills_is_a_page() -> None:
    assert "unknown : no drill was run" in read(page.written(suite())).text


def test_a_drill_without_a_budget_or_with_an_unbound_one_is_a_page() -> None:
    unbound = Budget("isolate", (Link("never", float("inf"), float("inf"), "nothing of ours ends it"),))
    runs = (run(planted()),)
    text = read(page.written(suite(DrillReport("a", runs), DrillReport("b", runs, unbound)))).text
    assert "no budget for this fault" in text
    assert "no bound" in text


def test_an_empty_history_is_a_page() -> None:
    read(page.written(suite(DrillReport("nothing", (Run(History(()), ()),)))))


def test_dots_differ_by_shape_and_stand_beside_the_budgets_worst() -> None:
    picture = spread_svg.draw(drill(0.2, 0.9), name="x")
    assert 'class="dot held"' in picture and "<circle" in picture
    assert 'class="dot violated" d="' in picture
    assert "worst 320 ms" in picture and "run 2: 920 ms, violated" in picture


def test_dots_of_equal_runs_do_not_hide_each_other() -> None:
    circles = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', spread_svg.draw(drill(0.2, 0.2, 0.2), name="x"))
    assert len(set(circles)) == 3


def test_a_timeline_shows_gap_fault_and_observers() -> None:
    history = watched(Observation(START, "cp1", "vip", "held"), Observation(FAULT + 0.4, "cp2", "vip", "held"))
    picture = timeline_svg.draw(views(run(history))[0].timeline, name="x", title="t")
    root = ElementTree.fromstring(picture)
    texts = ["".join(each.itertext()) for each in root.iter("text")]
    assert any(text.startswith("power-off cp1") for text in texts)
    assert "longest gap 220 ms" in texts
    assert "seconds from the fault" in texts
    assert sum("vip" in text for text in texts) == 2
    assert 'class="lost"' in picture and 'class="served"' in picture
    description = root.findtext("desc") or ""
    assert "Probe new: 200 requests, 10 not served, 0 late; longest gap 220 ms from −16 ms." in description
    assert "vip on cp2: held from +400 ms." in description


def test_labels_of_marks_at_the_same_time_do_not_overlap() -> None:
    marks = [Mark(FAULT, "power-off", "cp1"), Mark(FAULT + 0.01, "isolate", "cp2"), Mark(FAULT + 19.9, "whole")]
    picture = timeline_svg.draw(whole(run(planted(marks=marks))), name="x", title="t")
    places = re.findall(r'class="(?:fault|heal) label" x="([\d.]+)" y="([\d.]+)"', picture)
    assert len({y for _, y in places[:2]}) == 2
    assert float(places[2][0]) < timeline_svg.WIDTH - 60, "the last one stands left of its line"


def test_a_long_history_stays_a_small_picture() -> None:
    long, short = planted(stop=FAULT + 600), planted(stop=FAULT + 60)
    sizes = [len(timeline_svg.draw(whole(run(each)), name="x", title="t")) for each in (short, long)]
    assert sizes[1] < sizes[0]


def test_characters_that_xml_cannot_hold_are_replaced() -> None:
    history = watched(Observation(START, "cp1", "vip", "held\x00\x1b"))
    ElementTree.fromstring(timeline_svg.draw(whole(run(history)), name="x", title="\x07"))


@given(start=st.floats(-1e5, 1e5), length=st.floats(1e-3, 1e5))
@settings(max_examples=200)
def test_the_axis_has_a_few_times_and_all_lie_in_it(start: float, length: float) -> None:
    times = drawing.steps(start, start + length)
    assert len(times) <= 11
    assert all(start - length * 1e-3 - 1e-6 <= t <= start + length * 1.001 + 1e-6 for t in times)


@pytest.mark.parametrize("places", [[], [5.0], [5.0, 5.4, 90.0]])
def test_bars_that_would_touch_are_one(places: list[float]) -> None:
    assert drawing.bars(places, 0, 8, 1.6, "served").count("M") == len({round(x) for x in places})
