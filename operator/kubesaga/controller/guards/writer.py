# SPDX-License-Identifier: Apache-2.0
"""Stores the state of guards in the status of the objects that they belong to.

One write of an object is under way at a time. What changes meanwhile goes into the next one: at once when a breaker
opened or closed, else a second after the last. Only the fields of the guards are named in a patch, compared and swapped
on the version of the object: nobody else's conditions are touched, and nobody's write is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from kubesaga.api.names import API_VERSION
from kubesaga.controller.clock import Clock
from kubesaga.controller.guards.record import GuardRecord, News, patch_of
from kubesaga.engine.guarding import GuardKey, GuardOwner
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.events import Reference, Severity
from kubesaga.kube.resources import ACTIVITIES, WORKFLOWS, Resource

_log = logging.getLogger("kubesaga.workflow_engine")

AT_ONCE: Final = 0.0
SOON: Final = 1.0
"""Seconds between two writes of an object for what is not pressing."""
SEEN: Final = 5.0
"""The same for what is only for people to see, and always changes."""

_TRIES: Final = 5
_LONGEST_BACKOFF: Final = 30.0
_LONGEST_NAP: Final = 30.0
_CLOSING: Final = 5.0
"""How long the last writes may take, in seconds."""

RESOURCES: Final[dict[str, Resource]] = {"Activity": ACTIVITIES, "Workflow": WORKFLOWS}

Post = Callable[[Reference, Severity, str, str], None]
"""Posts a Kubernetes Event (about, severity, reason, message) without making anyone wait: `EventPoster.post`."""


@dataclass(slots=True, eq=False)
class _Line:
    """The writes of one object."""

    record: GuardRecord
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    body: Object | None = None
    """The object as it was read or written last; None: it has to be read."""
    uid: str = ""
    due: float | None = None
    last: float = float("-inf")
    not_before: float = float("-inf")
    failures: int = 0
    busy: bool = False


class GuardWriter:
    """Writes the records that were touched."""

    def __init__(
        self,
        client: KubeClient | None,
        clock: Clock,
        *,
        stored: Callable[[list[GuardKey]], None],
        post: Post | None = None,
    ) -> None:
        """`stored` is told which guards have more begins reserved now."""
        self._client = client
        self._clock = clock
        self._stored = stored
        self._post = post
        self._lines: dict[GuardOwner, _Line] = {}
        self._turn = asyncio.Event()

    def touch(self, record: GuardRecord, pause: float) -> None:
        """Note that a record has changed, and is to be written when `pause` seconds have passed since its last write."""
        if record.gone:
            return
        line = self._line(record)
        due = max(self._clock.monotonic(), line.last + pause, line.not_before)
        if line.due is None or due < line.due:
            line.due = due
            self._turn.set()

    async def run(self) -> None:
        """Write what is due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._turn.clear()
                now = self._clock.monotonic()
                waiting = [line for line in self._lines.values() if line.due is not None and not line.busy]
                for line in waiting:
                    if line.due is not None and line.due <= now:
                        line.busy = True
                        group.create_task(self._work(line))
                later = [line.due - now for line in waiting if line.due is not None and not line.busy]
                await self._wait(min([*later, _LONGEST_NAP]))

    async def close(self) -> None:
        """Write what is not stored yet, and give back what is reserved. Nothing may begin after this."""
        open_lines = [
            line for line in self._lines.values()
            if line.due is not None or any(guard.rate.reserved for guard in line.record.guards.values())
        ]  # fmt: skip
        try:
            async with asyncio.timeout(_CLOSING):
                done = await asyncio.gather(
                    *(self._write(line, release=True) for line in open_lines), return_exceptions=True
                )
        except TimeoutError:
            _log.warning("the state of guards could not be stored within %.0f s of closing", _CLOSING)
            return
        for line, result in zip(open_lines, done, strict=True):
            if isinstance(result, BaseException):
                _log.warning("the last state of the guards of %s was not stored: %s", _name(line.record), result)

    async def read(self, record: GuardRecord) -> Object | None:
        """Read the object, and take in what its status says; None: there is none. Raises ApiError."""
        line = self._line(record)
        async with line.lock:
            line.body = None
            return await self._read(line)

    async def write(self, record: GuardRecord) -> None:
        """Write a record now, and return when it is stored. Raises ApiError when nobody knows whether it is."""
        await self._write(self._line(record))

    def _line(self, record: GuardRecord) -> _Line:
        line = self._lines.get(record.owner)
        if line is None:
            line = self._lines[record.owner] = _Line(record)
        return line

    async def _work(self, line: _Line) -> None:
        try:
            await self._write(line)
        except Exception as error:  # noqa: BLE001 - a write that failed is repeated, alone: it holds up no other object
            line.failures += 1
            pause = min(SOON * 2 ** (line.failures - 1), _LONGEST_BACKOFF)
            line.not_before = line.due = self._clock.monotonic() + pause
            _log.warning(
                "the state of the guards of %s could not be stored, %d times, next in %.0f s: %s",
                _name(line.record), line.failures, pause, error, exc_info=error if line.failures == 1 else None,
            )  # fmt: skip
        else:
            line.failures = 0
        finally:
            line.busy = False
            self._turn.set()

    async def _write(self, line: _Line, *, release: bool = False) -> None:
        async with line.lock:
            line.due = None
            try:
                await self._store(line, release=release)
            except BaseException:
                line.due = self._clock.monotonic()  # nobody knows what is stored: `close` is to see to it, too
                raise

    async def _store(self, line: _Line, *, release: bool) -> None:
        record = line.record
        for _ in range(_TRIES):
            body = line.body or await self._read(line)
            if body is None:
                return
            wish = record.wish(self._clock.now(), release=release)
            patch = patch_of(record.written, wish.document)
            if patch:
                record.attempted, line.body, line.last = wish, None, self._clock.monotonic()
                try:
                    line.body = await self._patch(record, body, patch)
                except errors.Conflict:
                    continue
                except errors.NotFound:
                    self._lost(line)
                    return
            self._done(line, *record.wrote(wish))
            return
        raise errors.Conflict(409, "Conflict", f"{_name(record)} changed {_TRIES} times while it was being written")

    async def _patch(self, record: GuardRecord, body: Object, patch: dict[str, Any]) -> Object:
        version = body["metadata"]["resourceVersion"]
        assert self._client is not None, "see `_read`"
        return await self._client.merge_patch(
            RESOURCES[record.owner.kind], record.owner.namespace, record.owner.name,
            {"metadata": {"resourceVersion": version}, "status": patch}, subresource="status",
        )  # fmt: skip

    async def _read(self, line: _Line) -> Object | None:
        record = line.record
        assert self._client is not None, "without a client nothing is ever touched"
        try:
            body = await self._client.get(RESOURCES[record.owner.kind], record.owner.namespace, record.owner.name)
        except errors.NotFound:
            self._lost(line)
            return None
        uid = body["metadata"]["uid"]
        if line.uid not in ("", uid):
            record.renewed()
        line.uid, line.body, record.gone = uid, body, False
        self._done(line, *record.take(body.get("status") or {}, self._clock.now()))
        return body

    def _lost(self, line: _Line) -> None:
        """The object is gone: what is known of its guards is kept in memory, for runs that still use them."""
        line.body, line.due = None, None
        line.record.lost()
        self._stored(list(line.record.guards))

    def _done(self, line: _Line, more: list[GuardKey], news: list[News]) -> None:
        owner = line.record.owner
        about = Reference(
            api_version=API_VERSION, kind=owner.kind, name=owner.name, namespace=owner.namespace, uid=line.uid
        )  # fmt: skip
        if self._post is not None:
            for one in news:
                self._post(about, one.severity, one.reason, one.message)
        if more:
            self._stored(more)

    async def _wait(self, seconds: float) -> None:
        """Wait until the time is up, or something was touched or has ended."""
        nap = asyncio.ensure_future(self._clock.sleep(max(seconds, 0.001)))
        turn = asyncio.ensure_future(self._turn.wait())
        try:
            await asyncio.wait({nap, turn}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            turn.cancel()


def _name(record: GuardRecord) -> str:
    return f"{record.owner.kind} {record.owner.namespace}/{record.owner.name}"
