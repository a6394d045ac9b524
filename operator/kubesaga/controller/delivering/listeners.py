# SPDX-License-Identifier: Apache-2.0
"""The live runs that an event may be for: all that were there when it came, with what tells whether they wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubesaga.api.fields import parse_time
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.delivering.census import Census
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.loader import run_of
from kubesaga.controller.records import Body
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.decision import Summons
from kubesaga.engine.definition import Definition
from kubesaga.engine.inputs import resolve_inputs
from kubesaga.engine.snapshot import Listener, Run
from kubesaga.errors import InvalidSpec, KubesagaError
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient
from kubesaga.kube.resources import WORKFLOW_RUNS


class Listeners:
    """Looks them up. Only what does not change while a run lives is read of them, so a copy may be old."""

    def __init__(self, client: KubeClient, records: KubeRecords, definitions: Definitions) -> None:
        self._client = client
        self._records = records
        self._definitions = definitions
        self._census = Census(client)

    async def of(self, run: Run, summons: Summons) -> tuple[Listener, ...]:
        """Return those that a run's event may be for, oldest first. Raises ApiError."""
        if summons.only is not None:
            keys = [summons.only]
        else:
            listed = await self._census.of(run.key.namespace, run.version)
            keys = [key for key, uid in listed.items() if not self._records.is_done(uid)]
        found = [await self._listener(key, run.workflow) for key in keys if key != run.key]
        return tuple(
            sorted((each for each in found if each is not None), key=lambda each: (each.created, each.key.name))
        )

    async def _listener(self, key: RunKey, workflow: str) -> Listener | None:
        body = self._records.at_hand(key) or await self._read(key)
        if body is None or _workflow(body) != workflow or _is_out(body):
            return None
        definition = await self._definition(key, body, workflow)
        if definition is None:
            return None
        status, spec = body.get("status") or {}, body["spec"]
        try:
            given = status.get("inputs") or {} if status.get("startTime") else spec.get("inputs") or {}
            inputs = resolve_inputs(definition.spec.inputs, given)
        except InvalidSpec:
            return None  # it will fail by that before it waits for anything
        return Listener(
            key=key, uid=body["metadata"]["uid"], created=parse_time(body["metadata"]["creationTimestamp"]),
            definition=definition, inputs=inputs, event=(status.get("replay") or {}).get("event") or spec.get("event"),
        )  # fmt: skip

    async def _definition(self, key: RunKey, body: Body, workflow: str) -> Definition | None:
        revision = (body.get("status") or {}).get("workflowRevision")
        if revision:
            definition, _ = await self._definitions.of_revision(key.namespace, revision, workflow)
        else:
            try:
                definition, _ = await self._definitions.of_run(run_of(key, body)[0])
            except KubesagaError:
                return None
        return definition if isinstance(definition, Definition) else None

    async def _read(self, key: RunKey) -> Body | None:
        """Read a run that the watch has not told of. It must be news when that does, so nothing is remembered."""
        try:
            return await self._client.get(WORKFLOW_RUNS, key.namespace, key.name)
        except errors.NotFound:
            return None


def _workflow(body: Mapping[str, Any]) -> str:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    return str((spec.get("workflowRef") or {}).get("name") or (status.get("replay") or {}).get("workflow") or "")


def _is_out(body: Mapping[str, Any]) -> bool:
    """Tell whether a run is over, or brings an event itself."""
    return bool((body.get("status") or {}).get("completionTime") or (body.get("spec") or {}).get("deliver"))
