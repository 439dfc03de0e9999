"""All checks, in the order in which people want to hear of them, and what they say together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from haplane.design.design import Design
from haplane.design.hazards.finding import Finding, with_acceptance
from haplane.model.cluster import Cluster, Machine
from haplane.model.facts import MachineFacts, MeasuredFacts
from haplane.observe.preflight import (
    balancer_checks,
    host_checks,
    keepalived_checks,
    network_checks,
    state_checks,
    vip_checks,
)
from haplane.observe.preflight.check import Check, Result, Seen
from haplane.observe.preflight.probe import Part, Probe

CHECKS: tuple[Check, ...] = (
    host_checks.hostname_unique,
    host_checks.machine_id_unique,
    host_checks.product_uuid_unique,
    host_checks.mac_unique,
    host_checks.system_supported,
    host_checks.architecture_equal,
    host_checks.init_is_systemd,
    host_checks.ports_free,
    host_checks.modules_loadable,
    host_checks.forwarding_settable,
    host_checks.swap_off,
    host_checks.cgroup_driver,
    host_checks.clocks_agree,
    host_checks.clock_synchronised,
    vip_checks.vip_in_subnet,
    vip_checks.vip_free,
    vip_checks.router_id_free,
    vip_checks.vrrp_arrives,
    vip_checks.multicast_arrives,
    vip_checks.vip_may_move,
    vip_checks.endpoint_resolves,
    keepalived_checks.keepalived_alike,
    keepalived_checks.scripts_run,
    keepalived_checks.keepalived_ordered,
    keepalived_checks.interval_understood,
    balancer_checks.connections_fit,
    balancer_checks.bind_possible,
    balancer_checks.readyz_open,
    balancer_checks.configuration_accepted,
    balancer_checks.unknown_packets_answered,
    balancer_checks.policy_allows,
    network_checks.ports_open,
    network_checks.pods_packets_arrive,
    network_checks.endpoint_answers,
    network_checks.no_loss,
    network_checks.etcd_timers_fit,
    state_checks.disk_quick,
    vip_checks.stalls_below_adverts,
    network_checks.mtu_equal,
    network_checks.full_packets_pass,
    network_checks.rp_filter,
    host_checks.conntrack_room,
    host_checks.zone_labelled,
    host_checks.more_than_one_provider,
    host_checks.packages_held,
    host_checks.reboots_apart,
    host_checks.units_enabled,
    state_checks.certificates_valid,
    state_checks.endpoint_in_certificate,
    state_checks.etcd_certificates_fit,
    state_checks.keys_shared,
)


@dataclass(frozen=True)
class Report:
    """results: one per check and machine that it concerns. findings: accepted ones carry their reason.

    facts: what was measured now; `MeasuredFacts.updated_by` joins it to what was measured before.
    """

    results: tuple[Result, ...]
    findings: tuple[Finding, ...]
    facts: MeasuredFacts


def judge(design: Design, probes: Mapping[str, Probe], *, slow: bool) -> Report:
    """What the checks say. probes: by machine; one that was not reached is missing.

    slow: whether the slow parts were asked for; without, their checks are not tried.
    """
    results: list[Result] = []
    findings: list[Finding] = []
    for check in CHECKS:
        said, found = check.results(design, probes, slow=slow)
        results += said
        findings += found
    accepted = with_acceptance(findings, design.cluster.accept)
    return Report(tuple(results), accepted, measured_facts(design, probes))


def measured_facts(design: Design, probes: Mapping[str, Probe]) -> MeasuredFacts:
    """What designs may know of the machines."""
    cluster = design.cluster
    machines = {
        name: _facts(cluster, machine, probes[name]) for name, machine in cluster.machines.items() if name in probes
    }
    return MeasuredFacts(machines, vip_checks.foreign_routers(Seen(design, probes, probes)))


def _facts(cluster: Cluster, machine: Machine, probe: Probe) -> MachineFacts:
    trips = probe.asking.trips
    return MachineFacts(
        system=probe.host.system or None,
        interface=probe.host.interface_of(machine.address) or None,
        open_files=probe.host.open_files,
        memory_bytes=probe.host.memory_bytes,
        fsync_p99_ms=None if Part.DISK in probe.missing or not probe.disk.samples else probe.disk.p99_ms,
        stall_ms=None if Part.STALL in probe.missing or not probe.stall.watched_s else probe.stall.longest_ms,
        late_heartbeat_ms=probe.installed.late_heartbeat_ms,
        round_trip_ms={
            peer.name: trips[peer.address].mean_ms for peer in cluster.machines.values() if peer.address in trips
        },
    )
