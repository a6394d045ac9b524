# SPDX-License-Identifier: Apache-2.0
"""The waitFors of a Workflow that events end, and in which of two ways an event comes to them.

By a messenger, which asks every live run; or by key: as the run of a trigger, which gives it to the live run of the same
key (`onConflict: Signal`). What comes by key never comes by messenger too: it would come twice, and to runs of other keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kubesaga.api.event_types import fits
from kubesaga.api.limits import OnConflict
from kubesaga.api.parsing import field_path
from kubesaga.api.workflow import WorkflowSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EventWait:
    """A waitFor that an event ends."""

    activity: str
    pattern: str
    when: str | None
    path: str
    """Where the waitFor stands."""


def event_waits(spec: WorkflowSpec, path: str = "spec") -> Iterator[EventWait]:
    """Yield the waitFors that events end, in order."""
    for part, activities in (("activities", spec.activities), ("finally", spec.finally_)):
        for number, activity in enumerate(activities):
            wait = activity.wait_for
            if wait is not None and wait.event is not None:
                here = field_path(path, part, number, "waitFor")
                yield EventWait(activity=activity.name, pattern=wait.event, when=wait.when, path=here)


def comes_by_key(event: str, spec: WorkflowSpec) -> bool:
    """Tell whether events of a type, or all of a pattern, come as the run of a trigger that looks for the live run of its key."""
    if spec.concurrency is None or spec.concurrency.on_conflict is not OnConflict.SIGNAL:
        return False
    return any(trigger.event and not trigger.timed and fits(trigger.event, event) for trigger in spec.triggers)


def awaited_by_messenger(spec: WorkflowSpec) -> set[str]:
    """Return the types, patterns among them, that runs of a Workflow may wait for and that do not all come by key."""
    return {wait.pattern for wait in event_waits(spec) if not comes_by_key(wait.pattern, spec)}
