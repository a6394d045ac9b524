# SPDX-License-Identifier: Apache-2.0
"""Lives of the operator, as far as guards go: each has a memory of its own, all of them the same API server."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.unit.kube.server import ApiServer

from kubesaga.controller.guards.all import Guards
from kubesaga.engine.admission.breaker import Call
from kubesaga.engine.admission.verdict import Verdict
from kubesaga.engine.guarding import Breaker, GuardKey, GuardOwner, GuardSettings, Rate, Room
from kubesaga.kube.client import KubeClient
from kubesaga.telemetry.metrics import Metrics
from kubesaga.testing.clock import START, FakeClock

OWNER = GuardOwner(kind="Activity", namespace="shop", name="pay")
KEY = GuardKey(owner=OWNER, caller="shop")
PLURALS = {"Activity": "activities", "Workflow": "workflows"}
CONDITIONS = [{"type": "Ready", "status": "True"}]


def breaker(threshold: int = 3, reset: float = 300, *, told: bool = True, measured: bool = True) -> GuardSettings:
    return GuardSettings(breaker=_breaker(threshold, reset, told=told, measured=measured))


def _breaker(threshold: int, reset: float, *, told: bool = True, measured: bool = True) -> Breaker:
    minute, pause = timedelta(seconds=60), timedelta(seconds=reset)
    return Breaker(threshold=threshold, timeout=minute, reset=pause, told=told, measured=measured)


def rate(limit: int, seconds: float = 3600) -> GuardSettings:
    return GuardSettings(rate=Rate(limit=limit, period=timedelta(seconds=seconds)))


def bulkhead(concurrent: int = 10) -> GuardSettings:
    return GuardSettings(bulkhead=Room(concurrent=concurrent, queue=100, timeout=None))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@dataclass
class Life:
    """One life of the operator."""

    server: ApiServer
    clock: FakeClock
    guards: Guards
    metrics: Metrics
    changed: list[GuardKey]
    posted: list[tuple[str, str, str]]
    """Of each Event: the object's uid, the reason, the message."""

    def ask(self, key: GuardKey = KEY, under_way: Iterable[datetime] = (), default: GuardSettings | None = None) -> Verdict:  # fmt: skip
        return self.guards.verdict(key, default, self.clock.now(), under_way)

    def ends(self, letters: str, key: GuardKey = KEY) -> None:
        """Let calls end that begin now: `x` fails, `o` succeeds."""
        now = self.clock.now()
        for letter in letters:
            self.guards.ended(key, Call(succeeded=letter == "o", began=now, ended=now))

    def stored(self, owner: GuardOwner = OWNER) -> dict[str, Any]:
        """Return the object as it is stored."""
        return copy.deepcopy(self.server.objects[PLURALS[owner.kind], owner.namespace, owner.name])

    def status(self, owner: GuardOwner = OWNER) -> dict[str, Any]:
        status: dict[str, Any] = self.stored(owner)["status"]
        return status

    def shown(self, field: str = "circuitBreakers", owner: GuardOwner = OWNER) -> list[dict[str, Any]]:
        """Return a list of the status."""
        found: list[dict[str, Any]] = self.status(owner).get(field, [])
        return found

    @property
    def writes(self) -> int:
        return sum(request.method == "PATCH" for request in self.server.requests)

    async def settle(self) -> None:
        """Wait until no request is under way, and nothing is due before the clock goes on."""
        calm = 0
        while calm < 5:
            before = len(self.server.requests)
            await asyncio.sleep(0.002)
            lines = self.guards._writer._lines.values()
            now = self.clock.monotonic()
            busy = any(line.busy or (line.due is not None and line.due <= now) for line in lines)
            calm = 0 if busy or len(self.server.requests) != before else calm + 1

    async def go_on(self, seconds: float) -> None:
        """Let time pass, and what is due then be done."""
        self.clock.advance(seconds)
        await self.settle()


async def put(server: ApiServer, owner: GuardOwner = OWNER, **more: Any) -> None:
    """Let somebody apply the object."""
    metadata = {"namespace": owner.namespace, "name": owner.name}
    body = {"metadata": metadata, "spec": {}, "status": {"conditions": CONDITIONS}, **more}
    await server.put(PLURALS[owner.kind], body)


def born(server: ApiServer, client: KubeClient, clock: FakeClock) -> Life:
    """Return a life that has restored what is stored."""
    changed: list[GuardKey] = []
    posted: list[tuple[str, str, str]] = []
    metrics = Metrics("test")
    guards = Guards(
        client, clock, on_change=changed.append, metrics=metrics,
        post=lambda about, _severity, reason, message: posted.append((about.uid, reason, message)),
    )  # fmt: skip
    for (plural, namespace, name), body in server.objects.items():
        kind = "Activity" if plural == "activities" else "Workflow"
        if plural in PLURALS.values():
            guards.restore(GuardOwner(kind=kind, namespace=namespace, name=name), body.get("status") or {})
    return Life(server=server, clock=clock, guards=guards, metrics=metrics, changed=changed, posted=posted)


@contextlib.asynccontextmanager
async def living(
    server: ApiServer, client: KubeClient, clock: FakeClock, settings: GuardSettings | None = None
) -> AsyncIterator[Life]:
    """Live, storing what changes, and then die of SIGKILL: nothing is closed."""
    life = born(server, client, clock)
    if settings is not None:
        life.guards.configure(OWNER, settings)
    task = asyncio.create_task(life.guards.run())
    try:
        yield life
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
