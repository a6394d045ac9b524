# SPDX-License-Identifier: Apache-2.0
"""A ledger without breakers and rates, for tests that are about something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from kubesaga.api.reasons import Reason
from kubesaga.engine.admission.breaker import Call
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.admission.rules import OperatorLimits
from kubesaga.engine.admission.verdict import PASS, Verdict
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.guarding import GuardKey, GuardSettings


class Unguarded:
    """Guards with bulkheads alone: no breaker ever opens, no rate is ever used up."""

    def settings(self, key: GuardKey, default: GuardSettings | None) -> GuardSettings | None:  # noqa: ARG002 - see GuardStates
        """Return the settings of the revision."""
        return default

    def verdict(
        self,
        key: GuardKey,  # noqa: ARG002 - see GuardStates
        default: GuardSettings | None,  # noqa: ARG002 - see GuardStates
        now: datetime,  # noqa: ARG002 - see GuardStates
        under_way: Iterable[datetime],  # noqa: ARG002 - see GuardStates
    ) -> Verdict:
        """Let everything through."""
        return PASS

    def begun(self, key: GuardKey, now: datetime, default: GuardSettings | None = None) -> None:
        """Count nothing."""

    def withdrawn(self, key: GuardKey, began: datetime, default: GuardSettings | None = None) -> None:
        """Count nothing."""

    def moved(self, key: GuardKey, began: datetime, now: datetime, default: GuardSettings | None = None) -> None:
        """Count nothing."""

    def ended(self, key: GuardKey, call: Call, default: GuardSettings | None = None) -> None:
        """Count nothing."""

    def seen(self, key: GuardKey, running: int, queued: int, default: GuardSettings | None = None) -> None:
        """Count nothing."""

    def rejected(self, key: GuardKey, reason: Reason, default: GuardSettings | None = None) -> None:
        """Count nothing."""


def open_ledger(wake: Callable[[RunKey], None] = lambda _key: None, limits: OperatorLimits | None = None) -> Ledger:
    """Return a ledger with these limits, by default none."""
    return Ledger(limits or OperatorLimits(), Unguarded(), wake)
