# SPDX-License-Identifier: Apache-2.0
"""One pass over one run: `reconcile(snapshot, now) -> Decision`. The whole story is the body of `_pass`.

Crash safety, in four cases. *Before the status write*: nothing has happened. *After it*: the status says that an attempt
is under way and none is observed, so it is started again under the same name. *Between two effects*: the same. *From a
stale copy*: the write conflicts, or the effect finds what is there already. The last holds because pods keep a finalizer
until their outcome is recorded, and an in-process attempt carries one idempotency key through all its starts.
"""

from __future__ import annotations

from datetime import datetime

from kubesaga.api.reasons import Reason
from kubesaga.api.run import ActivityPhase, RunPhase, WorkflowRunStatus
from kubesaga.engine.advance import advance, turn
from kubesaga.engine.decision import Decision, Note
from kubesaga.engine.definition import Definition
from kubesaga.engine.draft import Draft
from kubesaga.engine.effects import effects_of, tidying, wake_time
from kubesaga.engine.expressions import Evaluator
from kubesaga.engine.inputs import resolve_inputs
from kubesaga.engine.record import record
from kubesaga.engine.scope import parsed_event
from kubesaga.engine.snapshot import Snapshot, Unusable
from kubesaga.engine.summary import refused_conditions, summarise
from kubesaga.engine.transitions import moved_activity, moved_run
from kubesaga.errors import InvalidSpec


def reconcile(snapshot: Snapshot, now: datetime, evaluator: Evaluator) -> Decision:
    """Decide what to record and do about one run at one moment. Pure: the same arguments give the same decision."""
    if snapshot.run.status.finished:
        return Decision(status=snapshot.run.status, effects=tidying(snapshot))
    if isinstance(snapshot.definition, Unusable):
        return _refuse(snapshot, now, snapshot.definition)
    try:
        draft = _draft(snapshot, snapshot.definition, now, evaluator)
    except InvalidSpec as error:
        return _refuse(snapshot, now, Unusable(reason=Reason.INVALID_INPUT, message=str(error)))
    return _pass(draft)


def _pass(draft: Draft) -> Decision:
    record(draft)
    turn(draft)
    advance(draft)
    status = summarise(draft)
    if status.finished:
        draft.notes.append(_finish_note(status))
    effects = tidying(draft.snapshot) if status.finished else effects_of(draft)
    return Decision(status=status, effects=effects, notes=tuple(draft.notes), wake_at=wake_time(draft, status))


def _draft(snapshot: Snapshot, definition: Definition, now: datetime, evaluator: Evaluator) -> Draft:
    """Return the draft of a pass: what is recorded, or for a new run what it starts with."""
    run, status = snapshot.run, snapshot.run.status
    begun = status.phase is not None
    notes: list[Note] = []
    if not begun:
        inputs = resolve_inputs(definition.spec.inputs, run.spec.inputs or {}, snapshot.limits.max_run_bytes // 2)
        variables = {**(definition.spec.variables or {}), **inputs}
        status = status.model_copy(
            update={"workflow_revision": snapshot.revision, "spec_digest": run.spec_digest, "start_time": now}
        )
        snapshot = snapshot.with_status(status)
        notes.append(Note(reason="Started", message=f"the run starts from revision {snapshot.revision}"))
    else:
        inputs, variables = status.inputs or {}, status.variables or {}
    unchanged = status.spec_digest in (None, run.spec_digest)
    return Draft(
        snapshot=snapshot, definition=definition, now=now, evaluator=evaluator, notes=notes,
        activities=dict(status.activities), variables=dict(variables), inputs=inputs,
        event=parsed_event(run.spec.event if unchanged else None),
        start_time=status.start_time or now, finally_start_time=status.finally_start_time,
        reason=status.reason, message=status.message,
    )  # fmt: skip


def _refuse(snapshot: Snapshot, now: datetime, why: Unusable) -> Decision:
    """Fail a run that has nothing to work from; what it had under way is stopped and counts as unknown."""
    run = snapshot.run
    gone = run.deleting or run.spec.shutdown == "Terminate"
    phase = RunPhase.TERMINATED if gone else RunPhase.FAILED
    activities = {
        name: status
        if status.phase not in (ActivityPhase.RUNNING, ActivityPhase.RETRYING)
        else status.model_copy(
            update={"phase": moved_activity(status.phase, ActivityPhase.OUTCOME_UNKNOWN), "completion_time": now}
        )
        for name, status in run.status.activities.items()
    }
    start = run.status.start_time or now
    status = run.status.model_copy(
        update={
            "id": run.uid, "phase": moved_run(run.status.phase, phase), "reason": why.reason,
            "message": why.message[:8192], "start_time": start, "completion_time": now, "activities": activities,
            "observed_generation": run.generation, "spec_digest": run.status.spec_digest or run.spec_digest,
            "conditions": refused_conditions(run, phase, why, now), "current_activity": None,
        }
    )  # fmt: skip
    return Decision(status=status, effects=tidying(snapshot), notes=(_finish_note(status),))


def _finish_note(status: WorkflowRunStatus) -> Note:
    good = status.phase is RunPhase.SUCCEEDED
    took = f" in {status.duration}" if status.duration else ""
    message = f"the run ended as {status.phase}{took}" + (f": {status.message}" if status.message else "")
    return Note(reason=str(status.phase), message=message, warning=not good, event=True)
