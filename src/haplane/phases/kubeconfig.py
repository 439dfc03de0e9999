"""A kubeconfig for administrators: the one secret that leaves the machines, because the user asked for it."""

from __future__ import annotations

from pathlib import Path

from haplane.model.cluster import Cluster
from haplane.model.errors import HaplaneError
from haplane.transport.files import HINT, replace_file
from haplane.transport.ssh import Fleet, Remote, Unreachable


async def read(cluster: Cluster) -> str:
    """admin.conf of the first node that answers. Its server is the endpoint, as kubeadm wrote it."""
    async with Fleet(cluster.machines) as fleet:
        found = await fleet.connect_all(cluster.control_plane)
        for remote in found.values():
            if isinstance(remote, Remote):
                done = await remote.run("cat /etc/kubernetes/admin.conf", check=False)
                if done.code == 0 and done.stdout:
                    return done.stdout
    unreachable = [one for one in found.values() if isinstance(one, Unreachable)]
    raise HaplaneError(
        "no machine has a kubeconfig to give",
        where=", ".join(found),
        why="\n".join(one.what for one in unreachable) or "/etc/kubernetes/admin.conf is on none of them",
        hint="make the cluster first: haplane apply",
    )


def write(path: Path, text: str) -> None:
    """Atomically, readable by this user alone from the first byte on."""
    try:
        replace_file(path, text, mode=0o600)
    except OSError as error:
        raise HaplaneError(
            f"cannot write {path}",
            where=str(path),
            why=error.strerror or str(error),
            hint=HINT,
        ) from None
