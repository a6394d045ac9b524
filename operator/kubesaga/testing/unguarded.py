# SPDX-License-Identifier: Apache-2.0
"""A ledger without limits, for tests that are about something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from kubesaga.engine.attempt import RunKey
from kubesaga.engine.decision import EndedCall
from kubesaga.engine.guarding import GuardKey, GuardSettings
from kubesaga.engine.ledger import Ledger, OperatorLimits
from kubesaga.engine.slots import Granted


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
    ) -> Granted:
        """Let everything through."""
        return Granted()

    def begun(self, key: GuardKey, now: datetime) -> None:
        """Count nothing."""

    def ended(self, call: EndedCall) -> None:
        """Count nothing."""


def open_ledger(wake: Callable[[RunKey], None] = lambda _key: None, limits: OperatorLimits | None = None) -> Ledger:
    """Return a ledger with these limits, by default none."""
    return Ledger(limits or OperatorLimits(), Unguarded(), wake)
