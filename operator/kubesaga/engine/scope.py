# SPDX-License-Identifier: Apache-2.0
"""What expressions can see, by place."""

from __future__ import annotations

import json
from typing import Any, Final

from kubesaga.api.fields import format_time
from kubesaga.engine.draft import Draft

BASE_ROOTS: Final = frozenset({"workflow", "inputs", "event", "activities", "run"})
"""Roots in `params`, `when`, `env`, an http request, and the run's `outputs`."""
SET_ROOTS: Final = BASE_ROOTS | {"output"}
"""Roots in `set`: also the output of the activity that has just succeeded."""

QUEUE_ROOTS: Final = BASE_ROOTS - {"activities"}
"""Roots in `concurrency.key` and the fairness key: the run has not started."""
ACTIVITY_ROOTS: Final = frozenset({"inputs"})
"""Roots in an Activity: the params that it is given, and nothing of who uses it."""
ACTIVITY_UNDO_ROOTS: Final = ACTIVITY_ROOTS | {"output"}
"""Roots in an Activity's own undo: also what it yielded."""

RETRY_ROOTS: Final = BASE_ROOTS | {"error"}
"""Roots in `errorHandling.retry.when`: also how the attempt failed."""


def parsed_event(text: str | None) -> Any:
    """Return a run's event as a value; a run without one sees an empty object, so `has(event.data)` is false."""
    return json.loads(text) if text else {}


def scope_of(draft: Draft) -> dict[str, Any]:
    """Return the values of the roots at this moment of the pass."""
    run = draft.run
    return {
        "workflow": draft.variables,
        "inputs": draft.inputs,
        "event": draft.event,
        "activities": {name: _seen(draft, name) for name in draft.definition.steps},
        "run": {
            "name": run.key.name,
            "namespace": run.key.namespace,
            "uid": run.uid,
            "workflow": draft.definition.name,
            "startTime": format_time(draft.start_time),
            "reason": draft.reason or "",
            "message": draft.message or "",
        },
    }


def _seen(draft: Draft, name: str) -> dict[str, Any]:
    status = draft.activity(name)
    return {
        "phase": str(status.phase),
        "output": status.output,
        "error": {"reason": str(status.error.reason), "message": status.error.message} if status.error else None,
    }
