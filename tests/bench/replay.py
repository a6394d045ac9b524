# SPDX-License-Identifier: Apache-2.0
"""The raw client: it makes the very writes that the operator made for one run, one after another, and nothing else.

The writes are recorded: a watch shows each version of a run, and the difference of two versions is the write between
them. So both sides send the same number of bytes in the same shape, each write naming the version that it changes.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from tests.bench.place import PATIENCE, Arrivals, run_of

from kubesaga.api.names import FINISHED_LABEL
from kubesaga.controller.status_patch import merge_patch
from kubesaga.kube.client import EventType, KubeClient, Object, Selection
from kubesaga.kube.resources import WORKFLOW_RUNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One merge patch without the version: of the status, or of the metadata."""

    status: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None

    def body(self, version: str) -> dict[str, Any]:
        """Return the patch for that version of the object."""
        if self.status is not None:
            return {"metadata": {"resourceVersion": version}, "status": self.status}
        return {"metadata": {"resourceVersion": version, **(self.metadata or {})}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What follows the creation of one run of a Workflow, in order."""

    workflow: str
    writes: tuple[Write, ...]


async def record(client: KubeClient, namespace: str, workflow: str, name: str) -> Recording:
    """Let the operator carry out one run, and return what it wrote."""
    old = await client.create(WORKFLOW_RUNS, namespace, run_of(name, workflow))
    writes: list[Write] = []
    events = client.watch(
        WORKFLOW_RUNS,
        Selection(namespace=namespace, fields=f"metadata.name={name}"),
        resource_version=old["metadata"]["resourceVersion"],
    )
    async with asyncio.timeout(PATIENCE), aclosing(events):
        async for type_, new in events:
            if type_ is EventType.BOOKMARK:
                continue
            writes.append(_between(old, new))
            old = new
            if (new["metadata"].get("labels") or {}).get(FINISHED_LABEL) == "true":
                break
    return Recording(workflow=workflow, writes=tuple(writes))


def _between(old: Object, new: Object) -> Write:
    before, after = old.get("status") or {}, new.get("status") or {}
    if before != after:
        return Write(status=merge_patch(before, after))
    was, now = old["metadata"], new["metadata"]
    labels = merge_patch(was.get("labels") or {}, now.get("labels") or {})
    finalizers = now.get("finalizers") or []
    changed = {} if finalizers == (was.get("finalizers") or []) else {"finalizers": finalizers}
    return Write(metadata={**changed, "labels": labels})


async def replay(client: KubeClient, namespace: str, name: str, recording: Recording) -> list[float]:
    """Create a run and repeat the recorded writes; return how many seconds each of them took."""
    body = await client.create(WORKFLOW_RUNS, namespace, run_of(name, recording.workflow))
    took: list[float] = []
    for write in recording.writes:
        began = time.monotonic()
        body = await client.merge_patch(
            WORKFLOW_RUNS, namespace, name, write.body(body["metadata"]["resourceVersion"]),
            subresource="status" if write.status is not None else None,
        )  # fmt: skip
        took.append(time.monotonic() - began)
    return took


async def replay_all(
    client: KubeClient, namespace: str, names: list[str], recording: Recording, arrivals: Arrivals, *, at_once: int
) -> float:
    """Repeat it for many runs, so many at a time, seen by the same kind of watch; return how many seconds it took."""
    gate = asyncio.Semaphore(at_once)

    async def one(name: str) -> None:
        async with gate:
            done = arrivals.expect(name)
            await replay(client, namespace, name, recording)
            async with asyncio.timeout(PATIENCE):
                await done

    began = time.monotonic()
    await asyncio.gather(*(one(name) for name in names))
    return time.monotonic() - began
