# SPDX-License-Identifier: Apache-2.0
"""One read for all who ask in the meantime, but never one that began before they asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FreshReads(Generic[K, V]):
    """Shares reads by key."""

    def __init__(self, read: Callable[[K], Awaitable[V]]) -> None:
        self._read = read
        self._reading: dict[K, asyncio.Future[V]] = {}
        self._next: dict[K, asyncio.Future[V]] = {}

    async def read(self, key: K) -> V:
        """Return what a read finds that begins from now on."""
        if key not in self._next:
            self._next[key] = asyncio.ensure_future(self._read_after(self._reading.get(key), key))
        return await asyncio.shield(self._next[key])

    async def _read_after(self, before: asyncio.Future[V] | None, key: K) -> V:
        if before is not None:
            await asyncio.wait({before})
        reading = self._reading[key] = self._next.pop(key)
        try:
            return await self._read(key)
        finally:
            if self._reading.get(key) is reading:
                del self._reading[key]
