# SPDX-License-Identifier: Apache-2.0
"""The circuit breaker: failures in a row open it, time makes it half open, one call decides (S164-S169; Nygard, Release It!).

States and settings are apart: settings are read live, so every answer is worked out from both. A state counts in whole
milliseconds, as it is stored: a call that was the probe before a restart is the probe after it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from kubesaga.api.guard_status import BreakerPhase
from kubesaga.engine.admission.milliseconds import ceil_ms, floor_ms
from kubesaga.engine.guarding import Breaker


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One attempt that has ended, and says something of what was called."""

    succeeded: bool
    began: datetime
    ended: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerState:
    """What has to be remembered of a breaker."""

    failures: int = 0
    """Calls that failed, without a success since. While it is open: those that opened it, and probes."""
    opened_at: datetime | None = None
    """When it opened; None: it is closed."""


CLOSED: Final = BreakerState()


def next_probe(settings: Breaker, state: BreakerState) -> datetime | None:
    """Return when a single call may try; None: it is closed."""
    return None if state.opened_at is None else ceil_ms(state.opened_at + settings.reset)


def phase(settings: Breaker, state: BreakerState, now: datetime) -> BreakerPhase:
    """Return what it does with a call now."""
    probe = next_probe(settings, state)
    if probe is None:
        return BreakerPhase.CLOSED
    return BreakerPhase.OPEN if now < probe else BreakerPhase.HALF_OPEN


def clamped(state: BreakerState, now: datetime) -> BreakerState:
    """Return the state after the clock may have been set back: it opened now at the latest, and not in the future.

    To be kept instead of the old one. Else it would be open until the clock is where it was.
    """
    if state.opened_at is None or state.opened_at <= now:
        return state
    return replace(state, opened_at=floor_ms(now))


def is_probe(settings: Breaker, state: BreakerState, began: datetime) -> bool:
    """Tell whether a call that began then is the one that decides."""
    probe = next_probe(settings, state)
    return probe is not None and began >= probe


def after(settings: Breaker, state: BreakerState, call: Call) -> BreakerState:
    """Return the state after a call has ended.

    While it is open, the results of calls that began before the opening change nothing, whenever they come. Nor does
    that of a call over which the clock was set back: nobody can tell whether it began before or after.
    """
    if state.opened_at is None:
        if call.succeeded:
            return CLOSED
        failures = state.failures + 1
        opened_at = floor_ms(call.ended) if failures >= settings.threshold else None
        return BreakerState(failures=failures, opened_at=opened_at)
    if not is_probe(settings, state, call.began) or call.ended < call.began:
        return state
    if call.succeeded:
        return CLOSED
    return BreakerState(failures=state.failures + 1, opened_at=floor_ms(call.ended))
