# SPDX-License-Identifier: Apache-2.0
"""The few questions this tool asks the API server itself."""

import base64
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServer:
    """An API server, its certificate authority (PEM) and an administrator's token."""

    server: str
    authority: str
    token: str

    def get(self, path: str, *, seconds: float = 2.0) -> Any:
        """The decoded answer; text where it is no JSON. Raises OSError where there is no good answer."""
        request = urllib.request.Request(self.server + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(
            request, timeout=seconds, context=ssl.create_default_context(cadata=self.authority)
        ) as answer:
            body = answer.read().decode()
        return json.loads(body) if body[:1] in "{[" else body

    def ready(self) -> bool:
        """Whether every check of the API server passes."""
        try:
            return bool(self.get("/readyz") == "ok")
        except OSError:  # refused, reset, timed out, or an HTTP error: all of them mean not yet
            return False

    def node_ready(self, name: str) -> bool:
        """Whether the node's kubelet says that it takes pods."""
        try:
            node = self.get(f"/api/v1/nodes/{name}")
        except OSError:
            return False
        return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))

    def has(self, path: str) -> bool:
        """Whether an object exists."""
        try:
            self.get(path)
        except OSError:
            return False
        return True


def from_kubeconfig(file: Path) -> ApiServer:
    """Reads a kubeconfig that this tool wrote (JSON, one cluster, one user with a token)."""
    document = json.loads(file.read_text())
    cluster = document["clusters"][0]["cluster"]
    return ApiServer(
        server=cluster["server"],
        authority=base64.b64decode(cluster["certificate-authority-data"]).decode(),
        token=document["users"][0]["user"]["token"],
    )
