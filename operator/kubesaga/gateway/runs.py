# SPDX-License-Identifier: Apache-2.0
"""Makes the run that an event causes, once however often the event comes: by the run's name (law 4), with no memory of its own.

Two gateways, or two deliveries at the same time, compute the same name, and the API server lets one of them create it.
How long the run has to stay so that it is found again is among the marks that its trigger gives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kubesaga.api.event_source import (
    EVENT_ACTOR_ANNOTATION,
    EVENT_DIGEST_ANNOTATION,
    EVENT_ID_ANNOTATION,
    EVENT_ORIGIN_ANNOTATION,
    EVENT_SOURCE_LABEL,
    MAX_ACTOR,
)
from kubesaga.api.names import label_value
from kubesaga.gateway.event import Event
from kubesaga.gateway.matching import Caused, Triggers
from kubesaga.gateway.refusal import Refusal, unavailable
from kubesaga.gateway.sources import Source
from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.errors import AlreadyExists, ApiError, Invalid, NotFound
from kubesaga.kube.resources import WORKFLOW_RUNS

_IDENTITY: Final = (EVENT_ORIGIN_ANNOTATION, EVENT_ID_ANNOTATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A run that is there because of an event."""

    name: str
    workflow: str
    trigger: str
    created: bool
    """False: an earlier delivery of the same event has made it."""


def origin_of(source: Source, event: Event) -> str:
    """Return where an event comes from: the WorkflowEventSource, whose name holds no `/`, and the event's own source."""
    return f"{source.name}/{event.source}"


class RunMaker:
    """Makes runs."""

    def __init__(self, client: KubeClient, triggers: Triggers) -> None:
        self._client = client
        self._triggers = triggers

    async def make(self, source: Source, workflow: str, caused: Caused, event: Event) -> Made:
        """Return the run, which certainly exists. Raises Refusal."""
        run = _marked(source, caused.run, event)
        try:
            created = await self._make(source.namespace, run)
        except Invalid as error:
            raise Refusal(422, "RunRefused", f"the API server refuses the run: {error.message}") from error
        except ApiError as error:
            raise unavailable("the run cannot be made now: try again later", error.retry_after or 5) from error
        return Made(name=run["metadata"]["name"], workflow=workflow, trigger=caused.trigger, created=created)

    async def _make(self, namespace: str, run: Object) -> bool:
        for _ in range(2):
            try:
                await self._client.create(WORKFLOW_RUNS, namespace, run)
            except AlreadyExists:
                pass
            else:
                return True
            try:
                found = await self._client.get(WORKFLOW_RUNS, namespace, run["metadata"]["name"])
            except NotFound:
                continue  # deleted a moment ago: what was kept of it is gone, and it is made again
            self._check_same(run, found)
            return False
        raise unavailable("the run of this event is being deleted: try again later")

    def _check_same(self, wanted: Object, found: Object) -> None:
        """Raise Refusal unless the run that has our name was made for the same event."""
        name, ours = wanted["metadata"]["name"], wanted["metadata"]["annotations"]
        theirs = found["metadata"].get("annotations") or {}
        if not self._triggers.is_same(found, wanted) or any(ours[mark] != theirs.get(mark) for mark in _IDENTITY):
            told = f"the name {name} is taken by a run that this event has not caused: delete that run"
            raise Refusal(409, "ForeignRun", told)
        if ours[EVENT_DIGEST_ANNOTATION] != theirs.get(EVENT_DIGEST_ANNOTATION):
            told = f"another event has come under the id {ours[EVENT_ID_ANNOTATION]}, with another type or other data: an id is for one event"
            raise Refusal(409, "IdReused", told)


def _marked(source: Source, run: Object, event: Event) -> Object:
    """Return a run with what the gateway knows of its event."""
    metadata = run["metadata"]
    labels = {**(metadata.get("labels") or {}), EVENT_SOURCE_LABEL: label_value(source.name)}
    annotations = {
        **(metadata.get("annotations") or {}),
        EVENT_ORIGIN_ANNOTATION: origin_of(source, event),
        EVENT_ID_ANNOTATION: event.id,
        EVENT_DIGEST_ANNOTATION: event.digest(),
    }
    if (actor := event.attributes.get("actorid")) is not None:
        annotations[EVENT_ACTOR_ANNOTATION] = str(actor)[:MAX_ACTOR]
    return {**run, "metadata": {**metadata, "labels": labels, "annotations": annotations}}
