# SPDX-License-Identifier: Apache-2.0
"""Where everything is kept, and the addresses of the single node.

A machine has one node, whichever checkout started it, and a checkout may be deleted while the node runs. So the node's files are
outside the checkout, and build/cluster is a link to them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

NODE_NAME = "kubesaga"
BRIDGE = "kubesaga0"
NODE_ADDRESS = "10.231.0.1"  # the bridge's: pods reach the node, and so the API server, at it
POD_RANGE = "10.231.0.0/22"
SERVICE_RANGE = "10.231.128.0/20"
API_SERVICE = "10.231.128.1"
CLUSTER_DOMAIN = "cluster.local"
API_PORT = 6443
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
KUBELET_PORT = 10250
DNS_PORT = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The folders of one cluster. `base` holds its state, `run` its sockets, `cache` what was built and is kept by `down`."""

    build: Path
    base: Path
    run: Path
    etcd: Path
    cache: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, in the checkout."""
        return self.build / "kubeconfig"

    @property
    def admin_kubeconfig(self) -> Path:
        """The same, beside the cluster: other checkouts copy it."""
        return self.base / "config" / "admin.kubeconfig"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.base / "logs"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.base / "pki"

    @property
    def config(self) -> Path:
        """Configuration files of the processes."""
        return self.base / "config"

    @property
    def state(self) -> Path:
        """What runs: state.json."""
        return self.base / "state.json"

    @property
    def lock(self) -> Path:
        """Held while the tool changes the cluster."""
        return self.run.with_suffix(".lock") if self.base != self.build / "cluster" else self.build / "cluster.lock"

    @property
    def containerd_socket(self) -> Path:
        """The node's own containerd; a machine's other one is left alone."""
        return self.run / "containerd.sock"


def places(env: Mapping[str, str]) -> Places:
    """The places for this user. Root gets the machine's, anybody else the checkout's."""
    build = REPOSITORY / "build"
    home = Path(env.get("HOME") or os.path.expanduser("~"))
    cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "kubesaga"
    if os.geteuid() == 0:
        base, run = Path("/var/lib/kubesaga"), Path("/run/kubesaga")
    else:
        base, run = build / "cluster", build / "cluster" / "run"
    return Places(build=build, base=base, run=run, etcd=_etcd_folder(base), cache=cache)


def _etcd_folder(base: Path) -> Path:
    """etcd's data in memory where there is a tmpfs: a throw-away cluster need not wait for the disk at every write."""
    shared_memory = Path("/dev/shm")
    return shared_memory / f"kubesaga-etcd-{os.geteuid()}" if os.access(shared_memory, os.W_OK) else base / "etcd"


def prepare(where: Places) -> None:
    """Makes the folders, and build/cluster a link to `base` where that is outside the checkout."""
    link = where.build / "cluster"
    if link.is_symlink():
        link.unlink()
    for folder in (where.build, where.logs, where.pki, where.config, where.run, where.cache):
        folder.mkdir(parents=True, exist_ok=True)
    where.base.chmod(0o711)
    where.pki.chmod(0o700)
    if link != where.base and not link.exists():
        link.symlink_to(where.base)
