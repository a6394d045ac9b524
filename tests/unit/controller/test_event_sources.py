# SPDX-License-Identifier: Apache-2.0
"""A WorkflowEventSource says whether deliveries are taken, and what is wrong with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.unit.controller.object_world import no_objects
from tests.unit.kube.server import ApiServer, serving

from kubesaga.cel.pool import CelPool
from kubesaga.controller.authoring.event_sources import EventSourceReconciler
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.validation.sources import problems_of_source
from kubesaga.kube.client import KubeClient
from kubesaga.kube.credentials import Authorization, Credentials
from kubesaga.kube.transport import Transport
from kubesaga.testing.clock import FakeClock

KEY = RunKey(namespace="support", name="hook")
HOOK = {"type": "Webhook", "auth": {"none": {}}, "mapping": {"type": "body.kind", "id": "body.id"}}


@pytest.fixture(scope="module")
def evaluator() -> Iterator[CelPool]:
    with CelPool(size=1) as pool:
        yield pool


@pytest.mark.parametrize(("change", "told"), [
    pytest.param({}, [], id="nothing"),
    pytest.param({"mapping": {"type": "body.", "id": "body.id"}}, ["spec.mapping.type: in `body.`: "], id="a mapping that is no CEL"),
    pytest.param({"mapping": {"type": "'a'", "id": "event.id"}}, ["spec.mapping.id: in `event.id`: "], id="a mapping that reads what is not there"),
    pytest.param({"eventTypes": [{"type": "a"}, {"type": "b", "schema": {"type": "text"}}]}, ["spec.eventTypes[1].schema.type: is no valid JSON Schema"], id="a schema of no known type"),
    pytest.param({"eventTypes": [{"type": "a", "schema": {"properties": {"x": {"pattern": "(?=a)"}}}}]}, ["spec.eventTypes[0].schema.properties.x.pattern: cannot be used"], id="a pattern that is none of RE2"),
    pytest.param({"eventTypes": [{"type": "a", "schema": {"$ref": "https://x.example"}}]}, ['spec.eventTypes[0].schema["$ref"]: '], id="a schema that is elsewhere"),
    pytest.param({"eventTypes": [{"type": "a", "schema": {"type": "string"}}]}, [], id="nothing, of data that is a text"),
])  # fmt: skip
def test_what_is_wrong_is(evaluator: CelPool, change: dict[str, Any], told: list[str]) -> None:
    found = [str(problem) for problem in problems_of_source({**HOOK, **change}, evaluator)]
    assert len(found) == len(told)
    assert all(text.startswith(start) for text, start in zip(found, told, strict=True)), found


@pytest.fixture
async def world(evaluator: CelPool) -> AsyncIterator[tuple[ApiServer, EventSourceReconciler]]:
    async with serving() as api:
        clock = FakeClock()
        credentials = Credentials(server=api.url)
        transport = Transport(Authorization(_Same(credentials), credentials, clock=clock.monotonic), user_agent="t", clock=clock.monotonic)  # fmt: skip
        client = KubeClient(transport)
        yield api, EventSourceReconciler(client, evaluator, clock, no_objects(client, clock))
        await client.close()


class _Same:
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def load(self) -> Credentials:
        return self._credentials

    refresh = load


async def test_the_status_is_written_when_it_changes(world: tuple[ApiServer, EventSourceReconciler]) -> None:
    api, reconciler = world
    metadata = {"namespace": "support", "name": "hook", "generation": 3}

    async def ready() -> tuple[str, str]:
        await reconciler.process(KEY)
        [condition] = api.objects["workfloweventsources", "support", "hook"]["status"]["conditions"]
        return condition["status"], condition["reason"]

    await api.put("workfloweventsources", {"metadata": metadata, "spec": HOOK})
    assert await ready() == ("True", "Valid")
    before = api.version
    assert await ready() == ("True", "Valid")
    assert api.version == before
    status = api.objects["workfloweventsources", "support", "hook"]["status"]
    await api.put("workfloweventsources", {"metadata": metadata, "spec": {"type": "Webhook"}, "status": status})
    assert await ready() == ("False", "InvalidSpec")
    await api.remove("workfloweventsources", "support", "hook")
    assert await reconciler.process(KEY) is None
