# SPDX-License-Identifier: Apache-2.0
"""Events that end waits, on a real Kubernetes: by messengers, and by runs of the same business key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, Operator, document

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
        cluster.apply(document("Workflow", "asking", ASKING), document("Workflow", "keyed", KEYED))
        yield cluster, operator


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
