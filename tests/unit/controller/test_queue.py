# SPDX-License-Identifier: Apache-2.0
"""The keyed queue and its timer wheel, on a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from kubesaga.controller.queue import Queue
from kubesaga.engine.attempt import RunKey
from kubesaga.testing.clock import START, FakeClock

A, B = RunKey(namespace="n", name="a"), RunKey(namespace="n", name="b")


class Passes:
    """Records passes; a test says what becomes of them."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.results: dict[RunKey, list[datetime | Exception | None]] = {}
        self.gate: asyncio.Event | None = None
        self.at_once = 0
        self.most_at_once = 0

    async def process(self, key: RunKey) -> datetime | None:
        self.made.append(key.name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.gate is not None:
            await self.gate.wait()
        self.at_once -= 1
        result = self.results[key].pop(0) if self.results.get(key) else None
        if isinstance(result, Exception):
            raise result
        return result


@asynccontextmanager
async def at_work(passes: Passes, clock: FakeClock, workers: int = 4) -> AsyncIterator[Queue]:
    queue = Queue(passes.process, clock, workers=workers, jitter=lambda: 1.0)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle(done: Callable[[], bool] = lambda: False) -> None:
    """Let everything that is ready run."""
    for _ in range(50):
        if done():
            return
        await asyncio.sleep(0)


async def test_a_key_added_often_is_looked_at_once() -> None:
    passes = Passes()
    async with at_work(passes, FakeClock()) as queue:
        for _ in range(5):
            queue.add(A)
        await settle()
        assert passes.made == ["a"]


async def test_a_key_added_during_its_pass_is_looked_at_again_after_it_and_never_at_the_same_time() -> None:
    passes = Passes()
    passes.gate = asyncio.Event()
    async with at_work(passes, FakeClock()) as queue:
        queue.add(A)
        await settle()
        queue.add(A)
        queue.add(A)
        await settle()
        assert (passes.made, passes.at_once) == (["a"], 1)
        passes.gate.set()
        await settle()
        assert (passes.made, passes.most_at_once) == (["a", "a"], 1)


async def test_different_keys_are_looked_at_side_by_side_up_to_the_number_of_workers() -> None:
    passes = Passes()
    passes.gate = asyncio.Event()
    async with at_work(passes, FakeClock(), workers=2) as queue:
        for number in range(5):
            queue.add(RunKey(namespace="n", name=str(number)))
        await settle()
        assert (passes.at_once, queue.depth) == (2, 3)
        passes.gate.set()
        await settle()
        assert passes.made == ["0", "1", "2", "3", "4"]


async def test_a_pass_says_when_to_look_again() -> None:
    passes, clock = Passes(), FakeClock()
    passes.results[A] = [START + timedelta(seconds=10)]
    async with at_work(passes, clock) as queue:
        queue.add(A)
        await settle()
        clock.advance(9)
        await settle()
        assert passes.made == ["a"]
        clock.advance(1)
        await settle()
        assert passes.made == ["a", "a"]


async def test_the_latest_word_on_when_to_look_again_holds() -> None:
    passes, clock = Passes(), FakeClock()
    passes.results[A] = [START + timedelta(seconds=10), START + timedelta(seconds=100)]
    async with at_work(passes, clock) as queue:
        queue.add(A)
        await settle()
        queue.add(A)
        await settle()
        clock.advance(50)
        await settle()
        assert passes.made == ["a", "a"], "the wake-up at 10 s was replaced"
        assert queue.next_wake == START + timedelta(seconds=100)


async def test_a_clock_that_is_set_forward_does_not_put_a_deadline_off() -> None:
    passes, clock = Passes(), FakeClock()
    passes.results[A] = [START + timedelta(hours=5)]
    async with at_work(passes, clock) as queue:
        queue.add(A)
        await settle()
        clock._now += timedelta(hours=6)  # the time of day jumps; nobody's sleep ends
        clock.advance(30)
        await settle()
        assert passes.made == ["a", "a"]


async def test_a_pass_that_fails_is_repeated_later_and_holds_nobody_up() -> None:
    passes, clock = Passes(), FakeClock()
    passes.results[A] = [RuntimeError("no")]
    async with at_work(passes, clock) as queue:
        queue.add(A)
        queue.add(B)
        await settle()
        assert (passes.made, queue.failing) == (["a", "b"], 1)
        clock.advance(0.2)
        await settle()
        assert (passes.made, queue.failing) == (["a", "b", "a"], 0)


async def test_the_pause_after_failures_doubles_up_to_a_minute() -> None:
    passes, clock = Passes(), FakeClock()
    passes.results[A] = [RuntimeError(str(number)) for number in range(12)]
    async with at_work(passes, clock) as queue:
        queue.add(A)
        await settle()
        pauses = []
        while len(passes.made) < 12:
            before = len(passes.made)
            waited = 0.0
            while len(passes.made) == before:
                clock.advance(0.1)
                waited += 0.1
                await settle(lambda before=before: len(passes.made) > before)  # type: ignore[misc]  # a default, not an argument
            pauses.append(round(waited, 1))
        assert pauses[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6], abs=0.15)
        assert pauses[-1] == pytest.approx(60, abs=0.15)


async def test_the_age_of_the_oldest_key_is_told() -> None:
    passes, clock = Passes(), FakeClock()
    passes.gate = asyncio.Event()
    async with at_work(passes, clock, workers=1) as queue:
        queue.add(A)
        await settle()
        queue.add(B)
        clock.advance(7)
        assert queue.oldest_age == 7
        passes.gate.set()
        await settle()
        assert (queue.oldest_age, queue.idle) == (0.0, True)
