# SPDX-License-Identifier: Apache-2.0
"""What comes of one change of a watched object: its event, held against the triggers of the namespace, and their runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kubesaga.api.object_source import KubernetesObjects, ObjectEvent
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.language.expressions import Evaluator, ExpressionError, condition
from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.errors import Invalid, NotFound
from kubesaga.kube.resources import Resource
from kubesaga.telemetry.metrics import Metrics
from kubesaga.triggers.causes import Caused, WorkflowTriggers
from kubesaga.triggers.events import Event
from kubesaga.triggers.making import NotMade, RunMaker, origin_of
from kubesaga.triggers.objects.changes import Change, event_of_change, is_truncated, provenance_of, scope_of

_log: Final = logging.getLogger("kubesaga.workflow_engine")
_WHEN: Final = "spec.kubernetes.when"

Warn = Callable[[RunKey, str, str, str], None]
"""Posts a warning about a source: its key, its uid, the reason in one word, a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A source as it is now, and what its kind is to the API server."""

    key: RunKey
    uid: str
    objects: KubernetesObjects
    resource: Resource


@dataclass(slots=True, kw_only=True)
class _Matched:
    event: Event
    causes: list[tuple[str, Caused]] = field(default_factory=list)
    """By the name of the Workflow."""
    faults: list[tuple[str, str]] = field(default_factory=list)
    filtered: dict[str, int] = field(default_factory=dict)
    stopped: dict[str, int] = field(default_factory=dict)


class ObjectTeller:
    """Tells changes. It remembers nothing: a change that is told twice finds its runs."""

    def __init__(
        self, client: KubeClient, triggers: WorkflowTriggers, evaluator: Evaluator, metrics: Metrics, warn: Warn
    ) -> None:
        self._client = client
        self._maker = RunMaker(client)
        self._triggers = triggers
        self._evaluator = evaluator
        self._metrics = metrics
        self._warn = warn

    async def tell(self, source: Watched, change: Change, workflows: Sequence[Object]) -> None:
        """See to it that the runs are there that the change causes. Raises what is to be tried again."""
        if not await self._is_so(source, change):
            return
        try:
            found = await asyncio.to_thread(self._match, source, change, workflows)
        except ExpressionError as error:
            self._metrics.on_object_event(source.key.namespace, source.key.name, "broken")
            self._warn(source.key, source.uid, "WhenFailed", f"for {change.name}, which was {change.event}: {error}")
            return
        if found is None:
            self._metrics.on_object_event(source.key.namespace, source.key.name, "filtered")
            return
        if is_truncated(found.event) and found.causes:
            told = f"{change.name} is too large for an event: its runs see its name and version alone (event.data.truncated)"
            self._warn(source.key, source.uid, "ObjectTruncated", told)
        for workflow, caused in found.causes:
            await self._make(source, found.event, workflow, caused)
        self._count(source, found)

    async def _is_so(self, source: Watched, change: Change) -> bool:
        """Tell whether an object that has left the watch was deleted: it may just bear other labels now."""
        if change.event is not ObjectEvent.DELETED:
            return True
        try:
            found = await self._client.get(source.resource, source.key.namespace, change.name, metadata_only=True)
        except NotFound:
            return True
        return bool(found["metadata"]["uid"] != change.uid)

    def _match(self, source: Watched, change: Change, workflows: Sequence[Object]) -> _Matched | None:
        """Return what the change causes, None if the source's `when` leaves it out. Called in a thread.

        Raises ExpressionError if `when` has no value, EvaluatorUnavailable.
        """
        when = source.objects.when
        if when is not None and not condition(when, scope_of(source.objects, change), self._evaluator, _WHEN):
            return None
        found = _Matched(event=event_of_change(source.objects, source.resource, change))
        event = found.event
        for workflow in workflows:
            name = workflow["metadata"]["name"]
            matches = self._triggers.match(
                workflow, event.document, event.text, origin_of(source.key.name, event.source)
            )
            found.causes += [(name, caused) for caused in matches.caused]
            found.faults += [(name, fault) for fault in matches.faults]
            if matches.filtered:
                found.filtered[name] = matches.filtered
            if matches.stopped:
                found.stopped[name] = len(matches.stopped)
        return found

    async def _make(self, source: Watched, event: Event, workflow: str, caused: Caused) -> None:
        name = caused.run["metadata"]["name"]
        try:
            created = await self._maker.make(caused.run, provenance_of(source.key.name, event))
        except (NotMade, Invalid) as error:
            self._metrics.on_object_run(source.key.namespace, workflow, "refused")
            told = error.message if isinstance(error, Invalid) else str(error)
            self._warn(source.key, source.uid, "RunRefused", f"{event.id} makes no run of {workflow}: {told}")
            return
        self._metrics.on_object_run(source.key.namespace, workflow, "created" if created else "existing")
        if created:
            _log.info(
                "%s (%s) of %s made %s", event.document.get("subject"), event.type, source.key, name,
                extra={"namespace": source.key.namespace},
            )  # fmt: skip

    def _count(self, source: Watched, found: _Matched) -> None:
        namespace = source.key.namespace
        became = "caused" if found.causes else "stopped" if found.stopped else "unmatched"
        self._metrics.on_object_event(namespace, source.key.name, became)
        for workflow, _ in found.causes:
            self._metrics.on_object_trigger(namespace, workflow, "matched")
        for workflow, number in found.filtered.items():
            self._metrics.on_object_trigger(namespace, workflow, "filtered", number)
        for workflow, number in found.stopped.items():
            self._metrics.on_object_trigger(namespace, workflow, "stopped", number)
        for workflow, fault in found.faults:
            self._metrics.on_object_trigger(namespace, workflow, "broken")
            told = f"a trigger of {workflow} cannot be held against {found.event.id}: {fault}"
            self._warn(source.key, source.uid, "TriggerFailed", told)
