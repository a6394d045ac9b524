# SPDX-License-Identifier: Apache-2.0
"""Every reason that a run or an activity can bear, with the sentence that explains it. The list is closed (api.md)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why a run or an activity is as it is. Machines compare these words; people read REASON_TEXT and the message."""

    # a run
    ALL_SUCCEEDED = "AllSucceeded"
    ACTIVITY_FAILED = "ActivityFailed"
    FINALLY_FAILED = "FinallyFailed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    PARTIAL_FAILURE = "PartialFailure"
    CANCELLED = "Cancelled"
    COMPENSATION_REQUESTED = "CompensationRequested"
    COMPENSATION_REJECTED = "CompensationRejected"
    COMPENSATION_ABANDONED = "CompensationAbandoned"
    TERMINATED = "Terminated"
    DELETED = "Deleted"
    INVALID_SPEC = "InvalidSpec"
    INVALID_INPUT = "InvalidInput"
    INVALID_REPLAY = "InvalidReplay"
    DRY_RUN = "DryRun"
    QUEUE_TIMEOUT = "QueueTimeout"
    QUEUE_FULL = "QueueFull"
    KEY_CONFLICT = "KeyConflict"
    USED_EXISTING = "UsedExisting"
    DELIVERING = "Delivering"
    DELIVERED = "Delivered"
    NOT_AWAITED = "NotAwaited"
    REPLACED = "Replaced"
    MADE_ROOM = "MadeRoom"
    AWAITING_SLOT = "AwaitingSlot"
    AWAITING_KEY = "AwaitingKey"
    WORKFLOW_NOT_FOUND = "WorkflowNotFound"
    REVISION_NOT_FOUND = "RevisionNotFound"
    # an activity, any kind
    ATTEMPT_TIMEOUT = "AttemptTimeout"
    EXPRESSION_FAILED = "ExpressionFailed"
    CONDITION_FALSE = "ConditionFalse"
    OUTPUT_TOO_LARGE = "OutputTooLarge"
    OUTPUT_INVALID = "OutputInvalid"
    REPORTED_FAILURE = "ReportedFailure"
    OUTCOME_UNKNOWN = "OutcomeUnknown"
    RETRY_BUDGET_EXCEEDED = "RetryBudgetExceeded"
    NOT_RETRYABLE = "NotRetryable"
    FALLBACK_SKIPPED = "FallbackSkipped"
    FALLING_BACK = "FallingBack"
    CIRCUIT_OPEN = "CircuitOpen"
    BULKHEAD_FULL = "BulkheadFull"
    BULKHEAD_REJECTED = "BulkheadRejected"
    BULKHEAD_TIMEOUT = "BulkheadTimeout"
    RATE_LIMITED = "RateLimited"
    # a sleep, a waitFor
    SLEEPING = "Sleeping"
    AWAITING_SIGNAL = "AwaitingSignal"
    AWAITING_EVENT = "AwaitingEvent"
    WAIT_TIMEOUT = "WaitTimeout"
    # an undo
    COMPENSATION_TIMEOUT = "CompensationTimeout"
    SKIPPED_BY_ACTION = "SkippedByAction"
    # a pod
    CONTAINER_FAILED = "ContainerFailed"
    OOM_KILLED = "OOMKilled"
    IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
    INVALID_IMAGE_NAME = "InvalidImageName"
    CONFIG_ERROR = "CreateContainerConfigError"
    CONTAINER_CANNOT_RUN = "ContainerCannotRun"
    UNSCHEDULABLE = "Unschedulable"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    POD_DELETED = "PodDeleted"
    POD_REJECTED = "PodRejected"
    QUOTA_EXCEEDED = "QuotaExceeded"
    LIMIT_RANGE = "LimitRange"
    FOREIGN_POD = "ForeignPod"
    START_TIMEOUT = "StartTimeout"
    # a handler
    HANDLER_NOT_FOUND = "HandlerNotFound"
    HANDLER_FAILED = "HandlerFailed"
    # http
    EGRESS_DENIED = "EgressDenied"
    HTTP_STATUS = "HttpStatus"
    HTTP_FAILED = "HttpFailed"
    # conditions
    IN_PROGRESS = "InProgress"
    SUSPENDED = "Suspended"
    NOT_SUSPENDED = "NotSuspended"
    AWAITING_DECISION = "AwaitingDecision"
    UNDO_FAILED = "UndoFailed"
    ALL_UNDONE = "AllUndone"
    NOTHING_TO_UNDO = "NothingToUndo"
    UNDOING_GIVEN_UP = "UndoingGivenUp"
    VALID = "Valid"
    SPEC_CHANGED = "SpecChanged"
    REGISTERED = "Registered"
    UNKNOWN_EVENT_TYPE = "UnknownEventType"
    FAILURE_LIMIT_REACHED = "FailureLimitReached"
    # a source of Kubernetes objects
    WATCH_STARTING = "WatchStarting"
    WATCHING = "Watching"
    KIND_NOT_ALLOWED = "KindNotAllowed"
    KIND_NOT_WATCHABLE = "KindNotWatchable"
    WATCH_FORBIDDEN = "WatchForbidden"
    WATCH_REFUSED = "WatchRefused"


REASON_TEXT: Final[dict[Reason, str]] = {
    Reason.ALL_SUCCEEDED: "Every activity succeeded or was skipped.",
    Reason.ACTIVITY_FAILED: "An activity failed, so the run failed.",
    Reason.FINALLY_FAILED: "Everything else went well, but an activity of `finally` failed.",
    Reason.DEADLINE_EXCEEDED: "The run took longer than the Workflow's `timeout`.",
    Reason.PARTIAL_FAILURE: "An activity failed, and the run went on without it (strategy Continue).",
    Reason.CANCELLED: "The run was stopped by `shutdown: Cancel`.",
    Reason.COMPENSATION_REQUESTED: "The run was stopped by `shutdown: Compensate`, to be undone.",
    Reason.COMPENSATION_REJECTED: "A WorkflowAction decided that the run is not undone.",
    Reason.COMPENSATION_ABANDONED: "Undos failed, and a WorkflowAction gave them up; the message names them.",
    Reason.TERMINATED: "The run was stopped by `shutdown: Terminate`; nothing ran after that.",
    Reason.DELETED: "The run was deleted while it was live; it was stopped first.",
    Reason.INVALID_SPEC: "The Workflow is not valid; the message names the field.",
    Reason.INVALID_INPUT: "The run's inputs do not fit the Workflow's; the message names the input.",
    Reason.INVALID_REPLAY: "The run that `replayOf` names cannot be replayed so; the message says why.",
    Reason.DRY_RUN: "Nothing was done; the message says what a replay would do.",
    Reason.QUEUE_TIMEOUT: "It waited for a slot longer than `concurrency.queuing.timeout`.",
    Reason.QUEUE_FULL: "As many runs as may be were under way, and `concurrency.queuing.overflow` is Reject.",
    Reason.KEY_CONFLICT: "A live run has the same `concurrency.key`, and `onConflict` is Reject.",
    Reason.USED_EXISTING: "A live run has the same `concurrency.key` and does the work; this one did nothing.",
    Reason.DELIVERING: "Its event is given to the live runs that wait for it.",
    Reason.DELIVERED: "Its event was given to the live runs that wait for it.",
    Reason.NOT_AWAITED: "No live run took its event.",
    Reason.REPLACED: "A newer run with the same `concurrency.key` took the run's place.",
    Reason.MADE_ROOM: "The run was cancelled to make room for a newer one (`overflow: CancelOldest`).",
    Reason.AWAITING_SLOT: "As many as may be are under way; it starts when it is its turn.",
    Reason.AWAITING_KEY: "Another run has the same `concurrency.key`; it starts when that has finished.",
    Reason.WORKFLOW_NOT_FOUND: "There is no Workflow of that name in the run's namespace.",
    Reason.REVISION_NOT_FOUND: "The recorded revision that the run works from was deleted.",
    Reason.ATTEMPT_TIMEOUT: "The attempt took longer than the activity's `timeout`, and was stopped.",
    Reason.EXPRESSION_FAILED: "An expression could not be evaluated; the message names it and says why.",
    Reason.CONDITION_FALSE: "`when` was false, so the activity was skipped.",
    Reason.OUTPUT_TOO_LARGE: "The output is larger than allowed; nothing of it was kept.",
    Reason.OUTPUT_INVALID: "The output is not JSON, or not a JSON object where one is needed.",
    Reason.REPORTED_FAILURE: "The output says `success: false`.",
    Reason.OUTCOME_UNKNOWN: "Nobody knows how the attempt ended; it may have had its effect.",
    Reason.RETRY_BUDGET_EXCEEDED: "There was no time left in the retry `budget` for another attempt.",
    Reason.NOT_RETRYABLE: "The handler raised `kubesaga.NotRetryable`: another attempt could not help.",
    Reason.FALLBACK_SKIPPED: "The activity failed for good and was skipped, as its fallback says.",
    Reason.FALLING_BACK: "The activity failed for good; it waits for its fallback, which stands in for it.",
    Reason.CIRCUIT_OPEN: "The circuit breaker is open: what would be called keeps failing, so it was not called.",
    Reason.BULKHEAD_FULL: "As many calls as the bulkhead allows are under way; it starts when it is its turn.",
    Reason.BULKHEAD_REJECTED: "The bulkhead's queue is full, so it was not called.",
    Reason.BULKHEAD_TIMEOUT: "It waited in the bulkhead's queue longer than `bulkhead.timeout`, and was not called.",
    Reason.RATE_LIMITED: "The rate limit is used up for now; it starts when it is its turn.",
    Reason.SLEEPING: "It sleeps; the message says until when.",
    Reason.AWAITING_SIGNAL: "It waits for a WorkflowAction Signal.",
    Reason.AWAITING_EVENT: "It waits for an event, or for a WorkflowAction Signal.",
    Reason.WAIT_TIMEOUT: "No Signal came within `waitFor.timeout`.",
    Reason.COMPENSATION_TIMEOUT: "Undoing took longer than `compensation.timeout`.",
    Reason.SKIPPED_BY_ACTION: "A WorkflowAction left the undo out.",
    Reason.CONTAINER_FAILED: "The container ended with an exit code other than 0.",
    Reason.OOM_KILLED: "The container used more memory than its limit and was killed.",
    Reason.IMAGE_PULL_BACK_OFF: "The image could not be pulled in time.",
    Reason.INVALID_IMAGE_NAME: "The image's name is not valid.",
    Reason.CONFIG_ERROR: "The container could not be made: a Secret or ConfigMap it names is missing.",
    Reason.CONTAINER_CANNOT_RUN: "The container's command could not be started.",
    Reason.UNSCHEDULABLE: "No node could take the pod in time.",
    Reason.EVICTED: "The node evicted the pod.",
    Reason.NODE_LOST: "The pod's node was lost.",
    Reason.POD_DELETED: "The pod was deleted by someone else before it ended.",
    Reason.POD_REJECTED: "The API server refused the pod.",
    Reason.QUOTA_EXCEEDED: "The namespace's ResourceQuota has no room for the pod; it is asked for again until it has.",
    Reason.LIMIT_RANGE: "The namespace's LimitRange does not allow the pod's resources; it is asked for again until that is mended.",
    Reason.FOREIGN_POD: "A pod of that name exists that is not this run's; it was neither used nor touched.",
    Reason.START_TIMEOUT: "The pod did not start in time.",
    Reason.HANDLER_NOT_FOUND: "No handler of that id is registered in the operator.",
    Reason.HANDLER_FAILED: "The handler raised an exception.",
    Reason.EGRESS_DENIED: "The egress guard does not let http activities reach that address.",
    Reason.HTTP_STATUS: "The answer's status was not an expected one.",
    Reason.HTTP_FAILED: "There was no answer, or it could not be read.",
    Reason.IN_PROGRESS: "The run has not finished.",
    Reason.SUSPENDED: "The run is suspended: nothing new starts.",
    Reason.NOT_SUSPENDED: "The run is not suspended.",
    Reason.AWAITING_DECISION: "Undoing waits for a WorkflowAction: Compensate or Reject.",
    Reason.UNDO_FAILED: "Undos failed; the run waits for a WorkflowAction: Retry, Skip or Abandon.",
    Reason.ALL_UNDONE: "Everything that was to be undone has been.",
    Reason.NOTHING_TO_UNDO: "Nothing had to be undone.",
    Reason.UNDOING_GIVEN_UP: "Undoing ended before everything was undone.",
    Reason.VALID: "The Workflow is valid; runs work from the current revision.",
    Reason.SPEC_CHANGED: "The run's spec was changed after its start; the run goes on as it was started, but its event cannot be read any more.",
    Reason.REGISTERED: "The event types of all triggers and waitFors are known.",
    Reason.UNKNOWN_EVENT_TYPE: "A trigger or a waitFor is for an event type that nobody has registered; it works all the same. The message names it.",
    Reason.FAILURE_LIMIT_REACHED: "A trigger has stopped itself, because its last runs have failed; the message names it.",
    Reason.WATCH_STARTING: "The objects are being listed; they are watched from then on.",
    Reason.WATCHING: "The objects are watched: none of their changes is missed.",
    Reason.KIND_NOT_ALLOWED: "The administrator does not allow to watch the kind; the message says what to set.",
    Reason.KIND_NOT_WATCHABLE: "The cluster does not have the kind, or it is not one of a namespace, or cannot be watched.",
    Reason.WATCH_FORBIDDEN: "The operator may not read the objects; the message names the verb and the resource.",
    Reason.WATCH_REFUSED: "The API server refuses the watch, or cannot be asked; the message is its own.",
}
