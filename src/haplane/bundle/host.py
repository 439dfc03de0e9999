"""This host, as Kubernetes names it."""

from __future__ import annotations

import platform

from haplane.model.errors import UsageError

# As Go, container registries and dl.k8s.io name them.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}


def host_architecture() -> str:
    """amd64, arm64, ...; machines are taken to have the same. Raises UsageError for one without Kubernetes."""
    machine = platform.machine().lower()
    if machine not in _ARCHITECTURES:
        raise UsageError(f"there is no Kubernetes for this host's architecture, {machine}")
    return _ARCHITECTURES[machine]
