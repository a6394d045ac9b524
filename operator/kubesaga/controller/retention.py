# SPDX-License-Identifier: Apache-2.0
"""Deletes what has been kept long enough: finished runs, and revisions that nobody works from.

A look lists the Workflows, then the metadata of runs and of revisions. What is to go is known from the marks on the runs
(`controller.marks`); before a run goes its record is read, and must agree.

Runs and revisions are listed from the API server's cache: from etcd 10,000 runs would cost it eight seconds of CPU at each
look, from the cache less than one. What a list may not show yet is known here, because this process alone starts runs:

    A run that works from a revision bears its name as a label before its status says so, and the revision is pinned from
    before it is made sure of until both are written. A live run is in memory; of one that finished a moment ago the pin
    is remembered. Between the last look at pins and memory and the moment the deletion is under way nothing else runs;
    who needs the revision from then on waits, and makes it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final

from kubesaga.api.fields import format_duration, format_time, parse_time
from kubesaga.api.names import (
    FINISHED_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    REVISION_LABEL,
    RUN_FINALIZER,
    WORKFLOW_LABEL,
    label_value,
)
from kubesaga.api.triggers import MESSENGER_LABEL
from kubesaga.controller.clock import Clock
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.loader import run_of
from kubesaga.controller.marks import bears, finished_marks, finished_of, mended
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.retention import FOR_EVER, Finished, Revision, Terms, Why, due, is_over, surplus, terms_of
from kubesaga.engine.snapshot import Run
from kubesaga.errors import KubesagaError
from kubesaga.kube.client import KubeClient, Object, Propagation, Selection
from kubesaga.kube.errors import ApiError, Conflict, NotFound
from kubesaga.kube.resources import CONTROLLER_REVISIONS, WORKFLOW_RUNS, WORKFLOWS, Resource
from kubesaga.kube.revisions import Revisions

_log = logging.getLogger("kubesaga.state_manager")

PER_SECOND: Final = 20
"""Deletions; each costs the API server a read before it, and the garbage collector those of the run's pods."""
_LONGEST_SHARE: Final = 20
"""Lists that took long are followed by a pause this many times as long."""

_AT_ONCE: Final = 250
"""Objects that are looked at in one go: some milliseconds."""

_Workflow = tuple[str, str]
"""Namespace, and label value of the name."""


@dataclass(slots=True)
class _Stored:
    """What a look has found."""

    terms: dict[_Workflow, Terms] = field(default_factory=dict)
    finished: dict[_Workflow, list[Finished]] = field(default_factory=lambda: defaultdict(list))
    unmarked: list[RunKey] = field(default_factory=list)
    new: list[RunKey] = field(default_factory=list)
    """Live runs that have not begun."""
    named: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Revisions that somebody names, by namespace."""
    unsure: set[str] = field(default_factory=set)
    """Namespaces with runs of which it is not known what they name."""


class Retention:
    """Looks every `interval` seconds."""

    def __init__(
        self,
        client: KubeClient,
        records: KubeRecords,
        definitions: Definitions,
        revisions: Revisions,
        *,
        namespaces: Sequence[str],
        deleted: Callable[[Why | None], None],
        clock: Clock,
        interval: float,
    ) -> None:
        """`deleted` is told of each deletion: of a run, and why; None: of a revision."""
        self._client = client
        self._records = records
        self._definitions = definitions
        self._revisions = revisions
        self._namespaces: Sequence[str | None] = namespaces or (None,)
        self._deleted = deleted
        self._clock = clock
        self._interval = interval
        self._hidden: set[str] = set()
        """Runs that were complained of, by uid."""

    async def run(self) -> None:
        """Look again and again until cancelled."""
        pause = self._interval
        while True:
            await self._clock.sleep(pause)
            began = self._clock.monotonic()
            try:
                listed = await self.look()
            except ApiError as error:
                _log.warning("what has been kept long enough cannot be deleted now: %s", error)
                listed = self._clock.monotonic() - began
            pause = max(self._interval, _LONGEST_SHARE * listed)

    async def look(self) -> float:
        """Look once, and delete what there was to delete; return how many seconds the lists took.

        A long work list is not worked off to its end: after `interval` seconds it is time for a new one.
        """
        began = self._clock.monotonic()
        self._definitions.pins.begin()
        stored = _Stored()
        await self._list_workflows(stored)
        await self._list_runs(stored)
        revisions = await self._list_revisions()
        for key in stored.new:
            # Costs a request only for those that the watch has not told of: one may be about to replay another.
            await self._records.read(key)
        listed = self._clock.monotonic() - began
        until = began + max(self._interval, 2 * listed)
        turns: list[Callable[[], Awaitable[None]]] = [
            *(partial(self._mark, key) for key in stored.unmarked),
            *(partial(self._delete_run, *going) for going in await self._due(stored)),
            *(partial(self._delete_revision, revision) for revision in _unused(stored, revisions)),
        ]
        for turn in turns:
            if self._clock.monotonic() >= until:
                break
            await self._clock.sleep(1 / PER_SECOND)
            await turn()
        return listed

    # --- what there is

    async def _pages(self, resource: Resource, **how: Any) -> AsyncIterator[Object]:
        labels = how.pop("labels", None)
        for namespace in self._namespaces:
            selection = Selection(namespace=namespace, labels=labels)
            async with aclosing(self._client.pages(resource, selection, **how)) as pages:
                async for page in pages:
                    # From its cache the server sends all at once, though pages were asked for: others have their turn between.
                    for first in range(0, len(page.items), _AT_ONCE):
                        for item in page.items[first : first + _AT_ONCE]:
                            yield item
                        await asyncio.sleep(0)

    async def _list_workflows(self, stored: _Stored) -> None:
        async for body in self._pages(WORKFLOWS):
            metadata = body["metadata"]
            where = (metadata["namespace"], label_value(metadata["name"]))
            stored.terms[where] = terms_of(body.get("spec") or {})
            stored.named[metadata["namespace"]].add((body.get("status") or {}).get("currentRevision") or "")

    async def _list_runs(self, stored: _Stored) -> None:
        async for item in self._pages(WORKFLOW_RUNS, resource_version="0", metadata_only=True):
            metadata = item["metadata"]
            labels, namespace = metadata.get("labels") or {}, metadata["namespace"]
            stored.named[namespace].add(labels.get(REVISION_LABEL, ""))
            claimed = RUN_FINALIZER in metadata.get("finalizers", ())
            if labels.get(FINISHED_LABEL) == "true":
                run = finished_of(metadata)
                if run is None:
                    stored.unmarked.append(RunKey(namespace=namespace, name=metadata["name"]))
                    stored.unsure.add(namespace)
                elif not claimed and "deletionTimestamp" not in metadata:
                    stored.finished[namespace, run.workflow].append(run)
            elif not claimed:
                stored.new.append(RunKey(namespace=namespace, name=metadata["name"]))
            elif REVISION_LABEL not in labels and MESSENGER_LABEL not in labels:
                stored.unsure.add(namespace)

    async def _list_revisions(self) -> list[Revision]:
        found: list[Revision] = []
        ours = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
        async for item in self._pages(CONTROLLER_REVISIONS, labels=ours, resource_version="0", metadata_only=True):
            metadata = item["metadata"]
            found.append(
                Revision(
                    namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"],
                    created=parse_time(metadata["creationTimestamp"]),
                    workflow=(metadata.get("labels") or {}).get(WORKFLOW_LABEL, ""),
                )
            )  # fmt: skip
        # Whoever has deleted one by hand need not know that there is a memory of them.
        self._revisions.forget_all_but({(revision.namespace, revision.name) for revision in found})
        return found

    # --- runs

    async def _due(self, stored: _Stored) -> list[tuple[Finished, timedelta | None, Why]]:
        """Return the runs that are to go, and the time that each was kept by, if it was."""
        found: list[tuple[Finished, timedelta | None, Why]] = []
        now = self._clock.now()
        for (namespace, workflow), runs in stored.finished.items():
            if not workflow:
                found += [(run, run.ttl, Why.TTL) for run in runs if is_over(run, run.ttl, now)]
                continue
            terms = stored.terms.get((namespace, workflow)) or await self._last_terms(namespace, runs)
            found += [(run, terms.ttl, why) for run, why in due(runs, terms, now)]
        return sorted(found, key=lambda each: each[0].completed)

    async def _last_terms(self, namespace: str, runs: Sequence[Finished]) -> Terms:
        """Return the terms of a Workflow that is gone: those that its last run worked from."""
        last = max(
            (run for run in runs if not run.messenger), key=lambda run: (run.completed, run.key), default=None
        )  # fmt: skip
        if last is None or not last.revision:
            return FOR_EVER
        try:
            return terms_of(await self._revisions.read(namespace, last.revision))
        except KubesagaError:
            return FOR_EVER

    async def _delete_run(self, run: Finished, ttl: timedelta | None, why: Why) -> None:
        body = await self._confirmed(run.key)
        # A replay that has not begun reads this run; asked last, so that none is overlooked that was told of meanwhile.
        if body is None or finished_of(body["metadata"]) != run or self._is_needed(run.key):
            return
        try:
            await self._client.delete(
                WORKFLOW_RUNS, run.key.namespace, run.key.name, uid=run.uid,
                resource_version=body["metadata"]["resourceVersion"], propagation=Propagation.BACKGROUND,
            )  # fmt: skip
        except (Conflict, NotFound):
            return
        self._deleted(why)
        reason = "there are newer ones" if why is Why.HISTORY else "its event has been given to all that waited for it"
        reason = f"ttlAfterFinished is {format_duration(ttl)}" if why is Why.TTL and ttl else reason
        _log.info(
            "%s is deleted: it finished at %s, and %s", run.key, format_time(run.completed), reason,
            extra={"workflow_id": run.uid, "run": run.key.name, "namespace": run.key.namespace, "reason": str(why)},
        )  # fmt: skip

    def _is_needed(self, key: RunKey) -> bool:
        """Tell whether a finished run has to stay although its time is over. Every such reason belongs here."""
        return key in self._records.about_to_replay()

    async def _mark(self, key: RunKey) -> None:
        """Put the marks on a finished run that lacks them: an older version tidied it up, or somebody took them off."""
        await self._confirmed(key)

    async def _confirmed(self, key: RunKey) -> Object | None:
        """Return a run if its record says that it has finished, and what its marks say; else None. Mends the marks."""
        try:
            body = await self._client.get(WORKFLOW_RUNS, key.namespace, key.name)
            metadata = body["metadata"]
            run, _ = run_of(key, body)
            if not (run.marked_finished and run.status.finished) or run.claimed:
                self._tell_hidden(run)
                return None
            marks = finished_marks(run)
            if bears(metadata, marks):
                return body
            patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], **mended(marks)}}
            await self._client.merge_patch(WORKFLOW_RUNS, key.namespace, key.name, patch)
        except (Conflict, NotFound):
            pass
        except ApiError:
            raise
        except KubesagaError as error:
            _log.debug("%s is kept: %s", key, error)
        return None

    def _tell_hidden(self, run: Run) -> None:
        if run.marked_finished and run.uid not in self._hidden:
            self._hidden.add(run.uid)
            told = "%s bears the label %s and has not finished: the operator does not see it; take the label off"
            _log.warning(told, run.key, FINISHED_LABEL)

    # --- revisions

    async def _delete_revision(self, revision: Revision) -> None:
        where = (revision.namespace, revision.name)
        if self._definitions.pins.holds(*where) or where in self._records.named_revisions():
            return
        self._definitions.forget(*where)
        try:
            # From here to the request itself nothing else runs, and who needs the revision waits for the answer.
            await self._revisions.delete(*where, uid=revision.uid)
        except Conflict:
            return
        self._deleted(None)
        _log.info("the revision %s/%s is deleted: no run works from it", *where)


def _unused(stored: _Stored, revisions: Iterable[Revision]) -> Iterator[Revision]:
    """Yield the revisions that are to go."""
    by_workflow: dict[_Workflow, list[Revision]] = defaultdict(list)
    for revision in revisions:
        by_workflow[revision.namespace, revision.workflow].append(revision)
    for where, found in by_workflow.items():
        if where[0] not in stored.unsure:
            terms = stored.terms.get(where)
            yield from surplus(found, stored.named[where[0]], terms.revisions if terms else 0)
