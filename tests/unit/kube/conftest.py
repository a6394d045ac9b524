# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a small API server on loopback, clients of it, and time that moves only when told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.kube.server import ApiServer, serving

from kubesaga.kube.client import KubeClient
from kubesaga.kube.credentials import Authorization, Credentials
from kubesaga.kube.transport import Timeouts, Transport

TIMEOUTS = Timeouts(connect=5, request=5)


class Source:
    """Credentials that a test sets."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.loads = 0
        self.refreshes = 0

    async def load(self) -> Credentials:
        self.loads += 1
        return self.credentials

    async def refresh(self) -> Credentials:
        self.refreshes += 1
        return self.credentials


class Clock:
    """Monotonic and wall time, both moved by `advance` and by sleeping."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at)

    def advance(self, seconds: float) -> None:
        self.at += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with serving() as server:
        yield server


@pytest.fixture
async def connect(clock: Clock) -> AsyncIterator[Callable[..., KubeClient]]:
    """Make clients of a server: `connect(url, token=…, source=…, timeouts=…)`."""
    made: list[Transport] = []

    def connect(
        url: str,
        *,
        token: str = "sesame-4711",
        source: Source | None = None,
        timeouts: Timeouts = TIMEOUTS,
        seen: list[tuple[str, str, int]] | None = None,
    ) -> KubeClient:
        credentials = Credentials(server=url, scheme="Bearer", token=token)
        transport = Transport(
            Authorization(source or Source(credentials), credentials, clock=clock),
            user_agent="kubesaga/test",
            clock=clock,
            on_request=lambda verb, resource, status, _: (
                None if seen is None else seen.append((verb, resource.plural, status))
            ),
            timeouts=timeouts,
        )
        made.append(transport)
        return KubeClient(transport)

    yield connect
    for transport in made:
        await transport.close()


@pytest.fixture
async def client(server: ApiServer, connect: Callable[..., KubeClient]) -> KubeClient:
    return connect(server.url)
