# SPDX-License-Identifier: Apache-2.0
"""The next status while a pass makes it. It lives for one pass; the steps of `reconcile` fill it in, in turn."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from kubesaga.api.deed import ActivityError, ActivityPhase, ActivityStatus, DeedStatus, Stopping, UndoStatus
from kubesaga.api.failure import ErrorStrategy
from kubesaga.api.names import Deed
from kubesaga.api.reasons import Reason
from kubesaga.api.run import ActionRecord, CompensationStatus, ReplayStatus, SignalRecord
from kubesaga.engine.attempt import AttemptId, Observation
from kubesaga.engine.decision import EndedCall, Note, Rejection
from kubesaga.engine.definition import Definition, Part, Step, StepKey
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.slots import AskedFor, Granted, Want
from kubesaga.engine.snapshot import Run, Snapshot
from kubesaga.engine.transitions import moved

_UNSEEN: Final = ActivityStatus(phase=ActivityPhase.PENDING)
_PENDING: Final = {
    Deed.DO: _UNSEEN,
    Deed.UNDO: UndoStatus(phase=ActivityPhase.PENDING),
    Deed.FALLBACK: DeedStatus(phase=ActivityPhase.PENDING),
}
_ATTEMPTED: Final = (ActivityPhase.QUEUED, ActivityPhase.RUNNING, ActivityPhase.RETRYING)
_LARGE: Final = 1024
_MANY: Final = 64


@dataclass(slots=True, kw_only=True)
class Draft:
    """What is known, what it is turned into, and what is to be announced."""

    snapshot: Snapshot
    definition: Definition
    now: datetime
    evaluator: Evaluator
    activities: dict[str, ActivityStatus]
    others: dict[StepKey, DeedStatus]
    """Undos and fallbacks."""
    variables: dict[str, Any]
    inputs: dict[str, Any]
    event: Any
    start_time: datetime
    finally_start_time: datetime | None
    reason: Reason | None
    """Why the run cannot succeed; None: it still may."""
    message: str | None
    strategy: ErrorStrategy | None
    """What becomes of a run that cannot succeed; Compensate turns to Abort where undoing is given up."""
    compensation: CompensationStatus
    actions: list[ActionRecord]
    signals: list[SignalRecord] = field(default_factory=list)
    """Those that no activity has taken yet."""
    replay: ReplayStatus | None = None
    notes: list[Note] = field(default_factory=list)
    wants: dict[AskedFor, Want] = field(default_factory=dict)
    """Slots that have not been answered for."""
    calls: list[EndedCall] = field(default_factory=list)
    """What the circuit breakers are to hear of."""
    rejections: list[Rejection] = field(default_factory=list)
    wakes: list[datetime] = field(default_factory=list)
    """When those that wait for a slot are to be looked at again."""
    _active: set[StepKey] = field(init=False)
    """The deeds that are under way, kept up by `move`: they are asked for many times in a pass, and are few."""

    def __post_init__(self) -> None:
        self._active = {(Deed.DO, name) for name, known in self.activities.items() if _is_active(known)}
        self._active |= {key for key, known in self.others.items() if _is_active(known)}

    @property
    def run(self) -> Run:
        """The run as it was read."""
        return self.snapshot.run

    # --- deeds ------------------------------------------------------------------------------------------------------

    def activity(self, name: str) -> ActivityStatus:
        """Return what is known of an activity; one that is not in the status is Pending."""
        return self.activities.get(name, _UNSEEN)

    def of(self, step: Step) -> DeedStatus:
        """Return what is known of a deed; one that is not in the status is Pending."""
        known = self.activities.get(step.name) if step.deed is Deed.DO else self.others.get(step.key)
        return known or _PENDING[step.deed]

    def running(self, *parts: Part) -> list[Step]:
        """Return the deeds of which an attempt is under way, in order; of some parts of the run, or of all."""
        return [step for step in self.active(*parts) if self.of(step).phase is ActivityPhase.RUNNING]

    def active(self, *parts: Part) -> list[Step]:
        """Return the deeds that are under way, wait for their next attempt, sleep or wait for a Signal, in order; of some parts of the run, or of all."""
        if not self._active:
            return []
        deeds = [self._deed(step) for key, step in self.definition.deeds.items() if key in self._active]
        return [step for step in deeds if step.part in parts] if parts else deeds

    def _deed(self, step: Step) -> Step:
        """Return the fallback that stands in for an activity: which one, depends on how that failed."""
        if step.deed is not Deed.FALLBACK:
            return step
        error = self.activity(step.name).error
        return fallback_of(self.definition.steps[step.name], error.reason if error is not None else None) or step

    def timeout_of(self, step: Step) -> timedelta | None:
        """Return how long an attempt may take: by its own `timeout`, and by the circuit breaker that it has passed."""
        answer = self.snapshot.admission.answers.get(step.key)
        by_breaker = answer.timeout if isinstance(answer, Granted) else None
        by_breaker = by_breaker or self.snapshot.admission.call_timeouts.get(step.key)
        return min((limit for limit in (step.timeout, by_breaker) if limit is not None), default=None)

    def may_start(self, step: Step) -> bool:
        """Tell whether something new may start for a deed: another attempt, its fallback."""
        if self.ending is not None:
            return False
        if step.deed is Deed.UNDO:
            return self.strategy is ErrorStrategy.COMPENSATE and not self.compensation.late
        if step.final:
            return self.finally_deadline is None or self.now < self.finally_deadline
        return self.reason is None

    def ended_well(self, step: Step) -> bool:
        """Tell whether those that depend on an activity may start: it succeeded, was skipped, or is continued over."""
        phase = self.of(step).phase
        return phase.satisfies or (phase.went_wrong and step.strategy is ErrorStrategy.CONTINUE)

    def observation(self, step: Step) -> Observation | None:
        """Return what its executor sees of the deed's current attempt."""
        return self.snapshot.observed.get(self.attempt_id(step))

    def attempt_id(self, step: Step, number: int | None = None) -> AttemptId:
        """Return the identity of the deed's current attempt, or of the one with that number."""
        number = number or self.of(step).attempt or 1
        return AttemptId(run_uid=self.run.uid, activity=step.name, number=number, deed=step.deed)

    def move(self, step: Step, phase: ActivityPhase, **changes: Any) -> None:
        """Give a deed a phase that the table allows, and other fields."""
        old = self.of(step)
        new = old.model_copy(update={"phase": moved(step.deed, old.phase, phase), **changes})
        (self._active.add if _is_active(new) else self._active.discard)(step.key)
        if isinstance(new, ActivityStatus):
            self.activities[step.name] = new
        else:
            self.others[step.key] = new

    def next_order(self) -> int:
        """Return the next number in the order in which activities had their effect."""
        return 1 + max((status.completion_order or 0 for status in self.activities.values()), default=0)

    def order_to_stop(self, step: Step, phase: ActivityPhase, reason: Reason, message: str) -> None:
        """Write down that a deed is to stop and how it will count once it has; the first order holds."""
        if self.of(step).stopping is None:
            order = Stopping(phase=phase, reason=reason, message=message, since=self.now)
            self.move(step, ActivityPhase.RUNNING, stopping=order)
            self.note(reason, f"{step.shown} is told to stop: {message}", activity=step.name)

    def excess(self, *values: Any) -> str | None:
        """Return a sentence if the run's record would be too large with these values in it; None if it would not.

        What is recorded already is only counted once values are large, or many: it costs time.
        """
        new = len(json.dumps(values, default=str))
        limit = self.snapshot.limits.max_run_bytes
        size = new
        if new >= _LARGE or len(self.activities) + len(self.others) >= _MANY:
            records = [*self.activities.values(), *self.others.values()]
            kept = [[status.input, status.output, status.env] for status in records]
            waiting = [signal.value for signal in self.signals]
            size += len(json.dumps([self.inputs, self.variables, kept, waiting], default=str))
        if size <= limit:
            return None
        return f"the run's record would be {size} bytes with this; the limit of a run is {limit} bytes"

    # --- the run ----------------------------------------------------------------------------------------------------

    def fail_run(self, reason: Reason, message: str, strategy: ErrorStrategy = ErrorStrategy.ABORT) -> None:
        """Write down why the run cannot succeed, and what becomes of it; the first reason holds."""
        if self.reason is None:
            self.reason, self.message, self.strategy = reason, message, strategy

    def note(self, reason: Reason | str, message: str, *, activity: str = "", warning: bool = False) -> None:
        """Announce something once the status is safe."""
        self.notes.append(Note(reason=reason, message=message, activity=activity, warning=warning, event=warning))

    @property
    def deadline(self) -> datetime | None:
        """When everything before undoing and `finally` must be over."""
        return _after(self.start_time, self.definition.timeout)

    @property
    def undo_deadline(self) -> datetime | None:
        """When undoing must be over: `compensation.timeout` from its start."""
        return _after(self.compensation.start_time, self.definition.undoing.timeout)

    @property
    def finally_deadline(self) -> datetime | None:
        """When `finally` must be over: the run's time again, from its own start."""
        return _after(self.finally_start_time, self.definition.timeout)

    @property
    def ending(self) -> Reason | None:
        """Why everything must stop and nothing may start: told to terminate, or deleted and not to be undone."""
        if self.run.spec.shutdown == "Terminate":
            return Reason.TERMINATED
        abandoned = self.definition.spec.deletion_policy == "Abandon" or self.snapshot.namespace_ending
        return Reason.DELETED if self.run.deleting and abandoned else None


def _is_active(known: DeedStatus) -> bool:
    """Tell whether something of a deed itself is under way; an activity that waits for its fallback has no more to do."""
    return known.phase in _ATTEMPTED or known.waits


def error_of(reason: Reason, message: str, *, retryable: bool) -> ActivityError:
    """Return an error that fits into the status."""
    return ActivityError(reason=reason, message=message[:4096], retryable=retryable)


_REJECTED: Final = (Reason.BULKHEAD_REJECTED, Reason.BULKHEAD_TIMEOUT)


def skips(step: Step, reason: Reason) -> bool:
    """Tell whether an activity that failed for a reason is skipped: its bulkhead may have a fallback of its own."""
    if reason in _REJECTED and (step.rejected_skips or step.rejected is not None):
        return step.rejected_skips
    return step.skippable


def fallback_of(step: Step, reason: Reason | None) -> Step | None:
    """Return what stands in for an activity that failed for a reason: its bulkhead may have its own."""
    return step.rejected if reason in _REJECTED and step.rejected is not None else step.fallback


def _after(start: datetime | None, length: timedelta | None) -> datetime | None:
    return start + length if start is not None and length is not None else None
