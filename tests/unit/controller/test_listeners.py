# SPDX-License-Identifier: Apache-2.0
"""Which live runs an event may be for, by what the API server says, and not by what the watch has told so far."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.kube.server import ApiServer

from kubesaga.api.fields import format_time
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.delivering.census import Census
from kubesaga.controller.delivering.listeners import Listeners
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.loader import run_of
from kubesaga.controller.memory import MemoryRevisions
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.decision import Summons
from kubesaga.engine.snapshot import Run
from kubesaga.kube.client import KubeClient
from kubesaga.testing.clock import START
from kubesaga.testing.paths import PathEvaluator

WORKFLOW = {
    "inputs": [{"name": "ticket", "default": "T-0"}],
    "activities": [{"name": "reply", "waitFor": {"event": "ticket:*", "timeout": "1h"}}],
}


class Namespace:
    """Runs on an API server, of which the operator has seen some."""

    def __init__(self, server: ApiServer, client: KubeClient) -> None:
        self.server = server
        self.records = KubeRecords(client)
        definitions = Definitions(self._workflow, MemoryRevisions(), PathEvaluator())
        self.listeners = Listeners(client, self.records, definitions)
        self.census = Census(client)

    async def _workflow(self, _namespace: str, name: str) -> dict[str, Any] | None:
        return WORKFLOW if name == "order" else None

    async def run(self, name: str, *, seen: bool = True, status: dict[str, Any] | None = None, **spec: Any) -> Run:
        """Create a run; `seen`: the watch has told of it."""
        metadata = {
            "namespace": "shop", "name": name, "uid": f"uid-{name}", "creationTimestamp": format_time(START), "generation": 1,
            "labels": spec.pop("labels", {}),
        }  # fmt: skip
        whole = {"metadata": metadata, "spec": {"workflowRef": {"name": "order"}, **spec}, "status": status or {}}
        body = await self.server.put("workflowruns", whole)
        key = RunKey(namespace="shop", name=name)
        if seen:
            self.records.saw(key, body)
        return run_of(key, body)[0]

    def lists(self) -> list[Any]:
        """Return the lists that were asked for."""
        return [each for each in self.server.requests if each.method == "GET" and each.path.endswith("/workflowruns")]


@pytest.fixture
def shop(server: ApiServer, client: KubeClient) -> Namespace:
    return Namespace(server, client)


async def test_all_live_runs_of_the_workflow_are_asked_also_those_that_the_watch_has_not_told_of(
    shop: Namespace,
) -> None:
    await shop.run("seen")
    await shop.run("unseen", seen=False, inputs={"ticket": "T-1"})
    brings = await shop.run("brings", deliver=True, event="{}")
    found = await shop.listeners.of(brings, Summons())
    assert [(each.key.name, each.uid, each.inputs) for each in found] == [
        ("seen", "uid-seen", {"ticket": "T-0"}),
        ("unseen", "uid-unseen", {"ticket": "T-1"}),
    ]
    assert shop.records.at_hand(RunKey(namespace="shop", name="unseen")) is None, (
        "it will be news when the watch tells of it"
    )
    (listed,) = shop.lists()
    assert (listed.query["resourceVersion"], listed.query["limit"]) == (brings.version, "0")
    assert "PartialObjectMetadataList" in listed.headers["Accept"]


@pytest.mark.parametrize("other", [
    pytest.param({"workflowRef": {"name": "else"}}, id="a run of another Workflow"),
    pytest.param({"status": {"phase": "Succeeded", "completionTime": format_time(START)}}, id="a run that is over"),
    pytest.param({"deliver": True}, id="another messenger"),
    pytest.param({"inputs": {"no": 1}}, id="a run whose inputs are wrong, so that it will fail"),
    pytest.param({"labels": {"kubesaga.dev/finished": "true"}}, id="a run that is done with"),
])  # fmt: skip
async def test_nobody_asks(shop: Namespace, other: dict[str, Any]) -> None:
    await shop.run("other", **other)
    brings = await shop.run("brings", deliver=True, event="{}")
    assert await shop.listeners.of(brings, Summons()) == ()


async def test_a_run_that_was_started_is_asked_with_what_it_was_started_with(shop: Namespace) -> None:
    started = {
        "startTime": format_time(START),
        "inputs": {"ticket": "then"},
        "replay": {"run": "old", "uid": "u", "event": "{}"},
    }
    await shop.run("started", status=started, inputs={"ticket": "now"})
    (found,) = await shop.listeners.of(await shop.run("brings", deliver=True, event="{}"), Summons())
    assert (found.inputs, found.event) == ({"ticket": "then"}, "{}")


async def test_where_one_run_is_meant_no_other_is_looked_up(shop: Namespace) -> None:
    await shop.run("one")
    await shop.run("two")
    brings = await shop.run("brings", event="{}")
    (found,) = await shop.listeners.of(brings, Summons(only=RunKey(namespace="shop", name="one")))
    assert (found.key.name, shop.lists()) == ("one", [])


async def test_events_that_come_while_the_server_answers_share_the_next_answer(shop: Namespace) -> None:
    await shop.run("one")
    versions = [(await shop.run(f"brings-{number}", deliver=True, event="{}")).version for number in range(20)]
    found = await asyncio.gather(*(shop.census.of("shop", version) for version in versions))
    assert all(RunKey(namespace="shop", name="one") in runs for runs in found)
    assert len(shop.lists()) <= 2
    await shop.census.of("shop", versions[0])
    assert len(shop.lists()) <= 2, "what is known is newer than that"
