# SPDX-License-Identifier: Apache-2.0
"""Workflow: what to do. Every field here works; one that is to come enters with the change that makes it work."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from kubesaga.api.conditions import Condition, ConditionList
from kubesaga.api.fields import (
    ActivityName,
    AnyValue,
    Duration,
    EnvName,
    Expression,
    Model,
    ObjectName,
    OpaqueObject,
    Quantity,
    VariableName,
)

MAX_ACTIVITIES = 500


class InputType(StrEnum):
    """The JSON type of an input."""

    STRING = "string"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    OBJECT = "object"
    ARRAY = "array"


class Input(Model):
    """One value that a run must or may be given. It is checked before the run starts."""

    model_config = ConfigDict(
        json_schema_extra={"not": {"required": ["default", "required"], "properties": {"required": {"enum": [True]}}}}
    )

    name: VariableName
    """Read as `${inputs.NAME}`; also the name of a variable that starts with its value."""
    type: InputType = InputType.STRING
    """The JSON type that the value must have."""
    required: bool = False
    """A run without this input is refused (reason InvalidInput)."""
    default: AnyValue = None
    """The value where the run gives none. Not together with `required: true`."""
    description: Annotated[str, Field(max_length=1024)] | None = None
    """What it is for, for people."""


class KeySelector(Model):
    """One key of a Secret or ConfigMap of the run's namespace. The kubelet reads it; the operator never does."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: Annotated[str, Field(min_length=1, max_length=253)]
    """The key in it."""
    optional: bool | None = None
    """True: where the object or the key is missing the variable is not set, instead of the pod not starting."""


class EnvSource(Model):
    """Where the value of an environment variable comes from: exactly one of the two."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["secretKeyRef"]}, {"required": ["configMapKeyRef"]}]}
    )

    secret_key_ref: KeySelector | None = None
    """A key of a Secret of the run's namespace. The kubelet reads it; the operator never does."""
    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap of the run's namespace."""


class EnvVar(Model):
    """An environment variable: a value, which may hold `${…}`, or a source."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["value"]}, {"required": ["valueFrom"]}]})

    name: EnvName
    """Names that start with `KUBESAGA_` are the operator's."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """The value; may hold `${…}`."""
    value_from: EnvSource | None = None
    """Where the value comes from, instead of `value`."""


class PodActivity(Model):
    """Run one container to its end in a pod of its own, one pod an attempt.

    The container's termination message (at most 4 KiB) is the output: JSON, else `{"message": TEXT}`.
    There are no expressions in `image`, `command` and `args`: `${HOME}` is the shell's. Values go in by `env` and `params`.
    """

    image: Annotated[str, Field(min_length=1, max_length=1024)]
    """The container's image."""
    command: Annotated[list[Annotated[str, Field(max_length=65536)]], Field(max_length=256)] | None = None
    """Instead of the image's entrypoint."""
    args: Annotated[list[Annotated[str, Field(max_length=65536)]], Field(max_length=256)] | None = None
    """Arguments of the command, instead of the image's."""
    env: (
        Annotated[
            list[EnvVar],
            Field(
                max_length=256,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            ),
        ]
        | None
    ) = None
    """Environment variables, beside those that every pod is given (`KUBESAGA_PARAMS` and the like)."""
    working_dir: Annotated[str, Field(max_length=1024)] | None = None
    """Instead of the image's working directory."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When to pull the image. Default: as Kubernetes does, or as the administrator has set."""


class HttpActivity(Model):
    """Send one HTTP request from the operator, through the egress guard.

    Reached are public addresses, Services of the run's own namespace by name (`http://NAME[:PORT]`), and what the
    administrator allows. The output is the JSON body of the answer (`{"body": TEXT}` where it is no JSON object).
    """

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    """The request's method."""
    url: Annotated[str, Field(min_length=1, max_length=8192)]
    """Where to: `http://…` or `https://…`; may hold `${…}`."""
    headers: Annotated[dict[str, Annotated[str, Field(max_length=8192)]], Field(max_length=64)] | None = None
    """Sent as they are; values may hold `${…}`. They are not secret: they stand in the Workflow."""
    body: AnyValue = None
    """Sent as JSON; a string is sent as text. May hold `${…}` anywhere."""
    expected_status: (
        Annotated[list[Annotated[int, Field(ge=100, le=599)]], Field(min_length=1, max_length=64)] | None
    ) = None
    """The statuses that count as success. Default: 200 to 299."""


class ResourceList(Model):
    """Amounts of CPU and memory."""

    cpu: Quantity | None = None
    """In CPUs: `2`, `500m`."""
    memory: Quantity | None = None
    """In bytes: `64Mi`, `1Gi`."""


class Resources(Model):
    """What a pod's container asks for and may use at most (S141-S144). A request is never above its limit."""

    requests: ResourceList | None = None
    """What is kept free for it on its node."""
    limits: ResourceList | None = None
    """What it may use at most; above its memory limit it is killed (OOMKilled)."""


class Backoff(Model):
    """How long to wait before another attempt (S121, S122): `initial`, then `multiplier` times as long each time."""

    initial: Duration | None = None
    """Before the second attempt. Default: 1s."""
    multiplier: Annotated[float, Field(ge=1, le=100)] | None = None
    """How much longer each wait is than the one before. Default: 2."""
    max: Duration | None = None
    """The longest wait. Default: 1m."""
    jitter: Annotated[float, Field(ge=0, le=1)] | None = None
    """Each wait is longer or shorter by up to this share, so that not all come back at once. Default: 0.1."""


class Retry(Model):
    """When a failed activity is tried again. What is not given here is the Workflow's, then the default."""

    max_attempts: Annotated[int, Field(ge=1, le=1000)] | None = None
    """The most attempts, the first included (S120). Evictions and lost nodes do not count. Default: 3."""
    backoff: Backoff | None = None
    """How long to wait before another attempt."""
    when: Expression | None = None
    """A CEL condition over `error` {reason, message, retryable} and the other roots. Default: `error.retryable`."""
    budget: Duration | None = None
    """No further attempt starts later than this after the first one started. Default: none."""


class ErrorHandling(Model):
    """What happens when an activity fails."""

    retry: Retry | None = None
    """Trying again."""


class WorkflowErrorHandling(Model):
    """What happens when something fails."""

    activity_error: ErrorHandling | None = None
    """The default of every activity, field by field."""


class Activity(Model):
    """One step: exactly one of `pod`, `http` and `handler`, and what stands around it."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["pod"]}, {"required": ["http"]}, {"required": ["handler"]}]}
    )

    name: ActivityName
    """Unique in the Workflow, `finally` included, and not `skip`. `${activities.NAME.output}` reads what it yields."""
    pod: PodActivity | None = None
    """Run one container to its end, in a pod of its own."""
    http: HttpActivity | None = None
    """Send one HTTP request."""
    handler: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """The id of a Python function registered in the operator with `@kubesaga.activity(ID)`."""
    params: OpaqueObject | None = None
    """The input of a pod (as KUBESAGA_PARAMS, JSON) or handler; may hold `${…}` anywhere. An http activity has none."""
    when: Expression | None = None
    """A CEL condition; where it is false the activity is Skipped, which satisfies those that depend on it."""
    depends_on: (
        Annotated[
            list[ActivityName], Field(max_length=MAX_ACTIVITIES, json_schema_extra={"x-kubernetes-list-type": "set"})
        ]
        | None
    ) = None
    """The activities that must have ended well before. Default: the one before in the list; `[]`: none."""
    timeout: Duration | None = None
    """Longest time of one attempt, from its start in the status; a pod's start-up counts."""
    set: (
        Annotated[
            dict[VariableName, AnyValue],
            Field(max_length=64),
            WithJsonSchema(
                {
                    "type": "object",
                    "maxProperties": 64,
                    "additionalProperties": {"x-kubernetes-preserve-unknown-fields": True},
                }
            ),
        ]
        | None
    ) = None
    """Variables to set after success, from `${output…}`."""
    resources: Resources | None = None
    """Of a pod; overrides the Workflow's, field by field."""
    error_handling: ErrorHandling | None = None
    """What happens when it fails; overrides the Workflow's `errorHandling.activityError`, field by field."""


class WorkflowSpec(Model):
    """What to do."""

    description: Annotated[str, Field(max_length=4096)] | None = None
    """What the Workflow is for, for people."""
    inputs: Annotated[
        list[Input],
        Field(
            max_length=64, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = Field(default_factory=list)
    """What a run is given."""
    variables: OpaqueObject | None = None
    """Values that activities read as `${workflow.NAME}` and change by `set`. Inputs are variables too."""
    activities: Annotated[
        list[Activity],
        Field(
            min_length=1,
            max_length=MAX_ACTIVITIES,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    """In order; `dependsOn` makes a DAG."""
    finally_: Annotated[
        list[Activity],
        Field(
            alias="finally",
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list)
    """In order, after everything else has ended, whether well or not; only `shutdown: Terminate` leaves them out."""
    outputs: OpaqueObject | None = None
    """The run's outputs, evaluated when it succeeds."""
    resources: Resources | None = None
    """Default of the pods of all activities."""
    service_account_name: ObjectName | None = None
    """ServiceAccount of the pods. Its token is not mounted."""
    error_handling: WorkflowErrorHandling | None = None
    """What happens when something fails."""
    timeout: Duration | None = None
    """Longest time of a whole run, from its start. `finally` has the same time again, from its own start."""


class WorkflowStatus(Model):
    """What the operator found."""

    observed_generation: int | None = None
    """The `metadata.generation` that this status is about."""
    current_revision: str | None = None
    """The ControllerRevision that new runs work from."""
    conditions: ConditionList = Field(default_factory=list)
    """`Ready`: the Workflow is valid and runs of it can start. `Ready: False` names the field that is wrong."""


def resource_kind() -> dict[str, Any]:
    """Return names, columns and the like of the CRD."""
    return {
        "kind": "Workflow",
        "plural": "workflows",
        "singular": "workflow",
        "shortNames": ["kwf"],
        "columns": [
            {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
            {"name": "Revision", "type": "string", "jsonPath": ".status.currentRevision", "priority": 1},
            {
                "name": "Reason",
                "type": "string",
                "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
                "priority": 1,
            },
            {"name": "Description", "type": "string", "jsonPath": ".spec.description", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }


__all__ = [
    "MAX_ACTIVITIES", "Activity", "Backoff", "Condition", "EnvSource", "EnvVar", "ErrorHandling", "HttpActivity", "Input", "InputType", "KeySelector",
    "PodActivity", "ResourceList", "Resources", "Retry", "WorkflowErrorHandling", "WorkflowSpec", "WorkflowStatus", "resource_kind",
]  # fmt: skip
