# SPDX-License-Identifier: Apache-2.0
"""Last step of a pass: the run in a few words, from its activities."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubesaga.api.conditions import Condition, Truth, with_condition
from kubesaga.api.fields import format_duration
from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.api.run import RunPhase, WorkflowRunStatus
from kubesaga.engine.advance import final_is_over, main_is_over
from kubesaga.engine.draft import Draft
from kubesaga.engine.expressions import ExpressionError, render
from kubesaga.engine.scope import scope_of
from kubesaga.engine.snapshot import Run, Unusable
from kubesaga.engine.transitions import moved_run


def summarise(draft: Draft) -> WorkflowRunStatus:
    """Return the next status: what the draft holds, and phase, conditions, progress and the like derived from it."""
    outputs: dict[str, Any] | None = None
    if is_over(draft):
        outputs = _conclude(draft)
    old = draft.run.status
    phase = moved_run(old.phase, _phase(draft))
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
            "finally_start_time": draft.finally_start_time,
            "completion_time": draft.now if finished else None,
            "duration": format_duration(draft.now - draft.start_time) if finished else None,
            "progress": _progress(draft),
            "current_activity": None if finished else _current(draft),
            "inputs": draft.inputs or None,
            "variables": draft.variables or None,
            "activities": draft.activities,
            "outputs": outputs,
        }
    )


def is_over(draft: Draft) -> bool:
    """Tell whether nothing runs any more and nothing more will."""
    if draft.active(list(draft.definition.steps.values())):
        return False
    if draft.ending is not None:
        return True
    return main_is_over(draft) and final_is_over(draft)


def _conclude(draft: Draft) -> dict[str, Any] | None:
    """Find the last word: why the run failed, or its outputs."""
    if draft.reason is None:
        wrong = [step.name for step in draft.definition.final if not draft.of(step.name).phase.satisfies]
        if wrong:
            error = draft.of(wrong[0]).error
            told = f"{wrong[0]}: {error.reason}: {error.message}" if error else f"{wrong[0]} did not run in time"
            draft.fail_run(Reason.FINALLY_FAILED, told)
    if draft.reason is not None:
        return None
    try:
        outputs = render(draft.definition.spec.outputs or {}, scope_of(draft), draft.evaluator, "outputs")
    except ExpressionError as error:
        draft.fail_run(Reason.EXPRESSION_FAILED, str(error))
        return None
    if (excess := draft.excess(outputs)) is not None:
        draft.fail_run(Reason.OUTPUT_TOO_LARGE, f"outputs: {excess}")
        return None
    draft.reason = Reason.ALL_SUCCEEDED
    return outputs or None


def _phase(draft: Draft) -> RunPhase:
    if not is_over(draft):
        steps = list(draft.definition.steps.values())
        if draft.running(steps):
            return RunPhase.RUNNING
        if draft.run.spec.suspend:
            return RunPhase.PAUSED
        return RunPhase.WAITING if draft.active(steps) else RunPhase.RUNNING
    if draft.reason is Reason.ALL_SUCCEEDED:
        return RunPhase.SUCCEEDED
    return RunPhase.TERMINATED if draft.ending is not None else RunPhase.FAILED


def _progress(draft: Draft) -> str:
    done = sum(1 for name in draft.definition.steps if draft.of(name).phase.satisfies)
    return f"{done}/{len(draft.definition.steps)}"


def _current(draft: Draft) -> str | None:
    active = draft.active(list(draft.definition.steps.values()))
    unended = [step for step in draft.definition.steps.values() if not draft.of(step.name).phase.ended]
    return next((step.name for step in [*active, *unended]), None)


def conditions_of(draft: Draft, phase: RunPhase) -> list[Condition]:
    """Return the conditions of a run in that phase."""
    conditions = _outcome_conditions(draft.run, phase, draft.reason, draft.message, draft.now)
    generation, now = draft.run.generation, draft.now
    paused = draft.run.spec.suspend and not phase.finished
    if paused or any(condition.type == "Paused" for condition in conditions):
        held = Reason.SUSPENDED if paused else Reason.NOT_SUSPENDED
        truth: Truth = "True" if paused else "False"
        conditions = with_condition(
            conditions, "Paused", truth, held, REASON_TEXT[held], now=now, generation=generation
        )  # fmt: skip
    if draft.run.status.spec_digest not in (None, draft.run.spec_digest):
        told = REASON_TEXT[Reason.SPEC_CHANGED]
        conditions = with_condition(
            conditions, "SpecChanged", "True", Reason.SPEC_CHANGED, told, now=now, generation=generation
        )  # fmt: skip
    return conditions


def refused_conditions(run: Run, phase: RunPhase, why: Unusable, now: datetime) -> list[Condition]:
    """Return the conditions of a run that ended because there was nothing to work from."""
    return _outcome_conditions(run, phase, why.reason, why.message, now)


def _outcome_conditions(
    run: Run, phase: RunPhase, reason: Reason | None, message: str | None, now: datetime
) -> list[Condition]:
    """Return what tools wait for (kstatus: Reconciling while it is live, Stalled when it failed)."""
    finished = phase.finished
    why = reason or Reason.IN_PROGRESS
    text = message or REASON_TEXT[why]
    succeeded: Truth = "Unknown" if not finished else "True" if phase is RunPhase.SUCCEEDED else "False"
    truths: list[tuple[str, Truth]] = [
        ("Completed", "True" if finished else "False"),
        ("Succeeded", succeeded),
        ("Reconciling", "False" if finished else "True"),
        ("Stalled", "True" if finished and phase is not RunPhase.SUCCEEDED else "False"),
    ]
    conditions: list[Condition] = run.status.conditions
    for type_, truth in truths:
        conditions = with_condition(conditions, type_, truth, why, text, now=now, generation=run.generation)
    return conditions
