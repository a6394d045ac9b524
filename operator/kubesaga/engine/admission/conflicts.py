# SPDX-License-Identifier: Apache-2.0
"""Runs that stand in each other's way: those of one business key, and the oldest where only the newest may stay.

One live run a key is under way at a time, a mutex that cannot leak: it is held by being under way, and by nothing else.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.engine.admission.gate import Scope
from kubesaga.engine.admission.ranking import Rank, Ranking
from kubesaga.engine.slots import Displaced

_Order = tuple[datetime, str, str]
"""When it was created, its name, its uid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A live run that has started, or would like to, as far as others may stand in its way."""

    uid: str
    scope: Scope
    key: str
    """Its business key; "" for none."""
    created: datetime
    name: str
    started: bool
    """It is under way, or has been told that it may be."""

    @property
    def order(self) -> _Order:
        """Who came first."""
        return self.created, self.name, self.uid


class _Key:
    """The contenders of one key."""

    def __init__(self) -> None:
        self.members: dict[str, Contender] = {}
        self.orders: list[_Order] = []
        self.started: set[str] = set()
        self._waiting: Ranking[str] = Ranking(self._rank_of)

    def put(self, contender: Contender) -> None:
        self.members[contender.uid] = contender
        insort(self.orders, contender.order)
        (self.started.add if contender.started else self.started.discard)(contender.uid)
        self._waiting.touch(contender.uid)

    def drop(self, uid: str) -> None:
        _remove(self.orders, self.members.pop(uid).order)
        self.started.discard(uid)
        self._waiting.touch(uid)

    def first(self) -> str | None:
        """Return who is under way, else who is next."""
        return min(self.started) if self.started else self._waiting.first()

    def _rank_of(self, uid: str) -> Rank | None:
        known = self.members.get(uid)
        return known.order if known is not None and not known.started else None


class Conflicts:
    """Pure, like all of the ledger."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        """`wake` is told of runs, by uid, that are displaced from now on."""
        self._wake = wake
        self._known: dict[str, Contender] = {}
        self._keys: dict[tuple[Scope, str], _Key] = defaultdict(_Key)
        self._orders: dict[Scope, list[_Order]] = defaultdict(list)
        self._rules: dict[Scope, tuple[int | None, bool]] = {}

    def configure(self, scope: Scope, *, newest: int | None, replaces: bool) -> None:
        """Say how many of a scope's runs may stay, and whether a newer run of a key replaces the older."""
        if self._rules.get(scope) == (newest, replaces):
            return
        self._rules[scope] = (newest, replaces)
        for _, _, uid in self._orders.get(scope, ()):
            if self.displaced(uid) is not None:
                self._wake(uid)

    def forget(self, scope: Scope) -> None:
        """Nobody of a scope is left, and its rules are not known any more."""
        self._rules.pop(scope, None)

    def put(self, contender: Contender) -> set[str]:
        """Take in how a run stands; return the runs that may be next now, or not any more."""
        old = self._known.get(contender.uid)
        if old == contender:
            return set()
        affected = self.drop(contender.uid) if old is not None else set()
        self._known[contender.uid] = contender
        insort(self._orders[contender.scope], contender.order)
        if contender.key:
            key = self._keys[contender.scope, contender.key]
            before = key.first()
            key.put(contender)
            affected |= {uid for uid in (before, key.first()) if uid is not None and uid != contender.uid}
        if old is None or old.key != contender.key:
            self._tell_displaced(contender)
        return affected

    def drop(self, uid: str) -> set[str]:
        """A run is over; return the runs that may be next now."""
        known = self._known.pop(uid, None)
        if known is None:
            return set()
        _remove(self._orders[known.scope], known.order)
        if not self._orders[known.scope]:
            del self._orders[known.scope]
        if not known.key:
            return set()
        key = self._keys[known.scope, known.key]
        key.drop(uid)
        if not key.members:
            del self._keys[known.scope, known.key]
            return set()
        first = key.first()
        return {first} if first is not None else set()

    def other(self, scope: Scope, key: str, uid: str) -> str | None:
        """Return another live run with that key."""
        members = self._keys[scope, key].members if key and (scope, key) in self._keys else {}
        return next((other for other in members if other != uid), None)

    def ahead(self, uid: str) -> str | None:
        """Return the run that must be over before this one may start; None: no other of its key."""
        known = self._known.get(uid)
        if known is None or not known.key or known.started:
            return None
        first = self._keys[known.scope, known.key].first()
        return first if first != uid else None

    def displaced(self, uid: str) -> Displaced | None:
        """Return who takes a run's place, if anybody does."""
        known = self._known.get(uid)
        if known is None:
            return None
        newest, replaces = self._rules.get(known.scope, (None, False))
        if replaces and known.key:
            _, name, last = self._keys[known.scope, known.key].orders[-1]
            if last != uid:
                told = f"{name} has the same key, {known.key}, and is newer"
                return Displaced(reason=Reason.REPLACED, message=told)
        if newest is not None:
            orders = self._orders[known.scope]
            if len(orders) - bisect_right(orders, known.order) >= newest:
                return Displaced(reason=Reason.MADE_ROOM, message=REASON_TEXT[Reason.MADE_ROOM])
        return None

    def _tell_displaced(self, new: Contender) -> None:
        """Wake those whose place a new one takes, or the new one itself. Others were told when they lost theirs."""
        newest, replaces = self._rules.get(new.scope, (None, False))
        told = {new.uid}
        if replaces and new.key:
            told.update(uid for _, _, uid in self._keys[new.scope, new.key].orders[-2:])
        orders = self._orders[new.scope]
        if newest is not None and len(orders) > newest:
            told.add(orders[len(orders) - newest - 1][2])
        for uid in told:
            if self.displaced(uid) is not None:
                self._wake(uid)


def _remove(orders: list[_Order], order: _Order) -> None:
    del orders[bisect_right(orders, order) - 1]
