# SPDX-License-Identifier: Apache-2.0
"""Stops triggers about events whose runs fail too often in a row (`failureLimit`), as the ticker does those of schedules.

One pass over one Workflow at a time, driven by a keyed queue: when the Workflow changes, and when a run has ended that
changes something, once a second at most. Only the leader does it. There may be thousands of runs of events, so they are
not listed each time: what ends while this process leads is told by the watch, and remembered. They are listed when it
begins to lead, for what has ended before, and once more before a trigger is stopped, for what the watch has missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from kubesaga.api.run import RunPhase
from kubesaga.api.triggers import TICK_ANNOTATION, TIMER_EVENTS, TRIGGER_ID_LABEL, Trigger, TriggerState
from kubesaga.engine.attempt import RunKey
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient
from kubesaga.kube.resources import WORKFLOWS
from kubesaga.triggers.ended import ended_of, ended_runs, warn_of_stop
from kubesaga.triggers.failures import Ended, Streak, enough_of, is_stopped, streak_of
from kubesaga.triggers.names import trigger_id
from kubesaga.triggers.records import patch_of, records_in, write
from kubesaga.triggers.runs import Body, Origin
from kubesaga.triggers.workflows import Preparer, origin_of

_FIELD: Final = "triggers"
"""Where in the status the records are."""
_PAUSE: Final = timedelta(seconds=1)
"""From one pass over a Workflow to the next: as often as its status is written at most."""


@dataclass(slots=True)
class _Heard:
    """What is known of the runs of one trigger: a cache of the record, of the runs that are there, and of those that were."""

    ended: frozenset[Ended] = frozenset()
    listed: bool = False
    """What ended before this process led is in it."""

    @property
    def failing(self) -> bool:
        """Tell whether the last one has failed."""
        return any(run.failed for run in self.ended)

    def add(self, ended: Iterable[Ended]) -> None:
        """Remember more of them."""
        self.ended = enough_of((*self.ended, *ended))


@dataclass(slots=True)
class _Limited:
    """What is known of a Workflow that has such triggers."""

    heard: dict[str, _Heard] = field(default_factory=dict)
    """By the id of the trigger."""
    looked: datetime | None = None
    """When a pass over it came to its end."""


class TriggerLimits:
    """Takes one Workflow at a time; in between it is told of runs (`run_changed`)."""

    def __init__(self, client: KubeClient, now: Callable[[], datetime]) -> None:
        self._client = client
        self._now = now
        self._preparer = Preparer()
        self._limited: dict[RunKey, _Limited] = {}

    def run_changed(self, body: Body) -> RunKey | None:
        """Take in that a run has changed; return the Workflow that is to be looked at, because it ended and that makes a difference."""
        metadata = body["metadata"]
        name = ((body.get("spec") or {}).get("workflowRef") or {}).get("name")
        trigger = (metadata.get("labels") or {}).get(TRIGGER_ID_LABEL)
        if not name or trigger is None or TICK_ANNOTATION in (metadata.get("annotations") or {}):
            return None
        key = RunKey(namespace=metadata["namespace"], name=name)
        limited, ended = self._limited.get(key), ended_of(body)
        heard = limited.heard.get(trigger) if limited is not None else None
        if heard is None or ended is None:
            return None
        before, was_failing = heard.ended, heard.failing
        heard.add([ended])
        return key if heard.ended != before and (was_failing or heard.failing) else None

    async def process(self, key: RunKey) -> datetime | None:
        """See to the triggers of a Workflow; return when to look again. Raises ApiError: then the pass is to be repeated."""
        limited, now = self._limited.get(key), self._now()
        if limited is not None and limited.looked is not None and timedelta() <= now - limited.looked < _PAUSE:
            return limited.looked + _PAUSE
        try:
            body = await self._client.get(WORKFLOWS, key.namespace, key.name)
        except errors.NotFound:
            self._limited.pop(key, None)
            return None
        if "deletionTimestamp" in body["metadata"] or not _concerns(body):
            self._limited.pop(key, None)
            return None
        prepared = self._preparer.prepared(body)
        if prepared is None:
            return None  # its triggers start nothing, and what is recorded of them stays until it can be read
        triggers = [trigger for trigger in prepared.spec.triggers if _is_limited(trigger)]
        if not await self._pass(key, body, triggers):
            return self._now()
        return None

    async def _pass(self, key: RunKey, body: Body, triggers: list[Trigger]) -> bool:
        """See to each trigger; what one cannot do now holds up none of the others. False: look again."""
        origin, generation = origin_of(body), body["metadata"].get("generation", 0)
        status = body.get("status") or {}
        known, failures = records_in(status, _FIELD, TriggerState), list[errors.ApiError]()
        limited = self._remember(key, origin, triggers)
        records: dict[str, TriggerState] = {}
        for trigger in triggers:
            before = known.get(trigger.name)
            heard = limited.heard[trigger_id(origin.uid, trigger.name)]
            try:
                records[trigger.name] = await self._see_to(origin, trigger, before, heard, generation)
            except errors.ApiError as error:
                failures.append(error)
                if before is not None:
                    records[trigger.name] = before
        if not await write(self._client, body, patch_of(status, _FIELD, records)):
            return False
        if failures:
            raise failures[0]
        limited.looked = self._now()
        return True

    def _remember(self, key: RunKey, origin: Origin, triggers: Iterable[Trigger]) -> _Limited:
        """Listen from now on to the runs of these triggers alone."""
        limited = self._limited.setdefault(key, _Limited())
        ids = [trigger_id(origin.uid, trigger.name) for trigger in triggers]
        limited.heard = {each: limited.heard.get(each) or _Heard() for each in ids}
        return limited

    async def _see_to(
        self, origin: Origin, trigger: Trigger, before: TriggerState | None, heard: _Heard, generation: int
    ) -> TriggerState:
        """Return the record of one trigger."""
        if before is not None and is_stopped(before, generation):
            return before
        if before is not None:
            heard.add(Ended(phase=RunPhase.FAILED, completed=moment) for moment in before.failed or ())
        fresh = before is None or before.counted_from is None or before.stopped_generation is not None
        if not fresh and not heard.listed:
            await self._list(origin, trigger, heard)
        streak = self._streak(trigger, before, heard, generation)
        if streak.stopped is not None:
            await self._list(origin, trigger, heard)
            streak = self._streak(trigger, before, heard, generation)
        if streak.stopped is not None:
            warn_of_stop(origin, trigger, streak)
        heard.listed = True
        if before is not None and not fresh and not (streak.failed or before.failed):
            return before  # another success is not worth a write
        return streak.recorded(TriggerState())

    async def _list(self, origin: Origin, trigger: Trigger, heard: _Heard) -> None:
        heard.add(await ended_runs(self._client, origin, trigger))

    def _streak(self, trigger: Trigger, before: TriggerState | None, heard: _Heard, generation: int) -> Streak:
        return streak_of(trigger, before, heard.ended, generation=generation, now=self._now())


# --- the Workflow on the wire ---------------------------------------------------------------------------------------


def _concerns(body: Body) -> bool:
    """Tell whether there is such a trigger, or the record of one that is to go."""
    triggers = (body.get("spec") or {}).get("triggers") or ()
    limited = (
        "failureLimit" in each and "schedule" not in each and each.get("event") not in TIMER_EVENTS for each in triggers
    )
    return any(limited) or _FIELD in (body.get("status") or {})


def _is_limited(trigger: Trigger) -> bool:
    return trigger.failure_limit is not None and not trigger.timed
