# SPDX-License-Identifier: Apache-2.0
"""All WorkflowEventSources of Kubernetes objects: which may be watched, and the watches, which come and go with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from kubesaga.api.object_source import KubernetesObjects
from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.discovery import Discovery
from kubesaga.triggers.objects.changes import Change
from kubesaga.triggers.objects.teller import ObjectTeller, Watched
from kubesaga.triggers.objects.watch import Clock, ObjectWatch, Standing
from kubesaga.triggers.objects.workflows import NamespaceWorkflows

_NOT_ALLOWED: Final = (
    "spec.kubernetes: {named} may not be watched: the administrator allows {allowed}. "
    "To allow it, add {named} to KUBESAGA_WATCHABLE_KINDS (with the chart: watchableKinds)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    watch: ObjectWatch
    task: asyncio.Task[None]


class ObjectWatches:
    """The watches. Only the leader has them."""

    def __init__(
        self, client: KubeClient, teller: ObjectTeller, *, allowed: Collection[str], clock: Clock,
        random: Callable[[], float],
    ) -> None:  # fmt: skip
        """`allowed` are kinds as `apps/v1/Deployment`; `random` gives a number from 0 up to 1."""
        self._client = client
        self._teller = teller
        self._allowed = frozenset(allowed)
        self._clock = clock
        self._random = random
        self._discovery = Discovery(client, clock.monotonic)
        self._workflows = NamespaceWorkflows(client, clock=clock.monotonic, sleep=clock.sleep, random=random)
        self._running: dict[RunKey, _Running] = {}
        self._changed: Callable[[RunKey], None] = lambda _key: None

    def on_change(self, changed: Callable[[RunKey], None]) -> None:
        """Tell `changed` of each source that stands differently."""
        self._changed = changed

    @property
    def counted(self) -> int:
        """How many sources are watched."""
        return sum(each.watch.standing.ready for each in self._running.values())

    @property
    def pending(self) -> int:
        """How many changes wait for their runs."""
        return sum(each.watch.pending for each in self._running.values())

    async def attend(self, key: RunKey, body: Object, objects: KubernetesObjects) -> Standing:
        """See to it that a source is watched, if it may be; return how it stands now. Later changes are told."""
        if objects.named not in self._allowed:
            await self.leave(key)
            allowed = ", ".join(sorted(self._allowed)) or "no kind"
            told = _NOT_ALLOWED.format(named=objects.named, allowed=allowed)
            return Standing(ready=False, reason=Reason.KIND_NOT_ALLOWED, message=told)
        known = self._running.get(key)
        if known is not None and known.watch.is_of(body, objects):
            known.watch.objects = objects
            return known.watch.standing
        await self.leave(key)
        watch = ObjectWatch(
            key, body, objects, client=self._client, discovery=self._discovery, tell=self._tell,
            changed=self._changed, clock=self._clock, random=self._random,
        )  # fmt: skip
        self._workflows.hold(key.namespace)
        self._running[key] = _Running(watch=watch, task=asyncio.create_task(watch.run()))
        return watch.standing

    async def leave(self, key: RunKey) -> None:
        """Watch for a source no more: it is gone, or not to be used as it is."""
        known = self._running.pop(key, None)
        if known is not None:
            known.task.cancel()
            await asyncio.gather(known.task, return_exceptions=True)
            await self._workflows.release(key.namespace)

    async def run(self) -> None:
        """End everything when cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            for key in list(self._running):
                await self.leave(key)

    async def _tell(self, source: Watched, change: Change) -> None:
        await self._teller.tell(source, change, await self._workflows.of(source.key.namespace))
