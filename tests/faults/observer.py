# SPDX-License-Identifier: Apache-2.0
"""Watches what really happens to runs and pods of a namespace, beside the proxy, where no fault reaches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, TypeVar

from tests.faults.record import Version
from tests.faults.upstream import GROUP_PATH, Upstream

T = TypeVar("T")
_KINDS = {"workflowruns": ("kubesaga.dev/v1alpha1", "WorkflowRunList"), "pods": ("v1", "PodList")}


class Observer:
    """The history of a namespace."""

    def __init__(self, upstream: Upstream, namespace: str) -> None:
        self.versions: list[Version] = []
        self.past_version: int | None = None
        """Which moment listings of the past show; None: none are given."""
        self._upstream = upstream
        self._paths = {
            "workflowruns": f"{GROUP_PATH}/namespaces/{namespace}/workflowruns",
            "pods": f"/api/v1/namespaces/{namespace}/pods",
        }
        self._news = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin with an empty namespace."""
        for resource, path in self._paths.items():
            listing = await self._upstream.json("GET", path)
            assert not listing["items"], f"there are {resource} already"
            version = listing["metadata"]["resourceVersion"]
            self._tasks.append(asyncio.create_task(self._watch(resource, path, version)))

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait(self, look: Callable[[], T | None], within: float) -> T | None:
        """Return the first thing that `look` finds in the history, None if there is none in time."""
        try:
            async with asyncio.timeout(within), self._news:
                while not (found := look()):
                    await self._news.wait()
                    for task in self._tasks:
                        if task.done():
                            task.result()
                return found
        except TimeoutError:
            return None

    def latest(self, resource: str, name: str) -> Version | None:
        """Return the newest version of an object."""
        for version in reversed(self.versions):
            if version.resource == resource and version.object["metadata"]["name"] == name:
                return version
        return None

    def past(self, resource: str) -> bytes | None:
        """Return the listing of a resource as of `past_version`: what a server that lags behind would say."""
        if resource not in _KINDS or self.past_version is None:
            return None
        items: dict[str, Any] = {}
        for version in self.versions:
            if version.resource == resource and version.number <= self.past_version:
                items[version.uid] = None if version.type == "DELETED" else version.object
        api_version, kind = _KINDS[resource]
        listing = {
            "apiVersion": api_version, "kind": kind, "metadata": {"resourceVersion": str(self.past_version)},
            "items": [item for item in items.values() if item is not None],
        }  # fmt: skip
        return json.dumps(listing).encode()

    async def _watch(self, resource: str, path: str, version: str) -> None:
        """Follow, and wake who waits if that comes to an end: what it misses would be held against the operator."""
        try:
            await self._follow(resource, path, version)
        finally:
            async with self._news:
                self._news.notify_all()

    async def _follow(self, resource: str, path: str, version: str) -> None:
        while True:
            async with aclosing(self._upstream.watch(path, version)) as events:
                async for event in events:
                    assert event["type"] != "ERROR", f"the observer has missed something: {event}"
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self.versions.append(Version(resource=resource, type=event["type"], object=event["object"]))
                    async with self._news:
                        self._news.notify_all()
