# SPDX-License-Identifier: Apache-2.0
"""Which kinds the API server has, and where: for kinds that are named in documents and not in our code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kubesaga.kube.client import KubeClient, Objects
from kubesaga.kube.errors import NotFound
from kubesaga.kube.resources import Resource

_KEPT: Final = 10.0
"""Seconds that an answer is good for: a hundred sources ask once, and a kind that is installed is soon found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A kind that is there."""

    resource: Resource
    verbs: frozenset[str]
    """What can be done with it."""


class Discovery:
    """Asks the API server."""

    def __init__(self, client: KubeClient, clock: Callable[[], float]) -> None:
        """The clock is in seconds."""
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[float, Objects]] = {}
        self._asking = asyncio.Lock()

    async def find(self, api_version: str, kind: str) -> Found | None:
        """Return a kind, None if the cluster does not have it. Raises ApiError."""
        group, _, version = api_version.rpartition("/")
        for each in await self._resources(api_version):
            if each["kind"] == kind and "/" not in each["name"]:
                resource = Resource(
                    group=group, version=version, plural=each["name"], kind=kind, namespaced=bool(each["namespaced"])
                )
                return Found(resource=resource, verbs=frozenset(each.get("verbs") or ()))
        return None

    async def _resources(self, api_version: str) -> Objects:
        async with self._asking:  # who asks meanwhile is told the same
            return await self._known_or_asked(api_version)

    async def _known_or_asked(self, api_version: str) -> Objects:
        since, known = self._known.get(api_version, (self._clock() - 2 * _KEPT, []))
        if self._clock() - since < _KEPT:
            return known
        try:
            found = await self._client.discover(api_version)
        except NotFound:
            found = []
        self._known[api_version] = (self._clock(), found)
        return found
