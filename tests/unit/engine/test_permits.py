# SPDX-License-Identifier: Apache-2.0
"""Permits under everything that can happen to them, in random histories of runs without insides and the real ledger.

One seed is one history: runs appear, start, make attempts, are suspended, cancelled, deleted, made anew; passes overlap,
conflict, fail, and write without knowing it; the operator dies, and limits and strategies change at any moment. After
each step nobody may hold more than there is. At the end everything must come to its end, by wake-ups alone. Ledgers that
are broken on purpose show that each of the checks can fail.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesaga.api.limits import Concurrency, OnConflict, Overflow, QueueStrategy, Queuing
from kubesaga.api.names import Deed
from kubesaga.engine.admission.entry import Entry
from kubesaga.engine.admission.gate import SlotId
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.admission.rules import GuardStates, OperatorLimits
from kubesaga.engine.admission.standing import Standing
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.guarding import GuardKey, GuardOwner, GuardSettings, Room
from kubesaga.engine.slots import Admission, Answer, AskedFor, RunWant, Want
from kubesaga.testing.crowd import Crowd, MakeLedger, Member, Part, Record
from kubesaga.testing.unguarded import Unguarded

GUARDS = [
    GuardKey(owner=GuardOwner(kind="Activity", namespace="shop", name=name), caller="shop") for name in ("mail", "pay")
]
_MOST = 600
"""So many passes are enough for any of these crowds to come to rest."""
REVISION = Concurrency(max_activities=2)
Pool = tuple[str, object]
"""What has a limit: the runs or attempts of a scope or of all (None), the calls behind a guard, the runs of a key."""


class _Rooms(Unguarded):
    """Bulkheads whose size is set while they are in use."""

    def __init__(self) -> None:
        self.size = dict.fromkeys(GUARDS, 2)

    def settings(self, key: GuardKey, default: GuardSettings | None) -> GuardSettings | None:
        return GuardSettings(bulkhead=Room(concurrent=self.size[key], queue=3, timeout=timedelta(seconds=30)))


class History:
    """One history."""

    def __init__(self, seed: int, make: MakeLedger = Ledger) -> None:
        self.chance = random.Random(seed)
        self.rooms = _Rooms()
        self.crowd = Crowd(self._limits(), operator=self._operator(), guards=self.rooms, make=make)
        self.crowd.limit(self._limits(), workflow="other")
        self.bound: dict[Pool, float] = {}
        self.seen: Counter[str] = Counter()
        self.count = 0

    def play(self, steps: int = 80) -> None:
        """Let things happen, then let everything come to its end."""
        for _ in range(steps):
            self._step()
            self.check()
        self._calm_down()

    # --- what happens -------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        roll, crowd = self.chance.random(), self.crowd
        live = list(crowd.live())
        if roll < 0.15 and len(live) < 12:
            self._add()
        elif roll < 0.6:
            self._pass()
        elif roll < 0.75 and (running := [member for member in live if member.record.running]):
            member = self.chance.choice(running)
            part = self.chance.choice(sorted(member.record.running))
            crowd.end(member.key.name, part)
        elif roll < 0.9 and live:
            self._meddle(self.chance.choice(live))
        elif roll < 0.94:
            self._change_limits()
        elif roll < 0.96:
            self.seen["crash"] += 1
            crowd.boot()
        else:
            crowd.advance(self.chance.choice([0, 1, 60]))
            crowd.pending.update(crowd.later)
            crowd.later.clear()

    def _add(self) -> None:
        self.count += 1
        chance = self.chance
        parts = [
            Part(
                name=name, deed=Deed.UNDO if chance.random() < 0.15 else Deed.DO, guard=guard,
                settings=GuardSettings() if guard else None,
            )
            for name in "abc"[: chance.randrange(1, 4)]
            if (guard := chance.choice([None, None, *GUARDS])) or True
        ]  # fmt: skip
        workflow = chance.choice(["order", "order", "order", "other", "gone", ""])
        self.crowd.add(
            f"r{self.count}", *parts, workflow=workflow, priority=chance.randrange(3), group=chance.choice("xyz"),
            key=chance.choice(["", "k", "l"]), age=chance.randrange(5), one_by_one=chance.random() < 0.5,
            revision=REVISION if workflow in ("gone", "") else None,
        )  # fmt: skip

    def _pass(self) -> None:
        crowd, chance = self.crowd, self.chance
        if crowd.under_way and chance.random() < 0.6:
            under_way = crowd.under_way[chance.choice(sorted(crowd.under_way))]
            how = chance.choice(["written"] * 6 + ["lost", "unheard"])
            if how == "written" and chance.random() < 0.2 and under_way.member.key in crowd.members:
                crowd.touch(under_way.member.key.name)
                how = "conflict"
            self.seen[how] += 1
            crowd.finish(under_way, how)
            return
        free = [key for key in crowd.pending if key not in crowd.under_way]
        if not free:
            return
        key = chance.choice(free)
        if chance.random() < 0.1:
            self.seen["failed"] += 1
            crowd.fail(key)
        else:
            crowd.begin(key)

    def _meddle(self, member: Member) -> None:
        match self.chance.randrange(8):
            case 0 | 1:
                self.crowd.touch(member.key.name, suspended=not member.record.suspended)
            case 2:
                self.crowd.touch(member.key.name, cancelled=True)
            case 3 if member.key not in self.crowd.under_way:
                self.seen["deleted"] += 1
                self.crowd.remove(member.key.name)
            case 4 if member.key not in self.crowd.under_way:
                self.seen["made anew"] += 1
                self.crowd.remove(member.key.name)
                self.crowd.add(member.key.name, *member.parts, workflow=member.workflow, revision=member.revision)
            case _:
                self.crowd.touch(member.key.name)

    def _change_limits(self) -> None:
        """Where there was no limit, those who are under way have asked nobody: the new one holds from the next quiet moment."""
        self.seen["limits"] += 1
        roll = self.chance.random()
        if roll < 0.4:
            guard = self.chance.choice(GUARDS)
            self.rooms.size[guard] = self.chance.randrange(1, 4)
            self.crowd.ledger.guard_changed(guard, self.crowd.now)
            self._rebound(("guard", guard))
        elif roll < 0.9:
            workflow = self.chance.choice(["order", "other"])
            old = self.crowd.workflows["shop", workflow]
            if old is None or old.max_workflows is None or old.max_activities is None or old.key is None:
                self._rest()
            self.crowd.limit(self._limits(), workflow=workflow)
            for kind in ("runs", "attempts"):
                self._rebound((kind, ("shop", workflow)))
        else:
            self.crowd.operator = self._operator()
            self.crowd.boot()
            for kind in ("runs", "attempts"):
                self._rebound((kind, None))

    def _limits(self) -> Concurrency | None:
        chance = self.chance
        if chance.random() < 0.1:
            return None
        queuing = Queuing(
            strategy=chance.choice(list(QueueStrategy)),
            overflow=chance.choice([Overflow.QUEUE] * 4 + [Overflow.REJECT, Overflow.CANCEL_OLDEST]),
        )
        return Concurrency(
            max_workflows=chance.choice([None, 1, 2, 3]), max_activities=chance.choice([None, 1, 2, 3]), queuing=queuing,
            key=chance.choice([None, "${inputs.key}"]), on_conflict=chance.choice([OnConflict.QUEUE] * 3 + list(OnConflict)),
        )  # fmt: skip

    def _operator(self) -> OperatorLimits:
        return OperatorLimits(
            max_workflows=self.chance.choice([None, 2, 4]), max_activities=self.chance.choice([None, 2, 4]),
            strategy=self.chance.choice(list(QueueStrategy)),
        )  # fmt: skip

    def _rest(self) -> None:
        for under_way in list(self.crowd.under_way.values()):
            self.crowd.finish(under_way)
        self.crowd.settle(_MOST)

    def _calm_down(self) -> None:
        self._rest()
        for member in self.crowd.live():
            self.crowd.touch(member.key.name, suspended=False)
        for _ in range(200):
            self._rest()
            self.check()
            self._check_rest()
            if not list(self.crowd.live()):
                break
            for member in self.crowd.live():
                for part in list(member.record.running)[:1]:
                    self.crowd.end(member.key.name, part)
        waiting = [(member.key.name, member.record) for member in self.crowd.live()]
        assert not waiting, f"these wait for ever: {waiting}"
        ledger = self.crowd.ledger
        left = [
            *ledger.runs.holders,
            *ledger.runs.waiting,
            *ledger.attempts.holders,
            *ledger.attempts.waiting,
            *ledger.known,
        ]
        assert not left, f"these permits are left: {left}"
        assert ledger.scopes <= {("shop", "order"), ("shop", "other")}, f"these scopes are left: {ledger.scopes}"

    # --- what must hold -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Nobody may hold more than there was when it was given: lowering a limit drains."""
        recorded, possible = self._recorded(), self._possible()
        for pool in {*recorded, *possible, *self.bound}:
            limit = self._limit(pool)
            bound = max(limit, self.bound.get(pool, limit))
            many = len(recorded[pool] | possible[pool]) if pool[0] != "key" else len(recorded[pool])
            assert many <= bound, (
                f"{pool}: {many} hold, {bound} may: {sorted(map(str, recorded[pool] | possible[pool]))}"
            )
            self.bound[pool] = max(limit, min(bound, many))

    def _rebound(self, pool: Pool) -> None:
        self.bound[pool] = max(self._limit(pool), len(self._recorded()[pool] | self._possible()[pool]))

    def _limit(self, pool: Pool) -> float:
        kind, which = pool
        if kind == "key":
            return 1
        if kind == "guard":
            return self.rooms.size[which]  # type: ignore[index]  # the pool of a guard
        if which is None:
            limits = self.crowd.operator
            limit = limits.max_workflows if kind == "runs" else limits.max_activities
        else:
            concurrency = self.crowd.workflows.get(which, REVISION)  # type: ignore[call-overload]  # the pool of a scope
            limit = (
                None
                if concurrency is None
                else concurrency.max_workflows
                if kind == "runs"
                else concurrency.max_activities
            )
        return math.inf if limit is None else limit

    def _recorded(self) -> Mapping[Pool, set[SlotId]]:
        return _pools((member, member.record) for member in self.crowd.live())

    def _possible(self) -> Mapping[Pool, set[SlotId]]:
        """What may be recorded next: by the passes that are under way, and what has been granted."""
        found = _pools((under_way.member, under_way.new) for under_way in self.crowd.under_way.values())
        for gate, kind in ((self.crowd.ledger.runs, "runs"), (self.crowd.ledger.attempts, "attempts")):
            for slot, claim in gate.holders.items():
                found.setdefault((kind, claim.scope), set()).add(slot)
                found.setdefault((kind, None), set()).add(slot)
                if claim.guard is not None:
                    found.setdefault(("guard", claim.guard), set()).add(slot)
        return _Pools(found)

    def _check_rest(self) -> None:
        """Nobody has a reason to look at anything: then all that is free is taken, and the index is what the records say."""
        crowd = self.crowd
        recorded = self._recorded()
        for member in crowd.live():
            guards = {part.key: part.guard for part in member.parts}
            for part in member.record.waiting:
                pools: list[Pool] = [("attempts", member.scope), ("attempts", None)]
                guard = guards[part]
                pools += [("guard", guard)] if guard is not None else []
                assert any(len(recorded[pool]) >= self._limit(pool) for pool in pools), (
                    f"{member.key} waits for nothing: {part}"
                )
            if member.record.queued:
                pools = [("runs", member.scope), ("runs", None), ("key", (member.scope, member.record.key))]
                behind = any(
                    other.record.queued and other.record.key == member.record.key != "" and other is not member
                    for other in crowd.live()
                )
                assert behind or any(len(recorded[pool]) >= self._limit(pool) for pool in pools), (
                    f"{member.key} waits for nothing"
                )
        fresh = Ledger(crowd.operator, self.rooms, lambda _key: None)
        for (namespace, workflow), limits in crowd.workflows.items():
            fresh.configure(namespace, workflow, limits, crowd.now)
        fresh.restore([standing for member in crowd.live() if (standing := member.standing()) is not None], crowd.now)
        for mine, derived in ((crowd.ledger.runs, fresh.runs), (crowd.ledger.attempts, fresh.attempts)):
            assert mine.holders == derived.holders
            assert mine.waiting == derived.waiting


class _Pools(dict[Pool, set[SlotId]]):
    def __missing__(self, pool: Pool) -> set[SlotId]:
        return set()


def _pools(records: Iterable[tuple[Member, Record]]) -> _Pools:
    found = _Pools()

    def add(pool: Pool, slot: SlotId) -> None:
        found.setdefault(pool, set()).add(slot)

    for member, record in records:
        if record.ended:
            continue
        guards = {part.key: part.guard for part in member.parts}
        if record.started:
            for pool in (("runs", member.scope), ("runs", None)):
                add(pool, (member.uid, None))
            if record.key:
                add(("key", (member.scope, record.key)), (member.uid, None))
        for part in record.running:
            for pool in (("attempts", member.scope), ("attempts", None)):
                add(pool, (member.uid, part))
            if (guard := guards[part]) is not None:
                add(("guard", guard), (member.uid, part))
    return found


@settings(max_examples=150)
@given(seed=st.integers(0, 10**9))
def test_in_no_history_does_anybody_hold_too_much_or_wait_for_ever(seed: int) -> None:
    History(seed).play()


def test_the_histories_are_worth_their_name() -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        history = History(seed)
        history.play()
        seen.update(history.seen)
    wanted = ("written", "lost", "unheard", "conflict", "failed", "crash", "deleted", "made anew", "limits")
    assert min(seen[kind] for kind in wanted) > 30, seen


# --- ledgers that are broken on purpose -------------------------------------------------------------------------------


class _FillsWhileItReads(Ledger):
    """Lets runs in before it knows of all that hold."""

    def restore(self, standings: Iterable[Standing], now: datetime) -> None:
        for standing in standings:
            self.put(standing, now)


class _ForgetsGrants(Ledger):
    """Believes that a write that it has not heard of was not carried out."""

    def begin(self, standing: Standing, default: Concurrency | None, now: datetime) -> Admission:
        if (known := self._runs.get(standing.uid)) is not None:
            known.granted.clear()
        return super().begin(standing, default, now)

    def fail(self, key: RunKey, now: datetime) -> None:
        if (entry := self._runs.get(self._uids.get(key, ""))) is not None:
            entry.writing = False
        super().fail(key, now)


class _ForgetsWhoDeclined(Ledger):
    """Does not offer a slot again to a run that had no use for it and asks for it later."""

    def ask(self, standing: Standing, wants: Mapping[AskedFor, Want], now: datetime) -> dict[AskedFor, Answer]:
        entry = self._runs[standing.uid]
        declined = set(entry.declined)
        answers = super().ask(standing, wants, now)
        entry.declined |= declined
        return answers


class _WakesNobody(Ledger):
    """Grants, and tells nobody."""

    def _fill(self) -> None:
        wake, self._wake = self._wake, lambda _key: None
        super()._fill()
        self._wake = wake


class _LosesWhatCameMeanwhile(Ledger):
    """Does not tell a pass's run of what it was granted after it had asked."""

    def settle(self, uid: str, now: datetime) -> None:
        wake, self._wake = self._wake, lambda _key: None
        super().settle(uid, now)
        self._wake = wake


class _KeepsWhatIsNotUsed(Ledger):
    """Leaves a grant that a pass had no use for with its run."""

    def settle(self, uid: str, now: datetime) -> None:
        if (entry := self._runs.get(uid)) is not None:
            entry.used.clear()
        super().settle(uid, now)

    def _close(self, entry: Entry, now: datetime) -> None:
        granted = dict(entry.granted)
        super()._close(entry, now)
        entry.granted = granted
        self._sync(entry)


class _ForgetsTheKey(Ledger):
    """Forgets the key of a run that was told to start, when its pass is repeated."""

    def begin(self, standing: Standing, default: Concurrency | None, now: datetime) -> Admission:
        if (known := self._runs.get(standing.uid)) is not None:
            known.asked_key = ""
        return super().begin(standing, default, now)

    def _ask_run(self, entry: Entry, want: RunWant) -> Answer | None:
        entry.asked_key = want.key
        return super()._ask_run(entry, want)


class _OneTooMany(Ledger):
    """Takes a limit for one more than it is."""

    def _limit(self, scope: tuple[str, str], concurrency: Concurrency | None) -> None:
        more = {
            name: limit + 1
            for name in ("max_workflows", "max_activities")
            if concurrency is not None and (limit := getattr(concurrency, name)) is not None
        }
        super()._limit(scope, concurrency.model_copy(update=more) if concurrency is not None else None)


class _IgnoresKeys(Ledger):
    """Starts two runs of a key."""

    def __init__(self, limits: OperatorLimits, guards: GuardStates, wake: Callable[[RunKey], None]) -> None:
        super().__init__(limits, guards, wake)
        self._conflicts.ahead = lambda _uid: None  # type: ignore[method-assign, assignment]  # broken on purpose


class _CountsTheRecordedAlone(Ledger):
    """Does not count those who were let through a bulkhead and have not written that yet."""

    def _has_room(self, guard: GuardKey) -> bool:
        granted = {slot for entry in self._runs.values() for slot in entry.granted}
        held = [slot for slot in self.attempts.held_at(guard) if slot not in granted]
        settings = self.passage.settings(guard)
        return settings is None or settings.bulkhead is None or len(held) < settings.bulkhead.concurrent


class _KeepsTheDead(Ledger):
    """Does not take a run out that is gone."""

    def drop(self, key: RunKey, now: datetime) -> None:
        if key.name != "r3":
            super().drop(key, now)


class _BlocksTheLine(Ledger):
    """Lets nobody in while the first of all has to wait."""

    def _fill(self) -> None:
        for gate in (self.runs, self.attempts):
            first = min(gate.waiting.values(), key=lambda claim: claim.order(QueueStrategy.FIFO), default=None)
            if first is not None and gate.blocker(first) is not None:
                return
        super()._fill()


@pytest.mark.parametrize(
    "broken",
    [
        _FillsWhileItReads, _ForgetsGrants, _WakesNobody, _LosesWhatCameMeanwhile, _KeepsWhatIsNotUsed, _ForgetsTheKey,
        _OneTooMany, _IgnoresKeys, _CountsTheRecordedAlone, _KeepsTheDead, _BlocksTheLine, _ForgetsWhoDeclined,
    ],
)  # fmt: skip
def test_a_broken_ledger_is_seen(broken: type[Ledger]) -> None:
    for seed in range(500):
        try:
            History(seed, broken).play()
        except AssertionError:
            return
    pytest.fail(f"nobody noticed: {broken.__doc__}")
