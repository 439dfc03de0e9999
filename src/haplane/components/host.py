"""The operating system under the components: kernel modules, sysctls, the endpoint's name."""

from __future__ import annotations

from haplane.components.base import LIBEXEC, SLICE, STATE, ComponentDesign, File, FileSet, Load, View

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
    files = (
        File("/etc/modules-load.d/haplane.conf", MODULES),
        File("/etc/sysctl.d/90-haplane.conf", SYSCTL),
        File(f"/etc/systemd/system/{SLICE}", SLICE_UNIT),
        File(f"{LIBEXEC}/endpoint-host", _endpoint_host(view), mode=0o755),
    )
    return ComponentDesign(
        name="host",
        packages=PACKAGES,
        file_sets=(FileSet(files),),
        load=Load(APPLY, "load kernel modules, set sysctls and the endpoint's name in /etc/hosts"),
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
