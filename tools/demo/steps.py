# SPDX-License-Identifier: Apache-2.0
"""The demo, step by step."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

from demo import tickets
from demo.shell import ROOT, DemoFailed, kubectl, read, say, show, wait

SYSTEM = "kubesaga-system"
DESK = "examples/ticket-desk"


def play() -> None:
    """Bring everything up, run two tickets, show what happened."""
    say("1. Images: the operator from this checkout, the ticket desk, busybox")
    _images()
    say("2. The operator, installed from its Helm chart, with the rights of its own ServiceAccount in one namespace")
    kubectl("apply", "--validate=false", "-f", "crds")
    _install_desk_namespace()
    _install_operator()
    say(
        "3. A ticket desk: a small HTTP service with a database, in namespace support; a fresh one, which remembers nothing"
    )
    kubectl("-n", "support", "delete", "deployment", "desk", "--ignore-not-found", "--wait", quiet=True)
    kubectl("apply", "-f", f"{DESK}/manifests")
    kubectl("-n", "support", "rollout", "status", "deployment/desk", "--timeout=120s")
    say("4. The Workflow: notify the team, assign an agent, set the SLA (that one in a pod); if that fails, undo it")
    kubectl("apply", "-f", f"{DESK}/workflow.yaml")
    wait("a valid Workflow", _workflow_is_ready, 60, _log_hint())
    kubectl("-n", "support", "get", "workflows.kubesaga.dev", "-o", "wide")
    say("5. Ticket T-123 arrives")
    done = tickets.first(_log_hint())
    say("6. What the desk was really asked to do, by the operator and by the pod")
    tickets.check_first(done)
    say("7. Ticket T-666 arrives, and the desk refuses its SLA for good: what was done for it is undone")
    undone = tickets.second(_log_hint())
    say("8. What the desk was really asked to do: it assigned the ticket, and unassigned it")
    tickets.check_second(undone)
    _goodbye()


def _images() -> None:
    for name in ("busybox", "desk", "operator"):
        show(f"python3 tools/cluster image {name}")
        subprocess.run([sys.executable, str(ROOT / "tools" / "cluster"), "image", name], check=True, cwd=ROOT)


def _install_desk_namespace() -> None:
    documents = yaml.safe_load_all((ROOT / DESK / "manifests" / "desk.yaml").read_text())
    namespace = next(document for document in documents if document["kind"] == "Namespace")
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(namespace), quiet=True)


def _install_operator() -> None:
    values: dict[str, Any] = {
        "watchNamespaces": ["support"],
        "crds": {"install": False},
        "image": {"repository": "docker.io/library/kubesaga", "tag": "dev", "pullPolicy": "IfNotPresent"},
        # Any new image has the same name: the time makes Kubernetes take it.
        "podAnnotations": {"kubesaga.dev/demo": str(int(time.time()))},
    }
    show(f"helm install kubesaga charts/kubesaga -n {SYSTEM} -f -   # {json.dumps(values)}")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(namespace), quiet=True)
    rendered = Chart.load(str(ROOT / "charts" / "kubesaga")).render(values, name="kubesaga", namespace=SYSTEM)
    documents = [
        document
        for path, text in rendered.items()
        if text.strip() and not path.endswith("NOTES.txt")
        for document in yaml.safe_load_all(text)
        if document
    ]
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/kubesaga", "--timeout=180s")
    account = f"system:serviceaccount:{SYSTEM}:kubesaga"
    for verb, what in (("create", "pods"), ("get", "secrets")):
        try:
            answer = kubectl("-n", "support", "auth", "can-i", verb, what, "--as", account, quiet=True).strip()
        except DemoFailed:
            answer = "no"
        print(f"may the operator {verb} {what} in support? {answer}")


def _workflow_is_ready() -> bool:
    found = read("-n", "support", "get", "workflows.kubesaga.dev", "high-priority-ticket")
    conditions = found.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _log_hint() -> str:
    return f"kubectl --kubeconfig build/kubeconfig -n {SYSTEM} logs deployment/kubesaga"


def _goodbye() -> None:
    say("Those were real runs. What to try next:")
    print(Path(__file__).with_name("what_next.txt").read_text().rstrip())
