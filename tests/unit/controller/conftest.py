# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a small API server on loopback, a client of it, and a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.unit.kube.server import ApiServer, serving

from kubesaga.kube.client import KubeClient
from kubesaga.kube.credentials import Authorization, Credentials
from kubesaga.kube.transport import Timeouts, Transport
from kubesaga.testing.clock import FakeClock


class _Same:
    """Credentials that never change."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def load(self) -> Credentials:
        return self._credentials

    async def refresh(self) -> Credentials:
        return self._credentials


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with serving() as server:
        yield server


@pytest.fixture
async def client(server: ApiServer, clock: FakeClock) -> AsyncIterator[KubeClient]:
    credentials = Credentials(server=server.url)
    authorization = Authorization(_Same(credentials), credentials, clock=clock.monotonic)
    async with KubeClient(
        Transport(
            authorization, user_agent="kubesaga/test", clock=clock.monotonic, timeouts=Timeouts(connect=5, request=5)
        )
    ) as client:
        yield client
