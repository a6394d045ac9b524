# SPDX-License-Identifier: Apache-2.0
"""Whether a namespace is being deleted is asked for the runs to which it matters, and not more often than need be."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.unit.kube.server import ApiServer

from kubesaga.controller.namespaces import Namespaces
from kubesaga.kube.client import KubeClient
from kubesaga.kube.errors import ServerUnavailable
from kubesaga.testing.clock import FakeClock


@pytest.fixture
def namespaces(client: KubeClient, clock: FakeClock) -> Namespaces:
    return Namespaces(client, clock.monotonic)


async def put(server: ApiServer, status: dict[str, Any] | None = None, **metadata: Any) -> None:
    await server.put("namespaces", {"metadata": {"name": "shop", **metadata}, "status": status or {}})


@pytest.mark.parametrize(("metadata", "status", "ending"), [
    pytest.param({}, {"phase": "Active"}, False, id="is active"),
    pytest.param({}, {}, False, id="has no phase yet"),
    pytest.param({"deletionTimestamp": "2026-01-01T00:00:00Z"}, {"phase": "Active"}, True, id="was deleted just now"),
    pytest.param({}, {"phase": "Terminating"}, True, id="terminates"),
])  # fmt: skip
async def test_a_namespace_that(
    server: ApiServer, namespaces: Namespaces, metadata: dict[str, Any], status: dict[str, Any], ending: bool
) -> None:
    await put(server, status, **metadata)
    assert await namespaces.ending("shop") is ending


async def test_an_answer_holds_for_a_few_seconds(server: ApiServer, namespaces: Namespaces, clock: FakeClock) -> None:
    await put(server)
    assert not await namespaces.ending("shop")
    await put(server, {"phase": "Terminating"})
    clock.advance(4)
    assert not await namespaces.ending("shop")
    clock.advance(2)
    assert await namespaces.ending("shop")
    assert len(server.requests) == 2


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (404, "NotFound")])
async def test_one_that_must_not_be_looked_at_stays_and_that_is_told_once(
    server: ApiServer, namespaces: Namespaces, caplog: pytest.LogCaptureFixture, status: int, reason: str
) -> None:
    refusal = {"kind": "Status", "reason": reason, "message": "no"}
    server.fail("GET", (status, refusal), (status, refusal))
    with caplog.at_level(logging.WARNING, "kubesaga"):
        assert not await namespaces.ending("shop")
        assert not await namespaces.ending("stock")
    assert len(caplog.records) == 1


async def test_no_answer_is_no_knowledge(server: ApiServer, namespaces: Namespaces) -> None:
    server.fail("GET", (500, {"kind": "Status", "reason": "InternalError", "message": "no"}))
    with pytest.raises(ServerUnavailable):
        await namespaces.ending("shop")
