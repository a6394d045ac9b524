# SPDX-License-Identifier: Apache-2.0
"""What one live run holds and waits for: it follows from its status, and from nothing else (design law 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kubesaga.api.deed import ActivityPhase, DeedStatus
from kubesaga.api.names import Deed
from kubesaga.api.run import WorkflowRunStatus
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.definition import StepKey
from kubesaga.engine.guarding import GuardKey
from kubesaga.engine.snapshot import Run, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One attempt that holds a slot, or waits for one."""

    since: datetime
    guard: GuardKey | None = None
    urgent: bool = False
    """An undo: it goes first, and it is never turned away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What one live run holds and waits for, by its status."""

    key: RunKey
    uid: str
    version: str
    workflow: str
    """"" for a run with a spec of its own."""
    created: datetime
    priority: int = 0
    group: str = ""
    """Its fairness key."""
    business_key: str = ""
    started: bool
    queued: bool = False
    """It waits to be started."""
    held: Mapping[StepKey, Place] = field(default_factory=dict)
    waiting: Mapping[StepKey, Place] = field(default_factory=dict)

    @property
    def scope(self) -> tuple[str, str]:
        """Whose limits it is under: the Workflow's; of a run with a spec of its own, its own."""
        return self.key.namespace, self.workflow or f"/{self.uid}"


def standing_of(run: Run, source: Source | None = None) -> Standing | None:
    """Return how a run stands; None: it is over, or starts nothing, and so holds nothing.

    `source` is the run that a new one is to replay, whose Workflow's limits it is under.
    """
    status = run.status
    if status.finished or run.spec.deliver:
        return None
    held: dict[StepKey, Place] = {}
    waiting: dict[StepKey, Place] = {}
    for key, known in _deeds(status):
        where = held if known.phase is ActivityPhase.RUNNING else waiting
        where[key] = Place(
            since=(known.attempt_started if where is held else known.queued_time) or run.created,
            guard=GuardKey.parse(known.guard, run.key.namespace) if known.guard else None,
            urgent=key[0] is Deed.UNDO,
        )
    return Standing(
        key=run.key, uid=run.uid, version=run.version, workflow=run.workflow or (source.workflow if source is not None else ""), created=run.created,
        priority=run.spec.priority, group=status.fairness_key or "", business_key=status.concurrency_key or "",
        started=status.started, queued=status.queue is not None, held=held, waiting=waiting,
    )  # fmt: skip


def _deeds(status: WorkflowRunStatus) -> list[tuple[StepKey, DeedStatus]]:
    """Return the deeds that hold a slot or wait for one."""
    found: list[tuple[StepKey, DeedStatus]] = []
    for name, activity in status.activities.items():
        found += [((Deed.DO, name), activity)]
        found += [((Deed.FALLBACK, name), activity.fallback)] if activity.fallback is not None else []
        found += [((Deed.UNDO, name), activity.compensation)] if activity.compensation is not None else []
    loose = (status.compensation.activities if status.compensation is not None else None) or {}
    found += [((Deed.UNDO, name), undo) for name, undo in loose.items()]
    return [(key, known) for key, known in found if known.phase in (ActivityPhase.RUNNING, ActivityPhase.QUEUED)]
