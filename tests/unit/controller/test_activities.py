# SPDX-License-Identifier: Apache-2.0
"""Activities are read afresh, checked once a generation, told of in their status only when that changes, and their users are looked at."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.controller.object_world import no_objects
from tests.unit.kube.server import ApiServer, until

from kubesaga.api.fields import format_time
from kubesaga.api.triggers import TRIGGER_ID_LABEL
from kubesaga.controller.authoring.activities import Activities, ActivityReconciler
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.guards.all import Guards
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.controller.memory import MemoryRevisions
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.uses import Used
from kubesaga.errors import InvalidSpec
from kubesaga.kube.client import KubeClient
from kubesaga.main.authoring import Authoring
from kubesaga.main.execution import Base
from kubesaga.settings import Settings
from kubesaga.telemetry.metrics import Metrics
from kubesaga.testing.clock import FakeClock
from kubesaga.testing.paths import PathEvaluator
from kubesaga.testing.unguarded import open_ledger
from kubesaga.triggers.names import trigger_id

KEY = RunKey(namespace="shop", name="mail")


class Counting(PathEvaluator):
    """Counts the expressions that it is asked about."""

    def __init__(self) -> None:
        self.checked = 0

    def check(self, expression: str, roots: Any) -> str | None:
        self.checked += 1
        return None


def body(name: str = "mail", namespace: str = "shop", generation: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kubesaga.dev/v1alpha1", "kind": "Activity", "spec": {"description": "d", "handler": "h", **spec},
        "metadata": {"namespace": namespace, "name": name, "generation": generation},
    }  # fmt: skip


def limits_of(clock: FakeClock) -> LiveLimits:
    """Return limits that nothing asks for."""
    return LiveLimits(open_ledger(), Guards(None, clock, on_change=lambda _key: None), clock)


def ready(server: ApiServer, name: str = "mail") -> tuple[str, str]:
    [condition] = server.objects["activities", "shop", name]["status"]["conditions"]
    return condition["status"], condition["message"]


def writes(server: ApiServer) -> int:
    return sum(request.method == "PATCH" for request in server.requests)


async def test_its_status_is_written_when_it_changes_and_keeps_what_others_write(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    evaluator = PathEvaluator()
    reconciler = ActivityReconciler(
        client, Activities(client, evaluator, shared=""), evaluator, limits_of(clock), clock
    )
    breakers = [{"key": "k", "state": "Open"}]
    await server.put("activities", {**body(), "status": {"circuitBreakers": breakers}})
    for _ in range(2):
        assert await reconciler.process(KEY) is None
    assert (ready(server), writes(server)) == (("True", "The Activity is valid and can be used."), 1)
    assert server.objects["activities", "shop", "mail"]["status"]["circuitBreakers"] == breakers

    await server.put(
        "activities", {**server.objects["activities", "shop", "mail"], **body(generation=2, handler="${x}")}
    )
    await reconciler.process(KEY)
    assert ready(server)[0] == "False"
    assert ready(server)[1].startswith("spec.handler: is fixed")
    assert await reconciler.process(RunKey(namespace="shop", name="gone")) is None


async def test_one_that_uses_another_is_ready_with_it(server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
    evaluator = PathEvaluator()
    reconciler = ActivityReconciler(
        client, Activities(client, evaluator, shared=""), evaluator, limits_of(clock), clock
    )
    await server.put("activities", body(compensation={"uses": "unsend"}))
    await reconciler.process(KEY)
    assert ready(server)[1].startswith("spec.compensation.uses: there is no Activity unsend in namespace shop")
    assert reconciler.users == {KEY}
    await server.put("activities", body("unsend"))
    await reconciler.process(KEY)
    assert ready(server)[0] == "True"


@pytest.mark.parametrize(("bodies", "changes"), [
    pytest.param([body(), body()], [True, False], id="its status alone changes"),
    pytest.param([body(), body(generation=2)], [True, True], id="its spec changes"),
    pytest.param([body(), {**body(), "metadata": {**body()["metadata"], "uid": "other"}}], [True, True], id="another one bears its name"),
    pytest.param([body(), None, None], [True, True, False], id="it goes"),
])  # fmt: skip
def test_it_has_changed_when(bodies: list[Any], changes: list[bool], client: KubeClient, clock: FakeClock) -> None:
    reconciler = ActivityReconciler(
        client, Activities(client, PathEvaluator(), shared=""), PathEvaluator(), limits_of(clock), clock
    )  # fmt: skip
    told = [reconciler.changed(KEY, one or body(), gone=one is None) for one in bodies]
    assert told == changes


async def test_the_catalogue_is_read_afresh_and_what_is_made_of_it_kept(server: ApiServer, client: KubeClient) -> None:
    evaluator = Counting()
    activities = Activities(client, evaluator, shared="common")
    await server.put(
        "activities",
        body(http={"url": "http://x/${inputs.a}"}, handler=None) | {"spec": {"http": {"url": "http://x/${inputs.a}"}}},
    )
    await server.put("activities", body("sms", "common"))
    await server.put("activities", body("hidden", "other"))
    for _ in range(2):
        catalogue = await activities.catalogue("shop")
        assert isinstance(catalogue.find("shop", "mail", "shop"), Used)
        assert isinstance(catalogue.find("shop", "sms", "shop"), Used)
        assert isinstance(catalogue.find("shop", "hidden", "shop"), str)
    assert evaluator.checked == 1
    del server.objects["activities", "shop", "mail"]
    assert isinstance((await activities.catalogue("shop")).find("shop", "mail", "shop"), str)


def authoring_of(client: KubeClient, definitions: Definitions, activities: Activities, clock: FakeClock) -> Authoring:
    base = Base(settings=Settings(), clock=clock, metrics=Metrics("test"), client=client, alive={}, ready={})  # type: ignore[arg-type]  # time stands still
    return Authoring(base, client, definitions, activities, PathEvaluator(), limits_of(clock), KubeRecords(client),
                     no_objects(client, clock))  # fmt: skip


@pytest.mark.parametrize(("changed", "queued"), [
    pytest.param("shop", {"shop/order"}, id="of their namespace"),
    pytest.param("common", {"shop/order", "bank/pay"}, id="of the catalogue"),
    pytest.param("elsewhere", set(), id="of another namespace"),
])  # fmt: skip
async def test_workflows_that_use_activities_are_looked_at_when_one_changes(
    changed: str, queued: set[str], client: KubeClient, clock: FakeClock
) -> None:
    async def no_workflow(namespace: str, name: str) -> None:
        return None

    activities = Activities(client, PathEvaluator(), shared="common")
    definitions = Definitions(no_workflow, MemoryRevisions(), PathEvaluator(), activities.catalogue)
    authoring = authoring_of(client, definitions, activities, clock)
    uses, plain = ({"activities": [{"name": "a", **what}]} for what in ({"uses": "mail"}, {"handler": "x"}))
    for namespace, name, document in (("shop", "order", uses), ("bank", "pay", uses), ("shop", "plain", plain)):
        try:
            await definitions.pin(namespace, name, name, document)
        except InvalidSpec:
            assert document is uses
    authoring.activity_changed(RunKey(namespace=changed, name="mail"), body(namespace=changed), gone=False)
    waiting = {f"{key.namespace}/{key.name}" for key in authoring._workflows._queued}
    assert waiting == queued
    authoring.activity_changed(RunKey(namespace=changed, name="mail"), body(namespace=changed), gone=False)
    assert authoring._activities.depth == 1


async def test_a_workflow_is_looked_at_when_a_run_of_an_event_has_failed(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async def no_workflow(namespace: str, name: str) -> None:
        return None

    activities = Activities(client, PathEvaluator(), shared="common")
    definitions = Definitions(no_workflow, MemoryRevisions(), PathEvaluator(), activities.catalogue)
    authoring = authoring_of(client, definitions, activities, clock)
    key = RunKey(namespace="shop", name="order")
    trigger = {"name": "paid", "event": "order:paid", "failureLimit": 1}
    spec = {"description": "d", "triggers": [trigger], "activities": [{"name": "a", "handler": "x"}]}
    metadata = {"namespace": "shop", "name": "order", "uid": "u", "generation": 1}
    await server.put("workflows", {"metadata": metadata, "spec": spec})
    authoring.workflow_changed(key)
    queue = authoring._limiting
    assert set(queue._queued) == {key}
    working = asyncio.create_task(queue.run())
    await until(lambda: "triggers" in server.objects["workflows", "shop", "order"].get("status", {}))
    await until(lambda: queue.idle)
    working.cancel()
    run: dict[str, Any] = {
        "metadata": {"namespace": "shop", "name": "r", "labels": {TRIGGER_ID_LABEL: trigger_id("u", "paid")}},
        "spec": {"workflowRef": {"name": "order"}}, "status": {"phase": "Running"},
    }  # fmt: skip
    authoring.run_changed(run)
    assert not queue._queued
    ended = {"phase": "Failed", "completionTime": format_time(clock.now() + timedelta(seconds=1))}
    authoring.run_changed({**run, "status": ended})
    assert set(queue._queued) == {key}
    assert not authoring._ticking._queued.keys() - {key}, "no tick has made it"


async def test_a_workflow_is_looked_at_when_a_run_works_from_a_revision_that_is_news(
    client: KubeClient, clock: FakeClock
) -> None:
    async def no_workflow(namespace: str, name: str) -> None:
        return None

    activities = Activities(client, PathEvaluator(), shared="common")
    definitions = Definitions(no_workflow, MemoryRevisions(), PathEvaluator(), activities.catalogue)
    authoring = authoring_of(client, definitions, activities, clock)
    run: dict[str, Any] = {
        "metadata": {"namespace": "shop", "name": "r"}, "spec": {"workflowRef": {"name": "order"}},
        "status": {"workflowRevision": "order-0123456789"},
    }  # fmt: skip
    authoring.run_changed({**run, "status": {}})
    assert authoring._workflows.depth == 0
    for _ in range(2):
        authoring.run_changed(run)
        assert set(authoring._workflows._queued) == {RunKey(namespace="shop", name="order")}
