# SPDX-License-Identifier: Apache-2.0
"""Makes the run that an event causes, once however often the event comes: by the run's name (law 4), with no memory of its own.

Two who are told of the same event compute the same name, and the API server lets one of them create it.
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
from kubesaga.errors import KubesagaError
from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.errors import AlreadyExists, NotFound
from kubesaga.kube.resources import WORKFLOW_RUNS
from kubesaga.triggers.runs import is_same

_IDENTITY: Final = (EVENT_ORIGIN_ANNOTATION, EVENT_ID_ANNOTATION)


class NotMade(KubesagaError):
    """There is no run of the event, and another try is of no use."""


class ForeignRun(NotMade):
    """The name is taken by a run that the event has not caused."""


class IdReused(NotMade):
    """Another event has come under the same id."""


class BeingDeleted(KubesagaError):
    """The run of the event is being deleted: try again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where an event came in, and what tells it from others: the marks of its runs."""

    source: str
    """The WorkflowEventSource's name."""
    origin: str
    """That name, which holds no `/`, and the event's own source (`origin_of`)."""
    event_id: str
    digest: str
    """Of the event's type and data: the same in each delivery of the same event."""
    actor: str | None = None
    """Who caused it, as its sender says."""


def origin_of(source: str, event_source: str) -> str:
    """Return where an event comes from: the WorkflowEventSource, whose name holds no `/`, and the event's own source."""
    return f"{source}/{event_source}"


class RunMaker:
    """Makes runs."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def make(self, run: Object, provenance: Provenance) -> bool:
        """See to it that the run is there; False: it was there already. Raises NotMade, BeingDeleted, ApiError."""
        run = _marked(run, provenance)
        namespace, name = run["metadata"]["namespace"], run["metadata"]["name"]
        for _ in range(2):
            try:
                await self._client.create(WORKFLOW_RUNS, namespace, run)
            except AlreadyExists:
                pass
            else:
                return True
            try:
                found = await self._client.get(WORKFLOW_RUNS, namespace, name)
            except NotFound:
                continue  # deleted a moment ago: what was kept of it is gone, and it is made again
            _check_same(run, found)
            return False
        raise BeingDeleted("the run of this event is being deleted: try again later")


def _check_same(wanted: Object, found: Object) -> None:
    """Raise NotMade unless the run that has our name was made for the same event."""
    name, ours = wanted["metadata"]["name"], wanted["metadata"]["annotations"]
    theirs = found["metadata"].get("annotations") or {}
    if not is_same(found, wanted) or any(ours[mark] != theirs.get(mark) for mark in _IDENTITY):
        raise ForeignRun(f"the name {name} is taken by a run that this event has not caused: delete that run")
    if ours[EVENT_DIGEST_ANNOTATION] != theirs.get(EVENT_DIGEST_ANNOTATION):
        told = f"another event has come under the id {ours[EVENT_ID_ANNOTATION]}, with another type or other data: an id is for one event"
        raise IdReused(told)


def _marked(run: Object, provenance: Provenance) -> Object:
    """Return a run with what is known of its event."""
    metadata = run["metadata"]
    labels = {**(metadata.get("labels") or {}), EVENT_SOURCE_LABEL: label_value(provenance.source)}
    annotations = {
        **(metadata.get("annotations") or {}),
        EVENT_ORIGIN_ANNOTATION: provenance.origin,
        EVENT_ID_ANNOTATION: provenance.event_id,
        EVENT_DIGEST_ANNOTATION: provenance.digest,
    }
    if provenance.actor is not None:
        annotations[EVENT_ACTOR_ANNOTATION] = provenance.actor[:MAX_ACTOR]
    return {**run, "metadata": {**metadata, "labels": labels, "annotations": annotations}}
