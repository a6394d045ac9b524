# SPDX-License-Identifier: Apache-2.0
"""Who the run of a trigger is, or of an event that live runs wait for: the same for everyone who is told of the same event, or sees the same tick (design law 4).

The API server lets a name be taken once; that is what makes one run of an event that is delivered three times to two
replicas. The name tells people where the run comes from and ends in 64 bits of the key; the whole key stands in an
annotation, so that a run which merely bears the name is found out.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from kubesaga.api.fields import format_time
from kubesaga.api.names import digest, dns_label

_LIMIT: Final = 63
"""A run's name is also the value of a label on its pods."""
_DIGITS: Final = 16


def trigger_id(workflow_uid: str, trigger: str) -> str:
    """Return what is the same for all runs of one trigger of one Workflow, and no other's: the value of a label."""
    return digest("trigger", workflow_uid, trigger, length=32)


def event_key(workflow_uid: str, trigger: str, source: str, event_id: str) -> str:
    """Return the key of the one run that a trigger makes of an event; `source` and `event_id` identify the event."""
    return digest("event", workflow_uid, trigger, source, event_id, length=64)


def messenger_key(workflow_uid: str, source: str, event_id: str) -> str:
    """Return the key of the one run that gives an event to the live runs of a Workflow; no trigger's run has it."""
    return digest("messenger", workflow_uid, source, event_id, length=64)


def tick_key(workflow_uid: str, trigger: str, tick: datetime) -> str:
    """Return the key of the one run that a trigger makes at a tick."""
    return digest("tick", workflow_uid, trigger, format_time(tick), length=64)


def event_run_name(workflow: str, trigger: str, key: str) -> str:
    """Return the name of the run of an event, e.g. `high-priority-ticket-created-3f9a1c2b7d4e5f60`."""
    return _name(workflow, trigger, f"-{key[:_DIGITS]}")


def messenger_name(workflow: str, key: str) -> str:
    """Return the name of that run, e.g. `high-priority-ticket-event-3f9a1c2b7d4e5f60`."""
    return _name(workflow, "event", f"-{key[:_DIGITS]}")


def tick_run_name(workflow: str, trigger: str, tick: datetime, key: str) -> str:
    """Return the name of the run of a tick, with its time in UTC, e.g. `report-nightly-202611220200-3f9a1c2b7d4e5f60`."""
    return _name(workflow, trigger, f"-{tick.astimezone(UTC):%Y%m%d%H%M}-{key[:_DIGITS]}")


def _name(workflow: str, trigger: str, tail: str) -> str:
    room = _LIMIT - len(tail)
    shown = dns_label(trigger, max(8, room // 3))
    return f"{dns_label(workflow, room - len(shown) - 1)}-{shown}{tail}"
