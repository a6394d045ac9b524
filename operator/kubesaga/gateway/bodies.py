# SPDX-License-Identifier: Apache-2.0
"""Reads bodies: each of them bounded in size and time, all of them together in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_exceptions import HTTPException
from aiohttp.web_protocol import RequestPayloadError

from kubesaga.gateway.refusal import Refusal, malformed, too_large, unavailable

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Bodies:
    """The memory that bodies may take. Times are seconds, sizes bytes."""

    def __init__(self, *, largest: int, together: int, within: float) -> None:
        self._largest = largest
        self._together = together
        self._within = within
        self.held = 0
        """Bytes of bodies in memory."""

    def check(self, request: web.BaseRequest) -> None:
        """Raise Refusal for a body that its headers already rule out; nothing of it is read then."""
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise Refusal(415, "Unsupported", "compressed bodies are not taken", path="header content-encoding")
        if (request.content_length or 0) > self._largest:
            raise self._too_large()

    @asynccontextmanager
    async def read(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        """Yield the body; what it takes of the memory is given back behind the block. Raises Refusal."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._within):
                await self._accept(request)
                while chunk := await request.content.readany():
                    self.held += len(chunk)
                    body += chunk
                    if len(body) > self._largest:
                        raise self._too_large()
                    if self.held > self._together:
                        raise unavailable("too many deliveries are on their way in: try again later", 1)
        except TimeoutError:
            raise Refusal(408, "TooSlow", f"the body did not come within {self._within:g} s") from None
        except (RequestPayloadError, HttpProcessingError, HTTPException):
            raise malformed("the body's chunks are not as HTTP has them") from None
        finally:
            self.held -= len(body)
        self.held += len(body)
        try:
            yield bytes(body)
        finally:
            self.held -= len(body)

    async def _accept(self, request: web.BaseRequest) -> None:
        """Answer a sender that asks before it sends (RFC 9110, section 10.1.1)."""
        expected = request.headers.get("Expect")
        if expected is None:
            return
        if expected.lower() != "100-continue":
            raise Refusal(417, "Malformed", "only 100-continue can be expected", path="header expect")
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0  # the answer itself has not begun

    def _too_large(self) -> Refusal:
        return too_large(f"the body is too large: at most {self._largest:,} bytes are taken")
