# SPDX-License-Identifier: Apache-2.0
"""Tells the world what a pass has done, once its status is safe: log lines, metrics, Kubernetes Events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from kubesaga.api.deed import DeedStatus
from kubesaga.api.run import WorkflowRunStatus
from kubesaga.engine.decision import Decision, Note, Start
from kubesaga.engine.definition import Definition, Step
from kubesaga.engine.snapshot import Run, Snapshot

if TYPE_CHECKING:
    from kubesaga.telemetry.metrics import Metrics

_log = logging.getLogger("kubesaga.workflow_engine")


Post = Callable[[Run, Literal["Normal", "Warning"], str, str], None]
"""Posts a Kubernetes Event about a run (severity, reason, message) without making anyone wait."""


class Announcer:
    """Turns decisions into log lines, metrics and Events. It never fails a pass."""

    def __init__(self, metrics: Metrics | None = None, post: Post | None = None) -> None:
        """Without metrics or `post` that part is left out: there is nobody to tell."""
        self._metrics = metrics
        self._post = post

    def passed(self, seconds: float) -> None:
        """Count a pass."""
        if self._metrics is not None:
            self._metrics.pass_duration.observe(seconds)

    def announce(self, run: Run, decision: Decision, before: Snapshot) -> None:
        """Announce what a pass changed. `run` is as it is now, `before` what the pass began with."""
        for note in decision.notes:
            self._log(run, note)
            if note.event and self._post is not None:
                self._post(run, "Warning" if note.warning else "Normal", str(note.reason), note.message)
        if self._metrics is not None:
            _count(self._metrics, run, decision, before)

    def _log(self, run: Run, note: Note) -> None:
        about = {
            "workflow_id": run.uid, "run": run.key.name, "namespace": run.key.namespace, "activity": note.activity,
            "reason": str(note.reason),
        }  # fmt: skip
        _log.log(logging.WARNING if note.warning else logging.INFO, note.message, extra=about)


def _count(metrics: Metrics, run: Run, decision: Decision, before: Snapshot) -> None:
    status = decision.status
    workflow = run.workflow
    for effect in decision.effects:
        if isinstance(effect, Start):
            metrics.attempts_started.labels(workflow, str(effect.kind)).inc()
    for step, now in _deeds_that_ended(before, status):
        reason = str(now.error.reason) if now.error else ""
        metrics.activities_ended.labels(workflow, str(step.deed), str(step.kind), str(now.phase), reason).inc()
    if status.finished and decision.notes:
        for each in status.recipients or ():
            answer = str(each.answer or "None")
            metrics.events_offered.labels(run.key.namespace, workflow, answer).inc()
    if run.spec.deliver:
        return
    if status.phase is not None and status.finished and decision.notes:
        metrics.runs_finished.labels(run.key.namespace, workflow, str(status.phase)).inc()
        if status.start_time is not None and status.completion_time is not None:
            took = (status.completion_time - status.start_time).total_seconds()
            metrics.run_duration.labels(workflow, str(status.phase)).observe(took)


def _deeds_that_ended(before: Snapshot, status: WorkflowRunStatus) -> Iterator[tuple[Step, DeedStatus]]:
    """Yield the activities, undos and fallbacks that a pass found to be over."""
    if not isinstance(before.definition, Definition):
        return
    old, undos = before.run.status, {undo.name: undo for undo in before.definition.undos}
    for name, step in before.definition.steps.items():
        now, was = status.activities.get(name), old.activities.get(name)
        if now is None or now is was:
            continue
        if now.phase.ended and not (was is not None and was.phase.ended):
            yield step, now
        yield from _ended(step.fallback, now.fallback, was.fallback if was is not None else None)
        yield from _ended(step.undo, now.compensation, was.compensation if was is not None else None)
    for name, undo in _loose(status).items():
        yield from _ended(undos.get(name), undo, _loose(old).get(name))


def _ended(step: Step | None, now: DeedStatus | None, was: DeedStatus | None) -> Iterator[tuple[Step, DeedStatus]]:
    if step is not None and now is not None and now.phase.ended and not (was is not None and was.phase is now.phase):
        yield step, now


def _loose(status: WorkflowRunStatus) -> Mapping[str, DeedStatus]:
    return (status.compensation.activities if status.compensation is not None else None) or {}
