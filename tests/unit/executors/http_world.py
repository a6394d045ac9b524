# SPDX-License-Identifier: Apache-2.0
"""What tests of http activities are made of: a real server on loopback, and an executor that may reach it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from kubesaga.api.workflow import Activity
from kubesaga.engine.attempt import Attempt, AttemptId, Outcome, RunKey, Stage
from kubesaga.executors.egress import EgressGuard
from kubesaga.executors.egress_policy import EgressPolicy
from kubesaga.executors.http import HttpExecutor
from kubesaga.executors.in_process import always
from kubesaga.settings import Settings

RUN = RunKey(namespace="support", name="ticket-1")


UID = "run-uid"


LIMIT = 4096


SOON = 10.0


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """A real server on loopback. `answers` says what a path answers; `asked` is what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Handler] = {}
        self.asked: list[tuple[web.Request, bytes]] = []
        self.peers: set[tuple[str, int]] = set()
        """The connections that were used."""
        self.port = 0

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request, await request.read()))
        self.peers.add(request.transport.get_extra_info("peername"))
        return await self.answers.get(request.path, hello)(request)

    def answer(self, path: str, *args: Any, **kwargs: Any) -> None:
        async def fixed(request: web.Request) -> web.Response:
            return web.Response(*args, **kwargs)

        self.answers[path] = fixed

    def redirect(self, path: str, status: int, location: str) -> None:
        self.answer(path, status=status, headers={"Location": location})


async def hello(request: web.Request) -> web.Response:
    return web.json_response({"path": request.path})


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    """Run a site."""
    made = Site()
    runner = web.ServerRunner(web.Server(made.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    made.port = listener._server.sockets[0].getsockname()[1]
    yield made
    await runner.cleanup()


class Names:
    """DNS by a table."""

    def __init__(self, **names: str) -> None:
        self.names = {name.replace("_", "."): address for name, address in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        return [self.names[host]] if host in self.names else []


def attempt_of(request: dict[str, Any], number: int = 1, **activity: Any) -> Attempt:
    http = {"url": "http://described.example/"} | activity.pop("http", {})
    return Attempt(
        id=AttemptId(run_uid=UID, activity="call", number=number),
        run=RUN,
        workflow="tickets",
        activity=Activity.model_validate({"name": "call", "http": http} | activity),
        input=request,
    )


class World:
    """An executor whose guard lets it reach what the test allows."""

    def __init__(
        self, *allow: str, names: Names | None = None, may_begin: Callable[[], bool] = always, **settings: Any
    ) -> None:
        self.names = names or Names()
        guard = EgressGuard(EgressPolicy(allow), self.names)
        self.woken: list[RunKey] = []
        self.changed = asyncio.Event()
        chosen: dict[str, Any] = {"max_output_bytes": LIMIT, "http_timeout": SOON} | settings
        self.executor = HttpExecutor(guard, self.wake, Settings(**chosen), may_begin=may_begin)

    def wake(self, run: RunKey) -> None:
        self.woken.append(run)
        self.changed.set()

    def seen(self, attempt: AttemptId):
        return self.executor.observe(RUN, UID).get(attempt)

    async def outcome(self, attempt: AttemptId) -> Outcome:
        async with asyncio.timeout(SOON):
            while self.seen(attempt).stage is not Stage.ENDED:
                self.changed.clear()
                await self.changed.wait()
        return self.seen(attempt).outcome

    async def call(self, url: Any, method: Any = "GET", **more: Any) -> Outcome:
        request = {"method": method, "url": url} | {key: more.pop(key) for key in ("headers", "body") if key in more}
        attempt = attempt_of(request, **more)
        await self.executor.start(attempt)
        outcome = await self.outcome(attempt.id)
        await self.executor.release(attempt.id, RUN)
        return outcome
