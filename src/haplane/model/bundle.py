"""What a bundle holds: a pure description, known to the design before any file is sent."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

# The programs of every bundle, as paths in it.
PROGRAMS = ("bin/etcd", "bin/etcdctl", "bin/kubeadm", "bin/kubectl", "bin/kubelet")
# The CNI plugin that goes with flannel; its configuration must say cniVersion 0.3.1 or 0.4.0, which all of them know.
FLANNEL_PLUGIN = "cni/flannel"


class Addon(StrEnum):
    """What a bundle holds only when the cluster asks for it: an image each, and with flannel its CNI plugin."""

    KUBE_PROXY = "kube-proxy"
    COREDNS = "coredns"
    FLANNEL = "flannel"


def programs(addons: Collection[Addon]) -> tuple[str, ...]:
    """The executable files of a bundle with these add-ons, as paths in it."""
    return (*PROGRAMS, FLANNEL_PLUGIN) if Addon.FLANNEL in addons else PROGRAMS


def component_of(image: str) -> str:
    """registry.k8s.io/kube-apiserver:v1.35.4 -> kube-apiserver"""
    return image.rpartition("/")[2].partition(":")[0]


@dataclass(frozen=True)
class BundleFile:
    """path is relative to the bundle's folder, e.g. bin/kubelet or images/kube-apiserver.tar; size in bytes."""

    path: str
    sha256: str
    size: int
    executable: bool


@dataclass(frozen=True)
class BundleManifest:
    """identity is the hash of all that is in it, so that equal identities mean equal bytes.

    bare_images: those of the images that hold a static program and nothing else, as haplane makes them. What such a
    program runs (nft, iptables) must come from the machine.
    """

    identity: str
    kubernetes_version: str
    architecture: str
    etcd_image: str
    pause_image: str
    images: tuple[str, ...]
    files: tuple[BundleFile, ...]
    # Manifests written before there were add-ons do not have it, and need it for none of their images.
    bare_images: tuple[str, ...] = ()

    @property
    def folder_name(self) -> str:
        """The same on this host and on the machines."""
        return f"{self.kubernetes_version}-{self.architecture}-{self.identity[:12]}"

    def image_of(self, component: str) -> str | None:
        """The full name of a component's image, e.g. of kube-proxy; None when the bundle does not have it."""
        return next((image for image in self.images if component_of(image) == component), None)
