# SPDX-License-Identifier: Apache-2.0
"""What happens when something fails: trying again, falling back, undoing."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from kubesaga.api.fields import ActivityName, Duration, Expression, Model
from kubesaga.api.work import INLINE, ActivityId, Work, one_of


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


class ErrorStrategy(StrEnum):
    """What becomes of a run in which something failed for good (S125)."""

    COMPENSATE = "Compensate"
    ABORT = "Abort"
    CONTINUE = "Continue"


SKIP: Final = "skip"
"""The fallback that does nothing (S106)."""


class Fallback(Work):
    """What stands in for an activity that has failed for good (S123): nothing (`activity: skip`), or another deed."""

    model_config = ConfigDict(json_schema_extra=one_of("activity", "uses", *INLINE))

    activity: ActivityId | None = None
    """skip: the activity counts as Skipped, and those that depend on it start. Any other word: as `uses`."""
    retry: Retry | None = None
    """Trying the fallback again. Default: as activities are."""

    @property
    def skips(self) -> bool:
        """Tell whether it does nothing."""
        return self.activity == SKIP


class ErrorHandling(Model):
    """What happens when an activity fails: it is tried again, then its fallback stands in, then the strategy decides."""

    retry: Retry | None = None
    """Trying again."""
    fallback: Fallback | None = None
    """What stands in for it once it has failed for good; its output is then the activity's. Default: nothing does."""
    strategy: ErrorStrategy | None = None
    """What becomes of the run when it has failed for good, its fallback too. Default: `workflowError.strategy`."""


class WorkflowError(Model):
    """What happens when the run cannot succeed."""

    strategy: ErrorStrategy | None = None
    """Compensate: undo what has been done. Abort: fail and leave it. Continue: go on without what failed. Default: Compensate."""


class WorkflowErrorHandling(Model):
    """What happens when something fails."""

    activity_error: ErrorHandling | None = None
    """The default of every activity, field by field."""
    workflow_error: WorkflowError | None = None
    """What happens when the run cannot succeed."""


class Undo(Work):
    """How an activity is undone. It must be safe to repeat, and to run where the activity had no effect."""

    retry: Retry | None = None
    """Trying the undo again. Default: as activities are."""


class ListedUndo(Undo):
    """An undo in the Workflow's list (S85)."""

    name: ActivityName
    """Unique among activities and undos; names it in the run's status where it undoes no activity."""
    for_: Annotated[ActivityName | None, Field(alias="for")] = None
    """The activity that it undoes. Without one it runs whenever the run is undone, after all others."""


class Compensation(Model):
    """How a run is undone (S128-S131)."""

    strategy: Literal["Reverse", "Parallel"] = "Reverse"
    """Reverse: one after another, the activity that completed last first. Parallel: all at once."""
    mode: Literal["Automatic", "Manual"] = "Automatic"
    """Manual: undoing waits for a WorkflowAction Compensate or Reject."""
    timeout: Duration = "5m"
    """Longest time of undoing, from its start; then the run is CompensationFailed and waits for a WorkflowAction."""
    on_cancel: bool = True
    """Undo also when the run is cancelled (`shutdown: Cancel`)."""
    in_doubt: Literal["Undo", "Leave"] = "Undo"
    """Whether to undo an activity that did not succeed but may have had its effect: its outcome is not known, or it was cut off."""
    activities: Annotated[
        list[ListedUndo],
        Field(
            max_length=500,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list)
    """Undos written as a list, in the order of the activities."""
