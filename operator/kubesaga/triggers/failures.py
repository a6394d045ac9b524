# SPDX-License-Identifier: Apache-2.0
"""Whether a trigger has failed too often in a row to go on: pure, after what the status records and which runs have ended.

What is recorded are moments, not a number: looking twice at the same runs, in whatever order they come to be seen, changes
nothing, and a run that is deleted meanwhile still counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from kubesaga.api.run import RunPhase
from kubesaga.api.triggers import MAX_FAILURES, FailureRecord, Trigger

_Record = TypeVar("_Record", bound=FailureRecord)

_WENT_WRONG: Final = (RunPhase.FAILED, RunPhase.COMPENSATED)
"""Cancelled and Terminated are people's wish, and count as neither success nor failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run of the trigger that has finished."""

    phase: RunPhase
    completed: datetime

    @property
    def failed(self) -> bool:
        """Tell whether it counts as a failure."""
        return self.phase in _WENT_WRONG


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    """The failures in a row. All empty where the trigger sets no limit."""

    counted_from: datetime | None = None
    failed: tuple[datetime, ...] = ()
    stopped: int | None = None
    """The generation of the Workflow at which the trigger has stopped itself."""

    def recorded(self, status: _Record) -> _Record:
        """Return a record with this in it."""
        told = status.message
        if self.stopped is not None:
            runs = "the last run has" if len(self.failed) == 1 else f"the last {len(self.failed)} runs have"
            told = f"It has stopped itself: {runs} failed (failureLimit). Change the Workflow to let it go on."
        return status.model_copy(
            update={
                "counted_from": self.counted_from, "failed": list(self.failed) or None,
                "stopped_generation": self.stopped, "message": told,
            }
        )  # fmt: skip


def streak_of(
    trigger: Trigger, known: FailureRecord | None, ended: Iterable[Ended], *, generation: int, now: datetime
) -> Streak:
    """Return the failures in a row. `known` is what is recorded; what ended before the limit was set does not count."""
    limit = trigger.failure_limit
    if limit is None:
        return Streak()
    if known is None or known.counted_from is None:
        return Streak(counted_from=now)
    if is_stopped(known, generation):
        return Streak(
            counted_from=known.counted_from, failed=tuple(known.failed or ()), stopped=known.stopped_generation
        )
    if known.stopped_generation is not None:
        return Streak(counted_from=now)
    found = list(ended)
    since = max([known.counted_from, *(run.completed for run in found if run.phase is RunPhase.SUCCEEDED)])
    moments = {*(known.failed or ()), *(run.completed for run in found if run.failed)}
    failed = tuple(sorted(moment for moment in moments if moment > since)[-limit:])
    return Streak(counted_from=since, failed=failed, stopped=generation if len(failed) == limit else None)


def is_stopped(known: FailureRecord | None, generation: int) -> bool:
    """Tell whether a trigger has stopped itself, and the Workflow has not changed since."""
    return known is not None and known.stopped_generation == generation


def enough_of(ended: Iterable[Ended]) -> frozenset[Ended]:
    """Return those of the runs of a trigger from which `streak_of` finds the same: few, however many there were."""
    found = list(ended)
    success = max((run for run in found if run.phase is RunPhase.SUCCEEDED), key=_completed, default=None)
    later = [run for run in found if run.failed and (success is None or run.completed > success.completed)]
    return frozenset([*sorted(later, key=_completed)[-MAX_FAILURES:], *([success] if success is not None else [])])


def stopped_triggers(workflow: Mapping[str, Any]) -> list[str]:
    """Return the names of the triggers that have stopped themselves, of a Workflow as it is stored, sorted."""
    generation, status = workflow["metadata"].get("generation"), workflow.get("status") or {}
    records = {**_objects(status.get("schedules")), **_objects(status.get("triggers"))}
    stopped = ((name, record.get("stoppedGeneration")) for name, record in records.items())
    return sorted(name for name, at in stopped if at is not None and at == generation)


def _completed(run: Ended) -> datetime:
    return run.completed


def _objects(value: Any) -> dict[str, Mapping[str, Any]]:
    """Return the entries of a map of the status; what somebody has put there that is none says nothing."""
    entries = value.items() if isinstance(value, Mapping) else ()
    return {name: entry for name, entry in entries if isinstance(entry, Mapping)}
