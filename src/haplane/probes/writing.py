"""What the prober needs in the cluster: a namespace and rights there; and what is stored there.

Nothing here waits for a controller: the service account is made here, and a token is given out by the apiserver.
Everything goes through any control-plane machine that answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from haplane.components.kubernetes import AS_ADMINISTRATOR
from haplane.model.cluster import APISERVER_PORT
from haplane.model.errors import HaplaneError
from haplane.probes.prober import LEASES, LEASES_NAMESPACE, NAMESPACE, PAGE, PART, PARTS, configmaps
from haplane.probes.running import FOLDER, TOKEN_FILE
from haplane.transport.ssh import Completed, Remote

ACCOUNT = "prober"
# The right to read leases, in a namespace that is not the drill's own.
LEASE_READER = f"{NAMESPACE}-{ACCOUNT}"
# Of all that is made and in no namespace of the drill's own.
LABELS = {"app.kubernetes.io/part-of": NAMESPACE}
RBAC = "rbac.authorization.k8s.io"
TOKEN_LIFE = "1h"
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout=10s"
VERBS = ("create", "patch", "get", "list", "watch", "deletecollection")
TRIES = 30
ROUNDS = 3


async def prepare(nodes: Sequence[Remote], client: Remote, namespace: str) -> None:
    """Make the namespace and the account, and hand the client machine a token. Raises HaplaneError."""
    shown_as, script = f"prepare namespace {namespace}", prepare_script(namespace)
    await _through(nodes, script, shown_as=shown_as, stdin=manifest(namespace), rounds=1)
    minted = await _through(nodes, token_script(namespace), shown_as="mint a token for the prober")
    await client.run(hand_over_script(), shown_as="hand the prober its token", stdin=minted.stdout.strip().encode())


async def stored(nodes: Sequence[Remote], namespace: str) -> tuple[str, ...]:
    """The names of all ConfigMaps that are stored there. Raises HaplaneError when no node can tell."""
    done = await _through(nodes, list_script(namespace), shown_as=f"list what is stored in {namespace}")
    return stored_keys(done.stdout)


async def remove(nodes: Sequence[Remote], client: Remote, namespace: str) -> None:
    """Take all of it away, and what a killed run had left; the token is worth nothing then. Raises HaplaneError."""
    await client.run(f"rm -f {TOKEN_FILE}")
    await _through(nodes, remove_script(namespace), shown_as=f"remove namespace {namespace}")


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


def manifest(namespace: str) -> str:
    """A namespace in which one account may make, change, read, watch and delete ConfigMaps, of which there is one.

    It may read and watch two leases besides, and nothing else.
    """
    inside = {"name": ACCOUNT, "namespace": namespace}
    elsewhere = {"name": LEASE_READER, "namespace": LEASES_NAMESPACE, "labels": LABELS}
    writes = {"apiGroups": [""], "resources": ["configmaps"], "verbs": list(VERBS)}
    looks = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "watch"]}
    items: list[dict[str, object]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": LABELS}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": inside, "automountServiceAccountToken": False},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": PAGE, "namespace": namespace}},
        *_allowed(inside, inside, writes),
        *_allowed(inside, elsewhere, looks | {"resourceNames": list(LEASES)}),
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _allowed(
    account: Mapping[str, str], metadata: Mapping[str, object], rule: Mapping[str, object]
) -> Iterator[dict[str, object]]:
    """One rule for the account, in one namespace."""
    yield {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
    yield {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": metadata["name"]},
        "subjects": [{"kind": "ServiceAccount", **account}],
    }


def prepare_script(namespace: str) -> str:
    """Applies the manifest on stdin, and waits until it counts."""
    account = f"system:serviceaccount:{namespace}:{ACCOUNT}"
    return f"""manifest=$(cat)
tries=0
until
  printf '%s\\n' "$manifest" | {KUBECTL} apply --filename - > /dev/null &&
  {KUBECTL} auth can-i create configmaps --namespace {namespace} --as {account} > /dev/null
do
  tries=$((tries + 1))
  [ "$tries" -lt {TRIES} ] || exit 1
  sleep 1
done
"""


def token_script(namespace: str) -> str:
    return f"{KUBECTL} create token {ACCOUNT} --namespace {namespace} --duration {TOKEN_LIFE}"


def hand_over_script() -> str:
    """Keeps the token on stdin where the prober finds it; nobody else can read it at any time."""
    new = f"{FOLDER}/.token"
    return f"set -e\numask 077\nmkdir -p {FOLDER}\nrm -f {new}\ncat > {new}\nmv {new} {TOKEN_FILE}"


def list_script(namespace: str) -> str:
    """No resourceVersion is asked for: the answer is not older than the question (Kubernetes API concepts)."""
    return f"{KUBECTL} get configmaps --namespace {namespace} --output name"


def remove_script(namespace: str) -> str:
    """What was written goes first, many at a time: a namespace is emptied one by one, which would keep etcd busy for
    seconds while the next drill measures. Then all that is labelled, whichever run made it, with what is left in it.
    """
    part = f"{quote(PART, safe='')}%3D[0-{PARTS - 1}]"
    host = f"kubernetes:{APISERVER_PORT}"
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
    what = f"namespaces,roles,rolebindings --all-namespaces --selector {selector}"
    return f"""\
{AS_ADMINISTRATOR} --output /dev/null --max-time 10 --parallel --request DELETE \\
  --connect-to {host}:localhost:{APISERVER_PORT} 'https://{host}{configmaps(namespace)}?labelSelector={part}'
{KUBECTL} delete {what} --ignore-not-found --wait=false
"""


def stored_keys(listed: str) -> tuple[str, ...]:
    """The names in the output of list_script, sorted."""
    return tuple(sorted(line.strip().removeprefix("configmap/") for line in listed.splitlines()))
