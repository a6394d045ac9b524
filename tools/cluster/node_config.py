# SPDX-License-Identifier: Apache-2.0
"""The command lines and configuration files of containerd, the pod network, the kubelet and the Service proxy: pure."""

from typing import Any

from .places import (
    BRIDGE,
    CLUSTER_DOMAIN,
    KUBELET_PORT,
    NODE_ADDRESS,
    NODE_NAME,
    POD_RANGE,
    Places,
)
from .versions import Version, cgroup_v1, remote_runtime

PAUSE_IMAGE = "localhost/kubesaga-pause:1"
CNI_NETWORK = "kubesaga"
CNI_PROGRAMS = "/usr/lib/cni"
RATE, BURST = (
    200,
    400,
)  # requests a second of the kubelet and the proxy; the defaults (5, later 50) would be what a test measures


def containerd_toml(where: Places) -> str:
    """containerd's configuration, version 2.

    `restrict_oom_score_adj`: without CAP_SYS_RESOURCE a sandbox cannot get the score below its parent's that Kubernetes
    asks for, and would die at once.
    """
    return f"""\
version = 2
root = "{where.base}/containerd"
state = "{where.run}/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
address = "{where.containerd_socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
max_concurrent_downloads = 3
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PROGRAMS}"
conf_dir = "{where.config}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{where.run}/runc"
"""


def cni_file() -> dict[str, Any]:
    """The pod network: one bridge, addresses handed out in turn. No masquerade: pods talk to pods, Services and this node."""
    return {
        "cniVersion": "0.4.0",
        "name": CNI_NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": True,
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_RANGE, "gateway": NODE_ADDRESS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": "/var/lib/cni/networks",
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet(where: Places, version: Version) -> list[str]:
    """The kubelet; the rest is in its file."""
    return [
        f"--config={where.config}/kubelet.json",
        f"--kubeconfig={where.config}/kubelet.kubeconfig",
        f"--root-dir={where.base}/kubelet",
        f"--cert-dir={where.base}/kubelet/pki",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_ADDRESS}",
        *remote_runtime(version),
        f"--container-runtime-endpoint=unix://{where.containerd_socket}",
        "--v=1",
    ]


def kubelet_file(where: Places, version: Version) -> dict[str, Any]:
    """KubeletConfiguration. Images are never collected (there may be no registry to get them back from), disks may be nearly
    full, and secrets and configuration reach pods by watch, not by polling."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{where.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{where.pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{where.pki}/kubelet.key",
        "cgroupDriver": "cgroupfs",
        **cgroup_v1(version),
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "maxPods": 200,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "kubeAPIQPS": RATE,
        "kubeAPIBurst": BURST,
        "eventRecordQPS": RATE,
        "eventBurst": BURST,
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "1m",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": f"{where.config}/resolv.conf",
        "containerLogMaxSize": "10Mi",
    }


def proxy_file(where: Places) -> dict[str, Any]:
    """KubeProxyConfiguration. Connection-tracking limits stay as the machine has them."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": NODE_NAME,
        "bindAddress": NODE_ADDRESS,
        "healthzBindAddress": "",
        "metricsBindAddress": "127.0.0.1:10249",
        "clusterCIDR": POD_RANGE,
        "clientConnection": {"kubeconfig": f"{where.config}/proxy.kubeconfig", "qps": RATE, "burst": BURST},
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s", "masqueradeAll": False},
        "oomScoreAdj": 0,
    }
