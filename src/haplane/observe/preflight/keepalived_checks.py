"""What of keepalived is on the machines already: is it what the design relies on? Pure.

What the next apply replaces by itself is a warning: an error would keep it from doing so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from haplane.components import keepalived
from haplane.components.balancer import balancer_of
from haplane.design.hazards.finding import Severity
from haplane.model.roles import vip_sharers
from haplane.observe.preflight.check import NotTried, Said, Seen, Trouble, check
from haplane.observe.preflight.installed import KEEPALIVED_FILE
from haplane.observe.preflight.keepalived_file import SECRET, Dialect, Script, dialects, parse, scripts
from haplane.observe.preflight.probe import Installed, Part

# The first that reads an interval of a script that is a fraction (keepalived 6f9ace3c).
READS_FRACTIONS = (2, 3, 2)
_NOT_CONFIGURED = "keepalived is not configured there yet"


@check(
    "scripts-run",
    hazard="vip-check-disabled",
    sentence="keepalived can run its scripts, and nobody but root can change them",
    cure="let root own script and folders (chown root:root, chmod go-w), and name an existing script_user",
    concerns=vip_sharers,
    needs=Part.INSTALLED,
)
def scripts_run(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        there = probe.installed
        if not there.keepalived_file:
            yield NotTried(name, _NOT_CONFIGURED)
            continue
        ours = {file.path for file in seen.design.components(name)["keepalived"].files}
        for script in scripts(parse(there.keepalived_file)):
            for because in _of_the_script(there, script):
                if script.path in ours:
                    yield Trouble(name, because, Severity.WARNING, cure="haplane apply writes it again")
                else:
                    yield Trouble(name, because)
        folders = {folder for one in scripts(parse(there.keepalived_file)) for folder in _above(one.path)}
        for folder in sorted(folders & set(there.access)):
            if not there.access[folder].is_roots_alone:
                yield Trouble(name, f"others than root can change {folder}, above a script of keepalived")
        for account, exists in there.accounts.items():
            if not exists:
                yield Trouble(name, f"script_user of {KEEPALIVED_FILE} names the {account}, which does not exist")


def _of_the_script(there: Installed, script: Script) -> Iterator[str]:
    access = there.access.get(script.path)
    if access is None:
        yield f"keepalived runs {script.path}, which is not there"
        return
    if not access.is_roots_alone:
        yield f"others than root can change {script.path}"
    # Somebody else's rights; who owns it may have more.
    bits = 0o111 if script.user in ("", "root") or access.owner or access.group else 0o001
    if not access.mode & bits:
        yield f"{script.path} is not executable for {script.user or 'root'}"


def _above(path: str) -> Iterator[str]:
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


@check(
    "keepalived-alike",
    hazard="vip-peer-drift",
    sentence="all keepalived that share the VIP speak alike",
    cure="haplane apply, which renders all of them from one design",
    concerns=vip_sharers,
    needs=Part.INSTALLED,
)
def keepalived_alike(seen: Seen) -> Iterator[Said]:
    files = {name: probe.installed.keepalived_file for name, probe in seen.machines.items()}
    spoken = {name: dialects(parse(text), seen.cluster.endpoint) for name, text in files.items() if text}
    for name in seen.machines:
        if name not in spoken:
            yield NotTried(name, _NOT_CONFIGURED)
        elif len(spoken) < 2:
            yield NotTried(name, "keepalived is configured on no other machine that could be read")
    # An apply writes all of them, unless they are what the design says already.
    severity = Severity.ERROR if all(_as_designed(seen, name) for name in spoken) else Severity.WARNING
    for version in sorted({version for said in spoken.values() for version in said}):
        yield from _odd_ones({name: said.get(version) for name, said in spoken.items()}, severity)
    versions = {name: seen.machines[name].installed.keepalived_version for name in spoken}
    minors = {name: f"{one[0]}.{one[1]}" for name, one in versions.items() if one}
    for name, own, usual, others in _unlike(minors):
        evidence = f"its keepalived is {own}; {others}: {usual}"
        yield Trouble(name, evidence, Severity.WARNING, cure="the same version of keepalived on all of them")


def _odd_ones(spoken: Mapping[str, Dialect | None], severity: Severity) -> Iterator[Said]:
    for name, said in spoken.items():
        if said is None:
            yield Trouble(name, f"{KEEPALIVED_FILE} has no VIP that the others have", severity)
    shown = {name: said.shown for name, said in spoken.items() if said is not None}
    for what in next(iter(shown.values()), {}):
        for name, own, usual, others in _unlike({name: values[what] for name, values in shown.items()}):
            evidence = f"{what} is not that of {others}" if what in SECRET else f"{what}: {own}; {others}: {usual}"
            # In version 3 a backup takes over the interval of the adverts that it hears (RFC 9568, 6.4.2).
            calm = what == "advert_int" and shown[name]["vrrp_version"] == "3"
            yield Trouble(name, evidence, Severity.WARNING if calm else severity)


def _unlike(values: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Those that differ from most: (machine, its value, the usual one, who has that). Of equals the first counts."""
    said = list(values.values())
    usual = max(said, key=said.count, default="")
    others = ", ".join(name for name, value in values.items() if value == usual)
    yield from ((name, value, usual, others) for name, value in values.items() if value != usual)


def _as_designed(seen: Seen, name: str) -> bool:
    return is_as_designed(seen, name, "keepalived", KEEPALIVED_FILE)


def is_as_designed(seen: Seen, name: str, component: str, path: str) -> bool:
    """Whether a file is there as the design has it: if not, the next apply replaces it."""
    designed = {file.path: file.sha256 for file in seen.design.components(name)[component].files}
    return seen.machines[name].installed.digests.get(path) == designed[path]


@check(
    "keepalived-ordered",
    hazard="vip-unit-order",
    sentence="keepalived starts after the network and the balancer, and ends before them",
    cure=f"haplane apply writes {keepalived.DROP_IN_FILE}; where it is there: systemctl daemon-reload",
    concerns=vip_sharers,
    needs=Part.INSTALLED,
)
def keepalived_ordered(seen: Seen) -> Iterator[Said]:
    balancer = balancer_of(seen.cluster)
    first = ("network-online.target", balancer.unit) if balancer else ("network-online.target",)
    for name, probe in seen.machines.items():
        unit = probe.installed.unit
        if not unit:
            yield NotTried(name, "systemctl does not say")
        elif not probe.installed.keepalived_file or unit.get("LoadState") != "loaded":
            yield NotTried(name, _NOT_CONFIGURED)
        else:
            after, wants = unit.get("After", "").split(), unit.get("Wants", "").split()
            lacks = [f"After={one}" for one in first if one not in after]
            if "network-online.target" not in wants:
                lacks.append("Wants=network-online.target")
            if lacks:
                yield Trouble(name, f"keepalived.service lacks {', '.join(lacks)}", Severity.WARNING)


@check(
    "interval-understood",
    hazard="vip-check-over-budget",
    sentence="keepalived reads the interval of its check as it is meant",
    cure="keepalived: {vrrp_script: {interval: 1}} in cluster.yaml, or keepalived 2.3.2 or later",
    concerns=vip_sharers,
    needs=Part.INSTALLED,
)
def interval_understood(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        version = probe.installed.keepalived_version
        interval_ms = keepalived.timing(seen.view(name)).check_interval_ms
        if version is None:
            yield NotTried(name, "keepalived is not installed there yet")
        elif version < READS_FRACTIONS and interval_ms % 1000:
            shown = ".".join(map(str, version))
            yield Trouble(name, f"keepalived {shown} reads whole seconds only, and the interval is {interval_ms:g} ms")
