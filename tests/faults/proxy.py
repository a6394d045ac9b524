# SPDX-License-Identifier: Apache-2.0
"""A reverse proxy between one operator and the API server, which does to each call and event what the plan in play says."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from tests.faults.calls import Call, Sent, call_of
from tests.faults.faults import Blow, Event, Fault, Script, Twist
from tests.faults.upstream import Answer, Upstream, lines_of
from yarl import URL

LATE = 1.0
"""Seconds that a delayed event is late."""

Past = Callable[[str], bytes | None]
"""Returns a listing of a resource as it once was, None if nothing is known of its past."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What the proxy must know of the process behind it."""

    name: str
    kill: Callable[[], Awaitable[None]]
    life: Callable[[], int]


class Proxy:
    """One listener on loopback for one operator."""

    def __init__(self, upstream: Upstream, operator: Operator, ledger: list[Sent], past: Past) -> None:
        self.script = Script()
        self.parted = False
        """True: nobody can be reached."""
        self.token = ""
        """If set: calls that do not bear it are answered with 401."""
        self.url = ""
        self.watches: Counter[str] = Counter()
        """Open watches by resource."""
        self._upstream = upstream
        self._operator = operator
        self._ledger = ledger
        self._past = past
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._exchanges: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop listening, and break what is open."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def watches_all(self) -> bool:
        """Tell whether the operator watches all that sagas consist of."""
        return all(self.watches[kind] for kind in ("workflowruns", "pods"))

    async def settled(self) -> None:
        """Return when no call is under way."""
        while self._exchanges:
            await asyncio.wait(set(self._exchanges))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = call_of(request.method, request.path, dict(request.query))
        if self.parted:
            return _broken(request)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _refusal(Fault(blow=Blow.REFUSED, status=401))
        body = await request.read()
        if call.verb == "watch":
            return await self._watch(request, call)
        # A call that has come in is carried out to its end, also if the operator dies meanwhile.
        exchange = self._spawn(self._exchange(request, call, body))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        answer: web.StreamResponse = await asyncio.shield(exchange)
        return answer

    async def _exchange(self, request: web.Request, call: Call, body: bytes) -> web.StreamResponse:
        fault = self.script.blow(call)
        sent = self._enter(call, body, fault)
        match fault:
            case Fault(blow=Blow.REFUSED):
                return _refusal(fault)
            case Fault(blow=Blow.BEFORE):
                await self._operator.kill()
                return _broken(request)
            case Fault(blow=Blow.DROPPED):
                return _broken(request)
        if call.verb == "list" and self.script.stale(call.resource) and (past := self._past_of(request, call)):
            return web.Response(body=past, content_type="application/json")
        answer = await self._forward(request, body)
        if answer is None:
            return _broken(request)
        _complete(sent, answer)
        match fault:
            case Fault(blow=Blow.AFTER):
                await self._operator.kill()
                return _broken(request)
            case Fault(blow=Blow.LOST):
                return _broken(request)
            case Fault(blow=Blow.SLOW, seconds=seconds):
                await asyncio.sleep(seconds)
        sent.delivered = True
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    def _enter(self, call: Call, body: bytes, fault: Fault | None) -> Sent:
        sent = Sent(
            call=call, operator=self._operator.name, life=self._operator.life(), at=time.monotonic(),
            fault=str(fault or ""), body=json.loads(body) if body else None,
        )  # fmt: skip
        if call.verb not in ("get", "list"):
            self._ledger.append(sent)
        return sent

    def _past_of(self, request: web.Request, call: Call) -> bytes | None:
        """Only listings that a lagging server may answer so: not the operator's own comparison, which asks for the present."""
        if "PartialObjectMetadata" in request.headers.get("Accept", ""):
            return None
        past = self._past(call.resource)
        if past is not None:
            self.script.note_stale(call.resource)
        return past

    async def _forward(self, request: web.Request, body: bytes) -> Answer | None:
        headers = {name: request.headers[name] for name in ("Accept", "Content-Type") if name in request.headers}
        try:
            return await self._upstream.ask(request.method, str(request.rel_url), body or None, headers)
        except (aiohttp.ClientError, OSError):
            return None

    async def _watch(self, request: web.Request, call: Call) -> web.StreamResponse:
        fault = self.script.blow(call)
        if fault is not None and fault.blow is Blow.REFUSED:
            return _refusal(fault)
        if fault is not None:
            return _broken(request)
        url = URL(self._upstream.server + str(request.rel_url), encoded=True)
        async with self._upstream.stream(url, request.headers.get("Accept", "application/json")) as source:
            answer = web.StreamResponse(status=source.status, headers={"Content-Type": "application/json"})
            # ConnectionError: whom it was for has gone.
            with suppress(ConnectionError):
                await answer.prepare(request)
                if source.status != 200:
                    await answer.write(await source.read())
                    return answer
                self.watches[call.resource] += 1
                try:
                    async with aclosing(lines_of(source)) as lines:
                        await self._tell(request, answer, call, lines)
                finally:
                    self.watches[call.resource] -= 1
        return answer

    async def _tell(
        self, request: web.Request, answer: web.StreamResponse, call: Call, lines: AsyncIterator[bytes]
    ) -> None:
        """Pass events on, twisted; returns when the stream is to end."""
        frozen = False
        async for line in lines:
            if self.parted:
                _abort(request)
                return
            event = _event_of(call.resource, line)
            twist = None if event is None or frozen else self.script.twist(event)
            frozen = frozen or twist is Twist.FREEZE
            match twist:
                case Twist.GONE | Twist.BROKEN:
                    await answer.write(_ERRORS[twist])
                    return
                case Twist.CUT:
                    await answer.write(line[: len(line) // 2])
                    _abort(request)
                    return
                case Twist.DELAY:
                    self._spawn(_later(answer, line))
                case Twist.REPLAY:
                    self._spawn(_later(answer, line))
                    await answer.write(line)
                case Twist.DUPLICATE:
                    await answer.write(line + line)
                case None if not frozen:
                    await answer.write(line)

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _complete(sent: Sent, answer: Answer) -> None:
    sent.executed_at, sent.status = time.monotonic(), answer.status
    if answer.status < 300 and sent.call.verb not in ("get", "list"):
        version = (json.loads(answer.body).get("metadata") or {}).get("resourceVersion")
        sent.version = int(version) if version else None


def _event_of(resource: str, line: bytes) -> Event | None:
    told = json.loads(line)
    if told["type"] in ("BOOKMARK", "ERROR"):
        return None
    about = (told["object"].get("status") or {}).get("phase", "")
    return Event(resource=resource, type=told["type"], about=about, object=told["object"])


async def _later(answer: web.StreamResponse, line: bytes) -> None:
    await asyncio.sleep(LATE)
    try:
        await answer.write(line)
    except (ConnectionError, RuntimeError):
        return  # whom it was for has gone


def _status(code: int, reason: str) -> dict[str, Any]:
    message = f"{code} by the fault harness"
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "code": code,
    }  # fmt: skip


_REASONS = {
    401: "Unauthorized", 403: "Forbidden", 409: "Conflict", 410: "Expired", 429: "TooManyRequests",
    500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip
_ERRORS = {
    twist: json.dumps({"type": "ERROR", "object": _status(code, _REASONS[code])}).encode() + b"\n"
    for twist, code in ((Twist.GONE, 410), (Twist.BROKEN, 500))
}


def _refusal(fault: Fault) -> web.Response:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return web.json_response(_status(fault.status, _REASONS[fault.status]), status=fault.status, headers=headers)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _broken(request: web.Request) -> web.Response:
    """Break the connection; what is returned reaches nobody."""
    _abort(request)
    return web.Response()
