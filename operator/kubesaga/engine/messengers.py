# SPDX-License-Identifier: Apache-2.0
"""Events for live runs: who waits for one, and the pass over a messenger, the run that brings it and starts nothing.

Whether an event is for a run follows from what does not change while that lives: its definition, inputs and event. So the
answer is the same early and late, and is found out once. Which of its waitFors takes it, the run says itself (obeying).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from kubesaga.api.action import Verb
from kubesaga.api.event_types import fits
from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.api.run import RecipientStatus, RunPhase
from kubesaga.engine.command import Command
from kubesaga.engine.decision import Decision, Note, Offer, Summons
from kubesaga.engine.effects import tidying
from kubesaga.engine.event_waits import comes_by_key, event_waits
from kubesaga.engine.language.expressions import Evaluator, ExpressionError, condition
from kubesaga.engine.obeying import answers_of_messenger
from kubesaga.engine.scope import parsed_event
from kubesaga.engine.snapshot import Listener, Reply, Run, Snapshot
from kubesaga.engine.summary import outcome_conditions
from kubesaga.engine.transitions import moved_run

MAX_RECIPIENTS: Final = 5_000
"""Most runs that one event is given to: the status names them all."""
_NAMED: Final = 20
"""As many runs are named in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """Who an event is for."""

    recipients: tuple[RecipientStatus, ...]
    faults: tuple[str, ...] = ()
    """Why some could not be asked."""


def heard_by(listener: Listener, event: Mapping[str, Any], evaluator: Evaluator) -> tuple[RecipientStatus | None, str]:
    """Return what a live run waits for an event with, None if it does not; and why it could not be asked."""
    spec = listener.definition.spec
    waits = [wait for wait in event_waits(spec) if fits(wait.pattern, str(event.get("type", "")))]
    if not waits:
        return None, ""
    own = parsed_event(listener.event)
    if "id" in event and (own.get("source"), own.get("id")) == (event.get("source"), event["id"]):
        return None, ""  # the event that made it is no news to it
    run = {
        "name": listener.key.name, "namespace": listener.key.namespace, "uid": listener.uid,
        "workflow": listener.definition.name,
    }  # fmt: skip
    scope = {"received": event, "event": own, "inputs": dict(listener.inputs), "run": run}
    names: list[str] = []
    fault = ""
    for wait in waits:
        try:
            if wait.when is None or condition(wait.when, scope, evaluator, f"{wait.path}.when"):
                names.append(wait.activity)
        except ExpressionError as error:
            fault = fault or f"{listener.key.name}: {error}"
    found = RecipientStatus(run=listener.key.name, uid=listener.uid, activities=names) if names else None
    return found, fault


def with_replies(recipients: Iterable[RecipientStatus], replies: Mapping[str, Reply]) -> tuple[RecipientStatus, ...]:
    """Return the recipients with what they have said since."""
    return tuple(
        each if each.answer is not None or (reply := replies.get(each.uid)) is None
        else each.model_copy(update={"answer": "Applied" if reply.applied else "Refused", "message": reply.message[:1024]})
        for each in recipients
    )  # fmt: skip


def offer_of(run: Run, event: Mapping[str, Any], recipients: Iterable[RecipientStatus]) -> Offer:
    """Return the effect that gives a run's event to those that have not answered."""
    command = Command(
        uid=run.uid, name=run.key.name, verb=Verb.SIGNAL, value=event, by=f"WorkflowRun {run.key.name}"
    )  # fmt: skip
    return Offer(command=command, recipients=tuple(each for each in recipients if each.answer is None))


# --- the pass over a messenger --------------------------------------------------------------------------------------


def deliver(snapshot: Snapshot, now: datetime, evaluator: Evaluator) -> Decision:
    """Decide about a messenger: find out who its event is for, give it to them, and end when all have answered."""
    run, status = snapshot.run, snapshot.run.status
    event = parsed_event(run.spec.event)
    if (stopped := _told_to_end(run)) is not None:
        return _end(
            snapshot, now, *stopped, REASON_TEXT[stopped[1]], with_replies(status.recipients or (), snapshot.replies)
        )
    if status.recipients is not None:
        return _follow(snapshot, now, event, with_replies(status.recipients, snapshot.replies))
    if run.spec.suspend:
        return _go_on(snapshot, now, RunPhase.PAUSED, Reason.SUSPENDED, REASON_TEXT[Reason.SUSPENDED], ())
    if snapshot.listeners is None:
        return Decision(status=status, summons=Summons())
    heard = _heard(run, snapshot.listeners, event, evaluator)
    if len(heard.recipients) > MAX_RECIPIENTS:
        told = f"{len(heard.recipients):,} live runs wait for this event, and at most {MAX_RECIPIENTS:,} can be told at once: narrow it down by waitFor.when"
        return _end(snapshot, now, RunPhase.FAILED, Reason.INVALID_SPEC, told, ())
    return _follow(snapshot, now, event, heard.recipients, heard.faults)


def _heard(run: Run, listeners: Sequence[Listener], event: Mapping[str, Any], evaluator: Evaluator) -> _Heard:
    """Return who the event is for. A run that is newer than the messenger does not hear of what was before it.

    What counts for each is its own revision, also in that such events come to it by its key.
    """
    type_ = str(event.get("type", ""))
    there = [each for each in listeners if each.created <= run.created]
    asked = [heard_by(each, event, evaluator) for each in there if not comes_by_key(type_, each.definition.spec)]
    return _Heard(
        recipients=tuple(each for each, _ in asked if each is not None),
        faults=tuple(fault for _, fault in asked if fault),
    )


def _follow(
    snapshot: Snapshot,
    now: datetime,
    event: Mapping[str, Any],
    recipients: tuple[RecipientStatus, ...],
    faults: tuple[str, ...] = (),
) -> Decision:
    """Go on until everybody has answered."""
    if any(each.answer is None for each in recipients):
        told = f"given to {_named(recipients)}"
        decision = _go_on(snapshot, now, RunPhase.RUNNING, Reason.DELIVERING, told, recipients, event)
        # Once: what the status says must be the same at every pass in which nothing happens.
        notes = (Note(reason="NotAsked", message=_unasked(faults), warning=True),) if faults else ()
        return replace(decision, notes=notes)
    taken = [each for each in recipients if each.answer == "Applied"]
    reason = Reason.DELIVERED if taken else Reason.NOT_AWAITED
    return _end(snapshot, now, RunPhase.SUCCEEDED, reason, _summary(recipients, taken, faults), recipients)


def _summary(recipients: Sequence[RecipientStatus], taken: Sequence[RecipientStatus], faults: Sequence[str]) -> str:
    told = f"taken by {_named(taken)}" if taken else "no live run took the event"
    if others := [each for each in recipients if each.answer == "Refused"]:
        told += f"; not by {others[0].run}: {others[0].message}"
        told += f", and {len(others) - 1} more" if len(others) > 1 else ""
    return f"{told}; {_unasked(faults)}" if faults else told


def _unasked(faults: Sequence[str]) -> str:
    return f"{len(faults)} could not be asked, such as {faults[0]}"


def _named(recipients: Sequence[RecipientStatus]) -> str:
    names = ", ".join(each.run for each in recipients[:_NAMED])
    return names + (f" and {len(recipients) - _NAMED} more" if len(recipients) > _NAMED else "")


def _told_to_end(run: Run) -> tuple[RunPhase, Reason] | None:
    if run.deleting:
        return RunPhase.CANCELLED, Reason.DELETED
    if run.spec.shutdown == "Terminate":
        return RunPhase.TERMINATED, Reason.TERMINATED
    return (RunPhase.CANCELLED, Reason.CANCELLED) if run.spec.shutdown is not None else None


def _go_on(
    snapshot: Snapshot,
    now: datetime,
    phase: RunPhase,
    reason: Reason,
    message: str,
    recipients: tuple[RecipientStatus, ...],
    event: Mapping[str, Any] | None = None,
) -> Decision:
    run = snapshot.run
    found = {"recipients": list(recipients)} if recipients else {}
    status = _status(snapshot, now, phase, reason, message, **found)
    told = answers_of_messenger(run, snapshot.commands)
    offered = (offer_of(run, event, recipients),) if event is not None else ()
    return Decision(status=status, effects=(*offered, *told))


def _end(
    snapshot: Snapshot,
    now: datetime,
    phase: RunPhase,
    reason: Reason,
    message: str,
    recipients: tuple[RecipientStatus, ...],
) -> Decision:
    run = snapshot.run
    status = _status(
        snapshot, now, phase, reason, message, recipients=list(recipients) or None, completion_time=now,
    )  # fmt: skip
    told = answers_of_messenger(run, snapshot.commands)
    note = Note(reason=str(reason), message=message, warning=phase is not RunPhase.SUCCEEDED)
    return Decision(status=status, effects=(*tidying(snapshot), offer_of(run, {}, ()), *told), notes=(note,))


def _status(snapshot: Snapshot, now: datetime, phase: RunPhase, reason: Reason, message: str, **fields: Any) -> Any:
    run = snapshot.run
    return run.status.model_copy(
        update={
            "id": run.uid, "phase": moved_run(run.status.phase, phase), "reason": reason, "message": message,
            "observed_generation": run.generation, "spec_digest": run.status.spec_digest or run.spec_digest,
            "conditions": outcome_conditions(run, phase, reason, message, now),
            "start_time": run.status.start_time or now, **fields,
        }
    )  # fmt: skip
