# SPDX-License-Identifier: Apache-2.0
"""What starts runs of a Workflow without a person: events that come in, and the clock.

A trigger is either about events (`event: "ticket:created"`) or about time: `schedule` with a cron expression, or one of
the timer events of the catalogue (`schedule:daily`, `schedule:weekly`; `cron:custom` goes with `schedule`). The rules
that take more than one field are engine.validation.triggers'.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, JsonValue, WithJsonSchema

from kubesaga.api.fields import (
    ACTIVITY_NAME,
    OPAQUE_OBJECT,
    Duration,
    Expression,
    Model,
    OpaqueObject,
    Time,
    matching,
)
from kubesaga.api.names import GROUP

MAX_TRIGGERS: Final = 32
MAX_CATCH_UP: Final = 100
"""Most runs that `catchUp: All` makes for one trigger at once; of more missed ticks the newest are taken."""

DAILY: Final = "schedule:daily"
WEEKLY: Final = "schedule:weekly"
CUSTOM: Final = "cron:custom"
MAX_FAILURES: Final = 50
"""Largest `failureLimit`: the status remembers that many moments."""
TIMER_EVENTS: Final = {DAILY: "0 0 * * *", WEEKLY: "0 0 * * 0", CUSTOM: None}
"""The events that the operator's own clock makes, with their cron expression; None: the trigger's `schedule` (S36-S38)."""

TRIGGER_LABEL: Final = f"{GROUP}/trigger"
"""On a run that a trigger made: the trigger's name; as a label cut to what labels can hold, as an annotation whole."""
TRIGGER_ID_LABEL: Final = f"{GROUP}/trigger-id"
"""On such a run: which trigger of which Workflow it was, however they are called later."""
TRIGGER_KEY_ANNOTATION: Final = f"{GROUP}/trigger-key"
"""On such a run: the digest of what it was made for. A run of the same name with another key is a foreign object."""
TICK_ANNOTATION: Final = f"{GROUP}/tick"
"""On a run of a schedule: the tick that it was made for."""
DEDUPE_ANNOTATION: Final = f"{GROUP}/dedupe-window"
"""On a run of an event: how long, from its creation, it has to stay, since its name is what tells a repeated event."""
DEDUPE_WINDOW: Final = "24h"
"""How long that is where nothing is said."""
MESSENGER_LABEL: Final = f"{GROUP}/messenger"
"""On a run that only gives its event to live ones (`spec.deliver`): DELIVERS; once it has finished, its reason."""
DELIVERS: Final = "Delivering"

_EVENT: Final = r"[^\s*]+\*?|\*"
_ZONE: Final = r"[A-Za-z0-9_+/-]+"


TriggerName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching(
        ACTIVITY_NAME, "is not a name for a trigger; start with a letter or _, go on with letters, digits, _ or -"
    ),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 63, "pattern": f"^{ACTIVITY_NAME}$"}),
]
EventPattern = Annotated[
    str,
    Field(min_length=1, max_length=256),
    matching(_EVENT, "is not the type of an event; write it without blanks, and a * at its end at most"),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 256, "pattern": f"^({_EVENT})$"}),
]
Cron = Annotated[str, Field(min_length=1, max_length=128)]
"""Five fields, or @hourly, @daily, @weekly, @monthly, @yearly."""


class ConcurrencyPolicy(StrEnum):
    """What a schedule does at a tick while a run of its is live (the words of CronJob)."""

    ALLOW = "Allow"
    FORBID = "Forbid"
    REPLACE = "Replace"


class CatchUp(StrEnum):
    """Which of the ticks that passed while nobody looked still get a run."""

    NONE = "None"
    LATEST = "Latest"
    ALL = "All"


_SHAPES: Final[list[JsonValue]] = [
    {
        "required": ["event"],
        "not": {"required": ["schedule"]},
        "properties": {"event": {"not": {"enum": [CUSTOM]}}},
    },
    {"required": ["schedule"], "properties": {"event": {"enum": [CUSTOM]}}},
]


class Trigger(Model):
    """What starts a run: an event, or a schedule."""

    model_config = ConfigDict(json_schema_extra={"oneOf": _SHAPES})

    name: TriggerName
    """Unique among the Workflow's triggers. It is part of what makes a run of this trigger recognisable."""
    event: EventPattern | None = None
    """The type of the event; a `*` at its end stands for any rest. `schedule:daily` and `schedule:weekly` are the operator's own, at 00:00, weekly on Sunday; `cron:custom` goes with `schedule`."""
    conditions: OpaqueObject | None = None
    """What the event's data must be, by path: a value to equal, or operators; all must hold."""
    when: Expression | None = None
    """A CEL condition that must hold too. It reads `event`."""
    schedule: Cron | None = None
    """A cron expression of five fields: minute, hour, day of month, month, day of week."""
    time_zone: (
        Annotated[
            str,
            Field(min_length=1, max_length=64),
            matching(_ZONE, "is not the name of a time zone; write one such as Europe/Berlin"),
            WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 64, "pattern": f"^{_ZONE}$"}),
        ]
        | None
    ) = None
    """The IANA time zone of the schedule. Default: UTC."""
    concurrency_policy: ConcurrencyPolicy | None = None
    """At a tick while a run of this trigger is live. Allow (the default): another one starts. Forbid: the tick is left out. Replace: the live run is cancelled."""
    catch_up: CatchUp | None = None
    """Which ticks that were missed (the operator was away, the Workflow not valid) still get a run. None; Latest (the default): the newest; All: the newest 100."""
    starting_deadline: Duration | None = None
    """How late a run may start after its tick. Unset: as late as may be."""
    failure_limit: Annotated[int, Field(ge=1, le=MAX_FAILURES)] | None = None
    """After how many failed runs in a row the trigger stops itself, until the Workflow is changed. Unset: never."""
    inputs: OpaqueObject | None = None
    """The inputs of the run; may hold expressions that read `event`."""
    dedupe_window: Duration | None = None
    """How long a repeated event (the same source and id) starts no second run, however soon runs are deleted. Default: 24h."""

    @property
    def timed(self) -> bool:
        """Tell whether the clock starts its runs."""
        return self.schedule is not None or self.event in TIMER_EVENTS


Triggers = Annotated[
    list[Trigger],
    Field(
        max_length=MAX_TRIGGERS,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    ),
]


class FailureRecord(Model):
    """How often in a row the runs of a trigger have failed; empty where it sets no limit. Moments, not a number."""

    counted_from: Time | None = None
    """With `failureLimit`: runs that completed later count. It moves on when one succeeds."""
    failed: list[Time] | None = None
    """When runs failed since then."""
    stopped_generation: int | None = None
    """The trigger has stopped itself at this `metadata.generation` of the Workflow; it goes on when that changes."""
    message: Annotated[str, Field(max_length=1024)] | None = None
    """That it has stopped itself."""


class TriggerState(FailureRecord):
    """How often in a row the runs of events have failed."""


class ScheduleStatus(FailureRecord):
    """How far a schedule has come."""

    schedule: str
    """The cron expression and the zone that this is about; of another one nothing has been missed."""
    considered: Time
    """Every tick up to this moment has had its run, or was left out for good."""
    last: Time | None = None
    """The last tick that got a run."""
    next: Time | None = None
    """The next tick; none while the Workflow is suspended."""
    suspended: Literal[True] | None = None
    """The Workflow was suspended when this was written, or the schedule had stopped itself: what passes meanwhile is not made up for."""
    message: Annotated[str, Field(max_length=1024)] | None = None
    """What became of ticks that got no run, where that was not the Workflow's wish."""


ScheduleMap = Annotated[dict[str, ScheduleStatus], WithJsonSchema(OPAQUE_OBJECT)]
TriggerStateMap = Annotated[dict[str, TriggerState], WithJsonSchema(OPAQUE_OBJECT)]
"""Both by the trigger's name."""
