# SPDX-License-Identifier: Apache-2.0
"""How much at once, and when not at all: concurrency and queues of a Workflow; breaker, bulkhead and rate limit of an activity."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from kubesaga.api.failure import Fallback
from kubesaga.api.fields import Duration, Model

Count = Annotated[int, Field(ge=1, le=100_000)]
"""How many of something there may be at once."""


class QueueStrategy(StrEnum):
    """Who is next when a slot is free (S139)."""

    FIFO = "FIFO"
    PRIORITY = "Priority"
    FAIR = "Fair"


class Overflow(StrEnum):
    """What becomes of a run for which there is no slot."""

    QUEUE = "Queue"
    REJECT = "Reject"
    CANCEL_OLDEST = "CancelOldest"


class OnConflict(StrEnum):
    """What becomes of a run whose key a live run has already."""

    QUEUE = "Queue"
    REPLACE = "Replace"
    REJECT = "Reject"
    USE_EXISTING = "UseExisting"
    SIGNAL = "Signal"


class Queuing(Model):
    """How runs and activities wait for a slot (S139, S140)."""

    strategy: QueueStrategy = QueueStrategy.FIFO
    """FIFO: the oldest first. Priority: the highest `spec.priority` first. Fair: whose `fairnessKey` has the fewest slots."""
    fairness_key: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """For Fair: what a run is counted under, such as `${inputs.tenant}`."""
    timeout: Duration | None = None
    """Longest wait of a run for its start, and of an activity for its slot; then it fails (QueueTimeout). Default: none."""
    overflow: Overflow = Overflow.QUEUE
    """What becomes of a run for which `maxWorkflows` leaves no slot. Queue: it waits. Reject: it fails. CancelOldest: the oldest run is cancelled, and makes room."""


class Concurrency(Model):
    """How much of a Workflow may happen at once (S137, S138). Read live: a change holds for the runs that are there."""

    max_workflows: Count | None = None
    """How many runs may be under way; the others are Queued. Default: any number."""
    max_activities: Count | None = None
    """How many activities of all its runs may be under way. Sleeping, waiting and paused ones are not. Default: any number."""
    queuing: Queuing | None = None
    """How runs and activities wait for a slot."""
    key: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Of a run, such as `${inputs.ticket_id}`: runs of the same key do not overlap. A run whose key is "" has none."""
    on_conflict: OnConflict = OnConflict.QUEUE
    """What becomes of a run whose key a live run has. Queue: it waits. Replace: the other is cancelled. Reject: it fails. UseExisting: it ends at once, well. Signal: the live run gets its event, if that waits for it, and it ends well; else it waits."""


class BreakerMonitoring(Model):
    """What is told of a breaker."""

    enabled: bool = True
    """Whether its changes are told as Events."""
    metrics: bool = True
    """Whether its state is a metric."""


class CircuitBreaker(Model):
    """Keeps from calling what keeps failing (S164-S169; Nygard, Release It!)."""

    threshold: Annotated[int, Field(ge=1, le=1000)] = 5
    """So many failures in a row open it."""
    timeout: Duration = "60s"
    """A call that takes longer is stopped, and is a failure."""
    reset: Duration = "300s"
    """It stays open for so long, then a single call is let through: succeeds it, the breaker closes, else it is open again."""
    monitoring: BreakerMonitoring | None = None
    """What is told of it. Default: everything."""


class Bulkhead(Model):
    """Keeps one dependency from taking everything (S170-S174): so many at once, so many waiting, so long."""

    max_concurrent: Count = 10
    """How many calls there may be at once."""
    max_queue_size: Annotated[int, Field(ge=0, le=100_000)] = 100
    """How many more may wait; beyond that a call is rejected at once (BulkheadRejected)."""
    timeout: Duration | None = None
    """Longest wait; then the call is rejected (BulkheadTimeout). Default: 30s; not with `maxQueueSize: 0`."""
    fallback: Fallback | None = None
    """What stands in for a call that is rejected. Default: the activity's own fallback."""


class RateLimit(Model):
    """How often something may be begun: in no window of `period` more than `limit` times."""

    limit: Count
    """How many attempts."""
    period: Duration
    """In what time."""


class Guarded(Model):
    """What stands between an activity and what it calls."""

    circuit_breaker: CircuitBreaker | None = None
    """Keeps from calling what keeps failing."""
    bulkhead: Bulkhead | None = None
    """Keeps one dependency from taking everything."""
    rate_limit: RateLimit | None = None
    """How often it may be begun."""
