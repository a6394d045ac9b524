# SPDX-License-Identifier: Apache-2.0
"""What is to be done: the difference between what the status says is under way and what is observed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from kubesaga.api.deed import ActivityPhase
from kubesaga.api.run import WorkflowRunStatus
from kubesaga.engine.advance import main_is_over
from kubesaga.engine.attempt import Attempt, AttemptId, Stage
from kubesaga.engine.decision import Effect, Release, Start, Stop, Tidy
from kubesaga.engine.definition import Kind, Part, Step
from kubesaga.engine.draft import Draft
from kubesaga.engine.snapshot import Snapshot
from kubesaga.engine.undoing import is_called_for, unended_undos

_TRY_TO_BEGIN: Final = timedelta(seconds=10)
"""How long until an attempt that could not begin is tried to begin again."""
_LOOK_AT_NAMESPACE: Final = timedelta(seconds=30)
"""How long until a run that is held by its undoing finds out that its namespace is being deleted: nobody tells it."""


def effects_of(draft: Draft) -> tuple[Effect, ...]:
    """Return the deeds of a live run: let go of what is recorded, stop what must end, start what is not there."""
    wanted: dict[AttemptId, Step] = {draft.attempt_id(step): step for step in draft.running()}
    effects: list[Effect] = _unwanted(draft.snapshot, set(wanted))
    for attempt, step in wanted.items():
        seen = draft.snapshot.observed.get(attempt)
        order = draft.of(step).stopping
        if order is not None:
            if seen is None or seen.stage is not Stage.ENDED:
                effects.append(Stop(attempt=attempt, kind=step.kind, reason=str(order.reason)))
        elif seen is None or not seen.begun:
            effects.append(Start(attempt=attempt_of(draft, step), kind=step.kind))
    return tuple(effects)


def tidying(snapshot: Snapshot) -> tuple[Effect, ...]:
    """Return the deeds of a finished run: stop and let go of everything, then take our marks off. Nothing once that is done."""
    effects = _unwanted(snapshot, set())
    run = snapshot.run
    if effects or run.claimed or not run.marked_finished:
        effects.append(Tidy())
    return tuple(effects)


def _unwanted(snapshot: Snapshot, wanted: set[AttemptId]) -> list[Effect]:
    """Return what becomes of attempts that are observed though the status has done with them."""
    effects: list[Effect] = []
    for attempt, seen in snapshot.observed.items():
        if attempt in wanted:
            continue
        kind = snapshot.holders.get(attempt, Kind.POD)
        if seen.stage is not Stage.ENDED:
            effects.append(Stop(attempt=attempt, kind=kind, reason="the status has done with it"))
        if seen.held:
            effects.append(Release(attempt=attempt, kind=kind))
    return effects


def attempt_of(draft: Draft, step: Step) -> Attempt:
    """Return the attempt as the status records it, so that a start that is repeated is the same to the letter."""
    status, timeout = draft.of(step), draft.timeout_of(step)
    return Attempt(
        id=draft.attempt_id(step),
        run=draft.run.key,
        workflow=draft.definition.name,
        activity=step.work,
        input=status.input,
        env=status.env or {},
        resources=step.resources,
        service_account=draft.definition.spec.service_account_name,
        deadline=status.attempt_started + timeout if status.attempt_started and timeout else None,
    )


def wake_time(draft: Draft, status: WorkflowRunStatus) -> datetime | None:
    """Return the earliest deadline that a live run has."""
    if status.finished:
        return None
    times: list[datetime | None] = []
    if not main_is_over(draft):
        times.append(draft.deadline)
    if is_called_for(draft) and not draft.compensation.late and unended_undos(draft):
        times.append(draft.undo_deadline)
    if draft.run.deleting:
        times.append(draft.now + _LOOK_AT_NAMESPACE)
    if draft.active(Part.FINALLY):
        times.append(draft.finally_deadline)
    times += draft.wakes
    for step in draft.active():
        times += _deadlines(draft, step)
    return min((time for time in times if time is not None), default=None)


def _deadlines(draft: Draft, step: Step) -> list[datetime | None]:
    status = draft.of(step)
    limits, timeout = draft.snapshot.limits, draft.timeout_of(step)
    if status.waits:
        return [status.until]
    if status.phase is ActivityPhase.QUEUED:
        return []
    if status.phase is ActivityPhase.RETRYING:
        return [None if draft.run.spec.suspend else status.next_attempt_time]
    if status.stopping is not None:
        return [status.stopping.since + limits.stop_timeout]
    started = status.attempt_started
    if started is None:
        return []
    times: list[datetime | None] = [started + timeout if timeout else None]
    seen = draft.observation(step)
    if seen is not None and not seen.begun:
        times.append(draft.now + _TRY_TO_BEGIN)
    elif step.kind is Kind.POD and (seen is None or seen.stage is Stage.WAITING):
        times.append(started + limits.pod_start_timeout)
    return times
