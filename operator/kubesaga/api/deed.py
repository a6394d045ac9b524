# SPDX-License-Identifier: Apache-2.0
"""What a run's status says of one activity: of the deed itself, of its undo, of its fallback."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final

from kubesaga.api.fields import AnyValue, Model, Time
from kubesaga.api.reasons import Reason


class ActivityPhase(StrEnum):
    """An activity in one word, or its undo, or its fallback. An activity that is not in the status yet is Pending."""

    PENDING = "Pending"
    QUEUED = "Queued"
    RUNNING = "Running"
    RETRYING = "Retrying"
    WAITING = "Waiting"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    CANCELLED = "Cancelled"
    OUTCOME_UNKNOWN = "OutcomeUnknown"
    COMPENSATING = "Compensating"
    COMPENSATED = "Compensated"

    @property
    def under_way(self) -> bool:
        """Tell whether it has its turn and has not ended: an attempt runs, or it waits for a slot, the next one, or its fallback."""
        return self in _UNDER_WAY

    @property
    def ended(self) -> bool:
        """Tell whether it has been done, well or not, or will not be."""
        return self is not ActivityPhase.PENDING and self not in _UNDER_WAY

    @property
    def satisfies(self) -> bool:
        """Tell whether those that depend on it may start."""
        return self in (ActivityPhase.SUCCEEDED, ActivityPhase.SKIPPED)

    @property
    def went_wrong(self) -> bool:
        """Tell whether the run cannot succeed any more because of it."""
        return self in (ActivityPhase.FAILED, ActivityPhase.OUTCOME_UNKNOWN)


_OWN_WAITS: Final = (Reason.SLEEPING, Reason.AWAITING_SIGNAL, Reason.AWAITING_EVENT)
_UNDER_WAY: Final = frozenset(
    {ActivityPhase.QUEUED, ActivityPhase.RUNNING, ActivityPhase.RETRYING, ActivityPhase.WAITING}
)


class ActivityError(Model):
    """How an activity failed."""

    reason: Reason
    """Why, in one word for machines."""
    message: str = ""
    """Why, in a sentence for people."""
    retryable: bool = True
    """False where another attempt could not help, as far as its executor can tell."""


class Stopping(Model):
    """An order to stop that was given and has not been confirmed. `phase` and `reason` are how the activity will end."""

    phase: ActivityPhase
    """The phase it will end in."""
    reason: Reason
    """Why it is stopped, in one word for machines."""
    message: str = ""
    """Why it is stopped, in a sentence for people."""
    since: Time
    """When the order was given."""


class FailedAttempt(Model):
    """One attempt that failed and was followed by another."""

    number: int
    """From 1."""
    start_time: Time | None = None
    """When it was started."""
    completion_time: Time
    """When its end was recorded."""
    error: ActivityError
    """How it failed."""
    charged: bool = True
    """It counts toward `maxAttempts`; an eviction or a lost node does not."""


class DeedStatus(Model):
    """What is known of one deed: an activity as such, its undo, or its fallback."""

    id: str | None = None
    """Id of this activity of this run, in logs and traces."""
    phase: ActivityPhase
    """The deed in one word."""
    attempt: int | None = None
    """Number of the current or last attempt, from 1."""
    start_time: Time | None = None
    """When its first attempt was written down, just before it was started."""
    attempt_start_time: Time | None = None
    """When the current attempt was written down, from the second on."""
    next_attempt_time: Time | None = None
    """When the next attempt may start. An absolute time: a restart of the operator neither shortens nor repeats the wait."""
    failures: int | None = None
    """How many attempts failed that count toward `maxAttempts`."""
    attempts: list[FailedAttempt] | None = None
    """The attempts that failed and were followed by another; the last ten of them."""
    completion_time: Time | None = None
    """When it was recorded as ended."""
    input: AnyValue = None
    """What it was given: its params, or its HTTP request; expressions resolved."""
    env: dict[str, str] | None = None
    """Values of the pod's environment that held expressions, resolved."""
    output: AnyValue = None
    """What it yielded."""
    error: ActivityError | None = None
    """How it failed; kept where a fallback stood in."""
    in_doubt: bool | None = None
    """True: an attempt that did not succeed may have had its effect. It was cut off, or its outcome is not known."""
    queued_time: Time | None = None
    """When the attempt that is to begin, or has begun, was first kept waiting for a slot."""
    guard: str | None = None
    """Which circuit breaker, bulkhead and rate limit its attempt has passed, or waits at."""
    pod_name: str | None = None
    """The pod of the current or last attempt."""
    reason: Reason | None = None
    """Why it waits, or why it was skipped."""
    message: str | None = None
    """The same in a sentence for people."""
    worker: str | None = None
    """The operator process that carries out an in-process attempt."""
    interruptions: int | None = None
    """How often the operator died during this attempt; it was started again under the same idempotency key."""
    stopping: Stopping | None = None
    """The order to stop, while it has not been confirmed."""
    until: Time | None = None
    """When a sleep ends, or a waitFor has waited long enough. An absolute time, as `nextAttemptTime` is."""

    @property
    def waits(self) -> bool:
        """Tell whether it is a sleep or a waitFor that has begun. (An activity whose fallback runs is Waiting too.)"""
        return self.phase is ActivityPhase.WAITING and self.reason in _OWN_WAITS

    @property
    def attempt_started(self) -> datetime | None:
        """When the current attempt was written down."""
        return self.attempt_start_time or self.start_time


class UndoStatus(DeedStatus):
    """What is known of one undo."""

    undoes: ActivityPhase | None = None
    """The phase that the activity was in before; it is in it again where the undo fails or is left out."""


class ActivityStatus(DeedStatus):
    """What is known of one activity of a run."""

    reused: bool | None = None
    """True: taken over from the run that this one replays; not done again."""
    completion_order: int | None = None
    """1 for the first activity of the run that had its effect, or may have had it, and so on; undoing goes backwards."""
    fallback: DeedStatus | None = None
    """The deed that stands in for it."""
    compensation: UndoStatus | None = None
    """Its undo."""
