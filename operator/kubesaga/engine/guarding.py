# SPDX-License-Identifier: Apache-2.0
"""What stands between an activity and what it calls: whose breaker, bulkhead and rate limit, and how they are set.

A guard belongs to an Activity, or to one activity of a Workflow that carries settings of its own. It is kept apart by the
namespace of the calling runs, and for http by the host that is called (api.md); all runs share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Self

from kubesaga.api.fields import parse_duration
from kubesaga.api.limits import Guarded

_QUEUE_TIMEOUT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class GuardOwner:
    """Where the settings of a guard stand, and its state is kept."""

    kind: Literal["Activity", "Workflow"]
    namespace: str
    """Of that object."""
    name: str
    activity: str = ""
    """Which activity of a Workflow."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class GuardKey:
    """One guard."""

    owner: GuardOwner
    caller: str
    """The namespace of the runs that call."""
    host: str = ""
    """The host and port that an http activity calls."""

    def __str__(self) -> str:
        """The key as a run's status records it; `parse` reads it."""
        owner = self.owner
        return "/".join((owner.kind, owner.namespace, owner.name, owner.activity, self.host))

    @classmethod
    def parse(cls, text: str, caller: str) -> Self:
        """Return the key that a run of namespace `caller` has recorded. Raises ValueError."""
        kind, namespace, name, activity, host = text.split("/", 4)
        if kind not in ("Activity", "Workflow"):
            raise ValueError(f"{text!r} is not the key of a guard")
        of: Literal["Activity", "Workflow"] = "Activity" if kind == "Activity" else "Workflow"
        owner = GuardOwner(kind=of, namespace=namespace, name=name, activity=activity)
        return cls(owner=owner, caller=caller, host=host)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """`circuitBreaker`, its times read."""

    threshold: int
    timeout: timedelta
    reset: timedelta
    told: bool = True
    measured: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """`bulkhead`, its times read."""

    concurrent: int
    queue: int
    timeout: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`rateLimit`, its times read."""

    limit: int
    period: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """How a guard is set. At least one of the three is there."""

    breaker: Breaker | None = None
    bulkhead: Room | None = None
    rate: Rate | None = None


def settings_of(given: Guarded) -> GuardSettings | None:
    """Return the settings of valid fields, their defaults filled in; None: nothing guards."""
    breaker, bulkhead, rate = given.circuit_breaker, given.bulkhead, given.rate_limit
    if breaker is None and bulkhead is None and rate is None:
        return None
    told = breaker.monitoring if breaker is not None else None
    return GuardSettings(
        breaker=None if breaker is None else Breaker(
            threshold=breaker.threshold, timeout=parse_duration(breaker.timeout), reset=parse_duration(breaker.reset),
            told=told is None or told.enabled, measured=told is None or (told.enabled and told.metrics),
        ),
        bulkhead=None if bulkhead is None else Room(
            concurrent=bulkhead.max_concurrent, queue=bulkhead.max_queue_size,
            timeout=parse_duration(bulkhead.timeout) if bulkhead.timeout else _QUEUE_TIMEOUT if bulkhead.max_queue_size else None,
        ),
        rate=None if rate is None else Rate(limit=rate.limit, period=parse_duration(rate.period)),
    )  # fmt: skip
