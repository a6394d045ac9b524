# SPDX-License-Identifier: Apache-2.0
"""A namespace with one operator behind its proxy, in which plans are played one after another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.faults.calls import Sent
from tests.faults.faults import CALM, Plan, Script
from tests.faults.observer import Observer
from tests.faults.operator_process import KILLED, OperatorProcess
from tests.faults.proxy import Operator, Proxy
from tests.faults.record import Effect, Record, Version
from tests.faults.saga import Saga, reference
from tests.faults.upstream import GROUP_PATH, Upstream

from kubesaga.api.names import FINISHED_LABEL, POD_FINALIZER, RUN_FINALIZER

PATIENCE = 90.0
"""Seconds within which everything must come to rest, faults included."""

SagaOf = Callable[[str, str], Saga]
"""Makes a saga for the file of effects and the URL of the service."""
During = Callable[["Lane", str], Coroutine[Any, Any, None]]
"""What a scenario does beside the plan, while the run of that name goes on."""


class Lane:
    """See the module. `operators` are several where a scenario needs a standby; each has its own proxy."""

    def __init__(self, upstream: Upstream, namespace: str, folder: Path) -> None:
        self.upstream = upstream
        self.namespace = namespace
        self.folder = folder
        self.effects_file = folder / "effects"
        self.observer = Observer(upstream, namespace)
        self.operators: list[OperatorProcess] = []
        self.proxies: list[Proxy] = []
        self.script = Script()
        self.service_url = ""
        self.on_request: Callable[[], Awaitable[None]] | None = None
        """Called once, when the service is asked the next time, before it answers."""
        self._calls: list[Sent] = []
        self._requests: list[Effect] = []
        self._numbers = itertools.count(1)

    @property
    def operator(self) -> OperatorProcess:
        """The only one, or the first."""
        return self.operators[0]

    async def add_operator(self, *, name: str = "operator-0", mutant: str = "", **settings: str) -> OperatorProcess:
        """Make an operator and its proxy; it is not started yet."""
        process = OperatorProcess(self.folder, self.namespace, name=name, mutant=mutant)
        process.settings |= {"egress_allow": self.service_url.split("/")[2], **settings}
        behind = Operator(name=name, kill=process.kill, life=lambda: process.life)
        proxy = Proxy(self.upstream, behind, self._calls, self.observer.past)
        await proxy.start()
        proxy.script = self.script
        process.point_to(proxy.url)
        self.operators.append(process)
        self.proxies.append(proxy)
        return process

    async def play(
        self,
        plan: Plan = CALM,
        *,
        sagas: Sequence[SagaOf] = (reference,),
        during: During | None = None,
        patience: float = PATIENCE,
        alone: bool = True,
    ) -> Record:
        """Run each saga once, side by side, under a plan; return the record when all has come to rest.

        Not before an operator watches: else what it sees of the runs first would be a listing. `alone`: see Record.
        """
        await self.watched()
        began, first_call, first_exits = (
            time.monotonic(),
            len(self._calls),
            [len(each.exits) for each in self.operators],
        )
        named = self._named(sagas)
        self._begin(plan)
        try:
            for name, saga in named.items():
                await self._create(name, saga)
            missing = await self._beside(during, next(iter(named)))
            ended = await self._rest(named, patience if not missing else 1.0)
        finally:
            script = self.script
            script.stop()
        exits = await self._exits(first_exits)
        return Record(
            plan=plan.title, sagas=named, versions=self._versions(named), calls=self._calls[first_call:],
            effects=[effect for effect in self.effects() if effect.run in named], struck=tuple(script.struck), alone=alone,
            deaths=len(exits), exits=exits, waited_for=missing or ("" if ended else self._what_is_missing(named)),
            seconds=time.monotonic() - began,
        )  # fmt: skip

    async def _beside(self, during: During | None, run: str) -> str:
        """Let a scenario do its part; return what it waited for in vain."""
        try:
            if during is not None:
                await during(self, run)
        except (AssertionError, TimeoutError) as error:
            return f"what {during.__name__} needs: {error!r}"
        return ""

    async def _exits(self, first: Sequence[int]) -> list[int]:
        """Return how lives ended since; one that was killed at the very end may need a moment."""
        await asyncio.gather(*(proxy.settled() for proxy in self.proxies))
        async with asyncio.timeout(PATIENCE):
            while any(process.ending for process in self.operators):
                await asyncio.sleep(0.01)
        return [status for each, number in zip(self.operators, first, strict=False) for status in each.exits[number:]]

    async def watched(self) -> None:
        """Wait until an operator watches runs and pods."""
        await self._until(lambda: any(proxy.watches_all for proxy in self.proxies))

    async def let_all_lead(self) -> None:
        """Start all operators, each with a Lease of its own, as nobody should; return when all are at work."""
        for process in self.operators[1:]:
            process.settings["lease_name"] = process.name
            process.start()
        await self._until(lambda: all(proxy.watches_all for proxy in self.proxies))

    async def _until(self, look: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not look():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log = self.operator.log_file.read_text()[-2000:]
            raise AssertionError(f"no operator watches; this is the end of its log: {log}") from None

    def effects(self) -> list[Effect]:
        """Return all effects so far."""
        lines = self.effects_file.read_text().splitlines() if self.effects_file.exists() else []
        return [*(Effect(**json.loads(line)) for line in lines), *self._requests]

    def run(self, name: str) -> Mapping[str, Any]:
        """Return a run as it is."""
        found = self.observer.latest("workflowruns", name)
        return found.object if found is not None and found.type != "DELETED" else {}

    async def wait_activity(self, run: str, activity: str, phase: str, within: float = PATIENCE) -> Mapping[str, Any]:
        """Return what the status says of an activity once it is in a phase."""

        def look() -> Mapping[str, Any] | None:
            known: Mapping[str, Any] | None = (self.run(run).get("status") or {}).get("activities", {}).get(activity)
            return known if known is not None and known.get("phase") == phase else None

        found = await self.observer.wait(look, within)
        assert found is not None, f"{activity} of {run} does not become {phase}"
        return found

    def _named(self, sagas: Sequence[SagaOf]) -> dict[str, Saga]:
        return {
            f"{saga.name}-{next(self._numbers)}": saga
            for saga in (make(str(self.effects_file), self.service_url) for make in sagas)
        }

    def _begin(self, plan: Plan) -> None:
        self.script = Script(plan)
        self.observer.past_version = None
        for proxy in self.proxies:
            proxy.script = self.script

    async def _create(self, name: str, saga: Saga) -> None:
        workflow = {"kind": "Workflow", "spec": saga.spec}
        run = {"kind": "WorkflowRun", "spec": {"workflowRef": {"name": name}}}
        for plural, document in (("workflows", workflow), ("workflowruns", run)):
            body = {"apiVersion": "kubesaga.dev/v1alpha1", "metadata": {"name": name}, **document}
            await self.upstream.json("POST", f"{GROUP_PATH}/namespaces/{self.namespace}/{plural}", body)

    async def _rest(self, named: Mapping[str, Saga], patience: float) -> bool:
        """Wait until all runs are tidied and their pods let go. From the first status on, listings may show that moment."""

        def first_status() -> int | None:
            found = (
                each
                for each in self.observer.versions
                if each.object["metadata"]["name"] in named and each.status.get("phase")
            )
            return next((each.number for each in found), None)

        if any(self.script.plan.stale(resource) for resource in ("workflowruns", "pods")):
            self.observer.past_version = await self.observer.wait(first_status, patience)
        return bool(await self.observer.wait(lambda: not self._unfinished(named), patience))

    def _unfinished(self, named: Mapping[str, Saga]) -> list[str]:
        return [name for name in named if not self._tidied(name)]

    def _tidied(self, name: str) -> bool:
        found = self.observer.latest("workflowruns", name)
        if found is None:
            return False
        run = found.object
        if found.type != "DELETED" and (run["metadata"].get("labels") or {}).get(FINISHED_LABEL) != "true":
            return False
        return not any(
            POD_FINALIZER in (pod.object["metadata"].get("finalizers") or ())
            for pod in self._last_pods(run["metadata"]["uid"])
        )

    def _last_pods(self, run_uid: str) -> list[Version]:
        last: dict[str, Version] = {}
        for version in self.observer.versions:
            owners = version.object["metadata"].get("ownerReferences") or ()
            if version.resource == "pods" and any(owner["uid"] == run_uid for owner in owners):
                last[version.uid] = version
        return [version for version in last.values() if version.type != "DELETED"]

    def _versions(self, named: Mapping[str, Saga]) -> list[Version]:
        def belongs(version: Version) -> bool:
            owners = version.object["metadata"].get("ownerReferences") or ()
            return version.object["metadata"]["name"] in named or any(owner["name"] in named for owner in owners)

        return sorted(filter(belongs, self.observer.versions), key=lambda version: version.number)

    def _what_is_missing(self, named: Mapping[str, Saga]) -> str:
        names = self._unfinished(named)
        shown = {name: {**(self.run(name).get("status") or {}), "conditions": None} for name in names}
        return f"the end of {', '.join(names)}: {json.dumps(shown)[:3000]}"

    async def serve(self, stack: AsyncExitStack) -> None:
        """Start the HTTP service that sagas call."""

        async def note(request: web.Request) -> web.Response:
            key = request.headers["Idempotency-Key"]
            hook, self.on_request = self.on_request, None
            self._requests.append(
                Effect(
                    run=request.headers["X-Kubesaga-Run"].partition("/")[2], activity=key.split("/")[1], key=key,
                    attempt=int(request.headers["X-Kubesaga-Attempt"]), at=time.monotonic(), clock=time.time(),
                )
            )  # fmt: skip
            if hook is not None:
                await hook()
            return web.json_response({"noted": True})

        app = web.Application()
        app.router.add_post("/notify", note)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.service_url = f"http://127.0.0.1:{runner.addresses[0][1]}/notify"

    async def clean(self) -> None:
        """End the operators, take finalizers off, delete the namespace."""
        for process in self.operators:
            await process.close()
        for proxy in self.proxies:
            await proxy.close()
        await self.observer.close()
        for path, finalizer in (
            (f"/api/v1/namespaces/{self.namespace}/pods", POD_FINALIZER),
            (f"{GROUP_PATH}/namespaces/{self.namespace}/workflowruns", RUN_FINALIZER),
        ):
            for item in (await self.upstream.json("GET", path)).get("items", []):
                if finalizer in (item["metadata"].get("finalizers") or ()):
                    name = item["metadata"]["name"]
                    with contextlib.suppress(AssertionError):
                        await self.upstream.json("PATCH", f"{path}/{name}", {"metadata": {"finalizers": None}})
        await self.upstream.json("DELETE", f"/api/v1/namespaces/{self.namespace}")


@asynccontextmanager
async def open_lane(
    upstream: Upstream, *, mutant: str = "", operators: int = 1, **settings: str
) -> AsyncIterator[Lane]:
    """Yield a lane with its operators, of which the first is started."""
    namespace = f"kubesaga-faults-{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubesaga-faults-")))
        lane = Lane(upstream, namespace, folder)
        await upstream.json("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        stack.push_async_callback(lane.clean)
        await _account(upstream, namespace)
        await lane.serve(stack)
        await lane.observer.start()
        for number in range(operators):
            await lane.add_operator(name=f"operator-{number}", mutant=mutant, **settings)
        lane.operator.start()
        yield lane


async def _account(upstream: Upstream, namespace: str) -> None:
    """Wait for the ServiceAccount of a namespace: no pod can be made before."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    async with asyncio.timeout(PATIENCE):
        while not await upstream.json("GET", path):
            await asyncio.sleep(0.05)


def unexpected_exits(record: Record, *allowed: int) -> list[int]:
    """Return how the operator ended that it should not have ended."""
    return [status for status in record.exits if status not in (KILLED, *allowed)]
