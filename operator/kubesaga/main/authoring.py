# SPDX-License-Identifier: Apache-2.0
"""What people write down, Workflows, Activities and WorkflowEventSources: checked when they change; and what the clock and the cluster's objects start."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any

from kubesaga.api.triggers import TICK_ANNOTATION
from kubesaga.controller.authoring.activities import Activities, ActivityReconciler
from kubesaga.controller.authoring.awaited_events import AwaitedEvents
from kubesaga.controller.authoring.event_sources import EventSourceReconciler
from kubesaga.controller.authoring.event_types import EventTypes
from kubesaga.controller.authoring.workflows import WorkflowReconciler
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.controller.queue import Queue
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.kube.client import KubeClient
from kubesaga.main.execution import Base
from kubesaga.triggers.objects.watches import ObjectWatches
from kubesaga.triggers.ticker import Ticker
from kubesaga.triggers.trigger_limits import TriggerLimits


class Authoring:
    """A queue for each kind, one for schedules, one for what stops triggers about events, and what feeds them."""

    def __init__(
        self,
        base: Base,
        client: KubeClient,
        definitions: Definitions,
        activities: Activities,
        evaluator: Evaluator,
        limits: LiveLimits,
        records: KubeRecords,
        objects: ObjectWatches,
    ) -> None:
        """`client` is the leader's: it writes nothing any more once the Lease is lost."""
        clock = base.clock
        self._definitions = definitions
        self._shared = activities.shared
        self._checker = ActivityReconciler(client, activities, evaluator, limits, clock)
        self._types = EventTypes(client)
        self._awaited = AwaitedEvents(definitions, records.named_revisions, clock)
        workflows = WorkflowReconciler(client, definitions, limits, self._types, self._awaited, clock)
        self._workflows = Queue(workflows.process, clock, workers=4, jitter=random.random)
        self._activities = Queue(self._checker.process, clock, workers=2, jitter=random.random)
        sources = EventSourceReconciler(client, evaluator, clock, objects, self._source_looked_at)
        self._sources = Queue(sources.process, clock, workers=2, jitter=random.random)
        self._objects = objects
        objects.on_change(self._sources.add)
        ticker = Ticker(client, evaluator, clock.now, observe=base.metrics.on_tick)
        self._ticking = Queue(ticker.process, clock, workers=2, jitter=random.random)
        self._trigger_limits = TriggerLimits(client, clock.now)
        self._limiting = Queue(self._trigger_limits.process, clock, workers=1, jitter=random.random)

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return what is to run while this process leads."""
        queues = (self._workflows, self._activities, self._sources, self._ticking, self._limiting)
        return [*(queue.run() for queue in queues), self._objects.run()]

    def workflow_changed(self, key: RunKey) -> None:
        """Look at a Workflow, and at its triggers."""
        self._workflows.add(key)
        self._ticking.add(key)
        self._limiting.add(key)

    def run_changed(self, body: dict[str, Any]) -> None:
        """Look at the trigger that made a run, once that has finished: it may have failed once too often.

        And at the Workflow of a run that works from a revision which was not known to be in use.
        """
        if (workflow := self._awaited.run_changed(body)) is not None:
            self._workflows.add(workflow)
        if (workflow := self._trigger_limits.run_changed(body)) is not None:
            self._limiting.add(workflow)
        made_by_a_tick = TICK_ANNOTATION in (body["metadata"].get("annotations") or {})
        name = ((body.get("spec") or {}).get("workflowRef") or {}).get("name")
        if made_by_a_tick and name and (body.get("status") or {}).get("completionTime"):
            self._ticking.add(RunKey(namespace=body["metadata"]["namespace"], name=name))

    def event_source_changed(self, key: RunKey) -> None:
        """Look at a WorkflowEventSource."""
        self._sources.add(key)

    def _source_looked_at(self, key: RunKey, body: dict[str, Any] | None) -> None:
        for user in self._types.changed(key, body):
            self._workflows.add(user)

    def activity_changed(self, key: RunKey, body: dict[str, Any], *, gone: bool) -> None:
        """Look at an Activity and at all that may use it: whether its ids are theirs, the look itself finds out."""
        if not self._checker.changed(key, body, gone=gone):
            return
        self._activities.add(key)
        for queue, users in ((self._workflows, self._definitions.users), (self._activities, self._checker.users)):
            for user in users:
                if key.namespace in (user.namespace, self._shared):
                    queue.add(user)
