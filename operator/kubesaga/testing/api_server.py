# SPDX-License-Identifier: Apache-2.0
"""An API server for WorkflowRuns in memory: versions, compare-and-swap, the status apart, finalizers; and it can fail.

Only what `KubeRecords` calls. The cluster tests use the real one; this one plays thousands of histories a minute.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from kubesaga.api.fields import format_time
from kubesaga.api.names import API_VERSION, FINISHED_LABEL
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.client import Listing, Object
from kubesaga.kube.errors import Conflict, NotFound
from kubesaga.kube.resources import Resource
from kubesaga.testing.clock import FakeClock

Fault = Callable[[str], None]
"""Called before and after each write with `before` or `after`; raises to make it fail there."""


class FakeApiServer:
    """Keeps every version of every run, so that a test can deliver old ones and check what became of it."""

    def __init__(self, clock: FakeClock, fault: Fault = lambda _moment: None) -> None:
        self._clock = clock
        self._fault = fault
        self._versions = itertools.count(1)
        self.objects: dict[RunKey, Object] = {}
        self.history: list[Object] = []

    def create(self, key: RunKey, uid: str, spec: dict[str, Any]) -> None:
        """Add a run."""
        metadata = {
            "namespace": key.namespace, "name": key.name, "uid": uid, "generation": 1,
            "creationTimestamp": format_time(self._clock.now()),
        }  # fmt: skip
        self._store(key, {"apiVersion": API_VERSION, "kind": "WorkflowRun", "metadata": metadata, "spec": spec})

    def edit(self, key: RunKey, metadata: Mapping[str, Any] | None = None, **spec: Any) -> None:
        """Change labels or spec, as a person would."""
        old = self.objects.get(key)
        if old is None:
            return
        changed = merged(old, {"metadata": dict(metadata or {}), "spec": spec})
        if spec:
            changed["metadata"]["generation"] += 1
        self._store(key, changed)

    def delete(self, key: RunKey) -> None:
        """Delete a run; its finalizers hold it."""
        old = self.objects.get(key)
        if old is not None:
            self._store(key, merged(old, {"metadata": {"deletionTimestamp": format_time(self._clock.now())}}))

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:  # noqa: ARG002 - see KubeClient
        """Return a run as it is now."""
        return self._now(RunKey(namespace=namespace, name=name))

    async def list(self, *_: object, resource_version: str, **_more: object) -> Listing:
        """Return the runs that are not done with, as they are now, whatever is selected."""
        items = [
            _copy(body) for body in self.objects.values() if FINISHED_LABEL not in body["metadata"].get("labels", {})
        ]
        newest = max([int(resource_version), *(int(item["metadata"]["resourceVersion"]) for item in items)])
        return Listing(items=items, resource_version=str(newest))

    async def merge_patch(
        self,
        resource: Resource,  # noqa: ARG002 - see KubeClient
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        *,
        subresource: str | None = None,
    ) -> Object:
        """Change a run; with `status` only its status, else all but that."""
        key = RunKey(namespace=namespace, name=name)
        self._fault("before")
        old = self._now(key)
        version = body["metadata"].get("resourceVersion")
        if version not in (None, old["metadata"]["resourceVersion"]):
            raise Conflict(409, "Conflict", "the object has been modified")
        part = {"status": body["status"]} if subresource == "status" else {"metadata": body["metadata"]}
        new = self._store(key, merged(old, part))
        self._fault("after")
        return new

    def _now(self, key: RunKey) -> Object:
        if key not in self.objects:
            raise NotFound(404, "NotFound", f"workflowruns {key} not found")
        return _copy(self.objects[key])

    def _store(self, key: RunKey, body: Object) -> Object:
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[key] = body
        self.history.append(_copy(body))
        if "deletionTimestamp" in body["metadata"] and not body["metadata"].get("finalizers"):
            del self.objects[key]
        return _copy(body)


def _copy(body: Object) -> Object:
    copy: Object = merged(body, {})
    return copy


def merged(old: Any, patch: Any) -> Any:
    """Return a copy of `old` with a JSON merge patch applied (RFC 7386)."""
    if not isinstance(patch, Mapping):
        return patch
    result = (
        {name: merged(value, {}) if isinstance(value, Mapping) else value for name, value in old.items()}
        if isinstance(old, Mapping)
        else {}
    )
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
