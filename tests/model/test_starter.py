"""The first cluster.yaml holds what was asked for, reads back as that, and every line it suggests is right."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, ip_address, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.model.files import read

from haplane.model.cluster import Role
from haplane.model.errors import InvalidFile
from haplane.model.starter import VERSION, starter

MACHINES = {"cp1": "192.0.2.11", "cp2": "192.0.2.12", "cp3": "192.0.2.13"}

_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True) | st.sampled_from(
    ["on", "010", "12", "1e3"]
)
_ADDRESSES = st.ip_addresses().filter(lambda address: not address.is_multicast and not address.is_unspecified)


@given(
    name=_NAMES,
    vip=_ADDRESSES,
    machines=st.dictionaries(_NAMES, _ADDRESSES, min_size=1, max_size=7),
    client=st.none() | _ADDRESSES,
    host=st.sampled_from([None, "api.prod.example", "on", "1e3"]),
    port=st.none() | st.integers(1, 65535),
    user=st.sampled_from([None, "ops", "root", "no", "007", "a,b"]),
    key=st.sampled_from([None, "keys/id", "~/.ssh/a b", "k: {}", "#k"]),
    jump=st.sampled_from([None, "bastion.example", "ops@[2001:db8::1]:2222", "192.0.2.9"]),
    target_ms=st.none() | st.integers(1, 10_000),
)
def test_reading_it_back_gives_what_was_asked_for(
    name: str,
    vip: IPv4Address | IPv6Address,
    machines: dict[str, IPv4Address | IPv6Address],
    client: IPv4Address | IPv6Address | None,
    host: str | None,
    port: int | None,
    user: str | None,
    key: str | None,
    jump: str | None,
    target_ms: int | None,
) -> None:
    text = starter(
        name,
        f"{vip}/{vip.max_prefixlen}",
        {one: str(address) for one, address in machines.items()},
        version="1.34.7",
        host=host,
        port=port,
        ssh_user=user,
        ssh_key=key,
        jump=jump,
        target=f"{target_ms}ms" if target_ms else None,
        client=("the-client", str(client)) if client else None,
    )
    cluster = read(text)
    assert (cluster.name, cluster.kubernetes.version) == (name, "1.34.7")
    assert cluster.endpoint.vips == (ip_interface(f"{vip}/{vip.max_prefixlen}"),)
    assert (cluster.endpoint.host, cluster.endpoint.port) == (host, port or 8443)
    assert [(one.name, one.address) for one in cluster.control_plane] == list(machines.items())
    assert [one.address for one in cluster.with_role(Role.CLIENT)] == ([client] if client else [])
    ssh = next(iter(cluster.machines.values())).ssh
    assert (ssh.user, ssh.jump) == (user or "root", jump)
    assert (ssh.key is None) == (key is None)
    assert cluster.failover.target_ms == target_ms
    assert not cluster.accept and cluster.power is None


def test_a_file_with_nothing_but_what_is_needed_is_short() -> None:
    text = starter("prod", "192.0.2.100/24", MACHINES)
    assert read(text).kubernetes.version == VERSION
    assert read(text).endpoint.vip == IPv4Interface("192.0.2.100/24")
    assert len(text.splitlines()) < 50
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("given", [{}, {"ssh_user": "ops"}], ids=["nothing more", "a user"])
def test_what_it_suggests_in_comments_can_be_used_as_it_stands(given: dict[str, str]) -> None:
    text = starter("prod", "192.0.2.100/24", MACHINES, **given)
    # A comment that is a key, or a value below one.
    with_options = re.sub(r"^( *)# ( *[a-z-]+:( |$))", r"\1\2", text, flags=re.MULTILINE)
    cluster = read(with_options)
    assert cluster.power is not None
    assert cluster.accept
    assert cluster.failover.target_ms == 500
    assert cluster.endpoint.host == "api.example"
    assert cluster.machines["cp1"].ssh.user == "ops"
    assert cluster.with_role(Role.CLIENT)[0].address == ip_address("192.0.2.20")


def test_what_cannot_be_right_is_left_to_the_reader() -> None:
    with pytest.raises(InvalidFile) as caught:
        read(starter("Prod", "192.0.2.100", {}, target="500"))
    assert {problem.key for problem in caught.value.problems} == {"name", "endpoint.vip", "failover.target", "machines"}
