# SPDX-License-Identifier: Apache-2.0
"""Holds what is in memory against a listing, now and then: repairs what the watch has missed, and tells of it.

Kopf reports no deletion that happened while its watch was broken, and a watch can stay open and be silent
(invariant I8, faults F11, F13, F14). A watch that misses things in two looks in a row does not live.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kubesaga.controller.clock import Clock
from kubesaga.controller.kube_records import LIVE
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.client import KubeClient, Selection
from kubesaga.kube.errors import ApiError
from kubesaga.kube.resources import Resource

_log = logging.getLogger("kubesaga.workflow_engine")


class Memory(Protocol):
    """What was heard of the objects of a kind."""

    def versions(self) -> Mapping[RunKey, int]:
        """Return the version of each object in memory."""

    def doubt(self, key: RunKey) -> None:
        """Read this object from the API server the next time."""


@dataclass(slots=True, kw_only=True)
class Watched:
    """One kind that is watched, without those that bear the label of finished ones."""

    resource: Resource
    memory: Memory
    add: Callable[[RunKey], None]
    """Brings about a look at an object."""
    behind: dict[RunKey, int] = field(default_factory=dict)
    """What differed the last time: the version that was listed, -1 for one that was not."""

    def compare(self, there: Mapping[RunKey, int]) -> list[RunKey]:
        """Return, and have looked at, what differs as it did the last time."""
        known = self.memory.versions()
        behind = {key: version for key, version in there.items() if known.get(key, -1) < version}
        behind |= {key: -1 for key in known if key not in there}
        missed = [key for key, version in behind.items() if self.behind.get(key) == version]
        self.behind = behind
        for key in missed:
            self.memory.doubt(key)
            self.add(key)
        return missed


class Resync:
    """Compares and repairs every `interval` seconds."""

    def __init__(
        self,
        client: KubeClient,
        watched: Sequence[Watched],
        *,
        namespaces: Sequence[str],
        missed: Callable[[int], None],
        clock: Clock,
        interval: float,
    ) -> None:
        self._client = client
        self._watched = watched
        self._namespaces: Sequence[str | None] = namespaces or (None,)
        self._missed = missed
        self._clock = clock
        self._interval = interval
        self._bad_looks = 0

    @property
    def healthy(self) -> bool:
        """False when the watch missed changes in two looks in a row."""
        return self._bad_looks < 2

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self._clock.sleep(self._interval)
            await self.look()

    async def look(self) -> None:
        """Compare once. A difference counts as missed only if it was there a whole interval ago already."""
        count, complete = 0, True
        for watched in self._watched:
            plural = watched.resource.plural
            try:
                missed = watched.compare(await self._list(watched.resource))
            except ApiError as error:
                _log.warning("the live %s cannot be listed for comparison: %s", plural, error)
                complete = False
                continue
            if missed:
                told = "the watch has not told of %d changes of %s, %s among them; they are read now"
                _log.warning(told, len(missed), plural, missed[0])
            count += len(missed)
        if count:
            self._missed(count)
            self._bad_looks += 1
        elif complete:
            self._bad_looks = 0

    async def _list(self, resource: Resource) -> dict[RunKey, int]:
        """Return the version of each live object."""
        there: dict[RunKey, int] = {}
        for namespace in self._namespaces:
            selection = Selection(namespace=namespace, labels=LIVE)
            listing = await self._client.list(resource, selection, metadata_only=True)
            for item in listing.items:
                metadata = item["metadata"]
                there[RunKey(namespace=metadata["namespace"], name=metadata["name"])] = int(metadata["resourceVersion"])
        return there
