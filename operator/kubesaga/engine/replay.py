# SPDX-License-Identifier: Apache-2.0
"""A run made from another's record: what is taken over from it, what is done again (S181).

What may be taken over is what succeeded and still stands: an activity that was undone since is done again, and so is
everything that comes after it, because it may have read what was undone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kubesaga.api.deed import ActivityPhase, ActivityStatus
from kubesaga.api.failure import ErrorStrategy
from kubesaga.api.reasons import Reason
from kubesaga.api.run import ReplayOf, ReplayStatus
from kubesaga.engine.deeds import skip, take_over
from kubesaga.engine.definition import Definition, Step, Undoing, deeds_of
from kubesaga.engine.draft import Draft
from kubesaga.engine.snapshot import Source, Unusable

_STANDS = (ActivityPhase.SUCCEEDED, ActivityPhase.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a replay takes over, in the order in which it was done, and what it does."""

    reused: tuple[str, ...]
    redone: tuple[str, ...]

    def __str__(self) -> str:
        taken = f"takes over {', '.join(self.reused)}; " if self.reused else "takes over nothing; "
        return f"{taken}does {', '.join(self.redone) or 'nothing'}"


def refusal_of(wanted: ReplayOf, source: Source, definition: Definition) -> Unusable | None:
    """Return why a run cannot be replayed in the way that is wanted; None if it can."""
    name, known = wanted.activity, source.status.activities
    if not source.status.finished:
        told = f"run: {source.name} has not finished (it is {source.status.phase or 'Pending'}); replay it when it has"
    elif name is not None and name not in definition.steps:
        near = difflib.get_close_matches(name, definition.steps, 1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(definition.steps)}"
        told = f"activity: {source.name} has no activity {name}; {meant}"
    elif name is not None and definition.steps[name].final and wanted.mode == "From":
        told = f"activity: {name} runs in finally, which every run does for itself; name one of activities, or mode: Activity"
    elif wanted.mode == "Activity" and name is None:
        told = "activity: mode Activity repeats one activity; name it"
    elif wanted.mode == "Activity" and (name not in known or known[name].start_time is None):
        told = f"activity: {name} never began in {source.name}, so there is no input to repeat"
    elif wanted.mode == "From" and name is None and not plan_of(wanted, source, definition).redone:
        told = f"run: everything succeeded in {source.name}, so nothing is left to do; name the activity to begin at"
    else:
        return None
    return Unusable(reason=Reason.INVALID_REPLAY, message=f"spec.replayOf.{told}")


def plan_of(wanted: ReplayOf, source: Source, definition: Definition) -> Plan:
    """Return what is taken over and what is done."""
    known = source.status.activities
    if wanted.mode == "Activity" and wanted.activity is not None:
        return Plan(reused=(), redone=(wanted.activity,))
    again = {step.name for step in definition.main if not _stands(known.get(step.name))}
    again |= {wanted.activity} if wanted.activity is not None else set()
    again |= _after(again, definition.main)
    redone = tuple(step.name for step in definition.main if step.name in again)
    reused = sorted(
        (step.name for step in definition.main if step.name not in again),
        key=lambda name: known[name].completion_order or 0,
    )
    return Plan(reused=tuple(reused), redone=redone)


def adapted(definition: Definition, wanted: ReplayOf | None) -> Definition:
    """Return what a replay works from: the whole definition, or one activity of it by itself, which undoes nothing."""
    if wanted is None or wanted.mode == "From" or wanted.activity is None or wanted.activity not in definition.steps:
        return definition
    alone = replace(
        definition.steps[wanted.activity], needs=(), when=None, set=None, undo=None, final=False,
        strategy=ErrorStrategy.ABORT,
    )  # fmt: skip
    return replace(
        definition, steps={alone.name: alone}, main=(alone,), final=(), undos=(), deeds=deeds_of([alone], ()), outputs=None, undoing=Undoing(),
        strategy=ErrorStrategy.ABORT,
    )  # fmt: skip


def lineage(source: Source, plan: Plan | None = None) -> ReplayStatus:
    """Return where a replay comes from, for its status; without a plan as long as it has not begun."""
    reused, redone = (list(plan.reused), list(plan.redone)) if plan is not None else ([], [])
    return ReplayStatus(
        run=source.name, uid=source.uid, workflow=source.workflow, event=source.event, reused=reused, redone=redone
    )


def take_up(draft: Draft, wanted: ReplayOf, source: Source, plan: Plan) -> None:
    """Fill the draft of a run that has not begun with what it takes over."""
    known: Mapping[str, ActivityStatus] = source.status.activities
    for name in plan.reused:
        step = draft.definition.steps[name]
        if known[name].phase is ActivityPhase.SKIPPED:
            skip(draft, step, known[name].reason or Reason.CONDITION_FALSE, f"{name} was skipped already", reused=True)
        else:
            take_over(draft, step, known[name])
    if wanted.mode == "Activity" and wanted.activity is not None:
        recorded = known[wanted.activity]
        draft.activities[wanted.activity] = ActivityStatus(
            phase=ActivityPhase.PENDING, input=recorded.input, env=recorded.env
        )


def _stands(status: ActivityStatus | None) -> bool:
    return status is not None and status.phase in _STANDS


def _after(names: Iterable[str], steps: Iterable[Step]) -> set[str]:
    """Return what waits for one of these, or for what waits for them."""
    after: set[str] = set(names)
    steps = list(steps)
    while more := {step.name for step in steps if step.name not in after and after & set(step.needs)}:
        after |= more
    return after
