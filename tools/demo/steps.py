# SPDX-License-Identifier: Apache-2.0
"""The demo, step by step."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import yaml
from helm_python import Chart

from demo.shell import KUBECONFIG, ROOT, DemoFailed, kubectl, read, say, show, wait

SYSTEM = "kubesaga-system"
DESK = ROOT / "examples" / "ticket-desk"
TICKET = "T-123"
RUN = "ticket-t-123"


def play() -> None:
    """Bring everything up, run one ticket, show what happened."""
    say("1. Images: the operator from this checkout, the ticket desk, busybox")
    _images()
    say("2. The operator, installed from its Helm chart, with the rights of its own ServiceAccount in one namespace")
    kubectl("apply", "--validate=false", "-f", str(ROOT / "crds"))
    _install_desk_namespace()
    _install_operator()
    say("3. A ticket desk: a small HTTP service with a database, in namespace support")
    kubectl("apply", "-f", str(DESK / "manifests"))
    kubectl("-n", "support", "rollout", "status", "deployment/desk", "--timeout=120s")
    say("4. The Workflow: notify the team, assign an agent, set the SLA (that one in a pod)")
    kubectl("apply", "-f", str(DESK / "workflow.yaml"))
    wait("a valid Workflow", _workflow_is_ready, 60, _log_hint())
    kubectl("-n", "support", "get", "workflows.kubesaga.dev", "-o", "wide")
    say(f"5. Ticket {TICKET} arrives")
    kubectl(
        "-n", "support", "delete", "workflowruns.kubesaga.dev", RUN, "--ignore-not-found", "--timeout=120s", quiet=True
    )
    kubectl("apply", "-f", str(DESK / "run.yaml"))
    _follow()
    say("6. What the desk was really asked to do, by the operator and by the pod")
    _show_calls()
    _goodbye()


def _images() -> None:
    for name in ("busybox", "desk", "operator"):
        show(f"python3 tools/cluster image {name}")
        subprocess.run([sys.executable, str(ROOT / "tools" / "cluster"), "image", name], check=True, cwd=ROOT)


def _install_desk_namespace() -> None:
    documents = yaml.safe_load_all((DESK / "manifests" / "desk.yaml").read_text())
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


def _follow() -> None:
    """Show the run in kubectl's own words each time they change, until it has finished."""
    show("kubectl -n support get workflowruns.kubesaga.dev --watch")
    shown, end = "", time.monotonic() + 180
    while True:
        run = read("-n", "support", "get", "workflowruns.kubesaga.dev", RUN)
        status = run.get("status", {})
        lines = kubectl("-n", "support", "get", "workflowruns.kubesaga.dev", RUN, quiet=True).splitlines()
        told = f"{status.get('phase')} {status.get('progress')} {status.get('currentActivity')}"
        if told != shown:
            print("\n".join(lines if not shown else lines[1:]), flush=True)
            shown = told
        if status.get("phase") == "Succeeded":
            break
        if status.get("completionTime") or time.monotonic() > end:
            raise DemoFailed(f"the run is {status.get('phase')}: {status.get('message')}; look at: {_log_hint()}")
        time.sleep(0.3)
    show(f"kubectl -n support get workflowrun.kubesaga.dev {RUN} -o yaml   # its status, in short")
    for name, activity in status["activities"].items():
        print(
            f"  {name:<13} {activity['phase']:<10} {activity.get('podName') or 'in the operator':<45} {json.dumps(activity.get('output'))}"
        )
    print(f"  outputs: {json.dumps(status.get('outputs'))}")


def _show_calls() -> None:
    path = "/api/v1/namespaces/support/services/desk:80/proxy/calls"
    show(f"kubectl get --raw {path}")
    calls = json.loads(kubectl("get", "--raw", path, quiet=True))["calls"]
    uid = read("-n", "support", "get", "workflowruns.kubesaga.dev", RUN)["metadata"]["uid"]
    mine = [call for call in calls if (call.get("key") or "").startswith(uid)]
    for call in mine:
        print(f"  {call['method']:<5} {call['path']:<24} {call['status']}   Idempotency-Key: {call['key']}")
    wanted = {"/notifications", f"/tickets/{TICKET}/assign", f"/tickets/{TICKET}/sla"}
    really = [call["path"] for call in mine if not call.get("replayed")]
    if not wanted <= set(really) or len(really) != len(set(really)):
        raise DemoFailed(f"the desk was not called once for each of {sorted(wanted)}: {really}")


def _log_hint() -> str:
    return f"kubectl --kubeconfig build/kubeconfig -n {SYSTEM} logs deployment/kubesaga"


def _goodbye() -> None:
    say("That was a real run. What to try next:")
    print(
        f"""  export KUBECONFIG={KUBECONFIG.relative_to(ROOT)}
  kubectl -n support get workflowruns.kubesaga.dev,pods               # the run and its pod are still there
  kubectl -n support logs -l kubesaga.dev/run={RUN}         # what the pod printed
  kubectl -n {SYSTEM} logs deployment/kubesaga                 # what the operator did
  sed 's/T-123/T-999/; s/t-123/t-999/' examples/ticket-desk/run.yaml | kubectl apply -f -   # a ticket that does not exist
  kubectl -n support get workflowruns.kubesaga.dev -o wide            # it Failed, and says why
  .venv/bin/kubesaga run examples/handlers/*.yaml --handlers orders   # the same engine with no cluster
  .venv/bin/kubesaga lint examples                                    # is a Workflow right? before you apply it
  make cluster-down                                                   # stop the cluster; its cache stays"""
    )
