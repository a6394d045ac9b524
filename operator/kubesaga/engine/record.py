# SPDX-License-Identifier: Apache-2.0
"""First step of a pass: write down how attempts ended, what they wait for, and which have taken too long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from kubesaga.api.deed import ActivityPhase, DeedStatus, Stopping
from kubesaga.api.fields import format_duration
from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed, Observation, Stage, Succeeded, Unknown
from kubesaga.engine.decision import EndedCall
from kubesaga.engine.deeds import fail, succeed
from kubesaga.engine.definition import Kind, Step
from kubesaga.engine.draft import Draft
from kubesaga.engine.guarding import GuardKey
from kubesaga.engine.language.schemas import violation
from kubesaga.engine.retries import UNCHARGED
from kubesaga.engine.retrying import retry_or_fail

_SAYS_NOTHING: Final = UNCHARGED | {
    Reason.POD_DELETED, Reason.POD_REJECTED, Reason.FOREIGN_POD, Reason.QUOTA_EXCEEDED, Reason.LIMIT_RANGE,
    Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_BACK_OFF, Reason.INVALID_IMAGE_NAME, Reason.CONFIG_ERROR,
    Reason.CONTAINER_CANNOT_RUN, Reason.HANDLER_NOT_FOUND, Reason.EGRESS_DENIED,
}  # fmt: skip
"""Failures of an attempt that never came to call anything: they say nothing of what it would have called."""

_DONE_ALL_THE_SAME: Final = frozenset({Reason.OUTPUT_TOO_LARGE, Reason.OUTPUT_INVALID})
"""The attempt came to its end; only what it said cannot be used."""


def record(draft: Draft) -> None:
    """Bring every deed that is under way up to what its executor sees now."""
    for step in draft.running():
        seen = draft.observation(step)
        if seen is not None and seen.stage is Stage.ENDED:
            _record_end(draft, step, seen)
        elif seen is None:
            _record_absence(draft, step)
        else:
            _record_wait(draft, step, seen)
    for step in draft.running():
        _record_lateness(draft, step)


def _record_end(draft: Draft, step: Step, seen: Observation) -> None:
    order = draft.of(step).stopping
    match seen.outcome:
        case Succeeded(output=output):
            # What has happened has happened, even after an order to stop: a saga must know what there is to undo.
            _record_success(draft, step, output)
        case Failed(in_doubt=in_doubt) if order is not None:
            _end_as_ordered(draft, step, order, order.message, in_doubt=in_doubt)
        case Unknown() if order is not None:
            _end_as_ordered(draft, step, order, order.message, in_doubt=True)
        case Failed() as failure:
            if failure.reason not in _SAYS_NOTHING:
                _tell_breaker(draft, step, succeeded=False)
            if failure.reason in _DONE_ALL_THE_SAME or draft.of(step).interruptions:
                # Started again after an operator died during it, it may have had its effect the first time.
                failure = replace(failure, in_doubt=True)
            retry_or_fail(draft, step, ActivityPhase.FAILED, failure)
        case Unknown(message=message):
            _record_unknown(draft, step, message)
        case _:
            raise AssertionError(f"{step.shown} is observed to have ended, without an outcome")


def _tell_breaker(draft: Draft, step: Step, *, succeeded: bool) -> None:
    """Note that a call has ended, for the circuit breaker that it has passed."""
    status = draft.of(step)
    if status.guard is not None and status.attempt_started is not None:
        guard = GuardKey.parse(status.guard, draft.run.key.namespace)
        call = EndedCall(guard=guard, succeeded=succeeded, began=status.attempt_started, ended=draft.now)
        draft.calls.append(call)


def _record_success(draft: Draft, step: Step, output: Any) -> None:
    reported = isinstance(output, dict) and output.get("success") is False
    _tell_breaker(draft, step, succeeded=not reported)
    if reported:
        said = output.get("message") or output.get("error") or "its output says success: false"
        failure = Failed(reason=Reason.REPORTED_FAILURE, message=str(said), output=output)
        retry_or_fail(draft, step, ActivityPhase.FAILED, failure)
    elif (fault := _unfit(draft, step, output)) is not None:
        failure = Failed(reason=Reason.OUTPUT_INVALID, message=fault, retryable=False, in_doubt=True, output=output)
        retry_or_fail(draft, step, ActivityPhase.FAILED, failure)
    else:
        succeed(draft, step, output)


def _unfit(draft: Draft, step: Step, output: Any) -> str | None:
    """Return how an output does not fit the `output` of the Activity that is used; no output is an empty one."""
    if step.use is None or step.use.output is None:
        return None
    fault = violation(step.use.output, {} if output is None else output, draft.evaluator, "output")
    return f"{fault} (the output of the Activity {step.use.name})" if fault else None


def _record_unknown(draft: Draft, step: Step, message: str) -> None:
    failure = Failed(reason=Reason.OUTCOME_UNKNOWN, message=message, in_doubt=True)
    retry_or_fail(draft, step, ActivityPhase.OUTCOME_UNKNOWN, failure)


def _end_as_ordered(draft: Draft, step: Step, order: Stopping, message: str, *, in_doubt: bool) -> None:
    """End an attempt that was told to stop. One that took too long may be tried again; one that was cancelled is over."""
    failure = Failed(reason=order.reason, message=message, in_doubt=in_doubt)
    if order.reason is Reason.ATTEMPT_TIMEOUT:
        _tell_breaker(draft, step, succeeded=False)
    if order.phase is ActivityPhase.FAILED:
        retry_or_fail(draft, step, order.phase, failure)
    else:
        fail(draft, step, order.phase, failure)


def _record_absence(draft: Draft, step: Step) -> None:
    status = draft.of(step)
    order = status.stopping
    if order is not None:
        _end_as_ordered(draft, step, order, order.message, in_doubt=True)
    elif step.kind.in_process and status.worker != draft.snapshot.worker:
        _record_interruption(draft, step, status)


def _record_interruption(draft: Draft, step: Step, status: DeedStatus) -> None:
    """The operator that carried the attempt out is gone. Its effect may have happened: start it again under the same key."""
    count = (status.interruptions or 0) + 1
    if count > draft.snapshot.limits.max_interruptions:
        told = f"the operator ended during this attempt {count} times; whether it had its effect is not known"
        _record_unknown(draft, step, told)
        return
    draft.move(step, ActivityPhase.RUNNING, worker=draft.snapshot.worker, interruptions=count)
    draft.note(
        "ActivityInterrupted", f"{step.shown} is started again: the operator ended during it", activity=step.name
    )


def _record_wait(draft: Draft, step: Step, seen: Observation) -> None:
    status = draft.of(step)
    message = seen.message[:1024] or None
    if seen.stage is Stage.RUNNING:
        message = None
    if (status.reason, status.message) != (seen.reason, message):
        draft.move(step, ActivityPhase.RUNNING, reason=seen.reason, message=message)
        if seen.reason is not None:
            draft.note(seen.reason, f"{step.shown} waits: {seen.message}", activity=step.name, warning=True)


def _record_lateness(draft: Draft, step: Step) -> None:
    status = draft.of(step)
    limits = draft.snapshot.limits
    started = status.attempt_started
    assert started is not None, "what runs has a start time"
    if status.stopping is not None:
        if draft.now >= status.stopping.since + limits.stop_timeout:
            order = status.stopping
            told = (
                f"{order.message}; it did not confirm within {limits.stop_timeout.total_seconds():g} s that it stopped"
            )
            _end_as_ordered(draft, step, order, told, in_doubt=True)
        return
    timeout = draft.timeout_of(step)
    if timeout is not None and draft.now >= started + timeout:
        waited = f"; it was waiting: {status.reason}" if status.reason else ""
        told = f"the attempt took longer than {format_duration(timeout)}{waited}"
        draft.order_to_stop(step, ActivityPhase.FAILED, Reason.ATTEMPT_TIMEOUT, told)
        return
    seen = draft.observation(step)
    waits = step.kind is Kind.POD and seen is not None and seen.begun and seen.stage is Stage.WAITING
    if waits and draft.now >= started + limits.pod_start_timeout:
        told = f"the pod did not start within {limits.pod_start_timeout.total_seconds():g} s: {status.message or 'no reason given'}"
        draft.order_to_stop(step, ActivityPhase.FAILED, status.reason or Reason.START_TIMEOUT, told)
