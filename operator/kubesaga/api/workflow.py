# SPDX-License-Identifier: Apache-2.0
"""Workflow: what to do. Every field here works; one that is to come enters with the change that makes it work."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from kubesaga.api.conditions import ConditionList
from kubesaga.api.failure import Compensation, ErrorHandling, Undo, WorkflowErrorHandling
from kubesaga.api.fields import (
    ActivityName,
    AnyValue,
    Duration,
    Expression,
    Model,
    ObjectName,
    OpaqueObject,
    Time,
    VariableName,
)
from kubesaga.api.guard_status import GuardsStatus
from kubesaga.api.limits import Concurrency, Guarded
from kubesaga.api.triggers import EventPattern, ScheduleMap, Triggers, TriggerStateMap
from kubesaga.api.waits import WAITS, Sleep, WaitFor
from kubesaga.api.work import INLINE, Resources, Work, one_of

MAX_ACTIVITIES = 500


HistoryLimit = Annotated[int, Field(ge=0, le=100_000)]
"""How many of something are kept. etcd is no archive: beyond this somebody means "all", which is no limit at all."""


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


class _Named(Model):
    name: ActivityName
    """Unique in the Workflow, `finally` included, and not `skip`. `${activities.NAME.output}` reads what it yields."""


class Activity(Work, Guarded, _Named):
    """One step: at most one of `uses`, `pod`, `http`, `handler`, `sleep` and `waitFor`, and what stands around it. With none it uses the Activity of its own name."""

    model_config = ConfigDict(json_schema_extra=one_of("uses", *INLINE, *WAITS, or_none=True))

    sleep: Sleep | None = None
    """Wait until a time has come."""
    wait_for: WaitFor | None = None
    """Wait for an event, or for a WorkflowAction Signal."""

    when: Expression | None = None
    """A CEL condition; where it is false the activity is Skipped, which satisfies those that depend on it."""
    depends_on: (
        Annotated[
            list[ActivityName], Field(max_length=MAX_ACTIVITIES, json_schema_extra={"x-kubernetes-list-type": "set"})
        ]
        | None
    ) = None
    """The activities that must have ended well before. Default: the one before in the list; `[]`: none."""
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
    error_handling: ErrorHandling | None = None
    """What happens when it fails; overrides the Workflow's `errorHandling.activityError`, field by field."""
    compensation: Undo | None = None
    """How to undo it, should the run fail after it. Not in `finally`."""

    @property
    def wait(self) -> Sleep | WaitFor | None:
        """What it waits for, where it does nothing else."""
        return self.sleep or self.wait_for


def wait_of(work: Work) -> Sleep | WaitFor | None:
    """Return what a deed waits for; None: it does something. Undos and fallbacks never wait."""
    return work.wait if isinstance(work, Activity) else None


class WorkflowSpec(Model):
    """What to do."""

    description: Annotated[str, Field(max_length=4096)] | None = None
    """What the Workflow is for, for people."""
    suspend: bool | None = None
    """true: its triggers start no runs. Ticks that pass meanwhile are not made up for; runs under way go on. Not in a run's own spec."""
    triggers: Triggers = Field(default_factory=list)
    """What starts runs: events and schedules. Not in a run's own spec."""
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
    """In order, after everything else has ended, whether well or not, undoing included; only `shutdown: Terminate` leaves them out."""
    outputs: OpaqueObject | None = None
    """The run's outputs, evaluated when it succeeds."""
    resources: Resources | None = None
    """Default of the pods of all activities."""
    service_account_name: ObjectName | None = None
    """ServiceAccount of the pods. Its token is not mounted."""
    error_handling: WorkflowErrorHandling | None = None
    """What happens when something fails."""
    compensation: Compensation | None = None
    """How the run is undone when it fails or is cancelled."""
    deletion_policy: Literal["Compensate", "Abandon"] = "Compensate"
    """What becomes of a live run that is deleted. Compensate: it is stopped and undone, then it goes. Abandon: it is stopped and left as it is."""
    concurrency: Concurrency | None = None
    """How much of it may happen at once, and how the rest waits."""
    timeout: Duration | None = None
    """Longest time of a whole run, from its start. `finally` has the same time again, from its own start."""
    ttl_after_finished: Duration | None = None
    """How long a finished run stays, counted from its completion; then it is deleted with its pods. Unset: for ever."""
    successful_runs_history_limit: HistoryLimit | None = None
    """How many runs that are Succeeded stay; the oldest beyond that are deleted. Unset: all. Not in a run's own spec."""
    failed_runs_history_limit: HistoryLimit | None = None
    """The same for runs that finished in any other phase."""
    revision_history_limit: HistoryLimit = 10
    """How many old revisions stay that no stored run names, beside those that one names and the current one. Not in a run's own spec."""


class WorkflowStatus(GuardsStatus):
    """What the operator found."""

    observed_generation: int | None = None
    """The `metadata.generation` that this status is about."""
    current_revision: str | None = None
    """The ControllerRevision that new runs work from."""
    conditions: ConditionList = Field(default_factory=list)
    """`Ready`: the Workflow is valid and runs of it can start. `Ready: False` names the field that is wrong."""
    last_schedule_time: Time | None = None
    """The last tick of any of its schedules that got a run."""
    next_schedule_time: Time | None = None
    """The next tick of any of its schedules."""
    schedules: ScheduleMap | None = None
    """How far each schedule has come, by the trigger's name."""
    triggers: TriggerStateMap | None = None
    """Of each trigger about events that sets `failureLimit`, how often in a row its runs have failed, by its name."""
    awaited_events: list[EventPattern] | None = None
    """The types of event that live runs may wait for, those of older revisions included, and that do not come by key: for these a messenger is made."""


def resource_kind() -> dict[str, Any]:
    """Return names, columns and the like of the CRD."""
    return {
        "kind": "Workflow",
        "plural": "workflows",
        "singular": "workflow",
        "shortNames": ["kwf"],
        "columns": [
            {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
            {"name": "Next", "type": "string", "jsonPath": ".status.nextScheduleTime"},
            {"name": "Suspended", "type": "boolean", "jsonPath": ".spec.suspend"},
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
