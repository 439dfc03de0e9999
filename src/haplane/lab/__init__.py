"""Machines as podman containers on this host."""
