"""Hazards: the catalogue, and the checks of what the file alone shows. Pure.

A check is a function in the module of its topic, registered with `hazard`; `lint` runs them all.
"""

# Read for the checks that they register.
from haplane.design.hazards import addresses, api, balancer, etcd, families, pods, topology, trackers, vip  # noqa: F401
from haplane.design.hazards.catalogue import CATALOGUE
from haplane.design.hazards.finding import Finding, Hazard, Moment, Severity, stops, with_acceptance
from haplane.design.hazards.registry import lint

__all__ = ["CATALOGUE", "Finding", "Hazard", "Moment", "Severity", "lint", "stops", "with_acceptance"]
