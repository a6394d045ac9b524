# SPDX-License-Identifier: Apache-2.0
"""What stands of guards in the status of an Activity, or of a Workflow for the activities that carry guards of their own.

The operator keeps its own memory here as well: streaks, the time of an opening and the begins that a rate limit still
counts are read again after a restart.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from kubesaga.api.fields import Model, Time
from kubesaga.api.run import ActionRecord

MAX_GUARDS_SHOWN: Final = 100
"""How many of each list a status holds. A rate limit beyond that lets nothing pass, because it could not be recorded."""

MAX_ACTIONS_SHOWN: Final = 50

_BY_KEY: Final[dict[str, Any]] = {"x-kubernetes-list-type": "atomic"}
"""One piece for the API server: the operator alone writes it, as a whole, and atomic lists are the cheapest."""

Key = Annotated[str, Field(min_length=1, max_length=600)]
"""Which guard. In an Activity `NAMESPACE` of the runs that call, in a Workflow the `ACTIVITY`; for http with `/HOST:PORT`."""


class BreakerPhase(StrEnum):
    """What a circuit breaker does with a call."""

    CLOSED = "Closed"
    """It lets calls through."""
    OPEN = "Open"
    """It refuses them."""
    HALF_OPEN = "HalfOpen"
    """It lets a single one through, which decides."""


class CircuitBreakerStatus(Model):
    """One circuit breaker."""

    key: Key
    """Which one."""
    state: BreakerPhase
    """What it was when this was written. From `nextProbeAt` on, Open is HalfOpen."""
    failures: Annotated[int, Field(ge=0)] = 0
    """How many calls have failed in a row."""
    opened_at: Time | None = None
    """When it opened, for the last time; absent while it is closed."""
    next_probe_at: Time | None = None
    """When a single call may try."""


class RateLimitStatus(Model):
    """One rate limit."""

    key: Key
    """Which one."""
    limit: int | None = None
    """How many attempts may begin in a period."""
    used: Annotated[int, Field(ge=0)] = 0
    """How many of them were used when this was written."""
    full_until: Time | None = None
    """While it is used up: when the next attempt may begin."""
    begins: str | None = None
    """For the operator: the begins that still count, as `MILLISECONDS-SINCE-1970xHOW-MANY`, oldest first."""
    reserved: Annotated[int, Field(ge=0)] | None = None
    """For the operator: so many more may begin before it writes here again. After a crash they count as begun."""
    reserved_until: Time | None = None
    """Until when."""


class BulkheadStatus(Model):
    """One bulkhead, as it was seen last; it may be some seconds behind."""

    key: Key
    """Which one."""
    running: Annotated[int, Field(ge=0)] = 0
    """How many calls there were."""
    queued: Annotated[int, Field(ge=0)] = 0
    """How many waited."""
    limit: int | None = None
    """How many calls there may be at once."""


class GuardsStatus(Model):
    """The part of a status that the guards write; its fields stand beside those of others."""

    circuit_breakers: Annotated[list[CircuitBreakerStatus], Field(max_length=MAX_GUARDS_SHOWN, json_schema_extra=_BY_KEY)] | None = None  # fmt: skip
    """The circuit breakers; at most 100 of them, the open ones first of all."""
    rate_limits: Annotated[list[RateLimitStatus], Field(max_length=MAX_GUARDS_SHOWN, json_schema_extra=_BY_KEY)] | None = None  # fmt: skip
    """The rate limits under which something has begun lately."""
    bulkheads: Annotated[list[BulkheadStatus], Field(max_length=MAX_GUARDS_SHOWN, json_schema_extra=_BY_KEY)] | None = None  # fmt: skip
    """The bulkheads; at most 100 of them."""
    actions: Annotated[list[ActionRecord], Field(max_length=MAX_ACTIONS_SHOWN, json_schema_extra=_BY_KEY)] | None = None  # fmt: skip
    """The WorkflowActions that were applied to it; the last 50 of them."""
