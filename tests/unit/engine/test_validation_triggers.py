# SPDX-License-Identifier: Apache-2.0
"""What is wrong with triggers is found, under the right path, in a plain sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.api.api_server import refusals

from kubesaga.api.parsing import parse_workflow_spec
from kubesaga.api.run import WorkflowRunSpec
from kubesaga.api.schema import spec_schema
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.cel.pool import CelPool
from kubesaga.engine.validation.workflow import problems_of, problems_of_run, warnings_of
from kubesaga.errors import InvalidSpec

INPUTS = [{"name": "id", "required": True}, {"name": "count", "type": "integer", "default": 1}]
ID = {"inputs": {"id": "${event.data.id}"}}


@pytest.fixture(scope="module")
def checker() -> Iterator[CelPool]:
    with CelPool(size=1) as pool:
        yield pool


def document(*triggers: dict[str, Any], inputs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    named = [{"name": f"t{number}", **trigger} for number, trigger in enumerate(triggers)]
    declared = INPUTS if inputs is None else inputs
    return {"description": "d", "inputs": declared, "triggers": named, "activities": [{"name": "a", "handler": "x"}]}


def told(spec: dict[str, Any], checker: CelPool) -> list[tuple[str, str]]:
    try:
        problems = problems_of(parse_workflow_spec(spec), checker)
    except InvalidSpec as error:
        problems = list(error.problems)
    return [
        (problem.path.removeprefix("spec.triggers[0].").removeprefix("spec."), problem.message) for problem in problems
    ]


@pytest.mark.parametrize(
    "trigger",
    [
        pytest.param({"event": "ticket:created"}, id="an event"),
        pytest.param({"event": "ticket:*", "conditions": {"a": {"in": [1]}}, "when": "event.data.b > 1"}, id="a pattern with conditions"),
        pytest.param({"event": "*"}, id="every event"),
        pytest.param({"event": "ticket:created", "failureLimit": 3}, id="an event that stops itself"),
        pytest.param({"schedule": "@daily", "failureLimit": 3}, id="a schedule that stops itself"),
        pytest.param({"event": "com.example.order/v1", "dedupeWindow": "48h"}, id="a type of somebody else's"),
        pytest.param({"schedule": "0 2 * * *"}, id="a schedule"),
        pytest.param({"event": "schedule:daily", "timeZone": "Europe/Berlin"}, id="schedule:daily in a zone"),
        pytest.param({"event": "schedule:weekly", "catchUp": "None"}, id="schedule:weekly"),
        pytest.param({"event": "cron:custom", "schedule": "*/5 * * * *", "concurrencyPolicy": "Forbid", "startingDeadline": "10m"}, id="cron:custom with a schedule"),
        pytest.param({"schedule": "@hourly", "inputs": {"id": "sweep", "count": "${size(event.data.trigger)}"}}, id="an expression as a number"),
    ],
)  # fmt: skip
def test_valid(trigger: dict[str, Any], checker: CelPool) -> None:
    spec = document({**ID, **trigger})
    assert told(spec, checker) == []
    assert list(refusals(spec_schema(WorkflowSpec), spec)) == [], "nor has the API server anything against it"


@pytest.mark.parametrize(
    ("trigger", "path", "sentence", "by_schema"),
    [
        pytest.param({}, "triggers[0]", "has neither event nor schedule", True, id="nothing starts it"),
        pytest.param({"event": "cron:custom"}, "schedule", "is required", True, id="cron:custom without a schedule"),
        pytest.param({"event": "ticket:created", "schedule": "@daily"}, "schedule", "ticket:created is no timer", True, id="an event and a schedule"),
        pytest.param({"event": "schedule:daily", "schedule": "@daily"}, "schedule", "says when already", True, id="daily and a schedule"),
        pytest.param({"event": "a b"}, "event", "is not the type of an event", True, id="a blank in the type"),
        pytest.param({"event": "ticket:*:x"}, "event", "a * at its end at most", True, id="a * in the middle"),
        pytest.param({"event": "x", "timeZone": "UTC"}, "timeZone", "is about schedules", False, id="a zone of an event"),
        pytest.param({"event": "x", "catchUp": "All"}, "catchUp", "is about schedules", False, id="catchUp of an event"),
        pytest.param({"event": "x", "concurrencyPolicy": "Allow"}, "concurrencyPolicy", "is about schedules", False, id="concurrencyPolicy of an event"),
        pytest.param({"event": "x", "startingDeadline": "1m"}, "startingDeadline", "is about schedules", False, id="startingDeadline of an event"),
        pytest.param({"event": "x", "failureLimit": 0}, "failureLimit", "must be at least 1", True, id="a limit of no failure"),
        pytest.param({"schedule": "@daily", "dedupeWindow": "1h"}, "dedupeWindow", "is about events", False, id="dedupeWindow of a schedule"),
        pytest.param({"schedule": "61 * * * *"}, "schedule", '"61 * * * *" is no cron expression: its minute', False, id="minute 61"),
        pytest.param({"schedule": "@daily", "timeZone": "Europe/Berln"}, "timeZone", "there is no time zone Europe/Berln", False, id="a misspelt zone"),
        pytest.param({"schedule": "@daily", "timeZone": "a b"}, "timeZone", "is not the name of a time zone", True, id="no zone at all"),
        pytest.param({"schedule": "@daily", "catchUp": "Some"}, "catchUp", "Some", True, id="an unknown catchUp"),
        pytest.param({"schedule": "@daily", "startingDeadline": "soon"}, "startingDeadline", "is not a duration", True, id="a deadline that is no duration"),
        pytest.param({"event": "x", "conditions": {"a": {"regex": "("}}}, "conditions.a.regex", "is no pattern", False, id="a bad pattern"),
        pytest.param({"event": "x", "when": "event.data.x >"}, "when", "in `event.data.x >`", False, id="CEL that does not compile"),
        pytest.param({"event": "x", "when": "inputs.id == ''"}, "when", "in `inputs.id == ''`", False, id="when reads inputs, which are not there yet"),
        pytest.param({"event": "x", "inputs": {"id": "${event.data.id"}}, "inputs.id", "is not closed", False, id="an expression that is not closed"),
        pytest.param({"event": "x", "inputs": {"id": "${workflow.id}"}}, "inputs.id", "in `workflow.id`", False, id="an input reads variables"),
        pytest.param({"event": "x", "inputs": {"id": "1", "cuont": 2}}, "inputs.cuont", "did you mean count?", False, id="an input that is not declared"),
        pytest.param({"event": "x", "inputs": {"id": "1", "count": "many"}}, "inputs.count", "must be of type integer", False, id="an input of the wrong type"),
        pytest.param({"event": "x", "inputs": {}}, "inputs", "does not give id, which every run needs", False, id="a required input is not given"),
        pytest.param({"event": "x", "retries": 3}, "retries", "there is no such field", False, id="an unknown field"),
        pytest.param({"event": "x", "time_zone": "UTC"}, "time_zone", "did you mean timeZone?", False, id="snake_case"),
    ],
)  # fmt: skip
def test_refused(trigger: dict[str, Any], path: str, sentence: str, by_schema: bool, checker: CelPool) -> None:
    spec = document({**ID, **trigger})
    ((where, message),) = told(spec, checker)
    assert where == path
    assert sentence in message
    assert bool(list(refusals(spec_schema(WorkflowSpec), spec))) is by_schema


def test_two_triggers_of_one_name(checker: CelPool) -> None:
    spec = document({**ID, "name": "x", "event": "a"}, {**ID, "name": "x", "event": "b"})
    assert told(spec, checker) == [("triggers[1].name", "another trigger is called x already")]


def test_values_that_are_nested_too_deeply_are_not_looked_into(checker: CelPool) -> None:
    deep: Any = 1
    for _ in range(40):
        deep = {"a": deep}
    ((path, message),) = told(document({**ID, "event": "x", "conditions": deep}), checker)
    assert path == "conditions"
    assert "nested too deeply" in message


def test_triggers_have_no_place_in_a_runs_own_spec() -> None:
    inline = {"activities": [{"name": "a", "handler": "x"}], "triggers": [], "suspend": True}
    problems = problems_of_run(WorkflowRunSpec(workflow_spec=inline))
    assert [problem.path for problem in problems] == ["spec.workflowSpec.triggers", "spec.workflowSpec.suspend"]


@pytest.mark.parametrize(
    ("trigger", "path", "sentence"),
    [
        pytest.param({"event": "ticket:craeted"}, "event", "did you mean ticket:created?", id="a misspelt type"),
        pytest.param({"event": "invoice:paid"}, "event", "is not a known event type", id="a type that nobody registered"),
        pytest.param({"event": "schedule:*"}, "event", "by the clock", id="a pattern of timers"),
        pytest.param({"schedule": "@daily", "catchUp": "All", "concurrencyPolicy": "Forbid"}, "catchUp", "means Latest", id="All, one at a time"),
        pytest.param({"event": "ticket:created", "when": "event.priority == 'high'"}, "when", "so event.data.priority", id="the data is forgotten"),
    ],
)  # fmt: skip
def test_warned(trigger: dict[str, Any], path: str, sentence: str) -> None:
    (warning,) = warnings_of(parse_workflow_spec(document({**ID, **trigger})))
    assert warning.path == f"spec.triggers[0].{path}"
    assert sentence in warning.message


@pytest.mark.parametrize(
    "event", ["ticket:created", "ticket:*", "ticket:comment:*", "custom-object:a:b:created", "schedule:daily", "account-note:comment:created"]
)  # fmt: skip
def test_known_types_are_not_warned_of(event: str) -> None:
    assert warnings_of(parse_workflow_spec(document({**ID, "event": event}))) == []


def test_what_is_asked_for_by_has_is_not_warned_of() -> None:
    asks = document({**ID, "event": "ticket:created", "when": "has(event.subject) && has(event.partition)"})
    assert warnings_of(parse_workflow_spec(asks)) == []
