# SPDX-License-Identifier: Apache-2.0
"""A gateway with one signed source and one Workflow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.unit.gateway.world import World, gateway

from kubesaga.cel.pool import CelPool


@pytest.fixture(scope="session")
def evaluator() -> Iterator[CelPool]:
    with CelPool(size=1) as pool:
        yield pool


@pytest.fixture
async def world(evaluator: CelPool) -> AsyncIterator[World]:
    async with gateway(evaluator, body=256 * 1024, timeout=20.0) as world:
        await world.secret()
        await world.source()
        await world.workflow()
        yield world
