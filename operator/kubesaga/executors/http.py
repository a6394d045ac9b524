# SPDX-License-Identifier: Apache-2.0
"""Attempts that are one HTTP request, sent from the operator's event loop through the egress guard.

One connection a request: nothing is kept that another run, of another namespace, could come by. No proxies, netrc or
cookies. Messages hold a URL's scheme, host and path, never its query.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import aiohttp

from kubesaga import __version__
from kubesaga.api.fields import parse_duration
from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Attempt, AttemptId, Failed, Observation, Outcome, RunKey, Unknown
from kubesaga.executors.base import Wake
from kubesaga.executors.egress import EgressGuard, Route, connector, shown_url
from kubesaga.executors.http_messages import (
    REDIRECTS,
    Answer,
    BodyReader,
    BrokenBody,
    Request,
    is_expected,
    outcome_of,
    redirected,
    request_of,
    retry_after,
)
from kubesaga.executors.in_process import AttemptTable, MayBegin, always, shortened
from kubesaga.settings import Settings

logger = logging.getLogger("kubesaga.activity_executor")

MAX_REDIRECTS: Final = 5
_ERROR_BODY: Final = 4096
"""Bytes that are read of an answer that is no success."""

_SAFE: Final = frozenset({"GET", "HEAD"})
"""Methods that ask for no effect (RFC 9110, 9.2.1): such a request is never in doubt."""


class HttpExecutor:
    """Carries out `http` attempts. To be used in one event loop, and closed."""

    def __init__(self, guard: EgressGuard, wake: Wake, settings: Settings, *, may_begin: MayBegin = always) -> None:
        self._guard = guard
        self._timeout = settings.http_timeout
        self._max_output_bytes = settings.max_output_bytes
        self._tracing = _asking(may_begin)
        self._table = AttemptTable(wake)
        self._tasks: dict[AttemptId, asyncio.Task[None]] = {}

    async def start(self, attempt: Attempt) -> None:
        """See Executor."""
        if self._table.begin(attempt):
            self._tasks[attempt.id] = asyncio.create_task(self._run(attempt))

    def observe(self, run: RunKey, run_uid: str) -> Mapping[AttemptId, Observation]:  # noqa: ARG002 - see Executor
        """See Executor."""
        return self._table.observe(run_uid)

    async def stop(self, attempt: AttemptId, run: RunKey, reason: str) -> None:  # noqa: ARG002 - see Executor
        """See Executor."""
        if self._table.is_live(attempt):
            self._tasks[attempt].cancel()
            message = f"The request was told to stop ({reason}) and may have had its effect."
            self._table.end(attempt, Unknown(message=message))

    async def release(self, attempt: AttemptId, run: RunKey) -> None:  # noqa: ARG002 - see Executor
        """See Executor."""
        self._table.forget(attempt)
        task = self._tasks.pop(attempt, None)
        if task is not None:
            task.cancel()

    def runs_at(self, run: RunKey) -> set[str]:
        """See Executor."""
        return self._table.runs_at(run)

    async def close(self) -> None:
        """Stop everything."""
        tasks = list(self._tasks.values())
        for attempt in self._table.live():
            await self.stop(attempt, RunKey(namespace="", name=""), "the operator ends")
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, attempt: Attempt) -> None:
        outcome: Outcome | None
        try:
            outcome = await self._within_time(attempt)
        except _NotBegun:
            outcome = None
        except Exception as error:
            logger.exception("The http activity %s of run %s failed", attempt.id.activity, attempt.run)
            outcome = Failed(
                reason=Reason.HTTP_FAILED, message=f"The request failed: {type(error).__name__}.", in_doubt=True
            )
        if isinstance(outcome, Failed) and (attempt.input or {}).get("method", "GET") in _SAFE:
            outcome = replace(outcome, in_doubt=False)
        if self._tasks.get(attempt.id) is asyncio.current_task():
            del self._tasks[attempt.id]
            if outcome is None:
                self._table.put_off(attempt.id)
            else:
                self._table.end(attempt.id, outcome)

    async def _within_time(self, attempt: Attempt) -> Outcome:
        request = request_of(attempt)
        if isinstance(request, Failed):
            return request
        own = attempt.activity.timeout
        seconds = self._timeout if own is None else parse_duration(own).total_seconds()
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self._exchange(attempt, request)
        except TimeoutError:
            if not limit.expired():
                raise
        # The engine watches `timeout` too; whoever is first, the reason is the same.
        reason = Reason.HTTP_FAILED if own is None else Reason.ATTEMPT_TIMEOUT
        return Failed(reason=reason, message=f"{request} was not answered within {seconds:g}s.", in_doubt=True)

    async def _exchange(self, attempt: Attempt, request: Request) -> Outcome:
        expected = attempt.activity.http.expected_status if attempt.activity.http else None
        from_public = False
        for _ in range(MAX_REDIRECTS + 1):
            route = await self._guard.route(request.url, attempt.run.namespace)
            if isinstance(route, Failed):
                return Failed(
                    reason=route.reason, message=shortened(f"{request}: {route.message}"), retryable=route.retryable
                )
            if from_public and not route.public:
                return _led_inside(request)
            answer = await self._send(attempt, request, route)
            if isinstance(answer, Failed):
                return answer
            if answer.location is None or answer.status not in REDIRECTS or is_expected(answer.status, expected):
                return outcome_of(request, answer, expected, self._max_output_bytes)
            following = redirected(request, answer)
            if isinstance(following, Failed):
                return following
            request, from_public = following, route.public
        message = f"{request} would be the redirect number {MAX_REDIRECTS + 1}; {MAX_REDIRECTS} are followed."
        return Failed(reason=Reason.HTTP_FAILED, message=message, retryable=False)

    async def _send(self, attempt: Attempt, request: Request, route: Route) -> Answer | Failed:
        expected = attempt.activity.http.expected_status if attempt.activity.http else None
        async with aiohttp.ClientSession(
            connector=connector(route),
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            middlewares=(_once,),
            trace_configs=[self._tracing],
        ) as session:
            try:
                async with session.request(
                    request.method,
                    route.url,
                    headers=_all_headers(attempt, request),
                    data=request.body,
                    skip_auto_headers=("Content-Type",),
                    allow_redirects=False,
                ) as response:
                    return await self._read(request, response, success=is_expected(response.status, expected))
            except _NoAnswer as error:
                cause, sent = _sentence(error.cause), _was_sent(error.cause)
            except BrokenBody as error:
                cause, sent = f"it was answered, but {error}", True
            except (aiohttp.ClientError, OSError) as error:
                cause, sent = _sentence(error), _was_sent(error)
        return Failed(reason=Reason.HTTP_FAILED, message=shortened(f"{request}: {cause}."), in_doubt=sent)

    async def _read(self, request: Request, response: aiohttp.ClientResponse, *, success: bool) -> Answer | Failed:
        answer = Answer(status=response.status, location=response.headers.get("Location"))
        if not success and response.status in REDIRECTS and answer.location is not None:
            return answer
        limit = self._max_output_bytes if success else _ERROR_BODY
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        reader = BodyReader(encoding if success or encoding in BodyReader.ENCODINGS else "", limit)
        async for chunk in response.content.iter_any():
            reader.feed(chunk)
            if reader.full:
                break
        if success and reader.full:
            message = (
                f"{request} answered {response.status} with more than {limit} bytes (KUBESAGA_MAX_OUTPUT_BYTES); "
                "nothing of it was kept."
            )
            return Failed(reason=Reason.OUTPUT_TOO_LARGE, message=message, retryable=False)
        if success:
            reader.end()
        return Answer(
            status=response.status,
            content_type=response.content_type,
            charset=response.charset,
            location=answer.location,
            retry_after=retry_after(response.headers),
            body=bytes(reader.body),
        )


def _all_headers(attempt: Attempt, request: Request) -> dict[str, str]:
    ours = {
        "User-Agent": f"kubesaga/{__version__}",
        "Accept-Encoding": "gzip, deflate",
        "Idempotency-Key": attempt.idempotency_key,
        "X-Kubesaga-Run": str(attempt.run),
        "X-Kubesaga-Attempt": str(attempt.id.number),
    }
    theirs = {name.lower() for name in request.headers}
    return {name: value for name, value in ours.items() if name.lower() not in theirs} | dict(request.headers)


def _led_inside(request: Request) -> Failed:
    """Refuse a redirect by which a server outside would choose what is called inside."""
    message = f"a public server redirects to {shown_url(request.url)}, which is not public; name it in the url itself."
    return Failed(reason=Reason.EGRESS_DENIED, message=message, retryable=False)


class _NoAnswer(Exception):
    """There was no answer. Not one of aiohttp's own errors, after some of which it would send the request again."""

    def __init__(self, cause: aiohttp.ClientError) -> None:
        self.cause = cause
        super().__init__()


class _NotBegun(Exception):
    """The request, or the next one after a redirect, was not sent: we may not begin anything any more."""


def _asking(may_begin: MayBegin) -> aiohttp.TraceConfig:
    """Return what asks before each request, when its connection is there and its first byte is about to be written."""

    async def ask(*_: object) -> None:
        if not may_begin():
            raise _NotBegun

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(ask)
    return tracing


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request once: an attempt is one request, and how often is tried is the engine's to decide and record."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _NoAnswer(error) from None


def _was_sent(error: Exception) -> bool:
    """Tell whether the request may have reached the server: what could not even connect has had no effect."""
    return not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientSSLError)


def _sentence(error: Exception) -> str:
    """Say what went wrong, without the library's words: they repeat the URL, its query included."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
            return f"the server's certificate was not accepted ({why})"
        case aiohttp.ClientSSLError():
            return "no TLS connection could be made"
        case aiohttp.ClientConnectorError():
            return f"no connection could be made{_cause(error.os_error)}"
        case aiohttp.ServerDisconnectedError():
            return "the server closed the connection without an answer"
        case aiohttp.ClientPayloadError():
            return "the answer broke off"
        case aiohttp.ClientResponseError():
            return "the answer is not HTTP as it should be"
        case OSError():
            return f"the connection broke{_cause(error)}"
        case _:
            return f"the request could not be sent ({type(error).__name__})"


def _cause(error: OSError) -> str:
    return f" ({os.strerror(error.errno)})" if error.errno else ""
