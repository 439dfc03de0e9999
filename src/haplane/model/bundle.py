"""What a bundle holds: a pure description, known to the design before any file is sent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BundleFile:
    """path is relative to the bundle's folder, e.g. bin/kubelet or images/kube-apiserver.tar; size in bytes."""

    path: str
    sha256: str
    size: int
    executable: bool


@dataclass(frozen=True)
class BundleManifest:
    """identity is the hash of all that is in it, so that equal identities mean equal bytes."""

    identity: str
    kubernetes_version: str
    architecture: str
    etcd_image: str
    pause_image: str
    images: tuple[str, ...]
    files: tuple[BundleFile, ...]

    @property
    def folder_name(self) -> str:
        """The same on this host and on the machines."""
        return f"{self.kubernetes_version}-{self.architecture}-{self.identity[:12]}"
