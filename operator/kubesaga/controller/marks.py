# SPDX-License-Identifier: Apache-2.0
"""What the operator writes on a run's metadata beside its status: enough to find it, and to keep it as long as it should be.

The marks are an index. They go along with writes that are made anyway, and let ten thousand finished runs be judged by
their metadata alone. The record is the status: it is asked before anything is done on account of a mark.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubesaga.api.fields import format_time, parse_duration, parse_time
from kubesaga.api.names import (
    COMPLETED_ANNOTATION,
    FINISHED_LABEL,
    PHASE_LABEL,
    REVISION_LABEL,
    TTL_ANNOTATION,
    WORKFLOW_LABEL,
    label_value,
)
from kubesaga.api.run import RunPhase
from kubesaga.api.triggers import DEDUPE_ANNOTATION
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.retention import Finished, ttl_of
from kubesaga.engine.snapshot import Run

Metadata = dict[str, Any]
"""The metadata of an object as it is on the wire."""


def begun_labels(run: Run) -> dict[str, str]:
    """Return the labels of a run that begins; they are written before the status that names the revision."""
    labels = {WORKFLOW_LABEL: label_value(run.workflow), REVISION_LABEL: run.status.workflow_revision or ""}
    return {name: value for name, value in labels.items() if value}


def finished_marks(run: Run) -> Metadata:
    """Return the labels and annotations of a run that has finished."""
    status = run.status
    annotations = {COMPLETED_ANNOTATION: format_time(status.completion_time or run.created)}
    if run.spec.workflow_spec is not None and ttl_of(run.spec.workflow_spec) is not None:
        annotations[TTL_ANNOTATION] = run.spec.workflow_spec["ttlAfterFinished"]
    labels = {**begun_labels(run), PHASE_LABEL: str(status.phase), FINISHED_LABEL: "true"}
    return {"labels": labels, "annotations": annotations}


def bears(metadata: Metadata, marks: Metadata) -> bool:
    """Tell whether an object's metadata hold these labels and annotations."""
    return all((metadata.get(part) or {}).items() >= marks[part].items() for part in marks)


def finished_of(metadata: Metadata) -> Finished | None:
    """Return what the marks of a finished run say; None if it lacks them, or has some that cannot be read."""
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    try:
        phase, ttl = RunPhase(labels[PHASE_LABEL]), annotations.get(TTL_ANNOTATION)
        if not phase.finished:
            return None
        return Finished(
            key=RunKey(namespace=metadata["namespace"], name=metadata["name"]),
            uid=metadata["uid"],
            succeeded=phase is RunPhase.SUCCEEDED,
            completed=parse_time(annotations[COMPLETED_ANNOTATION]),
            workflow=labels.get(WORKFLOW_LABEL, ""),
            revision=labels.get(REVISION_LABEL, ""),
            ttl=parse_duration(ttl) if ttl else None,
            needed_until=_needed_until(metadata, annotations.get(DEDUPE_ANNOTATION)),
        )
    except (KeyError, ValueError):
        return None


def _needed_until(metadata: Metadata, window: str | None) -> datetime | None:
    """Return how long a run that an event made stays, so that the event makes no other one (`dedupeWindow`)."""
    return None if window is None else parse_time(metadata["creationTimestamp"]) + parse_duration(window)
