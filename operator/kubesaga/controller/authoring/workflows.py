# SPDX-License-Identifier: Apache-2.0
"""Tells in a Workflow's status whether it is valid, and which events its runs wait for; keeps the revision that new runs will work from."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from kubesaga.api.conditions import Truth, with_condition
from kubesaga.api.event_types import CATALOGUE, EventType
from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.api.workflow import WorkflowSpec, WorkflowStatus
from kubesaga.controller.authoring.awaited_events import AwaitedEvents
from kubesaga.controller.authoring.event_types import EventTypes, unknown_events
from kubesaga.controller.clock import Clock
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.controller.status_patch import merge_patch
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.event_waits import event_waits
from kubesaga.engine.uses import NOTHING, Uses
from kubesaga.engine.validation.workflow import warnings_of
from kubesaga.errors import InvalidSpec, Problem
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient
from kubesaga.kube.resources import WORKFLOWS
from kubesaga.triggers.failures import stopped_triggers

_log = logging.getLogger("kubesaga.workflow_engine")

EVENT_KNOWN: Final = "EventKnown"
TRIGGER_STOPPED: Final = "TriggerStopped"
"""Where they do not apply, they are not there."""

_OWN: Final = ("observedGeneration", "currentRevision", "conditions", "awaitedEvents")
"""What of the status is ours; the rest is of others."""

_AGAIN: Final = timedelta(seconds=60)

_TOLD: Final = 10
"""How many warnings stand in the condition; `kubesaga lint` tells all."""


class WorkflowReconciler:
    """Takes one Workflow at a time. Its status is written only when it changes."""

    def __init__(
        self, client: KubeClient, definitions: Definitions, limits: LiveLimits, types: EventTypes,
        awaited: AwaitedEvents, clock: Clock,
    ) -> None:  # fmt: skip
        self._client = client
        self._types = types
        self._awaited = awaited
        self._limits = limits
        self._definitions = definitions
        self._clock = clock

    async def process(self, key: RunKey) -> datetime | None:
        """Check the Workflow as it is now."""
        try:
            body = await self._client.get(WORKFLOWS, key.namespace, key.name)
        except errors.NotFound:
            self._definitions.users.discard(key)
            self._limits.workflow_gone(key)
            self._types.forget(key)
            self._awaited.gone(key)
            return None
        if "deletionTimestamp" in body["metadata"]:
            return None
        self._limits.workflow(body)
        old = {name: value for name, value in (body.get("status") or {}).items() if name in _OWN}
        status, spec = await self._status(body, old)
        patch = merge_patch(old, status.wire())
        again = self._next_look(key, status, spec)
        if not patch:
            return again
        version = body["metadata"]["resourceVersion"]
        try:
            await self._client.merge_patch(
                WORKFLOWS, key.namespace, key.name,
                {"metadata": {"resourceVersion": version}, "status": patch}, subresource="status",
            )  # fmt: skip
        except (errors.Conflict, errors.NotFound):
            return self._clock.now()
        return again

    def _next_look(self, key: RunKey, status: WorkflowStatus, spec: WorkflowSpec | None) -> datetime | None:
        """A Workflow that lacks an Activity is looked at when that comes, and now and then: its namespace may not be watched.

        So is one whose older revisions wait for events: their runs end.
        """
        lacks = key in self._definitions.users and any(
            one.type == "Stalled" and one.status == "True" for one in status.conditions
        )
        return self._clock.now() + _AGAIN if lacks else self._awaited.next_look(spec, status.awaited_events or ())

    async def _status(
        self, body: dict[str, Any], document: dict[str, Any]
    ) -> tuple[WorkflowStatus, WorkflowSpec | None]:
        """Return the status that a Workflow is to have, and its spec if that is valid."""
        metadata = body["metadata"]
        old = WorkflowStatus.model_validate(document)
        revision, events, current = old.current_revision, None, None
        try:
            definition, revision = await self._definitions.pin(
                metadata["namespace"], metadata["name"], metadata["name"], body.get("spec") or {}
            )
            current = (revision, definition.spec)
            types = await self._types.known(_key_of(metadata), definition.spec)
            good, reason, message = (
                True,
                Reason.VALID,
                await asyncio.to_thread(verdict_of, definition.spec, definition.uses, types),
            )
            events = _events_known(definition.spec, types)
        except InvalidSpec as error:
            good, reason, message = False, Reason.INVALID_SPEC, str(error)
            self._types.forget(_key_of(metadata))
            _log.warning("Workflow %s/%s is not valid: %s", metadata["namespace"], metadata["name"], error)
        now, generation = self._clock.now(), metadata.get("generation", 0)
        awaited = await self._awaited.of(_key_of(metadata), generation, current, old.awaited_events or ())
        conditions = old.conditions
        for type_, truth in (("Ready", good), ("Stalled", not good)):
            conditions = with_condition(
                conditions, type_, "True" if truth else "False", reason, message, now=now, generation=generation
            )  # fmt: skip
        for type_, verdict in ((EVENT_KNOWN, events), (TRIGGER_STOPPED, _stopped(body))):
            conditions = [condition for condition in conditions if condition.type != type_ or verdict is not None]
            if verdict is not None:
                conditions = with_condition(conditions, type_, *verdict, now=now, generation=generation)
        status = WorkflowStatus(
            observed_generation=generation, current_revision=revision, conditions=conditions,
            awaited_events=awaited or None,
        )  # fmt: skip
        return status, current[1] if current is not None else None


def _key_of(metadata: dict[str, Any]) -> RunKey:
    return RunKey(namespace=metadata["namespace"], name=metadata["name"])


def _events_known(spec: WorkflowSpec, types: Mapping[str, EventType]) -> tuple[Truth, Reason, str] | None:
    """Return what the condition EventKnown says; None for a Workflow that is about no events."""
    if all(trigger.event is None for trigger in spec.triggers) and not any(event_waits(spec)):
        return None
    unknown = list(unknown_events(spec, types))
    if not unknown:
        return "True", Reason.REGISTERED, REASON_TEXT[Reason.REGISTERED]
    return "False", Reason.UNKNOWN_EVENT_TYPE, "; ".join(map(str, unknown))


def _stopped(body: dict[str, Any]) -> tuple[Truth, Reason, str] | None:
    """Return what the condition TriggerStopped says; None where no trigger has stopped itself."""
    names = stopped_triggers(body)
    if not names:
        return None
    told = f"{', '.join(names)}: the last runs have failed (failureLimit)"
    return "True", Reason.FAILURE_LIMIT_REACHED, f"{told}; change the Workflow to start runs again"


def verdict_of(spec: WorkflowSpec, uses: Uses = NOTHING, types: Mapping[str, EventType] = CATALOGUE) -> str:
    """Return the message of a valid Workflow's condition: that it is valid, and what is probably not meant."""
    return sentence_of(REASON_TEXT[Reason.VALID], warnings_of(spec, uses=uses, types=types))


def sentence_of(valid: str, warnings: Sequence[Problem]) -> str:
    """Return the message of a valid object's condition."""
    told = [valid, *(f"Warning: {problem}." for problem in warnings[:_TOLD])]
    if len(warnings) > _TOLD:
        told.append(f"There are {len(warnings) - _TOLD} more warnings.")
    return " ".join(told)
