# SPDX-License-Identifier: Apache-2.0
"""All guards of one object, and how they stand in its status: what is to be written, what was read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from kubesaga.api.guard_status import (
    MAX_ACTIONS_SHOWN,
    MAX_GUARDS_SHOWN,
    BreakerPhase,
    BulkheadStatus,
    CircuitBreakerStatus,
    GuardsStatus,
    RateLimitStatus,
)
from kubesaga.api.run import ActionRecord
from kubesaga.controller.guards.guard import Guard
from kubesaga.engine.admission import breaker, rates
from kubesaga.engine.guarding import GuardKey, GuardOwner, GuardSettings
from kubesaga.kube.events import Severity

_log = logging.getLogger("kubesaga.workflow_engine")

Document = dict[str, Any]

FIELDS: Final = ("circuitBreakers", "rateLimits", "bulkheads", "actions")
"""The fields of the status that are ours. Nothing else is read or written."""

_MOST_GUARDS: Final = 1000
"""In memory, of one object. Beyond that, those that are closed go first, then those that nobody has asked for long."""


_LARGEST_BATCH: Final = 100_000
"""The largest limit."""


@dataclass(frozen=True, slots=True)
class News:
    """An Event that is posted once the state it tells of is stored."""

    severity: Severity
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _Reservation:
    """What a write is to reserve for one rate limit."""

    before: rates.RateState
    after: rates.RateState
    wanted: int
    begins: int
    """`Guard.wanted` and `Guard.begins`, as far as the write takes account of them."""


@dataclass(slots=True, kw_only=True)
class Wish:
    """What a write is to store, and what becomes true when it has succeeded."""

    document: Document
    reservations: dict[GuardKey, _Reservation]
    news: int
    """How many of the news tell of what is stored by it."""


@dataclass(slots=True, kw_only=True)
class GuardRecord:
    """The guards of one Activity or Workflow. `owner` is without activity."""

    owner: GuardOwner
    guards: dict[GuardKey, Guard] = field(default_factory=dict)
    settings: dict[str, GuardSettings] = field(default_factory=dict)
    """By activity. Settings without any guard: it is there and guards nothing."""
    actions: list[ActionRecord] = field(default_factory=list)
    news: list[News] = field(default_factory=list)
    written: Document | None = None
    """Our fields as they are stored; None: they have not been read."""
    attempted: Wish | None = None
    """A write of which nobody knows whether it has happened."""
    gone: bool = False
    """There is no such object: all of this is in memory only."""

    def settings_of(self, key: GuardKey) -> GuardSettings | None:
        """Return the settings of one of the guards: the live ones, else those of its last caller."""
        live = self.settings.get(key.owner.activity)
        if live is not None:
            return live
        guard = self.guards.get(key)
        return guard.default if guard is not None else None

    def guard(self, key: GuardKey, now: datetime) -> Guard:
        """Return the guard, a new one if need be."""
        guard = self.guards.get(key)
        if guard is None:
            if len(self.guards) >= MAX_GUARDS_SHOWN:
                self._tidy(now)
            guard = self.guards[key] = Guard(key=key)
        return guard

    def can_record_rate(self, guard: Guard) -> bool:
        """Tell whether there is room in the status for this rate limit."""
        if guard.rate != rates.UNUSED:
            return True
        return sum(other.rate != rates.UNUSED for other in self.guards.values()) < MAX_GUARDS_SHOWN

    def meant(self, owner: GuardOwner) -> list[Guard]:
        """Return the guards of an owner; one without activity means all of a Workflow."""
        return [
            guard for key, guard in sorted(self.guards.items()) if owner.activity in ("", key.owner.activity)
        ]  # fmt: skip

    def applied(self, uid: str) -> ActionRecord | None:
        """Return the record of a WorkflowAction that was applied."""
        return next((action for action in self.actions if action.uid == uid), None)

    def remember(self, action: ActionRecord) -> None:
        """Add a WorkflowAction that is being applied."""
        self.actions = [*self.actions, action][-MAX_ACTIONS_SHOWN:]

    def _tidy(self, now: datetime) -> None:
        idle = [key for key, guard in self.guards.items() if guard.idle(self.settings_of(key), now)]
        for key in idle:
            del self.guards[key]
        if len(self.guards) < _MOST_GUARDS:
            return
        dropped = [guard for guard in self.guards.values() if guard.rate == rates.UNUSED]
        dropped.sort(key=lambda guard: (guard.state.opened_at is not None, guard.asked is not None, guard.asked))
        for guard in dropped[: len(self.guards) - _MOST_GUARDS + 1]:
            del self.guards[guard.key]

    def renewed(self) -> None:
        """Take in that the object is another one of the same name: what the old one recorded is not written in it."""
        self.written, self.attempted, self.actions = None, None, []

    def lost(self) -> None:
        """Take in that there is no such object (any more)."""
        self.renewed()
        self.gone, self.news = True, []

    # --- what is to be written --------------------------------------------------------------------------------------

    def wish(self, now: datetime, *, release: bool = False) -> Wish:
        """Return what to store now, reservations for the next seconds included; `release`: there are no next seconds."""
        reservations: dict[GuardKey, _Reservation] = {}
        limited = [
            (guard, settings.rate) for guard, settings in self.guards_and_settings() if settings.rate is not None
        ]
        for guard, rate in limited:
            guard.rate = rates.settled(rate, guard.rate, now)
        places = MAX_GUARDS_SHOWN - sum(guard.rate != rates.UNUSED for guard in self.guards.values())
        for guard, rate in limited:
            before = after = guard.rate
            if release:
                after = replace(before, reserved=0, reserved_until=None)
            elif guard.begins or (guard.wanted and (before != rates.UNUSED or places > 0)):
                places -= before == rates.UNUSED
                after = rates.reserve(rate, before, now, max(guard.batch if guard.wanted else 0, rates.ahead(rate)))
            reservations[guard.key] = _Reservation(before, after, guard.wanted, guard.begins)
        return Wish(document=self._status(now, reservations).wire(), reservations=reservations, news=len(self.news))

    def wrote(self, wish: Wish) -> tuple[list[GuardKey], list[News]]:
        """Take in that a wish is stored. Return the guards that may let more pass now, and the news to tell."""
        more = []
        for key, made in wish.reservations.items():
            guard = self.guards.get(key)
            if guard is None:
                continue
            guard.batch = min(guard.batch * 2, _LARGEST_BATCH) if made.wanted else max(1, guard.batch // 2)
            guard.wanted -= made.wanted
            guard.begins -= made.begins
            if made.before != made.after:
                guard.rate = rates.confirmed(guard.rate, made.before, made.after)
            if made.wanted:
                more.append(key)
        self.written, self.attempted = wish.document, None
        told, self.news = self.news[: wish.news], self.news[wish.news :]
        return more, told

    def guards_and_settings(self) -> list[tuple[Guard, GuardSettings]]:
        """Return the guards of which the settings are known."""
        return [
            (guard, settings) for key, guard in self.guards.items() if (settings := self.settings_of(key)) is not None
        ]

    def _status(self, now: datetime, reservations: Mapping[GuardKey, _Reservation]) -> GuardsStatus:
        breakers: list[CircuitBreakerStatus] = []
        limits: list[RateLimitStatus] = []
        bulkheads: list[BulkheadStatus] = []
        for key, guard in self.guards.items():
            settings = self.settings_of(key) or GuardSettings()
            if settings.breaker is not None or guard.state != breaker.CLOSED:
                breakers.append(_breaker_status(guard, settings, now))
            rate = reservations[key].after if key in reservations else guard.rate
            if rate != rates.UNUSED:
                limits.append(_rate_status(guard, settings, rate, now))
            if settings.bulkhead is not None:
                bulkheads.append(
                    BulkheadStatus(key=guard.label, running=guard.running, queued=guard.queued, limit=settings.bulkhead.concurrent)
                )  # fmt: skip
        breakers.sort(key=lambda one: (one.opened_at is None, -one.failures, one.key))
        bulkheads.sort(key=lambda one: (-one.queued, -one.running, one.key))
        return GuardsStatus(
            circuit_breakers=sorted(breakers[:MAX_GUARDS_SHOWN], key=lambda one: one.key) or None,
            rate_limits=sorted(limits, key=lambda one: one.key)[:MAX_GUARDS_SHOWN] or None,
            bulkheads=sorted(bulkheads[:MAX_GUARDS_SHOWN], key=lambda one: one.key) or None,
            actions=self.actions or None,
        )

    # --- what was read ----------------------------------------------------------------------------------------------

    def take(self, status: Mapping[str, Any], now: datetime) -> tuple[list[GuardKey], list[News]]:
        """Take in our fields as they are stored: what is new of them is joined to what is known, on the safe side.

        Returns what `wrote` does, should a write have happened of which that was not known.
        """
        stored = {name: status[name] for name in FIELDS if status.get(name)}
        if self.attempted is not None and stored == self.attempted.document:
            return self.wrote(self.attempted)
        self.attempted = None
        if stored == self.written:
            return [], []
        try:
            known = self.written or {}
            foreign = {name: value for name, value in stored.items() if known.get(name) != value}
            read = GuardsStatus.model_validate(foreign, extra="ignore", by_alias=True, by_name=False)
            self._join(read, now)
        except (ValidationError, ValueError) as error:
            _log.warning(
                "what the status of %s %s/%s says of guards cannot be read, and is written anew: %s",
                self.owner.kind, self.owner.namespace, self.owner.name, error,
            )  # fmt: skip
        self.written = stored
        return [], []

    def _join(self, read: GuardsStatus, now: datetime) -> None:
        limits = [(one.key, _rate_state(one)) for one in read.rate_limits or ()]
        for one in read.circuit_breakers or ():
            guard = self.guard(self._key(one.key), now)
            theirs = breaker.BreakerState(failures=one.failures, opened_at=one.opened_at)
            guard.state = _worse(guard.state, breaker.clamped(theirs, now))
        for label, rate in limits:
            guard = self.guard(self._key(label), now)
            guard.rate = rates.merged(guard.rate, rates.recovered(rate, now))
        for key, guard in self.guards.items():
            if (live := self.settings.get(key.owner.activity)) is not None:
                guard.forget_what_is_not_set(live)
        ours = {action.uid for action in self.actions}
        theirs_only = [action for action in read.actions or () if action.uid not in ours]
        self.actions = sorted([*theirs_only, *self.actions], key=lambda action: action.time)[-MAX_ACTIONS_SHOWN:]

    def _key(self, label: str) -> GuardKey:
        """Return the key that `Guard.label` shows."""
        first, _, host = label.partition("/")
        if self.owner.kind == "Workflow":
            return GuardKey(owner=replace(self.owner, activity=first), caller=self.owner.namespace, host=host)
        return GuardKey(owner=self.owner, caller=first, host=host)


def patch_of(old: Document | None, new: Document) -> Document:
    """Return the merge patch from our fields as they are stored to new ones; lists are replaced as a whole."""
    known = old or {}
    removed: Document = {name: None for name in known if name not in new}
    return removed | {name: value for name, value in new.items() if known.get(name) != value}


def _worse(ours: breaker.BreakerState, theirs: breaker.BreakerState) -> breaker.BreakerState:
    """Return the state that lets less through; both are of the same breaker."""
    return max(ours, theirs, key=_badness)


def _badness(state: breaker.BreakerState) -> tuple[float, int]:
    return state.opened_at.timestamp() if state.opened_at is not None else 0.0, state.failures


def _breaker_status(guard: Guard, settings: GuardSettings, now: datetime) -> CircuitBreakerStatus:
    state = guard.state
    phase = BreakerPhase.CLOSED if state.opened_at is None else BreakerPhase.OPEN
    probe = None
    if settings.breaker is not None:
        phase, probe = breaker.phase(settings.breaker, state, now), breaker.next_probe(settings.breaker, state)
    return CircuitBreakerStatus(
        key=guard.label, state=phase, failures=state.failures, opened_at=state.opened_at, next_probe_at=probe
    )  # fmt: skip


def _rate_status(guard: Guard, settings: GuardSettings, state: rates.RateState, now: datetime) -> RateLimitStatus:
    limit = settings.rate
    return RateLimitStatus(
        key=guard.label, begins=rates.encoded(state) or None, reserved=state.reserved or None,
        reserved_until=state.reserved_until,
        limit=limit.limit if limit is not None else None,
        used=rates.used(limit, state, now) if limit is not None else sum(one.count for one in state.slices),
        full_until=rates.next_time(limit, state, now) if limit is not None else None,
    )  # fmt: skip


def _rate_state(read: RateLimitStatus) -> rates.RateState:
    return rates.RateState(
        slices=rates.decoded(read.begins or ""), reserved=read.reserved or 0, reserved_until=read.reserved_until
    )  # fmt: skip


def measured(records: Iterable[GuardRecord]) -> Iterable[tuple[Guard, GuardSettings]]:
    """Yield the guards that metrics tell of, with their settings."""
    for record in records:
        for guard, settings in record.guards_and_settings():
            if settings.breaker is None or settings.breaker.measured:
                yield guard, settings
