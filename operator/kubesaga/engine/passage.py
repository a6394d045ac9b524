# SPDX-License-Identifier: Apache-2.0
"""Whether a call may go through its guard now: circuit breaker and rate limit, which others keep, and the bulkhead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final, Protocol

from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.api.run import BlockedBy
from kubesaga.engine.decision import EndedCall
from kubesaga.engine.gate import SlotId
from kubesaga.engine.guarding import GuardKey, GuardSettings
from kubesaga.engine.slots import Blocked, Granted, Refused


class GuardStates(Protocol):
    """Breakers and rate limits."""

    def settings(self, key: GuardKey, default: GuardSettings | None) -> GuardSettings | None:
        """Return how a guard is set now."""

    def verdict(
        self, key: GuardKey, default: GuardSettings | None, now: datetime, under_way: Iterable[datetime]
    ) -> Granted | Blocked | Refused:
        """Tell whether a call may go through now, beside the bulkhead."""

    def begun(self, key: GuardKey, now: datetime) -> None:
        """Take in that a call goes through."""

    def ended(self, call: EndedCall) -> None:
        """Take in that a call has ended."""


_KEPT: Final = 10_000
"""Of so many guards it is remembered how a revision sets them, besides those in use."""


class Passage:
    """All guards. Who is behind one is asked each time, and never remembered."""

    def __init__(
        self, states: GuardStates, held_at: Callable[[GuardKey], Mapping[SlotId, datetime]], used: Callable[[], set[GuardKey]]
    ) -> None:  # fmt: skip
        """`held_at` tells who is behind a guard, and since when; `used` which guards anybody is at."""
        self._states = states
        self._held_at = held_at
        self._used = used
        self._defaults: dict[GuardKey, GuardSettings | None] = {}

    def remember(self, guard: GuardKey, settings: GuardSettings | None) -> None:
        """Take in how a revision sets a guard."""
        self._defaults[guard] = settings
        if len(self._defaults) > _KEPT + len(used := self._used()):
            kept = {known: self._defaults[known] for known in self._defaults if known in used}
            self._defaults = {**kept, guard: settings}

    def settings(self, guard: GuardKey) -> GuardSettings | None:
        """Return how a guard is set now."""
        return self._states.settings(guard, self._defaults.get(guard))

    def call_timeout(self, guard: GuardKey | None) -> timedelta | None:
        """Return how long a call behind a guard may take."""
        settings = self.settings(guard) if guard is not None else None
        return settings.breaker.timeout if settings is not None and settings.breaker is not None else None

    def verdict(self, guard: GuardKey, now: datetime) -> Granted | Blocked | Refused:
        """Return what breaker and rate limit say to one more call."""
        return self._states.verdict(guard, self._defaults.get(guard), now, self._held_at(guard).values())

    def is_full(self, guard: GuardKey) -> bool:
        """Tell whether the bulkhead has as many as it may."""
        settings = self.settings(guard)
        bulkhead = settings.bulkhead if settings is not None else None
        return bulkhead is not None and len(self._held_at(guard)) >= bulkhead.concurrent

    def has_room(self, guard: GuardKey, now: datetime) -> bool:
        """Tell whether one more may go through."""
        return not self.is_full(guard) and isinstance(self.verdict(guard, now), Granted)

    def blocked(self, guard: GuardKey, now: datetime) -> Blocked | None:
        """Return what keeps a call from going through; None: not its guard."""
        settings = self.settings(guard)
        patience = settings.bulkhead.timeout if settings is not None and settings.bulkhead is not None else None
        match self.verdict(guard, now):
            case Blocked(by=by, message=message, until=until):
                return Blocked(by=by, message=message, until=until, patience=patience)
            case Refused(message=message, until=until):
                return Blocked(by=BlockedBy.CIRCUIT_BREAKER, message=message, until=until)
        if self.is_full(guard):
            return Blocked(by=BlockedBy.BULKHEAD, message=REASON_TEXT[Reason.BULKHEAD_FULL], patience=patience)
        return None
