# SPDX-License-Identifier: Apache-2.0
"""What an activity may wait for: a time, an event, or a Signal. The engine waits itself; nothing runs meanwhile."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import ConfigDict, Field, JsonValue

from kubesaga.api.fields import Expression, Model
from kubesaga.api.triggers import EventPattern
from kubesaga.api.work import one_of

WAITS: Final = ("sleep", "waitFor")
"""The ways to wait, as an activity's fields."""


_NO_EVENT: Final[JsonValue] = {"not": {"anyOf": [{"required": ["event"]}, {"required": ["when"]}]}}
_WHEN_OF_EVENT: Final[list[JsonValue]] = [{"required": ["event"]}, _NO_EVENT]


class Sleep(Model):
    """Wait until a time has come. It stands in the status, so that a restart of the operator neither shortens nor repeats the wait."""

    model_config = ConfigDict(json_schema_extra=one_of("for", "until"))

    for_: Annotated[Annotated[str, Field(min_length=1, max_length=4096)] | None, Field(alias="for")] = None
    """How long, from when the activity begins: a duration such as `90s` or `2d`; may hold `${…}`."""
    until: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Until when: a time with its zone as RFC 3339 has it, `2026-11-22T10:00:05Z`; may hold `${…}`. One that has passed ends the wait at once."""

    @property
    def times(self) -> dict[str, str]:
        """The fields that say how long, by name; they may hold `${…}`."""
        return self.wire()


class WaitFor(Model):
    """Wait for an event, or for a WorkflowAction Signal to this activity. The event, or the Signal's `value`, is the output."""

    model_config = ConfigDict(json_schema_extra={"oneOf": _WHEN_OF_EVENT})

    event: EventPattern | None = None
    """The type of the event that ends it; a `*` at its end stands for any rest. Without it only a Signal does."""
    when: Expression | None = None
    """Which event of that type: a CEL condition. It reads `received`, the event that came, and of the run `inputs`, `event` and `run`."""

    timeout: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """How long at most, from when the activity begins; then it fails (WaitTimeout). May hold `${…}`. Unset: as long as the run may take."""

    @property
    def times(self) -> dict[str, str]:
        """The fields that say how long, by name; they may hold `${…}`."""
        return {"timeout": self.timeout} if self.timeout is not None else {}
