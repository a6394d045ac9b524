# SPDX-License-Identifier: Apache-2.0
"""Attempts that are Python functions in the operator's process, registered with `@kubesaga.activity`.

No handler runs in the operator's event loop: plain ones get a thread each, async ones share an event loop in a thread
of its own. If a handler blocks that loop, it is set aside with what has begun there, and the others get a fresh one.
"""

from __future__ import annotations

import asyncio
import difflib
import itertools
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Attempt, AttemptId, Failed, Observation, Outcome, RunKey, Unknown
from kubesaga.executors.base import Wake
from kubesaga.executors.handler_call import HandlerCall
from kubesaga.executors.handler_lanes import LAST_WORDS, LoopLane, ThreadLane, post
from kubesaga.executors.in_process import AttemptTable, MayBegin, always, shortened
from kubesaga.executors.registry import Registry

logger = logging.getLogger("kubesaga.activity_executor")

_PINGS: Final = 5
"""How often an event loop is looked at in the time after which it counts as blocked."""


class HandlerExecutor:
    """Carries out `handler` attempts. To be used in one event loop, and closed.

    `monotonic` is a monotonic clock in seconds. `threads` bounds the plain handlers that run at once; one that was told
    to stop keeps its thread until it returns. `grace` is how long an async handler may take to end after it was
    cancelled, `unresponsive_after` how long it may keep the event loop of the handlers from everyone else (seconds).
    """

    def __init__(
        self,
        registry: Registry,
        wake: Wake,
        *,
        monotonic: Callable[[], float],
        threads: int = 32,
        max_output_bytes: int = 65536,
        grace: float = 5.0,
        unresponsive_after: float = 5.0,
        may_begin: MayBegin = always,
    ) -> None:
        self._registry = registry
        self._table = AttemptTable(wake)
        self._monotonic = monotonic
        self._limit = threads
        self._max_output_bytes = max_output_bytes
        self._grace = grace
        self._unresponsive_after = unresponsive_after
        self._may_begin = may_begin
        self._threads = ThreadLane(threads, on_begin=lambda call: self._table.run(call.attempt))
        self._calls: dict[AttemptId, HandlerCall] = {}
        self._stopping: dict[AttemptId, asyncio.TimerHandle] = {}
        self._lanes: dict[HandlerCall, LoopLane] = {}
        """Where the async calls are, those included whose attempt was ended without them."""
        self._lane: LoopLane | None = None
        self._set_aside: set[LoopLane] = set()
        self._asked: float | None = None
        """Since when the lane owes an answer."""
        self._watching: asyncio.TimerHandle | None = None
        self._numbers = itertools.count(1)
        self._emptied = asyncio.Event()
        """Set while no async call is anywhere."""
        self._closed = False

    async def start(self, attempt: Attempt) -> None:
        """See Executor."""
        if self._closed:
            raise RuntimeError("the executor of handlers is closed")
        if not self._table.begin(attempt):
            return
        handler = self._registry.find(attempt.activity.handler or "")
        if handler is None:
            self._table.end(attempt.id, _not_found(attempt.activity.handler or "", self._registry))
            return
        loop = asyncio.get_running_loop()
        call = HandlerCall(
            handler,
            attempt,
            max_output_bytes=self._max_output_bytes,
            may_begin=self._may_begin,
            on_end=lambda call, outcome: post(loop, partial(self._ended, call, outcome)),
        )
        self._calls[attempt.id] = call
        if handler.is_async:
            self._submit(call)
            self._keep_watch()
        elif not self._threads.submit(call):
            message = f"All {self._limit} threads for handlers are taken (KUBESAGA_HANDLER_THREADS)."
            self._table.wait(attempt.id, message)

    def observe(self, run: RunKey, run_uid: str) -> Mapping[AttemptId, Observation]:  # noqa: ARG002 - see Executor
        """See Executor."""
        return self._table.observe(run_uid)

    async def stop(self, attempt: AttemptId, run: RunKey, reason: str) -> None:  # noqa: ARG002 - see Executor
        """See Executor. An async handler is cancelled, once; a thread cannot be, so its attempt ends without it."""
        call = self._calls.get(attempt)
        if call is None or attempt in self._stopping or not self._table.is_live(attempt):
            return
        lane = self._lanes.get(call)
        if self._withdraw(call):
            message = f"The handler was told to stop ({reason}) before it had begun."
            self._table.end(attempt, Failed(reason=Reason.HANDLER_FAILED, message=message))
        elif lane is None:
            message = f"The handler was told to stop ({reason}) and its thread may still be running."
            self._table.end(attempt, Unknown(message=message))
        else:
            lane.cancel(call, reason)
            message = f"The handler was told to stop ({reason}) and had not ended {self._grace:g}s later."
            give_up = partial(self._table.end, attempt, Unknown(message=message))
            self._stopping[attempt] = asyncio.get_running_loop().call_later(self._grace, give_up)

    async def release(self, attempt: AttemptId, run: RunKey) -> None:  # noqa: ARG002 - see Executor
        """See Executor. What is still running is stopped, and its result is nobody's any more."""
        self._table.forget(attempt)
        call = self._calls.get(attempt)
        lane = None if call is None else self._lanes.get(call)
        stopped = attempt in self._stopping
        self._let_go(attempt)
        if call is not None and not self._withdraw(call) and lane is not None and not stopped:
            lane.cancel(call, "nobody waits for it any more")

    def runs_at(self, run: RunKey) -> set[str]:
        """See Executor."""
        return self._table.runs_at(run)

    async def close(self) -> None:
        """Stop everything and wait until it has ended, for the grace at most. Nothing can be started after that."""
        self._closed = True
        for attempt in self._table.live():
            await self.stop(attempt, RunKey(namespace="", name=""), "the operator ends")
        if self._lanes:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), self._grace)
        for attempt in list(self._stopping):
            self._let_go(attempt)
        if self._watching is not None:
            self._watching.cancel()
        lanes = self._set_aside | ({self._lane} if self._lane is not None else set())
        for lane in lanes:
            lane.leave()
        await asyncio.gather(*(lane.left(within=2 * LAST_WORDS) for lane in lanes))

    def _submit(self, call: HandlerCall) -> None:
        if self._lane is None:
            self._lane = LoopLane(f"handlers-{next(self._numbers)}")
        if self._lane.submit(call):
            self._lanes[call] = self._lane
            self._emptied.clear()

    def _ended(self, call: HandlerCall, outcome: Outcome | None) -> None:
        if self._calls.get(call.attempt) is call:  # else it was released, and a new start may have come after
            if outcome is None:
                self._table.put_off(call.attempt)
            else:
                self._table.end(call.attempt, outcome)
            self._let_go(call.attempt)
        self._leave_lane(call)

    def _let_go(self, attempt: AttemptId) -> None:
        self._calls.pop(attempt, None)
        timer = self._stopping.pop(attempt, None)
        if timer is not None:
            timer.cancel()

    def _withdraw(self, call: HandlerCall) -> bool:
        if not call.withdraw():
            return False
        self._calls.pop(call.attempt, None)
        self._threads.drop(call)
        self._leave_lane(call)
        return True

    def _leave_lane(self, call: HandlerCall) -> None:
        lane = self._lanes.pop(call, None)
        if lane in self._set_aside and lane not in self._lanes.values():
            self._set_aside.discard(lane)
            lane.leave()
        if not self._lanes:
            self._emptied.set()

    def _keep_watch(self) -> None:
        if self._watching is None:
            interval = self._unresponsive_after / _PINGS
            self._watching = asyncio.get_running_loop().call_later(interval, self._watch)

    def _watch(self) -> None:
        """Ask the lane for an answer, while there is something in it; set it aside when it owes one for too long."""
        self._watching = None
        lane, now = self._lane, self._monotonic()
        if lane is None or lane not in self._lanes.values():
            return
        if self._asked is None:
            self._asked = now
            loop = asyncio.get_running_loop()
            lane.ping(lambda: post(loop, partial(self._answered, lane)))
        elif now - self._asked >= self._unresponsive_after and len(self._set_aside) < self._limit:
            self._replace(lane)
        self._keep_watch()

    def _answered(self, lane: LoopLane) -> None:
        if lane is self._lane:
            self._asked = None

    def _replace(self, lane: LoopLane) -> None:
        calls = [call for call, place in self._lanes.items() if place is lane]
        logger.error(
            "A handler has blocked the handlers' event loop for %gs; others get a fresh one. Running there: %s",
            self._unresponsive_after, ", ".join(sorted({call.attempt.activity for call in calls})),
        )  # fmt: skip
        self._lane, self._asked = None, None
        self._set_aside.add(lane)
        for call in calls:
            self._submit(call)  # those that have begun stay where they are
        if lane not in self._lanes.values():
            self._set_aside.discard(lane)
            lane.leave()


def _not_found(handler_id: str, registry: Registry) -> Failed:
    """Say how a handler becomes known, and which names are near."""
    near = difflib.get_close_matches(handler_id, list(registry), n=3)
    known = f" Did you mean {' or '.join(near)}?" if near else f" {len(registry)} others are registered."
    message = (
        f"No handler {handler_id!r} is registered in the operator: decorate a function with "
        f'@kubesaga.activity("{handler_id}") and load its module with --handlers MODULE (KUBESAGA_HANDLERS).{known}'
    )
    return Failed(reason=Reason.HANDLER_NOT_FOUND, message=shortened(message), retryable=False)
