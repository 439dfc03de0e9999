"""What prepares the cluster for writes: least rights, scripts that a shell understands, and what they leave behind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from haplane.probes import prober, writing
from haplane.probes.history import Relation, Stored
from haplane.probes.prober import questions
from haplane.probes.prober.streams import read_token

NAMESPACE = f"{prober.NAMESPACE}-4f00a1"


@pytest.mark.parametrize(
    "script",
    [
        writing.prepare_script(NAMESPACE),
        writing.token_script(NAMESPACE),
        writing.hand_over_script(),
        writing.list_script(NAMESPACE),
        writing.remove_script(NAMESPACE),
    ],
)
def test_the_scripts_are_read_by_a_plain_shell(script: str) -> None:
    assert subprocess.run(["sh", "-n", "-c", script], timeout=60).returncode == 0
    assert "/etc/kubernetes/admin.conf" in script or writing.TOKEN_FILE in script


def test_the_account_may_use_configmaps_in_its_namespace_and_read_two_leases_and_nothing_else() -> None:
    items = json.loads(writing.manifest(NAMESPACE))["items"]
    kinds = ["Namespace", "ServiceAccount", "ConfigMap", "Role", "RoleBinding", "Role", "RoleBinding"]
    assert [item["kind"] for item in items] == kinds
    assert items[0]["metadata"]["name"] == NAMESPACE
    assert {item["metadata"]["namespace"] for item in items[1:5]} == {NAMESPACE}
    assert {item["metadata"]["namespace"] for item in items[5:]} == {"kube-system"}
    verbs = ["create", "patch", "get", "list", "watch", "deletecollection"]
    assert items[3]["rules"] == [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]
    assert items[5]["rules"] == [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "watch"],
            "resourceNames": ["kube-controller-manager", "kube-scheduler"],
        }
    ]
    for role, binding in ((items[3], items[4]), (items[5], items[6])):
        assert binding["metadata"] == role["metadata"]
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        assert binding["subjects"] == [{"kind": "ServiceAccount"} | items[1]["metadata"]]


def test_what_is_read_again_and_again_is_there_from_the_beginning_and_read_from_memory() -> None:
    page = json.loads(writing.manifest(NAMESPACE))["items"][2]["metadata"]
    folder = f"/api/v1/namespaces/{page['namespace']}/configmaps"
    assert prober.cached_read(NAMESPACE) == f"{folder}/{page['name']}?resourceVersion=0"


def test_all_that_was_made_is_taken_away() -> None:
    """In the namespace with it; elsewhere by its label, as the namespace is."""
    items = json.loads(writing.manifest(NAMESPACE))["items"]
    left = [item for item in items if item["metadata"].get("namespace") != NAMESPACE]
    words = writing.remove_script(NAMESPACE).splitlines()[-1].split()
    assert {f"{item['kind'].lower()}s" for item in left} == set(words[words.index("delete") + 1].split(","))
    assert "--all-namespaces" in words
    label = words[words.index("--selector") + 1]
    assert [item["metadata"]["labels"] for item in left] == [dict([label.split("=")])] * 3


def test_whatever_part_a_write_has_is_asked_to_be_removed() -> None:
    config = prober.Config("192.0.2.1", 1, "x", "x", namespace=NAMESPACE)
    bodies = [questions.writing(config, "token", number).data.split(b"\r\n\r\n")[1] for number in range(100)]
    labels = [json.loads(body)["metadata"]["labels"] for body in bodies]
    url = f"{config.folder}?labelSelector=haplane-drill%2Fpart%3D[0-31]'"
    assert url in writing.remove_script(NAMESPACE), "curl makes 32 of it"
    assert labels[:32] == [{"haplane-drill/part": str(part)} for part in range(32)]
    assert all(label in labels[:32] for label in labels)


def test_the_token_is_readable_by_nobody_else(tmp_path: Path) -> None:
    script = writing.hand_over_script().replace(writing.FOLDER, str(tmp_path / "probe"))
    for text in (b"first", b"second"):
        subprocess.run(["sh", "-c", script], input=text, check=True, timeout=60)
    token = tmp_path / "probe" / "token"
    assert token.read_bytes() == b"second"
    assert token.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in token.parent.iterdir()] == ["token"]
    assert read_token(str(token)) == "second"


def test_the_names_are_taken_from_the_list() -> None:
    listed = "configmap/kube-root-ca.crt\nconfigmap/w-1\nconfigmap/w-0\n"
    assert writing.stored_keys(listed) == ("kube-root-ca.crt", "w-0", "w-1")
    assert writing.stored_keys("") == ()


def test_what_was_read_back_is_put_on_the_probers_clock_where_it_certainly_had_not_begun() -> None:
    assert Relation(offset=100.0, error=0.004).stored(5.0, ["w-1"]) == Stored(104.996, ("w-1",))
