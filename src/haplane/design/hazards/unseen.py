"""Hazards that cannot be looked for yet: the file has no keys, or the machines nothing, for what they are about."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_SERVICES = "the file describes no services besides the endpoint yet"
_LVS = "haplane does not manage LVS yet"

# hazard id -> why its check cannot be written yet.
NOT_IN_FILE: Mapping[str, str] = MappingProxyType(
    {
        "topo-single-provider": "the file names no DNS servers, gateways, sources of time or registries of the "
        "machines, nor how many outer load balancers there are",
        "vip-vrid-collision": "the file itself refuses an id that is not 1 to 255, gives all machines the same, and "
        "has one VIP of each family; strangers are heard on the network only",
        "svc-one-server": _SERVICES,
        "svc-algorithm-argument": _SERVICES,
        "svc-check-protocol": _SERVICES,
        "svc-cookie-attributes": _SERVICES,
        "svc-stick-table-local": _SERVICES,
        "svc-lvs-dr-arp": _LVS,
        "svc-lvs-vs-kube-proxy": _LVS,
        "upgrade-skew": "the file has one version; what runs now is on the machines",
    }
)

# hazard id -> which part of it `lint` leaves out, where the check exists.
PARTLY: Mapping[str, str] = MappingProxyType(
    {
        "topo-zone-collapsed": "hypervisors: the file has zones and no labels for hosts of virtual machines",
        "vip-address-conflict": "gateways, DNS and time servers, DHCP ranges: the file does not name them",
        "vip-check-weak": "a script of your own is judged by the commands it names, not by what its file contains",
        "lb-nonlocal-bind": "the sysctl ip_nonlocal_bind: the file does not set sysctls",
        "lb-port-clash": "services, and programs that haplane does not manage",
        "lb-check-shallow": "another page than /readyz: haplane's own http-check send decides what is asked, and "
        "HAProxy refuses a second one",
        "etcd-timing": "round trips: they are measured, not in the file",
        "api-endpoint-is-node": "an empty endpoint: the file cannot leave it out",
        "api-kubelet-not-local": "Kubernetes before 1.33 is refused by the file itself",
        "api-node-grace": "kubelet's environment (DISABLE_HTTP2): the file cannot set it",
        "host-identity": "host names are keys of one mapping and cannot repeat; machine ids and MAC addresses are on "
        "the machines",
    }
)

_UPGRADE = "it needs the plan of an upgrade, which does not exist yet"

# hazard id -> why preflight cannot look for it on the machines yet.
NOT_ON_MACHINES: Mapping[str, str] = MappingProxyType(
    {
        "svc-check-protocol": _SERVICES,
        "svc-certificate": _SERVICES,
        "svc-lvs-dr-arp": _LVS,
        "etcd-replace-order": "haplane's own plan cannot have it: a lost member of an external etcd is removed before "
        "it is added, as a learner; of a stacked one there is no such plan yet",
        "api-shutdown-delay": "how an apiserver stops is seen only when one does",
        "api-leader-election": "it is in the running cluster's leases, and no command looks there for hazards yet",
        "cert-join-credentials": "credentials are made for each join and end with it; there is no plan that keeps them",
        "upgrade-skew": _UPGRADE,
        "upgrade-order": _UPGRADE,
        "upgrade-no-margin": _UPGRADE,
        "upgrade-etcd-jump": _UPGRADE,
    }
)
