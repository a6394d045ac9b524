# SPDX-License-Identifier: Apache-2.0
"""A failed attempt: is the activity tried again, or has it failed? And when its wait is over, the next attempt."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from kubesaga.api.deed import ActivityError, ActivityPhase, FailedAttempt
from kubesaga.api.names import Deed, activity_id
from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed
from kubesaga.engine.deeds import begin, enters, fail, of_attempt
from kubesaga.engine.definition import Part, Step
from kubesaga.engine.draft import Draft
from kubesaga.engine.language.expressions import ExpressionError, condition
from kubesaga.engine.retries import LONGEST_RETRY_AFTER, UNCHARGED
from kubesaga.engine.scope import scope_of

_KEPT: Final = 10
"""How many failed attempts the status shows."""


def retry_or_fail(draft: Draft, step: Step, phase: ActivityPhase, failure: Failed) -> None:
    """Write down that an attempt failed, and when the next one starts; or that the deed has failed in `phase`."""
    status = draft.of(step)
    charged = failure.reason not in UNCHARGED
    failures = (status.failures or 0) + charged
    if not draft.may_start(step):
        why_not: str | None = ""
    elif failures >= step.retry.max_attempts:
        why_not = f" (attempt {failures} of {step.retry.max_attempts})" if failures > 1 else ""
    else:
        why_not = _objection(draft, step, failure)
    if why_not is None:
        _wait(draft, step, phase, failure, failures, charged=charged)
    else:
        told = replace(failure, message=f"{failure.message}{why_not}")
        fail(draft, step, phase, told, failures=failures if failures > 1 else None)


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
    status = draft.of(step)
    number = status.attempt or 1
    doubtful = failure.in_doubt or phase is ActivityPhase.OUTCOME_UNKNOWN or status.in_doubt
    pause = step.retry.pause(max(failures, 1), _seed(draft, step, number))
    if failure.retry_after is not None:
        pause = max(pause, min(timedelta(seconds=failure.retry_after), LONGEST_RETRY_AFTER))
    when = draft.now + pause
    if step.retry.budget is not None and status.start_time is not None and when > status.start_time + step.retry.budget:
        told = f"no time is left in the budget for another attempt; the last one ended so: {failure.reason}: {failure.message}"
        fail(draft, step, phase, replace(failure, reason=Reason.RETRY_BUDGET_EXCEEDED, message=told), failures=failures)
        return
    error = ActivityError(reason=failure.reason, message=failure.message[:1024], retryable=failure.retryable)
    record = FailedAttempt(
        number=number, start_time=status.attempt_started, completion_time=draft.now, error=error, charged=charged
    )  # fmt: skip
    draft.move(
        step, ActivityPhase.RETRYING, error=error, next_attempt_time=when, failures=failures or None,
        attempts=[*(status.attempts or []), record][-_KEPT:], stopping=None, reason=None, message=None,
        interruptions=None, output=None, in_doubt=doubtful or None,
    )  # fmt: skip
    told = f"{step.shown} failed ({failure.reason}: {failure.message}); attempt {number + 1} is in {pause.total_seconds():.1f} s"
    draft.note("ActivityRetrying", told, activity=step.name, warning=True)


def _seed(draft: Draft, step: Step, number: int) -> str:
    of_deed = "" if step.deed is Deed.DO else f"/{step.deed}"
    return f"{activity_id(draft.run.uid, step.name)}{of_deed}/{number}"


def start_due(draft: Draft) -> None:
    """Start the next attempt of every deed whose wait is over, and that gets a slot; the first one of those that waited for it."""
    for step in draft.active():
        status = draft.of(step)
        due = status.next_attempt_time
        again = status.phase is ActivityPhase.RETRYING and due is not None and draft.now >= due
        if status.phase is ActivityPhase.QUEUED and due is None:
            begin(draft, step)  # the first attempt; or the first since a WorkflowAction had an undo done anew
        elif (again or status.phase is ActivityPhase.QUEUED) and enters(draft, step, status.input):
            _start_again(draft, step)


def _start_again(draft: Draft, step: Step) -> None:
    status = draft.of(step)
    number = (status.attempt or 1) + 1
    draft.move(
        step, ActivityPhase.RUNNING, attempt_start_time=draft.now, next_attempt_time=None, reason=None, message=None,
        **of_attempt(draft, step, number, status.input),
    )  # fmt: skip
    draft.note("ActivityStarted", f"{step.shown} starts, attempt {number}", activity=step.name)


def leave_queue(draft: Draft) -> None:
    """Have nobody wait for a slot: the run is suspended. Who waited does so anew once it goes on."""
    for step in draft.active():
        status = draft.of(step)
        if status.phase is ActivityPhase.QUEUED:
            before = ActivityPhase.PENDING if status.next_attempt_time is None else ActivityPhase.RETRYING
            draft.move(step, before, queued_time=None, guard=None, reason=None, message=None)


def give_up(draft: Draft, part: Part) -> None:
    """End what waits for its next attempt as it last failed: the run is failing, and nothing new starts."""
    for step in _waiting(draft, part):
        error = draft.of(step).error
        if error is None:
            slot = "" if draft.of(step).waits else " for a slot"
            why = Failed(reason=Reason.CANCELLED, message=f"the run failed while this waited{slot}")
            stands_in = step.deed is Deed.FALLBACK
            fail(draft, step, ActivityPhase.FAILED if stands_in else ActivityPhase.CANCELLED, why)
            continue
        unknown = error.reason is Reason.OUTCOME_UNKNOWN
        phase = ActivityPhase.OUTCOME_UNKNOWN if unknown else ActivityPhase.FAILED
        fail(draft, step, phase, Failed(reason=error.reason, message=error.message, retryable=error.retryable))


def cancel_waiting(draft: Draft, reason: Reason, message: str, *parts: Part) -> None:
    """End what waits, to be tried again or by itself, as cancelled: it is being stopped."""
    for step in _waiting(draft, *parts):
        fail(draft, step, ActivityPhase.CANCELLED, Failed(reason=reason, message=message))


def _waiting(draft: Draft, *parts: Part) -> list[Step]:
    waits = (ActivityPhase.QUEUED, ActivityPhase.RETRYING)
    return [step for step in draft.active(*parts) if draft.of(step).phase in waits or draft.of(step).waits]
