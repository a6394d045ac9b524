# SPDX-License-Identifier: Apache-2.0
"""The next status while a pass makes it. It lives for one pass; the steps of `reconcile` fill it in, in turn."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from kubesaga.api.reasons import Reason
from kubesaga.api.run import ActivityError, ActivityPhase, ActivityStatus, Stopping
from kubesaga.engine.attempt import AttemptId, Observation
from kubesaga.engine.decision import Note
from kubesaga.engine.definition import Definition, Step
from kubesaga.engine.expressions import Evaluator
from kubesaga.engine.snapshot import Run, Snapshot
from kubesaga.engine.transitions import moved_activity

_PENDING = ActivityStatus(phase=ActivityPhase.PENDING)
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
    variables: dict[str, Any]
    inputs: dict[str, Any]
    event: Any
    start_time: datetime
    finally_start_time: datetime | None
    reason: Reason | None
    message: str | None
    notes: list[Note] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """The run as it was read."""
        return self.snapshot.run

    def of(self, name: str) -> ActivityStatus:
        """Return what is known of an activity; one that is not in the status is Pending."""
        return self.activities.get(name, _PENDING)

    def running(self, steps: list[Step]) -> list[Step]:
        """Return those of the steps that are under way."""
        return [step for step in steps if self.of(step.name).phase is ActivityPhase.RUNNING]

    def active(self, steps: list[Step]) -> list[Step]:
        """Return those of the steps that are under way, or wait to be tried again."""
        under_way = (ActivityPhase.RUNNING, ActivityPhase.RETRYING)
        return [step for step in steps if self.of(step.name).phase in under_way]

    def observation(self, step: Step) -> Observation | None:
        """Return what its executor sees of the step's current attempt."""
        return self.snapshot.observed.get(self.attempt_id(step))

    def attempt_id(self, step: Step) -> AttemptId:
        """Return the identity of the step's current attempt."""
        return AttemptId(run_uid=self.run.uid, activity=step.name, number=self.of(step.name).attempt or 1)

    def move(self, name: str, phase: ActivityPhase, **changes: Any) -> None:
        """Give an activity a phase that the table allows, and other fields."""
        old = self.of(name)
        self.activities[name] = old.model_copy(update={"phase": moved_activity(old.phase, phase), **changes})

    def end(self, name: str, phase: ActivityPhase, reason: Reason, message: str, **changes: Any) -> None:
        """End an activity that did not succeed."""
        retryable = changes.pop("retryable", True)
        error = ActivityError(reason=reason, message=message[:4096], retryable=retryable)
        self.move(
            name, phase, completion_time=self.now, error=error, stopping=None, reason=None, message=None,
            next_attempt_time=None, **changes,
        )  # fmt: skip
        self.note(reason, f"{name} ended as {phase}: {message}", activity=name, warning=True)
        if phase.went_wrong and not self.definition.steps[name].final:
            self.fail_run(Reason.ACTIVITY_FAILED, f"{name}: {reason}: {message}")

    def excess(self, *values: Any) -> str | None:
        """Return a sentence if the run's record would be too large with these values in it; None if it would not.

        What is recorded already is only counted once values are large, or many: it costs time.
        """
        new = len(json.dumps(values, default=str))
        limit = self.snapshot.limits.max_run_bytes
        size = new
        if new >= _LARGE or len(self.activities) >= _MANY:
            kept = [[status.input, status.output, status.env] for status in self.activities.values()]
            size += len(json.dumps([self.inputs, self.variables, kept], default=str))
        if size <= limit:
            return None
        return f"the run's record would be {size} bytes with this; the limit of a run is {limit} bytes"

    def order_to_stop(self, name: str, phase: ActivityPhase, reason: Reason, message: str) -> None:
        """Write down that an activity is to stop and how it will count once it has; the first order holds."""
        if self.of(name).stopping is None:
            order = Stopping(phase=phase, reason=reason, message=message, since=self.now)
            self.move(name, ActivityPhase.RUNNING, stopping=order)
            self.note(reason, f"{name} is told to stop: {message}", activity=name)

    def fail_run(self, reason: Reason, message: str) -> None:
        """Write down why the run cannot succeed; the first reason holds."""
        if self.reason is None:
            self.reason, self.message = reason, message

    def note(self, reason: Reason | str, message: str, *, activity: str = "", warning: bool = False) -> None:
        """Announce something once the status is safe."""
        self.notes.append(Note(reason=reason, message=message, activity=activity, warning=warning, event=warning))

    @property
    def deadline(self) -> datetime | None:
        """When the run must be over, `finally` aside."""
        return _after(self.start_time, self.definition.timeout)

    @property
    def finally_deadline(self) -> datetime | None:
        """When `finally` must be over: the run's time again, from its own start."""
        return _after(self.finally_start_time, self.definition.timeout)

    @property
    def ending(self) -> Reason | None:
        """Why everything must stop and nothing may start: the run is being deleted, or was told to terminate."""
        if self.run.deleting:
            return Reason.DELETED
        return Reason.TERMINATED if self.run.spec.shutdown == "Terminate" else None


def _after(start: datetime | None, length: timedelta | None) -> datetime | None:
    return start + length if start is not None and length is not None else None
