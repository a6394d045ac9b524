# SPDX-License-Identifier: Apache-2.0
"""The command lines and configuration files of etcd, the API server, the controller manager and the scheduler: pure."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from .places import (
    API_PORT,
    ETCD_PEER_PORT,
    ETCD_PORT,
    NODE_ADDRESS,
    SERVICE_RANGE,
    Places,
)
from .versions import Version, no_insecure_port, scheduler_api

SERVER = f"https://127.0.0.1:{API_PORT}"


def etcd(where: Places, *, knows_no_fsync: bool) -> list[str]:
    """etcd on the loopback address. `knows_no_fsync`: whether this etcd (3.5 on) can leave out waiting for the disk."""
    client, peer = f"http://127.0.0.1:{ETCD_PORT}", f"http://127.0.0.1:{ETCD_PEER_PORT}"
    flags = [
        "--name=kubesaga",
        f"--data-dir={where.etcd}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=kubesaga={peer}",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=10m",
        f"--quota-backend-bytes={2 << 30}",
    ]
    return [*flags, "--unsafe-no-fsync"] if knows_no_fsync else flags


def apiserver(where: Places, *, node: bool) -> list[str]:
    """The API server. With a node it listens on every address, because pods reach it by the node's; else on loopback alone."""
    pki = where.pki
    flags = [
        f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}",
        f"--secure-port={API_PORT}",
        f"--bind-address={'0.0.0.0' if node else '127.0.0.1'}",
        f"--advertise-address={NODE_ADDRESS if node else '127.0.0.1'}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--token-auth-file={pki}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-account-key-file={pki}/sa.key",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--allow-privileged=true",
        "--profiling=false",
    ]
    if not node:  # loopback is no address for the Service "kubernetes", and nothing could use that
        return [*flags, "--endpoint-reconciler-type=none"]
    return [
        *flags,
        "--kubelet-preferred-address-types=InternalIP",  # the node's name resolves nowhere
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
    ]


def controller_manager(where: Places, version: Version) -> list[str]:
    """Every controller, with client rates that do not hide the operator's own speed."""
    return [
        f"--kubeconfig={where.config}/controller-manager.kubeconfig",
        "--leader-elect=false",
        "--secure-port=0",
        *no_insecure_port(version),
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={where.pki}/sa.key",
        f"--root-ca-file={where.pki}/ca.crt",
        f"--cluster-signing-cert-file={where.pki}/ca.crt",
        f"--cluster-signing-key-file={where.pki}/ca.key",
        "--kube-api-qps=400",
        "--kube-api-burst=800",
        "--profiling=false",
    ]


def scheduler(where: Places, version: Version) -> list[str]:
    """The scheduler; the rest is in its file."""
    return [f"--config={where.config}/scheduler.json", "--secure-port=0", *no_insecure_port(version)]


def scheduler_file(where: Places, version: Version) -> dict[str, Any]:
    """KubeSchedulerConfiguration (JSON is YAML)."""
    return {
        "apiVersion": scheduler_api(version),
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": f"{where.config}/scheduler.kubeconfig", "qps": 400, "burst": 800},
    }


def kubeconfig(authority: bytes, user: Mapping[str, str], *, name: str = "kubesaga", server: str = SERVER) -> str:
    """A kubeconfig with everything inline but what `user` names. JSON is YAML, so no YAML writer is needed."""
    authority_data = base64.b64encode(authority).decode()
    return dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": authority_data}}],
            "users": [{"name": name, "user": dict(user)}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
    )


def dumps(document: Mapping[str, Any]) -> str:
    """The text of a configuration file."""
    return json.dumps(document, indent=1) + "\n"
