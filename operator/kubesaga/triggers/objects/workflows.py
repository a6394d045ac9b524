# SPDX-License-Identifier: Apache-2.0
"""The Workflows of the namespaces in which objects are watched, kept in memory as long as they are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from kubesaga.kube.client import KubeClient, Object, Selection
from kubesaga.kube.informer import Informer
from kubesaga.kube.resources import WORKFLOWS


class NamespaceWorkflows:
    """One watch for each namespace that somebody holds."""

    def __init__(
        self, client: KubeClient, *, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
    ) -> None:  # fmt: skip
        """The clock is in seconds; `random` gives a number from 0 up to 1."""
        self._client = client
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._holders: Counter[str] = Counter()
        self._watches: dict[str, tuple[Informer, asyncio.Task[None]]] = {}

    def hold(self, namespace: str) -> None:
        """Keep a namespace's Workflows in memory from now on."""
        self._holders[namespace] += 1
        if namespace not in self._watches:
            informer = Informer(
                self._client, WORKFLOWS, Selection(namespace=namespace), clock=self._clock, sleep=self._sleep,
                random=self._random,
            )  # fmt: skip
            self._watches[namespace] = informer, asyncio.create_task(informer.run())

    async def release(self, namespace: str) -> None:
        """The opposite of `hold`: forget them when nobody holds them any more."""
        self._holders[namespace] -= 1
        if self._holders[namespace] > 0:
            return
        del self._holders[namespace]
        _, task = self._watches.pop(namespace)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def of(self, namespace: str) -> Sequence[Object]:
        """Return the Workflows of a namespace that is held, once they are known, by name, but those that are being deleted."""
        informer, _ = self._watches[namespace]
        await informer.wait_synced()
        there = (each for each in informer.store.values() if "deletionTimestamp" not in each["metadata"])
        return sorted(there, key=lambda each: str(each["metadata"]["name"]))
