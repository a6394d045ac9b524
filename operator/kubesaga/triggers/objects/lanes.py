# SPDX-License-Identifier: Apache-2.0
"""Changes on their way to runs: those of one object one after another, several objects side by side, none ever dropped."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from kubesaga.triggers.objects.changes import Change

_log: Final = logging.getLogger("kubesaga.workflow_engine")
_AT_ONCE: Final = 8
_FIRST_BACKOFF: Final = 0.2
_LONGEST_BACKOFF: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    number: int
    change: Change


class Lanes:
    """What has been seen and not yet told."""

    def __init__(
        self, tell: Callable[[Change], Awaitable[None]], *, told: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]], random: Callable[[], float],
    ) -> None:  # fmt: skip
        """`tell` is repeated until it returns; `told` is called each time then."""
        self._tell = tell
        self._told = told
        self._sleep = sleep
        self._random = random
        self._lanes: dict[str, deque[_Entry]] = {}
        self._behind: dict[int, int] = {}
        self._count = 0
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, change: Change, before: int) -> None:
        """Take a change up. `before` is a version of the objects up to which all changes have been taken up before."""
        self._count += 1
        self._behind[self._count] = before
        entry = _Entry(number=self._count, change=change)
        if change.uid in self._lanes:
            self._lanes[change.uid].append(entry)
            return
        self._lanes[change.uid] = deque([entry])
        task = asyncio.create_task(self._work_off(change.uid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def behind(self) -> int | None:
        """A version up to which everything has been told; None: all of it has."""
        # Entries stand in the order in which they were taken up, and `before` never falls within it.
        return next(iter(self._behind.values()), None)

    @property
    def depth(self) -> int:
        """How many changes wait."""
        return len(self._behind)

    async def close(self) -> None:
        """Let go of everything; the operator that takes over finds it again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work_off(self, uid: str) -> None:
        lane = self._lanes[uid]
        while lane:
            await self._until_told(lane[0].change)
            del self._behind[lane.popleft().number]
            self._told()
        del self._lanes[uid]

    async def _until_told(self, change: Change) -> None:
        failures = 0
        while True:
            try:
                async with self._room:
                    await self._tell(change)
            except Exception as error:  # noqa: BLE001 - whatever it is: a change is repeated, alone, until it is told (law 7)
                failures += 1
                delay = min(_FIRST_BACKOFF * 2 ** (failures - 1), _LONGEST_BACKOFF) * (0.5 + self._random() / 2)
                _log.warning(
                    "that %s was %s has failed to start runs %d times, the next try is in %.1f s: %s",
                    change.name, change.event, failures, delay, error, exc_info=error if failures in (1, 5) else None,
                )  # fmt: skip
                await self._sleep(delay)
            else:
                return
