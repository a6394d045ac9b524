# SPDX-License-Identifier: Apache-2.0
"""The API server's side of pods, in memory, and a kubelet that does what a test says.

It serves the verbs of `KubeClient` that the executor and a real `Informer` call, with their semantics: versions, finalizers that
hold a deleted object, preconditions, a watch that tells of labels gone as of a deletion. Faults are errors given beforehand.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncGenerator, Callable
from typing import Any

from tests.unit.executors.pod_objects import v1_20

from kubesaga.api.names import MANAGED_BY, MANAGED_BY_LABEL
from kubesaga.kube.client import EventType, Listing
from kubesaga.kube.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound, ServerUnavailable

Pod = dict[str, Any]


class PodServer:
    """`pods` by namespace and name; `calls` are the verbs that arrived, with the pod's name."""

    def __init__(self) -> None:
        self.pods: dict[tuple[str, str], Pod] = {}
        self.calls: list[str] = []
        self.before: dict[str, list[ApiError]] = {}
        self.after: dict[str, list[ApiError]] = {}
        self.meanwhile: dict[str, list[Callable[[], None]]] = {}
        self._versions = itertools.count(100)
        self._watchers: list[asyncio.Queue[tuple[EventType, Pod]]] = []

    # What a test does.

    def fail(self, verb: str, error: ApiError) -> None:
        """Answer the next request of that verb with an error; nothing is done."""
        self.before.setdefault(verb, []).append(error)

    def lose_answer(self, verb: str) -> None:
        """Carry the next request of that verb out, and cut the connection."""
        lost = ServerUnavailable(0, "Closed", "server closed the connection")
        self.after.setdefault(verb, []).append(lost)

    def during(self, verb: str, deed: Callable[[], None]) -> None:
        """Let something happen just before the next request of that verb is looked at."""
        self.meanwhile.setdefault(verb, []).append(deed)

    def only(self) -> Pod:
        """The one pod that there is."""
        (pod,) = self.pods.values()
        return pod

    def put(self, pod: Pod) -> Pod:
        """Store a pod as somebody else would."""
        metadata = pod["metadata"]
        key = metadata["namespace"], metadata["name"]
        old = self.pods.get(key)
        pod = copy.deepcopy(pod)
        pod["metadata"]["resourceVersion"] = str(next(self._versions))
        pod["metadata"].setdefault("uid", f"uid-{pod['metadata']['resourceVersion']}")
        if "deletionTimestamp" in pod["metadata"] and not pod["metadata"].get("finalizers"):
            self.pods.pop(key, None)
            self._tell(old, None, pod)
        else:
            self.pods[key] = pod
            self._tell(old, pod, pod)
        return copy.deepcopy(pod)

    def edit(self, **metadata: Any) -> None:
        """Change metadata of the one pod, as a person would."""
        pod = copy.deepcopy(self.only())
        pod["metadata"] |= metadata
        self.put(pod)

    def vanish(self) -> None:
        """Remove the one pod whatever its finalizers say."""
        self.edit(finalizers=[], deletionTimestamp="2026-11-22T01:43:24Z")

    def becomes(self, phase: str, state: Pod | None = None, *, last: Pod | None = None, **status: Any) -> None:
        """Let the kubelet write the status of the one pod."""
        pod = copy.deepcopy(self.only())
        seen = v1_20(phase, state, last=last, **status)
        pod["spec"]["nodeName"], pod["status"] = "node-1", seen["status"]
        self.put(pod)

    # What the client calls.

    async def create(self, _: Any, namespace: str, body: Pod) -> Pod:
        async def deed() -> Pod:
            key = namespace, body["metadata"]["name"]
            if key in self.pods:
                raise AlreadyExists(409, "AlreadyExists", f'pods "{key[1]}" already exists')
            return self.put(copy.deepcopy(body) | {"status": {"phase": "Pending"}})

        return await self._serve("create", body["metadata"]["name"], deed)

    async def get(self, _: Any, namespace: str, name: str) -> Pod:
        async def deed() -> Pod:
            return copy.deepcopy(self._known(namespace, name))

        return await self._serve("get", name, deed)

    async def merge_patch(self, _: Any, namespace: str, name: str, body: Pod) -> Pod:
        async def deed() -> Pod:
            pod = copy.deepcopy(self._known(namespace, name))
            if body["metadata"]["uid"] != pod["metadata"]["uid"]:
                raise Conflict(409, "Conflict", "the UID in the precondition does not match")
            for kind in ("labels", "annotations"):
                pod["metadata"][kind] = (pod["metadata"].get(kind) or {}) | body["metadata"].get(kind, {})
            return self.put(pod)

        return await self._serve("merge_patch", name, deed)

    async def json_patch(self, _: Any, namespace: str, name: str, operations: list[Pod]) -> Pod:
        async def deed() -> Pod:
            pod = copy.deepcopy(self._known(namespace, name))
            for operation in operations:
                *path, last = operation["path"].strip("/").split("/")
                target: Any = pod
                for member in path:
                    target = target.get(member, [])
                members = dict(enumerate(target)) if isinstance(target, list) else target
                place = int(last) if isinstance(target, list) else last
                if operation["op"] == "test" and members.get(place) != operation["value"]:
                    raise Invalid(422, "Invalid", "the server rejected our request due to an error in our request")
                if operation["op"] == "remove":
                    del target[place]
            return self.put(pod)

        return await self._serve("json_patch", name, deed)

    async def delete(self, _: Any, namespace: str, name: str, *, uid: str) -> Pod:
        async def deed() -> Pod:
            pod = copy.deepcopy(self._known(namespace, name))
            if uid != pod["metadata"]["uid"]:
                raise Conflict(409, "Conflict", "the UID in the precondition does not match")
            grace = 30 if pod["spec"].get("nodeName") and pod["status"]["phase"] not in ("Succeeded", "Failed") else 0
            pod["metadata"] |= {"deletionTimestamp": "2026-11-22T01:43:24Z", "deletionGracePeriodSeconds": grace}
            left = self.put(pod)
            return left if left["metadata"].get("finalizers") else {"kind": "Status", "status": "Success"}

        return await self._serve("delete", name, deed)

    async def pages(self, *_: Any, **__: Any) -> AsyncGenerator[Listing, None]:
        items = [copy.deepcopy(pod) for pod in self.pods.values() if _selected(pod)]
        yield Listing(items=items, resource_version=str(next(self._versions)))

    async def watch(self, *_: Any, **__: Any) -> AsyncGenerator[tuple[EventType, Pod], None]:
        events: asyncio.Queue[tuple[EventType, Pod]] = asyncio.Queue()
        self._watchers.append(events)
        while True:
            yield await events.get()

    # Inside.

    async def _serve(self, verb: str, name: str, deed: Callable[[], Any]) -> Pod:
        self.calls.append(f"{verb} {name}")
        await asyncio.sleep(0)
        for happens in self.meanwhile.pop(verb, []):
            happens()
            for _ in range(20):  # the watch is faster than the answer
                await asyncio.sleep(0)
        if self.before.get(verb):
            raise self.before[verb].pop(0)
        answer: Pod = await deed()
        if self.after.get(verb):
            raise self.after[verb].pop(0)
        return answer

    def _known(self, namespace: str, name: str) -> Pod:
        if (namespace, name) not in self.pods:
            raise NotFound(404, "NotFound", f'pods "{name}" not found')
        return self.pods[namespace, name]

    def _tell(self, old: Pod | None, new: Pod | None, last: Pod) -> None:
        seen, sees = old is not None and _selected(old), new is not None and _selected(new)
        kinds = {(True, True): EventType.MODIFIED, (False, True): EventType.ADDED, (True, False): EventType.DELETED}
        if (seen, sees) in kinds:
            for events in self._watchers:
                events.put_nowait((kinds[seen, sees], copy.deepcopy(last)))


def _selected(pod: Pod) -> bool:
    return bool((pod["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY)
