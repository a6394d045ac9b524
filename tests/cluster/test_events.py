# SPDX-License-Identifier: Apache-2.0
"""The whole way of an event and of a tick: gateway, operator and a real API server, from the delivery to the end of the run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from tests.cluster.cluster import OURS, ROOT, Cluster, Operator, document
from tests.cluster.event_gateway import Gateway
from tests.cluster.test_gateway import SECRET, STRUCTURED, set_secret
from tests.cluster.waiting import PATIENCE, wait_for

BEARER: Final = f"Authorization: Bearer {SECRET}"
MINUTE: Final = timedelta(minutes=1)
ROOM: Final = timedelta(seconds=5)
"""What it takes to kill an operator before the minute is over, and more."""
TICKETS: Final = {
    "description": "Take tickets in.",
    "inputs": [{"name": "ticket", "type": "string", "required": True}],
    "triggers": [
        {
            "name": "created", "event": "ticket:created", "when": 'event.data.tier != "trial"',
            "conditions": {"priority": {"in": ["high", "urgent"]}, "or": [{"tags": {"contains": "vip"}}, {"amount": {"gte": 100}}]},
            "inputs": {"ticket": "${event.data.ticketId}"},
        },
        {
            "name": "refund", "event": "ticket:comment:*", "conditions": {"new.content": {"regex": "(?i)refund"}},
            "inputs": {"ticket": "${event.data.ticketId}"},
        },
    ],
    "activities": [
        {"name": "take", "handler": "test:echo", "params": {"ticket": "${inputs.ticket}", "kind": "${event.type}"}}
    ],
    "outputs": {"taken": "${activities.take.output}"},
}  # fmt: skip
KEPT: Final = {
    "description": "Forget soon.",
    "ttlAfterFinished": "1s",
    "triggers": [
        {"name": "long", "event": "kept:long", "dedupeWindow": "1h"},
        {"name": "short", "event": "kept:short", "dedupeWindow": "1s"},
    ],
    "activities": [{"name": "a", "handler": "test:echo"}],
}
EACH_MINUTE: Final = {
    "description": "Once a minute.",
    "triggers": [{"name": "tick", "schedule": "* * * * *", "catchUp": "Latest"}],
    "activities": [{"name": "a", "handler": "test:echo", "params": {"at": "${event.data.scheduledTime}"}}],
    "outputs": {"at": "${activities.a.output.at}"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A namespace with an operator that tidies up often, and a gateway."""

    cluster: Cluster
    operator: Operator
    gateway: Gateway

    def deliver(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Send an event to the gateway; return the runs that it causes."""
        status, answer = self.gateway.curl(
            f"/events/{self.cluster.namespace}/desk", json.dumps(event), STRUCTURED, BEARER
        )
        assert status == 202, answer
        runs: list[dict[str, Any]] = answer["events"][0]["runs"]
        return runs

    def runs_of(self, event: dict[str, Any]) -> list[str]:
        """Return the runs that bear this event's id."""
        return [
            run["metadata"]["name"]
            for run in self.cluster.list("workflowruns", f"{OURS}event-source=desk")
            if run["metadata"]["annotations"][f"{OURS}event-id"] == event["id"]
        ]


@pytest.fixture(scope="module")
def place(shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Everything is applied before the gateway comes, so that it knows all of it."""
    folder = tmp_path_factory.mktemp("events")
    with ExitStack() as stack:
        cluster = stack.enter_context(shared_cluster.in_new_namespace())
        set_secret(cluster, SECRET)
        bearer = {"bearer": {"secretRef": {"name": "desk", "key": "token"}}}
        cluster.apply(
            document("WorkflowEventSource", "desk", {"type": "CloudEvents", "auth": bearer}),
            document("Workflow", "tickets", TICKETS),
            document("Workflow", "kept", KEPT),
        )
        operator = stack.enter_context(Operator(cluster, folder, retention_interval="0.5"))
        operator.start("cluster_handlers")
        yield Place(
            cluster=cluster, operator=operator, gateway=stack.enter_context(Gateway(cluster, folder, "gateway"))
        )


def event(id_: str, type_: str = "ticket:created", **data: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": id_, "source": "/desk", "type": type_, "data": data}


# --- events ---------------------------------------------------------------------------------------------------------


def test_an_event_that_is_sent_twice_makes_one_run_which_runs_to_its_end(place: Place) -> None:
    sent = event("twice", ticketId="T-1", priority="high", tier="gold", amount=100)
    first, again = place.deliver(sent), place.deliver(sent)
    assert [(run["workflow"], run["trigger"], run["created"]) for run in (*first, *again)] == [
        ("tickets", "created", True),
        ("tickets", "created", False),
    ]
    assert place.runs_of(sent) == [first[0]["name"]] == [again[0]["name"]]
    status = place.cluster.wait_phase(first[0]["name"], "Succeeded")
    assert status["outputs"] == {"taken": {"ticket": "T-1", "kind": "ticket:created"}}
    assert place.deliver(sent)[0]["created"] is False, "also once it has finished"


CREATED = {"ticketId": "T-2", "priority": "urgent", "tier": "gold", "tags": ["new", "vip"]}


@pytest.mark.parametrize(("sent", "answers"), [
    pytest.param(event("m1", **CREATED), {"created": "Match", "refund": "NoMatch"}, id="an event of which all holds"),
    pytest.param(event("m2", **CREATED | {"priority": "low"}), {"created": "NoMatch"}, id="another value than the listed ones"),
    pytest.param(event("m3", **CREATED | {"tags": "none", "amount": "100"}), {"created": "NoMatch"}, id="a text where a number is asked for"),
    pytest.param(event("m4", ticketId="T-2", tier="gold"), {"created": "NoMatch"}, id="fields that are not there"),
    pytest.param(event("m5", **CREATED | {"tier": "trial"}), {"created": "NoMatch"}, id="a when that does not hold"),
    pytest.param(event("m6", ticketId="T-2", priority="high", amount=100), {"created": "Broken"}, id="a when that has no value"),
    pytest.param(event("m7", **CREATED | {"ticketId": 2}), {"created": "Broken"}, id="an input of the wrong type"),
    pytest.param(event("m8", "ticket:created:again", **CREATED), {"created": "NoMatch"}, id="a longer type"),
    pytest.param(event("m9", "schedule:daily", **CREATED), {"created": "NoMatch", "refund": "NoMatch"}, id="the clock's own type from outside"),
    pytest.param(
        event("m10", "ticket:comment:updated", ticketId="T-2", previous={"content": "?"}, new={"content": "REFUND me"}),
        {"created": "NoMatch", "refund": "Match"}, id="a type of a family, and a pattern",
    ),
])  # fmt: skip
def test_events_test_says_what_the_gateway_does_with(
    place: Place, tmp_path: Path, sent: dict[str, Any], answers: dict[str, str]
) -> None:
    told = tried(tmp_path, sent)
    assert {name: told[name]["answer"] for name in answers} == answers
    matching = {name: row for name, row in told.items() if row["answer"] == "Match"}
    runs = place.deliver(sent)
    assert {run["trigger"] for run in runs} == set(matching)
    assert sorted(place.runs_of(sent)) == sorted(run["name"] for run in runs)
    for run in runs:
        found = place.cluster.find("workflowruns", run["name"])
        assert found is not None
        assert found["spec"]["inputs"] == matching[run["trigger"]]["inputs"]
        assert json.loads(found["spec"]["event"]) == sent


def tried(folder: Path, sent: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what `kubesaga events test` says of an event, by trigger."""
    (folder / "workflow.json").write_text(json.dumps(document("Workflow", "tickets", TICKETS)))
    (folder / "event.json").write_text(json.dumps(sent))
    words = ["events", "test", "workflow.json", "--event", "event.json", "-o", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "kubesaga", *words],
        cwd=folder, env={"PYTHONPATH": str(ROOT / "operator")}, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    rows = {row["name"]: row for row in json.loads(done.stdout)["triggers"]}
    assert done.returncode == (0 if any(row["answer"] == "Match" for row in rows.values()) else 1), done.stderr
    return rows


def test_a_run_stays_for_the_window_in_which_its_event_may_come_again_and_no_longer(place: Place) -> None:
    long, short = event("long", "kept:long"), event("short", "kept:short")
    [first] = place.deliver(long)
    place.cluster.wait_phase(first["name"], "Succeeded")
    # It has finished before the other one begins, so whoever collects the other one has passed it over.
    [other] = place.deliver(short)
    wait_for("the run of the short window to go", lambda: place.cluster.find("workflowruns", other["name"]) is None)
    assert place.cluster.status(first["name"])["phase"] == "Succeeded"
    assert [run["created"] for run in place.deliver(long)] == [False]
    assert [(run["name"], run["created"]) for run in place.deliver(short)] == [(other["name"], True)], (
        "a new event again"
    )


# --- schedules ------------------------------------------------------------------------------------------------------


def test_a_tick_starts_one_run_whether_the_operator_lives_or_is_killed_over_it(place: Place, tmp_path: Path) -> None:
    """Two operators wait for the same minute. The one dies before it, and comes back after it."""
    with place.cluster.in_new_namespace() as apart, Operator(apart, tmp_path) as killed:
        killed.start("cluster_handlers")
        for cluster in (place.cluster, apart):
            cluster.apply(document("Workflow", "minutely", EACH_MINUTE))
        tick = wait_for("a tick that is ahead", lambda: tick_ahead(place.cluster, apart))
        killed.kill()
        assert datetime.now(UTC) < tick, "it was killed before the tick"
        lived = wait_for("the run of the tick", lambda: runs_at(place.cluster, tick))
        assert runs_at(apart, tick) == []
        killed.start("cluster_handlers")
        caught_up = wait_for("the run that was missed", lambda: runs_at(apart, tick))
        # Another life after it looks at the same ticks again, as the record of it shows.
        place.operator.kill()
        place.operator.start("cluster_handlers")
        for cluster, runs in ((place.cluster, lived), (apart, caught_up)):
            suspend = '{"spec":{"suspend":true}}'
            cluster.kubectl("patch", "workflows.kubesaga.dev", "minutely", "--type=merge", "-p", suspend)
            wait_for("the schedule to be suspended", lambda: schedule(cluster).get("suspended"))  # noqa: B023 - used at once
            assert cluster.wait_phase(runs[0], "Succeeded")["outputs"] == {"at": ticks_of(cluster)[runs[0]]}
            assert runs_at(cluster, tick) == runs
            ticks = list(ticks_of(cluster).values())
            assert len(ticks) == len(set(ticks)), "no tick has two runs"


def schedule(cluster: Cluster) -> dict[str, Any]:
    """Return what the Workflow's status records of its schedule."""
    status = (cluster.find("workflows", "minutely") or {}).get("status") or {}
    found: dict[str, Any] = (status.get("schedules") or {}).get("tick") or {}
    return found


def tick_ahead(*clusters: Cluster) -> datetime | None:
    """Return the next tick once it is the same for all and far enough ahead."""
    told = {schedule(cluster).get("next") for cluster in clusters}
    if len(told) != 1 or None in told:
        return None
    tick = datetime.fromisoformat(str(told.pop()))
    return tick if ROOM < tick - datetime.now(UTC) <= MINUTE else None


def ticks_of(cluster: Cluster) -> dict[str, str]:
    """Return the tick of each run that the schedule has started."""
    runs = cluster.list("workflowruns", f"{OURS}trigger=tick")
    return {run["metadata"]["name"]: run["metadata"]["annotations"][f"{OURS}tick"] for run in runs}


def runs_at(cluster: Cluster, tick: datetime) -> list[str]:
    """Return the runs of a tick."""
    return [name for name, at in ticks_of(cluster).items() if datetime.fromisoformat(at) == tick]
