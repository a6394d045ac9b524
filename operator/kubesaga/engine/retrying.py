# SPDX-License-Identifier: Apache-2.0
"""A failed attempt: is the activity tried again, or has it failed? And when its wait is over, the next attempt."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from kubesaga.api.names import activity_id, pod_name
from kubesaga.api.reasons import Reason
from kubesaga.api.run import ActivityError, ActivityPhase, FailedAttempt
from kubesaga.engine.attempt import Failed
from kubesaga.engine.definition import Kind, Step
from kubesaga.engine.draft import Draft
from kubesaga.engine.expressions import ExpressionError, condition
from kubesaga.engine.retries import LONGEST_RETRY_AFTER, UNCHARGED
from kubesaga.engine.scope import scope_of

_KEPT: Final = 10
"""How many failed attempts the status shows."""


def retry_or_end(draft: Draft, step: Step, phase: ActivityPhase, failure: Failed) -> None:
    """Write down that an attempt failed, and when the next one starts; or that the activity has ended in `phase`."""
    status = draft.of(step.name)
    charged = failure.reason not in UNCHARGED
    failures = (status.failures or 0) + charged
    if draft.ending is not None or draft.reason is not None:
        why_not: str | None = ""  # nothing new starts in a run that is failing or being stopped
    elif failures >= step.retry.max_attempts:
        why_not = f" (attempt {failures} of {step.retry.max_attempts})" if failures > 1 else ""
    else:
        why_not = _objection(draft, step, failure)
    if why_not is not None:
        told = f"{failure.message}{why_not}"
        draft.end(
            step.name, phase, failure.reason, told, retryable=failure.retryable, output=failure.output,
            failures=failures if failures > 1 else None,
        )  # fmt: skip
        return
    _wait(draft, step, phase, failure, failures, charged=charged)


def _objection(draft: Draft, step: Step, failure: Failed) -> str | None:
    """Return why the policy does not want another attempt, as the end of a sentence; None: it does."""
    if step.retry.when is None:
        return None if failure.retryable else ""
    error = {"reason": str(failure.reason), "message": failure.message, "retryable": failure.retryable}
    try:
        wanted = condition(
            step.retry.when, {**scope_of(draft), "error": error}, draft.evaluator, "errorHandling.retry.when"
        )
    except ExpressionError as fault:
        return f" (and whether to try again could not be found out: {fault})"
    return None if wanted else " (errorHandling.retry.when does not want another attempt)"


def _wait(draft: Draft, step: Step, phase: ActivityPhase, failure: Failed, failures: int, *, charged: bool) -> None:
    status = draft.of(step.name)
    number = status.attempt or 1
    pause = step.retry.pause(max(failures, 1), f"{activity_id(draft.run.uid, step.name)}/{number}")
    if failure.retry_after is not None:
        pause = max(pause, min(timedelta(seconds=failure.retry_after), LONGEST_RETRY_AFTER))
    when = draft.now + pause
    if step.retry.budget is not None and status.start_time is not None and when > status.start_time + step.retry.budget:
        told = f"no time is left in the budget for another attempt; the last one ended so: {failure.reason}: {failure.message}"
        draft.end(step.name, phase, Reason.RETRY_BUDGET_EXCEEDED, told, output=failure.output, failures=failures)
        return
    error = ActivityError(reason=failure.reason, message=failure.message[:1024], retryable=failure.retryable)
    record = FailedAttempt(
        number=number, start_time=status.attempt_started, completion_time=draft.now, error=error, charged=charged
    )  # fmt: skip
    draft.move(
        step.name, ActivityPhase.RETRYING, error=error, next_attempt_time=when, failures=failures or None,
        attempts=[*(status.attempts or []), record][-_KEPT:], stopping=None, reason=None, message=None,
        interruptions=None, output=None,
    )  # fmt: skip
    told = f"{step.name} failed ({failure.reason}: {failure.message}); attempt {number + 1} is in {pause.total_seconds():.1f} s"
    draft.note("ActivityRetrying", told, activity=step.name, warning=True)


def start_due(draft: Draft) -> None:
    """Start the next attempt of every activity whose wait is over."""
    for step in draft.active(list(draft.definition.steps.values())):
        status = draft.of(step.name)
        due = status.next_attempt_time
        if status.phase is not ActivityPhase.RETRYING or due is None or draft.now < due:
            continue
        number = (status.attempt or 1) + 1
        draft.move(
            step.name, ActivityPhase.RUNNING, attempt=number, attempt_start_time=draft.now, next_attempt_time=None,
            pod_name=pod_name(draft.run.key.name, draft.run.uid, step.name, number) if step.kind is Kind.POD else None,
            worker=draft.snapshot.worker if step.kind.in_process else None,
        )  # fmt: skip
        draft.note("ActivityStarted", f"{step.name} starts, attempt {number}", activity=step.name)


def give_up(draft: Draft, steps: list[Step]) -> None:
    """End what waits to be tried again as it last failed: the run is failing, and nothing new starts."""
    for step in draft.active(steps):
        status = draft.of(step.name)
        if status.phase is ActivityPhase.RETRYING and status.error is not None:
            unknown = status.error.reason is Reason.OUTCOME_UNKNOWN
            phase = ActivityPhase.OUTCOME_UNKNOWN if unknown else ActivityPhase.FAILED
            error = status.error
            draft.end(step.name, phase, error.reason, error.message, retryable=error.retryable)


def cancel_waiting(draft: Draft, steps: list[Step], reason: Reason, message: str) -> None:
    """End what waits to be tried again as cancelled: the run is being stopped."""
    for step in draft.active(steps):
        if draft.of(step.name).phase is ActivityPhase.RETRYING:
            draft.end(step.name, ActivityPhase.CANCELLED, reason, message)
