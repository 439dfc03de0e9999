"""Phases that make the cluster: its authority, balancers and VIP, the first node, the others."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from haplane.components import addons, etcd
from haplane.components.base import RUN, STATE, join_host_port
from haplane.components.kubernetes import INIT_FILE, KUBECONFIG, PARKED, control_plane_endpoint, join_file
from haplane.design.design import identity
from haplane.model.cluster import APISERVER_PORT
from haplane.observe.facts import AUTHORITY, MEMBERSHIP
from haplane.phases.addons import wait_for_add_ons
from haplane.phases.change import Change
from haplane.phases.context import Context, Phase
from haplane.phases.prepare import import_images

JOIN_FILE = f"{RUN}/kubeadm-join.yaml"
UPLOAD_FILE = f"{RUN}/kubeadm-upload.yaml"
TOKEN_LIFE = "1h"


def mark(word: str, context: Context, path: str = MEMBERSHIP) -> str:
    """Remember what this machine is to the cluster. Survives a power cut: synced before it counts."""
    line = f"{word} {identity(context.cluster)}"
    new = f"{STATE}/.{path.rpartition('/')[2]}"
    return f"mkdir -p {STATE}\necho '{line}' > {new}\nsync -f {new}\nmv {new} {path}"


class UndoUnfinished(Phase):
    """kubeadm that was cut short (the machine lost power) is undone, so that it can start anew."""

    title = "Undo what kubeadm left unfinished"

    def machines(self, context: Context) -> Sequence[str]:
        return context.decision.clean

    async def run(self, context: Context, do: Change) -> None:
        if context.is_live and not do.facts.membership.startswith("begun init"):
            address = context.cluster.machines[do.machine].address
            seed = context.remotes[context.seed()]
            # A member that never finished joining still counts for quorum until it is removed.
            member = f"""
e="{etcd.etcdctl(context.cluster)}"
list=$($e member list)
id=$(printf '%s\n' "$list" | grep -F "https://{join_host_port(address, etcd.PEER_PORT)}" | cut -d, -f1)
[ -z "$id" ] || $e member remove "$id"
"""
            holds_etcd = context.cluster.is_stacked and do.machine in context.of(context.cluster.control_plane)
            script = f"set -e\n{member if holds_etcd else ''}kubectl {KUBECONFIG} delete node {do.machine} " + (
                "--ignore-not-found --wait=false"
            )
            await do.do(
                f"remove {do.machine}'s unfinished {'etcd member and ' if holds_etcd else ''}node from the cluster",
                lambda: seed.run(script, shown_as=f"remove the unfinished member {do.machine}"),
            )
        script = reset_script(keeps_etcd=not context.cluster.is_stacked)
        await do.do("undo the unfinished kubeadm", lambda: do.job("undo", script, shown_as="kubeadm reset"))
        await do.do("forget that it was begun", lambda: do.sh(f"rm -f {MEMBERSHIP}"))


def reset_script(*, keeps_etcd: bool = False) -> str:
    """Take Kubernetes off a machine: nodes' data, static pods, certificates, network. The bundle stays.

    keeps_etcd: a member there is not kubeadm's, which would empty /var/lib/etcd where it finds no static pod either.
    """
    return f"""
rm -rf {PARKED}
if command -v kubeadm >/dev/null; then
  kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock --cleanup-tmp-dir \\
    {"--skip-phases remove-etcd-member" if keeps_etcd else ""} || true
fi
systemctl stop kubelet 2>/dev/null || true
rm -rf /etc/kubernetes/manifests /etc/kubernetes/pki /etc/kubernetes/*.conf
{"" if keeps_etcd else f"rm -rf {etcd.DATA}/member"}
rm -rf /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env /var/lib/kubelet/pki
rm -rf /etc/kubernetes/tmp
# What flannel and kube-proxy leave behind would lead a new cluster's packets into this one's network.
{addons.TAKE_FLANNELS_LINKS}
{addons.TAKE_PROXYS_RULES}
rm -rf /run/flannel /var/lib/cni
"""


# kubeadm wants etcd's folder empty (DirAvailable), and a new ext4 of its own is not. fsck makes this anew.
EMPTY_DISK = f"rmdir {etcd.DATA}/lost+found 2>/dev/null || true"


class CreateAuthority(Phase):
    """The CA comes first, so that balancers can verify apiservers from its first check on."""

    title = "Create the cluster's certificate authority"

    def machines(self, context: Context) -> Sequence[str]:
        return [context.decision.init] if context.decision.init else []

    async def run(self, context: Context, do: Change) -> None:
        async def create() -> None:
            done = await do.sh(
                f"set -e\n{mark('begun init', context)}\n"
                f"[ -s {AUTHORITY} ] || kubeadm init phase certs ca --config {INIT_FILE} > /dev/null\n"
                f"cat {AUTHORITY}",
                shown_as="kubeadm init phase certs ca",
            )
            context.design = context.design.with_authority(done.stdout)

        await do.do("create the CA of the cluster (its key stays on the machine)", create)


class CreateCluster(Phase):
    """kubeadm init on one machine, while the others load their images."""

    title = "Create the cluster"

    def __init__(self) -> None:
        self._first_has_images = asyncio.Event()

    def machines(self, context: Context) -> Sequence[str]:
        return context.having("kubelet")

    async def run(self, context: Context, do: Change) -> None:
        if context.decision.init and do.machine != context.decision.init and not context.dry:
            # The others have time until the first node is there; it goes ahead of them.
            await self._first_has_images.wait()
        await import_images(context, do)
        self._first_has_images.set()
        if do.machine != context.decision.init:
            return
        script = f"{EMPTY_DISK}\nkubeadm init --config {INIT_FILE} --skip-token-print\n{mark('done', context)}"
        await do.do("kubeadm init", lambda: do.job("kubeadm", script, shown_as=f"kubeadm init --config {INIT_FILE}"))


class JoinNodes(Phase):
    title = "Join the other nodes"

    def __init__(self) -> None:
        self._minted: asyncio.Task[tuple[str, str]] | None = None

    def machines(self, context: Context) -> Sequence[str]:
        return (*context.decision.join, *context.decision.workers)

    async def run(self, context: Context, do: Change) -> None:
        await do.do(
            f"kubeadm join through {control_plane_endpoint(context.design.view(do.machine))}",
            lambda: self._join(context, do),
        )

    async def _join(self, context: Context, do: Change) -> None:
        # One token and one key serve all that join now.
        if self._minted is None:
            self._minted = asyncio.create_task(_mint(context))
        token, key = await self._minted
        has_apiserver = do.machine in context.decision.join
        file = join_file(
            context.design.view(do.machine),
            token=token,
            certificate_key=key if has_apiserver else None,
            authority_hash=authority_hash(context.design.authority or ""),
            via=control_plane_endpoint(context.design.view(do.machine)),
        )
        await do.sh(f"set -e\n{mark('begun join', context)}", shown_as="remember that the join began")
        url = f"https://{join_host_port(context.cluster.machines[do.machine].address, APISERVER_PORT)}/livez"
        ask = f"curl --silent --fail --max-time 1 --output /dev/null --cacert {AUTHORITY} {url}"
        # The kubelet starts before the API next to it, and asks it ever more seldom. A restart once it is up ends the
        # wait: measured 14 s from the end of the last join to Ready without it.
        wait = f"until {ask}; do sleep 0.3; done; systemctl restart kubelet" if has_apiserver else ":"
        # kubeadm asks some things once, for 10 s, and a VIP that moves at that moment is enough. Until the kubelet has
        # its configuration the cluster knows nothing of this machine, so the join can begin anew.
        script = f"""
({wait}) &
trap 'rm -f {JOIN_FILE}; kill $! 2>/dev/null || true' EXIT
{EMPTY_DISK}
kubeadm join --config {JOIN_FILE} || {{
  [ ! -e /var/lib/kubelet/config.yaml ]
  {reset_script(keeps_etcd=not context.cluster.is_stacked)}
  {EMPTY_DISK}
  kubeadm join --config {JOIN_FILE}
}}
{mark("done", context)}
"""
        await do.job("kubeadm", script, shown_as="kubeadm join", stdin=file.encode(), secret_file=JOIN_FILE)


async def _mint(context: Context) -> tuple[str, str]:
    """A join token and a certificate key, both fresh and short-lived, made by a node of the cluster."""
    seed = context.remotes[context.seed()]
    # The key goes into the configuration, as kubeadm wants it, and never onto a disk or into a list of processes.
    script = f"""set -e
key=$(kubeadm certs certificate-key)
trap 'rm -f {UPLOAD_FILE}' EXIT
(umask 077; {{ echo "certificateKey: $key"; cat {INIT_FILE}; }} > {UPLOAD_FILE})
kubeadm init phase upload-certs --upload-certs --config {UPLOAD_FILE} {KUBECONFIG} > /dev/null
token=$(kubeadm token create --ttl {TOKEN_LIFE} {KUBECONFIG})
echo "$token $key"
"""
    done = await seed.run(script, shown_as="mint a join token and a certificate key")
    token, key = done.stdout.split()[-2:]
    return token, key


def authority_hash(pem: str) -> str:
    """sha256:HEX over the certificate's public key, as kubeadm's caCertHashes wants it (RFC 7469 pin)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509 import load_pem_x509_certificate

    key = load_pem_x509_certificate(pem.encode()).public_key()
    return "sha256:" + hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


class WaitUntilWhole(Phase):
    title = "Wait until every node is ready"

    def machines(self, context: Context) -> Sequence[str]:
        return [context.seed()]

    async def run(self, context: Context, do: Change) -> None:
        if not context.decision.new:
            return
        names = " ".join(f"node/{name}" for name in context.having("kubelet"))
        condition = "Ready" if context.cluster.kubernetes.cni.value != "none" else "MemoryPressure=false"
        script = f"kubectl {KUBECONFIG} wait --for=condition={condition} --timeout=180s {names}"
        await do.do("wait until every node is ready", lambda: do.sh(script, timeout_s=200))
        await wait_for_add_ons(context, do)
