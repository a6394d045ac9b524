# SPDX-License-Identifier: Apache-2.0
"""The CRDs: accepted by the API server, equal to the models, cheap, and strict where they can be."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.unit.api.api_server import broken_rules, refusals, refused_changes, structural_faults
from tools import generate_crds, generate_docs

from kubesaga.api.action import WorkflowActionSpec
from kubesaga.api.event_source import WorkflowEventSourceSpec
from kubesaga.api.fields import Model, parse_duration, parse_quantity
from kubesaga.api.names import API_VERSION
from kubesaga.api.parsing import parse_action_spec, parse_event_source_spec
from kubesaga.api.run import RunPhase, WorkflowRunSpec, WorkflowRunStatus
from kubesaga.api.schema import (
    RESOURCES,
    Resource,
    custom_resource_definition,
    plain_description,
    spec_schema,
    status_schema,
)
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.errors import InvalidSpec

LARGEST = 200 * 1024
"""`kubectl apply` keeps a second copy in an annotation, which may have 256 KiB."""

every_resource = pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.names["kind"])


def object_schema(resource: Resource) -> dict[str, Any]:
    (version,) = custom_resource_definition(resource)["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


# --- the CRD itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", generate_crds.rendered(), ids=lambda path: path.name)
def test_the_file_is_what_the_models_say(path: Any) -> None:
    assert path.read_text() == generate_crds.rendered()[path], "run make generate"


def test_the_reference_is_what_the_models_say() -> None:
    assert generate_docs.TARGET.read_text() == generate_docs.rendered(), "run make generate"


@pytest.mark.parametrize("path", generate_crds.rendered(), ids=lambda path: path.name)
def test_the_file_is_small_and_has_no_anchors(path: Any) -> None:
    text = path.read_text()
    assert len(json.dumps(yaml.safe_load(text), separators=(",", ":")).encode()) < LARGEST
    assert not any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))


@every_resource
@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
def test_kubernetes_knows_every_field_of_the_definition(resource: Resource, version: str) -> None:
    kubernetes_validate.validate(custom_resource_definition(resource), version, strict=True)


@every_resource
def test_the_schema_is_structural(resource: Resource) -> None:
    assert list(structural_faults(object_schema(resource))) == []


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        pytest.param({"type": "object", "title": "x"}, "title is not allowed", id="an unknown keyword"),
        pytest.param({"type": "object", "properties": {"a": {}}}, ".a: has no type", id="no type"),
        pytest.param(
            {"type": "object", "oneOf": [{"properties": {"a": {}}}]}, "a is not a property outside", id="a new property"
        ),
        pytest.param(
            {"type": "object", "not": {"type": "object"}}, "type is not allowed there", id="a type in a junctor"
        ),
        pytest.param(
            {"type": "object", "additionalProperties": False}, "additionalProperties: false", id="closed object"
        ),
        pytest.param(
            {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"],
                "items": {"type": "object", "properties": {"a": {"type": "string"}}},
            },
            "neither required nor has a default",
            id="an optional key",
        ),
    ],
)  # fmt: skip
def test_the_check_above_notices(schema: dict[str, Any], fault: str) -> None:
    assert any(fault in found for found in structural_faults(schema))


@every_resource
def test_every_field_that_people_see_is_described(resource: Resource) -> None:
    schema = object_schema(resource)["properties"]
    for half in ("spec", "status"):
        bare = [path for path, node in nodes(schema[half]) if not path.endswith("[]") and not node.get("description")]
        assert bare == []


@every_resource
def test_everything_that_people_write_is_bounded(resource: Resource) -> None:
    for path, node in nodes(object_schema(resource)["properties"]["spec"]):
        bound = {"string": "maxLength", "array": "maxItems"}.get(node.get("type", ""))
        assert bound is None or bound in node or "enum" in node, path
        assert not isinstance(node.get("additionalProperties"), dict) or "maxProperties" in node, path


@every_resource
def test_the_status_holds_what_another_version_writes(resource: Resource) -> None:
    status = object_schema(resource)["properties"]["status"]
    assert status["x-kubernetes-preserve-unknown-fields"] is True
    assert all("default" not in node for _, node in nodes(status))
    assert refusals(status, {"phase": "OfTomorrow", "reason": "OfTomorrow", "new": 1}) == []


def test_the_words_of_a_phase_are_told_all_the_same() -> None:
    described = status_schema(WorkflowRunStatus)["properties"]["phase"]["description"]
    assert described.endswith(f" One of {', '.join(RunPhase)}.")


def test_what_is_large_and_written_often_is_one_piece_to_the_api_server() -> None:
    run_spec = spec_schema(WorkflowRunSpec)["properties"]
    status = status_schema(WorkflowRunStatus)["properties"]
    for part in (run_spec["workflowSpec"], run_spec["inputs"], status["activities"], status["variables"]):
        assert part["x-kubernetes-map-type"] == "atomic"
        assert "properties" not in part
    assert run_spec["event"]["type"] == "string"


def test_names_that_are_keywords_of_schemas_stay_names() -> None:
    declared = spec_schema(WorkflowSpec)["properties"]["inputs"]["items"]["properties"]
    assert list(declared) == ["name", "type", "required", "default", "description"]
    assert declared["default"] == {
        "description": "The value where the run gives none. Not together with `required: true`.",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    assert "finally" in spec_schema(WorkflowSpec)["properties"]


GUARDS = (
    ("circuitBreaker.threshold", 5), ("circuitBreaker.timeout", "60s"), ("circuitBreaker.reset", "300s"),
    ("circuitBreaker.monitoring.enabled", True), ("circuitBreaker.monitoring.metrics", True),
    ("bulkhead.maxConcurrent", 10), ("bulkhead.maxQueueSize", 100), ("bulkhead.fallback.http.method", "GET"),
)  # fmt: skip
DEEDS = ("http.method", "errorHandling.fallback.http.method", "compensation.http.method")


def test_defaults_are_those_of_the_models() -> None:
    written = [(path, node["default"]) for path, node in nodes(spec_schema(WorkflowSpec)) if "default" in node]
    assert written == [
        (".inputs[].type", "string"),
        (".inputs[].required", False),
        *((f".activities[].{guard}", value) for guard, value in GUARDS),
        *((f".activities[].{place}", "GET") for place in DEEDS),
        *((f".finally[].{guard}", value) for guard, value in GUARDS),
        *((f".finally[].{place}", "GET") for place in DEEDS),
        (".errorHandling.activityError.fallback.http.method", "GET"),
        (".compensation.strategy", "Reverse"),
        (".compensation.mode", "Automatic"),
        (".compensation.timeout", "5m"),
        (".compensation.onCancel", True),
        (".compensation.inDoubt", "Undo"),
        (".compensation.activities[].http.method", "GET"),
        (".deletionPolicy", "Compensate"),
        (".concurrency.queuing.strategy", "FIFO"),
        (".concurrency.queuing.overflow", "Queue"),
        (".concurrency.onConflict", "Queue"),
        (".revisionHistoryLimit", 10),
    ]
    assert spec_schema(WorkflowRunSpec)["properties"]["suspend"]["default"] is False


@pytest.mark.parametrize(
    ("text", "described"),
    [
        pytest.param("One. (S86)\nTwo.", "One. Two.", id="the lines of a paragraph, without requirements"),
        pytest.param("One.\n\nTwo.", "One.", id="only the first paragraph"),
        pytest.param("May (S141-S144) be.", "May be.", id="a range of requirements"),
    ],
)
def test_a_description_is(text: str, described: str) -> None:
    assert plain_description(text) == described


def test_a_field_that_may_be_two_things_is_no_structural_schema() -> None:
    class Either(Model):
        it: int | str

    with pytest.raises(ValueError, match="too many values"):
        spec_schema(Either)


# --- schema and models agree ----------------------------------------------------------------------------------------

QUANTITIES = [
    "1",
    "0",
    "1.5",
    ".5",
    "1.",
    "100m",
    "64Mi",
    "1e3",
    "1E-3",
    "2k",
    "",
    "m",
    "-1",
    "1 Gi",
    "64MB",
    "1e333",
    "٣",
]
DURATIONS = ["1s", "90s", "1h30m", "2d", "500ms", "1.5h", "", "s", "1", "1 s", "-1s", "1w", "1s ", "٣s"]


@pytest.mark.parametrize("text", QUANTITIES, ids=repr)
def test_schema_and_model_agree_on_the_quantity(text: str) -> None:
    schema = spec_schema(WorkflowSpec)["properties"]["resources"]["properties"]["limits"]["properties"]["cpu"]
    assert bool(refusals(schema, text)) == fails(parse_quantity, text)


@pytest.mark.parametrize("text", DURATIONS, ids=repr)
def test_schema_and_model_agree_on_the_duration(text: str) -> None:
    assert bool(refusals(spec_schema(WorkflowSpec)["properties"]["timeout"], text)) == fails(parse_duration, text)


def fails(parse: Any, text: Any) -> bool:
    try:
        parse(text)
    except (ValueError, InvalidSpec):
        return True
    return False


# --- changes of a run -----------------------------------------------------------------------------------------------

BY_NAME: dict[str, Any] = {
    "workflowRef": {"name": "a"},
    "inputs": {"id": "1"},
    "event": '{"id": "1"}',
    "suspend": False,
}
INLINE: dict[str, Any] = {"workflowSpec": {"activities": [{"name": "a", "handler": "x"}]}, "suspend": False}
FIXED = "is fixed when the run is created"
GONE = "cannot be added or removed"
CHANGES = {
    "nothing": (BY_NAME, {}, []),
    "suspend": (BY_NAME, {"suspend": True}, []),
    "an order to shut down": (BY_NAME, {"shutdown": "Terminate"}, []),
    "nothing after an order to shut down": ({**BY_NAME, "shutdown": "Terminate"}, {}, []),
    "an order to shut down that is taken back": ({**BY_NAME, "shutdown": "Terminate"}, {"shutdown": None}, ["taken back"]),
    "another Workflow": (BY_NAME, {"workflowRef": {"name": "b"}}, [FIXED]),
    "another input": (BY_NAME, {"inputs": {"id": "2"}}, [FIXED]),
    "one more input": (BY_NAME, {"inputs": {"id": "1", "more": 1}}, [FIXED]),
    "no inputs": (BY_NAME, {"inputs": None}, [GONE]),
    "inputs where there were none": (INLINE, {"inputs": {"id": "1"}}, [GONE]),
    "another event": (BY_NAME, {"event": "{}"}, [FIXED]),
    "no event": (BY_NAME, {"event": None}, [GONE]),
    "another spec of its own": (INLINE, {"workflowSpec": {"activities": []}}, [FIXED]),
    "a spec of its own for a Workflow": (BY_NAME, {"workflowRef": None, **INLINE}, [GONE]),
    "everything": (BY_NAME, {"workflowRef": {"name": "b"}, "inputs": {}, "event": "{}"}, [FIXED, FIXED, FIXED]),
}  # fmt: skip


@pytest.mark.parametrize(("old", "change", "refused"), [pytest.param(*row, id=says) for says, row in CHANGES.items()])
def test_a_run_is_changed_by(old: dict[str, Any], change: dict[str, Any], refused: list[str]) -> None:
    new = {name: value for name, value in {**copy.deepcopy(old), **change}.items() if value is not None}
    messages = refused_changes(spec_schema(WorkflowRunSpec), old, new)
    assert len(messages) == len(refused)
    assert all(told in message for told, message in zip(refused, messages, strict=True)), messages


# --- WorkflowActions ------------------------------------------------------------------------------------------------

RETRY: dict[str, Any] = {"targetRef": {"kind": "WorkflowRun", "name": "order-1"}, "action": "Retry"}


@pytest.mark.parametrize("change", [
    pytest.param({"action": "Abandon"}, id="another action"),
    pytest.param({"targetRef": {"kind": "WorkflowRun", "name": "order-2"}}, id="another run"),
    pytest.param({"activity": "pay"}, id="an activity"),
    pytest.param({"requestedBy": "someone-else"}, id="another requester"),
])  # fmt: skip
def test_an_action_is_not_changed_by(change: dict[str, Any]) -> None:
    messages = refused_changes(spec_schema(WorkflowActionSpec), RETRY, {**RETRY, **change})
    assert messages == ["a WorkflowAction is never changed; create another one"]


def test_an_action_may_be_written_again_as_it_is() -> None:
    assert refused_changes(spec_schema(WorkflowActionSpec), RETRY, copy.deepcopy(RETRY)) == []


@pytest.mark.parametrize(("change", "refused"), [
    pytest.param({}, "", id="that all be tried again"),
    pytest.param({"activity": "pay"}, "", id="that one be tried again"),
    pytest.param({"action": "Skip", "activity": "pay"}, "", id="that one be left out"),
    pytest.param({"action": "Abandon", "comment": "", "requestedBy": ""}, "", id="with an empty comment"),
    pytest.param({"action": "Skip"}, "Skip and Signal need activity", id="that something be left out"),
    pytest.param({"action": "Signal"}, "Skip and Signal need activity", id="that somebody be told"),
    pytest.param({"action": "Signal", "activity": "paid", "value": {"by": "card"}}, "", id="that one be told something"),
    pytest.param({"action": "Signal", "activity": "paid", "value": "card"}, "", id="that one be told a word"),
    pytest.param({"action": "Abandon", "activity": "pay"}, "goes with Retry, Skip", id="that one be given up"),
    pytest.param({"action": "Compensate", "activity": "a"}, "goes with Retry, Skip", id="that one be undone"),
    pytest.param({"action": "Approve"}, "is not one of", id="what comes later"),
    pytest.param({"action": "retry"}, "is not one of", id="in small letters"),
    pytest.param({"targetRef": {"kind": "Job", "name": "a"}}, "is not one of", id="of another kind"),
    pytest.param({"targetRef": {"kind": "Activity", "name": "a"}}, "should not be valid under", id="of an Activity"),
    pytest.param({"action": "ResetBreaker"}, "should not be valid under", id="that the breakers of a run be reset"),
    pytest.param({"targetRef": {"kind": "Activity", "name": "a"}, "action": "ResetBreaker"}, "", id="that breakers be reset"),
    pytest.param(
        {"targetRef": {"kind": "Workflow", "name": "a"}, "action": "ResetBreaker", "activity": "b"}, "",
        id="that those of an activity be reset",
    ),
    pytest.param(
        {"targetRef": {"kind": "Activity", "name": "a"}, "action": "ResetBreaker", "activity": "b"},
        "goes with Retry, Skip", id="that those of an activity of an Activity be reset",
    ),
    pytest.param({"targetRef": {"name": "A"}}, "does not match", id="of what is no name"),
    pytest.param({"targetRef": {"name": "a", "uid": ""}}, "", id="of a run with an empty uid"),
    pytest.param({"comment": "x" * 1025}, "is too long", id="with too long a comment"),
])  # fmt: skip
def test_server_and_operator_agree_on_an_action_that_asks(change: dict[str, Any], refused: str) -> None:
    document, schema = {**RETRY, **change}, spec_schema(WorkflowActionSpec)
    told = [*refusals(schema, document), *(broken_rules(schema, document) if document["action"] != "Approve" else ())]
    read = fails(parse_action_spec, document)
    assert bool(told) is read
    assert not refused or any(refused in message for message in told), told


# --- WorkflowEventSources --------------------------------------------------------------------------------------------

REF: dict[str, Any] = {"secretRef": {"name": "desk", "key": "token"}}
HOOK: dict[str, Any] = {"type": '"a"', "id": "body.id"}
MAPS: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap"}
SOURCE: dict[str, Any] = {"type": "CloudEvents", "auth": {"hmac": REF}}


@pytest.mark.parametrize(("change", "told"), [
    pytest.param({}, "", id="signed CloudEvents"),
    pytest.param({"auth": {"bearer": REF}}, "", id="CloudEvents with a token"),
    pytest.param({"auth": {"none": {}}}, "", id="CloudEvents of everybody"),
    pytest.param({"type": "Thena"}, "", id="signed platform events"),
    pytest.param({"type": "Webhook", "mapping": HOOK}, "", id="a webhook with its mapping"),
    pytest.param({"type": "Webhook"}, "spec.mapping: is required for Webhook", id="a webhook without a mapping"),
    pytest.param({"mapping": HOOK}, "spec.mapping: goes with Webhook alone", id="CloudEvents with a mapping"),
    pytest.param({"type": "Webhook", "mapping": {"type": "x"}}, "spec.mapping.id: is required", id="a mapping without an id"),
    pytest.param({"type": "Webhook", "mapping": {**HOOK, "id": ""}}, "spec.mapping.id: must not be empty", id="a mapping with an empty expression"),
    pytest.param({"type": "Slack"}, "", id="Slack with its signing secret"),
    pytest.param({"type": "Slack", "auth": {"hmac": {**REF, "tolerance": "2m"}}}, "", id="Slack with a tolerance"),
    pytest.param({"type": "Slack", "auth": {"bearer": REF}}, "spec.auth.hmac: is required for Slack", id="Slack with a token"),
    pytest.param({"type": "Slack", "auth": {"hmac": {**REF, "header": "X-A"}}}, "spec.auth.hmac.header: is Slack's own", id="Slack with a header"),
    pytest.param({"type": "Slack", "auth": {"hmac": {**REF, "encoding": "Hex"}}}, "spec.auth.hmac.encoding: is Slack's own", id="Slack with an encoding"),
    pytest.param({"type": "Kubernetes"}, "spec.auth: is about deliveries, and Kubernetes has none", id="objects with a way to prove it"),
    pytest.param({"kubernetes": MAPS}, "spec.kubernetes: goes with Kubernetes alone; CloudEvents has none", id="CloudEvents with objects"),
    pytest.param({"type": "cloudevents"}, "spec.type: ", id="a type in small letters"),
    pytest.param({"auth": {}}, "spec.auth: must have exactly one of hmac, bearer and none, but has none of them", id="no way to prove anything"),
    pytest.param({"auth": {"none": {}, "hmac": REF}}, "but has hmac and none", id="two ways to prove it"),
    pytest.param({"auth": {"hmac": {}}}, "spec.auth.hmac.secretRef: is required", id="a signature without a secret"),
    pytest.param({"auth": {"hmac": {"secretRef": {"name": "Desk", "key": "a"}}}}, "spec.auth.hmac.secretRef.name: ", id="a name that is none"),
    pytest.param({"auth": {"hmac": {"secretRef": {"name": "desk", "key": "a/b"}}}}, "spec.auth.hmac.secretRef.key: ", id="a key that is none"),
    pytest.param({"auth": {"hmac": {**REF, "header": "X A"}}}, "spec.auth.hmac.header: ", id="a header that is none"),
    pytest.param({"eventTypes": [{"type": "ticket:*"}, {"type": "a", "class": "System", "schema": {"type": "object"}}]}, "", id="types"),
    pytest.param({"eventTypes": [{"type": "ticket:*:x"}]}, "spec.eventTypes[0].type: ", id="a star in the middle"),
    pytest.param({"eventTypes": [{"type": "a", "class": "system"}]}, "spec.eventTypes[0].class: ", id="a class that is none"),
    pytest.param({"rateLimit": {"limit": 10, "period": "1s"}}, "", id="a rate limit"),
    pytest.param({"rateLimit": {"limit": 0, "period": "1s"}}, "spec.rateLimit.limit: must be at least 1", id="a rate of nothing"),
    pytest.param({"maxBodyBytes": 1048577}, "spec.maxBodyBytes: must be at most 1048576", id="a body over the cap"),
])  # fmt: skip
def test_server_and_gateway_agree_on_the_source(change: dict[str, Any], told: str) -> None:
    document, schema = {**SOURCE, **change}, spec_schema(WorkflowEventSourceSpec)
    said = ""
    try:
        parse_event_source_spec(document)
    except InvalidSpec as error:
        said = str(error)
    assert bool(refusals(schema, document)) is bool(said), (said, refusals(schema, document))
    assert bool(said) is bool(told)
    assert told in said


@pytest.mark.parametrize(("change", "told"), [
    pytest.param({}, "", id="of a kind"),
    pytest.param({"apiVersion": "apps/v1", "kind": "Deployment", "events": ["Added", "Deleted"], "when": "true"}, "", id="of a group, some changes of which"),
    pytest.param({"selector": {"matchLabels": {"acme.dev/team": "desk", "x": ""}}}, "", id="with labels"),
    pytest.param({"selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}, {"key": "c", "operator": "DoesNotExist"}]}}, "", id="with labels compared in other ways"),
    pytest.param({"apiVersion": None}, "spec.kubernetes.apiVersion: ", id="without an apiVersion"),
    pytest.param({"apiVersion": "apps"}, "spec.kubernetes.apiVersion: 'apps' is not an apiVersion", id="with a group for an apiVersion"),
    pytest.param({"kind": "configmaps"}, "spec.kubernetes.kind: 'configmaps' is not a kind", id="with a plural for a kind"),
    pytest.param({"events": ["added"]}, "spec.kubernetes.events[0]: ", id="with an event in small letters"),
    pytest.param({"events": []}, "spec.kubernetes.events: must have at least 1 entry", id="of which nothing counts"),
    pytest.param({"when": ""}, "spec.kubernetes.when: must not be empty", id="with an empty when"),
    pytest.param({"selector": {"matchLabels": {"a": "b,c"}}}, "spec.kubernetes.selector.matchLabels.a: 'b,c' is not the value of a label", id="with what is no label"),
    pytest.param({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "matchExpressions[0].values: is required with In", id="with a comparison to nothing"),
    pytest.param({"selector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}, "values: does not go with Exists", id="with a comparison that takes no values"),
    pytest.param({"selector": {"matchExpressions": [{"key": "a b", "operator": "Exists"}]}}, "matchExpressions[0].key: 'a b' is not the name of a label", id="with the name of no label"),
])  # fmt: skip
def test_server_and_operator_agree_on_a_source_of_objects(change: dict[str, Any], told: str) -> None:
    objects = {name: value for name, value in {**MAPS, **change}.items() if value is not None}
    document, schema = {"type": "Kubernetes", "kubernetes": objects}, spec_schema(WorkflowEventSourceSpec)
    said = ""
    try:
        parse_event_source_spec(document)
    except InvalidSpec as error:
        said = str(error)
    assert bool(refusals(schema, document)) is bool(said), (said, refusals(schema, document))
    assert bool(said) is bool(told)
    assert told in said


@pytest.mark.parametrize("name", ["auth", "mapping", "eventTypes", "rateLimit", "maxBodyBytes"])
def test_what_is_about_deliveries_is_refused_beside_objects(name: str) -> None:
    given = {
        "auth": {"none": {}}, "mapping": HOOK, "eventTypes": [], "rateLimit": {"limit": 1, "period": "1s"}, "maxBodyBytes": 1,
    }  # fmt: skip
    document = {"type": "Kubernetes", "kubernetes": MAPS, name: given[name]}
    assert refusals(spec_schema(WorkflowEventSourceSpec), document)
    with pytest.raises(InvalidSpec) as caught:
        parse_event_source_spec(document)
    assert [problem.path for problem in caught.value.problems] == [f"spec.{name}"]


@pytest.mark.parametrize(("labels", "problem"), [
    pytest.param({"a b": "c"}, "'a b' is not the name of a label", id="a blank"),
    pytest.param({"a,b": "c"}, "'a,b' is not the name of a label", id="a comma, which would be another selector"),
    pytest.param({"x" * 318: "c"}, "is not the name of a label", id="too many letters"),
])  # fmt: skip
def test_the_operator_takes_no_label_of_a_name_with(labels: dict[str, str], problem: str) -> None:
    """The API server's schema says nothing of the keys of an object."""
    with pytest.raises(InvalidSpec) as caught:
        parse_event_source_spec({"type": "Kubernetes", "kubernetes": {**MAPS, "selector": {"matchLabels": labels}}})
    assert problem in str(caught.value)


@pytest.mark.parametrize(("hmac", "told"), [
    pytest.param({"tolerance": "1m"}, "spec.auth.hmac.tolerance: needs timestampHeader", id="without a time"),
    pytest.param({"timestampHeader": "X-Time", "tolerance": "2h"}, "spec.auth.hmac.tolerance: 2h is too long", id="of hours"),
    pytest.param({"timestampHeader": "X-Time", "tolerance": "soon"}, "spec.auth.hmac.tolerance: 'soon' is not a duration", id="that is none"),
])  # fmt: skip
def test_the_gateway_takes_no_tolerance(hmac: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_event_source_spec({**SOURCE, "auth": {"hmac": {**REF, **hmac}}})
    assert told in str(caught.value)


def test_the_rules_are_few_and_cost_next_to_nothing() -> None:
    rules = [
        (path, rule["rule"])
        for resource in RESOURCES
        for path, node in nodes(object_schema(resource))
        for rule in node.get("x-kubernetes-validations", ())
    ]
    assert len(rules) <= 10
    # Macros over lists are what the API server's cost estimate refuses, and what every status write would pay for.
    assert all(macro not in rule for _, rule in rules for macro in ("all(", "exists", "map(", "filter(", "matches"))
    assert all("[]" not in path for path, _ in rules), "a rule in a list is paid for by each entry"


# --- columns and names ----------------------------------------------------------------------------------------------


@every_resource
def test_columns_show_fields_that_there_are(resource: Resource) -> None:
    fields = {path for path, _ in nodes(object_schema(resource))} | {".metadata.creationTimestamp"}
    shown = {column["jsonPath"].split("[")[0] for column in resource.names["columns"]}
    assert shown <= fields


def test_names_do_not_collide_with_other_workflow_engines() -> None:
    short = [name for resource in RESOURCES for name in resource.names["shortNames"]]
    assert short == ["kwf", "kwr", "kact", "kwa", "kes"]
    assert {"wf", "wr"}.isdisjoint(short)
    assert json.dumps([custom_resource_definition(resource) for resource in RESOURCES]).count('"kubesaga"') == len(
        RESOURCES
    )
    assert API_VERSION == "kubesaga.dev/v1alpha1"
