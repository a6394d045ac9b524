# SPDX-License-Identifier: Apache-2.0
"""Documents become models; what is wrong is told where it stands, and what is merely newer does no harm."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from kubesaga.api import parsing
from kubesaga.api.action import Verb
from kubesaga.api.deed import ActivityPhase
from kubesaga.api.parsing import field_path, parse_action_spec, parse_run_spec, parse_status, parse_workflow_spec
from kubesaga.api.run import RunPhase
from kubesaga.api.workflow import InputType
from kubesaga.errors import InvalidSpec, KubesagaError

RIGHT: dict[str, Any] = {"activities": [{"name": "a", "handler": "x"}]}


def problems(document: Any) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        parse_workflow_spec(document)
    return [str(problem) for problem in caught.value.problems]


# --- specs ----------------------------------------------------------------------------------------------------------


def test_a_spec_is_read_under_the_names_of_the_wire() -> None:
    spec = parse_workflow_spec(
        {
            "inputs": [{"name": "n", "type": "integer"}],
            "activities": [{"name": "a", "handler": "x", "dependsOn": []}],
            "finally": [{"name": "b", "pod": {"image": "busybox"}, "resources": {"limits": {"cpu": 2}}}],
        }
    )
    assert spec.inputs[0].type is InputType.INTEGER
    assert spec.activities[0].depends_on == []
    assert spec.finally_[0].resources is not None
    assert spec.wire()["finally"][0]["resources"] == {"limits": {"cpu": "2"}}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        pytest.param(None, "spec: must be an object, but is null", id="nothing"),
        pytest.param([], "spec: must be an object, but is a list", id="a list"),
        pytest.param("x", 'spec: must be an object, but is the string "x"', id="text"),
        pytest.param(
            {**RIGHT, "variables": {"day": datetime.date(2026, 1, 31)}},
            "spec.variables.day: is a date, which JSON does not have; put it in quotes",
            id="what YAML reads as a date",
        ),
        pytest.param(
            {**RIGHT, "variables": {"m": {1: "x"}}},
            "spec.variables.m: has the key 1, which is not a string; put it in quotes",
            id="a key that YAML reads as a number",
        ),
        pytest.param(
            {**RIGHT, "variables": {"x": float("inf")}},
            "spec.variables.x: inf is not a number that JSON has",
            id="what YAML reads as infinity",
        ),
        pytest.param(
            {**RIGHT, "finally_": []},
            "spec.finally_: there is no such field; did you mean finally?",
            id="Python's name",
        ),
        pytest.param(
            {**RIGHT, "Outputs": {}}, "spec.Outputs: there is no such field; did you mean outputs?", id="a capital"
        ),
        pytest.param(
            {"activities": [{"name": "a", "http": {"url": "http://x", "auth": {}}}]},
            "spec.activities[0].http.auth: auth is not supported by this version of Kubesaga; remove it",
            id="a field of a request that comes later",
        ),
        pytest.param(
            {**RIGHT, "compensation": {"activities": ["a"]}},
            'spec.compensation.activities[0]: must be an object, but is the string "a"',
            id="a list of names instead of undos",
        ),
        pytest.param(
            {"activities": [{"name": "a", "handler": "x", "errorHandling": {"fallback": {"activity": "b c"}}}]},
            "spec.activities[0].errorHandling.fallback.activity: 'b c' is not the id of an Activity; "
            "use letters, digits, _, and between them -, ., : and /",
            id="a fallback that names no Activity",
        ),
        pytest.param(
            {"activities": [None]}, "spec.activities[0]: must be an object, but is null", id="an empty entry of a list"
        ),
        pytest.param(
            {"activities": [{"name": "a", "handler": "x", "set": {"a.b": 1}}]},
            "spec.activities[0].set[\"a.b\"]: 'a.b' is not a name for a variable; "
            "start with a letter or _, go on with letters, digits or _",
            id="a key that is no name",
        ),
        pytest.param(
            {"activities": [{"name": "a", "pod": {"image": "x" * 1025}}]},
            "spec.activities[0].pod.image: is too long: at most 1024 characters are allowed",
            id="too long a text",
        ),
        pytest.param(
            {"activities": [{"name": "a", "handler": ""}]},
            "spec.activities[0].handler: must not be empty",
            id="an empty text",
        ),
        pytest.param(
            {"activities": [{"name": f"a{n}", "handler": "x"} for n in range(501)]},
            "spec.activities: has too many entries: at most 500 are allowed",
            id="too long a list",
        ),
        pytest.param(
            {"activities": [{"name": "a", "http": {"url": "http://x", "expectedStatus": [200.5]}}]},
            "spec.activities[0].http.expectedStatus[0]: must be a whole number, but is the number 200.5",
            id="a broken number",
        ),
        pytest.param(
            {"activities": [{"name": "a\ud800", "handler": "x"}]},
            "spec: cannot be read as JSON: unexpected end of hex escape at line 1 column 34",
            id="half a character",
        ),
    ],
)
def test_wrong_is(document: Any, told: str) -> None:
    assert problems(document) == [told]


def test_every_problem_is_told_in_the_order_of_the_document() -> None:
    found = problems({"x1": 1, "activities": [{"when": "", "name": 1}, {"handler": 2, "name": "b"}], "timeout": "1"})
    assert [line.split(": ")[0] for line in found] == [
        "spec.x1", "spec.activities[0].when", "spec.activities[0].name", "spec.activities[1].handler", "spec.timeout"
    ]  # fmt: skip


def test_a_document_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    assert "is nested more than 64 levels deep" in problems({**RIGHT, "variables": loop})[0]


def test_a_hundred_problems_are_enough() -> None:
    found = problems({**RIGHT, **{f"field{n}": n for n in range(5000)}})
    assert len(found) == parsing.MAX_PROBLEMS + 1
    assert found[-1] == "spec: there are 4,900 more problems"


def test_fields_of_later_versions_are_none_of_this_one() -> None:
    for model, names in parsing._LATER.items():
        assert names.isdisjoint({field.alias for field in model.model_fields.values()})


def test_a_run_is_read_without_looking_into_its_own_workflow() -> None:
    run = parse_run_spec({"workflowSpec": {"activities": 1}, "inputs": {"a": [1]}, "suspend": True})
    assert run.workflow_spec == {"activities": 1}
    assert run.inputs == {"a": [1]}
    assert run.suspend


def test_a_run_does_not_take_words_for_truth() -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.suspend: must be true or false"):
        parse_run_spec({"workflowRef": {"name": "a"}, "suspend": 1})


# --- WorkflowActions ------------------------------------------------------------------------------------------------

TARGET = {"targetRef": {"name": "order-1"}}
KNOWN = "Compensate, Reject, Retry, Skip, Abandon, Signal, ResetBreaker"


def test_an_action_is_read_under_the_names_of_the_wire() -> None:
    spec = parse_action_spec(
        {"targetRef": {"name": "order-1", "uid": "u"}, "action": "Skip", "activity": "pay", "requestedBy": "ann"}
    )
    assert (spec.action, spec.activity, spec.requested_by) == (Verb.SKIP, "pay", "ann")
    assert (spec.target_ref.kind, spec.target_ref.name, spec.target_ref.uid) == ("WorkflowRun", "order-1", "u")


@pytest.mark.parametrize(("document", "told"), [
    pytest.param(None, ["spec: must be an object, but is null"], id="nothing"),
    pytest.param({}, ["spec.targetRef: is required", "spec.action: is required"], id="empty"),
    pytest.param(
        {**TARGET, "action": "Redo"}, [f'spec.action: "Redo" is not one of {KNOWN}'], id="a verb that nobody knows"
    ),
    pytest.param(
        {**TARGET, "action": "retry"},
        [f'spec.action: "retry" is not one of {KNOWN}; did you mean Retry?'],
        id="a verb in small letters",
    ),
    pytest.param(
        {**TARGET, "action": "Skip"},
        ["spec.activity: is required with Skip: the activity whose undo is left out"],
        id="Skip without an activity",
    ),
    pytest.param(
        {**TARGET, "action": "Reject", "activity": "pay"},
        ["spec.activity: goes with Retry, Skip and Signal alone; Reject is about the whole run"],
        id="an activity where there is no need for one",
    ),
    pytest.param(
        {**TARGET, "action": "Retry", "variable": "x"},
        ["spec.variable: variable is not supported by this version of Kubesaga; remove it"],
        id="a field that comes later",
    ),
    pytest.param(
        {**TARGET, "action": "Retry", "value": 1},
        ["spec.value: goes with Signal alone; Retry takes none"],
        id="a value that nobody reads",
    ),
    pytest.param(
        {**TARGET, "action": "Signal", "value": "ü" * 40_000},
        [
            "spec.activity: is required with Signal: the activity that waits for it",
            "spec.value: is 80,002 bytes as JSON; at most 65,536 are allowed: send a reference to the data instead of the data",
        ],
        id="a Signal to nobody, and too large",
    ),
    pytest.param(
        {"targetRef": {"kind": "Workflow", "name": "order"}, "action": "Signal", "activity": "paid"},
        ["spec.targetRef.kind: is Workflow, but Signal is for a WorkflowRun"],
        id="a Signal to a Workflow",
    ),
    pytest.param(
        {"targetRef": {"kind": "Activity", "name": "pay"}, "action": "Retry"},
        ["spec.targetRef.kind: is Activity, but Retry is for a WorkflowRun"],
        id="a verb that is for runs",
    ),
    pytest.param(
        {**TARGET, "action": "ResetBreaker"},
        ["spec.targetRef.kind: is WorkflowRun, but ResetBreaker is for an Activity or a Workflow"],
        id="a verb that is not for runs",
    ),
    pytest.param(
        {"targetRef": {"kind": "Activity", "name": "pay"}, "action": "ResetBreaker", "activity": "pay"},
        ["spec.activity: goes with a Workflow alone; all breakers of an Activity are reset"],
        id="an activity of an Activity",
    ),
    pytest.param(
        {"targetRef": {"kind": "Pod", "name": "pay"}, "action": "Retry"},
        ['spec.targetRef.kind: "Pod" is not one of WorkflowRun, Activity, Workflow'],
        id="a kind that nobody knows",
    ),
    pytest.param(
        {"targetRef": {"name": "order-1", "namespace": "x"}, "action": "Retry"},
        ["spec.targetRef.namespace: there is no such field; the fields here are kind, name, uid"],
        id="a run of another namespace",
    ),
    pytest.param(
        {**TARGET, "action": "Retry", "requestedBy": 7},
        ['spec.requestedBy: must be a string, but is the number 7; write "7"'],
        id="a number for a name",
    ),
])  # fmt: skip
def test_wrong_in_an_action_is(document: Any, told: list[str]) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_action_spec(document)
    assert [str(problem) for problem in caught.value.problems] == told


@pytest.mark.parametrize("value", [{"a": [1, None]}, "text", 0, False, None])
def test_a_signal_is_read_with_whatever_it_carries(value: Any) -> None:
    spec = parse_action_spec({**TARGET, "action": "Signal", "activity": "paid", "value": value})
    assert (spec.action, spec.activity, spec.value) == (Verb.SIGNAL, "paid", value)


@pytest.mark.parametrize("more", [
    pytest.param({"kind": "Activity"}, id="of an Activity"),
    pytest.param({"kind": "Workflow"}, id="of all activities of a Workflow"),
])  # fmt: skip
def test_a_reset_of_breakers_is_read(more: dict[str, str]) -> None:
    spec = parse_action_spec({"targetRef": {"name": "pay", **more}, "action": "ResetBreaker"})
    assert (spec.action, spec.target_ref.kind, spec.activity) == (Verb.RESET_BREAKER, more["kind"], None)


@pytest.mark.parametrize("verb", ["Approve", "Step", "Continue", "SetVariable"])
def test_a_verb_that_comes_later_is_told_as_such(verb: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_action_spec({**TARGET, "action": verb})
    told = f"spec.action: {verb} is not supported by this version of Kubesaga, which knows {KNOWN}"
    assert [str(problem) for problem in caught.value.problems] == [told]


def test_words_of_later_versions_are_none_of_this_one() -> None:
    for (model, name), words in parsing._LATER_WORDS.items():
        schema = model.model_json_schema(by_alias=True)
        field = schema["properties"][name]
        known = field.get("enum") or [field.get("const")]
        if "$ref" in field:
            known = schema["$defs"][field["$ref"].rpartition("/")[2]]["enum"]
        assert words.isdisjoint(known), (model, name)


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        pytest.param(("a", 2, "b"), "spec.a[2].b", id="names and numbers"),
        pytest.param(("set", "a-b"), 'spec.set["a-b"]', id="a name that is none"),
        pytest.param(("set", ""), 'spec.set[""]', id="an empty name"),
        pytest.param(("set", 'a"ü'), 'spec.set["a\\"ü"]', id="a name with quotes"),
    ],
)
def test_a_path_is_written_with(parts: tuple[str | int, ...], path: str) -> None:
    assert field_path("spec", *parts) == path


# --- statuses -------------------------------------------------------------------------------------------------------


def test_no_status_is_an_empty_one() -> None:
    assert parse_status(None) == parse_status({})
    assert parse_status(None).phase is None


def test_a_status_survives_the_wire() -> None:
    document = {
        "phase": "Running",
        "startTime": "2026-11-22T10:00:05.120Z",
        "conditions": [
            {"type": "Completed", "status": "False", "reason": "InProgress", "message": "x", "lastTransitionTime": "2026-11-22T10:00:05.120Z"}
        ],
        "activities": {"a": {"phase": "Failed", "error": {"reason": "OOMKilled", "message": "", "retryable": True}}},
    }  # fmt: skip
    assert parse_status(document).wire() == document


def test_what_a_newer_version_wrote_is_passed_over() -> None:
    status = parse_status(
        {
            "phase": "Running",
            "shards": 3,
            "conditions": [
                {"type": "A", "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z", "severity": 1}
            ],
            "activities": {"a": {"phase": "Running", "heartbeat": "x", "stopping": None}},
        }
    )  # fmt: skip
    assert status.phase is RunPhase.RUNNING
    assert status.activities["a"].phase is ActivityPhase.RUNNING


@pytest.mark.parametrize(
    ("document", "told"),
    [
        pytest.param({"phase": "Sleeping"}, 'status.phase: "Sleeping" is not one of Queued', id="a phase"),
        pytest.param(
            {"activities": {"a-1": {"phase": "Sleeping"}}},
            'status.activities["a-1"].phase: "Sleeping" is not one of Pending',
            id="a phase of an activity",
        ),
        pytest.param({"startTime": "yesterday"}, "status.startTime: ", id="a time"),
        pytest.param([], "status: must be an object, but is a list", id="no object"),
    ],
)
def test_a_status_that_cannot_be_read_is_told_by(document: Any, told: str) -> None:
    with pytest.raises(KubesagaError, match="this version of the operator cannot read the run's status") as caught:
        parse_status(document)
    assert told in str(caught.value)
    assert not isinstance(caught.value, InvalidSpec)
