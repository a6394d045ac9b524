# SPDX-License-Identifier: Apache-2.0
"""An independent observer: a process of its own that watches a namespace and notes when it sees what.

    python -m tests.bench.observer KUBECONFIG NAMESPACE runs|pods

One JSON line for each event, `at` on the clock that all processes of a Linux machine share. The times in the objects
themselves are whole seconds, so they are of no use here.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.place import PATIENCE, Broken, client_of

from kubesaga.api.names import RUN_LABEL
from kubesaga.kube.client import EventType, Object, Selection
from kubesaga.kube.resources import PODS, WORKFLOW_RUNS

ROOT = Path(__file__).resolve().parents[2]
Sight = dict[str, Any]
"""at, type, name, phase; of a run also `activities` (phase by name) and `stamps` (output `at` by name); of a pod `run`."""


@dataclass(slots=True)
class Sights:
    """What the observer has told so far."""

    seen: list[Sight] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, sight: Sight) -> None:
        """Take one in."""
        self.seen.append(sight)
        self._news.set()

    async def until(self, found: Callable[[Sight], bool], what: str) -> Sight:
        """Return the first sight that fits, the past included."""
        looked = 0
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    self._news.clear()
                    while looked < len(self.seen):
                        if found(self.seen[looked]):
                            return self.seen[looked]
                        looked += 1
                    await self._news.wait()
        except TimeoutError:
            raise Broken(f"nobody has seen {what}") from None

    def of(self, name: str) -> list[Sight]:
        """Return what was seen of one object."""
        return [sight for sight in self.seen if sight["name"] == name]


@asynccontextmanager
async def observing(kubeconfig: Path, namespace: str, what: str) -> AsyncIterator[Sights]:
    """Yield what an observer tells of the runs or pods of a namespace."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.observer", str(kubeconfig), namespace, what,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    sights = Sights()
    ready = await process.stdout.readline()
    if ready != b"ready\n":
        raise Broken("the observer did not start")

    async def listen(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            sights.add(json.loads(line))

    listening = asyncio.create_task(listen(process.stdout))
    try:
        yield sights
    finally:
        listening.cancel()
        process.kill()
        await process.wait()


def _run(obj: Object) -> Sight:
    activities = (obj.get("status") or {}).get("activities") or {}
    stamps = {name: one["output"]["at"] for name, one in activities.items() if "at" in (one.get("output") or {})}
    return {
        "phase": (obj.get("status") or {}).get("phase"),
        "activities": {name: one["phase"] for name, one in activities.items()},
        "stamps": stamps,
    }


def _pod(obj: Object) -> Sight:
    return {
        "phase": (obj.get("status") or {}).get("phase"),
        "run": (obj["metadata"].get("labels") or {}).get(RUN_LABEL),
    }


async def _observe(kubeconfig: str, namespace: str, what: str) -> None:
    resource, describe = (WORKFLOW_RUNS, _run) if what == "runs" else (PODS, _pod)
    selection = Selection(namespace=namespace)
    async with await client_of(Path(kubeconfig)) as client:
        version = (await client.list(resource, selection, metadata_only=True)).resource_version
        print("ready", flush=True)
        while True:
            async with aclosing(client.watch(resource, selection, resource_version=version)) as events:
                async for type_, obj in events:
                    at, version = time.monotonic(), obj["metadata"]["resourceVersion"]
                    if type_ is not EventType.BOOKMARK:
                        sight = {"at": at, "type": type_, "name": obj["metadata"]["name"], **describe(obj)}
                        print(json.dumps(sight), flush=True)


if __name__ == "__main__":
    asyncio.run(_observe(*sys.argv[1:4]))
