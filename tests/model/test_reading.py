"""cluster.yaml is read strictly: every error has a place and a sentence, and all come at once."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from haplane.model import reading
from haplane.model.cluster import BundleSource, Cluster, Cni, Role
from haplane.model.errors import InvalidFile, Problem
from haplane.model.file import read_cluster

SMALLEST = """\
name: prod
kubernetes: {version: 1.35.4}
endpoint: {vip: 192.0.2.100/24}
machines:
  cp1: {address: 192.0.2.11}
  cp2: {address: 192.0.2.12}
"""

FULL = """\
name: prod
kubernetes:
  version: 1.34.9
  pods: [10.200.0.0/16, "fd00:1::/56"]
  services: [10.201.0.0/16, "fd00:2::/112"]
  cni: bridge
endpoint: {vip: 192.0.2.100/24, port: 9443, host: api.prod.example, virtual_router_id: 51}
ssh: {user: ops, port: 22, jump: bastion, key: ./keys/id, known_hosts: ~/.ssh/known_hosts}
bundle:
  sources:
    - official
    - go-modules
    - directory: ./bundle
    - official: {url: "http://127.0.0.1:8000/", registry: "http://127.0.0.1:8001"}
power: {off: "virsh destroy {name}", on: "wake {address}"}
kubeadm:
  ClusterConfiguration: {apiServer: {extraArgs: [{name: v, value: "2"}]}}
kubelet: {evictionHard: {memory.available: 5%}, maxPods: 200, some: [1.5, ~, null, "", true, FALSE, 2026-01-01]}
containerd: {SystemdCgroup: true}
machines:
  cp1: {address: 192.0.2.11, interface: eth0, ssh: {port: 2222, user: root}}
  cp2: {address: 192.0.2.12, roles: [control-plane, client], ssh: {jump: }}
  bastion: {address: 203.0.113.4, roles: [client]}
"""


def read(text: str) -> Cluster:
    return read_cluster(text, file="cluster.yaml", folder=Path("/cluster"))


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidFile) as caught:
        read(text)
    return caught.value.problems


def test_the_smallest_file_gets_every_default() -> None:
    cluster = read(SMALLEST)
    assert (cluster.name, cluster.file) == ("prod", "cluster.yaml")
    assert cluster.kubernetes.version == "1.35.4"
    assert cluster.kubernetes.pods == (ip_network("10.244.0.0/16"),)
    assert cluster.kubernetes.services == (ip_network("10.96.0.0/16"),)
    assert cluster.kubernetes.cni is Cni.NONE
    assert (cluster.endpoint.vip, cluster.endpoint.port) == (ip_interface("192.0.2.100/24"), 8443)
    assert [source.kind for source in cluster.sources] == ["official", "go-modules"]
    assert cluster.sources[0].url == "https://dl.k8s.io"
    assert cluster.sources[0].registry == "https://registry.k8s.io"
    cp1 = cluster.machines["cp1"]
    assert (cp1.address, cp1.roles, cp1.line) == (ip_address("192.0.2.11"), {Role.CONTROL_PLANE}, 5)
    assert (cp1.ssh.user, cp1.ssh.port, cp1.ssh.sudo, cp1.ssh.jump) == ("root", 22, False, None)


def test_a_full_file_is_read_whole() -> None:
    cluster = read(FULL)
    assert cluster.kubernetes.pods == (ip_network("10.200.0.0/16"), ip_network("fd00:1::/56"))
    assert (cluster.endpoint.port, cluster.endpoint.host, cluster.endpoint.virtual_router_id) == (
        9443,
        "api.prod.example",
        51,
    )
    assert cluster.sources[2] == BundleSource(kind="directory", path=Path("/cluster/bundle"))
    assert cluster.sources[3].url == "http://127.0.0.1:8000"
    assert cluster.power and cluster.power.off == "virsh destroy {name}"
    assert [machine.name for machine in cluster.control_plane] == ["cp1", "cp2"]


def test_a_machine_overrides_the_common_ssh_section_key_by_key() -> None:
    machines = read(FULL).machines
    cp1, cp2, bastion = (machines[name].ssh for name in ("cp1", "cp2", "bastion"))
    assert (cp1.user, cp1.port, cp1.sudo, cp1.jump) == ("root", 2222, False, "bastion")
    assert (cp2.user, cp2.port, cp2.sudo, cp2.jump) == ("ops", 22, True, None)
    assert bastion.jump is None, "the jump host is reached without itself"


def test_paths_begin_where_the_file_is_and_a_tilde_stays() -> None:
    ssh = read(FULL).machines["cp1"].ssh
    assert (ssh.key, ssh.known_hosts) == (Path("/cluster/keys/id"), Path("~/.ssh/known_hosts"))


def test_what_is_passed_through_keeps_its_types() -> None:
    cluster = read(FULL)
    assert cluster.kubeadm == {"ClusterConfiguration": {"apiServer": {"extraArgs": [{"name": "v", "value": "2"}]}}}
    assert cluster.kubelet["evictionHard"] == {"memory.available": "5%"}
    assert cluster.kubelet["some"] == [1.5, None, None, "", True, False, "2026-01-01"]
    assert cluster.containerd == {"SystemdCgroup": True}


# Each changes one line of SMALLEST (line number, its new text) and expects one problem: line, column, key, and words
# of what is wrong and of the fix.
ONE_WRONG_LINE = {
    "a version read as a float": (
        (2, "kubernetes: {version: 1.30}"),
        (2, 23, "kubernetes.version", "1.30 is a number to YAML", "for example 1.30.0"),
    ),
    "a version of two parts": (
        (2, "kubernetes: {version: '1.35'}"),
        (2, 23, "kubernetes.version", "not a full version", "for example 1.35.0"),
    ),
    "a version with a v": (
        (2, "kubernetes: {version: v1.35.4}"),
        (2, 23, "kubernetes.version", "begins with a v", "write 1.35.4"),
    ),
    "a version that is too old": (
        (2, "kubernetes: {version: 1.33.1}"),
        (2, 23, "kubernetes.version", "not supported", ""),
    ),
    "a missing version": ((2, "kubernetes: {cni: none}"), (2, 1, "kubernetes.version", "missing", "add version:")),
    "an unknown choice": (
        (2, "kubernetes: {version: 1.35.4, cni: brigde}"),
        (2, 36, "kubernetes.cni", "not known", "bridge"),
    ),
    "a network with host bits": (
        (2, "kubernetes: {version: 1.35.4, pods: 10.9.0.1/16}"),
        (2, 37, "kubernetes.pods", "inside a network", "write 10.9.0.0/16"),
    ),
    "two networks of one family": (
        (2, "kubernetes: {version: 1.35.4, pods: [10.8.0.0/16, 10.9.0.0/16]}"),
        (2, 37, "kubernetes.pods", "does not fit", ""),
    ),
    "overlapping pods and services": (
        (2, "kubernetes: {version: 1.35.4, pods: 10.96.128.0/17}"),
        (2, 37, "kubernetes.pods", "pods 10.96.128.0/17 and services 10.96.0.0/16 overlap", ""),
    ),
    "services over the machines": (
        (2, "kubernetes: {version: 1.35.4, services: 192.0.0.0/16}"),
        (2, 41, "kubernetes.services", "machines' network 192.0.2.0/24 overlap", ""),
    ),
    "a VIP without a prefix": (
        (3, "endpoint: {vip: 192.0.2.100}"),
        (3, 17, "endpoint.vip", "has no prefix", "192.0.2.100/24"),
    ),
    "a VIP that is a network": ((3, "endpoint: {vip: 192.0.2.0/24}"), (3, 17, "endpoint.vip", "network 192", "")),
    "a VIP that is a broadcast address": (
        (3, "endpoint: {vip: 192.0.2.255/24}"),
        (3, 17, "endpoint.vip", "is the broadcast address of 192.0.2.0/24", ""),
    ),
    "a VIP that is a machine's": (
        (3, "endpoint: {vip: 192.0.2.12/24}"),
        (3, 17, "endpoint.vip", "also the address of cp2 (line 6)", ""),
    ),
    "the API server's port": (
        (3, "endpoint: {vip: 192.0.2.100/24, port: 6443}"),
        (3, 39, "endpoint.port", "API server's own port", "write 8443"),
    ),
    "a port that is none": (
        (3, "endpoint: {vip: 192.0.2.100/24, port: 65536}"),
        (3, 39, "endpoint.port", "out of range", ""),
    ),
    "a number in quotes": (
        (3, "endpoint: {vip: 192.0.2.100/24, port: '9443'}"),
        (3, 39, "endpoint.port", "not a whole number", "write 9443 without quotes"),
    ),
    "an address as host": (
        (3, "endpoint: {vip: 192.0.2.100/24, host: 192.0.2.9}"),
        (3, 39, "endpoint.host", "is an address", "leave it out"),
    ),
    "an address out of range": (
        (6, "  cp2: {address: 192.0.2.300}"),
        (6, 18, "machines.cp2.address", "192.0.2.300 is not an IP address", ""),
    ),
    "an address with a prefix": (
        (6, "  cp2: {address: 192.0.2.12/24}"),
        (6, 18, "machines.cp2.address", "has a prefix", "write 192.0.2.12"),
    ),
    "an address used twice": (
        (6, "  cp2: {address: 192.0.2.11}"),
        (6, 18, "machines.cp2.address", "also the address of cp1 (line 5)", ""),
    ),
    "a machine outside the VIP's network": (
        (6, "  cp2: {address: 198.51.100.12}"),
        (
            6,
            18,
            "machines.cp2.address",
            "the VIP 192.0.2.100/24 and cp2 198.51.100.12 share no network",
            "",
        ),
    ),
    "a machine named twice": (
        (6, "  cp1: {address: 192.0.2.12}"),
        (6, 3, "machines.cp1", "already given in line 5", "remove one or rename it"),
    ),
    "a key given twice": (
        (6, "  cp2: {address: 192.0.2.12, address: 192.0.2.13}"),
        (6, 30, "machines.cp2.address", "already given in line 6", ""),
    ),
    "a name in capitals": ((6, "  CP2: {address: 192.0.2.12}"), (6, 3, "machines.CP2", "not a DNS label", "")),
    "an unknown key": (
        (6, "  cp2: {address: 192.0.2.12, role: [client]}"),
        (6, 30, "machines.cp2.role", "not known here", "write roles"),
    ),
    "a key that lacks the space": (
        (6, "  cp2: {address: 192.0.2.12, interface:eth0}"),
        (6, 30, "machines.cp2.interface:eth0", "not known here", "space after the colon"),
    ),
    "an unknown key at the top": (
        (1, "name: prod\nmachine: {}"),
        (2, 1, "machine", "not known here", "write machines"),
    ),
    "text for a list": (
        (6, "  cp2: {address: 192.0.2.12, roles: client}"),
        (6, 37, "machines.cp2.roles", "not a list", "write [client]"),
    ),
    "an unknown role": (
        (6, "  cp2: {address: 192.0.2.12, roles: [contrl-plane]}"),
        (6, 38, "machines.cp2.roles[0]", "not known", "write control-plane"),
    ),
    "an empty machine": ((6, "  cp2:"), (6, 7, "machines.cp2", "an empty value is not a mapping", "")),
    "yes for true": ((1, "name: prod\nssh: {sudo: yes}"), (2, 13, "ssh.sudo", "yes is true to some", "write true")),
    "off for text": ((1, "name: off"), (1, 7, "name", "off is false to some", '"off"')),
    "an octal number": (
        (1, "name: prod\nssh: {port: 022}"),
        (2, 13, "ssh.port", "022 is not the same number", "decimal"),
    ),
    "a number by sixties": ((1, "name: 190:20"), (1, 7, "name", "190:20 is not the same number", '"190:20"')),
    "a time of day": ((1, "name: 12:30:45"), (1, 7, "name", "12:30:45 is not the same number", "")),
    "a number that is too large": (
        (1, "name: prod\nkubelet: {maxPods: 1" + "0" * 5000 + "}"),
        (2, 20, "kubelet.maxPods", "too large a number", ""),
    ),
    "a number for text": ((1, "name: 5"), (1, 7, "name", "5 is not text", 'write "5"')),
    "an anchor": ((6, "  cp2: &x {address: 192.0.2.12}"), (6, 8, "machines.cp2", "an anchor (&x)", "write it out")),
    "an alias": ((6, "  cp2: *x"), (6, 8, "machines.cp2", "an alias (*x)", "write it out")),
    "a merge key": ((6, "  cp2: {<<: *x}"), (6, 9, "machines.cp2.<<", "a merge key", "write it out")),
    "an explicit tag": ((1, "name: !!python/object:os.system prod"), (1, 7, "name", "a tag", "remove it")),
    "a list as key": ((6, "  ? [a]\n  : {address: 192.0.2.12}"), (6, 5, "machines", "a list as a key", "")),
    "a value without key": (
        (6, "  cp2: {'': a, address: 192.0.2.12}"),
        (6, 9, "machines.cp2", "a value without a key", ""),
    ),
    "a second document": (
        (6, "  cp2: {address: 192.0.2.12}\n---\nname: prod"),
        (7, 1, "", "a second document begins here", ""),
    ),
    "a tab": ((6, "\tcp2: {address: 192.0.2.12}"), (6, 1, "", "a tab", "indent with spaces")),
    "a colon too many": ((1, "name: a: b"), (1, 8, "", "a colon where no key can be", "")),
    "a quote that stays open": ((1, 'name: "prod'), (1, 7, "", "a quotation mark is never closed", "close it")),
    "a list that stays open": ((1, "name: [a, b"), (2, 11, "", "a list in brackets", "")),
    "a wrong indentation": ((6, " cp2: {address: 192.0.2.12}"), (6, 2, "", "does not fit the lines above", "indent")),
    "a directive": ((1, "%YAML 1.1\n---\nname: prod"), (1, 1, "", "a directive", "remove it")),
    "a NUL": ((1, "name: pr\0od"), (1, 9, "", "character U+0000 is not text", "")),
    "a byte that is not UTF-8": ((1, "name: pr\udcffod"), (1, 9, "", "byte 0xff is not text", "")),
    "an escaped NUL": ((1, 'name: prod\nkubelet: {a: "\\0"}'), (2, 14, "kubelet.a", "not text", "")),
    "another name in a power command": (
        (1, 'name: prod\npower: {off: "off {nam}", on: "on {name}"}'),
        (2, 14, "power.off", "has the field {nam}", ""),
    ),
    "half of power": ((1, "name: prod\npower: {off: a}"), (2, 1, "power.on", "missing", "add on:")),
    "a key that haplane writes": (
        (1, "name: prod\nkubeadm: {ClusterConfiguration: {kubernetesVersion: v1.35.4}}"),
        (2, 34, "kubeadm.ClusterConfiguration.kubernetesVersion", "written by haplane", "kubernetes.version"),
    ),
    "another kind of kubeadm's": (
        (1, "name: prod\nkubeadm: {ResetConfiguration: {}}"),
        (2, 11, "kubeadm.ResetConfiguration", "not known here", ""),
    ),
    "a list under containerd": (
        (1, "name: prod\ncontainerd: {a: [b]}"),
        (2, 17, "containerd.a", "a list is not one value", ""),
    ),
    "an unknown source": (
        (1, "name: prod\nbundle: {sources: [oficial]}"),
        (2, 20, "bundle.sources[0]", "not known", "write official"),
    ),
    "two sources in one": (
        (1, "name: prod\nbundle: {sources: [{directory: a, official: {}}]}"),
        (2, 20, "bundle.sources[0]", "one source", ""),
    ),
    "a wrong URL": (
        (1, "name: prod\nbundle: {sources: [{official: {url: ftp://a}}]}"),
        (2, 37, "bundle.sources[0].official.url", "ftp://a is not a URL", ""),
    ),
    "a jump with blanks": ((1, "name: prod\nssh: {jump: a b}"), (2, 13, "ssh.jump", "not a host to jump over", "")),
    "jumps in a circle": (
        (6, "  cp2: {address: 192.0.2.12, ssh: {jump: cp2}}"),
        (6, 42, "machines.cp2.ssh.jump", "in a circle: cp2 over cp2", ""),
    ),
}


@pytest.mark.parametrize("case", ONE_WRONG_LINE)
def test_one_wrong_line_is_one_problem_with_its_place(case: str) -> None:
    (number, line), expected = ONE_WRONG_LINE[case]
    lines = SMALLEST.splitlines()
    lines[number - 1] = line
    at_line, column, key, what, fix = expected
    (found,) = problems("\n".join(lines) + "\n")
    assert (found.file, found.line, found.column, found.key) == ("cluster.yaml", at_line, column, key)
    assert what in found.what
    assert fix in found.fix
    assert found.expected or found.fix


@pytest.mark.parametrize(
    ("text", "what"),
    {
        "": "the file is empty",
        "# nothing yet\n": "the file is empty",
        "---\n": "the file is empty",
        "- name: prod\n": "the file is a list",
        "prod": "the file is text",
        "*prod": "the file is an alias",
        "[" * 500_000: "more than 64 levels",
        "[a," * 300_000: "more than 64 levels",
        "- " * 500_000: "more than 64 levels",
        "? " * 500_000: "more than 64 levels",
        "- a\n" * 250_000: "more than 10000 keys and values",
        "a: &a [x]\nb: [" + "*a," * 300_000: "more than 10000 keys and values",
        "%TAG !a! b\n" * 80_000: "a directive",
        "a" * 50_000_000: "the file has 50000000 characters",
        '"' + "a\n" * 500_000: "a quotation mark is never closed",
        'a: "\\UFFFFFFFF"': "a backslash that means nothing",
        "\x7fELF\x02\x01\x01\0\0\0": "character U+007F is not text",
        "a: [1, 2": "a list in brackets goes on wrongly or is never closed",
        "a: 1\nb\nc: 2": "a key without a colon",
        "a: @b": "a value cannot begin with @",
    }.items(),
    ids=lambda value: value[:20],
)
def test_a_file_that_is_no_mapping_is_refused_with_a_sentence(text: str, what: str) -> None:
    assert any(what in problem.what for problem in problems(text))


def test_all_that_is_wrong_comes_at_once_in_the_order_of_the_file() -> None:
    found = problems("""\
name: Prod
kubernetes: {version: 1.30, pods: 10.244.0.0/33}
endpoint: {vip: 10.0.9.100/24, prot: 8443}
ssh: {sudo: on, port: 0x16}
machines:
  cp1: {address: 192.0.2.300}
  cp2: {address: 10.0.9.2, roles: worker}
  cp3: {address: 10.0.9.2}
  cp3: {address: 10.0.9.3}
  cp4: {}
""")
    assert [(problem.line, problem.key) for problem in found] == [
        (1, "name"),
        (2, "kubernetes.version"),
        (2, "kubernetes.pods"),
        (3, "endpoint.prot"),
        (4, "ssh.sudo"),
        (4, "ssh.port"),
        (6, "machines.cp1.address"),
        (7, "machines.cp2.roles"),
        (8, "machines.cp3.address"),
        (9, "machines.cp3"),
        (10, "machines.cp4.address"),
    ]


def test_a_broken_line_does_not_hide_what_was_read_before_it() -> None:
    assert [problem.line for problem in problems(SMALLEST.replace("prod", "&x prod") + " cp3: {}\n")] == [1, 7]


def test_at_least_one_machine_must_be_a_control_plane_machine() -> None:
    (found,) = problems(SMALLEST.replace("192.0.2.11}", "192.0.2.11, roles: [client]}").replace("  cp2", "# cp2"))
    assert (found.line, found.column, found.key) == (4, 1, "machines")
    assert "no machine is a control-plane machine" in found.what


def test_a_client_may_be_outside_the_network_of_the_vip() -> None:
    read(SMALLEST + "  far: {address: 203.0.113.1, roles: [client]}\n")


def test_keys_may_be_words_that_are_refused_as_values() -> None:
    cluster = read(SMALLEST + "kubelet: {on: 1, 010: 2, yes: 3, 1.30: 4}\n")
    assert list(cluster.kubelet) == ["on", "010", "yes", "1.30"]


def test_quotes_make_text_of_anything() -> None:
    cluster = read(SMALLEST + "kubelet: {a: 'on', b: \"010\", c: '12:30:45', d: '', e: '1.30', f: '~'}\n")
    assert list(cluster.kubelet.values()) == ["on", "010", "12:30:45", "", "1.30", "~"]


def test_a_chain_of_jump_hosts_is_no_circle() -> None:
    read(
        SMALLEST.replace("machines:", "ssh: {jump: inner}\nmachines:")
        + "  inner: {address: 203.0.113.1, roles: [client], ssh: {jump: outer}}\n"
        + "  outer: {address: 203.0.113.2, roles: [client], ssh: {jump: }}\n"
    )


def test_an_error_never_shows_control_characters_of_the_file() -> None:
    (found,) = problems(SMALLEST.replace("prod", '"\\e[31m\\n' + "x" * 5000 + '"'))
    assert found.what.isprintable()
    assert len(found.what) < 200


@pytest.mark.parametrize("key", ["[key]", "[name]", "[mapping]", "[", "0", " "])
def test_keys_that_look_like_a_place_are_only_unknown(key: str) -> None:
    found = problems(SMALLEST + f'  "{key}": {{address: 192.0.2.13, "{key}": 1}}\n"{key}": 1\n')
    assert {(7, 3), (7, 29 + len(key)), (8, 1)} >= {(problem.line, problem.column) for problem in found}
    assert found[-1].key == key


@pytest.mark.parametrize("case", ONE_WRONG_LINE)
def test_without_libyaml_the_same_lines_are_refused(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_Loader", yaml.SafeLoader)
    (number, line), (at_line, *_) = ONE_WRONG_LINE[case]
    lines = SMALLEST.splitlines()
    lines[number - 1] = line
    assert [problem.line for problem in problems("\n".join(lines) + "\n")] == [at_line]


def only_a_cluster_or_an_invalid_file(text: str) -> None:
    try:
        assert isinstance(read(text), Cluster)
    except InvalidFile as invalid:
        assert invalid.problems
        assert all(problem.line > 0 and problem.column > 0 and problem.what for problem in invalid.problems)
        str(invalid).encode()


@settings(deadline=None)
@given(st.text(st.characters(codec=None)))
def test_any_text_is_a_cluster_or_an_invalid_file(text: str) -> None:
    only_a_cluster_or_an_invalid_file(text)


# What hurts a reader most, and what is a value of another kind than the one it replaces.
_PIECES = st.one_of(
    st.sampled_from("{}[]!'\"#,~/\\|>\t\n\u2028\ud800"),
    st.sampled_from(["\n  ", ": ", "- ", "&a ", "*a", "<<: ", "!!str ", "---\n", "...\n", "%A\n", "::", "[[a]]", "{}"]),
    st.sampled_from(["yes", "010", "1.30", "1e999", ".nan", "12:30", "{name", "null", "-1", "[key]", "[name]"]),
    st.sampled_from(["fe80::1%eth0", "0.0.0.0/0", "::/0", "name", "address", "roles", "ssh", "jump", "cp1", "bastion"]),
    st.characters(codec=None),
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_valid_file_with_pieces_changed_is_a_cluster_or_an_invalid_file(data: st.DataObject) -> None:
    text = FULL
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        text = text[:start] + data.draw(_PIECES) + text[end:]
    only_a_cluster_or_an_invalid_file(text)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in _paths(child, (*path, key)))]


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["cp1", "10.0.0.1", "::1/64"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_valid_file_with_one_value_replaced_is_a_cluster_or_an_invalid_file(data: st.DataObject) -> None:
    tree = yaml.safe_load(FULL)
    *way, last = data.draw(st.sampled_from(_paths(tree)[1:]))
    around = tree
    for part in way:
        around = around[part]
    around[last] = data.draw(_VALUES)
    only_a_cluster_or_an_invalid_file(yaml.safe_dump(tree, allow_unicode=True))
