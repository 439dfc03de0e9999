"""The operating system under the components: kernel modules, sysctls, the endpoint's name."""

from __future__ import annotations

from haplane.components.base import LIBEXEC, SLICE, STATE, ComponentDesign, File, FileSet, Load, View
from haplane.model.bundle import Addon
from haplane.model.cluster import Proxy

PACKAGES = (
    *("iproute2", "iptables", "conntrack", "socat", "ethtool", "kmod", "procps", "curl", "mount", "tar", "psmisc"),
    "ca-certificates",
)

MODULES = "overlay\nbr_netfilter\n"

# ip_forward: install-kubeadm. tcp_retries2 8: a connection whose other end vanished gives up in about 100 s
# (the floor of RFC 1122) instead of 924 s. bridge-nf-call needs br_netfilter, hence the dash: sysctl.d(5) lets a
# missing key pass, and the service check of kubeadm says so when it matters.
SYSCTL = """\
net.ipv4.ip_forward = 1
net.ipv4.tcp_retries2 = 8
-net.bridge.bridge-nf-call-iptables = 1
-net.bridge.bridge-nf-call-ip6tables = 1
"""

# kubeadm asks for it where pods or machines have IPv6 addresses.
SYSCTL6 = """\
net.ipv6.conf.all.forwarding = 1
net.ipv6.conf.default.forwarding = 1
"""
# A kernel that forwards takes no default route from routers any more where accept_ra is 1 (ip-sysctl.rst): with 2 it
# does. Where somebody else configures the network it is 0, and stays so.
ROUTERS_FILE = "/etc/sysctl.d/91-haplane-routers.conf"
FORWARD6 = f"""\
for file in /proc/sys/net/ipv6/conf/*/accept_ra; do
  name=${{file#/proc/sys/net/ipv6/conf/}}; name=${{name%/accept_ra}}
  case $name in all | default | lo) continue ;; esac
  [ "$(cat "$file")" = 1 ] || continue
  echo "net/ipv6/conf/$name/accept_ra = 2" >> {ROUTERS_FILE}
  echo 2 > "$file"
done
for line in net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.forwarding=1; do sysctl -q -w "$line"; done
"""

# Whatever else a machine has to do, the balancer and the VIP come first: they take little, and a holder of the VIP that
# waits 0.3 s for a processor has lost it. A nice value would count only inside the unit's own control group.
SLICE_UNIT = """\
# Written by haplane.
[Unit]
Description=What clients of the API depend on
[Slice]
CPUWeight=10000
IOWeight=10000
"""

APPLY = f"""\
systemctl daemon-reload
for module in overlay br_netfilter; do modprobe "$module" 2>/dev/null || true; done
for line in net.ipv4.ip_forward=1 net.ipv4.tcp_retries2=8; do sysctl -q -w "$line"; done
for line in net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1; do
  sysctl -q -w "$line" 2>/dev/null || true
done
sh {LIBEXEC}/endpoint-host
"""


def design(view: View) -> ComponentDesign:
    cluster = view.cluster
    networks = (*cluster.kubernetes.pods, *cluster.kubernetes.services, *view.machine.addresses)
    is_node = view.machine.is_node
    # Where no pods are, nothing is forwarded.
    forwards_ipv6 = is_node and any(one.version == 6 for one in networks)
    files = (
        File("/etc/modules-load.d/haplane.conf", MODULES),
        File("/etc/sysctl.d/90-haplane.conf", SYSCTL + (SYSCTL6 if forwards_ipv6 else "")),
        File(f"/etc/systemd/system/{SLICE}", SLICE_UNIT),
        File(f"{LIBEXEC}/endpoint-host", _endpoint_host(view), mode=0o755),
    )
    # kube-proxy's and flannel's images may have no nft of their own.
    needs_nft = is_node and Addon.KUBE_PROXY in cluster.addons and cluster.kubernetes.proxy is Proxy.NFTABLES
    return ComponentDesign(
        name="host",
        packages=(*PACKAGES, *(("nftables",) if needs_nft else ())),
        file_sets=(FileSet(files),),
        load=Load(
            APPLY + (FORWARD6 if forwards_ipv6 else ""),
            "load kernel modules, set sysctls and the endpoint's name in /etc/hosts",
        ),
    )


def _endpoint_host(view: View) -> str:
    """The endpoint's name also in /etc/hosts, so that the cluster works when DNS does not."""
    endpoint = view.cluster.endpoint
    head = "#!/bin/sh\n# Keeps the endpoint's name in /etc/hosts up to date, and nothing else in it.\nset -e\n"
    # grep says 1 when no line is left, and 2 when it could not write: then /etc/hosts is not touched.
    keep = f"grep -v '# haplane endpoint$' /etc/hosts > {STATE}/.hosts || [ $? = 1 ]\n"
    add = "".join(
        f"echo '{vip.ip} {endpoint.host} # haplane endpoint' >> {STATE}/.hosts\n"
        for vip in endpoint.vips
        if endpoint.host
    )
    # cat, not mv: /etc/hosts can be a mount of its own.
    return head + keep + add + f"cmp -s {STATE}/.hosts /etc/hosts || cat {STATE}/.hosts > /etc/hosts\n"
