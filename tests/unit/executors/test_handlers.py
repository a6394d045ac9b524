# SPDX-License-Identifier: Apache-2.0
"""Handlers are called once an attempt, and are stopped and released."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest
from tests.unit.executors.handler_world import RUN, SOON, World, nothing, raise_, soon, takes_nothing

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import AttemptId, Failed, Stage, Succeeded, Unknown


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.executor.close()


@pytest.fixture
async def hasty():
    """Gives a stopped handler 0.1 s, and has two threads."""
    made = World(grace=0.1, threads=2)
    yield made
    await made.executor.close()


@pytest.fixture
def gate():
    """Holds threads until the test is over, at the latest."""
    event = threading.Event()
    yield event
    event.set()


async def test_wake_is_called_in_the_operators_thread_and_handlers_in_others(world):
    threads = []
    world.add(lambda params: threads.append(threading.get_ident()), "plain")

    async def asynchronous(params):
        threads.append(threading.get_ident())

    world.add(asynchronous, "async")
    await world.outcome(await world.start("plain", 1))
    await world.outcome(await world.start("async", 2))
    assert world.wake_threads == {threading.get_ident()}
    assert len(threads) == 2
    assert threading.get_ident() not in threads
    assert set(world.woken) == {RUN}


@pytest.mark.parametrize("state", ["live", "ended"])
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_second_start_of_an_attempt_does_nothing(world, gate, state, kind):
    calls = []

    def plain(params):
        calls.append(1)
        gate.wait(SOON)
        return {}

    async def asynchronous(params):
        calls.append(1)
        await asyncio.to_thread(gate.wait, SOON)
        return {}

    world.add(asynchronous if kind == "async" else plain)
    attempt = await world.start()
    await soon(lambda: calls)
    if state == "ended":
        gate.set()
        await world.outcome(attempt)
    await world.start()
    gate.set()
    assert await world.outcome(attempt) == Succeeded(output={})
    assert calls == [1]


async def test_a_released_attempt_is_forgotten_and_other_attempts_are_apart(world):
    world.add(lambda params: {})
    first, second = await world.start(number=1), await world.start(number=2)
    await world.outcome(first)
    await world.outcome(second)
    assert world.seen(first).held
    await world.executor.release(first, RUN)
    await world.executor.release(first, RUN)
    assert world.seen(first) is None
    assert world.seen(second).outcome == Succeeded(output={})
    assert world.executor.observe(RUN, "another uid") == {}


async def test_stopping_or_releasing_what_is_not_there_is_no_error(world):
    unknown = AttemptId(run_uid="u", activity="a", number=1)
    await world.executor.stop(unknown, RUN, "AttemptTimeout")
    await world.executor.release(unknown, RUN)
    assert world.executor.observe(RUN, "u") == {}


async def test_a_plain_handler_that_is_stopped_ends_at_once_and_its_late_result_is_dropped(world, gate):
    returned = threading.Event()

    def handler(params):
        gate.wait(SOON)
        returned.set()
        return {"late": True}

    world.add(handler)
    attempt = await world.start()
    await world.executor.stop(attempt, RUN, "AttemptTimeout")
    expected = Unknown(message="The handler was told to stop (AttemptTimeout) and its thread may still be running.")
    assert world.seen(attempt).outcome == expected
    gate.set()
    await asyncio.to_thread(returned.wait, SOON)
    world.add(lambda params: {}, "next")
    await world.outcome(await world.start("next", 2))
    assert world.seen(attempt).outcome == expected


async def test_a_waiting_handler_that_is_stopped_never_begins(hasty, gate):
    begun = []
    hasty.add(lambda params: begun.append(1) or nothing(gate.wait(SOON)))
    attempts = [await hasty.start(number=n) for n in (1, 2, 3)]
    await hasty.executor.stop(attempts[2], RUN, "Terminated")
    outcome = hasty.seen(attempts[2]).outcome
    assert outcome.message == "The handler was told to stop (Terminated) before it had begun."
    gate.set()
    await hasty.outcome(attempts[0])
    await hasty.outcome(attempts[1])
    assert begun == [1, 1]


async def test_an_async_handler_that_is_stopped_twice_gets_one_cancelled_error(world):
    raised, begun, over = [], threading.Event(), threading.Event()

    async def handler(params):
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raised.append("stopped")
            await asyncio.to_thread(over.wait, SOON)
            raised.append("cleaned up")
            raise

    world.add(handler)
    attempt = await world.start()
    await asyncio.to_thread(begun.wait, SOON)
    await world.executor.stop(attempt, RUN, "AttemptTimeout")
    await soon(lambda: raised)
    await world.executor.stop(attempt, RUN, "AttemptTimeout")
    await asyncio.sleep(0.02)  # what is not to come has no event
    over.set()
    expected = Unknown(message="The handler was stopped (AttemptTimeout) before it ended.")
    assert await world.outcome(attempt) == expected
    assert raised == ["stopped", "cleaned up"]


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        pytest.param(lambda: {"undone": True}, Succeeded(output={"undone": True}), id="it may end well"),
        pytest.param(
            lambda: raise_(ValueError("undo failed")),
            Failed(reason=Reason.HANDLER_FAILED, message="ValueError: undo failed"),
            id="it may fail",
        ),
    ],
)
async def test_a_cancelled_handler_that_ends_in_another_way_is_believed(world, ending, expected):
    begun = threading.Event()

    async def handler(params):
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return ending()

    world.add(handler)
    attempt = await world.start()
    await asyncio.to_thread(begun.wait, SOON)
    await world.executor.stop(attempt, RUN, "AttemptTimeout")
    assert await world.outcome(attempt) == expected


async def test_an_async_handler_that_ignores_cancellation_is_given_up_after_the_grace(hasty):
    begun, over, ended = threading.Event(), threading.Event(), threading.Event()

    async def handler(params):
        begun.set()
        while not over.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        ended.set()
        return {"late": True}

    hasty.add(handler)
    attempt = await hasty.start()
    await asyncio.to_thread(begun.wait, SOON)
    await hasty.executor.stop(attempt, RUN, "AttemptTimeout")
    assert hasty.seen(attempt).stage is Stage.RUNNING
    outcome = await hasty.outcome(attempt)
    assert outcome == Unknown(message="The handler was told to stop (AttemptTimeout) and had not ended 0.1s later.")
    over.set()
    await asyncio.to_thread(ended.wait, SOON)
    hasty.add(takes_nothing, "next")
    await hasty.outcome(await hasty.start("next", 2))
    assert hasty.seen(attempt).outcome == outcome


async def test_a_released_handler_is_stopped_and_its_end_is_not_that_of_a_new_start(world):
    begun, first_over, second_over = [], threading.Event(), threading.Event()

    async def handler(params):
        begun.append(1)
        if len(begun) == 2:
            await asyncio.to_thread(second_over.wait, SOON)
            return {"second": True}
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.to_thread(first_over.wait, SOON)
        return {"first": True}

    world.add(handler)
    attempt = await world.start()
    await soon(lambda: len(begun) == 1)
    await world.executor.release(attempt, RUN)
    await world.start()
    await soon(lambda: len(begun) == 2)
    first_over.set()
    await soon(lambda: len(world.executor._lanes) == 1)
    assert world.seen(attempt).stage is Stage.RUNNING
    second_over.set()
    assert await world.outcome(attempt) == Succeeded(output={"second": True})


async def test_memory_returns_to_where_it_was_after_release(world):
    class Token(dict):
        pass

    kept: list[weakref.ref] = []

    def plain(params):
        kept.append(weakref.ref(params["token"]))
        return {"x": "y" * 1000}

    async def asynchronous(params):
        return plain(params)

    world.add(plain, "plain")
    world.add(asynchronous, "async")
    for number in range(200):
        attempt = await world.start(["plain", "async"][number % 2], number, params={"token": Token()})
        await world.outcome(attempt)
        await world.executor.release(attempt, RUN)
    await soon(lambda: not world.executor._lanes)
    await soon(lambda: gc.collect() >= 0 and not [ref for ref in kept if ref() is not None])
    assert len(kept) == 200
    assert (len(world.executor._table), world.executor._calls, world.executor._stopping) == (0, {}, {})


async def test_closing_stops_everything_within_the_grace(gate):
    world = World()
    cancelled, begun = threading.Event(), threading.Event()

    async def polite(params):
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    world.add(polite, "polite")
    world.add(lambda params: nothing(gate.wait(SOON)), "deaf")
    first, second = await world.start("polite", 1), await world.start("deaf", 2)
    await asyncio.to_thread(begun.wait, SOON)
    started = time.monotonic()
    await world.executor.close()
    assert time.monotonic() - started < 2  # the polite one ends at once; the grace is 3 s
    assert cancelled.is_set()
    assert isinstance(world.seen(first).outcome, Unknown)
    assert isinstance(world.seen(second).outcome, Unknown)
    assert not [t for t in threading.enumerate() if t.name.startswith("handlers-")]
    with pytest.raises(RuntimeError, match="closed"):
        await world.start("polite", 3)
