# SPDX-License-Identifier: Apache-2.0
"""What has been kept long enough is deleted, and nothing else: least of all what somebody is about to work from."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.kube.server import ApiServer, until

from kubesaga.api.canonical import revision_name
from kubesaga.api.fields import format_time
from kubesaga.api.names import FINISHED_LABEL, PHASE_LABEL, REVISION_LABEL, RUN_FINALIZER, WORKFLOW_LABEL
from kubesaga.api.triggers import DEDUPE_ANNOTATION, MESSENGER_LABEL
from kubesaga.controller.actuator import Actuator
from kubesaga.controller.announcer import Announcer
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.delivering.mailbox import Mailbox
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.loader import Loader, run_of
from kubesaga.controller.marks import begun_labels, finished_marks, finished_of
from kubesaga.controller.pins import Pins
from kubesaga.controller.reconciler import Reconciler
from kubesaga.controller.retention import PER_SECOND, Retention
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.definition import Kind
from kubesaga.engine.retention import Why
from kubesaga.engine.snapshot import Limits
from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.errors import ApiError, NotFound
from kubesaga.kube.resources import WORKFLOWS
from kubesaga.kube.revisions import Revisions
from kubesaga.kube.transport import Request
from kubesaga.testing.clock import FakeClock
from kubesaga.testing.executors import FakeExecutor
from kubesaga.testing.no_actions import NoActions
from kubesaga.testing.paths import PathEvaluator
from kubesaga.testing.unguarded import open_ledger

SPEC: dict[str, Any] = {"activities": [{"name": "a", "handler": "x", "when": "false"}]}
"""A Workflow whose runs are over as soon as they begin."""
LONGER: dict[str, Any] = {"activities": [{"name": "a", "handler": "x"}]}
"""One whose runs are over after a second pass."""


class SelfWinding(FakeClock):
    """Time passes for whoever sleeps."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)


class Shop:
    """An operator's retention and its passes, in one namespace of a server on loopback."""

    def __init__(self, server: ApiServer, client: KubeClient, clock: FakeClock, interval: float = 60) -> None:
        self.server, self.client, self.clock = server, client, clock
        self.records = KubeRecords(client)
        self.revisions = Revisions(client)
        self.definitions = Definitions(self._workflow, self.revisions, PathEvaluator())
        self.deleted: list[Why | None] = []
        self.retention = Retention(
            client, self.records, self.definitions, self.revisions, namespaces=("shop",),
            deleted=self.deleted.append, clock=clock, interval=interval,
        )  # fmt: skip
        self.executor = FakeExecutor()
        loader = Loader(
            self.records, self.definitions, {Kind.HANDLER: self.executor}, Mailbox(NoActions()), namespace_ending=self._stays,
            worker="w", limits=Limits(),
        )  # fmt: skip
        actuator = Actuator({Kind.HANDLER: self.executor}, Mailbox(NoActions()))
        self.reconciler = Reconciler(
            loader, self.records, actuator, Announcer(), evaluator=PathEvaluator(), ledger=open_ledger(), clock=clock
        )  # fmt: skip

    async def _stays(self, _namespace: str) -> bool:
        return False

    async def _workflow(self, namespace: str, name: str) -> dict[str, Any] | None:
        try:
            return (await self.client.get(WORKFLOWS, namespace, name))["spec"]
        except NotFound:
            return None

    async def workflow(self, current: str = "", **spec: Any) -> None:
        """Apply the Workflow `order`."""
        metadata = {"namespace": "shop", "name": "order"}
        status = {"currentRevision": current}
        await self.server.put("workflows", {"metadata": metadata, "spec": {**SPEC, **spec}, "status": status})

    async def run(self, name: str, spec: dict[str, Any] | None = None, **metadata: Any) -> None:
        """Create a run."""
        metadata = {
            "namespace": "shop", "name": name, "creationTimestamp": format_time(self.clock.now()), **metadata
        }  # fmt: skip
        spec = spec or {"workflowRef": {"name": "order"}}
        await self.server.put("workflowruns", {"metadata": metadata, "spec": spec})

    async def passes(self, name: str) -> None:
        """Make passes over a run until it is tidied up; what it starts ends well."""
        key = RunKey(namespace="shop", name=name)
        while FINISHED_LABEL not in self.server.objects["workflowruns", "shop", name]["metadata"].get("labels", {}):
            with contextlib.suppress(ApiError):  # repeated, as by the queue
                await self.reconciler.process(key)
            for attempt in self.executor.running():
                self.executor.end(attempt)

    async def finished(
        self, name: str, phase: str = "Succeeded", spec: dict[str, Any] | None = None, revision: str = "", **change: Any
    ) -> None:
        """Store a run that finished now and was tidied up; `change` is of its metadata."""
        await self.run(name, spec)
        key = RunKey(namespace="shop", name=name)
        body = self.server.objects["workflowruns", "shop", name]
        status = {"phase": phase, "completionTime": format_time(self.clock.now()), "workflowRevision": revision or None}
        body["status"] = {name: value for name, value in status.items() if value}
        marks = {**finished_marks(run_of(key, body)[0]), **change}
        await self.server.put("workflowruns", {**body, "metadata": {**body["metadata"], **marks}})

    async def look(self) -> None:
        await self.retention.look()

    def there(self, plural: str = "workflowruns") -> list[str]:
        """Return the names of what is stored."""
        return sorted(name for kind, _, name in self.server.objects if kind == plural)


@pytest.fixture
def clock() -> FakeClock:
    return SelfWinding()


@pytest.fixture
def shop(server: ApiServer, client: KubeClient, clock: FakeClock) -> Shop:
    return Shop(server, client, clock)


# --- finished runs --------------------------------------------------------------------------------------------------


async def test_a_run_goes_when_its_time_is_over_and_not_before(shop: Shop) -> None:
    await shop.workflow(ttlAfterFinished="1h")
    await shop.finished("first")
    shop.clock.advance(1800)
    await shop.finished("second", "Failed")
    await shop.look()
    assert shop.there() == ["first", "second"]
    shop.clock.advance(1800)
    await shop.look()
    assert (shop.there(), shop.deleted) == (["second"], [Why.TTL])
    request = next(request for request in shop.server.requests if request.method == "DELETE")
    assert request.json["propagationPolicy"] == "Background"
    assert set(request.json["preconditions"]) == {"uid", "resourceVersion"}


async def test_the_oldest_go_beyond_the_limits_each_kind_by_its_own(shop: Shop) -> None:
    await shop.workflow(successfulRunsHistoryLimit=1, failedRunsHistoryLimit=2)
    for number, phase in enumerate(("Succeeded", "Failed", "Compensated", "Cancelled", "Succeeded", "Terminated")):
        await shop.finished(f"run-{number}", phase)
        shop.clock.advance(1)
    await shop.look()
    assert shop.there() == ["run-3", "run-4", "run-5"]
    assert shop.deleted == [Why.HISTORY] * 3


@pytest.mark.parametrize(("before", "after", "there"), [
    pytest.param({"ttlAfterFinished": "1s"}, {}, ["old"], id="what it says now, which is nothing"),
    pytest.param({}, {"ttlAfterFinished": "1s"}, [], id="what it says now, though it did not say so then"),
    pytest.param({}, {"ttlAfterFinished": "now"}, ["old"], id="nothing that cannot be read"),
])  # fmt: skip
async def test_of_what_a_workflow_says_there_counts(
    shop: Shop, before: dict[str, Any], after: dict[str, Any], there: list[str]
) -> None:
    await shop.workflow(**before)
    await shop.finished("old")
    shop.clock.advance(60)
    await shop.workflow(**after)
    await shop.look()
    assert shop.there() == there


async def test_the_runs_of_a_workflow_that_is_gone_go_by_the_revision_of_the_last(shop: Shop) -> None:
    name = await shop.revisions.ensure("shop", "order", {**SPEC, "ttlAfterFinished": "1h"})
    await shop.finished("a", revision=name)
    await shop.finished("never-began", "Failed")
    shop.clock.advance(1)
    await shop.finished("b", revision=name)
    await shop.look()
    assert shop.there() == ["a", "b", "never-began"]
    shop.clock.advance(3600)
    await shop.look()
    assert shop.there() == []


async def test_the_runs_of_a_workflow_that_is_gone_and_its_revision_too_stay(shop: Shop) -> None:
    await shop.finished("a", revision="order-0123456789")
    shop.clock.advance(10**7)
    await shop.look()
    assert shop.there() == ["a"]


async def test_a_run_with_a_spec_of_its_own_goes_by_that(shop: Shop) -> None:
    await shop.finished("short", spec={"workflowSpec": {**SPEC, "ttlAfterFinished": "1m30s"}})
    await shop.finished("long", spec={"workflowSpec": {**SPEC, "ttlAfterFinished": "1h"}})
    await shop.finished("ever", spec={"workflowSpec": SPEC})
    shop.clock.advance(90)
    await shop.look()
    assert shop.there() == ["ever", "long"]


HIDDEN = {FINISHED_LABEL: "true"}


@pytest.mark.parametrize("change", [
    pytest.param({"finalizers": [RUN_FINALIZER]}, id="that is not tidied up"),
    pytest.param({"deletionTimestamp": "2026-01-01T00:00:00Z"}, id="that is being deleted"),
    pytest.param({"labels": {}}, id="without the label of finished ones"),
])  # fmt: skip
async def test_nothing_is_done_to_a_run(shop: Shop, change: dict[str, Any]) -> None:
    await shop.workflow(ttlAfterFinished="1s", successfulRunsHistoryLimit=0)
    await shop.finished("a", **change)
    shop.clock.advance(60)
    before = shop.server.version
    await shop.look()
    assert shop.server.version == before


@pytest.mark.parametrize(
    "status", [{}, {"phase": "Running"}, {"phase": "CompensationFailed"}], ids=["none", "live", "parked"]
)
async def test_a_run_that_only_bears_the_marks_stays_and_is_told_of_once(
    shop: Shop, caplog: pytest.LogCaptureFixture, status: dict[str, Any]
) -> None:
    await shop.workflow(ttlAfterFinished="1s")
    await shop.finished("copied")
    body = shop.server.objects["workflowruns", "shop", "copied"]
    await shop.server.put("workflowruns", {**body, "status": status})
    shop.clock.advance(60)
    for _ in range(2):
        await shop.look()
    assert shop.there() == ["copied"]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "shop/copied bears the label kubesaga.dev/finished and has not finished: the operator does not see it; take the label off"
    ]


@pytest.mark.parametrize("change", [
    pytest.param({"labels": HIDDEN}, id="an older version has tidied up"),
    pytest.param({"annotations": {}}, id="whose annotations were taken off"),
    pytest.param({"labels": {**HIDDEN, PHASE_LABEL: "Running"}}, id="whose label is nonsense"),
])  # fmt: skip
async def test_a_run_is_marked_anew_and_then_goes(shop: Shop, change: dict[str, Any]) -> None:
    await shop.workflow(ttlAfterFinished="1s")
    await shop.finished("a", **change)
    shop.clock.advance(60)
    await shop.look()
    assert shop.there() == ["a"]
    await shop.look()
    assert shop.there() == []


async def test_what_the_marks_say_must_be_what_the_record_says(shop: Shop) -> None:
    await shop.workflow(ttlAfterFinished="1h")
    await shop.finished("a", annotations={"kubesaga.dev/completed-at": "2001-01-01T00:00:00.000Z"})
    await shop.look()
    await shop.look()
    assert shop.there() == ["a"]
    body = shop.server.objects["workflowruns", "shop", "a"]
    assert body["metadata"]["annotations"]["kubesaga.dev/completed-at"] == body["status"]["completionTime"]


@pytest.mark.parametrize("told", [True, False], ids=["the watch has told of", "the watch has not told of"])
async def test_a_run_stays_until_it_is_replayed_by_one_that(shop: Shop, told: bool) -> None:
    await shop.workflow(ttlAfterFinished="1s")
    await shop.finished("source")
    await shop.run("again", {"replayOf": {"run": "source"}})
    replay = shop.server.objects["workflowruns", "shop", "again"]
    if told:
        shop.records.saw(RunKey(namespace="shop", name="again"), replay)
    shop.clock.advance(60)
    await shop.look()
    assert shop.there() == ["again", "source"]
    replay = await shop.server.put(
        "workflowruns", {**replay, "status": {"phase": "Running", "startTime": "2026-11-22T10:00:00.000Z"}}
    )
    shop.records.saw(RunKey(namespace="shop", name="again"), replay)
    await shop.look()
    assert shop.there() == ["again"]


async def test_a_run_that_changed_since_it_was_read_stays(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.workflow(ttlAfterFinished="1s")
    await shop.finished("a")
    shop.clock.advance(60)
    delete = shop.client.delete

    async def touched_first(*where: Any, **how: Any) -> Object:
        await shop.server.put("workflowruns", shop.server.objects["workflowruns", "shop", "a"])
        return await delete(*where, **how)

    monkeypatch.setattr(shop.client, "delete", touched_first)
    await shop.look()
    assert (shop.there(), shop.deleted) == (["a"], [])


async def test_deletions_are_spread_out_and_a_look_ends_when_the_next_is_due(shop: Shop) -> None:
    await shop.workflow(successfulRunsHistoryLimit=0)
    for number in range(30):
        await shop.finished(f"run-{number:02}")
    began, shop.retention._interval = shop.clock.monotonic(), 1.0
    await shop.look()
    assert len(shop.deleted) == PER_SECOND
    assert shop.clock.monotonic() - began == pytest.approx(1)


async def test_a_server_that_refuses_is_asked_again_at_the_next_look(shop: Shop) -> None:
    await shop.workflow(ttlAfterFinished="1s")
    await shop.finished("a")
    shop.server.fail("GET", (403, {"kind": "Status", "reason": "Forbidden", "message": "no"}))
    looking = asyncio.create_task(shop.retention.run())
    await until(lambda: shop.there() == [])
    looking.cancel()


# --- marks ----------------------------------------------------------------------------------------------------------


async def test_a_run_is_marked_by_the_writes_that_it_costs_anyway(shop: Shop) -> None:
    await shop.workflow(**LONGER)
    await shop.run("a")
    await shop.passes("a")
    claim, status, _, tidy = (request for request in shop.server.requests if request.method == "PATCH")
    revision = revision_name("order", LONGER)
    assert claim.json["metadata"]["labels"] == {WORKFLOW_LABEL: "order", REVISION_LABEL: revision}
    assert status.json["status"]["workflowRevision"] == revision
    assert tidy.json["metadata"]["labels"][PHASE_LABEL] == "Succeeded"
    body = shop.server.objects["workflowruns", "shop", "a"]
    run = finished_of(body["metadata"])
    assert run is not None
    assert (run.succeeded, run.workflow, run.revision) == (True, "order", revision)
    assert format_time(run.completed) == body["status"]["completionTime"]


async def test_a_run_that_was_claimed_for_another_revision_is_marked_anew_before_its_status_says_so(shop: Shop) -> None:
    """The operator died between the two writes, and the Workflow was changed before it came back."""
    await shop.workflow(**LONGER)
    await shop.run("a", labels={REVISION_LABEL: "order-before"}, finalizers=[RUN_FINALIZER])
    await shop.passes("a")
    claim, status, *_ = (request for request in shop.server.requests if request.method == "PATCH")
    assert claim.json["metadata"]["labels"][REVISION_LABEL] == status.json["status"]["workflowRevision"]


# --- revisions ------------------------------------------------------------------------------------------------------


async def revisions_of(shop: Shop, *numbers: int) -> list[str]:
    """Store old revisions of the Workflow `order`, the oldest first."""
    names = []
    for number in numbers:
        name = revision_name("order", {"n": number})
        labels = {"app.kubernetes.io/managed-by": "kubesaga", "kubesaga.dev/workflow": "order"}
        metadata = {
            "namespace": "shop",
            "name": name,
            "creationTimestamp": f"2020-01-01T00:00:{number:02}Z",
            "labels": labels,
        }
        data = {"spec": {"n": number}}
        await shop.server.put("controllerrevisions", {"metadata": metadata, "data": data})
        names.append(name)
    return names


async def test_the_oldest_revisions_go_beyond_the_limit_and_the_current_one_never(shop: Shop) -> None:
    names = await revisions_of(shop, *range(5))
    await shop.workflow(current=names[0], revisionHistoryLimit=2)
    await shop.look()
    assert shop.there("controllerrevisions") == sorted([names[0], names[3], names[4]])
    assert shop.deleted == [None, None]


async def test_ten_old_revisions_stay_where_nothing_is_said(shop: Shop) -> None:
    names = await revisions_of(shop, *range(12))
    await shop.workflow(current=names[-1])
    await shop.look()
    assert shop.there("controllerrevisions") == sorted(names[1:])


async def test_a_revision_stays_while_a_stored_run_names_it(shop: Shop) -> None:
    names = await revisions_of(shop, 1, 2)
    await shop.workflow(revisionHistoryLimit=0)
    await shop.finished("over", revision=names[0])
    await shop.run("live", labels={REVISION_LABEL: names[1]})
    await shop.look()
    assert shop.there("controllerrevisions") == sorted(names)
    for name in ("over", "live"):
        await shop.server.remove("workflowruns", "shop", name)
    await shop.look()
    assert shop.there("controllerrevisions") == []


@pytest.mark.parametrize("owner", ["a Workflow that is gone", "a run with a spec of its own"])
async def test_a_revision_goes_when_nobody_names_it_any_more_of(shop: Shop, owner: str) -> None:
    labels = {"kubesaga.dev/workflow": "order"} if "gone" in owner else {}
    name = await shop.revisions.ensure("shop", "order", SPEC, labels)
    await shop.finished("a", revision=name)
    await shop.look()
    assert shop.there("controllerrevisions") == [name]
    await shop.server.remove("workflowruns", "shop", "a")
    await shop.look()
    assert shop.there("controllerrevisions") == []


@pytest.mark.parametrize("unsure", [
    pytest.param({"labels": HIDDEN}, id="is finished and not marked"),
    pytest.param({"labels": {}, "finalizers": [RUN_FINALIZER]}, id="was begun by an older version"),
])  # fmt: skip
async def test_no_revision_goes_from_a_namespace_while_a_run(shop: Shop, unsure: dict[str, Any]) -> None:
    names = await revisions_of(shop, 1)
    await shop.finished("a", revision=names[0], **unsure)
    await shop.look()
    assert shop.there("controllerrevisions") == names


async def test_a_revision_that_somebody_deleted_is_made_again_by_the_next_run(shop: Shop) -> None:
    await shop.workflow()
    await shop.run("a")
    await shop.passes("a")
    (name,) = shop.there("controllerrevisions")
    await shop.server.remove("controllerrevisions", "shop", name)
    await shop.look()
    await shop.run("b")
    await shop.passes("b")
    assert shop.there("controllerrevisions") == [name]


async def test_who_needs_a_revision_that_is_being_deleted_waits_and_makes_it_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await shop.revisions.ensure("shop", "order", SPEC)
    delete, go = shop.client.delete, asyncio.Event()

    async def later(*where: Any, **how: Any) -> Object:
        await go.wait()
        return await delete(*where, **how)

    monkeypatch.setattr(shop.client, "delete", later)
    deleting = asyncio.create_task(shop.revisions.delete("shop", name))
    await asyncio.sleep(0)
    making = asyncio.create_task(shop.revisions.ensure("shop", "order", SPEC))
    reading = asyncio.create_task(shop.revisions.read("shop", name))
    done, _ = await asyncio.wait({making, reading}, timeout=0.05)
    assert not done
    go.set()
    await deleting
    await making
    await asyncio.gather(reading, return_exceptions=True)
    assert shop.there("controllerrevisions") == [name]
    assert await shop.revisions.read("shop", name) == SPEC


# --- a run that begins while its revision is collected --------------------------------------------------------------


async def a_while(chance: random.Random, longest: int) -> None:
    for _ in range(chance.randrange(longest)):
        await asyncio.sleep(0)


@pytest.fixture
def opening(
    server: ApiServer, client: KubeClient, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> Callable[[random.Random], Shop]:
    """Open a shop anew, at the end of a network where each request takes a while before it is carried out, and after."""
    chances = [random.Random()]
    call = client._transport.call

    async def slowly(request: Request) -> Any:
        await a_while(chances[0], 12)
        answer = await call(request)
        await a_while(chances[0], 12)
        return answer

    monkeypatch.setattr(client._transport, "call", slowly)

    def open_with(chance: random.Random) -> Shop:
        chances[0] = chance
        server.objects.clear()
        server.cached = None
        return Shop(server, client, clock, interval=0.2)

    return open_with


async def history(shop: Shop, chance: random.Random) -> list[str]:
    """Let runs begin, end and be deleted while old revisions are collected; return what is wrong then.

    The Workflow is at an old revision again, and its status does not say so yet: the revision is there, and each look
    finds that nobody names it, but for the runs that are just beginning.
    """
    server, wrong = shop.server, []
    spec = {**chance.choice((SPEC, LONGER)), "revisionHistoryLimit": 0}
    await shop.workflow(current="order-another", **spec)
    name = await shop.revisions.ensure("shop", "order", spec, {"kubesaga.dev/workflow": "order"})
    over = asyncio.Event()

    async def runs(lane: int) -> None:
        for number in range(5):
            await a_while(chance, 40)
            run = f"run-{lane}-{number}"
            await shop.run(run)
            await shop.passes(run)
            stored = server.objects["workflowruns", "shop", run]
            if ("controllerrevisions", "shop", stored["status"]["workflowRevision"]) not in server.objects:
                wrong.append(f"{run} names a revision that is not there")
            await server.remove("workflowruns", "shop", run)

    async def looks() -> None:
        while not over.is_set():
            server.cached = (server.version, dict(server.objects))
            await a_while(chance, 20)
            await shop.look()

    looking = asyncio.create_task(looks())
    await asyncio.gather(*(runs(lane) for lane in range(2)))
    over.set()
    await looking
    for _ in range(3):
        server.cached = None
        await shop.look()
    if ("controllerrevisions", "shop", name) in server.objects:
        wrong.append("the revision is not collected in the end")
    return wrong


async def test_no_run_is_left_without_its_revision_whenever_it_begins(opening: Callable[[random.Random], Shop]) -> None:
    collected = 0
    for seed in range(40):
        shop = opening(random.Random(seed))
        assert await history(shop, random.Random(seed)) == [], f"seed {seed}"
        collected += len(shop.deleted)
    assert collected > 40, "revisions were collected while runs began"


async def test_a_collector_that_asks_for_no_pins_is_seen(
    opening: Callable[[random.Random], Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pins, "holds", lambda *_: False)
    for seed in range(100):
        if any("not there" in told for told in await history(opening(random.Random(seed)), random.Random(seed))):
            return
    pytest.fail("nobody noticed")


async def test_a_run_that_an_event_made_stays_for_its_dedupe_window(shop: Shop) -> None:
    await shop.workflow(ttlAfterFinished="1s", failedRunsHistoryLimit=0)
    await shop.finished("a")
    run = shop.server.objects["workflowruns", "shop", "a"]
    annotations = {**run["metadata"].get("annotations", {}), DEDUPE_ANNOTATION: "2h"}
    await shop.server.put("workflowruns", {**run, "metadata": {**run["metadata"], "annotations": annotations}})
    shop.clock.advance(3600)
    await shop.look()
    assert shop.there() == ["a"], "the event that made it must not make another run"
    shop.clock.advance(3601)
    await shop.look()
    assert shop.there() == []


# --- runs that only gave their event to live ones -------------------------------------------------------------------

MESSENGER = {"workflowRef": {"name": "order"}, "event": '{"type": "a"}', "deliver": True}


async def delivered(shop: Shop, name: str, reason: str, *, made_by_hand: bool = False) -> None:
    """Store a messenger that has just finished."""
    await shop.finished(name, spec=MESSENGER)
    body = shop.server.objects["workflowruns", "shop", name]
    body["status"]["reason"] = reason
    metadata = {**body["metadata"], **finished_marks(run_of(RunKey(namespace="shop", name=name), body)[0])}
    if not made_by_hand:
        metadata["annotations"] |= {DEDUPE_ANNOTATION: "2h"}
    await shop.server.put("workflowruns", {**body, "metadata": metadata})


@pytest.mark.parametrize(("reason", "made_by_hand", "minutes"), [
    pytest.param("NotAwaited", False, 0, id="no time, where nobody took its event"),
    pytest.param("Delivered", False, 120, id="its dedupe window, where somebody did"),
    pytest.param("WorkflowNotFound", False, 120, id="its dedupe window, where it failed"),
    pytest.param("NotAwaited", True, 1440, id="a day, where somebody made it by hand"),
    pytest.param("Delivered", True, 1440, id="a day, where somebody made it by hand and somebody took its event"),
])  # fmt: skip
async def test_a_messenger_stays_for(shop: Shop, reason: str, made_by_hand: bool, minutes: int) -> None:
    await shop.workflow(ttlAfterFinished="1m", successfulRunsHistoryLimit=0, failedRunsHistoryLimit=0)
    await delivered(shop, "told", reason, made_by_hand=made_by_hand)
    assert shop.server.objects["workflowruns", "shop", "told"]["metadata"]["labels"][MESSENGER_LABEL] == reason
    if minutes:
        shop.clock.advance(minutes * 60 - 30)
        await shop.look()
        assert shop.there() == ["told"]
        shop.clock.advance(30)
    await shop.look()
    assert (shop.there(), shop.deleted) == ([], [Why.MESSENGER])


async def test_messengers_push_out_no_runs_and_live_on_without_a_workflow(shop: Shop) -> None:
    await shop.finished(
        "over", revision=await shop.revisions.ensure("shop", "order", {**SPEC, "ttlAfterFinished": "1m"})
    )
    shop.clock.advance(1)
    await delivered(shop, "told", "Delivered")
    shop.clock.advance(120)
    await shop.look()
    assert shop.there() == ["told"], (
        "the run went by its own revision, though the messenger, which has none, came later"
    )
    shop.clock.advance(7200)
    await shop.look()
    assert shop.there() == []


async def test_a_run_that_is_only_called_a_messenger_is_none(shop: Shop) -> None:
    await shop.workflow()
    await shop.finished("run")
    body = shop.server.objects["workflowruns", "shop", "run"]
    labels = {**body["metadata"]["labels"], MESSENGER_LABEL: "NotAwaited"}
    annotations = {**body["metadata"]["annotations"], DEDUPE_ANNOTATION: "1s"}
    await shop.server.put(
        "workflowruns", {**body, "metadata": {**body["metadata"], "labels": labels, "annotations": annotations}}
    )
    for _ in range(2):
        await shop.look()
    assert shop.there() == ["run"]
    assert MESSENGER_LABEL not in shop.server.objects["workflowruns", "shop", "run"]["metadata"]["labels"]


async def test_a_live_messenger_works_from_no_revision_and_keeps_none(shop: Shop) -> None:
    await shop.workflow(revisionHistoryLimit=0)
    [old] = await revisions_of(shop, 1)
    labels = begun_labels(run_of(RunKey(namespace="shop", name="m"), await made(shop, "m"))[0])
    assert labels == {WORKFLOW_LABEL: "order", MESSENGER_LABEL: "Delivering"}
    await shop.run("m", MESSENGER, labels=labels, finalizers=[RUN_FINALIZER])
    await shop.look()
    assert old not in shop.there("controllerrevisions")


async def made(shop: Shop, name: str) -> Object:
    """Return a messenger that has just been created."""
    await shop.run(name, MESSENGER)
    return shop.server.objects["workflowruns", "shop", name]
