# SPDX-License-Identifier: Apache-2.0
"""The memory of a watch: what it tells after gaps, out of order, from servers that lag, and after silence."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tests.unit.kube.conftest import Clock
from tests.unit.kube.server import ApiServer, until

from kubesaga.kube.client import EVERYTHING, KubeClient, Object, Selection
from kubesaga.kube.informer import Informer, Key, controller_uid, label
from kubesaga.kube.resources import PODS


def pod(name: str, *, namespace: str = "support", **metadata: Any) -> Object:
    return {"metadata": {"name": name, "namespace": namespace, **metadata}}


class Memory(Informer):
    """An informer that keeps what it told, as `+name`, `~name`, `-name` with versions."""

    def __init__(self, client: KubeClient, clock: Clock, selection: Selection = EVERYTHING, **more: Any) -> None:
        options: dict[str, Any] = {"clock": clock, "sleep": clock.sleep, "random": lambda: 0.5}
        super().__init__(client, PODS, selection, **(options | more))
        self.told: list[str] = []
        self.on_change(self._tell_test)

    def _tell_test(self, key: Key, old: Object | None, new: Object | None) -> None:
        sign = "+" if old is None else "-" if new is None else "~"
        self.told.append(f"{sign}{key[1]}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.run())
        try:
            await self.wait_synced()
            yield
        finally:
            assert not task.done(), "an informer ends only by being cancelled"
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


# The plain case


async def test_it_knows_what_is_there_and_what_happens(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    await server.put("pods", pod("a"))
    memory = Memory(client, clock)
    async with memory.running():
        assert memory.told == ["+a"]
        await server.put("pods", pod("b"))
        await server.put("pods", pod("a"))
        await server.remove("pods", "support", "a")
        await until(lambda: "-a" in memory.told)
    assert memory.told == ["+a", "+b", "~a", "-a"]
    assert list(memory.store) == [("support", "b")]


async def test_it_lists_cheaply_in_pages_and_watches_from_there(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    for number in range(3):
        await server.put("pods", pod(f"p{number}", labels={"app": "a"}))
    await server.put("pods", pod("foreign"))
    memory = Memory(client, clock, Selection(namespace="support", labels="app=a"), page=2)
    async with memory.running():
        await until(lambda: server.watching)
    assert [request.query.get("resourceVersion") for request in server.requests] == ["0", None, "104"]
    assert all(request.query["labelSelector"] == "app=a" for request in server.requests)
    assert len(memory.store) == 3


async def test_managed_fields_are_not_kept(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    await server.put("pods", pod("a"))
    memory = Memory(client, clock)
    async with memory.running():
        await server.put("pods", pod("b"))
        await until(lambda: len(memory.store) == 2)
        adopted = await client.create(PODS, "support", pod("c"))
        memory.adopt(adopted)
    assert not any("managedFields" in obj["metadata"] for obj in memory.store.values())
    assert "managedFields" in adopted["metadata"], "the caller's object stays as it was"


async def test_the_same_version_is_told_once(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    await server.put("pods", pod("a"))
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        await server.say("MODIFIED", "pods", copy.deepcopy(server.objects["pods", "support", "a"]))
        server.compact()
        await server.end_watches()
        await server.put("pods", pod("end"))
        await until(lambda: "+end" in memory.told)
    assert memory.told == ["+a", "+end"]


# The index


async def test_objects_are_found_by_their_owner(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    def owned(name: str, uid: str) -> Object:
        return pod(name, ownerReferences=[{"uid": "x"}, {"uid": uid, "controller": True}])

    memory = Memory(client, clock)
    await server.put("pods", owned("a", "run-1"))
    await server.put("pods", owned("b", "run-1"))
    await server.put("pods", owned("c", "run-2"))
    await server.put("pods", pod("d"))
    async with memory.running():
        assert [obj["metadata"]["name"] for obj in memory.by_owner("run-1")] == ["a", "b"]
        await server.put("pods", owned("a", "run-2"))
        await server.remove("pods", "support", "b")
        await until(lambda: "-b" in memory.told)
        assert memory.by_owner("run-1") == memory.by_owner("x") == []
        assert {obj["metadata"]["name"] for obj in memory.by_owner("run-2")} == {"a", "c"}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param({}, (None, None), id="neither"),
        pytest.param({"labels": {"run": "r"}}, (None, "r"), id="a label"),
        pytest.param({"ownerReferences": [{"uid": "u"}]}, (None, None), id="an owner that does not control"),
        pytest.param({"ownerReferences": [{"uid": "u", "controller": True}]}, ("u", None), id="a controller"),
    ],
)
def test_index_keys(metadata: Object, expected: tuple[str | None, str | None]) -> None:
    assert (controller_uid(pod("a", **metadata)), label("run")(pod("a", **metadata))) == expected


# Gaps


async def test_what_vanished_in_a_gap_is_told(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    await server.put("pods", pod("a"))
    await server.put("pods", pod("b"))
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        await server.remove("pods", "support", "a", event=False)
        await server.put("pods", pod("b"), event=False)
        await server.put("pods", pod("c"), event=False)
        server.compact()
        clock.advance(300)
        await server.end_watches()
        await until(lambda: "-a" in memory.told)
        assert memory.told == ["+a", "+b", "~b", "+c", "-a"]
    assert set(clock.slept) == {0.0}, "the first gap is closed at once"


async def test_one_made_again_under_its_name_in_a_gap_is_two_changes(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    await server.put("pods", pod("a", ownerReferences=[{"uid": "run-1", "controller": True}]))
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        await server.remove("pods", "support", "a", event=False)
        await server.put("pods", pod("a"), event=False)
        server.compact()
        await server.end_watches()
        await until(lambda: len(memory.told) == 3)
        assert memory.told == ["+a", "-a", "+a"]
        assert memory.by_owner("run-1") == []


async def test_gone_in_the_stream_is_a_gap_too(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    await server.put("pods", pod("a"))
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        await server.remove("pods", "support", "a", event=False)
        server.compact()
        error = {"kind": "Status", "code": 410, "reason": "Expired", "metadata": {"resourceVersion": "1"}}
        await server.say("ERROR", "pods", error)
        await until(lambda: "-a" in memory.told)


async def test_gaps_without_end_are_closed_with_pauses(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    memory = Memory(client, clock)
    gone = (410, {"kind": "Status", "code": 410, "reason": "Expired"})
    server.fail("WATCH", *[gone] * 4)
    async with memory.running():
        await until(lambda: server.watching)
    assert clock.slept == [0.0, 1.5, 3.0, 6.0]


async def test_pages_that_expire_are_listed_again_from_the_state_now(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    await server.put("pods", pod("a"))
    server.fail("GET", (410, {"kind": "Status", "code": 410, "reason": "Expired"}))
    memory = Memory(client, clock)
    async with memory.running():
        assert memory.told == ["+a"]
    lists = [request.query for request in server.requests if "watch" not in request.query]
    assert [query.get("resourceVersion") for query in lists] == ["0", None]


# Servers that lag, events out of order


async def test_a_server_that_lags_behind_is_not_believed(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    await server.put("pods", pod("a"))
    behind = (server.version, dict(server.objects))
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        await server.put("pods", pod("b"))
        await server.remove("pods", "support", "a")
        await until(lambda: "-a" in memory.told)
        server.cached = behind
        server.compact()
        await server.end_watches()
        await server.put("pods", pod("end"))
        await until(lambda: "+end" in memory.told)
    assert memory.told == ["+a", "+b", "-a", "+end"], "neither is a resurrected nor b lost"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(("MODIFIED", "50"), ["+a"], id="an older copy is ignored"),
        pytest.param(("DELETED", "50"), ["+a"], id="the deletion of an older copy is ignored"),
        pytest.param(("ADDED", "101"), ["+a"], id="the same copy is ignored"),
        pytest.param(("MODIFIED", "1000"), ["+a", "~a"], id="versions are compared as numbers"),
        pytest.param(("DELETED", "101"), ["+a", "-a"], id="one that leaves the selector, with its last version"),
    ],
)
async def test_time_never_runs_backwards(
    server: ApiServer, client: KubeClient, clock: Clock, event: tuple[str, str], expected: list[str]
) -> None:
    await server.put("pods", pod("a"))
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        await server.put("pods", pod("first"))
        await until(lambda: "+first" in memory.told)
        type_, version = event
        await server.say(type_, "pods", pod("a", resourceVersion=version, uid="uid-101"))
        await server.put("pods", pod("end"))
        await until(lambda: "+end" in memory.told)
    assert [told for told in memory.told if told[1:] == "a"] == expected


async def test_a_watch_goes_on_after_the_last_bookmark(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        clock.advance(30)
        await server.say("BOOKMARK", "pods", {"metadata": {"resourceVersion": "500"}})
        await until(lambda: memory.last_contact == 1030.0)
        await server.end_watches()
        await until(lambda: server.requests[-1].query.get("resourceVersion") == "500")
    assert memory.told == []


async def test_a_restored_cluster_is_believed_after_a_consistent_look(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    await server.put("pods", pod("a"))
    await server.put("pods", pod("b"))
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        del server.objects["pods", "support", "b"]
        server.version = 50
        server.objects["pods", "support", "a"]["metadata"]["resourceVersion"] = "40"
        server.fail("WATCH", (410, {"kind": "Status", "code": 410, "reason": "Expired"}))
        await server.end_watches()
        await until(lambda: "-b" in memory.told)
        assert memory.store["support", "a"]["metadata"]["resourceVersion"] == "40"
        await until(lambda: server.watching)
        assert server.requests[-1].query["resourceVersion"] == "50"


# Trouble


async def test_trouble_is_met_with_growing_pauses_that_never_end(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    server.fail("GET", *[(503, b"down")] * 8)
    memory = Memory(client, clock)
    async with memory.running():
        pass
    assert clock.slept == [0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5, 22.5]


async def test_the_time_that_the_server_asks_for_is_waited(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    server.fail("GET", (429, b"slow down", {"Retry-After": "9"}))
    memory = Memory(client, clock)
    async with memory.running():
        pass
    assert clock.slept == [9.0]


async def test_a_silent_stream_is_replaced_at_once(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    memory = Memory(client, clock, silence=0.03)
    async with memory.running():
        await until(lambda: len(server.requests) >= 4)
        await server.put("pods", pod("a"))
        await until(lambda: memory.told == ["+a"])
    assert set(clock.slept) == {0.0}


async def test_a_server_that_says_nothing_for_long_is_listed_anew_so_that_idle_is_told_from_dead(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    memory = Memory(client, clock, silence=0.03)
    async with memory.running():
        await until(lambda: sum("watch=1" not in request.path for request in server.requests) >= 3)


async def test_a_server_that_ends_every_watch_at_once_does_not_make_it_spin(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    memory = Memory(client, clock)
    server.fail("WATCH", *[(200, b"")] * 3)
    async with memory.running():
        await until(lambda: server.watching)
    assert clock.slept == [0.75, 1.5, 3.0]


async def test_what_nobody_expected_is_logged_and_the_listing_begun_again(
    server: ApiServer, client: KubeClient, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        await server.say("MODIFIED", "pods", {"metadata": {"resourceVersion": "900", "surprise": True}})
        await server.put("pods", pod("a"))
        await until(lambda: memory.told == ["+a"])
    assert "watching pods failed unexpectedly" in caplog.text


async def test_a_listener_that_fails_does_not_keep_the_news_from_others(
    server: ApiServer, client: KubeClient, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(key: Key, old: Object | None, new: Object | None) -> None:
        raise RuntimeError("my bug")

    memory = Memory(client, clock)
    memory.on_change(failing)
    later: list[Key] = []
    memory.on_change(lambda key, old, new: later.append(key))
    await server.put("pods", pod("a"))
    async with memory.running():
        assert later == [("support", "a")]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# Adopting


async def test_our_own_write_is_seen_before_the_watch_tells(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        created = await server.put("pods", pod("a"), event=False)
        assert memory.adopt(created) is True
        assert ("support", "a") in memory.store
        await server.say("ADDED", "pods", created)
        await server.put("pods", pod("end"))
        await until(lambda: "+end" in memory.told)
    assert memory.told == ["+a", "+end"], "the watch's own news of it is no second change"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        pytest.param("100", False, id="an older copy is not taken in"),
        pytest.param("101", False, id="the copy it has is not taken in"),
        pytest.param("900", True, id="a newer one is"),
    ],
)
async def test_adopting_compares_versions(
    server: ApiServer, client: KubeClient, clock: Clock, version: str, expected: bool
) -> None:
    await server.put("pods", pod("a"))
    memory = Memory(client, clock)
    async with memory.running():
        assert memory.adopt(pod("a", resourceVersion=version, uid="uid-101")) is expected


async def test_what_the_watch_has_already_deleted_is_not_adopted(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        late = await client.create(PODS, "support", pod("a"))
        await server.remove("pods", "support", "a")
        await until(lambda: memory.told == ["+a", "-a"])
        assert memory.adopt(late) is False
        assert memory.store == {}


async def test_what_was_adopted_before_the_first_listing_is_kept_if_the_listing_is_older(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    server.cached = (server.version, {})
    memory = Memory(client, clock)
    memory.adopt(await client.create(PODS, "support", pod("a")))
    async with memory.running():
        assert ("support", "a") in memory.store
        await until(lambda: server.watching)
        await server.remove("pods", "support", "a")
        await until(lambda: "-a" in memory.told)
    assert memory.told == ["+a", "-a"]


# What a watch keeps to itself


async def test_a_change_that_the_watch_keeps_to_itself_is_found_at_the_second_look(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    await server.put("pods", pod("a"))
    await server.put("pods", pod("b"))
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        await server.put("pods", pod("a"), event=False)
        await server.put("pods", pod("c"), event=False)
        await server.remove("pods", "support", "b", event=False)
        assert (await memory.look(), memory.told) == (0, ["+a", "+b"]), "the watch may just be about to tell"
        assert (await memory.look(), sorted(memory.told[2:])) == (3, ["+c", "-b", "~a"])
        assert await memory.look() == 0
        await server.put("pods", pod("a"))
        await until(lambda: memory.told[-1] == "~a")
    assert not any("managedFields" in obj["metadata"] for obj in memory.store.values())


async def test_a_change_that_the_watch_tells_between_two_looks_was_not_missed(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        late = await server.put("pods", pod("a"), event=False)
        assert await memory.look() == 0
        await server.say("ADDED", "pods", late)
        await until(lambda: memory.told)
        assert (await memory.look(), memory.told) == (0, ["+a"])


async def test_what_is_gone_when_it_is_to_be_caught_up_with_is_left_alone(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    memory = Memory(client, clock)
    async with memory.running():
        await until(lambda: server.watching)
        await server.put("pods", pod("a"), event=False)
        await memory.look()
        server.fail(
            "GET", (200, {"metadata": {"resourceVersion": "101"}, "items": [server.objects["pods", "support", "a"]]})
        )
        await server.remove("pods", "support", "a", event=False)
        assert (await memory.look(), memory.told) == (1, [])


async def test_looks_are_made_by_themselves_and_survive_a_server_in_trouble(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    missed: list[int] = []
    memory = Memory(client, clock, sleep=asyncio.sleep, look_interval=0.01, missed=missed.append)
    async with memory.running():
        await until(lambda: server.watching)
        server.fail("GET", (500, {}))
        await server.put("pods", pod("a"), event=False)
        await until(lambda: memory.told)
        await until(lambda: missed)
    assert (memory.told, missed) == (["+a"], [1])
