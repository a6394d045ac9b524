# SPDX-License-Identifier: Apache-2.0
"""Carries schedules out: at each tick its run, in the Workflow's status how far it has come (S35-S38).

One pass over one Workflow at a time, driven by a keyed queue: when the Workflow changes, and when the next tick is due
(what `process` returns), so that a thousand schedules are a thousand entries of one timer wheel. Only the leader does it.
The runs of a tick are made before the status says so: a pass that dies in between is repeated and finds their names taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from kubesaga.api.fields import format_time, parse_time
from kubesaga.api.names import FINISHED_LABEL
from kubesaga.api.run import RunPhase
from kubesaga.api.triggers import TRIGGER_ID_LABEL, ConcurrencyPolicy, ScheduleStatus, Trigger
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.validation.triggers import trigger_schedule
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient, Selection
from kubesaga.kube.resources import WORKFLOW_RUNS, WORKFLOWS
from kubesaga.triggers.ended import ended_runs, warn_of_stop
from kubesaga.triggers.failures import Ended, Streak, is_stopped, streak_of
from kubesaga.triggers.matching import Broken, Matcher, NoMatch
from kubesaga.triggers.names import trigger_id
from kubesaga.triggers.records import patch_of, records_in, write
from kubesaga.triggers.runs import Body, Origin, is_same, run_of_tick, tick_event
from kubesaga.triggers.schedules import LeaveOut, LiveRun, Plan, decide, plan
from kubesaga.triggers.workflows import Preparer, origin_of, readiness

_log = logging.getLogger("kubesaga.workflow_engine")

STARTED: Final = "started"
LEFT_OUT: Final = "left_out"
FAILED: Final = "failed"
"""What became of a tick, for whoever counts."""

_NOT_YET: Final = timedelta(seconds=30)
"""When to look again at a Workflow that nobody has checked yet: the check itself brings it back sooner."""
_FINAL: Final = frozenset(str(phase) for phase in RunPhase if phase.finished)
_RECORD: Final = ("schedules", "lastScheduleTime", "nextScheduleTime")


class Ticker:
    """Takes one Workflow at a time."""

    def __init__(
        self,
        client: KubeClient,
        evaluator: Evaluator,
        now: Callable[[], datetime],
        *,
        observe: Callable[[str], None] = lambda _became: None,
    ) -> None:
        self._client = client
        self._evaluator = evaluator
        self._now = now
        self._observe = observe
        self._preparer = Preparer()

    async def process(self, key: RunKey) -> datetime | None:
        """See to the ticks that are due; return when the next one is. Raises ApiError: then the pass is to be repeated."""
        try:
            body = await self._client.get(WORKFLOWS, key.namespace, key.name)
        except errors.NotFound:
            return None
        old = body.get("status") or {}
        if "deletionTimestamp" in body["metadata"] or not _concerns(body, old):
            return None
        ready = readiness(body)
        if ready is False:
            return None  # nothing invalid ever starts; what is missed meanwhile is caught up with
        prepared = self._preparer.prepared(body) if ready else None
        if prepared is None:
            return self._now() + _NOT_YET
        timed = [matcher for matcher in prepared.matchers if matcher.trigger.timed]
        return await self._pass(body, old, prepared.spec, timed)

    async def _pass(
        self, body: Body, old: Mapping[str, Any], spec: WorkflowSpec, matchers: list[Matcher]
    ) -> datetime | None:
        """See to each schedule; what one cannot do now holds up none of the others."""
        known, failures = records_in(old, "schedules", ScheduleStatus), list[errors.ApiError]()
        records: dict[str, ScheduleStatus] = {}
        for matcher in matchers:
            before = known.get(matcher.trigger.name)
            try:
                records[matcher.trigger.name] = await self._see_to(body, bool(spec.suspend), matcher, before)
            except errors.ApiError as error:
                failures.append(error)
                if before is not None:
                    records[matcher.trigger.name] = before
        if not await self._record(body, old, records):
            return self._now()
        if failures:
            raise failures[0]
        return min((record.next for record in records.values() if record.next is not None), default=None)

    async def _see_to(
        self, body: Body, suspended: bool, matcher: Matcher, before: ScheduleStatus | None
    ) -> ScheduleStatus:
        """See to one schedule; return its record."""
        origin, trigger = origin_of(body), matcher.trigger
        streak = await self._streak(origin, trigger, before, body["metadata"].get("generation", 0))
        if before is not None and before.stopped_generation is not None and streak.stopped is None:
            before = before.model_copy(update={"message": None})  # that it has stopped is no longer true
        planned = plan(
            trigger, trigger_schedule(trigger), before, now=self._now(), since=_since(body, self._now()),
            suspended=suspended or streak.stopped is not None,
        )  # fmt: skip
        return streak.recorded(await self._carry_out(origin, matcher, planned))

    async def _streak(self, origin: Origin, trigger: Trigger, before: ScheduleStatus | None, generation: int) -> Streak:
        """Return the failures in a row of a schedule that has a limit of them."""
        ended: list[Ended] = []
        if trigger.failure_limit is not None and not is_stopped(before, generation):
            ended = await ended_runs(self._client, origin, trigger)
        streak = streak_of(trigger, before, ended, generation=generation, now=self._now())
        if streak.stopped is not None and not is_stopped(before, generation):
            warn_of_stop(origin, trigger, streak)
        return streak

    async def _carry_out(self, origin: Origin, matcher: Matcher, planned: Plan) -> ScheduleStatus:
        started: list[datetime] = []
        notes: list[str] = []
        for tick in planned.ticks:
            note = await self._tick(origin, matcher, tick)
            if note is None:
                started.append(tick)
            elif note:
                notes.append(f"{format_time(tick)}: {note}")
        return planned.recorded(started, notes)

    async def _tick(self, origin: Origin, matcher: Matcher, tick: datetime) -> str | None:
        """Make the run of a tick; None: it is there. Else why there is none, "" where the trigger's conditions say so."""
        trigger = matcher.trigger
        event = tick_event(origin, trigger, trigger_schedule(trigger), tick)
        answer = await asyncio.to_thread(matcher.tick, event, self._evaluator)
        if isinstance(answer, NoMatch):
            self._observe(LEFT_OUT)
            return ""
        if isinstance(answer, Broken):
            return self._failed(origin, trigger, "; ".join(str(problem) for problem in answer.problems))
        run = run_of_tick(origin, trigger, tick, event, answer.inputs)
        decision = decide(trigger.concurrency_policy, await self._live(origin, trigger), run["metadata"]["name"])
        if isinstance(decision, LeaveOut):
            self._observe(LEFT_OUT)
            return f"left out, because {decision.because_of} was live (concurrencyPolicy: Forbid)."
        for name in decision.cancel:
            await self._cancel(origin.namespace, name)
        return await self._create(origin, trigger, run)

    async def _create(self, origin: Origin, trigger: Trigger, run: Body) -> str | None:
        name = run["metadata"]["name"]
        try:
            await self._client.create(WORKFLOW_RUNS, origin.namespace, run)
        except errors.AlreadyExists:
            return await self._taken(origin, trigger, run)
        except errors.Invalid as error:
            return self._failed(origin, trigger, f"the API server refuses its run: {error.message}")
        self._observe(STARTED)
        _log.info("WorkflowRun %s/%s was made for a tick of %s", origin.namespace, name, trigger.name)
        return None

    async def _taken(self, origin: Origin, trigger: Trigger, run: Body) -> str | None:
        """Look at the run that bears the name: ours of before, or somebody else's, which is left alone (design law 4)."""
        name = run["metadata"]["name"]
        try:
            found = await self._client.get(WORKFLOW_RUNS, origin.namespace, name, metadata_only=True)
        except errors.NotFound:
            return None
        if is_same(found, run):
            return None
        return self._failed(origin, trigger, f"a WorkflowRun {name} exists that no tick made; it was left alone")

    def _failed(self, origin: Origin, trigger: Trigger, told: str) -> str:
        self._observe(FAILED)
        _log.warning(
            "a tick of %s of Workflow %s/%s gets no run: %s", trigger.name, origin.namespace, origin.name, told
        )
        return f"no run: {told}."

    async def _live(self, origin: Origin, trigger: Trigger) -> list[LiveRun]:
        """Return the live runs of a trigger, oldest first, where they make a difference. From the API server: a memory may lag."""
        if trigger.concurrency_policy in (None, ConcurrencyPolicy.ALLOW):
            return []
        labels = f"{TRIGGER_ID_LABEL}={trigger_id(origin.uid, trigger.name)},{FINISHED_LABEL}!=true"
        listing = await self._client.list(WORKFLOW_RUNS, Selection(namespace=origin.namespace, labels=labels))
        found = sorted(listing.items, key=lambda body: str(body["metadata"].get("creationTimestamp", "")))
        return [
            LiveRun(name=body["metadata"]["name"], ending=_is_ending(body)) for body in found if not _is_finished(body)
        ]

    async def _cancel(self, namespace: str, name: str) -> None:
        try:
            await self._client.merge_patch(WORKFLOW_RUNS, namespace, name, {"spec": {"shutdown": "Cancel"}})
        except errors.NotFound:
            return
        _log.info("WorkflowRun %s/%s is cancelled: the next tick of its schedule replaces it", namespace, name)

    async def _record(self, body: Body, old: Mapping[str, Any], records: Mapping[str, ScheduleStatus]) -> bool:
        """Write how far the schedules have come; False: the Workflow has changed meanwhile, so look again."""
        return await write(self._client, body, _patch(old, records))


# --- the Workflow on the wire ---------------------------------------------------------------------------------------


def _concerns(body: Body, status: Mapping[str, Any]) -> bool:
    """Tell whether there is a schedule, or the record of one that is to go."""
    return bool((body.get("spec") or {}).get("triggers")) or any(name in status for name in _RECORD)


def _since(body: Body, now: datetime) -> datetime:
    """Return from when the ticks of a schedule count that nothing is recorded of: a new Workflow's from its creation on."""
    metadata = body["metadata"]
    return parse_time(metadata["creationTimestamp"]) if metadata.get("generation") == 1 else now


def _patch(old: Mapping[str, Any], records: Mapping[str, ScheduleStatus]) -> dict[str, Any]:
    """Return the merge patch of a Workflow's status: changed records, null for what is gone; empty if nothing changed."""
    last = max((record.last for record in records.values() if record.last), default=None)
    next_ = min((record.next for record in records.values() if record.next), default=None)
    patch = patch_of(old, "schedules", records)
    for field, moment in (("lastScheduleTime", last), ("nextScheduleTime", next_)):
        told = format_time(moment) if moment is not None else None
        if old.get(field) != told:
            patch[field] = told
    return patch


def _is_finished(body: Body) -> bool:
    return (body.get("status") or {}).get("phase") in _FINAL


def _is_ending(body: Body) -> bool:
    return bool((body.get("spec") or {}).get("shutdown")) or "deletionTimestamp" in body["metadata"]
