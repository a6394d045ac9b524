# SPDX-License-Identifier: Apache-2.0
"""Makes the run that an event causes, once however often the event comes: by the run's name (law 4), with no memory of its own.

Two gateways, or two deliveries at the same time, compute the same name, and the API server lets one of them create it.
What the name cannot tell stands in annotations: whose run it is, and how long it must stay to be found again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from kubesaga.api.event_source import (
    DEDUPE_UNTIL_ANNOTATION,
    EVENT_DIGEST_ANNOTATION,
    EVENT_ID_ANNOTATION,
    EVENT_ORIGIN_ANNOTATION,
    EVENT_SOURCE_LABEL,
    TRIGGER_ANNOTATION,
    TRIGGER_LABEL,
    WORKFLOW_UID_ANNOTATION,
)
from kubesaga.api.fields import format_time
from kubesaga.api.names import API_VERSION, WORKFLOW_LABEL, label_value
from kubesaga.gateway.event import Event
from kubesaga.gateway.matching import Caused, RunName
from kubesaga.gateway.refusal import Refusal, unavailable
from kubesaga.gateway.sources import Source
from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.errors import AlreadyExists, ApiError, Invalid, NotFound
from kubesaga.kube.resources import WORKFLOW_RUNS

_IDENTITY: Final = (WORKFLOW_UID_ANNOTATION, TRIGGER_ANNOTATION, EVENT_ORIGIN_ANNOTATION, EVENT_ID_ANNOTATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A run that is there because of an event."""

    name: str
    workflow: str
    trigger: str
    created: bool
    """False: an earlier delivery of the same event has made it."""


class RunMaker:
    """Makes runs. `window` is how long a run stays findable for further deliveries of its event."""

    def __init__(
        self, client: KubeClient, run_name: RunName, *, now: Callable[[], datetime], window: timedelta
    ) -> None:
        self._client = client
        self._run_name = run_name
        self._now = now
        self._window = window

    async def make(self, source: Source, workflow: Object, caused: Caused, event: Event, text: str) -> Made:
        """Return the run, which certainly exists. `text` is the event's. Raises Refusal."""
        body = self._body(source, workflow, caused, event, text)
        try:
            created = await self._make(body)
        except Invalid as error:
            raise Refusal(422, "RunRefused", f"the API server refuses the run: {error.message}") from error
        except ApiError as error:
            raise unavailable("the run cannot be made now: try again later", error.retry_after or 5) from error
        return Made(
            name=body["metadata"]["name"], workflow=workflow["metadata"]["name"], trigger=caused.trigger, created=created
        )  # fmt: skip

    async def _make(self, body: Object) -> bool:
        metadata = body["metadata"]
        for _ in range(2):
            try:
                await self._client.create(WORKFLOW_RUNS, metadata["namespace"], body)
            except AlreadyExists:
                pass
            else:
                return True
            try:
                found = await self._client.get(WORKFLOW_RUNS, metadata["namespace"], metadata["name"])
            except NotFound:
                continue  # deleted a moment ago: what was kept of it is gone, and it is made again
            _check_same(metadata, found["metadata"])
            return False
        raise unavailable("the run of this event is being deleted: try again later")

    def _body(self, source: Source, workflow: Object, caused: Caused, event: Event, text: str) -> dict[str, Any]:
        origin = f"{source.name}/{event.source}"
        name, uid = workflow["metadata"]["name"], workflow["metadata"]["uid"]
        return {
            "apiVersion": API_VERSION,
            "kind": "WorkflowRun",
            "metadata": {
                "namespace": source.namespace,
                "name": self._run_name(uid, caused.trigger, origin, event.id),
                "labels": {
                    WORKFLOW_LABEL: label_value(name),
                    TRIGGER_LABEL: label_value(caused.trigger),
                    EVENT_SOURCE_LABEL: label_value(source.name),
                },
                "annotations": {
                    WORKFLOW_UID_ANNOTATION: uid,
                    TRIGGER_ANNOTATION: caused.trigger,
                    EVENT_ORIGIN_ANNOTATION: origin,
                    EVENT_ID_ANNOTATION: event.id,
                    EVENT_DIGEST_ANNOTATION: event.digest(),
                    DEDUPE_UNTIL_ANNOTATION: format_time(self._now() + self._window),
                },
            },
            "spec": {
                **caused.spec,
                "workflowRef": {"name": name},
                **({"inputs": dict(caused.inputs)} if caused.inputs else {}),
                "event": text,
            },
        }


def _check_same(wanted: Object, found: Object) -> None:
    """Raise Refusal unless the object that has our name is the run of the same event."""
    ours, theirs = wanted["annotations"], found.get("annotations") or {}
    if any(ours[name] != theirs.get(name) for name in _IDENTITY):
        told = f"the name {wanted['name']} is taken by a run that this event has not caused: rename or delete that run"
        raise Refusal(409, "ForeignRun", told)
    if ours[EVENT_DIGEST_ANNOTATION] != theirs.get(EVENT_DIGEST_ANNOTATION):
        told = f"another event has come under the id {wanted['annotations'][EVENT_ID_ANNOTATION]}, with another type or other data: an id is for one event"
        raise Refusal(409, "IdReused", told)
