# SPDX-License-Identifier: Apache-2.0
"""Events that end waits, on a real Kubernetes: by messengers, and by runs of the same business key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, Operator, document
from tests.cluster.event_gateway import Gateway
from tests.cluster.test_events import BEARER
from tests.cluster.test_gateway import SECRET, STRUCTURED, set_secret
from tests.cluster.waiting import wait_for

COMMENTED = "ticket:comment:updated"
ASKING = {
    "inputs": [{"name": "ticket", "type": "string", "default": "none"}],
    "activities": [
        {"name": "reply", "waitFor": {"event": COMMENTED, "when": "received.data.ticket == inputs.ticket", "timeout": "10m"}},
    ],
    "outputs": {"text": "${activities.reply.output.data.text}"},
}  # fmt: skip
KEYED = {
    "inputs": [{"name": "ticket", "type": "string"}],
    "concurrency": {"key": "${inputs.ticket}", "onConflict": "Signal"},
    "activities": [
        {"name": "reply", "waitFor": {"event": COMMENTED, "timeout": "10m"}},
        {"name": "last", "waitFor": {"timeout": "10m"}},
    ],
    "triggers": [{"name": "said", "event": COMMENTED, "inputs": {"ticket": "${event.data.ticket}"}}],
}  # fmt: skip


def comment(number: int, ticket: str, text: str = "hello") -> str:
    """Return an event as a run holds it."""
    event = {
        "specversion": "1.0", "type": COMMENTED, "source": "desk", "id": f"c-{number}",
        "data": {"ticket": ticket, "text": text},
    }  # fmt: skip
    return json.dumps(event)


@pytest.fixture(scope="module")
def place(shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Operator]]:
    """One namespace and one operator, with a Workflow of each sort."""
    with shared_cluster.in_new_namespace() as cluster, Operator(cluster, tmp_path_factory.mktemp("events")) as operator:
        operator.start("cluster_handlers")
        set_secret(cluster, SECRET)
        bearer = {"bearer": {"secretRef": {"name": "desk", "key": "token"}}}
        cluster.apply(
            document("WorkflowEventSource", "desk", {"type": "CloudEvents", "auth": bearer}),
            document("Workflow", "asking", ASKING),
            document("Workflow", "keyed", KEYED),
        )
        yield cluster, operator


@pytest.fixture(scope="module")
def gateway(place: tuple[Cluster, Operator], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that knows the source and the Workflows."""
    with Gateway(place[0], tmp_path_factory.mktemp("gateway"), "gateway") as gateway:
        yield gateway


def deliver(gateway: Gateway, event: str) -> dict[str, dict[str, Any]]:
    """Send an event; return the runs that it causes, by their Workflow."""
    status, answer = gateway.curl(f"/events/{gateway.cluster.namespace}/desk", event, STRUCTURED, BEARER)
    assert status == 202, answer
    return {run["workflow"]: run for run in answer["events"][0]["runs"]}


def waiting(cluster: Cluster, workflow: str, *names: str, ticket: str) -> None:
    """Create runs and wait until they wait for the event."""
    for name in names:
        cluster.run(name, workflow, inputs={"ticket": ticket})
    for name in names:
        assert cluster.wait_activity(name, "reply", phase="Waiting")["reason"] == "AwaitingEvent"


def test_a_messenger_ends_the_waits_of_the_runs_that_it_is_for_and_of_no_other(
    place: tuple[Cluster, Operator],
) -> None:
    cluster, _ = place
    waiting(cluster, "asking", "mine", "mine-too", ticket="T-1")
    waiting(cluster, "asking", "other", ticket="T-2")
    cluster.run("brings", "asking", deliver=True, event=comment(1, "T-1"))
    brings = cluster.finished("brings")
    assert (brings["phase"], brings["reason"]) == ("Succeeded", "Delivered")
    assert {each["run"]: each["answer"] for each in brings["recipients"]} == {"mine": "Applied", "mine-too": "Applied"}
    assert [cluster.finished(name)["outputs"] for name in ("mine", "mine-too")] == [{"text": "hello"}] * 2
    assert cluster.status("other")["phase"] == "Waiting"
    assert "workflowRevision" not in brings


def test_an_event_that_nobody_waits_for_is_told_so(place: tuple[Cluster, Operator]) -> None:
    cluster, _ = place
    cluster.run("in-vain", "asking", deliver=True, event=comment(2, "T-99"))
    status = cluster.finished("in-vain")
    assert (status["phase"], status["reason"], status["message"]) == (
        "Succeeded", "NotAwaited", "no live run took the event",
    )  # fmt: skip


def test_events_that_come_while_no_operator_is_there_end_each_wait_once(place: tuple[Cluster, Operator]) -> None:
    cluster, operator = place
    waiting(cluster, "asking", "patient", ticket="T-3")
    operator.kill()
    for number in (31, 32):
        cluster.run(f"brings-{number}", "asking", deliver=True, event=comment(number, "T-3", f"text {number}"))
    operator.start("cluster_handlers")
    told = [cluster.finished(f"brings-{number}")["reason"] for number in (31, 32)]
    assert sorted(told) == ["Delivered", "NotAwaited"]
    text = cluster.finished("patient")["outputs"]["text"]
    assert text == ("text 31" if told[0] == "Delivered" else "text 32")


def test_a_run_of_the_same_key_gives_its_event_to_the_live_one_and_the_next_waits_for_its_turn(
    place: tuple[Cluster, Operator],
) -> None:
    cluster, _ = place
    cluster.run("start", "keyed", inputs={"ticket": "T-4"}, event=comment(40, "T-4"))
    cluster.wait_activity("start", "reply", phase="Waiting")
    cluster.run("more", "keyed", inputs={"ticket": "T-4"}, event=comment(41, "T-4", "more"))
    more = cluster.finished("more")
    assert (more["phase"], more["reason"]) == ("Succeeded", "UsedExisting")
    assert more["message"] == "the run start, of the same key, has taken its event: reply has it"
    assert cluster.wait_activity("start", "reply", phase="Succeeded")["output"]["data"]["text"] == "more"
    cluster.run("too-much", "keyed", inputs={"ticket": "T-4"}, event=comment(42, "T-4", "too much"))
    queued = cluster.wait_status(
        "too-much", "be refused", lambda status: (status.get("recipients") or [{}])[0].get("answer")
    )
    assert (queued["phase"], queued["recipients"][0]["answer"]) == ("Queued", "Refused")
    signal: dict[str, Any] = {"targetRef": {"name": "start"}, "action": "Signal", "activity": "last", "value": 1}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(document("WorkflowAction", "go", signal)))
    assert cluster.finished("start")["phase"] == "Succeeded"
    cluster.wait_activity("too-much", "reply", phase="Waiting")


def test_the_gateway_brings_an_event_to_who_waits_once_however_often_it_is_delivered(
    place: tuple[Cluster, Operator], gateway: Gateway
) -> None:
    cluster, _ = place
    waiting(cluster, "asking", "asks", ticket="T-5")
    first, second = (deliver(gateway, comment(50, "T-5", "at last"))["asking"] for _ in range(2))
    assert (first["name"], first["created"], second["created"]) == (second["name"], True, False)
    assert (first["trigger"], first["delivers"]) == (None, True)
    assert cluster.finished("asks")["outputs"] == {"text": "at last"}
    assert cluster.finished(first["name"])["reason"] == "Delivered"


def test_an_event_starts_a_run_and_the_next_one_of_its_key_ends_what_that_waits_for(
    place: tuple[Cluster, Operator], gateway: Gateway
) -> None:
    cluster, _ = place
    starts = deliver(gateway, comment(60, "T-6"))["keyed"]["name"]
    cluster.wait_activity(starts, "reply", phase="Waiting")
    signals = deliver(gateway, comment(61, "T-6", "more"))["keyed"]["name"]
    assert cluster.finished(signals)["reason"] == "UsedExisting"
    assert cluster.wait_activity(starts, "reply", phase="Succeeded")["output"]["data"]["text"] == "more"


def test_a_run_of_an_older_revision_hears_what_its_workflow_waits_for_no_more(
    place: tuple[Cluster, Operator], gateway: Gateway
) -> None:
    cluster, _ = place
    old = {"activities": [{"name": "reply", "waitFor": {"event": "old:news", "timeout": "10m"}}]}
    cluster.apply(document("Workflow", "edited", old))
    cluster.run("older", "edited")
    cluster.wait_activity("older", "reply", phase="Waiting")
    cluster.apply(document("Workflow", "edited", {"activities": [{"name": "nap", "sleep": {"for": "1s"}}]}))

    def is_seen() -> bool:
        status = (cluster.find("workflows", "edited") or {}).get("status", {})
        return bool(status.get("observedGeneration") == 2 and status.get("awaitedEvents") == ["old:news"])

    wait_for("the operator to have seen the change", is_seen)
    event = {"specversion": "1.0", "type": "old:news", "source": "desk", "id": "n-1"}
    caused = wait_for("the gateway to know of it", lambda: deliver(gateway, json.dumps(event)))
    assert caused["edited"]["delivers"] is True
    assert cluster.finished("older")["phase"] == "Succeeded"
