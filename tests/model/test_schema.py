"""The JSON Schema says what the reader says, as far as a schema can."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from tests.model.files import ALL, SMALLEST, read
from tests.model.test_fuzz import mutated

from haplane.model.errors import InvalidFile
from haplane.model.reading import read_document
from haplane.model.schema import json_schema

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def accepts(text: str) -> bool:
    return VALIDATOR.is_valid(read_document(text, file="cluster.yaml").root)


def test_it_is_a_schema_itself() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
def test_it_accepts_files_that_are_read(text: str) -> None:
    read(text)
    assert list(VALIDATOR.iter_errors(read_document(text, file="cluster.yaml").root)) == []


def test_it_accepts_every_kind_of_source() -> None:
    sources = "[official, go-modules, {directory: a}, {official: {url: 'https://a'}}, {official: {}}]"
    assert accepts(SMALLEST + f"bundle: {{sources: {sources}}}\n")


# Each is added to SMALLEST, or replaces its line that begins alike.
WRONG_SHAPES = {
    "a missing section": "kubernetes:",
    "an unknown key": "endpoints: {}",
    "an unknown key below": "endpoint: {vip: 192.0.2.100/24, prot: 1}",
    "a version of two parts": "kubernetes: {version: 1.35}",
    "a version with a v": "kubernetes: {version: v1.35.4}",
    "a version that is not supported": "kubernetes: {version: 1.30.1}",
    "a network without a prefix": "kubernetes: {version: 1.35.4, pods: 10.0.0.0}",
    "three networks": "kubernetes: {version: 1.35.4, pods: [10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16]}",
    "a VIP without a prefix": "endpoint: {vip: 192.0.2.100}",
    "no VIP in a list": "endpoint: {vip: []}",
    "a port in quotes": "endpoint: {vip: 192.0.2.100/24, port: '8443'}",
    "a port that is none": "endpoint: {vip: 192.0.2.100/24, port: 0}",
    "a router id that is too large": "endpoint: {vip: 192.0.2.100/24, virtual_router_id: 256}",
    "another owner": "endpoint: {vip: 192.0.2.100/24, by: metallb}",
    "an outside address with a prefix": "endpoint: {vip: 192.0.2.100/24, outside: 203.0.113.7/24}",
    "a name in capitals": "name: Prod",
    "a machine's name in capitals": "machines: {CP1: {address: 192.0.2.11}}",
    "a machine without an address": "machines: {cp1: {}}",
    "an address with a prefix": "machines: {cp1: {address: 192.0.2.11/24}}",
    "a mapping for an address": "machines: {cp1: {address: {ip: 192.0.2.11}}}",
    "no roles": "machines: {cp1: {address: 192.0.2.11, roles: []}}",
    "text for roles": "machines: {cp1: {address: 192.0.2.11, roles: etcd}}",
    "an unknown role": "machines: {cp1: {address: 192.0.2.11, roles: [master]}}",
    "a zone with an underscore": "machines: {cp1: {address: 192.0.2.11, zone: rack_a}}",
    "a time without a unit": "failover: {target: 500}",
    "a time with a wrong unit": "failover: {target: 1h}",
    "text for a switch": "failover: {tell_clients: 'true'}",
    "another balancer": "balancer: {by: envoy}",
    "an unknown block of nginx": "nginx: {http: {}}",
    "a block of nginx by its name in Python": "nginx: {upstream_server: {}}",
    "an unknown backend of flannel": "kubernetes: {version: 1.35.4, cni: flannel, flannel: {backend: udp}}",
    "another kube-proxy": "kubernetes: {version: 1.35.4, proxy: ipvs}",
    "text for a switch of the balancer": "balancer: {on_workers: 'true'}",
    "another topology": "etcd: {topology: internal}",
    "an empty reason": "accept: {topo-single-provider: ''}",
    "an id in capitals": "accept: {Topo: because}",
    "an unknown section of HAProxy": "haproxy: {default_server: {}}",
    "a keyword that is none": "haproxy: {global: {'a{': 1}}",
    "a list of arguments": "haproxy: {global: {maxconn: [1]}}",
    "a keyword without arguments": "keepalived: {vrrp_instance: {advert_int: }}",
    "arguments over two lines": 'keepalived: {vrrp_instance: {advert_int: "1\\n2"}}',
    "an unknown source": "bundle: {sources: [unofficial]}",
    "two sources in one": "bundle: {sources: [{directory: a, official: {}}]}",
    "no source in one": "bundle: {sources: [{}]}",
    "no sources": "bundle: {sources: []}",
    "a URL of another kind": "bundle: {sources: [{official: {url: 'ftp://a'}}]}",
    "half of power": "power: {off: a}",
    "a jump with blanks": "ssh: {jump: a b}",
    "another kind of kubeadm's": "kubeadm: {ResetConfiguration: {}}",
    "a list under containerd": "containerd: {a: [b]}",
}


@pytest.mark.parametrize("line", WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_it_refuses_what_the_reader_refuses_for_its_shape(line: str) -> None:
    key = line.partition(":")[0]
    root = {**yaml.safe_load(SMALLEST), **read_document(line, file="").root}
    if line == "kubernetes:":
        del root[key]
    text = yaml.safe_dump(root, sort_keys=False)
    with pytest.raises(InvalidFile):
        read(text)
    assert not accepts(text)


def _properties(schema: object, path: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    """Every property of every object in the schema, as `Endpoint.vip`."""
    if isinstance(schema, dict):
        for name, child in schema.get("properties", {}).items():
            yield f"{path}.{name}", child
        for name, child in schema.get("$defs", {}).items():
            yield from _properties(child, name)


@pytest.mark.parametrize(("name", "schema"), list(_properties(SCHEMA)))
def test_each_key_has_a_description_for_an_editor(name: str, schema: dict[str, object]) -> None:
    definitions = SCHEMA["$defs"]
    assert isinstance(definitions, dict)
    described = definitions[str(schema["$ref"]).rpartition("/")[2]] if "$ref" in schema else schema
    assert schema.get("description") or described.get("description"), name


DOCUMENT = (Path(__file__).parents[2] / "docs/cluster-yaml.md").read_text().partition("\n## lab.yaml")[0]
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_the_documentation_shows_is_read_and_accepted(example: str) -> None:
    shown = read_document(example, file="docs/cluster-yaml.md")
    text = yaml.safe_dump({**yaml.safe_load(SMALLEST), **shown.root}, sort_keys=False)
    read(text)
    assert accepts(text)


@pytest.mark.parametrize(("name", "schema"), list(_properties(SCHEMA)))
def test_the_documentation_names_each_key(name: str, schema: dict[str, object]) -> None:
    key = name.rpartition(".")[2]
    assert re.search(rf"[`{{ ]{re.escape(key)}[`:]", DOCUMENT, re.MULTILINE), name


def test_it_accepts_whatever_the_reader_accepts() -> None:
    chance = random.Random(4)
    accepted = 0
    for _ in range(1000):
        text = mutated(chance.choice(list(ALL.values())), chance)
        try:
            read(text)
        except InvalidFile:
            continue
        accepted += 1
        assert accepts(text), text
    assert accepted > 20
