# SPDX-License-Identifier: Apache-2.0
"""An operator that watches objects, as far as it takes, on a small API server; it can die and come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, Self

from tests.unit.kube.server import ApiServer

from kubesaga.api.fields import format_time
from kubesaga.controller.authoring.event_sources import EventSourceReconciler
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.kube.client import KubeClient
from kubesaga.telemetry.metrics import Metrics
from kubesaga.testing.clock import FakeClock
from kubesaga.testing.paths import PathEvaluator
from kubesaga.triggers.causes import WorkflowTriggers
from kubesaga.triggers.objects.teller import ObjectTeller
from kubesaga.triggers.objects.watches import ObjectWatches

KEY = RunKey(namespace="support", name="maps")
MAPS = {"apiVersion": "v1", "kind": "ConfigMap"}
KINDS = [
    {"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": ["get", "list", "watch"]},
    {"name": "configmaps/none", "kind": "Node", "namespaced": True, "verbs": ["get"]},
    {"name": "nodes", "kind": "Node", "namespaced": False, "verbs": ["get", "list", "watch"]},
    {"name": "bindings", "kind": "Binding", "namespaced": True, "verbs": ["create"]},
]
ALLOWED = ("v1/ConfigMap", "v1/Node", "v1/Binding", "acme.dev/v1/Ticket")
TRIGGERS = [
    {"name": "each", "event": "kubernetes:configmap:*", "inputs": {"what": "${event.data.object.metadata.name}"}}
]


def watches_of(
    client: KubeClient, clock: FakeClock, evaluator: Evaluator, allowed: Sequence[str] = (),
    metrics: Metrics | None = None, warn: Callable[[RunKey, str, str, str], None] = lambda *_: None,
) -> ObjectWatches:  # fmt: skip
    """Return watches of the kinds allowed."""
    teller = ObjectTeller(client, WorkflowTriggers(evaluator), evaluator, metrics or Metrics("test"), warn)
    return ObjectWatches(client, teller, allowed=allowed, clock=clock, random=lambda: 0.5)


def no_objects(client: KubeClient, clock: FakeClock) -> ObjectWatches:
    """Return watches for those to whom they are of no concern."""
    return watches_of(client, clock, PathEvaluator())


class World:
    """Everything that outlives an operator."""

    def __init__(self, server: ApiServer, client: KubeClient, clock: FakeClock, evaluator: Evaluator) -> None:
        self.server, self.client, self.clock, self.evaluator = server, client, clock, evaluator
        self.metrics = Metrics("test")
        self.warnings: list[tuple[str, str]] = []
        server.kinds["v1"] = KINDS

    def operator(self, allowed: Sequence[str] = ALLOWED) -> Operator:
        """Return an operator that is not at work yet."""
        return Operator(self, allowed)

    async def workflow(self, triggers: Sequence[dict[str, Any]] = TRIGGERS) -> None:
        spec = {
            "description": "d", "inputs": [{"name": "what", "type": "string"}], "triggers": list(triggers),
            "activities": [{"name": "a", "handler": "h"}],
        }  # fmt: skip
        await self.server.put("workflows", {"metadata": {"namespace": "support", "name": "w"}, "spec": spec})

    async def source(self, **kubernetes: Any) -> None:
        """Create the source."""
        metadata = {**self.metadata("maps"), "generation": 1}
        spec = {"type": "Kubernetes", "kubernetes": {**MAPS, **kubernetes}}
        await self.server.put("workfloweventsources", {"metadata": metadata, "spec": spec})

    async def change(self, name: str, *, labels: dict[str, str] | None = None, **data: str) -> None:
        """Create or change a ConfigMap."""
        known = self.server.objects.get(("configmaps", "support", name))
        metadata = dict(known["metadata"]) if known else self.metadata(name)
        if labels is not None:
            metadata["labels"] = labels
        await self.server.put("configmaps", {"metadata": metadata, "data": data})

    async def remove(self, name: str) -> None:
        await self.server.remove("configmaps", "support", name)

    def metadata(self, name: str) -> dict[str, Any]:
        """Return what the API server gives an object that is made now."""
        created = format_time(self.clock.now()).split(".")[0] + "Z"
        return {"namespace": "support", "name": name, "creationTimestamp": created}

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.objects["workfloweventsources", "support", "maps"].get("status") or {}
        return found

    @property
    def ready(self) -> tuple[str, str, str]:
        """Status, reason and message."""
        for condition in self.status.get("conditions", ()):
            return condition["status"], condition["reason"], condition["message"]
        return "", "", ""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of the runs, oldest run first."""
        runs = [(key, run) for key, run in self.server.objects.items() if key[0] == "workflowruns"]
        return [json.loads(run["spec"]["event"]) for _, run in runs]

    @property
    def told(self) -> list[str]:
        """The same, as `name was added`."""
        return [f"{event['subject']} {event['type'].rpartition(':')[2]}" for event in self.events]

    def counted(self, series: str, **labels: str) -> float:
        found = self.metrics.registry.get_sample_value(series, {"namespace": "support", **labels})
        return found or 0.0


class Operator:
    """At work within `async with`; leaving it is like a crash: nothing is written any more."""

    def __init__(self, world: World, allowed: Sequence[str]) -> None:
        self.world = world
        self.watches = watches_of(
            world.client, world.clock, world.evaluator, allowed, world.metrics,
            lambda _key, _uid, reason, message: world.warnings.append((reason, message)),
        )  # fmt: skip
        self._reconciler = EventSourceReconciler(world.client, world.evaluator, world.clock, self.watches)
        self._look = True
        self.watches.on_change(lambda _key: self.look())

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.watches.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def look(self) -> None:
        """The source has changed."""
        self._look = True

    async def until(self, condition: Callable[[], object]) -> None:
        """Go on until a condition holds, and let time pass."""
        async with asyncio.timeout(20):
            while not condition():
                if self._look:
                    self._look = False
                    if await self._reconciler.process(KEY) is not None:
                        self._look = True
                self.world.clock.advance(0.25)
                await asyncio.sleep(0.002)

    async def until_ready(self) -> None:
        await self.until(lambda: self.world.ready[0] == "True")

    async def until_recorded(self) -> None:
        """Go on until the progress is written down that there is now."""
        last = max(
            int(obj["metadata"]["resourceVersion"])
            for key, obj in self.world.server.objects.items()
            if key[0] == "configmaps"
        )
        await self.until(lambda: int(self.world.status.get("watch", {}).get("resourceVersion", 0)) >= last)
