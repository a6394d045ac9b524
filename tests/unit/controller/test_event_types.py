# SPDX-License-Identifier: Apache-2.0
"""A Workflow says whether its event types are registered, and is looked at again when that changes; and which triggers stopped."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.kube.server import ApiServer

from kubesaga.controller.authoring.awaited_events import AwaitedEvents
from kubesaga.controller.authoring.event_types import EventTypes
from kubesaga.controller.authoring.workflows import WorkflowReconciler
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.guards.all import Guards
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.controller.memory import MemoryRevisions
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.client import KubeClient
from kubesaga.testing.clock import FakeClock
from kubesaga.testing.paths import PathEvaluator
from kubesaga.testing.unguarded import open_ledger

KEY = RunKey(namespace="support", name="desk")
SOURCE = RunKey(namespace="support", name="hook")


def source(*types: str, namespace: str = "support", **spec: Any) -> dict[str, Any]:
    whole = {"type": "CloudEvents", "auth": {"none": {}}, "eventTypes": [{"type": type_} for type_ in types], **spec}
    whole = {name: value for name, value in whole.items() if value is not None}
    return {"metadata": {"namespace": namespace, "name": "hook"}, "spec": whole}


OBJECTS: dict[str, Any] = {
    "type": "Kubernetes", "kubernetes": {"apiVersion": "v1", "kind": "ConfigMap"}, "auth": None, "eventTypes": None,
}  # fmt: skip


class World:
    """One Workflow, and whoever checks it."""

    def __init__(self, server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
        async def read(_namespace: str, _name: str) -> dict[str, Any] | None:
            return None

        self.server, self.types = server, EventTypes(client)
        definitions = Definitions(read, MemoryRevisions(), PathEvaluator())
        limits = LiveLimits(open_ledger(), Guards(None, clock, on_change=lambda _key: None), clock)
        awaited = AwaitedEvents(definitions, list, clock)
        self.reconciler = WorkflowReconciler(client, definitions, limits, self.types, awaited, clock)

    async def apply(self, *events: str, **spec: Any) -> None:
        triggers = [{"name": f"t{number}", "event": event} for number, event in enumerate(events)]
        whole = {"description": "d", "triggers": triggers, "activities": [{"name": "a", "handler": "x"}], **spec}
        known = self.server.objects.get(("workflows", *KEY_OF)) or {"metadata": {"generation": 0}}
        metadata = {
            "namespace": KEY.namespace, "name": KEY.name, "uid": "u", "generation": known["metadata"]["generation"] + 1,
        }  # fmt: skip
        await self.server.put("workflows", {"metadata": metadata, "spec": whole, "status": known.get("status", {})})

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.server.objects["workflows", *KEY_OF]["status"]
        return status

    async def said(self) -> dict[str, tuple[str, str]]:
        """Check the Workflow, and return its conditions: status and message by type."""
        await self.reconciler.process(KEY)
        conditions = self.server.objects["workflows", KEY.namespace, KEY.name]["status"]["conditions"]
        return {one["type"]: (one["status"], one["message"]) for one in conditions}


KEY_OF = (KEY.namespace, KEY.name)


@pytest.fixture
def world(server: ApiServer, client: KubeClient, clock: FakeClock) -> World:
    return World(server, client, clock)


@pytest.mark.parametrize(
    ("events", "registered", "known"),
    [
        pytest.param(["ticket:created"], None, "True", id="the catalogue's"),
        pytest.param(["ticket:craeted"], None, "False", id="misspelt"),
        pytest.param(["desk:opened"], source("desk:opened"), "True", id="registered"),
        pytest.param(["desk:opened"], source("desk:*"), "True", id="registered by a pattern"),
        pytest.param(["desk:*"], source("desk:opened"), "True", id="a pattern that a registered one fits"),
        pytest.param(["desk:opened"], source("desk:closed"), "False", id="another than the registered one"),
        pytest.param(["desk:opened", "desk:lost"], source("desk:opened"), "False", id="one of two"),
        pytest.param(["desk:opened"], source("desk:opened", namespace="other"), "False", id="registered elsewhere"),
        pytest.param(["desk:opened"], source("desk:opened", auth={}), "False", id="registered by a source that is wrong"),
        pytest.param(["desk:opened"], source(), "False", id="before a source that takes all and registers none"),
        pytest.param(["kubernetes:configmap:deleted", "kubernetes:configmap:*"], source(**OBJECTS), "True", id="of objects that are watched"),
        pytest.param(["kubernetes:secret:added"], source(**OBJECTS), "False", id="of objects that nobody watches"),
        pytest.param([], None, None, id="none"),
    ],
)  # fmt: skip
async def test_the_event_types_of_a_workflow_are(
    world: World, events: list[str], registered: dict[str, Any] | None, known: str | None
) -> None:
    if registered is not None:
        await world.server.put("workfloweventsources", registered)
    await world.apply(*events)
    said = await world.said()
    assert said["Ready"][0] == "True", "an unknown type is no fault"
    assert said.get("EventKnown", (None,))[0] == known
    assert ("is not a known event type" in said["Ready"][1]) is (known == "False")


async def test_the_condition_names_the_trigger_and_goes_with_it(world: World) -> None:
    await world.apply("ticket:craeted")
    assert (await world.said())["EventKnown"] == (
        "False", "spec.triggers[0].event: ticket:craeted is not a known event type; did you mean ticket:created?",
    )  # fmt: skip
    await world.apply("ticket:craeted", activities=[])
    assert set(await world.said()) == {"Ready", "Stalled"}, "of a Workflow that is wrong nothing is known"
    await world.apply("ticket:created")
    assert (await world.said())["EventKnown"][0] == "True"
    await world.apply()
    assert set(await world.said()) == {"Ready", "Stalled"}


@pytest.mark.parametrize(
    ("event", "known"), [("ticket:updated", "True"), ("desk:answered", "True"), ("desk:asked", "False")]
)
async def test_the_event_type_that_an_activity_waits_for_counts_too(world: World, event: str, known: str) -> None:
    await world.server.put("workfloweventsources", source("desk:answered"))
    await world.apply(
        activities=[{"name": "a", "waitFor": {"event": event, "when": "received.data.x", "timeout": "1h"}}]
    )
    status, told = (await world.said())["EventKnown"]
    assert status == known
    assert told.startswith("spec.activities[0].waitFor.event: desk:asked is not") is (known == "False")


async def test_who_waits_for_a_type_is_looked_at_when_sources_change(world: World) -> None:
    await world.apply("desk:opened")
    assert (await world.said())["EventKnown"][0] == "False"
    body = source("desk:opened")
    await world.server.put("workfloweventsources", body)
    assert world.types.changed(SOURCE, body) == [KEY]
    assert (await world.said())["EventKnown"][0] == "True"
    assert world.types.changed(SOURCE, {**body, "status": {"conditions": []}}) == (), "nothing of its types is new"
    other = RunKey(namespace="other", name="hook")
    assert world.types.changed(other, source("x", namespace="other")) == [], "a source of another namespace"
    await world.server.remove("workfloweventsources", "support", "hook")
    assert world.types.changed(SOURCE, None) == [KEY]
    assert (await world.said())["EventKnown"][0] == "False"


async def test_who_waits_for_known_types_costs_no_read_of_the_sources(world: World) -> None:
    await world.apply("ticket:created")
    await world.said()
    assert not any("workfloweventsources" in request.path for request in world.server.requests)
    assert world.types.changed(SOURCE, source("desk:opened")) == []


SCHEDULE = {"schedule": "x", "considered": "2026-01-01T00:00:00.000Z"}


@pytest.mark.parametrize(("status", "named"), [
    pytest.param({"schedules": {"nightly": {**SCHEDULE, "stoppedGeneration": 1}}}, "nightly", id="a schedule"),
    pytest.param({"triggers": {"t0": {"stoppedGeneration": 1}}}, "t0", id="a trigger about events"),
    pytest.param({"schedules": {"b": {**SCHEDULE, "stoppedGeneration": 1}}, "triggers": {"a": {"stoppedGeneration": 1}}}, "a, b", id="both"),
    pytest.param({"triggers": {"t0": {"stoppedGeneration": 1}, "old": {"stoppedGeneration": 0}, "new": {}}}, "t0", id="one of several"),
])  # fmt: skip
async def test_what_has_stopped_itself_is_told_until_the_workflow_is_changed(
    world: World, status: dict[str, Any], named: str
) -> None:
    await world.apply("ticket:created")
    await world.server.put("workflows", {**world.server.objects["workflows", *KEY_OF], "status": status})
    told = f"{named}: the last runs have failed (failureLimit); change the Workflow to start runs again"
    assert (await world.said())["TriggerStopped"] == ("True", told)
    assert {name: world.status[name] for name in status} == status, "the record is others'"
    await world.apply("ticket:created")
    assert "TriggerStopped" not in await world.said()
