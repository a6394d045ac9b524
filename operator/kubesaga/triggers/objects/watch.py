# SPDX-License-Identifier: Apache-2.0
"""One WorkflowEventSource of Kubernetes objects at work: the watch, how it stands, and how far it has come.

What is promised: once the source is Ready, each change has its runs, over crashes and failovers, as far back as the API
server remembers (`Informer.resume`): its status says up to which version of the objects everything has been told, and an
operator that takes over begins with the state at that version. What it tells a second time makes no second run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeAlias

from pydantic import ValidationError

from kubesaga.api.fields import parse_time
from kubesaga.api.object_source import KubernetesObjects, ObjectEvent, WatchProgress
from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import RunKey
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient, Object, Selection
from kubesaga.kube.discovery import Discovery, Found
from kubesaga.kube.informer import Informer
from kubesaga.kube.resources import WORKFLOW_EVENT_SOURCES, Resource
from kubesaga.triggers.objects.changes import Change, change_of, is_secret
from kubesaga.triggers.objects.lanes import Lanes
from kubesaga.triggers.objects.teller import Watched

_log: Final = logging.getLogger("kubesaga.workflow_engine")

Accept: TypeAlias = Callable[[Object], ObjectEvent | None]
"""What an object of a first listing counts as; None: it is no news."""

_SETTLED: Final = 1.0
"""Seconds without trouble after which a watch counts as established: a refusal comes in milliseconds."""
_AT_MOST_EACH: Final = 1.0
"""Seconds between two records of the progress."""
_IDLE: Final = 60.0
"""Seconds after which it is recorded though nothing has happened: the API server forgets after five minutes."""
_LONGEST_BACKOFF: Final = 30.0
_VERBS: Final = ("get", "list", "watch")
_LASTING: Final = frozenset({400, 403, 404, 405, 406, 415})
"""Answers that do not mend themselves soon, and are told."""


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Return the time of day."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Whether a source is watched, and why not."""

    ready: bool
    reason: Reason
    message: str


STARTING: Final = Standing(ready=False, reason=Reason.WATCH_STARTING, message="The objects are being listed.")


class ObjectWatch:
    """The watch of one source. `objects` may be replaced by others of the same subject while it runs."""

    def __init__(
        self, key: RunKey, body: Object, objects: KubernetesObjects, *, client: KubeClient, discovery: Discovery,
        tell: Callable[[Watched, Change], Awaitable[None]], changed: Callable[[RunKey], None], clock: Clock,
        random: Callable[[], float],
    ) -> None:  # fmt: skip
        """`tell` is repeated until it returns; `changed` is told when the source stands differently."""
        self.key = key
        self.uid = str(body["metadata"]["uid"])
        self.objects = objects
        self.standing = STARTING
        self._client = client
        self._discovery = discovery
        self._tell = tell
        self._changed = changed
        self._clock = clock
        self._random = random
        self._since = _since(body, clock.now())
        self._progress = _progress_of(body, objects.subject)
        self._recorded = self._progress
        self._moved = asyncio.Event()
        self._resource: Resource | None = None
        self._lanes = Lanes(self._tell_one, told=self._moved.set, sleep=clock.sleep, random=random)

    @property
    def pending(self) -> int:
        """How many changes wait for their runs."""
        return self._lanes.depth

    def is_of(self, body: Object, objects: KubernetesObjects) -> bool:
        """Tell whether this is the watch of that source as it is now."""
        return bool(body["metadata"]["uid"] == self.uid) and objects.subject == self.objects.subject

    async def run(self) -> None:
        """Watch until cancelled; what keeps it from that is told, and tried again."""
        failures = 0
        try:
            while True:
                hindrance = await self._try()
                failures = 1 if self.standing.ready else failures + 1
                self._stand(hindrance)
                pause = min(2.0 ** min(failures - 1, 10), _LONGEST_BACKOFF)
                await self._clock.sleep(pause * (0.5 + self._random() / 2))
        finally:
            await self._lanes.close()

    async def _try(self) -> Standing:
        """Watch as long as it goes well; return what is in the way."""
        objects = self.objects
        try:
            found = await self._discovery.find(objects.api_version, objects.kind)
            if fault := _unwatchable(objects, found):
                return Standing(ready=False, reason=Reason.KIND_NOT_WATCHABLE, message=fault)
            assert found is not None, "that it is not there is a fault"
            self._resource = found.resource
            return await self._follow(found.resource)
        except errors.ApiError as error:
            return _hindrance(self._resource, error)
        except Exception as error:  # noqa: BLE001 - a bug at one source is logged and must not end the others
            _log.exception("watching for WorkflowEventSource %s failed unexpectedly", self.key)
            return Standing(ready=False, reason=Reason.WATCH_REFUSED, message=f"The watch failed: {error}")

    # --- the watch

    async def _follow(self, resource: Resource) -> Standing:
        trouble: asyncio.Future[errors.ApiError] = asyncio.get_running_loop().create_future()

        def troubled(error: errors.ApiError) -> None:
            if error.status in _LASTING and not trouble.done():
                trouble.set_result(error)

        selection = Selection(namespace=self.key.namespace, labels=self.objects.label_selector)
        informer = Informer(
            self._client, resource, selection, clock=self._clock.monotonic, sleep=self._clock.sleep, random=self._random, consistent=True,
            metadata_only=is_secret(self.objects), troubled=troubled,
        )  # fmt: skip
        accept, floor = await self._resume(informer, resource, selection)
        informer.on_change(lambda _key, old, new: self._take_up(informer, accept, floor, old, new))
        tasks = [asyncio.create_task(informer.run())]
        try:
            await _first(informer.wait_synced(), trouble, *tasks)
            if not trouble.done():
                await self._record(informer)
                await _first(self._clock.sleep(_SETTLED), trouble, *tasks)
            if not trouble.done():
                told = f"Changes of {resource.plural} of this namespace start runs."
                self._stand(Standing(ready=True, reason=Reason.WATCHING, message=told))
                tasks.append(asyncio.create_task(self._keep_record(informer)))
                await _first(asyncio.Event().wait(), trouble, *tasks)
            for task in tasks:
                if task.done():
                    task.result()
            return _hindrance(resource, trouble.result())
        finally:
            self._progress = self._reached(informer) or self._progress
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _resume(self, informer: Informer, resource: Resource, selection: Selection) -> tuple[Accept, int]:
        """Go on from where the last watch was; return what counts where that is not possible, and how far that was."""
        progress = self._progress
        if progress is None:
            return lambda obj: ObjectEvent.ADDED if _created(obj) > self._since else None, 0
        version, since = int(progress.resource_version), progress.time.replace(microsecond=0)
        try:
            await informer.resume(version)
        except errors.Gone:
            _log.warning(
                "the API server does not remember the state that WorkflowEventSource %s has reached: of what happened "
                "to %s since %s, deletions are not known", self.key, self.objects.kind, progress.time,
            )  # fmt: skip
        except errors.ServerUnavailable:
            # Asked for a version that is yet to come, servers answer in different ways.
            if await self._version_now(resource, selection) >= version:
                raise
            _log.warning("the cluster has been restored: WorkflowEventSource %s begins with what is there", self.key)
            return lambda obj: ObjectEvent.ADDED if _created(obj) >= since else None, 0

        def accept(obj: Object) -> ObjectEvent | None:
            if int(obj["metadata"]["resourceVersion"]) <= version:
                return None
            return ObjectEvent.ADDED if _created(obj) >= since else ObjectEvent.MODIFIED

        return accept, version

    async def _version_now(self, resource: Resource, selection: Selection) -> int:
        async with aclosing(self._client.pages(resource, selection, limit=1, metadata_only=True)) as pages:
            async for page in pages:
                return int(page.resource_version)
        raise AssertionError("a listing has a page")

    def _take_up(self, informer: Informer, accept: Accept, floor: int, old: Object | None, new: Object | None) -> None:
        change = change_of(old, new)
        if not informer.synced:
            event = accept(change.object)
            if event is None:
                return
            change = Change(event=event, object=change.object, old=None)
        if change.event in self.objects.events:
            self._lanes.add(change, max(informer.position, floor))

    async def _tell_one(self, change: Change) -> None:
        assert self._resource is not None, "what has changed was watched"
        await self._tell(Watched(key=self.key, uid=self.uid, objects=self.objects, resource=self._resource), change)

    # --- how it stands, and how far it has come

    def _stand(self, standing: Standing) -> None:
        if standing != self.standing:
            self.standing = standing
            level = logging.INFO if standing.ready else logging.WARNING
            _log.log(level, "WorkflowEventSource %s: %s", self.key, standing.message)
            self._changed(self.key)

    def _reached(self, informer: Informer) -> WatchProgress | None:
        """Return up to where everything has been told; None: not known yet."""
        behind = self._lanes.behind
        version = informer.position if behind is None else behind
        if not informer.synced or not version:
            return None
        return WatchProgress(subject=self.objects.subject, resource_version=str(version), time=self._clock.now())

    async def _keep_record(self, informer: Informer) -> None:
        while True:
            await _first(self._moved.wait(), self._clock.sleep(_IDLE))
            await self._record(informer)
            await self._clock.sleep(_AT_MOST_EACH)

    async def _record(self, informer: Informer) -> None:
        """Write the progress down, unless it is."""
        self._moved.clear()
        reached = self._reached(informer)
        if reached is None or _same(reached, self._recorded):
            return
        namespace, name = self.key.namespace, self.key.name
        try:
            body = await self._client.get(WORKFLOW_EVENT_SOURCES, namespace, name)
            if body["metadata"]["uid"] != self.uid:
                return
            version = {"resourceVersion": body["metadata"]["resourceVersion"]}
            patch = {"metadata": version, "status": {"watch": reached.wire()}}
            await self._client.merge_patch(WORKFLOW_EVENT_SOURCES, namespace, name, patch, subresource="status")
        except errors.NotFound:
            return
        except errors.ApiError as error:
            self._moved.set()
            if not isinstance(error, errors.Conflict):
                _log.warning("how far WorkflowEventSource %s has come cannot be recorded: %s", self.key, error)
        else:
            self._recorded = reached


async def _first(*awaited: Awaitable[Any]) -> None:
    """Wait until one of them is done. Those that are no tasks or futures of others are ended."""
    given = {each for each in awaited if isinstance(each, asyncio.Future)}
    own = {asyncio.ensure_future(each) for each in awaited if not isinstance(each, asyncio.Future)}
    try:
        await asyncio.wait({*given, *own}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)


def _same(one: WatchProgress, other: WatchProgress | None) -> bool:
    return other is not None and one.resource_version == other.resource_version


def _created(obj: Object) -> datetime:
    return parse_time(obj["metadata"]["creationTimestamp"])


def _since(body: Object, now: datetime) -> datetime:
    """Return from when on added objects count where nothing is recorded: of a new source, since it was created."""
    metadata = body["metadata"]
    return parse_time(metadata["creationTimestamp"]) if metadata.get("generation") == 1 else now


def _progress_of(body: Object, subject: str) -> WatchProgress | None:
    """Return what the source's status says, if that is about the same objects."""
    found = (body.get("status") or {}).get("watch")
    try:
        progress = WatchProgress.model_validate(found, extra="ignore", by_alias=True, by_name=False)
        int(progress.resource_version)
    except (ValidationError, ValueError):
        return None
    return progress if progress.subject == subject else None


def _unwatchable(objects: KubernetesObjects, found: Found | None) -> str | None:
    if found is None:
        return f"spec.kubernetes: the cluster has no kind {objects.kind} of {objects.api_version}; install it, or mend the name."
    if not found.resource.namespaced:
        return f"spec.kubernetes.kind: {objects.kind} does not belong to a namespace, and a source watches its own namespace alone."
    if lacking := [verb for verb in _VERBS if verb not in found.verbs]:
        return f"spec.kubernetes.kind: the API server does not offer to {' or '.join(lacking)} {found.resource.plural}."
    return None


def _hindrance(resource: Resource | None, error: errors.ApiError) -> Standing:
    if resource is not None and isinstance(error, errors.Forbidden):
        told = (
            f"The operator's ServiceAccount needs the verbs get, list and watch on {resource.plural} here; "
            f"with the chart, watchableKinds gives them. The API server says: {error.message}"
        )
        return Standing(ready=False, reason=Reason.WATCH_FORBIDDEN, message=told)
    return Standing(ready=False, reason=Reason.WATCH_REFUSED, message=f"The API server says: {error}")
