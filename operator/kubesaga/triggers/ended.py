# SPDX-License-Identifier: Apache-2.0
"""Which runs of a trigger have ended, and how: by the marks of finished ones; and that it stops itself for it."""

from __future__ import annotations

import logging
from typing import Final

from kubesaga.api.fields import parse_time
from kubesaga.api.names import COMPLETED_ANNOTATION, FINISHED_LABEL, PHASE_LABEL
from kubesaga.api.run import RunPhase
from kubesaga.api.triggers import TRIGGER_ID_LABEL, Trigger
from kubesaga.kube.client import KubeClient, Selection
from kubesaga.kube.resources import WORKFLOW_RUNS
from kubesaga.triggers.failures import Ended, Streak
from kubesaga.triggers.names import trigger_id
from kubesaga.triggers.runs import Body, Origin

_log: Final = logging.getLogger("kubesaga.workflow_engine")


async def ended_runs(client: KubeClient, origin: Origin, trigger: Trigger) -> list[Ended]:
    """Return the runs of a trigger that have ended and are still there. Raises ApiError."""
    labels = f"{TRIGGER_ID_LABEL}={trigger_id(origin.uid, trigger.name)},{FINISHED_LABEL}=true"
    selection = Selection(namespace=origin.namespace, labels=labels)
    listing = await client.list(WORKFLOW_RUNS, selection, metadata_only=True)
    return [run for run in map(_by_marks, listing.items) if run is not None]


def ended_of(body: Body) -> Ended | None:
    """Return how a run ended, by its status; None: it has not, or that cannot be read."""
    status = body.get("status") or {}
    return _ended(status.get("phase"), status.get("completionTime"))


def warn_of_stop(origin: Origin, trigger: Trigger, streak: Streak) -> None:
    """Log that a trigger stops itself."""
    _log.warning(
        "the trigger %s of Workflow %s/%s stops itself: %d runs in a row have failed",
        trigger.name, origin.namespace, origin.name, len(streak.failed),
    )  # fmt: skip


def _by_marks(body: Body) -> Ended | None:
    """Return how a finished run ended, by its marks; None where somebody has changed them."""
    metadata = body["metadata"]
    phase = (metadata.get("labels") or {}).get(PHASE_LABEL)
    return _ended(phase, (metadata.get("annotations") or {}).get(COMPLETED_ANNOTATION))


def _ended(phase: str | None, completed: str | None) -> Ended | None:
    if phase is None or completed is None:
        return None
    try:
        return Ended(phase=RunPhase(phase), completed=parse_time(completed))
    except (ValueError, OverflowError):
        return None
