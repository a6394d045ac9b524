# SPDX-License-Identifier: Apache-2.0
"""At each tick its run, once, whatever happens in between; and in the Workflow's status how far the schedules have come."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.kube.server import ApiServer

from kubesaga.api.fields import format_time
from kubesaga.controller.authoring.awaited_events import AwaitedEvents
from kubesaga.controller.authoring.event_types import EventTypes
from kubesaga.controller.authoring.workflows import WorkflowReconciler
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.guards.all import Guards
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.controller.memory import MemoryRevisions
from kubesaga.controller.queue import Queue
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.client import KubeClient
from kubesaga.kube.errors import ApiError
from kubesaga.testing.clock import START, FakeClock
from kubesaga.testing.paths import PathEvaluator
from kubesaga.testing.unguarded import open_ledger
from kubesaga.triggers.names import tick_key, tick_run_name
from kubesaga.triggers.ticker import FAILED, LEFT_OUT, STARTED, Ticker

KEY = RunKey(namespace="support", name="report")
NIGHTLY = {"name": "nightly", "schedule": "0 2 * * *", "inputs": {"day": "${event.data.scheduledTime}"}}
HOUR, DAY = 3600.0, 86400.0


class World:
    """A Workflow, its runs, and whoever looks after its schedules."""

    def __init__(self, server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
        self.server, self.clock = server, clock
        self.client = client
        self.became: Counter[str] = Counter()
        self.ticker = self.another()

    def another(self) -> Ticker:
        """Return a ticker that knows nothing: after a restart, or of another replica."""
        return Ticker(
            self.client, PathEvaluator(), self.clock.now, observe=lambda what: self.became.update([what])
        )  # fmt: skip

    async def apply(self, *triggers: dict[str, Any], ready: bool | None = True, key: RunKey = KEY, **spec: Any) -> None:
        """Create the Workflow, or change its spec; `ready` None: nobody has checked it yet."""
        known = self.server.objects.get(("workflows", key.namespace, key.name))
        generation = known["metadata"]["generation"] + 1 if known else 1
        created = known["metadata"]["creationTimestamp"] if known else format_time(self.clock.now())
        metadata = {
            "namespace": key.namespace, "name": key.name, "uid": f"uid-{key.name}", "generation": generation,
            "creationTimestamp": created,
        }  # fmt: skip
        status = dict(known.get("status", {})) if known else {}
        if ready is not None:
            truth = {"type": "Ready", "status": str(ready), "reason": "x", "lastTransitionTime": format_time(START)}
            status |= {"observedGeneration": generation, "conditions": [truth]}
        body = {
            "description": "d", "inputs": [{"name": "day"}], "triggers": list(triggers),
            "activities": [{"name": "a", "handler": "x"}],
        } | spec  # fmt: skip
        await self.server.put("workflows", {"metadata": metadata, "spec": body, "status": status})

    async def look(self) -> datetime | None:
        return await self.ticker.process(KEY)

    async def wait_until(self, text: str) -> None:
        """Let time pass; nobody looks meanwhile."""
        self.clock.advance((at(text) - self.clock.now()).total_seconds())

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """The runs, by the tick that they were made for."""
        found = [body for (plural, _, _), body in self.server.objects.items() if plural == "workflowruns"]
        return {body["metadata"]["annotations"]["kubesaga.dev/tick"][:16]: body for body in found}

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.server.objects["workflows", KEY.namespace, KEY.name].get("status", {})
        return status

    def record(self, name: str = "nightly") -> dict[str, Any]:
        record: dict[str, Any] = self.status["schedules"][name]
        return record

    def writes(self) -> int:
        return sum(request.method in ("PATCH", "POST") for request in self.server.requests)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-01-{text}").replace(tzinfo=UTC)


@pytest.fixture
def world(server: ApiServer, client: KubeClient, clock: FakeClock) -> World:
    return World(server, client, clock)


# --- one tick -------------------------------------------------------------------------------------------------------


async def test_a_new_schedule_waits_for_its_first_tick(world: World) -> None:
    await world.apply(NIGHTLY)
    assert await world.look() == at("01 02:00")
    assert world.runs == {}
    assert world.status["nextScheduleTime"] == "2026-01-01T02:00:00.000Z"
    assert "lastScheduleTime" not in world.status


async def test_a_tick_gets_its_run(world: World) -> None:
    await world.apply(NIGHTLY)
    await world.look()
    await world.wait_until("01 02:00:01")
    assert await world.look() == at("02 02:00")
    (run,) = world.runs.values()
    assert run["metadata"]["name"].startswith("report-nightly-202601010200-")
    assert run["spec"]["workflowRef"] == {"name": "report"}
    assert run["spec"]["inputs"] == {"day": "2026-01-01T02:00:00.000Z"}
    assert world.status["lastScheduleTime"] == "2026-01-01T02:00:00.000Z"
    assert world.status["nextScheduleTime"] == "2026-01-02T02:00:00.000Z"
    assert world.became == {STARTED: 1}


async def test_a_look_at_nothing_new_writes_nothing(world: World) -> None:
    await world.apply(NIGHTLY)
    await world.look()
    await world.wait_until("01 02:00")
    await world.look()
    before = world.writes()
    for _ in range(3):
        world.clock.advance(HOUR)
        assert await world.look() == at("02 02:00")
    assert world.writes() == before


async def test_a_workflow_made_while_nobody_led_has_missed_its_tick(world: World) -> None:
    await world.apply(NIGHTLY)
    await world.wait_until("01 07:00")
    await world.look()
    assert list(world.runs) == ["2026-01-01T02:00"]


async def test_a_trigger_added_later_has_missed_nothing(world: World) -> None:
    await world.apply()
    await world.wait_until("01 07:00")
    await world.apply(NIGHTLY)
    assert await world.look() == at("02 02:00")
    assert world.runs == {}


async def test_two_schedules_of_one_workflow(world: World) -> None:
    await world.apply(NIGHTLY, {"name": "hourly", "schedule": "30 * * * *"})
    assert await world.look() == at("01 00:30")
    await world.wait_until("01 02:10")
    assert await world.look() == at("01 02:30")
    assert sorted(world.runs) == ["2026-01-01T01:30", "2026-01-01T02:00"]
    assert world.status["lastScheduleTime"] == "2026-01-01T02:00:00.000Z"
    assert world.record("hourly")["message"] == "1 tick up to 2026-01-01T00:30:00.000Z came too late to get a run."


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        pytest.param("POST", "refuse", id="the run cannot be made"),
        pytest.param("POST", "lose", id="the answer to the run's creation is lost"),
        pytest.param("PATCH", "refuse", id="the record cannot be written"),
        pytest.param("PATCH", "lose", id="the answer to the record is lost"),
        pytest.param("GET", "refuse", id="the Workflow cannot be read"),
    ],
)
async def test_a_pass_that_dies_is_repeated_and_makes_one_run(world: World, method: str, fault: Any) -> None:
    await world.apply(NIGHTLY)
    await world.look()
    await world.wait_until("01 02:00")
    world.server.fail(method, *[fault] * 10)
    with pytest.raises(ApiError):
        await world.look()
    world.server._faults.clear()
    world.ticker = world.another()
    assert await world.look() == at("02 02:00")
    assert list(world.runs) == ["2026-01-01T02:00"]
    assert world.record()["last"] == "2026-01-01T02:00:00.000Z"


async def test_a_workflow_that_changes_during_the_pass_is_looked_at_again(world: World) -> None:
    await world.apply(NIGHTLY)
    await world.look()
    await world.wait_until("01 02:00")
    world.server.fail("PATCH", (409, {"kind": "Status", "code": 409, "reason": "Conflict", "message": "m"}))
    assert await world.look() == at("01 02:00"), "at once"
    assert await world.look() == at("02 02:00")
    assert len(world.runs) == 1


async def test_a_namespace_that_takes_no_run_holds_up_no_other_schedule(world: World) -> None:
    await world.apply(NIGHTLY, {**NIGHTLY, "name": "other"})
    await world.look()
    await world.wait_until("01 02:00")
    world.server.fail("POST", (403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "quota"}))
    with pytest.raises(ApiError, match="quota"):
        await world.look()
    assert "last" not in world.record("nightly")
    assert world.record("other")["last"] == "2026-01-01T02:00:00.000Z"
    await world.look()
    assert world.record("nightly")["last"] == "2026-01-01T02:00:00.000Z"


async def test_a_run_of_the_same_name_that_is_not_ours_is_left_alone(world: World) -> None:
    tick = at("01 02:00")
    name = tick_run_name("report", "nightly", tick, tick_key("uid-report", "nightly", tick))
    foreign = {"namespace": "support", "name": name, "annotations": {"kubesaga.dev/tick": "somebody's own"}}
    await world.server.put("workflowruns", {"metadata": foreign})
    await world.apply(NIGHTLY)
    await world.look()
    await world.wait_until("01 02:00")
    await world.look()
    assert list(world.runs) == ["somebody's own"]
    assert f"a WorkflowRun {name} exists that no tick made; it was left alone" in world.record()["message"]
    assert "last" not in world.record()


async def test_inputs_that_cannot_be_made_are_told_and_the_next_tick_comes(world: World) -> None:
    await world.apply({**NIGHTLY, "inputs": {"day": "${event.data.gone}"}})
    await world.look()
    await world.wait_until("01 02:00")
    assert await world.look() == at("02 02:00")
    assert world.runs == {}
    assert "spec.triggers[0].inputs.day" in world.record()["message"]
    assert world.became == {FAILED: 1}


async def test_a_run_that_the_api_server_refuses_is_told(world: World) -> None:
    await world.apply(NIGHTLY)
    await world.look()
    await world.wait_until("01 02:00")
    world.server.fail("POST", (422, {"kind": "Status", "code": 422, "reason": "Invalid", "message": "spec.inputs: no"}))
    assert await world.look() == at("02 02:00")
    assert world.record()["message"].endswith("the API server refuses its run: spec.inputs: no.")


async def test_conditions_decide_at_each_tick(world: World) -> None:
    weekday = {**NIGHTLY, "conditions": {"localTime": {"starts": "2026-01-02"}}}
    await world.apply(weekday)
    for day in ("01", "02", "03"):
        await world.look()
        await world.wait_until(f"{day} 02:00")
        await world.look()
    assert list(world.runs) == ["2026-01-02T02:00"]
    assert "message" not in world.record()
    assert world.became == {LEFT_OUT: 2, STARTED: 1}


# --- live runs ------------------------------------------------------------------------------------------------------


async def two_nights(world: World, policy: str, between: dict[str, Any]) -> None:
    """Let two ticks come; the first run is changed in between."""
    await world.apply({**NIGHTLY, "concurrencyPolicy": policy})
    await world.look()
    await world.wait_until("01 02:00")
    await world.look()
    (first,) = world.runs.values()
    await world.server.put("workflowruns", {**first, **between})
    await world.wait_until("02 02:00")
    await world.look()


async def test_forbid_leaves_a_tick_out_while_a_run_is_live(world: World) -> None:
    await two_nights(world, "Forbid", {"status": {"phase": "Running"}})
    assert list(world.runs) == ["2026-01-01T02:00"]
    assert "was live (concurrencyPolicy: Forbid)" in world.record()["message"]
    assert world.record()["last"] == "2026-01-01T02:00:00.000Z"
    assert await world.look() == at("03 02:00"), "for good"


async def test_forbid_starts_when_the_run_has_finished(world: World) -> None:
    await two_nights(world, "Forbid", {"status": {"phase": "Failed"}})
    assert len(world.runs) == 2


async def test_replace_cancels_the_live_run(world: World) -> None:
    await two_nights(world, "Replace", {"status": {"phase": "Running"}})
    assert world.runs["2026-01-01T02:00"]["spec"]["shutdown"] == "Cancel"
    assert "shutdown" not in world.runs["2026-01-02T02:00"]["spec"]


async def test_replace_leaves_finished_runs_as_they_are(world: World) -> None:
    await two_nights(world, "Replace", {"status": {"phase": "Succeeded"}})
    assert "shutdown" not in world.runs["2026-01-01T02:00"]["spec"]


async def test_allow_starts_beside_it(world: World) -> None:
    await two_nights(world, "Allow", {"status": {"phase": "Running"}})
    assert len(world.runs) == 2


@pytest.mark.parametrize("policy", ["Forbid", "Replace"])
async def test_a_pass_that_dies_after_making_the_run_does_not_take_it_for_another(world: World, policy: str) -> None:
    await world.apply({**NIGHTLY, "concurrencyPolicy": policy})
    await world.look()
    await world.wait_until("01 02:00")
    world.server.fail("PATCH", *["refuse"] * 10)  # type: ignore[list-item] # a list of the literal
    with pytest.raises(ApiError):
        await world.look()
    world.server._faults.clear()
    await world.look()
    (run,) = world.runs.values()
    assert "shutdown" not in run["spec"]
    assert "message" not in world.record()


async def test_runs_of_another_workflow_do_not_count(world: World) -> None:
    other = RunKey(namespace="support", name="other")
    await world.apply({**NIGHTLY, "schedule": "0 1 * * *"}, key=other)
    await world.apply({**NIGHTLY, "concurrencyPolicy": "Forbid"})
    await world.wait_until("01 02:00")
    await world.ticker.process(other)
    await world.look()
    assert sorted(world.runs) == ["2026-01-01T01:00", "2026-01-01T02:00"]


# --- the Workflow ---------------------------------------------------------------------------------------------------


async def test_a_suspended_workflow_starts_nothing_and_makes_nothing_up(world: World) -> None:
    await world.apply(NIGHTLY)
    await world.look()
    await world.apply(NIGHTLY, suspend=True)
    assert await world.look() is None
    assert "nextScheduleTime" not in world.status
    await world.wait_until("03 12:00")
    assert await world.look() is None
    await world.apply(NIGHTLY)
    assert await world.look() == at("04 02:00")
    assert world.runs == {}


async def test_nothing_invalid_starts_and_what_it_missed_is_caught_up_with(world: World) -> None:
    await world.apply(NIGHTLY)
    await world.look()
    await world.apply(NIGHTLY, ready=False)
    await world.wait_until("01 03:00")
    assert await world.look() is None
    assert world.runs == {}
    await world.apply(NIGHTLY)
    await world.look()
    assert list(world.runs) == ["2026-01-01T02:00"]


async def test_a_workflow_that_nobody_has_checked_is_looked_at_again(world: World) -> None:
    await world.apply(NIGHTLY, ready=None)
    assert await world.look() == START + timedelta(seconds=30)
    assert world.status == {}


async def test_a_trigger_that_is_gone_takes_its_record_along(world: World) -> None:
    await world.apply(NIGHTLY, {**NIGHTLY, "name": "other"})
    await world.look()
    await world.apply(NIGHTLY)
    await world.look()
    assert set(world.status["schedules"]) == {"nightly"}
    await world.apply()
    assert await world.look() is None
    assert not {"schedules", "lastScheduleTime", "nextScheduleTime"} & set(world.status)


async def test_a_record_that_cannot_be_read_begins_anew(world: World) -> None:
    await world.apply(NIGHTLY)
    await world.look()
    await world.apply(NIGHTLY)
    world.status["schedules"]["nightly"] = {"considered": "yesterday"}
    assert await world.look() == at("01 02:00")
    assert world.record()["schedule"] == "0 2 * * * UTC"


@pytest.mark.parametrize(
    "triggers", [[], [{"name": "t", "event": "ticket:created"}]], ids=["no triggers", "events only"]
)
async def test_a_workflow_without_schedules_costs_no_write(world: World, triggers: list[dict[str, Any]]) -> None:
    await world.apply(*triggers)
    assert await world.look() is None
    assert world.writes() == 0


async def test_a_workflow_that_is_gone_or_going_is_left_alone(world: World) -> None:
    assert await world.look() is None
    await world.apply(NIGHTLY)
    world.server.objects["workflows", "support", "report"]["metadata"]["deletionTimestamp"] = format_time(START)
    assert await world.look() is None
    assert world.writes() == 0


async def test_the_check_of_the_workflow_keeps_the_record(world: World) -> None:
    await world.apply(NIGHTLY)
    await world.look()

    async def read(_namespace: str, _name: str) -> dict[str, Any] | None:
        return None

    definitions = Definitions(read, MemoryRevisions(), PathEvaluator())
    limits = LiveLimits(open_ledger(), Guards(None, world.clock, on_change=lambda _key: None), world.clock)
    awaited = AwaitedEvents(definitions, list, world.clock)
    types = EventTypes(world.client)
    await WorkflowReconciler(world.client, definitions, limits, types, awaited, world.clock).process(KEY)
    assert world.status["currentRevision"], "it has written"
    assert world.record()["next"] == world.status["nextScheduleTime"] == "2026-01-01T02:00:00.000Z"


# --- with the queue -------------------------------------------------------------------------------------------------


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("seed", range(4))
async def test_every_tick_once_over_two_days_of_restarts(world: World, seed: int) -> None:
    """Three Workflows in one queue; the operator is away for a while now and then, and its clock is set back."""
    chance = random.Random(seed)
    names = ["report", "sweep", "bill"]
    for name in names:
        await world.apply(
            {**NIGHTLY, "schedule": "0 */2 * * *", "catchUp": "All"}, key=RunKey(namespace="support", name=name)
        )
    furthest = world.clock.now()
    while furthest < START + timedelta(days=2):
        queue = Queue(world.another().process, world.clock, workers=2, jitter=chance.random)
        working = asyncio.create_task(queue.run())
        for name in names:
            queue.add(RunKey(namespace="support", name=name))
        for _ in range(chance.randrange(1, 5)):
            await settle()
            world.clock.advance(chance.choice([60.0, HOUR, 2 * HOUR]))
            await settle()
        furthest = max(furthest, world.clock.now())
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        world.clock.advance(chance.choice([60.0, 5 * HOUR, -HOUR]))
    last = [world.another().process(RunKey(namespace="support", name=name)) for name in names]
    await asyncio.gather(*last)
    ticks = int((world.clock.now() - START) / timedelta(hours=2))
    made = Counter(
        body["spec"]["workflowRef"]["name"]
        for (plural, _, _), body in world.server.objects.items()
        if plural == "workflowruns"
    )
    assert made == dict.fromkeys(names, max(ticks, int((furthest - START) / timedelta(hours=2))))
    assert world.became[FAILED] == 0


# --- failures in a row ----------------------------------------------------------------------------------------------


def ends(world: World, tick: str, phase: str) -> None:
    """Let the run of a tick end now."""
    body = world.runs[f"2026-01-{tick}"]
    now = format_time(world.clock.now())
    body["status"] = {"phase": phase, "completionTime": now}
    body["metadata"]["labels"] |= {"kubesaga.dev/phase": phase, "kubesaga.dev/finished": "true"}
    body["metadata"]["annotations"]["kubesaga.dev/completed-at"] = now


async def test_a_schedule_stops_itself_after_failures_in_a_row_until_the_workflow_is_changed(world: World) -> None:
    limited = {**NIGHTLY, "failureLimit": 2}
    await world.apply(limited)
    await world.look()
    for day, phase in (("01", "Failed"), ("02", "Succeeded"), ("03", "Failed"), ("04", "Compensated")):
        await world.wait_until(f"{day} 02:00")
        await world.look()
        world.clock.advance(HOUR)
        ends(world, f"{day}T02:00", phase)
    assert await world.look() is None, "there is no next tick"
    assert world.record()["message"].startswith("It has stopped itself: the last 2 runs have failed")
    assert "nextScheduleTime" not in world.status
    await world.wait_until("06 12:00")
    world.server.objects = {key: body for key, body in world.server.objects.items() if key[0] != "workflowruns"}
    world.ticker = world.another()
    assert await world.look() is None, "another replica sees it in the record, though the runs are gone"
    await world.apply(limited, description="mended")
    assert await world.look() == at("07 02:00")
    assert world.runs == {}, "what passed meanwhile is not made up for"
    assert "message" not in world.record()
    await world.wait_until("07 02:00")
    await world.look()
    assert list(world.runs) == ["2026-01-07T02:00"]


async def test_a_schedule_that_has_stopped_holds_up_no_other(world: World) -> None:
    await world.apply({**NIGHTLY, "failureLimit": 1}, {"name": "daily", "event": "schedule:daily"})
    await world.look()
    await world.wait_until("01 02:00")
    await world.look()
    ends(world, "01T02:00", "Failed")
    assert await world.look() == at("02 00:00")


async def test_a_schedule_without_a_limit_never_asks_for_its_runs(world: World) -> None:
    await world.apply(NIGHTLY)
    await world.look()
    assert not any(
        request.method == "GET" and request.path.endswith("/workflowruns") for request in world.server.requests
    )
