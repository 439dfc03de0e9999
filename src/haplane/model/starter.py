"""The first cluster.yaml of a new cluster: what was asked for, and the most useful options as comments."""

from __future__ import annotations

from collections.abc import Mapping

from haplane.model.editing import written

VERSION = "1.35.4"


def starter(
    name: str,
    vip: str,
    machines: Mapping[str, str],
    *,
    version: str = VERSION,
    host: str | None = None,
    port: int | None = None,
    ssh_user: str | None = None,
    ssh_key: str | None = None,
    jump: str | None = None,
    target: str | None = None,
    client: tuple[str, str] | None = None,
) -> str:
    """The text of a file. Nothing is checked here: `read_cluster` tells what is wrong with it, with a place in it.

    vip: with its subnet's prefix. machines: name -> address of each control-plane machine. target: a time with its
    unit. client: name and address of a machine from which drills probe.
    """
    width = max(len(written(one)) for one in [*machines, client[0] if client else ""])
    sections = [
        f"name: {written(name)}",
        _kubernetes(version),
        _endpoint(vip, host, port),
        _failover(target),
        _ssh(ssh_user, ssh_key, jump),
        "\n".join([_MACHINES, *(_machine(*one, width) for one in machines.items()), _client(client, width)]),
        _POWER,
        _ACCEPT,
    ]
    return _HEAD + "\n\n".join(sections) + "\n"


_HEAD = """\
# A highly available Kubernetes control plane. What is commented out is optional; what is left out is derived:
# `haplane design` shows it, `haplane lint` looks for hazards, `haplane plan` says what would be done.
"""

_MACHINES = """\
# The first is preferred for the VIP. `zone: rack-a` says what fails as one.
machines:"""

_POWER = """\
# How a drill cuts and restores the power of a machine: ipmitool, virsh, or your cloud's command line, run on this host.
# power:
#   off: ipmitool -H {name}-bmc chassis power off
#   on: ipmitool -H {name}-bmc chassis power on
#   freeze: virsh suspend {name}          # optional: a machine that stands still and goes on
#   thaw: virsh resume {name}"""

_ACCEPT = """\
# Hazards that may stay, each with the reason why.
# accept:
#   topo-single-provider: the second DNS server comes in spring"""


def _kubernetes(version: str) -> str:
    return f"""\
kubernetes:
  version: {written(version)}
  # pods: 10.244.0.0/16            # networks that nothing else uses
  # services: 10.96.0.0/16
  # cni: flannel                   # one network of all pods; without it you bring your own"""


def _endpoint(vip: str, host: str | None, port: int | None) -> str:
    return "\n".join(
        [
            "# What clients talk to; the prefix names the subnet.",
            "endpoint:",
            f"  vip: {written(vip)}",
            _line("host", host, "api.example", "a DNS name of it; cannot be added later"),
            _line("port", port, "8443", "6443 is the apiservers' own"),
        ]
    )


def _failover(target: str | None) -> str:
    lines = [
        "# The longest outage of the endpoint when the machine that holds it dies. Without it: calm timers.",
        "failover:",
        f"  target: {written(target or '')}",
    ]
    return "\n".join(lines if target else [lines[0], "# failover:", "#   target: 500ms"])


def _ssh(user: str | None, key: str | None, jump: str | None) -> str:
    if not (user or key or jump):
        return "# How to log in. Without it: as root, with the keys that ssh would use.\n# ssh:\n#   user: ops"
    return "\n".join(
        [
            "# How to log in.",
            "ssh:",
            _line("user", user, "ops", "who is not root needs sudo without a password"),
            _line("key", key, "keys/id_ed25519", "without it: the agent and ~/.ssh"),
            _line("jump", jump, "bastion.example", "log in through this host"),
        ]
    )


def _line(key: str, value: str | int | None, example: str, meaning: str) -> str:
    """The key with its value, or as a comment with an example."""
    if value is not None:
        return f"  {key}: {written(value)}"
    return f"  {f'# {key}: {example}':<32} # {meaning}"


def _machine(name: str, address: str, width: int, more: str = "") -> str:
    return f"  {written(name) + ':':<{width + 1}} {{address: {written(address)}{more}}}"


def _client(client: tuple[str, str] | None, width: int) -> str:
    if client:
        return _machine(*client, width, ", roles: [client]")
    return "  # probe: {address: 192.0.2.20, roles: [client]}   # drills ask from here; needs Python and nothing else"
