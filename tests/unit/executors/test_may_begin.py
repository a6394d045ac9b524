# SPDX-License-Identifier: Apache-2.0
"""What runs in the operator's process asks, at the last moment, whether it may still begin: the Lease may be gone."""

from __future__ import annotations

import asyncio
import threading

import aiohttp
import aiohttp.web
import pytest
from tests.unit.executors import http_world
from tests.unit.executors.handler_world import RUN, SOON, World, nothing, soon

from kubesaga.engine.attempt import Stage, Succeeded
from kubesaga.executors import in_process


class Lease:
    """What is asked: who asks, and how often."""

    def __init__(self) -> None:
        self.held = True
        self.asked: list[int] = []

    def __call__(self) -> bool:
        self.asked.append(threading.get_ident())
        return self.held


@pytest.fixture
def lease(monkeypatch):
    monkeypatch.setattr(in_process, "PUT_OFF", 0.01)
    return Lease()


@pytest.fixture
async def world(lease):
    made = World(threads=1, may_begin=lease)
    yield made
    await made.executor.close()


@pytest.fixture
async def site():
    async with http_world.serving() as made:
        yield made


@pytest.fixture
async def web(lease, site):
    made = http_world.World(f"127.0.0.1:{site.port}", may_begin=lease)
    yield made
    await made.executor.close()


def plain(called):
    return lambda params: nothing(called.append(params))


def asynchronous(called):
    async def handler(params):
        called.append(params)

    return handler


KINDS = pytest.mark.parametrize(
    "kind", [pytest.param(plain, id="a plain handler"), pytest.param(asynchronous, id="an async handler")]
)


@KINDS
async def test_nothing_is_begun_without_the_lease(world, lease, kind):
    called = []
    world.add(kind(called))
    lease.held = False
    attempt = await world.start()
    await soon(lambda: world.seen(attempt) is None)
    assert called == []
    assert len(lease.asked) == 1
    assert lease.asked[0] != threading.get_ident(), "it is asked where the handler would run, at the last moment"


@KINDS
async def test_a_leader_that_leads_after_all_begins_it_in_the_next_pass(world, lease, kind):
    called = []
    world.add(kind(called))
    lease.held = False
    attempt = await world.start()
    await soon(lambda: world.woken == [RUN])
    assert world.seen(attempt) is None
    lease.held = True
    assert await world.outcome(await world.start()) == Succeeded()
    assert called == [{}]


async def test_a_handler_that_waited_for_a_thread_is_not_begun_when_the_lease_is_gone_by_then(world, lease):
    gate, called = threading.Event(), []
    world.add(lambda params: nothing(gate.wait(SOON)), "holds")
    world.add(plain(called), "waits")
    first, second = await world.start("holds", 1), await world.start("waits", 2)
    assert world.seen(second).stage is Stage.WAITING
    lease.held = False
    gate.set()
    await soon(lambda: world.seen(second) is None)
    assert await world.outcome(first) == Succeeded(), "what had begun comes to its end"
    assert called == []


async def test_an_async_handler_behind_one_that_blocks_is_not_begun_when_the_lease_is_gone_by_then(world, lease):
    gate, blocked, called = threading.Event(), threading.Event(), []

    async def blocks(params):
        blocked.set()
        gate.wait(SOON)  # as a machine that was frozen: the next one begins late

    world.add(blocks, "blocks")
    world.add(asynchronous(called), "waits")
    await world.start("blocks", 1)
    await asyncio.to_thread(blocked.wait, SOON)
    second = await world.start("waits", 2)
    lease.held = False
    gate.set()
    await soon(lambda: world.seen(second) is None)
    assert called == []


async def test_what_was_not_begun_does_not_keep_the_executor_from_closing(world, lease):
    world.add(asynchronous([]))
    lease.held = False
    attempt = await world.start()
    await soon(lambda: world.seen(attempt) is None)
    async with asyncio.timeout(1):  # the grace is 3 s
        await world.executor.close()


async def test_a_handler_is_asked_for_once(world, lease):
    world.add(plain([]))
    assert await world.outcome(await world.start()) == Succeeded()
    assert len(lease.asked) == 1


async def sent(web, url):
    """Start a request, and wait until nothing is known of it any more."""
    attempt = http_world.attempt_of({"method": "POST", "url": url})
    await web.executor.start(attempt)
    await soon(lambda: web.seen(attempt.id) is None)


async def test_no_request_is_sent_without_the_lease(web, site, lease):
    lease.held = False
    await sent(web, site.url())
    assert site.asked == []
    await soon(lambda: web.woken == [http_world.RUN])
    lease.held = True
    assert isinstance(await web.call(site.url(), "POST"), Succeeded)
    assert len(site.asked) == 1


async def test_no_request_is_sent_when_the_lease_went_while_its_connection_was_made(web, site, lease, monkeypatch):
    connect = aiohttp.TCPConnector.connect

    async def freezes(*args, **more):
        connection = await connect(*args, **more)
        lease.held = False
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", freezes)
    await sent(web, site.url())
    assert site.asked == []


async def test_no_redirect_is_followed_without_the_lease(web, site, lease):
    async def redirect(request):
        lease.held = False
        return aiohttp.web.Response(status=307, headers={"Location": "/to"})

    site.answers["/from"] = redirect
    await sent(web, site.url("/from"))
    assert [request.path for request, _ in site.asked] == ["/from"]


async def test_each_request_of_a_redirect_asks(web, site, lease):
    site.redirect("/from", 307, "/to")
    assert isinstance(await web.call(site.url("/from"), "POST", body={"a": 1}), Succeeded)
    assert len(lease.asked) == 2
