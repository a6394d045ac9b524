# SPDX-License-Identifier: Apache-2.0
"""`kubesaga gateway` as a process, with the rights that the chart gives its ServiceAccount in one namespace."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from helm_python import Chart
from tests.cluster.cluster import ROOT, Cluster
from tests.cluster.waiting import wait_for

ACCOUNT = "kubesaga-gateway"


class Gateway:
    """The process. Several may serve one namespace."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self.cluster = cluster
        self._folder = folder
        self._log_file = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        namespace = self.cluster.namespace
        kubeconfig = kubeconfig_of_gateway(self.cluster, self._folder / "gateway.kubeconfig")
        environment = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator"), "KUBESAGA_NAMESPACES": namespace,
            "KUBESAGA_HTTP_HOST": "127.0.0.1", "KUBESAGA_HTTP_PORT": "0", "KUBESAGA_LOG_FORMAT": "text",
            "KUBESAGA_GATEWAY_HOST": "127.0.0.1", "KUBESAGA_GATEWAY_PORT": "0", "KUBESAGA_GATEWAY_DRAIN_DELAY": "0",
        }  # fmt: skip
        command = [sys.executable, "-m", "kubesaga", "gateway", "--kubeconfig", str(kubeconfig)]
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.port = int(wait_for("the gateway to take deliveries", self._listening)[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            status = self._process.wait(timeout=60)
        finally:
            self._process.kill()
            if error is not None:
                print(self.log()[-6000:])
        if error is None:
            assert status == 0, self.log()

    def log(self) -> str:
        return self._log_file.read_text()

    def curl(self, path: str, body: str, *headers: str) -> tuple[int, Any]:
        """Send a body with curl; return the status and the answer."""
        words = [word for header in headers for word in ("-H", header)]
        url = f"http://127.0.0.1:{self.port}{path}"
        command = ["curl", "-sS", "-w", "\n%{http_code}", *words, "--data-binary", "@-", url]
        done = subprocess.run(command, input=body.encode(), capture_output=True, check=True, timeout=60)
        answer, _, status = done.stdout.decode().rpartition("\n")
        return int(status), json.loads(answer)

    def _listening(self) -> re.Match[str] | None:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        return re.search(r"takes deliveries on port (\d+)", self.log())


def kubeconfig_of_gateway(cluster: Cluster, path: Path) -> Path:
    """Make the gateway's ServiceAccount with the chart's own RBAC, and a kubeconfig that bears its token."""
    values = {
        "watchNamespaces": [cluster.namespace], "crds": {"install": False}, "rbac": {"aggregatedRoles": False},
        "gateway": {"enabled": True},
    }  # fmt: skip
    chart = Chart.load(str(ROOT / "charts" / "kubesaga"))
    rendered = chart.render(values, name="kubesaga", namespace=cluster.namespace)
    [text] = [text for name, text in rendered.items() if name.endswith("gateway-rbac.yaml")]
    secret = {
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "gateway-token", "annotations": {"kubernetes.io/service-account.name": ACCOUNT}},
    }  # fmt: skip
    cluster.apply(*[each for each in yaml.safe_load_all(text) if each], secret)

    def token() -> str | None:
        found = cluster.find("secrets", "gateway-token") or {}
        return (found.get("data") or {}).get("token")

    config = yaml.safe_load(cluster.kubeconfig.read_text())
    bearer = base64.b64decode(wait_for("the ServiceAccount's token", token)).decode()
    context = {**config["contexts"][0]["context"], "user": "gateway", "namespace": cluster.namespace}
    config["users"] = [{"name": "gateway", "user": {"token": bearer}}]
    config["contexts"] = [{"name": "gateway", "context": context}]
    config["current-context"] = "gateway"
    path.write_text(yaml.safe_dump(config))
    return path
