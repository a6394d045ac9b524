# SPDX-License-Identifier: Apache-2.0
"""Who holds which slot and who waits, over all live runs; and what each run is told when it asks.

Nothing is counted up and down: each copy of a run that is read or written replaces all that was known of that run
(`put`), so the holders are always those that the statuses name, beside what was granted to passes that are under way.

A pass: `begin`, then `ask` for what it wants, until nothing is left unanswered; `writing`; the write; `put` with what was
written; `settle`. A grant that a pass did not use is taken back by `settle`, and not offered to that run again before it
changes or asks. A pass whose write conflicted, or may have been carried out, is not settled: what it was granted stays
granted until the run has been read again. A pass that failed before it wrote gives everything back (`fail`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from kubesaga.api.fields import parse_duration
from kubesaga.api.limits import Concurrency, OnConflict, Overflow, QueueStrategy
from kubesaga.api.names import Deed
from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.api.run import BlockedBy
from kubesaga.engine.admission import verdict
from kubesaga.engine.admission.conflicts import Conflicts
from kubesaga.engine.admission.entry import Entry, attempt_claim, run_claim
from kubesaga.engine.admission.gate import Claim, Gate, Scope, SlotId
from kubesaga.engine.admission.passage import Passage
from kubesaga.engine.admission.rules import GuardStates, OperatorLimits
from kubesaga.engine.admission.scopes import Scopes
from kubesaga.engine.admission.standing import Place, Standing
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.guarding import GuardKey
from kubesaga.engine.slots import Admission, Answer, AskedFor, AttemptWant, Blocked, Granted, Refused, RunWant, Want

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Ledger:
    """See the module. Pure: neither clock nor I/O; `now` comes with each question."""

    def __init__(self, limits: OperatorLimits, guards: GuardStates, wake: Callable[[RunKey], None]) -> None:
        """`wake` is told of runs that are to be looked at: it is their turn, or they are to make room."""
        self._limits = limits
        self._wake = wake
        self._now = _NEVER
        self._runs: dict[str, Entry] = {}
        self._uids: dict[RunKey, str] = {}
        self._scopes = Scopes(self._limit, self._forget)
        self.runs = Gate(
            limit=limits.max_workflows, strategy=limits.strategy, room=lambda _guard: True,
            scope_full=BlockedBy.MAX_WORKFLOWS, full=BlockedBy.OPERATOR_MAX_WORKFLOWS,
        )  # fmt: skip
        self.attempts = Gate(
            limit=limits.max_activities, strategy=limits.strategy, room=self._has_room, admitted=self._admitted,
            scope_full=BlockedBy.MAX_ACTIVITIES, full=BlockedBy.OPERATOR_MAX_ACTIVITIES,
        )  # fmt: skip
        self.passage: Final = Passage(guards, self.attempts.held_at, lambda: self.attempts.guards)
        self._conflicts = Conflicts(wake=self._wake_uid)

    # --- what is known ----------------------------------------------------------------------------------------------

    def configure(self, namespace: str, workflow: str, concurrency: Concurrency | None, now: datetime) -> None:
        """Take in how a Workflow limits itself now. Lowering a limit drains, and ends nothing."""
        self._now = now
        self._scopes.configure((namespace, workflow), concurrency)
        self._fill()

    def workflow_gone(self, namespace: str, workflow: str) -> None:
        """Take in that a Workflow was deleted."""
        self._scopes.gone((namespace, workflow))

    def restore(self, standings: Iterable[Standing], now: datetime) -> None:
        """Take in how all live runs stand. Nobody is let in before all are known: who holds may come after who waits."""
        self._now = now
        for standing in standings:
            self._take(standing)
        self._fill()

    def put(self, standing: Standing, now: datetime) -> None:
        """Take in how a run stands: this replaces all that was known of it."""
        self._now = now
        self._take(standing)
        self._fill()

    def drop(self, key: RunKey, now: datetime) -> None:
        """Take in that a run is over, or gone: it holds nothing and waits for nothing."""
        self._now = now
        self._gone(key)
        self._fill()

    @property
    def known(self) -> set[RunKey]:
        """The live runs."""
        return set(self._uids)

    @property
    def scopes(self) -> set[Scope]:
        """The scopes whose limits are known."""
        return self._scopes.known

    # --- passes -----------------------------------------------------------------------------------------------------

    def begin(self, standing: Standing, default: Concurrency | None, now: datetime) -> Admission:
        """Begin a pass over a run; `default`: the limits in the revision that it works from. Returns what holds for it."""
        known = self._runs.get(standing.uid)
        if known is not None:
            known.asked.clear()
            known.writing = False
            if (standing.uid, None) not in known.granted:
                known.asked_key = ""
        self._now = now
        entry = self._take(standing)
        concurrency = self._scopes.of(standing, default)
        self._fill()
        entry.used = set(entry.granted)
        keyed = concurrency is not None and (concurrency.key is not None or concurrency.max_workflows is not None)
        queuing = concurrency.queuing if concurrency is not None else None
        timeout = parse_duration(queuing.timeout) if queuing is not None and queuing.timeout else self._limits.timeout
        return Admission(
            run_limited=keyed or self.runs.limit is not None or standing.queued,
            attempts_limited=self.attempts.is_limited(standing.scope),
            queue_timeout=timeout, displaced=self._conflicts.displaced(standing.uid),
            call_timeouts={
                step: timeout
                for step, place in standing.held.items()
                if (timeout := self.passage.call_timeout(place.guard)) is not None
            },
        )  # fmt: skip

    def ask(self, standing: Standing, wants: Mapping[AskedFor, Want], now: datetime) -> dict[AskedFor, Answer]:
        """Return whether what a pass wants is to be had now. What is granted is the pass's until it is settled."""
        self._now = now
        entry = self._runs[standing.uid]
        refused: dict[AskedFor, Answer] = {}
        for asked, want in wants.items():
            entry.declined.discard((standing.uid, asked))
            answer = self._ask_run(entry, want) if isinstance(want, RunWant) else self._ask_attempt(entry, want, now)
            if answer is not None:
                refused[asked] = answer
                entry.asked.pop((standing.uid, asked), None)
        self._sync(entry)
        self._fill()
        entry.used |= set(entry.granted)
        answers = {asked: refused.get(asked) or self._answer(entry, asked, want, now) for asked, want in wants.items()}
        for asked, want in reversed(list(wants.items())):
            # Whoever came first keeps the place: the queue is full for those who come after.
            if isinstance(want, AttemptWant) and (full := self._overflow(entry, asked, want, answers[asked])):
                answers[asked] = full
        return answers

    def writing(self, key: RunKey) -> None:
        """Take in that a pass begins to write: from now on nobody knows whether what it was granted is in use."""
        if (entry := self._runs.get(self._uids.get(key, ""))) is not None:
            entry.writing = True

    def settle(self, uid: str, now: datetime) -> None:
        """End a pass whose write was carried out, or that had nothing to write: what it did not use is free again."""
        entry = self._runs.get(uid)
        if entry is None:
            return
        entry.declined |= entry.used & set(entry.granted)
        self._close(entry, now)
        if entry.granted:
            self._wake(entry.standing.key)  # granted while the pass was under way, which does not know of it

    def fail(self, key: RunKey, now: datetime) -> None:
        """End a pass that failed. It is repeated, nobody knows how often: what it was granted is for others meanwhile.

        Not where it, or one before it, may have written that it uses that.
        """
        entry = self._runs.get(self._uids.get(key, ""))
        if entry is None:
            return
        if entry.writing:
            entry.asked = {slot: claim for slot, claim in entry.asked.items() if slot in entry.granted}
        else:
            entry.declined |= set(entry.granted)
            self._close(entry, now)

    def guard_changed(self, guard: GuardKey, now: datetime) -> None:
        """Take in that a breaker or a rate limit may let through more, or that a breaker has opened."""
        self._now = now
        for slot in self.attempts.waiting_at(guard):
            self._wake_uid(slot[0])
        self.attempts.refresh(guard)
        self._fill()

    # --- within -----------------------------------------------------------------------------------------------------

    def _take(self, standing: Standing) -> Entry:
        known = self._runs.get(standing.uid)
        if known is None:
            self._gone(standing.key, but=standing.uid)
            known = self._runs[standing.uid] = Entry(standing)
            self._uids[standing.key] = standing.uid
            self._scopes.joined(standing)
        elif known.standing.version != standing.version:
            known.declined.clear()
        known.standing = standing
        self._sync(known)
        return known

    def _close(self, entry: Entry, now: datetime) -> None:
        """Have a run hold and wait for what stands in its status, and for nothing else."""
        self._now = now
        entry.asked.clear()
        entry.used.clear()
        entry.asked_key = ""
        entry.writing = False
        waits = entry.waits()
        dropped = [slot for slot in entry.granted if slot not in waits]
        self.passage.withdrawn([entry.granted.pop(slot) for slot in dropped])
        self._sync(entry)
        self._fill()

    def _limit(self, scope: Scope, concurrency: Concurrency | None) -> None:
        queuing = concurrency.queuing if concurrency is not None else None
        strategy = queuing.strategy if queuing is not None else QueueStrategy.FIFO
        runs = concurrency.max_workflows if concurrency is not None else None
        attempts = concurrency.max_activities if concurrency is not None else None
        self.runs.configure(scope, runs, strategy)
        self.attempts.configure(scope, attempts, strategy)
        overflow = queuing.overflow if queuing is not None else Overflow.QUEUE
        self._conflicts.configure(
            scope,
            newest=runs if overflow is Overflow.CANCEL_OLDEST else None,
            replaces=concurrency is not None and concurrency.on_conflict is OnConflict.REPLACE,
        )

    def _forget(self, scope: Scope) -> None:
        self.runs.forget(scope)
        self.attempts.forget(scope)
        self._conflicts.forget(scope)

    def _ask_run(self, entry: Entry, want: RunWant) -> Answer | None:
        """Have a run wait for its start; returns why it is turned away."""
        standing = entry.standing
        concurrency = self._scopes.of(standing, want.concurrency)
        if not standing.queued and want.key != entry.asked_key:
            entry.granted.pop((standing.uid, None), None)  # the grant was for another key
        other = self._conflicts.other(standing.scope, want.key, standing.uid)
        new = not standing.queued and (standing.uid, None) not in entry.granted
        if new and other is not None and concurrency is not None:
            name = self._runs[other].standing.key.name
            if concurrency.on_conflict is OnConflict.REJECT:
                return Refused(reason=Reason.KEY_CONFLICT, message=f"the run {name} has the same key, {want.key}")
            if concurrency.on_conflict is OnConflict.USE_EXISTING:
                return Refused(
                    reason=Reason.USED_EXISTING, message=f"the run {name}, of the same key, does it: {want.key}"
                )
        queuing = concurrency.queuing if concurrency is not None else None
        if new and queuing is not None and queuing.overflow is Overflow.REJECT and self._is_full(standing.scope):
            told = f"{self.runs.held_in(standing.scope)} runs are under way or about to start, and there may be no more"
            return Refused(reason=Reason.QUEUE_FULL, message=told)
        entry.asked_key = want.key
        entry.asked[(standing.uid, None)] = run_claim(standing, want.group)
        return None

    def _is_full(self, scope: Scope) -> bool:
        probe = Claim(id=("", None), scope=scope, at=_NEVER, name="")
        return self.runs.blocker(probe) is BlockedBy.MAX_WORKFLOWS

    def _ask_attempt(self, entry: Entry, want: AttemptWant, now: datetime) -> Answer | None:
        """Have an attempt wait for its slot; returns why it is turned away."""
        standing = entry.standing
        self._scopes.of(standing, want.concurrency)
        place = Place(since=want.since, guard=want.guard, urgent=want.step[0] is Deed.UNDO)
        slot = (standing.uid, want.step)
        if want.guard is not None:
            self.passage.remember(want.guard, want.settings)
            self.attempts.refresh(want.guard)
            if slot not in entry.granted:
                said = self.passage.verdict(want.guard, now)
                if isinstance(said, verdict.Refused) and not place.urgent:
                    return Refused(reason=said.reason, message=said.message)
        entry.asked[slot] = attempt_claim(standing, want.step, place)
        return None

    def _overflow(self, entry: Entry, asked: AskedFor, want: AttemptWant, answer: Answer) -> Refused | None:
        """Return why an attempt that has to wait may not: its bulkhead's queue is full (S172)."""
        settings = self.passage.settings(want.guard) if want.guard is not None else None
        if want.guard is None or settings is None or settings.bulkhead is None or not isinstance(answer, Blocked):
            return None
        if answer.by is not BlockedBy.BULKHEAD or want.step[0] is Deed.UNDO or want.step in entry.standing.waiting:
            return None
        others = len(self.attempts.waiting_at(want.guard)) - 1
        if others < settings.bulkhead.queue:
            return None
        entry.asked.pop((entry.standing.uid, asked), None)
        self._sync(entry)
        told = f"{settings.bulkhead.concurrent} calls are under way and {others} wait, which is as many as may"
        return Refused(reason=Reason.BULKHEAD_REJECTED, message=told)

    def _answer(self, entry: Entry, asked: AskedFor, want: Want, now: datetime) -> Answer:
        slot = (entry.standing.uid, asked)
        if slot in entry.granted:
            if isinstance(want, RunWant):
                return Granted(key=want.key, group=want.group)
            return Granted(timeout=self.passage.call_timeout(want.guard))
        claim = entry.asked[slot]
        if isinstance(want, RunWant):
            if (first := self._conflicts.ahead(entry.standing.uid)) is not None:
                return self._behind(self._runs[first].standing.key, entry, want)
            by = self.runs.blocker(claim) or BlockedBy.MAX_WORKFLOWS
            return Blocked(by=by, message=REASON_TEXT[Reason.AWAITING_SLOT])
        return self._blocked(claim, want, now)

    def _behind(self, first: RunKey, entry: Entry, want: RunWant) -> Blocked:
        """Return that a run waits for another one of its key, which may be told of it meanwhile."""
        concurrency = self._scopes.of(entry.standing, want.concurrency)
        signals = concurrency is not None and concurrency.on_conflict is OnConflict.SIGNAL
        told = f"the run {first.name} has the same key, {want.key}; this one starts when that has finished"
        return Blocked(by=BlockedBy.KEY, message=told, hearer=first if signals else None)

    def _blocked(self, claim: Claim, want: AttemptWant, now: datetime) -> Blocked:
        """Return what an attempt waits for: its guard, else a slot."""
        if want.guard is not None and (blocked := self.passage.blocked(want.guard, now)) is not None:
            return blocked
        by = self.attempts.blocker(claim) or BlockedBy.MAX_ACTIVITIES
        return Blocked(by=by, message=REASON_TEXT[Reason.AWAITING_SLOT])

    def _has_room(self, guard: GuardKey) -> bool:
        return self.passage.has_room(guard, self._now)

    def _admitted(self, claim: Claim) -> None:
        self.passage.begun(claim, self._now)

    def _fill(self) -> None:
        """Give out what is free, and have those looked at who got something."""
        for gate in (self.runs, self.attempts):
            for claim in gate.fill(self._now):
                entry = self._runs[claim.id[0]]
                entry.granted[claim.id] = claim
                if claim.id not in entry.asked:
                    self._wake(entry.standing.key)
                if claim.id[1] is None:
                    self._contend(entry)
        self.passage.show(self.attempts)

    def _sync(self, entry: Entry) -> None:
        """Tell the gates how a run stands."""
        standing = entry.standing
        held = entry.held()
        self._contend(entry)
        for begun in [slot for slot in entry.granted if slot in held]:
            self.passage.recorded(entry.granted.pop(begun), self._now)
        holds = {**entry.granted, **held}
        waits = {**entry.waits(), **entry.asked}
        claims = {slot: claim for slot, claim in waits.items() if slot not in holds}
        if self._conflicts.ahead(standing.uid) is not None:
            claims.pop((standing.uid, None), None)
        for slot in entry.mine - set(holds) - set(claims):
            self._gate(slot).release(slot)
            self._gate(slot).leave(slot)
        for slot, claim in holds.items():
            self._gate(slot).hold(claim)
        for slot, claim in claims.items():
            self._gate(slot).wait(claim)
        entry.mine = {*holds, *claims}

    def _contend(self, entry: Entry) -> None:
        """Have the run take its place among those of its key; who is next may have changed."""
        contender = entry.contender()
        changed = self._conflicts.put(contender) if contender is not None else self._conflicts.drop(entry.standing.uid)
        for other in changed:
            self._sync(self._runs[other])

    def _gate(self, slot: SlotId) -> Gate:
        return self.runs if slot[1] is None else self.attempts

    def _gone(self, key: RunKey, *, but: str = "") -> None:
        uid = self._uids.get(key)
        if uid is None or uid == but:
            return
        entry = self._runs.pop(uid)
        del self._uids[key]
        self._scopes.left(entry.standing)
        for slot in entry.mine:
            self._gate(slot).release(slot)
            self._gate(slot).leave(slot)
        for other in self._conflicts.drop(uid):
            self._sync(self._runs[other])

    def _wake_uid(self, uid: str) -> None:
        if (entry := self._runs.get(uid)) is not None:
            self._wake(entry.standing.key)
