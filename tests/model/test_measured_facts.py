"""facts.yaml: what is written is read again, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haplane.model.errors import InvalidFile
from haplane.model.facts import MachineFacts, MeasuredFacts, facts_text, read_facts

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
TIMES = st.integers(0, 10**9).map(lambda microseconds: microseconds / 1000)
FACTS = st.builds(
    MeasuredFacts,
    machines=st.dictionaries(
        NAMES,
        st.builds(
            MachineFacts,
            system=st.none() | st.sampled_from(["debian 12", "ubuntu 24.04"]),
            interface=st.none() | st.sampled_from(["eth0", "on", "0o10", "1e3", "null", "bond0.100"]),
            fsync_p99_ms=st.none() | TIMES,
            stall_ms=st.none() | TIMES,
            late_heartbeat_ms=st.none() | TIMES,
            round_trip_ms=st.dictionaries(NAMES, TIMES, max_size=3),
        ),
        max_size=4,
    ),
    router_ids=st.frozensets(st.integers(1, 255), max_size=5),
)

TEXT = """\
machines:
  cp1:
    interface: "eth0"
    fsync_p99_ms: 2.125
    stall_ms: 12
    round_trip_ms: {cp2: 0.21, cp3: 0.2}
  cp2: {}
router_ids: [51]
"""


@given(FACTS)
def test_what_is_written_is_read_again(facts: MeasuredFacts) -> None:
    assert read_facts(facts_text(facts), file="facts.yaml") == facts


def test_a_file_is_read() -> None:
    facts = read_facts(TEXT, file="facts.yaml")
    assert facts.machines["cp1"] == MachineFacts("eth0", 2.125, 12, {"cp2": 0.21, "cp3": 0.2})
    assert facts.machines["cp2"] == MachineFacts()
    assert facts.router_ids == {51}


def test_the_file_explains_itself() -> None:
    assert facts_text(MeasuredFacts()).startswith("# Measured by `haplane preflight`")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("stall_ms: 12", "stall: 12", 5, "is not known here"),
        ("stall_ms: 12", "stall_ms: -1", 5, "-1 is out of range"),
        ("stall_ms: 12", 'stall_ms: "12"', 5, '"12" is not a number'),
        ("stall_ms: 12", "stall_ms: 1:30", 5, "1:30 is not the same number"),
        ("stall_ms: 12", "stall_ms: true", 5, "true is not a number"),
        ("cp2: 0.21", "cp2: soon", 6, "soon is not a number"),
        ("[51]", "[0]", 8, "0 is out of range"),
        ("[51]", "[51.5]", 8, "51.5 is not a whole number"),
        ("router_ids", "router_id", 8, "is not known here"),
        ("cp2: {}", "cp2: 3", 7, "3 is not a mapping"),
        ("cp2: {}", "cp1: {}", 7, "already given in line 2"),
        ('"eth0"', '"an interface"', 3, "interface"),
    ],
)
def test_what_is_not_a_measurement_is_refused_with_its_place(old: str, new: str, line: int, says: str) -> None:
    assert old in TEXT
    with pytest.raises(InvalidFile) as caught:
        read_facts(TEXT.replace(old, new), file="facts.yaml")
    problems = caught.value.problems
    assert [problem.line for problem in problems] == [line]
    assert says in str(problems[0])


def test_what_was_not_measured_this_time_stays() -> None:
    old = MeasuredFacts({"cp1": MachineFacts("eth0", 2.0, 12.0, {"cp2": 0.2, "cp3": 0.3})}, frozenset({51}))
    new = MeasuredFacts(
        {"cp1": MachineFacts("eth1", round_trip_ms={"cp2": 0.5}), "cp4": MachineFacts()}, frozenset({7})
    )
    both = old.updated_by(new)
    assert both.machines["cp1"] == MachineFacts("eth1", 2.0, 12.0, {"cp2": 0.5, "cp3": 0.3})
    assert set(both.machines) == {"cp1", "cp4"}
    assert both.router_ids == {7, 51}
