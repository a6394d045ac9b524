# SPDX-License-Identifier: Apache-2.0
"""One pass over one run: `reconcile(snapshot, now) -> Decision`. The whole story is the body of `_pass`.

Crash safety, in four cases. *Before the status write*: nothing has happened. *After it*: the status says that an attempt
is under way and none is observed, so it is started again under the same name. *Between two effects*: the same. *From a
stale copy*: the write conflicts, or the effect finds what is there already. The last holds because pods keep a finalizer
until their outcome is recorded, and an in-process attempt carries one idempotency key through all its starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from kubesaga.api.conditions import find
from kubesaga.api.deed import ActivityPhase, ActivityStatus, DeedStatus
from kubesaga.api.names import Deed
from kubesaga.api.reasons import Reason
from kubesaga.api.run import CompensationStatus, ReplayOf, RunPhase, WorkflowRunStatus
from kubesaga.engine.advance import advance
from kubesaga.engine.decision import Decision, Note
from kubesaga.engine.definition import Definition, StepKey
from kubesaga.engine.draft import Draft
from kubesaga.engine.effects import effects_of, tidying, wake_time
from kubesaga.engine.inputs import resolve_inputs
from kubesaga.engine.language.expressions import Evaluator, ExpressionError
from kubesaga.engine.messengers import deliver, with_replies
from kubesaga.engine.obeying import answers_of_finished, obey
from kubesaga.engine.queueing import Unstarted, waiting
from kubesaga.engine.record import record
from kubesaga.engine.replay import adapted, lineage, plan_of, refusal_of, take_up
from kubesaga.engine.scope import parsed_event
from kubesaga.engine.snapshot import NO_DEFINITION, Snapshot, Unusable
from kubesaga.engine.summary import refused_conditions, summarise
from kubesaga.engine.transitions import moved, moved_run
from kubesaga.engine.turn import turn
from kubesaga.engine.waiting import end_waits
from kubesaga.errors import InvalidSpec


def reconcile(snapshot: Snapshot, now: datetime, evaluator: Evaluator) -> Decision:
    """Decide what to record and do about one run at one moment. Pure: the same arguments give the same decision."""
    if snapshot.run.status.finished:
        told = answers_of_finished(snapshot.run, snapshot.commands)
        return Decision(status=snapshot.run.status, effects=(*tidying(snapshot), *told))
    if snapshot.run.status.phase is None and snapshot.run.trigger is not None:
        snapshot = snapshot.with_status(snapshot.run.status.model_copy(update={"trigger": snapshot.run.trigger}))
    if snapshot.definition is NO_DEFINITION:
        return deliver(snapshot, now, evaluator)
    if isinstance(snapshot.definition, Unusable):
        return _refuse(snapshot, now, snapshot.definition)
    try:
        return _begin(snapshot, snapshot.definition, now, evaluator) or _go_on(
            snapshot, snapshot.definition, now, evaluator
        )
    except InvalidSpec as error:
        return _refuse(snapshot, now, Unusable(reason=Reason.INVALID_INPUT, message=str(error)))


def _begin(snapshot: Snapshot, definition: Definition, now: datetime, evaluator: Evaluator) -> Decision | None:
    """Have a run that has not started wait for its turn where it must; None: it starts, or has."""
    run, source = snapshot.run, snapshot.source
    wanted = run.spec.replay_of
    if run.status.started or not snapshot.admission.run_limited or (wanted is not None and wanted.dry_run):
        return None
    if wanted is not None and source is not None and (refused := refusal_of(wanted, source, definition)) is not None:
        return _refuse(snapshot, now, refused)
    event = source.event if source is not None else run.spec.event
    given = source.status.inputs or {} if source is not None else run.spec.inputs or {}
    new = Unstarted(
        snapshot=snapshot, definition=definition, now=now, event=parsed_event(event),
        inputs=resolve_inputs(definition.spec.inputs, given, snapshot.limits.max_run_bytes // 2),
    )  # fmt: skip
    try:
        return waiting(new, evaluator)
    except ExpressionError as error:
        return _refuse(snapshot, now, Unusable(reason=Reason.EXPRESSION_FAILED, message=str(error)))


def _go_on(snapshot: Snapshot, definition: Definition, now: datetime, evaluator: Evaluator) -> Decision:
    wanted = snapshot.run.spec.replay_of
    if wanted is not None and not snapshot.run.status.started:
        return _replay(snapshot, definition, wanted, now, evaluator)
    return _pass(_draft(snapshot, adapted(definition, wanted), now, evaluator))


def _replay(
    snapshot: Snapshot, definition: Definition, wanted: ReplayOf, now: datetime, evaluator: Evaluator
) -> Decision:
    """Begin a run that replays another: with what it takes over, or with no more than saying what that would be."""
    source = snapshot.source
    assert source is not None, "a run that replays another is loaded with that one"
    if (refused := refusal_of(wanted, source, definition)) is not None:
        return _refuse(snapshot, now, refused)
    plan = plan_of(wanted, source, definition)
    draft = _draft(snapshot, adapted(definition, wanted), now, evaluator, inputs=source.status.inputs or {})
    draft.replay = lineage(source, plan)
    draft.event = parsed_event(source.event)
    take_up(draft, wanted, source, plan)
    if not wanted.dry_run:
        return _pass(draft)
    draft.reason, draft.message = Reason.DRY_RUN, f"a replay of {source.name} {plan}"
    status = summarise(draft)
    return Decision(status=status, effects=tidying(draft.snapshot), notes=(_finish_note(status),))


def _pass(draft: Draft) -> Decision:
    record(draft)
    answers = obey(draft)
    end_waits(draft)
    turn(draft)
    advance(draft)
    status = summarise(draft)
    draft.notes.extend(_news(draft.run.status.phase, status))
    effects = (*(tidying(draft.snapshot) if status.finished else effects_of(draft)), *answers)
    return Decision(
        status=status, effects=effects, notes=tuple(draft.notes), wake_at=wake_time(draft, status),
        wants=draft.wants, calls=tuple(draft.calls), rejections=tuple(draft.rejections),
    )  # fmt: skip


def _draft(
    snapshot: Snapshot,
    definition: Definition,
    now: datetime,
    evaluator: Evaluator,
    inputs: Mapping[str, Any] | None = None,
) -> Draft:
    """Return the draft of a pass: what is recorded, or for a new run what it starts with (`inputs`: of a replayed run)."""
    run, status = snapshot.run, snapshot.run.status
    begun = status.started
    notes: list[Note] = []
    if not begun:
        given = run.spec.inputs or {} if inputs is None else inputs
        inputs = resolve_inputs(definition.spec.inputs, given, snapshot.limits.max_run_bytes // 2)
        variables = {**(definition.spec.variables or {}), **inputs}
        status = status.model_copy(
            update={
                "workflow_revision": snapshot.revision, "spec_digest": run.spec_digest, "start_time": now, "message": None,
                "recipients": list(with_replies(status.recipients or (), snapshot.replies)) or None,
                **snapshot.admission.keys,
            }
        )  # fmt: skip
        snapshot = snapshot.with_status(status)
        notes.append(Note(reason="Started", message=f"the run starts from revision {snapshot.revision}"))
    else:
        inputs, variables = status.inputs or {}, status.variables or {}
    event = status.replay.event if status.replay is not None else run.spec.event
    unchanged = status.replay is not None or status.spec_digest in (None, run.spec_digest)
    return Draft(
        snapshot=snapshot, definition=definition, now=now, evaluator=evaluator, notes=notes,
        activities=dict(status.activities), others=_others(status), variables=dict(variables), inputs=dict(inputs),
        event=parsed_event(event if unchanged else None), replay=status.replay,
        start_time=status.start_time or now, finally_start_time=status.finally_start_time,
        reason=status.reason, message=status.message, strategy=status.error_strategy,
        compensation=status.compensation or CompensationStatus(), actions=list(status.actions or []),
        signals=list(status.signals or []),
    )  # fmt: skip


def _others(status: WorkflowRunStatus) -> dict[StepKey, DeedStatus]:
    """Return the undos and fallbacks that a status knows."""
    others: dict[StepKey, DeedStatus] = {}
    for name, activity in status.activities.items():
        if activity.fallback is not None:
            others[(Deed.FALLBACK, name)] = activity.fallback
        if activity.compensation is not None:
            others[(Deed.UNDO, name)] = activity.compensation
    loose = (status.compensation.activities if status.compensation is not None else None) or {}
    return others | {(Deed.UNDO, name): undo for name, undo in loose.items()}


def _refuse(snapshot: Snapshot, now: datetime, why: Unusable) -> Decision:
    """Fail a run that has nothing to work from; what it had under way is stopped and counts as unknown."""
    run = snapshot.run
    gone = run.deleting or run.spec.shutdown == "Terminate"
    phase = RunPhase.TERMINATED if gone else RunPhase.FAILED
    activities = {
        name: status
        if not status.phase.under_way
        else status.model_copy(update={"phase": moved(Deed.DO, status.phase, _cut_off(status)), "completion_time": now})
        for name, status in run.status.activities.items()
    }
    start = run.status.start_time or now
    status = run.status.model_copy(
        update={
            "id": run.uid, "phase": moved_run(run.status.phase, phase), "reason": why.reason,
            "message": why.message[:8192], "start_time": start, "completion_time": now, "activities": activities,
            "observed_generation": run.generation, "spec_digest": run.status.spec_digest or run.spec_digest,
            "conditions": refused_conditions(run, phase, why, now), "current_activity": None, "queue": None,
        }
    )  # fmt: skip
    told = answers_of_finished(replace(run, status=status), snapshot.commands)
    return Decision(status=status, effects=(*tidying(snapshot), *told), notes=(_finish_note(status),))


def _cut_off(status: ActivityStatus) -> ActivityPhase:
    waits_for_first = status.phase is ActivityPhase.QUEUED and status.attempt is None
    return ActivityPhase.CANCELLED if waits_for_first or status.waits else ActivityPhase.OUTCOME_UNKNOWN


def _news(before: RunPhase | None, status: WorkflowRunStatus) -> list[Note]:
    """Return what is told of a phase that the run has just come to."""
    if status.finished:
        return [_finish_note(status)]
    if status.phase is before or status.phase not in (RunPhase.COMPENSATING, RunPhase.COMPENSATION_FAILED):
        return []
    message = f"undoing starts: {status.reason}: {status.message}"
    undone = find(status.conditions, "Compensated")
    if status.phase is RunPhase.COMPENSATION_FAILED and undone is not None:
        message = undone.message
    return [Note(reason=str(status.phase), message=message, warning=True, event=True)]


def _finish_note(status: WorkflowRunStatus) -> Note:
    good = status.phase is RunPhase.SUCCEEDED
    took = f" in {status.duration}" if status.duration else ""
    message = f"the run ended as {status.phase}{took}" + (f": {status.message}" if status.message else "")
    return Note(reason=str(status.phase), message=message, warning=not good, event=True)
