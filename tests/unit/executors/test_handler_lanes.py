# SPDX-License-Identifier: Apache-2.0
"""What blocks a thread or the handlers' event loop holds up neither the operator nor, for long, other handlers."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import pytest
from tests.unit.executors.handler_world import RUN, SOON, World, nothing, soon, takes_nothing

from kubesaga.engine.attempt import Stage, Succeeded, Unknown


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.executor.close()


@pytest.fixture
async def hasty():
    """Counts an event loop as blocked after 0.1 s, and has two threads."""
    made = World(unresponsive_after=0.1, grace=0.1, threads=2)
    yield made
    await made.executor.close()


@pytest.fixture
def gate():
    """Holds threads until the test is over, at the latest."""
    event = threading.Event()
    yield event
    event.set()


async def test_plain_handlers_over_the_cap_wait_in_order(hasty, gate):
    order = []

    def handler(params):
        order.append(params["n"])
        gate.wait(SOON)
        return {}

    hasty.add(handler)
    attempts = [await hasty.start(number=n, params={"n": n}) for n in range(1, 6)]
    await soon(lambda: len(order) == 2)
    stages = [hasty.seen(attempt).stage for attempt in attempts]
    assert stages == [Stage.RUNNING, Stage.RUNNING, Stage.WAITING, Stage.WAITING, Stage.WAITING]
    assert "All 2 threads for handlers are taken" in hasty.seen(attempts[2]).message
    gate.set()
    for attempt in attempts:
        assert await hasty.outcome(attempt) == Succeeded(output={})
    assert sorted(order[:2]) == [1, 2]
    assert order[2] in (3, 4)
    assert sorted(order) == [1, 2, 3, 4, 5]


async def test_a_handler_told_to_stop_keeps_its_thread_until_it_returns(hasty, gate):
    hasty.add(lambda params: nothing(gate.wait(SOON)))
    hasty.add(lambda params: {}, "quick")
    for number in (1, 2):
        await hasty.executor.stop(await hasty.start(number=number), RUN, "AttemptTimeout")
    waiting = await hasty.start("quick", 3)
    assert hasty.seen(waiting).stage is Stage.WAITING
    gate.set()
    assert await hasty.outcome(waiting) == Succeeded(output={})


async def test_a_handler_that_blocks_its_event_loop_stops_neither_the_operator_nor_other_handlers(hasty, gate, caplog):
    hasty.add(takes_nothing, "quick")
    blocked = threading.Event()

    async def blocks(params):
        blocked.set()
        gate.wait(SOON)  # the mistake that this test is about
        return {"blocked": True}

    hasty.add(blocks, "blocks")
    first = await hasty.start("blocks", 1)
    await asyncio.to_thread(blocked.wait, SOON)
    second = await hasty.start("quick", 2)
    lag = time.monotonic()
    await asyncio.sleep(0)
    assert time.monotonic() - lag < 1
    assert await hasty.outcome(second) == Succeeded(output={})
    assert await hasty.outcome(await hasty.start("quick", 3)) == Succeeded(output={})
    assert hasty.seen(first).stage is Stage.RUNNING
    assert "A handler has blocked the handlers' event loop for 0.1s" in caplog.text
    gate.set()
    assert await hasty.outcome(first) == Succeeded(output={"blocked": True})
    await soon(lambda: not any(t.name == "handlers-1" for t in threading.enumerate()))


async def test_a_blocked_handler_that_is_stopped_is_given_up(hasty, gate):
    blocked = threading.Event()

    async def blocks(params):
        blocked.set()
        gate.wait(SOON)  # the mistake that this test is about

    hasty.add(blocks)
    attempt = await hasty.start()
    await asyncio.to_thread(blocked.wait, SOON)
    await hasty.executor.stop(attempt, RUN, "AttemptTimeout")
    outcome = await hasty.outcome(attempt)
    assert outcome == Unknown(message="The handler was told to stop (AttemptTimeout) and had not ended 0.1s later.")


async def test_a_stopped_handler_that_had_not_begun_in_a_blocked_event_loop_never_begins(world, gate):
    blocked, begun = threading.Event(), []

    async def blocks(params):
        blocked.set()
        gate.wait(SOON)  # the mistake that this test is about

    async def late(params):
        begun.append(1)

    world.add(blocks, "blocks")
    world.add(late, "late")
    first = await world.start("blocks", 1)
    await asyncio.to_thread(blocked.wait, SOON)
    second = await world.start("late", 2)
    await world.executor.stop(second, RUN, "Terminated")
    assert "before it had begun" in world.seen(second).outcome.message
    gate.set()
    assert await world.outcome(first) == Succeeded()
    world.add(takes_nothing, "next")
    await world.outcome(await world.start("next", 3))
    assert begun == []


async def test_only_so_many_event_loops_are_set_aside(hasty, gate):
    begun = []

    async def blocks(params):
        begun.append(params["n"])
        gate.wait(SOON)  # the mistake that this test is about

    hasty.add(blocks)
    for number in range(1, 6):
        await hasty.start(number=number, params={"n": number})
        if number <= 3:
            await soon(lambda number=number: len(begun) == number)
    await asyncio.sleep(0.3)  # three times the time after which a loop would be set aside
    assert begun == [1, 2, 3]
    assert len([t for t in threading.enumerate() if t.name.startswith("handlers-")]) == 3
    gate.set()
    await soon(lambda: len(begun) == 5)


async def test_a_slow_clock_does_not_set_a_healthy_loop_aside(caplog):
    now = [0.0]
    world = World(monotonic=lambda: now.append(now[-1] + 60) or now[-1], unresponsive_after=0.5)
    release = threading.Event()

    async def waits(params):
        while not release.is_set():
            await asyncio.sleep(0.005)
        return {"thread": threading.current_thread().name}

    world.add(waits)
    attempt = await world.start()
    await soon(lambda: len(now) > 4)
    release.set()
    assert await world.outcome(attempt) == Succeeded(output={"thread": "handlers-1"})
    assert "has blocked" not in caplog.text
    await world.executor.close()


async def test_a_task_that_a_handler_leaves_behind_cannot_end_the_event_loop(world, caplog):
    async def exits():
        sys.exit(7)

    async def handler(params):
        params["task"] = asyncio.get_running_loop().create_task(exits())
        return {}

    world.add(handler)
    assert await world.outcome(await world.start()) == Succeeded(output={})
    assert await world.outcome(await world.start(number=2)) == Succeeded(output={})
    await soon(lambda: "the loop goes on" in caplog.text)


async def test_closing_does_not_wait_for_a_blocked_event_loop(gate):
    world = World(grace=0.1)
    begun = threading.Event()

    async def blocks(params):
        begun.set()
        gate.wait(SOON)  # the mistake that this test is about

    world.add(blocks)
    await world.start()
    await asyncio.to_thread(begun.wait, SOON)
    started = time.monotonic()
    await world.executor.close()
    assert time.monotonic() - started < 4
