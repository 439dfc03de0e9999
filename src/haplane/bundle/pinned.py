"""Versions that haplane chooses, because nothing in Kubernetes names them: flannel and its CNI plugin."""

from __future__ import annotations

FLANNEL_VERSION = "0.28.10"
FLANNEL_IMAGE = f"ghcr.io/flannel-io/flannel:v{FLANNEL_VERSION}"
# What flannel's own manifest of that release names (Documentation/kube-flannel.yml).
FLANNEL_PLUGIN_IMAGE = "ghcr.io/flannel-io/flannel-cni-plugin:v1.9.1-flannel3"
