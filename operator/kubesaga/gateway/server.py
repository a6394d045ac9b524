# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: one path, one method, and an answer in JSON to everything that comes, be it HTTP or not."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from kubesaga.gateway.bodies import Bodies
from kubesaga.gateway.headers import Headers
from kubesaga.gateway.intake import Answer
from kubesaga.gateway.refusal import Refusal, malformed, unavailable
from kubesaga.gateway.series import Series

_log: Final = logging.getLogger("kubesaga.gateway")
_PATH: Final = re.compile(
    r"/events/([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)/([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?:\?.*)?"
)
_LINGER: Final = 1.0
"""Seconds for which the rest of a refused body is read and dropped, so that its sender comes to read the answer."""
_READ: Final = 16 * 1024

Deliver = Callable[[str, str, Headers, bytes], Awaitable[Answer]]
"""Takes (namespace, name of the source, headers, body). Raises Refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the server bears. Times are seconds, sizes bytes."""

    body: int = 1024 * 1024
    """Of one body."""
    buffered: int = 64 * 1024 * 1024
    """Of all bodies in memory."""
    timeout: float = 10.0
    """For the headers of a request, and again for its body."""
    connections: int = 1000
    in_flight: int = 64
    """Deliveries that are looked at, at once."""


class Server:
    """Listens for deliveries."""

    def __init__(self, deliver: Deliver, bounds: Bounds, series: Series, clock: Callable[[], float]) -> None:
        self._deliver = deliver
        self._bounds = bounds
        self._series = series
        self._clock = clock
        self._bodies = Bodies(largest=bounds.body, together=bounds.buffered, within=bounds.timeout)
        self._in_flight = 0
        self._http = _Http(
            self._handle, most=bounds.connections, keepalive_timeout=bounds.timeout, lingering_time=_LINGER,
            read_bufsize=_READ, auto_decompress=False, access_log=None,
        )  # fmt: skip
        self._listener: asyncio.Server | None = None
        self._leaving = False

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; return the port (useful where 0 was asked for)."""
        loop = asyncio.get_running_loop()
        handshake = self._bounds.timeout if tls else None
        self._listener = await loop.create_server(
            self._http, host, port, ssl=tls, backlog=512, ssl_handshake_timeout=handshake
        )
        return int(self._listener.sockets[0].getsockname()[1])

    async def close(self, within: float) -> None:
        """Take no more connections, let the deliveries under way end, and close theirs."""
        self._leaving = True
        if self._listener is not None:
            self._listener.close()
        self._http.pre_shutdown()
        await self._http.shutdown(within)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._http.connections)

    @property
    def buffered(self) -> int:
        """Bytes of bodies in memory."""
        return self._bodies.held

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        began = self._clock()
        try:
            answer = await self._answer(request)
            response = respond(answer.status, answer.body)
        except Refusal as refusal:
            if not refusal.counted:
                self._series.deliveries.labels("", "", str(refusal.status), refusal.reason).inc()
            response = respond(refusal.status, refusal.body(), refusal.headers)
        except (ConnectionError, asyncio.CancelledError):
            self._series.deliveries.labels("", "", "none", "BrokenOff").inc()
            raise
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, the sender is told to try again
            self._series.deliveries.labels("", "", "500", "Bug").inc()
            # Without the exception's own text, which may hold what was sent.
            _log.error("a delivery broke off: %s at %s", type(error).__name__, _place(error))
            response = respond(
                500, {"error": "the gateway could not work with the delivery; nothing is known of its runs"}
            )
        self._series.duration.observe(self._clock() - began)
        if self._leaving or not request.content.is_eof():
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> Answer:
        found = _PATH.fullmatch(request.raw_path)
        if found is None:
            raise Refusal(404, "NoSuchPath", "deliveries go to /events/NAMESPACE/SOURCE")
        if request.method != "POST":
            raise Refusal(405, "NoSuchPath", "deliveries are sent with POST", headers={"Allow": "POST"})
        headers = Headers((name, value) for name, value in request.headers.items())
        headers.check()
        if headers.get("upgrade") is not None:
            raise malformed("there is no other protocol here", "header upgrade")
        self._bodies.check(request)
        async with self._bodies.read(request) as body:
            if self._in_flight >= self._bounds.in_flight:
                raise unavailable("too many deliveries are being looked at: try again later", 1)
            self._in_flight += 1
            try:
                return await self._deliver(found[1], found[2], headers, body)
            finally:
                self._in_flight -= 1


def respond(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer in JSON."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")) + "\n"
    # Named, for aiohttp would name itself and Python, with their versions.
    more = {"Server": "kubesaga", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return web.Response(
        status=status, body=text.encode("utf-8", "replace"), content_type="application/json", headers=more
    )


def _place(error: BaseException) -> str:
    """Return file and line where an exception was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"


class _Http(web.Server):
    """Makes connections, and closes those that are too many."""

    def __init__(self, handler: Any, *, most: int, **more: Any) -> None:
        super().__init__(handler, **more)
        self.most = most

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """One connection. What is not HTTP is answered in JSON as well, and not logged: it may hold a secret."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if isinstance(self._manager, _Http) and len(self._manager.connections) > self._manager.most:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature; it quotes the request
    ) -> web.StreamResponse:
        """Answer what cannot be read as a request."""
        if isinstance(exc, LineTooLong):
            status, told = 431, "the request line or a header is too long"
        else:
            told = (
                "the request is not as HTTP has it" if status < 500 else "the gateway could not work with the request"
            )
        response = respond(status, {"error": told})
        response.force_close()
        return response
