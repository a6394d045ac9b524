# SPDX-License-Identifier: Apache-2.0
"""Undoing a run that cannot succeed: what is undone, in which order, and when that is over.

A saga (Garcia-Molina and Salem, 1987) runs the undos of its completed activities backwards. Which those are, and in which
order they completed, stands in the status (`completionOrder`), so that a crash changes nothing about it. An undo that
fails does not keep the others from running (S152); the run then waits for a person.
"""

from __future__ import annotations

from kubesaga.api.deed import ActivityPhase, ActivityStatus
from kubesaga.api.failure import ErrorStrategy
from kubesaga.engine.deeds import begin
from kubesaga.engine.definition import Part, Step
from kubesaga.engine.draft import Draft

_GOOD = (ActivityPhase.SUCCEEDED, ActivityPhase.SKIPPED)


def undos_due(draft: Draft) -> list[Step]:
    """Return the undos that this run calls for, in the order of undoing: what completed last first, loose ones at the end."""
    undoing = draft.definition.undoing
    done: list[tuple[int, Step]] = []
    for step in draft.definition.main:
        status = draft.activity(step.name)
        if step.undo is not None and status.completion_order is not None and (undoing.in_doubt or _certain(status)):
            done.append((status.completion_order, step.undo))
    return [*(undo for _, undo in sorted(done, key=lambda pair: -pair[0])), *undoing.loose]


def _certain(status: ActivityStatus) -> bool:
    """Tell whether an activity has had its effect for certain: it succeeded, before or after an attempt in doubt."""
    return not status.in_doubt or status.phase in (ActivityPhase.SUCCEEDED, ActivityPhase.COMPENSATED)


def is_called_for(draft: Draft) -> bool:
    """Tell whether the run is to be undone, once nothing else of it runs."""
    begun = draft.compensation.start_time is not None
    return draft.strategy is ErrorStrategy.COMPENSATE and (begun or draft.finally_start_time is None)


def waits_for_decision(draft: Draft) -> bool:
    """Tell whether undoing waits for a WorkflowAction Compensate or Reject (`compensation.mode: Manual`)."""
    asked = draft.compensation.request_time is not None and draft.compensation.start_time is None
    return asked and is_called_for(draft)


def advance_undoing(draft: Draft) -> None:
    """Start the undos that may start now; the first time, write down that undoing begins, or that it waits to be approved."""
    if not is_called_for(draft) or not (due := undos_due(draft)):
        return
    if draft.compensation.start_time is None:
        if draft.definition.undoing.manual and not _is_ordered(draft):
            if draft.compensation.request_time is None:
                draft.compensation = draft.compensation.model_copy(update={"request_time": draft.now})
            return
        start_undoing(draft)
    while not draft.compensation.late and (ready := _ready(draft, due)):
        for undo in ready:
            begin(draft, undo)


def start_undoing(draft: Draft) -> None:
    """Write down that undoing begins now; its time counts from here."""
    asked = draft.compensation.request_time or draft.now
    draft.compensation = draft.compensation.model_copy(
        update={"request_time": asked, "start_time": draft.now, "late": None}
    )


def _is_ordered(draft: Draft) -> bool:
    """Tell whether somebody has said already that the run is to be undone, so that nobody needs to be asked."""
    return draft.run.deleting or draft.run.spec.shutdown == "Compensate"


def _ready(draft: Draft, due: list[Step]) -> list[Step]:
    pending = [undo for undo in due if draft.of(undo).phase is ActivityPhase.PENDING]
    if draft.definition.undoing.parallel:
        return pending
    return [] if draft.active(Part.UNDOING) else pending[:1]


def unended_undos(draft: Draft) -> list[Step]:
    """Return the undos that this run calls for and that are under way or still to come."""
    return [undo for undo in undos_due(draft) if not draft.of(undo).phase.ended]


def failed_undos(draft: Draft) -> list[Step]:
    """Return the undos that this run calls for and that have failed, or had no time to start."""
    due = undos_due(draft)
    left = [undo for undo in due if draft.of(undo).phase not in _GOOD]
    return [undo for undo in left if draft.of(undo).phase.ended or draft.compensation.late]


def is_parked(draft: Draft) -> bool:
    """Tell whether undoing has come to a stop without being done: it waits for a WorkflowAction Retry, Skip or Abandon."""
    if draft.compensation.start_time is None or not is_called_for(draft):
        return False
    due = undos_due(draft)
    if draft.active(Part.UNDOING) or not failed_undos(draft):
        return False
    return bool(draft.compensation.late) or all(draft.of(undo).phase.ended for undo in due)


def undoing_is_over(draft: Draft) -> bool:
    """Tell whether nothing is left to be undone, or undoing has been given up."""
    if draft.active(Part.UNDOING):
        return False
    return not is_called_for(draft) or all(draft.of(undo).phase in _GOOD for undo in undos_due(draft))


def is_undone(draft: Draft) -> bool:
    """Tell whether undoing began and came to its end."""
    return draft.compensation.start_time is not None and is_called_for(draft) and undoing_is_over(draft)
