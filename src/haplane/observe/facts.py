"""Facts: what a machine holds now, read by one command and parsed by a pure function."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from haplane.components import etcd
from haplane.components.base import RUN, STATE, Measured
from haplane.model.cluster import Address

# Kept on a control-plane node: `begun init|join`, then the cluster's identity; replaced by `done ...` when it is one.
MEMBERSHIP = f"{STATE}/membership"
AUTHORITY = "/etc/kubernetes/pki/ca.crt"
KUBELET_CONFIG = "/etc/kubernetes/kubelet.conf"
# Beside the data they speak of: a marker elsewhere would outlive it.
IMAGES_MARKER = "/var/lib/containerd/.haplane-images"
BUNDLE_MARKERS = f"{STATE}/verified"
LOADED = f"{STATE}/loaded"
# Below it, under their own paths: the sha256 of each file that haplane wrote.
WRITTEN = f"{STATE}/written"
JOB_UNITS = "haplane-job-*"
# A certificate that ends sooner is made anew.
RENEWED_BEFORE_S = 30 * 86400


@dataclass(frozen=True)
class FoundFile:
    """A file as it is. mode is octal. written: the sha256 of what haplane wrote there last; empty if it never did.

    changed: when it was changed last, and its owner, for people.
    """

    sha256: str
    mode: str
    written: str = ""
    changed: str = ""

    @property
    def is_foreign(self) -> bool:
        """Somebody else wrote it, or changed it since."""
        return self.sha256 != self.written


@dataclass(frozen=True)
class FoundCertificate:
    """One that its CA signed, whose key is there, and that does not end soon. authority: sha256 of the CA's file."""

    authority: str
    names: frozenset[str]


@dataclass(frozen=True)
class Facts:
    """One machine. files: by path. units: name -> (enabled, active) as systemctl says. kubelet_server: where its
    kubelet reaches the API; empty where there is none.

    certificates: by path, of those that were asked for. etcd_authority: sha256 of the certificate of the CA of an etcd
    with machines of its own; etcd_membership: what the machine is to it.
    """

    measured: Measured
    hostname: str
    system: str
    files: Mapping[str, FoundFile] = field(default_factory=dict)
    loaded: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    packages: frozenset[str] = frozenset()
    bundles: frozenset[str] = frozenset()
    images: str = ""
    membership: str = ""
    has_etcd_data: bool = False
    has_kubelet: bool = False
    kubelet_server: str = ""
    authority: str | None = None
    certificates: Mapping[str, FoundCertificate] = field(default_factory=dict)
    etcd_membership: str = ""
    etcd_authority: str = ""
    has_etcd_authority_key: bool = False
    jobs: tuple[str, ...] = ()
    holds_vip: bool = False


def command(
    address: Address,
    vip: Address,
    files: Iterable[str],
    units: Iterable[str],
    packages: Iterable[str],
    leaves: Iterable[etcd.Leaf] = (),
) -> str:
    """The shell script whose output `parse` reads: lines of a key and tab-separated values.

    leaves: certificates to look at. Where there are any, etcd is a unit, whose data begins with its log; kubeadm wants
    more than that out of its way.

    It starts few processes, one for all files at a time: they are most of what a plan waits for.
    """
    quoted = " ".join(shlex.quote(path) for path in files)
    unit_list = " ".join(units)
    certificates = " ".join(f"'{one.cert} {one.key} {one.ca}'" for one in leaves)
    return f"""
LC_ALL=C; export LC_ALL; PATH=$PATH:/usr/sbin:/sbin; T='\t'
say() {{ line=; [ -f "$2" ] && read -r line < "$2"; [ -n "$line" ] && echo "$1$T$line"; }}
ip -o addr show | awk -v T="$T" -v a='{address}' -v v='{vip}' '{{split($4,p,"/")
  if (p[1]==a) print "interface" T $2
  if (p[1]==v) print "vip" T $2}}'
awk -v T="$T" '/^Max open files/{{print "open_files" T $5}}
  /^MemTotal/{{print "memory" T $2*1024}}' /proc/1/limits /proc/meminfo
say hostname /proc/sys/kernel/hostname
(. /etc/os-release; echo "system$T$ID $VERSION_ID $(uname -m)")
set --; for f in {quoted}; do [ -f "$f" ] && set -- "$@" "$f"; done
if [ $# -gt 0 ]; then
  sha256sum "$@" | sed 's/^\\([0-9a-f]*\\)  /sha256\t\\1\t/'
  stat -c "stat$T%a$T%.16y by %U$T%n" "$@"
  for f in "$@"; do [ -f "{WRITTEN}$f" ] && read -r sum < "{WRITTEN}$f" && echo "written$T$sum$T$f"; done
fi
for f in {LOADED}/*; do say "loaded$T${{f##*/}}" "$f"; done
systemctl show -p Id -p UnitFileState -p ActiveState {unit_list} | awk -v RS= -v T="$T" '{{
  n=split($0,l,"\\n"); for(i=1;i<=n;i++){{split(l[i],k,"="); v[k[1]]=k[2]}}
  print "unit" T v["Id"] T v["UnitFileState"] T v["ActiveState"]}}'
dpkg-query -W -f '${{db:Status-Status}}\t${{Package}}\n' {" ".join(packages)} 2>/dev/null \
| awk -v T="$T" '$1=="installed"{{print "package" T $2}}'
for f in {BUNDLE_MARKERS}/*; do [ -f "$f" ] && d=${{f##*/}} && \
  [ -d "{STATE}/bundles/${{d%%+*}}" ] && echo "bundle$T$d"; done
say images {IMAGES_MARKER}
say membership {MEMBERSHIP}
[ -d {etcd.DATA}/member{"/wal" if certificates else ""} ] && echo "etcd_data${{T}}yes"
[ -e {KUBELET_CONFIG} ] && echo "kubelet${{T}}yes" && while read -r key value; do
  [ "$key" != server: ] || echo "kubelet_server$T$value"
done < {KUBELET_CONFIG}
[ -s {AUTHORITY} ] && echo "authority$T$(base64 -w0 {AUTHORITY})"
{_etcd_apart(certificates) if certificates else ":"}
systemctl list-units --plain --no-legend --state=active,activating '{JOB_UNITS}' | awk -v T="$T" '{{print "job" T $1}}'
[ -d {RUN} ] || mkdir -p {RUN} || true
exit 0
"""


def _etcd_apart(certificates: str) -> str:
    return f"""say etcd_membership {etcd.MEMBERSHIP}
[ -s {etcd.PKI}/ca.key ] && echo "etcd_authority_key${{T}}yes"
[ -s {etcd.PKI}/ca.crt ] && echo "etcd_authority$T$(sha256sum < {etcd.PKI}/ca.crt | cut -d' ' -f1)"
for f in {certificates}; do
  set -- $f
  [ -s $2 ] && names=$(openssl x509 -noout -checkend {RENEWED_BEFORE_S} -ext subjectAltName -in $1 2>/dev/null) && \
    openssl verify -CAfile $3 $1 > /dev/null 2>&1 && \
    echo "certificate$T$1$T$(sha256sum < $3 | cut -d' ' -f1)$T"$names
done"""


def parse_names(text: str) -> frozenset[str]:
    """Of a certificate, as `openssl x509 -ext subjectAltName` prints them. Addresses as `ipaddress` writes them."""
    found = set[str]()
    for kind, value in re.findall(r"(DNS|IP Address):([^,\s]+)", text):
        try:
            found.add(value if kind == "DNS" else str(ip_address(value)))
        except ValueError:
            continue
    return frozenset(found)


def parse(output: str) -> Facts:
    """Output of `command` -> Facts. Lines that are not understood are left out."""
    single: dict[str, str] = {}
    about_files: dict[str, dict[str, list[str]]] = {"sha256": {}, "stat": {}, "written": {}}
    loaded: dict[str, str] = {}
    units: dict[str, tuple[str, str]] = {}
    many: dict[str, list[str]] = {"package": [], "bundle": [], "job": []}
    certificates: dict[str, FoundCertificate] = {}
    for line in output.splitlines():
        key, *values = line.split("\t")
        if key in about_files and len(values) > 1:
            about_files[key][values[-1]] = values[:-1]
        elif key == "loaded" and len(values) == 2:
            loaded[values[0]] = values[1]
        elif key == "unit" and len(values) == 3:
            units[values[0]] = (values[1], values[2])
        elif key == "certificate" and len(values) == 3:
            certificates[values[0]] = FoundCertificate(values[1], parse_names(values[2]))
        elif key in many and values:
            many[key].append(values[0])
        elif len(values) == 1:
            single[key] = values[0].strip()
    files = {
        path: FoundFile(sha256, mode, "".join(about_files["written"].get(path, ())), changed)
        for path, (sha256,) in about_files["sha256"].items()
        for mode, changed in [about_files["stat"].get(path, ("", ""))]
    }
    default = Measured()
    return Facts(
        measured=Measured(
            interface=single.get("interface") or default.interface,
            open_files=_number(single.get("open_files"), default.open_files),
            memory_bytes=_number(single.get("memory"), default.memory_bytes),
            # Without the architecture.
            system=" ".join(single.get("system", "").split()[:2]),
        ),
        hostname=single.get("hostname", ""),
        system=single.get("system", ""),
        files=files,
        loaded=loaded,
        units=units,
        packages=frozenset(many["package"]),
        bundles=frozenset(many["bundle"]),
        images=single.get("images", ""),
        membership=single.get("membership", ""),
        has_etcd_data=single.get("etcd_data") == "yes",
        has_kubelet=single.get("kubelet") == "yes",
        kubelet_server=single.get("kubelet_server", ""),
        authority=base64.b64decode(single["authority"]).decode() if single.get("authority") else None,
        certificates=certificates,
        etcd_membership=single.get("etcd_membership", ""),
        etcd_authority=single.get("etcd_authority", ""),
        has_etcd_authority_key=single.get("etcd_authority_key") == "yes",
        jobs=tuple(many["job"]),
        holds_vip=bool(single.get("vip")),
    )


def _number(text: str | None, default: int) -> int:
    """'unlimited' and nothing at all become the default."""
    try:
        return int(float(text or ""))
    except ValueError:
        return default
