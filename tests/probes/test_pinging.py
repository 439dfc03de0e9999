"""When a machine fell silent, from the output of ping."""

from __future__ import annotations

from haplane.probes.history import Header
from haplane.probes.pinging import answered, silent_since
from haplane.probes.prober import Config

CONFIG = Config(address="192.0.2.100", port=8443, server_hostname="kubernetes", ca_file="ca.crt")
HEADER = Header(50.0, 1, 50.2, 1764335200.0, 0.001, CONFIG)
# iputils 20240905
RECORDED = """\
PING 10.77.0.12 (10.77.0.12) 56(84) bytes of data.
[1764335213.100000] 64 bytes from 10.77.0.12: icmp_seq=1 ttl=64 time=0.055 ms
[1764335213.120100] 64 bytes from 10.77.0.12: icmp_seq=2 ttl=64 time=0.061 ms
[1764335216.205000] From 10.77.0.20 icmp_seq=3 Destination Host Unreachable
"""


def test_only_answers_of_the_machine_itself_count() -> None:
    answers = [found for line in RECORDED.splitlines() if (found := answered(line))]
    assert answers == [1764335213.1, 1764335213.1201]


def test_it_fell_silent_before_the_next_answer_was_due() -> None:
    t, error = silent_since([1764335213.1, 1764335213.1201], HEADER) or (0.0, 0.0)
    assert abs(t - 63.1301) < 1e-5
    assert 0.01 < error < 0.03


def test_a_machine_that_never_answered_tells_nothing() -> None:
    assert silent_since([], HEADER) is None
