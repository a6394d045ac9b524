# SPDX-License-Identifier: Apache-2.0
"""First step of a pass: write down how attempts ended, what they wait for, and which have taken too long."""

from __future__ import annotations

from typing import Any

from kubesaga.api.reasons import Reason
from kubesaga.api.run import ActivityPhase, ActivityStatus, Stopping
from kubesaga.engine.attempt import Failed, Observation, Stage, Succeeded, Unknown
from kubesaga.engine.definition import Kind, Step
from kubesaga.engine.draft import Draft
from kubesaga.engine.expressions import ExpressionError, render
from kubesaga.engine.retrying import retry_or_end
from kubesaga.engine.scope import scope_of


def record(draft: Draft) -> None:
    """Bring every activity that is under way up to what its executor sees now."""
    for step in draft.running(list(draft.definition.steps.values())):
        seen = draft.observation(step)
        if seen is not None and seen.stage is Stage.ENDED:
            _record_end(draft, step, seen)
        elif seen is None:
            _record_absence(draft, step)
        else:
            _record_wait(draft, step, seen)
    for step in draft.running(list(draft.definition.steps.values())):
        _record_lateness(draft, step)


def _record_end(draft: Draft, step: Step, seen: Observation) -> None:
    order = draft.of(step.name).stopping
    match seen.outcome:
        case Succeeded(output=output):
            # What has happened has happened, even after an order to stop: a saga must know what there is to undo.
            _succeed(draft, step, output)
        case _ if order is not None:
            _end_as_ordered(draft, step, order, order.message)
        case Failed() as failure:
            retry_or_end(draft, step, ActivityPhase.FAILED, failure)
        case Unknown(message=message):
            retry_or_end(
                draft, step, ActivityPhase.OUTCOME_UNKNOWN, Failed(reason=Reason.OUTCOME_UNKNOWN, message=message)
            )
        case _:
            raise AssertionError(f"{step.name} is observed to have ended, without an outcome")


def _succeed(draft: Draft, step: Step, output: Any) -> None:
    if isinstance(output, dict) and output.get("success") is False:
        said = output.get("message") or output.get("error") or "its output says success: false"
        failure = Failed(reason=Reason.REPORTED_FAILURE, message=str(said), output=output)
        retry_or_end(draft, step, ActivityPhase.FAILED, failure)
        return
    order = 1 + max((status.completion_order or 0 for status in draft.activities.values()), default=0)
    try:
        changed = render(step.activity.set or {}, {**scope_of(draft), "output": output}, draft.evaluator, "set")
    except ExpressionError as error:
        told = str(error)
        draft.end(
            step.name,
            ActivityPhase.FAILED,
            Reason.EXPRESSION_FAILED,
            told,
            retryable=False,
            output=output,
            completion_order=order,
        )
        return
    if (excess := draft.excess(output, changed)) is not None:
        draft.end(step.name, ActivityPhase.FAILED, Reason.OUTPUT_TOO_LARGE, excess, retryable=False)
        return
    draft.variables |= changed
    draft.move(
        step.name, ActivityPhase.SUCCEEDED, output=output, completion_time=draft.now, completion_order=order,
        stopping=None, reason=None, message=None, error=None,
    )  # fmt: skip
    draft.note("ActivitySucceeded", f"{step.name} succeeded", activity=step.name)


def _end_as_ordered(draft: Draft, step: Step, order: Stopping, message: str) -> None:
    """End an attempt that was told to stop. One that took too long may be tried again; one that was cancelled is over."""
    if order.phase is ActivityPhase.FAILED:
        retry_or_end(draft, step, order.phase, Failed(reason=order.reason, message=message))
    else:
        draft.end(step.name, order.phase, order.reason, message)


def _record_absence(draft: Draft, step: Step) -> None:
    status = draft.of(step.name)
    if status.stopping is not None:
        _end_as_ordered(draft, step, status.stopping, status.stopping.message)
    elif step.kind.in_process and status.worker != draft.snapshot.worker:
        _record_interruption(draft, step, status)


def _record_interruption(draft: Draft, step: Step, status: ActivityStatus) -> None:
    """The operator that carried the attempt out is gone. Its effect may have happened: start it again under the same key."""
    count = (status.interruptions or 0) + 1
    if count > draft.snapshot.limits.max_interruptions:
        told = f"the operator ended during this attempt {count} times; whether it had its effect is not known"
        retry_or_end(draft, step, ActivityPhase.OUTCOME_UNKNOWN, Failed(reason=Reason.OUTCOME_UNKNOWN, message=told))
        return
    draft.move(step.name, ActivityPhase.RUNNING, worker=draft.snapshot.worker, interruptions=count)
    draft.note("ActivityInterrupted", f"{step.name} is started again: the operator ended during it", activity=step.name)


def _record_wait(draft: Draft, step: Step, seen: Observation) -> None:
    status = draft.of(step.name)
    message = seen.message[:1024] or None
    if seen.stage is Stage.RUNNING:
        message = None
    if (status.reason, status.message) != (seen.reason, message):
        draft.move(step.name, ActivityPhase.RUNNING, reason=seen.reason, message=message)
        if seen.reason is not None:
            draft.note(seen.reason, f"{step.name} waits: {seen.message}", activity=step.name, warning=True)


def _record_lateness(draft: Draft, step: Step) -> None:
    status = draft.of(step.name)
    limits = draft.snapshot.limits
    started = status.attempt_started
    assert started is not None, "what runs has a start time"
    if status.stopping is not None:
        if draft.now >= status.stopping.since + limits.stop_timeout:
            order = status.stopping
            told = (
                f"{order.message}; it did not confirm within {limits.stop_timeout.total_seconds():g} s that it stopped"
            )
            _end_as_ordered(draft, step, order, told)
        return
    if step.timeout is not None and draft.now >= started + step.timeout:
        waited = f"; it was waiting: {status.reason}" if status.reason else ""
        told = f"the attempt took longer than {step.activity.timeout}{waited}"
        draft.order_to_stop(step.name, ActivityPhase.FAILED, Reason.ATTEMPT_TIMEOUT, told)
        return
    seen = draft.observation(step)
    waits = step.kind is Kind.POD and seen is not None and seen.stage is Stage.WAITING
    if waits and draft.now >= started + limits.pod_start_timeout:
        told = f"the pod did not start within {limits.pod_start_timeout.total_seconds():g} s: {status.message or 'no reason given'}"
        draft.order_to_stop(step.name, ActivityPhase.FAILED, status.reason or Reason.START_TIMEOUT, told)
