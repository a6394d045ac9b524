# SPDX-License-Identifier: Apache-2.0
"""Tells in a WorkflowEventSource's status whether deliveries are taken: the gateway itself may write nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from kubesaga.api.conditions import Truth, with_condition
from kubesaga.api.event_source import WorkflowEventSourceStatus
from kubesaga.api.reasons import Reason
from kubesaga.controller.clock import Clock
from kubesaga.controller.status_patch import merge_patch
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.validation.sources import problems_of_source
from kubesaga.errors import Problem
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient
from kubesaga.kube.resources import WORKFLOW_EVENT_SOURCES

_log: Final = logging.getLogger("kubesaga.workflow_engine")
_TAKEN: Final = "A gateway that serves this namespace takes deliveries."


class EventSourceReconciler:
    """Takes one WorkflowEventSource at a time. Its status is written only when it changes."""

    def __init__(
        self, client: KubeClient, evaluator: Evaluator, clock: Clock,
        changed: Callable[[RunKey, dict[str, Any] | None], None] = lambda _key, _body: None,
    ) -> None:  # fmt: skip
        """`changed` is told of each source that was looked at; None: it is gone."""
        self._client = client
        self._changed = changed
        self._evaluator = evaluator
        self._clock = clock

    async def process(self, key: RunKey) -> datetime | None:
        """Check the source as it is now."""
        try:
            body = await self._client.get(WORKFLOW_EVENT_SOURCES, key.namespace, key.name)
        except errors.NotFound:
            self._changed(key, None)
            return None
        self._changed(key, body)
        if "deletionTimestamp" in body["metadata"]:
            return None
        old = body.get("status") or {}
        problems = await asyncio.to_thread(problems_of_source, body.get("spec"), self._evaluator)
        patch = merge_patch(old, self._status(body["metadata"], old, problems).wire())
        if not patch:
            return None
        change = {"metadata": {"resourceVersion": body["metadata"]["resourceVersion"]}, "status": patch}
        try:
            await self._client.merge_patch(
                WORKFLOW_EVENT_SOURCES, key.namespace, key.name, change, subresource="status"
            )  # fmt: skip
        except (errors.Conflict, errors.NotFound):
            return self._clock.now()
        if problems:
            _log.warning("WorkflowEventSource %s is not valid: %s", key, "; ".join(map(str, problems)))
        return None

    def _status(
        self, metadata: dict[str, Any], document: dict[str, Any], problems: list[Problem]
    ) -> WorkflowEventSourceStatus:
        known = WorkflowEventSourceStatus.model_validate(
            {name: document[name] for name in ("conditions",) if name in document}
        )
        generation = metadata.get("generation", 0)
        truth: Truth = "False" if problems else "True"
        conditions = with_condition(
            known.conditions, "Ready", truth, Reason.INVALID_SPEC if problems else Reason.VALID,
            "; ".join(map(str, problems)) or _TAKEN, now=self._clock.now(), generation=generation,
        )  # fmt: skip
        return WorkflowEventSourceStatus(observed_generation=generation, conditions=conditions)
