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
from kubesaga.api.reasons import Reason
from kubesaga.api.run import RunPhase
from kubesaga.api.triggers import DEDUPE_ANNOTATION, DEDUPE_WINDOW, DELIVERS, MESSENGER_LABEL
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.retention import Finished, ttl_of
from kubesaga.engine.snapshot import Run

Metadata = dict[str, Any]
"""The metadata of an object as it is on the wire."""


def begun_labels(run: Run) -> dict[str, str]:
    """Return the labels of a run that begins; they are written before the status that names the revision."""
    labels = {
        WORKFLOW_LABEL: label_value(run.workflow),
        REVISION_LABEL: run.status.workflow_revision or "",
        MESSENGER_LABEL: DELIVERS if run.spec.deliver else "",
    }
    return {name: value for name, value in labels.items() if value}


def finished_marks(run: Run) -> Metadata:
    """Return the labels and annotations of a run that has finished."""
    status = run.status
    annotations = {COMPLETED_ANNOTATION: format_time(status.completion_time or run.created)}
    if run.spec.workflow_spec is not None and ttl_of(run.spec.workflow_spec) is not None:
        annotations[TTL_ANNOTATION] = run.spec.workflow_spec["ttlAfterFinished"]
    labels = {**begun_labels(run), PHASE_LABEL: str(status.phase), FINISHED_LABEL: "true"}
    if run.spec.deliver:
        labels[MESSENGER_LABEL] = str(status.reason)
    return {"labels": labels, "annotations": annotations}


def bears(metadata: Metadata, marks: Metadata) -> bool:
    """Tell whether an object's metadata hold these labels and annotations, and do not call a run a messenger that is none."""
    forged = MESSENGER_LABEL in (metadata.get("labels") or {}) and MESSENGER_LABEL not in marks["labels"]
    return not forged and all((metadata.get(part) or {}).items() >= marks[part].items() for part in marks)


def mended(marks: Metadata) -> Metadata:
    """Return the patch of a finished run's metadata that gives it its marks, and takes off what it should not bear."""
    return {**marks, "labels": {MESSENGER_LABEL: None, **marks["labels"]}}


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
            needed_until=_needed_until(
                metadata, _window(labels.get(MESSENGER_LABEL), annotations.get(DEDUPE_ANNOTATION))
            ),
            messenger=MESSENGER_LABEL in labels,
        )
    except (KeyError, ValueError):
        return None


def _window(messenger: str | None, given: str | None) -> str | None:
    """Return how long a run stays from its creation: a messenger that somebody made by hand a day, for him to read.

    One that nobody took the event from need not keep a second one away.
    """
    if messenger is None or given is None:
        return given if messenger is None else DEDUPE_WINDOW
    return None if messenger == Reason.NOT_AWAITED else given


def _needed_until(metadata: Metadata, window: str | None) -> datetime | None:
    """Return how long a run that an event made stays, so that the event makes no other one (`dedupeWindow`)."""
    return None if window is None else parse_time(metadata["creationTimestamp"]) + parse_duration(window)
