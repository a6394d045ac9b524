# SPDX-License-Identifier: Apache-2.0
"""WorkflowAction: one command of a person to one object, applied once, and kept as the audit record of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from kubesaga.api.fields import ActivityName, AnyValue, Model, ObjectName, Time

MAX_VALUE: Final = 64 * 1024
"""Largest value of a Signal, in bytes of JSON: every write of the run's status carries it."""


class Verb(StrEnum):
    """What a WorkflowAction can ask for: ResetBreaker of an Activity or Workflow, the others of a run."""

    COMPENSATE = "Compensate"
    REJECT = "Reject"
    RETRY = "Retry"
    SKIP = "Skip"
    ABANDON = "Abandon"
    SIGNAL = "Signal"
    RESET_BREAKER = "ResetBreaker"


class ActionPhase(StrEnum):
    """What became of a WorkflowAction. One without a phase has not been looked at yet."""

    APPLIED = "Applied"
    REFUSED = "Refused"


class TargetRef(Model):
    """The object that is meant, in the action's own namespace."""

    kind: Literal["WorkflowRun", "Activity", "Workflow"] = "WorkflowRun"
    """Its kind: Activity or Workflow with ResetBreaker, WorkflowRun with all others."""
    name: ObjectName
    """Its name."""
    uid: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Its metadata.uid. With it, the action is refused should another object bear the name by now."""


_RULES: Final[dict[str, Any]] = {
    # Wrong is one without the other: ResetBreaker, and a target that has breakers; a value, and no Signal that carries it.
    # Every server can check this.
    "not": {
        "anyOf": [
            {
                "oneOf": [
                    {"properties": {"action": {"enum": ["ResetBreaker"]}}},
                    {
                        "properties": {
                            "targetRef": {
                                "required": ["kind"],
                                "properties": {"kind": {"enum": ["Activity", "Workflow"]}},
                            }
                        }
                    },
                ]
            },
            {"required": ["value"], "not": {"properties": {"action": {"enum": ["Signal"]}}}},
        ]
    },
    "x-kubernetes-validations": [
        {"rule": "self == oldSelf", "message": "a WorkflowAction is never changed; create another one"},
        {
            "rule": "!(self.action in ['Skip', 'Signal']) || has(self.activity)",
            "message": "Skip and Signal need activity: the one whose undo is left out, or that waits",
        },
        {
            "rule": "!has(self.activity) || self.action in ['Retry', 'Skip', 'Signal'] || (has(self.targetRef.kind) && self.targetRef.kind == 'Workflow')",
            "message": "activity goes with Retry, Skip, Signal and the ResetBreaker of a Workflow alone; remove it",
        },
    ],
}


class WorkflowActionSpec(Model):
    """What is asked for. Immutable."""

    model_config = ConfigDict(json_schema_extra=_RULES)

    target_ref: TargetRef
    """The object that is meant."""
    action: Verb
    """Compensate, Reject: the answer to a run that waits to be undone. Retry, Skip, Abandon: what to do with undos that failed. Signal: what an activity waits for has happened. ResetBreaker: its circuit breakers are closed."""
    activity: ActivityName | None = None
    """The activity, or listed undo, that is meant, with Retry, Skip and Signal; of a Workflow's with ResetBreaker. Retry and ResetBreaker without one: all."""
    value: AnyValue = None
    """What the activity yields that waits for the Signal: any JSON, at most 64 KiB. Default: null."""
    comment: Annotated[str, Field(max_length=1024)] | None = None
    """Why, for the record."""
    requested_by: Annotated[str, Field(max_length=253)] | None = None
    """Who asks, as they say themselves; for the record."""


class WorkflowActionStatus(Model):
    """What became of it, written by the operator alone."""

    phase: ActionPhase | None = None
    """Applied or Refused. Empty: the operator has not seen it yet."""
    message: str | None = None
    """What was done, or why it was refused, in a sentence."""
    completion_time: Time | None = None
    """When it was answered."""


def resource_kind() -> dict[str, Any]:
    """Return names, columns and the like of the CRD."""
    return {
        "kind": "WorkflowAction",
        "plural": "workflowactions",
        "singular": "workflowaction",
        "shortNames": ["kwa"],
        "columns": [
            {"name": "Target", "type": "string", "jsonPath": ".spec.targetRef.name"},
            {"name": "Action", "type": "string", "jsonPath": ".spec.action"},
            {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
            {"name": "Message", "type": "string", "jsonPath": ".status.message"},
            {"name": "By", "type": "string", "jsonPath": ".spec.requestedBy", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }
