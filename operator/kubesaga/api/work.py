# SPDX-License-Identifier: Apache-2.0
"""What can be done: a container run, an HTTP request sent, a Python function called. Doing, undoing and falling back share it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from kubesaga.api.fields import AnyValue, Duration, EnvName, Model, ObjectName, OpaqueObject, Quantity, matching


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


class Toleration(Model):
    """A taint of nodes that the pod bears, as in a Pod's `tolerations`."""

    key: Annotated[str, Field(min_length=1, max_length=317)] | None = None
    """The taint's key; none, with `operator: Exists`: every taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """Equal (the default): the taint must have `value`. Exists: whatever its value."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; none: all effects."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """How long the pod stays on a node that gets a taint of effect NoExecute; none: for ever."""


class PodSecurityContext(Model):
    """Who the container runs as. The rest is fixed: no privileges, no capabilities, the runtime's default seccomp profile."""

    run_as_non_root: bool | None = None
    """True: the kubelet does not start a container that would run as root. Namespaces of the `restricted` standard ask for it."""
    run_as_user: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """The user's number, instead of the image's."""
    run_as_group: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """The group's number, instead of the image's."""


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
    node_selector: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)] | None = None
    """Labels that the pod's node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] | None = None
    """Taints of nodes that the pod bears."""
    priority_class_name: ObjectName | None = None
    """The PriorityClass of the pod: who is scheduled first, and who must give way."""
    security_context: PodSecurityContext | None = None
    """Who the container runs as. Default: the image's user."""


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


ACTIVITY_ID: Final = r"[A-Za-z0-9_]([A-Za-z0-9_.:/-]*[A-Za-z0-9_])?"

ActivityId = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(ACTIVITY_ID, "is not the id of an Activity; use letters, digits, _, and between them -, ., : and /"),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 253, "pattern": f"^{ACTIVITY_ID}$"}),
]
"""What `uses` names: an Activity's name, in which `:` may stand for `.`, or one of its aliases."""

INLINE: Final = ("pod", "http", "handler")
"""The ways to say oneself what is done."""


def one_of(*names: str, or_none: bool = False) -> dict[str, Any]:
    """Return the schema of an object that has exactly one of these fields; with `or_none`, at most one."""
    choices: list[dict[str, Any]] = [{"required": [name]} for name in names]
    return {"oneOf": [*choices, {"not": {"anyOf": list(choices)}}] if or_none else choices}


class Work(Model):
    """One thing to do: exactly one of `uses`, `pod`, `http` and `handler`, and what it is given."""

    model_config = ConfigDict(json_schema_extra=one_of("uses", *INLINE))

    uses: ActivityId | None = None
    """The id of an Activity, of the run's namespace or of the operator's catalogue: it says what is done."""
    pod: PodActivity | None = None
    """Run one container to its end, in a pod of its own."""
    http: HttpActivity | None = None
    """Send one HTTP request."""
    handler: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """The id of a Python function registered in the operator with `@kubesaga.activity(ID)`."""
    params: OpaqueObject | None = None
    """The input of a pod (as KUBESAGA_PARAMS, JSON), of a handler, or of the Activity that is used; may hold `${…}` anywhere. An http request has none."""
    timeout: Duration | None = None
    """Longest time of one attempt, from its start in the status; a pod's start-up counts."""
    resources: Resources | None = None
    """Of a pod; overrides the Workflow's, field by field."""
