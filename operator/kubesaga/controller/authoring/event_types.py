# SPDX-License-Identifier: Apache-2.0
"""Which event types the WorkflowEventSources of a namespace register, and which Workflows have triggers, or waits, for types of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubesaga.api.event_types import CATALOGUE, EventType, known_types
from kubesaga.api.parsing import parse_event_source_spec
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.controller.reading import FreshReads
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.validation import triggers, waits
from kubesaga.errors import InvalidSpec, Problem
from kubesaga.kube.client import KubeClient, Selection
from kubesaga.kube.resources import WORKFLOW_EVENT_SOURCES


class EventTypes:
    """Reads the sources where it matters: for a Workflow that waits for what the catalogue does not know."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._reads = FreshReads[str, list[EventType]](self._registered)
        self._users: set[RunKey] = set()
        self._seen: dict[RunKey, list[dict[str, Any]]] = {}

    async def known(self, workflow: RunKey, spec: WorkflowSpec) -> Mapping[str, EventType]:
        """Return the event types that are known to a Workflow. Raises ApiError."""
        if next(unknown_events(spec), None) is None:
            self._users.discard(workflow)
            return CATALOGUE
        self._users.add(workflow)  # before the read: what changes from then on is told
        return known_types(await self._reads.read(workflow.namespace))

    def forget(self, workflow: RunKey) -> None:
        """A Workflow is gone, or says nothing of events any more."""
        self._users.discard(workflow)

    def changed(self, source: RunKey, body: dict[str, Any] | None) -> Sequence[RunKey]:
        """Take in a source as it is now, None: it is gone. Return the Workflows for which that may make a difference."""
        now = [known.wire() for known in _types_of(body)]
        if now == self._seen.get(source, []):
            return ()
        self._seen[source] = now
        if not now:
            del self._seen[source]
        return [user for user in self._users if user.namespace == source.namespace]

    async def _registered(self, namespace: str) -> list[EventType]:
        listing = await self._client.list(WORKFLOW_EVENT_SOURCES, Selection(namespace=namespace))
        return [known for body in listing.items for known in _types_of(body)]


def unknown_events(spec: WorkflowSpec, known: Mapping[str, EventType] = CATALOGUE) -> Iterator[Problem]:
    """Yield the triggers and the waits of a Workflow that are for event types which nobody has registered."""
    yield from triggers.unknown_events(spec.triggers, known=known)
    yield from waits.unknown_events(spec, known=known)


def _types_of(body: dict[str, Any] | None) -> Sequence[EventType]:
    """Return what a source registers: nothing if it takes nothing."""
    if body is None or "deletionTimestamp" in body["metadata"]:
        return ()
    try:
        return parse_event_source_spec(body.get("spec")).registered
    except InvalidSpec:
        return ()
