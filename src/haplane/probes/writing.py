"""What the prober needs in the cluster: a namespace and rights there; and what is stored there.

Nothing here waits for a controller: the service account is made here, and a token is given out by the apiserver.
Everything goes through any control-plane machine that answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from haplane.model.errors import HaplaneError
from haplane.probes.prober import LEASES, LEASES_NAMESPACE, NAMESPACE
from haplane.probes.running import FOLDER, TOKEN_FILE
from haplane.transport.ssh import Completed, Remote

ACCOUNT = "prober"
# Of the right to read leases, in a namespace that is not the drill's own.
LEASE_READER = f"{NAMESPACE}-{ACCOUNT}"
RBAC = "rbac.authorization.k8s.io"
TOKEN_LIFE = "1h"
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout=10s"
VERBS = ("create", "patch", "get", "list", "watch", "deletecollection")
TRIES = 30
ROUNDS = 3


async def prepare(nodes: Sequence[Remote], client: Remote) -> None:
    """Make the namespace and the account, and hand the client machine a token. Raises HaplaneError."""
    await _through(nodes, prepare_script(), shown_as=f"prepare namespace {NAMESPACE}", stdin=manifest(), rounds=1)
    minted = await _through(nodes, token_script(), shown_as="mint a token for the prober")
    await client.run(hand_over_script(), shown_as="hand the prober its token", stdin=minted.stdout.strip().encode())


async def stored(nodes: Sequence[Remote], prefix: str) -> tuple[str, ...]:
    """The names of all that is stored and begins with prefix. Raises HaplaneError when no node can tell."""
    done = await _through(nodes, list_script(), shown_as=f"list what is stored in {NAMESPACE}")
    return stored_keys(done.stdout, prefix)


async def remove(nodes: Sequence[Remote], client: Remote) -> None:
    """Take all of it away; the token is worth nothing then. Raises HaplaneError."""
    await client.run(f"rm -f {TOKEN_FILE}")
    await _through(nodes, remove_script(), shown_as=f"remove namespace {NAMESPACE}")


async def _through(
    nodes: Sequence[Remote], script: str, *, shown_as: str, stdin: str = "", rounds: int = ROUNDS
) -> Completed:
    """Run it on the first node where it succeeds; what the last one said is the error."""
    failed = HaplaneError("no control-plane machine can be asked", where=shown_as)
    for number in range(rounds):
        if number:
            await asyncio.sleep(1)
        for node in nodes:
            try:
                return await node.run(script, shown_as=shown_as, stdin=stdin.encode() or None)
            except HaplaneError as error:
                failed = error
    raise failed


# -- what is run


def manifest() -> str:
    """A namespace in which one account may make, change, read, watch and delete ConfigMaps.

    It may read and watch two leases besides, and nothing else.
    """
    inside = {"name": ACCOUNT, "namespace": NAMESPACE}
    writes = {"apiGroups": [""], "resources": ["configmaps"], "verbs": list(VERBS)}
    looks = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "watch"]}
    items: list[dict[str, object]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": inside, "automountServiceAccountToken": False},
        *_allowed(ACCOUNT, NAMESPACE, writes),
        *_allowed(LEASE_READER, LEASES_NAMESPACE, looks | {"resourceNames": list(LEASES)}),
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _allowed(name: str, namespace: str, rule: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """One rule for the account, in one namespace."""
    metadata = {"name": name, "namespace": namespace}
    yield {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
    yield {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
    }


def prepare_script() -> str:
    """Applies the manifest on stdin, once a namespace that is being removed is gone, and waits until it counts."""
    account = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
    return f"""manifest=$(cat)
namespace_is_not_leaving() {{
  leaving=$({KUBECTL} get namespace {NAMESPACE} --ignore-not-found \
    --output 'jsonpath={{.metadata.deletionTimestamp}}') || return 1
  [ -z "$leaving" ] || {{ echo 'namespace {NAMESPACE} of an earlier drill is still being removed' >&2; return 1; }}
}}
tries=0
until
  namespace_is_not_leaving &&
  printf '%s\\n' "$manifest" | {KUBECTL} apply --filename - > /dev/null &&
  {KUBECTL} auth can-i create configmaps --namespace {NAMESPACE} --as {account} > /dev/null
do
  tries=$((tries + 1))
  [ "$tries" -lt {TRIES} ] || exit 1
  sleep 1
done
"""


def token_script() -> str:
    return f"{KUBECTL} create token {ACCOUNT} --namespace {NAMESPACE} --duration {TOKEN_LIFE}"


def hand_over_script() -> str:
    """Keeps the token on stdin where the prober finds it; nobody else can read it at any time."""
    new = f"{FOLDER}/.token"
    return f"set -e\numask 077\nmkdir -p {FOLDER}\nrm -f {new}\ncat > {new}\nmv {new} {TOKEN_FILE}"


def list_script() -> str:
    """No resourceVersion is asked for: the answer is not older than the question (Kubernetes API concepts)."""
    return f"{KUBECTL} get configmaps --namespace {NAMESPACE} --output name"


def remove_script() -> str:
    """The namespace takes what is in it away; of the rest each thing is named. One command tries all."""
    outside = f"role/{LEASE_READER} rolebinding/{LEASE_READER} --namespace {LEASES_NAMESPACE}"
    return f"{KUBECTL} delete namespace/{NAMESPACE} {outside} --ignore-not-found --wait=false"


def stored_keys(listed: str, prefix: str) -> tuple[str, ...]:
    """The names in the output of list_script that begin with prefix, sorted."""
    return tuple(sorted(name for name in _names(listed) if name.startswith(prefix)))


def _names(listed: str) -> Iterable[str]:
    return (line.strip().removeprefix("configmap/") for line in listed.splitlines())
