# SPDX-License-Identifier: Apache-2.0
"""The real API server, for the proxy and for the harness itself, with the rights of the kubeconfig's user."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from kubesaga.kube.connection import find, load
from kubesaga.kube.credentials import tls_context

GROUP_PATH = "/apis/kubesaga.dev/v1alpha1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API server said."""

    status: int
    body: bytes
    headers: dict[str, str]


class Upstream:
    """Connections to the API server."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self.server = server
        self._session = session

    async def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request; return the whole answer."""
        url = URL(self.server + path, encoded=True)
        async with self._session.request(method, url, data=body, headers=headers) as answer:
            kept = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
            return Answer(status=answer.status, body=await answer.read(), headers=kept)

    def stream(self, url: URL, accept: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Begin a watch."""
        limits = aiohttp.ClientTimeout(total=None, sock_read=None)
        return self._session.get(url, headers={"Accept": accept}, timeout=limits)

    async def json(self, method: str, path: str, body: Any = None, *, patch: str = "merge") -> dict[str, Any]:
        """Send one request with JSON; return the JSON answered. Raises AssertionError for an error, but 404 is {}."""
        kind = f"application/{patch}-patch+json" if method == "PATCH" else "application/json"
        text = None if body is None else json.dumps(body).encode()
        answer = await self.ask(method, path, text, {"Content-Type": kind})
        if answer.status == 404 and method in ("GET", "DELETE"):
            return {}
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.body[:500].decode()}"
        found: dict[str, Any] = json.loads(answer.body)
        return found

    async def watch(self, path: str, version: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield events from a version on, until the server ends the watch."""
        url = URL(f"{self.server}{path}?watch=1&resourceVersion={version}&timeoutSeconds=3000", encoded=True)
        async with self.stream(url, "application/json") as source:
            async for line in lines_of(source):
                yield json.loads(line)


async def lines_of(source: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a stream, each with its end."""
    rest = b""
    async for chunk in source.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Upstream]:
    """Yield the API server of a kubeconfig."""
    credentials = await load(find(str(kubeconfig)))
    header = {"Authorization": credentials.authorization} if credentials.authorization else {}
    connector = aiohttp.TCPConnector(ssl=tls_context(credentials), limit=0)
    async with aiohttp.ClientSession(
        connector=connector, headers=header, timeout=aiohttp.ClientTimeout(total=60), auto_decompress=True
    ) as session:
        yield Upstream(session, credentials.server)
