# SPDX-License-Identifier: Apache-2.0
"""A memory that goes on from where another one was: told are the changes since, with what there was before them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.kube.conftest import Clock
from tests.unit.kube.server import ApiServer, until
from tests.unit.kube.test_informer import Memory, pod

from kubesaga.kube.client import KubeClient
from kubesaga.kube.errors import ApiError, Gone, ServerUnavailable


async def test_it_tells_each_change_since_and_nothing_of_before(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    for name in ("a", "b", "c"):
        await server.put("pods", pod(name))
    place = server.version
    await server.put("pods", pod("a", labels={"x": "1"}))
    await server.put("pods", pod("a", labels={"x": "2"}))
    await server.remove("pods", "support", "b")
    await server.put("pods", pod("d"))
    seen: list[Any] = []
    memory = Memory(client, clock, page=2)
    memory.on_change(lambda _key, old, _new: seen.append(old and old["metadata"].get("labels")))
    await memory.resume(place)
    assert memory.told == []
    assert (memory.synced, memory.position, len(memory.store)) == (True, place, 3)
    assert all("managedFields" not in obj["metadata"] for obj in memory.store.values())
    async with memory.running():
        await until(lambda: len(memory.told) == 4)
    assert memory.told == ["~a", "~a", "-b", "+d"]
    assert seen == [None, {"x": "1"}, None, None], "with the state before each"
    assert memory.position == server.version


async def test_where_the_watch_does_not_reach_back_it_compares(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    """A server's memory for watches is shorter than its memory for listings, and empty after it has started."""
    await server.put("pods", pod("a"))
    await server.put("pods", pod("b"))
    memory = Memory(client, clock)
    await memory.resume(server.version)
    await server.remove("pods", "support", "b")
    await server.put("pods", pod("c"))
    server.compact()
    async with memory.running():
        await until(lambda: len(memory.told) == 2)
    assert sorted(memory.told) == ["+c", "-b"]


async def test_a_version_that_is_forgotten_is_told_and_leaves_it_as_it_was(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    await server.put("pods", pod("a"))
    server.compact()
    memory = Memory(client, clock, consistent=True)
    with pytest.raises(Gone):
        await memory.resume(server.version - 1)
    assert (memory.synced, memory.position) == (False, 0)
    async with memory.running():
        assert memory.told == ["+a"]
    assert [request.query.get("resourceVersion") for request in server.requests][:2] == [str(server.version - 1), None]


async def test_a_version_that_is_yet_to_come_is_refused(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    with pytest.raises(ServerUnavailable) as caught:
        await Memory(client, clock).resume(server.version + 1)
    assert caught.value.has_cause("ResourceVersionTooLarge")


async def test_what_interrupts_it_is_told(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    troubles: list[ApiError] = []
    memory = Memory(client, clock, troubled=troubles.append)
    server.fail("GET", (403, {"reason": "Forbidden", "message": "no"}), (503, {}))
    async with memory.running():
        assert [trouble.status for trouble in troubles] == [403, 503]
