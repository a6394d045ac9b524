# SPDX-License-Identifier: Apache-2.0
"""Second step of a pass: apply WorkflowActions, and take events, each once; what was applied is recorded in the same status write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from kubesaga.api.action import Verb
from kubesaga.api.deed import ActivityPhase
from kubesaga.api.failure import ErrorStrategy
from kubesaga.api.reasons import Reason
from kubesaga.api.run import ActionRecord, SignalRecord
from kubesaga.engine.command import Command
from kubesaga.engine.decision import Answer
from kubesaga.engine.deeds import restore, skip
from kubesaga.engine.definition import Kind, Step
from kubesaga.engine.draft import Draft
from kubesaga.engine.language.nearest import nearest
from kubesaga.engine.snapshot import Run
from kubesaga.engine.undoing import failed_undos, is_parked, start_undoing, waits_for_decision
from kubesaga.engine.waiting import kept_for

_KEPT: Final = 50
"""How many actions the status shows. One that waits for its answer is never dropped."""


class _Refused(Exception):
    """Why a command does not fit to what the run is doing."""


def obey(draft: Draft) -> tuple[Answer, ...]:
    """Apply what fits to what the run is doing; return what each WorkflowAction is to be told."""
    return tuple(_answer(draft, command) for command in draft.snapshot.commands)


def answers_of_finished(run: Run, commands: tuple[Command, ...]) -> tuple[Answer, ...]:
    """Return what is told to the WorkflowActions of a run that is over: what was applied to it, and that it is over."""
    return _answers(run, commands, f"the run has finished: it is {run.status.phase}")


def answers_of_waiting(run: Run, commands: tuple[Command, ...]) -> tuple[Answer, ...]:
    """Return what is told to the WorkflowActions of a run that has not started. A Signal is let wait with it."""
    commands = tuple(known for known in commands if known.verb is not Verb.SIGNAL or known.problem is not None)
    return _answers(run, commands, f"the run has not started: it is {run.status.phase or 'Pending'}")


def answers_of_messenger(run: Run, commands: tuple[Command, ...]) -> tuple[Answer, ...]:
    """Return what is told to the WorkflowActions of a run that starts nothing (`spec.deliver`)."""
    return _answers(run, commands, "the run starts nothing: it only gives its event to others")


def _answers(run: Run, commands: tuple[Command, ...], why_not: str) -> tuple[Answer, ...]:
    return tuple(_known(command, run.status.actions or []) or _refusal(command, why_not) for command in commands)


def _answer(draft: Draft, command: Command) -> Answer:
    if (known := _known(command, draft.actions)) is not None:
        return known
    if command.problem is not None:
        return _refusal(command, command.problem)
    if command.target_uid not in (None, draft.run.uid):
        told = f"spec.targetRef.uid: the run of this name has another uid, {draft.run.uid}"
        return _refusal(command, told)
    try:
        meant = _addressed(draft, command)
        told = _VERBS[command.verb](draft, meant)
    except _Refused as why:
        return _refusal(command, str(why))
    record = ActionRecord(
        time=draft.now, verb=command.verb, activity=meant.activity, by=command.by, uid=command.uid, message=told
    )  # fmt: skip
    waiting = {other.uid for other in draft.snapshot.commands}
    kept = [old for old in draft.actions if old.uid in waiting] + [
        old for old in draft.actions if old.uid not in waiting
    ]
    draft.actions = sorted([record, *kept[: _KEPT - 1]], key=lambda old: old.time)
    by = f" by {command.by}" if command.by else ""
    draft.note(
        "ActionApplied", f"{command.verb}{by}: {told}", activity=meant.activity or "", warning=not command.waiters
    )
    return Answer(command=command, applied=True, message=told)


def _known(command: Command, records: list[ActionRecord]) -> Answer | None:
    record = next((record for record in records if record.uid == command.uid), None)
    return Answer(command=command, applied=True, message=record.message) if record is not None else None


def _refusal(command: Command, why: str) -> Answer:
    return Answer(command=command, applied=False, message=why)


# --- verbs ----------------------------------------------------------------------------------------------------------


def _compensate(draft: Draft, command: Command) -> str:
    _require_decision(draft, command)
    start_undoing(draft)
    return "undoing starts"


def _reject(draft: Draft, command: Command) -> str:
    _require_decision(draft, command)
    draft.message = f"undoing was rejected; before that: {draft.reason}: {draft.message}"
    draft.reason, draft.strategy = Reason.COMPENSATION_REJECTED, ErrorStrategy.ABORT
    return "nothing is undone; the run ends as Failed"


def _retry(draft: Draft, command: Command) -> str:
    failed = _meant(draft, command)
    for undo in failed:
        if draft.of(undo).phase is not ActivityPhase.PENDING:
            draft.move(undo, ActivityPhase.PENDING)
    start_undoing(draft)
    return f"tried again: {_names(failed)}"


def _skip(draft: Draft, command: Command) -> str:
    meant = _meant(draft, command)
    if command.activity is None:
        raise _Refused(f"spec.activity: say whose undo is to be left out; these have failed: {_names(meant)}")
    (undo,) = meant
    skip(draft, undo, Reason.SKIPPED_BY_ACTION, f"{undo.shown} is left out by a WorkflowAction")
    restore(draft, undo)
    return f"left out: {undo.name}"


def _abandon(draft: Draft, command: Command) -> str:
    failed = _meant(draft, command)
    draft.message = (
        f"undoing was abandoned with {_names(failed)} not undone; before that: {draft.reason}: {draft.message}"
    )
    draft.reason, draft.strategy = Reason.COMPENSATION_ABANDONED, ErrorStrategy.ABORT
    return f"not undone: {_names(failed)}; the run ends as Failed"


def _signal(draft: Draft, command: Command) -> str:
    step = _waiter(draft, command.activity or "")
    known, name = draft.of(step), step.name
    if not known.waits and known.phase is not ActivityPhase.PENDING:
        raise _Refused(f"spec.activity: {name} waits no more: it is {known.phase}")
    if draft.ending is not None or (draft.reason is not None and not step.final):
        why = draft.ending or draft.reason
        raise _Refused(f"spec.activity: {name} does not wait: the run cannot succeed any more ({why})")
    if kept_for(draft, step) is not None:
        raise _Refused(f"spec.activity: there is a Signal for {name} already, and it takes one")
    if (excess := draft.excess(command.value)) is not None:
        raise _Refused(f"spec.value: {excess}")
    draft.signals.append(SignalRecord(time=draft.now, activity=name, value=command.value, uid=command.uid))
    return f"{name} has it" if known.waits else f"kept until {name} waits for it"


def _addressed(draft: Draft, command: Command) -> Command:
    """Return a command with the activity that it is for: an event goes to who waits for it already, else to who will first."""
    if not command.waiters:
        return command
    steps = [step for name in command.waiters if (step := draft.definition.steps.get(name)) is not None]
    free = [step for step in steps if kept_for(draft, step) is None]
    takers = [step for step in free if draft.of(step).waits]
    takers += [step for step in free if draft.of(step).phase is ActivityPhase.PENDING]
    if not takers:
        raise _Refused(f"{' and '.join(command.waiters)} wait{'s' * (len(command.waiters) == 1)} for no event any more")
    return replace(command, activity=takers[0].name)


def _waiter(draft: Draft, name: str) -> Step:
    """Return the waitFor that a Signal is for."""
    steps = draft.definition.steps
    waiters = [step.name for step in steps.values() if step.kind is Kind.WAIT_FOR]
    if name not in steps:
        raise _Refused(f"spec.activity: there is no activity {name}; {nearest(name, waiters, 'activities that wait')}")
    if name not in waiters:
        told = f"spec.activity: {name} is no waitFor, so no Signal is for it"
        raise _Refused(f"{told}; {nearest(name, waiters, 'activities that wait')}")
    return steps[name]


_VERBS: Final[dict[Verb, Callable[[Draft, Command], str]]] = {
    Verb.COMPENSATE: _compensate,
    Verb.REJECT: _reject,
    Verb.RETRY: _retry,
    Verb.SKIP: _skip,
    Verb.ABANDON: _abandon,
    Verb.SIGNAL: _signal,
}


def _require_decision(draft: Draft, command: Command) -> None:
    if not waits_for_decision(draft):
        advice = "; to have a live run undone, set its spec.shutdown to Compensate" * (command.verb is Verb.COMPENSATE)
        told = f"the run does not wait for a decision (it is {_phase(draft)}); {command.verb} answers a run whose compensation.mode is Manual"
        raise _Refused(f"{told}{advice}")


def _meant(draft: Draft, command: Command) -> list[Step]:
    if not is_parked(draft):
        raise _Refused(
            f"the run is {_phase(draft)}; {command.verb} is for one that is CompensationFailed, with undos that failed"
        )
    failed = failed_undos(draft)
    if command.activity is None or command.verb is Verb.ABANDON:
        return failed
    meant = [undo for undo in failed if undo.name == command.activity]
    if not meant:
        raise _Refused(f"spec.activity: no undo of {command.activity} has failed; these have: {_names(failed)}")
    return meant


def _names(undos: list[Step]) -> str:
    return ", ".join(undo.name for undo in undos) or "none"


def _phase(draft: Draft) -> str:
    return str(draft.run.status.phase or "Pending")
