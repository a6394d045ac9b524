# SPDX-License-Identifier: Apache-2.0
"""Keys of runs to look at: each at most once in the queue, one pass per key at a time, later looks on one timer wheel.

A pass that raises is repeated, alone, with backoff; it holds up no other key (design law 7, invariant I12).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from kubesaga.controller.clock import Clock
from kubesaga.engine.attempt import RunKey

_log = logging.getLogger("kubesaga.workflow_engine")

Process = Callable[[RunKey], Awaitable[datetime | None]]
"""One pass over one key; returns when to look again though nothing happens."""

_FIRST_BACKOFF: Final = 0.2
_LONGEST_BACKOFF: Final = 60.0
_LONGEST_NAP: Final = 30.0
"""The wheel looks at the time of day at least this often, so that a clock that is set cannot put a deadline off for long."""


class Queue:
    """The keyed queue. `add` and `add_at` may be called at any time from the event loop's thread."""

    def __init__(self, process: Process, clock: Clock, *, workers: int, jitter: Callable[[], float]) -> None:
        self._process = process
        self._clock = clock
        self._workers = workers
        self._jitter = jitter
        """Returns a number from 0 to 1."""
        self._waiting: deque[RunKey] = deque()
        self._queued: dict[RunKey, float] = {}
        self._active: set[RunKey] = set()
        self._again: set[RunKey] = set()
        self._failures: dict[RunKey, int] = {}
        self._wakes: dict[RunKey, datetime] = {}
        self._wheel: list[tuple[datetime, RunKey]] = []
        self._work = asyncio.Event()
        self._turn = asyncio.Event()

    @property
    def depth(self) -> int:
        """How many keys wait for a worker."""
        return len(self._queued)

    @property
    def oldest_age(self) -> float:
        """Seconds that the key at the front has been waiting."""
        return self._clock.monotonic() - next(iter(self._queued.values())) if self._queued else 0.0

    @property
    def failing(self) -> int:
        """How many keys had a pass that failed and have not had a good one since."""
        return len(self._failures)

    @property
    def idle(self) -> bool:
        """Tell whether nothing waits and nothing is being looked at, timers aside."""
        return not self._queued and not self._active

    @property
    def next_wake(self) -> datetime | None:
        """When the wheel will turn next."""
        return min(self._wakes.values(), default=None)

    def add(self, key: RunKey) -> None:
        """Look at a key as soon as a worker is free; while a pass over it is under way, once more after that."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued[key] = self._clock.monotonic()
            self._waiting.append(key)
            self._work.set()

    def add_at(self, key: RunKey, when: datetime) -> None:
        """Look at a key at a time; replaces the time that was set before."""
        self._wakes[key] = when
        heapq.heappush(self._wheel, (when, key))
        self._turn.set()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._turn_wheel())
            for _ in range(self._workers):
                group.create_task(self._work_off())

    async def _work_off(self) -> None:
        while True:
            while not self._waiting:
                self._work.clear()
                await self._work.wait()
            await self._pass(self._waiting.popleft())

    async def _pass(self, key: RunKey) -> None:
        self._queued.pop(key, None)
        self._active.add(key)
        self._wakes.pop(key, None)
        try:
            wake_at = await self._process(key)
        except Exception as error:  # noqa: BLE001 - the one place where a pass that failed is caught: it is repeated
            self._retry(key, error)
        else:
            self._failures.pop(key, None)
            if wake_at is not None:
                self.add_at(key, wake_at)
        finally:
            self._active.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _retry(self, key: RunKey, error: Exception) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(_FIRST_BACKOFF * 2 ** (failures - 1), _LONGEST_BACKOFF) * (0.5 + self._jitter() / 2)
        _log.warning(
            "the pass over %s failed %d times, the next is in %.1f s: %s", key, failures, delay, error,
            exc_info=error if failures in (1, 5) else None,
        )  # fmt: skip
        self.add_at(key, self._clock.now() + timedelta(seconds=delay))

    async def _turn_wheel(self) -> None:
        while True:
            self._turn.clear()
            now = self._clock.now()
            while self._wheel and self._wheel[0][0] <= now:
                when, key = heapq.heappop(self._wheel)
                if self._wakes.get(key) == when:
                    del self._wakes[key]
                    self.add(key)
            nap = _LONGEST_NAP if not self._wheel else (self._wheel[0][0] - now).total_seconds()
            await self._wait(min(max(nap, 0.001), _LONGEST_NAP))

    async def _wait(self, seconds: float) -> None:
        """Wait until the time is up or an earlier time may have been set."""
        nap = asyncio.ensure_future(self._clock.sleep(seconds))
        turn = asyncio.ensure_future(self._turn.wait())
        try:
            await asyncio.wait({nap, turn}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            turn.cancel()
