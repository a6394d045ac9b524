# SPDX-License-Identifier: Apache-2.0
"""A clock that stands still until it is told to go on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """Time moves by `advance` alone. Sleepers wake in order."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._now = start
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Return the time of day."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds since the start."""
        return (self._now - self._start).total_seconds()

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced that far."""
        if seconds <= 0:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + timedelta(seconds=seconds), future))
        await future

    @property
    def asleep(self) -> int:
        """How many sleep."""
        return len(self._sleepers)

    @property
    def until_next(self) -> float:
        """The seconds until the first of them wakes."""
        return (min(when for when, _ in self._sleepers) - self._now).total_seconds()

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake whoever has slept long enough."""
        self._now += timedelta(seconds=seconds)
        due = [(when, future) for when, future in self._sleepers if when <= self._now]
        self._sleepers = [(when, future) for when, future in self._sleepers if when > self._now]
        for _, future in sorted(due, key=lambda pair: pair[0]):
            if not future.done():
                future.set_result(None)
