# SPDX-License-Identifier: Apache-2.0
"""The operator's own HTTP port: /metrics, /healthz (is it alive?), /readyz (is it at work, or waiting to lead?).

The answers tell the truth: each names every check, so that a person reads why. A watch that is dead is not alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web

from kubesaga.telemetry.metrics import Metrics

Check = Callable[[], str | None]
"""Returns None when all is well, else what is wrong in a few words."""


class Probes:
    """The server. Checks are run when they are asked for."""

    def __init__(self, metrics: Metrics, *, alive: Mapping[str, Check], ready: Mapping[str, Check]) -> None:
        self._metrics = metrics
        self._alive = alive
        self._ready = ready
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port (useful where 0 was asked for)."""
        app = web.Application()
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/healthz", self._serve_alive)
        app.router.add_get("/readyz", self._serve_ready)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        self._metrics.refresh()
        # A thousand series take longer than the event loop should wait.
        text = await asyncio.to_thread(self._metrics.exposition)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _serve_alive(self, _: web.Request) -> web.Response:
        return _answer(self._alive)

    async def _serve_ready(self, _: web.Request) -> web.Response:
        return _answer(self._ready)


def _answer(checks: Mapping[str, Check]) -> web.Response:
    wrong = {name: told for name, check in checks.items() if (told := check()) is not None}
    lines = [
        f"[{'-' if name in wrong else '+'}] {name}{': ' + wrong[name] if name in wrong else ''}" for name in checks
    ]
    return web.Response(text="\n".join([*lines, ""]), status=503 if wrong else 200)
