# SPDX-License-Identifier: Apache-2.0
"""A run that has not started: it waits for its turn, gives way, or is turned away. Who is next, the ledger says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from kubesaga.api.fields import format_duration
from kubesaga.api.names import digest
from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.api.run import BlockedBy, QueueStatus, RecipientStatus, RunPhase, WorkflowRunStatus
from kubesaga.engine.decision import Answer, Decision, Note, Summons
from kubesaga.engine.definition import Definition
from kubesaga.engine.effects import tidying
from kubesaga.engine.language.expressions import Evaluator, render
from kubesaga.engine.messengers import heard_by, offer_of, with_replies
from kubesaga.engine.obeying import answers_of_finished, answers_of_waiting
from kubesaga.engine.replay import lineage
from kubesaga.engine.slots import Blocked, Refused, RunWant
from kubesaga.engine.snapshot import Run, Snapshot
from kubesaga.engine.summary import outcome_conditions
from kubesaga.engine.transitions import moved_run

_LONGEST_KEY: Final = 253
_OFFERS: Final = 20
"""As many runs that an event was offered to, one after the other, are recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unstarted:
    """A run that has not started, and what expressions about it may read."""

    snapshot: Snapshot
    definition: Definition
    inputs: Mapping[str, Any]
    event: Any
    now: datetime

    @property
    def run(self) -> Run:
        """The run as it was read."""
        return self.snapshot.run


def waiting(new: Unstarted, evaluator: Evaluator) -> Decision | None:
    """Return what becomes of a run that does not start now; None: it starts.

    Raises ExpressionError where its business or fairness key cannot be found out.
    """
    admission, run = new.snapshot.admission, new.run
    if not admission.run_limited:
        return None
    if (end := _told_to_end(new)) is not None:
        phase, reason = end
        return _end(new, phase, reason, REASON_TEXT[reason])
    if admission.displaced is not None:
        return _end(new, RunPhase.CANCELLED, admission.displaced.reason, admission.displaced.message)
    if run.spec.suspend:
        return _pause(new)
    deadline = _deadline(new)
    if (handed := _handed(new, deadline)) is not None:
        return handed
    want = _want(new, evaluator)
    answer = admission.answers.get(None)
    if answer is None:
        return Decision(status=run.status, wants={None: want})
    if isinstance(answer, Blocked):
        return _blocked(new, want, answer, deadline, evaluator)
    if isinstance(answer, Refused):
        phase = RunPhase.SUCCEEDED if answer.reason is Reason.USED_EXISTING else RunPhase.FAILED
        return _end(new, phase, answer.reason, answer.message)
    return None


def _deadline(new: Unstarted) -> datetime | None:
    """Return until when it may wait."""
    queue, timeout = new.run.status.queue, new.snapshot.admission.queue_timeout
    return queue.since + timeout if queue is not None and timeout else None


def _blocked(
    new: Unstarted, want: RunWant, answer: Blocked, deadline: datetime | None, evaluator: Evaluator
) -> Decision:
    if deadline is not None and new.now >= deadline:
        return _too_late(new)
    # The event of a replay is an old one: it is the replay's, and no news to anybody.
    news = bool(new.event) and new.run.spec.replay_of is None
    if answer.hearer is not None and news and new.snapshot.listeners is None:
        return Decision(status=new.run.status, summons=Summons(only=answer.hearer))
    return _wait(new, want, answer, evaluator)


def _too_late(new: Unstarted) -> Decision:
    queue = new.run.status.queue
    assert queue is not None, "who waits has been recorded as waiting"
    waited = format_duration(new.now - queue.since)
    told = f"it waited {waited} for {queue.blocked_by} (concurrency.queuing.timeout)"
    return _end(new, RunPhase.FAILED, Reason.QUEUE_TIMEOUT, told)


def _told_to_end(new: Unstarted) -> tuple[RunPhase, Reason] | None:
    if new.run.deleting:
        return RunPhase.CANCELLED, Reason.DELETED
    match new.run.spec.shutdown:
        case "Terminate":
            return RunPhase.TERMINATED, Reason.TERMINATED
        case "Cancel" | "Compensate":
            return RunPhase.CANCELLED, Reason.CANCELLED
    return None


def _want(new: Unstarted, evaluator: Evaluator) -> RunWant:
    """Return what the run asks for. Its keys are evaluated once, and recorded: they must not change while it waits."""
    concurrency, status = new.definition.spec.concurrency, new.run.status
    if status.queue is not None:
        key, group = status.concurrency_key or "", status.fairness_key or ""
    else:
        queuing = concurrency.queuing if concurrency is not None else None
        key = _text(new, evaluator, concurrency.key if concurrency is not None else None, "concurrency.key")
        fair = queuing.fairness_key if queuing is not None else None
        group = _text(new, evaluator, fair, "concurrency.queuing.fairnessKey")
    return RunWant(concurrency=concurrency, key=key, group=group)


def _text(new: Unstarted, evaluator: Evaluator, template: str | None, path: str) -> str:
    if template is None:
        return ""
    run = new.run
    scope = {
        "inputs": dict(new.inputs),
        "workflow": {**(new.definition.spec.variables or {}), **new.inputs},
        "event": new.event,
        "run": {"name": run.key.name, "namespace": run.key.namespace, "uid": run.uid, "workflow": run.workflow},
    }
    value = render(template, scope, evaluator, path)
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, sort_keys=True)
    return text if len(text) <= _LONGEST_KEY else f"{text[:200]}-{digest(text)}"


def _handed(new: Unstarted, deadline: datetime | None) -> Decision | None:
    """Return what follows from the event having been offered to the run before it; None: it was not, or was not wanted."""
    recipients = with_replies(new.run.status.recipients or (), new.snapshot.replies)
    offered = next((each for each in recipients if each.answer != "Refused"), None)
    if offered is None:
        return None
    if offered.answer == "Applied":
        told = f"the run {offered.run}, of the same key, has taken its event: {offered.message}"
        return _end(new, RunPhase.SUCCEEDED, Reason.USED_EXISTING, told, recipients)
    if deadline is not None and new.now >= deadline:
        return _too_late(new)
    # Whether it starts, or has been of use already, is not known before the other run has said so.
    return Decision(
        status=new.run.status, effects=(*_told(new, new.run.status), offer_of(new.run, new.event, recipients)),
        wake_at=deadline,
    )  # fmt: skip


def _offered(new: Unstarted, evaluator: Evaluator) -> tuple[RecipientStatus, ...]:
    """Return the runs that the event has been, or is now, offered to (`onConflict: Signal`)."""
    recipients = with_replies(new.run.status.recipients or (), new.snapshot.replies)
    asked = {each.uid for each in recipients}
    for listener in new.snapshot.listeners or ():
        if listener.uid not in asked and (found := heard_by(listener, new.event, evaluator)[0]) is not None:
            recipients = (*recipients[1 - _OFFERS :], found)
    return recipients


def _wait(new: Unstarted, want: RunWant, answer: Blocked, evaluator: Evaluator) -> Decision:
    queue, recipients = new.run.status.queue, _offered(new, evaluator)
    queue = QueueStatus(blocked_by=answer.by, since=queue.since if queue is not None else new.now)
    fields = {
        "queue": queue, "concurrency_key": want.key or None, "fairness_key": want.group or None,
        "message": answer.message, "recipients": list(recipients) or None,
    }  # fmt: skip
    why = Reason.AWAITING_KEY if answer.by is BlockedBy.KEY else Reason.AWAITING_SLOT
    status = _status(new, RunPhase.QUEUED, why, **fields)
    notes = () if new.run.status.queue else (Note(reason="Queued", message=f"{answer.by}: {answer.message}"),)
    timeout = new.snapshot.admission.queue_timeout
    offers = (offer_of(new.run, new.event, recipients),) if recipients else ()
    return Decision(
        status=status, effects=(*_told(new, status), *offers), notes=notes,
        wake_at=queue.since + timeout if timeout is not None else None,
    )  # fmt: skip


def _pause(new: Unstarted) -> Decision:
    """A run that is suspended before its start waits for nothing but to be told to go on."""
    status = _status(new, RunPhase.PAUSED, Reason.SUSPENDED, queue=None, message=REASON_TEXT[Reason.SUSPENDED])
    return Decision(status=status, effects=_told(new, status))


def _told(new: Unstarted, status: WorkflowRunStatus) -> tuple[Answer, ...]:
    return answers_of_waiting(replace(new.run, status=status), new.snapshot.commands)


def _end(
    new: Unstarted, phase: RunPhase, reason: Reason, message: str, recipients: tuple[RecipientStatus, ...] = ()
) -> Decision:
    """End a run that has never started: there is nothing to stop, to undo, or to clean up after."""
    status = _status(
        new, phase, reason, queue=None, reason=reason, message=message, completion_time=new.now,
        recipients=list(recipients) or new.run.status.recipients,
    )  # fmt: skip
    told = answers_of_finished(replace(new.run, status=status), new.snapshot.commands)
    good = phase is RunPhase.SUCCEEDED
    note = Note(reason=str(phase), message=f"the run never started: {message}", warning=not good, event=True)
    withdrawn = (offer_of(new.run, {}, ()),) if status.recipients else ()
    return Decision(status=status, effects=(*tidying(new.snapshot), *told, *withdrawn), notes=(note,))


def _status(new: Unstarted, phase: RunPhase, why: Reason, **fields: Any) -> WorkflowRunStatus:
    run, source = new.run, new.snapshot.source
    return run.status.model_copy(
        update={
            "replay": lineage(source) if source is not None else run.status.replay,
            "id": run.uid, "phase": moved_run(run.status.phase, phase), "observed_generation": run.generation,
            "workflow_revision": new.snapshot.revision, "spec_digest": run.status.spec_digest or run.spec_digest,
            "conditions": outcome_conditions(run, phase, why, fields.get("message"), new.now), "progress": None,
            **fields,
        }
    )  # fmt: skip
