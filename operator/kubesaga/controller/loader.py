# SPDX-License-Identifier: Apache-2.0
"""All the reads of a pass: from a key to one Snapshot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kubesaga.api.event_source import EVENT_ACTOR_ANNOTATION, EVENT_ID_ANNOTATION, MAX_ACTOR
from kubesaga.api.fields import parse_time
from kubesaga.api.names import FINISHED_LABEL, REVISION_LABEL, RUN_FINALIZER
from kubesaga.api.parsing import parse_run_spec, parse_status
from kubesaga.api.reasons import Reason
from kubesaga.api.run import TriggerStatus, WorkflowRunSpec
from kubesaga.api.triggers import TICK_ANNOTATION, TRIGGER_KEY_ANNOTATION, TRIGGER_LABEL
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.delivering.mailbox import Mailbox
from kubesaga.controller.records import Body, Records
from kubesaga.engine.attempt import AttemptId, Observation, RunKey
from kubesaga.engine.decision import Summons
from kubesaga.engine.definition import Definition, Kind
from kubesaga.engine.snapshot import NO_DEFINITION, Limits, Listener, Run, Snapshot, Source, Unusable, digest_of
from kubesaga.engine.validation.workflow import problems_of_run
from kubesaga.errors import InvalidSpec
from kubesaga.executors.base import Executor

_NOTHING = Unusable(reason=Reason.INVALID_SPEC, message="")

_MAX_MARK: Final = 256
"""Longest mark of a trigger, in characters. Ours are no longer; who creates a run can write what they like."""

NamespaceEnding = Callable[[str], Awaitable[bool]]
"""Tells whether a namespace is being deleted."""
Summon = Callable[[Run, Summons], Awaitable[tuple[Listener, ...]]]
"""Looks live runs up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A snapshot, and the status on the wire that it was made from."""

    snapshot: Snapshot
    status: Body


class Loader:
    """Makes snapshots. Reads only."""

    def __init__(
        self,
        records: Records,
        definitions: Definitions,
        executors: Mapping[Kind, Executor],
        actions: Mailbox,
        *,
        namespace_ending: NamespaceEnding,
        worker: str,
        limits: Limits,
        summon: Summon | None = None,
    ) -> None:
        """`summon` looks live runs up for events; without it there are none."""
        self._records = records
        self._definitions = definitions
        self._executors = executors
        self._actions = actions
        self._namespace_ending = namespace_ending
        self._worker = worker
        self._limits = limits
        self._summon = summon

    async def load(self, key: RunKey, *, confirmed: bool = False) -> Loaded | None:
        """Return what is known of a run now, None if there is no such run. `confirmed`: see Records.read."""
        body = await self._records.read(key, confirmed=confirmed)
        if body is None:
            return None
        run, problem = run_of(key, body)
        source = await self._source_of(run) if problem is None else None
        definition, revision = await self._definition_of(run, problem, source)
        observed: dict[AttemptId, Observation] = {}
        holders: dict[AttemptId, Kind] = {}
        for kind, executor in self._executors.items():
            seen = executor.observe(key, run.uid)
            observed.update(seen)
            holders.update(dict.fromkeys(seen, kind))
        ending = run.deleting and not run.status.finished and await self._namespace_ending(key.namespace)
        snapshot = Snapshot(
            run=run, definition=definition, revision=revision, source=source if isinstance(source, Source) else None, observed=observed, holders=holders,
            commands=self._actions.of_run(key, run.uid), replies=self._actions.replies(run.uid), namespace_ending=ending,
            worker=self._worker, limits=self._limits,
        )  # fmt: skip
        return Loaded(snapshot=snapshot, status=body.get("status") or {})

    async def listeners(self, run: Run, summons: Summons) -> tuple[Listener, ...]:
        """Return the live runs that a run's event may be for."""
        return await self._summon(run, summons) if self._summon is not None else ()

    def release(self, key: RunKey) -> None:
        """The pass over a run is over: what it relies on stands in the record."""
        self._definitions.pins.release(key)

    async def _source_of(self, run: Run) -> Source | Unusable | None:
        """Return the run that one that has not begun is to replay; None: it replays none."""
        wanted = run.spec.replay_of
        if wanted is None or run.status.started or run.status.finished:
            return None
        key = RunKey(namespace=run.key.namespace, name=wanted.run)
        body = await self._records.read(key, confirmed=True)
        if body is None:
            told = f"spec.replayOf.run: there is no WorkflowRun {wanted.run!r} in namespace {key.namespace!r}"
            return Unusable(reason=Reason.INVALID_REPLAY, message=told)
        other, _ = run_of(key, body)
        if other.status.workflow_revision is None:
            told = f"spec.replayOf.run: {wanted.run} never started, so there is nothing to replay"
            return Unusable(reason=Reason.INVALID_REPLAY, message=told)
        event = other.status.replay.event if other.status.replay is not None else other.spec.event
        return Source(name=wanted.run, uid=other.uid, workflow=other.workflow, event=event, status=other.status)

    async def _definition_of(
        self, run: Run, problem: InvalidSpec | None, source: Source | Unusable | None
    ) -> tuple[Definition | Unusable, str | None]:
        if run.status.finished:
            return _NOTHING, None
        if problem is not None and not run.status.started:
            return Unusable(reason=Reason.INVALID_SPEC, message=str(problem)), None
        if run.spec.deliver:
            return NO_DEFINITION, None
        if isinstance(source, Unusable):
            return source, None
        if source is not None and source.status.workflow_revision is not None:
            return await self._definitions.of_source(run, source.status.workflow_revision, source.workflow)
        return await self._definitions.of_run(run)


def run_of(key: RunKey, body: Body) -> tuple[Run, InvalidSpec | None]:
    """Return a body as a Run. A spec that cannot be read is a problem to be recorded; an unreadable status raises."""
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    problem: InvalidSpec | None = None
    try:
        spec = parse_run_spec(body.get("spec") or {})
        if problems := problems_of_run(spec):
            problem = InvalidSpec(problems)
    except InvalidSpec as error:
        spec, problem = WorkflowRunSpec(), error
    run = Run(
        key=key,
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        generation=metadata.get("generation", 0),
        created=parse_time(metadata["creationTimestamp"]),
        spec=spec,
        status=parse_status(body.get("status") or {}),
        spec_digest=digest_of(spec),
        deleting="deletionTimestamp" in metadata,
        claimed=RUN_FINALIZER in metadata.get("finalizers", ()),
        finalizers=tuple(name for name in metadata.get("finalizers", ()) if name != RUN_FINALIZER),
        trigger=_trigger_of(metadata),
        marked_revision=labels.get(REVISION_LABEL, ""),
        marked_finished=labels.get(FINISHED_LABEL) == "true",
    )
    return run, problem


def _trigger_of(metadata: Mapping[str, Any]) -> TriggerStatus | None:
    """Return what a trigger made a run of; None for a run that none made."""
    marks = metadata.get("annotations") or {}
    name = marks.get(TRIGGER_LABEL) or (metadata.get("labels") or {}).get(TRIGGER_LABEL)
    if TRIGGER_KEY_ANNOTATION not in marks or not name:
        return None
    event, actor = marks.get(EVENT_ID_ANNOTATION), marks.get(EVENT_ACTOR_ANNOTATION)
    return TriggerStatus(
        name=name[:_MAX_MARK], event_id=event[:_MAX_MARK] if event else None,
        tick=_tick(marks.get(TICK_ANNOTATION)), actor=actor[:MAX_ACTOR] if actor else None,
    )  # fmt: skip


def _tick(mark: str | None) -> datetime | None:
    try:
        return parse_time(mark) if mark else None
    except (ValueError, OverflowError):
        return None  # a mark that somebody else has changed
