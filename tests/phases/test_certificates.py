"""The scripts that make certificates, run for real by /bin/sh and OpenSSL in a folder."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.model.clusters import etcd_apart

from haplane.components import etcd
from haplane.components.etcd import Leaf
from haplane.observe import facts
from haplane.phases.certificates import authority_script, install_script, request_script, sign_script


def sh(script: str, stdin: str = "", *, code: int = 0) -> str:
    done = subprocess.run(["/bin/sh", "-c", script], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def below(leaf: Leaf, folder: Path) -> Leaf:
    return replace(leaf, cert=f"{folder}{leaf.cert}", key=f"{folder}{leaf.key}", ca=f"{folder}{leaf.ca}")


CLUSTER = etcd_apart()
SERVER, PEER = etcd.leaves(CLUSTER, CLUSTER.machines["e2"])
(CLIENT,) = etcd.leaves(CLUSTER, CLUSTER.machines["cp1"])
TWO_STACKS = replace(SERVER, names=("e2", "192.0.2.22", "2001:db8::22", "::1"))
DIGITS = replace(SERVER, names=("2", "192.0.2.22"))


@pytest.fixture
def authority(tmp_path: Path) -> str:
    folder = f"{tmp_path}/authority"
    sh(authority_script(folder))
    return folder


def issued(leaf: Leaf, authority: str) -> x509.Certificate:
    sh(install_script(leaf), sh(sign_script(leaf, authority), sh(request_script(leaf))))
    return x509.load_pem_x509_certificate(Path(leaf.cert).read_bytes())


@pytest.mark.parametrize("leaf", [SERVER, PEER, TWO_STACKS, DIGITS, CLIENT])
def test_a_certificate_says_what_is_designed_and_comes_from_the_ca(leaf: Leaf, authority: str, tmp_path: Path) -> None:
    leaf = below(leaf, tmp_path)
    certificate = issued(leaf, authority)
    sh(f"openssl verify -x509_strict -CAfile {leaf.ca} {leaf.cert}")
    assert Path(leaf.ca).read_bytes() == Path(authority, "ca.crt").read_bytes()
    assert certificate.subject.rfc4514_string() == f"CN={leaf.common_name}"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {*usage} == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    names = set[str]()
    if leaf.names:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = {
            *found.get_values_for_type(x509.DNSName),
            *(str(ip_address(str(one))) for one in found.get_values_for_type(x509.IPAddress)),
        }
    assert names == {*leaf.names}


def test_clocks_may_differ_and_validity_is_as_kubeadms(authority: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ca = x509.load_pem_x509_certificate(Path(authority, "ca.crt").read_bytes())
    leaf = issued(below(SERVER, tmp_path), authority)
    assert leaf.not_valid_before_utc < now - timedelta(minutes=4) and ca.not_valid_before_utc < now
    assert timedelta(days=364) < leaf.not_valid_after_utc - now <= timedelta(days=365, minutes=1)
    assert ca.not_valid_after_utc - now > timedelta(days=3640)
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_keys_are_for_root_alone_and_stay_when_a_certificate_is_made_anew(authority: str, tmp_path: Path) -> None:
    leaf = below(PEER, tmp_path)
    first = issued(leaf, authority)
    key = Path(leaf.key).read_bytes()
    again = issued(leaf, authority)
    assert first.serial_number != again.serial_number
    assert Path(leaf.key).read_bytes() == key
    assert {Path(one).stat().st_mode & 0o777 for one in (leaf.key, f"{authority}/ca.key")} == {0o600}
    left = {one.name for folder in (Path(leaf.cert).parent, Path(authority)) for one in folder.iterdir()}
    assert left == {"peer.crt", "peer.key", "ca.crt", "ca.key"}


def test_a_ca_that_was_cut_short_is_finished_with_the_key_that_is_there(authority: str) -> None:
    key = Path(authority, "ca.key").read_bytes()
    made = Path(authority, "ca.crt").read_bytes()
    sh(authority_script(authority))
    assert Path(authority, "ca.crt").read_bytes() == made
    Path(authority, "ca.crt").unlink()
    sh(authority_script(authority))
    assert Path(authority, "ca.key").read_bytes() == key
    assert Path(authority, "ca.crt").stat().st_size


def test_what_a_request_asks_for_does_not_count(authority: str, tmp_path: Path) -> None:
    leaf = below(SERVER, tmp_path)
    sh(request_script(leaf))
    asked = f"openssl req -new -key {leaf.key} -subj /O=system:masters/CN=admin -addext subjectAltName=DNS:evil.example"
    signed = sh(sign_script(leaf, authority), sh(asked))
    certificate = x509.load_pem_x509_certificate(signed.encode())
    assert certificate.subject.rfc4514_string() == "CN=e2"
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "evil.example" not in found.get_values_for_type(x509.DNSName)


def test_a_certificate_for_another_key_is_not_written(authority: str, tmp_path: Path) -> None:
    mine, other = below(SERVER, tmp_path), below(SERVER, tmp_path / "other")
    issued(mine, authority)
    before = Path(mine.cert).read_bytes()
    signed = sh(sign_script(mine, authority), sh(request_script(other)))
    sh(install_script(mine), signed, code=1)
    assert Path(mine.cert).read_bytes() == before


def test_facts_tell_a_good_certificate_from_one_that_is_made_anew(authority: str, tmp_path: Path) -> None:
    leaf = below(TWO_STACKS, tmp_path)

    def found() -> dict[str, facts.FoundCertificate]:
        script = facts.command(ip_address("192.0.2.22"), ip_address("192.0.2.100"), [], [], [], [leaf])
        begin = script.index("for f in '" + leaf.cert)
        read = script[begin : script.index("done", begin) + 4]
        return dict(facts.parse(sh(f"T='\t'\n{read}\ntrue")).certificates)

    assert found() == {}
    issued(leaf, authority)
    assert found()[leaf.cert].names == {*leaf.names}
    # Signed by another CA, though of the same name.
    sh(authority_script(f"{tmp_path}/another"))
    Path(leaf.ca).write_bytes((tmp_path / "another" / "ca.crt").read_bytes())
    assert found() == {}
    issued(leaf, authority)
    Path(leaf.key).unlink()
    assert found() == {}
    # It ends soon.
    soon = sign_script(leaf, authority).replace("-days 365", "-days 29")
    sh(install_script(leaf), sh(soon, sh(request_script(leaf))))
    assert found() == {}
