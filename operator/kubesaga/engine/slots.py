# SPDX-License-Identifier: Apache-2.0
"""Slots: what a run, or an attempt, needs before it may start; what a pass asks for, and what it is told.

Nothing here is counted. Who holds a slot and who waits for one follows from what the statuses of the live runs say
(`standing.standing_of`); the ledger holds that for all runs together and gives the answers (design law 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kubesaga.api.limits import Concurrency
from kubesaga.api.reasons import Reason
from kubesaga.api.run import BlockedBy
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.definition import StepKey
from kubesaga.engine.guarding import GuardKey, GuardSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWant:
    """A run that has not started would start now."""

    concurrency: Concurrency | None
    """As the revision has it; as the Workflow has it now holds, where that can be read."""
    key: str
    """Its business key; "" for none."""
    group: str
    """What it is counted under with the strategy Fair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptWant:
    """A deed would begin an attempt now."""

    step: StepKey
    since: datetime
    """When it began to wait."""
    concurrency: Concurrency | None
    """As in RunWant."""
    guard: GuardKey | None = None
    settings: GuardSettings | None = None
    """The guard's, as the revision has them; as they are now holds, where that can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """It may start, in this pass."""

    key: str = ""
    """A run's business key."""
    group: str = ""
    """A run's fairness key."""
    timeout: timedelta | None = None
    """How long the call may take, by its circuit breaker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """It waits; somebody will say when it is its turn."""

    by: BlockedBy
    message: str
    until: datetime | None = None
    """When to ask again though nothing happens."""
    patience: timedelta | None = None
    """How long it may wait at its bulkhead."""
    hearer: RunKey | None = None
    """The live run of its key, which may take its event instead (`onConflict: Signal`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It does not start, now or later."""

    reason: Reason
    message: str


Want = RunWant | AttemptWant
Answer = Granted | Blocked | Refused
AskedFor = StepKey | None
"""Which of a run's wants: a deed's attempt, or None for the run itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Displaced:
    """A newer run takes this one's place."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What the ledger says to one run. The default: nothing is limited, whoever is ready may start."""

    run_limited: bool = False
    attempts_limited: bool = False
    queue_timeout: timedelta | None = None
    displaced: Displaced | None = None
    call_timeouts: Mapping[StepKey, timedelta] = field(default_factory=dict)
    """How long the calls that are under way may take, by their circuit breakers."""
    answers: Mapping[AskedFor, Answer] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, str | None]:
        """The fields of the status that record the keys of a run that may start now."""
        answer = self.answers.get(None)
        if not isinstance(answer, Granted):
            return {}
        return {"concurrency_key": answer.key or None, "fairness_key": answer.group or None}
