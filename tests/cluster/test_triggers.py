# SPDX-License-Identifier: Apache-2.0
"""From an event that is delivered, or a minute that has come, to a run that says so; and triggers that stop themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster, Operator, document
from tests.cluster.event_gateway import Gateway
from tests.cluster.waiting import wait_for

STRUCTURED = "Content-Type: application/cloudevents+json"
OPENED = {"type": "desk:opened", "class": "Integration", "schema": {"type": "object", "required": ["ticketId"]}}


def event(**more: Any) -> str:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": "e-1",
            "source": "/desk",
            "type": "desk:opened",
            "actorid": "U-1",
            "data": {},
            **more,
        }
    )


def condition(cluster: Cluster, workflow: str, type_: str) -> dict[str, Any]:
    body = cluster.find("workflows", workflow) or {}
    found = (body.get("status") or {}).get("conditions") or []
    return next((one for one in found if one["type"] == type_), {})


def test_an_event_of_a_registered_type_starts_a_run_that_names_its_trigger(cluster: Cluster, tmp_path: Path) -> None:
    greet = {
        "description": "d", "triggers": [{"name": "_opened", "event": "desk:opened"}],
        "activities": [{"name": "a", "handler": "test:echo"}],
    }  # fmt: skip
    with Operator(cluster, tmp_path) as operator, Gateway(cluster, tmp_path, "one") as gateway:
        operator.start("cluster_handlers")
        cluster.apply(document("Workflow", "greet", greet))
        wait_for("the type to be unknown", lambda: condition(cluster, "greet", "EventKnown").get("status") == "False")
        source = {"type": "CloudEvents", "auth": {"none": {}}, "eventTypes": [OPENED]}
        cluster.apply(document("WorkflowEventSource", "desk", source))
        wait_for("the type to be known", lambda: condition(cluster, "greet", "EventKnown").get("status") == "True")
        path = f"/events/{cluster.namespace}/desk"
        wait_for("the source to be known", lambda: gateway.curl(path, event(), STRUCTURED)[0] != 401)
        status, answer = gateway.curl(path, event(), STRUCTURED)
        assert (status, answer["path"]) == (422, "data.ticketId")
        status, answer = gateway.curl(path, event(data={"ticketId": "T-1"}), STRUCTURED)
        assert status == 202
        name = answer["events"][0]["runs"][0]["name"]
        cluster.wait_phase(name, "Succeeded")
        assert cluster.status(name)["trigger"] == {"name": "_opened", "eventId": "e-1", "actor": "U-1"}
        assert "_opened" in cluster.kubectl("get", "workflowruns", "-o", "wide").stdout
        assert len(cluster.list("workflowruns")) == 1


def test_a_trigger_whose_runs_fail_stops_itself_until_the_workflow_is_changed(cluster: Cluster, tmp_path: Path) -> None:
    failing = {"name": "a", "handler": "test:hopeless"}
    greet = {
        "description": "d", "triggers": [{"name": "opened", "event": "desk:opened", "failureLimit": 2}],
        "activities": [failing],
    }  # fmt: skip
    source = {"type": "CloudEvents", "auth": {"none": {}}, "eventTypes": [{"type": "desk:opened"}]}

    def record() -> dict[str, Any]:
        status = (cluster.find("workflows", "greet") or {}).get("status") or {}
        found: dict[str, Any] = (status.get("triggers") or {}).get("opened") or {}
        return found

    with Operator(cluster, tmp_path) as operator, Gateway(cluster, tmp_path, "one") as gateway:

        def deliver(number: int) -> dict[str, Any]:
            status, answer = gateway.curl(f"/events/{cluster.namespace}/desk", event(id=f"e-{number}"), STRUCTURED)
            assert status == 202
            told: dict[str, Any] = answer["events"][0]
            return told

        def run_of(number: int) -> str | None:
            """Send an event until the gateway knows of the Workflow as it is; return its run."""
            runs = deliver(number)["runs"]
            return runs[0]["name"] if runs else None

        operator.start("cluster_handlers")
        cluster.apply(document("WorkflowEventSource", "desk", source), document("Workflow", "greet", greet))
        wait_for("the limit to be counted from", lambda: record().get("countedFrom"))
        path = f"/events/{cluster.namespace}/desk"
        wait_for("the source to be known", lambda: gateway.curl(path, "{}", STRUCTURED)[0] != 401)
        for number in (1, 2):
            cluster.wait_phase(wait_for("a run", lambda: run_of(number)), "Compensated", "Failed")  # noqa: B023 - used at once
        wait_for("the trigger to stop", lambda: condition(cluster, "greet", "TriggerStopped"))
        assert record()["message"].startswith("It has stopped itself: the last 2 runs have failed")
        assert condition(cluster, "greet", "TriggerStopped")["message"].startswith("opened: the last runs have failed")
        wait_for("the gateway to know", lambda: deliver(3).get("stopped"))
        before = len(cluster.list("workflowruns"))
        assert deliver(4) == {
            "id": "e-4", "type": "desk:opened", "runs": [], "stopped": [{"workflow": "greet", "trigger": "opened"}],
        }  # fmt: skip
        assert len(cluster.list("workflowruns")) == before
        mended = {**greet, "activities": [{"name": "a", "handler": "test:echo"}]}
        cluster.apply(document("Workflow", "greet", mended))
        cluster.wait_phase(wait_for("a run", lambda: run_of(5)), "Succeeded")
        wait_for("the record to begin anew", lambda: set(record()) == {"countedFrom"}, otherwise=record)
        wait_for("the condition to go", lambda: not condition(cluster, "greet", "TriggerStopped"))


def test_a_schedule_whose_run_fails_stops_itself(cluster: Cluster, tmp_path: Path) -> None:
    often = {"name": "often", "schedule": "* * * * *", "failureLimit": 1}
    failing = {"name": "a", "handler": "gone", "errorHandling": {"retry": {"maxAttempts": 1}}}
    with Operator(cluster, tmp_path) as operator:
        operator.start("cluster_handlers")
        cluster.apply(
            document("Workflow", "report", {"description": "d", "triggers": [often], "activities": [failing]})
        )
        wait_for("the schedule to stop", lambda: condition(cluster, "report", "TriggerStopped"), within=240)
        [run] = cluster.list("workflowruns")
        assert run["status"]["phase"] == "Failed"
        assert set(run["status"]["trigger"]) == {"name", "tick"}
        status = (cluster.find("workflows", "report") or {})["status"]
        assert "nextScheduleTime" not in status
        assert status["schedules"]["often"]["message"].startswith("It has stopped itself: the last run has failed")
        ticks = operator.get("/metrics")[1]
        assert 'kubesaga_schedule_ticks_total{result="started"} 1.0' in ticks
