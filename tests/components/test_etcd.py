"""etcd as a unit of its own: what it is told, and which certificates its machines and its clients have."""

from __future__ import annotations

import subprocess

import yaml
from tests.model.clusters import etcd_apart, three_nodes

from haplane.components import etcd
from haplane.design.design import Design

CLUSTER = etcd_apart()
FILES = {file.path: file.content for file in Design(CLUSTER).components("e2")["etcd"].files}


def test_a_member_knows_all_members_and_listens_where_others_look_for_it() -> None:
    config = yaml.safe_load(FILES[etcd.CONFIG_FILE])
    assert config["name"] == "e2"
    assert config["initial-cluster"] == (
        "e1=https://192.0.2.21:2380,e2=https://192.0.2.22:2380,e3=https://192.0.2.23:2380"
    )
    assert config["listen-peer-urls"] == config["initial-advertise-peer-urls"] == "https://192.0.2.22:2380"
    assert config["listen-client-urls"] == "https://127.0.0.1:2379,https://192.0.2.22:2379"
    for part in ("client-transport-security", "peer-transport-security"):
        assert config[part]["client-cert-auth"] is True
        assert config[part]["trusted-ca-file"] == "/etc/etcd/pki/ca.crt"


def test_the_files_of_the_configuration_are_those_of_the_certificates() -> None:
    config = yaml.safe_load(FILES[etcd.CONFIG_FILE])
    parts = {"server": config["client-transport-security"], "peer": config["peer-transport-security"]}
    leaves = etcd.leaves(CLUSTER, CLUSTER.machines["e2"])
    assert [(leaf.cert, leaf.key) for leaf in leaves] == [(one["cert-file"], one["key-file"]) for one in parts.values()]
    for leaf in leaves:
        assert {*leaf.names} == {"e2", "192.0.2.22", "localhost", "127.0.0.1", "::1"}


def test_nodes_are_clients_and_others_have_no_certificate() -> None:
    (client,) = etcd.leaves(CLUSTER, CLUSTER.machines["cp1"])
    assert (client.common_name, client.names) == ("kube-apiserver-etcd-client", ())
    stacked = three_nodes()
    assert etcd.leaves(stacked, stacked.machines["cp1"]) == ()
    shared = etcd_apart(shared=True)
    assert len(etcd.leaves(shared, shared.machines["cp1"])) == 3


def test_openssl_is_installed_where_certificates_are_made_on_the_machine() -> None:
    design = Design(CLUSTER)
    assert all("openssl" in design.packages(name) for name in ("cp1", "e1"))
    assert "openssl" not in Design(three_nodes()).packages("cp1")


def fields(member: int, leader: int) -> str:
    """As etcdctl 3.6.6 prints them with -w fields."""
    return f'"ClusterID" : 17160853294358880214\n"MemberID" : {member}\n"Revision" : 9\n"Leader" : {leader}\n'


def leads(said: str) -> bool:
    return subprocess.run(["/bin/sh", "-c", etcd.LEADS], input=said, text=True, check=False).returncode == 0


def test_who_leads_is_read_to_the_last_digit() -> None:
    """A double cannot tell these two numbers apart."""
    assert leads(fields(15298463528311154593, 15298463528311154593))
    assert not leads(fields(15298463528311154593, 15298463528311154594))
    assert not leads("")
