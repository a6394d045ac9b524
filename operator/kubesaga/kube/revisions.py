# SPDX-License-Identifier: Apache-2.0
"""Immutable snapshots of Workflows, as apps/v1 ControllerRevisions: what a run is bound to for its whole life.

The name holds a hash of the content, so the same content is one object however many runs share it. They have no owner:
deleting or pruning a Workflow must not take away what its live runs work from.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

from kubesaga.api.canonical import canonical_json, content_hash, revision_name
from kubesaga.api.names import API_VERSION, MANAGED_BY, MANAGED_BY_LABEL
from kubesaga.errors import DefinitionMissing, ForeignObject
from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.errors import AlreadyExists, NotFound
from kubesaga.kube.resources import CONTROLLER_REVISIONS

_Key = tuple[str, str]
_V = TypeVar("_V")

_SPECS: Final = 512
_KNOWN: Final = 8192


class Revisions:
    """Writes and reads revisions. What it returns is shared with its cache: nobody may change it."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._specs: OrderedDict[_Key, Mapping[str, Any]] = OrderedDict()
        self._known: OrderedDict[_Key, None] = OrderedDict()
        self._leaving: dict[_Key, asyncio.Event] = {}
        """Deletions under way: who needs such a revision waits, and makes it again."""

    async def ensure(
        self, namespace: str, owner_name: str, spec: Mapping[str, Any], labels: Mapping[str, str] | None = None
    ) -> str:
        """Make sure that the revision of `spec` exists and return its name. One request, none if it is known.

        `labels` are added to those that say it is ours. Raises ForeignObject if the name is taken by other content.
        """
        name = revision_name(owner_name, spec)
        await self._settled((namespace, name))
        if (namespace, name) not in self._known:
            try:
                await self._client.create(CONTROLLER_REVISIONS, namespace, _body(name, spec, labels or {}))
            except AlreadyExists:
                stored = await self._client.get(CONTROLLER_REVISIONS, namespace, name)
                if canonical_json(stored.get("data")) != canonical_json(_data(spec)):
                    raise ForeignObject(
                        f"the ControllerRevision {namespace}/{name} exists and does not hold this Workflow's content:"
                        " it is not ours; delete it, or rename the Workflow"
                    ) from None
            _keep(self._known, (namespace, name), None, _KNOWN)
        return name

    async def read(self, namespace: str, name: str) -> Mapping[str, Any]:
        """Return the spec that a revision holds. Raises DefinitionMissing, ForeignObject."""
        key = (namespace, name)
        await self._settled(key)
        spec = self._specs.get(key)
        if spec is None:
            spec = await self._fetch(namespace, name)
        _keep(self._specs, key, spec, _SPECS)
        return spec

    async def delete(self, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Delete a revision that no run names and forget it; none is as good. Raises Conflict if it has another uid."""
        self.forget(namespace, name)
        over = self._leaving[(namespace, name)] = asyncio.Event()
        try:
            await self._client.delete(CONTROLLER_REVISIONS, namespace, name, uid=uid)
        except NotFound:
            return
        finally:
            del self._leaving[(namespace, name)]
            over.set()

    def forget(self, namespace: str, name: str) -> None:
        """Look at the API server again next time: the revision was deleted, by whomever."""
        self._specs.pop((namespace, name), None)
        self._known.pop((namespace, name), None)

    def forget_all_but(self, there: Collection[tuple[str, str]]) -> None:
        """Forget the revisions that are not among these, by namespace and name: somebody has deleted them."""
        for namespace, name in [key for key in self._known if key not in there]:
            self.forget(namespace, name)

    async def _settled(self, key: _Key) -> None:
        while (leaving := self._leaving.get(key)) is not None:
            await leaving.wait()

    async def _fetch(self, namespace: str, name: str) -> Mapping[str, Any]:
        try:
            stored = await self._client.get(CONTROLLER_REVISIONS, namespace, name)
        except NotFound:
            self.forget(namespace, name)
            raise DefinitionMissing(
                f"the ControllerRevision {namespace}/{name} that the run works from does not exist any more"
            ) from None
        data = stored.get("data")
        spec = data.get("spec") if isinstance(data, dict) else None
        if not isinstance(spec, dict) or not name.endswith(content_hash(spec)):
            # Deleted and made again by somebody else: a run must not go on with other content than it began with.
            raise ForeignObject(f"the ControllerRevision {namespace}/{name} does not hold what its name says")
        return spec


def _data(spec: Mapping[str, Any]) -> Object:
    return {"apiVersion": API_VERSION, "kind": "Workflow", "spec": spec}


def _body(name: str, spec: Mapping[str, Any], labels: Mapping[str, str]) -> bytes:
    # The whole request is canonical, because the bytes of `data` are: see canonical_json.
    return canonical_json(
        {
            "apiVersion": CONTROLLER_REVISIONS.api_version,
            "kind": CONTROLLER_REVISIONS.kind,
            "metadata": {"name": name, "labels": {MANAGED_BY_LABEL: MANAGED_BY, **labels}},
            "data": _data(spec),
            "revision": 1,
        }
    ).encode()


def _keep(cache: OrderedDict[_Key, _V], key: _Key, value: _V, limit: int) -> None:
    cache[key] = value
    cache.move_to_end(key)
    while len(cache) > limit:
        cache.popitem(last=False)
