# SPDX-License-Identifier: Apache-2.0
"""What the ledger goes by, beside the limits of Workflows: the operator's own, and what breakers and rate limits say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from kubesaga.api.limits import QueueStrategy
from kubesaga.api.reasons import Reason
from kubesaga.engine.admission.breaker import Call
from kubesaga.engine.admission.verdict import Verdict
from kubesaga.engine.guarding import GuardKey, GuardSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorLimits:
    """What holds for all Workflows together. None: any number."""

    max_workflows: int | None = None
    max_activities: int | None = None
    strategy: QueueStrategy = QueueStrategy.FIFO
    """Between Workflows; Fair: between namespaces."""
    timeout: timedelta | None = None
    """Longest wait, where the Workflow does not say."""


class GuardStates(Protocol):
    """Breakers and rate limits."""

    def settings(self, key: GuardKey, default: GuardSettings | None) -> GuardSettings | None:
        """Return how a guard is set now."""

    def verdict(
        self, key: GuardKey, default: GuardSettings | None, now: datetime, under_way: Iterable[datetime]
    ) -> Verdict:
        """Tell whether a call may begin now, beside the bulkhead."""

    def begun(self, key: GuardKey, now: datetime, default: GuardSettings | None = None) -> None:
        """Take in that a call begins."""

    def withdrawn(self, key: GuardKey, began: datetime, default: GuardSettings | None = None) -> None:
        """Take in that it did not begin after all."""

    def moved(self, key: GuardKey, began: datetime, now: datetime, default: GuardSettings | None = None) -> None:
        """Take in that it is recorded as begun now."""

    def ended(self, key: GuardKey, call: Call, default: GuardSettings | None = None) -> None:
        """Take in how a call has ended."""

    def seen(self, key: GuardKey, running: int, queued: int, default: GuardSettings | None = None) -> None:
        """Take in how many calls there are, and how many wait."""

    def rejected(self, key: GuardKey, reason: Reason, default: GuardSettings | None = None) -> None:
        """Count a call that was turned away."""
