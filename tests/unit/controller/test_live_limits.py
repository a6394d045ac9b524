# SPDX-License-Identifier: Apache-2.0
"""Limits as Workflows and Activities have them now, and what is there when an operator begins to lead."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.kube.server import ApiServer

from kubesaga.controller.guards.all import Guards
from kubesaga.controller.inventory import Inventory
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.admission.rules import OperatorLimits
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.guarding import GuardKey, GuardOwner, GuardSettings
from kubesaga.kube.client import KubeClient
from kubesaga.testing.clock import FakeClock

A: dict[str, Any] = {"name": "a", "handler": "x"}
OF_WORKFLOW = GuardKey(owner=GuardOwner(kind="Workflow", namespace="shop", name="order", activity="a"), caller="shop")
OF_ACTIVITY = GuardKey(owner=GuardOwner(kind="Activity", namespace="shop", name="pay"), caller="shop")
BULKHEAD = {"bulkhead": {"maxConcurrent": 3}}


class Desk:
    """A ledger, guards, and the limits that they are told of."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.guards = Guards(None, clock, on_change=lambda _key: None)
        self.woken: list[RunKey] = []
        self.ledger = Ledger(OperatorLimits(), self.guards, self.woken.append)
        self.limits = LiveLimits(self.ledger, self.guards, clock)

    def workflow(self, *activities: dict[str, Any], **spec: Any) -> None:
        """Take in the Workflow `order`."""
        metadata = {"namespace": "shop", "name": "order"}
        self.limits.workflow({"metadata": metadata, "spec": {"activities": list(activities or (A,)), **spec}})

    def activity(self, **spec: Any) -> None:
        """Take in the Activity `pay`."""
        self.limits.activity({"metadata": {"namespace": "shop", "name": "pay"}, "spec": {"handler": "x", **spec}})

    def at_once(self, guard: GuardKey) -> int | None:
        """Return how many calls a guard lets through at once."""
        settings = self.guards.settings(guard, None)
        return settings.bulkhead.concurrent if settings is not None and settings.bulkhead is not None else None


@pytest.fixture
def desk(clock: FakeClock) -> Desk:
    """A new one."""
    return Desk(clock)


def limited(desk: Desk) -> bool:
    return desk.ledger.runs.is_limited(("shop", "order"))


def test_a_workflow_s_limits_hold_from_when_they_are_seen(desk: Desk) -> None:
    desk.workflow()
    assert not limited(desk)
    desk.workflow(concurrency={"maxWorkflows": 1})
    assert limited(desk)
    desk.workflow(concurrency={"maxWorkflows": 0})
    assert limited(desk), "one that is not valid says nothing"
    desk.workflow()
    assert not limited(desk)


def test_an_activity_s_guards_are_read_live(desk: Desk) -> None:
    desk.activity(**BULKHEAD)
    assert desk.at_once(OF_ACTIVITY) == 3
    desk.activity(bulkhead={"maxConcurrent": 7})
    assert desk.at_once(OF_ACTIVITY) == 7
    desk.activity(bulkhead={"maxConcurrent": -7})
    assert desk.at_once(OF_ACTIVITY) == 7, "one that is not valid says nothing"
    desk.activity()
    assert desk.at_once(OF_ACTIVITY) is None


def test_where_an_activity_is_gone_the_settings_of_the_revision_hold(desk: Desk) -> None:
    desk.activity(**BULKHEAD)
    desk.limits.activity_gone(RunKey(namespace="shop", name="pay"))
    default = GuardSettings()
    assert desk.guards.settings(OF_ACTIVITY, None) is None
    assert desk.guards.settings(OF_ACTIVITY, default) is None


def test_the_guards_of_a_workflow_s_own_activities_are_read_live(desk: Desk) -> None:
    desk.workflow({**A, **BULKHEAD}, {"name": "b", "handler": "x"})
    assert desk.at_once(OF_WORKFLOW) == 3
    desk.workflow({**A, "bulkhead": {"maxConcurrent": 4}})
    assert desk.at_once(OF_WORKFLOW) == 4
    desk.workflow(A)
    assert desk.at_once(OF_WORKFLOW) is None
    desk.workflow({**A, **BULKHEAD})
    assert desk.at_once(OF_WORKFLOW) == 3
    desk.workflow({"name": "other", "handler": "x"})
    assert desk.at_once(OF_WORKFLOW) is None


async def test_an_operator_that_begins_knows_every_limit_and_every_holder(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    desk, records, seen = Desk(clock), KubeRecords(client), []
    workflow = {"activities": [A], "concurrency": {"maxWorkflows": 2}}
    await server.put("workflows", {"metadata": {"namespace": "shop", "name": "order"}, "spec": workflow})
    pay = {"handler": "x", **BULKHEAD}
    await server.put("activities", {"metadata": {"namespace": "common", "name": "pay"}, "spec": pay})
    status = {"phase": "Running", "startTime": "2026-11-22T10:00:00.000Z"}
    for name, known in (("one", status), ("two", {}), ("odd", {"phase": "Dancing"})):
        metadata = {"namespace": "shop", "name": name, "creationTimestamp": "2026-11-22T09:00:00Z"}
        run = {"metadata": metadata, "spec": {"workflowRef": {"name": "order"}}, "status": known}
        await server.put("workflowruns", run)
    inventory = Inventory(
        client, records, desk.ledger, desk.limits, namespaces=("shop",), catalogue="common", clock=clock
    )  # fmt: skip
    assert await inventory.take(seen.append) == 3
    assert sorted(key.name for key in seen) == ["odd", "one", "two"]
    assert limited(desk)
    assert len(desk.ledger.runs.holders) == 1
    of_catalogue = GuardOwner(kind="Activity", namespace="common", name="pay")
    assert desk.at_once(GuardKey(owner=of_catalogue, caller="shop")) == 3
    assert set(records.versions()) == set(seen), "what the watch will tell of them is no news"
