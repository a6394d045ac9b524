# SPDX-License-Identifier: Apache-2.0
"""How a deed begins and how it ends, and what follows from its end: for the activity, its fallback, its undo, the run."""

from __future__ import annotations

from typing import Any, Final

from kubesaga.api.deed import ActivityPhase, ActivityStatus, UndoStatus
from kubesaga.api.failure import ErrorStrategy
from kubesaga.api.fields import format_time
from kubesaga.api.names import Deed, activity_id
from kubesaga.api.reasons import Reason
from kubesaga.api.waits import Sleep, WaitFor
from kubesaga.api.workflow import wait_of
from kubesaga.engine.admitting import REASONS, answer_for, guard_of
from kubesaga.engine.attempt import Failed
from kubesaga.engine.decision import Rejection
from kubesaga.engine.definition import Kind, Step
from kubesaga.engine.draft import Draft, error_of, fallback_of, skips
from kubesaga.engine.giving import UnfitParams, recorded, rendered
from kubesaga.engine.language.expressions import ExpressionError, condition, render
from kubesaga.engine.scope import scope_of
from kubesaga.engine.slots import Blocked, Granted, Refused
from kubesaga.engine.wait_times import end_of

_P = ActivityPhase
_REJECTIONS: Final = (Reason.CIRCUIT_OPEN, Reason.BULKHEAD_REJECTED, Reason.BULKHEAD_TIMEOUT)


def begin(draft: Draft, step: Step) -> None:
    """Write down that a deed starts, with everything its attempt is given; or that it is skipped, or cannot start."""
    try:
        scope = scope_of(draft)
        if step.when is not None and not condition(step.when, scope, draft.evaluator, "when"):
            skip(draft, step, Reason.CONDITION_FALSE, f"{step.shown} is skipped: its condition is false")
            return
        given, env = recorded(draft, step) or rendered(draft, step, scope)
    except ExpressionError as error:
        fail(draft, step, _P.FAILED, Failed(reason=Reason.EXPRESSION_FAILED, message=str(error), retryable=False))
        return
    except UnfitParams as error:
        fail(draft, step, _P.FAILED, Failed(reason=Reason.INVALID_INPUT, message=str(error), retryable=False))
        return
    if (told := draft.excess(given, env)) is not None:
        fail(draft, step, _P.FAILED, Failed(reason=Reason.INVALID_INPUT, message=told, retryable=False))
        return
    if step.kind.waits:
        _begin_waiting(draft, step, given)
        return
    if not enters(draft, step, given):
        return
    number = (draft.of(step).attempt or 0) + 1
    if step.deed is Deed.UNDO:
        _begin_undoing(draft, step)
    draft.move(
        step, _P.RUNNING, id=activity_id(draft.run.uid, step.name), start_time=draft.now, attempt_start_time=None,
        input=given or None, env=env or None, error=None, failures=None, completion_time=None, reason=None, message=None,
        **of_attempt(draft, step, number, given),
    )  # fmt: skip
    draft.note("ActivityStarted", f"{step.shown} starts", activity=step.name)


def _begin_waiting(draft: Draft, step: Step, given: Any) -> None:
    """Write down that the run waits, and until when. What is over already ends in the same pass (`waiting.end_waits`)."""
    until = end_of(given, draft.now)
    reason, what = _what_for(wait_of(step.work))
    told = " ".join(part for part in (what, f"until {format_time(until)}" if until is not None else "") if part)
    draft.move(
        step, _P.WAITING, id=activity_id(draft.run.uid, step.name), start_time=draft.now, until=until, input=given or None,
        error=None, completion_time=None, reason=reason, message=told,
    )  # fmt: skip
    draft.note("ActivityWaits", f"{step.shown} waits {told}", activity=step.name)


def _what_for(wait: Sleep | WaitFor | None) -> tuple[Reason, str]:
    if not isinstance(wait, WaitFor):
        return Reason.SLEEPING, ""
    if wait.event is None:
        return Reason.AWAITING_SIGNAL, "for a Signal"
    return Reason.AWAITING_EVENT, f"for the event {wait.event}"


def _begin_undoing(draft: Draft, undo: Step) -> None:
    activity = draft.definition.steps.get(undo.name)
    if activity is not None:
        before = draft.of(activity).phase
        draft.move(activity, _P.COMPENSATING)
        draft.move(undo, draft.of(undo).phase, undoes=before)


def enters(draft: Draft, step: Step, given: Any) -> bool:
    """Tell whether an attempt has its slot; else write down that the deed waits for it, or was turned away."""
    match answer_for(draft, step, given):
        case Granted():
            return True
        case Refused(reason=reason, message=told):
            if (turned_away_at := guard_of(draft, step, given)) is not None and reason in _REJECTIONS:
                draft.rejections.append(Rejection(guard=turned_away_at, reason=reason))
            fail(draft, step, _P.FAILED, Failed(reason=reason, message=told, retryable=False))
        case Blocked(by=by, message=told):
            reason = REASONS.get(by, Reason.AWAITING_SLOT)
            known, guard = draft.of(step), guard_of(draft, step, given)
            if known.phase is not _P.QUEUED:
                draft.note("ActivityQueued", f"{step.shown} waits: {by}: {told}", activity=step.name)
            draft.move(
                step, _P.QUEUED, queued_time=known.queued_time or draft.now, guard=str(guard) if guard else None,
                reason=reason, message=f"{by}: {told}",
            )  # fmt: skip
    return False


def of_attempt(draft: Draft, step: Step, number: int, given: Any) -> dict[str, Any]:
    """Return the fields that say which attempt it is, and where it is carried out."""
    guard = guard_of(draft, step, given)
    return {
        "guard": str(guard) if guard is not None else None,
        "queued_time": None,
        "attempt": number,
        "pod_name": draft.attempt_id(step, number).pod_name(draft.run.key.name) if step.kind is Kind.POD else None,
        "worker": draft.snapshot.worker if step.kind.in_process else None,
    }


def skip(draft: Draft, step: Step, reason: Reason, told: str, **changes: Any) -> None:
    """Write down that a deed is left out."""
    draft.move(
        step, _P.SKIPPED, id=activity_id(draft.run.uid, step.name), completion_time=draft.now, reason=reason, message=None,
        stopping=None, next_attempt_time=None, **changes,
    )  # fmt: skip
    draft.note("ActivitySkipped", told, activity=step.name)


def succeed(draft: Draft, step: Step, output: Any) -> None:
    """Write down that an attempt succeeded, and what follows from that."""
    if step.deed is Deed.DO:
        _have(draft, step, output)
        return
    draft.move(
        step, _P.SUCCEEDED, output=output if step.deed is Deed.UNDO else None, completion_time=draft.now,
        stopping=None, reason=None, message=None, error=None,
    )  # fmt: skip
    draft.note("ActivitySucceeded", f"{step.shown} succeeded", activity=step.name)
    activity = draft.definition.steps.get(step.name)
    if activity is None:
        return
    if step.deed is Deed.FALLBACK:
        _have(draft, activity, output)
    else:
        draft.move(activity, _P.COMPENSATED)


def take_over(draft: Draft, step: Step, recorded: ActivityStatus) -> None:
    """Write down that an activity was done already, by the run that this one replays; variables follow as from its own."""
    draft.activities[step.name] = recorded.model_copy(
        update={
            "id": activity_id(draft.run.uid, step.name), "phase": _P.WAITING, "reused": True, "completion_order": None,
            "fallback": None, "compensation": None, "worker": None, "attempts": None, "in_doubt": None,
        }
    )  # fmt: skip
    _have(draft, step, recorded.output)
    draft.activities[step.name] = draft.activities[step.name].model_copy(
        update={"completion_time": recorded.completion_time}
    )


def _have(draft: Draft, step: Step, output: Any) -> None:
    """Give an activity its output, its own or its fallback's, and set the variables that follow from it."""
    order = None if step.final else draft.activity(step.name).completion_order or draft.next_order()
    try:
        changed = render(dict(step.set or {}), {**scope_of(draft), "output": output}, draft.evaluator, "set")
    except ExpressionError as error:
        # The deed is done all the same, and will be undone.
        told = Failed(reason=Reason.EXPRESSION_FAILED, message=str(error), retryable=False, output=output)
        _end(draft, step, _P.FAILED, told, completion_order=order)
        return
    if (excess := draft.excess(output, changed)) is not None:
        told = Failed(reason=Reason.OUTPUT_TOO_LARGE, message=excess, retryable=False)
        _end(draft, step, _P.FAILED, told, completion_order=order)
        return
    draft.variables |= changed
    stood_in = draft.of(step).phase is _P.WAITING
    draft.move(
        step, _P.SUCCEEDED, output=output, completion_time=draft.now, completion_order=order, stopping=None, reason=None,
        message=None, error=draft.of(step).error if stood_in else None,
    )  # fmt: skip
    draft.note("ActivitySucceeded", f"{step.shown} succeeded", activity=step.name)


def fail(draft: Draft, step: Step, phase: ActivityPhase, failure: Failed, **changes: Any) -> None:
    """Write down that a deed has failed for good, in `phase`; an activity's fallback stands in where there is one."""
    if failure.in_doubt or phase is _P.OUTCOME_UNKNOWN:
        changes["in_doubt"] = True
    if step.deed is Deed.DO and phase.went_wrong and draft.may_start(step):
        if skips(step, failure.reason):
            told = f"{step.shown} is skipped, as its fallback says: {failure.reason}: {failure.message}"
            error = error_of(failure.reason, failure.message, retryable=failure.retryable)
            skip(draft, step, Reason.FALLBACK_SKIPPED, told, error=error, **_effect(draft, step, changes))
            return
        if (fallback := fallback_of(step, failure.reason)) is not None:
            _fall_back(draft, step, fallback, failure, changes)
            return
    _end(draft, step, phase, failure, **changes)


def _fall_back(draft: Draft, step: Step, fallback: Step, failure: Failed, changes: dict[str, Any]) -> None:
    error = error_of(failure.reason, failure.message, retryable=failure.retryable)
    draft.move(
        step, _P.WAITING, error=error, output=None, stopping=None, next_attempt_time=None, reason=Reason.FALLING_BACK,
        message=None, **changes,
    )  # fmt: skip
    draft.note(
        "FallingBack",
        f"{step.shown} failed ({failure.reason}: {failure.message}); its fallback starts",
        activity=step.name,
        warning=True,
    )
    begin(draft, fallback)


def _end(draft: Draft, step: Step, phase: ActivityPhase, failure: Failed, **changes: Any) -> None:
    error = error_of(failure.reason, failure.message, retryable=failure.retryable)
    draft.move(
        step, phase, completion_time=draft.now, error=error, output=failure.output, stopping=None, reason=None,
        message=None, next_attempt_time=None, **_effect(draft, step, changes),
    )  # fmt: skip
    draft.note(failure.reason, f"{step.shown} ended as {phase}: {failure.message}", activity=step.name, warning=True)
    match step.deed:
        case Deed.DO if phase.went_wrong and not step.final:
            if step.strategy is not ErrorStrategy.CONTINUE:
                told = f"{step.name}: {failure.reason}: {failure.message}"
                draft.fail_run(Reason.ACTIVITY_FAILED, told, step.strategy)
        case Deed.FALLBACK:
            _end_with_fallback(draft, step, phase, failure)
        case Deed.UNDO:
            restore(draft, step)


def _end_with_fallback(draft: Draft, fallback: Step, phase: ActivityPhase, failure: Failed) -> None:
    """End an activity whose fallback has failed too: as it failed itself, or as it was told to."""
    step = draft.definition.steps[fallback.name]
    own = draft.of(step).error
    assert own is not None, "a fallback starts only after its activity has failed"
    if phase is not _P.CANCELLED:
        phase = _P.OUTCOME_UNKNOWN if own.reason is Reason.OUTCOME_UNKNOWN else _P.FAILED
    told = f"{own.message}; its fallback failed too: {failure.reason}: {failure.message}"
    # What a fallback may have done is the activity's to undo.
    doubt = {"in_doubt": True} if draft.of(fallback).in_doubt else {}
    _end(draft, step, phase, Failed(reason=own.reason, message=told, retryable=own.retryable), **doubt)


def restore(draft: Draft, undo: Step) -> None:
    """Give the activity of an undo that failed, or was left out, the phase back that it had before."""
    known = draft.of(undo)
    activity = draft.definition.steps.get(undo.name)
    before = known.undoes if isinstance(known, UndoStatus) else None
    if activity is not None and before is not None and draft.of(activity).phase is _P.COMPENSATING:
        draft.move(activity, before)


def _effect(draft: Draft, step: Step, changes: dict[str, Any]) -> dict[str, Any]:
    """Give an activity that may have had its effect its place in the order in which things are undone."""
    doubtful = changes.get("in_doubt") or draft.of(step).in_doubt
    if step.deed is Deed.DO and not step.final and doubtful and draft.activity(step.name).completion_order is None:
        return {"completion_order": draft.next_order(), **changes}
    return changes
