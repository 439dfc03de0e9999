"""What is told of clients' silence while a drill runs."""

from __future__ import annotations

import asyncio
import io

import pytest
from planted import CONFIG
from rich.console import Console

from haplane.cli.session import Terminal
from haplane.drills.silence import CLIENTS, Follower, Silence
from haplane.probes.history import Header, Request, RequestOutcome, to_line

# This host's clock is so much ahead of the prober's.
AHEAD = 1000.0
HEADER = to_line(Header(99.8, 1, 100.0, 1.7e9, 1e-7, CONFIG))


def answer(end: float, *, probe: str = "new", outcome: RequestOutcome = RequestOutcome.OK) -> str:
    return to_line(Request(end - 0.004, probe, outcome, "" if outcome == "ok" else "refused", end - 0.002, end))


def following(*ends: float) -> Follower:
    """The header is there at once, each answer 40 ms after it came."""
    follower = Follower()
    follower.line(HEADER, 99.8 + AHEAD)
    for end in ends:
        follower.line(answer(end), end + AHEAD + 0.04)
    return follower


def test_waiting_counts_from_the_last_answer_on_the_probers_clock() -> None:
    follower = following(100.02, 100.04)
    assert follower.waiting_s(101.24 + AHEAD) == pytest.approx(1.2)
    assert follower.sentence(101.24 + AHEAD) == "no answer for 1.2 s; longest gap so far 1.20 s"


def test_before_anything_came_nobody_waits() -> None:
    assert Follower().waiting_s(5.0) == 0.0
    assert Follower().sentence(5.0) == "longest gap so far 0.00 s"


def test_a_prober_that_never_gets_an_answer_waits_from_its_start() -> None:
    assert following().waiting_s(102.0 + AHEAD) == pytest.approx(2.0)


def test_answers_as_usual_are_no_silence() -> None:
    follower = following(100.02, 100.04, 100.08)
    assert follower.sentence(100.2 + AHEAD) == "longest gap so far 0.12 s"
    assert follower.longest_s == pytest.approx(0.04)


def test_the_answer_that_ends_a_long_gap_tells_its_length_once() -> None:
    follower = following(100.02)
    assert follower.line(answer(101.14), 101.2 + AHEAD) == pytest.approx(1.12)
    assert follower.line(answer(101.16), 101.2 + AHEAD) is None
    assert follower.sentence(101.2 + AHEAD) == "longest gap so far 1.12 s"
    assert follower.line(answer(101.5), 101.6 + AHEAD) is None, "a short gap is not told"


def test_what_is_no_answer_to_the_new_probe_ends_no_gap() -> None:
    follower = following(100.02)
    for text in (
        answer(101.0, outcome=RequestOutcome.FAILED),
        answer(101.0, probe="persistent"),
        answer(101.0, probe="write"),
        answer(101.0)[:40],
        '["new"]',
    ):
        assert follower.line(text, 101.0 + AHEAD) is None
    assert follower.waiting_s(102.02 + AHEAD) == pytest.approx(2.0)


def test_answers_out_of_order_make_no_gap() -> None:
    follower = following(100.02, 100.5, 100.4, 100.52)
    assert follower.longest_s == pytest.approx(0.48)
    assert follower.waiting_s(100.52 + AHEAD) == 0.0


# -- on the terminal


def told(lines: list[str]) -> list[str]:
    """What the terminal gets of these, all come at once, and shown for a moment; returns what the sink got."""
    passed: list[str] = []

    async def watch(terminal: Terminal) -> None:
        silence = Silence(terminal)
        sink = silence.through(passed.append)
        for line in lines:
            sink(line)
        showing = asyncio.create_task(silence.show())
        await asyncio.sleep(0)
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        assert CLIENTS not in terminal.begun()

    with Terminal() as terminal:
        asyncio.run(watch(terminal))
    return passed


def test_a_log_gets_one_line_when_a_long_gap_has_ended_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [HEADER, answer(100.02), answer(101.14), answer(101.16), answer(101.5)]
    assert told(lines) == lines, "everything is passed on"
    assert capsys.readouterr().err == "clients: 1.12 s without an answer\n"


def test_a_terminal_shows_the_gap_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", screen)
    shown: list[str] = []

    with Terminal() as terminal:

        def look() -> None:
            out = io.StringIO()
            Console(file=out, width=80).print(terminal._table())
            shown.append(out.getvalue())

        terminal.step("drill", "cp1 is dark for 8 s")
        terminal.live(CLIENTS, "no answer for 1.2 s; longest gap so far 1.20 s")
        look()
        terminal.live(CLIENTS, "")
        look()
    assert "clients no answer for 1.2 s; longest gap so far 1.20 s" in shown[0]
    assert CLIENTS not in shown[1] and "cp1 is dark" in shown[1]
