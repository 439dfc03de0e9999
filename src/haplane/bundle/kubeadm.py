"""What kubeadm itself says about the images of its version."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from haplane.bundle.problems import SourceUnavailable
from haplane.bundle.run import run
from haplane.model.errors import CommandFailed

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class ImageNames:
    """Full names with tags, e.g. registry.k8s.io/etcd:3.6.6-0; control_plane by component name."""

    control_plane: dict[str, str]
    etcd: str
    pause: str

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(sorted([*self.control_plane.values(), self.etcd, self.pause]))


def component_of(image: str) -> str:
    """registry.k8s.io/kube-apiserver:v1.35.4 -> kube-apiserver"""
    return image.rpartition("/")[2].partition(":")[0]


def pick_images(images: Sequence[str]) -> ImageNames:
    """The images that a bundle holds, out of all that kubeadm lists. Raises KeyError when one is not there."""
    by_component = {component_of(image): image for image in images}
    return ImageNames(
        control_plane={name: by_component[name] for name in CONTROL_PLANE},
        etcd=by_component["etcd"],
        pause=by_component["pause"],
    )


async def ask_kubeadm(kubeadm: Path, version: str) -> ImageNames:
    """Runs `kubeadm config images list`, which needs no network for an exact version. Raises SourceUnavailable."""
    command: list[str | Path] = [kubeadm, "config", "images", "list", "--kubernetes-version", f"v{version}"]
    try:
        said = await run(command, folder=kubeadm.parent, environment=os.environ)
        return pick_images(said.split())
    except CommandFailed as error:
        raise SourceUnavailable(
            "kubeadm could not be asked which images it needs",
            where=error.where,
            why=error.why,
            hint="this host must be able to run the machines' programs; otherwise use a directory source made on one "
            "that can (haplane bundle export)",
        ) from error
    except KeyError as error:
        raise SourceUnavailable(f"kubeadm {version} does not list an image {error.args[0]}") from error
