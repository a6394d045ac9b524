# SPDX-License-Identifier: Apache-2.0
"""The event types that Kubesaga knows by itself, as data; WorkflowEventSources register more.

An event of a type that is not here is no error: the set is open, and applications send what they like (S17, S32). A type
is known so that a spelling mistake in a Workflow is noticed, and so that what an event carries can be looked up.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import Field, WithJsonSchema

from kubesaga.api.fields import Model, OpaqueObject, matching
from kubesaga.api.triggers import CUSTOM, DAILY, WEEKLY

Schema = Mapping[str, Any]

_PATTERN: Final = r"[!-)+-~]+\*?|\*"
EventTypePattern = Annotated[
    str,
    Field(min_length=1, max_length=256),
    matching(_PATTERN, "is not a type of event; use visible characters without blanks, and * at the end alone"),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 256, "pattern": f"^({_PATTERN})$"}),
]


class EventClass(StrEnum):
    """Where events of a type come from (S27, S28, S32, S35)."""

    SYSTEM = "System"
    INTEGRATION = "Integration"
    TIMER = "Timer"


class EventType(Model):
    """A type of event."""

    type: EventTypePattern
    """The type; a `*` at its end stands for the rest."""
    class_: Annotated[EventClass | None, Field(alias="class")] = None
    """Where such events come from, for people."""
    description: Annotated[str, Field(max_length=1024)] | None = None
    """What such an event means, for people."""
    schema_: Annotated[OpaqueObject | None, Field(alias="schema")] = None
    """What `event.data` looks like, as JSON Schema. A delivery that breaks it is refused (422), with the place."""


def find_type(name: str, types: Iterable[EventType]) -> EventType | None:
    """Return the type of that name, or the longest pattern that takes it in."""
    fitting = [known for known in types if fits(known.type, name)]
    return max(fitting, key=lambda known: (known.type == name, len(known.type)), default=None)


def fits(pattern: str, type_: str) -> bool:
    """Tell whether an event's type is the pattern, or begins with what stands before its trailing `*`."""
    return type_.startswith(pattern[:-1]) if pattern.endswith("*") else type_ == pattern


def is_known(pattern: str, types: Iterable[EventType]) -> bool:
    """Tell whether an event of a known type could fit a trigger's pattern."""
    return any(fits(pattern, known.type) or fits(known.type, pattern) for known in types)


def known_types(registered: Iterable[EventType]) -> Mapping[str, EventType]:
    """Return the types that are known where these are registered: they and the catalogue's, by type."""
    return {**CATALOGUE, **{known.type: known for known in registered}}


def nearest(pattern: str, types: Iterable[EventType]) -> str | None:
    """Return the known type that was probably meant."""
    return next(iter(difflib.get_close_matches(pattern, [known.type for known in types], n=1, cutoff=0.75)), None)


# --- the data -------------------------------------------------------------------------------------------------------

_TEXT: Final[Schema] = {"type": "string"}
_CONTENT: Final[Schema] = {"type": "object", "required": ["content"], "properties": {"content": _TEXT}}


def _object(*required: str, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": dict.fromkeys(required, _TEXT) | properties,
    }


_TICKET: Final = _object("ticketId")
_CHANGE: Final = _object("ticketId", previous={}, new={})
_COMMENT: Final = _object("ticketId", "commentId")
_ACCOUNT: Final = _object("accountId")
_CONTACT: Final = _object("contactId")
_TICK: Final = _object("scheduledTime", "schedule", "timeZone", "trigger")

_SYSTEM: Final[tuple[tuple[str, str, Schema], ...]] = (
    ("ticket:created", "A ticket was opened", _TICKET),
    ("ticket:updated", "Something about a ticket changed", _TICKET),
    ("ticket:deleted", "A ticket was deleted", _TICKET),
    ("ticket:archived", "A ticket was moved to archived status", _TICKET),
    ("ticket:unarchived", "A ticket was taken back from archived status", _TICKET),
    ("ticket:escalated", "A ticket was escalated", _TICKET),
    ("ticket:assigned", "A ticket was given to an agent", _TICKET),
    ("ticket:status:changed", "A ticket's status changed", _CHANGE),
    ("ticket:priority:changed", "A ticket's priority changed", _CHANGE),
    ("ticket:type:changed", "A ticket's type changed", _CHANGE),
    ("ticket:sentiment:changed", "The sentiment of a ticket changed", _CHANGE),
    ("ticket:custom_field_value:added", "A custom field of a ticket was given a value", _TICKET),
    ("ticket:custom_field_value:removed", "A custom field of a ticket lost its value", _TICKET),
    ("ticket:custom_field_value:changed", "A custom field of a ticket has another value", _CHANGE),
    ("ticket:tag:updated", "The tags of a ticket changed", _TICKET),
    ("ticket:migrated", "A ticket was moved to another team", _TICKET),
    ("ticket:comment:created", "A comment was written", _COMMENT),
    ("ticket:comment:added", "A comment was written", _COMMENT),
    (
        "ticket:comment:updated",
        "A comment was changed; `previous.content` and `new.content` are what it said before and says now",
        _object("ticketId", "commentId", "previous", "new", previous=_CONTENT, new=_CONTENT),
    ),
    ("ticket:comment:deleted", "A comment was deleted", _COMMENT),
    ("ticket:comment:reaction:added", "Somebody reacted to a comment", _COMMENT),
    ("ticket:comment:reaction:removed", "A reaction to a comment was taken back", _COMMENT),
    ("ticket:csat:sent", "A customer was asked how satisfied they are", _TICKET),
    ("ticket:csat:received", "A customer said how satisfied they are", _TICKET),
    ("ticket:sla:breached", "A ticket was not dealt with in time", _TICKET),
    ("ticket:sla:breach_warning", "A ticket will soon be late", _TICKET),
    ("account:created", "An account was created", _ACCOUNT),
    ("account:updated", "Something about an account changed", _ACCOUNT),
    ("account:deleted", "An account was deleted", _ACCOUNT),
    ("account-health:changed", "An account's health changed", _ACCOUNT),
    ("account-status:changed", "An account's status changed", _ACCOUNT),
    ("account-classification:changed", "An account's classification changed", _ACCOUNT),
    ("account-industry:changed", "An account's industry changed", _ACCOUNT),
    ("account-custom_field_value:added", "A custom field of an account was given a value", _ACCOUNT),
    ("account-custom_field_value:removed", "A custom field of an account lost its value", _ACCOUNT),
    ("account-custom_field_value:changed", "A custom field of an account has another value", _ACCOUNT),
    ("account-task:comment:*", "Something happened to a comment on an account's task", {}),
    ("account-activity:comment:*", "Something happened to a comment on an account's activity", {}),
    ("account-note:comment:*", "Something happened to a comment on an account's note", {}),
    ("customer-contact:created", "A contact of a customer was created", _CONTACT),
    ("customer-contact:updated", "Something about a contact changed", _CONTACT),
    ("customer-contact:deleted", "A contact was deleted", _CONTACT),
    ("customer-contact:type:changed", "A contact's type changed", _CONTACT),
    ("user:mentioned", "Somebody was mentioned", {}),
    ("org:created", "An organisation was created", {}),
    ("custom-object:*", "Something happened to a custom object", {}),
)
_INTEGRATION: Final[tuple[tuple[str, str, Schema], ...]] = (
    ("slack:message", "A message was sent in a channel", _object("channel", "text")),
    (
        "slack:channel:created",
        "A channel was created",
        _object(channel={"type": "object", "required": ["id"], "properties": {"id": _TEXT, "name": _TEXT}}),
    ),
)
_TIMER: Final[tuple[tuple[str, str, Schema], ...]] = (
    (DAILY, "Once a day, at 00:00 in the trigger's time zone", _TICK),
    (WEEKLY, "Once a week, on Sunday at 00:00 in the trigger's time zone", _TICK),
    (CUSTOM, "When the trigger's `schedule` says", _TICK),
)


def _types(class_: EventClass, rows: Iterable[tuple[str, str, Schema]]) -> dict[str, EventType]:
    return {
        name: EventType.model_validate(
            {"type": name, "class": class_, "description": description, "schema": schema or None}
        )
        for name, description, schema in rows
    }


CATALOGUE: Final[Mapping[str, EventType]] = MappingProxyType(
    _types(EventClass.SYSTEM, _SYSTEM) | _types(EventClass.INTEGRATION, _INTEGRATION) | _types(EventClass.TIMER, _TIMER)
)
"""By type (S27-S38). The fields named in the schemas are the least that a Workflow can rely on; others may be there.

For people and for `kubesaga events test`: deliveries are held against the schemas that their source gives, not these.
"""
