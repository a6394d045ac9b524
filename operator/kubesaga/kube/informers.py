# SPDX-License-Identifier: Apache-2.0
"""One memory over several namespaces: an operator that may not look at the whole cluster watches each of its namespaces."""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from kubesaga.kube.client import Object
from kubesaga.kube.informer import Informer, Key, OnChange


class Memory(Protocol):
    """What is known of the objects of a kind; an Informer, or several as one."""

    @property
    def store(self) -> Mapping[Key, Object]:
        """All objects in memory."""

    def by_owner(self, uid: str) -> list[Object]:
        """Return the objects whose index key is `uid`."""

    def on_change(self, callback: OnChange) -> None:
        """Call `callback` after each change."""

    def adopt(self, obj: Object) -> bool:
        """Take in what a create, patch or get has just returned."""


class Informers:
    """Several informers, one a namespace (or a single one over all, under None), that look like one."""

    def __init__(self, namespaces: Sequence[str], make: Callable[[str | None], Informer]) -> None:
        self._by_namespace: dict[str | None, Informer] = {name: make(name) for name in namespaces or (None,)}

    @property
    def store(self) -> Mapping[Key, Object]:
        """All objects in memory."""
        informers = list(self._by_namespace.values())
        return informers[0].store if len(informers) == 1 else ChainMap(*[dict(each.store) for each in informers])

    @property
    def last_contact(self) -> float:
        """When the server last said anything to the informer that has heard nothing for longest."""
        return min(informer.last_contact for informer in self._by_namespace.values())

    def by_owner(self, uid: str) -> list[Object]:
        """Return the objects whose index key is `uid`."""
        return [found for informer in self._by_namespace.values() for found in informer.by_owner(uid)]

    def on_change(self, callback: OnChange) -> None:
        """Call `callback` after each change."""
        for informer in self._by_namespace.values():
            informer.on_change(callback)

    def adopt(self, obj: Object) -> bool:
        """Take in what a create, patch or get has just returned; False if the memory is as new, or not of its namespace."""
        informer = self._by_namespace.get(None) or self._by_namespace.get(obj["metadata"].get("namespace", ""))
        return informer is not None and informer.adopt(obj)

    async def wait_synced(self) -> None:
        """Return when all first listings are complete."""
        await asyncio.gather(*(informer.wait_synced() for informer in self._by_namespace.values()))

    async def run(self) -> None:
        """Keep the memory fresh until cancelled."""
        await asyncio.gather(*(informer.run() for informer in self._by_namespace.values()))
