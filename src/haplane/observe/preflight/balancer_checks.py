"""Can the balancer do on these machines what the design asks of it? Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from haplane.components.balancer import balancer_of
from haplane.components.base import Balancer, ConfigTest, View
from haplane.design.hazards.effective import Told
from haplane.design.hazards.finding import Severity
from haplane.design.hazards.listening import clients_line
from haplane.model.cluster import APISERVER_PORT, BalancerProgram, EndpointOwner
from haplane.model.roles import balancers, control_plane, run_a_balancer
from haplane.observe.preflight.check import NotTried, Said, Seen, Trouble, check
from haplane.observe.preflight.firewall import Packet, dropping_rule
from haplane.observe.preflight.installed import KEEPALIVED_FILE, MOST_BYTES
from haplane.observe.preflight.keepalived_checks import is_as_designed
from haplane.observe.preflight.probe import Checked, Part, Probe


def _view(seen: Seen, name: str) -> View:
    """The design, made for what the machine has now rather than for what was once measured."""
    view, host = seen.view(name), seen.machines[name].host
    measured = replace(
        view.measured,
        open_files=host.open_files or view.measured.open_files,
        memory_bytes=host.memory_bytes or view.measured.memory_bytes,
    )
    return replace(view, measured=measured)


def _balancing(seen: Seen) -> Iterator[tuple[str, Probe, Balancer]]:
    """Machines with the program that balances there."""
    if balancer := balancer_of(seen.cluster):
        yield from ((name, probe, balancer) for name, probe in seen.machines.items())


@check(
    "connections-fit",
    hazard="lb-maxconn",
    sentence="there are descriptors and memory for as many connections as the balancer may take",
    cure="leave maxconn and worker_connections to haplane, or give the machine more: a higher limit of open files, "
    "more memory",
    concerns=run_a_balancer,
)
def connections_fit(seen: Seen) -> Iterator[Said]:
    for name, probe, balancer in _balancing(seen):
        open_files, memory = probe.host.open_files, probe.host.memory_bytes
        room = balancer.room(_view(seen, name))
        if not room.connections:
            yield NotTried(name, f"the file leaves maxconn out: {balancer.title} takes what descriptors allow")
        if open_files is None or memory is None:
            yield NotTried(name, "/proc/1/limits or /proc/meminfo does not say")
        if open_files is not None and room.descriptors > open_files:
            needed = f"{room.connections} connections need {room.descriptors} descriptors"
            yield Trouble(name, f"{needed}, and a service may have {open_files}")
        if memory is not None and room.memory_bytes > memory / 4:
            needed = f"{room.connections} connections take {room.memory_bytes / 2**20:.0f} MiB"
            yield Trouble(name, f"{needed}, more than a quarter of the memory ({memory / 2**20:.0f} MiB)")


@check(
    "bind-possible",
    hazard="lb-nonlocal-bind",
    sentence="the balancer can start where the VIP is not",
    cure="bind to a wildcard (leave bind and listen to haplane), or set net.ipv4.ip_nonlocal_bind = 1 (net.ipv6 "
    "likewise)",
    concerns=run_a_balancer,
)
def bind_possible(seen: Seen) -> Iterator[Said]:
    vips = {vip.ip for vip in seen.cluster.endpoint.vips}
    for name, probe, balancer in _balancing(seen):
        told = Told(seen.cluster, seen.cluster.machines[name], balancer.name, balancer.settings(seen.view(name)))
        line = clients_line(told)
        if line is None or "transparent" in line.parameters:
            continue
        for vip in dict.fromkeys(one.address for one in line.listeners if one.address in vips):
            assert vip is not None
            allowed = probe.host.nonlocal_bind.get(vip.version)
            sysctl = f"net.ipv{vip.version}.ip_nonlocal_bind"
            if allowed is None:
                yield NotTried(name, f"it has no sysctl {sysctl} to read")
            elif not allowed:
                yield Trouble(name, f"{balancer.title} is told to bind to the VIP {vip}, and {sysctl} is 0")


@check(
    "readyz-open",
    hazard="lb-check-unauthorized",
    sentence="apiservers answer /readyz to a balancer, which has no credentials",
    cure="allow anonymous access to /readyz: --anonymous-auth=true, or an AuthenticationConfiguration whose anonymous "
    "conditions name the path; and keep the role system:public-info-viewer",
    concerns=control_plane,
    needs=Part.INSTALLED,
)
def readyz_open(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        status = probe.installed.readyz
        if status == "403" and probe.installed.readyz_administrator != "200":
            # It forbids everything until it has read the roles; with its member of etcd not joined yet, for minutes.
            yield NotTried(name, "its apiserver answers 403, and is not ready for an administrator either")
        elif status in ("401", "403"):
            yield Trouble(name, f"its apiserver answers {status} to /readyz without credentials")
        elif not status:
            yield NotTried(name, "curl is not there to ask")
        # Not ready is an answer.
        elif status not in ("200", "500"):
            what = "no apiserver answers" if status == "000" else f"what answers ({status}) is no apiserver"
            yield NotTried(name, f"{what} on port {APISERVER_PORT}")


@check(
    "configuration-accepted",
    hazard="host-config-test",
    sentence="the balancer and keepalived accept the configuration that is there",
    cure="correct what they complain about in cluster.yaml (haproxy:, nginx:, keepalived:), then haplane apply",
    concerns=balancers,
    needs=Part.INSTALLED,
)
def configuration_accepted(seen: Seen) -> Iterator[Said]:
    balancer = balancer_of(seen.cluster)
    files = {balancer.name: balancer.config_test.file} if balancer else {}
    if seen.cluster.endpoint.by is EndpointOwner.KEEPALIVED:
        files["keepalived"] = KEEPALIVED_FILE
    for name, probe in seen.machines.items():
        there = probe.installed
        for program, path in files.items():
            tested = there.tests.get(program)
            if tested is None:
                lacks = "has no configuration" if program in there.programs else "is not installed"
                yield NotTried(name, f"{program} {lacks} there yet")
                continue
            if balancer and program == balancer.name:
                because, severity = _balancers(tested, balancer.config_test)
            else:
                because, severity = _keepalived(tested)
            if severity is None and because:
                yield NotTried(name, because)
            elif severity is not None and is_as_designed(seen, name, program, path) and _is_whole(seen, name, program):
                yield Trouble(name, because, severity)
            elif severity is not None:
                yield Trouble(name, because, Severity.WARNING, cure="haplane apply writes what differs or is missing")


def _is_whole(seen: Seen, name: str, program: str) -> bool:
    """Whether all its files are there: a configuration names others of them, which a reset has taken away."""
    files = seen.design.components(name)[program].files
    return all(file.path in seen.machines[name].installed.digests for file in files)


def _balancers(tested: Checked, test: ConfigTest) -> tuple[str, Severity | None]:
    if tested.code == 124:
        return f"{test} did not end", None
    if tested.code:
        return f"{test} says {tested.code}: {_first(tested, test.refusal)}", Severity.ERROR
    if any(test.warning in line for line in tested.lines):
        return f"{test} warns: {_first(tested, test.warning)}", Severity.WARNING
    return "", None


# keepalived's own exit codes (lib/scheduler.h), as far as a test has them.
_KEEPALIVED = {
    4: ("it cannot run with its configuration", Severity.ERROR),
    5: ("it runs, but not with all that its configuration says", Severity.WARNING),
    6: ("it does not run a script, for its security", Severity.ERROR),
}


def _keepalived(tested: Checked) -> tuple[str, Severity | None]:
    if not tested.code:
        return "", None
    what, severity = _KEEPALIVED.get(tested.code, ("", None))
    said = f"keepalived --config-test says {tested.code}: {_first(tested)}"
    return (f"{what}; {said}" if what else said), severity


def _first(tested: Checked, mark: str = "") -> str:
    """The first line with the mark, else the first one: the others follow from it, often enough."""
    line = next((one for one in tested.lines if mark in one), next(iter(tested.lines), "nothing"))
    return line.rpartition("] ")[2].strip() if mark else line.strip()


# ---- what the machine's own rules do to it ----


@check(
    "unknown-packets-answered",
    hazard="net-stale-flow",
    sentence="no firewall drops packets of clients whose connection died with the VIP's old holder",
    cure="before that rule: accept the endpoint's port, or reject with tcp reset",
    concerns=balancers,
    needs=Part.INSTALLED,
)
def unknown_packets_answered(seen: Seen) -> Iterator[Said]:
    endpoint = seen.cluster.endpoint
    for name, probe in seen.machines.items():
        machine, rules = seen.cluster.machines[name], probe.installed.rules
        interface = machine.interface or probe.host.interface_of(machine.address)
        if not rules:
            yield NotTried(name, "neither nft nor iptables-save is there to ask, or they say nothing")
            continue
        packets = [Packet(interface, vip.ip, endpoint.port) for vip in endpoint.vips]
        found = next((rule for packet in packets if (rule := dropping_rule(rules, packet))), "")
        if found:
            yield Trouble(name, f"clients of a VIP that has moved here may wait in the dark: {found}", Severity.WARNING)
        elif cut := [tool for tool, text in rules.items() if len(text) >= MOST_BYTES]:
            yield NotTried(name, f"the rules are too many to read all of them ({', '.join(cut)})")


@check(
    "policy-allows",
    hazard="host-mac-policy",
    sentence="SELinux and AppArmor let the balancer and keepalived do their work",
    cure="setsebool -P haproxy_connect_any on; for AppArmor and other denials mend the profile or the file's label",
    concerns=balancers,
    needs=Part.INSTALLED,
)
def policy_allows(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        there = probe.installed
        if probe.host.container:
            yield NotTried(name, f"it is a container ({probe.host.container}); its host's policy is not asked about")
            continue
        is_haproxys = seen.cluster.balanced_by is BalancerProgram.HAPROXY
        if is_haproxys and there.selinux == "Enforcing" and there.haproxy_connects is False:
            evidence = f"SELinux is enforcing, and haproxy_connect_any is off: port {APISERVER_PORT} is no port of HTTP"
            yield Trouble(name, evidence, Severity.WARNING)
        for line in there.denied or ():
            yield Trouble(name, f"denied within a day: {line[:200]}", Severity.WARNING)
        is_on = there.apparmor or there.selinux in ("Enforcing", "Permissive")
        if is_on and not there.programs:
            yield NotTried(name, "nothing is installed there yet that could be denied anything")
        elif is_on and there.denied is None:
            yield NotTried(name, "whether something was denied lately: journalctl does not say")
