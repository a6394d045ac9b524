# SPDX-License-Identifier: Apache-2.0
"""Tells in a WorkflowEventSource's status whether deliveries are taken (the gateway itself may write nothing), or the objects watched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from kubesaga.api.conditions import with_condition
from kubesaga.api.event_source import WorkflowEventSourceStatus
from kubesaga.api.parsing import parse_event_source_spec
from kubesaga.api.reasons import Reason
from kubesaga.controller.clock import Clock
from kubesaga.controller.status_patch import merge_patch
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.validation.sources import problems_of_source
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient
from kubesaga.kube.resources import WORKFLOW_EVENT_SOURCES
from kubesaga.triggers.objects.watch import Standing
from kubesaga.triggers.objects.watches import ObjectWatches

_log: Final = logging.getLogger("kubesaga.workflow_engine")
_TAKEN: Final = "A gateway that serves this namespace takes deliveries."


class EventSourceReconciler:
    """Takes one WorkflowEventSource at a time. Its status is written only when it changes."""

    def __init__(
        self, client: KubeClient, evaluator: Evaluator, clock: Clock, objects: ObjectWatches,
        changed: Callable[[RunKey, dict[str, Any] | None], None] = lambda _key, _body: None,
    ) -> None:  # fmt: skip
        """`objects` watches for the sources of Kubernetes objects; `changed` is told of each source that was looked at; None: it is gone."""
        self._client = client
        self._changed = changed
        self._evaluator = evaluator
        self._clock = clock
        self._objects = objects

    async def process(self, key: RunKey) -> datetime | None:
        """Check the source as it is now."""
        try:
            body = await self._client.get(WORKFLOW_EVENT_SOURCES, key.namespace, key.name)
        except errors.NotFound:
            await self._objects.leave(key)
            self._changed(key, None)
            return None
        self._changed(key, body)
        if "deletionTimestamp" in body["metadata"]:
            await self._objects.leave(key)
            return None
        old = body.get("status") or {}
        standing = await self._standing(key, body)
        patch = merge_patch(old, self._status(body["metadata"], old, standing).wire())
        if not patch:
            return None
        change = {"metadata": {"resourceVersion": body["metadata"]["resourceVersion"]}, "status": patch}
        try:
            await self._client.merge_patch(
                WORKFLOW_EVENT_SOURCES, key.namespace, key.name, change, subresource="status"
            )  # fmt: skip
        except (errors.Conflict, errors.NotFound):
            return self._clock.now()
        if standing.reason is Reason.INVALID_SPEC:
            _log.warning("WorkflowEventSource %s is not valid: %s", key, standing.message)
        return None

    async def _standing(self, key: RunKey, body: dict[str, Any]) -> Standing:
        problems = await asyncio.to_thread(problems_of_source, body.get("spec"), self._evaluator)
        if problems:
            await self._objects.leave(key)
            return Standing(ready=False, reason=Reason.INVALID_SPEC, message="; ".join(map(str, problems)))
        spec = parse_event_source_spec(body["spec"])
        if spec.kubernetes is not None:
            return await self._objects.attend(key, body, spec.kubernetes)
        await self._objects.leave(key)
        return Standing(ready=True, reason=Reason.VALID, message=_TAKEN)

    def _status(
        self, metadata: dict[str, Any], document: dict[str, Any], standing: Standing
    ) -> WorkflowEventSourceStatus:
        known = WorkflowEventSourceStatus.model_validate(
            {name: document[name] for name in ("conditions", "watch") if name in document}
        )
        generation = metadata.get("generation", 0)
        conditions = with_condition(
            known.conditions, "Ready", "True" if standing.ready else "False", standing.reason, standing.message,
            now=self._clock.now(), generation=generation,
        )  # fmt: skip
        # How far the watch has come outlives a mistake in the spec, and a kind that is not allowed for a while.
        watch = None if standing.reason is Reason.VALID else known.watch
        return WorkflowEventSourceStatus(observed_generation=generation, conditions=conditions, watch=watch)
