# SPDX-License-Identifier: Apache-2.0
"""What a new leader takes in before anybody is let in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from kubesaga.api.fields import format_time
from kubesaga.controller.guards.all import Guards
from kubesaga.controller.inventory import Inventory
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.engine.attempt import RunKey
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
