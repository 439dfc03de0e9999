"""Scripts that make certificates on machines with OpenSSL: a CA, a key with its request, a signature. Pure.

Each can be cut short and run again: files are written beside, synced and renamed. No key leaves its machine. As
kubeadm's own, a CA is good for ten years and a leaf for one, from a little before it was made: clocks differ.
"""

from __future__ import annotations

from ipaddress import ip_address

from haplane.components.etcd import Leaf

AUTHORITY_DAYS = 3650
LEAF_DAYS = 365
BEFORE = "5 minutes"

_NEW_KEY = "openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256"


def authority_script(folder: str) -> str:
    """Makes ca.key and ca.crt in folder, of them what is not there."""
    return f"""set -e
umask 077
mkdir -p {folder}
{_key(f"{folder}/ca.key")}
if [ ! -s {folder}/ca.crt ]; then
{_workplace(folder, "")}
openssl req -new -key {folder}/ca.key -subj /CN=etcd-ca -out "$d/request"
{_sign("authority", f"-selfsign -keyfile {folder}/ca.key", "/CN=etcd-ca", AUTHORITY_DAYS)}
cp "$d/signed" {folder}/.ca.crt.haplane
chmod 644 {folder}/.ca.crt.haplane
sync -f {folder}/.ca.crt.haplane
mv -f {folder}/.ca.crt.haplane {folder}/ca.crt
fi
"""


def request_script(leaf: Leaf) -> str:
    """Makes the leaf's key if it is not there, and prints a request for its certificate."""
    return f"""set -e
umask 077
mkdir -p {leaf.key.rpartition("/")[0]}
[ -s {leaf.key} ] || rm -f {leaf.cert}
{_key(leaf.key)}
openssl req -new -key {leaf.key} -subj /CN={leaf.common_name}
"""


def sign_script(leaf: Leaf, folder: str) -> str:
    """Reads a request, and prints its certificate and the CA's, which is in folder.

    Of the request only its public key counts: what the certificate says is said here.
    """
    return f"""set -e
{_workplace(folder, _alternative_names(leaf))}
cat > "$d/request"
{_sign("leaf", "", f"/CN={leaf.common_name}", LEAF_DAYS)}
cat "$d/signed" {folder}/ca.crt
"""


def install_script(leaf: Leaf) -> str:
    """Reads what `sign_script` printed, and puts both certificates in their places if they belong to the key there."""
    new, new_ca = _beside(leaf.cert), _beside(leaf.ca)
    return f"""set -e
umask 022
mkdir -p {leaf.ca.rpartition("/")[0]}
awk -v leaf={new} -v ca={new_ca} '/^-----BEGIN/ {{ n++ }} n==1 {{ print > leaf }} n==2 {{ print > ca }}'
openssl verify -CAfile {new_ca} {new} > /dev/null
if [ "$(openssl x509 -noout -pubkey -in {new})" != "$(openssl pkey -pubout -in {leaf.key})" ]; then
  echo 'the certificate that arrived is for another key' >&2
  exit 1
fi
sync -f {new}
cmp -s {new_ca} {leaf.ca} || mv -f {new_ca} {leaf.ca}
rm -f {new_ca}
mv -f {new} {leaf.cert}
"""


def _beside(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.haplane"


def _key(path: str) -> str:
    new = _beside(path)
    return f"""if [ ! -s {path} ]; then
  {_NEW_KEY} -out {new}
  sync -f {new}
  mv -f {new} {path}
fi"""


def _alternative_names(leaf: Leaf) -> str:
    if not leaf.names:
        return ""
    kinds = (("IP" if _is_address(one) else "DNS", one) for one in leaf.names)
    return "subjectAltName = " + ", ".join(f"{kind}:{one}" for kind, one in kinds)


def _is_address(name: str) -> bool:
    """A machine may be called 1."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _workplace(folder: str, more: str) -> str:
    """A folder of its own for each run: several requests are signed side by side. No secret comes there."""
    return f"""d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
: > "$d/index"
cat > "$d/config" <<HAPLANE_CONFIG
[ca]
default_ca = this
[this]
database = $d/index
new_certs_dir = $d
rand_serial = yes
certificate = {folder}/ca.crt
private_key = {folder}/ca.key
default_md = sha256
policy = any
unique_subject = no
copy_extensions = none
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,digitalSignature,keyEncipherment,keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature,keyEncipherment
extendedKeyUsage = serverAuth,clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
{more}
HAPLANE_CONFIG"""


def _sign(extensions: str, more: str, subject: str, days: int) -> str:
    return f"""openssl ca -batch -notext -config "$d/config" -extensions {extensions} {more} -subj {subject} \\
  -startdate "$(date -u -d '-{BEFORE}' +%Y%m%d%H%M%SZ)" -days {days} \\
  -in "$d/request" -out "$d/signed" 2> "$d/said" || {{ cat "$d/said" >&2; exit 1; }}"""
