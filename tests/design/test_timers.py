"""The solver of timers: targets are met or it is said why not, and nothing measured is overstepped."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from ipaddress import ip_address
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.clusters import three_nodes

from haplane.components import keepalived
from haplane.components.base import CALM, Timers
from haplane.design.budget import ONE_APISERVER, budgets
from haplane.design.design import Design
from haplane.design.timers import solve
from haplane.model.cluster import BalancerProgram, Cluster, EndpointOwner, Etcd, Failover, Machine, Role, Ssh
from haplane.model.facts import MachineFacts, MeasuredFacts

UNKNOWN = MeasuredFacts()


def nodes(count: int, target_ms: int | None, *, workers: int = 0) -> Cluster:
    names = [*(f"cp{i}" for i in range(count)), *(f"w{i}" for i in range(workers))]
    machines = {
        name: Machine(
            name,
            (ip_address("10.0.0.0") + 1 + index,),
            frozenset({Role.CONTROL_PLANE if name.startswith("cp") else Role.WORKER}),
            Ssh(),
        )
        for index, name in enumerate(names)
    }
    return replace(three_nodes(), machines=machines, failover=Failover(target_ms))


def measured(
    cluster: Cluster, *, stall_ms: float | None = 12, trip_ms: float | None = 0.5, fsync_ms: float | None = 4
) -> MeasuredFacts:
    names = list(cluster.machines)

    def trips(name: str) -> dict[str, float]:
        return {} if trip_ms is None else {other: trip_ms for other in names if other != name}

    return MeasuredFacts(
        {name: MachineFacts(fsync_p99_ms=fsync_ms, stall_ms=stall_ms, round_trip_ms=trips(name)) for name in names}
    )


def worst_ms(cluster: Cluster, timers: Timers, fault: str) -> float:
    found = next(one for one in budgets(Design(cluster, timers=timers)) if one.fault == fault)
    return 1000 * sum(link.worst_s for link in found.links if link.name not in ONE_APISERVER)


def misses(cluster: Cluster, timers: Timers) -> list[str]:
    target_ms = cluster.failover.target_ms
    assert target_ms is not None
    faults = ("power-off-vip-holder", "haproxy-hang", "etcd-leader-death")
    return [fault for fault in faults if worst_ms(cluster, timers, fault) > target_ms + 1e-6]


def test_without_a_target_the_timers_are_calm() -> None:
    cluster = nodes(3, None)
    solution = solve(cluster, measured(cluster))
    assert solution.timers == CALM
    assert solution.unmet == ()
    assert "failover.target" in solution.because["advert_ms"]


def test_a_target_that_can_be_met_is_met() -> None:
    cluster = nodes(3, 500)
    solution = solve(cluster, measured(cluster))
    assert solution.unmet == ()
    assert misses(cluster, solution.timers) == []
    # The calmest: the next slower ones would miss.
    slower = replace(solution.timers, advert_ms=solution.timers.advert_ms + 10)
    assert misses(cluster, slower) == ["power-off-vip-holder"]
    slower = replace(solution.timers, check_interval_ms=solution.timers.check_interval_ms + 10)
    assert misses(cluster, slower) == ["haproxy-hang"]
    slower = replace(solution.timers, etcd_election_ms=solution.timers.etcd_election_ms + 30)
    assert misses(cluster, slower) == ["etcd-leader-death"]


def test_an_apiserver_that_is_asked_itself_gets_more_time_than_a_balancer() -> None:
    for by, shortest_ms, asked in ((BalancerProgram.NGINX, 100, "nginx"), (BalancerProgram.NONE, 250, "apiserver")):
        cluster = replace(nodes(3, 200), balanced_by=by)
        solution = solve(cluster, measured(cluster))
        assert solution.timers.check_timeout_ms == shortest_ms
        assert f"a busy {asked} that lives" in solution.because["check_interval_ms"]
        assert any(sentence.startswith(f"{asked}-hang:") for sentence in solution.unmet)


def test_without_a_balancer_a_hung_apiserver_is_left_within_the_target() -> None:
    cluster = replace(nodes(3, 2000), balanced_by=BalancerProgram.NONE)
    solution = solve(cluster, measured(cluster))
    assert worst_ms(cluster, solution.timers, "apiserver-hang") <= 2000
    # An apiserver without etcd says so 3 s later, whatever the timers are.
    assert [one.split(":")[0] for one in solution.unmet] == ["etcd-leader-death"]


def test_a_generous_target_gives_no_advert_above_a_second() -> None:
    cluster = nodes(3, 60_000)
    assert solve(cluster, measured(cluster)).timers == replace(CALM, advert_ms=1000)


def test_long_stalls_forbid_a_short_advert_and_that_is_said() -> None:
    cluster = nodes(3, 300)
    solution = solve(cluster, measured(cluster, stall_ms=300))
    # 3 * 100 ms would be no longer than the stall.
    assert solution.timers.advert_ms == 110
    assert any("stall of 300 ms" in sentence and "power-off-vip-holder" in sentence for sentence in solution.unmet)


def test_one_balancer_without_a_measured_stall_keeps_the_advert_at_100_ms() -> None:
    cluster = nodes(3, 200)
    facts = measured(cluster)
    assert solve(cluster, facts).timers.advert_ms < 100
    unknown = MeasuredFacts({**facts.machines, "cp1": replace(facts.machines["cp1"], stall_ms=None)})
    assert solve(cluster, unknown).timers.advert_ms == 100
    assert solve(cluster, UNKNOWN).timers.advert_ms == 100


def test_many_balancers_need_room_for_their_priorities() -> None:
    cluster = nodes(12, 300)
    solution = solve(cluster, measured(cluster))
    assert solution.timers.advert_ms == 120
    assert "12 priorities" in solution.because["advert_ms"]
    assert any("12 priorities" in sentence for sentence in solution.unmet)


def test_more_balancers_than_priorities_are_refused_in_words() -> None:
    cluster = nodes(260, 60_000)
    assert any("260 balancers" in sentence for sentence in solve(cluster, UNKNOWN).unmet)


def test_etcd_keeps_its_own_timers_where_nothing_was_measured() -> None:
    cluster = nodes(3, 500)
    for facts in (UNKNOWN, measured(cluster, trip_ms=None), measured(cluster, fsync_ms=None)):
        solution = solve(cluster, facts)
        assert (solution.timers.etcd_heartbeat_ms, solution.timers.etcd_election_ms) == (100, 1000)
        assert "not measured" in solution.because["etcd_election_ms"]
        assert any("etcd-leader-death" in sentence for sentence in solution.unmet)


def test_etcd_keeps_its_own_timers_where_disks_or_networks_are_too_slow() -> None:
    cluster = nodes(3, 500)
    for facts in (measured(cluster, fsync_ms=150), measured(cluster, trip_ms=120)):
        solution = solve(cluster, facts)
        assert (solution.timers.etcd_heartbeat_ms, solution.timers.etcd_election_ms) == (100, 1000)
        assert "nothing shorter is safe" in solution.because["etcd_election_ms"]
        assert any("etcd-leader-death" in sentence for sentence in solution.unmet)


def test_a_slow_disk_lengthens_the_election() -> None:
    cluster = nodes(3, 500)
    solution = solve(cluster, measured(cluster, fsync_ms=40))
    assert 400 <= solution.timers.etcd_election_ms < 1000
    assert any("fsync 40 ms" in sentence for sentence in solution.unmet)


def test_a_slow_network_lengthens_heartbeat_and_election() -> None:
    cluster = nodes(3, 500)
    timers = solve(cluster, measured(cluster, trip_ms=60)).timers
    assert timers.etcd_heartbeat_ms >= 60
    assert 600 <= timers.etcd_election_ms < 1000


def test_stalls_lengthen_the_election_tenfold() -> None:
    cluster = nodes(3, 500)
    solution = solve(cluster, measured(cluster, stall_ms=62))
    assert 620 <= solution.timers.etcd_election_ms < 700
    assert any("stall of 62 ms" in sentence for sentence in solution.unmet)
    # Nobody measured them: the assumed one allows nothing shorter than etcd's own.
    assert solve(cluster, measured(cluster, stall_ms=None)).timers.etcd_election_ms == 1000


def test_what_leaders_were_late_with_lengthens_the_election() -> None:
    cluster = nodes(3, 500)
    facts = measured(cluster)
    late = {**facts.machines, "cp2": replace(facts.machines["cp2"], late_heartbeat_ms=590.5)}
    solution = solve(cluster, MeasuredFacts(late))
    assert 650 <= solution.timers.etcd_election_ms < 700
    assert "once sent no heartbeat for 590.5 ms" in solution.because["etcd_election_ms"]
    never = {name: replace(one, late_heartbeat_ms=0.0) for name, one in facts.machines.items()}
    assert solve(cluster, MeasuredFacts(never)) == solve(cluster, facts)


def test_two_members_elect_nobody() -> None:
    cluster = nodes(2, 500)
    solution = solve(cluster, measured(cluster))
    assert "nobody is left to elect" in solution.because["etcd_election_ms"]
    assert any("2 of 2 members must answer" in sentence for sentence in solution.unmet)


def test_one_machine_or_a_load_balancer_of_yours_keep_the_calm_timers() -> None:
    alone = nodes(1, 200)
    three = nodes(3, 200)
    yours = replace(three, endpoint=replace(three.endpoint, by=EndpointOwner.EXTERNAL))
    for cluster in (alone, yours):
        solution = solve(cluster, measured(cluster))
        assert solution.timers.advert_ms == CALM.advert_ms
        assert solution.timers.check_interval_ms == CALM.check_interval_ms
        assert solution.unmet
    assert any("load balancer of yours" in sentence for sentence in solve(yours, UNKNOWN).unmet)


def test_what_the_file_overrides_is_said_and_counts() -> None:
    cluster = nodes(3, 500)
    cp1 = replace(cluster.machines["cp1"], keepalived={"vrrp_script": {"interval": 2}})
    cluster = replace(
        cluster,
        keepalived={"vrrp_instance": {"advert_int": 1}},
        machines={**cluster.machines, "cp1": cp1},
        etcd=Etcd(heartbeat_ms=50),
    )
    solution = solve(cluster, measured(cluster))
    assert "keepalived.vrrp_instance.advert_int: 1, which wins" in solution.because["advert_ms"]
    assert "machines.cp1.keepalived.vrrp_script.interval: 2" in solution.because["check_interval_ms"]
    assert "etcd.heartbeat_ms: 50" in solution.because["etcd_heartbeat_ms"]
    assert solution.timers.etcd_election_ms >= 5 * 50
    assert {sentence.split(":")[0] for sentence in solution.unmet} >= {"power-off-vip-holder", "haproxy-hang"}


# -- laws

# Each example designs several clusters.
FEWER = settings(max_examples=40)
TARGETS = st.integers(50, 10_000)
MAYBE = {
    "stall_ms": st.none() | st.floats(0, 2000),
    "trip_ms": st.none() | st.floats(0, 200),
    "fsync_ms": st.none() | st.floats(0, 300),
}
FACTS = st.fixed_dictionaries(MAYBE)


@FEWER
@given(st.integers(1, 9), TARGETS, FACTS)
def test_the_target_is_met_or_it_is_said_why_not(count: int, target_ms: int, facts: dict[str, float | None]) -> None:
    cluster = nodes(count, target_ms)
    solution = solve(cluster, measured(cluster, **facts))
    missed = misses(cluster, solution.timers)
    assert sorted(missed) == sorted(sentence.split(":")[0] for sentence in solution.unmet)
    assert set(solution.because) == {field.name for field in fields(Timers)}
    assert all(solution.because.values())


@FEWER
@given(st.integers(1, 9), TARGETS, TARGETS, FACTS)
def test_a_larger_target_never_gives_a_shorter_timer(
    count: int, one_ms: int, other_ms: int, facts: dict[str, float | None]
) -> None:
    solved = []
    for target_ms in sorted((one_ms, other_ms)):
        cluster = nodes(count, target_ms)
        solved.append(asdict(solve(cluster, measured(cluster, **facts)).timers))
    smaller, larger = solved
    for name in ("advert_ms", "check_interval_ms", "check_timeout_ms", "etcd_election_ms"):
        assert larger[name] >= smaller[name], name


@FEWER
@given(st.integers(2, 60), TARGETS, FACTS)
def test_priorities_are_distinct_and_ten_milliseconds_of_skew_apart(
    count: int, target_ms: int, facts: dict[str, float | None]
) -> None:
    cluster = nodes(count, target_ms)
    design = Design(cluster, timers=solve(cluster, measured(cluster, **facts)).timers)
    timings = [keepalived.timing(design.view(name)) for name in cluster.machines]
    assert min(timing.priority for timing in timings) >= 1
    skews = [keepalived.skew_ms(timing.priority, timing.advert_ms) for timing in timings]
    assert all(later - sooner >= keepalived.SKEW_APART_MS - 1e-9 for sooner, later in pairwise(skews))


@FEWER
@given(st.integers(1, 9), TARGETS, FACTS)
def test_nothing_measured_is_overstepped(count: int, target_ms: int, facts: dict[str, float | None]) -> None:
    cluster = nodes(count, target_ms)
    timers = solve(cluster, measured(cluster, **facts)).timers
    stall_ms, trip_ms, fsync_ms = facts["stall_ms"], facts["trip_ms"], facts["fsync_ms"]
    assert timers.advert_ms % 10 == 0
    if count > 1:
        assert 3 * timers.advert_ms > (290 if stall_ms is None else stall_ms)
    assert 100 <= timers.check_timeout_ms < timers.check_interval_ms <= CALM.check_interval_ms
    assert 5 * timers.etcd_heartbeat_ms <= timers.etcd_election_ms <= CALM.etcd_election_ms
    if (timers.etcd_heartbeat_ms, timers.etcd_election_ms) != (100, 1000):
        assert trip_ms is not None and fsync_ms is not None
        assert timers.etcd_heartbeat_ms >= max(30, trip_ms)
        assert timers.etcd_election_ms >= max(10 * trip_ms, 10 * fsync_ms)
        assert stall_ms is not None and timers.etcd_election_ms >= 10 * stall_ms
        # etcd counts an election in whole heartbeats.
        assert timers.etcd_election_ms % timers.etcd_heartbeat_ms == 0


def test_a_thousand_machines_are_solved_as_three_are() -> None:
    """Nothing about workers is asked, and nothing changes with them."""
    few, many = nodes(3, 500), nodes(3, 500, workers=1000)
    facts = measured(few)
    assert solve(many, facts) == solve(few, facts)
