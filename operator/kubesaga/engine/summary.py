# SPDX-License-Identifier: Apache-2.0
"""Last step of a pass: the run in a few words, from its activities."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubesaga.api.conditions import Condition, Truth, with_condition
from kubesaga.api.deed import ActivityPhase, ActivityStatus
from kubesaga.api.failure import ErrorStrategy
from kubesaga.api.fields import format_duration
from kubesaga.api.names import Deed
from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.api.run import CompensationStatus, RunPhase, WorkflowRunStatus
from kubesaga.engine.advance import final_is_over, main_is_over
from kubesaga.engine.definition import Step
from kubesaga.engine.draft import Draft
from kubesaga.engine.language.expressions import ExpressionError, render
from kubesaga.engine.scope import scope_of
from kubesaga.engine.snapshot import Run, Unusable
from kubesaga.engine.transitions import moved_run
from kubesaga.engine.undoing import failed_undos, is_parked, is_undone, undoing_is_over, undos_due, waits_for_decision

_STALLED = (
    RunPhase.FAILED, RunPhase.COMPENSATED, RunPhase.CANCELLED, RunPhase.TERMINATED, RunPhase.COMPENSATION_FAILED,
)  # fmt: skip


def summarise(draft: Draft) -> WorkflowRunStatus:
    """Return the next status: what the draft holds, and phase, conditions, progress and the like derived from it."""
    outputs: dict[str, Any] | None = None
    if is_over(draft):
        outputs = _conclude(draft)
    old = draft.run.status
    phase = moved_run(old.phase, phase_of(draft))
    finished = phase.finished
    return old.model_copy(
        update={
            "id": draft.run.uid,
            "phase": phase,
            "reason": draft.reason,
            "message": draft.message,
            "conditions": conditions_of(draft, phase),
            "observed_generation": draft.run.generation,
            "start_time": draft.start_time,
            "queue": None,
            "replay": draft.replay,
            "error_strategy": draft.strategy,
            "compensation": _compensation(draft),
            "actions": draft.actions or None,
            "signals": draft.signals or None,
            "finally_start_time": draft.finally_start_time,
            "completion_time": draft.now if finished else None,
            "duration": format_duration(draft.now - draft.start_time) if finished else None,
            "progress": _progress(draft),
            "current_activity": None if finished else _current(draft),
            "inputs": draft.inputs or None,
            "variables": draft.variables or None,
            "activities": _activities(draft),
            "outputs": outputs,
        }
    )


def is_over(draft: Draft) -> bool:
    """Tell whether nothing runs any more and nothing more will."""
    if draft.reason is Reason.DRY_RUN:
        return True
    if draft.active():
        return False
    if draft.ending is not None:
        return True
    return main_is_over(draft) and undoing_is_over(draft) and final_is_over(draft)


def _conclude(draft: Draft) -> dict[str, Any] | None:
    """Find the last word: why the run failed, or its outputs."""
    if draft.reason is None:
        wrong = [step for step in draft.definition.final if not draft.ended_well(step)]
        if wrong:
            error = draft.of(wrong[0]).error
            name = wrong[0].name
            told = f"{name}: {error.reason}: {error.message}" if error else f"{name} did not run in time"
            draft.fail_run(Reason.FINALLY_FAILED, told)
    if draft.reason is not None:
        return None
    try:
        outputs = render(dict(draft.definition.outputs or {}), scope_of(draft), draft.evaluator, "outputs")
    except ExpressionError as error:
        draft.fail_run(Reason.EXPRESSION_FAILED, str(error))
        return None
    if (excess := draft.excess(outputs)) is not None:
        draft.fail_run(Reason.OUTPUT_TOO_LARGE, f"outputs: {excess}")
        return None
    missing = [step.name for step in draft.definition.steps.values() if draft.of(step).phase.went_wrong]
    draft.reason = Reason.PARTIAL_FAILURE if missing else Reason.ALL_SUCCEEDED
    draft.message = f"went on without {', '.join(missing)}" if missing else None
    return outputs or None


def phase_of(draft: Draft) -> RunPhase:
    """Return the run in one word."""
    if is_over(draft):
        return _last_phase(draft)
    if is_parked(draft):
        return RunPhase.COMPENSATION_FAILED
    undoing = draft.compensation.start_time is not None
    if draft.running():
        return RunPhase.COMPENSATING if undoing else RunPhase.RUNNING
    if draft.run.spec.suspend:
        return RunPhase.PAUSED
    if undoing:
        return RunPhase.COMPENSATING
    waits = draft.active() or waits_for_decision(draft)
    return RunPhase.WAITING if waits else RunPhase.RUNNING


def _last_phase(draft: Draft) -> RunPhase:
    if draft.ending is not None:
        return RunPhase.TERMINATED
    if draft.reason in (Reason.ALL_SUCCEEDED, Reason.PARTIAL_FAILURE, Reason.DRY_RUN):
        return RunPhase.SUCCEEDED
    undone = is_undone(draft)
    cancelled = draft.reason in (Reason.CANCELLED, Reason.DELETED, Reason.REPLACED, Reason.MADE_ROOM)
    if cancelled or (draft.reason is Reason.COMPENSATION_REQUESTED and not undone):
        return RunPhase.CANCELLED
    return RunPhase.COMPENSATED if undone else RunPhase.FAILED


def _activities(draft: Draft) -> dict[str, ActivityStatus]:
    """Return the activities, each with its fallback and its undo."""
    if not draft.others:
        return draft.activities
    whole = dict(draft.activities)
    for (deed, name), known in draft.others.items():
        if name in whole:
            part = "compensation" if deed is Deed.UNDO else "fallback"
            whole[name] = whole[name].model_copy(update={part: known})
    return whole


def _compensation(draft: Draft) -> CompensationStatus | None:
    if draft.compensation.request_time is None:
        return None
    loose = {undo.name: draft.others[undo.key] for undo in draft.definition.undoing.loose if undo.key in draft.others}
    return draft.compensation.model_copy(update={"activities": loose or None})


def _progress(draft: Draft) -> str:
    done = sum(1 for step in draft.definition.steps.values() if draft.of(step).phase.satisfies)
    return f"{done}/{len(draft.definition.steps)}"


def _current(draft: Draft) -> str | None:
    active = draft.active()
    if active:
        return active[0].name
    if draft.compensation.start_time is not None and draft.finally_start_time is None:
        left = [undo.name for undo in undos_due(draft) if not draft.of(undo).phase.satisfies]
        return left[0] if left else None
    return next((step.name for step in draft.definition.steps.values() if not draft.of(step).phase.ended), None)


def conditions_of(draft: Draft, phase: RunPhase) -> list[Condition]:
    """Return the conditions of a run in that phase."""
    conditions = outcome_conditions(draft.run, phase, draft.reason, draft.message, draft.now)
    generation, now = draft.run.generation, draft.now
    if (undone := _undone(draft, phase)) is not None:
        truth, why, told = undone
        conditions = with_condition(conditions, "Compensated", truth, why, told, now=now, generation=generation)
    paused = draft.run.spec.suspend and not phase.finished
    if paused or any(condition.type == "Paused" for condition in conditions):
        held = Reason.SUSPENDED if paused else Reason.NOT_SUSPENDED
        truth = "True" if paused else "False"
        conditions = with_condition(
            conditions, "Paused", truth, held, REASON_TEXT[held], now=now, generation=generation
        )  # fmt: skip
    if draft.run.status.spec_digest not in (None, draft.run.spec_digest):
        told = REASON_TEXT[Reason.SPEC_CHANGED]
        conditions = with_condition(
            conditions, "SpecChanged", "True", Reason.SPEC_CHANGED, told, now=now, generation=generation
        )  # fmt: skip
    return conditions


def _undone(draft: Draft, phase: RunPhase) -> tuple[Truth, Reason, str] | None:
    """Tell how undoing stands, as a condition; None: nothing was ever to be undone."""
    if draft.compensation.request_time is None:
        nothing = phase.finished and draft.strategy is ErrorStrategy.COMPENSATE and draft.definition.undos
        return ("False", Reason.NOTHING_TO_UNDO, REASON_TEXT[Reason.NOTHING_TO_UNDO]) if nothing else None
    if phase is RunPhase.COMPENSATION_FAILED:
        why = Reason.COMPENSATION_TIMEOUT if draft.compensation.late else Reason.UNDO_FAILED
        failed = "; ".join(_failure(draft, undo) for undo in failed_undos(draft))
        return "False", why, f"{REASON_TEXT[why]} Not undone: {failed}"
    if waits_for_decision(draft):
        return "Unknown", Reason.AWAITING_DECISION, REASON_TEXT[Reason.AWAITING_DECISION]
    if is_undone(draft):
        done = [undo.name for undo in undos_due(draft) if draft.of(undo).phase is ActivityPhase.SUCCEEDED]
        return "True", Reason.ALL_UNDONE, f"Undone: {', '.join(done) or 'nothing'}."
    if phase.finished or draft.strategy is not ErrorStrategy.COMPENSATE:
        return "False", Reason.UNDOING_GIVEN_UP, REASON_TEXT[Reason.UNDOING_GIVEN_UP]
    return "Unknown", Reason.IN_PROGRESS, "Undoing is under way."


def _failure(draft: Draft, undo: Step) -> str:
    error = draft.of(undo).error
    return f"{undo.name} ({error.reason}: {error.message})" if error else f"{undo.name} (not begun)"


def refused_conditions(run: Run, phase: RunPhase, why: Unusable, now: datetime) -> list[Condition]:
    """Return the conditions of a run that ended because there was nothing to work from."""
    return outcome_conditions(run, phase, why.reason, why.message, now)


def outcome_conditions(
    run: Run, phase: RunPhase, reason: Reason | None, message: str | None, now: datetime
) -> list[Condition]:
    """Return the conditions that tools wait for (kstatus: Reconciling while it is live, Stalled when it failed)."""
    finished = phase.finished
    why = reason or Reason.IN_PROGRESS
    text = message or REASON_TEXT[why]
    succeeded: Truth = "Unknown" if not finished else "True" if phase is RunPhase.SUCCEEDED else "False"
    truths: list[tuple[str, Truth]] = [
        ("Completed", "True" if finished else "False"),
        ("Succeeded", succeeded),
        ("Reconciling", "False" if finished or phase is RunPhase.COMPENSATION_FAILED else "True"),
        ("Stalled", "True" if phase in _STALLED else "False"),
    ]
    conditions: list[Condition] = run.status.conditions
    for type_, truth in truths:
        conditions = with_condition(conditions, type_, truth, why, text, now=now, generation=run.generation)
    return conditions
