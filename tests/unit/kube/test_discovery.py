# SPDX-License-Identifier: Apache-2.0
"""Kinds that are named in documents are found in the cluster, or not; and asked for seldom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.kube.conftest import Clock
from tests.unit.kube.server import ApiServer

from kubesaga.kube.client import KubeClient
from kubesaga.kube.discovery import Discovery
from kubesaga.kube.errors import ServerUnavailable


def resource(name: str, kind: str, namespaced: bool = True) -> dict[str, Any]:
    return {"name": name, "kind": kind, "namespaced": namespaced, "verbs": ["get", "list", "watch"]}


@pytest.fixture
def discovery(server: ApiServer, client: KubeClient, clock: Clock) -> Discovery:
    server.kinds["v1"] = [resource("pods/exec", "Pod"), resource("pods", "Pod"), resource("nodes", "Node", False)]
    server.kinds["apps/v1"] = [resource("deployments", "Deployment")]
    return Discovery(client, clock)


@pytest.mark.parametrize(("api_version", "kind", "path"), [
    pytest.param("v1", "Pod", "/api/v1/namespaces/x/pods", id="a kind of the core group, not its subresource"),
    pytest.param("apps/v1", "Deployment", "/apis/apps/v1/namespaces/x/deployments", id="a kind of another group"),
    pytest.param("v1", "Node", "/api/v1/nodes", id="a kind of the cluster"),
    pytest.param("v1", "Deployment", None, id="a kind of another group than the one it is in"),
    pytest.param("acme.dev/v1", "Ticket", None, id="a group that is not there"),
])  # fmt: skip
async def test_there_is(discovery: Discovery, api_version: str, kind: str, path: str | None) -> None:
    found = await discovery.find(api_version, kind)
    assert (found and found.resource.path("x")) == path
    if found:
        assert found.verbs == {"get", "list", "watch"}


async def test_many_who_ask_are_told_by_one_request_and_later_anew(
    server: ApiServer, discovery: Discovery, clock: Clock
) -> None:
    await asyncio.gather(*(discovery.find("acme.dev/v1", "Ticket") for _ in range(5)))
    assert len(server.requests) == 1
    server.kinds["acme.dev/v1"] = [resource("tickets", "Ticket")]
    assert await discovery.find("acme.dev/v1", "Ticket") is None
    clock.advance(10)
    assert await discovery.find("acme.dev/v1", "Ticket") is not None


async def test_that_it_cannot_be_asked_is_no_answer(server: ApiServer, discovery: Discovery) -> None:
    server.fail("GET", (503, {"reason": "ServiceUnavailable"}))
    with pytest.raises(ServerUnavailable):
        await discovery.find("v1", "Pod")
    assert await discovery.find("v1", "Pod") is not None
