# SPDX-License-Identifier: Apache-2.0
"""A trigger about events stops itself after as many failed runs in a row as it allows; what is known of that outlives whoever knew it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from typing import Any

import pytest
from tests.unit.kube.server import ApiServer, until

from kubesaga.api.fields import format_time
from kubesaga.controller.queue import Queue
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.client import KubeClient
from kubesaga.kube.errors import ApiError
from kubesaga.testing.clock import FakeClock
from kubesaga.triggers.names import trigger_id
from kubesaga.triggers.trigger_limits import TriggerLimits

KEY = RunKey(namespace="support", name="greet")
CREATED = {"name": "created", "event": "ticket:created", "failureLimit": 2}
CLOSED = {"name": "closed", "event": "ticket:closed", "failureLimit": 2}


class World:
    """A Workflow, its runs, and whoever stops its triggers."""

    def __init__(self, server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
        self.server, self.client, self.clock = server, client, clock
        self.limits = self.another()
        self._made = 0

    def another(self) -> TriggerLimits:
        """Return one that knows nothing: after a restart, or of another replica."""
        return TriggerLimits(self.client, self.clock.now)

    async def apply(self, *triggers: dict[str, Any], **spec: Any) -> None:
        """Create the Workflow, or change its spec."""
        known = self.server.objects.get(("workflows", *KEY_OF))
        generation = known["metadata"]["generation"] + 1 if known else 1
        metadata = {"namespace": KEY.namespace, "name": KEY.name, "uid": "uid-greet", "generation": generation}
        body = {"description": "d", "triggers": list(triggers), "activities": [{"name": "a", "handler": "x"}]} | spec
        status = known.get("status", {}) if known else {}
        await self.server.put("workflows", {"metadata": metadata, "spec": body, "status": status})

    async def ends(self, *phases: str, trigger: str = "created", heard: bool = True, **more: str) -> bool:
        """Let runs of a trigger end, each a minute later; return whether the last is a reason to look at the Workflow."""
        wanted = False
        for phase in phases:
            self.clock.advance(60)
            run = self.run(phase, trigger, **more)
            await self.server.put("workflowruns", run)
            wanted = heard and self.limits.run_changed(run) == KEY
        return wanted

    def run(self, phase: str, trigger: str = "created", **more: str) -> dict[str, Any]:
        """Return a run that ends now."""
        self._made += 1
        now = format_time(self.clock.now())
        labels = {
            "kubesaga.dev/trigger-id": trigger_id("uid-greet", trigger), "kubesaga.dev/phase": phase,
            "kubesaga.dev/finished": "true",
        }  # fmt: skip
        annotations = {"kubesaga.dev/trigger": trigger, "kubesaga.dev/completed-at": now, **more}
        return {
            "metadata": {
                "namespace": "support",
                "name": f"r{self._made}",
                "labels": labels,
                "annotations": annotations,
            },
            "spec": {"workflowRef": {"name": "greet"}},
            "status": {"phase": phase, "completionTime": now},
        }

    async def look(self, key: RunKey = KEY) -> None:
        """Look at the Workflow when it may be looked at."""
        self.clock.advance(1)
        while (again := await self.limits.process(key)) is not None:
            self.clock.advance(max(0.0, (again - self.clock.now()).total_seconds()))

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.server.objects["workflows", *KEY_OF].get("status", {})
        return status

    def record(self, name: str = "created") -> dict[str, Any]:
        record: dict[str, Any] = self.status["triggers"][name]
        return record

    def stopped(self, name: str = "created") -> bool:
        generation = self.server.objects["workflows", *KEY_OF]["metadata"]["generation"]
        return bool(self.record(name).get("stoppedGeneration") == generation)

    def asked(self, method: str, plural: str = "") -> int:
        """Return how many requests of a kind there were."""
        return sum(request.method == method and plural in request.path for request in self.server.requests)


KEY_OF = (KEY.namespace, KEY.name)


@pytest.fixture
async def world(server: ApiServer, client: KubeClient, clock: FakeClock) -> World:
    """A Workflow whose limit is recorded."""
    world = World(server, client, clock)
    await world.apply(CREATED)
    await world.look()
    return world


# --- what counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("phases", "stops"), [
    pytest.param(["Failed"], False, id="fails once"),
    pytest.param(["Failed", "Failed"], True, id="fails twice"),
    pytest.param(["Failed", "Compensated"], True, id="fails, and fails and is undone"),
    pytest.param(["Failed", "Succeeded", "Failed"], False, id="succeeds in between"),
    pytest.param(["Failed", "Cancelled", "Terminated", "Failed"], True, id="is stopped by people in between"),
    pytest.param(["Succeeded", "Failed", "Failed"], True, id="succeeds first"),
    pytest.param(["Succeeded", "Cancelled"], False, id="fails never"),
])  # fmt: skip
@pytest.mark.parametrize("when", ["seen one by one", "seen together", "seen by whoever leads next"])
async def test_a_trigger_whose_run(world: World, phases: list[str], stops: bool, when: str) -> None:
    for phase in phases:
        if await world.ends(phase, heard=not when.endswith("next")) and when.endswith("one"):
            await world.look()
    if when.endswith("next"):
        world.limits = world.another()
    await world.look()
    assert world.stopped() is stops
    told = "It has stopped itself: the last 2 runs have failed (failureLimit). Change the Workflow to let it go on."
    assert world.record().get("message") == (told if stops else None)


async def test_failures_that_are_recorded_count_though_their_runs_are_gone(world: World) -> None:
    await world.ends("Failed")
    await world.look()
    await world.server.remove("workflowruns", "support", "r1")
    world.limits = world.another()
    await world.look()
    assert not world.stopped()
    await world.ends("Failed")
    await world.look()
    assert world.stopped()


async def test_a_success_ends_what_is_recorded_though_its_runs_are_gone(world: World) -> None:
    await world.ends("Failed")
    await world.look()
    await world.server.remove("workflowruns", "support", "r1")
    world.limits = world.another()
    await world.look()
    assert await world.ends("Succeeded"), "a reason to look at the Workflow"
    await world.look()
    assert set(world.record()) == {"countedFrom"}


async def test_a_success_that_nobody_told_of_counts_before_a_trigger_is_stopped(world: World) -> None:
    await world.ends("Failed")
    await world.ends("Succeeded", heard=False)
    assert await world.ends("Failed")
    await world.look()
    assert not world.stopped()
    assert len(world.record()["failed"]) == 1


async def test_what_ended_before_the_limit_was_set_does_not_count(world: World) -> None:
    await world.apply({"name": "created", "event": "ticket:created"})
    await world.look()
    assert "triggers" not in world.status, "the record goes with the limit"
    await world.ends("Failed", "Failed")
    await world.apply(CREATED)
    await world.look()
    await world.ends("Failed")
    await world.look()
    assert not world.stopped()


async def test_triggers_count_each_by_itself(world: World) -> None:
    await world.apply(CREATED, CLOSED, {"name": "free", "event": "*"})
    await world.look()
    await world.ends("Failed")
    await world.ends("Succeeded", "Failed", "Failed", trigger="closed")
    await world.ends("Failed", "Failed", trigger="free")
    await world.look()
    assert (world.stopped("created"), world.stopped("closed")) == (False, True)
    assert set(world.status["triggers"]) == {"created", "closed"}
    await world.apply(CREATED)
    await world.look()
    assert set(world.status["triggers"]) == {"created"}


async def test_it_goes_on_when_the_workflow_is_changed(world: World) -> None:
    await world.ends("Failed", "Failed")
    await world.look()
    await world.apply(CREATED, description="mended")
    await world.look()
    assert (world.stopped(), set(world.record())) == (False, {"countedFrom"})
    await world.ends("Failed")
    await world.look()
    assert not world.stopped(), "the count begins anew"
    await world.ends("Failed")
    await world.look()
    assert world.stopped()


async def test_a_trigger_that_has_stopped_stays_so_whatever_ends_then(world: World) -> None:
    await world.ends("Failed", "Failed")
    await world.look()
    record = copy.deepcopy(world.record())
    await world.ends("Succeeded", "Failed")
    await world.look()
    assert world.record() == record


# --- what it costs --------------------------------------------------------------------------------------------------


async def test_successes_cost_nothing(world: World) -> None:
    before = len(world.server.requests)
    assert not any([await world.ends("Succeeded") for _ in range(20)])
    assert len(world.server.requests) == before
    world.limits = world.another()
    await world.look()
    assert not await world.ends("Succeeded")
    assert world.asked("PATCH") == 1, "the first record"


async def test_runs_are_listed_once_when_it_begins_and_once_before_it_stops(world: World) -> None:
    assert world.asked("GET", "/workflowruns") == 0, "nothing can have ended since the limit is recorded"
    world.limits = world.another()
    for _ in range(3):
        await world.look()
        await world.ends("Failed", "Succeeded")
    assert world.asked("GET", "/workflowruns") == 1
    await world.ends("Failed", "Failed")
    for _ in range(3):
        await world.look()
    assert world.asked("GET", "/workflowruns") == 2


async def test_it_is_looked_at_once_a_second_at_most(world: World) -> None:
    await world.look()
    before = world.asked("GET")
    again = await world.limits.process(KEY)
    assert again is not None
    assert (again - world.clock.now()).total_seconds() == 1
    assert world.asked("GET") == before
    world.clock.advance(-3600)
    assert await world.limits.process(KEY) is None, "also when the clock is set back"


@pytest.mark.parametrize("triggers", [
    pytest.param([], id="no triggers"),
    pytest.param([{"name": "created", "event": "ticket:created"}], id="a trigger without a limit"),
    pytest.param([{"name": "created", "schedule": "0 2 * * *", "failureLimit": 2}], id="a schedule"),
    pytest.param([{"name": "created", "event": "schedule:daily", "failureLimit": 2}], id="an event of the clock"),
])  # fmt: skip
async def test_of_no_concern_is(world: World, triggers: list[dict[str, Any]]) -> None:
    await world.apply(*triggers)
    await world.look()
    assert "triggers" not in world.status
    before = len(world.server.requests)
    assert not await world.ends("Failed", "Failed")
    await world.look()
    assert (len(world.server.requests), "triggers" in world.status) == (before + 1, False)


@pytest.mark.parametrize("change", [
    pytest.param({"metadata": {"labels": {}}}, id="that somebody made by hand"),
    pytest.param({"metadata": {"annotations": {"kubesaga.dev/tick": "t"}}}, id="of a tick"),
    pytest.param({"metadata": {"labels": {"kubesaga.dev/trigger-id": "other"}}}, id="of another trigger"),
    pytest.param({"spec": {"workflowRef": {"name": "other"}}}, id="of another Workflow"),
    pytest.param({"spec": {"workflowSpec": {}}}, id="with a spec of its own"),
    pytest.param({"status": {"phase": "Running"}}, id="that has not ended"),
    pytest.param({"status": {"phase": "Odd", "completionTime": "never"}}, id="whose status cannot be read"),
    pytest.param({"status": None}, id="without a status"),
])  # fmt: skip
def test_a_run_is_of_no_concern(world: World, change: dict[str, Any]) -> None:
    run = world.run("Failed")
    assert world.limits.run_changed(run) == KEY
    other = world.run("Failed")
    metadata = {**other["metadata"], **change.pop("metadata", {})}
    world.clock.advance(1)
    assert world.limits.run_changed({**other, **change, "metadata": metadata}) is None


def test_a_run_that_is_told_of_twice_counts_once(world: World) -> None:
    run = world.run("Failed")
    assert [world.limits.run_changed(run) for _ in range(2)] == [KEY, None]


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "fault"), [
    pytest.param("GET", "refuse", id="the Workflow or its runs cannot be read"),
    pytest.param("PATCH", "refuse", id="the record cannot be written"),
    pytest.param("PATCH", "lose", id="the answer to the record is lost"),
])  # fmt: skip
async def test_a_pass_that_dies_is_repeated(world: World, method: str, fault: Any) -> None:
    await world.ends("Failed", "Failed")
    world.server.fail(method, *[fault] * 10)
    with pytest.raises(ApiError):
        await world.look()
    world.server.forgive()
    await world.look()
    assert world.stopped()


async def test_runs_that_cannot_be_listed_hold_up_no_other_trigger(world: World) -> None:
    await world.apply(CREATED, CLOSED)
    await world.look()
    await world.ends("Failed", "Failed")
    await world.ends("Failed", trigger="closed")
    world.server.forbidden["GET", "workflowruns"] = "no"
    with pytest.raises(ApiError):
        await world.look()
    assert (world.stopped("created"), len(world.record("closed")["failed"])) == (False, 1)
    world.server.forbidden.clear()
    await world.look()
    assert world.stopped("created")


async def test_a_workflow_that_changes_during_the_pass_is_looked_at_again(world: World) -> None:
    await world.ends("Failed", "Failed")
    world.server.fail("PATCH", (409, {"kind": "Status", "code": 409, "reason": "Conflict", "message": "m"}))
    world.clock.advance(1)
    assert await world.limits.process(KEY) == world.clock.now(), "at once"
    await world.look()
    assert world.stopped()


async def test_a_workflow_that_cannot_be_read_keeps_its_record(world: World) -> None:
    await world.ends("Failed", "Failed")
    await world.look()
    record = world.record()
    await world.apply(CREATED, activities=5)
    await world.look()
    assert world.record() == record


async def test_a_record_that_cannot_be_read_begins_anew(world: World) -> None:
    world.status["triggers"]["created"] = {"countedFrom": "yesterday"}
    await world.look()
    assert set(world.record()) == {"countedFrom"}
    assert world.record()["countedFrom"] != "yesterday"


async def test_a_workflow_that_is_gone_or_going_is_forgotten(world: World) -> None:
    writes = world.asked("PATCH")
    world.server.objects["workflows", *KEY_OF]["metadata"]["deletionTimestamp"] = format_time(world.clock.now())
    await world.look()
    assert not await world.ends("Failed", "Failed")
    await world.server.remove("workflows", *KEY_OF)
    await world.look()
    assert world.asked("PATCH") == writes


# --- with the queue -------------------------------------------------------------------------------------------------


async def test_in_a_burst_of_failures_it_stops_by_two_writes(world: World) -> None:
    queue = Queue(world.limits.process, world.clock, workers=1, jitter=lambda: 0.5)
    writes, working = world.asked("PATCH"), asyncio.create_task(queue.run())
    for phase in ("Failed", "Failed", "Failed"):
        if await world.ends(phase):
            queue.add(KEY)
        if writes == world.asked("PATCH"):
            await until(lambda: world.asked("PATCH") > writes)  # the first one is recorded, then the others come
    await until(lambda: (world.clock.advance(0.1), world.record().get("stoppedGeneration"))[1])
    assert world.asked("PATCH") == writes + 2
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
