# SPDX-License-Identifier: Apache-2.0
"""ResetBreaker: a WorkflowAction for an Activity or Workflow, applied once, whatever fails in between."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.controller.guarded import KEY, OWNER, Life, breaker, living, put
from tests.unit.kube.server import ApiServer

from kubesaga.api.names import API_VERSION, FINISHED_LABEL
from kubesaga.controller.kube_actions import KubeActions
from kubesaga.engine.admission.verdict import PASS, Refused
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.guarding import GuardKey, GuardOwner
from kubesaga.kube.client import KubeClient
from kubesaga.kube.errors import ServerUnavailable
from kubesaga.testing.clock import FakeClock

WHERE = RunKey(namespace="shop", name="reset")
PAY = GuardOwner(kind="Workflow", namespace="shop", name="order", activity="pay")
MAIL = GuardOwner(kind="Workflow", namespace="shop", name="order", activity="mail")
BREAKER = {"circuitBreaker": {}}
ORDER = {"activities": [{"name": "pay", **BREAKER}, {"name": "ship"}], "finally": [{"name": "mail", **BREAKER}]}


def desk(life: Life, client: KubeClient) -> KubeActions:
    """Return the WorkflowActions of a life of the operator, which have been told of ours."""
    actions = KubeActions(
        client, now=life.clock.now, wake=lambda _: None, look=lambda _: None, breakers=life.guards
    )  # fmt: skip
    actions.saw(WHERE, stored_action(life))
    return actions


def stored_action(life: Life) -> dict[str, Any]:
    return dict(life.server.objects["workflowactions", "shop", "reset"])


async def command(server: ApiServer, **target: Any) -> None:
    activity = {"activity": target.pop("activity")} if "activity" in target else {}
    spec = {"targetRef": {"kind": "Activity", "name": "pay", **target}, "action": "ResetBreaker", "requestedBy": "ann", **activity}  # fmt: skip
    metadata = {"namespace": "shop", "name": "reset"}
    await server.put("workflowactions", {"apiVersion": API_VERSION, "kind": "WorkflowAction", "metadata": metadata, "spec": spec})  # fmt: skip


@pytest.fixture(autouse=True)
async def objects(server: ApiServer) -> None:
    await put(server, spec={"circuitBreaker": {"threshold": 1}})
    await put(server, PAY, spec=ORDER)


async def test_an_open_breaker_is_closed_answered_recorded_and_told(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        life.ends("x")
        await life.settle()
        await command(server)
        actions = desk(life, client)
        await actions.process(WHERE)
        assert life.ask() == PASS
        await life.settle()
        action = stored_action(life)
        assert (action["status"]["phase"], action["status"]["message"]) == ("Applied", "closed: shop")
        assert life.shown() == [{"key": "shop", "state": "Closed", "failures": 0}]
        (record,) = life.shown("actions")
        assert (record["uid"], record["verb"], record["by"]) == (action["metadata"]["uid"], "ResetBreaker", "ann")
        assert life.posted[-1][1:] == ("CircuitClosed", "shop: closed by hand, WorkflowAction reset by ann")
        assert life.changed[-1] == KEY
        await actions.process(WHERE)
        marked = stored_action(life)["metadata"]
        assert marked["labels"] == {FINISHED_LABEL: "true"}
        (owner,) = marked["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Activity", life.stored()["metadata"]["uid"])


async def test_after_a_crash_before_the_answer_it_is_answered_and_not_applied_again(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        life.ends("x")
        await command(server)
        (waiting,) = [desk(life, client)._known[WHERE].command]
        await life.guards.obey(OWNER, waiting)  # stored; and the operator dies before the answer
        life.ends("x")
        await life.settle()
        assert life.shown()[0]["state"] == "Open"
    async with living(server, client, clock, breaker(1)) as life:
        await desk(life, client).process(WHERE)
        assert stored_action(life)["status"]["message"] == "closed: shop", "what was done then"
        assert isinstance(life.ask(), Refused), "it has opened since, and stays so"
        assert len(life.shown("actions")) == 1


@pytest.mark.parametrize("fault", ["lose", "refuse"])
async def test_a_write_that_fails_is_no_answer_and_repeating_it_applies_it_once(
    server: ApiServer, client: KubeClient, clock: FakeClock, fault: Any
) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        life.ends("x")
        await life.settle()
        await command(server)
        actions = desk(life, client)
        server.fail("PATCH", fault)
        with pytest.raises(ServerUnavailable):
            await actions.process(WHERE)
        assert "status" not in stored_action(life)
        await actions.process(WHERE)
        assert stored_action(life)["status"]["message"] == "closed: shop"
        assert len(life.shown("actions")) == 1
        assert life.shown()[0]["state"] == "Closed"


@pytest.mark.parametrize(("target", "closed", "left"), [
    pytest.param({"activity": "pay"}, "closed: pay", {MAIL}, id="one activity of a Workflow"),
    pytest.param({}, "closed: mail, pay", set(), id="all of them"),
])  # fmt: skip
async def test_of_a_workflow_are_closed(
    server: ApiServer, client: KubeClient, clock: FakeClock, target: Any, closed: str, left: set[GuardOwner]
) -> None:
    async with living(server, client, clock) as life:
        for owner in (PAY, MAIL):
            life.guards.configure(owner, breaker(1))
            life.ends("x", GuardKey(owner=owner, caller="shop"))
        await command(server, kind="Workflow", name="order", **target)
        await desk(life, client).process(WHERE)
        assert stored_action(life)["status"]["message"] == closed
        refused = {owner for owner in (PAY, MAIL) if life.ask(GuardKey(owner=owner, caller="shop")) != PASS}
        assert refused == left


async def test_where_none_is_open_it_is_applied_and_says_so(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    await command(server)
    async with living(server, client, clock, breaker(1)) as life:
        await desk(life, client).process(WHERE)
        status = stored_action(life)["status"]
        assert (status["phase"], status["message"]) == ("Applied", "no breaker was open or had counted failures")


@pytest.mark.parametrize(("target", "told"), [
    pytest.param({"name": "ship"}, "spec.targetRef.name: there is no Activity 'ship' in namespace 'shop'", id="it is not there"),
    pytest.param({"uid": "old"}, "the Activity that bears the name now is another one; its uid is", id="it is another one"),
    pytest.param({"name": "log"}, "Activity log has no circuitBreaker", id="it has none"),
    pytest.param(
        {"kind": "Workflow", "name": "order", "activity": "ship"},
        "spec.activity: ship of Workflow order has no circuitBreaker of its own", id="that activity has none",
    ),
    pytest.param(
        {"kind": "Workflow", "name": "order", "activity": "shop"},
        "spec.activity: shop of Workflow order does not exist", id="there is no such activity",
    ),
    pytest.param({"kind": "Workflow", "name": "bare"}, "no activity of Workflow bare has a circuitBreaker", id="no activity has one"),
])  # fmt: skip
async def test_it_is_refused_where(
    server: ApiServer, client: KubeClient, clock: FakeClock, target: Any, told: str
) -> None:
    await put(server, GuardOwner(kind="Activity", namespace="shop", name="log"))
    await put(server, GuardOwner(kind="Workflow", namespace="shop", name="bare"))
    await command(server, **target)
    async with living(server, client, clock) as life:
        await desk(life, client).process(WHERE)
        status = stored_action(life)["status"]
        assert status["phase"] == "Refused"
        assert told in status["message"]


async def test_another_object_of_the_same_name_does_not_take_over_what_was_recorded_in_the_old_one(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    await command(server)
    async with living(server, client, clock, breaker(1)) as life:
        await desk(life, client).process(WHERE)
        await server.remove("activities", "shop", "pay")
        await put(server, metadata={"namespace": "shop", "name": "pay", "uid": "new"})
        life.ends("x")
        await life.settle()
        assert life.shown()[0]["state"] == "Open"
        assert "actions" not in life.status()
