# SPDX-License-Identifier: Apache-2.0
"""A small world around the real shell: an API server, pods and handlers that fail, an operator that dies and comes back.

One seed plays one history: random passes, ends of attempts, crashes before and after every write and deed, lost answers,
conflicts, stale and lost watch events, users who edit, suspend, terminate and delete. Then the faults cease and the world
must come to rest. `violations` reads the recorded history.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from kubesaga.api.names import Deed
from kubesaga.api.reasons import Reason
from kubesaga.controller.actuator import Actuator
from kubesaga.controller.announcer import Announcer
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.delivering.listeners import Listeners
from kubesaga.controller.delivering.mailbox import Mailbox
from kubesaga.controller.guards.all import Guards
from kubesaga.controller.kube_actions import KubeActions
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.controller.loader import Loader, run_of
from kubesaga.controller.memory import MemoryRevisions
from kubesaga.controller.reconciler import Reconciler
from kubesaga.engine.admission.rules import OperatorLimits
from kubesaga.engine.admission.standing import standing_of
from kubesaga.engine.attempt import Attempt, AttemptId, Failed, Observation, Outcome, RunKey, Succeeded
from kubesaga.engine.definition import Kind
from kubesaga.engine.snapshot import Limits
from kubesaga.kube.errors import ServerUnavailable
from kubesaga.kube.resources import WORKFLOW_ACTIONS, Resource
from kubesaga.telemetry.metrics import Metrics
from kubesaga.testing.api_server import FakeApiServer, merged
from kubesaga.testing.broken import Broken, EarlyReconciler, ReleasingReconciler, StaleRecords
from kubesaga.testing.clock import FakeClock
from kubesaga.testing.executors import FakeExecutor
from kubesaga.testing.paths import PathEvaluator
from kubesaga.testing.unguarded import open_ledger
from kubesaga.testing.violations import check_release, check_start, is_finished

WORKFLOW: dict[str, Any] = {
    "timeout": "1h",
    "errorHandling": {"activityError": {"retry": {"maxAttempts": 2, "backoff": {"initial": "5s"}}}},
    "activities": [
        {"name": "reserve", "handler": "reserve", "timeout": "5m", "compensation": {"handler": "unreserve"}},
        {"name": "pack", "pod": {"image": "x"}, "timeout": "10m", "compensation": {"pod": {"image": "x"}}},
        {
            "name": "label", "pod": {"image": "x"}, "dependsOn": ["reserve"],
            "errorHandling": {"fallback": {"handler": "print"}}, "compensation": {"handler": "unlabel"},
        },
        {"name": "paid", "waitFor": {"timeout": "20m"}, "dependsOn": ["reserve"]},
        {"name": "rest", "sleep": {"for": "2m"}, "dependsOn": ["pack"]},
        {"name": "send", "pod": {"image": "x"}, "dependsOn": ["rest", "label", "paid"]},
    ],
    "compensation": {"timeout": "30m"},
    "finally": [{"name": "audit", "handler": "audit"}],
}  # fmt: skip
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "reserve": (), "pack": ("reserve",), "label": ("reserve",), "send": ("pack", "label", "rest", "paid"), "audit": (),
}  # fmt: skip
_METADATA: Final = {"namespace": "shop", "name": "order"}
_PART: Final = {Deed.UNDO: "compensation", Deed.FALLBACK: "fallback"}


class Crash(BaseException):
    """The operator dies here."""


class World:
    """One history."""

    def __init__(
        self, chance: random.Random, *, broken: str = "", runs: int = 2, limits: OperatorLimits | None = None,
        workflow: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """`limits`: the operator's. `workflow`: what its spec has besides WORKFLOW."""
        self.chance = chance
        self.limits = limits
        self.workflow = {**WORKFLOW, **(workflow or {})}
        self.broken = broken
        self.faults: Counter[str] = Counter()
        self.found: list[str] = []
        self.calm = False
        self.clock = FakeClock()
        self.api = FakeApiServer(self.clock, self._fault)
        self.actions_api = FakeApiServer(self.clock, self._fault)
        self.done: set[AttemptId] = set()
        """The attempts that really had their effect."""
        self.pods = _WatchedExecutor(self, survives=True)
        self.handlers = _WatchedExecutor(self, survives=False)
        self.keys = [RunKey(namespace="shop", name=f"order-{number}") for number in range(runs)]
        self._lives = 0
        self._pending: set[RunKey] = set()
        self._wakes: dict[RunKey, datetime] = {}
        self._revisions = MemoryRevisions()
        for key in self.keys:
            self.api.create(key, f"uid-{key.name}", {"workflowRef": {"name": "order"}})
        self._boot()

    def stored(self, key: RunKey) -> dict[str, Any]:
        """Return the status of a run as it is stored now."""
        status: dict[str, Any] = (self.api.objects.get(key) or {}).get("status") or {}
        return status

    def deed(self, run: RunKey, attempt: AttemptId) -> dict[str, Any]:
        """Return what is stored now of the deed that an attempt is for."""
        activity: dict[str, Any] = self.stored(run).get("activities", {}).get(attempt.activity, {})
        return activity if attempt.deed is Deed.DO else activity.get(_PART[attempt.deed]) or {}

    async def live(self) -> None:
        """Play the history to its end."""
        for _ in range(60):
            await self._step()
        self.calm = True
        for key in self.keys:
            self.api.edit(key, suspend=False)
            self.wake(key)
        for _ in range(120):
            if self._at_rest():
                return
            self._pending.update(self.keys)
            for key in self.keys:
                if self.stored(key).get("phase") == "CompensationFailed" and self._unanswered() == 0:
                    self._command(key, "Retry")
            for attempt in [*self.pods.running(), *self.handlers.running()]:
                self._end(attempt)
            self._perhaps_signal()
            self.clock.advance(60)
            for key in sorted(self._pending):
                await self._process(key)

    def _perhaps_signal(self) -> None:
        """Now and then somebody sends what is waited for; else the time of the wait will be over."""
        for key in self.keys:
            waits = self.stored(key).get("activities", {}).get("paid", {}).get("reason") == "AwaitingSignal"
            if waits and self.chance.random() < 0.1:
                self._command(key, "Signal")

    def _unanswered(self) -> int:
        return sum(1 for body in self.actions_api.objects.values() if not (body.get("status") or {}).get("phase"))

    def _at_rest(self) -> bool:
        held = any(seen.held for _, seen in self.pods.attempts.values())
        return not held and not self._unanswered() and all(is_finished(self.api.objects.get(key)) for key in self.keys)

    async def _step(self) -> None:
        roll = self.chance.random()
        due = {key for key, when in self._wakes.items() if when <= self.clock.now()}
        self._pending |= due
        if roll < 0.55 and self._pending:
            await self._process(self.chance.choice(sorted(self._pending)))
        elif roll < 0.75:
            running = [*self.pods.running(), *self.handlers.running()]
            if running:
                self._end(self.chance.choice(running))
        elif roll < 0.85:
            self._old_news()
        elif roll < 0.95:
            self.clock.advance(self.chance.choice([1, 10, 100, 400]))
        else:
            self._meddle()

    def _end(self, attempt: AttemptId) -> None:
        outcome: Outcome = Succeeded(output={"n": 1})
        if not self.calm and self.chance.random() < (0.6 if attempt.deed is Deed.UNDO else 0.2):
            outcome = Failed(reason=Reason.CONTAINER_FAILED, message="exit code 1")
        if isinstance(outcome, Succeeded):
            self.done.add(attempt)
        executor = self.pods if attempt in self.pods.attempts else self.handlers
        executor.end(attempt, outcome)

    def perhaps_done(self, attempt: AttemptId) -> None:
        """An attempt is cut off: it may have had its effect."""
        if self.chance.random() < 0.5:
            self.done.add(attempt)

    def _old_news(self) -> None:
        """The watch tells of something old, again, or a user's pod clean-up removes pods that nobody holds."""
        if self.api.history and self.chance.random() < 0.7:
            body = self.chance.choice(self.api.history[-12:])
            self.faults["stale read"] += 1
            self.tell(body)
        for attempt, (_, seen) in list(self.pods.attempts.items()):
            if not seen.held:
                del self.pods.attempts[attempt]

    def _meddle(self) -> None:
        key = self.chance.choice(self.keys)
        if self.stored(key).get("phase") == "CompensationFailed":
            self._command(key, "Retry")
        match self.chance.randrange(20):
            case 0:
                self.api.edit(key, shutdown="Terminate")
            case 1:
                self.api.delete(key)
            case 2 | 3:
                self.api.edit(key, suspend=True)
            case 4:
                self.api.edit(key, shutdown="Cancel")
            case 5:
                self.api.edit(key, shutdown="Compensate")
            case 6 | 7 | 8 | 9 | 10 | 11 | 12:
                self._command(key, self.chance.choice(["Retry", "Skip", "Abandon", "Compensate", *["Signal"] * 4]))
            case _:
                self.api.edit(key, {"labels": {"touched": str(self.chance.random())}}, suspend=False)
        self.wake(key)

    def _command(self, key: RunKey, verb: str) -> None:
        """Somebody creates a WorkflowAction; the watch tells of it, or a later list does."""
        number = len(self.actions_api.objects)
        signal = {"activity": "paid", "value": f"uid-action-{number}"}
        named = {"Skip": {"activity": self.chance.choice(list(NEEDS))}, "Signal": signal}.get(verb, {})
        spec = {"targetRef": {"name": key.name}, "action": verb, **named}
        action = RunKey(namespace=key.namespace, name=f"action-{number}")
        self.actions_api.create(action, f"uid-{action.name}", spec)
        self.actions.saw(action, self.actions_api.objects[action])
        self._pending.add(key)

    def tell(self, body: dict[str, Any]) -> None:
        """Deliver a watch event."""
        key = RunKey(namespace=body["metadata"]["namespace"], name=body["metadata"]["name"])
        if self.records.saw(key, body):
            self._pending.add(key)

    def wake(self, key: RunKey) -> None:
        """An executor or the watch has news; now and then it gets lost."""
        if self.calm or self.chance.random() < 0.9:
            self._pending.add(key)
            body = self.api.objects.get(key)
            if body is not None:
                self.tell({**body, "metadata": dict(body["metadata"])})

    async def _process(self, key: RunKey) -> None:
        self._pending.discard(key)
        self._wakes.pop(key, None)
        try:
            wake_at = await self.reconciler.process(key)
        except Crash:
            self.faults["crash"] += 1
            self._boot()
        except Exception:  # noqa: BLE001 - as in the queue: the pass is repeated
            self._pending.add(key)
        else:
            if wake_at is not None:
                self._wakes[key] = wake_at

    def _boot(self) -> None:
        """A new operator process: it lists the runs, and knows nothing else."""
        self._lives += 1
        for attempt in self.handlers.running():
            self.perhaps_done(attempt)
        self.handlers.crash()
        self.actions = KubeActions(_Both(self), now=self.clock.now, wake=self._pending.add, look=lambda _key: None)  # type: ignore[arg-type]  # it has what actions call
        for action, body in self.actions_api.objects.items():
            self.actions.saw(action, merged(body, {}))
        kind = StaleRecords if self.broken == Broken.STALE else KubeRecords
        self.records = kind(self.api)  # type: ignore[arg-type]  # it has what records call
        self.ledger = open_ledger(self._pending.add, self.limits)
        self.editing = LiveLimits(self.ledger, Guards(None, self.clock, on_change=lambda _key: None), self.clock)
        executors: dict[Kind, Any] = {Kind.POD: self.pods, Kind.HANDLER: self.handlers}
        definitions = Definitions(self._read_workflow, self._revisions, PathEvaluator())
        mailbox = Mailbox(self.actions, self._pending.add)
        loader = Loader(
            self.records, definitions, executors, mailbox, namespace_ending=_never, worker=f"life-{self._lives}",
            limits=Limits(stop_timeout=timedelta(minutes=2), max_interruptions=100),
            summon=Listeners(self.api, self.records, definitions).of,  # type: ignore[arg-type]  # it has what they call
        )  # fmt: skip
        reconciler = {Broken.EARLY: EarlyReconciler, Broken.RELEASE: ReleasingReconciler}.get(self.broken, Reconciler)
        self.reconciler = reconciler(
            loader, self.records, Actuator(executors, mailbox), Announcer(_metrics()),
            evaluator=PathEvaluator(), ledger=self.ledger, clock=self.clock,
        )  # fmt: skip
        self.editing.workflow({"metadata": _METADATA, "spec": self.workflow})
        runs = [run_of(key, merged(body, {}))[0] for key, body in self.api.objects.items()]
        standings = [standing for run in runs if (standing := standing_of(run)) is not None]
        self.ledger.restore(standings, self.clock.now())
        for body in list(self.api.objects.values()):
            self.tell({**body, "metadata": dict(body["metadata"])})

    def change_workflow(self, **spec: Any) -> None:
        """Somebody edits the Workflow; the operator is told."""
        self.workflow |= spec
        self.editing.workflow({"metadata": _METADATA, "spec": self.workflow})

    async def _read_workflow(self, namespace: str, name: str) -> dict[str, Any]:  # noqa: ARG002 - there is only one
        return self.workflow

    def _fault(self, moment: str) -> None:
        """Make a write or a deed fail, now and then, before or after it was carried out."""
        if self.calm or self.chance.random() > 0.06:
            return
        if self.chance.random() < 0.5:
            raise Crash
        self.faults["lost answer" if moment == "after" else "refused"] += 1
        raise ServerUnavailable(0, "Timeout", "no answer", sent=moment == "after")

    def fault(self, moment: str) -> None:
        """The same for the deeds of executors; and someone touches a run between our read and our write."""
        self._fault(moment)
        if not self.calm and self.chance.random() < 0.1:
            self.faults["conflict"] += 1
            self.api.edit(self.chance.choice(self.keys), {"labels": {"touched": str(self.chance.random())}})


class _Both:
    """The API server as WorkflowActions need it: runs and actions."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def get(self, resource: Resource, namespace: str, name: str, *, metadata_only: bool = False) -> Any:  # noqa: ARG002 - see KubeClient
        api = self._world.actions_api if resource is WORKFLOW_ACTIONS else self._world.api
        return await api.get(resource, namespace, name)

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], *, subresource: str | None = None
    ) -> Any:
        return await self._world.actions_api.merge_patch(resource, namespace, name, body, subresource=subresource)


class _WatchedExecutor(FakeExecutor):
    """An executor that fails like a network, and checks each deed against the status that is stored at that moment."""

    def __init__(self, world: World, *, survives: bool) -> None:
        super().__init__(wake=world.wake, survives=survives)
        self.world = world
        self.starts: Counter[AttemptId] = Counter()

    def observe(self, run: RunKey, run_uid: str) -> Mapping[AttemptId, Observation]:
        """Pods are seen through a watch, which may lag."""
        seen = super().observe(run, run_uid)
        lags = self.survives and not self.world.calm and self.world.chance.random() < 0.05
        return {} if lags else seen

    async def start(self, attempt: Attempt) -> None:
        self.world.fault("before")
        if self.world.broken == Broken.NAMELESS or attempt.id not in self.attempts:
            self.starts[attempt.id] += 1
            self._check_start(attempt)
        await super().start(attempt)
        self.world.fault("after")

    async def stop(self, attempt: AttemptId, run: RunKey, reason: str) -> None:
        self.world.fault("before")
        if attempt in self.running():
            self.world.perhaps_done(attempt)
        await super().stop(attempt, run, reason)
        self.world.fault("after")

    async def release(self, attempt: AttemptId, run: RunKey) -> None:
        self.world.fault("before")
        self.world.found += check_release(self.world, attempt, run)
        await super().release(attempt, run)
        self.world.fault("after")

    def _check_start(self, attempt: Attempt) -> None:
        self.world.found += check_start(self.world, attempt, pod=self.survives, starts=self.starts[attempt.id])


@cache
def _metrics() -> Metrics:
    """One registry for all worlds: it is slow to make, and nobody reads it."""
    return Metrics("test")


async def _never(_: str) -> bool:
    """Tell that the namespace is not being deleted."""
    return False
