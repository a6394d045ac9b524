# SPDX-License-Identifier: Apache-2.0
"""A gate lets so many in at once: of all, of each scope (a Workflow), of each guard (a bulkhead).

Who waits for one scope or guard holds up nobody who waits for another; every slot that is free is filled. The order is
the scope's own strategy within it, and the gate's between scopes. A change costs O(log n) in those who wait.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from kubesaga.api.limits import QueueStrategy
from kubesaga.api.run import BlockedBy
from kubesaga.engine.admission.ranking import Line, Rank, Ranking
from kubesaga.engine.guarding import GuardKey
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
class _Shares:
    """How much each group has, and whose turn it is. Groups that neither have nor want anything are not remembered.

    Who comes anew takes the turn that it is then, and who is served the one after it: so those with equally much are
    served in turn, and a group that waits is overtaken at most once by each other, however many come.
    """

    turn: int = 0
    held: dict[str, int] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)

    def load(self, group: str) -> Rank:
        """Return how much of its share a group has: how many slots, and since which turn it waits."""
        return self.held.get(group, 0), self.turns.get(group, 0)

    def serve(self, group: str) -> None:
        """A group has been served: it goes behind all who wait now."""
        self.turn += 2
        self.turns[group] = self.turn + 1

    def hold(self, group: str, more: int) -> None:
        """A group holds one more (1), or one less (-1)."""
        self._count(self.held, group, more)

    def want(self, group: str, more: int) -> None:
        """A group wants one more (1), or one less (-1)."""
        self._count(self.wanted, group, more)

    def _count(self, numbers: dict[str, int], group: str, more: int) -> None:
        number = numbers[group] = numbers.get(group, 0) + more
        self.turns.setdefault(group, self.turn)
        if not number:
            del numbers[group]
            if group not in self.held and group not in self.wanted:
                del self.turns[group]


class _Scope:
    def __init__(self, room: Callable[[GuardKey], bool]) -> None:
        self.limit: int | None = None
        self.strategy = QueueStrategy.FIFO
        self.known = False
        """Until its limit is known nobody is let in."""
        self.shares = _Shares()
        self.count = 0
        self.lines: dict[GuardKey | None, Line[SlotId]] = {}
        self._room = room
        self._ranking: Ranking[GuardKey | None] = Ranking(self._rank_of)

    @property
    def full(self) -> bool:
        return not self.known or (self.limit is not None and self.count >= self.limit)

    def configure(self, limit: int | None, strategy: QueueStrategy) -> None:
        self.limit, self.strategy, self.known = limit, strategy, True

    def sort(self, waiting: Iterable[Claim]) -> None:
        """Put all who wait in order, because the strategy is another."""
        self.lines, self._ranking = {}, Ranking(self._rank_of)
        for claim in waiting:
            self.add(claim)

    def add(self, claim: Claim) -> None:
        if claim.guard not in self.lines:
            self.lines[claim.guard] = Line(self._load)
        group = claim.group if self.strategy is QueueStrategy.FAIR else ""
        self.lines[claim.guard].add(claim.id, group, claim.order(self.strategy))
        self._ranking.touch(claim.guard)

    def remove(self, claim: Claim) -> None:
        self.lines[claim.guard].remove(claim.id)
        if not self.lines[claim.guard]:
            del self.lines[claim.guard]
        self._ranking.touch(claim.guard)

    def released(self, group: str) -> None:
        """A group has one slot less, and so a better claim to the next."""
        if self.strategy is QueueStrategy.FAIR:
            for guard, line in self.lines.items():
                if line.has(group):
                    line.touch(group)
                    self._ranking.touch(guard)

    def refresh(self, guard: GuardKey) -> None:
        """A guard may let in more."""
        self._ranking.touch(guard)

    def first(self) -> SlotId | None:
        guard = self._ranking.first()
        line = self.lines.get(guard)
        head = line.first() if line is not None else None
        return head[1] if head is not None else None

    def _load(self, group: str) -> Rank:
        return self.shares.load(group) if self.strategy is QueueStrategy.FAIR else ()

    def _rank_of(self, guard: GuardKey | None) -> Rank | None:
        line = self.lines.get(guard)
        if line is None or (guard is not None and not self._room(guard)):
            return None
        head = line.first()
        return head[0] if head is not None else None


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
        self._namespaces = _Shares()
        self._at_guard: dict[GuardKey, dict[SlotId, Claim]] = defaultdict(dict)
        self._held_at: dict[GuardKey, dict[SlotId, datetime]] = defaultdict(dict)
        self._lines_at: dict[GuardKey, set[Scope]] = defaultdict(set)
        self._changed: set[GuardKey] = set()
        self._spaces: dict[str, Ranking[Scope]] = {}
        """The scopes by namespace, which take turns with the strategy Fair; all together with any other."""
        self._root: Ranking[str] = Ranking(self._rank_of_space)

    # --- limits -----------------------------------------------------------------------------------------------------

    def configure(self, scope: Scope, limit: int | None, strategy: QueueStrategy) -> None:
        """Give a scope its limit and its order; a limit below what is held drains."""
        if self._limits.get(scope) == (limit, strategy):
            return
        self._limits[scope] = (limit, strategy)
        known = self._scopes.get(scope)
        if known is None:
            return
        resort = known.strategy is not strategy
        known.configure(limit, strategy)
        if resort:
            known.sort([claim for claim in self.waiting.values() if claim.scope == scope])
        self._touch(scope)

    def forget(self, scope: Scope) -> None:
        """Nobody of a scope is left, and its limit is not known any more."""
        self._limits.pop(scope, None)

    def is_limited(self, scope: Scope) -> bool:
        """Tell whether anybody of a scope may ever have to wait here."""
        return self.limit is not None or self._limits.get(scope, (None,))[0] is not None

    # --- claims -----------------------------------------------------------------------------------------------------

    def hold(self, claim: Claim) -> None:
        """Take in that somebody holds a slot, whatever the limits say."""
        known = self.holders.get(claim.id)
        if known == claim:
            return
        if known is not None and (known.scope, known.group, known.guard) == (claim.scope, claim.group, claim.guard):
            self.holders[claim.id] = claim  # what was granted is recorded: nobody's share has changed
        else:
            self.release(claim.id)
            self.holders[claim.id] = claim
            scope = self._scope(claim.scope)
            scope.count += 1
            scope.shares.hold(claim.group, 1)
            self._namespaces.hold(claim.scope[0], 1)
            self.leave(claim.id)
        if claim.guard is not None:
            self._held_at[claim.guard][claim.id] = claim.at
            self._changed.add(claim.guard)
            self.refresh(claim.guard)
        # Who is first now may rank before who was: the orders within a scope and between them need not be the same.
        self._touch(claim.scope)

    def release(self, slot: SlotId) -> None:
        """Somebody holds no slot any more."""
        claim = self.holders.pop(slot, None)
        if claim is None:
            return
        scope = self._scopes[claim.scope]
        scope.count -= 1
        scope.shares.hold(claim.group, -1)
        self._namespaces.hold(claim.scope[0], -1)
        scope.released(claim.group)
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
        scope.shares.want(claim.group, 1)
        self._namespaces.want(claim.scope[0], 1)
        scope.add(claim)
        if claim.guard is not None:
            self._at_guard[claim.guard][claim.id] = claim
            self._lines_at[claim.guard].add(claim.scope)
            self._changed.add(claim.guard)
        self._touch(claim.scope)

    def leave(self, slot: SlotId) -> None:
        """Somebody waits no longer."""
        claim = self.waiting.pop(slot, None)
        if claim is None:
            return
        scope = self._scopes[claim.scope]
        scope.shares.want(claim.group, -1)
        self._namespaces.want(claim.scope[0], -1)
        scope.remove(claim)
        if claim.guard is not None:
            if claim.guard not in scope.lines:
                self._lines_at[claim.guard].discard(claim.scope)
            self._changed.add(claim.guard)
            self._at_guard[claim.guard].pop(slot, None)
            if not self._at_guard[claim.guard]:
                del self._at_guard[claim.guard], self._lines_at[claim.guard]
        self._touch(claim.scope)
        self._drop_if_empty(claim.scope)

    # --- who is let in ----------------------------------------------------------------------------------------------

    def fill(self, now: datetime) -> list[Claim]:
        """Let in whoever may be, the first first, until no slot that anybody could use is free. They hold one from now on."""
        admitted: list[Claim] = []
        while self.limit is None or len(self.holders) < self.limit:
            first = self._first()
            if first is None:
                break
            claim = replace(self.waiting[first], at=now)
            self.hold(claim)
            self._scopes[claim.scope].shares.serve(claim.group)
            self._namespaces.serve(claim.scope[0])
            self._touch(claim.scope)
            self._admitted(claim)
            admitted.append(claim)
        return admitted

    def refresh(self, guard: GuardKey) -> None:
        """Say that a guard may let in more than before."""
        for scope in self._lines_at.get(guard, ()):
            self._scopes[scope].refresh(guard)
            self._touch(scope)

    def blocker(self, claim: Claim) -> BlockedBy | None:
        """Return what keeps somebody from being let in, beside a guard; None: nothing of the gate's."""
        scope = self._scopes.get(claim.scope)
        if scope is not None and scope.full:
            return self._names[0]
        full = self.limit is not None and len(self.holders) >= self.limit
        return self._names[1] if full else None

    def held_at(self, guard: GuardKey) -> Mapping[SlotId, datetime]:
        """Return who holds a slot behind a guard, and since when."""
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
            scope = self._scopes[name] = _Scope(self._room)
            if name in self._limits:
                scope.configure(*self._limits[name])
        return self._scopes[name]

    def _first(self) -> SlotId | None:
        space = self._root.first()
        name = self._spaces[space].first() if space is not None else None
        return self._scopes[name].first() if name is not None else None

    def _rank_of(self, name: Scope) -> Rank | None:
        scope = self._scopes.get(name)
        first = scope.first() if scope is not None and not scope.full else None
        return self.waiting[first].order(self._strategy) if first is not None else None

    def _rank_of_space(self, space: str) -> Rank | None:
        ranking = self._spaces.get(space)
        first = ranking.first() if ranking is not None else None
        rank = self._rank_of(first) if first is not None else None
        if rank is None or self._strategy is not QueueStrategy.FAIR:
            return rank
        return (rank[0], *self._namespaces.load(space), *rank[1:])

    def _touch(self, name: Scope) -> None:
        space = name[0] if self._strategy is QueueStrategy.FAIR else ""
        if space not in self._spaces:
            self._spaces[space] = Ranking(self._rank_of)
        self._spaces[space].touch(name)
        if not self._spaces[space]:
            del self._spaces[space]
        self._root.touch(space)

    def _drop_if_empty(self, name: Scope) -> None:
        scope = self._scopes.get(name)
        if scope is not None and not scope.count and not scope.lines:
            del self._scopes[name]
