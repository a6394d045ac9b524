# SPDX-License-Identifier: Apache-2.0
"""What carries attempts out in a cluster asks for the Lease: all of it that works in the operator's process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.unit.executors import handler_world, http_world
from tests.unit.kube.server import ApiServer, serving, until

from kubesaga.engine.attempt import Attempt, RunKey
from kubesaga.engine.definition import Kind
from kubesaga.executors.registry import Registry
from kubesaga.kube.client import KubeClient
from kubesaga.kube.credentials import Authorization, Credentials
from kubesaga.kube.transport import Transport
from kubesaga.main import execution
from kubesaga.main.execution import Base, close_all, make_executors, pod_informers
from kubesaga.main.process import SystemClock
from kubesaga.settings import Settings
from kubesaga.telemetry.metrics import Metrics


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with serving() as made:
        yield made


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[KubeClient]:
    credentials, clock = Credentials(server=server.url, scheme="Bearer", token="sesame"), SystemClock()

    class Same:
        async def load(self) -> Credentials:
            return credentials

        refresh = load

    authorization = Authorization(Same(), credentials, clock=clock.monotonic)
    transport = Transport(authorization, user_agent="kubesaga/test", clock=clock.monotonic)
    yield KubeClient(transport)
    await transport.close()


def a_handler(_: str) -> Attempt:
    return handler_world.attempt_of("it")


def a_request(url: str) -> Attempt:
    return http_world.attempt_of({"method": "POST", "url": url})


@pytest.mark.parametrize("held", [pytest.param(True, id="with the Lease"), pytest.param(False, id="without it")])
@pytest.mark.parametrize(
    ("kind", "attempt"),
    [pytest.param(Kind.HANDLER, a_handler, id="a handler"), pytest.param(Kind.HTTP, a_request, id="a request")],
)
async def test_it_begins_what_it_may(
    client: KubeClient, monkeypatch: pytest.MonkeyPatch, kind: Kind, attempt: Callable[[str], Attempt], held: bool
) -> None:
    registry, called, woken = Registry(), list[object](), list[RunKey]()
    registry.activity("it")(lambda params: called.append(params))
    monkeypatch.setattr(execution, "registered_handlers", registry)
    async with http_world.serving() as site, asyncio.timeout(20):
        settings = Settings(egress_allow=(f"127.0.0.1:{site.port}",))
        base = Base(settings=settings, clock=SystemClock(), metrics=Metrics("test"), client=client, alive={}, ready={})
        in_process, executors = await make_executors(
            base, client, pod_informers(base, client), woken.append, may_begin=lambda: held
        )
        await executors[kind].start(attempt(site.url()))
        await until(lambda: woken)  # at its end, or to look at it again
        assert (len(called) + len(site.asked), bool(executors[kind].observe(woken[0], "run-uid"))) == (held, held)
        await close_all(in_process)
