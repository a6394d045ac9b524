# SPDX-License-Identifier: Apache-2.0
"""Where it is measured: a namespace that the operator serves, one that nobody serves, and a client of the API server."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import random
from typing import Any, Final

from tests.cluster.cluster import Cluster, Operator, document, wait_for

from kubesaga.api.names import FINISHED_LABEL
from kubesaga.kube.client import KubeClient, Object, Selection
from kubesaga.kube.connection import connect
from kubesaga.kube.informer import Informer, Key
from kubesaga.kube.resources import PODS, WORKFLOW_RUNS, Resource

HERE: Final = Path(__file__).parent
HANDLERS: Final = "bench_handlers"
PATIENCE: Final = 120.0
"""Seconds after which a run that has not ended counts as broken."""


class Broken(Exception):
    """Something went wrong that is not a matter of speed."""


class BenchOperator(Operator):
    """The operator as a process, with the rights and settings of the chart, and the handlers of the benchmark."""

    def __exit__(self, *_: object) -> None:
        """End it. What it has complained of is in the report."""
        self.stop()

    @property
    def pid(self) -> int:
        """Of the operator itself; the processes for expressions are its children."""
        assert self._process is not None
        return self._process.pid

    async def lead(self) -> float:
        """Start it; return after how many seconds it leads."""
        shutil.copy(HERE / f"{HANDLERS}.py", self.folder)
        log = self.folder / "operator.log"
        seen = log.stat().st_size if log.exists() else 0
        began = time.monotonic()
        self.launch(HANDLERS)
        while time.monotonic() - began < PATIENCE:
            with log.open("rb") as lines:
                lines.seek(seen)
                if b"kubesaga leads as" in lines.read():
                    return time.monotonic() - began
            await asyncio.sleep(0.005)
        raise Broken("the operator does not come to lead")

    @property
    def complaints(self) -> list[str]:
        """All lines of its log that are warnings or worse."""
        return [line for line in self.log().splitlines() if '"level": "info"' not in line and '"debug"' not in line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Two namespaces, and who works there."""

    cluster: Cluster
    """kubectl in the namespace that the operator serves."""
    raw: str
    """The namespace without an operator."""
    client: KubeClient
    operator: BenchOperator

    @property
    def ours(self) -> str:
        """The namespace that the operator serves."""
        return self.cluster.namespace

    def workflow(self, name: str, activities: list[dict[str, Any]]) -> None:
        """Apply a Workflow, and wait until the operator has checked it."""
        self.cluster.apply(document("Workflow", name, {"description": "A load", "activities": activities}))

        def checked() -> str | None:
            found = self.cluster.find("workflows", name) or {}
            revision: str | None = (found.get("status") or {}).get("currentRevision")
            return revision

        wait_for(f"the Workflow {name} to be checked", checked)


@asynccontextmanager
async def new_place(shared: Cluster, client: KubeClient) -> AsyncIterator[Place]:
    """Yield a place of its own; the operator has not been started yet."""
    with (
        shared.in_new_namespace() as served,
        shared.in_new_namespace() as raw,
        tempfile.TemporaryDirectory(prefix="kubesaga-bench-") as folder,
        BenchOperator(served, Path(folder)) as operator,
    ):
        try:
            yield Place(cluster=served, raw=raw.namespace, client=client, operator=operator)
        finally:
            operator.stop()
            for namespace in (served.namespace, raw.namespace):
                await _let_go(client, namespace)


async def client_of(kubeconfig: Path) -> KubeClient:
    """Return an administrator's client: the operator's own client library and settings."""
    return await connect(str(kubeconfig), clock=time.monotonic, version="bench")


async def _let_go(client: KubeClient, namespace: str) -> None:
    """Take finalizers off, so that the namespace can be deleted without an operator, also after a break."""
    for resource in (WORKFLOW_RUNS, PODS):
        listing = await client.list(resource, Selection(namespace=namespace), metadata_only=True)
        for item in listing.items:
            if item["metadata"].get("finalizers"):
                name = item["metadata"]["name"]
                await client.merge_patch(resource, namespace, name, {"metadata": {"finalizers": None}})


class Arrivals:
    """Tells by one watch when objects come under a selector: runs that are finished and tidied up, pods that ended."""

    def __init__(self, client: KubeClient, resource: Resource, selection: Selection) -> None:
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._informer = Informer(
            client, resource, selection, clock=time.monotonic, sleep=asyncio.sleep, random=random, metadata_only=True
        )  # fmt: skip
        self._informer.on_change(self._arrived)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Arrivals:
        self._task = asyncio.create_task(self._informer.run())
        await self._informer.wait_synced()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def expect(self, name: str) -> asyncio.Future[float]:
        """Return what will hold the time (monotonic) when that object arrived. To be called before it can arrive."""
        return self._waiting.setdefault(name, asyncio.get_running_loop().create_future())

    def _arrived(self, key: Key, _old: Object | None, new: Object | None) -> None:
        future = self._waiting.pop(key[1], None) if new is not None else None
        if future is not None and not future.done():
            future.set_result(time.monotonic())


def finished_runs(client: KubeClient, namespace: str) -> Arrivals:
    """Return the arrivals of runs that are done with."""
    return Arrivals(client, WORKFLOW_RUNS, Selection(namespace=namespace, labels=f"{FINISHED_LABEL}=true"))


def run_of(name: str, workflow: str) -> dict[str, Any]:
    """Return a run of a Workflow."""
    return document("WorkflowRun", name, {"workflowRef": {"name": workflow}})


async def finish_all(
    client: KubeClient, namespace: str, workflow: str, names: list[str], arrivals: Arrivals, *, at_once: int
) -> float:
    """Create runs and wait until all have finished, so many at a time; return how many seconds it took."""
    gate = asyncio.Semaphore(at_once)

    async def one(name: str) -> None:
        async with gate:
            done = arrivals.expect(name)
            await client.create(WORKFLOW_RUNS, namespace, run_of(name, workflow))
            async with asyncio.timeout(PATIENCE):
                await done

    began = time.monotonic()
    await asyncio.gather(*(one(name) for name in names))
    return time.monotonic() - began
