# SPDX-License-Identifier: Apache-2.0
"""What the API server tells of objects, every version of them, and what must hold at each of them.

`recording` watches by HTTP, without any code of the operator; the checks are functions of the events alone.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from threading import Thread
from typing import Any, Final
from urllib.parse import urlsplit

from tests.cluster.cluster import FINISHED, Cluster, collection
from tests.cluster.waiting import PATIENCE, wait_for

NOT_STARTED: Final = ("", "Pending", "Queued")
"""Phases in which a run holds nothing yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One version of one object."""

    kind: str
    """In the plural, as in the API's paths."""
    type: str
    """ADDED, MODIFIED or DELETED."""
    object: dict[str, Any]

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.object["metadata"]["name"])

    @property
    def uid(self) -> str:
        """The object's uid."""
        return str(self.object["metadata"]["uid"])

    @property
    def version(self) -> int:
        """The moment, counted by etcd over all objects."""
        return int(self.object["metadata"]["resourceVersion"])

    @property
    def status(self) -> dict[str, Any]:
        """The object's status."""
        return self.object.get("status") or {}

    @property
    def phase(self) -> str:
        """The status' phase; "" if it has none."""
        return str(self.status.get("phase") or "")


@dataclass(slots=True)
class History:
    """The events of some kinds of one namespace, each kind in the order in which they happened."""

    cluster: Cluster
    events: list[Event] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Why a watch has not told everything."""

    def of(self, kind: str, prefix: str = "") -> list[Event]:
        """Return what was told of a kind so far, of objects whose names begin so."""
        assert not self.broken, self.broken
        return [event for event in list(self.events) if event.kind == kind and event.name.startswith(prefix)]

    def catch_up(self, *kinds: str) -> None:
        """Wait until everything is told that has happened up to now to the objects that there are."""
        for kind in kinds:
            wanted = {
                (each["metadata"]["uid"], each["metadata"]["resourceVersion"]) for each in self.cluster.list(kind)
            }
            wait_for(f"the history to tell of all {kind}", lambda: wanted <= self._told(kind))  # noqa: B023 - used at once

    def _told(self, kind: str) -> set[tuple[str, str]]:
        return {(event.uid, str(event.version)) for event in self.of(kind)}


@contextmanager
def recording(cluster: Cluster, *kinds: str) -> Iterator[History]:
    """Yield the history of some kinds, from now on."""
    history = History(cluster)
    watches = [_Watch(history, kind) for kind in kinds]
    try:
        yield history
    finally:
        for watch in watches:
            watch.end()


class _Watch:
    def __init__(self, history: History, kind: str) -> None:
        self._history = history
        self._kind = kind
        self._path = collection(kind, history.cluster.namespace)
        self._ended = False
        self._connection = self._connect()
        with closing(self._connection), self._ask(self._path) as answer:
            listing = json.load(answer)
        self._version = listing["metadata"]["resourceVersion"]
        for item in sorted(listing["items"], key=lambda item: int(item["metadata"]["resourceVersion"])):
            history.events.append(Event(kind=kind, type="ADDED", object=item))
        self._thread = Thread(target=self._run, name=f"history of {kind}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End the stream, which lets the thread end."""
        self._ended = True
        with suppress(OSError, AttributeError):  # no socket: it is just being made, or was closed already
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self._history.cluster.proxy).netloc, timeout=PATIENCE)

    def _ask(self, path: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path)
        return self._connection.getresponse()

    def _run(self) -> None:
        try:
            while not self._ended:
                self._connection = self._connect()
                query = f"watch=1&allowWatchBookmarks=true&resourceVersion={self._version}"
                with closing(self._connection), suppress(TimeoutError), self._ask(f"{self._path}?{query}") as answer:
                    # When nothing is told for long, it is asked again, from the last version: nothing is left out.
                    for line in answer:
                        self._take(json.loads(line))
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            if not self._ended:
                self._history.broken.append(f"{self._kind}: {type(error).__name__}: {error}")

    def _take(self, told: dict[str, Any]) -> None:
        if told["type"] == "ERROR":
            raise ValueError(told["object"])
        self._version = told["object"]["metadata"]["resourceVersion"]
        if told["type"] != "BOOKMARK":
            self._history.events.append(Event(kind=self._kind, type=told["type"], object=told["object"]))


def under_way(events: Sequence[Event]) -> list[tuple[int, frozenset[str]]]:
    """Return which runs were started and not finished, at each version of any of them."""
    live: set[str] = set()
    found = []
    for event in events:
        if event.type == "DELETED" or event.phase in (*NOT_STARTED, *FINISHED):
            live.discard(event.name)
        else:
            live.add(event.name)
        found.append((event.version, frozenset(live)))
    return found


def excesses(events: Sequence[Event], limit: int) -> list[str]:
    """Return a sentence for each version at which more runs were under way than the limit allows."""
    return [
        f"at version {version} {len(live)} runs were under way, {limit} may: {', '.join(sorted(live))}"
        for version, live in under_way(events)
        if len(live) > limit
    ]


def doubled_pods(events: Sequence[Event]) -> dict[str, set[str]]:
    """Return the uids of pods that were made more than once under one name, which stands for one attempt."""
    made: dict[str, set[str]] = {}
    for event in events:
        made.setdefault(event.name, set()).add(event.uid)
    return {name: uids for name, uids in made.items() if len(uids) > 1}


def revived(events: Sequence[Event]) -> list[str]:
    """Return a sentence for each run that had finished and was something else later."""
    ended: dict[str, str] = {}
    found = []
    for event in events:
        before = ended.get(event.uid)
        if before is not None and event.phase != before:
            found.append(f"{event.name} was {before}, and at version {event.version} {event.phase or 'nothing'}")
        if event.phase in FINISHED:
            ended.setdefault(event.uid, event.phase)
    return found


def state_at(events: Sequence[Event], version: int) -> dict[str, Event]:
    """Return the last version of each object before a moment, by name."""
    return {event.name: event for event in events if event.version < version and event.type != "DELETED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """The time in which one process held the Lease. The times are those that it wrote itself."""

    holder: str
    version: int
    """Of the object when it was taken."""
    acquired: datetime
    renewed: datetime
    """The last time; when it was given back, if it was."""
    renewals: int


def terms(events: Sequence[Event]) -> list[Term]:
    """Return who held the Lease, one after the other, from all of its versions."""
    found: list[Term] = []
    acquired = ""
    for event in events:
        spec = event.object.get("spec") or {}
        holder, renewed = spec.get("holderIdentity") or "", _moment(spec["renewTime"])
        if holder and (spec["acquireTime"] != acquired or holder != found[-1].holder):
            acquired = spec["acquireTime"]
            new = Term(holder=holder, version=event.version, acquired=_moment(acquired), renewed=renewed, renewals=0)
            found.append(new)
        elif found:
            last = found[-1]
            found[-1] = Term(
                holder=last.holder, version=last.version, acquired=last.acquired, renewed=renewed,
                renewals=last.renewals + bool(holder),
            )  # fmt: skip
    return found


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
