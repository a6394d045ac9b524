# SPDX-License-Identifier: Apache-2.0
"""Runs as the API server records them, with a memory of the live ones that is never older than our own last write.

The watch feeds the memory (`saw`, `lost`); every write returns the new copy, which is remembered at once, so that the
echo of our own writes is no news. What the memory may have wrong is marked and read from the API server the next time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kubesaga.api.names import FINISHED_LABEL, RUN_FINALIZER
from kubesaga.controller.marks import finished_marks
from kubesaga.controller.records import Body, Conflict
from kubesaga.controller.status_patch import json_patch, merge_patch, merge_patch_suffices
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.snapshot import Run
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient
from kubesaga.kube.resources import WORKFLOW_RUNS

LIVE: Final = f"{FINISHED_LABEL}!=true"
"""Label selector of the runs that are not finished and tidied up, and of the WorkflowActions that are not done with."""

_TIDIED_KEPT: Final = 10_000


class KubeRecords:
    """The records (see `records.Records`) of a cluster."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._bodies: dict[RunKey, Body] = {}
        self._suspect: set[RunKey] = set()
        self._confirmed: dict[RunKey, str] = {}
        self._tidied: OrderedDict[str, None] = OrderedDict()

    def saw(self, key: RunKey, body: Body) -> bool:
        """Take in what the watch told; False if it is no news: our own write, or an older copy."""
        return body["metadata"]["uid"] not in self._tidied and self._remember(key, body)

    def lost(self, key: RunKey, body: Body) -> bool:
        """Note that a run was deleted or left the selector; False if that was our own doing."""
        if body["metadata"]["uid"] in self._tidied:
            return False
        self._suspect.add(key)
        return True

    def doubt(self, key: RunKey) -> None:
        """Read this run from the API server the next time."""
        self._suspect.add(key)

    def at_hand(self, key: RunKey) -> Body | None:
        """Return the copy in memory, which may be old."""
        return self._bodies.get(key)

    def is_done(self, uid: str) -> bool:
        """Tell whether a run, by its uid, is finished and tidied up, by us."""
        return uid in self._tidied

    def versions(self) -> Mapping[RunKey, int]:
        """Return the version of each live run in memory."""
        return {key: _version(body) for key, body in self._bodies.items()}

    def phases(self) -> Iterator[tuple[str, str]]:
        """Yield namespace and phase of each live run in memory; a run without a status yet is Pending."""
        for key, body in self._bodies.items():
            yield key.namespace, (body.get("status") or {}).get("phase", "Pending")

    def activity_phases(self) -> Iterator[tuple[str, str]]:
        """Yield namespace and phase of each activity that has begun, of the live runs in memory."""
        for key, body in self._bodies.items():
            for activity in ((body.get("status") or {}).get("activities") or {}).values():
                yield key.namespace, activity.get("phase", "Pending")

    def named_revisions(self) -> Iterator[tuple[str, str]]:
        """Yield namespace and name of the revision of each live run in memory that has begun."""
        for key, body in self._bodies.items():
            if revision := (body.get("status") or {}).get("workflowRevision"):
                yield key.namespace, revision

    def about_to_replay(self) -> Iterator[RunKey]:
        """Yield the runs that others in memory are to replay and have not begun to: they are still needed."""
        for key, body in self._bodies.items():
            source, status = ((body.get("spec") or {}).get("replayOf") or {}).get("run"), body.get("status") or {}
            if source and not status.get("startTime") and not status.get("completionTime"):
                yield RunKey(namespace=key.namespace, name=source)

    def is_confirmed(self, run: Run) -> bool:
        """Tell whether this version came from the API server by a quorum read, or as the answer to our own write."""
        return self._confirmed.get(run.key) == run.version

    async def read(self, key: RunKey, *, confirmed: bool = False) -> Body | None:
        """Return the newest copy; from the API server where the memory may be wrong, or is to be confirmed."""
        body = self._bodies.get(key)
        sure = not confirmed or (body is not None and self._confirmed.get(key) == body["metadata"]["resourceVersion"])
        if body is not None and key not in self._suspect and sure:
            return body
        try:
            body = await self._client.get(WORKFLOW_RUNS, key.namespace, key.name)
        except errors.NotFound:
            self._forget(key)
            return None
        self._suspect.discard(key)
        if (body["metadata"].get("labels") or {}).get(FINISHED_LABEL) == "true":
            self._forget(key)
        else:
            self._bodies[key] = body
            self._confirmed[key] = body["metadata"]["resourceVersion"]
        return body

    async def write_status(self, run: Run, old: Body, new: Body) -> str:
        """Compare and swap the status by the smallest patch; return the new version."""
        where = (WORKFLOW_RUNS, run.key.namespace, run.key.name)
        if merge_patch_suffices(old, new):
            patch = {"metadata": {"resourceVersion": run.version}, "status": merge_patch(old, new)}
            return await self._written(run, self._client.merge_patch(*where, patch, subresource="status"))
        operations = json_patch(old, new, run.version)
        return await self._written(run, self._client.json_patch(*where, operations, subresource="status"))

    async def claim(self, run: Run, labels: dict[str, str]) -> str:
        """Put our finalizer and labels on a run; return the new version."""
        finalizers = [*run.finalizers, RUN_FINALIZER]
        metadata = {"resourceVersion": run.version, "finalizers": finalizers, "labels": labels}
        return await self._patch_metadata(run, metadata)

    async def tidy(self, run: Run) -> None:
        """Take our finalizer off and mark the run finished, in one write."""
        metadata: dict[str, Any] = {"resourceVersion": run.version, **finished_marks(run)}
        if run.claimed:
            metadata["finalizers"] = list(run.finalizers)
        # Before the write: its echo may arrive before its answer.
        self._tidied[run.uid] = None
        while len(self._tidied) > _TIDIED_KEPT:
            self._tidied.popitem(last=False)
        try:
            await self._patch_metadata(run, metadata)
        except BaseException:
            self._tidied.pop(run.uid, None)
            raise
        self._forget(run.key)

    async def _patch_metadata(self, run: Run, metadata: dict[str, Any]) -> str:
        where = (WORKFLOW_RUNS, run.key.namespace, run.key.name)
        return await self._written(run, self._client.merge_patch(*where, {"metadata": metadata}))

    async def _written(self, run: Run, write: Any) -> str:
        try:
            body: Body = await write
        except errors.NotFound as error:
            self.doubt(run.key)
            raise Conflict(str(error)) from error
        except errors.Conflict as error:
            self.doubt(run.key)
            raise Conflict(str(error)) from error
        except errors.Invalid as error:
            # A JSON patch whose test of the version fails is answered like a patch that is wrong.
            self.doubt(run.key)
            if await self._moved_on(run):
                raise Conflict(str(error)) from error
            raise
        except BaseException:
            # Carried out or not, nobody knows: read before anything else.
            self.doubt(run.key)
            raise
        version = self._confirmed[run.key] = str(body["metadata"]["resourceVersion"])
        self._remember(run.key, body)
        return version

    async def _moved_on(self, run: Run) -> bool:
        body = await self.read(run.key)
        return body is None or body["metadata"]["resourceVersion"] != run.version

    def _remember(self, key: RunKey, body: Body) -> bool:
        known = self._bodies.get(key)
        if known is not None and _version(known) >= _version(body):
            return False
        body["metadata"].pop("managedFields", None)
        self._bodies[key] = body
        return True

    def _forget(self, key: RunKey) -> None:
        self._bodies.pop(key, None)
        self._confirmed.pop(key, None)
        self._suspect.discard(key)


def _version(body: Body) -> int:
    return int(body["metadata"]["resourceVersion"])
