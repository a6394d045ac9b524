# SPDX-License-Identifier: Apache-2.0
"""Where handlers run: plain ones in threads, async ones in an event loop with a thread of its own.

The threads are daemons: a handler that never returns cannot keep the operator from ending.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Final

from kubesaga.executors.handler_call import HandlerCall

logger = logging.getLogger("kubesaga.activity_executor")

LAST_WORDS: Final = 1.0
"""Seconds that what is left in an event loop has to end when the loop is closed."""


class ThreadLane:
    """At most `limit` plain handlers at once, the next ones in order. Used in the operator's event loop only."""

    def __init__(self, limit: int, *, on_begin: Callable[[HandlerCall], None]) -> None:
        self._limit = limit
        self._on_begin = on_begin
        self._waiting: deque[HandlerCall] = deque()
        self._running = 0

    def submit(self, call: HandlerCall) -> bool:
        """Make the call in a thread. False: it has to wait."""
        call.assign(self)
        if self._running < self._limit:
            self._start(call)
            return True
        self._waiting.append(call)
        return False

    def drop(self, call: HandlerCall) -> None:
        """Let go of a call that was withdrawn."""
        with suppress(ValueError):
            self._waiting.remove(call)

    def _start(self, call: HandlerCall) -> bool:
        if not call.begin(self):
            return False
        run = partial(self._run, call, asyncio.get_running_loop())
        self._running += 1
        try:
            Thread(target=run, name=f"handler-{call.attempt.activity}", daemon=True).start()
        except RuntimeError as error:  # the system has no thread left
            self._running -= 1
            call.fail(error)
        return True

    def _run(self, call: HandlerCall, loop: asyncio.AbstractEventLoop) -> None:
        try:
            call.run()
        finally:
            post(loop, self._ended)

    def _ended(self) -> None:
        self._running -= 1
        while self._waiting and self._running < self._limit:
            call = self._waiting.popleft()
            if self._start(call):
                self._on_begin(call)


class LoopLane:
    """An event loop in a daemon thread, for async handlers. Its methods may be called from any thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._leaving = False
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: HandlerCall) -> bool:
        """Make the call in the event loop. False: it has begun elsewhere, or was withdrawn."""
        return call.assign(self) and post(self._loop, partial(self._begin, call))

    def _begin(self, call: HandlerCall) -> None:
        if call.begin(self):
            call.start_task()

    def cancel(self, call: HandlerCall, reason: str) -> None:
        """Raise CancelledError in a call that has begun here."""
        post(self._loop, partial(call.cancel, reason))

    def ping(self, answer: Callable[[], object]) -> None:
        """Have `answer` called in the event loop's thread, as soon as the loop is free."""
        post(self._loop, answer)

    def leave(self) -> None:
        """End the thread as soon as the loop is free; what still runs there is cancelled."""
        self._leaving = True
        post(self._loop, self._loop.stop)

    async def left(self, within: float) -> bool:
        """Wait until the thread has ended, at most so many seconds; tell whether it has."""
        await asyncio.to_thread(self._thread.join, within)
        return not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._leaving:
            try:
                self._loop.run_forever()
            except BaseException:  # SystemExit in a task that a handler made leaves run_forever
                logger.exception("A task that a handler left behind ended its event loop; the loop goes on")
        _close(self._loop)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    with suppress(BaseException):  # the last words of what handlers left behind are of no interest
        loop.run_until_complete(_settle(left))
    loop.close()


async def _settle(tasks: Iterable[asyncio.Task[object]]) -> None:
    tasks = set(tasks)
    if tasks:
        await asyncio.wait(tasks, timeout=LAST_WORDS)
    await asyncio.get_running_loop().shutdown_asyncgens()


def post(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
    """Call back in a loop's thread. False: the loop is closed.

    The context is an empty one: what the operator's variables hold is none of a handler's business, nor the reverse.
    """
    try:
        loop.call_soon_threadsafe(callback, context=contextvars.Context())
    except RuntimeError:  # closed: the operator ends, nobody waits for this any more
        return False
    return True
