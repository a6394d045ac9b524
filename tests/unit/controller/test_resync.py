# SPDX-License-Identifier: Apache-2.0
"""What the watch did not tell is found by comparing, of runs and of actions, and a watch that misses things is not healthy."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.kube.server import ApiServer

from kubesaga.api.names import FINISHED_LABEL
from kubesaga.controller.kube_actions import KubeActions
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.resync import Resync, Watched
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.client import KubeClient
from kubesaga.kube.resources import WORKFLOW_ACTIONS, WORKFLOW_RUNS
from kubesaga.testing.clock import FakeClock

KEY = RunKey(namespace="shop", name="x")


class Look:
    """A comparison of both kinds, and what comes of it."""

    def __init__(self, server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
        self.server = server
        self.added: list[str] = []
        self.missed = 0
        actions = KubeActions(client, now=clock.now, wake=lambda _: None, look=lambda _: None)
        self.memories: dict[str, KubeRecords | KubeActions] = {
            "workflowruns": KubeRecords(client),
            "workflowactions": actions,
        }
        watched = [
            Watched(resource=resource, memory=self.memories[resource.plural], add=self._add(resource.plural))
            for resource in (WORKFLOW_RUNS, WORKFLOW_ACTIONS)
        ]
        self.resync = Resync(client, watched, namespaces=(), missed=self._missed, clock=clock, interval=60)

    def _add(self, plural: str) -> Any:
        return lambda key: self.added.append(f"{plural} {key}")

    def _missed(self, count: int) -> None:
        self.missed += count

    async def put(self, plural: str, *, told: bool = False, **metadata: Any) -> None:
        """Store an object; let the watch tell of it."""
        body = {"metadata": {"namespace": KEY.namespace, "name": KEY.name, **metadata}, "spec": {}}
        stored = await self.server.put(plural, body)
        if told:
            self.memories[plural].saw(KEY, {**stored, "metadata": dict(stored["metadata"])})


@pytest.fixture
def look(server: ApiServer, client: KubeClient, clock: FakeClock) -> Look:
    return Look(server, client, clock)


both = pytest.mark.parametrize("plural", ["workflowruns", "workflowactions"])


@both
async def test_what_the_watch_told_is_not_missed(look: Look, plural: str) -> None:
    await look.put(plural, told=True)
    for _ in range(3):
        await look.resync.look()
    assert (look.added, look.missed, look.resync.healthy) == ([], 0, True)


@both
async def test_what_is_done_with_need_not_be_told(look: Look, plural: str) -> None:
    await look.put(plural, labels={FINISHED_LABEL: "true"})
    for _ in range(3):
        await look.resync.look()
    assert look.added == []


@both
async def test_what_the_watch_has_not_told_for_a_whole_interval_is_looked_at(look: Look, plural: str) -> None:
    await look.put(plural)
    await look.resync.look()
    assert look.added == [], "the watch may be about to tell of it"
    await look.resync.look()
    assert (look.added, look.missed) == ([f"{plural} shop/x"], 1)


@both
async def test_a_deletion_that_the_watch_has_not_told_is_looked_at(look: Look, plural: str) -> None:
    await look.put(plural, told=True)
    await look.server.remove(plural, KEY.namespace, KEY.name)
    await look.resync.look()
    await look.resync.look()
    assert look.added == [f"{plural} shop/x"]


async def test_a_watch_that_misses_things_twice_in_a_row_is_not_healthy_until_it_does_not(look: Look) -> None:
    await look.put("workflowactions")
    for healthy in (True, True, False):
        await look.resync.look()
        assert look.resync.healthy is healthy
    await look.put("workflowactions", told=True)
    await look.resync.look()
    assert look.resync.healthy


async def test_a_kind_that_cannot_be_listed_keeps_nobody_from_comparing_the_other(look: Look) -> None:
    await look.put("workflowactions")
    await look.resync.look()
    look.server.fail("GET", (403, {"kind": "Status", "reason": "Forbidden", "message": "no"}))
    await look.resync.look()
    assert look.added == ["workflowactions shop/x"]
