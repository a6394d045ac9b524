# SPDX-License-Identifier: Apache-2.0
"""The operator's ServiceAccount, as the chart makes it for an operator of one namespace."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from helm_python import Chart
from tests.cluster.waiting import wait_for

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]


def kubeconfig_of_account(cluster: Cluster, path: Path) -> Path:
    """Make the ServiceAccount with the chart's own RBAC, and a kubeconfig that bears its token."""
    namespace = cluster.namespace
    values = {"watchNamespaces": [namespace], "crds": {"install": False}, "rbac": {"aggregatedRoles": False}}
    rendered = Chart.load(str(ROOT / "charts" / "kubesaga")).render(values, name="kubesaga", namespace=namespace)
    wanted = ("ServiceAccount", "Role", "RoleBinding")
    texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
    documents = [doc for text in texts for doc in yaml.safe_load_all(text) if doc]
    documents = [doc for doc in documents if doc.get("kind") in wanted]
    cluster.apply(*documents)
    account = next(doc["metadata"]["name"] for doc in documents if doc["kind"] == "ServiceAccount")
    secret = {
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "kubesaga-token", "annotations": {"kubernetes.io/service-account.name": account}},
    }  # fmt: skip
    cluster.apply(secret)

    def token() -> str | None:
        found = cluster.find("secrets", "kubesaga-token") or {}
        return (found.get("data") or {}).get("token")

    config = yaml.safe_load(cluster.kubeconfig.read_text())
    bearer = base64.b64decode(wait_for("the ServiceAccount's token", token)).decode()
    context = {**config["contexts"][0]["context"], "user": "kubesaga", "namespace": namespace}
    config["users"] = [{"name": "kubesaga", "user": {"token": bearer}}]
    config["contexts"] = [{"name": "kubesaga", "context": context}]
    config["current-context"] = "kubesaga"
    path.write_text(yaml.safe_dump(config))
    return path
