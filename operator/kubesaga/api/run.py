# SPDX-License-Identifier: Apache-2.0
"""WorkflowRun: one execution of a Workflow. Its status is the only record of what happened."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from kubesaga.api.conditions import ConditionList
from kubesaga.api.deed import ActivityStatus, UndoStatus
from kubesaga.api.failure import ErrorStrategy
from kubesaga.api.fields import (
    IMMUTABLE,
    OPAQUE_LIST,
    OPAQUE_OBJECT,
    ActivityName,
    AnyValue,
    Model,
    ObjectName,
    OpaqueObject,
    Time,
)
from kubesaga.api.reasons import Reason


class RunPhase(StrEnum):
    """A run in one word. The last five are final: a finished run never starts again."""

    QUEUED = "Queued"
    RUNNING = "Running"
    WAITING = "Waiting"
    PAUSED = "Paused"
    COMPENSATING = "Compensating"
    COMPENSATION_FAILED = "CompensationFailed"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    COMPENSATED = "Compensated"
    CANCELLED = "Cancelled"
    TERMINATED = "Terminated"

    @property
    def finished(self) -> bool:
        """Tell whether the phase is final."""
        return self in _FINISHED


_FINISHED: Final = frozenset(
    {RunPhase.SUCCEEDED, RunPhase.FAILED, RunPhase.COMPENSATED, RunPhase.CANCELLED, RunPhase.TERMINATED}
)


class BlockedBy(StrEnum):
    """What keeps a run, or an attempt, from starting."""

    MAX_WORKFLOWS = "maxWorkflows"
    MAX_ACTIVITIES = "maxActivities"
    OPERATOR_MAX_WORKFLOWS = "operatorMaxWorkflows"
    OPERATOR_MAX_ACTIVITIES = "operatorMaxActivities"
    KEY = "key"
    BULKHEAD = "bulkhead"
    RATE_LIMIT = "rateLimit"
    CIRCUIT_BREAKER = "circuitBreaker"


class WorkflowRef(Model):
    """A Workflow of the run's namespace."""

    name: ObjectName
    """The Workflow's name."""


class ReplayOf(Model):
    """Another run, from whose record this one is made."""

    run: ObjectName
    """The run, of this namespace; it must have finished."""
    activity: ActivityName | None = None
    """Where to begin. Without it: what did not succeed, or was undone, is done again."""
    mode: Literal["From", "Activity"] = "From"
    """From: this activity and all that come after it, the others are taken over with their outputs. Activity: this one alone, with its recorded input."""
    dry_run: bool = False
    """True: only say what would be taken over and what done."""


_FIXED: Final = ("workflowRef", "workflowSpec", "inputs", "event", "replayOf")
_DELIVERS: Final = "(has(self.deliver) && self.deliver)"
_DELIVERED: Final = "(has(oldSelf.deliver) && oldSelf.deliver)"
_RUN_RULES: Final[dict[str, Any]] = {
    "oneOf": [{"required": ["workflowRef"]}, {"required": ["workflowSpec"]}, {"required": ["replayOf"]}],
    "x-kubernetes-validations": [
        {
            "rule": " && ".join(
                [*(f"has(self.{name}) == has(oldSelf.{name})" for name in _FIXED), f"{_DELIVERS} == {_DELIVERED}"]
            ),
            "message": f"{', '.join(_FIXED)} cannot be added or removed, nor deliver changed; create another WorkflowRun",
        },
        {
            "rule": "has(self.shutdown) || !has(oldSelf.shutdown)",
            "message": "shutdown cannot be taken back: activities may have stopped already; create another WorkflowRun",
        },
    ],
}


class WorkflowRunSpec(Model):
    """What to run. Immutable but for `priority`, `suspend` and `shutdown`."""

    model_config = ConfigDict(json_schema_extra=_RUN_RULES)

    workflow_ref: Annotated[WorkflowRef | None, Field(json_schema_extra=IMMUTABLE)] = None
    """The Workflow to run."""
    workflow_spec: Annotated[dict[str, Any] | None, WithJsonSchema({**OPAQUE_OBJECT, **IMMUTABLE})] = None
    """A Workflow's spec written into the run, instead of `workflowRef`."""
    inputs: Annotated[OpaqueObject | None, Field(json_schema_extra=IMMUTABLE)] = None
    """By name; checked against the Workflow's inputs before the run starts."""
    event: Annotated[str | None, Field(max_length=65536, json_schema_extra=IMMUTABLE)] = None
    """The CloudEvent that caused the run, as one JSON string; read as `${event…}`."""
    deliver: bool = False
    """True: it starts nothing. Its `event` is given to those live runs of the Workflow that wait for it (`waitFor.event`)."""
    replay_of: Annotated[ReplayOf | None, Field(json_schema_extra=IMMUTABLE)] = None
    """Another run that is taken up again, instead of `workflowRef`: from its revision, inputs and event."""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    """With `queuing.strategy: Priority`, the higher one starts first. It may be changed while the run waits."""
    suspend: bool = False
    """True: nothing new starts; what runs goes on to its end."""
    shutdown: Literal["Cancel", "Compensate", "Terminate"] | None = None
    """Cancel: stop what runs, undo what was done unless `compensation.onCancel` is false. Compensate: the same, and undo in any case.

    Terminate: stop what runs, start nothing more, neither undos nor `finally`. It cannot be taken back, only raised.
    """


class CompensationStatus(Model):
    """What is known of the undoing of a run."""

    request_time: Time | None = None
    """When it was found that the run is to be undone; in mode Manual it waits from here."""
    start_time: Time | None = None
    """When undoing started, or was started again by a WorkflowAction; `compensation.timeout` counts from here."""
    late: bool | None = None
    """True: its time was over before all was undone."""
    activities: Annotated[dict[str, UndoStatus] | None, WithJsonSchema(OPAQUE_OBJECT)] = None
    """The listed undos that belong to no activity, by name."""


class ActionRecord(Model):
    """One WorkflowAction that was applied to the run."""

    time: Time
    """When it was applied."""
    verb: str
    """What was asked for."""
    activity: str | None = None
    """The activity that was meant."""
    by: str | None = None
    """Who asked, as they said themselves."""
    uid: str
    """The WorkflowAction's metadata.uid: it is never applied twice."""
    message: str = ""
    """What was done."""


class SignalRecord(Model):
    """One Signal that was taken in before its activity waited for it."""

    time: Time
    """When it was taken in."""
    activity: str
    """The activity that it is for."""
    value: AnyValue = None
    """What the activity will yield."""
    uid: str
    """The WorkflowAction's metadata.uid."""


class RecipientStatus(Model):
    """One live run that an event is given to, and what became of that."""

    run: str
    """Its name."""
    uid: str
    """Its metadata.uid."""
    activities: list[str]
    """The waitFors of it that the event is for; the first that waits takes it."""
    answer: Literal["Applied", "Refused"] | None = None
    """What became of it; none: the run has not been asked yet, or has not started."""
    message: str | None = None
    """The same in a sentence."""


class QueueStatus(Model):
    """What a run that is Queued waits for. Its place in the queue changes all the time; `kubesaga queue` computes it."""

    blocked_by: BlockedBy
    """What keeps it from starting."""
    since: Time
    """When it began to wait; `concurrency.queuing.timeout` counts from here."""


class ReplayStatus(Model):
    """From which run's record this one was made, and what that means for it."""

    run: str
    """Its name."""
    uid: str
    """Its metadata.uid."""
    workflow: str = ""
    """The Workflow it was a run of."""
    event: str | None = None
    """The event that caused it."""
    reused: list[str] = Field(default_factory=list)
    """The activities that were taken over with their outputs."""
    redone: list[str] = Field(default_factory=list)
    """The activities that are done again, or for the first time."""


class TriggerStatus(Model):
    """What a trigger made the run of."""

    name: str
    """The trigger, of the run's Workflow."""
    event_id: str | None = None
    """The event's `id`."""
    tick: Time | None = None
    """The tick of a schedule."""
    actor: str | None = None
    """Who caused the event, as its sender says (the attribute `actorid`); at most 256 characters."""


ActivityMap = Annotated[dict[str, ActivityStatus], WithJsonSchema(OPAQUE_OBJECT)]


class WorkflowRunStatus(Model):
    """The record of a run, written by the operator alone."""

    id: str | None = None
    """The run's metadata.uid; `workflow_id` in logs (S86)."""
    phase: RunPhase | None = None
    """The run in one word. Empty: the operator has not seen it yet."""
    reason: Reason | None = None
    """Why the phase is what it is, in one word for machines."""
    message: str | None = None
    """The same in a sentence for people."""
    conditions: ConditionList = Field(default_factory=list)
    """`Completed`, `Succeeded`, `Reconciling`, `Stalled`, and where they apply `Compensated`, `Paused` and `SpecChanged`."""
    observed_generation: int | None = None
    """The `metadata.generation` that this status is about."""
    workflow_revision: str | None = None
    """The ControllerRevision that this run works from, whatever happens to the Workflow."""
    trigger: TriggerStatus | None = None
    """The trigger that made the run, and of what; none: somebody created it."""
    replay: ReplayStatus | None = None
    """The run that this one replays."""
    spec_digest: str | None = None
    """Digest of the immutable part of the spec, for clusters whose API server cannot refuse a change."""
    queue: QueueStatus | None = None
    """What it waits for, while it is Queued."""
    concurrency_key: str | None = None
    """Its `concurrency.key`: no other run of the Workflow that is under way has it."""
    fairness_key: str | None = None
    """Its `concurrency.queuing.fairnessKey`."""
    start_time: Time | None = None
    """When the run started, which is when it left the queue."""
    completion_time: Time | None = None
    """When it finished."""
    error_strategy: ErrorStrategy | None = None
    """What becomes of the run, once it is known that it cannot succeed."""
    compensation: CompensationStatus | None = None
    """How undoing went."""
    actions: list[ActionRecord] | None = None
    """The WorkflowActions that were applied; the last 50 of them."""
    signals: list[SignalRecord] | None = None
    """The Signals that no activity has taken yet; at most one for each."""
    recipients: Annotated[list[RecipientStatus] | None, WithJsonSchema(OPAQUE_LIST)] = None
    """The live runs that its event is given to, instead of a start."""
    finally_start_time: Time | None = None
    """When `finally` started."""
    duration: str | None = None
    """From start to completion, in the last write."""
    progress: str | None = None
    """Activities that ended well of all, `finally` included, e.g. `2/3`."""
    current_activity: str | None = None
    """The first activity in order that has not ended (S89)."""
    inputs: OpaqueObject | None = None
    """The inputs the run was started with, defaults filled in."""
    variables: OpaqueObject | None = None
    """The variables as they are now."""
    activities: ActivityMap = Field(default_factory=dict)
    """By name. Stored as one piece, so that a write costs the same for small and large runs."""
    outputs: OpaqueObject | None = None
    """The Workflow's `outputs`, once the run has succeeded."""

    @property
    def started(self) -> bool:
        """Tell whether it has ever left the queue."""
        return self.start_time is not None

    @property
    def finished(self) -> bool:
        """Tell whether the run is over for good."""
        return self.phase is not None and self.phase.finished


def resource_kind() -> dict[str, Any]:
    """Return names, columns and the like of the CRD."""
    return {
        "kind": "WorkflowRun",
        "plural": "workflowruns",
        "singular": "workflowrun",
        "shortNames": ["kwr"],
        "columns": [
            {"name": "Workflow", "type": "string", "jsonPath": ".spec.workflowRef.name"},
            {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
            {"name": "Progress", "type": "string", "jsonPath": ".status.progress"},
            {"name": "Activity", "type": "string", "jsonPath": ".status.currentActivity"},
            {"name": "Started", "type": "date", "jsonPath": ".status.startTime"},
            {"name": "Duration", "type": "string", "jsonPath": ".status.duration"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            {"name": "Reason", "type": "string", "jsonPath": ".status.reason", "priority": 1},
            {"name": "Trigger", "type": "string", "jsonPath": ".status.trigger.name", "priority": 1},
            {"name": "Revision", "type": "string", "jsonPath": ".status.workflowRevision", "priority": 1},
            {"name": "Replay-Of", "type": "string", "jsonPath": ".spec.replayOf.run", "priority": 1},
        ],
    }
