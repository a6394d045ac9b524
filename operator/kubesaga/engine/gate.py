# SPDX-License-Identifier: Apache-2.0
"""A gate lets so many in at once: of all, of each scope (a Workflow), of each guard (a bulkhead).

Who waits for one scope or guard holds up nobody who waits for another; every slot that is free is filled. The order is
the scope's own strategy within it, and the gate's between scopes. A change costs O(log n) in those who wait.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from kubesaga.api.limits import QueueStrategy
from kubesaga.api.run import BlockedBy
from kubesaga.engine.guarding import GuardKey
from kubesaga.engine.ranking import Line, Rank, Ranking
from kubesaga.engine.slots import AskedFor

SlotId = tuple[str, AskedFor]
"""A run's uid, and which of its deeds; None for the run itself."""

Scope = tuple[str, str]
"""Namespace, and whose limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Somebody's claim on a slot, held or waited for."""

    id: SlotId
    scope: Scope
    at: datetime
    """Who came first, is first."""
    name: str
    """Breaks ties."""
    group: str = ""
    priority: int = 0
    guard: GuardKey | None = None
    urgent: bool = False

    def order(self, strategy: QueueStrategy) -> Rank:
        """Return the place in a line."""
        priority = -self.priority if strategy is QueueStrategy.PRIORITY else 0
        return (not self.urgent, priority, self.at, self.name, str(self.id))


@dataclass(slots=True)
class _Members:
    """The holders of a scope, by fairness group, and when each group was served last."""

    by_group: dict[str, set[SlotId]] = field(default_factory=lambda: defaultdict(set))
    served: dict[str, int] = field(default_factory=dict)

    def load(self, group: str) -> Rank:
        """Return how much of its share a group has: how many slots, and how recently it was given one."""
        return len(self.by_group.get(group, ())), self.served.get(group, 0)

    def serve(self, group: str, turn: int) -> None:
        """Remember that a group was served at that turn."""
        self.served[group] = turn
        if len(self.served) > _SERVED:
            newest = sorted(self.served, key=self.served.__getitem__)[_SERVED // 2 :]
            self.served = {name: self.served[name] for name in newest}


class _Scope:
    def __init__(self, limit: int | None, strategy: QueueStrategy) -> None:
        self.limit = limit
        self.strategy = strategy
        self.members = _Members()
        self.count = 0
        self.lines: dict[GuardKey | None, Line[SlotId]] = {}

    def load(self, group: str) -> Rank:
        return self.members.load(group) if self.strategy is QueueStrategy.FAIR else ()

    @property
    def full(self) -> bool:
        return self.limit is not None and self.count >= self.limit


_SERVED: Final = 4096
"""Groups of which it is remembered when they were served last, in each scope."""


class Gate:
    """See the module. Pure: neither clock nor I/O. All that it knows are claims that it was told of."""

    def __init__(
        self, *, limit: int | None, strategy: QueueStrategy, room: Callable[[GuardKey], bool], scope_full: BlockedBy,
        full: BlockedBy, admitted: Callable[[Claim], None] = lambda _claim: None,
    ) -> None:  # fmt: skip
        """`room` tells whether a guard lets one more in now; `admitted` is told of each that is let in, at once."""
        self.limit = limit
        self.holders: dict[SlotId, Claim] = {}
        self.waiting: dict[SlotId, Claim] = {}
        self._strategy = strategy
        self._room = room
        self._admitted = admitted
        self._names = scope_full, full
        self._scopes: dict[Scope, _Scope] = {}
        self._limits: dict[Scope, tuple[int | None, QueueStrategy]] = {}
        self._namespaces = _Members()
        self._turns = 0
        self._at_guard: dict[GuardKey, dict[SlotId, Claim]] = defaultdict(dict)
        self._held_at: dict[GuardKey, dict[SlotId, Claim]] = defaultdict(dict)
        self._lines_at: dict[GuardKey, set[Scope]] = defaultdict(set)
        self._waiting_in: dict[str, set[Scope]] = defaultdict(set)
        self._changed: set[GuardKey] = set()
        self._root: Ranking[Scope] = Ranking(self._rank_of)

    # --- limits -----------------------------------------------------------------------------------------------------

    def configure(self, scope: Scope, limit: int | None, strategy: QueueStrategy) -> None:
        """Give a scope its limit and its order; a limit below what is held drains."""
        if self._limits.get(scope) == (limit, strategy):
            return
        self._limits[scope] = (limit, strategy)
        known = self._scopes.get(scope)
        if known is None:
            return
        known.limit = limit
        if known.strategy is not strategy:
            known.strategy = strategy
            known.lines = {}
            for claim in [claim for claim in self.waiting.values() if claim.scope == scope]:
                self._line(known, claim.guard).add(claim.id, self._group(known, claim), claim.order(strategy))
        self._root.touch(scope)

    def forget(self, scope: Scope) -> None:
        """A scope is not limited any more."""
        self.configure(scope, None, QueueStrategy.FIFO)
        del self._limits[scope]

    def is_limited(self, scope: Scope) -> bool:
        """Tell whether anybody of a scope may ever have to wait here."""
        return self.limit is not None or self._limits.get(scope, (None,))[0] is not None

    # --- claims -----------------------------------------------------------------------------------------------------

    def hold(self, claim: Claim) -> None:
        """Take in that somebody holds a slot, whatever the limits say."""
        if self.holders.get(claim.id) == claim:
            return
        self.release(claim.id)
        self.leave(claim.id)
        self.holders[claim.id] = claim
        scope = self._scope(claim.scope)
        scope.members.by_group[claim.group].add(claim.id)
        scope.count += 1
        self._namespaces.by_group[claim.scope[0]].add(claim.id)
        if claim.guard is not None:
            self._held_at[claim.guard][claim.id] = claim
            self._changed.add(claim.guard)

    def release(self, slot: SlotId) -> None:
        """Somebody holds no slot any more."""
        claim = self.holders.pop(slot, None)
        if claim is None:
            return
        scope = self._scopes[claim.scope]
        scope.count -= 1
        _discard(scope.members.by_group, claim.group, slot)
        _discard(self._namespaces.by_group, claim.scope[0], slot)
        for line in scope.lines.values():
            line.touch(claim.group)
        if claim.guard is not None:
            self._changed.add(claim.guard)
            self._held_at[claim.guard].pop(slot, None)
            if not self._held_at[claim.guard]:
                del self._held_at[claim.guard]
            self.refresh(claim.guard)
        self._touch(claim.scope)
        self._drop_if_empty(claim.scope)

    def wait(self, claim: Claim) -> None:
        """Take in that somebody waits."""
        if self.waiting.get(claim.id) == claim:
            return
        self.release(claim.id)
        self.leave(claim.id)
        self.waiting[claim.id] = claim
        scope = self._scope(claim.scope)
        self._line(scope, claim.guard).add(claim.id, self._group(scope, claim), claim.order(scope.strategy))
        self._waiting_in[claim.scope[0]].add(claim.scope)
        if claim.guard is not None:
            self._at_guard[claim.guard][claim.id] = claim
            self._lines_at[claim.guard].add(claim.scope)
            self._changed.add(claim.guard)
        self._root.touch(claim.scope)

    def leave(self, slot: SlotId) -> None:
        """Somebody waits no longer."""
        claim = self.waiting.pop(slot, None)
        if claim is None:
            return
        scope = self._scopes[claim.scope]
        line = scope.lines[claim.guard]
        line.remove(slot)
        if not line:
            del scope.lines[claim.guard]
            if claim.guard is not None:
                self._lines_at[claim.guard].discard(claim.scope)
        if not scope.lines:
            self._waiting_in[claim.scope[0]].discard(claim.scope)
        if claim.guard is not None:
            self._changed.add(claim.guard)
            self._at_guard[claim.guard].pop(slot, None)
            if not self._at_guard[claim.guard]:
                del self._at_guard[claim.guard], self._lines_at[claim.guard]
        self._root.touch(claim.scope)
        self._drop_if_empty(claim.scope)

    # --- who is let in ----------------------------------------------------------------------------------------------

    def fill(self, now: datetime) -> list[Claim]:
        """Let in whoever may be, the first first, until no slot that anybody could use is free. They hold one from now on."""
        admitted: list[Claim] = []
        while self.limit is None or len(self.holders) < self.limit:
            where = self._root.first()
            if where is None:
                break
            first = self._first(self._scopes[where])
            assert first is not None, "a scope with a rank has somebody to let in"
            claim = replace(self.waiting[first], at=now)
            self._turns += 1
            self._scopes[where].members.serve(claim.group, self._turns)
            self._namespaces.serve(where[0], self._turns)
            self.hold(claim)
            self._admitted(claim)
            admitted.append(claim)
        return admitted

    def refresh(self, guard: GuardKey) -> None:
        """Say that a guard may let in more than before."""
        for scope in self._lines_at.get(guard, ()):
            self._root.touch(scope)

    def blocker(self, claim: Claim) -> BlockedBy | None:
        """Return what keeps somebody from being let in, beside a guard; None: nothing of the gate's."""
        scope = self._scopes.get(claim.scope)
        if scope is not None and scope.full:
            return self._names[0]
        full = self.limit is not None and len(self.holders) >= self.limit
        return self._names[1] if full else None

    def held_at(self, guard: GuardKey) -> dict[SlotId, Claim]:
        """Return who holds a slot behind a guard."""
        return self._held_at.get(guard, {})

    def waiting_at(self, guard: GuardKey) -> dict[SlotId, Claim]:
        """Return who waits at a guard."""
        return self._at_guard.get(guard, {})

    def changed_guards(self) -> set[GuardKey]:
        """Return the guards of which holders or waiters have changed since this was asked last."""
        changed, self._changed = self._changed, set()
        return changed

    @property
    def guards(self) -> set[GuardKey]:
        """The guards at which somebody waits, or behind which somebody is."""
        return {*self._at_guard, *self._held_at}

    def held_in(self, scope: Scope) -> int:
        """Return how many slots a scope has."""
        return self._scopes[scope].count if scope in self._scopes else 0

    # --- within -----------------------------------------------------------------------------------------------------

    def _scope(self, name: Scope) -> _Scope:
        if name not in self._scopes:
            self._scopes[name] = _Scope(*self._limits.get(name, (None, QueueStrategy.FIFO)))
        return self._scopes[name]

    def _line(self, scope: _Scope, guard: GuardKey | None) -> Line[SlotId]:
        if guard not in scope.lines:
            scope.lines[guard] = Line(scope.load)
        return scope.lines[guard]

    def _group(self, scope: _Scope, claim: Claim) -> str:
        return claim.group if scope.strategy is QueueStrategy.FAIR else ""

    def _first(self, scope: _Scope) -> SlotId | None:
        heads = [
            head
            for guard, line in scope.lines.items()
            if (guard is None or self._room(guard)) and (head := line.first()) is not None
        ]
        return min(heads)[1] if heads else None

    def _rank_of(self, name: Scope) -> Rank | None:
        scope = self._scopes.get(name)
        if scope is None or scope.full or (first := self._first(scope)) is None:
            return None
        claim = self.waiting[first]
        load = self._namespaces.load(name[0]) if self._strategy is QueueStrategy.FAIR else ()
        return (not claim.urgent, *load, *claim.order(self._strategy))

    def _touch(self, name: Scope) -> None:
        self._root.touch(name)
        if self._strategy is QueueStrategy.FAIR:
            for other in self._waiting_in.get(name[0], ()):
                self._root.touch(other)

    def _drop_if_empty(self, name: Scope) -> None:
        scope = self._scopes.get(name)
        if scope is not None and not scope.count and not scope.lines:
            del self._scopes[name]


def _discard(sets: dict[str, set[SlotId]], name: str, key: SlotId) -> None:
    sets[name].discard(key)
    if not sets[name]:
        del sets[name]
