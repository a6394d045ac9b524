# SPDX-License-Identifier: Apache-2.0
"""What an event starts of a Workflow as the API server keeps it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubesaga.testing.paths import PathEvaluator
from kubesaga.triggers.workflows import EventTriggers, Started

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "desk",
    "type": "ticket:created",
    "data": {"id": "T-1"},
}
READY = [{"type": "Ready", "status": "True"}]


def workflow(
    *triggers: dict[str, Any], generation: int = 1, observed: int = 1, conditions: Any = READY, **more: Any
) -> dict[str, Any]:
    named = [{"name": f"t{number}", "event": "ticket:*", **trigger} for number, trigger in enumerate(triggers)]
    spec = {"inputs": [{"name": "id"}], "triggers": named, "activities": [{"name": "a", "handler": "x"}], **more}
    return {
        "metadata": {"namespace": "support", "name": "w", "uid": "u", "generation": generation},
        "spec": spec, "status": {"observedGeneration": observed, "conditions": conditions},
    }  # fmt: skip


def started(body: dict[str, Any], sender: str = "hooks/desk", known: EventTriggers | None = None) -> Started:
    return (known or EventTriggers(PathEvaluator())).runs(body, EVENT, json.dumps(EVENT), sender)


def test_each_trigger_that_fits_starts_a_run() -> None:
    found = started(workflow({}, {"event": "slack:message"}, {"inputs": {"id": "${event.data.id}"}}))
    assert [name for name, _ in found.runs] == ["t0", "t2"]
    assert found.runs[1][1]["spec"]["inputs"] == {"id": "T-1"}
    assert json.loads(found.runs[1][1]["spec"]["event"]) == EVENT
    assert found.faults == ()


def test_what_is_broken_is_told_and_keeps_no_other_from_starting() -> None:
    found = started(workflow({"inputs": {"id": "${event.data.gone}"}}, {}))
    assert [name for name, _ in found.runs] == ["t1"]
    (fault,) = found.faults
    assert fault.startswith("spec.triggers[0].inputs.id: ")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(workflow({}, suspend=True), id="suspended"),
        pytest.param(workflow({}, conditions=[{"type": "Ready", "status": "False"}]), id="not valid"),
        pytest.param(workflow({}, conditions=[]), id="nobody has looked at it"),
        pytest.param(workflow({}, generation=2), id="changed since somebody looked"),
        pytest.param(workflow({}, gone=1), id="not readable, whatever its status says"),
        pytest.param(workflow({"event": None, "schedule": "@daily"}), id="schedules only"),
        pytest.param(workflow(), id="no triggers"),
    ],
)
def test_nothing_is_started(body: dict[str, Any]) -> None:
    body["spec"]["triggers"] = [{k: v for k, v in t.items() if v is not None} for t in body["spec"]["triggers"]]
    assert started(body) == Started()


def test_a_workflow_that_is_being_deleted_starts_nothing() -> None:
    body = workflow({})
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert started(body) == Started()


def test_a_change_of_the_workflow_is_seen() -> None:
    known = EventTriggers(PathEvaluator())
    assert len(started(workflow({}), known=known).runs) == 1
    assert len(started(workflow({}, {}, generation=2, observed=2), known=known).runs) == 2


def test_whoever_may_send_to_one_source_cannot_use_up_the_ids_of_another() -> None:
    triggers = EventTriggers(PathEvaluator())
    ((_, first),), ((_, second),) = started(workflow({})).runs, started(workflow({}), "other/desk").runs
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert not triggers.is_same(first, second)
    assert triggers.is_same(first, started(workflow({})).runs[0][1])
