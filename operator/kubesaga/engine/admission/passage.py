# SPDX-License-Identifier: Apache-2.0
"""Whether a call may go through its guard now: circuit breaker and rate limit, which others keep, and the bulkhead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.api.run import BlockedBy
from kubesaga.engine.admission import verdict
from kubesaga.engine.admission.breaker import Call
from kubesaga.engine.admission.gate import Claim, Gate, SlotId
from kubesaga.engine.admission.rules import GuardStates
from kubesaga.engine.decision import EndedCall, Rejection
from kubesaga.engine.guarding import GuardKey, GuardSettings
from kubesaga.engine.slots import Blocked

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

    def verdict(self, guard: GuardKey, now: datetime) -> verdict.Verdict:
        """Return what breaker and rate limit say to one more call."""
        return self._states.verdict(guard, self._defaults.get(guard), now, self._held_at(guard).values())

    def is_full(self, guard: GuardKey) -> bool:
        """Tell whether the bulkhead has as many as it may."""
        settings = self.settings(guard)
        bulkhead = settings.bulkhead if settings is not None else None
        return bulkhead is not None and len(self._held_at(guard)) >= bulkhead.concurrent

    def has_room(self, guard: GuardKey, now: datetime) -> bool:
        """Tell whether one more may go through."""
        return not self.is_full(guard) and isinstance(self.verdict(guard, now), verdict.Pass)

    def blocked(self, guard: GuardKey, now: datetime) -> Blocked | None:
        """Return what keeps a call from going through; None: not its guard."""
        settings = self.settings(guard)
        patience = settings.bulkhead.timeout if settings is not None and settings.bulkhead is not None else None
        match self.verdict(guard, now):
            case verdict.Blocked(message=message, until=until):
                return Blocked(by=BlockedBy.RATE_LIMIT, message=message, until=until, patience=patience)
            case verdict.Refused(message=message, until=until):
                return Blocked(by=BlockedBy.CIRCUIT_BREAKER, message=message, until=until)
        if self.is_full(guard):
            return Blocked(by=BlockedBy.BULKHEAD, message=REASON_TEXT[Reason.BULKHEAD_FULL], patience=patience)
        return None

    # --- what has become of calls -----------------------------------------------------------------------------------

    def begun(self, claim: Claim, now: datetime) -> None:
        """Take in that a call is let through."""
        if claim.guard is not None:
            self._states.begun(claim.guard, now, self._defaults.get(claim.guard))

    def recorded(self, claim: Claim, now: datetime) -> None:
        """Take in that it has been written down as begun."""
        if claim.guard is not None:
            self._states.moved(claim.guard, claim.at, now, self._defaults.get(claim.guard))

    def withdrawn(self, claims: Iterable[Claim]) -> None:
        """Take in that calls which were let through did not begin."""
        for claim in claims:
            if claim.guard is not None:
                self._states.withdrawn(claim.guard, claim.at, self._defaults.get(claim.guard))

    def ended(self, call: EndedCall) -> None:
        """Take in how a call has ended, once that is recorded."""
        how = Call(succeeded=call.succeeded, began=call.began, ended=call.ended)
        self._states.ended(call.guard, how, self._defaults.get(call.guard))

    def rejected(self, rejection: Rejection) -> None:
        """Count a call that was turned away, once that is recorded."""
        self._states.rejected(rejection.guard, rejection.reason, self._defaults.get(rejection.guard))

    def show(self, gate: Gate) -> None:
        """Tell of the guards at which somebody has come or gone."""
        for guard in gate.changed_guards():
            running, queued = len(gate.held_at(guard)), len(gate.waiting_at(guard))
            self._states.seen(guard, running, queued, self._defaults.get(guard))
