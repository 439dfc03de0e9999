"""Who leaves a silent member of etcd, and when: the script as it is, run by a real shell.

What it asks and what it does come from commands of these tests, each round of theirs; and once from a real curl.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.components.test_addons import with_worker
from tests.components.test_check_script import listening, page
from tests.model.clusters import etcd_apart, three_nodes, view
from tests.probes.tls_server import make_authority

from haplane.components import etcd, etcd_watch
from haplane.design.design import Design
from haplane.model.cluster import Cluster

E1, E2, E3 = "192.0.2.21", "192.0.2.22", "192.0.2.23"

# Says of each URL what a member says in this round, in the form that it is asked for.
CURL = """\
#!/bin/sh
round=$(cat round)
echo "$round" >> asked
number=0
for argument; do
  case $argument in
    https://*)
      code=200
      for silent in $(sed -n "${round}p" silent); do
        case $argument in "https://$silent:2379/version") code=000 ;; esac
      done
      echo "#$number:$code"
      number=$((number + 1)) ;;
  esac
done
"""
SS = """\
#!/bin/sh
echo "$(cat round) $*" >> ended
"""
# A round ends where the script pauses; after the last one it is killed.
SLEEP = """\
#!/bin/sh
round=$(($(cat round) + 1))
echo "$1" >> slept
[ "$round" -lt "$(cat certificate-from)" ] || cp certificate client.crt
[ "$round" -le "$(cat rounds)" ] || kill "$PPID"
echo "$round" > round
"""


def script(cluster: Cluster) -> str:
    design = etcd_watch.design(view(cluster, "cp1"))
    return next(file.content for file in design.files if file.path == etcd_watch.SCRIPT_FILE)


def watch(
    folder: Path,
    silent: Sequence[str],
    *,
    text: str = "",
    certificate: str = "PEM",
    certificate_from: int = 1,
    asks: str = CURL,
) -> list[tuple[int, str]]:
    """In which rounds connections are ended, and what `ss` is told of whose.

    silent: for each round, the addresses of members that say nothing. asks: curl; empty: the real one.
    """
    (folder / "bin").mkdir(parents=True)
    for name, content in (("curl", asks), ("ss", SS), ("sleep", SLEEP)):
        if content:
            (folder / "bin" / name).write_text(content)
            (folder / "bin" / name).chmod(0o755)
    files = {
        "silent": "".join(f"{one}\n" for one in silent),
        "rounds": str(len(silent)),
        "round": "1",
        "certificate": certificate,
        "certificate-from": str(certificate_from),
        "watch": (text or script(etcd_apart())).replace(etcd.CLIENT_CERT, "client.crt"),
    }
    if certificate_from == 1:
        files["client.crt"] = certificate
    for name, content in files.items():
        (folder / name).write_text(content)
    path = f"{folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    subprocess.run(["/bin/sh", "watch"], cwd=folder, env={"PATH": path}, check=False, timeout=20)
    lines = told(folder, "ended")
    return [(int(number), rest) for number, _, rest in (line.partition(" ") for line in lines)]


def told(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().splitlines() if (folder / name).exists() else []


def to(address: str) -> str:
    return f"--kill --tcp --numeric state connected dst {address} dport = :2379"


def test_a_member_is_left_when_it_is_silent_for_the_second_time(tmp_path: Path) -> None:
    assert watch(tmp_path, ["", E2, E2, ""]) == [(3, to(E2))]
    assert told(tmp_path, "slept") == ["0.5"] * 4


def test_a_member_that_is_silent_once_is_not_left(tmp_path: Path) -> None:
    assert watch(tmp_path, [E2, "", E2, "", E2, E3]) == []


def test_as_long_as_it_is_silent_what_has_been_connected_anew_is_ended_too(tmp_path: Path) -> None:
    assert watch(tmp_path, [E1, E1, E1, ""]) == [(2, to(E1)), (3, to(E1))]


def test_of_two_silent_members_each_is_left_and_the_third_is_not(tmp_path: Path) -> None:
    assert watch(tmp_path, [E1, f"{E1} {E3}", f"{E1} {E3}"]) == [(2, to(E1)), (3, to(E1)), (3, to(E3))]


def test_nothing_is_ended_while_nobody_answers(tmp_path: Path) -> None:
    everybody = f"{E1} {E2} {E3}"
    assert watch(tmp_path / "all", [everybody] * 4) == []
    # Then it is this machine's network, and says nothing of who was silent before it.
    assert watch(tmp_path / "then", [everybody, everybody, E2, E2]) == [(4, to(E2))]


def test_nobody_is_asked_before_there_is_a_certificate(tmp_path: Path) -> None:
    assert watch(tmp_path, [E2] * 5, certificate_from=3) == [(4, to(E2)), (5, to(E2))]
    assert told(tmp_path, "asked") == ["3", "4", "5"]
    assert told(tmp_path, "slept") == ["5", "5", "0.5", "0.5", "0.5"]


def test_members_with_ipv6_addresses_are_asked_and_left(tmp_path: Path) -> None:
    cluster = etcd_apart()
    machines = {
        name: replace(one, addresses=(ip_address(f"2001:db8::{position}"),))
        for position, (name, one) in enumerate(cluster.machines.items(), start=1)
    }
    text = script(replace(cluster, machines=machines))
    assert watch(tmp_path, ["[2001:db8::5]"] * 2, text=text) == [(2, to("[2001:db8::5]"))]


def test_what_a_real_curl_says_is_understood(tmp_path: Path) -> None:
    """The second member takes connections and says nothing, the third is not there; neither is who answers."""
    own = make_authority(tmp_path / "own")
    with page(200, own) as answers, listening("127.0.0.1") as hangs:
        text = script(etcd_apart()).replace(etcd.CLIENT_CA, str(own.ca_file))
        text = text.replace(etcd.CLIENT_KEY, str(own.chain_file)).replace("--max-time 0.5", "--max-time 2")
        for address, port in ((E1, answers), (E2, hangs), (E3, 1)):
            text = text.replace(f"https://{address}:2379", f"https://127.0.0.1:{port}")
        ended = watch(tmp_path / "run", ["", ""], text=text, certificate=own.chain_file.read_text(), asks="")
    assert ended == [(2, to(E2)), (2, to(E3))]


@pytest.mark.parametrize("address", [E1, "[2001:db8::5]"])
def test_the_filter_is_one_that_ss_understands(address: str) -> None:
    """Without --kill: whatever it shows, it has understood which."""
    shown = to(address).removeprefix("--kill ").split()
    done = subprocess.run(["ss", *shown], check=True, capture_output=True, text=True)
    assert done.stderr == ""


def test_control_plane_nodes_of_an_external_etcd_have_it_and_nobody_else() -> None:
    design = Design(etcd_apart())
    assert [name for name in design.cluster.machines if etcd_watch.NAME in design.components(name)] == [
        "cp1",
        "cp2",
        "cp3",
    ]
    for cluster in (three_nodes(), with_worker()):
        stacked = Design(cluster)
        assert not [name for name in cluster.machines if etcd_watch.NAME in stacked.components(name)]


def test_it_is_as_quick_as_budgets_say() -> None:
    text = script(etcd_apart())
    assert f"--max-time {etcd_watch.ANSWER_S:g} " in text
    assert f"sleep {etcd_watch.PAUSE_S:g}\n" in text
    assert etcd_watch.LEFT_AFTER_S == 2.5
