"""A lab with the design of a cluster file of the user's."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, ip_network
from pathlib import Path

import pytest

from haplane.lab import outer
from haplane.lab.files import LabPaths, read_lab, write_default
from haplane.lab.machines import Lab
from haplane.model.cluster import Cluster, Role
from haplane.model.errors import InvalidFile, UsageError
from haplane.model.file import read_cluster

SUBNET = IPv4Network("10.79.0.0/24")
MINE = """\
name: prod
kubernetes: {version: 1.35.4, cni: bridge}
endpoint: {vip: 192.0.2.100/24, host: api.example.com}
balancer: {role: balancer}
ssh: {user: admin, sudo: true}
power: {off: ipmitool off, on: ipmitool on}
kubelet: {maxPods: 50, failSwapOn: true}
haproxy: {defaults: {retries: 4}}
machines:
  lb1: {address: 192.0.2.21, roles: [balancer], zone: a, interface: bond0}
  lb2: {address: 192.0.2.22, roles: [balancer], ssh: {port: 2222}}
  cp1: {address: 192.0.2.11}
  cp2: {address: 192.0.2.12}
  cp3: {address: 192.0.2.13}
"""


def rehearsed(folder: Path, text: str) -> Lab:
    mine = folder / "mine.yaml"
    folder.mkdir(exist_ok=True)
    mine.write_text(text)
    paths = LabPaths(folder / "lab" / "cluster.yaml")
    write_default(paths, name="try", subnet=SUBNET, cache=folder, like=mine)
    made = read_cluster(paths.cluster.read_text(), file="cluster.yaml", folder=paths.folder)
    return Lab(paths, read_lab(paths), made)


def of(folder: Path, text: str) -> Cluster:
    return rehearsed(folder, text).cluster


def test_the_design_is_the_users_and_the_addresses_are_the_labs(tmp_path: Path) -> None:
    made = of(tmp_path, MINE)
    assert [*made.machines] == ["lb1", "lb2", "cp1", "cp2", "cp3", "client"]
    assert all(one.address in SUBNET for one in made.machines.values())
    assert len({one.address for one in made.machines.values()}) == 6
    assert made.endpoint.vip.ip in SUBNET and made.endpoint.host == "api.example.com"
    assert [one.name for one in made.balancers] == ["lb1", "lb2"] and made.machines["lb1"].zone == "a"
    assert made.haproxy["defaults"]["retries"] == 4 and made.kubelet["maxPods"] == 50


def test_what_a_lab_decides_itself_is_not_the_users(tmp_path: Path) -> None:
    made = of(tmp_path, MINE)
    assert made.power and "haplane lab power off" in made.power.off and made.power.freeze
    assert made.kubelet["failSwapOn"] is False  # else nothing starts in a container
    for one in made.machines.values():
        assert (one.ssh.user, one.ssh.port, one.ssh.sudo, one.interface) == ("root", 22, False, None)
        assert one.ssh.key == tmp_path / "lab" / "keys" / "id_ed25519"


def test_a_client_is_added_only_where_there_is_none(tmp_path: Path) -> None:
    with_client = MINE + "  ops: {address: 192.0.2.9, roles: [client]}\n"
    assert "client" not in of(tmp_path, with_client).machines


def test_a_machine_of_the_users_that_is_called_client_stays(tmp_path: Path) -> None:
    made = of(tmp_path, MINE.replace("  cp3:", "  client: {address: 192.0.2.31, roles: [worker]}\n  cp3:"))
    assert made.machines["client"].roles == {Role.WORKER} and made.machines["client2"].roles == {Role.CLIENT}


def test_a_folder_of_a_bundle_is_still_the_one_beside_the_users_file(tmp_path: Path) -> None:
    made = of(tmp_path, MINE + "bundle: {sources: [{directory: mirror}, go-modules]}\n")
    assert made.sources[0].path == tmp_path / "mirror"


def test_clients_and_a_stand_in_are_full_also_where_machines_are_bare(tmp_path: Path) -> None:
    external = MINE.replace("host: api.example.com", "by: external") + "  ops: {address: 192.0.2.9, roles: [client]}\n"
    lab = rehearsed(tmp_path, external)
    bare = replace(lab, file=lab.file.model_copy(update={"image": "bare"}))
    assert {name: bare.image_of(name) for name in ("ops", outer.NAME, "lb1")} == {
        **dict.fromkeys(("ops", outer.NAME), "full"),
        "lb1": "bare",
    }


def test_ipv6_addresses_come_from_a_subnet_of_the_labs_own(tmp_path: Path) -> None:
    text = """\
name: six
kubernetes: {version: 1.35.4, pods: "fd00:244::/48", services: "fd00:96::/112"}
endpoint: {vip: ["2001:db8:77::100/64"]}
machines:
  cp1: {address: ["2001:db8:77::11", 192.0.2.11]}
  cp2: {address: "2001:db8:77::12"}
  cp3: {address: "2001:db8:77::13"}
"""
    lab = rehearsed(tmp_path, text)
    assert lab.file.subnet6 == ip_network("fd77:4f:0::/64")
    first = lab.cluster.machines["cp1"]
    assert first.addresses[0] in lab.file.subnet6 and first.addresses[1] in SUBNET
    assert lab.cluster.endpoint.vip.ip in lab.file.subnet6


def test_an_outer_load_balancer_has_a_stand_in(tmp_path: Path) -> None:
    external = MINE.replace("host: api.example.com", "by: external")
    lab = rehearsed(tmp_path, external)
    stand_in = lab.machines[outer.NAME]
    assert stand_in.address == lab.cluster.endpoint.vip.ip and stand_in.roles == {Role.CLIENT}
    config = outer.config(lab.cluster)
    assert f"server lb1 {lab.cluster.machines['lb1'].address}:6443 check port 8404" in config
    assert "cp1" not in config


def test_in_front_of_a_vip_it_forwards_there(tmp_path: Path) -> None:
    lab = rehearsed(tmp_path, MINE.replace("host: api.example.com", "outside: 203.0.113.7"))
    assert lab.machines[outer.NAME].address == lab.cluster.endpoint.outside
    assert f"server vip {lab.cluster.endpoint.vip.ip}:6443" in outer.config(lab.cluster)


def test_a_stand_in_takes_the_way_that_it_has_itself(tmp_path: Path) -> None:
    text = """\
name: six
kubernetes: {version: 1.35.4, pods: ["fd00:244::/48", 10.244.0.0/16], services: ["fd00:96::/112", 10.96.0.0/16]}
endpoint: {vip: 192.0.2.100/24, by: external}
machines:
  cp1: {address: ["2001:db8:77::11", 192.0.2.11]}
  cp2: {address: ["2001:db8:77::12", 192.0.2.12]}
  cp3: {address: ["2001:db8:77::13", 192.0.2.13]}
"""
    lab = rehearsed(tmp_path, text)
    config = outer.config(lab.cluster)
    assert f"server cp1 {lab.cluster.machines['cp1'].address_of(4)}:8443 check" in config
    in_front = text.replace("by: external", 'outside: "2001:db8:77::7"').replace(
        "vip: 192.0.2.100/24", 'vip: [192.0.2.100/24, "2001:db8:77::100/64"]'
    )
    lab = rehearsed(tmp_path / "other", in_front)
    assert f"server vip [{lab.cluster.endpoint.vips[1].ip}]:8443" in outer.config(lab.cluster)


def test_a_machine_of_the_users_that_is_called_outer_stays(tmp_path: Path) -> None:
    external = MINE.replace("host: api.example.com", "by: external").replace("lb1", "outer")
    lab = rehearsed(tmp_path, external)
    assert lab.machines["outer"].roles == {Role.BALANCER}
    assert lab.stand_in and lab.machines["outer2"] == lab.stand_in
    assert f"server outer {lab.machines['outer'].address}:6443 check" in outer.config(lab.cluster)


def many(count: int) -> str:
    workers = "".join(
        f"  w{number}: {{address: 198.51.{number // 200}.{number % 200 + 1}, roles: [worker]}}\n"
        for number in range(count)
    )
    return MINE.replace("cni: bridge", "cni: flannel") + "  ops: {address: 192.0.2.9, roles: [client]}\n" + workers


@pytest.mark.parametrize("count", [88, 120, 240])
def test_machines_have_addresses_of_their_own_also_if_they_are_many(tmp_path: Path, count: int) -> None:
    made = of(tmp_path, many(count))
    used = [*(one.address for one in made.machines.values()), made.endpoint.vip.ip, SUBNET[0], SUBNET[1], SUBNET[-1]]
    assert len({*used}) == len(used) == count + 10
    assert all(one in SUBNET for one in used)


def test_more_machines_than_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        of(tmp_path, many(248))
    assert "do not fit into 10.79.0.0/24" in error.value.what
    assert "--subnet" in error.value.hint


def test_nodes_of_a_new_lab_have_addresses_of_their_own(tmp_path: Path) -> None:
    paths = LabPaths(tmp_path / "cluster.yaml")
    write_default(paths, subnet=SUBNET, control_plane=91, cache=tmp_path)
    made = read_cluster(paths.cluster.read_text(), file="cluster.yaml", folder=tmp_path)
    used = [*(one.address for one in made.machines.values()), made.endpoint.vip.ip]
    assert len({*used}) == len(used) == 93
    assert str(made.machines["cp1"].address) == "10.79.0.11"


def test_a_machine_with_ipv6_alone_gets_an_ipv4_address_that_nobody_has(tmp_path: Path) -> None:
    text = """\
name: six
kubernetes: {version: 1.35.4, pods: "fd00:244::/48", services: "fd00:96::/112"}
endpoint: {vip: ["2001:db8:77::100/64"]}
machines:
"""
    text += "".join(f'  m{number}: {{address: "2001:db8:77::1:{number}"}}\n' for number in range(1, 60))
    text += "".join(
        f'  c{number}: {{address: ["2001:db8:77::2:{number}", 192.0.2.{number}], roles: [client]}}\n'
        for number in range(1, 40)
    )
    lab = rehearsed(tmp_path, text)
    spare = [lab.spare_address(name) for name, one in lab.machines.items() if one.address_of(4) is None]
    used = {address for one in lab.machines.values() for address in one.addresses}
    assert len({*spare}) == 59 and not used & {*spare}
    assert all(one in SUBNET for one in spare)
    assert {SUBNET[0], SUBNET[1], SUBNET[-1]}.isdisjoint(spare)


def test_without_one_there_is_no_stand_in(tmp_path: Path) -> None:
    lab = rehearsed(tmp_path, MINE)
    assert lab.machines == lab.cluster.machines


def test_a_file_that_is_wrong_or_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"mine\.yaml"):
        rehearsed(tmp_path, MINE.replace("192.0.2.11", "nowhere"))
    with pytest.raises(UsageError, match="cannot be read"):
        write_default(LabPaths(tmp_path / "x" / "c.yaml"), subnet=SUBNET, cache=tmp_path, like=tmp_path / "none.yaml")
    assert not (tmp_path / "lab" / "cluster.yaml").exists()


def test_a_bundle_beside_the_users_file_is_found_from_the_labs(tmp_path: Path) -> None:
    made = of(tmp_path, MINE + "bundle: {sources: [{directory: mine}]}\n")
    assert made.sources[0].path == tmp_path / "mine"


def test_the_client_that_is_added_has_the_ip_versions_of_the_endpoint(tmp_path: Path) -> None:
    text = (
        MINE.replace("192.0.2.", "2001:db8:77::")
        .replace("/24", "/64")
        .replace("1.35.4, cni: bridge", '1.35.4, pods: "fd00:244::/48", services: "fd00:96::/112"')
    )
    for address in ("2001:db8:77::100/64", *(f"2001:db8:77::{one}" for one in (21, 22, 11, 12, 13))):
        text = text.replace(f" {address}", f' "{address}"')
    assert [one.version for one in of(tmp_path, text).machines["client"].addresses] == [6]
