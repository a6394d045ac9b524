# SPDX-License-Identifier: Apache-2.0
"""A memory of all objects of a kind that a selector matches, kept fresh by one watch.

What it promises beyond a plain watch:
- What vanished while the watch was broken is reported as deleted: every new listing is compared with the memory.
- Time never runs backwards: a copy with an older resourceVersion than the one in memory is ignored, and a new listing
  is never older than what was seen before, unless the cluster's data itself was restored from a backup.
  (resourceVersions are integers that can be compared: KEP-5504.)
- A silent connection is replaced: the server sends bookmarks each minute.
- A change that the watch has kept to itself is found, if there is a `look_interval`, by holding the memory against a listing.
It is a cache all the same: before a deed that depends on an object being there or gone, ask the API server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType

from kubesaga.kube.client import EVERYTHING, EventType, KubeClient, Listing, Object, Selection
from kubesaga.kube.errors import ApiError, Gone, NotFound, ServerUnavailable
from kubesaga.kube.resources import Resource

_log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace ("" for kinds without one) and name."""
OnChange = Callable[[Key, Object | None, Object | None], None]
"""Called with (key, old, new). old None: new in memory; new None: deleted, or not matched by the selector any more."""
IndexKey = Callable[[Object], str | None]


def controller_uid(obj: Object) -> str | None:
    """Return the uid of the object that controls this one (its ownerReference with `controller: true`)."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((reference["uid"] for reference in references if reference.get("controller")), None)


def label(name: str) -> IndexKey:
    """Return an index key: the value of that label."""
    return lambda obj: (obj["metadata"].get("labels") or {}).get(name)


class Informer:
    """The memory. Objects in it are shared: nobody may change them."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        selection: Selection = EVERYTHING,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
        index_key: IndexKey = controller_uid,
        metadata_only: bool = False,
        silence: float = 70.0,
        page: int = 500,
        longest_pause: float = 30.0,
        look_interval: float | None = None,
        missed: Callable[[int], None] = lambda _count: None,
        consistent: bool = False,
        troubled: Callable[[ApiError], None] = lambda _error: None,
    ) -> None:
        """`random` gives a number from 0 up to 1; `silence`, `longest_pause`, `look_interval` and the clock are seconds.

        `missed` is told how many changes a look has found that the watch had kept to itself, `troubled` what interrupts
        listing and watching. With `consistent` the first listing is the state then, not one that the server has at hand.
        """
        self._client = client
        self._resource = resource
        self._selection = selection
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._index_key = index_key
        self._metadata_only = metadata_only
        self._silence = silence
        self._page = page
        self._longest_pause = longest_pause
        self._look_interval = look_interval
        self._missed = missed
        self._objects: dict[Key, Object] = {}
        self._index: dict[str, dict[Key, Object]] = {}
        self._callbacks: list[OnChange] = []
        self._synced = asyncio.Event()
        self._listed = False
        self._position = 0
        self._consistent = consistent
        self._troubled = troubled
        self._failures = 0
        self._last_contact = clock()
        self._behind: dict[Key, int | None] = {}

    @property
    def store(self) -> Mapping[Key, Object]:
        """All objects in memory, without their managedFields."""
        return MappingProxyType(self._objects)

    @property
    def last_contact(self) -> float:
        """When the server last said anything, on the clock given; a synced memory is as old as that at most."""
        return self._last_contact

    @property
    def position(self) -> int:
        """The version up to which everything has been told; 0 before the first listing is complete."""
        return self._position

    @property
    def synced(self) -> bool:
        """Tell whether the first listing is complete."""
        return self._synced.is_set()

    def by_owner(self, uid: str) -> list[Object]:
        """Return the objects whose index key is `uid`."""
        return list(self._index.get(uid, {}).values())

    def on_change(self, callback: OnChange) -> None:
        """Call `callback` after each change of the memory, the first listing included. If it raises, that is logged."""
        self._callbacks.append(callback)

    async def wait_synced(self) -> None:
        """Return when the first listing is complete and its callbacks have run."""
        await self._synced.wait()

    async def resume(self, version: int) -> None:
        """Before `run`: take in the state at a version and tell nobody, so that `run` tells all that has happened since.

        Raises Gone if the server does not remember it (five to ten minutes back, as a rule).
        """
        pages = self._client.pages(
            self._resource, self._selection, resource_version=str(version), exact=True, limit=self._page,
            metadata_only=self._metadata_only,
        )  # fmt: skip
        found: dict[Key, Object] = {}
        async with aclosing(pages):
            async for page in pages:
                found |= {_key(obj): obj for obj in page.items}
        for key, obj in found.items():
            obj["metadata"].pop("managedFields", None)
            self._keep(key, obj)
        self._last_contact = self._clock()
        self._position, self._listed = version, True
        self._synced.set()

    def adopt(self, obj: Object) -> bool:
        """Take in what a create, patch or get has just returned; False if the memory is as new or newer.

        So the next look finds our own write before the watch has told of it. What the watch has already passed is not
        taken in: if it is not in memory, it has been deleted since. Give only objects that the selection matches.
        """
        key, version = _key(obj), _version(obj)
        stored = self._objects.get(key)
        if version <= (self._position if stored is None else _version(stored)):
            return False
        # The caller's dict is not ours to strip.
        metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
        self._put(key, obj | {"metadata": metadata})
        return True

    async def look(self) -> int:
        """Hold the memory against a listing; return how many changes the watch had kept to itself, which are known now.

        A difference counts only if it was there at the last look already: before, the watch may just be about to tell.
        """
        listing = await self._client.list(self._resource, self._selection, metadata_only=True)
        moment, there = int(listing.resource_version), {_key(obj): _version(obj) for obj in listing.items}
        behind: dict[Key, int | None] = {
            key: version for key, version in there.items() if self._knows_less(key, version)
        }
        behind |= {key: None for key, obj in self._objects.items() if key not in there and _version(obj) <= moment}
        missed = [key for key, version in behind.items() if self._behind.get(key, 0) == version]
        for key in missed:
            await self._catch_up(key, behind[key])
        self._behind = behind
        return len(missed)

    def _knows_less(self, key: Key, version: int) -> bool:
        stored = self._objects.get(key)
        return stored is None or _version(stored) < version

    async def _catch_up(self, key: Key, version: int | None) -> None:
        """Take in the version of an object that a listing has shown; None: that it is gone."""
        if version is None:
            if key in self._objects:
                self._remove(key)
            return
        try:
            found = await self._client.get(self._resource, key[0] or None, key[1], metadata_only=self._metadata_only)
        except NotFound:
            return
        # Another version than the listed one may not match the selector any more: the next look will tell.
        if _version(found) == version:
            self._changed(found)

    async def run(self) -> None:
        """Keep the memory fresh until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._look_interval is not None:
                group.create_task(self._look_on(self._look_interval))
            await self._keep_following()

    async def _look_on(self, interval: float) -> None:
        while True:
            await self._sleep(interval)
            try:
                count = await self.look()
            except ApiError as error:
                _log.warning("%s cannot be listed for comparison: %s", self._resource.plural, error)
                continue
            if count:
                _log.warning(
                    "the watch has not told of %d changes of %s; they are known now", count, self._resource.plural
                )
                self._missed(count)

    async def _keep_following(self) -> None:
        while True:
            try:
                if not self._listed:
                    await self._relist()
                await self._follow()
                continue
            except ApiError as error:
                pause = self._after(error)
            except Exception:  # noqa: BLE001 - the memory outlives a bug: it is logged and the listing begun again
                _log.exception("watching %s failed unexpectedly", self._resource.plural)
                self._listed = False
                pause = self._backoff()
            await self._sleep(pause)

    def _after(self, error: ApiError) -> float:
        """Note what failed; return how long to wait before the next try."""
        if error.reason == "Silent":
            # Also what an idle kind looks like on old servers, which send no bookmarks before the first event.
            _log.debug("watching %s: %s", self._resource.plural, error)
            return 0.0
        _log.warning("watching %s is interrupted: %s", self._resource.plural, error)
        self._troubled(error)
        expired = isinstance(error, Gone)
        if not self._listed and (expired or error.has_cause("ResourceVersionTooLarge")):
            # The pages expired while we read them, or this server has not seen what we have: ask for the state now.
            self._consistent = True
        self._listed = self._listed and not expired
        pause = self._backoff()
        return 0.0 if expired and self._failures == 1 else max(pause, error.retry_after or 0.0)

    def _backoff(self) -> float:
        self._failures += 1
        return min(self._longest_pause, 2.0 ** min(self._failures - 1, 10)) * (0.5 + self._random() / 2)

    async def _relist(self) -> None:
        """List, and make the memory equal to the list."""
        version = None if self._consistent else str(self._position)
        restored = False
        present: set[Key] = set()
        moment = 0
        async with aclosing(self._pages(version)) as pages:
            async for page in pages:
                self._last_contact = self._clock()
                moment = int(page.resource_version)
                # Only a consistent listing proves it: the cluster's data was restored, its versions run again.
                restored = self._consistent and moment < self._position
                for obj in page.items:
                    present.add(_key(obj))
                    self._changed(obj, force=restored)
        for key in [key for key in self._objects if key not in present]:
            # What was adopted after the moment of the listing cannot be in it.
            if restored or _version(self._objects[key]) <= moment:
                self._remove(key)
        self._position = moment
        self._listed, self._consistent = True, False
        self._synced.set()

    def _pages(self, version: str | None) -> AsyncGenerator[Listing, None]:
        return self._client.pages(
            self._resource,
            self._selection,
            resource_version=version,
            limit=self._page,
            metadata_only=self._metadata_only,
        )

    async def _follow(self) -> None:
        """Apply what the watch tells, until the server ends it."""
        started, heard = self._clock(), False
        events = self._client.watch(
            self._resource,
            self._selection,
            resource_version=str(self._position),
            metadata_only=self._metadata_only,
            silence=self._silence,
        )
        async with aclosing(events):
            async for type_, obj in events:
                self._last_contact, heard, self._failures = self._clock(), True, 0
                self._apply(type_, obj)
        if heard or self._clock() - started >= 1.0:
            self._failures = 0
        else:
            # A server or proxy that ends every watch at once must not make us spin.
            raise ServerUnavailable(0, "Closed", "the watch ended as soon as it began")

    def _apply(self, type_: EventType, obj: Object) -> None:
        version = _version(obj)
        if type_ == EventType.DELETED:
            key = _key(obj)
            stored = self._objects.get(key)
            if stored is not None and version >= _version(stored):
                self._remove(key)
        elif type_ != EventType.BOOKMARK:
            self._changed(obj)
        self._position = max(self._position, version)

    def _changed(self, obj: Object, *, force: bool = False) -> None:
        key = _key(obj)
        stored = self._objects.get(key)
        if stored is not None and not force and _version(obj) <= _version(stored):
            return
        obj["metadata"].pop("managedFields", None)
        self._put(key, obj)

    def _put(self, key: Key, new: Object) -> None:
        old = self._objects.get(key)
        if old is not None and old["metadata"]["uid"] != new["metadata"]["uid"]:
            # Deleted and made again under its name while we did not see it: two changes, so that nobody mixes them up.
            self._remove(key)
            old = None
        self._keep(key, new)
        self._tell(key, old, new)

    def _keep(self, key: Key, new: Object) -> None:
        self._unindex(key)
        self._objects[key] = new
        index = self._index_key(new)
        if index is not None:
            self._index.setdefault(index, {})[key] = new

    def _remove(self, key: Key) -> None:
        self._unindex(key)
        self._tell(key, self._objects.pop(key), None)

    def _unindex(self, key: Key) -> None:
        old = self._objects.get(key)
        index = None if old is None else self._index_key(old)
        if index is not None and index in self._index:
            self._index[index].pop(key, None)
            if not self._index[index]:
                del self._index[index]

    def _tell(self, key: Key, old: Object | None, new: Object | None) -> None:
        for callback in self._callbacks:
            try:
                callback(key, old, new)
            except Exception:  # noqa: BLE001 - one listener's bug must not keep the change from the others
                _log.exception("a listener to %s failed at %s", self._resource.plural, "/".join(key))


def _key(obj: Object) -> Key:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])
