# SPDX-License-Identifier: Apache-2.0
"""The WorkflowRun that a trigger makes, or that gives an event to live runs, as it is sent to the API server; and the event that a tick is.

It bears no owner: a prune of the Workflow must not kill live sagas. What made it, and of what, stands in labels and
annotations, for the status is the operator's to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubesaga.api.fields import format_time
from kubesaga.api.names import API_VERSION, MANAGED_BY, MANAGED_BY_LABEL, WORKFLOW_LABEL, label_value
from kubesaga.api.triggers import (
    CUSTOM,
    DEDUPE_ANNOTATION,
    DEDUPE_WINDOW,
    DELIVERS,
    MESSENGER_LABEL,
    TICK_ANNOTATION,
    TRIGGER_ID_LABEL,
    TRIGGER_KEY_ANNOTATION,
    TRIGGER_LABEL,
    Trigger,
)
from kubesaga.engine.language.cron import Schedule
from kubesaga.triggers.events import Event, event_of
from kubesaga.triggers.names import (
    event_key,
    event_run_name,
    messenger_key,
    messenger_name,
    tick_key,
    tick_run_name,
    trigger_id,
)

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The Workflow that a trigger stands in."""

    namespace: str
    name: str
    uid: str


def run_of_event(
    origin: Origin, trigger: Trigger, event: Event, inputs: Mapping[str, Any], *, sender: str | None = None
) -> Body:
    """Return the one run that a trigger makes of an event. `sender` is whose ids are unique; default: the event's source."""
    key = event_key(origin.uid, trigger.name, event.source if sender is None else sender, event.id)
    marks = {DEDUPE_ANNOTATION: trigger.dedupe_window or DEDUPE_WINDOW}
    return _of_trigger(origin, trigger, event_run_name(origin.name, trigger.name, key), key, marks, event, inputs)


def run_of_tick(origin: Origin, trigger: Trigger, tick: datetime, event: Event, inputs: Mapping[str, Any]) -> Body:
    """Return the one run that a trigger makes at a tick; `event` is what `tick_event` makes of it."""
    key = tick_key(origin.uid, trigger.name, tick)
    name = tick_run_name(origin.name, trigger.name, tick, key)
    return _of_trigger(origin, trigger, name, key, {TICK_ANNOTATION: format_time(tick)}, event, inputs)


def messenger_of(origin: Origin, event: Event, *, sender: str | None = None) -> Body:
    """Return the one run that gives an event to the live runs of a Workflow that wait for it, and starts nothing.

    `sender` as in `run_of_event`. The operator knows the live runs; whoever makes this one need not.
    """
    key = messenger_key(origin.uid, event.source if sender is None else sender, event.id)
    return _run(
        origin, messenger_name(origin.name, key), key,
        labels={MESSENGER_LABEL: DELIVERS}, annotations={DEDUPE_ANNOTATION: DEDUPE_WINDOW},
        spec={"event": event.text, "deliver": True},
    )  # fmt: skip


def tick_event(origin: Origin, trigger: Trigger, schedule: Schedule, tick: datetime) -> Event:
    """Return a tick as the event that it is (S35): `event.data.scheduledTime` is when, in UTC."""
    return event_of(
        {
            "specversion": "1.0",
            "type": trigger.event or CUSTOM,
            "source": f"/namespaces/{origin.namespace}/workflows/{origin.name}/triggers/{trigger.name}",
            "id": format_time(tick),
            "time": format_time(tick),
            "data": {
                "scheduledTime": format_time(tick),
                "localTime": tick.astimezone(schedule.zone).isoformat(timespec="seconds"),
                "schedule": schedule.expression,
                "timeZone": schedule.zone_name,
                "trigger": trigger.name,
            },
        }
    )


def is_same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Tell whether a run that bears the name of a wanted one was made for the same event or tick."""
    return bool(_key(found) == _key(wanted))


def _key(body: Mapping[str, Any]) -> Any:
    return (body["metadata"].get("annotations") or {}).get(TRIGGER_KEY_ANNOTATION)


def _of_trigger(
    origin: Origin, trigger: Trigger, name: str, key: str, marks: Mapping[str, str], event: Event,
    inputs: Mapping[str, Any],
) -> Body:  # fmt: skip
    return _run(
        origin, name, key,
        labels={TRIGGER_LABEL: label_value(trigger.name), TRIGGER_ID_LABEL: trigger_id(origin.uid, trigger.name)},
        annotations={TRIGGER_LABEL: trigger.name, **marks},
        spec={"inputs": dict(inputs), "event": event.text},
    )  # fmt: skip


def _run(
    origin: Origin, name: str, key: str, *, labels: Mapping[str, str], annotations: Mapping[str, str],
    spec: Mapping[str, Any],
) -> Body:  # fmt: skip
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": {
            "name": name,
            "namespace": origin.namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, WORKFLOW_LABEL: label_value(origin.name), **labels},
            "annotations": {TRIGGER_KEY_ANNOTATION: key, **annotations},
        },
        "spec": {"workflowRef": {"name": origin.name}, **spec},
    }
