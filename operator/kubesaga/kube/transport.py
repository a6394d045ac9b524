# SPDX-License-Identifier: Apache-2.0
"""One request over one pool of connections: authorisation, time limits, and what an answer or its absence means.

Writes are never repeated here: their caller must look at what happened. (aiohttp sends a GET or DELETE a second time if
its connection breaks before an answer; a DELETE that matters carries a uid.)
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from yarl import URL

from kubesaga.kube.credentials import Authorization, Credentials
from kubesaga.kube.encoding import loads
from kubesaga.kube.errors import ApiError, ServerUnavailable, Unauthorized, error_from_status
from kubesaga.kube.resources import Resource

OnRequest = Callable[[str, Resource, int, float], None]
"""Called after each request: its Kubernetes verb, resource, HTTP status (0: no answer) and seconds. Must not raise."""

JSON: Final = "application/json"
_KEEPALIVE: Final = 30.0
"""Seconds an idle connection is kept: less than the API server's 90 and the 60 of common load balancers, so that a
write is seldom sent into a connection that is being closed."""
_METHODS: Final = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "patch": "PATCH",
    "delete": "DELETE",
}


def unobserved(verb: str, resource: Resource, status: int, seconds: float) -> None:
    """Observe nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait, in seconds."""

    connect: float = 10.0
    """For a connection, a free place among the connections included."""
    request: float = 30.0
    """For a whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to ask. `path` begins below the server's address and holds the query; `target` is the object's in errors."""

    verb: str
    resource: Resource
    path: str
    target: str
    body: bytes | None = None
    content_type: str = JSON
    accept: str = JSON
    within: float | None = None
    """Seconds for the whole answer, if that is less than the usual."""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource.plural} {self.target}".rstrip()


class Transport:
    """The pool of connections to one API server. Made inside a running event loop; closed by its owner."""

    def __init__(
        self,
        authorization: Authorization,
        *,
        user_agent: str,
        clock: Callable[[], float],
        on_request: OnRequest = unobserved,
        timeouts: Timeouts = Timeouts(),
        connections: int = 64,
    ) -> None:
        self._authorization = authorization
        self._clock = clock
        self._on_request = on_request
        self._timeouts = timeouts
        self._usual = aiohttp.ClientTimeout(total=timeouts.request, connect=timeouts.connect)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=authorization.tls, limit=connections, keepalive_timeout=_KEEPALIVE, ttl_dns_cache=30
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": user_agent},
            # No Accept-Encoding: compression costs the API server more than the network costs anyone.
            skip_auto_headers=("Accept-Encoding", "Accept", "Content-Type"),
            proxy=authorization.credentials.proxy,
            trust_env=False,
            raise_for_status=False,
        )

    @property
    def credentials(self) -> Credentials:
        """Where we are connected to, and as whom, now."""
        return self._authorization.credentials

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def call(self, request: Request) -> Any:
        """Send a request and return the decoded answer. Raises an ApiError for everything else."""
        header = await self._authorization.header()
        try:
            return await self._exchange(request, header)
        except Unauthorized:
            # Refused before anything was done, so any verb may be sent again.
            renewed = await self._authorization.renew(header)
            if renewed is None:
                raise
            return await self._exchange(request, renewed)

    async def stream(self, request: Request, *, silence: float) -> AsyncGenerator[bytes, None]:
        """Send a watch and yield its lines until the server ends it. To be closed by the caller (`aclosing`).

        Raises ServerUnavailable (reason `Silent`) when not a byte arrives for `silence` seconds, else as `call`.
        """
        header = await self._authorization.header()
        try:
            async with aclosing(self._lines(request, header, silence)) as lines:
                async for line in lines:
                    yield line
            return
        except Unauthorized:
            renewed = await self._authorization.renew(header)
            if renewed is None:
                raise
        async with aclosing(self._lines(request, renewed, silence)) as lines:
            async for line in lines:
                yield line

    async def _exchange(self, request: Request, authorization: str | None) -> Any:
        started, status = self._clock(), 0
        try:
            async with self._session.request(
                **self._arguments(request, authorization), timeout=self._limits(request)
            ) as response:
                status = response.status
                payload = await response.read()
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            # `from None`: some of aiohttp's errors carry the request's headers, the token among them.
            raise _no_answer(error, request, "Timeout") from None
        finally:
            self._on_request(request.verb, request.resource, status, self._clock() - started)
        if status >= 300:
            raise _refusal(response, payload, request)
        try:
            return loads(payload)
        except ValueError as error:
            message = f"the answer is not JSON ({error})"
            raise ServerUnavailable(status, "InvalidAnswer", message, request=str(request)) from None

    async def _lines(self, request: Request, authorization: str | None, silence: float) -> AsyncGenerator[bytes, None]:
        started, status = self._clock(), 0
        limits = aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect, sock_read=silence)
        try:
            async with self._session.request(**self._arguments(request, authorization), timeout=limits) as response:
                status = response.status
                if status >= 300:
                    raise _refusal(response, await response.read(), request)
                splitter = Lines()
                async for chunk in response.content.iter_any():
                    for line in splitter.feed(chunk):
                        yield line
        except (aiohttp.ClientError, OSError) as error:
            raise _no_answer(error, request, "Silent") from None
        finally:
            self._on_request(request.verb, request.resource, status, self._clock() - started)

    def _limits(self, request: Request) -> aiohttp.ClientTimeout:
        if request.within is None:
            return self._usual
        total = min(request.within, self._timeouts.request)
        return aiohttp.ClientTimeout(total=total, connect=min(total, self._timeouts.connect))

    def _arguments(self, request: Request, authorization: str | None) -> dict[str, Any]:
        headers = {"Accept": request.accept}
        if authorization is not None:
            headers["Authorization"] = authorization
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        credentials = self._authorization.credentials
        return {
            "method": _METHODS[request.verb],
            "url": URL(credentials.server + request.path, encoded=True),
            "data": request.body,
            "headers": headers,
            "server_hostname": credentials.server_name,
            # A redirect would take the token to an address that nobody configured.
            "allow_redirects": False,
        }


class Lines:
    """Cuts a stream into lines. (StreamReader.readline refuses lines over 128 KiB; an object may have 1.5 MiB.)"""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this piece completes, empty ones left out."""
        first, *others = chunk.split(b"\n")
        self._parts.append(first)
        if not others:
            return []
        lines = [b"".join(self._parts), *others[:-1]]
        self._parts = [others[-1]]
        return [line for line in lines if line]


def _refusal(response: aiohttp.ClientResponse, payload: bytes, request: Request) -> ApiError:
    try:
        status = loads(payload)
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        # A proxy or load balancer, or the server before its handlers: plain text.
        status = {"reason": response.reason or "", "message": payload[:512].decode(errors="replace").strip()}
    retry_after = response.headers.get("Retry-After", "")
    return error_from_status(
        response.status,
        status,
        request=str(request),
        retry_after=float(retry_after) if retry_after.isdecimal() else None,
    )


def _no_answer(error: aiohttp.ClientError | OSError, request: Request, timeout_reason: str) -> ServerUnavailable:
    """Sort out how an answer failed to come, and whether the request can have reached the server."""
    sent = True
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, ssl.SSLCertVerificationError)):
        reason, sent = "ConnectionFailed", False
    elif isinstance(error, TimeoutError):
        reason = timeout_reason
    else:
        reason = "ConnectionLost"
    message = f"{type(error).__name__}: {error}".rstrip(": ")
    return ServerUnavailable(0, reason, message, sent=sent, request=str(request))
