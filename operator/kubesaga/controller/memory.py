# SPDX-License-Identifier: Apache-2.0
"""Runs recorded in memory, with the same compare-and-swap as the API server's: for `kubesaga run` and for tests."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from kubesaga.api.canonical import revision_name
from kubesaga.api.fields import format_time
from kubesaga.api.names import API_VERSION, FINISHED_LABEL, RUN_FINALIZER
from kubesaga.controller.records import Body, Conflict
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.snapshot import Run
from kubesaga.errors import DefinitionMissing


class MemoryRecords:
    """The records (see `records.Records`) of a world without a cluster. Bodies handed out are never changed in place."""

    def __init__(self, on_change: Callable[[RunKey, Body], None] = lambda _key, _body: None) -> None:
        self._on_change = on_change
        self._versions = itertools.count(1)
        self.bodies: dict[RunKey, Body] = {}
        self.status_writes = 0

    def create(self, key: RunKey, spec: dict[str, Any], now: datetime, *, uid: str | None = None) -> None:
        """Add a run, as the API server would."""
        metadata = {
            "namespace": key.namespace, "name": key.name, "uid": uid or str(uuid.uuid4()), "generation": 1,
            "creationTimestamp": format_time(now), "resourceVersion": "0",
        }  # fmt: skip
        body = {"apiVersion": API_VERSION, "kind": "WorkflowRun", "metadata": metadata, "spec": spec}
        self._put(key, body, {})

    def change_spec(self, key: RunKey, **fields: Any) -> None:
        """Change the spec, as a person would."""
        body = self.bodies[key]
        changed = {**body, "spec": {**body["spec"], **fields}}
        self._put(key, changed, {"generation": body["metadata"]["generation"] + 1})

    def delete(self, key: RunKey, now: datetime) -> None:
        """Delete a run: at once, or once its finalizers are gone."""
        body = self.bodies.get(key)
        if body is not None and body["metadata"].get("finalizers"):
            self._put(key, body, {"deletionTimestamp": format_time(now)})
        else:
            self.bodies.pop(key, None)

    async def read(self, key: RunKey, *, confirmed: bool = False) -> Body | None:  # noqa: ARG002 - see Records
        """Return the newest copy."""
        return self.bodies.get(key)

    def is_confirmed(self, run: Run) -> bool:
        """Every copy comes from here."""
        return run.key in self.bodies

    async def write_status(self, run: Run, old: Body, new: Body) -> str:  # noqa: ARG002 - others need it for a patch
        """Compare and swap the status."""
        self.status_writes += 1
        return self._put(run.key, {**self._same_version(run), "status": new}, {})

    async def claim(self, run: Run, labels: dict[str, str]) -> str:
        """Put our finalizer and labels on a run."""
        body = self._same_version(run)
        metadata = body["metadata"]
        finalizers = [*run.finalizers, RUN_FINALIZER]
        return self._put(run.key, body, {"finalizers": finalizers, "labels": {**metadata.get("labels", {}), **labels}})

    async def tidy(self, run: Run) -> None:
        """Take our finalizer off and mark the run finished."""
        body = self._same_version(run)
        metadata = body["metadata"]
        finalizers = list(run.finalizers)
        labels = {**metadata.get("labels", {}), FINISHED_LABEL: "true"}
        self._put(run.key, body, {"finalizers": finalizers, "labels": labels})
        if "deletionTimestamp" in metadata and not finalizers:
            del self.bodies[run.key]

    def _same_version(self, run: Run) -> Body:
        body = self.bodies.get(run.key)
        if body is None or body["metadata"]["resourceVersion"] != run.version:
            raise Conflict(f"{run.key} is not version {run.version} any more")
        return body

    def _put(self, key: RunKey, body: Body, metadata: dict[str, Any]) -> str:
        version = str(next(self._versions))
        new = {**body, "metadata": {**body["metadata"], **metadata, "resourceVersion": version}}
        self.bodies[key] = new
        self._on_change(key, new)
        return version


class MemoryRevisions:
    """Revisions kept in memory."""

    def __init__(self) -> None:
        self._specs: dict[tuple[str, str], dict[str, Any]] = {}

    async def ensure(
        self,
        namespace: str,
        owner_name: str,
        spec: dict[str, Any],
        labels: Mapping[str, str] | None = None,  # noqa: ARG002 - see Revisions
    ) -> str:
        """Keep a spec; return the name of its revision."""
        name = revision_name(owner_name, spec)
        self._specs[(namespace, name)] = spec
        return name

    async def read(self, namespace: str, name: str) -> dict[str, Any]:
        """Return the spec. Raises DefinitionMissing."""
        try:
            return self._specs[(namespace, name)]
        except KeyError:
            raise DefinitionMissing(f"there is no revision {name!r}") from None
