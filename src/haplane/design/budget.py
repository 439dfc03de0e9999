"""The outage that a design allows, per fault, link by link. Pure.

typical: what the median of many runs should be near; worst: what no run may exceed while nothing else is broken;
infinite: nothing of ours ends it, or it is not known what does. What a link takes is counted for a client that asks
again and again and counts only answers.

Sources: RFC 9568 section 6.1; keepalived.conf(5); etcd's raft (the election timeout is drawn anew from one to two times
the configured one); those of `leaving`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from haplane.components import balancer_watch, etcd, etcd_watch, keepalived
from haplane.components.balancer import balancer_of
from haplane.components.base import HEALTH_PORT
from haplane.components.settings import milliseconds
from haplane.design import leaving
from haplane.design.design import Design
from haplane.design.link import AVOID, HANDSHAKE_S, LEAVE, Link
from haplane.model.cluster import BalancerRole, Cluster, EndpointOwner, Role


@dataclass(frozen=True)
class Budget:
    """fault: a stable id. affects: what stands still for so long."""

    fault: str
    links: tuple[Link, ...]
    sentence: str = ""
    affects: str = ""

    @property
    def typical_s(self) -> float:
        return sum(link.typical_s for link in self.links)

    @property
    def worst_s(self) -> float:
        return sum(link.worst_s for link in self.links)


# What the timers do not say, (typical, worst). Assumed, and generous; a drill's own measurement stands beside the sum.
TAKE_OVER_S = (0.003, 0.010)  # VRRP's decision to the address on the interface
ANNOUNCE_S = (0.002, 0.010)  # the address on the interface to a switch that knows it
EXIT_NOTICED_S = (0.005, 0.060)  # the end of a process to the file that keepalived follows: one that sleeps is woken
EXIT_SAID_S = (0.040, 0.100)  # the same by the unit's ExecStopPost, which starts a shell
VOTE_S = (0.010, 0.050)  # etcd: pre-vote, vote and the new leader's first entry, each a round trip and a write

# Of clients, where nobody says otherwise.
REQUEST_INTERVAL_S = 0.02

OTHER_MEMBER = "ask another member"
MOVE = "move the VIP"
# Links that hold up what goes to one apiserver or member, while the others answer.
ONE_APISERVER = frozenset({AVOID, LEAVE, OTHER_MEMBER})
ADVERT = "keepalived.vrrp_instance.advert_int"
READYCHECK = "etcd-readycheck-timeout"  # of the apiserver
CHECK_INTERVAL = "keepalived.vrrp_script.interval"
ELECTION = "etcd.election"
SKEW = "(256 - priority) / 256 * advert_int"

# What may happen to a process, and how that is said.
_ENDS = (("death", "dies"), ("hang", "hangs"))

NEW = "new connections"
NOTHING = "nothing a client sees"
WRITES = "writes, and reads that must be current"


def budgets(design: Design, *, request_interval_s: float = REQUEST_INTERVAL_S) -> tuple[Budget, ...]:
    """One for each fault that this design can have, for the worst machine to have it.

    request_interval_s: how often a client asks; an outage cannot be seen finer.
    """
    return (
        *_endpoint_budgets(design, request_interval_s),
        *_apiserver_budgets(design, request_interval_s),
        *_etcd_budgets(design, request_interval_s),
        *_node_budgets(design.cluster),
    )


def power_off_vip_holder(design: Design, holder: str, *, request_interval_s: float, also: Sequence[str] = ()) -> Budget:
    """The longest time without an answer for new connections when the machine that holds the VIP loses its power.

    also: machines that lose theirs at the same moment.
    """
    if design.cluster.endpoint.by is EndpointOwner.EXTERNAL:
        links: tuple[Link, ...] = (_outside(design.cluster),)
    else:
        rivals = _rivals(_vrrp(design), holder, *also)
        links = (*endpoint_moves(*rivals, request_interval_s), *_avoid_apiservers_of(design, holder, *also))
    sentence = f"power-off of {holder}, which holds the VIP" + "".join(f", and of {name}" for name in also)
    return Budget("power-off-vip-holder", links, sentence, NEW)


def power_off_nodes(design: Design, *, request_interval_s: float, lost: int = 1) -> Budget:
    """So many control-plane nodes lose their power, none of which holds the VIP."""
    cluster, count = design.cluster, len(design.cluster.control_plane)
    sentence = _OTHER_NODE_OFF if lost == 1 else f"power-off of {lost} control-plane nodes that do not hold the VIP"
    affects = f"{'one' if lost == 1 else lost} in {count} new connections"
    if cluster.endpoint.by is EndpointOwner.EXTERNAL and cluster.balancer is BalancerRole.CONTROL_PLANE:
        # The balancer beside it is lost, too.
        links, sentence = (_outside(cluster),), "power-off of a control-plane node, and of the balancer there"
    elif balancer_of(cluster):
        links = (leaving.silent(design, lost),)
    else:
        idle = Link("none", 0.0, 0.0, "nobody asks an apiserver without the VIP")
        return Budget("power-off-control-plane-node", (idle,), sentence, NOTHING)
    return Budget("power-off-control-plane-node", (*links, _reconnect(request_interval_s)), sentence, affects)


def power_off_etcd_leader(design: Design, *, request_interval_s: float, nodes: int = 0) -> Budget:
    """The machine of the leader of an external etcd loses its power, and so many control-plane nodes with it."""
    lost = _leader_is_lost(design, request_interval_s)
    client = (_beyond(_other_member("power-off"), lost),) if len(design.cluster.etcd_members) > 2 else ()
    silent = (leaving.silent(design, nodes),) if nodes and balancer_of(design.cluster) else ()
    sentence = "power-off of the machine of etcd's leader"
    if nodes:
        sentence += f" and of {'a' if nodes == 1 else nodes} control-plane node{'s' if nodes > 1 else ''}"
    return Budget("power-off-etcd-leader", (*lost, *client, *silent), sentence, WRITES)


# -- the VIP


def endpoint_moves(advert_ms: float, priority: int | None, request_interval_s: float) -> tuple[Link, ...]:
    """The holder has fallen silent. priority: the best backup's; None if there is none."""
    if priority is None:
        return (_nobody_takes_over(),)
    advert_s, skew_s = advert_ms / 1000, keepalived.skew_ms(priority, advert_ms) / 1000
    down_s = 3 * advert_s + skew_s
    because = f"3 adverts of {advert_s:g} s and {skew_s * 1000:.1f} ms of skew after the last one"
    # The holder dies at any moment between two adverts.
    detect = Link("detect", down_s - advert_s / 2, down_s, because, f"3 * advert_int + {SKEW}", ADVERT)
    return (detect, *_arrive(request_interval_s))


def holder_resigns(advert_ms: float, priority: int | None, request_interval_s: float) -> tuple[Link, ...]:
    """The holder says that it stops: an advert of priority 0 (RFC 9568 section 6.4.2)."""
    if priority is None:
        return (_nobody_takes_over(),)
    skew_s = keepalived.skew_ms(priority, advert_ms) / 1000
    because = f"the holder says goodbye (an advert of priority 0); the best backup waits {skew_s * 1000:.1f} ms of skew"
    return (Link("hand over", skew_s, skew_s, because, SKEW, ADVERT), *_arrive(request_interval_s))


def check_times_out(interval_ms: float, timeout_ms: float, fall: int) -> Link:
    """keepalived asks every interval; a question that still runs makes it skip the next."""
    apart_ms = interval_ms if timeout_ms < interval_ms else interval_ms + timeout_ms
    last_s = ((fall - 1) * apart_ms + timeout_ms) / 1000
    return Link(
        "detect",
        last_s + interval_ms / 2000,
        last_s + interval_ms / 1000,
        f"{fall} questions, every {interval_ms:g} ms, without an answer; the last has {timeout_ms:g} ms for it",
        "fall * interval + timeout",
        CHECK_INTERVAL,
    )


def _arrive(request_interval_s: float) -> tuple[Link, ...]:
    return (
        Link("take over", *TAKE_OVER_S, "the best backup adds the VIP to its interface"),
        Link("announce", *ANNOUNCE_S, "gratuitous ARP tells the network where the VIP is now"),
        _reconnect(request_interval_s),
    )


def _reconnect(request_interval_s: float) -> Link:
    return Link(
        "reconnect",
        request_interval_s / 2 + HANDSHAKE_S[0],
        request_interval_s + HANDSHAKE_S[1],
        f"the next request is due within {request_interval_s * 1000:.0f} ms and makes a TLS handshake (a connection "
        "begun before sends its first packet again only after 1 s)",
        "request interval + handshake",
    )


def _nobody_takes_over() -> Link:
    because = "no other machine can hold the VIP: it is back when this one is"
    return Link("detect", math.inf, math.inf, because, setting="machines")


def _outside(cluster: Cluster) -> Link:
    balancer = balancer_of(cluster)
    asked = f"port {HEALTH_PORT} of each balancer for {balancer.health_path}" if balancer else "apiservers for /readyz"
    because = (
        "a load balancer of yours has the address, and sends clients there until its own health checks have failed as "
        "often as you told it; its timers are not known here (every 2 s, 3 failures, a timeout of 1 s: 7 s). "
        f"Let it ask {asked}"
    )
    formula = "yours: interval * fall + timeout"
    return Link("your load balancer", math.inf, math.inf, because, formula, "endpoint.by")


def _vrrp(design: Design) -> dict[str, keepalived.Timing]:
    return {one.name: keepalived.timing(design.view(one.name)) for one in design.cluster.balancers}


def _rivals(vrrp: Mapping[str, keepalived.Timing], holder: str, *lost: str) -> tuple[float, int | None]:
    """The holder's advert interval in ms, which backups learn from it, and the best backup's priority.

    lost: machines that are gone as well.
    """
    others = (one.priority for name, one in vrrp.items() if name not in (holder, *lost))
    return vrrp[holder].advert_ms, max(others, default=None)


def _endpoint_budgets(design: Design, interval_s: float) -> Iterator[Budget]:
    cluster = design.cluster
    balancer = balancer_of(cluster)
    if cluster.endpoint.by is EndpointOwner.EXTERNAL:
        yield from _budgets_outside(cluster)
        return
    vrrp = _vrrp(design)
    holder = _worst_holder(vrrp)
    rivals = _rivals(vrrp, holder)
    silent, resigned = endpoint_moves(*rivals, interval_s), holder_resigns(*rivals, interval_s)
    yield power_off_vip_holder(design, holder, request_interval_s=interval_s)
    yield Budget(
        "cut-vip-holder",
        (*silent, *_avoid_apiservers_of(design, holder)),
        f"the network of {holder}, which holds the VIP, is cut; once healed, two hold it for an advert at most",
        NEW,
    )
    if cluster.balancer is BalancerRole.BALANCER and len(cluster.balancers) > 1:
        idle = Link("none", 0.0, 0.0, "no connection goes through a balancer without the VIP")
        yield Budget("power-off-idle-balancer", (idle,), "power-off of a balancer without the VIP", NOTHING)
    yield Budget("move-vip", resigned, f"the VIP is moved away from {holder} on purpose", NEW)
    yield Budget("keepalived-death", silent, f"keepalived dies on {holder}; its unit removes the VIP there", NEW)
    two = _two_holders(*rivals, balancer.title if balancer else "an apiserver")
    yield Budget("keepalived-hang", (two,), f"keepalived hangs on {holder}", NEW)
    if balancer:
        who, noticed_s = "systemd runs the unit's ExecStopPost, which", EXIT_SAID_S
        if balancer_watch.is_used(cluster):
            who, noticed_s = f"{balancer_watch.UNIT_NAME} waits for that and", EXIT_NOTICED_S
        dead = Link("detect", *noticed_s, f"{who} writes the file that keepalived follows (track_file)")
        yield Budget(f"{balancer.name}-death", (dead, *resigned), f"{balancer.title} dies on {holder}", NEW)
        hung = _check_times_out_on(vrrp[holder])
        yield Budget(f"{balancer.name}-hang", (hung, *resigned), f"{balancer.title} hangs on {holder}", NEW)


def _worst_holder(vrrp: Mapping[str, keepalived.Timing]) -> str:
    """Any machine may hold the VIP (nopreempt): the worst is the one whose silence lasts longest."""

    def lasts_s(name: str) -> float:
        return sum(link.worst_s for link in endpoint_moves(*_rivals(vrrp, name), REQUEST_INTERVAL_S))

    return max(vrrp, key=lasts_s)


def _check_times_out_on(holder: keepalived.Timing) -> Link:
    return check_times_out(holder.check_interval_ms, holder.check_timeout_ms, holder.check_fall)


def _budgets_outside(cluster: Cluster) -> Iterator[Budget]:
    """What a load balancer of yours in front decides."""
    balancer = balancer_of(cluster)
    faults = [
        ("power-off-control-plane-node", "power-off of a control-plane node"),
        ("apiserver-death", "an apiserver dies"),
        ("apiserver-hang", "an apiserver hangs"),
    ]
    if balancer:
        faults = [(f"{balancer.name}-{how}", f"{balancer.title} {what}") for how, what in _ENDS]
    if balancer and cluster.balancer is BalancerRole.BALANCER:
        # Beside an apiserver it is power-off-control-plane-node.
        faults.append(("power-off-balancer", f"power-off of a machine that runs {balancer.title}"))
    for fault, sentence in faults:
        yield Budget(fault, (_outside(cluster),), sentence, NEW)


def _two_holders(advert_ms: float, priority: int | None, both_run: str) -> Link:
    """The kernel goes on answering for the address that a stopped keepalived has added."""
    if priority is None:
        return Link("none", 0.0, 0.0, "the VIP stays on the only machine that can hold it, which goes on answering")
    seconds = (3 * advert_ms + keepalived.skew_ms(priority, advert_ms)) / 1000
    because = (
        f"a BACKUP takes the VIP after {seconds:.3f} s, but the holder keeps it too: each client reaches the one that "
        f"answered ARP last. Both run {both_run}, so most requests are answered, and connections break whenever ARP "
        "changes. Nothing of ours ends it: restart keepalived there"
    )
    return Link("two holders", 0.0, math.inf, because)


# -- apiservers behind the balancer, or straight behind the VIP


def _avoid_apiservers_of(design: Design, *machines: str) -> tuple[Link, ...]:
    """Nothing to avoid where no apiserver was, or where the VIP has left it behind."""
    lost = sum(Role.CONTROL_PLANE in design.cluster.machines[name].roles for name in machines)
    return (leaving.silent(design, lost),) if lost and balancer_of(design.cluster) else ()


def _apiserver_budgets(design: Design, interval_s: float) -> Iterator[Budget]:
    count, again = len(design.cluster.control_plane), _reconnect(interval_s)
    if not balancer_of(design.cluster):
        yield from _straight_budgets(design, interval_s)
        return
    one_in = f"one in {count} new connections"
    if design.cluster.balancer is BalancerRole.BALANCER or count > 1:
        yield power_off_nodes(design, request_interval_s=interval_s)
    yield Budget("apiserver-death", (leaving.refused(design), again), "an apiserver dies", one_in)
    hung = leaving.hung(design, "it takes connections and does not answer")
    yield Budget("apiserver-hang", (hung, again), "an apiserver hangs", one_in)


_OTHER_NODE_OFF = "power-off of a control-plane node that does not hold the VIP (writes: see etcd-leader-death)"


def _straight_budgets(design: Design, interval_s: float) -> Iterator[Budget]:
    """All that clients ask goes to the apiserver of the VIP's holder: the VIP has to move away from it."""
    if design.cluster.endpoint.by is EndpointOwner.EXTERNAL:
        return
    vrrp = _vrrp(design)
    holder = _worst_holder(vrrp)
    resigned = holder_resigns(*_rivals(vrrp, holder), interval_s)
    if len(vrrp) > 1:
        yield power_off_nodes(design, request_interval_s=interval_s)
    dead = _check_is_refused(vrrp[holder])
    yield Budget("apiserver-death", (dead, *resigned), f"the apiserver of {holder}, which holds the VIP, dies", NEW)
    hung = _check_times_out_on(vrrp[holder])
    yield Budget("apiserver-hang", (hung, *resigned), f"the apiserver of {holder}, which holds the VIP, hangs", NEW)


def _check_is_refused(holder: keepalived.Timing) -> Link:
    """Every question is answered at once, with no."""
    interval_s, fall = holder.check_interval_ms / 1000, holder.check_fall
    return Link(
        "detect",
        (fall - 0.5) * interval_s + HANDSHAKE_S[0],
        fall * interval_s + HANDSHAKE_S[1],
        f"{fall} questions of keepalived, one every {holder.check_interval_ms:g} ms, are refused",
        "fall * interval",
        CHECK_INTERVAL,
    )


def _without_etcd(design: Design) -> Link:
    """An apiserver has no etcd to ask: until clients are elsewhere."""
    cluster = design.cluster
    if not balancer_of(cluster) and cluster.endpoint.by is EndpointOwner.EXTERNAL:
        return _outside(cluster)
    # It asks etcd every half of the timeout at most, and says what it heard last (storagebackend/factory/etcd3.go).
    said_s = 1.5 * _flag_s(cluster, "apiServer", READYCHECK, 2)
    why = f"the apiserver beside it cannot answer without it, and says so after {said_s:g} s"
    leave = leaving.unready(design, why) if balancer_of(cluster) else _vip_leaves_unready(design, why)
    if math.isinf(leave.worst_s):
        return leave
    return replace(leave, worst_s=said_s + leave.worst_s, formula=f"1.5 * {READYCHECK} + {leave.formula}")


def _vip_leaves_unready(design: Design, why: str) -> Link:
    vrrp = _vrrp(design)
    holder = _worst_holder(vrrp)
    rivals = _rivals(vrrp, holder)
    if rivals[1] is None:
        return _nobody_takes_over()
    # Whoever asks again is counted by the one who calls.
    *moves, _ = (_check_times_out_on(vrrp[holder]), *holder_resigns(*rivals, REQUEST_INTERVAL_S))
    worst_s = sum(link.worst_s for link in moves)
    because = f"{why}; where it holds the VIP, that moves: {moves[0].because}"
    # Mostly the VIP is elsewhere.
    return Link(MOVE, 0.0, worst_s, because, f"{moves[0].formula} + {SKEW}", CHECK_INTERVAL)


# -- etcd


def leader_is_lost(election_ms: float, members: int, request_interval_s: float) -> tuple[Link, ...]:
    """Until writes go on. The first follower to lose patience is elected; each draws its own from [1, 2) elections."""
    if members < 3:
        return (_no_quorum(members),)
    election_s = election_ms / 1000
    # The median of the smallest of so many draws from [1, 2).
    median = 2 - 0.5 ** (1 / (members - 1))
    because = (
        f"the first of {members - 1} followers to lose patience, each after 1 to 2 times {election_s:g} s, campaigns; "
        "two within one round trip split the vote, which is rare, and it takes that long again"
    )
    return (
        Link("detect", median * election_s, 2 * election_s, because, "(1 to 2) * election timeout", ELECTION),
        Link("elect", *VOTE_S, "pre-vote, vote, and the first entry of the new leader"),
        _reconnect(request_interval_s),
    )


def _no_quorum(members: int) -> Link:
    because = (
        f"{members // 2 + 1} of {members} members must answer. Reads from the apiservers' caches go on, and so do pods "
        "that run; it ends when enough members are back, or with a restore"
    )
    return Link("no quorum", math.inf, math.inf, because, setting="etcd.topology")


def _etcd_budgets(design: Design, interval_s: float) -> Iterator[Budget]:
    cluster, members = design.cluster, len(design.cluster.etcd_members)
    lost = _leader_is_lost(design, interval_s)
    stacked = cluster.is_stacked
    for how, what in _ENDS:
        if members < 3:
            yield Budget(f"etcd-leader-{how}", lost, f"the leader of etcd {what}", WRITES)
            continue
        if stacked:
            client = _without_etcd(design)
            affects = f"one in {members} new connections" if balancer_of(cluster) else NEW
        else:
            client = _other_member(how)
            affects = f"one in {members} requests of each apiserver to etcd" if how == "hang" else NOTHING
        again = _reconnect(interval_s)
        yield Budget(f"etcd-follower-{how}", (client, again), f"a member of etcd, not its leader, {what}", affects)
        yield Budget(f"etcd-leader-{how}", (*lost, _beyond(client, lost)), f"the leader of etcd {what}", WRITES)
    if not stacked:
        yield power_off_etcd_leader(design, request_interval_s=interval_s)
    if not stacked and members > 2:
        sentence = "power-off of a machine of etcd that does not lead"
        affects = f"one in {members} requests of each apiserver to etcd"
        yield Budget("power-off-etcd-follower", (_other_member("power-off"), _reconnect(interval_s)), sentence, affects)
    sentence = f"{(members + 1) // 2} of {members} etcd members are lost at once"
    yield Budget("etcd-quorum-loss", (_no_quorum(members),), sentence, WRITES)


def _leader_is_lost(design: Design, interval_s: float) -> tuple[Link, ...]:
    members = design.cluster.etcd_members
    election_ms = max(etcd.election_ms(design.view(one.name)) for one in members)
    return leader_is_lost(election_ms, len(members), interval_s)


def _other_member(how: str) -> Link:
    """Apiservers know every member of an external etcd."""
    if how == "death":
        because = "its machine refuses, and the apiservers' client goes on with another member"
        return Link(OTHER_MEMBER, 0.0, HANDSHAKE_S[1], because)
    because = (
        f"each control-plane node asks every member, waits {etcd_watch.ANSWER_S:g} s for it {etcd_watch.TIMES} times, "
        "and ends its connections there; requests to other members are answered meanwhile"
    )
    worst_s = etcd_watch.LEFT_AFTER_S + HANDSHAKE_S[1]
    return Link(OTHER_MEMBER, 0.0, worst_s, because, "pause + times * (pause + answer)")


def _beyond(link: Link, meanwhile: tuple[Link, ...]) -> Link:
    """What waits at the same time counts only as far as it takes longer."""
    if math.isinf(link.worst_s):
        return link
    typical_s = max(0.0, link.typical_s - sum(one.typical_s for one in meanwhile))
    worst_s = max(0.0, link.worst_s - sum(one.worst_s for one in meanwhile))
    because = f"{link.worst_s:.2f} s at worst, of which only what is longer than the election counts: {link.because}"
    return replace(link, typical_s=typical_s, worst_s=worst_s, because=because)


# -- kubelets and controllers


def _node_budgets(cluster: Cluster) -> Iterator[Budget]:
    grace_s = _flag_s(cluster, "controllerManager", "node-monitor-grace-period", 50)
    because = (
        f"static pods run on without it, and {_not_its_own(cluster)} not its own; the node is "
        f"NotReady {grace_s:g} s after its last lease, and what runs there is not restarted when it fails"
    )
    setting = _flag_key("controllerManager", "node-monitor-grace-period")
    for how, what in _ENDS:
        links = (Link("none", 0.0, 0.0, because, "node-monitor-grace-period", setting),)
        yield Budget(f"kubelet-{how}", links, f"the kubelet of a control-plane node {what}", NOTHING)
    for lease, affects in (
        ("kube-controller-manager", "controllers (no request fails): nodes, endpoints, rollouts"),
        ("kube-scheduler", "new pods (no request fails)"),
    ):
        links = (_lease(cluster, _SECTIONS[lease]),)
        yield Budget(holder_dies(lease), links, f"the active {lease} dies", affects)


def _not_its_own(cluster: Cluster) -> str:
    balancer = balancer_of(cluster)
    return f"{balancer.title} and keepalived are" if balancer else "keepalived is"


# client-go's leader election waits retry * (1 to 1 + JITTER) between two looks at the lease.
JITTER = 1.2


def _lease(cluster: Cluster, component: str) -> Link:
    """Another waits until it has seen the lease unchanged for its whole duration; it looks every retry period."""
    if len(cluster.control_plane) < 2:
        return Link("detect", math.inf, math.inf, "there is no other: until this one runs again", setting="machines")
    duration_s = _flag_s(cluster, component, "leader-elect-lease-duration", 15)
    retry_s = _flag_s(cluster, component, "leader-elect-retry-period", 2)
    look_s = retry_s * (1 + JITTER)
    because = (
        f"a lease of {duration_s:g} s runs from when another saw it renewed, and it looks every {retry_s:g} to "
        f"{look_s:g} s; one that is started again waits as well, for it has a new identity"
    )
    setting = _flag_key(component, "leader-elect-lease-duration")
    formula = f"lease-duration + 2 * {1 + JITTER:g} * retry-period"
    return Link("detect", duration_s + retry_s, duration_s + 2 * look_s, because, formula, setting)


# kubeadm's section for whoever holds a lease.
_SECTIONS = {"kube-controller-manager": "controllerManager", "kube-scheduler": "scheduler"}


def holder_dies(lease: str) -> str:
    """The fault that is the death of this lease's holder."""
    return f"{lease.removeprefix('kube-')}-death"


def holder_acts_s(cluster: Cluster, lease: str) -> float:
    """How long after its last renewal the holder of this lease may act: it waits, and then tries again, in vain.

    client-go's leaderelection.renew: a retry period, then for the renew deadline.
    """
    section = _SECTIONS[lease]
    deadline_s = _flag_s(cluster, section, "leader-elect-renew-deadline", 10)
    return _flag_s(cluster, section, "leader-elect-retry-period", 2) + deadline_s


def _flag_key(component: str, flag: str) -> str:
    return f"kubeadm.ClusterConfiguration.{component}.extraArgs.{flag}"


def _flag_s(cluster: Cluster, component: str, flag: str, otherwise: float) -> float:
    """A duration among kubeadm's extraArgs (a list of name and value); what cannot be read counts as the default."""
    section = cluster.kubeadm.get("ClusterConfiguration", {}).get(component)
    arguments = section.get("extraArgs") if isinstance(section, dict) else None
    for one in arguments if isinstance(arguments, list) else ():
        if isinstance(one, dict) and one.get("name") == flag:
            found = milliseconds(str(one.get("value")), unit_ms=1000)
            otherwise = otherwise if found is None else found / 1000
    return otherwise
