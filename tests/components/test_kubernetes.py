"""kubeadm's files: what the user passes through wins, and secrets are only where they must be."""

from __future__ import annotations

from dataclasses import replace

import yaml
from tests.model.clusters import three_nodes, view

from haplane.components import kubernetes


def documents(**changes: object) -> dict[str, dict[str, object]]:
    text = kubernetes.init_file(view(replace(three_nodes(), **changes), "cp2"))  # type: ignore[arg-type]
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_the_endpoint_is_the_vip() -> None:
    assert documents()["ClusterConfiguration"]["controlPlaneEndpoint"] == "192.0.2.100:8443"


def test_the_certificate_names_the_vip_and_every_machine() -> None:
    names = documents()["ClusterConfiguration"]["apiServer"]["certSANs"]  # type: ignore[index]
    assert {"192.0.2.100", "cp1", "cp2", "cp3", "192.0.2.11", "192.0.2.12", "192.0.2.13"} <= set(names)


def test_what_the_user_passes_through_is_merged_and_wins() -> None:
    found = documents(
        kubeadm={"ClusterConfiguration": {"apiServer": {"extraArgs": []}, "imageRepository": "r.example"}}
    )
    configuration = found["ClusterConfiguration"]
    assert configuration["imageRepository"] == "r.example"
    assert configuration["apiServer"]["extraArgs"] == []  # type: ignore[index]
    assert configuration["apiServer"]["certSANs"]  # type: ignore[index]


def test_node_addresses_are_pinned() -> None:
    registration = documents()["InitConfiguration"]["nodeRegistration"]
    assert {"name": "node-ip", "value": "192.0.2.12"} in registration["kubeletExtraArgs"]  # type: ignore[index]


def test_the_file_that_stays_on_the_machine_holds_no_secret() -> None:
    text = kubernetes.init_file(view(three_nodes(), "cp1"))
    assert "token:" not in text
    assert "certificateKey" not in text


def test_a_join_verifies_the_authority_it_joins() -> None:
    text = kubernetes.join_file(
        view(three_nodes(), "cp2"), token="t", authority_hash="sha256:00", certificate_key="k", via="192.0.2.100:8443"
    )
    discovery = yaml.safe_load(text)["discovery"]["bootstrapToken"]
    assert discovery["caCertHashes"] == ["sha256:00"]
    assert "unsafeSkipCAVerification" not in discovery
