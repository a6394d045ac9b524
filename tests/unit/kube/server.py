# SPDX-License-Identifier: Apache-2.0
"""A small API server on loopback: real HTTP, real resourceVersions, real compare-and-swap; and faults on demand.

It keeps objects of any resource in memory, serves get, list (pages), create, merge patch, delete and watch (bookmarks,
410 after `compact`), and does to the next requests what `fail` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

Object = dict[str, Any]
Fault = Literal["refuse", "lose", "hang", "hold"]
"""refuse: cut the connection before anything is done; lose: do it, then cut; hang: never answer; hold: do it when `go_on`
is set, though the client may have left."""

_PATH = re.compile(
    r"^/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<subresource>[^/]+))?$"
)


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ApiServer:
    """The server. `objects` is keyed by (plural, namespace, name)."""

    url: str = ""
    token: str | None = None
    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    version: int = 100
    cached: tuple[int, dict[tuple[str, str, str], Object]] | None = None
    """What a server that lags behind answers to resourceVersion=0."""
    _history: list[tuple[int, str, str, Object]] = field(default_factory=list)
    _oldest: int = 0
    _faults: list[tuple[str, Fault | tuple[int, Any, dict[str, str]]]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _stop: int = 0
    watching: int = 0
    forbidden: dict[tuple[str, str], str] = field(default_factory=dict)
    """By method and plural: the sentence with which each such request is refused (403)."""
    kinds: dict[str, list[Object]] = field(default_factory=dict)
    """What discovery answers, by apiVersion."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    _held: asyncio.Future[web.StreamResponse] | None = None

    # What a test does to it.

    def fail(self, method: str, *faults: Fault | tuple[int, Any] | tuple[int, Any, dict[str, str]]) -> None:
        """Let the next requests of this method ("WATCH" for watches) meet these faults or answers, one each."""
        for fault in faults:
            self._faults.append((method, fault if isinstance(fault, str) else (*fault, {})[:3]))

    def forgive(self) -> None:
        """Take back all faults that no request has met."""
        self._faults.clear()

    async def put(self, plural: str, obj: Object, *, event: bool = True) -> Object:
        """Store an object as another client would; `event=False` only changes the data, no watch hears of it."""
        key = (plural, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        known = self.objects.get(key)
        self.version += 1
        obj = copy.deepcopy(obj)
        obj["metadata"]["resourceVersion"] = str(self.version)
        obj["metadata"].setdefault("uid", known["metadata"]["uid"] if known else f"uid-{self.version}")
        obj["metadata"]["managedFields"] = [{"manager": "test"}]
        self.objects[key] = obj
        await self._tell("MODIFIED" if known else "ADDED", plural, obj, event)
        return obj

    async def remove(self, plural: str, namespace: str, name: str, *, event: bool = True) -> None:
        obj = copy.deepcopy(self.objects.pop((plural, namespace, name)))
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        await self._tell("DELETED", plural, obj, event)

    async def say(self, type_: str, plural: str, obj: Object) -> None:
        """Send a watch event of any kind, as it is."""
        await self._tell(type_, plural, obj, True, int(obj["metadata"]["resourceVersion"]))

    def compact(self) -> None:
        """Forget what happened up to now: a watch from before answers 410."""
        self._oldest = self.version

    async def end_watches(self) -> None:
        """End all streams as the server does when their time is over."""
        async with self._changed:
            self._stop += 1
            self._changed.notify_all()

    async def _tell(self, type_: str, plural: str, obj: Object, event: bool, version: int | None = None) -> None:
        async with self._changed:
            if event:
                self._history.append((version or self.version, type_, plural, obj))
            self._changed.notify_all()

    # What it answers.

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(Received(request.method, request.path, dict(request.query), dict(request.headers), body))
        method = "WATCH" if "watch" in request.query else request.method
        fault = next((entry for entry in self._faults if entry[0] == method), None)
        if fault is not None:
            self._faults.remove(fault)
            if fault[1] == "hang":
                await asyncio.sleep(3600)
            if fault[1] == "hold":
                self._held = asyncio.ensure_future(self._answer_later(request, method, body))
                return await asyncio.shield(self._held)
            if fault[1] == "lose":
                await self._answer(request, method, body)
            if isinstance(fault[1], str):
                assert request.transport is not None
                request.transport.abort()
                raise asyncio.CancelledError
            return _reply(*fault[1])
        return await self._answer(request, method, body)

    async def _answer_later(self, request: web.Request, method: str, body: bytes) -> web.StreamResponse:
        await self.go_on.wait()
        return await self._answer(request, method, body)

    async def _answer(self, request: web.Request, method: str, body: bytes) -> web.StreamResponse:
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        kinds = self.kinds.get(re.sub("^/apis?/", "", request.path))
        match = None if kinds else _PATH.match(request.path)
        if match is None:
            found = _reply(200, {"kind": "APIResourceList", "resources": kinds}, {})
            return found if kinds else _status(404, "NotFound", "no such path")
        plural, namespace, name = match["plural"], match["namespace"] or "", match["name"]
        if (method, plural) in self.forbidden:
            return _status(403, "Forbidden", self.forbidden[method, plural])
        if method == "WATCH" or (method == "GET" and name is None):
            return (
                await self._watch(request, plural, namespace)
                if method == "WATCH"
                else self._list(request, plural, namespace)
            )
        if method == "POST":
            return await self._create(plural, namespace, json.loads(body))
        known = self.objects.get((plural, namespace, name))
        if known is None:
            return _status(404, "NotFound", f'{plural} "{name}" not found')
        if method == "PATCH":
            return await self._patch(plural, known, json.loads(body))
        if method == "DELETE":
            return await self._delete(plural, known, json.loads(body))
        return _reply(200, known, {})

    async def _create(self, plural: str, namespace: str, obj: Object) -> web.StreamResponse:
        name = obj["metadata"]["name"]
        if (plural, namespace, name) in self.objects:
            return _status(409, "AlreadyExists", f'{plural} "{name}" already exists')
        obj["metadata"]["namespace"] = namespace
        obj["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        return _reply(201, await self.put(plural, obj), {})

    async def _patch(self, plural: str, known: Object, patch: Object) -> web.StreamResponse:
        asked = (patch.get("metadata") or {}).get("resourceVersion")
        if asked is not None and asked != known["metadata"]["resourceVersion"]:
            return _status(409, "Conflict", "the object has been modified")
        return _reply(200, await self.put(plural, _merged(known, patch)), {})

    async def _delete(self, plural: str, known: Object, options: Object) -> web.StreamResponse:
        for name, wanted in (options.get("preconditions") or {}).items():
            if wanted != known["metadata"][name]:
                return _status(409, "Conflict", f"the {name} in the precondition does not match")
        await self.remove(plural, known["metadata"].get("namespace", ""), known["metadata"]["name"])
        return _status(200, "", "")

    def _list(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        asked = request.query.get("resourceVersion")
        version, objects = (self.cached if asked == "0" else None) or (self.version, self.objects)
        if asked is not None and int(asked) > version:
            cause = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
            return _status(504, "Timeout", f"Too large resource version: {asked}", cause)
        begin, _, moment = request.query.get("continue", "").partition("@")
        if request.query.get("resourceVersionMatch") == "Exact" or moment:
            version = int(moment or asked or 0)
            if version < self._oldest:
                return _status(410, "Expired", f"The resourceVersion for the provided list is too old: {version}")
            objects, moment = self._state_at(version), f"@{version}"
        start = int(begin or 0)
        end = start + (int(request.query.get("limit", 0)) or 1_000_000)
        found = [obj for key, obj in objects.items() if key[0] == plural and namespace in ("", key[1])]
        found = [obj for obj in found if _selected(obj, request.query.get("labelSelector"))]
        metadata = {"resourceVersion": str(version)} | ({"continue": f"{end}{moment}"} if end < len(found) else {})
        return _reply(200, {"kind": "List", "metadata": metadata, "items": found[start:end]}, {})

    def _state_at(self, version: int) -> dict[tuple[str, str, str], Object]:
        """Return what there was, as far as watches have been told of it."""
        found: dict[tuple[str, str, str], Object] = {}
        for at, type_, plural, obj in self._history:
            key = (plural, obj["metadata"].get("namespace", ""), obj["metadata"].get("name", ""))
            if at <= version and type_ in ("ADDED", "MODIFIED"):
                found[key] = obj
            elif at <= version and type_ == "DELETED":
                found.pop(key, None)
        return found

    async def _watch(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        position = int(request.query["resourceVersion"])
        if position < self._oldest:
            return _status(410, "Expired", f"too old resource version: {position}")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        stop = self._stop
        told = next((i for i, entry in enumerate(self._history) if entry[0] > position), len(self._history))
        self.watching += 1
        try:
            while stop == self._stop:
                for _, type_, kind, obj in self._history[told:]:
                    here = namespace in ("", obj["metadata"].get("namespace", ""))
                    if kind == plural and (type_ in ("BOOKMARK", "ERROR") or here):
                        await response.write(json.dumps({"type": type_, "object": obj}).encode() + b"\n")
                told = len(self._history)
                async with self._changed:
                    while told == len(self._history) and stop == self._stop:
                        await self._changed.wait()
        finally:
            self.watching -= 1
        return response


def _reply(status: int, body: Any, headers: dict[str, str]) -> web.Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return web.Response(status=status, body=raw, headers=headers, content_type="application/json")


def _status(code: int, reason: str, message: str, details: Object | None = None) -> web.Response:
    status = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details or {}}
    return _reply(code, status, {})


def _selected(obj: Object, selector: str | None) -> bool:
    """Tell whether an object bears labels: `a=b` and `a!=b`, with commas between."""
    labels = obj["metadata"].get("labels") or {}
    for part in filter(None, (selector or "").split(",")):
        name, _, value = part.partition("=")
        if (labels.get(name.removesuffix("!")) == value) is name.endswith("!"):
            return False
    return True


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


@contextlib.asynccontextmanager
async def serving() -> Any:
    """Run a server on a free port of loopback."""
    server = ApiServer()
    application = web.Application(client_max_size=16 * 2**20)
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await server.end_watches()
        await runner.cleanup()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition by letting everyone else run."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)
