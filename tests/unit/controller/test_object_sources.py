# SPDX-License-Identifier: Apache-2.0
"""Changes of watched objects start runs: each once, whatever happens to the operator and to the API server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.controller.object_world import World
from tests.unit.kube.server import ApiServer

from kubesaga.cel.pool import CelPool
from kubesaga.kube.client import KubeClient
from kubesaga.testing.clock import FakeClock

CHANGED = 'event == "Modified" && object.data.size != old.data.size'


@pytest.fixture(scope="module")
def evaluator() -> Iterator[CelPool]:
    with CelPool(size=1) as pool:
        yield pool


@pytest.fixture
async def world(server: ApiServer, client: KubeClient, clock: FakeClock, evaluator: CelPool) -> World:
    world = World(server, client, clock, evaluator)
    await world.workflow()
    await world.change("before", size="1")
    clock.advance(5)
    return world


async def test_what_is_added_changed_and_deleted_starts_a_run_each_and_what_was_there_before_none(world: World) -> None:
    await world.source()
    async with world.operator() as operator:
        await operator.until_ready()
        await world.change("a", size="1")
        await operator.until(lambda: len(world.told) == 1)
        await world.change("a", size="2")
        await operator.until(lambda: len(world.told) == 2)
        await world.remove("a")
        await operator.until(lambda: len(world.told) == 3)
        await world.change("before", size="2")
        await operator.until(lambda: len(world.told) == 4)
    assert world.told == ["a added", "a modified", "a deleted", "before modified"]
    added, modified, deleted, _ = world.events
    assert (added["source"], added["data"]["object"]["kind"]) == ("/api/v1/namespaces/support/configmaps", "ConfigMap")
    assert (modified["data"]["old"]["data"], modified["data"]["object"]["data"]) == ({"size": "1"}, {"size": "2"})
    assert deleted["data"]["object"]["data"] == {"size": "2"}
    [inputs] = {
        run["spec"]["inputs"]["what"] for key, run in world.server.objects.items() if key[0] == "workflowruns"
    } - {"before"}
    assert inputs == "a"
    assert world.counted("kubesaga_resource_events_total", source="maps", result="caused") == 4
    assert world.counted("kubesaga_resource_runs_total", workflow="w", result="created") == 4


async def test_a_trigger_that_has_stopped_itself_starts_nothing_until_the_workflow_is_changed(world: World) -> None:
    await world.source()
    workflow = world.server.objects["workflows", "support", "w"]
    metadata = {**workflow["metadata"], "generation": 1}
    stopped = {"triggers": {"each": {"stoppedGeneration": 1}}}
    await world.server.put("workflows", {**workflow, "metadata": metadata, "status": stopped})
    async with world.operator() as operator:
        await operator.until_ready()
        await world.change("a", size="1")
        await operator.until(
            lambda: world.counted("kubesaga_resource_events_total", source="maps", result="stopped") == 1
        )
        assert world.counted("kubesaga_resource_triggers_total", workflow="w", result="stopped") == 1
        await operator.until_recorded()
    mended = {**workflow, "metadata": {**metadata, "generation": 2}, "status": stopped}
    await world.server.put("workflows", mended)
    await world.change("b", size="1")
    async with world.operator() as operator:
        await operator.until(lambda: world.told)
    assert world.told == ["b added"], "what came meanwhile is not made up for"


@pytest.mark.parametrize(("change", "told"), [
    pytest.param({"events": ["Deleted"]}, ["a deleted"], id="the events that it names"),
    pytest.param({"when": CHANGED}, ["a modified"], id="a change of a field"),
    pytest.param({"when": 'event != "Modified"'}, ["a added", "a deleted"], id="all but a kind of change"),
    pytest.param({"when": "old == null"}, ["a added", "a deleted"], id="what has no state before"),
])  # fmt: skip
async def test_a_source_tells(world: World, change: dict[str, Any], told: list[str]) -> None:
    await world.source(**change)
    async with world.operator() as operator:
        await operator.until_ready()
        await world.change("a", size="1")
        await world.change("a", labels={"x": "y"}, size="1")
        await world.change("a", size="2")
        await world.remove("a")
        # Of another object, of which all counts: what came before it has been looked at, or is under way.
        await operator.until(lambda: operator.watches.pending == 0 and len(world.told) >= len(told))
        await operator.until_recorded()
    without_labels = [each for number, each in enumerate(world.told) if each not in world.told[:number]]
    assert without_labels == told


async def test_a_when_without_a_value_is_told_and_starts_nothing(world: World) -> None:
    await world.source(when='object.data.size == "1"', events=["Added"])
    async with world.operator() as operator:
        await operator.until_ready()
        await world.change("a")
        await operator.until(lambda: world.warnings)
        await world.change("b", size="1")
        await operator.until(lambda: world.told)
    assert world.told == ["b added"]
    [(reason, message)] = world.warnings
    assert reason == "WhenFailed"
    assert message.startswith("for a, which was Added: spec.kubernetes.when: ")
    assert world.counted("kubesaga_resource_events_total", source="maps", result="broken") == 1


async def test_what_happens_while_nobody_watches_is_told_once_it_is_watched_again(world: World) -> None:
    await world.source()
    async with world.operator() as operator:
        await operator.until_ready()
        await world.change("a", size="1")
        await world.change("b", size="1")
        await operator.until(lambda: len(world.told) == 2)
        await operator.until_recorded()
    await world.change("c", size="1")
    await world.change("a", size="2")
    await world.change("a", size="3")
    await world.remove("b")
    async with world.operator() as operator:
        await operator.until(lambda: len(world.told) == 6)
    assert sorted(world.told[2:]) == ["a modified", "a modified", "b deleted", "c added"]
    assert [e["data"]["old"]["data"]["size"] for e in world.events if e["type"].endswith("modified")] == ["1", "2"]


async def test_what_was_told_but_not_recorded_is_told_again_and_makes_no_second_run(world: World) -> None:
    await world.source()
    async with world.operator() as operator:
        await operator.until_ready()
        recorded = world.status["watch"]
        await world.change("a", size="1")
        await world.change("a", size="2")
        await world.remove("a")
        await operator.until(lambda: len(world.told) == 3)
    source = world.server.objects["workfloweventsources", "support", "maps"]
    await world.server.put("workfloweventsources", {**source, "status": {**source["status"], "watch": recorded}})
    async with world.operator() as operator:
        await operator.until(
            lambda: world.counted("kubesaga_resource_runs_total", workflow="w", result="existing") == 3
        )
    assert world.told == ["a added", "a modified", "a deleted"]


async def test_after_an_outage_longer_than_the_servers_memory_all_but_deletions_is_known(world: World) -> None:
    await world.source()
    async with world.operator() as operator:
        await operator.until_ready()
        await world.change("a", size="1")
        await world.change("b", size="1")
        # What is added in the second of the record may count twice, and is not what this is about.
        world.clock.advance(2)
        await operator.until(lambda: len(world.told) == 2)
        await operator.until_recorded()
    world.clock.advance(600)
    await world.change("a", size="2")
    await world.change("c", size="1")
    await world.remove("b")
    world.server.compact()
    async with world.operator() as operator:
        await operator.until(lambda: len(world.told) == 4)
        await operator.until_ready()
        await world.change("a", size="3")
        await operator.until(lambda: len(world.told) == 5)
    assert sorted(world.told[2:4]) == ["a modified", "c added"]
    assert ["old" in event["data"] for event in world.events if event["type"].endswith("modified")] == [False, True]


async def test_after_a_restore_of_the_cluster_it_begins_with_what_is_there(world: World) -> None:
    await world.source()
    async with world.operator() as operator:
        await operator.until_ready()
    source = world.server.objects["workfloweventsources", "support", "maps"]
    ahead = {**source["status"]["watch"], "resourceVersion": "999999"}
    await world.server.put("workfloweventsources", {**source, "status": {**source["status"], "watch": ahead}})
    world.clock.advance(60)
    await world.change("a")
    async with world.operator() as operator:
        await operator.until(lambda: world.told)
        await world.change("before", size="2")
        await operator.until(lambda: len(world.told) == 2)
        await operator.until(lambda: int(world.status["watch"]["resourceVersion"]) <= world.server.version)
    assert world.told == ["a added", "before modified"]


async def test_a_watch_that_falls_behind_misses_nothing(world: World) -> None:
    await world.source()
    async with world.operator() as operator:
        await operator.until_ready()
        await world.change("a", size="1")
        await operator.until(lambda: len(world.told) == 1)
        await world.server.end_watches()
        await world.server.remove("configmaps", "support", "a", event=False)
        await world.change("b", size="1")
        world.server.compact()
        await operator.until(lambda: len(world.told) == 3)
    assert sorted(world.told[1:]) == ["a deleted", "b added"]


async def test_runs_that_cannot_be_made_now_are_made_later_in_order(world: World) -> None:
    await world.source()
    async with world.operator() as operator:
        await operator.until_ready()
        world.server.fail("POST", *[(503, {"reason": "ServiceUnavailable", "message": "not now"})] * 4)
        await world.change("a", size="1")
        await world.change("a", size="2")
        await world.remove("a")
        await operator.until(lambda: len(world.told) == 3)
        await operator.until(lambda: operator.watches.pending == 0)
    assert world.told == ["a added", "a modified", "a deleted"]


async def test_a_run_that_the_server_refuses_is_told_and_holds_up_nothing(world: World) -> None:
    await world.source(events=["Added"])
    async with world.operator() as operator:
        await operator.until_ready()
        world.server.fail("POST", (422, {"reason": "Invalid", "message": "no room for it"}))
        await world.change("a")
        await operator.until(lambda: world.warnings)
        await world.change("b")
        await operator.until(lambda: world.told)
    assert world.told == ["b added"]
    assert [reason for reason, _ in world.warnings] == ["RunRefused"]
    assert world.counted("kubesaga_resource_runs_total", workflow="w", result="refused") == 1


async def test_an_object_that_leaves_the_selector_was_not_deleted(world: World) -> None:
    await world.source(selector={"matchLabels": {"team": "desk"}}, events=["Deleted"])
    await world.change("a", labels={"team": "desk"})
    await world.change("b", labels={"team": "desk"})
    async with world.operator() as operator:
        await operator.until_ready()
        left = world.server.objects["configmaps", "support", "a"]
        await world.change("a", labels={})
        there = world.server.objects["configmaps", "support", "a"]["metadata"]["resourceVersion"]
        await world.server.say(
            "DELETED", "configmaps", {**left, "metadata": {**left["metadata"], "resourceVersion": there}}
        )
        await world.remove("b")
        await operator.until(lambda: world.told and operator.watches.pending == 0)
    assert world.told == ["b deleted"]
    lists = [request for request in world.server.requests if request.path.endswith("/configmaps")]
    assert {request.query["labelSelector"] for request in lists} == {"team=desk,app.kubernetes.io/managed-by!=kubesaga"}


async def test_a_source_that_is_changed_to_other_objects_begins_anew(world: World) -> None:
    await world.source(selector={"matchLabels": {"team": "desk"}})
    async with world.operator() as operator:
        await operator.until_ready()
        subject = world.status["watch"]["subject"]
        source = world.server.objects["workfloweventsources", "support", "maps"]
        await world.server.put(
            "workfloweventsources",
            {**source, "metadata": {**source["metadata"], "generation": 2}, "spec": {"type": "Kubernetes", "kubernetes": {"apiVersion": "v1", "kind": "ConfigMap"}}},
        )  # fmt: skip
        operator.look()
        await operator.until(lambda: world.status["watch"]["subject"] != subject)
        await operator.until_ready()
        world.clock.advance(2)
        await world.change("b")
        await operator.until(lambda: world.told)
    assert world.told == ["b added"]


# --- what is in the way ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kubernetes", "reason", "told"), [
    pytest.param({"kind": "Secret"}, "KindNotAllowed", "add v1/Secret to KUBESAGA_WATCHABLE_KINDS", id="a kind that is not allowed"),
    pytest.param({"kind": "Node"}, "KindNotWatchable", "Node does not belong to a namespace", id="a kind of the cluster"),
    pytest.param({"kind": "Binding"}, "KindNotWatchable", "does not offer to get or list or watch bindings", id="a kind that cannot be watched"),
    pytest.param({"apiVersion": "acme.dev/v1", "kind": "Ticket"}, "KindNotWatchable", "has no kind Ticket of acme.dev/v1", id="a kind that is not there"),
    pytest.param({"apiVersion": "kubesaga.dev/v1alpha1", "kind": "WorkflowRun"}, "InvalidSpec", "runs would cause runs", id="a kind of our own"),
    pytest.param({"kind": "Event"}, "InvalidSpec", "runs would cause runs", id="Events"),
    pytest.param({"when": "thing.data"}, "InvalidSpec", "spec.kubernetes.when: in `thing.data`: ", id="a when that reads what there is not"),
])  # fmt: skip
async def test_not_ready_is_a_source_of(world: World, kubernetes: dict[str, Any], reason: str, told: str) -> None:
    await world.source(**kubernetes)
    async with world.operator() as operator:
        await operator.until(lambda: world.ready[1] not in ("", "WatchStarting"))
        assert world.ready[:2] == ("False", reason)
        assert told in world.ready[2]
        assert not any("watch" in request.query for request in world.server.requests if "configmaps" in request.path)


async def test_a_kind_that_is_installed_later_is_found(world: World) -> None:
    await world.source(apiVersion="acme.dev/v1", kind="Ticket")
    async with world.operator() as operator:
        await operator.until(lambda: world.ready[1] == "KindNotWatchable")
        verbs = ["get", "list", "watch"]
        world.server.kinds["acme.dev/v1"] = [{"name": "tickets", "kind": "Ticket", "namespaced": True, "verbs": verbs}]
        await operator.until_ready()


@pytest.mark.parametrize("verb", ["GET", "WATCH"])
async def test_a_right_that_is_missing_is_told_and_once_it_is_there_nothing_was_missed(world: World, verb: str) -> None:
    await world.source()
    sentence = 'configmaps is forbidden: User "x" cannot watch resource "configmaps"'
    async with world.operator() as operator:
        await operator.until_ready()
    world.server.forbidden[verb, "configmaps"] = sentence
    await world.server.end_watches()
    async with world.operator() as operator:
        await operator.until(lambda: world.ready[1] == "WatchForbidden")
        assert "the verbs get, list and watch on configmaps" in world.ready[2]
        assert sentence in world.ready[2]
        await world.change("a")
        world.server.forbidden.clear()
        await operator.until_ready()
        await operator.until(lambda: world.told)
    assert world.told == ["a added"]
