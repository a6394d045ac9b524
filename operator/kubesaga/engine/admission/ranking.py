# SPDX-License-Identifier: Apache-2.0
"""Who is first, where ranks change: a heap whose entries are looked at anew before they are believed. O(log n) a change."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from itertools import count
from typing import Any, Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

Rank = tuple[Any, ...]
"""Compared with others of its ranking; smaller comes first."""

_SLACK: Final = 64
"""So many old entries are no matter, however few count."""


class Ranking(Generic[Key]):
    """Keys by rank. `rank_of` tells the rank that a key has now, None for one that is not to be had."""

    def __init__(self, rank_of: Callable[[Key], Rank | None]) -> None:
        self._rank_of = rank_of
        self._heap: list[tuple[Rank, int, Key]] = []
        """With a number that is nobody else's: an old entry may have the rank of another key, and keys do not compare."""
        self._numbers = count()
        self._entered: dict[Key, Rank] = {}
        """The one entry of each key that counts; others in the heap are old."""

    def __bool__(self) -> bool:
        return bool(self._entered)

    def touch(self, key: Key) -> None:
        """Say that a key's rank may have become better. One that became worse is found out by itself."""
        rank = self._rank_of(key)
        if rank is None:
            self._entered.pop(key, None)
        elif self._entered.get(key) != rank:
            self._entered[key] = rank
            heapq.heappush(self._heap, (rank, next(self._numbers), key))
            if len(self._heap) > _SLACK + 2 * len(self._entered):
                self._heap = [(known, next(self._numbers), entered) for entered, known in self._entered.items()]
                heapq.heapify(self._heap)

    def first(self) -> Key | None:
        """Return the key with the smallest rank."""
        while self._heap:
            rank, _, key = self._heap[0]
            if self._entered.get(key) != rank:
                heapq.heappop(self._heap)
                continue
            now = self._rank_of(key)
            if now == rank:
                return key
            if now is None:
                heapq.heappop(self._heap)
                del self._entered[key]
            else:
                heapq.heapreplace(self._heap, (now, next(self._numbers), key))
                self._entered[key] = now
        return None


class Line(Generic[Key]):
    """Those who wait at one place, in groups. Within a group the smallest order is first; which group is, `load` decides."""

    def __init__(self, load: Callable[[str], Rank]) -> None:
        """`load(group)`: what stands in a group's rank after the first part of the order; () for a line without groups."""
        self._load = load
        self._orders: dict[Key, tuple[str, Rank]] = {}
        self._groups: dict[str, list[tuple[Rank, Key]]] = {}
        self._ranking: Ranking[str] = Ranking(self._rank_of)
        self._left = 0
        """How many have left since the heaps were made."""

    def __len__(self) -> int:
        return len(self._orders)

    def __contains__(self, key: Key) -> bool:
        return key in self._orders

    def has(self, group: str) -> bool:
        """Tell whether anybody of a group waits here."""
        return group in self._groups

    def add(self, key: Key, group: str, order: Rank) -> None:
        """Have somebody wait; whoever waits already is put in anew."""
        self.remove(key)
        self._orders[key] = (group, order)
        heapq.heappush(self._groups.setdefault(group, []), (order, key))
        self._ranking.touch(group)

    def remove(self, key: Key) -> None:
        """Somebody waits no longer."""
        if (known := self._orders.pop(key, None)) is None:
            return
        self._left += 1
        if self._left > _SLACK + len(self._orders):
            self._rebuild()
        self._ranking.touch(known[0])

    def touch(self, group: str) -> None:
        """Say that the load of a group may have become smaller."""
        self._ranking.touch(group)

    def first(self) -> tuple[Rank, Key] | None:
        """Return who is next, with the rank."""
        group = self._ranking.first()
        if group is None:
            return None
        order, key = self._groups[group][0]
        return (order[0], *self._load(group), *order[1:]), key

    def _rebuild(self) -> None:
        """Forget those who left from the middle: behind one who waits for long they would pile up."""
        self._left = 0
        self._groups = {}
        for key, (group, order) in self._orders.items():
            self._groups.setdefault(group, []).append((order, key))
        for heap in self._groups.values():
            heapq.heapify(heap)

    def _rank_of(self, group: str) -> Rank | None:
        heap = self._groups.get(group)
        if heap is None:
            return None
        while heap and self._orders.get(heap[0][1]) != (group, heap[0][0]):
            heapq.heappop(heap)
        if not heap:
            del self._groups[group]
            return None
        order = heap[0][0]
        return (order[0], *self._load(group), *order[1:])
