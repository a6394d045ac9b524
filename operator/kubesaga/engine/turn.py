# SPDX-License-Identifier: Apache-2.0
"""Third step of a pass: turn where something calls for it, a shutdown, a deletion, a deadline."""

from __future__ import annotations

from kubesaga.api.deed import ActivityPhase
from kubesaga.api.failure import ErrorStrategy
from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.engine.advance import finally_is_late, main_is_over
from kubesaga.engine.definition import Part
from kubesaga.engine.draft import Draft
from kubesaga.engine.retrying import cancel_waiting, give_up
from kubesaga.engine.undoing import unended_undos

_DECIDED = (Reason.COMPENSATION_REJECTED, Reason.COMPENSATION_ABANDONED)


def turn(draft: Draft) -> None:
    """Give the orders to stop that shutdown, deletion and deadlines call for, and write down why the run fails."""
    if draft.ending is not None:
        draft.reason, draft.message = draft.ending, REASON_TEXT[draft.ending]
        if draft.ending is Reason.DELETED and draft.snapshot.namespace_ending:
            draft.message = (
                "The run was stopped and abandoned: its namespace is being deleted, where nothing can start."
            )
        draft.strategy = ErrorStrategy.ABORT
        _stop(draft, draft.ending, "the run is being stopped")
        return
    _cancel(draft)
    _heed_deadline(draft)
    if draft.reason is not None:
        give_up(draft, Part.MAIN)
    _heed_undo_deadline(draft)
    if finally_is_late(draft):
        told = f"finally took longer than {draft.definition.spec.timeout}"
        _stop(draft, Reason.DEADLINE_EXCEEDED, told, Part.FINALLY)


def _cancel(draft: Draft) -> None:
    """Heed a deletion, `shutdown: Cancel` and `shutdown: Compensate`. Once `finally` has begun it is too late for that."""
    if (asked := _asked(draft)) is None or draft.finally_start_time is not None or draft.reason in _DECIDED:
        return
    reason, strategy = asked
    over = main_is_over(draft)
    if over and draft.reason is None:
        return  # everything has been done in this very pass
    displaced = draft.snapshot.admission.displaced
    told = displaced.message if displaced is not None and reason is displaced.reason else REASON_TEXT[reason]
    draft.fail_run(reason, told, strategy)
    if strategy is ErrorStrategy.COMPENSATE and reason in (Reason.DELETED, Reason.COMPENSATION_REQUESTED):
        draft.strategy = strategy
    if not over:
        _stop(draft, reason, "the run is being cancelled", Part.MAIN)


def _asked(draft: Draft) -> tuple[Reason, ErrorStrategy] | None:
    if draft.run.deleting:
        return Reason.DELETED, ErrorStrategy.COMPENSATE
    undo = ErrorStrategy.COMPENSATE if draft.definition.undoing.on_cancel else ErrorStrategy.ABORT
    displaced = draft.snapshot.admission.displaced
    if displaced is not None and draft.run.spec.shutdown != "Compensate":
        return displaced.reason, undo
    match draft.run.spec.shutdown:
        case "Cancel":
            return Reason.CANCELLED, undo
        case "Compensate":
            return Reason.COMPENSATION_REQUESTED, ErrorStrategy.COMPENSATE
    return None


def _heed_deadline(draft: Draft) -> None:
    if draft.deadline is None or draft.now < draft.deadline or main_is_over(draft):
        return
    told = f"the run took longer than {draft.definition.spec.timeout}"
    compensates = draft.definition.strategy is ErrorStrategy.COMPENSATE
    draft.fail_run(
        Reason.DEADLINE_EXCEEDED, told, ErrorStrategy.COMPENSATE if compensates else ErrorStrategy.ABORT
    )  # fmt: skip
    _stop(draft, Reason.DEADLINE_EXCEEDED, told, Part.MAIN)


def _heed_undo_deadline(draft: Draft) -> None:
    if draft.strategy is not ErrorStrategy.COMPENSATE or draft.undo_deadline is None or draft.now < draft.undo_deadline:
        return
    if draft.compensation.late or not unended_undos(draft):
        return
    told = f"undoing took longer than {draft.definition.undoing.timeout.total_seconds():g} s"
    draft.compensation = draft.compensation.model_copy(update={"late": True})
    _stop(draft, Reason.COMPENSATION_TIMEOUT, told, Part.UNDOING)


def _stop(draft: Draft, reason: Reason, message: str, *parts: Part) -> None:
    cancel_waiting(draft, reason, message, *parts)
    for step in draft.running(*parts):
        draft.order_to_stop(step, ActivityPhase.CANCELLED, reason, message)
