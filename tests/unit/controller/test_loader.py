# SPDX-License-Identifier: Apache-2.0
"""A snapshot holds the commands that wait for its run, and whether a deleted run's namespace goes away with it."""

from __future__ import annotations

from typing import Any

import pytest

from kubesaga.api.action import Verb
from kubesaga.api.names import RUN_FINALIZER
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.delivering.mailbox import Mailbox
from kubesaga.controller.loader import Loader
from kubesaga.controller.memory import MemoryRecords, MemoryRevisions
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.command import Command
from kubesaga.engine.snapshot import Limits, Snapshot
from kubesaga.testing.builders import KEY, UID
from kubesaga.testing.clock import START
from kubesaga.testing.no_actions import NoActions
from kubesaga.testing.paths import PathEvaluator

COMMAND = Command(uid="u", name="fix", verb=Verb.RETRY)


class OneAction(NoActions):
    """One action waits, and remembers for whom it was asked."""

    def of_run(self, run: RunKey, uid: str | None) -> tuple[Command, ...]:
        return (COMMAND,) if (run, uid) == (KEY, UID) else ()


class World:
    """One run, in a namespace that is being deleted."""

    def __init__(self) -> None:
        self.records = MemoryRecords()
        self.asked: list[str] = []
        self.records.create(KEY, {"workflowRef": {"name": "order"}}, START, uid=UID)

    def change(self, metadata: dict[str, Any], status: dict[str, Any]) -> None:
        body = self.records.bodies[KEY]
        self.records.bodies[KEY] = {**body, "metadata": {**body["metadata"], **metadata}, "status": status}

    async def ending(self, namespace: str) -> bool:
        self.asked.append(namespace)
        return True

    async def no_workflow(self, *_: str) -> None:
        return None

    async def load(self) -> Snapshot:
        definitions = Definitions(self.no_workflow, MemoryRevisions(), PathEvaluator())
        loader = Loader(
            self.records, definitions, {}, Mailbox(OneAction()), namespace_ending=self.ending, worker="w", limits=Limits()
        )  # fmt: skip
        loaded = await loader.load(KEY)
        assert loaded is not None
        return loaded.snapshot


DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [RUN_FINALIZER]}


@pytest.mark.parametrize(("metadata", "status", "ending"), [
    pytest.param({}, {}, False, id="does not matter to a run that stays"),
    pytest.param(DELETED, {}, True, id="matters to a live run that is deleted"),
    pytest.param(DELETED, {"phase": "Succeeded"}, False, id="does not matter to a finished one"),
])  # fmt: skip
async def test_the_end_of_the_namespace(metadata: dict[str, Any], status: dict[str, Any], ending: bool) -> None:
    world = World()
    world.change(metadata, status)
    assert (await world.load()).namespace_ending is ending
    assert world.asked == (["shop"] if ending else [])


@pytest.mark.parametrize("phase", [None, "Succeeded"], ids=["a live run", "a finished run"])
async def test_the_commands_are_those_of_the_run_by_name_and_uid_for(phase: str | None) -> None:
    world = World()
    world.change({}, {"phase": phase} if phase else {})
    assert (await world.load()).commands == (COMMAND,)


TICK = {
    "kubesaga.dev/trigger-key": "k",
    "kubesaga.dev/trigger": "_nightly",
    "kubesaga.dev/tick": "2026-11-22T01:00:00.000Z",
}
EVENT = {"kubesaga.dev/trigger-key": "k", "kubesaga.dev/event-id": "e-1"}
NAMED = {"kubesaga.dev/trigger": "created"}


@pytest.mark.parametrize(
    ("labels", "annotations", "trigger"),
    [
        pytest.param(NAMED, EVENT, {"name": "created", "eventId": "e-1"}, id="an event's"),
        pytest.param(NAMED, {**EVENT, "kubesaga.dev/event-actor": "U-1" * 100}, {"name": "created", "eventId": "e-1", "actor": ("U-1" * 100)[:256]}, id="an event's that says who caused it"),
        pytest.param({"kubesaga.dev/trigger": "nightly"}, TICK, {"name": "_nightly", "tick": "2026-11-22T01:00:00.000Z"}, id="a tick's, of a trigger whose name no label can hold"),
        pytest.param(NAMED, {**EVENT, "kubesaga.dev/tick": "soon"}, {"name": "created", "eventId": "e-1"}, id="one whose tick somebody has changed"),
        pytest.param(NAMED, {}, None, id="nobody's: a label alone is not enough"),
        pytest.param({}, {}, None, id="nobody's"),
    ],
)  # fmt: skip
async def test_the_trigger_of_a_run_is(
    labels: dict[str, str], annotations: dict[str, str], trigger: dict[str, Any] | None
) -> None:
    world = World()
    world.change({"labels": labels, "annotations": annotations}, {})
    found = (await world.load()).run.trigger
    assert (None if found is None else found.wire()) == trigger
