"""containerd: the container runtime, with the pause image of the bundle and the cgroup driver of the kubelet.

Source: containerd's CRI configuration, version 2 of the file (read by containerd 1.7 and 2.x).
"""

from __future__ import annotations

from haplane.components.base import ComponentDesign, File, FileSet, Load, View
from haplane.components.templates import render
from haplane.model.cluster import Cni, Value

PACKAGES = ("containerd", "runc", "containernetworking-plugins")

# The name that kubeadm 1.34 and 1.35 expect; the bundle says which it carries.
PAUSE = "registry.k8s.io/pause:3.10.1"

CONFIG = """\
# Written by haplane; a change here is undone by the next apply.
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{{ pause }}"
{% for key, value in extra %}
  {{ key }} = {{ value }}
{% endfor %}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = {{ systemd_cgroup }}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{{ plugins }}"
    conf_dir = "/etc/cni/net.d"
"""

CNI = """\
{
  "cniVersion": "1.0.0",
  "name": "haplane",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "ipMasq": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "{{ subnet }}"}]],
        "routes": [{"dst": "{{ default_route }}"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
"""


# flannel writes /run/flannel/subnet.env, from which its plugin makes a bridge.
FLANNEL_CNI = """\
{
  "cniVersion": "0.3.1",
  "name": "haplane",
  "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
"""

# Where containerd looks for plugins: those of the distribution's package are there.
PLUGINS = "/usr/lib/cni"


def design(view: View) -> ComponentDesign:
    driver = view.cluster.kubelet.get("cgroupDriver", "systemd")
    config = render(
        CONFIG,
        pause=view.bundle.pause_image if view.bundle else PAUSE,
        systemd_cgroup="true" if driver == "systemd" else "false",
        plugins=PLUGINS,
        extra=[(key, _toml(value)) for key, value in view.cluster.containerd.items()],
    )
    files = [File("/etc/containerd/config.toml", config)]
    if view.cluster.kubernetes.cni is not Cni.NONE:
        content = FLANNEL_CNI if view.cluster.kubernetes.cni is Cni.FLANNEL else _bridge(view)
        files.append(File("/etc/cni/net.d/10-haplane.conflist", content))
    return ComponentDesign(
        name="containerd",
        packages=PACKAGES,
        # containerd has no dry run; `config dump` reads the file as the daemon would and fails where it does.
        file_sets=(FileSet(tuple(files), validate="containerd --config ./etc/containerd/config.toml config dump"),),
        load=Load(
            "systemctl enable -q containerd\nsystemctl restart containerd",
            "restart containerd (running containers go on)",
        ),
        unit="containerd.service",
    )


def _bridge(view: View) -> str:
    network = view.cluster.kubernetes.pods[0]
    prefix = 24 if network.version == 4 else 64
    subnets = network.subnets(new_prefix=max(prefix, network.prefixlen))
    for _ in range(view.position + 1):
        subnet = next(subnets)
    return render(CNI, subnet=subnet, default_route="0.0.0.0/0" if network.version == 4 else "::/0")


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
