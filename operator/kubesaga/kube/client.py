# SPDX-License-Identifier: Apache-2.0
"""The API server's verbs on plain dicts.

Every write names us as its field manager. A merge patch that carries `metadata.resourceVersion` is a compare-and-swap:
the server answers Conflict if the object is no longer that version.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Self
from urllib.parse import urlencode

from kubesaga.kube.credentials import Credentials
from kubesaga.kube.encoding import dumps, loads
from kubesaga.kube.errors import Fenced, ServerUnavailable, error_from_status
from kubesaga.kube.resources import Resource
from kubesaga.kube.transport import JSON, Request, Transport

Object = dict[str, Any]
"""A Kubernetes object as it is on the wire."""
Objects = list[Object]

FIELD_MANAGER: Final = "kubesaga"
_MERGE_PATCH: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_METADATA: Final = f"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{JSON}"
_METADATA_LIST: Final = f"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{JSON}"


_API_RESOURCES: Final = Resource(group="", version="v1", plural="apiresources", kind="APIResource", namespaced=False)
"""What discovery asks for, by the name under which it is counted."""


class EventType(StrEnum):
    """What a watch says of an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    """Deleted, or the selector does not match it any more. The object is a last state of it: act on no body."""
    BOOKMARK = "BOOKMARK"
    """No object: only `metadata.resourceVersion`, up to which everything has been told."""


class Propagation(StrEnum):
    """What a deletion does to the objects that the deleted one owns."""

    BACKGROUND = "Background"
    FOREGROUND = "Foreground"
    ORPHAN = "Orphan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list, or one page of it. `resource_version` is the moment it shows, and where to begin to watch."""

    items: Objects
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects of a kind: `namespace` None is all namespaces; the selectors are the API server's own words."""

    namespace: str | None = None
    labels: str | None = None
    fields: str | None = None

    def query(self, **more: str | int) -> str:
        """Return the query of a list or watch."""
        selectors = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return urlencode({name: value for name, value in (selectors | more).items() if value is not None})


EVERYTHING: Final = Selection()


class KubeClient:
    """The verbs. Every method raises an ApiError (kube.errors) if the answer is not what was asked for.

    `namespace` is None for kinds that have none. `within` shortens the usual limit of an answer, in seconds.
    """

    def __init__(self, transport: Transport, *, valid_for: Callable[[], float] | None = None) -> None:
        self._transport = transport
        self._valid_for = valid_for

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, for every client that shares them."""
        await self._transport.close()

    @property
    def credentials(self) -> Credentials:
        """Where this client is connected to, and as whom, now."""
        return self._transport.credentials

    def fenced(self, valid_for: Callable[[], float]) -> KubeClient:
        """Return a client over the same connections whose writes last no longer than the right to write.

        `valid_for` tells for how many seconds that right is certain (`Elector.valid_for`). At 0 a write is not sent
        (Fenced); a write that was sent is given up when the right ends, and an answer that comes later is not believed.
        """
        return KubeClient(self._transport, valid_for=valid_for)

    async def get(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        metadata_only: bool = False,
        within: float | None = None,
    ) -> Object:
        """Return the object as it is now (a quorum read). Raises NotFound."""
        return await self._call(
            Request(
                verb="get",
                resource=resource,
                path=resource.path(namespace, name),
                target=_target(namespace, name),
                accept=_METADATA if metadata_only else JSON,
                within=within,
            )
        )

    async def list(
        self,
        resource: Resource,
        selection: Selection = EVERYTHING,
        *,
        resource_version: str | None = None,
        limit: int = 500,
        metadata_only: bool = False,
    ) -> Listing:
        """Return all objects selected, fetched in pages; the arguments are those of `pages`."""
        items: Objects = []
        version = ""
        pages = self.pages(
            resource, selection, resource_version=resource_version, limit=limit, metadata_only=metadata_only
        )
        async with aclosing(pages):
            async for page in pages:
                items += page.items
                version = page.resource_version
        return Listing(items=items, resource_version=version)

    async def pages(
        self,
        resource: Resource,
        selection: Selection = EVERYTHING,
        *,
        resource_version: str | None = None,
        exact: bool = False,
        limit: int = 500,
        metadata_only: bool = False,
    ) -> AsyncGenerator[Listing, None]:
        """Yield the objects selected, at most `limit` at a time; all pages show the same moment.

        `resource_version` None: the state now; "0": any state the server has at hand (cheap, and then it may send all
        at once); else a state not older than that version, or with `exact` the state at that version. Items of built-in kinds come without apiVersion and kind.
        Raises Gone when the listing takes so long that its moment is compacted away: begin again; with `exact`: there is no
        way back to that version.
        """
        page: dict[str, str] = {}
        if resource_version is not None:
            page = {"resourceVersion": resource_version, "resourceVersionMatch": "Exact" if exact else "NotOlderThan"}
        while True:
            answer = await self._transport.call(
                Request(
                    verb="list",
                    resource=resource,
                    path=f"{resource.path(selection.namespace)}?{selection.query(limit=limit, **page)}",
                    target=selection.namespace or "",
                    accept=_METADATA_LIST if metadata_only else JSON,
                )
            )
            metadata = answer["metadata"]
            yield Listing(items=answer.get("items") or [], resource_version=metadata["resourceVersion"])
            if not metadata.get("continue"):
                return
            page = {"continue": metadata["continue"]}

    async def discover(self, api_version: str) -> Objects:
        """Return what there is in a version of a group, such as `v1` or `apps/v1` (APIResources). Raises NotFound."""
        root = "apis" if "/" in api_version else "api"
        answer = await self._call(
            Request(verb="get", resource=_API_RESOURCES, path=f"/{root}/{api_version}", target=api_version)
        )
        found: Objects = answer.get("resources") or []
        return found

    async def create(
        self,
        resource: Resource,
        namespace: str | None,
        body: Mapping[str, Any] | bytes,
        *,
        within: float | None = None,
    ) -> Object:
        """Create an object and return it. `body` may be JSON text already, where its very bytes matter.

        Raises AlreadyExists. After ServerUnavailable with `sent` the object may exist.
        """
        name = "" if isinstance(body, bytes) else body["metadata"].get("name", "")
        return await self._write(
            Request(
                verb="create",
                resource=resource,
                path=f"{resource.path(namespace)}?fieldManager={FIELD_MANAGER}",
                target=_target(namespace, name),
                body=body if isinstance(body, bytes) else dumps(body),
                within=within,
            )
        )

    async def merge_patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        subresource: str | None = None,
        metadata_only: bool = False,
        within: float | None = None,
    ) -> Object:
        """Change what `body` names (RFC 7386: null removes, lists are replaced) and return the object as it is then.

        With `metadata.resourceVersion` in the body: raises Conflict unless that is the object's version.
        """
        return await self._write(
            Request(
                verb="patch",
                resource=resource,
                path=f"{resource.path(namespace, name, subresource)}?fieldManager={FIELD_MANAGER}",
                target=_target(namespace, name),
                body=dumps(body),
                content_type=_MERGE_PATCH,
                accept=_METADATA if metadata_only else JSON,
                within=within,
            )
        )

    async def json_patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        subresource: str | None = None,
        metadata_only: bool = False,
        within: float | None = None,
    ) -> Object:
        """Carry out operations (RFC 6902), all or none. A `test` that fails raises Invalid."""
        return await self._write(
            Request(
                verb="patch",
                resource=resource,
                path=f"{resource.path(namespace, name, subresource)}?fieldManager={FIELD_MANAGER}",
                target=_target(namespace, name),
                body=dumps(operations),
                content_type=_JSON_PATCH,
                accept=_METADATA if metadata_only else JSON,
                within=within,
            )
        )

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        grace: int | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation | None = None,
        within: float | None = None,
    ) -> Object:
        """Delete an object; returns it (its finalizers or `grace` seconds hold it) or a Status (it is gone).

        `uid` and `resource_version` are preconditions: raises Conflict if the object is another. Raises NotFound.
        """
        preconditions = _given(uid=uid, resourceVersion=resource_version)
        options = _given(gracePeriodSeconds=grace, propagationPolicy=propagation, preconditions=preconditions or None)
        return await self._write(
            Request(
                verb="delete",
                resource=resource,
                path=resource.path(namespace, name),
                target=_target(namespace, name),
                body=dumps({"kind": "DeleteOptions", "apiVersion": "v1"} | options),
                within=within,
            )
        )

    async def watch(
        self,
        resource: Resource,
        selection: Selection = EVERYTHING,
        *,
        resource_version: str,
        metadata_only: bool = False,
        server_timeout: int = 300,
        silence: float = 70.0,
    ) -> AsyncGenerator[tuple[EventType, Object], None]:
        """Yield what happens after `resource_version`, until the server ends it (after `server_timeout` seconds).

        Raises Gone if that version is too old, ServerUnavailable (`Silent`) if not a byte arrives for `silence` seconds
        (bookmarks come each minute). To be closed by the caller (`contextlib.aclosing`).
        """
        query = selection.query(
            watch=1, allowWatchBookmarks="true", resourceVersion=resource_version, timeoutSeconds=server_timeout
        )
        request = Request(
            verb="watch",
            resource=resource,
            path=f"{resource.path(selection.namespace)}?{query}",
            target=selection.namespace or "",
            accept=_METADATA if metadata_only else JSON,
        )
        async with aclosing(self._transport.stream(request, silence=silence)) as lines:
            async for line in lines:
                event = loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise error_from_status(status.get("code") or 500, status, request=str(request))
                yield EventType(event["type"]), event["object"]

    async def _write(self, request: Request) -> Object:
        if self._valid_for is not None:
            certain = self._valid_for()
            if certain <= 0:
                raise Fenced(str(request))
            within = certain if request.within is None else min(request.within, certain)
            request = replace(request, within=within)
        answer = await self._call(request)
        if self._valid_for is not None and self._valid_for() <= 0:
            # We may have been frozen: what the answer allows to do next, another may have done long ago.
            told = "the answer came when the Lease was not certain any more"
            raise ServerUnavailable(0, "Late", told, sent=True, request=str(request))
        return answer

    async def _call(self, request: Request) -> Object:
        """Send a request whose `within` holds for everything: the wait for credentials, and a second try after a 401."""
        answer: Object
        try:
            async with asyncio.timeout(request.within):
                answer = await self._transport.call(request)
        except TimeoutError:
            told = f"no answer within {request.within:.3g} s, credentials included"
            raise ServerUnavailable(0, "Timeout", told, sent=True, request=str(request)) from None
        return answer


def _target(namespace: str | None, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
