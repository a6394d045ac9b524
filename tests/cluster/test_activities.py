# SPDX-License-Identifier: Apache-2.0
"""Activities on a real Kubernetes: used by Workflows, edited under a live run, missing and then there, of the catalogue."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, Operator, busybox, document
from tests.cluster.waiting import wait_for


class Desk(BaseHTTPRequestHandler):
    """Answers every POST with its body."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path, "got": json.loads(body)}).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a desk on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Desk)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def here(shared_cluster: Cluster, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A namespace, and the operator serving it."""
    with (
        shared_cluster.in_new_namespace() as cluster,
        Operator(cluster, tmp_path_factory.mktemp("activities")) as operator,
    ):
        operator.start("cluster_handlers", egress_allow=f"127.0.0.1:{port}")
        yield cluster


def activity(name: str, **spec: Any) -> dict[str, Any]:
    """Return an Activity."""
    return document("Activity", name, {"description": "d", **spec})


def workflow(name: str, *activities: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Return a Workflow."""
    return document("Workflow", name, {"description": "d", "activities": list(activities), **spec})


def ready(cluster: Cluster, kind: str, name: str, truth: str, told: str = "") -> dict[str, Any]:
    """Return an object once its condition Ready is so, and says so."""

    def look() -> dict[str, Any] | None:
        found = cluster.find(kind, name) or {}
        conditions = (found.get("status") or {}).get("conditions", [])
        fits = [
            one for one in conditions if one["type"] == "Ready" and one["status"] == truth and told in one["message"]
        ]
        return found if fits else None

    return wait_for(f"{kind} {name} to be Ready={truth}: {told}", look, otherwise=lambda: cluster.find(kind, name))


def test_two_workflows_use_an_activity_of_each_kind(here: Cluster, port: int) -> None:
    script = 'echo "{\\"said\\": \\"$WORD\\"}" > /dev/termination-log'
    here.apply(
        activity("desk.note", http={"method": "POST", "url": f"http://127.0.0.1:{port}/${{inputs.to}}", "body": {"text": "${inputs.text}"}}),
        activity("echo", handler="test:echo", input={"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}),
        activity("say", pod=busybox(script, env=[{"name": "WORD", "value": "${inputs.word}"}]), aliases=["say_it"]),
        workflow(
            "first",
            {"name": "note", "uses": "desk:note", "params": {"to": "a", "text": "${run.name}"}},
            {"name": "echo", "params": {"n": 1}},
            {"name": "say_it", "params": {"word": "${activities.echo.output.n}"}},
        ),
        workflow("second", {"name": "x", "uses": "echo", "params": {"n": 2}}, {"name": "y", "uses": "say", "params": {"word": "w"}}),
    )  # fmt: skip
    for kind, name in (
        ("activities", "desk.note"),
        ("activities", "say"),
        ("workflows", "first"),
        ("workflows", "second"),
    ):
        ready(here, kind, name, "True")
    run, status = here.carried_out("first-1", "first")
    outputs = {name: known["output"] for name, known in status["activities"].items()}
    assert outputs == {"note": {"path": "/a", "got": {"text": run}}, "echo": {"n": 1}, "say_it": {"said": "1"}}
    assert status["activities"]["note"]["input"]["params"] == {"to": "a", "text": run}
    assert here.carried_out("second-1", "second")[1]["phase"] == "Succeeded"
    row = here.kubectl("get", "kact", "echo").stdout.splitlines()
    assert row[0].split() == ["NAME", "CLASS", "VERSION", "READY", "BREAKER", "CALLS", "QUEUED", "AGE"]
    assert "True" in row[1].split()


def test_params_that_do_not_fit_fail_without_an_attempt(here: Cluster) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    here.apply(
        activity("whole", handler="test:echo", input=schema),
        workflow("misfit", {"name": "a", "uses": "whole", "params": {"n": "${run.name}"}}),
    )
    _, status = here.carried_out("misfit-1", "misfit")
    failed = status["activities"]["a"]
    assert (failed["error"]["reason"], "attempt" in failed) == ("InvalidInput", False)
    assert failed["error"]["message"].startswith("params.n: must be of type integer, but is a string")


def test_an_edit_is_for_new_runs_alone(here: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    held = {"calls": str(tmp_path / "calls"), "gate": str(gate)}
    answer = "http://127.0.0.1:9/"  # nobody is asked there: the edited Activity is another one altogether
    here.apply(
        activity("changing", handler="test:echo"),
        workflow(
            "live", {"name": "wait", "handler": "test:hold", "params": held},
            {"name": "after", "uses": "changing", "params": {"a": 1}}, errorHandling={"activityError": {"retry": {"maxAttempts": 1}}},
        ),
    )  # fmt: skip
    before = ready(here, "workflows", "live", "True")["status"]["currentRevision"]
    here.run("live-1", "live")
    here.wait_activity("live-1", "wait", phase="Running")
    here.apply(document("Activity", "changing", {"description": "d", "http": {"url": answer}}))
    here.run("live-2", "live")
    here.wait_activity("live-2", "wait", phase="Running")
    revisions = [here.status(run)["workflowRevision"] for run in ("live-1", "live-2")]
    assert revisions[0] == before
    assert revisions[1] != before
    gate.touch()
    assert here.finished("live-1")["activities"]["after"]["output"] == {"a": 1}
    assert here.finished("live-2")["phase"] == "Failed"
    now = wait_for("the Workflow to have its new revision", lambda: current(here, "live", other_than=before))
    assert now == revisions[1]


def current(cluster: Cluster, name: str, *, other_than: str) -> str | None:
    """Return the revision that new runs of a Workflow work from, once it is another one."""
    found = str((cluster.find("workflows", name) or {})["status"]["currentRevision"])
    return found if found != other_than else None


def test_a_workflow_becomes_ready_when_what_it_lacks_comes(here: Cluster) -> None:
    here.apply(workflow("early", {"name": "a", "handler": "test:echo"}, {"name": "b", "uses": "late:commer"}))
    told = "spec.activities[1].uses: there is no Activity late:commer"
    ready(here, "workflows", "early", "False", told)
    here.apply(activity("late.comer", handler="${inputs.x}"))
    ready(here, "activities", "late.comer", "False", "spec.handler: is fixed")
    # What it lacks is told anew: the name is nearly that of what is there now.
    ready(here, "workflows", "early", "False", "did you mean late.comer?")
    here.apply(activity("late.comer", handler="${inputs.x}", aliases=["late:commer"]))
    ready(here, "workflows", "early", "False", "late.comer is not valid, so it cannot be used: spec.handler")
    here.apply(activity("late.comer", handler="test:echo", aliases=["late:commer"]))
    ready(here, "workflows", "early", "True")
    assert here.carried_out("early-1", "early")[1]["phase"] == "Succeeded"
    here.kubectl("delete", "activities.kubesaga.dev", "late.comer")
    ready(here, "workflows", "early", "False", told)


def test_what_is_applied_before_a_run_is_what_it_uses(here: Cluster) -> None:
    """The run may come to the operator's ears first; it reads the Activities itself."""
    for number in range(5):
        here.apply(
            activity(f"quick-{number}", handler="test:echo"),
            workflow(f"quick-{number}", {"name": "a", "uses": f"quick-{number}"}),
            document("WorkflowRun", f"quick-{number}", {"workflowRef": {"name": f"quick-{number}"}}),
        )
    assert {here.finished(f"quick-{number}")["phase"] for number in range(5)} == {"Succeeded"}


def test_the_catalogue_is_for_those_whom_its_activities_allow(shared_cluster: Cluster, tmp_path: Path) -> None:
    with (
        shared_cluster.in_new_namespace() as catalogue,
        shared_cluster.in_new_namespace() as cluster,
        Operator(cluster, tmp_path, as_admin=True, catalogue_namespace=catalogue.namespace) as operator,
    ):
        catalogue.apply(
            activity("shared.echo", handler="test:echo", aliases=["echo:shared"]),
            activity("vip", handler="test:echo", allowedNamespaces=["elsewhere"]),
        )
        operator.start("cluster_handlers")
        cluster.apply(
            workflow("free", {"name": "a", "uses": "echo:shared"}), workflow("kept", {"name": "a", "uses": "vip"})
        )
        assert cluster.carried_out("free-1", "free")[1]["phase"] == "Succeeded"
        ready(cluster, "workflows", "kept", "False", "its allowedNamespaces do not name it")


def test_an_activity_undoes_what_it_did(here: Cluster, tmp_path: Path) -> None:
    ledger = {"folder": str(tmp_path)}
    here.apply(
        activity(
            "booked",
            handler="test:ledger",
            compensation={"handler": "test:ledger", "params": {"folder": "${inputs.folder}"}},
        )
    )
    (tmp_path / "fail do b").touch()
    once = {"activityError": {"retry": {"maxAttempts": 1}}}
    here.apply(
        workflow(
            "undone", *({"name": name, "uses": "booked", "params": ledger} for name in ("a", "b")), errorHandling=once
        )
    )
    _, status = here.carried_out("undone-1", "undone")
    assert (status["phase"], status["activities"]["a"]["compensation"]["phase"]) == ("Compensated", "Succeeded")
