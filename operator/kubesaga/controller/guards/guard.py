# SPDX-License-Identifier: Apache-2.0
"""One guard in memory: its breaker, its rate limit, what was last seen of its bulkhead; and what it says to a call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kubesaga.api.fields import format_time
from kubesaga.api.guard_status import BreakerPhase
from kubesaga.api.reasons import Reason
from kubesaga.engine.admission import breaker, rates
from kubesaga.engine.admission.breaker import Call
from kubesaga.engine.admission.verdict import PASS, Blocked, Pass, Refused, Verdict
from kubesaga.engine.guarding import Breaker, GuardKey, GuardSettings, Rate

_RECORDING: Final = timedelta(seconds=1)
"""How long it can take until begins are reserved: one write in that time."""
_KEPT_FOR: Final = timedelta(minutes=10)
"""How long a guard stays in memory that nobody asks and that remembers nothing."""


@dataclass(slots=True, kw_only=True)
class Guard:
    """What is known of one guard. The settings are given anew each time: they are live."""

    key: GuardKey
    default: GuardSettings | None = None
    """The settings that the last caller brought with it."""
    state: breaker.BreakerState = breaker.CLOSED
    rate: rates.RateState = rates.UNUSED
    running: int = 0
    queued: int = 0
    asked: datetime | None = None
    """When somebody asked it last."""
    wanted: int = 0
    """How often somebody has asked for a begin that was not reserved, since the last write; one may ask often."""
    batch: int = 1
    """How many to reserve for those who ask: twice as many each time it was not enough, half of it when it was."""
    begins: int = 0
    """How many have begun since the last write."""

    @property
    def label(self) -> str:
        """The key as the owner's status shows it."""
        owner = self.key.owner
        return label_of(owner.activity if owner.kind == "Workflow" else self.key.caller, self.key.host)

    def verdict(self, settings: GuardSettings, now: datetime, under_way: Iterable[datetime]) -> Verdict:
        """Say whether a call may begin now."""
        verdict: Verdict = self.refusal(settings, now, under_way) or PASS
        if settings.rate is not None and isinstance(verdict, Pass):
            verdict = self._of_rate(settings.rate, now)
        return verdict

    def refusal(self, settings: GuardSettings, now: datetime, under_way: Iterable[datetime]) -> Refused | None:
        """Return what the breaker has against a call that would begin now."""
        self.asked = now
        return None if settings.breaker is None else self._of_breaker(settings.breaker, now, under_way)

    def _of_breaker(self, settings: Breaker, now: datetime, under_way: Iterable[datetime]) -> Refused | None:
        self.state = breaker.clamped(self.state, now)
        probe = breaker.next_probe(settings, self.state)
        if probe is None:
            return None
        told = f"{self.state.failures} calls in a row have failed"
        if now < probe:
            message = f"{told}; the circuit breaker is open until {format_time(probe)}"
            return Refused(reason=Reason.CIRCUIT_OPEN, message=message, until=probe)
        if any(breaker.is_probe(settings, self.state, began) for began in under_way):
            message = f"{told}; the circuit breaker waits for the one call that it has let through"
            return Refused(reason=Reason.CIRCUIT_OPEN, message=message, until=None)
        return None

    def _of_rate(self, settings: Rate, now: datetime) -> Verdict:
        self.rate = rates.settled(settings, self.rate, now)
        later = rates.next_time(settings, self.rate, now)
        if later is not None:
            message = f"{settings.limit} have begun, as many as may in {settings.period}; the next may at {format_time(later)}"
            return Blocked(reason=Reason.RATE_LIMITED, message=message, until=later)
        if rates.granted(settings, self.rate, now):
            return PASS
        self.wanted += 1
        message = "there is room under the rate limit; it begins when that is recorded"
        return Blocked(reason=Reason.RATE_LIMITED, message=message, until=now + _RECORDING)

    def begun(self, settings: GuardSettings, now: datetime) -> bool:
        """Take in that a call began; tell whether it is the probe of a breaker that is half open."""
        self.asked = now
        if settings.rate is not None:
            self.rate = rates.begun(settings.rate, self.rate, now)
            self.begins += 1
        return settings.breaker is not None and (
            breaker.phase(settings.breaker, self.state, now) is BreakerPhase.HALF_OPEN
        )

    def withdrawn(self, settings: GuardSettings, began: datetime) -> None:
        """Take in that what `begun` told has not happened."""
        if settings.rate is not None:
            self.rate = rates.withdrawn(settings.rate, self.rate, began)
            self.begins += 1

    def moved(self, settings: GuardSettings, began: datetime, now: datetime) -> None:
        """Take in that what `begun` told of has happened now."""
        if settings.rate is not None:
            self.rate = rates.moved(settings.rate, self.rate, began, now)
            self.begins += 1

    def ended(self, settings: Breaker, call: Call) -> bool:
        """Take in how a call ended; tell whether the breaker opened or closed."""
        before = self.state
        self.state = breaker.after(settings, before, call)
        return before.opened_at != self.state.opened_at

    def reset(self) -> bool:
        """Close the breaker; tell whether it was not quite closed."""
        before, self.state = self.state, breaker.CLOSED
        return before != breaker.CLOSED

    def forget_what_is_not_set(self, settings: GuardSettings) -> None:
        """Forget the state of what does not guard any more: should it come back, it begins anew."""
        if settings.breaker is None:
            self.state = breaker.CLOSED
        if settings.rate is None:
            self.rate, self.wanted, self.begins = rates.UNUSED, 0, 0
        if settings.bulkhead is None:
            self.running = self.queued = 0

    def idle(self, settings: GuardSettings | None, now: datetime) -> bool:
        """Tell whether nothing would be lost with it."""
        rate = settings.rate if settings is not None else None
        counts = self.rate != rates.UNUSED if rate is None else rates.settled(rate, self.rate, now) != rates.UNUSED
        asked = self.asked is not None and self.asked <= now < self.asked + _KEPT_FOR
        return not (asked or counts or self.wanted or self.running or self.queued or self.state != breaker.CLOSED)


def label_of(*parts: str) -> str:
    """Return the readable key of a guard from its parts, absent ones left out."""
    return "/".join(part for part in parts if part)
