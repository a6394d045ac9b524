# SPDX-License-Identifier: Apache-2.0
"""Tells in a Workflow's status whether it is valid, and keeps the revision that new runs will work from."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Any, Final

from kubesaga.api.conditions import with_condition
from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.api.workflow import WorkflowSpec, WorkflowStatus
from kubesaga.controller.clock import Clock
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.status_patch import merge_patch
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.validation import warnings_of
from kubesaga.errors import InvalidSpec
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient
from kubesaga.kube.resources import WORKFLOWS

_log = logging.getLogger("kubesaga.workflow_engine")

_OF_THE_TICKER: Final = ("schedules", "lastScheduleTime", "nextScheduleTime")
"""What triggers.ticker keeps in the same status."""

_TOLD: Final = 10
"""How many warnings stand in the condition; `kubesaga lint` tells all."""


class WorkflowReconciler:
    """Takes one Workflow at a time. Its status is written only when it changes."""

    def __init__(self, client: KubeClient, definitions: Definitions, clock: Clock) -> None:
        self._client = client
        self._definitions = definitions
        self._clock = clock

    async def process(self, key: RunKey) -> datetime | None:
        """Check the Workflow as it is now."""
        try:
            body = await self._client.get(WORKFLOWS, key.namespace, key.name)
        except errors.NotFound:
            return None
        if "deletionTimestamp" in body["metadata"]:
            return None
        old = body.get("status") or {}
        status = await self._status(body, old)
        others = {name: old[name] for name in _OF_THE_TICKER if name in old}
        patch = merge_patch(old, {**others, **status.wire()})
        if not patch:
            return None
        version = body["metadata"]["resourceVersion"]
        try:
            await self._client.merge_patch(
                WORKFLOWS, key.namespace, key.name,
                {"metadata": {"resourceVersion": version}, "status": patch}, subresource="status",
            )  # fmt: skip
        except (errors.Conflict, errors.NotFound):
            return self._clock.now()
        return None

    async def _status(self, body: dict[str, Any], document: dict[str, Any]) -> WorkflowStatus:
        metadata = body["metadata"]
        known = {name: document[name] for name in ("conditions", "currentRevision") if name in document}
        old = WorkflowStatus.model_validate(known)
        revision = old.current_revision
        try:
            definition, revision = await self._definitions.pin(
                metadata["namespace"], metadata["name"], metadata["name"], body.get("spec") or {}
            )
            good, reason, message = True, Reason.VALID, await asyncio.to_thread(verdict_of, definition.spec)
        except InvalidSpec as error:
            good, reason, message = False, Reason.INVALID_SPEC, str(error)
            _log.warning("Workflow %s/%s is not valid: %s", metadata["namespace"], metadata["name"], error)
        now, generation = self._clock.now(), metadata.get("generation", 0)
        conditions = old.conditions
        for type_, truth in (("Ready", good), ("Stalled", not good)):
            conditions = with_condition(
                conditions, type_, "True" if truth else "False", reason, message, now=now, generation=generation
            )  # fmt: skip
        return WorkflowStatus(observed_generation=generation, current_revision=revision, conditions=conditions)


def verdict_of(spec: WorkflowSpec) -> str:
    """Return the message of a valid Workflow's condition: that it is valid, and what is probably not meant."""
    warnings = warnings_of(spec)
    told = [REASON_TEXT[Reason.VALID], *(f"Warning: {problem}." for problem in warnings[:_TOLD])]
    if len(warnings) > _TOLD:
        told.append(f"There are {len(warnings) - _TOLD} more warnings.")
    return " ".join(told)
