# SPDX-License-Identifier: Apache-2.0
"""Kubernetes Events (core/v1): short news of an object for the people who describe it.

They are a courtesy, never a record: each is a full write of the API server, so they are counted together, limited in
rate, dropped when too many, and nobody waits for them. Callers put no secrets into them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.errors import AlreadyExists, ApiError, NotFound, ServerUnavailable, TooManyRequests
from kubesaga.kube.resources import EVENTS

_log = logging.getLogger(__name__)

Severity = Literal["Normal", "Warning"]

MESSAGE_LIMIT: Final = 1024
"""Bytes; the API server's own limit of an event's note."""
_NAME_LIMIT: Final = 253
_WINDOW: Final = 600.0
"""Seconds after which the same news is a new event."""
_REMEMBERED: Final = 4096
_LONGEST_PAUSE: Final = 30.0
_COMPLAINT_INTERVAL: Final = 60.0
_TRIES: Final = 10
"""How often an event is tried while the API server is in trouble: about three minutes, if it is alone in the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The object that an event is about."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    uid: str = ""


def reference_to(obj: Mapping[str, Any]) -> Reference:
    """Return the reference to an object that has apiVersion and kind (items of a list of built-in kinds do not)."""
    metadata = obj["metadata"]
    return Reference(
        api_version=obj["apiVersion"],
        kind=obj["kind"],
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        uid=metadata.get("uid", ""),
    )


@dataclass(frozen=True, slots=True)
class _News:
    """What makes two events the same."""

    about: Reference
    type: Severity
    reason: str
    message: str


@dataclass(slots=True)
class _Pending:
    count: int
    first: datetime
    last: datetime
    tries: int = 0


@dataclass(slots=True)
class _Posted:
    name: str
    count: int
    at: float


@dataclass(slots=True)
class Tally:
    """What became of the events so far."""

    posted: int = 0
    """Written to the API server."""
    dropped: int = 0
    """Lost because the queue was full or the poster was closed."""
    failed: int = 0
    """Refused by the API server, or given up after it was in trouble for too long."""


@dataclass(slots=True)
class _Bucket:
    """A token bucket: at most `burst` at once, `rate` a second in the long run."""

    rate: float
    burst: float
    at: float
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.burst

    def take(self, now: float) -> float:
        """Take one; return how many seconds to wait for it."""
        self.level = min(self.burst, self.level + (now - self.at) * self.rate) - 1
        self.at = now
        return max(0.0, -self.level / self.rate)


class EventPoster:
    """Posts Events in the background: `run` it in a task, `close` it at the end."""

    def __init__(
        self,
        client: KubeClient,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]],
        component: str = "kubesaga",
        instance: str = "",
        capacity: int = 1000,
        rate: float = 10.0,
        burst: int = 50,
    ) -> None:
        """`component` and `instance` name us in the events; `rate` and `burst` limit requests a second."""
        self._client = client
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._component = component
        self._instance = instance
        self._capacity = capacity
        self._bucket = _Bucket(rate=rate, burst=burst, at=clock())
        self._queue: OrderedDict[_News, _Pending] = OrderedDict()
        self._posted: OrderedDict[_News, _Posted] = OrderedDict()
        self._waiting = asyncio.Event()
        self._closed = False
        self._complained_at = float("-inf")
        self.tally = Tally()

    def post(self, about: Reference, type_: Severity, reason: str, message: str) -> None:
        """Queue one event and return at once. When the queue is full, the oldest in it is dropped."""
        if self._closed:
            self.tally.dropped += 1
            return
        news, now = _News(about, type_, reason, _cut(message)), self._now()
        pending = self._queue.get(news)
        if pending is not None:
            pending.count += 1
            pending.last = now
            return
        if len(self._queue) >= self._capacity:
            self.tally.dropped += self._queue.popitem(last=False)[1].count
        self._queue[news] = _Pending(1, now, now)
        self._waiting.set()

    async def run(self) -> None:
        """Post what is queued until cancelled."""
        pause = 0.0
        while True:
            await self._waiting.wait()
            await self._sleep(max(pause, self._bucket.take(self._clock())))
            pause = await self._next(pause)

    async def close(self, within: float = 2.0) -> None:
        """Take no more, and post what is queued, without the rate limit, for at most `within` seconds.

        To be called after `run` was cancelled.
        """
        self._closed = True
        try:
            async with asyncio.timeout(within):
                while self._queue and not await self._next(0.0):
                    pass
        except TimeoutError:
            pass
        self.tally.dropped += sum(pending.count for pending in self._queue.values())
        self._queue.clear()

    async def _next(self, pause: float) -> float:
        """Post the first of the queue; return how long to wait before the next, if the API server is in trouble."""
        if not self._queue:
            self._waiting.clear()
            return 0.0
        news, pending = self._queue.popitem(last=False)
        try:
            await self._write(news, pending)
        except (ServerUnavailable, TooManyRequests) as error:
            self._complain(error)
            pending.tries += 1
            self._give_back(news, pending)
            return max(error.retry_after or 0.0, min(_LONGEST_PAUSE, pause * 2 or 1.0))
        except ApiError as error:
            # Not allowed, or a namespace that is being deleted: trying again would not help.
            self._complain(error)
            self.tally.failed += pending.count
        except asyncio.CancelledError:
            self._give_back(news, pending)
            raise
        else:
            self.tally.posted += 1
        if not self._queue:
            self._waiting.clear()
        return 0.0

    def _give_back(self, news: _News, pending: _Pending) -> None:
        """Queue it again behind the others, so that one that the server chokes on does not hold them up."""
        if pending.tries >= _TRIES:
            self.tally.failed += pending.count
            return
        newer = self._queue.pop(news, None)
        if newer is not None:
            pending.count += newer.count
            pending.last = newer.last
        self._queue[news] = pending

    def _complain(self, error: ApiError) -> None:
        if self._clock() - self._complained_at >= _COMPLAINT_INTERVAL:
            self._complained_at = self._clock()
            _log.warning("Events cannot be posted: %s", error)

    async def _write(self, news: _News, pending: _Pending) -> None:
        """Write an event, or count it into the one that already tells the same."""
        known = self._posted.get(news)
        if known is None or self._clock() - known.at >= _WINDOW:
            known = _Posted(_name(news, pending.first), 0, 0.0)
        try:
            if known.count:
                await self._count(news, pending, known)
            else:
                await self._create(news, pending, known)
        except NotFound:
            # The one that we would count into has expired (the API server keeps events for an hour).
            known.count = 0
            await self._create(news, pending, known)
        except AlreadyExists:
            # Ours from before a restart, or a first try whose answer was lost.
            known.count = (await self._client.get(EVENTS, _namespace(news), known.name)).get("count") or 1
            await self._count(news, pending, known)
        known.count += pending.count
        known.at = self._clock()
        self._posted[news] = known
        self._posted.move_to_end(news)
        while len(self._posted) > _REMEMBERED:
            self._posted.popitem(last=False)

    async def _count(self, news: _News, pending: _Pending, known: _Posted) -> None:
        body = {"count": known.count + pending.count, "lastTimestamp": _stamp(pending.last)}
        await self._client.merge_patch(EVENTS, _namespace(news), known.name, body, metadata_only=True)

    async def _create(self, news: _News, pending: _Pending, known: _Posted) -> None:
        await self._client.create(EVENTS, _namespace(news), self._body(news, pending, known.name))

    def _body(self, news: _News, pending: _Pending, name: str) -> Object:
        about = news.about
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": _namespace(news)},
            "involvedObject": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "name": about.name,
                "namespace": about.namespace,
                "uid": about.uid,
            },
            "type": news.type,
            "reason": news.reason,
            "message": news.message,
            "count": pending.count,
            "firstTimestamp": _stamp(pending.first),
            "lastTimestamp": _stamp(pending.last),
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }


def _namespace(news: _News) -> str:
    # Events of objects without a namespace belong into `default`; the API server insists.
    return news.about.namespace or "default"


def _name(news: _News, first: datetime) -> str:
    """Return `<object>.<hash>`, the same for the same news in the same window: a repeated post finds the first."""
    window = int(first.timestamp() // _WINDOW)
    about = news.about
    words = (about.api_version, about.kind, about.name, about.uid, news.type, news.reason, news.message, str(window))
    digest = hashlib.sha256("\0".join(words).encode(errors="replace")).hexdigest()[:16]
    return f"{about.name[: _NAME_LIMIT - 17].rstrip('-.')}.{digest}"


def _cut(message: str) -> str:
    raw = message.encode(errors="replace")
    if len(raw) <= MESSAGE_LIMIT:
        return raw.decode()
    return raw[: MESSAGE_LIMIT - 3].decode(errors="ignore") + "…"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
