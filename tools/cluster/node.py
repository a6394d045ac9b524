# SPDX-License-Identifier: Apache-2.0
"""Starts containerd, the kubelet, the Service proxy and cluster DNS on this machine, and takes all of it away again."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from . import images, kernel, node_config, processes
from .api import ApiServer
from .choice import Kind
from .control_plane_config import dumps
from .places import BRIDGE, KUBELET_PORT, NODE_ADDRESS, NODE_NAME, REPOSITORY, Places
from .progress import quietly, say
from .session import Session
from .state import Process
from .versions import Programs

PORTS = {"kubelet": KUBELET_PORT}  # beside the control plane's
# What the kubelet, the plugins and containerd's shims write at fixed places. The second is shared with others' containers.
_OURS = (Path("/var/log/pods"), Path("/var/log/containers"), Path("/var/lib/cni/networks/kubesaga"))
_SHARED = (
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
    "/var/lib/cni/networks",
    "/var/lib/cni/results",
    "/var/lib/cni",
)
_SOCKETS = ("/run/containerd/s", "/run/containerd")
_SHIM_SECONDS = 2.0


def prepare(session: Session, programs: Programs) -> None:
    """Configuration files and what the kernel must have before any process starts."""
    where = session.where
    if not session.state.restore:
        session.change(restore=kernel.settings(), foreign_rules=kernel.has_kubernetes_rules())
    kernel.apply_settings()
    kernel.make_bridge(where.logs / "network.log")
    (where.config / "cni").mkdir(exist_ok=True)
    (where.config / "cni" / "10-kubesaga.conflist").write_text(dumps(node_config.cni_file()))
    (where.config / "containerd.toml").write_text(node_config.containerd_toml(where))
    (where.config / "kubelet.json").write_text(dumps(node_config.kubelet_file(where, programs.version)))
    (where.config / "proxy.json").write_text(dumps(node_config.proxy_file(where)))
    (where.config / "resolv.conf").write_text(upstream_resolvers(Path("/etc/resolv.conf").read_text()))


def upstream_resolvers(resolv_conf: str) -> str:
    """The machine's resolvers without its loopback ones, which are not a pod's."""
    servers = [
        line
        for line in resolv_conf.splitlines()
        if line.startswith("nameserver") and " 127." not in line and " ::1" not in line
    ]
    return "\n".join(servers) + "\n"


def start(session: Session, programs: Programs) -> Process:
    """Starts containerd and the kubelet; returns the kubelet's process. The API server need not answer yet."""
    _start_containerd(session)
    return session.begin(
        "kubelet", [str(programs.find("kubelet")), *node_config.kubelet(session.where, programs.version)]
    )


def finish(session: Session, programs: Programs, api: ApiServer, kubelet: Process) -> None:
    """Starts what needs the API server, and waits until the node is ready for pods."""
    _start_proxy(session, programs)
    _start_dns(session)
    log = session.where.logs / "kubelet.log"
    processes.wait_for(lambda: api.node_ready(NODE_NAME), what="kubelet", process=kubelet, log=log, seconds=60)
    account = "/api/v1/namespaces/default/serviceaccounts/default"  # without it the first pod would be refused
    processes.wait_for(lambda: api.has(account), what="default ServiceAccount", process=None, log=log, seconds=30)
    say(f"node {NODE_NAME} is ready; pods reach it, and the API server, at {NODE_ADDRESS}")


def _start_containerd(session: Session) -> None:
    where = session.where
    containerd = session.begin("containerd", ["containerd", "--config", f"{where.config}/containerd.toml"])
    answers = [*images.ctr(where), "version"]
    log = where.logs / "containerd.log"
    processes.wait_for(lambda: quietly(answers), what="containerd", process=containerd, log=log, seconds=30)
    images.load_busybox(where, Kind.NODE)


def _start_proxy(session: Session, programs: Programs) -> None:
    program = programs.optional("kube-proxy")
    if program is None:
        say("no kube-proxy: Service addresses do not work; pods reach the API server at the node's address")
        return
    session.begin("kube-proxy", [str(program), f"--config={session.where.config}/proxy.json"])


def _start_dns(session: Session) -> None:
    session.begin("dns", [sys.executable, str(REPOSITORY / "tools" / "cluster"), "serve-dns"])


def stop(session: Session) -> None:
    """Ends every process of the node and of its pods, and undoes what it did to the machine."""
    where = session.where
    session.end(("kubelet", "kube-proxy", "dns"), grace=3)
    kernel.kill_pods()
    _end_shims(where)
    session.end(("containerd",), grace=5)
    kernel.unmount_below(where.run, where.base)
    kernel.remove_pod_networks()
    kernel.remove_bridge()
    kernel.remove_cgroups()
    if not session.state.foreign_rules:
        kernel.remove_kubernetes_rules()
    kernel.restore_settings(session.state.restore)
    for folder in _OURS:
        shutil.rmtree(folder, ignore_errors=True)
    for file in Path("/var/lib/kubelet/device-plugins").glob("*"):
        file.unlink()
    for shared in (*_SHARED, *_SOCKETS):
        quietly(["rmdir", shared])  # refuses where something is in it


def _shims(where: Places) -> list[int]:
    """The processes that hold our containers: they outlive containerd by design, and are known by the socket they report to."""
    listing = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(maxsplit=1) for line in listing.splitlines()]
    return [int(pid) for pid, words in lines if "containerd-shim" in words and str(where.containerd_socket) in words]


def _end_shims(where: Places) -> None:
    """A shim clears away after itself when containerd has seen its container end; those that no containerd looks after are killed."""
    processes.until(lambda: not _shims(where), _SHIM_SECONDS)
    for pid in _shims(where):
        quietly(["kill", f"-{int(signal.SIGKILL)}", str(pid)])


def describe() -> str:
    """How pods reach things, for `status`."""
    return f"pod network {BRIDGE}, node and API server for pods at {NODE_ADDRESS}"
