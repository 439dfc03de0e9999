"""Disks, and what an existing cluster has in its certificates. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from haplane.components.etcd import PKI as ETCD_PKI
from haplane.components.etcd import leaves
from haplane.components.kubernetes import PKI, certificate_names
from haplane.design.hazards.finding import Severity
from haplane.model.roles import control_plane, etcd_members, managed
from haplane.observe.preflight.check import NotTried, Said, Seen, Trouble, check
from haplane.observe.preflight.installed import SHARED_KEYS
from haplane.observe.preflight.probe import Host, Part

# etcd's FAQ: p99 of fdatasync below 10 ms.
DISK_WARNING_MS = 10
DISK_ERROR_MS = 100
# Fewer samples have no p99.
FEWEST_SAMPLES = 20
APISERVER = "/etc/kubernetes/pki/apiserver.crt"
_ISSUED_AGAIN = "haplane apply issues it again"


@check(
    "disk-quick",
    hazard="etcd-slow-disk",
    sentence=f"99 of 100 small writes for etcd are on the disk within {DISK_WARNING_MS} ms",
    cure="an SSD of its own for /var/lib/etcd",
    concerns=etcd_members,
    needs=Part.DISK,
)
def disk_quick(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        disk = probe.disk
        if disk.p99_ms <= DISK_WARNING_MS:
            if disk.samples < FEWEST_SAMPLES:
                yield NotTried(name, f"only {disk.samples} writes were timed")
            continue
        severity = Severity.ERROR if disk.p99_ms > DISK_ERROR_MS else Severity.WARNING
        evidence = f"99 of 100 writes with fdatasync in {disk.folder} took up to {disk.p99_ms:.1f} ms"
        yield Trouble(name, f"{evidence}, the worst of {disk.samples} {disk.worst_ms:.1f} ms", severity)


@check(
    "certificates-valid",
    hazard="cert-expiring",
    sentence="no certificate of the cluster ends soon",
    cure="on one machine after the other: kubeadm certs renew all, and restart its static pods",
    concerns=managed,
)
def certificates_valid(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        if not probe.host.certificates or probe.host.now is None:
            yield NotTried(name, "it has no certificates yet")
            continue
        for path, certificate in _certificates(probe.host).items():
            if certificate is None:
                yield NotTried(name, f"{path} is not a certificate that can be read")
            else:
                is_issued_again = path in {leaf.cert for leaf in leaves(seen.cluster, seen.cluster.machines[name])}
                yield from _ending(name, path, certificate, probe.host.now, is_issued_again=is_issued_again)


def _ending(
    name: str, path: str, certificate: x509.Certificate, now: datetime, *, is_issued_again: bool
) -> Iterator[Said]:
    """is_issued_again: by the next apply, which an error would keep from doing so."""
    left = certificate.not_valid_after_utc - now
    # A CA is replaced on all machines at once; that takes planning.
    soon = timedelta(days=365 if path.endswith("ca.crt") else 30)
    if left < soon:
        ends = f"{path} ends on {certificate.not_valid_after_utc:%Y-%m-%d}"
        days = left // timedelta(days=1)
        evidence = f"{ends}, in {days} days" if days >= 0 else f"{ends}: it is over"
        if is_issued_again:
            yield Trouble(name, evidence, Severity.WARNING, cure=_ISSUED_AGAIN)
        else:
            yield Trouble(name, evidence, Severity.ERROR if left < timedelta(days=7) else Severity.WARNING)


@check(
    "endpoint-in-certificate",
    hazard="api-endpoint-not-in-san",
    sentence="every apiserver's certificate names the endpoint and all control-plane machines",
    cure="haplane apply makes it anew when the file names more than before",
    concerns=control_plane,
)
def endpoint_in_certificate(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        if APISERVER not in probe.host.certificates:
            yield NotTried(name, "it has no apiserver yet")
            continue
        certificate = _certificates(probe.host)[APISERVER]
        if certificate is None:
            yield NotTried(name, f"{APISERVER} is not a certificate that can be read")
            continue
        names = _names(certificate)
        if missing := [one for one in map(str, certificate_names(seen.cluster)) if one not in names]:
            # A warning: an apply is what mends it.
            yield Trouble(name, f"{APISERVER} lacks {', '.join(missing)}", Severity.WARNING)


@check(
    "etcd-certificates-fit",
    hazard="etcd-cert-mismatch",
    sentence="etcd's certificates name its machine, come from its CA, and serve a member that calls another",
    cure="issue them again (kubeadm init phase certs etcd-peer, etcd-server), with the CA that the other members have",
    concerns=etcd_members,
)
def etcd_certificates_fit(seen: Seen) -> Iterator[Said]:
    for name, probe in seen.machines.items():
        found = _certificates(probe.host)
        folder = next((one for one in (ETCD_PKI, f"{PKI}/etcd") if f"{one}/peer.crt" in found), "")
        if not folder:
            yield NotTried(name, "it has no certificates of etcd yet")
            continue
        address = str(seen.cluster.machines[name].address)
        # An error would keep the next apply from doing so.
        mends, cure = (Severity.WARNING, _ISSUED_AGAIN) if folder == ETCD_PKI else (Severity.ERROR, "")
        for path in (f"{folder}/peer.crt", f"{folder}/server.crt"):
            if path not in found:
                yield NotTried(name, f"{path} is not there")
            elif (certificate := found[path]) is None:
                yield NotTried(name, f"{path} is not a certificate that can be read")
            else:
                if address not in _names(certificate):
                    yield Trouble(name, f"{path} lacks {address}", mends, cure=cure)
                if path.endswith("peer.crt") and not _serves_clients(certificate):
                    yield Trouble(name, f"{path} cannot be used by a client (it lacks clientAuth)", mends, cure=cure)
                if (authority := found.get(f"{folder}/ca.crt")) is None:
                    yield NotTried(name, f"{folder}/ca.crt is not a certificate that can be read")
                elif not _is_from(certificate, authority):
                    yield Trouble(name, f"{path} does not come from {folder}/ca.crt", mends, cure=cure)


def _serves_clients(certificate: x509.Certificate) -> bool:
    """Without the extension everything is allowed (RFC 5280, 4.2.1.12)."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def _is_from(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


@check(
    "keys-shared",
    hazard="cert-shared-keys",
    sentence="all apiservers have the same CAs, key of service accounts and encryption configuration",
    cure="copy them from a healthy machine, and restart the static pods",
    concerns=control_plane,
    needs=Part.INSTALLED,
)
def keys_shared(seen: Seen) -> Iterator[Said]:
    having: dict[str, dict[str, str]] = {}
    for name, probe in seen.machines.items():
        there = probe.installed
        found = {path: there.digests[path] for path in SHARED_KEYS if path in there.digests}
        if there.encryption and there.encryption.path and not there.encryption.sha256:
            yield NotTried(name, f"{there.encryption.path} cannot be read")
        elif there.encryption:
            found["its encryption configuration"] = there.encryption.sha256 or "none"
        if found:
            having[name] = found
        else:
            yield NotTried(name, "it has no keys of a cluster yet")
    if len(having) == 1:
        yield from (NotTried(name, "no other control-plane machine that could be read has any") for name in having)
    for what in dict.fromkeys(one for found in having.values() for one in found):
        held = {name: found[what] for name, found in having.items() if what in found}
        usual = max(held.values(), key=list(held.values()).count)
        others = ", ".join(name for name, digest in held.items() if digest == usual)
        for name, digest in held.items():
            if digest != usual:
                yield Trouble(name, f"{what} is not that of {others}")


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = {str(ip_address(str(one))) for one in found.get_values_for_type(x509.IPAddress)}
    return frozenset({*found.get_values_for_type(x509.DNSName), *addresses})


def _certificates(host: Host) -> Mapping[str, x509.Certificate | None]:
    """The first of each file: the leaf."""
    return {path: _certificate(text) for path, text in host.certificates.items()}


def _certificate(pem: str) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None
