"""The configuration files of one node's containerd, CNI, kubelet and kube-proxy. It must not start them."""

import json
from pathlib import Path

from devcluster.layout import REGISTRY_PORT, Layout

PAUSE_IMAGE = "localhost/pause:dev"
CNI_PROGRAMS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
# Images under this name are pulled from a registry on the bridge address, if a test runs one there.
REGISTRY_NAME = "registry.test"
SUBFOLDERS = ("etc/net.d", f"etc/certs.d/{REGISTRY_NAME}", "run", "log", "kubelet", "containerd", "cni")


def cni_folder() -> Path | None:
    """Where the distribution put the CNI plugins."""
    return next((folder for folder in CNI_PROGRAMS if (folder / "bridge").exists()), None)


def containerd_config(node: Path, snapshotter: str) -> str:
    """containerd's settings; the comments name what each departure from the defaults is for."""
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  tolerate_missing_hugetlb_controller = true
  # Where root may not lower oom_score_adj (no CAP_SYS_RESOURCE), every pod would fail without this.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_folder() or CNI_PROGRAMS[0]}"
    conf_dir = "{node}/etc/net.d"
    max_conf_num = 1
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{node}/etc/certs.d"
"""


def registry_hosts(layout: Layout) -> str:
    url = f"http://{layout.bridge_address}:{REGISTRY_PORT}"
    return f'server = "{url}"\n[host."{url}"]\n  capabilities = ["pull", "resolve"]\n'


def cni_config(layout: Layout, index: int) -> str:
    """One bridge for the node's pods, no masquerading (nothing leaves the cluster), and host ports."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": layout.node_pod_range(index)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "ipMasq": False, "hairpinMode": True}
    plugins = [bridge | {"ipam": addresses}, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}, indent=1)


def kubelet_config(layout: Layout, index: int) -> str:
    node, pki = layout.node_dir(index), layout.pki
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.node_address(index),
        "readOnlyPort": 0,
        "healthzPort": 10248,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/client-ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/node{index}-serving.crt",
        "tlsPrivateKeyFile": f"{pki}/node{index}-serving.key",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        # containerd 1.6 cannot be asked for its driver; the kubelet then believes this.
        "cgroupDriver": "cgroupfs",
        # Since 1.35 the kubelet refuses cgroup v1 unless told otherwise.
        "failCgroupV1": False,
        "cgroupRoot": f"/{layout.control_group}/node{index}",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": ["pods"],
        # Root may be without CAP_SYS_RESOURCE: no negative score, no limit above the hard one.
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "protectKernelDefaults": False,
        "clusterDomain": "cluster.local",
        "clusterDNS": [layout.dns_address],
        "resolvConf": f"{node}/etc/resolv.conf",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        # Nothing here could pull an image again.
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "24h",
        "registerNode": True,
        "nodeStatusUpdateFrequency": "5s",
        "rotateCertificates": False,
        "shutdownGracePeriod": "0s",
        "maxPods": 110,
        "volumePluginDir": f"{node}/kubelet/volume-plugins",
    }
    return json.dumps(settings, indent=1)


def kube_proxy_config(layout: Layout, index: int) -> str:
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(layout.component_kubeconfig("kube-proxy"))},
        "hostnameOverride": f"node{index}",
        "clusterCIDR": layout.pod_range,
        "oomScoreAdj": 0,
        "bindAddress": layout.node_address(index),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # The connection table's limits are the machine's, not ours to set.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    return json.dumps(settings, indent=1)


def corefile(layout: Layout) -> str:
    """Names of the cluster from its API; any other name does not exist, at once and without asking anyone."""
    return f"""cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
  bind {layout.bridge_address}
  errors
  kubernetes cluster.local in-addr.arpa ip6.arpa {{
    kubeconfig {layout.component_kubeconfig("coredns")}
    pods insecure
    ttl 5
  }}
  cache 5
}}
.:53 {{
  bind {layout.bridge_address}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


def write(layout: Layout, index: int, snapshotter: str) -> None:
    """Write all files of one node below its folder."""
    node = layout.node_dir(index)
    for sub in SUBFOLDERS:
        (node / sub).mkdir(parents=True, exist_ok=True)
    files = {
        "containerd.toml": containerd_config(node, snapshotter),
        f"certs.d/{REGISTRY_NAME}/hosts.toml": registry_hosts(layout),
        "net.d/10-pods.conflist": cni_config(layout, index),
        "kubelet.json": kubelet_config(layout, index),
        "kube-proxy.json": kube_proxy_config(layout, index),
        # Only pods on the host's network with dnsPolicy Default see this one.
        "resolv.conf": "nameserver 127.0.0.1\n",
    }
    for name, text in files.items():
        (node / "etc" / name).write_text(text)
