# SPDX-License-Identifier: Apache-2.0
"""A Workflow's status tells which events its live runs may wait for, those of older revisions among them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.kube.server import ApiServer

from kubesaga.api.canonical import may_be_revision_of, revision_name
from kubesaga.controller.authoring.awaited_events import AwaitedEvents
from kubesaga.controller.authoring.event_types import EventTypes
from kubesaga.controller.authoring.workflows import WorkflowReconciler
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.guards.all import Guards
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.controller.memory import MemoryRevisions
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.client import KubeClient
from kubesaga.testing.clock import FakeClock
from kubesaga.testing.paths import PathEvaluator
from kubesaga.testing.unguarded import open_ledger

KEY = RunKey(namespace="support", name="desk")
HOUR = timedelta(hours=1)


def waits(*events: str, **more: Any) -> dict[str, Any]:
    """Return the spec of a Workflow whose runs wait for events."""
    activities = [{"name": f"w{number}", "waitFor": {"event": event}} for number, event in enumerate(events)]
    return {"description": "d", "timeout": "1h", "activities": activities or [{"name": "a", "handler": "x"}], **more}


class World:
    """One Workflow, the revisions that live runs of it work from, and whoever checks it."""

    def __init__(self, server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
        self.server, self.client, self.clock = server, client, clock
        self.live: list[tuple[str, str]] = []
        self.revisions = MemoryRevisions()
        self.restart()

    def restart(self) -> None:
        """Forget what only a process knows."""

        async def read(_namespace: str, _name: str) -> dict[str, Any] | None:
            return None

        definitions = Definitions(read, self.revisions, PathEvaluator())
        limits = LiveLimits(open_ledger(), Guards(None, self.clock, on_change=lambda _key: None), self.clock)
        self.awaited = AwaitedEvents(definitions, lambda: self.live, self.clock)
        types = EventTypes(self.client)
        self.reconciler = WorkflowReconciler(self.client, definitions, limits, types, self.awaited, self.clock)

    async def apply(self, spec: dict[str, Any]) -> None:
        """Write the Workflow, as a person does; nobody looks at it yet."""
        known = self.server.objects.get(("workflows", *WHERE)) or {"metadata": {"generation": 0}}
        metadata = {
            "namespace": KEY.namespace, "name": KEY.name, "uid": "u", "generation": known["metadata"]["generation"] + 1,
        }  # fmt: skip
        await self.server.put("workflows", {"metadata": metadata, "spec": spec, "status": known.get("status", {})})

    async def begins(
        self, spec: dict[str, Any], namespace: str = KEY.namespace, owner: str = KEY.name
    ) -> RunKey | None:
        """Let a run begin to work from a spec; return the Workflow that is to be looked at for that."""
        revision = await self.revisions.ensure(namespace, owner, spec)
        self.live.append((namespace, revision))
        return self.awaited.run_changed(run(revision, namespace=namespace, workflow=owner))

    async def looked(self, after: timedelta = timedelta(0)) -> list[str] | None:
        """Look at the Workflow after a while; return what its status says then."""
        self.clock.advance(after.total_seconds())
        self.again = await self.reconciler.process(KEY)
        status: dict[str, Any] = self.server.objects["workflows", *WHERE]["status"]
        return status.get("awaitedEvents")

    def writes(self) -> int:
        return sum(request.method == "PATCH" for request in self.server.requests)


WHERE = (KEY.namespace, KEY.name)


def run(revision: str | None, *, namespace: str = KEY.namespace, workflow: str = KEY.name, **status: Any) -> Any:
    known = {"workflowRevision": revision} if revision else {}
    return {
        "metadata": {"namespace": namespace, "name": "r"}, "spec": {"workflowRef": {"name": workflow}},
        "status": {**known, **status},
    }  # fmt: skip


@pytest.fixture
def world(server: ApiServer, client: KubeClient, clock: FakeClock) -> World:
    return World(server, client, clock)


@pytest.mark.parametrize(("spec", "told"), [
    pytest.param(waits(), None, id="none"),
    pytest.param(waits("b:x", "a:*", "b:x"), ["a:*", "b:x"], id="each once, sorted"),
    pytest.param(waits(**{"finally": [{"name": "f", "waitFor": {"event": "c"}}]}), ["c"], id="those of finally too"),
    pytest.param(waits(activities=[{"name": "w", "waitFor": {}}]), None, id="no Signals"),
    pytest.param(
        waits("a:x", "b:*", "c", concurrency={"key": "k", "onConflict": "Signal"}, triggers=[{"name": "t", "event": "a:*"}, {"name": "u", "event": "b:y"}]),
        ["b:*", "c"], id="none that all come by key",
    ),
])  # fmt: skip
async def test_the_events_of_a_workflow_without_runs_are(world: World, spec: dict[str, Any], told: Any) -> None:
    await world.apply(spec)
    assert await world.looked() == told
    assert world.again is None
    before = world.writes()
    assert await world.looked() == told
    assert world.writes() == before, "nothing is new"


async def test_what_a_live_run_waits_for_stays_until_it_has_ended(world: World) -> None:
    await world.apply(waits("a", "b"))
    assert await world.looked() == ["a", "b"]
    await world.begins(waits("a", "b"))
    await world.apply(waits("b", "c"))
    for _ in range(3):
        assert await world.looked(HOUR) == ["a", "b", "c"]
        assert world.again == world.clock.now() + timedelta(minutes=5)
    world.live.clear()
    assert await world.looked(HOUR) == ["b", "c"]
    assert world.again is None


async def test_it_stays_over_a_restart_and_a_workflow_that_is_not_valid(world: World) -> None:
    await world.begins(waits("a"))
    await world.apply(waits("b", activities=[]))
    world.restart()
    assert await world.looked() == ["a"]
    assert await world.looked(HOUR) == ["a"]
    await world.apply(waits())
    world.restart()
    assert await world.looked(HOUR) == ["a"]


async def test_what_was_never_written_down_is_found_in_the_revisions(world: World) -> None:
    await world.apply(waits("a"))
    await world.begins(waits("a"))
    await world.apply(waits())
    assert await world.looked() == ["a"], "the first look at all"


async def test_nothing_goes_while_a_pass_may_be_under_way_that_read_the_workflow_before(world: World) -> None:
    await world.apply(waits("a"))
    await world.looked()
    await world.apply(waits("b"))
    assert await world.looked(HOUR) == ["a", "b"], "a run may begin from the old one any moment"
    assert world.again is not None, "so it is looked again"
    assert await world.looked(timedelta(seconds=59)) == ["a", "b"]
    assert await world.looked(timedelta(seconds=1)) == ["b"]


async def test_a_run_that_begins_from_an_old_revision_has_its_workflow_looked_at(world: World) -> None:
    await world.apply(waits("b"))
    assert await world.looked() == ["b"]
    assert await world.begins(waits("b")) is None, "it works from what the Workflow is"
    assert await world.begins(waits("a")) == KEY
    assert world.awaited.run_changed(run(world.live[-1][1])) is None, "told once"
    assert await world.looked() == ["a", "b"]


async def test_so_has_a_replay_of_an_old_run(world: World) -> None:
    await world.apply(waits())
    await world.looked()
    body = run(await world.revisions.ensure(KEY.namespace, KEY.name, waits("a")), replay={"workflow": KEY.name})
    assert world.awaited.run_changed({**body, "spec": {"replayOf": {"run": "old"}}}) == KEY


@pytest.mark.parametrize("body", [
    pytest.param(run(None), id="has not begun"),
    pytest.param(run("desk-0123456789", completionTime="2026-01-01T00:00:00.000Z"), id="has finished"),
    pytest.param({"metadata": {"namespace": "support", "name": "r"}, "spec": {"workflowSpec": {}}, "status": {"workflowRevision": "r-0123456789"}}, id="has a spec of its own"),
])  # fmt: skip
def test_no_workflow_is_looked_at_for_a_run_that(world: World, body: dict[str, Any]) -> None:
    assert world.awaited.run_changed(body) is None


async def test_runs_of_other_workflows_and_namespaces_do_not_matter(world: World) -> None:
    await world.begins(waits("a"), namespace="other")
    await world.begins(waits("a"), owner="desk-2")
    await world.apply(waits("b"))
    assert await world.looked() == ["b"]


async def test_a_revision_that_cannot_be_read_leaves_what_is_known(world: World) -> None:
    await world.apply(waits("a"))
    await world.looked()
    world.live.append((KEY.namespace, revision_name(KEY.name, waits("x"))))
    await world.apply(waits("b"))
    world.revisions.read = broken  # type: ignore[method-assign]  # the content is not what the name says
    assert await world.looked(HOUR) == ["a", "b"]
    assert await world.looked(HOUR) == ["a", "b"]


async def broken(_namespace: str, _name: str) -> dict[str, Any]:
    return {"activities": 5}


async def test_runs_of_a_workflow_that_is_gone_cost_one_look_each_revision(world: World) -> None:
    assert await world.begins(waits("a")) == KEY
    await world.reconciler.process(KEY)
    assert world.awaited.run_changed(run(world.live[0][1])) is None
    assert await world.begins(waits("b")) == KEY


@pytest.mark.parametrize("owner", ["desk", "d.e-s.k", "x" * 200, f"{'y' * 51}-.z"])
def test_a_revision_is_known_by_its_name(owner: str) -> None:
    revision = revision_name(owner, {"a": 1})
    assert may_be_revision_of(revision, owner)
    assert not may_be_revision_of(revision, f"a{owner}")
