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

from demo import gateway, run, tickets
from demo.run import Run
from demo.shell import ROOT, DemoFailed, kubectl, read, say, show, wait

SYSTEM = "kubesaga-system"
DESK = "examples/ticket-desk"


def play() -> None:
    """Bring everything up, let the events of two tickets come in, show what happened."""
    say("1. Images: the operator from this checkout, the ticket desk, busybox")
    _images()
    say(
        "2. Operator and gateway from the Helm chart, each with rights of its own ServiceAccount in one namespace alone"
    )
    kubectl("apply", "--validate=false", "-f", "crds")
    _install_desk_namespace()
    _install()
    say(
        "3. A ticket desk: a small HTTP service with a database, in namespace support; a fresh one, which remembers nothing"
    )
    kubectl("-n", "support", "delete", "deployment", "desk", "--ignore-not-found", "--wait", quiet=True)
    run.clear()
    token = gateway.share_secret()
    kubectl("apply", "-f", f"{DESK}/manifests")
    kubectl("-n", "support", "rollout", "status", "deployment/desk", "--timeout=120s")
    say("4. The Workflow: notify the team, assign an agent, set the SLA (that one in a pod); if that fails, undo it")
    kubectl("apply", "-f", f"{DESK}/workflow.yaml")
    wait("a valid Workflow", lambda: _is_ready("workflows", "high-priority-ticket"), 60, _log_hint())
    wait("a valid event source", lambda: _is_ready("workfloweventsources", "desk"), 60, _log_hint())
    kubectl("-n", "support", "get", "workflows.kubesaga.dev,workfloweventsources.kubesaga.dev")
    wait("the gateway of the last time to be gone", _one_gateway, 60, f"kubectl -n {SYSTEM} get pods")
    with gateway.reached(SYSTEM, token) as sender:
        say("5. Ticket T-123 is opened. What would that event start? (This asks no cluster)")
        tickets.ask_first()
        say("6. The desk sends it to the gateway; somebody who does not know the secret is sent away before that")
        done = tickets.first(sender, _log_hint())
        say("7. The desk is not certain that it arrived, and sends it again: the same run, no second one")
        tickets.again(sender, done)
        say("8. What the desk was really asked to do, by the operator and by the pod: everything, once")
        tickets.check_first(done)
        say("9. Ticket T-666 is opened, and the desk refuses its SLA for good: what was done for it is undone")
        undone = tickets.second(sender, _log_hint())
    say("10. What the desk was really asked to do: it assigned the ticket, and unassigned it")
    tickets.check_second(undone)
    _goodbye(undone)


def _images() -> None:
    for name in ("busybox", "desk", "operator"):
        show(f"python3 tools/cluster image {name}")
        subprocess.run([sys.executable, str(ROOT / "tools" / "cluster"), "image", name], check=True, cwd=ROOT)


def _install_desk_namespace() -> None:
    documents = yaml.safe_load_all((ROOT / DESK / "manifests" / "desk.yaml").read_text())
    namespace = next(document for document in documents if document["kind"] == "Namespace")
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(namespace), quiet=True)


def _install() -> None:
    values: dict[str, Any] = {
        "watchNamespaces": ["support"],
        "crds": {"install": False},
        "gateway": {"enabled": True, "replicas": 1},
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
    for name in ("kubesaga", "kubesaga-gateway"):
        kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{name}", "--timeout=180s")
    for who, account, verb, what in (
        ("operator", "kubesaga", "create", "pods"),
        ("operator", "kubesaga", "get", "secrets"),
        ("gateway", "kubesaga-gateway", "create", "workflowruns.kubesaga.dev"),
        ("gateway", "kubesaga-gateway", "create", "pods"),
    ):
        print(f"may the {who} {verb} {what} in support? {_may(account, verb, what)}", flush=True)


def _may(account: str, verb: str, what: str) -> str:
    whom = f"system:serviceaccount:{SYSTEM}:{account}"
    try:
        return kubectl("-n", "support", "auth", "can-i", verb, what, "--as", whom, quiet=True).strip()
    except DemoFailed:
        return "no"


def _is_ready(kind: str, name: str) -> bool:
    found = read("-n", "support", "get", f"{kind}.kubesaga.dev", name)
    conditions = found.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _one_gateway() -> bool:
    pods = read("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=gateway")
    return len(pods["items"]) == 1


def _log_hint() -> str:
    return f"kubectl --kubeconfig build/kubeconfig -n {SYSTEM} logs deployment/kubesaga"


def _goodbye(second: Run) -> None:
    say("Those were real runs. What to try next:")
    text = Path(__file__).with_name("what_next.txt").read_text().rstrip()
    print(text.replace("SECOND", second["metadata"]["name"]))
