# SPDX-License-Identifier: Apache-2.0
"""What tests of handlers are made of."""

from __future__ import annotations

import asyncio
import datetime
import threading
import time

from kubesaga.api.workflow import Activity
from kubesaga.engine.attempt import Attempt, AttemptId, RunKey, Stage
from kubesaga.executors.handlers import HandlerExecutor
from kubesaga.executors.registry import Registry

RUN = RunKey(namespace="support", name="ticket-1")


UID = "run-uid"


LIMIT = 65536


SOON = 10.0
"""Seconds after which a test gives up waiting; nothing here takes that long."""


def attempt_of(handler: str, number: int = 1, *, activity: str = "step", params=None) -> Attempt:
    return Attempt(
        id=AttemptId(run_uid=UID, activity=activity, number=number),
        run=RUN,
        workflow="tickets",
        activity=Activity(name=activity, handler=handler),
        input=params,
        deadline=datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC),
    )


class World:
    """An executor with a registry; waits for what its attempts come to."""

    def __init__(self, **options) -> None:
        self.registry = Registry()
        self.woken: list[RunKey] = []
        self.changed = asyncio.Event()
        self.wake_threads: set[int] = set()
        self.executor = HandlerExecutor(
            self.registry,
            self.wake,
            **{"monotonic": time.monotonic, "grace": 3.0, "max_output_bytes": LIMIT} | options,
        )

    def wake(self, run: RunKey) -> None:
        self.woken.append(run)
        self.wake_threads.add(threading.get_ident())
        self.changed.set()

    def add(self, function, handler_id: str = "it") -> None:
        self.registry.activity(handler_id)(function)

    async def start(self, handler: str = "it", number: int = 1, **more) -> AttemptId:
        attempt = attempt_of(handler, number, **more)
        await self.executor.start(attempt)
        return attempt.id

    def seen(self, attempt: AttemptId):
        return self.executor.observe(RUN, UID).get(attempt)

    async def until(self, attempt: AttemptId, stage: Stage):
        async with asyncio.timeout(SOON):
            while self.seen(attempt).stage is not stage:
                self.changed.clear()
                await self.changed.wait()
        return self.seen(attempt)

    async def outcome(self, attempt: AttemptId):
        return (await self.until(attempt, Stage.ENDED)).outcome

    async def call(self, function, **more):
        self.add(function)
        return await self.outcome(await self.start(**more))


async def soon(condition) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.002)


def nothing(_: object) -> None:
    """Make a handler of an expression."""


def raise_(error: BaseException):
    raise error


async def takes_nothing(params):
    return {}
