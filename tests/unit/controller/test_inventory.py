# SPDX-License-Identifier: Apache-2.0
"""What a new leader takes in before anybody is let in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from kubesaga.api.fields import format_time
from kubesaga.controller.guards.all import Guards
from kubesaga.controller.inventory import Inventory
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.errors import ServerUnavailable, TooManyRequests
from kubesaga.testing.clock import START, FakeClock
from kubesaga.testing.unguarded import open_ledger


class _Cluster:
    """One Workflow, and its runs on pages of one each."""

    def __init__(self, concurrency: dict[str, Any], *runs: dict[str, Any]) -> None:
        self._concurrency = concurrency
        self._runs = runs

    async def list(self, *_: object) -> Any:
        spec = {"concurrency": self._concurrency, "activities": [{"name": "a", "handler": "a"}]}
        return SimpleNamespace(items=[{"metadata": {"namespace": "shop", "name": "order"}, "spec": spec}])

    async def pages(self, *_: object) -> AsyncIterator[Any]:
        for run in self._runs:
            yield SimpleNamespace(items=[run])


def body(name: str, **status: Any) -> dict[str, Any]:
    metadata = {
        "namespace": "shop", "name": name, "uid": f"uid-{name}", "resourceVersion": "7", "generation": 1,
        "creationTimestamp": format_time(START),
    }  # fmt: skip
    return {"metadata": metadata, "spec": {"workflowRef": {"name": "order"}}, "status": status}


class _Busy(_Cluster):
    """It asks for patience at first, and breaks off in the middle of a listing."""

    def __init__(self, *runs: dict[str, Any]) -> None:
        super().__init__({"maxWorkflows": 1}, *runs)
        self.faults = [
            TooManyRequests(429, "TooManyRequests", "wait", retry_after=7),
            ServerUnavailable(500, "InternalError", "no"),
        ]

    async def list(self, *_: object) -> Any:
        if len(self.faults) == 2:
            raise self.faults.pop(0)
        return await super().list()

    async def pages(self, *_: object) -> AsyncIterator[Any]:
        async for page in super().pages():
            yield page
            if self.faults:
                raise self.faults.pop()


async def test_a_server_that_cannot_list_now_is_asked_again_until_it_can() -> None:
    """To end instead would have the supervisor start us again, later each time."""
    holds = body("a", phase="Running", startTime=format_time(START))
    cluster: Any = _Busy(holds, body("b", phase="Running", startTime=format_time(START)))
    clock, added = FakeClock(), list[RunKey]()
    ledger = open_ledger()
    given: Any = clock
    limits = LiveLimits(ledger, Guards(None, given, on_change=lambda _key: None), given)
    inventory = Inventory(cluster, KubeRecords(cluster), ledger, limits, namespaces=(), catalogue="", clock=given)
    taking = asyncio.create_task(inventory.take(added.append))
    slept = []
    while not taking.done():
        await asyncio.sleep(0)
        if not taking.done() and clock.asleep:
            slept.append(clock.until_next)
            clock.advance(clock.until_next)
    assert (await taking, slept) == (2, [7, 2])
    assert sorted(key.name for key in set(added)) == ["a", "b"]
    assert sorted(ledger.runs.holders) == [("uid-a", None), ("uid-b", None)]


async def test_nobody_is_let_in_before_all_who_hold_are_known() -> None:
    """The run that waits stands on an earlier page than the one that holds the only slot."""
    waits = body("a", phase="Queued", queue={"blockedBy": "maxWorkflows", "since": format_time(START)})
    holds = body("z", phase="Running", startTime=format_time(START))
    broken = body("x", phase="Running", startTime="yesterday")
    cluster: Any = _Cluster({"maxWorkflows": 1}, waits, broken, holds)
    woken: list[RunKey] = []
    added: list[RunKey] = []
    ledger = open_ledger(woken.append)
    clock: Any = FakeClock()
    limits = LiveLimits(ledger, Guards(None, clock, on_change=lambda _key: None), clock)
    inventory = Inventory(cluster, KubeRecords(cluster), ledger, limits, namespaces=(), catalogue="", clock=clock)
    assert await inventory.take(added.append) == 3
    assert ([key.name for key in added], woken) == (["a", "x", "z"], [])
    assert (list(ledger.runs.holders), list(ledger.runs.waiting)) == ([("uid-z", None)], [("uid-a", None)])
