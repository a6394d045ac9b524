# SPDX-License-Identifier: Apache-2.0
"""Circuit breakers, rate limits and the sight of bulkheads: asked before each call, told of each end.

All but `run`, `close` and `obey` is synchronous, for the event loop's thread. What must outlive the process is stored by
`guard_writer`, in the status of the Activity or Workflow that a guard belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from kubesaga.api.fields import format_time
from kubesaga.api.guard_status import MAX_GUARDS_SHOWN, BreakerPhase
from kubesaga.api.reasons import Reason
from kubesaga.api.run import ActionRecord
from kubesaga.controller.clock import Clock
from kubesaga.controller.guards.guard import Guard
from kubesaga.controller.guards.record import GuardRecord, News, measured
from kubesaga.controller.guards.writer import AT_ONCE, SEEN, SOON, GuardWriter, Post
from kubesaga.engine.admission import breaker, rates
from kubesaga.engine.admission.breaker import Call
from kubesaga.engine.admission.verdict import PASS, Blocked, Refused, Verdict
from kubesaga.engine.command import Command
from kubesaga.engine.decision import Answer
from kubesaga.engine.guarding import GuardKey, GuardOwner, GuardSettings
from kubesaga.kube.client import KubeClient, Object

if TYPE_CHECKING:
    from kubesaga.telemetry.metrics import Metrics, Sample

_STATES: Final = {BreakerPhase.CLOSED: 0.0, BreakerPhase.HALF_OPEN: 1.0, BreakerPhase.OPEN: 2.0}
_ASK_AGAIN: Final = timedelta(seconds=10)
_MOST_NEWS: Final = 100
"""Of one object, while they cannot be stored; beyond that, Events are left out."""


class Guards:
    """The guards of all Activities and Workflows."""

    def __init__(
        self,
        client: KubeClient | None,
        clock: Clock,
        *,
        on_change: Callable[[GuardKey], None],
        post: Post | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`client` None: nothing is stored. `on_change`: calls of this key may fare differently now.

        It may be called within any other call: it only notes.
        """
        self._stores = client is not None
        self._clock = clock
        self._on_change = on_change
        self._metrics = metrics
        self._writer = GuardWriter(client, clock, stored=self._stored, post=post)
        self._records: dict[GuardOwner, GuardRecord] = {}

    # --- settings and what was recorded -----------------------------------------------------------------------------

    def configure(self, owner: GuardOwner, settings: GuardSettings | None) -> None:
        """Take in the settings of an owner as it is now, at each change.

        None: there is no such object, or activity, any more; the settings hold that its last callers bring with them.
        `GuardSettings()`: it is there, and nothing guards it (any more).
        """
        record = self._record(owner)
        before = record.settings.get(owner.activity)
        if settings is None:
            record.settings.pop(owner.activity, None)
        else:
            record.gone = False
            record.settings[owner.activity] = settings
        if before == settings:
            return
        for guard in list(record.guards.values()):
            if guard.key.owner.activity == owner.activity:
                if settings is not None:
                    guard.forget_what_is_not_set(settings)
                self._on_change(guard.key)
        if record.guards:
            self._writer.touch(record, SOON)

    def restore(self, owner: GuardOwner, status: Mapping[str, Any]) -> None:
        """Take in what the status of an object says, before anything is asked; the owner's activity does not matter.

        Once the state is known this changes nothing: it may be called with every copy that a watch brings.
        """
        record = self._record(owner)
        if record.written is None:
            record.gone = False
            record.take(status, self._clock.now())

    def settings(self, key: GuardKey, default: GuardSettings | None) -> GuardSettings | None:
        """Return the settings of a guard: the live ones, `default` where its owner is gone; None: nothing guards."""
        live = self._record(key.owner).settings.get(key.owner.activity, default)
        return None if live == GuardSettings() else live

    # --- calls ------------------------------------------------------------------------------------------------------

    def verdict(
        self, key: GuardKey, default: GuardSettings | None, now: datetime, under_way: Iterable[datetime]
    ) -> Verdict:
        """Say whether a call may begin now. `under_way`: when the calls of this key began that have not ended.

        Those for which this said Pass, and whose attempt is only being written down, are under way. Where the call begins,
        `begun` is to follow before anything else is asked. The breaker comes first, then the rate limit.
        """
        settings = self.settings(key, default)
        if settings is None:
            return PASS
        record = self._record(key.owner)
        guard = self._guard(key, default, now)
        before = guard.state
        if settings.rate is not None and record.gone:
            # It is recorded nowhere: the limit holds as long as this process lives.
            guard.rate = rates.reserve(settings.rate, guard.rate, now, settings.rate.limit)
        if settings.rate is not None and not record.can_record_rate(guard):
            self._writer.touch(record, SOON)
            message = f"{MAX_GUARDS_SHOWN} other rate limits of the same owner are in use, as many as can be recorded"
            return Blocked(reason=Reason.RATE_LIMITED, message=message, until=now + _ASK_AGAIN)
        verdict = guard.verdict(settings, now, under_way)
        if guard.state != before:
            self._writer.touch(record, AT_ONCE)
        if guard.wanted:
            self._writer.touch(record, SOON)
        return verdict

    def refusal(
        self, key: GuardKey, default: GuardSettings | None, now: datetime, under_way: Iterable[datetime]
    ) -> Refused | None:
        """Say what the breaker alone has against a call: to be asked before it queues for the bulkhead."""
        settings = self.settings(key, default)
        if settings is None or settings.breaker is None:
            return None
        guard = self._guard(key, default, now)
        before = guard.state
        refused = guard.refusal(settings, now, under_way)
        if guard.state != before:
            self._writer.touch(self._record(key.owner), AT_ONCE)
        return refused

    def begun(self, key: GuardKey, now: datetime, default: GuardSettings | None = None) -> None:
        """Take in that a call begins, with the `now` of its verdict; before its attempt is written down."""
        guard, settings = self._known(key, default, now)
        if settings is None:
            return
        record = self._record(key.owner)
        if guard.begun(settings, now):
            self._tell(guard, settings, News("Normal", "CircuitHalfOpen", f"{guard.label}: one call may try"))
            self._writer.touch(record, AT_ONCE)
        if settings.rate is not None:
            self._writer.touch(record, SOON)

    def withdrawn(self, key: GuardKey, began: datetime, default: GuardSettings | None = None) -> None:
        """Take in that a call of which `begun` told did not begin, for certain: its attempt was not written down."""
        guard, settings = self._known(key, default, self._clock.now())
        if settings is not None and settings.rate is not None:
            guard.withdrawn(settings, began)
            self._writer.touch(self._record(key.owner), SOON)
            self._on_change(key)

    def moved(self, key: GuardKey, began: datetime, now: datetime, default: GuardSettings | None = None) -> None:
        """Take in that a call of which `begun` told is recorded: it counts from now on, not from when it was let through."""
        guard, settings = self._known(key, default, now)
        if settings is not None and settings.rate is not None:
            guard.moved(settings, began, now)
            self._writer.touch(self._record(key.owner), SOON)

    def ended(self, key: GuardKey, call: Call, default: GuardSettings | None = None) -> None:
        """Take in how a call ended that says something of what was called."""
        guard, settings = self._known(key, default, self._clock.now())
        if settings is None or settings.breaker is None:
            return
        before = guard.state
        changed = guard.ended(settings.breaker, call)
        if guard.state == before:
            return
        record = self._record(key.owner)
        self._writer.touch(record, AT_ONCE if changed else SOON)
        if changed:
            self._tell(guard, settings, _news_of(guard, settings, probed=before.opened_at is not None))
            self._on_change(key)

    def seen(self, key: GuardKey, running: int, queued: int, default: GuardSettings | None = None) -> None:
        """Take in how many calls there are and how many wait, for people to see."""
        guard, settings = self._known(key, default, self._clock.now())
        if settings is not None and (guard.running, guard.queued) != (running, queued):
            guard.running, guard.queued = running, queued
            self._writer.touch(self._record(key.owner), SEEN)

    def rejected(self, key: GuardKey, reason: Reason, default: GuardSettings | None = None) -> None:
        """Count a call that was turned away for good: CircuitOpen, BulkheadRejected, BulkheadTimeout."""
        settings = self.settings(key, default)
        if self._metrics is None or (settings is not None and settings.breaker and not settings.breaker.measured):
            return
        owner = key.owner
        self._metrics.guard_rejections.labels(owner.kind, owner.namespace, owner.name, str(reason)).inc()

    # --- ResetBreaker -----------------------------------------------------------------------------------------------

    def reset(self, owner: GuardOwner, key: GuardKey | None = None, *, by: str = "") -> list[GuardKey]:
        """Close the breakers of an owner (one without activity: of all of a Workflow), or one of them.

        Returns those that were open or had counted failures.
        """
        record, closed = self._record(owner), []
        for guard in record.meant(owner):
            was_open = guard.state.opened_at is not None
            if key not in (None, guard.key) or not guard.reset():
                continue
            closed.append(guard.key)
            settings = record.settings_of(guard.key)
            if was_open and settings is not None:
                self._tell(guard, settings, News("Normal", "CircuitClosed", f"{guard.label}: closed by hand{by}"))
            self._on_change(guard.key)
        if closed:
            self._writer.touch(record, AT_ONCE)
        return closed

    async def obey(self, owner: GuardOwner, command: Command) -> Answer:
        """Apply a ResetBreaker, once however often it is repeated: its uid is stored in the same write as its effect.

        Raises ApiError when nobody knows what is stored: repeat it.
        """
        record = self._record(owner)
        body = await self._writer.read(record)
        refusal = _refusal(owner, command, body, record)
        known = record.applied(command.uid)
        if known is None and refusal:
            return Answer(command=command, applied=False, message=refusal)
        if known is None:
            by = f" by {command.by}" if command.by else ""
            closed = self.reset(owner, by=f", WorkflowAction {command.name}{by}")
            labels = ", ".join(record.guards[key].label for key in closed)
            told = f"closed: {labels}" if closed else "no breaker was open or had counted failures"
            known = ActionRecord(
                time=self._clock.now(), verb=command.verb, activity=command.activity, by=command.by, uid=command.uid,
                message=told,
            )  # fmt: skip
            record.remember(known)
        await self._writer.write(record)
        if record.gone:
            return Answer(command=command, applied=False, message=_missing(owner))
        return Answer(command=command, applied=True, message=known.message)

    # --- storing and measuring --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Store what changes, until cancelled; `close` is to follow."""
        await self._writer.run()

    async def close(self) -> None:
        """Store what is not stored yet, and give back reserved begins. Nothing may begin after this."""
        await self._writer.close()

    def breaker_samples(self) -> Iterable[Sample]:
        """Yield the state of each breaker (0 closed, 1 half open, 2 open) by owner's kind, namespace, name, and key."""
        now = self._clock.now()
        for guard, settings in measured(self._records.values()):
            if settings.breaker is not None:
                yield _labels(guard), _STATES[breaker.phase(settings.breaker, guard.state, now)]

    def bulkhead_samples(self, *, queued: bool) -> Iterable[Sample]:
        """Yield how many calls are running, or queued, in each bulkhead, by the same labels."""
        for guard, settings in measured(self._records.values()):
            if settings.bulkhead is not None:
                yield _labels(guard), float(guard.queued if queued else guard.running)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _record(self, owner: GuardOwner) -> GuardRecord:
        whole = replace(owner, activity="") if owner.activity else owner
        record = self._records.get(whole)
        if record is None:
            record = self._records[whole] = GuardRecord(owner=whole, gone=not self._stores)
        return record

    def _guard(self, key: GuardKey, default: GuardSettings | None, now: datetime) -> Guard:
        record = self._record(key.owner)
        new = key not in record.guards
        guard = record.guard(key, now)
        guard.default = default or guard.default
        if new:
            self._writer.touch(record, SEEN)
        return guard

    def _known(self, key: GuardKey, default: GuardSettings | None, now: datetime) -> tuple[Guard, GuardSettings | None]:
        guard = self._guard(key, default, now)
        return guard, self.settings(key, guard.default)

    def _stored(self, keys: list[GuardKey]) -> None:
        for key in keys:
            self._on_change(key)

    def _tell(self, guard: Guard, settings: GuardSettings, news: News) -> None:
        record = self._record(guard.key.owner)
        told = settings.breaker is None or settings.breaker.told
        if told and not record.gone and len(record.news) < _MOST_NEWS:
            record.news.append(news)


def _labels(guard: Guard) -> tuple[str, ...]:
    owner = guard.key.owner
    return owner.kind, owner.namespace, owner.name, guard.label


def _news_of(guard: Guard, settings: GuardSettings, *, probed: bool) -> News:
    """Return the news of a breaker that has just opened, opened again or closed."""
    probe = breaker.next_probe(settings.breaker, guard.state) if settings.breaker is not None else None
    if probe is None:
        return News("Normal", "CircuitClosed", f"{guard.label}: the call that tried has succeeded")
    told = "the call that tried has failed" if probed else f"{guard.state.failures} calls in a row have failed"
    return News("Warning", "CircuitOpened", f"{guard.label}: {told}; it is open until {format_time(probe)}")


def _missing(owner: GuardOwner) -> str:
    return f"spec.targetRef.name: there is no {owner.kind} {owner.name!r} in namespace {owner.namespace!r}"


def _refusal(owner: GuardOwner, command: Command, body: Object | None, record: GuardRecord) -> str | None:
    """Return why a ResetBreaker cannot be applied; None: it can."""
    if body is None:
        return _missing(owner)
    uid = body["metadata"]["uid"]
    if command.target_uid not in (None, uid):
        return f"spec.targetRef.uid: the {owner.kind} that bears the name now is another one; its uid is {uid}"
    if any(guard.state != breaker.CLOSED for guard in record.meant(owner)):
        return None  # whatever the object says now: there is something to close
    spec = body.get("spec") or {}
    if owner.kind == "Activity":
        return None if spec.get("circuitBreaker") is not None else f"Activity {owner.name} has no circuitBreaker"
    activities = [one for part in ("activities", "finally") for one in spec.get(part) or ()]
    meant = [one for one in activities if owner.activity in ("", one.get("name"))]
    if any(one.get("circuitBreaker") is not None for one in meant):
        return None
    if not owner.activity:
        return f"no activity of Workflow {owner.name} has a circuitBreaker of its own"
    told = "has no circuitBreaker of its own" if meant else "does not exist"
    return f"spec.activity: {owner.activity} of Workflow {owner.name} {told}"
