"""What kubeadm itself says about the images of its version."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from haplane.bundle.pinned import FLANNEL_IMAGE
from haplane.bundle.problems import SourceUnavailable
from haplane.bundle.run import run
from haplane.model.bundle import Addon, component_of
from haplane.model.errors import CommandFailed

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class ImageNames:
    """Full names with tags, e.g. registry.k8s.io/etcd:3.6.6-0; control_plane by component name.

    addons: those of the add-ons that were asked for.
    """

    control_plane: dict[str, str]
    etcd: str
    pause: str
    addons: dict[Addon, str] = field(default_factory=dict)

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(sorted([*self.control_plane.values(), self.etcd, self.pause, *self.addons.values()]))


def pick_images(images: Sequence[str], addons: frozenset[Addon]) -> ImageNames:
    """The images that a bundle holds, out of all that there are. Raises KeyError when one is not there."""
    by_component = {component_of(image): image for image in images}
    return ImageNames(
        control_plane={name: by_component[name] for name in CONTROL_PLANE},
        etcd=by_component["etcd"],
        pause=by_component["pause"],
        addons={addon: by_component[addon] for addon in sorted(addons)},
    )


async def ask_kubeadm(kubeadm: Path, version: str, addons: frozenset[Addon]) -> ImageNames:
    """Runs `kubeadm config images list`, which needs no network for an exact version. Raises SourceUnavailable.

    It knows all images but flannel's, whose version haplane pins.
    """
    command: list[str | Path] = [kubeadm, "config", "images", "list", "--kubernetes-version", f"v{version}"]
    try:
        said = await run(command, folder=kubeadm.parent, environment=os.environ)
        return pick_images([*said.split(), FLANNEL_IMAGE], addons)
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
