# SPDX-License-Identifier: Apache-2.0
"""Fourth step of a pass: start everything that may start now. First the activities, then undos, then `finally`."""

from __future__ import annotations

from kubesaga.api.deed import ActivityPhase
from kubesaga.engine.deeds import begin
from kubesaga.engine.definition import Part, Step
from kubesaga.engine.draft import Draft
from kubesaga.engine.retrying import leave_queue, start_due
from kubesaga.engine.undoing import advance_undoing, undoing_is_over
from kubesaga.engine.waiting import end_waits


def advance(draft: Draft) -> None:
    """Start every deed that may start now; a skipped activity lets its dependents start in the same pass."""
    if draft.run.spec.suspend:
        leave_queue(draft)
    if draft.ending is not None or draft.run.spec.suspend:
        return
    start_due(draft)
    while draft.reason is None and (ready := _ready(draft)):
        for step in ready:
            if draft.reason is None:
                begin(draft, step)
        end_waits(draft)
    if not main_is_over(draft):
        return
    advance_undoing(draft)
    if undoing_is_over(draft):
        _advance_finally(draft)


def _ready(draft: Draft) -> list[Step]:
    steps, known = draft.definition.steps, draft.activities
    return [
        step
        for step in draft.definition.main
        if (step.name not in known or known[step.name].phase is ActivityPhase.PENDING)
        and all(need in known and draft.ended_well(steps[need]) for need in step.needs)
    ]


def main_is_over(draft: Draft) -> bool:
    """Tell whether nothing before undoing and `finally` runs, and nothing more of it will."""
    if draft.active(Part.MAIN):
        return False
    return draft.reason is not None or not _ready(draft)


def _advance_finally(draft: Draft) -> None:
    final = draft.definition.final
    if not final:
        return
    if draft.finally_start_time is None:
        draft.finally_start_time = draft.now
    while not finally_is_late(draft) and not draft.active(Part.FINALLY):
        pending = [step for step in final if draft.of(step).phase is ActivityPhase.PENDING]
        if not pending:
            return
        begin(draft, pending[0])
        end_waits(draft)


def finally_is_late(draft: Draft) -> bool:
    """Tell whether the time of `finally` is up."""
    return draft.finally_deadline is not None and draft.now >= draft.finally_deadline


def final_is_over(draft: Draft) -> bool:
    """Tell whether everything of `finally` has ended, or its time is up."""
    final = draft.definition.final
    if draft.active(Part.FINALLY):
        return False
    return finally_is_late(draft) or all(draft.of(step).phase.ended for step in final)
